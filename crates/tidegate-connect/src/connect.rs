//! The search for a server that answers: hosts, addresses, with and without TLS, inside one time limit.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tidegate_model::{Class, Problem};
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout_at};

use crate::error::ConnectError;
use crate::settings::{Host, Place, Settings, Wanted};
use crate::tls;
use crate::transport::{Address, Encryption, Transport, attempts, encrypt, open};

/// What turns a transport into a session of some kind.
pub(crate) trait Handshake {
    type Session;

    /// Starts and authenticates the session.
    fn begin(
        &self,
        transport: Transport,
        host: &Host,
    ) -> impl Future<Output = Result<Begun<Self::Session>, ConnectError>> + Send;
}

/// A session that is ready for commands.
pub(crate) struct Begun<T> {
    pub(crate) session: T,
    pub(crate) is_standby: bool,
}

/// Where a session was found, to reach the very same server again.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    host: Host,
    address: Address,
    encrypted: bool,
}

/// Tries the hosts in order until one gives a session.
///
/// The time limit covers the whole search; each host, and each address of it, gets an equal share of what is left, so
/// that one that swallows packets does not keep the next from being tried.
pub(crate) async fn establish<H: Handshake>(settings: &Settings, handshake: &H) -> Result<(H::Session, Peer), Problem> {
    let deadline = settings.connect_timeout.map(|timeout| Instant::now() + timeout);
    let kinds: &[Wanted] = match settings.wanted {
        Wanted::PreferStandby => &[Wanted::Standby, Wanted::Any],
        Wanted::Any => &[Wanted::Any],
        Wanted::Primary => &[Wanted::Primary],
        Wanted::Standby => &[Wanted::Standby],
    };
    let mut failures = Vec::new();
    let mut left = kinds.len() * settings.hosts.len();
    for &wanted in kinds {
        for host in &settings.hosts {
            let search = Search { settings, handshake, host, wanted };
            match search.host(share(deadline, left)).await {
                Ok(found) => return Ok(found),
                Err(error) if error.ends_search() => return Err(error.into_problem(settings, host)),
                Err(error) => failures.push(error.into_problem(settings, host)),
            }
            left -= 1;
        }
    }
    Err(summary(failures))
}

/// Returns the end of an equal share of the time left.
fn share(deadline: Option<Instant>, shares: usize) -> Option<Instant> {
    let now = Instant::now();
    deadline.map(|deadline| now + deadline.saturating_duration_since(now) / shares.max(1) as u32)
}

/// Makes one problem of those of all hosts: a retry is worth while if it is for one of them.
fn summary(mut failures: Vec<Problem>) -> Problem {
    let chosen = failures.iter().position(|problem| problem.class == Class::Transient).unwrap_or(0);
    let others: Vec<String> = (0..failures.len())
        .filter(|&index| index != chosen)
        .map(|index| format!("; {}: {}", failures[index].what, failures[index].why))
        .collect();
    let mut problem = failures.swap_remove(chosen);
    problem.why.push_str(&others.concat());
    problem
}

/// Runs `future` until the deadline.
async fn within<T>(
    deadline: Option<Instant>,
    timeout: Option<Duration>,
    future: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    match deadline {
        Some(deadline) => timeout_at(deadline, future).await.unwrap_or(Err(ConnectError::TimedOut(timeout))),
        None => future.await,
    }
}

/// The search at one host.
struct Search<'a, H> {
    settings: &'a Settings,
    handshake: &'a H,
    host: &'a Host,
    wanted: Wanted,
}

impl<H: Handshake> Search<'_, H> {
    async fn host(&self, deadline: Option<Instant>) -> Result<(H::Session, Peer), ConnectError> {
        let timeout = self.settings.connect_timeout;
        let addresses = within(deadline, timeout, addresses(self.host)).await?;
        let mut last = ConnectError::Unreachable("its name has no address".to_owned());
        for (index, address) in addresses.iter().enumerate() {
            let deadline = share(deadline, addresses.len() - index);
            match within(deadline, timeout, self.address(address)).await {
                Err(error) if !error.ends_search() => last = error,
                decided => return decided,
            }
        }
        Err(last)
    }

    async fn address(&self, address: &Address) -> Result<(H::Session, Peer), ConnectError> {
        let attempts = attempts(self.settings.tls.mode, address);
        let config = self.tls_config(attempts)?;
        let mut result = self.attempt(address, attempts[0], config.as_ref()).await;
        for &encryption in &attempts[1..] {
            // As in libpq: what the other way of connecting may change is tried the other way.
            let error = match result {
                Err(error) if depends_on_encryption(&error) => error,
                decided => return decided,
            };
            // Its own failure says less than that of the way that was preferred.
            result = self.attempt(address, encryption, config.as_ref()).await.map_err(|_| error);
        }
        result
    }

    fn tls_config(&self, attempts: &[Encryption]) -> Result<Option<Arc<ClientConfig>>, ConnectError> {
        if attempts == [Encryption::No] {
            return Ok(None);
        }
        tls::client_config(&self.settings.tls).map(Some).map_err(ConnectError::Setup)
    }

    async fn attempt(
        &self,
        address: &Address,
        encryption: Encryption,
        config: Option<&Arc<ClientConfig>>,
    ) -> Result<(H::Session, Peer), ConnectError> {
        let mut transport = open(address, &self.settings.keepalive, self.settings.peer_user.as_deref()).await?;
        if let Some(config) = config.filter(|_| encryption != Encryption::No) {
            transport = encrypt(transport, encryption, &self.settings.tls, config, self.host).await?;
        }
        let peer = Peer { host: self.host.clone(), address: address.clone(), encrypted: transport.is_encrypted() };
        let begun = self.handshake.begin(transport, self.host).await?;
        match (self.wanted, begun.is_standby) {
            (Wanted::Primary, true) => Err(ConnectError::OtherKind("the server is a standby, a primary is wanted")),
            (Wanted::Standby, false) => Err(ConnectError::OtherKind("the server is a primary, a standby is wanted")),
            _ => Ok((begun.session, peer)),
        }
    }
}

fn depends_on_encryption(error: &ConnectError) -> bool {
    match error {
        // No line of pg_hba.conf fits.
        ConnectError::Refused(error) => error.sqlstate == "28000",
        ConnectError::Untrusted { .. } | ConnectError::Tls(_) | ConnectError::NoTls => true,
        _ => false,
    }
}

async fn addresses(host: &Host) -> Result<Vec<Address>, ConnectError> {
    match &host.place {
        Place::Unix(directory) => Ok(vec![Address::Unix(directory.join(format!(".s.PGSQL.{}", host.port)))]),
        Place::Tcp { address: Some(address), .. } => Ok(vec![Address::Tcp((*address, host.port).into())]),
        Place::Tcp { name, address: None } => {
            let name = name.as_deref().unwrap_or("localhost");
            let found = lookup_host((name, host.port)).await;
            let found = found.map_err(|error| ConnectError::Unreachable(format!("name \"{name}\": {error}")))?;
            Ok(found.map(Address::Tcp).collect())
        }
    }
}

/// Opens a second connection to the server of a session, to send a request to cancel on it.
pub(crate) async fn reconnect(settings: &Settings, peer: &Peer) -> Result<Transport, Problem> {
    let deadline = settings.connect_timeout.map(|timeout| Instant::now() + timeout);
    let open = async {
        let transport = open(&peer.address, &settings.keepalive, settings.peer_user.as_deref()).await?;
        if !peer.encrypted {
            return Ok(transport);
        }
        let config = tls::client_config(&settings.tls).map_err(ConnectError::Setup)?;
        encrypt(transport, Encryption::Yes, &settings.tls, &config, &peer.host).await
    };
    let opened = within(deadline, settings.connect_timeout, open).await;
    opened.map_err(|error| error.into_problem(settings, &peer.host))
}
