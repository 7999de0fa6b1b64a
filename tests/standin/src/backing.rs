//! The PostgreSQL server behind the stand-in.

use std::sync::Arc;

use anyhow::{Context, bail};
use tidegate_throwaway::Server;
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, NoTls};

use crate::error::SqlError;
use crate::wire::link::Link;
use crate::wire::startup::{self, BackendKey, Welcome};

/// Where the backing server is, and how its superuser gets in.
#[derive(Clone, Debug)]
pub struct Backing {
    config: Config,
    // Keeps a server alive that was started for the stand-in, or that it shares with a test.
    server: Option<Arc<Server>>,
}

impl Backing {
    pub fn of_server(server: Arc<Server>) -> Backing {
        let mut config = Config::new();
        config.host_path(server.socket_dir()).port(server.port()).user("postgres").dbname("postgres");
        Backing { config, server: Some(server) }
    }

    /// Takes the URL of a superuser; its database does not count.
    pub fn of_url(url: &str) -> anyhow::Result<Backing> {
        Ok(Backing { config: url.parse().context("no valid URL of a backing server")?, server: None })
    }

    /// Returns how to connect to one of its databases as the superuser.
    pub fn config(&self, database: &str) -> Config {
        let mut config = self.config.clone();
        config.dbname(database).application_name("tidegate-standin");
        config
    }

    /// Returns the version of the backing server, as its session reports it.
    pub fn server(&self) -> Option<&Arc<Server>> {
        self.server.as_ref()
    }

    /// Opens a session of the stand-in's own.
    pub async fn client(&self, database: &str) -> Result<Client, SqlError> {
        let (client, connection) = self.config(database).connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Opens a session for a client. An error of the server, such as an unknown database, is the inner one.
    pub async fn session(
        &self,
        database: &str,
        options: &[(&str, &str)],
    ) -> anyhow::Result<Result<(Link, Welcome), SqlError>> {
        let mut link = self.link().await?;
        let mut parameters = vec![("database", database)];
        parameters.extend_from_slice(options);
        let user = self.config.get_user().unwrap_or("postgres");
        let password = self.config.get_password().map(String::from_utf8_lossy);
        let begun = startup::begin(&mut link, &parameters, user, password.as_deref()).await?;
        Ok(begun.map(|welcome| (link, welcome)))
    }

    /// Cancels what a session is doing.
    pub async fn cancel(&self, key: BackendKey) -> anyhow::Result<()> {
        let mut link = self.link().await?;
        link.push_bytes(&key.cancel_request());
        link.flush().await?;
        // The server closes the connection when it has passed the signal on.
        let _ = link.exchange().await;
        Ok(())
    }

    async fn link(&self) -> anyhow::Result<Link> {
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        let failed = "the backing server cannot be reached";
        match self.config.get_hosts().first() {
            Some(Host::Unix(directory)) => {
                let path = directory.join(format!(".s.PGSQL.{port}"));
                let (reader, writer) = UnixStream::connect(path).await.context(failed)?.into_split();
                Ok(Link::new(reader, writer))
            }
            Some(Host::Tcp(host)) => {
                let stream = TcpStream::connect((host.as_str(), port)).await.context(failed)?;
                stream.set_nodelay(true)?;
                let (reader, writer) = stream.into_split();
                Ok(Link::new(reader, writer))
            }
            None => bail!("the backing server's URL names no host"),
        }
    }
}
