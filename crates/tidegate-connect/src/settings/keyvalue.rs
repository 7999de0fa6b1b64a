//! Key=value text: `host=db port=5432 password='with space'` (manual section 34.1.1.1).

use std::iter::Peekable;
use std::str::Chars;

use tidegate_model::Problem;

use super::{Given, invalid};

/// Reads key=value text. Messages name parameters, never values: one of them is the password.
pub(super) fn parse(text: &str) -> Result<Given, Problem> {
    let mut given = Given::default();
    let mut rest = text.chars().peekable();
    loop {
        skip_space(&mut rest);
        if rest.peek().is_none() {
            return Ok(given);
        }
        let mut name = String::new();
        while let Some(c) = rest.next_if(|&c| c != '=' && !c.is_ascii_whitespace()) {
            name.push(c);
        }
        skip_space(&mut rest);
        if rest.next() != Some('=') {
            return Err(invalid(
                "a word in it is not followed by \"=\" (a value that holds spaces needs single quotes around it)",
            ));
        }
        skip_space(&mut rest);
        let value = if rest.next_if_eq(&'\'').is_some() { quoted(&name, &mut rest)? } else { plain(&mut rest) };
        given.set(&name, value)?;
    }
}

fn skip_space(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(char::is_ascii_whitespace).is_some() {}
}

fn plain(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut value = String::new();
    while let Some(c) = rest.next_if(|c| !c.is_ascii_whitespace()) {
        value.extend(if c == '\\' { rest.next() } else { Some(c) });
    }
    value
}

fn quoted(name: &str, rest: &mut Peekable<Chars<'_>>) -> Result<String, Problem> {
    let mut value = String::new();
    loop {
        match rest.next() {
            Some('\'') => return Ok(value),
            Some('\\') => value.extend(rest.next()),
            Some(c) => value.push(c),
            None => return Err(invalid(format!("the value of \"{name}\" has no closing quote"))),
        }
    }
}
