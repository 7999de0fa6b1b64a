//! Writing tables to CockroachDB, where a transaction should be small.
//!
//! ```text
//!   chunk:  | 20,000 rows | 20,000 rows | the rest |      each piece: lease, record (rows of the chunk so far), COPY
//!   again:  | skipped -------------->| goes on here       the record says how many rows are there
//! ```
//!
//! The rows of a chunk come in the same order however often they are read, because they are read under one snapshot.
//! The record moves by compare-and-set in the transaction of the piece, so that a lost answer is settled by trying again.
//! A piece is kept until it is committed, for the transaction may have to be run again. COPY is sent over the simple
//! protocol, the only one in which the server takes it.

mod empty;
mod foreign_keys;
mod load;
mod piece;
mod writer;

pub(super) use foreign_keys::{restore as restore_foreign_keys, take_away as take_foreign_keys_away};
pub(super) use load::begin;
pub(super) use writer::{Begun, PieceWriter};
