//! JSONB inside a row: the text of PostgreSQL, with keys in byte order and numbers as CockroachDB prints them.

use super::number;

/// Writes a document from valid JSON text.
pub fn document(text: &str, out: &mut String) {
    Reader { rest: text }.value(out);
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        self.rest.bytes().next()
    }

    fn skip(&mut self) {
        self.rest = &self.rest[1..];
    }

    fn value(&mut self, out: &mut String) {
        match self.peek() {
            Some(b'{') => self.object(out),
            Some(b'[') => self.array(out),
            Some(b'"') => super::string(&self.string(), out),
            Some(b'-' | b'0'..=b'9') => number::print(self.word(), out),
            _ => out.push_str(self.word()),
        }
    }

    /// A number or a literal.
    fn word(&mut self) -> &'a str {
        let end = self.rest.find([',', ']', '}', ' ', '\n', '\t', '\r']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// A string, decoded.
    fn string(&mut self) -> String {
        let mut end = 1;
        let bytes = self.rest.as_bytes();
        while end < bytes.len() && bytes[end] != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        let (quoted, rest) = self.rest.split_at((end + 1).min(self.rest.len()));
        self.rest = rest;
        serde_json::from_str(quoted).unwrap_or_default()
    }

    fn array(&mut self, out: &mut String) {
        self.skip();
        out.push('[');
        let mut first = true;
        while !matches!(self.peek(), None | Some(b']')) {
            if !first {
                self.skip();
                out.push_str(", ");
            }
            first = false;
            self.value(out);
        }
        self.rest = self.rest.get(1..).unwrap_or("");
        out.push(']');
    }

    fn object(&mut self, out: &mut String) {
        self.skip();
        let mut members: Vec<(String, String)> = Vec::new();
        while !matches!(self.peek(), None | Some(b'}')) {
            if !members.is_empty() {
                self.skip();
                self.peek();
            }
            let name = self.string();
            self.peek();
            self.skip();
            let mut value = String::new();
            self.value(&mut value);
            members.push((name, value));
        }
        self.rest = self.rest.get(1..).unwrap_or("");
        members.sort_by(|a, b| a.0.cmp(&b.0));
        out.push('{');
        for (index, (name, value)) in members.iter().enumerate() {
            out.push_str(if index > 0 { ", " } else { "" });
            super::string(name, out);
            out.push_str(": ");
            out.push_str(value);
        }
        out.push('}');
    }
}
