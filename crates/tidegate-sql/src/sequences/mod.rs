//! Sequences, which no stream carries: listed, compared, and moved on after the fence of a turn.
//!
//! A value that was handed out on the side that closes must never be handed out on the side that opens. So the next
//! value there becomes the one that would be next here, and a margin further; and never less than what is next there
//! already.

mod advance;
mod compare;
mod list;
mod problem;

use tidegate_model::TableName;

pub use advance::{Advanced, advance, next_after_turn};
pub use compare::{Comparison, Verdict, compare, is_free};
pub use list::{last_used, list_sequences};

/// A column that a sequence belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub table: TableName,
    pub column: String,
}

/// A sequence and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    pub name: TableName,
    /// The type of its values, in PostgreSQL's word; `None` at CockroachDB, whose sequences are all of 64 bits.
    pub of: Option<String>,
    pub start: i64,
    /// Never 0.
    pub increment: i64,
    pub min: i64,
    pub max: i64,
    pub cycle: bool,
    /// How many values a session takes at a time. Those that it has taken count as handed out.
    pub cache: i64,
    /// The last value that was handed out, or, where `is_called` is false, the first that will be.
    pub last_value: i64,
    pub is_called: bool,
    /// The column of a serial or identity; `None` where it stands alone.
    pub owner: Option<Owner>,
}

impl Sequence {
    /// Returns the next value; `None` where there is none left.
    pub fn next(&self) -> Option<i64> {
        if !self.is_called {
            return Some(self.last_value);
        }
        match self.last_value.checked_add(self.increment).filter(|next| self.holds(*next)) {
            None if self.cycle => Some(if self.increment > 0 { self.min } else { self.max }),
            next => next,
        }
    }

    /// Returns whether its next value is beyond one that was used.
    pub fn is_beyond(&self, used: i64) -> bool {
        self.next().is_none_or(|next| if self.increment > 0 { next > used } else { next < used })
    }

    /// Returns whether a value is within its bounds.
    pub fn holds(&self, value: i64) -> bool {
        (self.min..=self.max).contains(&value)
    }
}

/// A sequence of one side and its counterpart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub source: Sequence,
    /// `None`: the other side has none, and its values come from elsewhere.
    pub target: Option<Sequence>,
}

/// Finds the counterpart of each sequence: that of the counterpart of its column, else the one of the same name.
/// `column` maps a column of the source to the target's.
pub fn pair(source: &[Sequence], target: &[Sequence], column: impl Fn(&Owner) -> Option<Owner>) -> Vec<Pair> {
    let counterpart = |sequence: &Sequence| {
        let owner = sequence.owner.as_ref().and_then(&column);
        let owned = target.iter().find(|other| owner.is_some() && other.owner == owner);
        owned.or_else(|| target.iter().find(|other| other.name == sequence.name)).cloned()
    };
    source.iter().map(|one| Pair { source: one.clone(), target: counterpart(one) }).collect()
}
