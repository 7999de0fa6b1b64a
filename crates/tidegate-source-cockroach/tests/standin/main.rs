//! The source against a server: the stand-in for CockroachDB.

mod catalog;
mod check;
mod copy;
mod ends;
mod faults;
mod fixture;
mod history;
mod stream;
mod window;
