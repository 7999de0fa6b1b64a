//! SELECT, INSERT, UPSERT, UPDATE, DELETE, and everything else that is not about schemas or settings.

use super::edits::Edits;
use super::lexer::{Kind, Statement};
use super::names::quoted;
use super::needs::{MVCC_COLUMN, as_of, target, user_table};
use super::queries::{self, Item, Query};
use super::refusal::{no_relation, syntax};
use super::{Context, Known, Rewritten, TableInfo, words};
use crate::error::SqlError;

pub fn rewrite(statement: &Statement<'_>, context: &Context<'_>, known: &Known) -> Result<Rewritten, SqlError> {
    refuse(statement)?;
    let mut rewritten = Rewritten::plain(super::whole(statement).to_owned());
    let mut edits = Edits::of(statement);
    let past = as_of(statement)?;
    if let Some(clause) = &past {
        edits.remove(clause.start..clause.end);
    }
    insertion(statement, context, known, &mut edits)?;
    let (queries, parts) = queries::queries(statement);
    for query in &queries {
        stars(query, context, known, &mut edits);
        for item in &query.items {
            let Some(name) = &item.name else { continue };
            let Some(table) = user_table(name, context) else { continue };
            if table.schema.is_none() && parts.contains(&table.table) {
                continue;
            }
            if let Some(source) = known.sources.get(&table) {
                let alias = if item.alias.is_none() { format!(" AS {}", quoted(&table.table)) } else { String::new() };
                edits.replace(name.start..name.end, format!("{source}{alias}"));
            } else if name.parts.len() > 1 {
                edits.replace(name.start..name.end, table.sql());
            }
        }
    }
    show_sources(statement, context, known, &mut edits)?;
    words::rewrite(statement, context, &mut edits)?;
    rewritten.sql = edits.all();
    rewritten.past = context.as_of.is_some() || past.is_some();
    if rewritten.past && !statement.is_any(0, &["select", "with", "values", "table", "explain"]) {
        let verb = statement.text(0).to_uppercase();
        return Err(SqlError::new("25006", format!("cannot execute {verb} in a read-only transaction")));
    }
    let stars = queries.iter().any(|query| !query.stars.is_empty());
    rewritten.of_moment = stars || rewritten.past || target(statement).is_some() || !known.sources.is_empty();
    Ok(rewritten)
}

fn refuse(statement: &Statement<'_>) -> Result<(), SqlError> {
    for index in 0..statement.len() {
        if statement.is(index, "overriding") && statement.is_any(index + 1, &["system", "user"]) {
            return Err(syntax(statement, index));
        }
        if statement.is(index, MVCC_COLUMN) && statement.is(0, "update") && statement.is(index - 1, "set") {
            let text = format!("cannot write directly to system column {MVCC_COLUMN:?}");
            return Err(SqlError::new("42501", text));
        }
    }
    // CockroachDB has no empty list of columns.
    if statement.is(0, "select") && statement.is_any(1, &["from", "where"]) {
        return Err(syntax(statement, 1));
    }
    Ok(())
}

/// Puts the visible columns in place of `*`, where a table has others too.
fn stars(query: &Query, context: &Context<'_>, known: &Known, edits: &mut Edits<'_, '_>) {
    let info = |item: &Item| {
        let name = item.name.as_ref()?;
        known.tables.get(&user_table(name, context)?)
    };
    if !query.items.iter().any(|item| info(item).is_some_and(TableInfo::has_hidden)) {
        return;
    }
    let label = |item: &Item| {
        let name = item.name.as_ref().and_then(|name| name.parts.last().cloned());
        item.alias.clone().or(name)
    };
    for star in &query.stars {
        let mut lists = Vec::new();
        for item in &query.items {
            let Some(label) = label(item) else { return };
            if star.qualifier.as_ref().is_some_and(|wanted| *wanted != label) {
                continue;
            }
            lists.push(match info(item) {
                Some(info) if info.has_hidden() => visible_list(info, &label),
                _ => format!("{}.*", quoted(&label)),
            });
        }
        if query.items.iter().any(|item| item.merged) && star.qualifier.is_none() {
            continue;
        }
        if !lists.is_empty() {
            edits.replace(star.at.clone(), lists.join(", "));
        }
    }
}

fn visible_list(info: &TableInfo, label: &str) -> String {
    let columns = info.visible().map(|column| format!("{}.{}", quoted(label), quoted(&column.name)));
    columns.collect::<Vec<_>>().join(", ")
}

/// INSERT INTO and UPSERT INTO, wherever in the statement.
fn insertion(
    statement: &Statement<'_>,
    context: &Context<'_>,
    known: &Known,
    edits: &mut Edits<'_, '_>,
) -> Result<(), SqlError> {
    let starts = |index: usize| statement.is_any(index, &["insert", "upsert"]) && statement.is(index + 1, "into");
    let Some(start) = (0..statement.len()).find(|index| starts(*index)) else {
        return returning(statement, known, context, edits);
    };
    let upsert = statement.is(start, "upsert");
    let Some(name) = target(statement) else { return Err(syntax(statement, start + 2)) };
    let Some(table) = user_table(&name, context) else { return Err(no_relation(&name.parts.join("."))) };
    if name.parts.len() > 1 {
        edits.replace(name.start..name.end, table.sql());
    }
    let end = level_end(statement, start);
    let Some(info) = known.tables.get(&table) else {
        // The backing server says which table is missing.
        if upsert {
            edits.replace(start..start + 1, "INSERT");
        }
        return Ok(());
    };
    let mut at = name.end;
    if statement.sign(at, "@") {
        at = queries::past_hint(statement, at);
    }
    if statement.is(at, "as") {
        at += 2;
    }
    let columns = if statement.sign(at, "(") && !statement.is_any(at + 1, &["select", "with", "values"]) {
        let past = statement.past_closing(at);
        let listed: Vec<String> = (at + 1..past - 1).filter_map(|index| statement.name(index)).collect();
        at = past;
        listed
    } else {
        let all = implicit_columns(statement, at, info);
        if info.has_hidden() && !statement.is(at, "default") {
            let list: Vec<String> = all.iter().map(|column| quoted(column)).collect();
            edits.insert(at, &format!("({}) ", list.join(", ")));
        }
        // What is not given takes its default, on conflict too.
        info.visible().filter(|column| !column.generated).map(|column| column.name.clone()).collect()
    };
    let returns = (at..end).find(|index| statement.is(*index, "returning") && at_level(statement, start, *index));
    if upsert {
        edits.replace(start..start + 1, "INSERT");
        let clause = on_conflict(info, &columns);
        edits.insert(returns.unwrap_or(end), &format!(" {clause} "));
        if end < statement.len() && returns.is_none() {
            return returning_star(statement, returns, info, edits);
        }
    }
    returning_star(statement, returns, info, edits)
}

/// Returns the columns that a list without names fills: as many as there are values.
fn implicit_columns(statement: &Statement<'_>, at: usize, info: &TableInfo) -> Vec<String> {
    let all = info.visible().filter(|column| !column.generated).map(|column| column.name.clone());
    let given = if statement.is(at, "values") && statement.sign(at + 1, "(") {
        let past = statement.past_closing(at + 1);
        let mut index = at + 2;
        let mut count = 1;
        while index + 1 < past {
            match statement.kind(index) {
                Some(Kind::Sign) if statement.sign(index, "(") || statement.sign(index, "[") => {
                    index = statement.past_closing(index);
                    continue;
                }
                Some(Kind::Sign) if statement.sign(index, ",") => count += 1,
                _ => {}
            }
            index += 1;
        }
        count
    } else {
        usize::MAX
    };
    all.take(given).collect()
}

fn on_conflict(info: &TableInfo, columns: &[String]) -> String {
    let key: Vec<String> = info.key.iter().map(|(_, column)| quoted(column)).collect();
    if key.is_empty() {
        return String::new();
    }
    let in_key = |column: &String| info.key.iter().any(|(_, name)| name == column);
    let mut set: Vec<&String> = columns.iter().filter(|column| !in_key(column)).collect();
    // A row that has nothing but its key is written all the same, so that it counts.
    if set.is_empty() {
        set.extend(info.key.iter().map(|(_, column)| column).take(1));
    }
    let set: Vec<String> = set.iter().map(|column| format!("{0} = excluded.{0}", quoted(column))).collect();
    format!("ON CONFLICT ({}) DO UPDATE SET {}", key.join(", "), set.join(", "))
}

/// RETURNING * of an UPDATE or DELETE.
fn returning(
    statement: &Statement<'_>,
    known: &Known,
    context: &Context<'_>,
    edits: &mut Edits<'_, '_>,
) -> Result<(), SqlError> {
    let returns = (0..statement.len()).find(|index| statement.is(*index, "returning"));
    let info = target(statement).and_then(|name| user_table(&name, context)).and_then(|name| known.tables.get(&name));
    match info {
        Some(info) => returning_star(statement, returns, info, edits),
        None => Ok(()),
    }
}

fn returning_star(
    statement: &Statement<'_>,
    returns: Option<usize>,
    info: &TableInfo,
    edits: &mut Edits<'_, '_>,
) -> Result<(), SqlError> {
    if let Some(returns) = returns.filter(|returns| statement.sign(returns + 1, "*") && info.has_hidden()) {
        let columns: Vec<String> = info.visible().map(|column| quoted(&column.name)).collect();
        edits.replace(returns + 1..returns + 2, columns.join(", "));
    }
    Ok(())
}

/// Returns the end of the part of a statement that begins at a token: the closing parenthesis around it, or the end.
fn level_end(statement: &Statement<'_>, start: usize) -> usize {
    let mut index = start;
    while index < statement.len() {
        if statement.sign(index, "(") || statement.sign(index, "[") {
            index = statement.past_closing(index);
        } else if statement.sign(index, ")") {
            return index;
        } else {
            index += 1;
        }
    }
    statement.len()
}

fn at_level(statement: &Statement<'_>, start: usize, wanted: usize) -> bool {
    let mut index = start;
    while index < wanted {
        index = if statement.sign(index, "(") { statement.past_closing(index) } else { index + 1 };
    }
    index == wanted
}

/// `[SHOW ...]` in place of a table, and SHOW as a part of WITH.
fn show_sources(
    statement: &Statement<'_>,
    context: &Context<'_>,
    known: &Known,
    edits: &mut Edits<'_, '_>,
) -> Result<(), SqlError> {
    for index in 0..statement.len() {
        let bracket = statement.sign(index, "[") && statement.is(index + 1, "show");
        let part = statement.sign(index, "(") && statement.is(index + 1, "show");
        if !bracket && !part {
            continue;
        }
        let past = statement.past_closing(index);
        let inner = Statement { source: statement.source, tokens: statement.tokens[index + 1..past - 1].to_vec() };
        let Some(shown) = super::show::rewrite(&inner, context, known)? else {
            return Err(syntax(statement, index + 1));
        };
        let alias = bracket && !statement.is(past, "as") && !super::names::is_name(statement, past);
        let alias = if alias { " AS \"show\"" } else { "" };
        edits.replace(index..past, format!("({}){alias}", shown.sql));
    }
    Ok(())
}
