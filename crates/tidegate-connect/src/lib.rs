//! Connections to PostgreSQL and whatever speaks its protocol.
//!
//! ```text
//!   text --> Settings --> host, address --> Transport (TCP | Unix, TLS) --> Session              (SQL)
//!                                                                      \-> ReplicationSession   (walsender)
//!                                                                            \-> CopyReader, CopyWriter
//! ```
//!
//! A user of libpq finds everything as expected: URLs and key=value text, service and password files, `PG*` variables,
//! the modes of `sslmode`, SCRAM with channel binding. Both kinds of session share the whole way up to the startup
//! packet, and are made independent of what roles and databases set. What a URL calls a server decides defaults only;
//! a session says who really answered ([`Session::server`]).

mod connect;
mod error;
mod replication;
mod secret;
mod server;
mod session;
mod session_settings;
mod settings;
mod sql_error;
mod tls;
mod transport;

pub use error::{QueryError, ServerError};
pub use replication::{CopyReader, CopyStatus, CopyWriter, LoadSession, ReplicationSession};
pub use server::{CockroachVersion, Server};
pub use session::Session;
pub use settings::{CONNECT_TIMEOUT_DEFAULT, Settings};
pub use sql_error::{describe_query_error, describe_sql_error, is_transient, sql_error_class, sqlstate_class};
