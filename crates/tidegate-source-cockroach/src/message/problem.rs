//! What can be wrong with a message, as the user reads it. Of the row it tells nothing but the key.

use tidegate_model::{ColumnName, Hlc, Problem};

use crate::table::TableInfo;
use crate::value::ValueError;

/// How much of a key is shown.
const KEY_CHARS_MAX: usize = 200;

const REPORT: &str = "start again; if it happens at the same place, report it with this text and the server's version";

/// A message that cannot be understood, so that nobody knows where it belongs.
#[derive(Debug, thiserror::Error)]
pub(super) enum MessageError {
    #[error("its value is empty")]
    Empty,
    #[error("it is not UTF-8")]
    NotUtf8,
    #[error("it is not a JSON object")]
    NotObject,
    #[error("it is not a JSON object of the expected form")]
    Json(#[from] serde_json::Error),
    #[error("its key is not a JSON array")]
    Key(#[source] serde_json::Error),
    #[error("it has no \"{0}\"")]
    Missing(&'static str),
    #[error("it is a row and a resolved timestamp at once")]
    ResolvedRow,
    #[error("its \"mvcc_timestamp\" is after its \"updated\"")]
    MvccAfterUpdated,
    #[error("the feed was not asked for table \"{0}\"")]
    UnknownTable(String),
}

impl MessageError {
    /// Says it for the user, with what came beside the value.
    pub(super) fn problem(self, table: Option<&[u8]>, key: Option<&[u8]>) -> Problem {
        let text = |bytes: Option<&[u8]>| bytes.map_or_else(|| "none".to_owned(), shown);
        let about = format!("(table {}, key {})", text(table), text(key));
        match self {
            MessageError::UnknownTable(_) => Problem::definite(
                "CR101",
                format!("changefeed message is of a table that is not part of the stream {about}"),
                self.to_string(),
                "tables must not be renamed, or get column families, while the stream runs: undo it and start again, \
                 or copy the table again (--recopy TABLE)",
            ),
            error => {
                // The parser's text says where, and of what kind the JSON is; it repeats no values.
                let why = match std::error::Error::source(&error) {
                    Some(source) => format!("{error}: {source}"),
                    None => error.to_string(),
                };
                let problem =
                    Problem::definite("CR100", format!("changefeed message cannot be read {about}"), why, REPORT);
                problem.caused_by(error)
            }
        }
    }
}

/// A row that cannot be carried.
#[derive(Debug, thiserror::Error)]
pub(super) enum RowError {
    #[error("it is not a JSON object of columns")]
    NotObject,
    #[error("it is not a JSON object of columns: {0}")]
    Json(serde_json::Error),
    #[error("column \"{0}\" is new")]
    UnknownColumn(String),
    #[error("column \"{0}\" is gone")]
    MissingColumn(ColumnName),
    #[error("column \"{0}\" is in it twice")]
    TwiceColumn(ColumnName),
    #[error("column \"{column}\": {error}")]
    Value { column: ColumnName, error: ValueError },
    #[error("its key has {found} values, and the primary key had {known} columns")]
    KeyLength { known: usize, found: usize },
    #[error("its key has another value for column \"{column}\" than the row")]
    OtherKey { column: ColumnName },
    #[error("the value of column \"{column}\" in its key: {error}")]
    KeyValue { column: ColumnName, error: ValueError },
    #[error("the table has no key at the target, and the feed does not tell rows as they were before")]
    NoOldRow,
    #[error("a schema change gave it other values")]
    Rewritten,
    #[error("it is larger than 4 GiB")]
    TooLarge,
}

impl RowError {
    /// Says it for the user.
    pub(super) fn problem(self, table: &TableInfo, key: &[u8], updated: Hlc) -> Problem {
        let name = &table.table.name;
        let of_row = format!("row of table \"{name}\" with key {} at {updated}", shown(key));
        match &self {
            RowError::UnknownColumn(_) | RowError::MissingColumn(_) => Problem::definite(
                "CR102",
                format!(
                    "table \"{name}\" changed at the source: {self}, first seen at {updated} in the row with key {}",
                    shown(key)
                ),
                "the target was made for the columns that the table had; a changefeed tells no DDL",
                format!("make the same change at the target, then copy the table again: --recopy {name}"),
            ),
            RowError::Rewritten => Problem::definite(
                "CR108",
                format!(
                    "table \"{name}\" changed at the source: a schema change at {updated} gave other values to its rows, \
                     first seen in the row with key {}",
                    shown(key)
                ),
                "what a schema change sends again may be older than what was sent before, so it is not applied, and the \
                 target would keep the old values",
                format!("make the same change at the target, then copy the table again: --recopy {name}"),
            ),
            RowError::KeyLength { .. } | RowError::OtherKey { .. } => Problem::definite(
                "CR105",
                format!("{of_row} has another key than the table is known to have"),
                format!("{self}: the table got another primary key"),
                format!("make the same change at the target, then copy the table again: --recopy {name}"),
            ),
            RowError::Value { error: ValueError::Nul, .. } | RowError::KeyValue { error: ValueError::Nul, .. } => {
                Problem::definite(
                    "CR104",
                    format!("{of_row} has a text that PostgreSQL cannot hold"),
                    self.to_string(),
                    "remove the character from that value at the source, then copy the table again: \
                     the version that has it stays in the feed",
                )
            }
            RowError::NotObject
            | RowError::Json(_)
            | RowError::TwiceColumn(_)
            | RowError::Value { .. }
            | RowError::KeyValue { .. }
            | RowError::NoOldRow
            | RowError::TooLarge => Problem::definite(
                "CR103",
                format!("{of_row} cannot be carried"),
                self.to_string(),
                "if the type of the column was changed, make the same change at the target and copy the table again \
                 (--recopy); otherwise report it with this text and the server's version",
            ),
        }
    }
}

/// Shows a name or a key that may be anything.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown: String = text.chars().take(KEY_CHARS_MAX).flat_map(printable).collect();
    if text.chars().nth(KEY_CHARS_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

fn printable(letter: char) -> impl Iterator<Item = char> {
    let plain = (!letter.is_control()).then_some(letter);
    plain.into_iter().chain(letter.is_control().then(|| letter.escape_default()).into_iter().flatten())
}
