//! The grammar of changefeed statements, as published in the `create_changefeed_stmt` diagrams.

use super::tokens::{Token, split, syntax};
use crate::error::SqlError;

/// A target: one to three names, and the family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub names: Vec<String>,
    pub family: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Statement {
    pub targets: Vec<Target>,
    pub sink: Option<String>,
    pub options: Vec<(String, Option<String>)>,
}

/// Words that cannot be an option's value without quotes.
const RESERVED: &[&str] = &["true", "false", "null", "only", "all", "any", "as", "for", "table", "with", "default"];

struct Parser<'a> {
    tokens: Vec<Token>,
    at: usize,
    parameters: &'a [Option<String>],
}

/// Reads a statement with the values of its parameters.
pub fn parse(sql: &str, parameters: &[Option<String>]) -> Result<Statement, SqlError> {
    let mut parser = Parser { tokens: split(sql)?, at: 0, parameters };
    if parser.word("experimental") {
        parser.expect("changefeed")?;
    } else {
        parser.expect("create")?;
        parser.expect("changefeed")?;
    }
    let mut sink = if parser.word("into") { Some(parser.value()?) } else { None };
    let mut targets = Vec::new();
    if parser.word("for") {
        if parser.word("database") {
            return Err(SqlError::new("0A000", "unimplemented: CREATE CHANGEFEED FOR DATABASE is not implemented"));
        }
        loop {
            targets.push(parser.target()?);
            if !parser.symbol(',') {
                break;
            }
        }
        if sink.is_none() && parser.word("into") {
            sink = Some(parser.value()?);
        }
    }
    let mut options = Vec::new();
    if parser.word("with") {
        let bracketed = parser.word("options") && parser.symbol('(');
        loop {
            options.push(parser.option()?);
            if !parser.symbol(',') {
                break;
            }
        }
        if bracketed && !parser.symbol(')') {
            return Err(parser.unexpected());
        }
    }
    if targets.is_empty() && parser.word("as") {
        return Err(SqlError::new("0A000", "stand-in: changefeeds with AS SELECT are not there"));
    }
    if targets.is_empty() || parser.at < parser.tokens.len() {
        return Err(parser.unexpected());
    }
    Ok(Statement { targets, sink, options })
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn word(&mut self, word: &str) -> bool {
        let is = matches!(self.peek(), Some(Token::Word(found)) if found == word);
        self.at += usize::from(is);
        is
    }

    fn symbol(&mut self, symbol: char) -> bool {
        let is = self.peek() == Some(&Token::Symbol(symbol));
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, word: &str) -> Result<(), SqlError> {
        if self.word(word) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn unexpected(&self) -> SqlError {
        match self.peek() {
            None => syntax("EOF"),
            Some(Token::Word(text) | Token::Name(text) | Token::Text(text)) => syntax(text),
            Some(Token::Parameter(number)) => syntax(&format!("${number}")),
            Some(Token::Symbol(symbol)) => syntax(&symbol.to_string()),
        }
    }

    fn name(&mut self) -> Result<String, SqlError> {
        match self.peek() {
            Some(Token::Word(name) | Token::Name(name)) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.unexpected()),
        }
    }

    fn target(&mut self) -> Result<Target, SqlError> {
        // `table` is also a name that a table can only have in quotes.
        self.word("table");
        let mut names = vec![self.name()?];
        while self.symbol('.') {
            names.push(self.name()?);
        }
        if names.len() > 3 {
            return Err(self.unexpected());
        }
        let family = if self.word("family") { Some(self.name()?) } else { None };
        Ok(Target { names, family })
    }

    fn option(&mut self) -> Result<(String, Option<String>), SqlError> {
        let name = match self.next() {
            Some(Token::Word(name) | Token::Name(name) | Token::Text(name)) => name,
            _ => {
                self.at -= 1;
                return Err(self.unexpected());
            }
        };
        let value = if self.symbol('=') { Some(self.value()?) } else { None };
        Ok((name, value))
    }

    fn value(&mut self) -> Result<String, SqlError> {
        let value = match self.peek() {
            Some(Token::Text(text) | Token::Name(text)) => text.clone(),
            Some(Token::Word(word))
                if !RESERVED.contains(&word.as_str()) && !word.starts_with(|c: char| c.is_ascii_digit()) =>
            {
                word.clone()
            }
            Some(Token::Parameter(number)) => {
                let value = number.checked_sub(1).and_then(|at| self.parameters.get(at)).cloned().flatten();
                value.ok_or_else(|| SqlError::new("42P02", format!("no value provided for placeholder: ${number}")))?
            }
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sql: &str) -> Statement {
        parse(sql, &[Some("9.0".to_owned())]).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    #[test]
    fn statements_of_real_clients_are_read() {
        let feed = read("EXPERIMENTAL CHANGEFEED FOR db.public.t WITH no_initial_scan, resolved='10s'");
        assert_eq!(feed.targets, [Target { names: vec!["db".into(), "public".into(), "t".into()], family: None }]);
        assert_eq!(feed.options[1], ("resolved".into(), Some("10s".into())));
        let feed = read(
            "CREATE CHANGEFEED FOR TABLE \"db\".\"s\".\"T\" WITH envelope = 'wrapped', updated, diff, cursor = $1, \
             format = json",
        );
        assert_eq!(feed.targets[0].names[2], "T");
        assert_eq!(feed.options[3].1.as_deref(), Some("9.0"));
        let feed = read("CREATE CHANGEFEED FOR TABLE a, TABLE b FAMILY f INTO 'null://' WITH OPTIONS (updated);");
        assert_eq!((feed.sink.as_deref(), feed.targets.len()), (Some("null://"), 2));
    }

    #[test]
    fn what_the_grammar_has_not_is_refused() {
        for sql in [
            "CREATE CHANGEFEED",
            "CREATE CHANGEFEED FOR t WITH initial_scan = only",
            "CREATE CHANGEFEED FOR t WITH ignore_disable_changefeed_replication = true",
            "CREATE CHANGEFEED FOR t WITH cursor = 5",
            "CREATE CHANGEFEED FOR t WITH cursor = 'a' || 'b'",
            "CREATE CHANGEFEED FOR t u",
        ] {
            assert_eq!(parse(sql, &[]).unwrap_err().code, "42601", "{sql}");
        }
    }
}
