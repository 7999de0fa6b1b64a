//! Startup and authentication of a walsender session, by the same rules as libpq.

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{self, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncWrite};

use super::wire::{Incoming, Incomings, send_all};
use crate::error::{ConnectError, ServerError, connect_io_error};
use crate::secret::Secret;
use crate::session::NO_BINDING;
use crate::settings::ChannelBinding;

/// What one session starts with.
pub(super) struct Startup<'a> {
    pub(super) user: &'a str,
    pub(super) password: Option<&'a Secret>,
    pub(super) binding: ChannelBinding,
    /// The `tls-server-end-point` data of the TLS session, if there is one.
    pub(super) end_point: Option<Vec<u8>>,
    pub(super) parameters: Vec<(&'a str, &'a str)>,
}

/// What the server said once it let us in.
#[derive(Debug, Default)]
pub(super) struct Welcome {
    pub(super) pid: i32,
    pub(super) secret_key: i32,
    pub(super) is_standby: bool,
    pub(super) server_version: Option<String>,
}

/// Starts and authenticates a session.
pub(super) async fn start<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Incomings<S>,
    startup: &Startup<'_>,
) -> Result<Welcome, ConnectError> {
    let mut exchange = Exchange { wire, startup, out: BytesMut::new() };
    exchange.greet().await?;
    exchange.authenticate().await?;
    wire.trust();
    welcome(wire).await
}

struct Exchange<'a, 'b, S> {
    wire: &'a mut Incomings<S>,
    startup: &'a Startup<'b>,
    out: BytesMut,
}

impl<'b, S: AsyncRead + AsyncWrite + Unpin> Exchange<'_, 'b, S> {
    async fn greet(&mut self) -> Result<(), ConnectError> {
        let parameters = self.startup.parameters.iter().copied();
        frontend::startup_message(parameters, &mut self.out)
            .map_err(|error| ConnectError::Foreign(error.to_string()))?;
        self.send().await
    }

    async fn authenticate(&mut self) -> Result<(), ConnectError> {
        match next(self.wire).await? {
            Message::AuthenticationOk => return self.without_binding(),
            Message::AuthenticationCleartextPassword => {
                self.without_binding()?;
                let password = self.password()?.expose().as_bytes();
                self.answer(password).await?;
            }
            Message::AuthenticationMd5Password(body) => {
                self.without_binding()?;
                let password = self.password()?.expose().as_bytes();
                let hash = md5_hash(self.startup.user.as_bytes(), password, body.salt());
                self.answer(hash.as_bytes()).await?;
            }
            Message::AuthenticationSasl(body) => self.scram(&body).await?,
            Message::AuthenticationGss | Message::AuthenticationSspi | Message::AuthenticationKerberosV5 => {
                let why = "the server asks for GSSAPI, SSPI or Kerberos, which are not supported";
                return Err(ConnectError::Credentials(why.to_owned()));
            }
            _ => return Err(unexpected()),
        }
        match next(self.wire).await? {
            Message::AuthenticationOk => Ok(()),
            _ => Err(unexpected()),
        }
    }

    async fn scram(&mut self, offer: &AuthenticationSaslBody) -> Result<(), ConnectError> {
        let offered: Vec<&str> = offer.mechanisms().collect().map_err(|_| unexpected())?;
        let wanted = self.startup.binding != ChannelBinding::Disable;
        let end_point = self.startup.end_point.clone().filter(|_| wanted);
        let (mechanism, binding) = match end_point {
            Some(end_point) if offered.contains(&SCRAM_SHA_256_PLUS) => {
                (SCRAM_SHA_256_PLUS, sasl::ChannelBinding::tls_server_end_point(end_point))
            }
            _ if !offered.contains(&SCRAM_SHA_256) => {
                let why = format!("the server offers only {}, which is not supported", offered.join(", "));
                return Err(ConnectError::Credentials(why));
            }
            // Says that we could have; a server that also could then knows that someone took the offer away.
            Some(_) => (SCRAM_SHA_256, sasl::ChannelBinding::unrequested()),
            None => (SCRAM_SHA_256, sasl::ChannelBinding::unsupported()),
        };
        if mechanism != SCRAM_SHA_256_PLUS {
            self.without_binding()?;
        }
        let mut scram = ScramSha256::new(self.password()?.expose().as_bytes(), binding);
        frontend::sasl_initial_response(mechanism, scram.message(), &mut self.out).map_err(|_| unexpected())?;
        self.send().await?;
        let Message::AuthenticationSaslContinue(body) = next(self.wire).await? else { return Err(unexpected()) };
        scram.update(body.data()).map_err(|error| ConnectError::Credentials(error.to_string()))?;
        frontend::sasl_response(scram.message(), &mut self.out).map_err(|_| unexpected())?;
        self.send().await?;
        let Message::AuthenticationSaslFinal(body) = next(self.wire).await? else { return Err(unexpected()) };
        scram.finish(body.data()).map_err(|error| ConnectError::Credentials(error.to_string()))
    }

    /// Refuses to go on without channel binding where it is required.
    fn without_binding(&self) -> Result<(), ConnectError> {
        match self.startup.binding {
            ChannelBinding::Require => Err(ConnectError::Binding(NO_BINDING.to_owned())),
            ChannelBinding::Disable | ChannelBinding::Prefer => Ok(()),
        }
    }

    fn password(&self) -> Result<&'b Secret, ConnectError> {
        let missing = || ConnectError::Credentials("the server asks for a password, none was given".to_owned());
        self.startup.password.ok_or_else(missing)
    }

    async fn answer(&mut self, password: &[u8]) -> Result<(), ConnectError> {
        frontend::password_message(password, &mut self.out).map_err(|_| unexpected())?;
        self.send().await
    }

    async fn send(&mut self) -> Result<(), ConnectError> {
        send_all(self.wire.get_mut(), &mut self.out).await.map_err(|error| connect_io_error(&error, ""))
    }
}

/// Reads what the server says between authentication and the first command.
async fn welcome<S: AsyncRead + Unpin>(wire: &mut Incomings<S>) -> Result<Welcome, ConnectError> {
    let mut welcome = Welcome::default();
    loop {
        match next(wire).await? {
            Message::BackendKeyData(body) => {
                welcome.pid = body.process_id();
                welcome.secret_key = body.secret_key();
            }
            Message::ParameterStatus(body) => match (body.name(), body.value()) {
                (Ok("in_hot_standby"), Ok(value)) => welcome.is_standby = value == "on",
                (Ok("server_version"), Ok(value)) => welcome.server_version = Some(value.to_owned()),
                _ => {}
            },
            Message::ReadyForQuery(_) => return Ok(welcome),
            _ => return Err(unexpected()),
        }
    }
}

/// Waits for a message that is neither a notice nor an error.
async fn next<S: AsyncRead + Unpin>(wire: &mut Incomings<S>) -> Result<Message, ConnectError> {
    loop {
        match wire.next().await.map_err(|error| connect_io_error(&error, ""))? {
            Incoming::Message(Message::ErrorResponse(body)) => {
                return Err(ConnectError::Refused(ServerError::read(&body)));
            }
            // Version 3.0 with features of later versions left out is what we speak.
            Incoming::Message(Message::NoticeResponse(_)) | Incoming::NegotiateVersion => {}
            Incoming::Message(message) => return Ok(message),
            Incoming::CopyBoth => return Err(unexpected()),
        }
    }
}

fn unexpected() -> ConnectError {
    ConnectError::Foreign("the server sent a message that does not belong into the start of a session".to_owned())
}
