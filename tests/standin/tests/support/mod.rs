//! One stand-in for all tests of a binary, and clients of it.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use tidegate_standin::{Standin, StandinOptions};
use tidegate_throwaway::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::{Client, Config, NoTls};

/// The backing server of all of them.
pub fn server() -> Arc<Server> {
    static SERVER: OnceLock<Arc<Server>> = OnceLock::new();
    SERVER.get_or_init(|| Arc::new(Server::builder().start().expect("a backing server"))).clone()
}

pub fn standin() -> &'static Standin {
    static STANDIN: OnceLock<Standin> = OnceLock::new();
    STANDIN.get_or_init(|| {
        let options = StandinOptions { backing: Some(server()), ..StandinOptions::default() };
        Standin::start(options).expect("a stand-in")
    })
}

/// Makes a database of its own for a test.
pub fn database(name: &str) -> String {
    standin().create_database(name).expect("a database");
    name.to_owned()
}

pub fn config(standin: &Standin, database: &str) -> Config {
    let address = standin.address();
    let mut config = Config::new();
    config.host(address.ip().to_string()).port(address.port()).user("root").dbname(database);
    config
}

pub async fn connect(database: &str) -> Client {
    connect_to(standin(), database).await
}

pub async fn connect_to(standin: &Standin, database: &str) -> Client {
    let (client, connection) = config(standin, database).connect(NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// Returns the SQLSTATE with which something failed; 00000 if it did not.
pub fn code<T>(result: Result<T, tokio_postgres::Error>) -> String {
    match result {
        Ok(_) => "00000".to_owned(),
        Err(error) => error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned()),
    }
}

/// A client that sends what it is told.
pub struct Raw(TcpStream);

impl Raw {
    pub async fn connect(address: SocketAddr, database: &str) -> Raw {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let body = format!("user\0root\0database\0{database}\0\0");
        let length = u32::try_from(body.len() + 8).expect("short");
        stream.write_all(&length.to_be_bytes()).await.expect("sent");
        stream.write_all(&196_608_u32.to_be_bytes()).await.expect("sent");
        stream.write_all(body.as_bytes()).await.expect("sent");
        let mut raw = Raw(stream);
        while raw.next().await.0 != b'Z' {}
        raw
    }

    pub async fn send(&mut self, tag: u8, body: &[u8]) {
        let length = u32::try_from(body.len() + 4).expect("short");
        let mut message = vec![tag];
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(body);
        self.0.write_all(&message).await.expect("sent");
    }

    pub async fn query(&mut self, sql: &str) {
        self.send(b'Q', format!("{sql}\0").as_bytes()).await;
    }

    pub async fn next(&mut self) -> (u8, Vec<u8>) {
        let tag = self.0.read_u8().await.expect("a message");
        let length = self.0.read_u32().await.expect("a length");
        let mut body = vec![0; length as usize - 4];
        self.0.read_exact(&mut body).await.expect("a body");
        (tag, body)
    }
}
