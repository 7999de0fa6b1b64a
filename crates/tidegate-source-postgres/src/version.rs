//! Server versions: what may be asked of which server.

use std::fmt;

use tidegate_connect::Session;
use tidegate_model::Problem;

use crate::problem::Asked;

/// A server's version as `server_version_num` gives it, such as 150008.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion(pub u32);

impl ServerVersion {
    /// The oldest major version that can be a source.
    pub const OLDEST_MAJOR: u32 = 14;
    /// The newest major version that Tidegate is tried with.
    pub const NEWEST_MAJOR: u32 = 18;

    /// Returns the major version, such as 15.
    pub fn major(self) -> u32 {
        self.0 / 10_000
    }

    /// Returns whether slots can be copied to standbys (`FAILOVER`), and say whether they were (`synced`).
    pub(crate) fn has_failover_slots(self) -> bool {
        self.major() >= 17
    }

    /// Returns whether `CREATE_REPLICATION_SLOT` takes its options in parentheses.
    pub(crate) fn has_slot_option_list(self) -> bool {
        self.major() >= 15
    }
}

/// Returns the version of the server of this session.
pub(crate) async fn of(session: &Session) -> Result<ServerVersion, Problem> {
    let asked = Asked::new("asking for the server's version");
    let row = session.query_one("SELECT current_setting('server_version_num')::int4", &[]).await;
    let number: i32 = row.map_err(|error| asked.sql(error))?.get(0);
    u32::try_from(number).map(ServerVersion).map_err(|_| asked.unexpected("a negative version"))
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.0 % 10_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_people_write_them() {
        assert_eq!((ServerVersion(150_008).major(), ServerVersion(150_008).to_string()), (15, "15.8".to_owned()));
    }
}
