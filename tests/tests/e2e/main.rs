//! The engine as users run it, between real servers. One binary, so that the servers start once.

mod cockroach;
mod commands;
mod copying;
mod faults;
mod fixtures;
mod idle;
mod long_runs;
mod options;
mod prepared;
mod publications;
mod random;
mod refusals;
mod roles;
mod security;
mod semantics;
mod stops;
mod streaming;
mod triggers;
mod turns;
mod verify;
