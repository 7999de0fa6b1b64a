//! What `status` shows: written by the owner with every heartbeat, read by the command. Key names are a contract.

use serde::{Deserialize, Serialize};
use tidegate_model::Stream;
use tidegate_sql::conflicts::Conflict;

use crate::output::ErrorJson;

/// A migration as `status --json` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    pub name: String,
    /// initial, cutover, reversed or final.
    pub phase: String,
    pub generation: i64,
    pub streams: Vec<StreamStatus>,
    /// Rows that both sides changed while both were open. Only where they are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<Vec<Conflict>>,
    pub error: Option<ErrorJson>,
}

/// What a stream is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamState {
    /// Preparing or copying tables.
    Copying,
    /// Streaming, but not yet past the highest point at which a table was copied.
    CatchingUp,
    /// Every commit at the target is a state that the source once had.
    Streaming,
    /// A comparison or a turn keeps the applier where it is.
    Held,
    /// Reads the side that a turn is about to open, and applies nothing.
    Armed,
    /// Reads the side that is closed, and applies nothing.
    Parked,
    /// Nobody runs it.
    Stopped,
}

impl StreamState {
    pub fn as_str(self) -> &'static str {
        match self {
            StreamState::Copying => "copying",
            StreamState::CatchingUp => "catching_up",
            StreamState::Streaming => "streaming",
            StreamState::Held => "held",
            StreamState::Armed => "armed",
            StreamState::Parked => "parked",
            StreamState::Stopped => "stopped",
        }
    }
}

/// One direction of a migration. Times in seconds, sizes in bytes, positions as text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StreamStatus {
    pub stream: String,
    pub state: StreamState,
    /// The end of the source's log.
    pub source_position: Option<String>,
    /// Everything at or before it has been received.
    pub received_position: Option<String>,
    /// Everything at or before it is durable at the target.
    pub applied_position: Option<String>,
    /// Log at the source that has not been received.
    pub source_lag_bytes: Option<u64>,
    /// How long ago the source's log was where it has been received to.
    pub source_lag_seconds: Option<f64>,
    /// How long ago the newest applied transaction was committed, while something waits to be applied.
    pub apply_lag_seconds: Option<f64>,
    /// Log that the source keeps for this migration.
    pub retained_wal_bytes: Option<u64>,
    /// How long a CockroachDB source still keeps the history from the applied position on.
    #[serde(default)]
    pub history_seconds_left: Option<f64>,
    /// Why it does not go on, if it does not.
    pub waiting_for: Option<String>,
    pub dead_letters: u64,
    /// Transactions of others on the side that is not open. They are not applied.
    #[serde(default)]
    pub breaches: u64,
    /// Changes that found another row than they expected, while both sides were open.
    #[serde(default)]
    pub conflicts: u64,
    pub tables: TableCounts,
    /// While tables are copied.
    pub copy: Option<CopyStatus>,
    /// Transactions made durable since the process started.
    pub transactions: u64,
    /// Bytes of large transactions held on disk.
    pub spooled_bytes: u64,
    /// Tables at the source that match and that this stream does not carry.
    #[serde(default)]
    pub not_carried: Vec<String>,
    /// Tables of this stream that were dropped at the source.
    #[serde(default)]
    pub dropped: Vec<String>,
}

impl StreamStatus {
    /// Returns what the user calls the database that the stream reads.
    pub fn reads(&self) -> &'static str {
        if self.stream == Stream::Reverse.as_str() { "target" } else { "source" }
    }

    /// A stream of which nothing else is known.
    pub fn new(stream: &str, state: StreamState) -> Self {
        StreamStatus {
            stream: stream.to_owned(),
            state,
            source_position: None,
            received_position: None,
            applied_position: None,
            source_lag_bytes: None,
            source_lag_seconds: None,
            apply_lag_seconds: None,
            retained_wal_bytes: None,
            history_seconds_left: None,
            waiting_for: None,
            dead_letters: 0,
            breaches: 0,
            conflicts: 0,
            tables: TableCounts::default(),
            copy: None,
            transactions: 0,
            spooled_bytes: 0,
            not_carried: Vec::new(),
            dropped: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableCounts {
    pub total: u64,
    pub copied: u64,
}

/// How far the copy is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CopyStatus {
    pub rows: u64,
    pub bytes: u64,
    /// What the source estimates for all tables.
    pub bytes_estimated: u64,
    pub bytes_per_second: u64,
    pub seconds_left: Option<f64>,
}
