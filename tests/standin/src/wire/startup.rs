//! How a session begins: as a server towards the client, as a client towards the backing server.

use std::io;

use anyhow::{Context, bail};
use bytes::{Buf, BufMut, BytesMut};
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::frontend;

use super::link::{Link, text};
use super::{Fields, Frame, answer};
use crate::error::SqlError;

const PROTOCOL_3: i32 = 196_608;
const CANCEL_REQUEST: i32 = 80_877_102;
const SSL_REQUEST: i32 = 80_877_103;
const GSSENC_REQUEST: i32 = 80_877_104;
/// A startup message of a CockroachDB or PostgreSQL client is far shorter.
const STARTUP_BYTES_MAX: usize = 64 * 1024;

/// What a client begins with.
#[derive(Debug)]
pub enum Hello {
    Startup(Vec<(String, String)>),
    Cancel(BackendKey),
}

/// Names a session for a CancelRequest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackendKey {
    pub process: i32,
    pub secret: i32,
}

impl BackendKey {
    pub fn write(self, out: &mut BytesMut) {
        super::link::message(out, b'K', |out| {
            out.put_i32(self.process);
            out.put_i32(self.secret);
        });
    }

    pub fn cancel_request(self) -> BytesMut {
        let mut out = BytesMut::new();
        frontend::cancel_request(self.process, self.secret, &mut out);
        out
    }
}

/// Reads a client's first messages, and answers N to its requests for encryption.
pub async fn hello(client: &mut Link) -> io::Result<Hello> {
    loop {
        let length = client.raw(4).await?.get_i32();
        let length = usize::try_from(length).unwrap_or(0);
        if !(8..=STARTUP_BYTES_MAX).contains(&length) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no startup message"));
        }
        let mut body = client.raw(length - 4).await?;
        match body.get_i32() {
            SSL_REQUEST | GSSENC_REQUEST => {
                client.push_bytes(b"N");
                client.flush().await?;
            }
            CANCEL_REQUEST if body.len() >= 8 => {
                return Ok(Hello::Cancel(BackendKey { process: body.get_i32(), secret: body.get_i32() }));
            }
            PROTOCOL_3 => return Ok(Hello::Startup(pairs(Fields::bytes(body.freeze())))),
            // Minor versions above 3.0 are negotiated down by taking no notice of them.
            version if version >> 16 == 3 => return Ok(Hello::Startup(pairs(Fields::bytes(body.freeze())))),
            version => {
                let text = format!("unknown protocol version {version}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
    }
}

fn pairs(mut fields: Fields) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    while let Some(name) = fields.text().filter(|name| !name.is_empty()) {
        let Some(value) = fields.text() else { break };
        pairs.push((name, value));
    }
    pairs
}

/// Asks a client for its password in clear text.
pub async fn password(client: &mut Link) -> io::Result<String> {
    super::link::message(client.output(), b'R', |out| out.put_i32(3));
    client.flush().await?;
    match client.next().await? {
        Some(frame) if frame.tag() == b'p' => Ok(Fields::of(&frame).text().unwrap_or_default()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "no password message")),
    }
}

/// How the backing server let us in.
#[derive(Debug)]
pub struct Welcome {
    pub key: BackendKey,
    /// The parameters that it reported.
    pub parameters: Vec<(String, String)>,
}

/// Begins a session with the backing server. An error of that server is the inner one.
pub async fn begin(
    backing: &mut Link,
    parameters: &[(&str, &str)],
    user: &str,
    password: Option<&str>,
) -> anyhow::Result<Result<Welcome, SqlError>> {
    let parameters = std::iter::once(("user", user)).chain(parameters.iter().copied());
    frontend::startup_message(parameters, backing.output())?;
    backing.flush().await?;
    let mut welcome = Welcome { key: BackendKey { process: 0, secret: 0 }, parameters: Vec::new() };
    loop {
        let frame = expect(backing).await?;
        let mut fields = Fields::of(&frame);
        match frame.tag() {
            b'R' => authenticate(backing, fields, user, password).await?,
            b'K' => {
                welcome.key.process = fields.int32().context("no process number")?;
                welcome.key.secret = fields.int32().context("no secret")?;
            }
            b'S' => {
                let name = fields.text().context("no name")?;
                welcome.parameters.push((name, fields.text().context("no value")?));
            }
            b'E' => return Ok(Err(crate::translate::plain(&frame))),
            b'Z' => return Ok(Ok(welcome)),
            _ => {}
        }
    }
}

async fn expect(backing: &mut Link) -> anyhow::Result<Frame> {
    backing.next().await?.context("the backing server closed the connection")
}

async fn authenticate(
    backing: &mut Link,
    mut fields: Fields,
    user: &str,
    password: Option<&str>,
) -> anyhow::Result<()> {
    let method = fields.int32().context("no authentication method")?;
    let password = || password.context("the backing server asks for a password");
    match method {
        0 => return Ok(()),
        3 => frontend::password_message(password()?.as_bytes(), backing.output())?,
        5 => {
            let salt: [u8; 4] = fields.rest()[..].try_into().context("no salt")?;
            let hash = md5_hash(user.as_bytes(), password()?.as_bytes(), salt);
            frontend::password_message(hash.as_bytes(), backing.output())?;
        }
        10 => return scram(backing, password()?).await,
        other => bail!("the backing server asks for authentication method {other}"),
    }
    Ok(backing.flush().await?)
}

async fn scram(backing: &mut Link, password: &str) -> anyhow::Result<()> {
    let binding = sasl::ChannelBinding::unsupported();
    let mut scram = sasl::ScramSha256::new(password.as_bytes(), binding);
    frontend::sasl_initial_response(sasl::SCRAM_SHA_256, scram.message(), backing.output())?;
    backing.flush().await?;
    loop {
        let frame = expect(backing).await?;
        let mut fields = Fields::of(&frame);
        if frame.tag() != b'R' {
            bail!("the backing server refused the password: {}", crate::translate::plain(&frame));
        }
        match fields.int32() {
            Some(11) => {
                scram.update(&fields.rest())?;
                frontend::sasl_response(scram.message(), backing.output())?;
                backing.flush().await?;
            }
            Some(12) => {
                scram.finish(&fields.rest())?;
                return Ok(());
            }
            other => bail!("the backing server answered {other:?} in the midst of SCRAM"),
        }
    }
}

/// Ends a client's startup: it is let in.
pub fn welcome(client: &mut Link, parameters: &[(String, String)], key: BackendKey) {
    super::link::message(client.output(), b'R', |out| out.put_i32(0));
    for (name, value) in parameters {
        answer::parameter(client.output(), name, value);
    }
    key.write(client.output());
    answer::ready(client.output(), b'I');
}

/// Reads the fields of an ErrorResponse or NoticeResponse.
pub fn report_fields(frame: &Frame) -> Vec<(u8, String)> {
    let mut fields = Fields::of(frame);
    let mut found = Vec::new();
    while let Some(kind) = fields.byte().filter(|kind| *kind != 0) {
        let Some(value) = fields.text() else { break };
        found.push((kind, value));
    }
    found
}

/// Writes fields as they are.
pub fn report(out: &mut BytesMut, tag: u8, fields: &[(u8, String)]) {
    super::link::message(out, tag, |out| {
        for (kind, value) in fields {
            out.put_u8(*kind);
            text(out, value);
        }
        out.put_u8(0);
    });
}
