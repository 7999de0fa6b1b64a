//! Whether the fence that is asked for can be put up, and whom it stops.

use super::{Preflight, listed};
use crate::policy::FenceKind;
use crate::refusal::Reason;
use crate::side::Database;

impl Preflight<'_> {
    pub(super) fn check_rights(&mut self) {
        if !self.observed.rights.may_keep_state {
            let why = "each side must hold the generation and the steps of the turn";
            let next = "grant what tidegate check names";
            self.refuse("CT022", "the state of a turn cannot be kept at both sides", why, next);
        }
        let Some(closing) = self.observed.closing().says() else { return };
        if self.policy.immediate {
            return;
        }
        let fence = self.policy.fence.unwrap_or(closing.database.default_fence());
        self.check_locks(closing.database, fence);
        match fence {
            FenceKind::Trigger => {}
            FenceKind::Revoke => {
                self.check_revoke();
                self.check_unstoppable();
            }
            FenceKind::ReadOnly => self.check_unstoppable(),
            FenceKind::Command => {
                let why = "what the command closes cannot be checked beforehand; a write after the marker is a breach";
                self.warn("CT013", "the fence is a command", why, "");
            }
        }
    }

    fn check_locks(&mut self, database: Database, fence: FenceKind) {
        let observed = self.observed;
        if database == Database::Postgres && !observed.rights.no_lock.is_empty() {
            let what = format!("Tidegate may not lock {}", listed(&observed.rights.no_lock));
            let next = "grant UPDATE, DELETE or TRUNCATE on them to Tidegate's role";
            self.refuse("CT011", what, "without the lock a running writer would slip past the fence", next);
        }
        if fence == FenceKind::Trigger && !observed.rights.no_trigger.is_empty() {
            let what = format!("Tidegate may not create triggers on {}", listed(&observed.rights.no_trigger));
            let next = "grant TRIGGER on them to Tidegate's role, or take another fence: --fence revoke";
            self.refuse("CT011", what, "the fence is made of triggers", next);
        }
    }

    fn check_revoke(&mut self) {
        let observed = self.observed;
        if !observed.rights.no_revoke.is_empty() {
            let what = format!("Tidegate may not revoke privileges on {}", listed(&observed.rights.no_revoke));
            let next = "grant it the privileges WITH GRANT OPTION, or ownership of the tables";
            self.refuse("CT012", what, "the fence is made of revoked privileges", next);
        }
        let sessions = &observed.rights.sessions_of_our_role;
        if !sessions.is_empty() {
            let reason = Reason::new(
                "CT014",
                format!("somebody else uses the role of the applier: {}", listed(sessions)),
                "their writes cannot be told from the applier's: revoking would stop both or neither",
                "give Tidegate a role of its own; if they only read, end those sessions",
            );
            self.unless(self.policy.accept.our_role, reason);
        }
    }

    fn check_unstoppable(&mut self) {
        let roles = &self.observed.rights.unrevocable_roles;
        if !roles.is_empty() {
            let reason = Reason::new(
                "CT013",
                format!("this fence does not stop {}", listed(roles)),
                "a write of theirs after the marker is a breach and is not carried",
                "make sure that the application does not use them",
            );
            self.unless(self.policy.accept.unrevocable_roles, reason);
        }
    }
}
