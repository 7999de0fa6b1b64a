//! Where a migration stands, from what both databases say.

use std::fmt;
use std::str::FromStr;

use tidegate_model::{MigrationName, Problem};

use super::problem::contradiction;
use crate::state::{MigrationRow, Pair, Side};

/// What `turning` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turning {
    /// A turn has begun; nothing is decided.
    Prepared(String),
    /// Its opening was, or is about to be, sent to the other database.
    Sent(String),
    /// It was given up.
    Aborted(String),
}

impl Turning {
    /// Returns the turn's id.
    pub fn turn(&self) -> &str {
        match self {
            Turning::Prepared(turn) | Turning::Sent(turn) | Turning::Aborted(turn) => turn,
        }
    }
}

impl fmt::Display for Turning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Turning::Prepared(turn) => write!(f, "prepared:{turn}"),
            Turning::Sent(turn) => write!(f, "sent:{turn}"),
            Turning::Aborted(turn) => write!(f, "aborted:{turn}"),
        }
    }
}

impl FromStr for Turning {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("prepared", turn)) => Ok(Turning::Prepared(turn.to_owned())),
            Some(("sent", turn)) => Ok(Turning::Sent(turn.to_owned())),
            Some(("aborted", turn)) => Ok(Turning::Aborted(turn.to_owned())),
            _ => Err(format!("\"{text}\" is no state of a turn")),
        }
    }
}

/// Returns the database that is open in a generation: the source in the first, and then each in its turn.
pub fn open_side(generation: i64) -> Side {
    if generation % 2 == 1 { Side::Source } else { Side::Target }
}

/// Where a migration stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The higher of the two.
    pub generation: i64,
    /// The phase of that side.
    pub phase: String,
    /// The database that is open, or was until a turn that is under way closed it.
    pub open: Side,
    /// The database that has to follow: a turn has opened the other, and this one does not know.
    pub behind: Option<Side>,
    /// What the database that is open says about the next turn.
    pub turning: Option<Turning>,
    /// What the other one says: `Aborted` while the first says `Sent` means that it was withdrawn.
    pub turning_other: Option<Turning>,
}

/// Tells where a migration stands. Both databases must know it; `TN003` where they contradict each other.
pub fn standing(name: &MigrationName, pair: &Pair) -> Result<Standing, Problem> {
    let (Some(source), Some(target)) = (&pair.source, &pair.target) else {
        return Err(contradiction(name, "one of them does not know it".to_owned()));
    };
    let apart = source.generation - target.generation;
    let generation = source.generation.max(target.generation);
    let open = open_side(generation);
    let (higher, lower, behind) = match open {
        Side::Source => (source, target, Side::Target),
        Side::Target => (target, source, Side::Source),
    };
    if higher.generation != generation || apart.abs() > 1 {
        let why = format!("the source says generation {}, the target {}", source.generation, target.generation);
        return Err(contradiction(name, why));
    }
    let behind = (lower.generation < generation).then_some(behind);
    // What a side that is behind says is about the turn that was made.
    let turning_other = if behind.is_some() { None } else { turning(name, lower)? };
    Ok(Standing {
        generation,
        phase: higher.phase.clone(),
        open,
        behind,
        turning: turning(name, higher)?,
        turning_other,
    })
}

fn turning(name: &MigrationName, row: &MigrationRow) -> Result<Option<Turning>, Problem> {
    row.turning.as_deref().map(str::parse).transpose().map_err(|why| contradiction(name, why))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn row(generation: i64, turning: Option<&str>) -> Option<MigrationRow> {
        Some(MigrationRow {
            generation,
            phase: "initial".to_owned(),
            turning: turning.map(str::to_owned),
            side: String::new(),
            settings: Value::Null,
        })
    }

    fn stands(source: Option<MigrationRow>, target: Option<MigrationRow>) -> Result<Standing, &'static str> {
        standing(&"orders".parse().unwrap(), &Pair { source, target }).map_err(|problem| problem.code)
    }

    #[test]
    fn the_higher_generation_is_the_truth() {
        let standing = stands(row(1, Some("sent:a")), row(2, None)).unwrap();
        assert_eq!((standing.open, standing.behind, standing.turning), (Side::Target, Some(Side::Source), None));
        let standing = stands(row(3, None), row(2, Some("sent:b"))).unwrap();
        assert_eq!((standing.open, standing.behind), (Side::Source, Some(Side::Target)));
    }

    #[test]
    fn generations_that_no_turn_made_are_a_contradiction() {
        assert_eq!(stands(row(2, None), row(1, None)), Err("TN003"));
        assert_eq!(stands(row(1, None), row(3, None)), Err("TN003"));
        assert_eq!(stands(row(1, None), None), Err("TN003"));
        assert_eq!(stands(row(1, Some("5")), row(1, None)), Err("TN003"));
    }

    #[test]
    fn a_turn_that_was_sent_is_seen_until_the_other_side_decides() {
        let standing = stands(row(1, Some("sent:a")), row(1, Some("prepared:a"))).unwrap();
        assert_eq!(standing.turning, Some(Turning::Sent("a".to_owned())));
        assert_eq!(standing.turning_other, Some(Turning::Prepared("a".to_owned())));
    }
}
