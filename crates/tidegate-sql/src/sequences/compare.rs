//! Comparing sequences of two sides.

use super::{Pair, Sequence};

/// Whether two sequences are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Equal,
    Different,
    /// The target has none.
    Missing,
}

/// What was found of one pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    pub verdict: Verdict,
    /// In which parts of their definition they differ, in words of SQL.
    pub differs: Vec<&'static str>,
}

/// Compares definitions, never values. Where they start matters to nobody once they are called, and how many values a
/// session takes at a time is each server's own matter.
pub fn compare(pair: &Pair) -> Comparison {
    let Some(target) = &pair.target else { return Comparison { verdict: Verdict::Missing, differs: Vec::new() } };
    let source = &pair.source;
    let both_typed = source.of.is_some() && target.of.is_some();
    let parts = [
        ("AS", both_typed && source.of != target.of),
        ("INCREMENT", source.increment != target.increment),
        ("MINVALUE", source.min != target.min && (both_typed || !has_lowest(source) || !has_lowest(target))),
        ("MAXVALUE", source.max != target.max && (both_typed || !has_highest(source) || !has_highest(target))),
        ("CYCLE", source.cycle != target.cycle),
        ("START", source.start != target.start && !(source.is_called && target.is_called)),
    ];
    let differs: Vec<&'static str> = parts.into_iter().filter(|(_, differs)| *differs).map(|(part, _)| part).collect();
    Comparison { verdict: if differs.is_empty() { Verdict::Equal } else { Verdict::Different }, differs }
}

/// Whether a bound is the one that nobody chose: an integer's at PostgreSQL is another one than that of 64 bits at
/// CockroachDB.
fn has_lowest(sequence: &Sequence) -> bool {
    sequence.min == if sequence.increment > 0 { 1 } else { -type_max(sequence) - 1 }
}

fn has_highest(sequence: &Sequence) -> bool {
    sequence.max == if sequence.increment > 0 { type_max(sequence) } else { -1 }
}

fn type_max(sequence: &Sequence) -> i64 {
    match sequence.of.as_deref() {
        Some("smallint") => i64::from(i16::MAX),
        Some("integer") => i64::from(i32::MAX),
        _ => i64::MAX,
    }
}

/// Returns whether the next value of `opened` is beyond every value that `closed` has handed out: what must hold after
/// a turn. Of sequences that cycle nothing is beyond anything; there it is enough that both have a next value.
pub fn is_free(closed: &Sequence, opened: &Sequence) -> bool {
    match (closed.next(), opened.next()) {
        (Some(_), Some(_)) if closed.cycle => true,
        (Some(closed_next), Some(next)) => {
            if opened.increment > 0 {
                next >= closed_next
            } else {
                next <= closed_next
            }
        }
        // One that is used up hands out nothing that was handed out before.
        (_, None) => true,
        (None, Some(next)) => {
            if opened.increment > 0 {
                next > closed.last_value
            } else {
                next < closed.last_value
            }
        }
    }
}
