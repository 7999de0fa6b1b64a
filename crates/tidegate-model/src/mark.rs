//! By what a migration recognises what it wrote itself, so that a reader does not send it back where it came from.
//!
//! A transaction that it applies to PostgreSQL runs under a replication origin of the migration, or begins with a
//! transactional logical message of it, or both. The names say which migration: what another one writes into the same
//! database is a change like any other.

use crate::{MigrationName, Stream};

/// The prefix of our logical messages.
pub const MESSAGE_PREFIX: &str = "tidegate";

/// What the messages begin with that mark a transaction.
const APPLIED: &str = "applied/";

/// Tells whether a message with [`MESSAGE_PREFIX`] and this content only says that some migration applied its
/// transaction, and asks for nothing, as a drain marker does.
pub fn is_applied_message(content: &[u8]) -> bool {
    content.starts_with(APPLIED.as_bytes())
}

impl MigrationName {
    /// Returns the name of one of its replication origins. A session holds an origin alone, so there are several.
    pub fn origin_name(&self, number: u32) -> String {
        format!("tidegate_{self}_{number}")
    }

    /// Tells whether a replication origin is one of its own: the same name with nothing but a number behind it. The
    /// origin of a migration whose name only begins alike is not, nor is that of a subscription (`pg_16393`).
    pub fn owns_origin(&self, origin: &str) -> bool {
        let number = origin.strip_prefix("tidegate_").and_then(|rest| rest.strip_prefix(self.as_str()));
        let number = number.and_then(|rest| rest.strip_prefix('_'));
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    }

    /// Returns the content of the logical message that an applied transaction begins with.
    pub fn applied_message(&self, stream: Stream, epoch: i64) -> String {
        format!("{APPLIED}{self}/{stream}/{epoch}")
    }

    /// Tells whether a message with [`MESSAGE_PREFIX`] and this content begins transactions that it applied itself. A
    /// drain marker or a heartbeat does not.
    pub fn owns_message(&self, content: &[u8]) -> bool {
        let rest =
            content.strip_prefix(APPLIED.as_bytes()).and_then(|rest| rest.strip_prefix(self.as_str().as_bytes()));
        rest.is_some_and(|rest| rest.starts_with(b"/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> MigrationName {
        text.parse().unwrap()
    }

    #[test]
    fn exactly_its_own_origins_are_its_own() {
        for number in [1, 2, 64, u32::MAX] {
            assert!(name("orders").owns_origin(&name("orders").origin_name(number)));
        }
        for other in [
            "tidegate_other_1",
            "tidegate_orders",
            "tidegate_orders_",
            "tidegate_orders_x",
            "tidegate_orders_1x",
            "tidegate_orders_1_1",
            "tidegate_orders_-1",
            "tidegate_orders2_1",
            "Tidegate_orders_1",
            "xtidegate_orders_1",
            "orders_1",
            "pg_16393",
            "",
        ] {
            assert!(!name("orders").owns_origin(other), "{other}");
        }
        // One name is the beginning of the other.
        assert!(!name("a").owns_origin(&name("a_1").origin_name(2)));
        assert!(!name("a_1").owns_origin(&name("a").origin_name(1)));
        assert!(name("a_1").owns_origin(&name("a_1").origin_name(1)));
    }

    #[test]
    fn exactly_its_own_messages_are_its_own() {
        for stream in [Stream::Forward, Stream::Reverse] {
            let message = name("orders").applied_message(stream, 7);
            assert!(name("orders").owns_message(message.as_bytes()), "{message}");
            assert!(is_applied_message(message.as_bytes()));
            assert!(!name("order").owns_message(message.as_bytes()), "{message}");
            assert!(!name("orders_2").owns_message(message.as_bytes()), "{message}");
        }
        for other in ["drain", "heartbeat", "applied", "applied/", "applied/orders", "applied/orders2/forward/1", ""] {
            assert!(!name("orders").owns_message(other.as_bytes()), "{other}");
        }
        assert!(!is_applied_message(b"drain") && !is_applied_message(b"heartbeat"));
    }

    #[test]
    fn names_of_origins_fit() {
        assert!(name(&"a".repeat(32)).origin_name(u32::MAX).len() < 64);
    }
}
