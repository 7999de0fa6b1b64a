//! The queries inside a statement: their lists of columns, and the tables they read.

use std::collections::BTreeSet;
use std::ops::Range;

use super::lexer::Statement;
use super::names::{Dotted, is_name};

/// One SELECT with its FROM.
#[derive(Debug, Default)]
pub struct Query {
    pub stars: Vec<Star>,
    pub items: Vec<Item>,
}

/// `*` or `t.*` in a list of columns.
#[derive(Debug)]
pub struct Star {
    pub at: Range<usize>,
    pub qualifier: Option<String>,
}

/// What stands in a FROM.
#[derive(Debug)]
pub struct Item {
    /// The table's name, unless it is a subquery or a function.
    pub name: Option<Dotted>,
    pub alias: Option<String>,
    /// Its columns are not all of it: NATURAL or USING puts them together with others.
    pub merged: bool,
}

/// Words that end a FROM.
const ENDS: [&str; 15] = [
    "where",
    "group",
    "order",
    "having",
    "limit",
    "offset",
    "fetch",
    "union",
    "intersect",
    "except",
    "window",
    "set",
    "returning",
    "for",
    "values",
];
/// Functions whose arguments have a FROM among them.
const FROM_FUNCTIONS: [&str; 5] = ["extract", "substring", "trim", "overlay", "position"];

/// Finds all queries of a statement, and the names of its WITH parts.
pub fn queries(statement: &Statement<'_>) -> (Vec<Query>, BTreeSet<String>) {
    let mut found = Vec::new();
    scan(statement, 0..statement.len(), false, &mut found);
    (found, parts(statement))
}

/// Returns the names that WITH gives.
fn parts(statement: &Statement<'_>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for index in 0..statement.len() {
        if !(index > 0 && (statement.is_any(index - 1, &["with", "recursive"]) || statement.sign(index - 1, ","))) {
            continue;
        }
        let Some(name) = statement.name(index) else { continue };
        let mut next = index + 1;
        if statement.sign(next, "(") {
            next = statement.past_closing(next);
        }
        if !statement.is(next, "as") {
            continue;
        }
        next += 1;
        next += usize::from(statement.is(next, "not"));
        next += usize::from(statement.is(next, "materialized"));
        if statement.sign(next, "(") {
            names.insert(name);
        }
    }
    names
}

fn scan(statement: &Statement<'_>, tokens: Range<usize>, joined: bool, found: &mut Vec<Query>) {
    let mut query: Option<Query> = joined.then(Query::default);
    let (mut in_list, mut in_from, mut expected) = (false, joined, joined);
    let mut at = tokens.start;
    while at < tokens.end {
        if statement.sign(at, "(") {
            let past = statement.past_closing(at).min(tokens.end);
            let inner = at + 1..past.saturating_sub(1).max(at + 1);
            let is_query = statement.is_any(inner.start, &["select", "with", "values", "show", "table"])
                || statement.sign(inner.start, "(");
            let of_function = at > 0 && statement.is_any(at - 1, &FROM_FUNCTIONS);
            if of_function {
                inside_function(statement, inner, found);
            } else {
                scan(statement, inner, expected && !is_query, found);
            }
            if expected {
                let (alias, end) = alias(statement, past);
                if let Some(query) = &mut query {
                    query.items.push(Item { name: None, alias, merged: false });
                }
                expected = false;
                at = end.max(past);
            } else {
                at = past;
            }
            continue;
        }
        if expected && let Some(end) = item(statement, at, &mut query) {
            at = end;
            expected = false;
            continue;
        }
        if statement.is(at, "select") {
            found.extend(query.take());
            query = Some(Query::default());
            (in_list, in_from) = (true, false);
        } else if statement.is(at, "from") && !is_comparison(statement, at) {
            query.get_or_insert_default();
            (in_list, in_from, expected) = (false, true, true);
        } else if in_from && (statement.is(at, "join") || statement.sign(at, ",")) {
            expected = true;
        } else if in_from && statement.is_any(at, &["natural", "using"]) {
            query.get_or_insert_default().items.iter_mut().for_each(|item| item.merged = true);
        } else if statement.is_any(at, &ENDS) {
            (in_list, in_from) = (false, false);
        } else if in_list
            && statement.sign(at, "*")
            && let (Some(star), Some(query)) = (star(statement, at), &mut query)
        {
            query.stars.push(star);
        }
        at += 1;
    }
    found.extend(query);
}

fn inside_function(statement: &Statement<'_>, tokens: Range<usize>, found: &mut Vec<Query>) {
    let mut at = tokens.start;
    while at < tokens.end {
        if statement.sign(at, "(") {
            let past = statement.past_closing(at).min(tokens.end);
            scan(statement, at + 1..past.saturating_sub(1).max(at + 1), false, found);
            at = past;
        } else {
            at += 1;
        }
    }
}

/// `IS DISTINCT FROM`.
fn is_comparison(statement: &Statement<'_>, at: usize) -> bool {
    at >= 2 && statement.is(at - 1, "distinct") && statement.is_any(at - 2, &["is", "not"])
}

fn item(statement: &Statement<'_>, at: usize, query: &mut Option<Query>) -> Option<usize> {
    if statement.is_any(at, &["lateral", "only"]) || !is_name(statement, at) {
        return None;
    }
    let name = Dotted::at(statement, at)?;
    let mut end = name.end;
    if statement.sign(end, "(") {
        // A function; its arguments hold no tables, unless as subqueries, which the caller looks into.
        let past = statement.past_closing(end);
        let (alias, end) = alias(statement, past);
        let alias = alias.or_else(|| name.parts.last().cloned());
        query.get_or_insert_default().items.push(Item { name: None, alias, merged: false });
        return Some(end);
    }
    if statement.sign(end, "@") {
        end = past_hint(statement, end);
    }
    let (alias, end) = alias(statement, end);
    query.get_or_insert_default().items.push(Item { name: Some(name), alias, merged: false });
    Some(end)
}

/// Returns the token behind `@index` or `@{...}`.
pub fn past_hint(statement: &Statement<'_>, at: usize) -> usize {
    if statement.sign(at + 1, "{") { statement.past_closing(at + 1) } else { at + 2 }
}

/// Reads an alias with its columns.
fn alias(statement: &Statement<'_>, at: usize) -> (Option<String>, usize) {
    if statement.words(at, &["with", "ordinality"]) {
        return alias(statement, at + 2);
    }
    let named = statement.is(at, "as") && !statement.words(at + 1, &["of", "system"]);
    let start = at + usize::from(named);
    if !named && !is_name(statement, at) {
        return (None, at);
    }
    match statement.name(start) {
        Some(name) => {
            let end = start + 1;
            let end = if statement.sign(end, "(") { statement.past_closing(end) } else { end };
            (Some(name), end)
        }
        None => (None, at),
    }
}

fn star(statement: &Statement<'_>, at: usize) -> Option<Star> {
    let before = at.checked_sub(1)?;
    if statement.sign(before, ".") {
        let name = statement.name(before.checked_sub(1)?)?;
        // A longer name is left to the backing server.
        let start = before - 1;
        return (start == 0 || !statement.sign(start - 1, "."))
            .then_some(Star { at: start..at + 1, qualifier: Some(name) });
    }
    let begins = statement.sign(before, ",") || statement.is_any(before, &["select", "distinct", "all"]);
    begins.then_some(Star { at: at..at + 1, qualifier: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::lexer::statements;

    fn tables(sql: &str) -> Vec<String> {
        let statements = statements(sql).expect("valid SQL");
        let (queries, parts) = queries(&statements[0]);
        let names = queries.iter().flat_map(|query| &query.items).filter_map(|item| item.name.as_ref());
        let mut names: Vec<String> = names.map(|name| name.parts.join(".")).filter(|n| !parts.contains(n)).collect();
        names.sort();
        names
    }

    #[test]
    fn tables_are_found_wherever_they_are_read() {
        assert_eq!(
            tables("SELECT * FROM a JOIN s.b AS x ON a.i = x.i, c WHERE i IN (SELECT i FROM d)"),
            ["a", "c", "d", "s.b"]
        );
        assert_eq!(tables("WITH w AS (SELECT 1 FROM a) SELECT extract(epoch FROM t) FROM w, unnest($1) AS u"), ["a"]);
        assert_eq!(tables("SELECT 1 FROM (a JOIN b ON true) WHERE x IS DISTINCT FROM y"), ["a", "b"]);
        assert_eq!(tables("SELECT 1 FROM t@{NO_FULL_SCAN} u AS OF SYSTEM TIME '-1s'"), ["t"]);
        assert_eq!(tables("SELECT 1 FROM t AS OF SYSTEM TIME '-1s' WHERE a"), ["t"]);
        assert_eq!(tables("SELECT a FROM x UNION ALL SELECT b FROM y ORDER BY 1"), ["x", "y"]);
    }

    #[test]
    fn stars_are_told_from_products() {
        let statements = statements("SELECT *, t.*, a * b, count(*) FROM t").expect("valid SQL");
        let (queries, _) = queries(&statements[0]);
        let stars: Vec<_> = queries[0].stars.iter().map(|star| star.qualifier.as_deref()).collect();
        assert_eq!(stars, [None, Some("t")]);
    }
}
