//! State, ownership, requests, copy and check where the database is CockroachDB: each once on a quiet server and once
//! on one that lets transactions collide and loses answers to COMMIT.

mod checking;
mod copying;
mod ownership;
mod requests;
mod state;
mod support;
mod turning;
