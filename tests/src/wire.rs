//! A session over the wire protocol that tells SQLSTATEs and row counts apart: what `psql` does not.

use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::database::{Database, Host};

/// No statement of a test takes longer; a server that says nothing for so long counts as gone.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Opens a connection and drives it on the runtime that this is awaited on.
pub(crate) async fn connect(database: &Database) -> Result<Client, tokio_postgres::Error> {
    connect_as(database, None).await
}

async fn connect_as(database: &Database, role: Option<&str>) -> Result<Client, tokio_postgres::Error> {
    let mut config = match &database.host {
        // As `psql` does: over the socket no server asks for encryption or a password.
        Host::Postgres(server) => {
            let mut config = Config::new();
            config.host_path(server.socket_dir()).port(server.port()).user("postgres").dbname(&database.name);
            config
        }
        Host::Cockroach(server) => server.psql_url(&database.name).parse()?,
    };
    if let Some(role) = role {
        config.user(role);
    }
    config.application_name("testkit").connect_timeout(Duration::from_secs(10));
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        // Its end shows in the next statement.
        let _ = connection.await;
    });
    Ok(client)
}

/// Returns a runtime for one thread.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Why a statement failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The transaction did nothing; run it again (40001, and PostgreSQL's deadlock).
    Retry,
    /// The server refused it for good, with this SQLSTATE and message.
    Sql(String, String),
    /// Nobody knows what became of it: the connection is gone, or the server says so itself (40003).
    Unknown(String),
}

/// A session. Ended with its value; what it has not committed is then rolled back.
#[derive(Debug)]
pub struct Wire {
    client: Client,
    runtime: Runtime,
}

impl Wire {
    /// Connects.
    pub fn connect(database: &Database) -> Result<Wire, Refused> {
        let runtime = runtime();
        let client = runtime.block_on(connect(database)).map_err(|error| refused(&error))?;
        Ok(Wire { client, runtime })
    }

    /// Connects as a role that need not be the superuser.
    pub fn connect_as(database: &Database, role: &str) -> Result<Wire, Refused> {
        let runtime = runtime();
        let client = runtime.block_on(connect_as(database, Some(role))).map_err(|error| refused(&error))?;
        Ok(Wire { client, runtime })
    }

    /// Runs one or more statements; returns how many rows the last one wrote or gave.
    pub fn run(&self, sql: &str) -> Result<u64, Refused> {
        let counts = self.query(sql)?.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::CommandComplete(count) => Some(count),
            _ => None,
        });
        Ok(counts.last().unwrap_or(0))
    }

    /// Runs a query; returns its rows as text.
    pub fn rows(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, Refused> {
        let rows = self.query(sql)?.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
            _ => None,
        });
        Ok(rows.collect())
    }

    fn query(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Refused> {
        let answer = async { tokio::time::timeout(ANSWER_LIMIT, self.client.simple_query(sql)).await };
        match self.runtime.block_on(answer) {
            Ok(Ok(messages)) => Ok(messages),
            Ok(Err(error)) => Err(refused(&error)),
            Err(_) => Err(Refused::Unknown(format!("no answer within {ANSWER_LIMIT:?}"))),
        }
    }
}

fn refused(error: &tokio_postgres::Error) -> Refused {
    let Some(sql) = error.as_db_error() else { return Refused::Unknown(error.to_string()) };
    let code = sql.code();
    if [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(code) {
        return Refused::Retry;
    }
    // What says something about the statement itself; all else is about the server's state.
    let definite = ["22", "23", "42", "0A", "25"].iter().any(|class| code.code().starts_with(class));
    match definite {
        true => Refused::Sql(code.code().to_owned(), sql.message().to_owned()),
        false => Refused::Unknown(format!("{}: {}", code.code(), sql.message())),
    }
}
