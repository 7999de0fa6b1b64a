//! The promises of the traits, tried on every implementation: in memory, on PostgreSQL and on CockroachDB; and the list
//! of what the engine may send to CockroachDB.

mod cockroach_source;
mod cockroach_sql;
mod marks;
mod memory;
mod pipeline;
mod postgres_source;
mod sql_applier;
