//! Messages on a byte stream. Errors are `io::Error`: nonsense from the server is `InvalidData`, its going away
//! `UnexpectedEof`.

use std::io;

use bytes::{Bytes, BytesMut};
use postgres_protocol::message::backend::{COPY_DATA_TAG, Header, Message};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How much is asked of the socket at once. Large reads pay: most of the time of a replication client is system calls.
const READ_BYTES: usize = 256 * 1024;

/// A new buffer is taken only when less than this is free in the old one, or a trickle of small messages would cost
/// one large allocation each.
const FREE_BYTES_MIN: usize = 32 * 1024;

/// Tag of CopyBothResponse, which `postgres_protocol` does not know.
const COPY_BOTH_TAG: u8 = b'W';

/// Tag of NegotiateProtocolVersion, likewise.
const NEGOTIATE_VERSION_TAG: u8 = b'v';

/// A message from the server.
pub(super) enum Incoming {
    Message(Message),
    CopyBoth,
    NegotiateVersion,
}

/// What comes next on a connection that copies.
pub(super) enum CopyPart {
    /// At least one complete CopyData message was put out.
    Data,
    /// Another message.
    Other(Incoming),
}

/// Cuts messages out of a stream.
pub(super) struct Incomings<R> {
    stream: R,
    buffer: BytesMut,
    /// No message may be longer; an unknown peer must not make us take gigabytes.
    message_bytes_max: usize,
}

impl<R: AsyncRead + Unpin> Incomings<R> {
    pub(super) fn new(stream: R) -> Self {
        // Before the server has proved anything; libpq allows 30,000.
        Incomings { stream, buffer: BytesMut::new(), message_bytes_max: 64 * 1024 }
    }

    /// Allows messages of any length, once the server is known.
    pub(super) fn trust(&mut self) {
        self.message_bytes_max = usize::MAX;
    }

    /// Puts another stream in the place of this one; bytes already read stay.
    pub(super) fn map<T>(self, change: impl FnOnce(R) -> T) -> Incomings<T> {
        let Incomings { stream, buffer, message_bytes_max } = self;
        Incomings { stream: change(stream), buffer, message_bytes_max }
    }

    pub(super) fn get_mut(&mut self) -> &mut R {
        &mut self.stream
    }

    /// Waits for the next message. Cancel-safe.
    pub(super) async fn next(&mut self) -> io::Result<Incoming> {
        loop {
            if let Some(message) = self.take_message()? {
                return Ok(message);
            }
            self.fill().await?;
        }
    }

    /// Waits for CopyData messages and puts the payloads of all complete ones out, as slices of the read buffer; or for
    /// any other message. Cancel-safe.
    pub(super) async fn next_copy(&mut self, out: &mut Vec<Bytes>) -> io::Result<CopyPart> {
        loop {
            if self.take_copy_data(out)? {
                return Ok(CopyPart::Data);
            }
            if self.buffer.first().is_some_and(|&tag| tag != COPY_DATA_TAG)
                && let Some(message) = self.take_message()?
            {
                return Ok(CopyPart::Other(message));
            }
            self.fill().await?;
        }
    }

    fn take_message(&mut self) -> io::Result<Option<Incoming>> {
        let Some(length) = self.complete(0)? else { return Ok(None) };
        match self.buffer[0] {
            COPY_BOTH_TAG => {
                let _ = self.buffer.split_to(length);
                Ok(Some(Incoming::CopyBoth))
            }
            NEGOTIATE_VERSION_TAG => {
                let _ = self.buffer.split_to(length);
                Ok(Some(Incoming::NegotiateVersion))
            }
            _ => Ok(Message::parse(&mut self.buffer)?.map(Incoming::Message)),
        }
    }

    /// Puts out the payloads of the complete CopyData messages at the front; false if there are none.
    fn take_copy_data(&mut self, out: &mut Vec<Bytes>) -> io::Result<bool> {
        let mut end = 0;
        while self.buffer.get(end) == Some(&COPY_DATA_TAG)
            && let Some(length) = self.complete(end)?
        {
            end += length;
        }
        if end == 0 {
            return Ok(false);
        }
        let messages = self.buffer.split_to(end).freeze();
        let mut start = 0;
        while start < end {
            let header = Header::parse(&messages[start..]).ok().flatten().expect("the length was read above");
            let next = start + 1 + header.len() as usize;
            out.push(messages.slice(start + 5..next));
            start = next;
        }
        Ok(true)
    }

    /// Returns the length of the message at `start` if it is there completely.
    fn complete(&self, start: usize) -> io::Result<Option<usize>> {
        let rest = &self.buffer[start..];
        let Some(length) = message_length(rest)? else { return Ok(None) };
        if length > self.message_bytes_max {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is longer than it can be at this point"));
        }
        Ok((rest.len() >= length).then_some(length))
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.make_room()?;
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    fn make_room(&mut self) -> io::Result<()> {
        // A message larger than the buffer gets its room at once, not in steps that copy it again and again.
        let missing = message_length(&self.buffer)?.map_or(0, |length| length.saturating_sub(self.buffer.len()));
        let free = self.buffer.capacity() - self.buffer.len();
        if free < FREE_BYTES_MIN || free < missing {
            self.buffer.reserve(missing.max(READ_BYTES));
        }
        Ok(())
    }
}

/// Returns the length of the message at the front, with its tag; `None` if that is not known yet.
fn message_length(bytes: &[u8]) -> io::Result<Option<usize>> {
    Ok(Header::parse(bytes)?.map(|header| header.len() as usize + 1))
}

/// Sends what is in `bytes` and empties it. Cancel-safe: what a dropped call did not send stays there.
pub(super) async fn send_all<W: AsyncWrite + Unpin>(stream: &mut W, bytes: &mut BytesMut) -> io::Result<()> {
    while !bytes.is_empty() {
        if stream.write_buf(bytes).await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use futures_util::FutureExt;
    use tokio::io::duplex;

    use super::*;

    fn copy_data(payload: &[u8]) -> Vec<u8> {
        let mut message = vec![COPY_DATA_TAG];
        message.put_u32(payload.len() as u32 + 4);
        message.extend(payload);
        message
    }

    /// Payloads of all sizes that matter to the buffer, each with bytes of its own.
    fn payloads() -> Vec<Vec<u8>> {
        let sizes =
            [0, 1, 5, 100, FREE_BYTES_MIN - 5, FREE_BYTES_MIN, READ_BYTES - 1, READ_BYTES, 3 * READ_BYTES, 2, 0, 9];
        sizes.into_iter().enumerate().map(|(index, size)| vec![index as u8; size]).collect()
    }

    #[tokio::test]
    async fn messages_arrive_whole_in_whatever_pieces() {
        let stream: Vec<u8> = payloads().iter().flat_map(|payload| copy_data(payload)).collect();
        for piece in [1, 3, 4096, 300_000] {
            let (mut near, far) = duplex(piece);
            let sent = stream.clone();
            let sender = tokio::spawn(async move { near.write_all(&sent).await });
            let mut incomings = Incomings::new(far);
            incomings.trust();
            let mut out = Vec::new();
            while incomings.next_copy(&mut out).await.is_ok() {}
            assert!(out == payloads(), "pieces of {piece} bytes");
            sender.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn a_dropped_read_loses_nothing() {
        let stream: Vec<u8> = payloads().iter().flat_map(|payload| copy_data(payload)).collect();
        let (mut near, far) = duplex(usize::MAX);
        let mut incomings = Incomings::new(far);
        incomings.trust();
        let mut out = Vec::new();
        for piece in stream.chunks(1000) {
            near.write_all(piece).await.unwrap();
            while incomings.next_copy(&mut out).now_or_never().is_some() {}
        }
        assert!(out == payloads());
    }

    #[tokio::test]
    async fn payloads_are_slices_of_one_buffer() {
        let (mut near, far) = duplex(1024);
        near.write_all(&[copy_data(b"first"), copy_data(b"second")].concat()).await.unwrap();
        let mut out = Vec::new();
        Incomings::new(far).next_copy(&mut out).await.unwrap();
        assert_eq!(out, ["first", "second"]);
        assert_eq!(out[1].as_ptr() as usize - out[0].as_ptr() as usize, "first".len() + 5);
    }

    #[tokio::test]
    async fn impossible_lengths_are_refused_before_they_cost_memory() {
        for header in [*b"d\0\0\0\x03", *b"R\x7f\xff\xff\xff"] {
            let (mut near, far) = duplex(64);
            near.write_all(&header).await.unwrap();
            let error = Incomings::new(far).next().await.err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }

    #[tokio::test]
    async fn a_dropped_send_leaves_no_half_message() {
        let (mut near, far) = duplex(7);
        let mut unsent = BytesMut::from(&*copy_data(b"the first message"));
        assert!(send_all(&mut near, &mut unsent).now_or_never().is_none());
        unsent.extend(copy_data(b"the second"));
        let mut incomings = Incomings::new(far);
        let mut out = Vec::new();
        let read = async {
            while out.len() < 2 {
                incomings.next_copy(&mut out).await.unwrap();
            }
        };
        let (sent, ()) = tokio::join!(send_all(&mut near, &mut unsent), read);
        sent.unwrap();
        assert_eq!(out, ["the first message", "the second"]);
    }
}
