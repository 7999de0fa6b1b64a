//! The copy on real servers: what it promises while others write, rewrite and end sessions.

mod bench;
mod disturbances;
mod rights;
mod tables;
