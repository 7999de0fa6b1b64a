//! How far a target is, and the rule by which it moves.

use crate::Position;

/// The stretch of history a batch covers: after `after`, up to and including `until`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The position before the first change of the span.
    pub after: Position,
    /// The position after its last change.
    pub until: Position,
}

/// How far a target is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Everything at or before it is in the target, nothing after it.
    pub applied: Position,
}

/// A span that does not begin where the target is: taking it would lose rows or repeat them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the target is at {applied}, the next batch covers ({}, {}]", .span.after, .span.until)]
pub struct CheckpointError {
    /// Where the target is.
    pub applied: Position,
    /// What was to be applied.
    pub span: Span,
}

impl Checkpoint {
    /// Moves over `span`. A gap would lose rows and an overlap would repeat them, so both are refused.
    pub fn advance(&mut self, span: &Span) -> Result<(), CheckpointError> {
        if span.after != self.applied || !span.after.is_at_or_before(&span.until) {
            return Err(CheckpointError { applied: self.applied.clone(), span: span.clone() });
        }
        self.applied = span.until.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lsn;

    #[test]
    fn gaps_overlaps_and_steps_back_are_refused() {
        let at = |lsn| Position::postgres(Lsn(lsn));
        let span = |after, until| Span { after: at(after), until: at(until) };
        let mut checkpoint = Checkpoint { applied: at(10) };
        for bad in [span(9, 12), span(11, 12), span(10, 9)] {
            assert!(checkpoint.advance(&bad).is_err());
        }
        checkpoint.advance(&span(10, 12)).unwrap();
        checkpoint.advance(&span(12, 12)).unwrap();
        assert_eq!(checkpoint.applied, at(12));
    }
}
