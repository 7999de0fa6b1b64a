//! The two halves of a copy in both directions.

use std::fmt;

use bytes::{Bytes, BytesMut};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend::{self, CopyData};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};

use super::wire::{CopyPart, Incoming, Incomings, send_all};
use crate::error::{QueryError, ServerError};
use crate::transport::Transport;

/// Whether a copy goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyStatus {
    /// It does.
    Open,
    /// The server ended it; nothing more will come.
    Done,
}

/// What the server sends into a copy.
pub struct CopyReader(Reading<ReadHalf<Transport>>);

impl CopyReader {
    pub(super) fn new(incomings: Incomings<ReadHalf<Transport>>) -> Self {
        CopyReader(Reading { incomings, ended: None })
    }

    /// Waits for bytes and appends the payloads of all complete CopyData messages, often several, to `out`. They are
    /// slices of one read buffer, which lives as long as any of them.
    ///
    /// Cancel-safe. The end of the copy and errors are final: every further call returns them again.
    pub async fn next(&mut self, out: &mut Vec<Bytes>) -> Result<CopyStatus, QueryError> {
        self.0.next(out).await
    }
}

impl fmt::Debug for CopyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyReader").field("ended", &self.0.ended).finish_non_exhaustive()
    }
}

/// A copy read from any byte stream.
struct Reading<S> {
    incomings: Incomings<S>,
    /// How the copy ended: said again at each further call.
    ended: Option<Result<(), QueryError>>,
}

impl<S: AsyncRead + Unpin> Reading<S> {
    async fn next(&mut self, out: &mut Vec<Bytes>) -> Result<CopyStatus, QueryError> {
        if self.ended.is_none() {
            let Some(end) = self.read(out).await else { return Ok(CopyStatus::Open) };
            self.ended = Some(end);
        }
        self.ended.clone().expect("set above").map(|()| CopyStatus::Done)
    }

    /// Returns how the copy ended, if it did; `None` once data came.
    async fn read(&mut self, out: &mut Vec<Bytes>) -> Option<Result<(), QueryError>> {
        loop {
            let message = match self.incomings.next_copy(out).await {
                Ok(CopyPart::Data) => return None,
                Ok(CopyPart::Other(Incoming::Message(message))) => message,
                Ok(CopyPart::Other(Incoming::CopyBoth | Incoming::NegotiateVersion)) => {
                    return Some(Err(QueryError::protocol("a second beginning inside a copy")));
                }
                Err(error) => return Some(Err(QueryError::from_io(&error))),
            };
            match message {
                Message::NoticeResponse(_) | Message::ParameterStatus(_) => {}
                Message::CopyDone | Message::CommandComplete(_) | Message::ReadyForQuery(_) => return Some(Ok(())),
                Message::ErrorResponse(body) => return Some(Err(QueryError::Server(ServerError::read(&body)))),
                _ => return Some(Err(QueryError::protocol("a message that does not belong into a copy"))),
            }
        }
    }
}

/// What we send into a copy.
pub struct CopyWriter(Writing<WriteHalf<Transport>>);

impl CopyWriter {
    pub(super) fn new(stream: WriteHalf<Transport>) -> Self {
        CopyWriter(Writing { stream, unsent: BytesMut::new() })
    }

    /// Sends one CopyData message. Cancel-safe: after a dropped call the message is sent by the next one.
    pub async fn send(&mut self, payload: &[u8]) -> Result<(), QueryError> {
        self.0.send(payload).await
    }

    /// Ends our direction. The server then ends its own, which the reader sees. Cancel-safe.
    pub async fn done(&mut self) -> Result<(), QueryError> {
        frontend::copy_done(&mut self.0.unsent);
        self.0.flush().await
    }
}

impl fmt::Debug for CopyWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyWriter").field("unsent_bytes", &self.0.unsent.len()).finish_non_exhaustive()
    }
}

/// A copy written to any byte stream.
struct Writing<S> {
    stream: S,
    /// Bytes of messages not sent yet, so that a dropped call leaves no half message on the wire.
    unsent: BytesMut,
}

impl<S: AsyncWrite + Unpin> Writing<S> {
    async fn send(&mut self, payload: &[u8]) -> Result<(), QueryError> {
        let message = CopyData::new(payload).map_err(|error| QueryError::protocol(error.to_string()))?;
        message.write(&mut self.unsent);
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), QueryError> {
        send_all(&mut self.stream, &mut self.unsent).await.map_err(|error| QueryError::from_io(&error))
    }
}
