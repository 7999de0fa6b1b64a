//! Transactions that a fence would have to wait for.

use super::Preflight;
use crate::observed::LongWriter;
use crate::refusal::Reason;

impl Preflight<'_> {
    pub(super) fn check_writers(&mut self) {
        let closing = self.observed.direction.closing();
        for prepared in &self.observed.prepared {
            let reason = Reason::new(
                "CT009",
                format!("transaction \"{}\" is prepared at the {closing}", prepared.gid),
                format!("it holds its locks since {:.0} s, and the fence waits until it ends", prepared.age_seconds),
                format!("COMMIT PREPARED '{0}' or ROLLBACK PREPARED '{0}'", prepared.gid),
            );
            self.unless(self.policy.accept.prepared, reason);
        }
        for writer in &self.observed.long_writers {
            // A younger one is likely to end before the fence gets there.
            let old = writer.age_seconds > self.policy.budget_seconds as f64;
            let reason = long_writer(writer, &closing.to_string());
            self.unless(self.policy.accept.long_writers || !old, reason);
        }
    }
}

fn long_writer(writer: &LongWriter, side: &str) -> Reason {
    Reason::new(
        "CT010",
        format!(
            "process {} has been writing the {side} for {:.0} s in one transaction",
            writer.pid, writer.age_seconds
        ),
        format!("the fence waits until it ends, and new writers wait behind it; its statement: {}", writer.query),
        format!("wait for it, or end it: SELECT pg_terminate_backend({})", writer.pid),
    )
}
