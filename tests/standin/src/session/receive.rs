//! Reading the backing session's answers and passing them on.

use anyhow::bail;

use super::Session;
use super::pending::{Pending, Step};
use crate::dialect::Tag;
use crate::error::SqlError;
use crate::wire::{Fields, Frame, answer};
use crate::{translate, wire};

/// As much is held back as CockroachDB does, so that a statement can be run again unnoticed.
const HELD_BYTES_MAX: usize = 512 * 1024;
/// Server parameters whose changes a CockroachDB reports.
const REPORTED: [&str; 6] =
    ["application_name", "DateStyle", "IntervalStyle", "TimeZone", "client_encoding", "standard_conforming_strings"];

/// Until when answers are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Everything pending is answered.
    Answered,
    /// ReadyForQuery, which is not passed on.
    Ready,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Received {
    /// Rows of the stand-in's own statement, as text.
    pub rows: Vec<Vec<Option<String>>>,
    /// The error, if there was one; it was not passed on.
    pub error: Option<SqlError>,
    /// A copy into a table was asked for by this message.
    pub copy_in: Option<Frame>,
}

impl Session {
    /// Reads answers and passes them on, except errors, which the caller decides about.
    pub async fn receive(&mut self, until: Until) -> anyhow::Result<Received> {
        let mut received = Received::default();
        loop {
            if until == Until::Answered && self.pending.is_empty() {
                return Ok(received);
            }
            let frame = self.backing_frame().await?;
            match frame.tag() {
                b'Z' => {
                    self.pending.clear();
                    self.transaction.reported(frame.body().first().copied().unwrap_or(b'I'));
                    return Ok(received);
                }
                b'E' => {
                    let verb = self.pending.iter().find_map(|pending| match pending {
                        Pending::Execute(rewritten) => Some(rewritten.verb.as_str()),
                        _ => None,
                    });
                    received.error.get_or_insert(translate::error(&frame, verb.unwrap_or_default(), &self.user));
                    self.pending.clear();
                    if self.transaction.is_open() {
                        self.transaction.status = b'E';
                    }
                    if until == Until::Answered {
                        self.group.passes_over = true;
                        return Ok(received);
                    }
                }
                b'N' => self.notice(&frame),
                b'S' => self.parameter(&frame),
                b'A' => {}
                b'G' => {
                    received.copy_in = Some(frame);
                    return Ok(received);
                }
                _ => self.answered(&frame, &mut received)?,
            }
            if self.client.output_bytes() > HELD_BYTES_MAX {
                self.group.settled = true;
                self.client.flush().await?;
            }
        }
    }

    fn answered(&mut self, frame: &Frame, received: &mut Received) -> anyhow::Result<()> {
        let tag = frame.tag();
        if matches!(self.pending.front(), Some(Pending::Bind)) {
            self.group.replay_from.get_or_insert(self.client.output_bytes());
        }
        let Some(front) = self.pending.front() else { bail!("unexpected answer {:?}", char::from(tag)) };
        let last = match (front, tag) {
            (Pending::Own(_), b'D') => {
                received.rows.push(text_row(frame).unwrap_or_default());
                return Ok(());
            }
            (Pending::Own(_), b'T' | b'n') => return Ok(()),
            (Pending::Own(Step::Parse), b'1')
            | (Pending::Own(Step::Bind), b'2')
            | (Pending::Own(Step::Execute), b'C' | b'I' | b's')
            | (Pending::Own(Step::Close), b'3') => {
                self.pending.pop_front();
                return Ok(());
            }
            (Pending::Execute(rewritten), b'C') => {
                complete(self.client.output(), frame, rewritten.tag.as_ref());
                self.pending.pop_front();
                return Ok(());
            }
            (Pending::Execute(_), b'I' | b's') => true,
            (Pending::Execute(_), _) => false,
            (Pending::DescribeStatement, b't') => false,
            (Pending::DescribeStatement | Pending::DescribePortal, b'T' | b'n') => true,
            (Pending::Parse, b'1') | (Pending::Bind, b'2') | (Pending::Close, b'3') => true,
            (front, _) => bail!("answer {:?} to {front:?}", char::from(tag)),
        };
        self.client.push(frame);
        if last {
            self.pending.pop_front();
        }
        Ok(())
    }

    /// Waits for a message of the backing session. A client that leaves meanwhile ends what runs for it.
    pub async fn backing_frame(&mut self) -> anyhow::Result<Frame> {
        loop {
            if let Some(frame) = self.backing.frame()? {
                return Ok(frame);
            }
            tokio::select! {
                more = self.backing.exchange() => if !more? { bail!("the backing session ended") },
                more = self.client.ahead() => if !more? { bail!("the client left") },
            }
        }
    }

    pub fn notice(&mut self, frame: &Frame) {
        let own = matches!(self.pending.front(), Some(Pending::Own(_)));
        if !own && !self.pending.is_empty() {
            translate::notice(frame, self.client.output());
        }
    }

    pub fn parameter(&mut self, frame: &Frame) {
        let mut fields = Fields::of(frame);
        let name = fields.text().unwrap_or_default();
        if REPORTED.contains(&name.as_str()) {
            self.client.push(frame);
        }
    }
}

/// Passes CommandComplete on, with CockroachDB's tag.
fn complete(out: &mut bytes::BytesMut, frame: &Frame, tag: Option<&Tag>) {
    let told = Fields::of(frame).text().unwrap_or_default();
    match tag {
        None => out.extend_from_slice(frame.bytes()),
        Some(Tag::Fixed(tag)) => answer::complete(out, tag),
        Some(Tag::Counted(verb)) => {
            let count = told.rsplit(' ').next().unwrap_or("0");
            answer::complete(out, &format!("{verb} {count}"));
        }
    }
}

fn text_row(frame: &wire::Frame) -> Option<Vec<Option<String>>> {
    let mut fields = Fields::of(frame);
    let count = fields.int16()?;
    let mut row = Vec::new();
    for _ in 0..count {
        let length = fields.int32()?;
        row.push(match usize::try_from(length) {
            Ok(length) => Some(String::from_utf8_lossy(&fields.take(length)?).into_owned()),
            Err(_) => None,
        });
    }
    Some(row)
}
