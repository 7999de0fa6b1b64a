//! Long runs, each with a short form that `make test` runs.

pub mod crash;
pub mod giant;
