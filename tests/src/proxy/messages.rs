//! The client's side of the PostgreSQL protocol, as far as it tells where transactions begin and end.

use std::collections::HashMap;

/// Codes in place of a protocol version (manual, "SSLRequest", "GSSENCRequest"): another start packet follows.
const ENCRYPTION_REQUESTS: [u32; 2] = [80_877_103, 80_877_104];

/// One message as it was sent.
#[derive(Debug)]
pub(super) struct ClientMessage {
    pub(super) bytes: Vec<u8>,
    pub(super) begins: bool,
    pub(super) commits: bool,
}

/// Cuts a byte stream into messages. Remembers the texts of prepared statements, because a later Bind names one only.
#[derive(Debug, Default)]
pub(super) struct ClientMessages {
    waiting: Vec<u8>,
    started: bool,
    application_name: String,
    statements: HashMap<Vec<u8>, Vec<u8>>,
}

impl ClientMessages {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// Returns the name that the client gave in its start packet.
    pub(super) fn application_name(&self) -> &str {
        &self.application_name
    }

    /// Returns the next whole message.
    pub(super) fn next(&mut self) -> Option<ClientMessage> {
        let header = if self.started { 5 } else { 4 };
        let length = self.waiting.get(header - 4..header)?;
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize + header - 4;
        if self.waiting.len() < length {
            return None;
        }
        let bytes: Vec<u8> = self.waiting.drain(..length).collect();
        if !self.started {
            self.start(&bytes[header..]);
            return Some(ClientMessage { bytes, begins: false, commits: false });
        }
        let statement = self.statement(bytes[0], &bytes[header..]);
        let is = |word: &[u8]| {
            let text = statement.trim_ascii_start();
            text.len() >= word.len() && text[..word.len()].eq_ignore_ascii_case(word)
        };
        let (begins, commits) = (is(b"begin") || is(b"start transaction"), is(b"commit"));
        Some(ClientMessage { bytes, begins, commits })
    }

    fn start(&mut self, packet: &[u8]) {
        let code = packet.get(..4).map_or(0, |code| u32::from_be_bytes(code.try_into().expect("four bytes")));
        if ENCRYPTION_REQUESTS.contains(&code) {
            return;
        }
        self.started = true;
        let mut words = packet.get(4..).unwrap_or_default().split(|byte| *byte == 0);
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            if name == b"application_name" {
                self.application_name = String::from_utf8_lossy(value).into_owned();
            }
        }
    }

    /// Returns the text of the statement that this message makes the server run; empty for other messages.
    fn statement(&mut self, kind: u8, body: &[u8]) -> Vec<u8> {
        let word = |body: &[u8]| body.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        match kind {
            b'Q' => word(body),
            b'P' => {
                let name = word(body);
                let text = word(&body[(name.len() + 1).min(body.len())..]);
                self.statements.insert(name, text);
                Vec::new()
            }
            b'B' => {
                let portal = word(body);
                let statement = word(&body[(portal.len() + 1).min(body.len())..]);
                self.statements.get(&statement).cloned().unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }
}

/// What came in a stretch of a server's answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) commits: i64,
    pub(super) failed: bool,
}

/// Finds the answers to COMMITs in what a server sends.
#[derive(Debug, Default)]
pub(super) struct CommitAnswers {
    header: Vec<u8>,
    tag: Vec<u8>,
    body_left: usize,
    in_tag: bool,
    started: bool,
}

impl CommitAnswers {
    /// Takes the next bytes, in which messages may begin and end anywhere.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Seen {
        let mut seen = Seen::default();
        while !bytes.is_empty() {
            if self.body_left > 0 {
                let taken = bytes.len().min(self.body_left);
                if self.in_tag {
                    self.tag.extend_from_slice(&bytes[..taken]);
                }
                bytes = &bytes[taken..];
                self.body_left -= taken;
            } else {
                let first = bytes[0];
                bytes = &bytes[1..];
                // The refusal of encryption is a bare letter; no message of that kind comes before the first other one.
                if !self.started && first == b'N' {
                    continue;
                }
                self.started = true;
                self.header.push(first);
                if self.header.len() < 5 {
                    continue;
                }
                let length = u32::from_be_bytes(self.header[1..].try_into().expect("four bytes")) as usize;
                self.in_tag = self.header[0] == b'C';
                seen.failed |= self.header[0] == b'E';
                self.body_left = length.saturating_sub(4);
                self.header.clear();
            }
            if self.body_left == 0 && self.in_tag {
                seen.commits += i64::from(self.tag == b"COMMIT\0");
                self.tag.clear();
                self.in_tag = false;
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: &[u8], body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u32 + 4).to_be_bytes();
        [kind, &length, body].concat()
    }

    #[test]
    fn commits_are_seen_in_every_form_and_at_any_cut() {
        let sent = [
            message(b"", &80_877_103u32.to_be_bytes()),
            message(b"", b"\0\x03\0\0user\0u\0application_name\0tidegate/a/apply\0\0"),
            message(b"Q", b"BEGIN\0"),
            message(b"P", b"s1\0COMMIT\0\0\0"),
            message(b"B", b"\0s1\0\0\0\0\0\0\0"),
            message(b"Q", b"commit\0"),
            message(b"Q", b"SELECT 'COMMIT'\0"),
        ]
        .concat();
        for cut in [1, 3, 7, sent.len()] {
            let mut messages = ClientMessages::default();
            let mut seen = Vec::new();
            for piece in sent.chunks(cut) {
                messages.push(piece);
                while let Some(message) = messages.next() {
                    seen.push((message.begins, message.commits));
                }
            }
            let (begin, commit, other) = ((true, false), (false, true), (false, false));
            assert_eq!(seen, [other, other, begin, other, commit, commit, other], "cut every {cut} bytes");
            assert_eq!(messages.application_name(), "tidegate/a/apply");
        }
    }

    #[test]
    fn answers_to_commits_are_counted_at_any_cut() {
        let sent = [
            b"N".to_vec(),
            message(b"R", &[0; 4]),
            message(b"C", b"BEGIN\0"),
            message(b"D", b"COMMIT\0"),
            message(b"C", b"COMMIT\0"),
            message(b"I", b""),
            message(b"C", b"COMMIT\0"),
        ]
        .concat();
        for cut in [1, 4, sent.len()] {
            let mut answers = CommitAnswers::default();
            assert_eq!(
                sent.chunks(cut).map(|piece| answers.push(piece).commits).sum::<i64>(),
                2,
                "cut every {cut} bytes"
            );
        }
    }
}
