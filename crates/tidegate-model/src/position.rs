//! Positions: places in one history. Positions of different histories never compare.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A PostgreSQL log sequence number: a byte offset in the WAL of one timeline. Written `16/B374D848`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lsn({self})")
    }
}

impl FromStr for Lsn {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidPosition { text: text.to_owned() };
        let (high, low) = text.split_once('/').ok_or_else(invalid)?;
        let half = |digits: &str| {
            let plain = !digits.is_empty() && digits.len() <= 8 && digits.bytes().all(|b| b.is_ascii_hexdigit());
            if plain { u64::from_str_radix(digits, 16).map_err(|_| invalid()) } else { Err(invalid()) }
        };
        Ok(Lsn(half(high)? << 32 | half(low)?))
    }
}

/// A CockroachDB hybrid logical clock timestamp: what `updated` and `resolved` of a changefeed and
/// `cluster_logical_timestamp()` say. Written `1536344308033843000.0000000001`: nanoseconds since 1970, then the logical
/// counter with exactly ten digits (CockroachDB docs, "Changefeed Messages"). Never a floating-point number on its way:
/// its nineteen digits do not fit into one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Hlc {
    /// Nanoseconds since 1970-01-01 00:00 UTC.
    pub wall: u64,
    /// Orders what happened within one nanosecond.
    pub logical: u32,
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:010}", self.wall, self.logical)
    }
}

impl fmt::Debug for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hlc({self})")
    }
}

impl FromStr for Hlc {
    type Err = InvalidPosition;

    /// Reads a timestamp. The logical part may be left out, or be `0` for short; any other must have all its ten digits,
    /// because `5.1` could mean two things.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidPosition { text: text.to_owned() };
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let (wall, logical) = text.split_once('.').unwrap_or((text, "0"));
        if !digits(wall) || !(logical == "0" || (logical.len() == 10 && digits(logical))) {
            return Err(invalid());
        }
        let wall = wall.parse().map_err(|_| invalid())?;
        // The logical counter is a signed 32-bit number at the server: ten digits can say more, and then say nothing.
        let logical = logical.parse::<i32>().map_err(|_| invalid())?.unsigned_abs();
        Ok(Hlc { wall, logical })
    }
}

/// Text that is not a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is not a position (one of PostgreSQL looks like 16/B374D848, \
     one of CockroachDB like 1536344308033843000.0000000001)"
)]
pub struct InvalidPosition {
    /// What was given.
    pub text: String,
}

/// The place of a commit in its source's history.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CommitPosition {
    /// The end LSN of the commit record: where the server resumes *after* this transaction. Never the LSN of a Begin
    /// message or of a row: those do not follow commit order.
    Postgres(Lsn),
    /// The MVCC timestamp of the transaction: every row that it wrote carries it.
    Cockroach(Hlc),
}

impl PartialOrd for CommitPosition {
    /// `None` between histories of different kinds.
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (CommitPosition::Postgres(a), CommitPosition::Postgres(b)) => Some(a.cmp(b)),
            (CommitPosition::Cockroach(a), CommitPosition::Cockroach(b)) => Some(a.cmp(b)),
            (CommitPosition::Postgres(_), CommitPosition::Cockroach(_))
            | (CommitPosition::Cockroach(_), CommitPosition::Postgres(_)) => None,
        }
    }
}

/// A place in a history: after a whole transaction, or after some of the changes of a giant one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The commit.
    pub commit: CommitPosition,
    /// 0: after the whole transaction. Otherwise after that many of its changes (a declared split of a giant one).
    pub part: u64,
}

impl Position {
    /// Returns the position after the whole transaction whose commit ends at `lsn`.
    pub fn postgres(lsn: Lsn) -> Self {
        Position { commit: CommitPosition::Postgres(lsn), part: 0 }
    }

    /// Returns the position after everything that was committed at or before `hlc`.
    pub fn cockroach(hlc: Hlc) -> Self {
        Position { commit: CommitPosition::Cockroach(hlc), part: 0 }
    }

    /// Returns the LSN of a position in a PostgreSQL history.
    pub fn lsn(&self) -> Option<Lsn> {
        match self.commit {
            CommitPosition::Postgres(lsn) => Some(lsn),
            CommitPosition::Cockroach(_) => None,
        }
    }

    /// Returns the timestamp of a position in a CockroachDB history.
    pub fn hlc(&self) -> Option<Hlc> {
        match self.commit {
            CommitPosition::Cockroach(hlc) => Some(hlc),
            CommitPosition::Postgres(_) => None,
        }
    }

    /// Returns whether everything up to here is also up to `other`; false between different histories.
    pub fn is_at_or_before(&self, other: &Position) -> bool {
        matches!(self.partial_cmp(other), Some(Ordering::Less | Ordering::Equal))
    }

    /// Returns how many bytes of log lie between `earlier` and this position, where the history counts in bytes.
    pub fn bytes_since(&self, earlier: &Position) -> Option<u64> {
        match (&self.commit, &earlier.commit) {
            (CommitPosition::Postgres(a), CommitPosition::Postgres(b)) => Some(a.0.saturating_sub(b.0)),
            (CommitPosition::Postgres(_) | CommitPosition::Cockroach(_), _) => None,
        }
    }
}

impl PartialOrd for Position {
    /// `None` between different histories. Of two positions in one transaction the whole one (`part` 0) is the later.
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let part = |position: &Position| if position.part == 0 { u64::MAX } else { position.part };
        Some(self.commit.partial_cmp(&other.commit)?.then(part(self).cmp(&part(other))))
    }
}

impl fmt::Display for Position {
    /// The tagged text that state tables store: `postgres:16/B374D848` or `cockroach:1536344308033843000.0000000001`,
    /// with `#12` after it for part 12.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.commit {
            CommitPosition::Postgres(lsn) => write!(f, "postgres:{lsn}")?,
            CommitPosition::Cockroach(hlc) => write!(f, "cockroach:{hlc}")?,
        }
        if self.part > 0 { write!(f, "#{}", self.part) } else { Ok(()) }
    }
}

impl FromStr for Position {
    type Err = InvalidPosition;

    /// Reads the tagged text. Without a tag, as users write positions, an LSN is one of PostgreSQL and a number one of
    /// CockroachDB.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidPosition { text: text.to_owned() };
        let (place, part) = match text.split_once('#') {
            Some((place, digits)) => {
                let part = digits.parse::<u64>().map_err(|_| invalid())?;
                if part == 0 {
                    return Err(invalid());
                }
                (place, part)
            }
            None => (text, 0),
        };
        let commit = match place.split_once(':') {
            Some(("postgres", lsn)) => CommitPosition::Postgres(lsn.parse().map_err(|_| invalid())?),
            Some(("cockroach", hlc)) => CommitPosition::Cockroach(hlc.parse().map_err(|_| invalid())?),
            Some(_) => return Err(invalid()),
            None if place.contains('/') => CommitPosition::Postgres(place.parse().map_err(|_| invalid())?),
            None => CommitPosition::Cockroach(place.parse().map_err(|_| invalid())?),
        };
        Ok(Position { commit, part })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_their_text() {
        for text in [
            "postgres:0/0",
            "postgres:16/B374D848",
            "postgres:FFFFFFFF/FFFFFFFF",
            "postgres:1/2#7",
            "cockroach:1536344308033843000.0000000001",
            "cockroach:0.0000000000",
            "cockroach:18446744073709551615.2147483647#3",
        ] {
            assert_eq!(text.parse::<Position>().unwrap().to_string(), text);
        }
        assert_eq!("16/B374D848".parse::<Position>().unwrap(), Position::postgres(Lsn(0x16_B374_D848)));
    }

    #[test]
    fn what_is_no_position_is_refused() {
        for text in [
            "",
            "/",
            "0/",
            "/0",
            "0/123456789",
            "+1/+2",
            "0/1#",
            "0/1#0",
            "mysql:0/1",
            "0/1/2",
            "1.",
            ".1",
            "1.1",
            "1.00000000001",
            "1.9999999999",
            "-1.0",
            "1e3",
            "cockroach:0/1",
            "postgres:1.0",
            "18446744073709551616",
        ] {
            assert!(text.parse::<Position>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn timestamps_keep_every_digit() {
        let hlc: Hlc = "1701102296662969433.0000000012".parse().unwrap();
        assert_eq!(hlc, Hlc { wall: 1_701_102_296_662_969_433, logical: 12 });
        assert_eq!("20.0".parse::<Hlc>().unwrap(), Hlc { wall: 20, logical: 0 });
        assert_eq!("1536242855577149065".parse::<Hlc>().unwrap().to_string(), "1536242855577149065.0000000000");
    }

    #[test]
    fn positions_of_different_histories_never_compare() {
        let (lsn, hlc) = (Position::postgres(Lsn(1)), Position::cockroach(Hlc { wall: 1, logical: 0 }));
        assert!(lsn.partial_cmp(&hlc).is_none() && !lsn.is_at_or_before(&hlc) && !hlc.is_at_or_before(&lsn));
    }

    #[test]
    fn a_whole_transaction_is_later_than_its_parts() {
        let whole = Position::postgres(Lsn(10));
        let part = |part| Position { part, ..whole.clone() };
        assert!(part(1) < part(2) && part(2) < whole && whole < Position { part: 1, ..Position::postgres(Lsn(11)) });
    }
}
