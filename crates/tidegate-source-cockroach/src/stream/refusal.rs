//! Why a stream stops or pauses.

use tidegate_connect::{describe_sql_error, sql_error_class};
use tidegate_model::{Class, Hlc, MigrationName, Position, Problem};
use tokio_postgres::Error;

use crate::gc;
use crate::problem::{self, recreate};

const RANGEFEEDS_OFF: &str = "CR020";
const TABLE_MISSING: &str = "CR021";
const NOT_ALLOWED: &str = "CR022";
const TABLE_EMPTIED: &str = "CR023";
const SCHEMA_CHANGED: &str = "CR024";
const NOT_UNDERSTOOD: &str = "CR025";
const FEED_ENDED: &str = "CR026";
const INTERRUPTED: &str = "CR027";
const SILENT: &str = "CR028";
const HAS_ENDED: &str = "CR029";
const NOT_DELIVERED: &str = "CR030";
const WENT_BACK: &str = "CR031";
const NO_THREAD: &str = "CR032";
const PANICKED: &str = "CR033";
const BAD_ROW: &str = "CR034";

/// What a server says when a feed ends for good, by a part of its message: CockroachDB gives most of these no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    PastGc,
    RangefeedsOff,
    FeedsDisabled,
    TableMissing,
    NotAllowed,
    Emptied,
    SchemaChanged,
    NotUnderstood,
    Other,
    Passing,
}

impl Cause {
    fn of(sqlstate: &str, message: &str) -> Cause {
        let says = |part: &str| message.contains(part);
        if problem::gc_threshold(message).is_some() || says("is older than the GC threshold") {
            return Cause::PastGc;
        }
        if says("kv.rangefeed.enabled") {
            return Cause::RangefeedsOff;
        }
        if says("feature CHANGEFEED was disabled") {
            return Cause::FeedsDisabled;
        }
        if says("was truncated") || says("was dropped") || says("offline table") {
            return Cause::Emptied;
        }
        if says("schema change occurred at") || says("column families") || says("CHANGEFEED cannot target") {
            return Cause::SchemaChanged;
        }
        match sqlstate {
            "42P01" | "3D000" | "3F000" => Cause::TableMissing,
            "42501" => Cause::NotAllowed,
            // A cursor that a node with a slower clock takes for the future.
            "42601" | "22023" | "0A000" if !says("is in the future") => Cause::NotUnderstood,
            _ if says("is in the future") || problem::is_transient(sqlstate) => Cause::Passing,
            _ => Cause::Other,
        }
    }
}

/// The server sent an error, refused to start, or the connection broke.
pub(super) fn interrupted(name: &MigrationName, cursor: Hlc, error: Error) -> Problem {
    let message = describe_sql_error(&error);
    let Some(server) = error.as_db_error() else {
        let passing = sql_error_class(&error) == Class::Transient;
        let problem = if passing { lost(&message) } else { ended(&message) };
        return problem.caused_by(error);
    };
    let cause = Cause::of(server.code().code(), server.message());
    let threshold = problem::gc_threshold(server.message()).unwrap_or_default();
    classified(name, cursor, cause, threshold, &message).caused_by(error)
}

fn classified(name: &MigrationName, cursor: Hlc, cause: Cause, threshold: &str, message: &str) -> Problem {
    let said = format!("the server said: {message}");
    match cause {
        Cause::PastGc => gc::given_up(name, cursor, threshold),
        Cause::RangefeedsOff => Problem::definite(
            RANGEFEEDS_OFF,
            "the source does not let changefeeds run",
            said,
            "as an administrator: SET CLUSTER SETTING kv.rangefeed.enabled = true; then start again",
        ),
        Cause::FeedsDisabled => Problem::definite(
            RANGEFEEDS_OFF,
            "the source does not let changefeeds run",
            said,
            "as an administrator: SET CLUSTER SETTING feature.changefeed.enabled = true; then start again",
        ),
        Cause::TableMissing => Problem::definite(
            TABLE_MISSING,
            "a table of the stream does not exist at the source any more",
            said,
            format!(
                "leave a table that was dropped out (--exclude), or, if it was dropped and made again, {}",
                recreate(name)
            ),
        ),
        Cause::NotAllowed => Problem::definite(
            NOT_ALLOWED,
            "the role may not read a table of the stream any more",
            said,
            "grant what is missing (GRANT SELECT ON TABLE ... TO ...) and start again; the stream goes on from the \
             checkpoint",
        ),
        Cause::Emptied => Problem::definite(
            TABLE_EMPTIED,
            "a table of the stream was emptied, dropped or taken offline at the source",
            format!(
                "TRUNCATE, DROP and IMPORT end a changefeed without telling which rows went, and no feed begins before \
                 them again ({message})"
            ),
            format!("leave a table that was dropped out (--exclude); otherwise {}", recreate(name)),
        ),
        Cause::SchemaChanged => Problem::definite(
            SCHEMA_CHANGED,
            "a table of the stream was changed at the source so that its changefeed cannot go on",
            said,
            format!(
                "change the table at the other side likewise, then copy it again: tidegate migrate --name {name} \
                 --recopy TABLE. A table with several column families cannot be carried"
            ),
        ),
        Cause::NotUnderstood => Problem::definite(
            NOT_UNDERSTOOD,
            "the source refuses the changefeed",
            said,
            "look at the version and the licence of the source with tidegate check; the stream goes on from the \
             checkpoint once the cause is gone",
        ),
        Cause::Other => ended(message),
        Cause::Passing => Problem::transient(
            INTERRUPTED,
            "the changefeed was interrupted",
            said,
            "if this does not pass by itself, look at the cluster; the stream goes on where it was",
        ),
    }
}

fn ended(message: &str) -> Problem {
    Problem::definite(
        FEED_ENDED,
        "the source ended the changefeed",
        format!("the server said: {message}"),
        "correct the cause at the server and start again; the stream goes on from the checkpoint",
    )
}

fn lost(message: &str) -> Problem {
    Problem::transient(
        INTERRUPTED,
        "the connection of the changefeed was lost",
        message,
        "if this does not pass by itself, look at the cluster and the network between",
    )
}

pub(super) fn server_finished() -> Problem {
    Problem::transient(
        INTERRUPTED,
        "the server ended the changefeed without an error",
        "a feed without an end time ends only with its node",
        "the stream is taken up again by itself",
    )
}

pub(super) fn silent(seconds: f64) -> Problem {
    Problem::transient(
        SILENT,
        format!("the changefeed has resolved no time for {seconds} s"),
        "a range of a table may have no leaseholder, or a transaction on it stays open; the network may drop packets",
        "if this does not pass by itself, look for unavailable ranges and long transactions at the source",
    )
}

pub(super) fn has_ended() -> Problem {
    Problem::bug(HAS_ENDED, "a source was asked for an event after it had ended", "its error was given before")
}

pub(super) fn not_delivered(position: &Position, delivered: &Position) -> Problem {
    Problem::bug(
        NOT_DELIVERED,
        format!("position {position} was acknowledged before it was delivered"),
        format!("the last event was at {delivered}"),
    )
}

pub(super) fn went_back(position: &Position, emitted: &Position) -> Problem {
    Problem::bug(
        WENT_BACK,
        format!("the stream gave a transaction at {position} after {emitted}"),
        "the window gives transactions in order of time, and drops what comes again",
    )
}

pub(super) fn no_thread(error: std::io::Error) -> Problem {
    Problem::transient(
        NO_THREAD,
        "the thread that decodes the stream could not be started",
        error.to_string(),
        "raise the limit on threads or processes of this user, and start again",
    )
    .caused_by(error)
}

pub(super) fn panicked(part: &str) -> Problem {
    Problem::bug(PANICKED, format!("the {part} of the stream broke down"), "it panicked; the log has the place")
}

pub(super) fn bad_row(error: &Error) -> Problem {
    Problem {
        class: Class::Definite,
        ..Problem::bug(
            BAD_ROW,
            "the changefeed sent a row of another shape than (table, key, value)",
            describe_sql_error(error),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_feed_says_decides_whether_it_is_tried_again() {
        let gc = "batch timestamp 1595866288.020022200,0 must be after replica GC threshold 1595868416.278231500,0";
        let families = "CHANGEFEED targeting a table (t) with multiple column families requires WITH \
                        split_column_families and will emit multiple events per row.";
        for (sqlstate, message, cause) in [
            ("XXUUU", gc, Cause::PastGc),
            ("22023", gc, Cause::PastGc),
            ("XXUUU", "rangefeeds require the kv.rangefeed.enabled setting. See https://x", Cause::RangefeedsOff),
            ("0A000", "feature CHANGEFEED was disabled by the database administrator", Cause::FeedsDisabled),
            (
                "42P01",
                "failed to resolve targets in the CHANGEFEED stmt: table \"b\" does not exist",
                Cause::TableMissing,
            ),
            ("42501", "user u does not have SELECT privilege on relation t", Cause::NotAllowed),
            ("XXUUU", "\"truncate\" was truncated", Cause::Emptied),
            ("XXUUU", "\"drop\" was dropped", Cause::Emptied),
            ("XXUUU", "CHANGEFEED cannot target offline table: t (offline reason: \"importing\")", Cause::Emptied),
            ("XXUUU", "schema change occurred at 1.0", Cause::SchemaChanged),
            ("XXUUU", families, Cause::SchemaChanged),
            ("XXUUU", "CHANGEFEED cannot target views: vw", Cause::SchemaChanged),
            ("22023", "invalid option \"topics\"", Cause::NotUnderstood),
            ("42601", "at or near \"x\": syntax error", Cause::NotUnderstood),
            ("22023", "timestamp '9' is in the future", Cause::Passing),
            ("40001", "restart transaction: x", Cause::Passing),
            ("57014", "query execution canceled", Cause::Passing),
            ("57P01", "server is shutting down", Cause::Passing),
            ("08006", "connection reset", Cause::Passing),
            ("53200", "memory budget exceeded", Cause::Passing),
            ("XXUUU", "something of one node", Cause::Passing),
            ("XXC01", "this needs a licence", Cause::Other),
        ] {
            assert_eq!(Cause::of(sqlstate, message), cause, "{sqlstate} {message}");
        }
    }

    #[test]
    fn every_end_says_what_to_do() {
        let name: MigrationName = "orders".parse().unwrap();
        for cause in [
            Cause::PastGc,
            Cause::RangefeedsOff,
            Cause::FeedsDisabled,
            Cause::TableMissing,
            Cause::NotAllowed,
            Cause::Emptied,
            Cause::SchemaChanged,
            Cause::NotUnderstood,
            Cause::Other,
        ] {
            let problem = classified(&name, Hlc::default(), cause, "1.2,0", "it broke");
            assert_eq!(problem.class, Class::Definite, "{cause:?}");
            assert!(!problem.next.is_empty());
        }
        assert_eq!(classified(&name, Hlc::default(), Cause::Passing, "", "it broke").class, Class::Transient);
        let gone = classified(&name, Hlc { wall: 5, logical: 0 }, Cause::PastGc, "1.2,0", "it broke");
        assert!(gone.what.contains("5.0000000000") && gone.why.contains("1.2,0"));
        assert!(gone.next.contains("tidegate migrate --name orders --recreate-slot"));
    }
}
