//! The reviewed list of what the engine may send to CockroachDB: one shape of a statement in each file.
//!
//! The stand-in refuses a shape outside the list, and writes it down beside it for review. What is tried here is the
//! list itself: that it can be read, that nothing waits to be reviewed, and that no word is in it which CockroachDB does
//! not have.

use std::collections::BTreeMap;
use std::fs;

use tidegate_testkit::REVIEWED_SQL;

/// Words that mean something to PostgreSQL and nothing, or something else, to CockroachDB.
const FOREIGN_WORDS: &[&str] = &[
    "ctid",
    "xmin",
    "only",
    "merge",
    "lock",
    "listen",
    "notify",
    "publication",
    "deferrable",
    "deferred",
    "overriding",
    "discard",
    "constraints",
    "int",
    "integer",
    "session_replication_role",
    "pg_stat_activity",
    "pg_locks",
    "pg_blocking_pids",
    "pg_terminate_backend",
    "pg_backend_pid",
    "pg_sleep",
    "pg_replication_slots",
    "pg_current_wal_lsn",
    "pg_logical_emit_message",
];
/// Beginnings of words of the same sort.
const FOREIGN_BEGINNINGS: &[&str] = &["pg_advisory", "pg_try_advisory", "pg_replication_origin", "txid_"];
/// Words that belong together.
const FOREIGN_PHRASES: &[&str] =
    &["read committed", "repeatable read", "select from", "select where", "on conflict on constraint"];

/// Returns the shapes by file.
fn shapes() -> BTreeMap<String, String> {
    let folder = fs::read_dir(REVIEWED_SQL).unwrap_or_else(|error| panic!("{REVIEWED_SQL}: {error}"));
    let mut shapes = BTreeMap::new();
    for entry in folder {
        let file = entry.unwrap().file_name().into_string().unwrap();
        if file.ends_with(".snap") {
            let text = fs::read_to_string(format!("{REVIEWED_SQL}/{file}")).unwrap();
            let shape = body(&file, &text);
            shapes.insert(file, shape);
        }
    }
    assert!(!shapes.is_empty(), "{REVIEWED_SQL} is empty");
    shapes
}

/// Returns the snapshot below what `insta` writes above it.
fn body(file: &str, text: &str) -> String {
    let rest = text.strip_prefix("---\n").unwrap_or_else(|| panic!("{file} does not begin with ---"));
    let (head, body) = rest.split_once("\n---\n").unwrap_or_else(|| panic!("{file} has no end of its head"));
    for line in ["source: tests/cockroach-sql", "expression: shape"] {
        assert!(head.lines().any(|written| written == line), "{file} has no line {line:?}");
    }
    body.trim_end_matches('\n').to_owned()
}

fn words(shape: &str) -> Vec<String> {
    let lower = shape.to_ascii_lowercase();
    // A literal's place is a word, too: `select ? from` selects something.
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '?' | '$' | '*');
    lower.split(|c| !letter(c)).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[test]
fn every_file_holds_one_shape_and_no_shape_is_there_twice() {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (file, shape) in shapes() {
        assert!(!shape.is_empty(), "{file} is empty");
        assert!(!shape.contains('\n') && shape == shape.trim(), "{file} is not one trimmed line");
        // Literals are what a shape leaves out: they are values of users.
        assert!(!shape.contains('\''), "{file} has a literal in it: {shape}");
        if let Some(other) = seen.insert(shape, file.clone()) {
            panic!("{file} and {other} hold the same shape");
        }
    }
}

#[test]
fn nothing_waits_to_be_reviewed() {
    let folder = fs::read_dir(REVIEWED_SQL).unwrap();
    let names: Vec<String> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let others: Vec<&String> = names.iter().filter(|name| !name.ends_with(".snap")).collect();
    assert!(others.is_empty(), "sent to CockroachDB and not reviewed (CONTRIBUTING.md, \"Tests\"): {others:#?}");
}

#[test]
fn no_shape_has_a_word_that_cockroach_does_not_have() {
    for (file, shape) in shapes() {
        let words = words(&shape);
        for word in &words {
            let foreign = FOREIGN_WORDS.contains(&word.as_str())
                || FOREIGN_BEGINNINGS.iter().any(|beginning| word.starts_with(beginning));
            assert!(!foreign, "{file}: {word:?} in {shape}");
        }
        let sentence = words.join(" ");
        for phrase in FOREIGN_PHRASES {
            assert!(!sentence.contains(phrase), "{file}: {phrase:?} in {shape}");
        }
    }
}
