//! SHOW, as a query of the backing server.

use super::lexer::{Kind, Statement};
use super::names::{Dotted, literal, quoted};
use super::needs::{JobsQuery, Needs};
use super::refusal::syntax;
use super::settings::variable_name;
use super::variables::{self, Variable};
use super::{Context, Known, Rewritten, Tag};
use crate::error::SqlError;
use crate::jobs;
use crate::knobs::{SettingKind, Zone};

/// Notes what a SHOW asks for, wherever in the statement it stands.
pub fn needs(statement: &Statement<'_>, context: &Context<'_>, needs: &mut Needs) -> Result<(), SqlError> {
    for at in 0..statement.len() {
        if !statement.is(at, "show") {
            continue;
        }
        if statement.words(at + 1, &["cluster", "setting"]) && statement.name(at + 3).is_some() {
            needs.setting = Some(variable_name(statement, at + 3)?.0);
        } else if statement.words(at + 1, &["cluster", "sessions"]) {
            needs.sessions = true;
        } else if statement.words(at + 1, &["zone", "configuration"]) {
            needs.zone = Some(zone(statement, at + 4, context)?);
        } else if let Some(jobs) = jobs_query(statement, at)? {
            needs.jobs = Some(jobs);
        }
    }
    Ok(())
}

fn jobs_query(statement: &Statement<'_>, at: usize) -> Result<Option<JobsQuery>, SqlError> {
    let changefeeds = statement.is(at + 1, "changefeed");
    let at = at + 1 + usize::from(changefeeds);
    if statement.is(at, "jobs") {
        return Ok(Some(JobsQuery { changefeeds, id: None }));
    }
    if !statement.is(at, "job") {
        return Ok(None);
    }
    let id = job_id(statement, at + 1).ok_or_else(|| syntax(statement, at + 1))?;
    Ok(Some(JobsQuery { changefeeds, id: Some(id) }))
}

/// Reads the number of a job, with or without quotes.
pub fn job_id(statement: &Statement<'_>, at: usize) -> Option<i64> {
    match statement.kind(at)? {
        Kind::Number => statement.text(at).parse().ok(),
        Kind::Text => statement.string(at)?.parse().ok(),
        _ => None,
    }
}

/// Reads what a zone configuration is for.
pub fn zone(statement: &Statement<'_>, at: usize, context: &Context<'_>) -> Result<Zone, SqlError> {
    if statement.is(at, "range") {
        return Ok(Zone::Default);
    }
    let name = |at: usize| Dotted::at(statement, at).ok_or_else(|| syntax(statement, at));
    if statement.is(at, "database") {
        return Ok(Zone::Database(name(at + 1)?.parts.pop().unwrap_or_default()));
    }
    let name = name(at + usize::from(statement.is(at, "table")))?;
    let table = name.table(context.database);
    let table = table.ok_or_else(|| super::refusal::no_relation(&name.parts.join(".")))?;
    let schema = table.schema.unwrap_or_else(|| "public".to_owned());
    Ok(Zone::Table(context.database.to_owned(), schema, table.table))
}

pub fn rewrite(statement: &Statement<'_>, context: &Context<'_>, known: &Known) -> Result<Option<Rewritten>, SqlError> {
    if !statement.is(0, "show") {
        return Ok(None);
    }
    let at = 1 + usize::from(statement.is(1, "session"));
    let (sql, what) = query(statement, at, context, known)?;
    let tag = Some(Tag::Counted(format!("SHOW {what}").trim_end().to_owned()));
    let source = super::whole(statement).to_owned();
    Ok(Some(Rewritten { sql, tag, of_moment: true, ..Rewritten::plain(source) }))
}

fn query(
    statement: &Statement<'_>,
    at: usize,
    context: &Context<'_>,
    known: &Known,
) -> Result<(String, String), SqlError> {
    let words: Vec<String> =
        (at..statement.len().min(at + 3)).map(|index| statement.text(index).to_uppercase()).collect();
    let word = |index: usize| words.get(index).map_or("", String::as_str);
    let listing = |function: &str, arguments: &str| {
        (format!("SELECT * FROM standin_catalog.{function}({arguments})"), word(0).to_owned())
    };
    let found = match (word(0), word(1)) {
        ("CLUSTER", "SETTING") => return Ok((setting(statement, at + 2, known)?, "CLUSTER SETTING".to_owned())),
        ("CLUSTER", "SESSIONS") => {
            let list = |of: fn(&(i32, String)) -> String| known.clients.iter().map(of).collect::<Vec<_>>().join(", ");
            let (processes, users) = (list(|(process, _)| process.to_string()), list(|(_, user)| literal(user)));
            let arguments = format!("ARRAY[{processes}]::int4[], ARRAY[{users}]::text[]");
            return Ok((listing("show_sessions", &arguments).0, "CLUSTER SESSIONS".to_owned()));
        }
        ("ZONE", "CONFIGURATION") => {
            let (target, sql) = known.zone.clone().unwrap_or_default();
            let sql = format!("SELECT {}::text AS target, {}::text AS raw_config_sql", literal(&target), literal(&sql));
            return Ok((sql, "ZONE CONFIGURATION".to_owned()));
        }
        ("CHANGEFEED", _) | ("JOBS" | "JOB", _) => {
            (values(known.jobs.as_ref().unwrap_or(&jobs::Table::default())), "JOBS".to_owned())
        }
        ("TABLES", _) => {
            let schema = from(statement, at + 1)?.and_then(|name| name.parts.last().cloned());
            let schema = schema.filter(|schema| schema != context.database);
            listing("show_tables", &schema.map_or("NULL".to_owned(), |schema| literal(&schema)))
        }
        ("DATABASES", _) => listing("show_databases", ""),
        ("SCHEMAS", _) => listing("show_schemas", ""),
        ("ENUMS", _) => listing("show_enums", ""),
        ("TYPES", _) => listing("show_types", ""),
        ("SEQUENCES", _) => listing("show_sequences", ""),
        ("USERS" | "ROLES", _) => listing("show_users", ""),
        ("COLUMNS", _) => listing("show_columns", &table(statement, at + 1, context)?),
        ("INDEX" | "INDEXES" | "KEYS", _) => listing("show_indexes", &table(statement, at + 1, context)?),
        ("CONSTRAINTS" | "CONSTRAINT", _) => listing("show_constraints", &table(statement, at + 1, context)?),
        ("TRIGGERS", _) if context.version.at_least(24, 3) => {
            listing("show_triggers", &table(statement, at + 1, context)?)
        }
        ("CREATE", "TRIGGER") if context.version.at_least(24, 3) => create_trigger(statement, at + 2, context)?,
        ("CREATE", "TABLE") => {
            let name = Dotted::at(statement, at + 2).ok_or_else(|| syntax(statement, at + 2))?;
            let (sql, _) = listing("show_create", &literal(&name.local(context.database)));
            (sql, "CREATE".to_owned())
        }
        ("CREATE", _) => {
            let name = Dotted::at(statement, at + 1).ok_or_else(|| syntax(statement, at + 1))?;
            listing("show_create", &literal(&name.local(context.database)))
        }
        ("TRANSACTION", "STATUS") => ("SELECT 'Open'::text AS \"TRANSACTION STATUS\"".to_owned(), String::new()),
        ("TRANSACTION", "ISOLATION") => (current("transaction_isolation"), String::new()),
        ("TIME", "ZONE") => (current("timezone"), String::new()),
        ("ALL", _) => (all(context), "ALL".to_owned()),
        ("", _) => return Err(syntax(statement, at)),
        _ => (variable(statement, at, context)?, String::new()),
    };
    Ok(found)
}

fn from(statement: &Statement<'_>, at: usize) -> Result<Option<Dotted>, SqlError> {
    if !statement.is_any(at, &["from", "in"]) {
        return Ok(None);
    }
    Dotted::at(statement, at + 1).map(Some).ok_or_else(|| syntax(statement, at + 1))
}

fn table(statement: &Statement<'_>, at: usize, context: &Context<'_>) -> Result<String, SqlError> {
    match from(statement, at)? {
        Some(name) => Ok(literal(&name.local(context.database))),
        None => Err(syntax(statement, at)),
    }
}

/// SHOW CREATE TRIGGER name ON table.
fn create_trigger(statement: &Statement<'_>, at: usize, context: &Context<'_>) -> Result<(String, String), SqlError> {
    let trigger = statement.name(at).ok_or_else(|| syntax(statement, at))?;
    let table = Dotted::at(statement, at + 2).filter(|_| statement.is(at + 1, "on"));
    let table = table.ok_or_else(|| syntax(statement, at + 1))?.local(context.database);
    let sql = format!("SELECT * FROM standin_catalog.show_create_trigger({}, {})", literal(&trigger), literal(&table));
    Ok((sql, "CREATE".to_owned()))
}

fn setting(statement: &Statement<'_>, at: usize, known: &Known) -> Result<String, SqlError> {
    let (name, _) = variable_name(statement, at)?;
    let Some((kind, value)) = &known.setting else { return Err(syntax(statement, at)) };
    let kind = match kind {
        SettingKind::Bool => "bool",
        SettingKind::Int => "int8",
        SettingKind::Float => "float8",
        SettingKind::Duration => "interval",
        SettingKind::String => "text",
    };
    Ok(format!("SELECT {}::{kind} AS {}", literal(value), quoted(&name)))
}

fn current(setting: &str) -> String {
    format!("SELECT pg_catalog.current_setting('{setting}') AS {}", quoted(setting))
}

fn variable(statement: &Statement<'_>, at: usize, context: &Context<'_>) -> Result<String, SqlError> {
    let (name, _) = variable_name(statement, at)?;
    Ok(match variables::find(&name, context.version)? {
        Variable::Backing(setting) => current(setting),
        Variable::Custom(setting) => current(&setting),
        Variable::Own { name, setting, default } => {
            let value = format!("coalesce(nullif(current_setting('{setting}', true), ''), {})", literal(default));
            format!("SELECT {value} AS {}", quoted(name))
        }
        Variable::Fixed(value) => format!("SELECT {}::text AS {}", fixed(&name, value, context), quoted(&name)),
    })
}

fn fixed(name: &str, value: &str, context: &Context<'_>) -> String {
    match name {
        "crdb_version" => literal(context.banner),
        "database" => literal(context.database),
        "session_user" => literal(context.user),
        _ => literal(value),
    }
}

fn all(context: &Context<'_>) -> String {
    let mut rows: Vec<String> = Vec::new();
    for name in variables::names() {
        let value = match variables::find(name, context.version) {
            Ok(Variable::Backing(setting)) => format!("current_setting('{setting}')"),
            Ok(Variable::Own { setting, default, .. }) => {
                format!("coalesce(nullif(current_setting('{setting}', true), ''), {})", literal(default))
            }
            Ok(Variable::Fixed(value)) => fixed(name, value, context),
            Ok(Variable::Custom(_)) | Err(_) => continue,
        };
        rows.push(format!("({}, {value})", literal(name)));
    }
    format!("SELECT * FROM (VALUES {}) AS s (variable, value) ORDER BY variable", rows.join(", "))
}

/// Turns an answer that was found out into a query that gives it.
fn values(table: &jobs::Table) -> String {
    let columns = |row: Option<&Vec<Option<String>>>| {
        let of = |(index, (name, kind)): (usize, &(&str, u32))| {
            let value = row.and_then(|row| row.get(index)).and_then(Option::as_deref);
            let value = value.map_or("NULL".to_owned(), literal);
            format!("{value}::{} AS {}", type_name(*kind), quoted(name))
        };
        table.columns.iter().enumerate().map(of).collect::<Vec<_>>().join(", ")
    };
    if table.rows.is_empty() {
        return format!("SELECT {} WHERE false", columns(None));
    }
    let rows: Vec<String> = table.rows.iter().map(|row| format!("SELECT {}", columns(Some(row)))).collect();
    rows.join(" UNION ALL ")
}

/// Types that the stand-in's own answers have.
fn type_name(kind: u32) -> &'static str {
    match kind {
        16 => "bool",
        17 => "bytea",
        20 => "int8",
        701 => "float8",
        1009 => "text[]",
        1114 => "timestamp",
        1184 => "timestamptz",
        1186 => "interval",
        1700 => "numeric",
        _ => "text",
    }
}
