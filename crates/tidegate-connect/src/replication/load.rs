//! A session that loads rows over the simple protocol. CockroachDB takes `COPY ... FROM STDIN` in no other way
//! ("CopyFrom not supported in extended protocol mode"), and `tokio_postgres` sends it in the extended one.

use std::fmt;

use bytes::{Bytes, BytesMut};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend::{self, CopyData};
use tidegate_model::Problem;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::handshake::{Startup, start};
use super::wire::{Incomings, send_all};
use super::{CommandWire, TextRow};
use crate::connect::{Begun, Handshake, establish};
use crate::error::{ConnectError, QueryError, ServerError};
use crate::server::Server;
use crate::session_settings::statements_of;
use crate::settings::{Host, Settings};
use crate::transport::Transport;

/// No message is longer: CockroachDB refuses those of more than 16 MiB.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// What a server says about a setting that it does not have.
const UNKNOWN_SETTING: &str = "42704";

/// A SQL session in the simple protocol: one statement after the other, each waited for.
pub struct LoadSession {
    wire: CommandWire<Transport>,
    settings: Settings,
}

impl LoadSession {
    /// Connects, and makes the session independent of the settings of role, database and server. `server` is who
    /// answered an ordinary session before.
    ///
    /// Its problems (`CN004` to `CN016`) are transient where waiting may help, definite where it cannot.
    pub async fn connect(settings: &Settings, application_name: &str, server: &Server) -> Result<LoadSession, Problem> {
        let handshake = LoadHandshake { settings, application_name, server };
        let (wire, _) = Box::pin(establish(settings, &handshake)).await?;
        tracing::debug!(address = settings.address(), application_name, "loading session connected");
        Ok(LoadSession { wire, settings: settings.clone() })
    }

    /// Runs SQL and returns the rows of all its statements, as text. After a dropped call the session is of no use.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<TextRow>, QueryError> {
        self.wire.query(sql).await
    }

    /// Runs one `COPY ... FROM STDIN` with these bytes and returns how many rows the server counted. After a dropped
    /// call the session is of no use.
    pub async fn copy_in(&mut self, sql: &str, bytes: &[Bytes]) -> Result<u64, QueryError> {
        self.wire.copy_in(sql, bytes).await
    }

    /// Returns whether the session can take another statement: not after a lost connection or an abandoned call.
    pub fn is_usable(&self) -> bool {
        !self.wire.mid_answer
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

impl fmt::Debug for LoadSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadSession").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> CommandWire<S> {
    async fn copy_in(&mut self, sql: &str, bytes: &[Bytes]) -> Result<u64, QueryError> {
        self.send(sql).await?;
        match self.next().await? {
            Message::CopyInResponse(_) => {}
            Message::ErrorResponse(body) => {
                let refused = QueryError::Server(ServerError::read(&body));
                self.rest_of_answer().await?;
                return Err(refused);
            }
            _ => return Err(QueryError::protocol("a command that should begin a copy was answered otherwise")),
        }
        // An error in the middle is answered at once, and what we still send is then ignored: nothing is gained by
        // reading in between.
        for part in bytes.iter().flat_map(|bytes| bytes.chunks(MESSAGE_BYTES_MAX)) {
            let message = CopyData::new(part).map_err(|error| QueryError::protocol(error.to_string()))?;
            let mut out = BytesMut::with_capacity(part.len() + 8);
            message.write(&mut out);
            self.send_bytes(&mut out).await?;
        }
        let mut out = BytesMut::new();
        frontend::copy_done(&mut out);
        self.send_bytes(&mut out).await?;
        self.rest_of_answer().await
    }

    /// Reads an answer to its end and returns how many rows its last statement counted.
    async fn rest_of_answer(&mut self) -> Result<u64, QueryError> {
        let (mut rows, mut refused) = (0, None);
        loop {
            match self.next().await? {
                Message::CommandComplete(body) => rows = rows_of_tag(body.tag().unwrap_or_default()),
                Message::ErrorResponse(body) => refused = Some(QueryError::Server(ServerError::read(&body))),
                Message::ReadyForQuery(_) => break,
                _ => return Err(QueryError::protocol("a copy was not answered with its end")),
            }
        }
        self.mid_answer = false;
        refused.map_or(Ok(rows), Err)
    }

    async fn send_bytes(&mut self, bytes: &mut BytesMut) -> Result<(), QueryError> {
        send_all(self.incomings.get_mut(), bytes).await.map_err(|error| QueryError::from_io(&error))
    }
}

/// The number at the end of `COPY 17`.
fn rows_of_tag(tag: &str) -> u64 {
    tag.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

struct LoadHandshake<'a> {
    settings: &'a Settings,
    application_name: &'a str,
    server: &'a Server,
}

impl Handshake for LoadHandshake<'_> {
    type Session = CommandWire<Transport>;

    async fn begin(&self, transport: Transport, host: &Host) -> Result<Begun<Self::Session>, ConnectError> {
        let settings = self.settings;
        let mut parameters = vec![
            ("user", settings.user()),
            ("database", settings.database()),
            ("application_name", self.application_name),
        ];
        if !settings.options.is_empty() {
            parameters.push(("options", &settings.options));
        }
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
        let statements = statements_of(self.server);
        if !set(&mut wire, &statements.concat()).await? {
            for statement in statements {
                set(&mut wire, &statement).await?;
            }
        }
        Ok(Begun { session: wire, is_standby: welcome.is_standby })
    }
}

/// Sets what the server knows; returns false where it does not know something.
async fn set(wire: &mut CommandWire<Transport>, statements: &str) -> Result<bool, ConnectError> {
    match wire.query(statements).await {
        Ok(_) => Ok(true),
        Err(QueryError::Server(error)) if error.sqlstate == UNKNOWN_SETTING => Ok(false),
        Err(QueryError::Server(error)) => Err(ConnectError::Refused(error)),
        Err(QueryError::Lost { why }) => Err(ConnectError::Unreachable(why)),
        Err(QueryError::Protocol { why }) => Err(ConnectError::Foreign(why)),
    }
}
