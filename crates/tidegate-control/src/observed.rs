//! Everything that a plan is made of, as plain data: read by the program, judged here.

use std::fmt;

use serde::{Deserialize, Serialize};
use tidegate_model::Position;

use crate::direction::{Direction, Side};
use crate::side::{SideSays, SideSeen};

/// What was seen of a migration. The two sides need not have been read at one moment: whatever is decided from it is
/// done by a compare-and-set that fails if a side has moved on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// The migration's name, for the commands in messages.
    pub migration: String,
    /// Which turn is asked for or under way.
    pub direction: Direction,
    /// The database of `--source`.
    pub source: SideSeen,
    /// The database of `--target`.
    pub target: SideSeen,
    /// The stream that the turn drains and parks.
    pub drained: StreamSeen,
    /// The reader of the stream that flows after the turn.
    pub feed: Feed,
    /// The verify rounds so far.
    pub verify: VerifySeen,
    /// Tables that match the migration's filter and are not carried.
    pub not_carried: Vec<String>,
    /// Carried tables whose changes do not tell the whole row before, or whose rows have no key: with both sides open
    /// nobody could tell whether somebody else has changed a row.
    #[serde(default)]
    pub not_judged: Vec<String>,
    /// Dead letters of the drained stream that were neither replayed nor discarded.
    pub dead_letters: u64,
    /// Transactions prepared at the closing side that hold locks on carried tables.
    pub prepared: Vec<PreparedTransaction>,
    /// Sessions of the closing side that have written carried tables and not yet ended their transaction.
    pub long_writers: Vec<LongWriter>,
    /// What Tidegate may do.
    pub rights: Rights,
    /// Changes by others on the side that is not open.
    pub breaches: Vec<Breach>,
    /// How long history of the CockroachDB side is still kept for the oldest position that is needed, in seconds.
    /// `None`: neither side is a CockroachDB, or nothing is needed yet.
    pub gc_window_left_seconds: Option<u64>,
}

impl Observed {
    /// Returns what was seen of a side.
    pub fn side(&self, side: Side) -> &SideSeen {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    /// Returns whether an immediate turn has opened one side and left the other one open.
    pub fn both_open(&self) -> bool {
        [&self.source, &self.target].into_iter().filter_map(SideSeen::says).any(SideSays::opened_both)
    }

    /// Returns what was seen of the side that the turn closes.
    pub fn closing(&self) -> &SideSeen {
        self.side(self.direction.closing())
    }

    /// Returns what was seen of the side that the turn opens.
    pub fn opening(&self) -> &SideSeen {
        self.side(self.direction.opening())
    }
}

/// A stream as its owner shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamSeen {
    /// Its state.
    pub state: StreamState,
    /// Everything up to here is durable at its target.
    #[serde(with = "crate::position_text")]
    pub applied: Option<Position>,
    /// How long ago the newest applied transaction was committed while something waits to be applied, in seconds.
    pub lag_seconds: f64,
}

/// The state of a stream, in the words of `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamState {
    /// Rows that existed at the start are being copied.
    Copying,
    /// Streaming, not yet past the highest point of the copy.
    CatchingUp,
    /// Streaming; every commit at the target is a whole number of source transactions.
    Streaming,
    /// Streaming, held for a moment by a verify.
    Held,
    /// Reading, applying nothing until a turn.
    Armed,
    /// Reading the closed side, applying nothing.
    Parked,
    /// Not running.
    Stopped,
}

/// The reader of the stream that flows after the turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feed {
    /// Not running yet: the plan arms it.
    Unarmed,
    /// Running, applying nothing.
    Armed {
        /// Whether its first resolved timestamp has arrived (PostgreSQL: its first keepalive). Until then the wait for
        /// it would fall into the time in which nothing can be written.
        first_resolved_seen: bool,
    },
    /// It cannot run.
    Impossible {
        /// The reason, with the right or setting that is missing.
        why: String,
    },
}

/// What verify rounds have shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifySeen {
    /// What is known of the tables up to the last round.
    pub verdict: Verdict,
    /// Keys touched since the last round, all of which would be compared inside the block.
    pub keys_left: u64,
    /// How many keys a second the last round compared; `None` before the first.
    pub keys_per_second: Option<u64>,
}

/// The verdict of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Not run yet: the plan runs it.
    NotRun,
    /// Everything compared is equal.
    Equal,
    /// Something differs.
    Different,
    /// Something could not be compared, or was compared without a fence (`--weak`).
    Unknown,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::NotRun => "not run",
            Verdict::Equal => "equal",
            Verdict::Different => "different",
            Verdict::Unknown => "unknown",
        })
    }
}

/// A transaction prepared at the closing side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreparedTransaction {
    /// Its global id.
    pub gid: String,
    /// How long ago it was prepared, in seconds.
    pub age_seconds: f64,
}

/// A session that holds a fence up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LongWriter {
    /// Its process id at the server.
    pub pid: i32,
    /// The age of its transaction, in seconds.
    pub age_seconds: f64,
    /// Its newest statement, without parameters' values.
    pub query: String,
}

/// What Tidegate may do at the closing side, as far as the fence that the policy asks for needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// Tables that it may not lock against writers.
    pub no_lock: Vec<String>,
    /// Tables that it may not create triggers on.
    pub no_trigger: Vec<String>,
    /// Tables whose privileges it may not revoke.
    pub no_revoke: Vec<String>,
    /// Roles that can write and whose right to do so cannot be revoked (superusers; CockroachDB: admin, root).
    pub unrevocable_roles: Vec<String>,
    /// Sessions of others that use the applier's own role, by their application names.
    pub sessions_of_our_role: Vec<String>,
    /// May write the `migration` row and make state tables at both sides.
    pub may_keep_state: bool,
}

/// A change by somebody else on the side that is not open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Breach {
    /// The table.
    pub table: String,
    /// Where in the history of that side.
    #[serde(with = "crate::position_text")]
    pub position: Option<Position>,
}
