//! Why a turn is not planned or not undone: every reason at once.

use std::error::Error;
use std::fmt;

use serde::Serialize;
use tidegate_model::Problem;

/// One reason, in the parts that a [`Problem`] has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Stable, `CT` and three digits; has a page in `docs/errors/`.
    pub code: &'static str,
    /// What is in the way.
    pub what: String,
    /// Why that matters.
    pub why: String,
    /// The next step, if possible as a command.
    pub next: String,
}

impl Reason {
    pub(crate) fn new(
        code: &'static str,
        what: impl Into<String>,
        why: impl Into<String>,
        next: impl Into<String>,
    ) -> Reason {
        Reason { code, what: what.into(), why: why.into(), next: next.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}\n  why:  {}\n  next: {}", self.code, self.what, self.why, self.next)
    }
}

impl From<Reason> for Problem {
    fn from(reason: Reason) -> Problem {
        Problem::definite(reason.code, reason.what, reason.why, reason.next)
    }
}

/// Why not: at least one reason, all that were found, in the order of their codes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The reasons.
    pub reasons: Vec<Reason>,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Refusal {
        Refusal { reasons: vec![reason] }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, reason) in self.reasons.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            write!(f, "{reason}")?;
        }
        Ok(())
    }
}

impl Error for Refusal {}
