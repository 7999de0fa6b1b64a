//! A running stand-in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context;
use tidegate_throwaway::Server;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::backing::Backing;
use crate::install;
use crate::options::StandinOptions;
use crate::server;

/// A stand-in of this process, with threads of its own; gone with this value. Its calls block, from any thread.
#[derive(Debug)]
pub struct Standin {
    address: SocketAddr,
    backing: Backing,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Standin {
    /// Starts one, and waits until it takes connections.
    pub fn start(options: StandinOptions) -> anyhow::Result<Standin> {
        let backing = match (&options.backing_url, &options.backing) {
            (Some(url), _) => Backing::of_url(url)?,
            (None, Some(server)) => Backing::of_server(server.clone()),
            (None, None) => Backing::of_server(Arc::new(Server::builder().start()?)),
        };
        let stop = CancellationToken::new();
        let (tell, told) = std::sync::mpsc::channel();
        let inside = (backing.clone(), stop.clone());
        let thread = std::thread::Builder::new().name("standin".to_owned()).spawn(move || {
            let (backing, stop) = inside;
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let runtime = match runtime.context("no runtime for the stand-in") {
                Ok(runtime) => runtime,
                Err(error) => return drop(tell.send(Err(error))),
            };
            runtime.block_on(async move {
                match listen(backing, options, stop).await {
                    Ok((address, listener, cluster)) => {
                        let _ = tell.send(Ok(address));
                        server::serve(listener, cluster).await;
                    }
                    Err(error) => drop(tell.send(Err(error))),
                }
            });
            // Sessions that are left end here, with their connections.
            runtime.shutdown_background();
        });
        let thread = thread.context("no thread for the stand-in")?;
        let address = told.recv().context("the stand-in ended before it was ready")??;
        Ok(Standin { address, backing, stop, thread: Some(thread) })
    }

    /// Returns the URL of a database for the user `root`.
    pub fn url(&self, database: &str) -> String {
        format!("cockroach://root@{}/{database}?sslmode=disable", self.address)
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the backing server, unless it was given as a URL.
    pub fn backing(&self) -> Option<&Arc<Server>> {
        self.backing.server()
    }

    /// Makes an empty database.
    pub fn create_database(&self, name: &str) -> anyhow::Result<()> {
        let backing = self.backing.clone();
        let sql = install::create_sql(name);
        on_own_runtime(async move { Ok(backing.client("postgres").await?.batch_execute(&sql).await?) })
    }

    /// Ends it at once, as a kill would: connections break.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        self.end();
    }
}

async fn listen(
    backing: Backing,
    options: StandinOptions,
    stop: CancellationToken,
) -> anyhow::Result<(SocketAddr, TcpListener, Arc<server::Cluster>)> {
    install::cluster(&backing).await?;
    let cluster = server::Cluster::open(backing, &options, stop).await?;
    let wanted = options.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let listener = TcpListener::bind(wanted).await.with_context(|| format!("cannot listen on {wanted}"))?;
    let address = listener.local_addr()?;
    tracing::info!(%address, version = %options.version, "stand-in for CockroachDB ready, backed by PostgreSQL");
    Ok((address, listener, Arc::new(cluster)))
}

/// Runs in a thread of its own: callers may be in a runtime already, which cannot be blocked on from inside.
fn on_own_runtime<T: Send + 'static>(
    work: impl Future<Output = anyhow::Result<T>> + Send + 'static,
) -> anyhow::Result<T> {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(work)
    });
    thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the stand-in's worker panicked")))
}
