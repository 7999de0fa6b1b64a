//! COPY's text form.

/// Appends a row: values separated by tabs, `\N` for NULL, a line feed at the end.
pub(super) fn row<'a>(values: impl Iterator<Item = Option<&'a str>>, out: &mut Vec<u8>) {
    for (index, value) in values.enumerate() {
        if index > 0 {
            out.push(b'\t');
        }
        match value {
            None => out.extend_from_slice(b"\\N"),
            Some(text) => escape(text.as_bytes(), out),
        }
    }
    out.push(b'\n');
}

/// What stands for a byte that COPY would take for something else (PostgreSQL manual, COPY, "Text Format").
fn escaped(byte: u8) -> Option<u8> {
    match byte {
        b'\\' => Some(b'\\'),
        b'\t' => Some(b't'),
        b'\n' => Some(b'n'),
        b'\r' => Some(b'r'),
        _ => None,
    }
}

fn escape(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some((at, letter)) = text.iter().enumerate().find_map(|(at, byte)| Some((at, escaped(*byte)?))) {
        out.extend_from_slice(&text[..at]);
        out.extend_from_slice(&[b'\\', letter]);
        text = &text[at + 1..];
    }
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_written_as_copy_reads_them() {
        let mut out = Vec::new();
        row([Some("a\tb"), None, Some(""), Some("\\N"), Some("x\r\ny\\")].into_iter(), &mut out);
        row([Some("é")].into_iter(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "a\\tb\t\\N\t\t\\\\N\tx\\r\\ny\\\\\né\n");
    }
}
