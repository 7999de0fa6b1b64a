//! What goes wrong between us and a server, and how a user is told.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorResponseBody;
use tidegate_model::{Class, Problem};

use crate::settings::{Host, Settings};
use crate::sql_error::sqlstate_class;

/// An error that a server reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// The SQLSTATE: five characters, stable across versions and languages.
    pub sqlstate: String,
    /// The server's message, in the server's language.
    pub message: String,
    /// More about it, where the server says more.
    pub detail: Option<String>,
    /// The server's advice, where it gives one.
    pub hint: Option<String>,
}

impl ServerError {
    pub(crate) fn read(body: &ErrorResponseBody) -> ServerError {
        let mut error = ServerError { sqlstate: "XX000".to_owned(), message: String::new(), detail: None, hint: None };
        let mut fields = body.fields();
        while let Ok(Some(field)) = fields.next() {
            let text = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => error.sqlstate = text,
                b'M' => error.message = text,
                b'D' => error.detail = Some(text),
                b'H' => error.hint = Some(text),
                _ => {}
            }
        }
        error
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        write!(f, " [SQLSTATE {}]", self.sqlstate)
    }
}

/// Why a command of a replication session failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The server refused it. The session remains usable unless it was copying.
    #[error("{0}")]
    Server(ServerError),
    /// The connection is gone. Connecting again may help.
    #[error("connection lost: {why}")]
    Lost {
        /// What the network said.
        why: String,
    },
    /// The server sent something that the protocol does not allow here. The session is not usable any more.
    #[error("protocol violation: {why}")]
    Protocol {
        /// What was unexpected.
        why: String,
    },
}

impl QueryError {
    pub(crate) fn from_io(error: &io::Error) -> QueryError {
        match error.kind() {
            // TLS and the framing report nonsense on the wire like this.
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => QueryError::Protocol { why: error.to_string() },
            io::ErrorKind::UnexpectedEof => QueryError::Lost { why: "the server closed it".to_owned() },
            _ => QueryError::Lost { why: error.to_string() },
        }
    }

    pub(crate) fn protocol(why: impl Into<String>) -> QueryError {
        QueryError::Protocol { why: why.into() }
    }

    /// Returns the server's SQLSTATE, if the server said anything.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            QueryError::Server(error) => Some(&error.sqlstate),
            QueryError::Lost { .. } | QueryError::Protocol { .. } => None,
        }
    }

    /// Returns what may be done about it.
    pub fn class(&self) -> Class {
        match self {
            QueryError::Server(error) => sqlstate_class(&error.sqlstate),
            QueryError::Lost { .. } => Class::Transient,
            QueryError::Protocol { .. } => Class::Definite,
        }
    }

    /// Tells whether the same command may succeed on a new connection later.
    pub fn is_transient(&self) -> bool {
        self.class() == Class::Transient
    }
}

/// Why one attempt to connect failed.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// Nobody answered there, or the answer ended.
    Unreachable(String),
    /// It took longer than allowed.
    TimedOut(Option<Duration>),
    /// TLS is required and the server has none.
    NoTls,
    /// The server's certificate was refused.
    Untrusted { expected: String, why: String },
    /// TLS failed otherwise: versions, or the server refused our certificate.
    Tls(String),
    /// The server wants a password, or a method of proving who we are, that we do not have.
    Credentials(String),
    /// Channel binding is required and cannot be had.
    Binding(String),
    /// The server refused.
    Refused(ServerError),
    /// The server is not of the wanted kind (`target_session_attrs`).
    OtherKind(&'static str),
    /// The other side does not speak the PostgreSQL protocol.
    Foreign(String),
    /// A file or setting of ours.
    Setup(Problem),
}

impl ConnectError {
    /// Tells whether the same failure is certain at the next host as well; as in libpq an answer about who we are ends
    /// the search.
    pub(crate) fn ends_search(&self) -> bool {
        match self {
            ConnectError::Refused(error) => sqlstate_class(&error.sqlstate) != Class::Transient,
            ConnectError::Credentials(_) | ConnectError::Binding(_) | ConnectError::Setup(_) => true,
            ConnectError::Unreachable(_)
            | ConnectError::TimedOut(_)
            | ConnectError::NoTls
            | ConnectError::Untrusted { .. }
            | ConnectError::Tls(_)
            | ConnectError::OtherKind(_)
            | ConnectError::Foreign(_) => false,
        }
    }

    /// Says it to the user.
    pub(crate) fn into_problem(self, settings: &Settings, host: &Host) -> Problem {
        let what = format!("cannot connect to database \"{}\" at {host} as \"{}\"", settings.database, settings.user);
        let definite = |code, why: String, next: &str| Problem::definite(code, what.clone(), why, next);
        let transient = |code, why: String, next: &str| Problem::transient(code, what.clone(), why, next);
        match self {
            ConnectError::Unreachable(why) => {
                transient("CN004", why, "check host and port, that the server runs, and what lies between (firewall)")
            }
            ConnectError::TimedOut(after) => {
                let after = after.map_or(String::new(), |after| format!(" within {:.1} s", after.as_secs_f64()));
                let why = format!("the connection was not ready{after}");
                transient("CN005", why, "check that the server answers there, or raise connect_timeout")
            }
            ConnectError::NoTls => definite(
                "CN006",
                "the server does not offer TLS, and \"sslmode\" requires it".to_owned(),
                "switch TLS on at the server (ssl = on), or choose a weaker \"sslmode\" if the network may be trusted",
            ),
            ConnectError::Untrusted { expected, why } => definite(
                "CN007",
                format!("the server's certificate was refused for \"{expected}\": {why}"),
                "connect by a name that the certificate lists, or name its authority's file in \"sslrootcert\"",
            ),
            ConnectError::Tls(why) => {
                definite("CN016", format!("TLS failed: {why}"), "check \"sslcert\", \"sslkey\" and the TLS versions")
            }
            ConnectError::Credentials(why) => {
                let ignored = settings.password_file_ignored.as_deref();
                let why = ignored.map_or(why.clone(), |ignored| format!("{why}; {ignored}"));
                definite("CN009", why, AUTHENTICATION_ADVICE)
            }
            ConnectError::Binding(why) => {
                definite("CN012", why, "use TLS and SCRAM passwords at the server, or set \"channel_binding=prefer\"")
            }
            ConnectError::OtherKind(why) => transient(
                "CN014",
                why.to_owned(),
                "name the server of the wanted kind, or change \"target_session_attrs\"",
            ),
            ConnectError::Foreign(why) => {
                definite("CN015", why, "check the port: another kind of server seems to answer there")
            }
            ConnectError::Refused(error) => refused(settings, what, error),
            ConnectError::Setup(problem) => problem,
        }
    }
}

const AUTHENTICATION_ADVICE: &str = "check user and password (URL, password file, PGPASSWORD) and the server's \
    pg_hba.conf, which must allow this user, database and address";

fn refused(settings: &Settings, what: String, error: ServerError) -> Problem {
    let why = format!("the server said: {error}");
    let class = sqlstate_class(&error.sqlstate);
    match error.sqlstate.as_str() {
        "28P01" | "28000" => Problem::definite("CN009", what, why, AUTHENTICATION_ADVICE),
        "3D000" => {
            let next = format!("create the database, or correct its name (\"{}\")", settings.database);
            Problem::definite("CN010", what, why, next)
        }
        _ if class == Class::Transient => {
            let next = "wait, or free what the message names (connections, WAL senders, memory); it is tried again";
            Problem::transient("CN011", what, why, next)
        }
        _ => {
            Problem::definite("CN013", what, why, "give this role the right to do what the message says, or change it")
        }
    }
}

/// Sorts what the network or TLS said while connecting. `expected` is the name the certificate has to carry.
pub(crate) fn connect_io_error(error: &io::Error, expected: &str) -> ConnectError {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => ConnectError::Foreign(error.to_string()),
            io::ErrorKind::UnexpectedEof => ConnectError::Unreachable("the server closed the connection".to_owned()),
            _ => ConnectError::Unreachable(error.to_string()),
        };
    };
    match tls {
        rustls::Error::InvalidCertificate(reason) => {
            ConnectError::Untrusted { expected: expected.to_owned(), why: certificate_reason(reason) }
        }
        rustls::Error::AlertReceived(alert) => {
            ConnectError::Tls(format!("the server ended it with the alert \"{alert:?}\""))
        }
        rustls::Error::InvalidMessage(_) => {
            ConnectError::Foreign("the answer to the TLS greeting is not TLS".to_owned())
        }
        other => ConnectError::Tls(other.to_string()),
    }
}

fn certificate_reason(reason: &rustls::CertificateError) -> String {
    use rustls::CertificateError;
    match reason {
        CertificateError::NotValidForName => "it does not list this name".to_owned(),
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            "it does not list this name".to_owned()
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            format!("it does not list this name, only {}", presented.join(", "))
        }
        CertificateError::UnknownIssuer => "no trusted authority signed it".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "it is not valid yet".to_owned(),
        CertificateError::Revoked => "it was revoked".to_owned(),
        other => other.to_string(),
    }
}

/// Finds an I/O error in a chain of causes.
pub(crate) fn io_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        cause = error.source();
    }
    None
}
