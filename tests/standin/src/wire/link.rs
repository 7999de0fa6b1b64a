//! A connection with its buffers.

use std::io;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Frame, HEADER};

/// Large reads: a copy's messages are small, and one read then brings many of them.
const READ_BYTES: usize = 128 * 1024;
/// Above this much unread input no more is read ahead.
const AHEAD_BYTES_MAX: usize = 1024 * 1024;
/// No message of either side is longer; PostgreSQL's own limit is 1 GiB.
const FRAME_BYTES_MAX: usize = 1 << 30;

/// One side of the relay: what has come in and was not looked at yet, and what has to go out.
pub struct Link {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    input: BytesMut,
    output: BytesMut,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Link {{ input: {} bytes, output: {} bytes }}", self.input.len(), self.output.len())
    }
}

/// The head of a message, seen before the whole of it is there.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    pub tag: u8,
    /// Length of the body.
    pub body_bytes: usize,
}

impl Link {
    pub fn new(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Link {
        Link {
            reader: Box::new(reader),
            writer: Box::new(writer),
            input: BytesMut::with_capacity(READ_BYTES),
            output: BytesMut::new(),
        }
    }

    /// Returns the head of the next message once five bytes of it are there.
    pub fn head(&self) -> io::Result<Option<Head>> {
        if self.input.len() < HEADER {
            return Ok(None);
        }
        let length = (&self.input[1..HEADER]).get_i32();
        match usize::try_from(length) {
            Ok(length) if (4..=FRAME_BYTES_MAX).contains(&length) => {
                Ok(Some(Head { tag: self.input[0], body_bytes: length - 4 }))
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of length {length}"))),
        }
    }

    /// Takes the next message, if the whole of it is there.
    pub fn frame(&mut self) -> io::Result<Option<Frame>> {
        let Some(head) = self.head()? else { return Ok(None) };
        let total = head.body_bytes + HEADER;
        if self.input.len() < total {
            self.input.reserve(total - self.input.len());
            return Ok(None);
        }
        Ok(Some(Frame::new(self.input.split_to(total).freeze())))
    }

    /// Waits for the next message. Returns `None` at the end of the connection. Cancel-safe.
    pub async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.frame()? {
                return Ok(Some(frame));
            }
            if !self.exchange().await? {
                return Ok(None);
            }
        }
    }

    /// Reads what there is while writing what is to be written, so that two full sockets never wait for each other.
    /// Returns false at the end of the connection. Cancel-safe.
    pub async fn exchange(&mut self) -> io::Result<bool> {
        loop {
            self.input.reserve(READ_BYTES.min(READ_BYTES.saturating_sub(self.input.len())).max(8192));
            if self.output.is_empty() {
                return Ok(self.reader.read_buf(&mut self.input).await? > 0);
            }
            tokio::select! {
                read = self.reader.read_buf(&mut self.input) => return Ok(read? > 0),
                written = self.writer.write_buf(&mut self.output) => {
                    written?;
                    if self.output.is_empty() {
                        self.writer.flush().await?;
                    }
                }
            }
        }
    }

    /// Reads ahead, so that a closed connection is noticed; waits for ever when enough is read. Cancel-safe.
    pub async fn ahead(&mut self) -> io::Result<bool> {
        if self.input.len() > AHEAD_BYTES_MAX {
            return std::future::pending().await;
        }
        self.input.reserve(8192);
        Ok(self.reader.read_buf(&mut self.input).await? > 0)
    }

    pub fn push(&mut self, frame: &Frame) {
        self.output.extend_from_slice(frame.bytes());
    }

    pub fn push_bytes(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// The buffer of what has to go out, for the builders of messages.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    pub fn output_bytes(&self) -> usize {
        self.output.len()
    }

    /// Writes all that has to go out.
    pub async fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            self.writer.write_buf(&mut self.output).await?;
        }
        self.writer.flush().await
    }

    /// Writes all that has to go out, and reads what comes meanwhile: the other side may not read before it is read from.
    pub async fn flush_reading(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            self.input.reserve(8192);
            tokio::select! {
                biased;
                written = self.writer.write_buf(&mut self.output) => drop(written?),
                read = self.reader.read_buf(&mut self.input) => if read? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                },
            }
        }
        self.writer.flush().await
    }

    /// Reads bytes that have no type byte in front, as in a startup message.
    pub async fn raw(&mut self, count: usize) -> io::Result<BytesMut> {
        while self.input.len() < count {
            if !self.exchange().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.input.split_to(count))
    }

    /// Passes over the body of a message that is too long to be kept, head included.
    pub async fn skip(&mut self, head: Head) -> io::Result<()> {
        let mut left = head.body_bytes + HEADER;
        while left > 0 {
            if self.input.is_empty() && !self.exchange().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let now = left.min(self.input.len());
            self.input.advance(now);
            left -= now;
        }
        Ok(())
    }
}

/// Builds a message: its type byte, its length, and what `body` writes.
pub fn message(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let at = out.len();
    out.put_i32(0);
    body(out);
    let length = i32::try_from(out.len() - at).expect("messages are made of statements and are below 2 GiB");
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// Appends a string and its zero byte.
pub fn text(out: &mut BytesMut, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.put_u8(0);
}
