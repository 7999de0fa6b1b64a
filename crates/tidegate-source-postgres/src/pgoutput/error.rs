//! What can be wrong with a message.

use std::fmt;

use tidegate_model::{Problem, RelationId, TableName};

/// A message that cannot be understood, or that does not fit what was sent before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No bytes at all.
    #[error("the message is empty")]
    Empty,
    /// It ends before its content does.
    #[error("message {} ends inside its {field}", Kind(*.kind))]
    Short {
        /// The message's kind.
        kind: u8,
        /// What should have been there.
        field: &'static str,
    },
    /// It goes on after its content.
    #[error("message {} has {extra} bytes after its end", Kind(*.kind))]
    Trailing {
        /// The message's kind.
        kind: u8,
        /// How many.
        extra: usize,
    },
    /// A field has a value that it cannot have.
    #[error("message {} has an impossible {field}", Kind(*.kind))]
    Invalid {
        /// The message's kind.
        kind: u8,
        /// Which field.
        field: &'static str,
    },
    /// It is larger than any message of a server.
    #[error("message {} is larger than 1 GiB", Kind(*.kind))]
    TooLarge {
        /// The message's kind.
        kind: u8,
    },
    /// The protocol version that was agreed on does not have it.
    #[error("message {} belongs to protocol version {needs}, but {protocol} was agreed on", Kind(*.kind))]
    Protocol {
        /// The message's kind.
        kind: u8,
        /// The version that has it.
        needs: u8,
        /// The version of this connection.
        protocol: u8,
    },
    /// No protocol version known here has it.
    #[error("message {} is unknown", Kind(*.kind))]
    Unknown {
        /// The message's kind.
        kind: u8,
    },
    /// It announces a prepared transaction.
    #[error("message {} belongs to two-phase decoding", Kind(*.kind))]
    TwoPhase {
        /// The message's kind.
        kind: u8,
    },
    /// A change of a table that was never described.
    #[error("a change belongs to relation {}, which was never described", .relation.0)]
    UnknownRelation {
        /// The table's OID.
        relation: RelationId,
    },
    /// A row whose number of columns is not that of its table.
    #[error("a row of table \"{table}\" has {found} columns and the table {expected}")]
    Columns {
        /// The table.
        table: TableName,
        /// By the table's description.
        expected: usize,
        /// In the row.
        found: usize,
    },
    /// An update that does not say which row it updates.
    #[error("an update of table \"{table}\" does not carry column \"{column}\" of the replica identity")]
    NoIdentity {
        /// The table.
        table: TableName,
        /// The column that is missing.
        column: String,
    },
}

impl DecodeError {
    /// Returns what the user reads. `place` says where the message was, such as `near 0/16B3748`.
    pub fn problem(self, place: impl fmt::Display) -> Problem {
        let what = format!("logical replication message {place} cannot be used: {self}");
        match self {
            DecodeError::Empty
            | DecodeError::Short { .. }
            | DecodeError::Trailing { .. }
            | DecodeError::Invalid { .. }
            | DecodeError::TooLarge { .. } => Problem::definite(
                "PG100",
                what,
                "its bytes are not what the protocol says; going on would guess at rows",
                "start again: the position was not moved; if it happens at the same place, report it",
            ),
            DecodeError::Unknown { .. } | DecodeError::Protocol { .. } => Problem::definite(
                "PG101",
                what,
                "it may carry changes, so it is not skipped",
                "look for a version of tidegate that supports this server version",
            ),
            DecodeError::TwoPhase { .. } => Problem::definite(
                "PG102",
                what,
                "the slot was made with two_phase, and an acknowledged PREPARE never comes again",
                "recreate the slot without two_phase and copy the tables again",
            ),
            DecodeError::UnknownRelation { .. } | DecodeError::Columns { .. } => Problem::definite(
                "PG104",
                what,
                "the row does not fit the last description of its table, so its values cannot be told apart",
                "start again: the server then describes every table anew; if it happens at the same place, report it",
            ),
            DecodeError::NoIdentity { .. } => Problem::definite(
                "PG105",
                what,
                "PostgreSQL before 14.2 leaves out key values that are stored out of line and did not change",
                "update the source to the newest minor version, or set REPLICA IDENTITY FULL on the table, and copy it \
                 again",
            ),
        }
    }
}

/// The kind byte of a message, for people.
pub(crate) struct Kind(pub(crate) u8);

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.escape_ascii())
    }
}
