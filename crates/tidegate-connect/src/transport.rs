//! The bytes' way to a server: a TCP connection, perhaps with TLS in it, or a Unix socket.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use nix::unistd::{Uid, User};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::{ConnectError, connect_io_error};
use crate::settings::{Host, Keepalive, Place, TlsMode, TlsSettings};
use crate::tls;

/// One address of a host.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A connection on which the PostgreSQL protocol begins: whether it is encrypted is settled.
#[derive(Debug)]
pub(crate) enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self, Transport::Tls(_))
    }

    /// Returns the channel binding data of the TLS session, where there is one.
    pub(crate) fn server_end_point(&self) -> Option<Vec<u8>> {
        let Transport::Tls(stream) = self else { return None };
        tls::server_end_point(stream.get_ref().1.peer_certificates()?.first()?)
    }
}

/// Connects to an address without encryption.
pub(crate) async fn open(
    address: &Address,
    keepalive: &Keepalive,
    peer_user: Option<&str>,
) -> Result<Transport, ConnectError> {
    let unreachable = |error: io::Error| ConnectError::Unreachable(error.to_string());
    match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await.map_err(unreachable)?;
            tune(&stream, keepalive).map_err(unreachable)?;
            Ok(Transport::Tcp(stream))
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path)
                .await
                .map_err(|error| ConnectError::Unreachable(format!("socket {}: {error}", path.display())))?;
            if let Some(wanted) = peer_user {
                check_peer(&stream, wanted, path)?;
            }
            Ok(Transport::Unix(stream))
        }
    }
}

fn tune(stream: &TcpStream, keepalive: &Keepalive) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    if keepalive.on {
        let probes = TcpKeepalive::new()
            .with_time(keepalive.idle)
            .with_interval(keepalive.interval)
            .with_retries(keepalive.count);
        socket.set_tcp_keepalive(&probes)?;
    }
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(keepalive.unacknowledged)?;
    Ok(())
}

fn check_peer(stream: &UnixStream, wanted: &str, path: &Path) -> Result<(), ConnectError> {
    let uid = stream.peer_cred().map_err(|error| ConnectError::Unreachable(error.to_string()))?.uid();
    let found = User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or(uid.to_string(), |user| user.name);
    if found == wanted {
        return Ok(());
    }
    let place = path.display();
    Err(ConnectError::Credentials(format!(
        "the server at {place} runs as \"{found}\", \"requirepeer\" is \"{wanted}\""
    )))
}

/// Whether one attempt uses TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encryption {
    No,
    /// If the server offers it.
    IfOffered,
    Yes,
}

/// Returns what is tried at one address, in order.
pub(crate) fn attempts(mode: TlsMode, address: &Address) -> &'static [Encryption] {
    use Encryption::{IfOffered, No, Yes};
    match (address, mode) {
        // As in libpq `sslmode` says nothing about Unix sockets.
        (Address::Unix(_), _) | (_, TlsMode::Disable) => &[No],
        (_, TlsMode::Allow) => &[No, Yes],
        (_, TlsMode::Prefer) => &[IfOffered, No],
        (_, TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull) => &[Yes],
    }
}

/// Negotiates TLS on a fresh TCP connection; other transports stay as they are.
pub(crate) async fn encrypt(
    transport: Transport,
    encryption: Encryption,
    settings: &TlsSettings,
    config: &Arc<ClientConfig>,
    host: &Host,
) -> Result<Transport, ConnectError> {
    let Transport::Tcp(mut stream) = transport else { return Ok(transport) };
    if !settings.direct && !offers_tls(&mut stream).await? {
        return match encryption {
            Encryption::Yes => Err(ConnectError::NoTls),
            Encryption::IfOffered | Encryption::No => Ok(Transport::Tcp(stream)),
        };
    }
    let address = stream.peer_addr().map_err(|error| ConnectError::Unreachable(error.to_string()))?;
    let (name, expected) = server_name(host, address, settings.mode)?;
    let stream = TlsConnector::from(Arc::clone(config))
        .connect(name, stream)
        .await
        .map_err(|error| connect_io_error(&error, &expected))?;
    // A server that ignores the protocol's name could be one of another protocol (manual section 55.2.11).
    if settings.direct && stream.get_ref().1.alpn_protocol() != Some(tls::ALPN) {
        return Err(ConnectError::Tls("the server does not know \"sslnegotiation=direct\"".to_owned()));
    }
    Ok(Transport::Tls(Box::new(stream)))
}

/// Asks for TLS. Reads one byte and no more: what an attacker put behind it in plain text must not be taken for the
/// server's (CVE-2021-23222).
async fn offers_tls(stream: &mut TcpStream) -> Result<bool, ConnectError> {
    let broken = |error: io::Error| connect_io_error(&error, "");
    let mut request = bytes::BytesMut::new();
    postgres_protocol::message::frontend::ssl_request(&mut request);
    stream.write_all(&request).await.map_err(broken)?;
    match stream.read_u8().await.map_err(broken)? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        // An error message, unprotected: the server could not even start a process.
        b'E' => Err(ConnectError::Unreachable("the server cannot take connections at the moment".to_owned())),
        _ => Err(ConnectError::Foreign("the answer to the request for TLS is not PostgreSQL's".to_owned())),
    }
}

/// Returns the name a certificate must carry, and how messages write it.
fn server_name(host: &Host, address: SocketAddr, mode: TlsMode) -> Result<(ServerName<'static>, String), ConnectError> {
    let by_address = ServerName::from(address.ip());
    let Place::Tcp { name: Some(name), .. } = &host.place else { return Ok((by_address, address.ip().to_string())) };
    match ServerName::try_from(name.clone()) {
        Ok(server_name) => Ok((server_name, name.clone())),
        // Nobody will compare it.
        Err(_) if mode < TlsMode::VerifyFull => Ok((by_address, name.clone())),
        Err(_) => {
            let why = "no certificate can carry such a name".to_owned();
            Err(ConnectError::Untrusted { expected: name.clone(), why })
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Transport::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Transport::Tcp(stream) => stream.is_write_vectored(),
            Transport::Unix(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
