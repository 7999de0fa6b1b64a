//! Names of types.

use super::lexer::{Kind, Statement};
use super::refusal;
use crate::error::SqlError;

/// A type as it stands in a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    /// The type in PostgreSQL's words.
    pub sql: String,
    /// Behind its last token.
    pub end: usize,
    /// SERIAL of some kind.
    pub serial: bool,
}

/// CockroachDB's words for types that PostgreSQL calls otherwise, or means otherwise.
const WORDS: [(&str, &str); 12] = [
    ("string", "text"),
    ("bytes", "bytea"),
    ("blob", "bytea"),
    ("int", "int8"),
    ("integer", "int8"),
    ("int64", "int8"),
    ("json", "jsonb"),
    ("serial", "int8"),
    ("serial2", "int8"),
    ("serial4", "int8"),
    ("serial8", "int8"),
    ("smallserial", "int8"),
];

/// PostgreSQL's types that CockroachDB lacks, with the number of the issue about each.
const REFUSED: [(&str, u32); 26] = [
    ("money", 41578),
    ("cidr", 18846),
    ("macaddr", 45813),
    ("macaddr8", 45813),
    ("xml", 43355),
    ("point", 21286),
    ("line", 21286),
    ("lseg", 21286),
    ("box", 21286),
    ("path", 21286),
    ("polygon", 21286),
    ("circle", 21286),
    ("int4range", 27791),
    ("int8range", 27791),
    ("numrange", 27791),
    ("tsrange", 27791),
    ("tstzrange", 27791),
    ("daterange", 27791),
    ("int4multirange", 27791),
    ("int8multirange", 27791),
    ("nummultirange", 27791),
    ("tsmultirange", 27791),
    ("tstzmultirange", 27791),
    ("datemultirange", 27791),
    ("txid_snapshot", 18046),
    ("pg_snapshot", 18046),
];

/// Reads the type that begins at a token; `None` if none does.
pub fn at(statement: &Statement<'_>, start: usize) -> Result<Option<Type>, SqlError> {
    let Some(name) = statement.name(start) else { return Ok(None) };
    let bare = statement.kind(start) == Some(Kind::Word) && !statement.sign(start + 1, ".");
    if bare && let Some((_, issue)) = REFUSED.iter().find(|(word, _)| *word == name) {
        return Err(refusal::unimplemented(statement, start, *issue));
    }
    let mut end = start + 1;
    while statement.sign(end, ".") {
        end += 2;
    }
    if bare {
        end = past_words(statement, start, end);
    }
    let mut sql = statement.span(start..end).to_owned();
    let serial = bare && (name.contains("serial"));
    if bare {
        if let Some((_, word)) = WORDS.iter().find(|(word, _)| *word == name) {
            sql = (*word).to_owned();
        } else if name == "bigserial" {
            sql = "int8".to_owned();
        }
    }
    if statement.sign(end, "(") {
        let past = statement.past_closing(end);
        if sql == "text" {
            sql = "varchar".to_owned();
        }
        sql.push_str(statement.span(end..past));
        end = past;
        end = with_time_zone(statement, end, &mut sql);
    }
    end = array(statement, end, &mut sql)?;
    Ok(Some(Type { sql, end, serial }))
}

/// Some types have more than one word.
fn past_words(statement: &Statement<'_>, start: usize, end: usize) -> usize {
    if statement.is(start, "double") && statement.is(end, "precision") {
        return end + 1;
    }
    if statement.is_any(start, &["character", "char", "bit"]) && statement.is(end, "varying") {
        return end + 1;
    }
    if statement.is_any(start, &["time", "timestamp"]) && statement.words(end + 1, &["time", "zone"]) {
        return end + 3;
    }
    end
}

fn with_time_zone(statement: &Statement<'_>, end: usize, sql: &mut String) -> usize {
    if statement.is_any(end, &["with", "without"]) && statement.words(end + 1, &["time", "zone"]) {
        sql.push(' ');
        sql.push_str(statement.span(end..end + 3));
        return end + 3;
    }
    end
}

fn array(statement: &Statement<'_>, mut end: usize, sql: &mut String) -> Result<usize, SqlError> {
    if statement.is(end, "array") {
        sql.push_str("[]");
        return Ok(end + 1);
    }
    let mut dimensions = 0;
    while statement.sign(end, "[") {
        let past = statement.past_closing(end);
        // `x::INT8[][1]` does not occur: a subscript of a cast needs parentheses.
        if past > end + 3 {
            break;
        }
        dimensions += 1;
        if dimensions > 1 {
            return Err(refusal::unimplemented(statement, end, 32552));
        }
        sql.push_str("[]");
        end = past;
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::lexer::statements;

    fn sql(text: &str) -> Result<String, SqlError> {
        let statements = statements(text)?;
        let found = at(&statements[0], 0)?.expect("a type");
        assert_eq!(found.end, statements[0].len(), "{text}");
        Ok(found.sql)
    }

    #[test]
    fn words_of_cockroachdb_become_those_of_postgresql() {
        let pairs = [
            ("STRING", "text"),
            ("STRING(10)", "varchar(10)"),
            ("INT", "int8"),
            ("INTEGER[]", "int8[]"),
            ("INT4", "INT4"),
            ("BYTES", "bytea"),
            ("DECIMAL(10, 2)", "DECIMAL(10, 2)"),
            ("TIMESTAMP (3) WITH TIME ZONE", "TIMESTAMP(3) WITH TIME ZONE"),
            ("DOUBLE PRECISION", "DOUBLE PRECISION"),
            ("\"public\".\"mood\"", "\"public\".\"mood\""),
            ("STRING ARRAY", "text[]"),
        ];
        for (from, to) in pairs {
            assert_eq!(sql(from).as_deref(), Ok(to), "{from}");
        }
    }

    #[test]
    fn types_that_cockroachdb_lacks_are_refused() {
        for text in ["money", "INT8[][]", "int4range", "point"] {
            assert_eq!(sql(text).expect_err("refused").code, "0A000", "{text}");
        }
    }
}
