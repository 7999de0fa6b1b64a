//! One stand-in for all tests of this program, a database for each.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::TryStreamExt;
use tidegate_standin::{Standin, StandinOptions};
use tidegate_throwaway::Server;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// A feed that says nothing for this long has failed.
pub const LIMIT: Duration = Duration::from_secs(30);

struct Shared {
    backing: Arc<Server>,
    standin: Standin,
}

static SHARED: LazyLock<Shared> = LazyLock::new(|| {
    let backing = Arc::new(Server::builder().start().expect("a server starts"));
    let options = StandinOptions { backing: Some(backing.clone()), shapes: None, ..StandinOptions::default() };
    let standin = Standin::start(options).expect("a stand-in starts");
    Shared { backing, standin }
});

/// A database of the stand-in.
pub struct Database {
    pub name: String,
    pub client: Client,
}

/// A message of a feed: table, key, value; a resolved one has neither table nor key.
pub type Message = (Option<String>, Option<String>, String);

pub async fn database(name: &str) -> Database {
    let owned = name.to_owned();
    tokio::task::spawn_blocking(move || SHARED.standin.create_database(&owned)).await.unwrap().unwrap();
    let client = connect(&SHARED.standin.url(name)).await;
    let database = Database { name: name.to_owned(), client };
    database.run("SET CLUSTER SETTING kv.rangefeed.enabled = true").await;
    database.run("SET CLUSTER SETTING standin.resolved_lag = '50ms'").await;
    database
}

async fn connect(url: &str) -> Client {
    let url = url.replace("cockroach://", "postgres://");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

impl Database {
    pub async fn another(&self) -> Client {
        connect(&SHARED.standin.url(&self.name)).await
    }

    /// The address of the database, as a PostgreSQL client reads it.
    pub fn url(&self) -> String {
        SHARED.standin.url(&self.name).replace("cockroach://", "postgres://")
    }

    /// A session of the backing server, past the stand-in.
    pub async fn behind(&self) -> Client {
        connect(&SHARED.backing.url(&self.name)).await
    }

    /// Runs a statement and returns its rows as text.
    pub async fn run(&self, sql: &str) -> Vec<Vec<String>> {
        rows(&self.client, sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    pub async fn value(&self, sql: &str) -> String {
        self.run(sql).await[0][0].clone()
    }

    /// The code and the text of the error with which a statement fails.
    pub async fn error(&self, sql: &str) -> (String, String) {
        let error = tokio::time::timeout(LIMIT, rows(&self.client, sql)).await.expect("an answer").expect_err(sql);
        let error = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}")).clone();
        (error.code().code().to_owned(), error.message().to_owned())
    }

    pub async fn now(&self) -> String {
        self.value("SELECT cluster_logical_timestamp()").await
    }

    /// The messages of a feed from `cursor` to now, times replaced by their order among those of the rows.
    pub async fn feed(&self, targets: &str, with: &str, cursor: &str) -> Vec<Message> {
        let until = self.now().await;
        let sql = format!("CREATE CHANGEFEED FOR {targets} WITH cursor = '{cursor}', end_time = '{until}'{with}");
        self.messages(&sql).await
    }

    /// The messages of a feed that ends by itself.
    pub async fn messages(&self, sql: &str) -> Vec<Message> {
        let client = self.another().await;
        let messages = tokio::time::timeout(LIMIT, client.simple_query(sql)).await.expect("the feed ends");
        let messages = messages.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        messages.iter().filter_map(message).collect()
    }

    /// Begins a feed and gives its messages as they come.
    pub async fn follow(&self, sql: &str) -> Following {
        let client = self.another().await;
        let stream = client.simple_query_raw(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        Following { client, stream: Box::pin(stream) }
    }
}

pub struct Following {
    pub client: Client,
    stream: std::pin::Pin<Box<tokio_postgres::SimpleQueryStream>>,
}

impl Following {
    pub async fn next(&mut self) -> Result<Message, (String, String)> {
        loop {
            let next = tokio::time::timeout(LIMIT, self.stream.try_next()).await.expect("the feed fell silent");
            match next {
                Ok(Some(given)) => {
                    if let Some(message) = message(&given) {
                        return Ok(message);
                    }
                }
                Ok(None) => return Err((String::new(), "ended".to_owned())),
                Err(error) => {
                    let error = error.as_db_error().unwrap_or_else(|| panic!("{error:?}"));
                    return Err((error.code().code().to_owned(), error.message().to_owned()));
                }
            }
        }
    }

    /// The next message of a row.
    pub async fn row(&mut self) -> Message {
        loop {
            let message = self.next().await.unwrap();
            if message.0.is_some() {
                return message;
            }
        }
    }

    /// The error with which the feed ends, with the rows before it.
    pub async fn end(&mut self) -> (Vec<Message>, (String, String)) {
        let mut rows = Vec::new();
        loop {
            match self.next().await {
                Ok(message) if message.0.is_some() => rows.push(message),
                Ok(_) => {}
                Err(error) => return (rows, error),
            }
        }
    }
}

async fn rows(client: &Client, sql: &str) -> Result<Vec<Vec<String>>, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    Ok(messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|index| row.get(index).unwrap_or("NULL").to_owned()).collect())
            }
            _ => None,
        })
        .collect())
}

fn message(message: &SimpleQueryMessage) -> Option<Message> {
    let SimpleQueryMessage::Row(row) = message else { return None };
    let text = |index| row.get(index).map(unhex);
    Some((row.get(0).map(str::to_owned), text(1), text(2).expect("a value is never NULL")))
}

fn unhex(text: &str) -> String {
    let digits = text.strip_prefix("\\x").expect("bytes are in hex");
    let bytes = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
    String::from_utf8(bytes.collect()).unwrap()
}

/// Replaces the times in a value by `T`.
pub fn timeless(value: &str) -> String {
    let mut out = String::new();
    let mut rest = value;
    while let Some(at) = rest.find(".00000") {
        let digits = rest[..at].bytes().rev().take_while(u8::is_ascii_digit).count();
        out.push_str(&rest[..at - digits]);
        out.push('T');
        rest = &rest[at + 11..];
    }
    out + rest
}

/// The values of messages without their times.
pub fn values(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|(_, _, value)| timeless(value)).collect()
}

/// The text of a time in a value.
pub fn time_in<'a>(value: &'a str, field: &str) -> &'a str {
    let at = value.find(&format!("\"{field}\"")).unwrap_or_else(|| panic!("{value} has no {field}"));
    let rest = value[at + field.len() + 2..].trim_start_matches([':', ' ', '"']);
    &rest[..rest.find('"').unwrap()]
}
