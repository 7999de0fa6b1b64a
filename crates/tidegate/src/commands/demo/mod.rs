//! `demo`: the whole story on this machine, with live traffic.
//!
//! Everything is real: two PostgreSQL servers, the `tidegate` program as its users run it, a SIGKILL in the middle. The
//! comparison at the end shares no code with the engine.

mod compare;
mod engine;
mod shop;
mod traffic;

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tidegate_model::Problem;
use tidegate_throwaway::Server;
use tokio::task::spawn_blocking;

use crate::cli::DemoArgs;
use crate::output::{Exit, Failure};
use engine::Engine;
use traffic::Traffic;

pub async fn run(args: DemoArgs) -> Result<Exit, Failure> {
    match story(&args).await {
        Ok(true) => Ok(Exit::Done),
        Ok(false) => Ok(Exit::Negative),
        Err(error) => {
            let next = "the lines above say how far it came; PostgreSQL's programs must be installed (make setup)";
            Err(Failure::unknown(Problem::definite(
                "CF006",
                "the demo could not be played",
                format!("{error:#}"),
                next,
            )))
        }
    }
}

/// Plays it; returns whether both sides were equal at the end.
async fn story(args: &DemoArgs) -> anyhow::Result<bool> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    let told = Narrator::start();
    told.say(format!("a shop moves from one PostgreSQL server to another, under live traffic (seed {seed})"));

    let (source, target) = spawn_blocking(|| anyhow::Ok((server()?, server()?))).await??;
    source.create_database("shop")?;
    target.create_database("shop")?;
    let urls = engine::Urls { source: source.url("shop"), target: target.url("shop") };
    shop::make(&urls).await?;
    told.say(format!(
        "source {} with {} rows in {} tables; target {} with the same tables and no rows",
        source.binaries().version(),
        shop::rows(&urls.source).await?,
        shop::TABLES.len(),
        target.binaries().version(),
    ));

    let traffic = Traffic::start(&urls.source, random.u64(..)).await?;
    told.say(format!("{} clients place, ship, cancel and re-price orders from now on", traffic::CLIENTS));

    let check = engine::check(&urls).await?;
    told.say(format!("tidegate check: {check}"));

    let mut engine = Engine::start(&urls).await?;
    told.say("tidegate migrate: started");
    let copied = engine.until_copied().await?;
    told.say(format!("copied {} tables under one snapshot while the traffic went on", copied.tables));
    engine.until_streaming().await?;
    told.say("every change since the snapshot is applied: the target follows the source");

    let third = args.duration.0 / 3;
    tokio::time::sleep(third + Duration::from_millis(random.u64(0..500))).await;
    let before = engine.status().await?;
    engine.kill().await?;
    told.say(format!("SIGKILL in the middle of the stream, at {}", before.applied));
    let killed = Instant::now();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let written = traffic.committed();
    let mut engine = Engine::start(&urls).await?;
    engine.until_streaming().await?;
    told.say(format!(
        "started again: it took over, read its checkpoint and caught up, {:.1} s after the kill ({} transactions so far)",
        killed.elapsed().as_secs_f64(),
        written,
    ));

    tokio::time::sleep(third).await;
    let lag = engine.status().await?;
    told.say(format!("apply lag under traffic: {}", lag.lag));
    let totals = traffic.stop().await?;
    told.say(format!(
        "traffic stopped: {} transactions committed ({:.0}/s), {} rolled back on purpose",
        totals.committed,
        totals.committed as f64 / totals.took.as_secs_f64(),
        totals.rolled_back,
    ));
    let drained = Instant::now();
    engine::drain(&urls).await?;
    told.say(format!("tidegate drain: everything is durable at the target ({} ms)", drained.elapsed().as_millis()));

    let comparison = compare::databases(&urls, shop::TABLES).await?;
    engine.stop().await?;
    told.say("tidegate stopped cleanly by SIGTERM");
    print!("\n{comparison}\n");
    println!(
        "{}: {} rows on both sides compared one by one, {} transactions, 1 SIGKILL, {:.0} s",
        if comparison.equal() { "EQUAL" } else { "DIFFERENT" },
        comparison.rows(),
        totals.committed,
        told.started.elapsed().as_secs_f64(),
    );
    Ok(comparison.equal())
}

fn server() -> anyhow::Result<Server> {
    // Durable, as a production server is: the demo's figures should not flatter.
    let server = Server::builder().setting("fsync", "on").setting("full_page_writes", "on").start();
    server.context("a PostgreSQL server could not be started")
}

/// Says what happens, with the time since the beginning.
struct Narrator {
    started: Instant,
}

impl Narrator {
    fn start() -> Self {
        Narrator { started: Instant::now() }
    }

    fn say(&self, what: impl AsRef<str>) {
        println!("[{:5.1} s] {}", self.started.elapsed().as_secs_f64(), what.as_ref());
    }
}

/// Waits until `ready` gives a value.
async fn until<T, F>(what: &str, limit: Duration, mut ready: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Option<T>>>,
{
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = ready().await? {
            return Ok(value);
        }
        if Instant::now() > deadline {
            bail!("waited {} s for {what}", limit.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
