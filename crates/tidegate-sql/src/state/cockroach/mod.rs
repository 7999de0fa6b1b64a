//! The state at CockroachDB: tables are made outside transactions, and owners are told apart by their rows alone.

mod install;
mod ownership;

pub(super) use install::install;
pub(super) use ownership::take;
