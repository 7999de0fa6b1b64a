//! PostgreSQL's errors in CockroachDB's words.

use bytes::BytesMut;

use crate::error::SqlError;
use crate::session::retry_error;
use crate::wire::Frame;
use crate::wire::startup::{report, report_fields};

/// An error with what PostgreSQL adds to it.
#[derive(Debug)]
struct Reported {
    error: SqlError,
    schema: String,
    table: String,
    column: String,
}

fn reported(frame: &Frame) -> Reported {
    let error = SqlError::new("XX000", "");
    let mut found = Reported { error, schema: String::new(), table: String::new(), column: String::new() };
    for (kind, value) in report_fields(frame) {
        match kind {
            b'C' => found.error.code = value,
            b'M' => found.error.message = value,
            b'D' => found.error.detail = Some(value),
            b'H' => found.error.hint = Some(value),
            b'n' => found.error.constraint = Some(value),
            b's' => found.schema = value,
            b't' => found.table = value,
            b'c' => found.column = value,
            _ => {}
        }
    }
    found
}

/// Takes an error as PostgreSQL says it.
pub fn plain(frame: &Frame) -> SqlError {
    reported(frame).error
}

/// Takes an error as CockroachDB would have said it. `verb` is the statement's first word in upper case.
pub fn error(frame: &Frame, verb: &str, user: &str) -> SqlError {
    let Reported { mut error, schema, table, column } = reported(frame);
    let verb_name = match verb {
        "UPDATE" => "update",
        "DELETE" => "delete",
        _ => "insert",
    };
    let message = error.message.clone();
    let message = message.as_str();
    let new = match error.code.as_str() {
        "40001" if !message.starts_with("restart transaction") => {
            return retry_error("RETRY_SERIALIZABLE - failed preemptive refresh");
        }
        "40P01" => {
            let text = "restart transaction: TransactionRetryWithProtoRefreshError: \
                        TransactionAbortedError(ABORT_REASON_ABORTED_RECORD_FOUND)";
            return SqlError::new("40001", text);
        }
        "23503" => foreign_key(message, verb_name),
        "23502" => format!("null value in column {column:?} violates not-null constraint"),
        "23514" => match &error.constraint {
            Some(name) => format!("failed to satisfy CHECK constraint ({name})"),
            None => message.to_owned(),
        },
        "22003" => {
            message.replace("bigint out of range", "integer out of range").replace("smallint out", "integer out")
        }
        "22001" => message.replace("character varying", "VARCHAR").replace("character(", "CHAR("),
        "21000" if message.contains("cannot affect row a second time") => {
            "UPSERT or INSERT...ON CONFLICT command cannot affect row a second time".to_owned()
        }
        "428C9" => return not_written(error),
        "42601" => syntax(message),
        "42804" => wrong_type(message),
        "42703" => message
            .replace("column ", "column \"")
            .replace(" does not exist", "\" does not exist")
            .replace("\"\"", "\""),
        "3F000" => message.replacen("schema", "unknown schema", 1).replace(" does not exist", ""),
        "42883" => match message.strip_prefix("function ").and_then(|rest| rest.split_once('(')) {
            Some((name, _)) => format!("unknown function: {name}()"),
            None => message.to_owned(),
        },
        "42P07" if !table.is_empty() && !schema.is_empty() => format!("relation \"{schema}.{table}\" already exists"),
        "42501" => privilege(message, verb, user),
        "55P03" => message.replace("in relation \"", "in \""),
        "57014" if message.contains("statement timeout") => {
            "query execution canceled due to statement timeout".to_owned()
        }
        "57014" => "query execution canceled".to_owned(),
        "57P01" | "57P02" | "57P03" => {
            error.code = "57P01".to_owned();
            "server is shutting down".to_owned()
        }
        _ => return error,
    };
    error.message = new;
    error
}

/// PostgreSQL does not tell an insert from an update, nor an update from a delete.
fn foreign_key(message: &str, verb: &str) -> String {
    message
        .replace(
            "insert or update on table",
            &format!("{} on table", if verb == "update" { "update" } else { "insert" }),
        )
        .replace(
            "update or delete on table",
            &format!("{} on table", if verb == "update" { "update" } else { "delete" }),
        )
}

/// Columns that are computed, and identities that are always generated.
fn not_written(mut error: SqlError) -> SqlError {
    let detail = error.detail.take().unwrap_or_default();
    let column = error.message.split('"').nth(1).unwrap_or_default().to_owned();
    if detail.contains("is a generated column") {
        return SqlError::new("55000", format!("cannot write directly to computed column {column:?}"));
    }
    let text = if error.message.starts_with("cannot insert") {
        format!("cannot insert into column {column:?}")
    } else {
        format!("column {column:?} can only be updated to DEFAULT")
    };
    let detail = format!("Column {column:?} is an identity column defined as GENERATED ALWAYS");
    SqlError::new("428C9", text).detail(detail)
}

/// `syntax error at or near "x"`.
fn syntax(message: &str) -> String {
    match message.strip_prefix("syntax error at or near ") {
        Some(near) => format!("at or near {near}: syntax error"),
        None if message.starts_with("syntax error at end of input") => "at or near \"EOF\": syntax error".to_owned(),
        None => message.to_owned(),
    }
}

/// `column "a" is of type jsonb but expression is of type text`.
fn wrong_type(message: &str) -> String {
    let parsed = || {
        let (column, rest) = message.strip_prefix("column ")?.split_once(" is of type ")?;
        let (wanted, given) = rest.split_once(" but expression is of type ")?;
        Some(format!("value type {} doesn't match type {} of column {column}", word(given), word(wanted)))
    };
    parsed().unwrap_or_else(|| message.to_owned())
}

/// CockroachDB's words for types in its messages.
fn word(name: &str) -> &str {
    match name {
        "text" => "string",
        "bigint" | "integer" | "smallint" => "int",
        "bytea" => "bytes",
        "numeric" => "decimal",
        "double precision" | "real" => "float",
        "boolean" => "bool",
        "timestamp with time zone" => "timestamptz",
        "timestamp without time zone" => "timestamp",
        other => other,
    }
}

/// `permission denied for table t`.
fn privilege(message: &str, verb: &str, user: &str) -> String {
    let relation = ["table ", "view ", "sequence "]
        .iter()
        .find_map(|kind| message.strip_prefix("permission denied for ").and_then(|rest| rest.strip_prefix(kind)));
    match relation {
        Some(name) => {
            let verb = if verb == "WITH" || verb.is_empty() { "SELECT" } else { verb };
            format!("user {user} does not have {verb} privilege on relation {name}")
        }
        None => message.to_owned(),
    }
}

/// Passes a notice on, without what points into PostgreSQL's source.
pub fn notice(frame: &Frame, out: &mut BytesMut) {
    let kept: Vec<(u8, String)> =
        report_fields(frame).into_iter().filter(|(kind, _)| b"SVCMDH".contains(kind)).collect();
    report(out, b'N', &kept);
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn told(fields: &[(u8, &str)], verb: &str) -> SqlError {
        let mut out = BytesMut::new();
        let fields: Vec<(u8, String)> = fields.iter().map(|(kind, value)| (*kind, (*value).to_owned())).collect();
        report(&mut out, b'E', &fields);
        error(&Frame::new(Bytes::from(out)), verb, "root")
    }

    #[test]
    fn errors_get_the_texts_of_cockroachdb() {
        let cases: [(&str, &str, &str, &str); 7] = [
            ("40001", "could not serialize access due to concurrent update", "INSERT", "restart transaction: "),
            (
                "23503",
                "insert or update on table \"a\" violates foreign key constraint \"f\"",
                "UPDATE",
                "update on table \"a\"",
            ),
            (
                "23503",
                "update or delete on table \"a\" violates foreign key constraint \"f\" on table \"b\"",
                "DELETE",
                "delete on table \"a\"",
            ),
            ("42601", "syntax error at or near \"x\"", "", "at or near \"x\": syntax error"),
            (
                "42804",
                "column \"a\" is of type jsonb but expression is of type text",
                "",
                "value type string doesn't match type jsonb of column \"a\"",
            ),
            ("57014", "canceling statement due to user request", "", "query execution canceled"),
            ("42703", "column n.x does not exist", "", "column \"n.x\" does not exist"),
        ];
        for (code, message, verb, wanted) in cases {
            let found = told(&[(b'C', code), (b'M', message)], verb);
            assert!(found.message.starts_with(wanted), "{}", found.message);
        }
        assert_eq!(told(&[(b'C', "40P01"), (b'M', "deadlock detected")], "").code, "40001");
    }

    #[test]
    fn computed_columns_are_told_from_identities() {
        let message = "cannot insert a non-DEFAULT value into column \"c\"";
        let detail = "Column \"c\" is a generated column.";
        assert_eq!(told(&[(b'C', "428C9"), (b'M', message), (b'D', detail)], "INSERT").code, "55000");
        let detail = "Column \"c\" is an identity column defined as GENERATED ALWAYS.";
        let found = told(&[(b'C', "428C9"), (b'M', message), (b'D', detail)], "INSERT");
        assert_eq!((found.code.as_str(), found.message.as_str()), ("428C9", "cannot insert into column \"c\""));
    }
}
