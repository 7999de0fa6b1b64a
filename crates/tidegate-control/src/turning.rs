//! How far a turn is, in one word: what the column `turning` of the `migration` row holds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which turn, and which attempt at it. Written `2.1`: the first attempt to reach generation 2. No two attempts share
/// an id, so a statement of an earlier attempt that arrives late never passes for one of a later attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TurnId {
    /// The generation that the turn leads to.
    pub to: i64,
    /// 1 for the first attempt; one more after each abort.
    pub attempt: u32,
}

impl TurnId {
    /// Returns the generation that the turn starts from.
    pub fn from(self) -> i64 {
        self.to - 1
    }
}

impl fmt::Display for TurnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.to, self.attempt)
    }
}

impl FromStr for TurnId {
    type Err = InvalidTurning;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidTurning { text: text.to_owned() };
        let (to, attempt) = text.split_once('.').ok_or_else(invalid)?;
        let id = TurnId { to: to.parse().map_err(|_| invalid())?, attempt: attempt.parse().map_err(|_| invalid())? };
        // Only the form that is written: the column is compared as text.
        if id.to < 2 || id.attempt < 1 || id.to_string() != text { Err(invalid()) } else { Ok(id) }
    }
}

/// What a side's `migration` row says of a turn from its generation to the next. `NULL` there: nothing is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Turning {
    /// On the closing side: the plan is recorded and the fence may be up; the turn's transaction has not been sent and
    /// will not be unless this becomes `Turning` first.
    Begun(TurnId),
    /// On the closing side: the turn's transaction may have been sent. Only the opening side knows.
    Turning(TurnId),
    /// On the closing side: this attempt is being undone or is undone. On the opening side: this attempt will never
    /// open it, whatever arrives late.
    Aborted(TurnId),
}

impl Turning {
    /// Returns the attempt it speaks of.
    pub fn id(self) -> TurnId {
        match self {
            Turning::Begun(id) | Turning::Turning(id) | Turning::Aborted(id) => id,
        }
    }
}

impl fmt::Display for Turning {
    /// The text of the column: `begun 2.1`, `turning 2.1`, `aborted 2.1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Turning::Begun(_) => "begun",
            Turning::Turning(_) => "turning",
            Turning::Aborted(_) => "aborted",
        };
        write!(f, "{word} {}", self.id())
    }
}

impl FromStr for Turning {
    type Err = InvalidTurning;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidTurning { text: text.to_owned() };
        let (word, id) = text.split_once(' ').ok_or_else(invalid)?;
        let id = id.parse().map_err(|_| invalid())?;
        match word {
            "begun" => Ok(Turning::Begun(id)),
            "turning" => Ok(Turning::Turning(id)),
            "aborted" => Ok(Turning::Aborted(id)),
            _ => Err(invalid()),
        }
    }
}

/// Text that says nothing about a turn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not the state of a turn (one looks like \"begun 2.1\")")]
pub struct InvalidTurning {
    /// What was given.
    pub text: String,
}

impl From<TurnId> for String {
    fn from(id: TurnId) -> String {
        id.to_string()
    }
}

impl TryFrom<String> for TurnId {
    type Error = InvalidTurning;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Turning> for String {
    fn from(turning: Turning) -> String {
        turning.to_string()
    }
}

impl TryFrom<String> for Turning {
    type Error = InvalidTurning;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_survive_their_text() {
        for text in ["begun 2.1", "turning 3.12", "aborted 2.1"] {
            assert_eq!(text.parse::<Turning>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_state_is_refused() {
        for text in ["", "begun", "begun 2", "begun 1.1", "begun 2.0", "begun 02.1", "aborted", "turned 2.1", "2.1"] {
            assert!(text.parse::<Turning>().is_err(), "{text:?} was taken");
        }
    }
}
