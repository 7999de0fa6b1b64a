//! The promises of the traits, tried on every implementation: in memory and on PostgreSQL.

mod memory;
mod pipeline;
mod postgres_applier;
mod postgres_source;
