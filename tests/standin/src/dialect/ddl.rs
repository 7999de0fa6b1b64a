//! Changes of schemas.

use super::edits::Edits;
use super::lexer::{Kind, Statement};
use super::names::{Dotted, quoted};
use super::needs::{target, user_table};
use super::refusal::{syntax, unimplemented};
use super::{Context, Known, Rewritten, TableInfo, Tag, column, privileges, table, types, words};
use crate::error::SqlError;

/// What CREATE makes in PostgreSQL alone, with the number of the issue about it.
const NOT_CREATED: [(&str, u32); 16] = [
    ("access", 0),
    ("aggregate", 74775),
    ("cast", 0),
    ("conversion", 0),
    ("constraint", 28296),
    ("foreign", 0),
    ("server", 0),
    ("language", 17511),
    ("operator", 65017),
    ("publication", 0),
    ("subscription", 0),
    ("rule", 0),
    ("tablespace", 54113),
    ("text", 7821),
    ("recursive", 0),
    ("domain", 27796),
];

pub fn rewrite(statement: &Statement<'_>, context: &Context<'_>, known: &Known) -> Result<Rewritten, SqlError> {
    refuse(statement)?;
    let source = super::whole(statement).to_owned();
    let locked = locked_table(statement, context, known);
    if let Some(info) = locked.filter(|_| !unlocks(statement)) {
        let text = format!("schema changes are disallowed on table {:?} because it is locked", info.table);
        let hint = format!(
            "To unlock the table, try \"ALTER TABLE {} SET (schema_locked = false);\" and then retry the schema change",
            info.table
        );
        return Err(SqlError::new("57000", text).hint(hint));
    }
    if let Some(steps) = table::create(statement, context)? {
        return Ok(Rewritten { ddl: true, ..in_one(source, steps, "CREATE TABLE") });
    }
    if let Some(steps) = lock(statement, context)? {
        return Ok(Rewritten { ddl: true, ..in_one(source, steps, "ALTER TABLE") });
    }
    let mut edits = Edits::of(statement);
    let indexes = statement.is(0, "create") && (1..4).any(|index| statement.is(index, "index"));
    if indexes {
        index(statement, &mut edits)?;
    }
    if statement.words(0, &["drop", "index"]) {
        drop_index(statement, context, &mut edits);
    }
    if statement.is_any(0, &["grant", "revoke"]) {
        privileges::rewrite(statement, &mut edits)?;
    }
    if statement.words(0, &["alter", "table"]) {
        alter_table(statement, context, known, &mut edits)?;
    }
    names(statement, context, &mut edits);
    words::rewrite(statement, context, &mut edits)?;
    let tag = statement.is(0, "truncate").then(|| Tag::Fixed("TRUNCATE".to_owned()));
    Ok(Rewritten { sql: edits.all(), ddl: true, tag, ..Rewritten::plain(source) })
}

/// Makes one statement of several, which are done all or not at all.
fn in_one(source: String, steps: Vec<String>, tag: &str) -> Rewritten {
    let plain = Rewritten::plain(source);
    if let [sql] = steps.as_slice()
        && !sql.starts_with("SELECT")
    {
        return Rewritten { sql: sql.clone(), ..plain };
    }
    let steps: Vec<String> = steps.iter().map(|step| format!("EXECUTE $standin${step}$standin$;")).collect();
    let sql = format!("DO $standin_do$ BEGIN {} END $standin_do$", steps.join(" "));
    Rewritten { sql, tag: Some(Tag::Fixed(tag.to_owned())), ..plain }
}

fn refuse(statement: &Statement<'_>) -> Result<(), SqlError> {
    let second = 1 + 2 * usize::from(statement.words(1, &["or", "replace"]));
    if statement.is(0, "create") {
        if let Some((_, issue)) = NOT_CREATED.iter().find(|(word, _)| statement.is(second, word)) {
            return Err(unimplemented(statement, second, *issue));
        }
        if statement.words(1, &["event", "trigger"]) {
            return Err(syntax(statement, 1));
        }
        if statement.is(second, "trigger") {
            refuse_trigger(statement)?;
        }
    }
    if statement.is_any(0, &["drop", "alter"])
        && statement.is_any(1, &["publication", "subscription", "extension", "rule", "tablespace", "server"])
    {
        return Err(unimplemented(statement, 1, 0));
    }
    if statement.words(0, &["comment", "on", "extension"]) {
        return Err(unimplemented(statement, 2, 74777));
    }
    if statement.is(0, "truncate") && statement.is_any(statement.len() - 1, &["identity"]) {
        return Err(syntax(statement, statement.len() - 2));
    }
    for index in 1..statement.len() {
        let issue = if statement.is_any(index, &["deferrable", "initially"]) && !statement.is(index - 1, "not") {
            31632
        } else if statement.words(index, &["exclude", "using"]) {
            46657
        } else if statement.words(index, &["inherits"]) && statement.sign(index + 1, "(") {
            22456
        } else if statement.words(index, &["match", "partial"]) {
            20305
        } else if statement.words(index, &["with", "oids"]) {
            41608
        } else if statement.words(index, &["as", "range"]) && statement.is(1, "type") {
            27791
        } else if statement.is(1, "sequence") && statement.is(index, "cycle") && !statement.is(index - 1, "no") {
            20961
        } else if statement.words(index, &["alter", "constraint"]) {
            31632
        } else if statement.words(index, &["partition", "of"]) {
            return Err(syntax(statement, index));
        } else {
            continue;
        };
        return Err(unimplemented(statement, index, issue));
    }
    if statement.is_any(1, &["temp", "temporary"]) && statement.is(0, "create") {
        let text = "temporary tables are only supported experimentally";
        return Err(SqlError::new("0A000", text)
            .hint("You can enable temporary tables by running `SET experimental_enable_temp_tables = 'on'`."));
    }
    Ok(())
}

/// Triggers are for rows, and before or after.
fn refuse_trigger(statement: &Statement<'_>) -> Result<(), SqlError> {
    let words: [&[&str]; 4] = [&["or", "replace"], &["instead", "of"], &["for", "each", "statement"], &["referencing"]];
    let found = (1..statement.len()).find(|index| words.iter().any(|words| statement.words(*index, words)));
    match found {
        Some(index) => Err(unimplemented(statement, index, 126359)),
        None => Ok(()),
    }
}

fn locked_table<'k>(statement: &Statement<'_>, context: &Context<'_>, known: &'k Known) -> Option<&'k TableInfo> {
    let name = target(statement)?;
    known.tables.get(&user_table(&name, context)?).filter(|info| info.locked)
}

fn unlocks(statement: &Statement<'_>) -> bool {
    (0..statement.len()).any(|index| statement.is(index, "schema_locked"))
}

/// ALTER TABLE ... SET (schema_locked = ...).
fn lock(statement: &Statement<'_>, context: &Context<'_>) -> Result<Option<Vec<String>>, SqlError> {
    let Some(at) = (0..statement.len()).find(|index| statement.is(*index, "schema_locked")) else { return Ok(None) };
    if !statement.words(0, &["alter", "table"]) {
        return Ok(None);
    }
    let name = target(statement).ok_or_else(|| syntax(statement, 2))?;
    let reset = (0..at).any(|index| statement.is(index, "reset"));
    let unlocks = reset || statement.sign(at + 1, "=") && statement.is_any(at + 2, &["false", "off"]);
    Ok(Some(vec![lock_sql(&name.local(context.database), !unlocks)]))
}

pub fn lock_sql(table: &str, locked: bool) -> String {
    format!("SELECT standin_catalog.set_locked({}::regclass, {locked})", super::names::literal(table))
}

/// Removes this database's name from the names that a statement is about.
fn names(statement: &Statement<'_>, context: &Context<'_>, edits: &mut Edits<'_, '_>) {
    let before = ["table", "exists", "on", "references", "into", "truncate", "view", "sequence", "type", "to", "index"];
    for at in 1..statement.len() {
        if !statement.is_any(at - 1, &before) && !statement.sign(at - 1, ",") {
            continue;
        }
        let Some(name) = Dotted::at(statement, at) else { continue };
        if name.parts.len() > 1 && name.parts[0] == context.database {
            edits.replace(name.start..name.end, name.local(context.database));
        }
    }
}

fn drop_index(statement: &Statement<'_>, context: &Context<'_>, edits: &mut Edits<'_, '_>) {
    let start = 2 + 2 * usize::from(statement.words(2, &["if", "exists"]));
    let Some(name) = Dotted::at(statement, start) else { return };
    if statement.sign(name.end, "@")
        && let Some(index) = statement.name(name.end + 1)
    {
        let table = name.table(context.database);
        let schema = table.and_then(|table| table.schema).map(|schema| format!("{}.", quoted(&schema)));
        edits.replace(name.start..name.end + 2, format!("{}{}", schema.unwrap_or_default(), quoted(&index)));
    }
}

/// CREATE INDEX.
fn index(statement: &Statement<'_>, edits: &mut Edits<'_, '_>) -> Result<(), SqlError> {
    let on = (1..statement.len()).find(|index| statement.is(*index, "on")).ok_or_else(|| syntax(statement, 1))?;
    let inverted = (1..on).find(|index| statement.is(*index, "inverted"));
    if let Some(inverted) = inverted {
        edits.remove(inverted..inverted + 1);
    }
    let Some(open) = (on..statement.len()).find(|index| statement.sign(*index, "(")) else { return Ok(()) };
    let using = (on..open).find(|index| statement.is(*index, "using"));
    match using {
        Some(using) if statement.is_any(using + 1, &["hash", "spgist", "brin"]) => {
            let kind = statement.text(using + 1).to_lowercase();
            let text = format!("unimplemented: access method {kind:?} is not supported");
            return Err(SqlError::new("0A000", text));
        }
        None if inverted.is_some() => edits.insert(open, "USING gin "),
        _ => {}
    }
    index_words(statement, open..statement.len(), edits)
}

/// Words of indexes, in CREATE INDEX and in definitions of tables.
pub fn index_words(
    statement: &Statement<'_>,
    tokens: std::ops::Range<usize>,
    edits: &mut Edits<'_, '_>,
) -> Result<(), SqlError> {
    let mut direction = None;
    for at in tokens {
        if statement.is(at, "storing") || statement.is(at, "covering") {
            edits.replace(at..at + 1, "INCLUDE");
        } else if statement.words(at, &["not", "visible"]) {
            edits.remove(at..at + 2);
        } else if statement.is(at, "visible") {
            edits.remove(at..at + 1);
        } else if statement.words(at, &["using", "hash"]) && at > 0 && statement.sign(at - 1, ")") {
            edits.remove(at..at + 2);
        } else if statement.is(at, "bucket_count") && at >= 2 && statement.is(at - 2, "with") {
            edits.remove(at - 2..statement.past_closing(at - 1));
        } else if statement.is_any(at, &["asc", "desc"]) {
            direction = Some(statement.text(at).to_lowercase());
        } else if statement.words(at, &["nulls", "last"]) && direction.as_deref() != Some("desc")
            || statement.words(at, &["nulls", "first"]) && direction.as_deref() == Some("desc")
        {
            return Err(unimplemented(statement, at, 6224));
        } else if statement.sign(at, ",") {
            direction = None;
        }
    }
    Ok(())
}

fn alter_table(
    statement: &Statement<'_>,
    context: &Context<'_>,
    known: &Known,
    edits: &mut Edits<'_, '_>,
) -> Result<(), SqlError> {
    let mut at = 2;
    while at < statement.len() {
        if statement.is(at, "add") && !is_constraint(statement, at + 1) {
            let mut name = at + 1 + usize::from(statement.is(at + 1, "column"));
            if statement.words(name, &["if", "not", "exists"]) {
                name += 3;
            }
            let end = table::item_end(statement, name, statement.len());
            column::column(statement, name..end, edits)?;
        } else if statement.is(at, "type") && statement.is_any(at - 1, &["data"])
            || statement.is(at, "type") && at >= 2 && statement.is_any(at - 2, &["column", "alter"])
        {
            if let Some(found) = types::at(statement, at + 1)? {
                edits.replace(at + 1..found.end, found.sql);
            }
        } else if statement.is(at, "primary") && statement.is(at + 1, "key") && statement.sign(at + 2, "(") {
            column::key_columns(statement, at + 2, edits);
            without_rowid(statement, at, context, known, edits);
        }
        at += 1;
    }
    index_words(statement, 2..statement.len(), edits)
}

/// A primary key takes the place of the hidden one.
fn without_rowid(
    statement: &Statement<'_>,
    primary: usize,
    context: &Context<'_>,
    known: &Known,
    edits: &mut Edits<'_, '_>,
) {
    let info = target(statement).and_then(|name| user_table(&name, context)).and_then(|name| known.tables.get(&name));
    let Some(info) = info else { return };
    let hidden = |column: &&super::Column| column.hidden && info.key.iter().any(|(_, key)| *key == column.name);
    let Some(rowid) = info.columns.iter().find(hidden) else { return };
    let add = (2..primary).rev().find(|index| statement.is(*index, "add"));
    if let Some(add) = add {
        edits.insert(add, &format!("DROP COLUMN {}, ", quoted(&rowid.name)));
    }
}

fn is_constraint(statement: &Statement<'_>, at: usize) -> bool {
    statement.kind(at) == Some(Kind::Word)
        && statement.is_any(at, &["constraint", "primary", "unique", "check", "foreign", "exclude"])
}
