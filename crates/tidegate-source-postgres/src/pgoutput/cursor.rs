//! Reading fields off a message.

use tidegate_model::{Lsn, Timestamp};

use super::DecodeError;

/// Microseconds from 1970-01-01 to 2000-01-01, where PostgreSQL's times begin.
const POSTGRES_EPOCH_MICROSECONDS: i64 = 946_684_800_000_000;

/// The server builds messages in buffers of less than 1 GiB. Offsets inside rows, which are 32 bits wide, rely on it.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// A place in a message. Every read checks the length; big-endian throughout.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    kind: u8,
}

impl<'a> Cursor<'a> {
    /// Starts behind the kind byte.
    pub(super) fn behind_kind(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let kind = *bytes.first().ok_or(DecodeError::Empty)?;
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(DecodeError::TooLarge { kind });
        }
        Ok(Cursor { bytes, at: 1, kind })
    }

    pub(super) fn kind(&self) -> u8 {
        self.kind
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn invalid(&self, field: &'static str) -> DecodeError {
        DecodeError::Invalid { kind: self.kind, field }
    }

    /// Refuses what comes after the end: a longer message is one that is not understood.
    pub(super) fn end(self) -> Result<(), DecodeError> {
        match self.left() {
            0 => Ok(()),
            extra => Err(DecodeError::Trailing { kind: self.kind, extra }),
        }
    }

    #[inline]
    pub(super) fn take(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..len).ok_or(DecodeError::Short { kind: self.kind, field })?;
        self.at += len;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (taken, _) =
            self.bytes[self.at..].split_first_chunk().ok_or(DecodeError::Short { kind: self.kind, field })?;
        self.at += N;
        Ok(*taken)
    }

    #[inline]
    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    #[inline]
    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_be_bytes)
    }

    #[inline]
    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(i32::from_be_bytes)
    }

    /// Reads a length: an `int4` that is never negative.
    #[inline]
    pub(super) fn length(&mut self, field: &'static str) -> Result<usize, DecodeError> {
        let length = i32::from_be_bytes(self.array(field)?);
        usize::try_from(length).map_err(|_| self.invalid(field))
    }

    pub(super) fn lsn(&mut self, field: &'static str) -> Result<Lsn, DecodeError> {
        self.array(field).map(|bytes| Lsn(u64::from_be_bytes(bytes)))
    }

    pub(super) fn time(&mut self, field: &'static str) -> Result<Timestamp, DecodeError> {
        let since_2000 = i64::from_be_bytes(self.array(field)?);
        Ok(Timestamp(since_2000.saturating_add(POSTGRES_EPOCH_MICROSECONDS)))
    }

    /// Reads text up to its NUL byte.
    pub(super) fn text(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().position(|&byte| byte == 0).ok_or(DecodeError::Short { kind: self.kind, field })?;
        let text = std::str::from_utf8(&rest[..len]).map_err(|_| self.invalid(field))?;
        self.at += len + 1;
        Ok(text)
    }
}
