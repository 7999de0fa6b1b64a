//! The SQL session.

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use tidegate_model::Problem;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding as Binding, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config, Connection, SimpleQueryMessage};

use crate::connect::{Begun, Handshake, Peer, establish, reconnect};
use crate::error::{ConnectError, ServerError, connect_io_error, io_cause};
use crate::server::Server;
use crate::session_settings::neutralise;
use crate::settings::{ChannelBinding, Host, Settings};
use crate::sql_error::describe_sql_error;
use crate::transport::Transport;

/// How long the connection of a dropped session may take for the answer it still waits for, so that a finished
/// session says goodbye and one with a long statement in it is cut.
const GOODBYE: Duration = Duration::from_secs(1);

/// A SQL session, which is a [`tokio_postgres::Client`]. A task of its own drives the connection; dropping the session
/// ends both.
pub struct Session {
    client: Client,
    server: Server,
    settings: Settings,
    peer: Peer,
    closed: watch::Receiver<Option<String>>,
    task: JoinHandle<()>,
    /// Dropped with the session, which tells the task.
    _held: oneshot::Sender<()>,
}

impl Session {
    /// Connects, and makes the session independent of the settings of role, database and server.
    ///
    /// Its problems (`CN004` to `CN016`) are transient where waiting may help, definite where it cannot.
    pub async fn connect(settings: &Settings, application_name: &str) -> Result<Session, Problem> {
        let handshake = SqlHandshake { settings, application_name };
        let (Greeted { client, connection, server }, peer) = Box::pin(establish(settings, &handshake)).await?;
        let (_held, dropped) = oneshot::channel();
        let (report, closed) = watch::channel(None);
        let task = tokio::spawn(drive(connection, dropped, report));
        let (address, database) = (settings.address(), settings.database());
        tracing::debug!(address, database, %server, application_name, "connected");
        if settings.is_contradicted_by(&server) {
            tracing::debug!(address, %server, "the scheme of the URL names another kind of server");
        }
        Ok(Session { client, server, settings: settings.clone(), peer, closed, task, _held })
    }

    /// Returns who answered, whatever the URL called it.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Tells whether the server is CockroachDB.
    pub fn is_cockroach(&self) -> bool {
        self.server.is_cockroach()
    }

    /// Asks the server to cancel what the session is doing, over a connection of its own. The session gets 57014 if it
    /// was doing anything. The future borrows nothing, so that it can be awaited while a statement is.
    pub fn cancel(&self) -> impl Future<Output = Result<(), Problem>> + Send + use<> {
        let token = self.client.cancel_token();
        let (settings, peer) = (self.settings.clone(), self.peer.clone());
        let next = match self.server {
            Server::Postgres { .. } => "wait for the statement, or end its session with pg_terminate_backend",
            Server::Cockroach(_) => "wait for the statement, or end its session with CANCEL SESSION",
        };
        async move {
            let transport = Box::pin(reconnect(&settings, &peer)).await?;
            token.cancel_query_raw(transport, AlreadyNegotiated).await.map_err(|error| {
                let what = format!("cannot cancel a statement at {}", settings.address());
                Problem::transient("CN004", what, describe_sql_error(&error), next)
            })
        }
    }

    /// Waits until the connection is gone, and returns why. Cancel-safe. `is_closed()` answers without waiting.
    pub async fn closed(&self) -> String {
        let mut closed = self.closed.clone();
        match closed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "its task ended".to_owned(),
        }
    }

    /// Says goodbye and waits until the connection is gone. A statement that still runs is given one second.
    pub async fn close(self) {
        let Session { client, task, _held, .. } = self;
        drop((client, _held));
        // Its only failure is a panic, which has been reported.
        let _ = task.await;
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    /// For [`Client::transaction`].
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Session");
        shown.field("server", &self.server).field("settings", &self.settings).field("peer", &self.peer);
        shown.finish_non_exhaustive()
    }
}

/// Drives a connection until it ends, or for [`GOODBYE`] after its session was dropped.
async fn drive(
    mut connection: Connection<Transport, Transport>,
    dropped: oneshot::Receiver<()>,
    report: watch::Sender<Option<String>>,
) {
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        _ = dropped => timeout(GOODBYE, &mut connection).await.ok(),
    };
    let reason = match ended {
        Some(Ok(())) => "it was closed".to_owned(),
        Some(Err(error)) => describe_sql_error(&error),
        None => "its session was dropped".to_owned(),
    };
    tracing::debug!(reason, "connection ended");
    report.send_replace(Some(reason));
}

struct SqlHandshake<'a> {
    settings: &'a Settings,
    application_name: &'a str,
}

impl SqlHandshake<'_> {
    fn config(&self, host: &Host) -> Config {
        let mut config = Config::new();
        config
            .user(&self.settings.user)
            .dbname(&self.settings.database)
            .application_name(self.application_name)
            .options(&self.settings.options)
            .channel_binding(match self.settings.channel_binding {
                ChannelBinding::Disable => tokio_postgres::config::ChannelBinding::Disable,
                ChannelBinding::Prefer => tokio_postgres::config::ChannelBinding::Prefer,
                ChannelBinding::Require => tokio_postgres::config::ChannelBinding::Require,
            })
            // Encryption is settled by now. "Direct" makes the client ask nothing and take `AlreadyNegotiated`, the
            // only way in by which it learns the channel binding data.
            .ssl_mode(SslMode::Require)
            .ssl_negotiation(SslNegotiation::Direct);
        if let Some(password) = &host.password {
            config.password(password.expose());
        }
        config
    }
}

/// A session whose server has said who it is.
struct Greeted {
    client: Client,
    connection: Connection<Transport, Transport>,
    server: Server,
}

impl Handshake for SqlHandshake<'_> {
    type Session = Greeted;

    async fn begin(&self, transport: Transport, host: &Host) -> Result<Begun<Self::Session>, ConnectError> {
        let connected = self.config(host).connect_raw(transport, AlreadyNegotiated).await;
        let (client, mut connection) = connected.map_err(|error| connect_error(&error))?;
        let is_standby = connection.parameter("in_hot_standby") == Some("on");
        let recognised = Server::of_parameters(connection.parameter("crdb_version"), server_version(&connection));
        let version = server_version(&connection).map(str::to_owned);
        let prepare = async {
            let server = match recognised {
                Some(server) => server,
                None => ask(&client, version.as_deref()).await?,
            };
            neutralise(&client, &server).await?;
            Ok(server)
        };
        let prepared = tokio::select! {
            prepared = prepare => prepared.map_err(|error| connect_error(&error)),
            ended = &mut connection => Err(match ended {
                Ok(()) => closed_by_server(),
                Err(error) => connect_error(&error),
            }),
        };
        Ok(Begun { session: Greeted { client, connection, server: prepared? }, is_standby })
    }
}

fn server_version(connection: &Connection<Transport, Transport>) -> Option<&str> {
    connection.parameter("server_version")
}

/// Asks a server who it is.
async fn ask(client: &Client, server_version: Option<&str>) -> Result<Server, tokio_postgres::Error> {
    let answer = client.simple_query("SELECT version()").await?;
    let version = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(Server::of_answer(version.unwrap_or_default(), server_version))
}

fn closed_by_server() -> ConnectError {
    ConnectError::Unreachable("the server closed the connection".to_owned())
}

fn connect_error(error: &tokio_postgres::Error) -> ConnectError {
    if let Some(server) = error.as_db_error() {
        return ConnectError::Refused(ServerError {
            sqlstate: server.code().code().to_owned(),
            message: server.message().to_owned(),
            detail: server.detail().map(str::to_owned),
            hint: server.hint().map(str::to_owned),
        });
    }
    if error.is_closed() {
        return closed_by_server();
    }
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    // The client tells these apart by text only.
    match (error.to_string().as_str(), cause.as_str()) {
        (_, "password missing") => {
            ConnectError::Credentials("the server asks for a password, none was given".to_owned())
        }
        (_, "server did not use channel binding") => ConnectError::Binding(NO_BINDING.to_owned()),
        // A server's first messages are too short to be cut off in the middle.
        (_, "bytes remaining on stream") => ConnectError::Foreign("the answer is not PostgreSQL's".to_owned()),
        ("authentication error", _) => ConnectError::Credentials(cause),
        ("unexpected message from server" | "error parsing response from server", _) => {
            ConnectError::Foreign(describe_sql_error(error))
        }
        _ => match io_cause(error) {
            Some(io) => connect_io_error(io, ""),
            None => ConnectError::Foreign(describe_sql_error(error)),
        },
    }
}

/// Why channel binding is not to be had.
pub(crate) const NO_BINDING: &str = "channel binding is required, and the server did not authenticate with it";

/// Hands a transport on as what TLS made of it.
struct AlreadyNegotiated;

impl TlsConnect<Transport> for AlreadyNegotiated {
    type Stream = Transport;
    type Error = std::io::Error;
    type Future = std::future::Ready<Result<Transport, std::io::Error>>;

    fn connect(self, stream: Transport) -> Self::Future {
        std::future::ready(Ok(stream))
    }
}

impl TlsStream for Transport {
    fn channel_binding(&self) -> Binding {
        self.server_end_point().map_or_else(Binding::none, Binding::tls_server_end_point)
    }
}
