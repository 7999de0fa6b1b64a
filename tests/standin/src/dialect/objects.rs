//! Databases, changefeeds, jobs and zones: what the stand-in does itself.

use super::lexer::{Kind, Statement};
use super::refusal::syntax;
use super::{Action, Context, Rewritten, show};
use crate::error::SqlError;
use crate::jobs::{self, Control};

/// The columns of a changefeed, for a client that asks before the feed runs.
const FEED_COLUMNS: &str =
    "SELECT NULL::text AS \"table\", NULL::bytea AS \"key\", NULL::bytea AS \"value\" WHERE false";
/// The value that a zone takes from the one around it.
const PARENT: &str = "COPY FROM PARENT";
const JOB_COLUMNS: &str = "SELECT NULL::int8 AS job_id WHERE false";

pub fn rewrite(statement: &Statement<'_>, context: &Context<'_>) -> Result<Option<Rewritten>, SqlError> {
    if statement.words(0, &["create", "changefeed"]) || statement.words(0, &["experimental", "changefeed"]) {
        return Ok(Some(changefeed(statement)));
    }
    if let Some(action) = control(statement)? {
        return Ok(Some(Rewritten::of_action(statement, action)));
    }
    if statement.words(0, &["create", "database"]) {
        let if_not_exists = statement.words(2, &["if", "not", "exists"]);
        let at = if if_not_exists { 5 } else { 2 };
        let name = statement.name(at).ok_or_else(|| syntax(statement, at))?;
        return Ok(Some(Rewritten::of_action(statement, Action::CreateDatabase { name, if_not_exists })));
    }
    if statement.words(0, &["drop", "database"]) {
        let if_exists = statement.words(2, &["if", "exists"]);
        let at = if if_exists { 4 } else { 2 };
        let name = statement.name(at).ok_or_else(|| syntax(statement, at))?;
        return Ok(Some(Rewritten::of_action(statement, Action::DropDatabase { name, if_exists })));
    }
    if statement.is(0, "alter")
        && let Some(at) = configure_zone(statement)
    {
        let zone = show::zone(statement, 1, context)?;
        let values = zone_values(statement, at)?;
        return Ok(Some(Rewritten::of_action(statement, Action::ConfigureZone { zone, values })));
    }
    Ok(None)
}

fn changefeed(statement: &Statement<'_>) -> Rewritten {
    let parameters = (0..statement.len()).filter(|index| statement.kind(*index) == Some(Kind::Parameter));
    let used: String = parameters.map(|index| format!(" AND {}::text IS NULL", statement.text(index))).collect();
    let (action, columns) = if jobs::has_sink(super::whole(statement)) {
        (Action::CreateJob, JOB_COLUMNS)
    } else {
        (Action::Feed, FEED_COLUMNS)
    };
    Rewritten { sql: format!("{columns}{used}"), ..Rewritten::of_action(statement, action) }
}

fn control(statement: &Statement<'_>) -> Result<Option<Action>, SqlError> {
    let control = if statement.is(0, "pause") {
        Control::Pause
    } else if statement.is(0, "resume") {
        Control::Resume
    } else if statement.is(0, "cancel") && statement.is_any(1, &["job", "jobs"]) {
        Control::Cancel
    } else {
        return Ok(None);
    };
    let mut ids = Vec::new();
    for at in 2..statement.len() {
        if statement.is(at, "with") {
            break;
        }
        match show::job_id(statement, at) {
            Some(id) => ids.push(id),
            None if statement.sign(at, ",") => {}
            None => return Err(syntax(statement, at)),
        }
    }
    Ok(Some(Action::ControlJobs { control, ids }))
}

fn configure_zone(statement: &Statement<'_>) -> Option<usize> {
    (1..statement.len()).find(|index| statement.words(*index, &["configure", "zone"]))
}

fn zone_values(statement: &Statement<'_>, at: usize) -> Result<Vec<(String, String)>, SqlError> {
    let mut at = at + 2;
    if statement.is(at, "discard") {
        return Ok(vec![("gc.ttlseconds".to_owned(), PARENT.to_owned())]);
    }
    if !statement.is(at, "using") {
        return Err(syntax(statement, at));
    }
    let mut values = Vec::new();
    while at + 1 < statement.len() {
        let (name, equals) = super::settings::variable_name(statement, at + 1)?;
        if !statement.sign(equals, "=") {
            return Err(syntax(statement, equals));
        }
        let end = (equals + 1..statement.len()).find(|index| statement.sign(*index, ",")).unwrap_or(statement.len());
        let value = match statement.string(equals + 1) {
            Some(text) => text,
            None => statement.span(equals + 1..end).to_owned(),
        };
        values.push((name, value));
        at = end;
    }
    Ok(values)
}
