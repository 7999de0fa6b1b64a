//! The messages of the `pgoutput` plugin, protocol versions 1 to 4: a pure function from bytes to types.
//!
//! ```text
//!   payload of XLogData --parse--> Message --Relations::change--> Change (rows are slices of the payload)
//! ```
//!
//! Format: manual, "Logical Replication Message Formats"; `src/backend/replication/logical/proto.c` of the server.
//! Any bytes give a message or an error, never a panic, and nothing is allocated that the input does not back.

mod cursor;
#[cfg(test)]
pub(crate) mod encode;
mod error;
mod options;
mod parse;
mod relations;
#[cfg(test)]
mod tests;
mod tuple;

use bytes::Bytes;
use tidegate_model::{Lsn, NewRow, OldRow, RelationId, Row, SourceTable, TableName, Timestamp};

pub use error::DecodeError;
pub(crate) use error::Kind;
pub use options::{newest_protocol, options};
pub use parse::parse;
pub(crate) use parse::streamed_xid;
pub use relations::Relations;

/// The highest protocol version that is understood.
pub const PROTOCOL_MAX: u8 = 4;

/// Whether row and schema messages carry the id of their (sub)transaction: they do between Stream Start and Stream
/// Stop, and nothing in the message itself tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Inside Begin .. Commit, or outside of any block: no id.
    Plain,
    /// Inside Stream Start .. Stream Stop: an id follows the kind byte.
    Streamed,
}

/// One message. `xid` is that of the subtransaction which made the change, `None` in [`Framing::Plain`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A transaction follows, whole.
    Begin {
        /// Where its commit record begins. Not the end, so nothing may be resumed from it.
        final_lsn: Lsn,
        /// Commit time.
        committed_at: Timestamp,
        /// Its id.
        xid: u32,
    },
    /// The transaction is complete.
    Commit(CommitPoint),
    /// The transaction was replicated to the source from elsewhere.
    Origin {
        /// Its commit there.
        lsn: Lsn,
        /// The origin's name.
        name: String,
    },
    /// How the table looks from here on.
    Relation {
        /// See [`Message`].
        xid: Option<u32>,
        /// The table.
        table: SourceTable,
    },
    /// The name of a type that is not built in.
    Type {
        /// See [`Message`].
        xid: Option<u32>,
        /// Its OID.
        oid: u32,
        /// Its schema and name.
        name: TableName,
    },
    /// A new row.
    Insert {
        /// See [`Message`].
        xid: Option<u32>,
        /// Its table.
        relation: RelationId,
        /// The row; nothing in it is unchanged.
        new: Row,
    },
    /// A changed row.
    Update {
        /// See [`Message`].
        xid: Option<u32>,
        /// Its table.
        relation: RelationId,
        /// Sent if the replica identity changed or is FULL.
        old: Option<OldRow>,
        /// The row after. Values not sent are taken from a full old row.
        new: NewRow,
    },
    /// A removed row.
    Delete {
        /// See [`Message`].
        xid: Option<u32>,
        /// Its table.
        relation: RelationId,
        /// What identifies it.
        old: OldRow,
    },
    /// Tables emptied by one command.
    Truncate {
        /// See [`Message`].
        xid: Option<u32>,
        /// The published ones of them.
        relations: Vec<RelationId>,
    },
    /// A logical message (`pg_logical_emit_message`).
    Logical {
        /// That of the top-level transaction, also where a subtransaction emitted it: the server does not tell.
        xid: Option<u32>,
        /// Whether it belongs to the transaction. Otherwise it was sent as soon as it was decoded.
        transactional: bool,
        /// Where it lies in the WAL.
        lsn: Lsn,
        /// Who it is for.
        prefix: String,
        /// Its content.
        content: Bytes,
    },
    /// Changes of a transaction that is still in progress follow.
    StreamStart {
        /// The top-level transaction.
        xid: u32,
        /// Whether these are its first.
        first_segment: bool,
    },
    /// End of such a block.
    StreamStop,
    /// A streamed transaction was committed.
    StreamCommit {
        /// The top-level transaction.
        xid: u32,
        /// Where.
        commit: CommitPoint,
    },
    /// A streamed transaction, or a subtransaction of it, was rolled back.
    StreamAbort {
        /// The top-level transaction.
        xid: u32,
        /// What was rolled back: `xid` itself, or one subtransaction without those below it (they have their own).
        subxid: u32,
        /// Where and when, from protocol 4 with `streaming 'parallel'` on.
        at: Option<(Lsn, Timestamp)>,
    },
}

/// What is said about a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitPoint {
    /// Where the commit record begins.
    pub lsn: Lsn,
    /// Where it ends: the position after the transaction.
    pub end_lsn: Lsn,
    /// Commit time.
    pub committed_at: Timestamp,
}
