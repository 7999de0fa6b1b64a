//! Arrays: element by element, because elements have spellings, and quotes are a matter of taste.

use super::{Equality, Kind};

/// Appends an array: its bounds if they are not the usual ones, then its elements. `None`: the text is not an array.
pub(super) fn write(text: &[u8], element: &Kind, equality: Equality, out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader { text, at: 0 };
    if reader.peek() == Some(b'[') {
        // `[0:2]={...}`: where it begins is a part of the value.
        let end = text.iter().position(|byte| *byte == b'=')?;
        out.extend_from_slice(&text[..=end]);
        reader.at = end + 1;
    }
    let mut depth = 0_usize;
    let mut value = Vec::new();
    loop {
        match reader.peek()? {
            b'{' => {
                depth += 1;
                out.push(b'{');
                reader.at += 1;
            }
            b'}' => {
                depth = depth.checked_sub(1)?;
                out.push(b'}');
                reader.at += 1;
                if depth == 0 {
                    return (reader.at == text.len()).then_some(());
                }
            }
            b',' => reader.at += 1,
            _ if depth == 0 => return None,
            _ => write_element(&mut reader, element, equality, &mut value, out)?,
        }
    }
}

fn write_element(
    reader: &mut Reader<'_>,
    kind: &Kind,
    equality: Equality,
    value: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Option<()> {
    value.clear();
    let quoted = reader.element(value)?;
    if !quoted && value.eq_ignore_ascii_case(b"NULL") {
        out.push(b'N');
        return Some(());
    }
    out.push(b'V');
    // The length before each element keeps elements apart, whatever is in them.
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    kind.canonical(value, equality, out);
    let length = u32::try_from(out.len() - length_at - 4).ok()?;
    out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
    Some(())
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// Reads one element without quotes and backslashes; returns whether it was quoted.
    fn element(&mut self, value: &mut Vec<u8>) -> Option<bool> {
        let quoted = self.peek()? == b'"';
        if quoted {
            self.at += 1;
        }
        loop {
            match self.peek()? {
                b'"' if quoted => {
                    self.at += 1;
                    return Some(true);
                }
                b',' | b'}' if !quoted => return Some(false),
                b'\\' => {
                    self.at += 1;
                    value.push(self.take()?);
                }
                byte => {
                    value.push(byte);
                    self.at += 1;
                }
            }
        }
    }
}
