//! What a stand-in is started with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tidegate_throwaway::Server;

/// The release whose behaviour the fact sheet of the stand-in describes.
pub const VERSION: Version = Version { major: 25, minor: 4, patch: 0 };

/// A release of CockroachDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl Version {
    pub fn at_least(self, major: u32, minor: u32) -> bool {
        (self.major, self.minor) >= (major, minor)
    }

    /// What `SELECT version()` gives: it begins as clients expect, and says what it is.
    pub fn banner(self, backing: &str) -> String {
        format!(
            "CockroachDB CCL {self} (x86_64-pc-linux-gnu, built 2025/11/01 00:00:00, go1.23.0) \
             -- tidegate stand-in, backed by PostgreSQL {backing}"
        )
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl std::str::FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Version, String> {
        let bad = || format!("{text:?} is no version such as 25.4.0");
        let mut numbers =
            text.trim_start_matches('v').split('.').map(|number| number.parse::<u32>().map_err(|_| bad()));
        let major = numbers.next().ok_or_else(bad)??;
        let minor = numbers.next().ok_or_else(bad)??;
        let patch = numbers.next().unwrap_or(Ok(0))?;
        if numbers.next().is_some() {
            return Err(bad());
        }
        Ok(Version { major, minor, patch })
    }
}

/// Where statements' shapes are checked against a reviewed list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeList {
    pub folder: PathBuf,
    /// Adds unknown shapes instead of refusing their statements.
    pub record: bool,
}

impl ShapeList {
    /// Reads `TIDEGATE_COCKROACH_SQL` (the folder) and `TIDEGATE_COCKROACH_SQL_RECORD` (1 to add).
    pub fn of_environment() -> Option<ShapeList> {
        let folder = std::env::var_os("TIDEGATE_COCKROACH_SQL").filter(|folder| !folder.is_empty())?;
        let record = std::env::var("TIDEGATE_COCKROACH_SQL_RECORD").is_ok_and(|value| value == "1");
        Some(ShapeList { folder: PathBuf::from(folder), record })
    }
}

/// What a stand-in is started with. The default: a backing server of its own, a free port of 127.0.0.1.
#[derive(Clone, Debug)]
pub struct StandinOptions {
    /// The server to use. All that the stand-in keeps is in it, so that a second one can follow on it.
    pub backing: Option<Arc<Server>>,
    /// Used in place of `backing`: the URL of a superuser.
    pub backing_url: Option<String>,
    /// Where to listen; port 0 and `None` take a free port.
    pub listen: Option<SocketAddr>,
    /// The release it claims to be.
    pub version: Version,
    /// Asked of every client, where set.
    pub password: Option<String>,
    /// Taken from the environment by default.
    pub shapes: Option<ShapeList>,
}

impl Default for StandinOptions {
    fn default() -> StandinOptions {
        StandinOptions {
            backing: None,
            backing_url: None,
            listen: None,
            version: VERSION,
            password: None,
            shapes: ShapeList::of_environment(),
        }
    }
}
