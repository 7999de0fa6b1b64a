//! Databases of tests, on servers that all tests of a process share.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use tidegate_throwaway::{Builder, Server};

/// One database on a server.
#[derive(Clone, Debug)]
pub struct Database {
    /// Where it is.
    pub server: Arc<Server>,
    /// Its name.
    pub name: String,
}

impl Database {
    /// Makes an empty database.
    pub fn create(server: &Arc<Server>, name: &str) -> Database {
        server.create_database(name).expect("a new database");
        Database { server: Arc::clone(server), name: name.to_owned() }
    }

    /// Returns its URL for the superuser.
    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// Runs SQL, each statement in a transaction of its own unless it says otherwise; returns what it printed.
    pub fn sql(&self, sql: &str) -> String {
        self.server.psql(&self.name, sql).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Runs SQL that may fail, with the server's message as the error.
    pub fn try_sql(&self, sql: &str) -> anyhow::Result<String> {
        self.server.psql(&self.name, sql)
    }

    /// Returns the one number that the query gives.
    pub fn number(&self, query: &str) -> i64 {
        let text = self.sql(query);
        text.parse().unwrap_or_else(|_| panic!("{query} gave {text:?} and not a number"))
    }

    /// Returns whether the query gives true.
    pub fn holds(&self, query: &str) -> bool {
        self.sql(query) == "t"
    }

    /// Removes it with its sessions and slots, as far as that is possible.
    pub fn discard(&self) {
        let name = &self.name;
        let _ = self.server.psql(
            "postgres",
            &format!(
                "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots
                  WHERE database = '{name}' AND active_pid IS NOT NULL;
                 SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
                  WHERE database = '{name}' AND NOT active;
                 DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)"
            ),
        );
    }
}

/// Starts a server for tests. A server that cannot start fails the test.
pub fn start_server(builder: Builder) -> Arc<Server> {
    Arc::new(builder.start().unwrap_or_else(|error| panic!("{error:#}")))
}

/// Returns the server that holds the sources of this process' tests. Tests that stop it, or that keep a transaction
/// open,
/// which every new slot of the cluster waits for, start one of their own.
pub fn source_server() -> Arc<Server> {
    static SERVER: OnceLock<Arc<Server>> = OnceLock::new();
    Arc::clone(SERVER.get_or_init(|| start_server(Server::builder().setting("logical_decoding_work_mem", "64kB"))))
}

/// Returns the server that holds the targets of this process' tests.
pub fn target_server() -> Arc<Server> {
    static SERVER: OnceLock<Arc<Server>> = OnceLock::new();
    Arc::clone(SERVER.get_or_init(|| start_server(Server::builder())))
}

/// Returns a name that no other test of this process has: fit for a migration, and so for its slot.
pub fn unique_name(topic: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let topic: String = topic.chars().take(24).collect();
    format!("{topic}_{count}")
}
