//! Statements reduced to their shape, and the reviewed list of shapes.
//!
//! Two statements have one shape if they differ only in what they are about. Of a statement's words
//!
//! - comments go, and everything is on one line;
//! - keywords and names without quotes are in lower case, and the numbers of numbered names are left out: `c12` is `c#`;
//! - a name in quotes is `"_"`, one of several parts (`"a"."b"`) and one of `excluded` too;
//! - a constant is `?`, a parameter is `$`, and a parameter with a cast is `$::_` or `$::_[]`, whatever the type; other
//!   casts keep their type. A type left out in this way is a shape of its own, `?::int8`;
//! - elements of one shape that follow each other, with a comma or AND between them, are one and three dots: `$, $, $`
//!   is `$...`, `"a" = excluded."a", "b" = excluded."b"` is `"_" = "_"...`, rows of VALUES likewise. A name or parameter
//!   alone in parentheses, and a single assignment, get the dots too: how many columns a table has is no difference;
//! - and what a statement was made from for a table is told by [`planned`].

mod collapse;
mod planned;

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::dialect::allow;
use crate::dialect::lexer::{self, Kind, Statement};
use crate::error::SqlError;
use crate::options::ShapeList;
use collapse::{collapse, is_keyword};

/// As many words of a statement go into the name of its file.
const NAME_WORDS: usize = 4;
const EXTENSION: &str = "snap";

/// The reviewed list.
#[derive(Debug)]
pub struct Shapes {
    list: ShapeList,
    known: Mutex<BTreeSet<String>>,
    /// Texts that were looked at already.
    seen: Mutex<HashSet<u64>>,
}

/// Statements with constants in them would fill the memory of texts; it is emptied then.
const SEEN_MAX: usize = 10_000;

impl Shapes {
    pub fn new(list: ShapeList) -> Shapes {
        let known = Mutex::new(read(&list.folder));
        Shapes { list, known, seen: Mutex::default() }
    }

    /// Refuses a statement whose shape is not in the list, or adds it.
    pub fn check(&self, statement: &Statement<'_>) -> Result<(), SqlError> {
        let mut hasher = DefaultHasher::new();
        statement.span(0..statement.len()).hash(&mut hasher);
        let text = hasher.finish();
        if self.seen.lock().unwrap_or_else(PoisonError::into_inner).contains(&text) {
            return Ok(());
        }
        let Shape { text: shape, types } = shape(statement);
        self.check_shape(shape)?;
        for name in types {
            self.check_shape(format!("?::{name}"))?;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= SEEN_MAX {
            seen.clear();
        }
        seen.insert(text);
        Ok(())
    }

    fn check_shape(&self, shape: String) -> Result<(), SqlError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&shape) {
            return Ok(());
        }
        let name = file_name(&shape);
        let file = if self.list.record { format!("{name}.{EXTENSION}") } else { format!("{name}.{EXTENSION}.new") };
        let text = format!("---\nsource: tests/cockroach-sql\nexpression: shape\n---\n{shape}\n");
        let written =
            fs::create_dir_all(&self.list.folder).and_then(|()| fs::write(self.list.folder.join(&file), text));
        if let Err(error) = written {
            tracing::warn!(%error, file, "a shape was not written down");
        }
        if self.list.record {
            known.insert(shape);
            return Ok(());
        }
        // A code that nobody tries again for.
        let text = format!("the shape of this statement is not in the reviewed list ({file}): {shape}");
        Err(SqlError::new("XX000", text))
    }
}

fn read(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    let files = entries.iter().map(fs::DirEntry::path).filter(|path| path.extension().is_some_and(|e| e == EXTENSION));
    let text = |path: std::path::PathBuf| {
        let text = fs::read_to_string(path).ok()?;
        let shape = text.splitn(3, "---\n").nth(2)?;
        Some(shape.trim_end().to_owned())
    };
    files.filter_map(text).collect()
}

/// Returns the name of a shape's file: its first words and a hash that does not change from one build to the next.
fn file_name(shape: &str) -> String {
    let words = shape.split(' ').map(|word| word.chars().filter(char::is_ascii_alphanumeric).collect::<String>());
    let words: Vec<String> = words.filter(|word| !word.is_empty()).take(NAME_WORDS).collect();
    let hash = shape
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{}-{:08x}", words.join("-").to_lowercase(), hash >> 32)
}

/// Returns the shapes of the statements in a text, one in a line; of text that is no SQL, the text.
pub fn shape_of(sql: &str) -> String {
    match lexer::statements(sql) {
        Ok(statements) => statements.iter().map(|statement| shape(statement).text).collect::<Vec<_>>().join("\n"),
        Err(_) => sql.to_owned(),
    }
}

/// What is left of a statement.
struct Shape {
    text: String,
    /// The types to which inputs are cast.
    types: BTreeSet<String>,
}

fn shape(statement: &Statement<'_>) -> Shape {
    let mut types = BTreeSet::new();
    let words = planned::generalise(&collapse(&words(statement, &mut types)));
    let mut out = String::new();
    for (index, word) in words.iter().enumerate() {
        let before = index.checked_sub(1).map_or("", |index| words[index].as_str());
        let joined = out.is_empty()
            || matches!(word.as_str(), "," | ")" | "]" | "::" | "." | "..." | "[")
            || matches!(before, "(" | "[" | "::" | ".")
            || word == "(" && is_function(before);
        if !joined {
            out.push(' ');
        }
        out.push_str(word);
    }
    Shape { text: out, types }
}

fn is_function(word: &str) -> bool {
    !is_keyword(word) && word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// The words of a statement, with what it is about left out.
fn words(statement: &Statement<'_>, types: &mut BTreeSet<String>) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut index = 0;
    while index < statement.len() {
        let text = statement.text(index);
        let word = match statement.kind(index) {
            Some(Kind::Word) => unnumbered(text.to_lowercase()),
            Some(Kind::Quoted) => NAME.to_owned(),
            Some(Kind::Text | Kind::Number) => "?".to_owned(),
            Some(Kind::Parameter) => "$".to_owned(),
            _ if text == ":::" => "::".to_owned(),
            _ => text.to_owned(),
        };
        // A name of several parts is one name.
        if word == NAME && words.last().is_some_and(|last| last == ".") {
            let first = words.len().checked_sub(2).map_or("", |at| words[at].as_str());
            if first == NAME || first == "excluded" {
                words.truncate(words.len() - 2);
            }
        }
        index += 1;
        if word == "::" && planned::is_input(&words) {
            index = casts(statement, index, &mut words, types);
            continue;
        }
        words.push(word);
    }
    words
}

/// `c12` is one of many: `c#`. Types and functions with numbers in their names are not.
fn unnumbered(word: String) -> String {
    let stem = word.trim_end_matches(|c: char| c.is_ascii_digit());
    let known = ["int", "float", "serial"].contains(&stem) || allow::FUNCTIONS.contains(&word.as_str());
    if stem.len() == word.len() || known { word } else { format!("{stem}{NUMBER}") }
}

/// Stands for the number of a numbered name.
const NUMBER: char = '#';
const NAME: &str = "\"_\"";

/// Puts the casts of an input down as one, without its type; returns where they end.
fn casts(statement: &Statement<'_>, mut index: usize, words: &mut Vec<String>, types: &mut BTreeSet<String>) -> usize {
    let is_parameter = words.last().is_some_and(|last| last == "$");
    words.extend(["::".to_owned(), "_".to_owned()]);
    loop {
        let is_quoted = |index| statement.kind(index) == Some(Kind::Quoted);
        let mut name = if is_quoted(index) { NAME.to_owned() } else { statement.text(index).to_lowercase() };
        index += 1;
        while statement.sign(index, ".") {
            NAME.clone_into(&mut name);
            index += 2;
        }
        if statement.sign(index, "(") {
            index = statement.past_closing(index);
        }
        let is_array = statement.sign(index, "[") && statement.sign(index + 1, "]");
        if is_array {
            name.push_str("[]");
            index += 2;
        }
        types.insert(name);
        if !(statement.sign(index, "::") || statement.sign(index, ":::")) {
            if is_array && is_parameter {
                words.extend(["[".to_owned(), "]".to_owned()]);
            }
            return index;
        }
        index += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_statement_is_about_is_no_part_of_its_shape() {
        let one =
            shape_of("UPSERT INTO \"s\".\"t\" (\"a\", \"b\") VALUES ($1::INT8, $2::STRING), ($3::INT8, $4::STRING)");
        let other = shape_of("upsert into \"t\"(\"x\")\n values ($1::\"s\".\"mood\"), ($2::\"s\".\"mood\") -- comment");
        assert_eq!(one, "upsert into \"_\" (\"_\"...) values ($::_...)...");
        assert_eq!(one, other);
    }

    #[test]
    fn lists_are_cut_whatever_their_length() {
        let set = |columns: &[&str]| {
            let list: Vec<String> = columns.iter().map(|c| format!("\"{c}\" = excluded.\"{c}\"")).collect();
            shape_of(&format!(
                "INSERT INTO \"t\" (\"k\") SELECT 1 ON CONFLICT (\"k\") DO UPDATE SET {}",
                list.join(", ")
            ))
        };
        let wanted = "insert into \"_\" (\"_\"...) select ? on conflict (\"_\"...) do update set \"_\" = \"_\"...";
        assert_eq!(set(&["a"]), wanted);
        assert_eq!(set(&["a", "b", "c"]), wanted);
        let joined = shape_of("SELECT 1 FROM a WHERE \"a\" = $1 AND \"b\" = $2 AND \"c\" = $3 LIMIT 5");
        assert_eq!(joined, "select ? from a where \"_\" = $... limit ?");
    }

    #[test]
    fn what_differs_in_kind_differs_in_shape() {
        assert_ne!(shape_of("SELECT max(a)::INT8"), shape_of("SELECT max(a)::STRING"));
        assert_ne!(shape_of("SELECT count(*) FROM \"t\""), shape_of("SELECT max(a) FROM \"t\""));
        assert_eq!(
            shape_of("SELECT a, b, a FROM unnest($1::INT8[], $2::STRING[]) AS u(a, b)"),
            "select a, b, a from unnest($::_[]...) as u(a, b)"
        );
    }

    #[test]
    fn numbered_names_are_one_name() {
        let update = |columns: usize| {
            let set: Vec<String> = (0..columns).map(|n| format!("\"a{n}\" = v.c{n}::INT{}", 4 * (1 + n % 2))).collect();
            let keys: Vec<String> = (0..columns).map(|n| format!("t.\"k{n}\" = v.k{n}::STRING")).collect();
            let names: Vec<String> = (0..columns).map(|n| format!("k{n}")).collect();
            let (set, keys, names) = (set.join(", "), keys.join(" AND "), names.join(", "));
            shape_of(&format!(
                "UPDATE \"t\" AS t SET {set} FROM unnest($1::STRING[]) AS v({names}) WHERE {keys} RETURNING 1"
            ))
        };
        assert_eq!(
            update(3),
            "update \"_\" as t set \"_\" = v.c#::_... from unnest($::_[]...) as v(k#...) \
             where t.\"_\" = v.k#::_... returning ?"
        );
        assert_eq!(update(3), update(2));
    }

    #[test]
    fn unknown_shapes_are_refused_and_written_down() {
        let folder = tempfile::tempdir().expect("a folder");
        let list = ShapeList { folder: folder.path().to_owned(), record: false };
        let statements = lexer::statements("SELECT 1").expect("valid SQL");
        let refused = Shapes::new(list.clone()).check(&statements[0]).expect_err("not in the list");
        assert_eq!(refused.code, "XX000");
        assert!(refused.message.contains("select ?"), "{refused}");
        Shapes::new(ShapeList { record: true, ..list.clone() }).check(&statements[0]).expect("recorded");
        Shapes::new(list).check(&statements[0]).expect("in the list");
    }
}
