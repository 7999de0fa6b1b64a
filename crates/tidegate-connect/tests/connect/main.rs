//! Connections to a real server: TLS in all its modes, every way of proving who one is, dead servers, replication.

mod authentication;
mod certificates;
mod cockroach;
mod failures;
mod fixture;
mod replication;
mod sessions;
mod tls;
