//! Statements that are made for a table, whatever its columns are.
//!
//! They name their inputs `v.k0`, `v.k1` (the key) and `v.c0`, `v.c1` (the columns), their parts `done0`, `done1`, and
//! the row they are about `t`. How many of each there are, and of what types, says something about the table only.

use std::collections::BTreeSet;

use super::NAME;
use super::collapse::{DOTS, collapse, is_keyword};

/// Returns whether the words end with a value or an input: its cast says the type of a column of a table.
pub fn is_input(words: &[String]) -> bool {
    match words {
        [.., last] if last == "$" || last == "?" => true,
        [.., row, dot, name] => row == "v" && dot == "." && (name == "k#" || name == "c#"),
        _ => false,
    }
}

/// Makes lists of inputs and conditions look alike however long they are.
pub fn generalise(words: &[String]) -> Vec<String> {
    collapse(&dots(&in_order(words)))
}

/// Puts the dots of a list behind a single input too.
fn dots(words: &[String]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let next = words.get(index + 1).map_or("", String::as_str);
        let listed = (word == "k#" || word == "c#")
            && out.last().is_some_and(|before| before == "(" || before == ",")
            && matches!(next, "," | ")");
        out.push(word.clone());
        if (listed || ends_with_cast_input(&out)) && next != DOTS {
            out.push(DOTS.to_owned());
        }
    }
    out
}

/// `v.c#::_`
fn ends_with_cast_input(words: &[String]) -> bool {
    let Some(rest) = words.strip_suffix(&["::".to_owned(), "_".to_owned()]) else { return false };
    rest.last().is_some_and(|last| last != "$" && last != "?") && is_input(rest)
}

/// Conditions on columns of `t` that are joined by AND are put in order, and each is there once.
fn in_order(words: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    let mut index = 0;
    while index < words.len() {
        let (conditions, end) = conditions(words, index);
        if conditions.is_empty() {
            out.push(words[index].clone());
            index += 1;
            continue;
        }
        for (place, condition) in conditions.into_iter().enumerate() {
            if place > 0 {
                out.push("and".to_owned());
            }
            out.extend(condition);
            out.push(DOTS.to_owned());
        }
        index = end;
    }
    out
}

/// Returns the conditions that begin here, without dots, and where they end.
fn conditions(words: &[String], start: usize) -> (BTreeSet<Vec<String>>, usize) {
    let mut found = BTreeSet::new();
    let mut end = start;
    while let Some(after) = condition(words, if found.is_empty() { end } else { end + 1 }) {
        let from = if found.is_empty() { end } else { end + 1 };
        let condition = words[from..after].iter().filter(|word| *word != DOTS).cloned().collect();
        found.insert(condition);
        end = after;
        if words.get(end).is_none_or(|word| word != "and") {
            break;
        }
    }
    (found, end)
}

/// Returns where the condition on a column of `t` that begins here ends.
fn condition(words: &[String], start: usize) -> Option<usize> {
    let begins = [words.get(start)?, words.get(start + 1)?, words.get(start + 2)?];
    if begins != ["t", ".", NAME] || start == 0 || !matches!(words[start - 1].as_str(), "where" | "and" | "(") {
        return None;
    }
    let over = |word: &String| matches!(word.as_str(), ")" | "," | "null") || is_keyword(word) && word != "is";
    let length = words[start..].iter().position(over).unwrap_or(words.len() - start);
    let end = start + length;
    // NULL is the last word of its condition.
    let end = if words.get(end).is_some_and(|word| word == "null") { end + 1 } else { end };
    Some(if words.get(end).is_some_and(|word| word == DOTS) { end + 1 } else { end })
}

#[cfg(test)]
mod tests {
    use super::super::shape_of;

    #[test]
    fn the_columns_of_a_table_are_no_part_of_a_shape() {
        let update = |set: &str, names: &str, key: &str| {
            shape_of(&format!(
                "WITH done AS (UPDATE \"t\" AS t SET {set} FROM unnest($1::STRING[]) AS v({names}) WHERE {key} RETURNING 1)
                 SELECT 1 FROM done"
            ))
        };
        let one = update("\"a\" = v.c1::INT8", "k0, c1", "t.\"id\" = v.k0::INT8");
        let many = update(
            "\"a\" = v.c1::INT8[], \"b\" = v.c2::\"s\".\"mood\"",
            "k0, k1, c1, c2",
            "t.\"id\" = v.k0::INT8 AND t.\"x\" = v.k1::STRING",
        );
        assert_eq!(one, many);
        assert_eq!(
            one,
            "with done as (update \"_\" as t set \"_\" = v.c#::_... from unnest($::_[]...) as v(k#..., c#...) \
             where t.\"_\" = v.k#::_... returning ?) select ? from done"
        );
        let insert = |columns: &str| shape_of(&format!("INSERT INTO \"t\" (\"a\") SELECT {columns} FROM u AS v(c0)"));
        assert_eq!(insert("v.c0::INT8"), insert("v.c0::STRING, v.c1::JSONB, v.c2::BYTES"));
    }

    #[test]
    fn conditions_on_a_row_are_a_set() {
        let find = |conditions: &str| shape_of(&format!("SELECT t.\"id\" FROM \"t\" AS t WHERE {conditions} LIMIT 1"));
        let one = find("t.\"a\" = $1::STRING::INT8 AND t.\"b\" IS NULL");
        assert_eq!(one, "select t.\"_\" from \"_\" as t where t.\"_\" = $::_... and t.\"_\" is null... limit ?");
        assert_eq!(one, find("t.\"a\" IS NULL AND t.\"b\" = $1::STRING::BOOL AND t.\"c\" IS NULL"));
        assert_ne!(one, find("t.\"a\" IS NULL"));
        assert_eq!(find("t.\"a\" IS NULL"), find("t.\"a\" IS NULL AND t.\"b\" IS NULL"));
    }

    #[test]
    fn the_columns_of_a_key_are_no_part_of_a_shape() {
        let after = |key: &str, values: &str| shape_of(&format!("DELETE FROM \"t\" WHERE ({key}) > ({values})"));
        let one = after("\"a\"", "'5'::INT8");
        assert_eq!(one, "delete from \"_\" where (\"_\"...) > (?::_...)");
        assert_eq!(one, after("\"a\", \"b\"", "'5'::INT8, 'x'::STRING"));
    }

    #[test]
    fn parts_are_as_many_as_there_are_tables() {
        let delete = |place: u32| {
            format!(
                "done{place} AS (DELETE FROM \"a\" AS t USING unnest($1::STRING[]) AS v(k0)
                 WHERE t.\"i\" = v.k0::INT8 RETURNING 1)"
            )
        };
        let (two, three) = (
            format!("WITH {}, {} SELECT 1", delete(0), delete(1)),
            format!("WITH {}, {}, {} SELECT 1", delete(0), delete(1), delete(2)),
        );
        assert_eq!(shape_of(&two), shape_of(&three));
    }
}
