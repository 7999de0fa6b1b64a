//! Whether the policy makes sense here.

use super::{Preflight, listed};
use crate::plan::shouted;
use crate::policy::FenceKind;
use crate::refusal::Reason;
use crate::side::Database;

impl Preflight<'_> {
    pub(super) fn check_policy(&mut self) {
        let contradictions = self.contradictions();
        let next = format!("see tidegate {} --help", self.observed.direction);
        for (what, why) in contradictions {
            self.refuse("CT019", what, why, next.clone());
        }
        if self.policy.immediate {
            self.check_arbitration();
            let (closing, opening) = (self.observed.direction.closing(), self.observed.direction.opening());
            let reason = Reason::new(
                "CT021",
                format!("BOTH {} AND {} WILL BE WRITABLE AT ONCE", shouted(closing), shouted(opening)),
                format!(
                    "changes of one row on both sides collide, and the {closing}'s is lost; sequences and unique values \
                     may collide; nothing proves that the sides are equal"
                ),
                "turn without --immediate",
            );
            self.unless(self.policy.accept.both_writable, reason);
        }
    }

    /// With both sides open each change is judged by the row that it finds, and the side that is opened is the truth.
    fn check_arbitration(&mut self) {
        let observed = self.observed;
        let databases = (observed.closing().says(), observed.opening().says());
        if let (Some(closing), Some(opening)) = databases
            && (closing.database != Database::Postgres || opening.database == Database::Postgres)
        {
            let why = "only a PostgreSQL may stay open besides the CockroachDB that is the truth";
            let next = format!("turn with a fence: {}", self.command());
            self.refuse("CT023", "an immediate turn goes from PostgreSQL to CockroachDB only", why, next);
        }
        if !observed.not_judged.is_empty() {
            let what = format!("changes of {} do not tell what the row was before", listed(&observed.not_judged));
            let why = "with both sides open nothing else tells whether somebody else has changed the row";
            let next = "give each a primary key and ALTER TABLE .. REPLICA IDENTITY FULL at the source, and copy them again \
                        (tidegate migrate --recopy TABLE); or turn with a fence";
            self.refuse("CT024", what, why, next);
        }
    }

    fn contradictions(&self) -> Vec<(String, &'static str)> {
        let (policy, mut found) = (self.policy, Vec::new());
        let at_cockroach = self.observed.closing().says().is_some_and(|says| says.database != Database::Postgres);
        match policy.fence {
            Some(fence) if policy.immediate => {
                found.push((format!("--immediate goes with no --fence {fence}"), "it closes nothing"));
            }
            Some(fence @ (FenceKind::Trigger | FenceKind::ReadOnly)) if at_cockroach => {
                let why = "what it is made of exists at PostgreSQL only";
                found.push((format!("--fence {fence} cannot close a CockroachDB"), why));
            }
            Some(FenceKind::Command) if policy.hooks.on_fence.is_none() || policy.hooks.on_abort.is_none() => {
                let why = "one command closes, the other opens again";
                found.push(("--fence command needs --on-fence and --on-abort".to_owned(), why));
            }
            Some(_) | None => {}
        }
        let numbers = [
            (policy.budget_seconds, "--budget"),
            (u64::from(policy.fence_group_tables), "the group size of the fence"),
            (policy.fence_lock_timeout_ms, "the lock timeout of the fence"),
        ];
        let zeros = numbers.into_iter().filter(|(number, _)| *number == 0);
        found.extend(zeros.map(|(_, name)| (format!("{name} is 0"), "nothing could be done in it")));
        found
    }
}
