//! Why a stream stops.

use tidegate_connect::QueryError;
use tidegate_model::{Class, MigrationName, Position, Problem};

use crate::History;
use crate::history::recreate;
use crate::problem;

const NEW_TIMELINE: &str = "PG026";
const SERVER_ENDED: &str = "PG060";
const PUBLICATION_MISSING: &str = "PG061";
const SILENT: &str = "PG062";
const HAS_ENDED: &str = "PG063";
const NOT_DELIVERED: &str = "PG064";
const WENT_BACK: &str = "PG065";
const BAD_MESSAGE: &str = "PG066";
const NO_THREAD: &str = "PG067";
const PANICKED: &str = "PG068";

pub(super) fn new_timeline(history: &History, now: u32) -> Problem {
    Problem::definite(
        NEW_TIMELINE,
        format!("the source was promoted from timeline {} to timeline {now}", history.timeline),
        "nothing was lost, but the history stored with the checkpoint has to be renewed before the stream goes on",
        "start again",
    )
}

/// The server sent an error, refused to start, or the connection broke.
pub(super) fn interrupted(name: &MigrationName, history: &History, error: QueryError) -> Problem {
    let doing = "reading the stream";
    let Some(code) = error.sqlstate().map(str::to_owned) else {
        return problem::replication(doing, error);
    };
    if problem::is_transient(&code) {
        return problem::replication(doing, error);
    }
    let message = error.to_string();
    let problem = if code == "42704" {
        Problem::definite(
            PUBLICATION_MISSING,
            format!("publication \"{}\" does not exist where the stream is", history.publication),
            format!(
                "it was dropped, and making it again does not help: the server looks it up as it was when the change \
                 was made ({message})"
            ),
            recreate(name),
        )
    } else {
        Problem::definite(
            SERVER_ENDED,
            format!("the server ended the stream of replication slot \"{}\"", history.slot),
            format!("it said: {message}"),
            "correct the cause at the server and start again; the stream goes on from the checkpoint",
        )
    };
    problem.caused_by(error)
}

pub(super) fn server_finished() -> Problem {
    Problem::transient(
        SERVER_ENDED,
        "the server ended the stream",
        "it is being shut down or promoted",
        "the stream is taken up again by itself once the server is back",
    )
}

pub(super) fn silent(seconds: u64) -> Problem {
    Problem::transient(
        SILENT,
        format!("the source has not been heard of for {seconds} s"),
        "it answers none of our requests for a keepalive: the network between drops packets, or the server is stuck",
        "if this does not pass by itself, look at the server and the network between",
    )
}

pub(super) fn has_ended() -> Problem {
    Problem::bug(HAS_ENDED, "a source was asked for an event after it had ended", "its error was given before")
}

pub(super) fn not_delivered(position: &Position, delivered: &Position) -> Problem {
    Problem::bug(
        NOT_DELIVERED,
        format!("position {position} was acknowledged before it was delivered"),
        format!("the last event was at {delivered}: the server would forget what nobody has"),
    )
}

pub(super) fn went_back(position: &Position, emitted: &Position) -> Problem {
    Problem::bug(
        WENT_BACK,
        format!("the stream gave a transaction at {position} after {emitted}"),
        "the server sends commits in order, and what it sends again is dropped",
    )
}

pub(super) fn bad_message(what: &str) -> Problem {
    Problem {
        class: Class::Definite,
        ..Problem::bug(BAD_MESSAGE, "the server sent a replication message that is none", what.to_owned())
    }
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
