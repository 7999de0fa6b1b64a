//! CockroachDB on one end: a real one where there is one, else the stand-in.

mod commands;
mod feeds;
mod forward;
mod reverse;
mod way_back;
mod zoo;
