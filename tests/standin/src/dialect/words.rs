//! What is rewritten wherever it stands: types of casts, hints, functions, names of three parts, catalog tables.

use super::edits::Edits;
use super::lexer::{Kind, Statement};
use super::names::{Dotted, literal};
use super::queries::past_hint;
use super::refusal::{no_column, no_function, no_relation, syntax, unimplemented};
use super::{Context, allow, types};
use crate::error::SqlError;

/// Words before a parenthesis that are no functions.
const BEFORE_PARENTHESES: [&str; 20] = [
    "into",
    "table",
    "as",
    "on",
    "references",
    "key",
    "unique",
    "index",
    "join",
    "update",
    "column",
    "function",
    "procedure",
    "type",
    "constraint",
    "view",
    "sequence",
    "schema",
    "exists",
    "from",
];

/// Notes the changes; `types` also those of types that stand in definitions of columns.
pub fn rewrite(statement: &Statement<'_>, context: &Context<'_>, edits: &mut Edits<'_, '_>) -> Result<(), SqlError> {
    refuse_parameters(statement)?;
    let mut at = 0;
    while at < statement.len() {
        at = match statement.kind(at) {
            Some(Kind::Sign) => sign(statement, at, edits)?,
            Some(Kind::Word | Kind::Quoted) if at == 0 || !statement.sign(at - 1, ".") => {
                name(statement, at, context, edits)?
            }
            _ => at + 1,
        };
    }
    Ok(())
}

fn refuse_parameters(statement: &Statement<'_>) -> Result<(), SqlError> {
    let numbers = (0..statement.len()).filter(|index| statement.kind(*index) == Some(Kind::Parameter));
    let most = numbers.filter_map(|index| statement.text(index)[1..].parse::<u64>().ok()).max().unwrap_or(0);
    if most > 65_535 {
        return Err(SqlError::new("08P01", format!("more than 65535 arguments to prepared statement: {most}")));
    }
    Ok(())
}

fn sign(statement: &Statement<'_>, at: usize, edits: &mut Edits<'_, '_>) -> Result<usize, SqlError> {
    match statement.text(at) {
        "::" | ":::" => {
            edits.replace(at..at + 1, "::");
            match types::at(statement, at + 1)? {
                Some(found) if found.sql != statement.span(at + 1..found.end) && unqualified(statement, at + 1) => {
                    edits.replace(at + 1..found.end, found.sql);
                    Ok(found.end)
                }
                _ => Ok(at + 1),
            }
        }
        "@" if at > 0 && is_hint(statement, at) => {
            let past = past_hint(statement, at);
            edits.remove(at..past);
            Ok(past)
        }
        _ => Ok(at + 1),
    }
}

fn unqualified(statement: &Statement<'_>, at: usize) -> bool {
    !statement.sign(at + 1, ".")
}

/// `t@index` and `t@{...}`: directly behind a name.
fn is_hint(statement: &Statement<'_>, at: usize) -> bool {
    let behind_name = matches!(statement.kind(at - 1), Some(Kind::Word | Kind::Quoted));
    let before_name = statement.sign(at + 1, "{") || matches!(statement.kind(at + 1), Some(Kind::Word | Kind::Quoted));
    behind_name && before_name && (statement.touches(at - 1) || statement.sign(at + 1, "{"))
}

fn name(
    statement: &Statement<'_>,
    at: usize,
    context: &Context<'_>,
    edits: &mut Edits<'_, '_>,
) -> Result<usize, SqlError> {
    let Some(dotted) = Dotted::at(statement, at) else { return Ok(at + 1) };
    if statement.is(at, "cast") && statement.sign(at + 1, "(") {
        cast(statement, at + 1, edits)?;
        return Ok(at + 1);
    }
    if statement.sign(dotted.end, "(") && !(at > 0 && statement.is_any(at - 1, &BEFORE_PARENTHESES)) {
        return function(statement, &dotted, context, edits);
    }
    if is_alias(statement, at) {
        return Ok(dotted.end);
    }
    refuse_columns(statement, &dotted)?;
    relation(&dotted, context, edits)?;
    Ok(dotted.end)
}

/// Returns whether a name is given here, not used.
fn is_alias(statement: &Statement<'_>, at: usize) -> bool {
    at > 0 && statement.is(at - 1, "as")
}

fn cast(statement: &Statement<'_>, open: usize, edits: &mut Edits<'_, '_>) -> Result<(), SqlError> {
    let past = statement.past_closing(open);
    let mut at = open + 1;
    while at < past {
        if statement.sign(at, "(") {
            at = statement.past_closing(at);
        } else if statement.is(at, "as") {
            if let Some(found) = types::at(statement, at + 1)?.filter(|_| unqualified(statement, at + 1)) {
                edits.replace(at + 1..found.end, found.sql);
            }
            return Ok(());
        } else {
            at += 1;
        }
    }
    Ok(())
}

fn function(
    statement: &Statement<'_>,
    name: &Dotted,
    context: &Context<'_>,
    edits: &mut Edits<'_, '_>,
) -> Result<usize, SqlError> {
    let (schema, function) = match name.parts.as_slice() {
        [function] => (None, function.as_str()),
        [schema, function] => (Some(schema.as_str()), function.as_str()),
        _ => return Ok(name.end),
    };
    let arguments_end = statement.past_closing(name.end);
    let tokens = name.start..name.end;
    match schema {
        Some("crdb_internal") => return internal(statement, name, function, context, edits),
        Some("pg_catalog") | None => {}
        Some("standin" | "standin_catalog" | "standin_information") => return Err(no_function(&name.parts.join("."))),
        Some(_) => return Ok(name.end),
    }
    if function == "version" {
        let text = literal(context.banner);
        edits.replace(tokens.start..arguments_end, format!("(SELECT {text}::text AS version)"));
        return Ok(arguments_end);
    }
    if function == "cluster_logical_timestamp"
        && let Some(at) = context.as_of
    {
        let text = format!("(SELECT {at}::numeric AS cluster_logical_timestamp)");
        edits.replace(tokens.start..arguments_end, text);
        return Ok(arguments_end);
    }
    if matches!(function, "rollup" | "cube") && tokens.start > 0 && statement.is_any(tokens.start - 1, &["by"]) {
        return Err(unimplemented(statement, tokens.start, 46280));
    }
    if let Some((_, other)) = allow::REPLACED.iter().find(|(known, _)| *known == function) {
        let two = (name.end..arguments_end).any(|index| statement.sign(index, ","));
        if function.starts_with("pg_") && function.contains("advisory") && two {
            return Err(no_function(function));
        }
        edits.replace(tokens, *other);
        return Ok(name.end);
    }
    if context.builtins.functions.contains(function) && !allow::FUNCTIONS.contains(&function) {
        // A column list of a table, or a type with a length, of the same name.
        if statement.kind(name.start) == Some(Kind::Quoted) {
            return Ok(name.end);
        }
        return Err(no_function(function));
    }
    Ok(name.end)
}

/// Functions of CockroachDB's own.
fn internal(
    statement: &Statement<'_>,
    name: &Dotted,
    function: &str,
    context: &Context<'_>,
    edits: &mut Edits<'_, '_>,
) -> Result<usize, SqlError> {
    let end = statement.past_closing(name.end);
    match function {
        "cluster_id" => {
            let text = format!("(SELECT {}::uuid AS \"crdb_internal.cluster_id\")", literal(context.cluster_id));
            edits.replace(name.start..end, text);
            Ok(end)
        }
        "node_id" => {
            edits.replace(name.start..end, "(SELECT 1::int8 AS \"crdb_internal.node_id\")");
            Ok(end)
        }
        "force_error" => {
            edits.replace(name.start..name.end, "standin_catalog.fail");
            Ok(name.end)
        }
        "force_retry" => {
            edits.replace(name.start..name.end, "standin_catalog.force_retry");
            Ok(name.end)
        }
        other => Err(no_function(&format!("crdb_internal.{other}"))),
    }
}

fn refuse_columns(statement: &Statement<'_>, name: &Dotted) -> Result<(), SqlError> {
    let last = name.end - 1;
    if statement.kind(last) != Some(Kind::Word) {
        return Ok(());
    }
    let column = name.parts.last().map_or("", String::as_str);
    if allow::NO_COLUMNS.contains(&column) {
        return Err(no_column(&name.parts.join(".")));
    }
    if column == "grouping" && statement.is(last + 1, "sets") {
        return Err(syntax(statement, last));
    }
    Ok(())
}

fn relation(name: &Dotted, context: &Context<'_>, edits: &mut Edits<'_, '_>) -> Result<(), SqlError> {
    let parts: Vec<&str> = name.parts.iter().map(String::as_str).collect();
    let parts = match parts.as_slice() {
        [first, rest @ ..] if *first == context.database && rest.len() == 2 => rest,
        all => all,
    };
    let shortened = parts.len() < name.parts.len();
    match parts {
        ["standin" | "standin_catalog" | "standin_information", ..] => return Err(no_relation(&name.parts.join("."))),
        ["information_schema", table] => {
            if !allow::INFORMATION.contains(table) {
                return Err(no_relation(&format!("information_schema.{table}")));
            }
            edits.replace(name.start..name.end, format!("standin_information.{table}"));
        }
        ["crdb_internal" | "system", table] => return Err(no_relation(&format!("{}.{table}", parts[0]))),
        ["pg_catalog", table] | [table] if context.builtins.relations.contains(*table) => {
            if !allow::CATALOG.contains(table) && !allow::EMPTY.contains(table) {
                return Err(no_relation(table));
            }
            edits.replace(name.start..name.end, format!("standin_catalog.{table}"));
        }
        // The name of a catalog table in front of a column stays: it names the view of the same name.
        [_, _] if shortened => edits.replace(name.start..name.end, name.local(context.database)),
        _ => {}
    }
    Ok(())
}
