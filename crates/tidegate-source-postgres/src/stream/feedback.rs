//! What the client says on a replication stream, and when; and the frames in which the server speaks.
//!
//! PostgreSQL manual, "Streaming Replication Protocol".

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tidegate_model::Lsn;
use tokio::time::Instant;

/// How long nothing may come from the server before it is asked for a keepalive. It sends none by itself while it
/// decodes WAL that is not ours, and only a keepalive lets an idle stream move.
const ASK_AFTER: Duration = Duration::from_millis(200);
/// Status interval where the server has no timeout.
const STATUS_EVERY_WITHOUT_TIMEOUT: Duration = Duration::from_secs(10);
/// The server may be silent this long at least: up to PostgreSQL 15 it says nothing while it works through a large
/// transaction that is not published.
const SILENCE_MIN: Duration = Duration::from_secs(180);

/// A message of the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Data of the output plugin.
    Data { start: Lsn, payload: Bytes },
    /// Everything that ends at or before `wal_end` has been sent.
    Keepalive { wal_end: Lsn, reply: bool },
}

impl Frame {
    const DATA_HEADER_BYTES: usize = 25;
    const KEEPALIVE_BYTES: usize = 18;

    /// Reads a frame; `None` if the bytes are none.
    pub(super) fn parse(bytes: &Bytes) -> Option<Frame> {
        let lsn = |at: usize| bytes.get(at..at + 8).map(|b| Lsn(u64::from_be_bytes(b.try_into().expect("8 bytes"))));
        match bytes.first()? {
            b'w' if bytes.len() >= Self::DATA_HEADER_BYTES => {
                Some(Frame::Data { start: lsn(1)?, payload: bytes.slice(Self::DATA_HEADER_BYTES..) })
            }
            b'k' if bytes.len() >= Self::KEEPALIVE_BYTES => {
                Some(Frame::Keepalive { wal_end: lsn(1)?, reply: bytes[17] != 0 })
            }
            _ => None,
        }
    }
}

/// Decides when to say what.
#[derive(Debug)]
pub(super) struct Feedback {
    status_every: Duration,
    silence_max: Duration,
    said_at: Instant,
    said_flushed: Lsn,
    /// When the server was last heard of, or the last moment at which we did not listen.
    heard_at: Instant,
    keepalive_at: Instant,
    asked: bool,
    reply_wanted: bool,
}

impl Feedback {
    pub(super) fn new(wal_sender_timeout: Duration, now: Instant) -> Self {
        let none = wal_sender_timeout.is_zero();
        Feedback {
            status_every: if none { STATUS_EVERY_WITHOUT_TIMEOUT } else { wal_sender_timeout / 3 },
            silence_max: SILENCE_MIN.max(wal_sender_timeout * 3),
            said_at: now,
            said_flushed: Lsn(0),
            heard_at: now,
            keepalive_at: now,
            asked: false,
            reply_wanted: false,
        }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    pub(super) fn heard_keepalive(&mut self, reply: bool, now: Instant) {
        self.keepalive_at = now;
        self.asked = false;
        self.reply_wanted |= reply;
    }

    /// Returns for how long the server has been silent, if that is too long.
    pub(super) fn silent_for(&self, now: Instant) -> Option<Duration> {
        let silent = now.saturating_duration_since(self.heard_at);
        (silent >= self.silence_max).then_some(silent)
    }

    /// Returns the message that is due now. `flushed`: acknowledged, 0/0 while nothing was; `received`: seen so far.
    pub(super) fn due(&mut self, flushed: Lsn, received: Lsn, now: Instant) -> Option<[u8; 34]> {
        let ask = !self.asked && now.saturating_duration_since(self.keepalive_at) >= ASK_AFTER;
        let time = now.saturating_duration_since(self.said_at) >= self.status_every;
        if !(ask || time || self.reply_wanted || flushed != self.said_flushed) {
            return None;
        }
        self.asked |= ask;
        self.reply_wanted = false;
        (self.said_at, self.said_flushed) = (now, flushed);
        Some(status_update(received.max(flushed), flushed, ask))
    }

    /// Returns the last word on a stream.
    pub(super) fn last(flushed: Lsn, received: Lsn) -> [u8; 34] {
        status_update(received.max(flushed), flushed, false)
    }
}

/// Written, flushed, applied, time, reply wanted. What is flushed may be forgotten by the server; 0/0 says nothing.
fn status_update(written: Lsn, flushed: Lsn, reply: bool) -> [u8; 34] {
    let mut message = [0; 34];
    message[0] = b'r';
    message[1..9].copy_from_slice(&written.0.to_be_bytes());
    message[9..17].copy_from_slice(&flushed.0.to_be_bytes());
    message[17..25].copy_from_slice(&flushed.0.to_be_bytes());
    message[25..33].copy_from_slice(&microseconds_since_2000().to_be_bytes());
    message[33] = u8::from(reply);
    message
}

fn microseconds_since_2000() -> i64 {
    const BETWEEN_EPOCHS: i64 = 946_684_800_000_000;
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
    i64::try_from(since_1970).unwrap_or(i64::MAX) - BETWEEN_EPOCHS
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(6);

    fn flushed(message: &[u8; 34]) -> u64 {
        u64::from_be_bytes(message[9..17].try_into().unwrap())
    }

    #[test]
    fn frames_are_read_and_anything_else_is_not() {
        let mut data = vec![b'w'];
        data.extend([0, 0, 0, 0, 0, 0, 0, 5].repeat(3));
        data.extend(b"abc");
        let payload = Bytes::from_static(b"abc");
        assert_eq!(Frame::parse(&data.into()), Some(Frame::Data { start: Lsn(5), payload }));
        let mut keepalive = vec![b'k'];
        keepalive.extend([0, 0, 0, 0, 0, 0, 0, 9].repeat(2));
        keepalive.push(1);
        assert_eq!(Frame::parse(&keepalive.into()), Some(Frame::Keepalive { wal_end: Lsn(9), reply: true }));
        for bad in [&b""[..], b"w", b"k12345678", b"x234567890123456789012345"] {
            assert_eq!(Frame::parse(&Bytes::copy_from_slice(bad)), None);
        }
    }

    #[test]
    fn only_what_was_acknowledged_is_ever_said_to_be_flushed() {
        let start = Instant::now();
        let mut feedback = Feedback::new(TIMEOUT, start);
        assert_eq!(feedback.due(Lsn(0), Lsn(500), start), None);
        let message = feedback.due(Lsn(7), Lsn(500), start).unwrap();
        assert_eq!((flushed(&message), message[33]), (7, 0));
        assert_eq!(feedback.due(Lsn(7), Lsn(900), start), None);
    }

    #[test]
    fn an_idle_stream_is_asked_for_a_keepalive_once_until_it_answers() {
        let start = Instant::now();
        let mut feedback = Feedback::new(TIMEOUT, start);
        assert_eq!(feedback.due(Lsn(0), Lsn(0), start + ASK_AFTER).unwrap()[33], 1);
        assert_eq!(feedback.due(Lsn(0), Lsn(0), start + ASK_AFTER * 2), None);
        feedback.heard_keepalive(false, start + ASK_AFTER * 2);
        assert_eq!(feedback.due(Lsn(0), Lsn(0), start + ASK_AFTER * 3).unwrap()[33], 1);
    }

    #[test]
    fn the_server_hears_of_us_three_times_within_its_timeout_and_when_it_asks() {
        let start = Instant::now();
        let mut feedback = Feedback::new(TIMEOUT, start);
        feedback.asked = true;
        assert!(feedback.due(Lsn(0), Lsn(0), start + TIMEOUT / 3).is_some());
        assert!(feedback.due(Lsn(0), Lsn(0), start + TIMEOUT / 2).is_none());
        feedback.heard_keepalive(true, start + TIMEOUT / 2);
        assert!(feedback.due(Lsn(0), Lsn(0), start + TIMEOUT / 2).is_some());
    }

    #[test]
    fn silence_is_noticed() {
        let start = Instant::now();
        let mut feedback = Feedback::new(TIMEOUT, start);
        assert_eq!(feedback.silent_for(start + SILENCE_MIN / 2), None);
        assert!(feedback.silent_for(start + SILENCE_MIN).is_some());
        feedback.heard(start + SILENCE_MIN / 2);
        assert_eq!(feedback.silent_for(start + SILENCE_MIN), None);
    }
}
