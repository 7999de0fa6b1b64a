//! Which SQL a target speaks.

use tidegate_connect::Session;

/// The SQL of a target. Both sides of a dialect keep the same promises; only their texts differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    Postgres,
    Cockroach,
}

impl Dialect {
    /// Returns what the server at the other end speaks: its own answer decides, never the scheme of a URL.
    pub fn of(session: &Session) -> Dialect {
        if session.is_cockroach() { Dialect::Cockroach } else { Dialect::Postgres }
    }

    pub fn is_cockroach(self) -> bool {
        self == Dialect::Cockroach
    }
}
