//! CREATE TABLE, and definitions of columns.

use std::ops::Range;

use super::column::{column, key_columns};
use super::edits::Edits;
use super::lexer::Statement;
use super::names::{Dotted, literal, quoted};
use super::refusal::syntax;
use super::{Context, ddl, words};
use crate::error::SqlError;

/// The column that is the key of a table without one.
const ROWID: &str = "rowid";

/// Rewrites CREATE TABLE into the statements that make the table, one after the other.
pub fn create(statement: &Statement<'_>, context: &Context<'_>) -> Result<Option<Vec<String>>, SqlError> {
    let table = 1 + usize::from(statement.is(1, "unlogged"));
    if !statement.is(0, "create") || !statement.is(table, "table") {
        return Ok(None);
    }
    let exists = statement.words(table + 1, &["if", "not", "exists"]);
    let at = table + 1 + 3 * usize::from(exists);
    let name = Dotted::at(statement, at).ok_or_else(|| syntax(statement, at))?;
    let local = name.local(context.database);
    let definition = statement.sign(name.end, "(") && !statement.is_any(name.end + 1, &["select", "with", "values"]);
    let open = name.end;
    let past = if definition { statement.past_closing(open) } else { open };
    if (open..statement.len()).any(|index| statement.is(index, "as") && index >= past) {
        return as_query(statement, &name, exists, past, context).map(Some);
    }
    if !definition {
        return Err(syntax(statement, open));
    }
    let mut made = Made::default();
    let mut edits = Edits::of(statement);
    for item in items(statement, open + 1..past - 1) {
        made.item(statement, item, &name, context, &mut edits)?;
    }
    let title = if exists { "CREATE TABLE IF NOT EXISTS" } else { "CREATE TABLE" };
    words::rewrite(statement, context, &mut edits)?;
    let mut lines: Vec<String> = made.kept.iter().map(|item| edits.text(item.clone())).collect();
    lines.append(&mut made.added);
    let plain_name = name.parts.last().cloned().unwrap_or_default();
    if !made.has_key {
        let rowid = made.free_name();
        lines.push(format!("{} INT8 NOT NULL DEFAULT standin_catalog.unique_rowid()", quoted(&rowid)));
        lines.push(format!("CONSTRAINT {} PRIMARY KEY ({})", quoted(&format!("{plain_name}_pkey")), quoted(&rowid)));
        made.marks.push((rowid, "standin: hidden"));
    }
    let mut steps = vec![format!("{title} {local} ({})", lines.join(", "))];
    steps.append(&mut made.after);
    let mark =
        |(column, mark): &(String, &str)| format!("COMMENT ON COLUMN {local}.{} IS {}", quoted(column), literal(mark));
    steps.extend(made.marks.iter().map(mark));
    steps.append(&mut made.family_steps(&local));
    options(statement, past, &local, &mut steps)?;
    Ok(Some(steps))
}

/// What stands behind the parentheses.
fn options(statement: &Statement<'_>, mut at: usize, table: &str, steps: &mut Vec<String>) -> Result<(), SqlError> {
    while at < statement.len() {
        if statement.is(at, "with") && statement.sign(at + 1, "(") {
            let past = statement.past_closing(at + 1);
            for index in at + 1..past {
                let on = !(statement.sign(index + 1, "=") && statement.is_any(index + 2, &["false", "off"]));
                if statement.is(index, "schema_locked") && on {
                    steps.push(ddl::lock_sql(table, true));
                }
            }
            at = past;
        } else if statement.is(at, "locality") {
            at = statement.len();
        } else if statement.words(at, &["partition", "by"]) {
            // PostgreSQL's form has no list of partitions behind it.
            let open = (at..statement.len()).find(|index| statement.sign(*index, "("));
            let past = open.map_or(statement.len(), |open| statement.past_closing(open));
            if !statement.sign(past, "(") {
                return Err(syntax(statement, past));
            }
            at = statement.past_closing(past);
        } else {
            return Err(syntax(statement, at));
        }
    }
    Ok(())
}

fn as_query(
    statement: &Statement<'_>,
    name: &Dotted,
    exists: bool,
    past: usize,
    context: &Context<'_>,
) -> Result<Vec<String>, SqlError> {
    let mut edits = Edits::of(statement);
    edits.replace(name.start..name.end, name.local(context.database));
    words::rewrite(statement, context, &mut edits)?;
    let local = name.local(context.database);
    let has_key = (name.end..past).any(|index| statement.words(index, &["primary", "key"]));
    let mut steps = vec![edits.all()];
    if !has_key && !exists {
        steps.push(format!(
            "ALTER TABLE {local} ADD COLUMN {ROWID} INT8 NOT NULL DEFAULT standin_catalog.unique_rowid() PRIMARY KEY"
        ));
        steps.push(format!("COMMENT ON COLUMN {local}.{ROWID} IS 'standin: hidden'"));
    }
    Ok(steps)
}

/// The parts of a table in the making.
#[derive(Debug, Default)]
struct Made {
    /// Definitions that stay, with what is changed in them.
    kept: Vec<Range<usize>>,
    added: Vec<String>,
    /// Statements to follow, such as those that make indexes.
    after: Vec<String>,
    /// Comments on columns, by which they are known for hidden or virtual.
    marks: Vec<(String, &'static str)>,
    columns: Vec<String>,
    /// Column families: names and columns.
    families: Vec<(String, Vec<String>)>,
    has_key: bool,
}

impl Made {
    fn free_name(&self) -> String {
        let names = std::iter::once(ROWID.to_owned()).chain((1..).map(|number| format!("{ROWID}_{number}")));
        names.into_iter().find(|name| !self.columns.contains(name)).expect("there are endless names")
    }

    fn item(
        &mut self,
        statement: &Statement<'_>,
        item: Range<usize>,
        table: &Dotted,
        context: &Context<'_>,
        edits: &mut Edits<'_, '_>,
    ) -> Result<(), SqlError> {
        let at = item.start;
        let named = 2 * usize::from(statement.is(at, "constraint"));
        if statement.is(at, "family") && !statement.sign(at + 1, ",") {
            self.family(statement, item);
            return Ok(());
        }
        if statement.is_any(at, &["index", "inverted"]) || statement.words(at, &["unique", "index"]) {
            return self.index(statement, item, table, context);
        }
        if statement.words(at + named, &["primary", "key"]) {
            self.has_key = true;
            let open = at + named + 2;
            ddl::index_words(statement, item.clone(), edits)?;
            key_columns(statement, open, edits);
            self.kept.push(item.clone());
            return self.hash_sharded(statement, open, item.end, edits);
        }
        if statement.is_any(at + named, &["unique", "check", "foreign", "exclude"]) {
            ddl::index_words(statement, item.clone(), edits)?;
            if statement.is(at + named, "unique") {
                key_columns(statement, at + named + 1, edits);
            }
            self.kept.push(item);
            return Ok(());
        }
        if statement.is(at, "like") {
            self.kept.push(item);
            return Ok(());
        }
        let found = column(statement, item.clone(), edits)?;
        self.has_key |= found.is_key;
        match (found.hidden, found.computed) {
            (true, true) => self.marks.push((found.name.clone(), "standin: hidden virtual")),
            (true, false) => self.marks.push((found.name.clone(), "standin: hidden")),
            (false, true) => self.marks.push((found.name.clone(), "standin: virtual")),
            (false, false) => {}
        }
        self.columns.push(found.name);
        self.kept.push(item);
        Ok(())
    }

    fn family(&mut self, statement: &Statement<'_>, item: Range<usize>) {
        let named = !statement.sign(item.start + 1, "(");
        let name = statement.name(item.start + 1).filter(|_| named);
        let name = name.unwrap_or_else(|| format!("fam_{}", self.families.len()));
        let open = item.start + 1 + usize::from(named);
        let columns = (open + 1..item.end).filter_map(|index| statement.name(index)).collect();
        self.families.push((name, columns));
    }

    /// Columns that are in no family are in the first one. One family alone is as none.
    fn family_steps(&mut self, table: &str) -> Vec<String> {
        if self.families.len() < 2 {
            return Vec::new();
        }
        let placed: Vec<String> = self.families.iter().flat_map(|(_, columns)| columns.clone()).collect();
        let left = self.columns.iter().filter(|column| !placed.contains(column)).cloned();
        self.families[0].1.extend(left);
        let step = |(index, (name, columns)): (usize, &(String, Vec<String>))| {
            let columns: Vec<String> = columns.iter().map(|column| literal(column)).collect();
            format!(
                "SELECT standin_catalog.add_family({}::regclass, {index}, {}, ARRAY[{}]::text[])",
                literal(table),
                literal(name),
                columns.join(", ")
            )
        };
        self.families.iter().enumerate().map(step).collect()
    }

    /// An index inside the parentheses: a constraint if it is unique, otherwise a statement of its own.
    fn index(
        &mut self,
        statement: &Statement<'_>,
        item: Range<usize>,
        table: &Dotted,
        context: &Context<'_>,
    ) -> Result<(), SqlError> {
        let unique = statement.is(item.start, "unique");
        let inverted = statement.is(item.start, "inverted");
        let at = item.start + 1 + usize::from(unique || inverted);
        let name = statement.name(at).filter(|_| !statement.sign(at, "("));
        let open = at + usize::from(name.is_some());
        let mut edits = Edits::of(statement);
        ddl::index_words(statement, item.clone(), &mut edits)?;
        words::rewrite(statement, context, &mut edits)?;
        let name = name.map_or(String::new(), |name| quoted(&name));
        let body = edits.text(open..item.end);
        let unique = if unique { "UNIQUE " } else { "" };
        let using = if inverted { "USING gin " } else { "" };
        let table = table.local(context.database);
        self.after.push(format!("CREATE {unique}INDEX {name} ON {table} {using}{body}"));
        Ok(())
    }

    /// PRIMARY KEY (...) USING HASH: the shard comes first in the key.
    fn hash_sharded(
        &mut self,
        statement: &Statement<'_>,
        open: usize,
        end: usize,
        edits: &mut Edits<'_, '_>,
    ) -> Result<(), SqlError> {
        if !(open..end).any(|index| statement.words(index, &["using", "hash"])) {
            return Ok(());
        }
        let count = (open..end).find(|index| statement.is(*index, "bucket_count"));
        let count = count.map_or("16", |at| statement.text(at + 2)).to_owned();
        let past = statement.past_closing(open);
        let columns: Vec<String> = (open + 1..past - 1).filter_map(|index| statement.name(index)).collect();
        let columns: Vec<String> = columns.into_iter().filter(|name| name != "asc" && name != "desc").collect();
        let shard = format!("crdb_internal_{}_shard_{count}", columns.join("_"));
        let text =
            columns.iter().map(|column| format!("{}::text", quoted(column))).collect::<Vec<_>>().join(" || '/' || ");
        self.added.push(format!(
            "{} INT8 NOT NULL GENERATED ALWAYS AS (standin_catalog.fnv32({text}) % {count}) STORED",
            quoted(&shard)
        ));
        let mut key = vec![quoted(&shard)];
        key.extend(columns.iter().map(|column| quoted(column)));
        edits.replace(open..past, format!("({})", key.join(", ")));
        self.marks.push((shard, "standin: hidden virtual"));
        Ok(())
    }
}

/// Splits what stands between the parentheses at its commas.
fn items(statement: &Statement<'_>, tokens: Range<usize>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = tokens.start;
    while start < tokens.end {
        let end = item_end(statement, start, tokens.end);
        found.push(start..end);
        start = end + 1;
    }
    found
}

/// Returns where the item ends that begins at a token: at a comma outside parentheses.
pub fn item_end(statement: &Statement<'_>, start: usize, limit: usize) -> usize {
    let mut at = start;
    while at < limit {
        if statement.sign(at, ",") {
            return at;
        }
        at = if statement.sign(at, "(") || statement.sign(at, "[") { statement.past_closing(at) } else { at + 1 };
    }
    limit
}
