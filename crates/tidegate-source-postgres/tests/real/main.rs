//! The source against a real server: what its unit tests take for granted.

mod catalog;
mod check;
mod fence;
mod fixture;
mod history;
mod own;
mod slot;
mod stream;
mod wal;
