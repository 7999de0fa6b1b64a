//! Where a database is and how to get in: everything a libpq user can say, completed the way libpq completes it.
//!
//! ```text
//!   text (URL | key=value)  >  service file  >  PG* variables  >  defaults;  password file last
//! ```

mod keyvalue;
mod parameters;
mod passfile;
mod resolve;
mod service;
mod surroundings;
#[cfg(test)]
mod tests;
mod url;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tidegate_model::Problem;

use self::parameters::Treatment;
use self::surroundings::Surroundings;
use crate::secret::Secret;
use crate::server::Server;

/// How long a connection may take to be ready for commands, unless the settings say otherwise.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// Where a database is and how to get in. `Debug` and `Display` show no secrets.
#[derive(Clone)]
pub struct Settings {
    /// The kind of server that a URL names; key=value text names none.
    pub(crate) scheme: Option<Scheme>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) database: String,
    pub(crate) user: String,
    pub(crate) options: String,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) tls: TlsSettings,
    pub(crate) channel_binding: ChannelBinding,
    pub(crate) keepalive: Keepalive,
    pub(crate) wanted: Wanted,
    /// The operating system user that must own the server behind a Unix socket.
    pub(crate) peer_user: Option<String>,
    /// Why a password file was left aside.
    pub(crate) password_file_ignored: Option<String>,
}

/// What a URL calls a server. It decides the defaults and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Postgres,
    Cockroach,
}

/// One server to try.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) place: Place,
    pub(crate) port: u16,
    pub(crate) password: Option<Secret>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A host name, an address that spares its lookup, or both.
    Tcp { name: Option<String>, address: Option<IpAddr> },
    /// The directory of a Unix socket.
    Unix(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TlsMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

#[derive(Clone, Debug)]
pub(crate) struct TlsSettings {
    pub(crate) mode: TlsMode,
    /// TLS from the first byte, without asking first.
    pub(crate) direct: bool,
    pub(crate) roots: Roots,
    pub(crate) revoked: Option<PathBuf>,
    pub(crate) certificate: Option<ClientCertificate>,
    pub(crate) server_name_sent: bool,
    pub(crate) version_min: TlsVersion,
    pub(crate) version_max: TlsVersion,
}

/// The certificate authorities trusted to sign for a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Roots {
    /// None are configured; where the default file would be.
    Absent {
        default: Option<PathBuf>,
    },
    File(PathBuf),
    /// Those of the operating system.
    System,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientCertificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TlsVersion {
    V12,
    V13,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

/// Probes of an idle TCP connection, so that a peer that is gone is noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keepalive {
    pub(crate) on: bool,
    pub(crate) idle: Duration,
    pub(crate) interval: Duration,
    pub(crate) count: u32,
    /// How long sent bytes may stay unacknowledged; `None` leaves it to the system. Not set by default: a server that
    /// is paused for minutes is not gone.
    pub(crate) unacknowledged: Option<Duration>,
}

/// Which kind of server a session is wanted on (`target_session_attrs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Any,
    Primary,
    Standby,
    PreferStandby,
}

impl Settings {
    /// Reads a connection URL (schemes postgres, postgresql, cockroach, cockroachdb) or libpq key=value text, and
    /// completes it from the service file, `PG*` variables and the password file of this process, as libpq does. What
    /// is said nowhere is as `psql` has it, or for a cockroach URL as `cockroach sql` has it: port 26257, role `root`,
    /// database `defaultdb`. Which kind of server it really is, a session says.
    ///
    /// Opens no connection. Errors are definite (`CN001` to `CN003`) and quote no secret.
    pub fn parse(text: &str) -> Result<Settings, Problem> {
        resolve::settings(text, &Surroundings::of_this_process())
    }

    /// Returns the name of the database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Returns the name of the role.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Returns `host:port` for messages; several, separated by commas, where several hosts are to be tried.
    pub fn address(&self) -> String {
        self.hosts.iter().map(Host::to_string).collect::<Vec<_>>().join(",")
    }

    /// Tells whether the URL names another kind of server than the one that answered.
    pub(crate) fn is_contradicted_by(&self, server: &Server) -> bool {
        self.scheme.is_some_and(|scheme| (scheme == Scheme::Cockroach) != server.is_cockroach())
    }

    /// Sets how long a connection may take to be ready for commands, over all its hosts; zero: as long as it takes.
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        Settings { connect_timeout: (!timeout.is_zero()).then_some(timeout), ..self }
    }
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Scheme::Postgres => "postgres",
            Scheme::Cockroach => "cockroach",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Scheme::Postgres => 5432,
            Scheme::Cockroach => 26257,
        }
    }
}

impl fmt::Display for Settings {
    /// A URL without password and parameters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.unwrap_or(Scheme::Postgres).name();
        write!(f, "{scheme}://{}@{}/{}", self.user, self.address(), self.database)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("url", &self.to_string()).field("tls", &self.tls).finish_non_exhaustive()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port;
        match &self.place {
            Place::Tcp { name: Some(name), .. } if name.contains(':') => write!(f, "[{name}]:{port}"),
            Place::Tcp { name: Some(name), .. } => write!(f, "{name}:{port}"),
            Place::Tcp { address: Some(IpAddr::V6(address)), .. } => write!(f, "[{address}]:{port}"),
            Place::Tcp { address: Some(address), .. } => write!(f, "{address}:{port}"),
            Place::Tcp { name: None, address: None } => write!(f, "localhost:{port}"),
            Place::Unix(directory) => write!(f, "{}:{port}", directory.display()),
        }
    }
}

/// Parameters as written somewhere, by name. Only known names get in.
#[derive(Default)]
struct Given(BTreeMap<&'static str, String>);

impl Given {
    /// Sets a parameter; a later mention replaces an earlier one.
    fn set(&mut self, name: &str, value: String) -> Result<(), Problem> {
        let Some(parameter) = parameters::find(name) else {
            return Err(invalid(format!("there is no connection parameter \"{name}\"")));
        };
        if let Treatment::Only(values) = parameter.treatment {
            accept(parameter.name, &value, values)?;
        }
        self.0.insert(parameter.name, value);
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Adds what is not yet there.
    fn complete(&mut self, others: Given) {
        for (name, value) in others.0 {
            self.0.entry(name).or_insert(value);
        }
    }

    /// Returns a parameter's value; an empty one means the default, as in libpq.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Refuses a parameter whose effect we cannot give, unless it asks for what we do anyway.
fn accept(name: &str, value: &str, values: &[&str]) -> Result<(), Problem> {
    if value.is_empty() || values.contains(&value) {
        return Ok(());
    }
    let (why, next) = if values.is_empty() {
        (format!("Tidegate does not support \"{name}\", and going on without it would not be what was asked for"), {
            format!("leave \"{name}\" out of the connection text, the service file and the environment")
        })
    } else {
        (format!("Tidegate does not support this value of \"{name}\""), {
            format!("use one of: {}; or leave \"{name}\" out", values.join(", "))
        })
    };
    Err(Problem::definite("CN002", format!("connection parameter \"{name}\" is not supported"), why, next))
}

fn invalid(why: impl Into<String>) -> Problem {
    Problem::definite(
        "CN001",
        "connection text is not valid",
        why,
        "write postgres://user@host:5432/database?sslmode=verify-full, or host=... port=... dbname=... user=...; \
         the parameters are those of libpq",
    )
}
