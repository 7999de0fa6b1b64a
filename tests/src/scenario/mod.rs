//! Long runs, each with a short form that `make test` runs.

pub mod both;
pub mod crash;
pub mod giant;
pub mod giant_cockroach;
pub mod turns;
pub mod verify_load;
