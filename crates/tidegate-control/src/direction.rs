//! Which way a turn goes, and what the two databases are called.

use std::fmt;

use serde::{Deserialize, Serialize};
use tidegate_model::Stream;

/// Which end of a migration a database is. Fixed for ever: a turn changes the direction, not the sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The database of `--source`.
    Source,
    /// The database of `--target`.
    Target,
}

impl Side {
    /// Returns the database at the other end.
    pub fn other(self) -> Side {
        match self {
            Side::Source => Side::Target,
            Side::Target => Side::Source,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Source => "source",
            Side::Target => "target",
        })
    }
}

/// Which turn: the same machine with its sides exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Closes the source and opens the target.
    Cutover,
    /// Closes the target and opens the source.
    Failback,
}

impl Direction {
    /// Returns the side that the turn closes: the one that is open before it.
    pub fn closing(self) -> Side {
        match self {
            Direction::Cutover => Side::Source,
            Direction::Failback => Side::Target,
        }
    }

    /// Returns the side that the turn opens.
    pub fn opening(self) -> Side {
        self.closing().other()
    }

    /// Returns the stream that flows before the turn and is drained and parked by it.
    pub fn drained(self) -> Stream {
        match self {
            Direction::Cutover => Stream::Forward,
            Direction::Failback => Stream::Reverse,
        }
    }

    /// Returns the stream that flows after the turn and is armed before it.
    pub fn armed(self) -> Stream {
        match self {
            Direction::Cutover => Stream::Reverse,
            Direction::Failback => Stream::Forward,
        }
    }

    /// Returns the turn that closes `side`.
    pub fn that_closes(side: Side) -> Direction {
        match side {
            Side::Source => Direction::Cutover,
            Side::Target => Direction::Failback,
        }
    }

    /// Returns the phase that a database is in once this turn has been made.
    pub fn phase_after(self) -> Phase {
        match self {
            Direction::Cutover => Phase::Reversed,
            Direction::Failback => Phase::Initial,
        }
    }
}

impl fmt::Display for Direction {
    /// The command's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Cutover => "cutover",
            Direction::Failback => "failback",
        })
    }
}

/// The phase of a migration, as its `migration` row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The source is the truth.
    Initial,
    /// A turn is under way. No turn writes it into the row: `status` says it while `turning` is `begun` or `turning`.
    Cutover,
    /// The target is the truth.
    Reversed,
    /// The migration is over.
    Final,
}

impl Phase {
    /// Returns the side that is open; `None` when the word alone does not tell.
    pub fn open(self) -> Option<Side> {
        match self {
            Phase::Initial => Some(Side::Source),
            Phase::Reversed => Some(Side::Target),
            Phase::Cutover | Phase::Final => None,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Initial => "initial",
            Phase::Cutover => "cutover",
            Phase::Reversed => "reversed",
            Phase::Final => "final",
        })
    }
}
