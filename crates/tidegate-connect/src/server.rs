//! What kind of server answered, and in which version: what a URL calls it decides nothing.

use std::fmt;

/// The kind and version of a server, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// PostgreSQL, or something that takes itself for it.
    Postgres {
        /// As `server_version_num`: 150017 is 15.17. Zero where the server does not say.
        version_num: u32,
    },
    /// CockroachDB.
    Cockroach(CockroachVersion),
}

/// The version of a CockroachDB server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CockroachVersion {
    /// All that the server says about itself, as `SELECT version()` does.
    pub text: String,
    /// `23` of v23.1.2; zero where the text has no version.
    pub major: u32,
    /// `1` of v23.1.2.
    pub minor: u32,
    /// `2` of v23.1.2.
    pub patch: u32,
}

impl Server {
    /// Tells whether it is CockroachDB.
    pub fn is_cockroach(&self) -> bool {
        matches!(self, Server::Cockroach(_))
    }

    /// Recognises a server by the parameters that it reports at the start of a session. `None` if they do not tell:
    /// CockroachDB reports `crdb_version`, but a pooler in between may keep that to itself, and what is left is a
    /// `server_version` of three parts, which PostgreSQL gave up with version 10.
    pub(crate) fn of_parameters(crdb_version: Option<&str>, server_version: Option<&str>) -> Option<Server> {
        if let Some(text) = crdb_version {
            return Some(Server::Cockroach(CockroachVersion::read(text)));
        }
        let (version_num, parts) = version_num(server_version?)?;
        (parts < 3).then_some(Server::Postgres { version_num })
    }

    /// Recognises a server by its answer to `SELECT version()`.
    pub(crate) fn of_answer(version: &str, server_version: Option<&str>) -> Server {
        if version.starts_with("CockroachDB") {
            return Server::Cockroach(CockroachVersion::read(version));
        }
        let version_num = server_version.and_then(version_num).map_or(0, |(number, _)| number);
        Server::Postgres { version_num }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Server::Postgres { version_num } if *version_num < 100_000 => {
                write!(f, "PostgreSQL {}.{}", version_num / 10_000, version_num / 100 % 100)
            }
            Server::Postgres { version_num } => {
                write!(f, "PostgreSQL {}.{}", version_num / 10_000, version_num % 10_000)
            }
            Server::Cockroach(version) => write!(f, "CockroachDB {version}"),
        }
    }
}

impl CockroachVersion {
    /// Reads `CockroachDB CCL v23.1.2 (x86_64-...)`. A text without a version is taken for a very old one, so that
    /// nothing newer is asked of the server.
    fn read(text: &str) -> CockroachVersion {
        let found = text.split_whitespace().find_map(|word| {
            let numbers = word.strip_prefix('v')?;
            let mut numbers = numbers.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next().and_then(Result::ok).unwrap_or(0)))
        });
        let (major, minor, patch) = found.unwrap_or_default();
        CockroachVersion { text: text.to_owned(), major, minor, patch }
    }

    /// Tells whether it is this version or a newer one.
    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        (self.major, self.minor) >= (major, minor)
    }
}

impl fmt::Display for CockroachVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Returns the number of a `server_version` (`15.17 (Debian 15.17-0+deb12u1)`, `17beta1`, `9.6.24`) and how many parts
/// it has.
fn version_num(server_version: &str) -> Option<(u32, usize)> {
    let end = server_version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(server_version.len());
    let parts: Vec<u32> = server_version[..end].split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
    let part = |index: usize| parts.get(index).copied().unwrap_or(0);
    let number = if part(0) >= 10 { part(0) * 10_000 + part(1) } else { part(0) * 10_000 + part(1) * 100 + part(2) };
    Some((number, parts.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_is_recognised_by_its_version() {
        for (version, number, shown) in [
            ("15.17 (Debian 15.17-0+deb12u1)", 150_017, "PostgreSQL 15.17"),
            ("17beta1", 170_000, "PostgreSQL 17.0"),
            ("16.0", 160_000, "PostgreSQL 16.0"),
        ] {
            let server = Server::of_parameters(None, Some(version)).unwrap();
            assert_eq!(server, Server::Postgres { version_num: number });
            assert_eq!(server.to_string(), shown);
        }
    }

    #[test]
    fn cockroach_is_recognised_by_its_own_parameter() {
        for (text, version) in [
            ("CockroachDB CCL v23.1.2 (x86_64-apple-darwin19, built 2023/05/25 16:10:39, go1.19.4)", (23, 1, 2)),
            ("CockroachDB OSS v25.4.0-alpha.1-dev (aarch64-unknown-linux-gnu)", (25, 4, 0)),
            ("CockroachDB CCL v26.2 (x86_64-pc-linux-gnu)", (26, 2, 0)),
            ("CockroachDB of my own", (0, 0, 0)),
        ] {
            let Some(Server::Cockroach(found)) = Server::of_parameters(Some(text), Some("13.0.0")) else {
                panic!("{text} was not recognised");
            };
            assert_eq!((found.major, found.minor, found.patch), version, "{text}");
            assert_eq!(found.text, text);
        }
    }

    #[test]
    fn what_the_parameters_leave_open_is_asked_for() {
        for open in [None, Some("13.0.0"), Some("9.6.24"), Some("next")] {
            assert_eq!(Server::of_parameters(None, open), None, "{open:?}");
        }
        assert!(Server::of_answer("CockroachDB CCL v24.1.0 (x86_64)", Some("13.0.0")).is_cockroach());
        let old = Server::of_answer("PostgreSQL 9.6.24 on x86_64-pc-linux-gnu", Some("9.6.24"));
        assert_eq!(old, Server::Postgres { version_num: 90_624 });
        assert_eq!(old.to_string(), "PostgreSQL 9.6");
    }

    #[test]
    fn versions_are_compared_by_their_parts() {
        let version = CockroachVersion::read("CockroachDB CCL v23.2.10 (x86_64)");
        assert!(version.at_least(23, 2) && version.at_least(22, 9) && version.at_least(23, 1));
        assert!(!version.at_least(23, 3) && !version.at_least(24, 1));
        assert_eq!(version.to_string(), "v23.2.10");
    }
}
