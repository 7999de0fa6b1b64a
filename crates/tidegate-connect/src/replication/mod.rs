//! The walsender session. `tokio_postgres` cannot open one, so startup, authentication and framing are our own.

mod copy;
mod handshake;
mod load;
mod wire;

use std::fmt;
use std::future::Future;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{DataRowBody, Message};
use postgres_protocol::message::frontend;
use tidegate_model::Problem;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, split};

pub use self::copy::{CopyReader, CopyStatus, CopyWriter};
use self::handshake::{Startup, Welcome, start};
pub use self::load::LoadSession;
use self::wire::{Incoming, Incomings, send_all};
use crate::connect::{Begun, Handshake, Peer, establish, reconnect};
use crate::error::{ConnectError, QueryError, ServerError};
use crate::session_settings::{of_walsender_session, once_connected};
use crate::settings::{Host, Settings};
use crate::transport::Transport;

/// One row of an answer in the simple protocol.
type TextRow = Vec<Option<String>>;

/// A walsender session (`replication=database`): it takes the commands of the streaming replication protocol (manual
/// section 55.4) and SQL in the simple protocol.
pub struct ReplicationSession {
    wire: CommandWire<Transport>,
    welcome: Welcome,
    settings: Settings,
    peer: Peer,
}

impl ReplicationSession {
    /// Connects, and makes the session independent of the settings of role, database and server.
    ///
    /// Its problems (`CN004` to `CN016`) are transient where waiting may help, definite where it cannot.
    pub async fn connect(settings: &Settings, application_name: &str) -> Result<ReplicationSession, Problem> {
        let handshake = WalsenderHandshake { settings, application_name };
        let ((wire, welcome), peer) = Box::pin(establish(settings, &handshake)).await?;
        let address = settings.address();
        tracing::debug!(address, database = settings.database(), application_name, "walsender connected");
        Ok(ReplicationSession { wire, welcome, settings: settings.clone(), peer })
    }

    /// Returns the process id of the walsender.
    pub fn backend_pid(&self) -> i32 {
        self.welcome.pid
    }

    /// Runs one command and returns the rows of all its result sets, as text.
    ///
    /// Not cancel-safe: after a dropped call every further one fails, for answers would be taken for each other.
    pub async fn query(&mut self, command: &str) -> Result<Vec<TextRow>, QueryError> {
        self.wire.query(command).await
    }

    /// Asks the server to cancel the command that runs, over a connection of its own. The future borrows nothing.
    pub fn cancel(&self) -> impl Future<Output = Result<(), Problem>> + Send + use<> {
        let (settings, peer) = (self.settings.clone(), self.peer.clone());
        let mut request = BytesMut::new();
        frontend::cancel_request(self.welcome.pid, self.welcome.secret_key, &mut request);
        async move {
            let mut transport = Box::pin(reconnect(&settings, &peer)).await?;
            let sent = async {
                send_all(&mut transport, &mut request).await?;
                transport.shutdown().await
            };
            sent.await.map_err(|error| {
                let what = format!("cannot cancel a command at {}", settings.address());
                let next = "end its session with pg_terminate_backend";
                Problem::transient("CN004", what, error.to_string(), next)
            })
        }
    }

    /// Begins a copy in both directions (START_REPLICATION). The session ends with it.
    pub async fn copy_both(mut self, command: &str) -> Result<(CopyReader, CopyWriter), QueryError> {
        self.wire.begin_copy(command).await?;
        let mut writer = None;
        let incomings = self.wire.incomings.map(|stream| {
            let (read, write) = split(stream);
            writer = Some(write);
            read
        });
        let writer = writer.expect("the stream was split");
        Ok((CopyReader::new(incomings), CopyWriter::new(writer)))
    }

    /// Says goodbye, so that the server need not wait for the connection to time out.
    pub async fn close(mut self) {
        let mut goodbye = BytesMut::new();
        frontend::terminate(&mut goodbye);
        // A connection that is gone already needs none.
        let _ = send_all(self.wire.incomings.get_mut(), &mut goodbye).await;
        let _ = self.wire.incomings.get_mut().shutdown().await;
    }
}

impl fmt::Debug for ReplicationSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("ReplicationSession");
        text.field("settings", &self.settings).field("backend_pid", &self.welcome.pid).finish_non_exhaustive()
    }
}

/// A connection that takes one command after the other.
struct CommandWire<S> {
    incomings: Incomings<S>,
    /// Set while an answer is not read to its end.
    mid_answer: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> CommandWire<S> {
    async fn query(&mut self, command: &str) -> Result<Vec<TextRow>, QueryError> {
        self.send(command).await?;
        let mut rows = Vec::new();
        let mut refused = None;
        loop {
            match self.next().await? {
                Message::DataRow(row) => rows.push(text_row(&row)?),
                Message::ErrorResponse(body) => refused = Some(QueryError::Server(ServerError::read(&body))),
                Message::ReadyForQuery(_) => break,
                Message::RowDescription(_) | Message::CommandComplete(_) | Message::EmptyQueryResponse => {}
                _ => return Err(QueryError::protocol("a command was not answered with rows")),
            }
        }
        self.mid_answer = false;
        refused.map_or(Ok(rows), Err)
    }

    /// Sends a command and waits until the copy that it begins has begun.
    async fn begin_copy(&mut self, command: &str) -> Result<(), QueryError> {
        self.send(command).await?;
        loop {
            match self.incomings.next().await.map_err(|error| QueryError::from_io(&error))? {
                Incoming::CopyBoth => return Ok(()),
                Incoming::Message(Message::ErrorResponse(body)) => {
                    return Err(QueryError::Server(ServerError::read(&body)));
                }
                Incoming::Message(Message::NoticeResponse(_) | Message::ParameterStatus(_)) => {}
                Incoming::Message(_) | Incoming::NegotiateVersion => {
                    return Err(QueryError::protocol("a command that should begin a copy was answered otherwise"));
                }
            }
        }
    }

    async fn send(&mut self, command: &str) -> Result<(), QueryError> {
        if self.mid_answer {
            return Err(QueryError::protocol("the answer to an earlier command was not read to its end"));
        }
        let mut message = BytesMut::new();
        frontend::query(command, &mut message).map_err(|error| QueryError::protocol(error.to_string()))?;
        self.mid_answer = true;
        send_all(self.incomings.get_mut(), &mut message).await.map_err(|error| QueryError::from_io(&error))
    }

    /// Waits for a message that belongs to an answer.
    async fn next(&mut self) -> Result<Message, QueryError> {
        loop {
            match self.incomings.next().await.map_err(|error| QueryError::from_io(&error))? {
                Incoming::Message(Message::NoticeResponse(_) | Message::ParameterStatus(_)) => {}
                Incoming::Message(message) => return Ok(message),
                Incoming::CopyBoth => return Err(QueryError::protocol("a command began a copy")),
                Incoming::NegotiateVersion => return Err(QueryError::protocol("versions were settled long ago")),
            }
        }
    }
}

fn text_row(row: &DataRowBody) -> Result<TextRow, QueryError> {
    let broken = |error: std::io::Error| QueryError::protocol(error.to_string());
    let text = |range: std::ops::Range<usize>| String::from_utf8_lossy(&row.buffer()[range]).into_owned();
    row.ranges().map(|range| Ok(range.map(text))).collect().map_err(broken)
}

struct WalsenderHandshake<'a> {
    settings: &'a Settings,
    application_name: &'a str,
}

impl Handshake for WalsenderHandshake<'_> {
    type Session = (CommandWire<Transport>, Welcome);

    async fn begin(&self, transport: Transport, host: &Host) -> Result<Begun<Self::Session>, ConnectError> {
        let settings = self.settings;
        let mut parameters = vec![
            ("user", settings.user()),
            ("database", settings.database()),
            ("replication", "database"),
            ("application_name", self.application_name),
        ];
        if !settings.options.is_empty() {
            parameters.push(("options", &settings.options));
        }
        parameters.extend(of_walsender_session());
        let startup = Startup {
            user: settings.user(),
            password: host.password.as_ref(),
            binding: settings.channel_binding,
            end_point: transport.server_end_point(),
            parameters,
        };
        let mut incomings = Incomings::new(transport);
        let welcome = start(&mut incomings, &startup).await?;
        let mut wire = CommandWire { incomings, mid_answer: false };
        let statements = once_connected(welcome.server_version.as_deref());
        if !statements.is_empty() {
            wire.query(&statements).await.map_err(|error| match error {
                QueryError::Server(error) => ConnectError::Refused(error),
                QueryError::Lost { why } => ConnectError::Unreachable(why),
                QueryError::Protocol { why } => ConnectError::Foreign(why),
            })?;
        }
        let is_standby = welcome.is_standby;
        Ok(Begun { session: (wire, welcome), is_standby })
    }
}
