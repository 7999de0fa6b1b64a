//! JSON by value: members in one order, the last one of a name wins, strings by their characters, numbers as numbers.

use std::ops::Range;

use super::{Equality, number};

/// Deeper documents are compared as they are printed. Servers stop at a few thousand, and our stack at some more.
const DEPTH_MAX: usize = 4096;

/// Appends a document. `None`: the text is not JSON, or too deep.
pub(super) fn write(text: &[u8], equality: Equality, out: &mut Vec<u8>) -> Option<()> {
    let mut parser = Parser { text, at: 0, equality };
    parser.value(0, out)?;
    parser.blank();
    (parser.at == text.len()).then_some(())
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    equality: Equality,
}

/// Where a member of an object lies in the output: its name, and its name together with its value.
struct Member {
    name: Range<usize>,
    whole: Range<usize>,
}

impl Parser<'_> {
    fn value(&mut self, depth: usize, out: &mut Vec<u8>) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.blank();
        match self.peek()? {
            b'{' => self.object(depth, out),
            b'[' => self.array(depth, out),
            b'"' => self.string(out),
            b't' => self.word(b"true", out),
            b'f' => self.word(b"false", out),
            b'n' => self.word(b"null", out),
            _ => self.number(out),
        }
    }

    fn object(&mut self, depth: usize, out: &mut Vec<u8>) -> Option<()> {
        self.at += 1;
        out.push(b'{');
        let body = out.len();
        let mut members = Vec::new();
        if !self.ends(b'}') {
            loop {
                members.push(self.member(depth, out)?);
                if !self.goes_on(b'}')? {
                    break;
                }
            }
        }
        sort(members, body, out);
        out.push(b'}');
        Some(())
    }

    fn member(&mut self, depth: usize, out: &mut Vec<u8>) -> Option<Member> {
        let start = out.len();
        self.blank();
        self.expect(b'"')?;
        self.at -= 1;
        self.string(out)?;
        let name = start..out.len();
        self.blank();
        self.expect(b':')?;
        self.value(depth + 1, out)?;
        Some(Member { name, whole: start..out.len() })
    }

    fn array(&mut self, depth: usize, out: &mut Vec<u8>) -> Option<()> {
        self.at += 1;
        out.push(b'[');
        if !self.ends(b']') {
            loop {
                self.value(depth + 1, out)?;
                if !self.goes_on(b']')? {
                    break;
                }
            }
        }
        out.push(b']');
        Some(())
    }

    /// Appends the characters, with their length in front: no character in them can be taken for an end.
    fn string(&mut self, out: &mut Vec<u8>) -> Option<()> {
        self.at += 1;
        out.push(b'"');
        let length_at = out.len();
        out.extend_from_slice(&[0; 4]);
        loop {
            match self.take()? {
                b'"' => break,
                b'\\' => self.escape(out)?,
                byte => out.push(byte),
            }
        }
        let length = u32::try_from(out.len() - length_at - 4).ok()?;
        out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
        Some(())
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let byte = match self.take()? {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => return self.unicode(out),
            byte @ (b'"' | b'\\' | b'/') => byte,
            _ => return None,
        };
        out.push(byte);
        Some(())
    }

    fn unicode(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let first = self.hexadecimal()?;
        let code = if (0xD800..0xDC00).contains(&first) {
            self.expect(b'\\')?;
            self.expect(b'u')?;
            let second = self.hexadecimal()?;
            0x1_0000 + ((first - 0xD800) << 10) + second.checked_sub(0xDC00).filter(|low| *low < 0x400)?
        } else {
            first
        };
        out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
        Some(())
    }

    fn hexadecimal(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        digits.iter().try_fold(0, |code, digit| Some(code * 16 + char::from(*digit).to_digit(16)?))
    }

    fn number(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let rest = &self.text[self.at..];
        let is_part = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
        let length = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        self.at += length;
        out.push(b'#');
        number::write(&rest[..length], self.equality, out)?;
        out.push(b';');
        Some(())
    }

    fn word(&mut self, word: &[u8], out: &mut Vec<u8>) -> Option<()> {
        if !self.text[self.at..].starts_with(word) {
            return None;
        }
        self.at += word.len();
        out.push(word[0]);
        Some(())
    }

    /// Returns whether the next thing is `end`, and takes it.
    fn ends(&mut self, end: u8) -> bool {
        self.blank();
        let ended = self.peek() == Some(end);
        self.at += usize::from(ended);
        ended
    }

    /// Returns whether there is a comma rather than `end`, and takes either.
    fn goes_on(&mut self, end: u8) -> Option<bool> {
        self.blank();
        match self.take()? {
            b',' => Some(true),
            byte if byte == end => Some(false),
            _ => None,
        }
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.take()? == byte).then_some(())
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }
}

/// Brings the members that were written from `body` on into the order of their names, and leaves out those that a later
/// one of the same name replaces.
fn sort(mut members: Vec<Member>, body: usize, out: &mut Vec<u8>) {
    let name = |member: &Member, out: &[u8]| out[member.name.clone()].to_vec();
    if members.is_sorted_by(|a, b| out[a.name.clone()] < out[b.name.clone()]) {
        return;
    }
    // Stable: of one name the last one stays last.
    members.sort_by_cached_key(|member| name(member, out));
    let mut sorted = Vec::with_capacity(out.len() - body);
    for (index, member) in members.iter().enumerate() {
        let replaced = members.get(index + 1).is_some_and(|next| out[next.name.clone()] == out[member.name.clone()]);
        if !replaced {
            sorted.extend_from_slice(&out[member.whole.clone()]);
        }
    }
    out.truncate(body);
    out.extend_from_slice(&sorted);
}
