//! Takes connections, and knows every session by the key with which it can be cancelled.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backing::Backing;
use crate::error::SqlError;
use crate::knobs::Settings;
use crate::options::{StandinOptions, Version};
use crate::session;
use crate::shape::Shapes;
use crate::wire::link::Link;
use crate::wire::startup::{self, BackendKey, Hello};

/// Names the cluster by the backing server's own identity.
const ID_SQL: &str = "SELECT md5(system_identifier::text)::uuid::text FROM pg_control_system()";

/// What all sessions share.
#[derive(Debug)]
pub struct Cluster {
    pub backing: Backing,
    pub settings: Arc<Settings>,
    pub version: Version,
    /// What `version()` gives.
    pub banner: String,
    /// The same for as long as the backing server lives.
    pub id: String,
    pub password: Option<String>,
    pub shapes: Option<Shapes>,
    pub builtins: Builtins,
    /// Ends the changefeeds when the stand-in stops.
    pub stop: CancellationToken,
    /// Grows with every change of a schema: what sessions know about tables is then out of date.
    schema_changes: AtomicU64,
    sessions: Mutex<HashMap<BackendKey, Arc<Canceller>>>,
    next_session: AtomicU64,
}

/// Names that the backing server has of its own accord.
#[derive(Debug, Default)]
pub struct Builtins {
    pub functions: HashSet<String>,
    pub relations: HashSet<String>,
}

/// Ends what one session is doing.
#[derive(Debug)]
pub struct Canceller {
    backing: BackendKey,
    user: String,
    feed: Mutex<CancellationToken>,
}

impl Canceller {
    /// Returns a token for a changefeed that begins now.
    pub fn begin_feed(&self, stop: &CancellationToken) -> CancellationToken {
        let token = stop.child_token();
        *self.feed.lock().unwrap_or_else(PoisonError::into_inner) = token.clone();
        token
    }
}

impl Cluster {
    pub async fn open(backing: Backing, options: &StandinOptions, stop: CancellationToken) -> anyhow::Result<Cluster> {
        let client = backing.client("postgres").await?;
        let version: String = client.query_one("SHOW server_version", &[]).await?.get(0);
        let names = |sql: &'static str| {
            let client = &client;
            async move {
                let rows = client.query(sql, &[]).await?;
                Ok::<HashSet<String>, SqlError>(rows.iter().map(|row| row.get(0)).collect())
            }
        };
        let functions = names("SELECT DISTINCT proname::text FROM pg_proc WHERE pronamespace = 11").await?;
        let relations = names("SELECT relname::text FROM pg_class WHERE relnamespace = 11").await?;
        Ok(Cluster {
            settings: Settings::open(&backing.config("postgres")).await?,
            version: options.version,
            banner: options.version.banner(version.split(' ').next().unwrap_or_default()),
            id: client.query_one(ID_SQL, &[]).await?.get(0),
            password: options.password.clone(),
            shapes: options.shapes.clone().map(Shapes::new),
            builtins: Builtins { functions, relations },
            stop,
            schema_changes: AtomicU64::new(0),
            sessions: Mutex::default(),
            next_session: AtomicU64::new(1),
            backing,
        })
    }

    /// Returns how many schema changes there were.
    pub fn schema_changes(&self) -> u64 {
        self.schema_changes.load(Ordering::Acquire)
    }

    pub fn schema_changed(&self) {
        self.schema_changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Gives a new session its key.
    pub fn register(&self, backing: BackendKey, user: &str) -> (BackendKey, Arc<Canceller>) {
        let number = self.next_session.fetch_add(1, Ordering::Relaxed);
        let process = i32::try_from(number % 0x4000_0000).expect("30 bits fit");
        let key = BackendKey { process, secret: fastrand::i32(..) };
        let canceller =
            Arc::new(Canceller { backing, user: user.to_owned(), feed: Mutex::new(CancellationToken::new()) });
        self.sessions().insert(key, canceller.clone());
        (key, canceller)
    }

    pub fn forget(&self, key: BackendKey) {
        self.sessions().remove(&key);
    }

    /// Returns the backing process of each client, and who the client is.
    pub fn clients(&self) -> Vec<(i32, String)> {
        self.sessions().values().map(|session| (session.backing.process, session.user.clone())).collect()
    }

    async fn cancel(&self, key: BackendKey) {
        let Some(canceller) = self.sessions().get(&key).cloned() else { return };
        canceller.feed.lock().unwrap_or_else(PoisonError::into_inner).cancel();
        if let Err(error) = self.backing.cancel(canceller.backing).await {
            tracing::warn!(%error, "a cancel request was not passed on");
        }
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, HashMap<BackendKey, Arc<Canceller>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until it is told to stop; sessions that are under way then break off.
pub async fn serve(listener: TcpListener, cluster: Arc<Cluster>) {
    let mut sessions = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = cluster.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = sessions.join_next(), if !sessions.is_empty() => continue,
        };
        match accepted {
            Ok((stream, _)) => drop(sessions.spawn(connection(stream, cluster.clone()))),
            Err(error) => tracing::warn!(%error, "a connection was not taken"),
        }
    }
    sessions.shutdown().await;
}

async fn connection(stream: TcpStream, cluster: Arc<Cluster>) {
    let _ = stream.set_nodelay(true);
    let (reader, writer) = stream.into_split();
    let mut client = Link::new(reader, writer);
    let ended = match startup::hello(&mut client).await {
        Ok(Hello::Cancel(key)) => {
            cluster.cancel(key).await;
            Ok(())
        }
        Ok(Hello::Startup(parameters)) => Box::pin(session::serve(client, parameters, cluster)).await,
        Err(error) => Err(error.into()),
    };
    if let Err(error) = ended {
        tracing::debug!(error = format!("{error:#}"), "a session broke off");
    }
}
