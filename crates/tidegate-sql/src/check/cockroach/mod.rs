//! What is to be known of a target that is CockroachDB, beyond what is asked of every target.

mod cycles;
mod database;
mod tables;

pub(super) use database::look as look_at_database;
pub(super) use tables::look as look_at_tables;
