//! The words of a changefeed statement.

use crate::error::SqlError;

#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// A bare word, in lower case.
    Word(String),
    /// An identifier in quotes.
    Name(String),
    Text(String),
    /// `$1` is 1.
    Parameter(usize),
    Symbol(char),
}

/// Splits a statement into its words.
pub fn split(sql: &str) -> Result<Vec<Token>, SqlError> {
    let mut tokens = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            rest = &rest[first.len_utf8()..];
        } else if rest.starts_with("--") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if rest.starts_with("/*") {
            rest = rest.find("*/").map_or("", |end| &rest[end + 2..]);
        } else if first == '\'' || first == '"' {
            let (text, after) = quoted(rest, first)?;
            tokens.push(if first == '"' { Token::Name(text) } else { Token::Text(text) });
            rest = after;
        } else if (first == 'e' || first == 'E') && rest[1..].starts_with('\'') {
            let (text, after) = escaped(&rest[1..])?;
            tokens.push(Token::Text(text));
            rest = after;
        } else if first == '$' && rest[1..].starts_with(|c: char| c.is_ascii_digit()) {
            let end = rest[1..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |end| end + 1);
            tokens.push(Token::Parameter(rest[1..end].parse().map_err(|_| syntax(&rest[..end]))?));
            rest = &rest[end..];
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '$').unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].to_lowercase()));
            rest = &rest[end..];
        } else {
            tokens.push(Token::Symbol(first));
            rest = &rest[first.len_utf8()..];
        }
    }
    while tokens.last() == Some(&Token::Symbol(';')) {
        tokens.pop();
    }
    Ok(tokens)
}

/// Reads `'it''s'` or `"a""b"`.
fn quoted(text: &str, quote: char) -> Result<(String, &str), SqlError> {
    let mut out = String::new();
    let mut at = 1;
    while let Some(end) = text[at..].find(quote) {
        out.push_str(&text[at..at + end]);
        at += end + 1;
        if !text[at..].starts_with(quote) {
            return Ok((out, &text[at..]));
        }
        out.push(quote);
        at += 1;
    }
    Err(SqlError::new("42601", "lexical error: unterminated string"))
}

/// Reads `'a\'b'` behind an `e`.
fn escaped(text: &str) -> Result<(String, &str), SqlError> {
    let mut out = String::new();
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '\'' if characters.peek().is_some_and(|(_, next)| *next == '\'') => {
                characters.next();
                out.push('\'');
            }
            '\'' => return Ok((out, &text[at + 1..])),
            '\\' => match characters.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, 't')) => out.push('\t'),
                Some((_, 'r')) => out.push('\r'),
                Some((_, other)) => out.push(other),
                None => break,
            },
            _ => out.push(character),
        }
    }
    Err(SqlError::new("42601", "lexical error: unterminated string"))
}

/// The error for a word that does not belong where it is.
pub fn syntax(near: &str) -> SqlError {
    SqlError::new("42601", format!("at or near \"{near}\": syntax error"))
}
