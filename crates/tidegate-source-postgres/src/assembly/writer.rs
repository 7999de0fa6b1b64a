//! Whose a transaction is: what the migration wrote itself, in its other direction, must not go back.
//!
//! A transaction of ours says so at its very beginning: with an Origin message that names one of our origins, or with
//! our logical message before any change. A message of that kind further on says nothing: somebody's changes came
//! before it. Everything else is kept, whatever its origin: what a subscription of the source writes is a change like
//! any other.

use tidegate_model::{MESSAGE_PREFIX, MigrationName};

/// Who wrote a transaction, as far as it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Writer {
    /// Nothing of it has come yet.
    #[default]
    Unknown,
    /// Not this migration.
    Somebody,
    /// This migration.
    Us,
}

impl Writer {
    /// Notes a change, and tells whether it is kept.
    pub(super) fn wrote_change(&mut self) -> bool {
        self.wrote_message(false)
    }

    /// Notes a transactional logical message, and tells whether it is kept.
    pub(super) fn wrote_message(&mut self, is_own: bool) -> bool {
        if *self == Writer::Unknown {
            *self = if is_own { Writer::Us } else { Writer::Somebody };
        }
        *self != Writer::Us
    }

    /// Notes an origin. It says more than a message: a transaction that came from elsewhere is not ours. False where
    /// another origin said otherwise: what was let go by then cannot be had back.
    pub(super) fn came_from(&mut self, is_own: bool) -> bool {
        if *self == Writer::Us && !is_own {
            return false;
        }
        *self = if is_own { Writer::Us } else { Writer::Somebody };
        true
    }
}

/// What we recognise our own transactions by; nothing, where they are not to be dropped.
#[derive(Clone, Debug, Default)]
pub(super) struct Own(Option<MigrationName>);

impl Own {
    pub(super) fn of(name: &MigrationName) -> Self {
        Own(Some(name.clone()))
    }

    pub(super) fn is_origin(&self, origin: &str) -> bool {
        self.0.as_ref().is_some_and(|name| name.owns_origin(origin))
    }

    pub(super) fn wrote_message(&self, prefix: &str, content: &[u8]) -> bool {
        prefix == MESSAGE_PREFIX && self.0.as_ref().is_some_and(|name| name.owns_message(content))
    }
}
