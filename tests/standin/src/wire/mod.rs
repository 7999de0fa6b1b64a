//! Messages of the PostgreSQL protocol, version 3, as frames: a type byte, a length, a body.

pub mod answer;
pub mod link;
pub mod startup;

use bytes::{Buf, Bytes};

/// One message, with its type byte and length in front of the body.
#[derive(Clone, Debug)]
pub struct Frame(Bytes);

/// Length of the type byte and the length word.
const HEADER: usize = 5;

impl Frame {
    pub fn new(bytes: Bytes) -> Frame {
        debug_assert!(bytes.len() >= HEADER, "a frame has a header");
        Frame(bytes)
    }

    /// Returns the message's type byte.
    pub fn tag(&self) -> u8 {
        self.0[0]
    }

    pub fn body(&self) -> Bytes {
        self.0.slice(HEADER..)
    }

    /// Returns the whole message as it goes over the wire.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

/// Takes the body of a message apart. Every getter returns `None` past the end.
#[derive(Debug)]
pub struct Fields(Bytes);

impl Fields {
    pub fn of(frame: &Frame) -> Fields {
        Fields(frame.body())
    }

    pub fn bytes(bytes: Bytes) -> Fields {
        Fields(bytes)
    }

    pub fn byte(&mut self) -> Option<u8> {
        (self.0.remaining() >= 1).then(|| self.0.get_u8())
    }

    pub fn int16(&mut self) -> Option<i16> {
        (self.0.remaining() >= 2).then(|| self.0.get_i16())
    }

    pub fn int32(&mut self) -> Option<i32> {
        (self.0.remaining() >= 4).then(|| self.0.get_i32())
    }

    pub fn take(&mut self, count: usize) -> Option<Bytes> {
        (self.0.remaining() >= count).then(|| self.0.split_to(count))
    }

    /// Takes a string that ends with a zero byte.
    pub fn text(&mut self) -> Option<String> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = String::from_utf8_lossy(&self.0[..end]).into_owned();
        self.0.advance(end + 1);
        Some(text)
    }

    pub fn rest(self) -> Bytes {
        self.0
    }
}
