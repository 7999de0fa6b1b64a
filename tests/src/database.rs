//! Databases of tests, on servers that all tests of a process share.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use tidegate_throwaway::{Builder, Server};

use crate::cockroach::Cockroach;
use crate::psql;

/// A server of either kind.
#[derive(Clone, Debug)]
pub enum Host {
    /// A PostgreSQL.
    Postgres(Arc<Server>),
    /// A CockroachDB, or what stands in for one.
    Cockroach(Arc<Cockroach>),
}

impl Host {
    /// Returns the port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        match self {
            Host::Postgres(server) => server.port(),
            Host::Cockroach(server) => server.port(),
        }
    }
}

impl From<&Arc<Server>> for Host {
    fn from(server: &Arc<Server>) -> Host {
        Host::Postgres(Arc::clone(server))
    }
}

impl From<&Arc<Cockroach>> for Host {
    fn from(server: &Arc<Cockroach>) -> Host {
        Host::Cockroach(Arc::clone(server))
    }
}

/// One database on a server.
#[derive(Clone, Debug)]
pub struct Database {
    /// Where it is.
    pub host: Host,
    /// Its name.
    pub name: String,
}

impl Database {
    /// Makes an empty database.
    pub fn create(host: impl Into<Host>, name: &str) -> Database {
        let host = host.into();
        match &host {
            Host::Postgres(server) => server.create_database(name).expect("a new database"),
            Host::Cockroach(server) => server.create_database(name),
        }
        Database { host, name: name.to_owned() }
    }

    /// Returns the PostgreSQL server that it is on.
    ///
    /// # Panics
    /// If it is on a CockroachDB.
    pub fn server(&self) -> &Arc<Server> {
        match &self.host {
            Host::Postgres(server) => server,
            Host::Cockroach(_) => panic!("{} is on CockroachDB, which has no such thing", self.name),
        }
    }

    /// Returns the CockroachDB that it is on; `None` on PostgreSQL.
    pub fn cockroach(&self) -> Option<&Arc<Cockroach>> {
        match &self.host {
            Host::Postgres(_) => None,
            Host::Cockroach(server) => Some(server),
        }
    }

    /// Returns its URL for the superuser.
    pub fn url(&self) -> String {
        match &self.host {
            Host::Postgres(server) => server.url(&self.name),
            Host::Cockroach(server) => server.url(&self.name),
        }
    }

    /// Returns a `psql` that prints bare values and stops at the first error.
    pub(crate) fn psql_command(&self) -> Command {
        match &self.host {
            Host::Postgres(server) => server.psql_command(&self.name),
            Host::Cockroach(server) => psql::command(&server.psql_url(&self.name)),
        }
    }

    /// Runs SQL, each statement in a transaction of its own unless it says otherwise; returns what it printed.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Runs SQL if it is on PostgreSQL: for what CockroachDB has no need or no word of.
    #[track_caller]
    pub fn only_postgres(&self, sql: &str) {
        if let Host::Postgres(_) = self.host {
            self.sql(sql);
        }
    }

    /// Runs SQL that may fail, with the server's message as the error.
    pub fn try_sql(&self, sql: &str) -> anyhow::Result<String> {
        match &self.host {
            Host::Postgres(server) => server.psql(&self.name, sql),
            Host::Cockroach(_) => psql::run(self.psql_command(), sql),
        }
    }

    /// Returns the one number that the query gives.
    #[track_caller]
    pub fn number(&self, query: &str) -> i64 {
        let text = self.sql(query);
        text.parse().unwrap_or_else(|_| panic!("{query} gave {text:?} and not a number"))
    }

    /// Returns whether the query gives true.
    #[track_caller]
    pub fn holds(&self, query: &str) -> bool {
        self.sql(query) == "t"
    }

    /// Removes it with its sessions and slots, as far as that is possible.
    pub fn discard(&self) {
        let name = &self.name;
        let server = match &self.host {
            Host::Postgres(server) => server,
            Host::Cockroach(server) => {
                let drop = format!("DROP DATABASE IF EXISTS \"{name}\" CASCADE");
                let _ = psql::run(psql::command(&server.psql_url("postgres")), &drop);
                return;
            }
        };
        let _ = server.psql(
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
/// open, which every new slot of the cluster waits for, start one of their own.
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
