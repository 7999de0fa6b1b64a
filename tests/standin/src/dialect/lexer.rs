//! SQL text as words.

use std::ops::Range;

use crate::error::SqlError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A keyword or a name without quotes.
    Word,
    /// A name in double quotes.
    Quoted,
    /// Any kind of string constant.
    Text,
    Number,
    /// `$1`.
    Parameter,
    /// An operator, or one of `( ) [ ] { } , ; .`.
    Sign,
}

/// A piece of the source text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub at: Range<usize>,
}

/// One statement: its tokens, and the text that their places are of.
#[derive(Clone, Debug)]
pub struct Statement<'a> {
    pub source: &'a str,
    pub tokens: Vec<Token>,
}

/// Splits SQL text into its statements, without the empty ones.
pub fn statements(source: &str) -> Result<Vec<Statement<'_>>, SqlError> {
    let mut found = Vec::new();
    let mut tokens = Vec::new();
    for token in tokens_of(source)? {
        if token.kind == Kind::Sign && &source[token.at.clone()] == ";" {
            if !tokens.is_empty() {
                found.push(Statement { source, tokens: std::mem::take(&mut tokens) });
            }
        } else {
            tokens.push(token);
        }
    }
    if !tokens.is_empty() {
        found.push(Statement { source, tokens });
    }
    Ok(found)
}

fn tokens_of(source: &str) -> Result<Vec<Token>, SqlError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = source[at..].chars().next() {
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let rest = &source[at..];
        if let Some(length) = comment(rest)? {
            at += length;
            continue;
        }
        let (kind, length) = token(rest, first)?;
        tokens.push(Token { kind, at: at..at + length });
        at += length;
    }
    Ok(tokens)
}

fn comment(rest: &str) -> Result<Option<usize>, SqlError> {
    if rest.starts_with("--") {
        return Ok(Some(rest.find('\n').unwrap_or(rest.len())));
    }
    if !rest.starts_with("/*") {
        return Ok(None);
    }
    let bytes = rest.as_bytes();
    let (mut depth, mut at) = (0, 0);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return Ok(Some(at));
        }
    }
    Err(SqlError::new("42601", "at or near \"EOF\": syntax error: unterminated comment"))
}

fn token(rest: &str, first: char) -> Result<(Kind, usize), SqlError> {
    let bytes = rest.as_bytes();
    let second = bytes.get(1).copied().unwrap_or(0);
    match first {
        '\'' => Ok((Kind::Text, quoted(rest, 0, b'\'', false)?)),
        '"' => Ok((Kind::Quoted, quoted(rest, 0, b'"', false)?)),
        'e' | 'E' if second == b'\'' => Ok((Kind::Text, quoted(rest, 1, b'\'', true)?)),
        'b' | 'B' | 'x' | 'X' if second == b'\'' => Ok((Kind::Text, quoted(rest, 1, b'\'', false)?)),
        '$' if second.is_ascii_digit() => Ok((Kind::Parameter, 1 + run(&bytes[1..], |b| b.is_ascii_digit()))),
        '$' => dollar(rest),
        '0'..='9' => Ok((Kind::Number, number(bytes))),
        '.' if second.is_ascii_digit() => Ok((Kind::Number, number(bytes))),
        first if is_word_start(first) => {
            let end = rest.find(|c: char| !is_word_start(c) && !c.is_ascii_digit() && c != '$');
            Ok((Kind::Word, end.unwrap_or(rest.len())))
        }
        ':' if rest.starts_with(":::") => Ok((Kind::Sign, 3)),
        ':' if second == b':' || second == b'=' => Ok((Kind::Sign, 2)),
        first if is_operator(first) => Ok((Kind::Sign, operator(bytes))),
        first => Ok((Kind::Sign, first.len_utf8())),
    }
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_operator(c: char) -> bool {
    "+-*/<>=~!@#%^&|`?".contains(c)
}

fn run(bytes: &[u8], belongs: impl Fn(&u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| belongs(byte)).count()
}

fn number(bytes: &[u8]) -> usize {
    if bytes.len() > 1 && bytes[0] == b'0' && matches!(bytes[1], b'x' | b'X') {
        return 2 + run(&bytes[2..], |byte| byte.is_ascii_hexdigit());
    }
    let mut length = run(bytes, |byte| byte.is_ascii_digit());
    if bytes.get(length) == Some(&b'.') {
        length += 1 + run(&bytes[length + 1..], |byte| byte.is_ascii_digit());
    }
    if matches!(bytes.get(length), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
        let digits = run(&bytes[(length + 1 + sign).min(bytes.len())..], |byte| byte.is_ascii_digit());
        if digits > 0 {
            length += 1 + sign + digits;
        }
    }
    length
}

/// An operator ends where a comment begins, and a sign of its own stands before `-` or `+` of a number, as in
/// PostgreSQL: `a=-1`.
fn operator(bytes: &[u8]) -> usize {
    let mut length = run(bytes, |byte| is_operator(char::from(*byte)));
    for at in 1..length {
        if bytes[at..].starts_with(b"--") || bytes[at..].starts_with(b"/*") {
            length = at;
            break;
        }
    }
    let special = |bytes: &[u8]| bytes.iter().any(|byte| b"~!@#%^&|`?".contains(byte));
    while length > 1 && matches!(bytes[length - 1], b'+' | b'-') && !special(&bytes[..length]) {
        length -= 1;
    }
    length
}

/// Returns the length of a constant whose opening quote is at `at`; doubled quotes are part of it.
fn quoted(rest: &str, at: usize, quote: u8, backslashes: bool) -> Result<usize, SqlError> {
    let bytes = rest.as_bytes();
    let mut at = at + 1;
    while at < bytes.len() {
        if backslashes && bytes[at] == b'\\' {
            at += 2;
        } else if bytes[at] != quote {
            at += 1;
        } else if bytes.get(at + 1) == Some(&quote) {
            at += 2;
        } else {
            return Ok(at + 1);
        }
    }
    let what = if quote == b'"' { "identifier" } else { "string" };
    Err(SqlError::new("42601", format!("lexical error: unterminated {what}")))
}

fn dollar(rest: &str) -> Result<(Kind, usize), SqlError> {
    let Some(end) = rest[1..].find('$') else { return Ok((Kind::Sign, 1)) };
    let tag = &rest[..end + 2];
    if !tag[1..tag.len() - 1].chars().all(|c| is_word_start(c) || c.is_ascii_digit()) {
        return Ok((Kind::Sign, 1));
    }
    match rest[tag.len()..].find(tag) {
        Some(close) => Ok((Kind::Text, close + 2 * tag.len())),
        None => Err(SqlError::new("42601", "lexical error: unterminated string")),
    }
}

impl<'a> Statement<'a> {
    /// Returns the source text of a token; empty past the end.
    pub fn text(&self, index: usize) -> &'a str {
        self.tokens.get(index).map_or("", |token| &self.source[token.at.clone()])
    }

    pub fn kind(&self, index: usize) -> Option<Kind> {
        self.tokens.get(index).map(|token| token.kind)
    }

    /// Returns whether a token is this keyword or name, without quotes and in any case.
    pub fn is(&self, index: usize, word: &str) -> bool {
        self.kind(index) == Some(Kind::Word) && self.text(index).eq_ignore_ascii_case(word)
    }

    pub fn is_any(&self, index: usize, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(index, word))
    }

    /// Returns whether these keywords begin at a token.
    pub fn words(&self, index: usize, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(offset, word)| self.is(index + offset, word))
    }

    pub fn sign(&self, index: usize, sign: &str) -> bool {
        self.kind(index) == Some(Kind::Sign) && self.text(index) == sign
    }

    /// Returns the name that a token is: folded to lower case without quotes, as it stands in quotes.
    pub fn name(&self, index: usize) -> Option<String> {
        match self.kind(index)? {
            Kind::Word => Some(self.text(index).to_lowercase()),
            Kind::Quoted => {
                let text = self.text(index);
                Some(text[1..text.len() - 1].replace("\"\"", "\""))
            }
            _ => None,
        }
    }

    /// Returns the content of a plain string constant, or of one with backslashes when it has none.
    pub fn string(&self, index: usize) -> Option<String> {
        if self.kind(index)? != Kind::Text {
            return None;
        }
        let text = self.text(index);
        let open = text.find('\'')?;
        Some(text[open + 1..text.len() - 1].replace("''", "'"))
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Returns the text from one token to before another, as it was written.
    pub fn span(&self, tokens: Range<usize>) -> &'a str {
        match (self.tokens.get(tokens.start), tokens.end.checked_sub(1).and_then(|last| self.tokens.get(last))) {
            (Some(first), Some(last)) if tokens.start < tokens.end => &self.source[first.at.start..last.at.end],
            _ => "",
        }
    }

    /// Returns the index behind the parenthesis, bracket or brace that closes the one at `open`.
    pub fn past_closing(&self, open: usize) -> usize {
        let mut depth = 0usize;
        for index in open..self.len() {
            if self.kind(index) == Some(Kind::Sign) {
                match self.text(index) {
                    "(" | "[" | "{" => depth += 1,
                    ")" | "]" | "}" => {
                        depth = depth.saturating_sub(1);
                        if depth == 0 {
                            return index + 1;
                        }
                    }
                    _ => {}
                }
            }
        }
        self.len()
    }

    /// Returns whether two neighbours have nothing between them.
    pub fn touches(&self, index: usize) -> bool {
        match (self.tokens.get(index), self.tokens.get(index + 1)) {
            (Some(first), Some(second)) => first.at.end == second.at.start,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<(Kind, String)> {
        let statements = statements(source).expect("valid SQL");
        let of = |statement: &Statement<'_>| -> Vec<(Kind, String)> {
            statement.tokens.iter().map(|token| (token.kind, source[token.at.clone()].to_owned())).collect()
        };
        statements.iter().flat_map(of).collect()
    }

    #[test]
    fn strings_of_every_kind_are_one_token() {
        for text in ["'it''s'", "e'a\\'b'", "$$ 'x' $$", "$q$ $$ $q$", "b'01'", "x'ff'"] {
            assert_eq!(words(text), [(Kind::Text, text.to_owned())], "{text}");
        }
    }

    #[test]
    fn statements_end_at_semicolons_outside_strings_and_comments() {
        let found = statements("SELECT ';' /* ; /* ; */ */; -- ;\n ;INSERT INTO \";\" VALUES (1)").expect("valid");
        assert_eq!(found.iter().map(Statement::len).collect::<Vec<_>>(), [2, 7]);
    }

    #[test]
    fn operators_do_not_swallow_signs_and_casts() {
        let texts: Vec<String> = words("a=-1 x:::INT8 y::text $1 1.5e+3 t@{A} a//b").into_iter().map(|w| w.1).collect();
        let wanted = "a = - 1 x ::: INT8 y :: text $1 1.5e+3 t @ { A } a // b";
        assert_eq!(texts.join(" "), wanted);
    }

    #[test]
    fn unterminated_text_is_refused() {
        for text in ["'abc", "\"abc", "/* abc", "$$ abc"] {
            assert_eq!(statements(text).expect_err("not closed").code, "42601", "{text}");
        }
    }
}
