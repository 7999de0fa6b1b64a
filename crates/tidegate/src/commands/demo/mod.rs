//! `demo`: the whole story on this machine, with live traffic.
//!
//! Everything is real: a PostgreSQL server, the `tidegate` program as its users run it, SIGKILLs in the middle; the
//! CockroachDB is real where there is one, and says what it is where it is not. The comparison at the end shares no code
//! with the engine.

mod cockroach;
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
use cockroach::Cockroach;
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
    told.say(format!("a shop moves from PostgreSQL to CockroachDB and back, under live traffic (seed {seed})"));

    let source = spawn_blocking(server).await??;
    source.create_database("shop")?;
    let cockroach = Cockroach::start().await?;
    let urls = engine::Urls { source: source.url("shop"), target: cockroach.url() };
    told.say(format!("source: PostgreSQL {}", source.binaries().version()));
    told.say(format!("target: {}", cockroach.what));
    shop::make(&urls).await?;
    told.say(format!(
        "{} rows in {} tables at the source; the same tables and no rows at the target",
        shop::rows(&urls.source).await?,
        shop::TABLES.len(),
    ));

    let traffic = Traffic::start(&urls.source, 0, random.u64(..)).await?;
    told.say(format!("{} clients place, ship, cancel and re-price orders from now on", traffic::CLIENTS));
    told.say(format!("tidegate check --direction both: {}", engine::check(&urls).await?));
    let mut engine = Engine::start(&urls).await?;
    told.say("tidegate migrate --direction both: started");
    let copied = engine.until_copied().await?;
    told.say(format!("copied {} tables under one snapshot while the traffic went on", copied.tables));
    engine.until_streaming(0).await?;
    told.say("every change since the snapshot is applied: CockroachDB follows PostgreSQL");

    let part = args.duration.0 / 4;
    tokio::time::sleep(part + Duration::from_millis(random.u64(0..500))).await;
    let (mut engine, kills) = (told.kill_and_start_again(engine, &urls, 0).await?, 1);
    tokio::time::sleep(part).await;
    told.say(format!("apply lag under traffic: {}", engine.status(0).await?.lag));
    let there = told.stop(traffic).await?;
    drain(&told, &urls).await?;

    engine.until_streaming(1).await?;
    let traffic = Traffic::start(&urls.target, 1, random.u64(..)).await?;
    told.say("the clients write to CockroachDB from now on; PostgreSQL follows by a changefeed");
    tokio::time::sleep(part + Duration::from_millis(random.u64(0..500))).await;
    let (engine, kills) = (told.kill_and_start_again(engine, &urls, 1).await?, kills + 1);
    tokio::time::sleep(part).await;
    let back = told.stop(traffic).await?;
    drain(&told, &urls).await?;

    let comparison = compare::databases(&urls, shop::TABLES).await?;
    engine.stop().await?;
    told.say("tidegate stopped cleanly by SIGTERM");
    cockroach.discard().await?;
    print!("\n{comparison}\n");
    println!(
        "{}: {} rows on both sides compared one by one, {} transactions there, {} back, {kills} SIGKILLs, {:.0} s",
        if comparison.equal() { "EQUAL" } else { "DIFFERENT" },
        comparison.rows(),
        there.committed,
        back.committed,
        told.started.elapsed().as_secs_f64(),
    );
    Ok(comparison.equal())
}

async fn drain(told: &Narrator, urls: &engine::Urls) -> anyhow::Result<()> {
    let began = Instant::now();
    engine::drain(urls).await?;
    let took = began.elapsed().as_secs_f64();
    told.say(format!("tidegate drain: everything committed so far is durable on the other side ({took:.1} s)"));
    Ok(())
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

    /// Kills the engine in the middle of stream `stream`, and starts another one.
    async fn kill_and_start_again(&self, engine: Engine, urls: &engine::Urls, stream: usize) -> anyhow::Result<Engine> {
        let before = engine.status(stream).await?;
        engine.kill().await?;
        self.say(format!("SIGKILL in the middle of the stream, at {}", before.applied));
        let killed = Instant::now();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut engine = Engine::start(urls).await?;
        engine.until_streaming(stream).await?;
        let took = killed.elapsed().as_secs_f64();
        self.say(format!("started again: it took over, read its checkpoint and caught up, {took:.1} s after the kill"));
        Ok(engine)
    }

    async fn stop(&self, traffic: Traffic) -> anyhow::Result<traffic::Totals> {
        let totals = traffic.stop().await?;
        self.say(format!(
            "traffic stopped: {} transactions committed ({:.0}/s), {} rolled back on purpose",
            totals.committed,
            totals.committed as f64 / totals.took.as_secs_f64(),
            totals.rolled_back,
        ));
        Ok(totals)
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
