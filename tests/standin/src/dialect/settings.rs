//! SET and RESET.

use super::lexer::{Kind, Statement};
use super::names::literal;
use super::refusal::{syntax, unimplemented};
use super::variables::{self, Variable};
use super::{Action, Context, Rewritten, Tag};
use crate::error::SqlError;

/// Variables of CockroachDB's own that the stand-in itself goes by.
const FOLLOWED: [&str; 3] = ["autocommit_before_ddl", "force_savepoint_restart", "inject_retry_errors_enabled"];

pub fn rewrite(statement: &Statement<'_>, context: &Context<'_>) -> Result<Option<Rewritten>, SqlError> {
    if statement.words(0, &["set", "cluster", "setting"]) || statement.words(0, &["reset", "cluster", "setting"]) {
        return cluster_setting(statement).map(Some);
    }
    if statement.is(0, "reset") {
        return reset(statement, context).map(Some);
    }
    if statement.words(0, &["discard", "all"]) {
        // Not DISCARD ALL: the session would turn back into the stand-in's own user.
        let tag = Some(Tag::Fixed("DISCARD ALL".to_owned()));
        return Ok(Some(Rewritten { sql: "RESET ALL".to_owned(), tag, ..plain(statement) }));
    }
    if statement.is(0, "use") {
        return database(statement, 1, context).map(Some);
    }
    if !statement.is(0, "set") {
        return Ok(None);
    }
    set(statement, context).map(Some)
}

fn plain(statement: &Statement<'_>) -> Rewritten {
    Rewritten::plain(super::whole(statement).to_owned())
}

fn set(statement: &Statement<'_>, context: &Context<'_>) -> Result<Rewritten, SqlError> {
    if statement.is(1, "constraints") {
        return Err(unimplemented(statement, 1, 31632));
    }
    let scope = if statement.is_any(1, &["session", "local"]) { statement.text(1) } else { "" };
    let at = 1 + usize::from(!scope.is_empty());
    if statement.words(at, &["time", "zone"]) || statement.is(at, "names") {
        return Ok(plain(statement));
    }
    if statement.words(at, &["characteristics", "as", "transaction"]) {
        return Ok(plain(statement));
    }
    if statement.is_any(at, &["authorization", "role"]) {
        return Ok(plain(statement));
    }
    let (name, mut value) = variable_name(statement, at)?;
    if !(statement.sign(value, "=") || statement.is(value, "to")) {
        return Err(syntax(statement, value));
    }
    value += 1;
    if value >= statement.len() {
        return Err(syntax(statement, value));
    }
    if name == "database" {
        return database(statement, value, context);
    }
    match variables::find(&name, context.version)? {
        Variable::Backing(setting) => {
            let text = statement.span(value..statement.len());
            Ok(Rewritten { sql: format!("SET {scope} {setting} = {text}"), ..plain(statement) })
        }
        Variable::Custom(setting) => {
            let text = value_text(statement, value);
            Ok(Rewritten { sql: format!("SET {scope} {setting} = {}", literal(&text)), ..plain(statement) })
        }
        Variable::Own { name, setting, .. } => {
            let value = variables::check(name, &value_text(statement, value), context.version)?;
            let sql = format!("SET {scope} {setting} = {}", literal(&value));
            Ok(own(statement, name, value, sql))
        }
        Variable::Fixed(_) => Err(SqlError::new("55P02", format!("parameter {name:?} cannot be changed"))),
    }
}

fn own(statement: &Statement<'_>, name: &'static str, value: String, sql: String) -> Rewritten {
    if !FOLLOWED.contains(&name) {
        return Rewritten { sql, ..plain(statement) };
    }
    Rewritten::of_action(statement, Action::SetVariable { name, value, sql })
}

fn reset(statement: &Statement<'_>, context: &Context<'_>) -> Result<Rewritten, SqlError> {
    if statement.is(1, "all") {
        return Ok(plain(statement));
    }
    let start = 1 + usize::from(statement.is(1, "session"));
    let (name, _) = variable_name(statement, start)?;
    match variables::find(&name, context.version)? {
        Variable::Backing(setting) => Ok(Rewritten { sql: format!("RESET {setting}"), ..plain(statement) }),
        Variable::Custom(setting) => Ok(Rewritten { sql: format!("RESET {setting}"), ..plain(statement) }),
        Variable::Own { name, setting, default } => {
            let sql = format!("SET {setting} = {}", literal(default));
            Ok(Rewritten { tag: Some(Tag::Fixed("RESET".to_owned())), ..own(statement, name, default.to_owned(), sql) })
        }
        Variable::Fixed(_) => Err(SqlError::new("55P02", format!("parameter {name:?} cannot be changed"))),
    }
}

/// A connection stays in its database here.
fn database(statement: &Statement<'_>, at: usize, context: &Context<'_>) -> Result<Rewritten, SqlError> {
    if value_text(statement, at) == context.database {
        return Ok(Rewritten::of_action(statement, Action::Nothing("SET".to_owned())));
    }
    Err(SqlError::new("0A000", "the stand-in cannot change a session's database: connect to the other one"))
}

/// Reads a name with dots, and where it ends.
pub fn variable_name(statement: &Statement<'_>, at: usize) -> Result<(String, usize), SqlError> {
    let mut name = statement.name(at).ok_or_else(|| syntax(statement, at))?;
    let mut end = at + 1;
    while statement.sign(end, ".") {
        name.push('.');
        name.push_str(&statement.name(end + 1).ok_or_else(|| syntax(statement, end + 1))?);
        end += 2;
    }
    Ok((name.to_lowercase(), end))
}

/// Returns a value without quotes.
fn value_text(statement: &Statement<'_>, at: usize) -> String {
    match statement.kind(at) {
        Some(Kind::Text) if at + 1 == statement.len() => statement.string(at).unwrap_or_default(),
        Some(Kind::Word | Kind::Quoted) if at + 1 == statement.len() => statement.name(at).unwrap_or_default(),
        _ => statement.span(at..statement.len()).to_owned(),
    }
}

fn cluster_setting(statement: &Statement<'_>) -> Result<Rewritten, SqlError> {
    let (name, at) = variable_name(statement, 3)?;
    if statement.is(0, "reset") {
        return Ok(Rewritten::of_action(statement, Action::SetClusterSetting { name, value: None }));
    }
    if !(statement.sign(at, "=") || statement.is(at, "to")) || at + 1 >= statement.len() {
        return Err(syntax(statement, at));
    }
    let value = (!statement.is(at + 1, "default")).then(|| value_text(statement, at + 1));
    Ok(Rewritten::of_action(statement, Action::SetClusterSetting { name, value }))
}
