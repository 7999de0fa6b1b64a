//! One row as a side sent it, in memory that the next row takes over.

use crate::key::Key;

/// The values of the row read last, as text.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    bytes: Vec<u8>,
    /// Where each value lies; `None` is NULL.
    places: Vec<Option<(usize, usize)>>,
}

impl Fields {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
    }

    pub(crate) fn push(&mut self, value: Option<&[u8]>) {
        let place = value.map(|text| {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(text);
            (start, self.bytes.len())
        });
        self.places.push(place);
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn value(&self, index: usize) -> Option<&[u8]> {
        self.places[index].map(|(start, end)| &self.bytes[start..end])
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = Option<&[u8]>> {
        (0..self.len()).map(|index| self.value(index))
    }

    /// Returns the values of these columns as a key.
    pub(crate) fn key(&self, columns: &[usize]) -> Key {
        columns.iter().map(|index| self.value(*index)).collect()
    }

    /// Reads a line of COPY's text form (PostgreSQL manual, COPY, "Text Format").
    pub(crate) fn read_copy_line(&mut self, line: &[u8]) {
        self.clear();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        for field in line.split(|byte| *byte == b'\t') {
            if field == b"\\N" {
                self.places.push(None);
                continue;
            }
            let start = self.bytes.len();
            unescape(field, &mut self.bytes);
            self.places.push(Some((start, self.bytes.len())));
        }
    }
}

fn unescape(mut field: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = field.iter().position(|byte| *byte == b'\\') {
        out.extend_from_slice(&field[..at]);
        let Some(letter) = field.get(at + 1) else { return out.push(b'\\') };
        out.push(match letter {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            other => *other,
        });
        field = &field[at + 2..];
    }
    out.extend_from_slice(field);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_lines_are_read_as_copy_writes_them() {
        let mut fields = Fields::default();
        fields.read_copy_line(b"a\\tb\t\\N\t\t\\\\N\tx\\r\\ny\\\\\\\\x\n");
        let expected: [Option<&[u8]>; 5] = [Some(b"a\tb"), None, Some(b""), Some(b"\\N"), Some(b"x\r\ny\\\\x")];
        assert!(fields.values().eq(expected));
        assert!(fields.key(&[1, 0]).values().eq([None, Some(&b"a\tb"[..])]));
    }
}
