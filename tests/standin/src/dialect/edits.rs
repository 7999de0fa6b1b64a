//! Changes to a statement's text, noted by token and carried out together.

use std::collections::BTreeMap;
use std::ops::Range;

use super::lexer::Statement;

#[derive(Debug)]
pub struct Edits<'s, 'a> {
    statement: &'s Statement<'a>,
    /// By first token: the token behind the last one replaced, and what stands there instead.
    replaced: BTreeMap<usize, (usize, String)>,
    inserted: BTreeMap<usize, String>,
}

impl<'s, 'a> Edits<'s, 'a> {
    pub fn of(statement: &'s Statement<'a>) -> Edits<'s, 'a> {
        Edits { statement, replaced: BTreeMap::new(), inserted: BTreeMap::new() }
    }

    /// Replaces tokens; the first change of a place counts.
    pub fn replace(&mut self, tokens: Range<usize>, text: impl Into<String>) {
        let taken = self.replaced.range(..tokens.end).next_back().is_some_and(|(_, (end, _))| *end > tokens.start);
        if !taken && tokens.start < tokens.end {
            self.replaced.insert(tokens.start, (tokens.end, text.into()));
        }
    }

    pub fn remove(&mut self, tokens: Range<usize>) {
        self.replace(tokens, "");
    }

    /// Puts text before a token, or behind the last one.
    pub fn insert(&mut self, before: usize, text: &str) {
        self.inserted.entry(before).or_default().push_str(text);
    }

    /// Returns the text of some tokens with the changes in it.
    pub fn text(&self, tokens: Range<usize>) -> String {
        let mut out = String::new();
        let mut at = tokens.start;
        while at < tokens.end {
            if let Some(text) = self.inserted.get(&at) {
                append(&mut out, text, false);
            }
            let apart = at > tokens.start && !self.statement.touches(at - 1);
            at = match self.replaced.get(&at) {
                Some((end, text)) => {
                    append(&mut out, text, apart);
                    *end
                }
                None => {
                    append(&mut out, self.statement.text(at), apart);
                    at + 1
                }
            };
        }
        if let Some(text) = self.inserted.get(&tokens.end).filter(|_| tokens.end == self.statement.len()) {
            append(&mut out, text, false);
        }
        out
    }

    pub fn all(&self) -> String {
        self.text(0..self.statement.len())
    }
}

/// Appends a piece, with a blank in front where it was apart or would run into the one before.
fn append(out: &mut String, piece: &str, apart: bool) {
    let wordy = |c: char| c.is_alphanumeric() || matches!(c, '_' | '"' | '\'' | '$');
    let runs_in = out.ends_with(wordy) && piece.starts_with(wordy);
    if !piece.is_empty() && !out.is_empty() && !out.ends_with(' ') && (apart || runs_in) {
        out.push(' ');
    }
    out.push_str(piece);
}
