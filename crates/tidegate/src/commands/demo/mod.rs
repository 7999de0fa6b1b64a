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
use crate::output::{Exit, Failure, say};
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
    let mut told = Narrator::start();
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

    let traffic = Traffic::start([urls.source.clone(), shop::client_url(&urls.target)], random.u64(..)).await?;
    told.say(format!("{} clients place, ship, cancel and re-price orders from now on", traffic::CLIENTS));
    told.say(format!("tidegate check --direction both: {}", engine::check(&urls).await?));
    let mut engine = Engine::start(&urls).await?;
    told.say("tidegate migrate: started");
    let began = Instant::now();
    let copied = engine.until_copied().await?;
    let tables = copied.tables;
    told.step("copy", began, format!("{tables} tables under one snapshot while the traffic went on"));
    engine.until_streaming(0).await?;
    told.step("catch up", began, "CockroachDB follows PostgreSQL");

    let part = args.duration.0 / 4;
    tokio::time::sleep(part + Duration::from_millis(random.u64(0..500))).await;
    let began = Instant::now();
    let engine = told.kill_and_start_again(engine, &urls).await?;
    told.step("SIGKILL", began, "started again: it took over, read its checkpoint and caught up");
    tokio::time::sleep(part).await;
    told.say(format!("apply lag under traffic: {}", engine.status(0).await?.lag));
    told.verify("verify", &urls).await?;

    told.turn("cutover", &urls, &traffic, 1).await?;
    tokio::time::sleep(part).await;
    told.verify("verify, reversed", &urls).await?;

    told.turn("failback", &urls, &traffic, 0).await?;
    tokio::time::sleep(part).await;
    let totals = told.stop(traffic).await?;
    let began = Instant::now();
    engine::run("drain", &[], &urls).await?;
    told.step("drain", began, "everything committed is durable on the other side");

    let comparison = compare::databases(&urls, shop::TABLES).await?;
    let began = Instant::now();
    let finished = engine::run("finish", &["--yes"], &urls).await?;
    let removed: usize =
        ["source", "target"].iter().filter_map(|side| finished["removed"][side].as_array()).map(Vec::len).sum();
    told.step("finish", began, format!("{removed} things of tidegate removed from both sides"));
    engine.until_ended().await?;
    cockroach.discard().await?;
    print!("\n{}\n{comparison}\n", told.table());
    say!(
        "{}: {} rows on both sides compared one by one, {} transactions at PostgreSQL, {} at CockroachDB, {:.0} s",
        if comparison.equal() { "EQUAL" } else { "DIFFERENT" },
        comparison.rows(),
        totals.committed[0],
        totals.committed[1],
        told.started.elapsed().as_secs_f64(),
    );
    Ok(comparison.equal())
}

fn server() -> anyhow::Result<Server> {
    // Durable, as a production server is: the demo's figures should not flatter.
    let server = Server::builder().setting("fsync", "on").setting("full_page_writes", "on");
    // The stand-in's sessions are SERIALIZABLE, and lock what they read.
    let server = server.setting("max_pred_locks_per_transaction", 1024);
    server.start().context("a PostgreSQL server could not be started")
}

/// Says what happens, with the time since the beginning, and keeps the steps for the table at the end.
struct Narrator {
    started: Instant,
    steps: Vec<(String, Duration, String)>,
}

impl Narrator {
    fn start() -> Self {
        Narrator { started: Instant::now(), steps: Vec::new() }
    }

    fn step(&mut self, name: &str, began: Instant, what: impl Into<String>) {
        let (took, what) = (began.elapsed(), what.into());
        self.say(format!("{name} ({:.1} s): {what}", took.as_secs_f64()));
        self.steps.push((name.to_owned(), took, what));
    }

    /// Kills the engine in the middle of the stream, and starts another one.
    async fn kill_and_start_again(&self, engine: Engine, urls: &engine::Urls) -> anyhow::Result<Engine> {
        let before = engine.status(0).await?;
        engine.kill().await?;
        self.say(format!("SIGKILL in the middle of the stream, at {}", before.applied));
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut engine = Engine::start(urls).await?;
        engine.until_streaming(0).await?;
        Ok(engine)
    }

    /// Compares both sides while both are being written.
    async fn verify(&mut self, name: &str, urls: &engine::Urls) -> anyhow::Result<()> {
        let began = Instant::now();
        let report = engine::run("verify", &[], urls).await?;
        let tables = report["tables"].as_array().context("verify reports tables")?;
        let rows: u64 = tables.iter().filter_map(|table| table["compared"].as_u64()).sum();
        let verdict = report["verdict"].as_str().unwrap_or_default();
        self.step(name, began, format!("{verdict}: {rows} rows compared under traffic"));
        Ok(())
    }

    /// Turns, and waits until the clients write to the side that was opened.
    async fn turn(&mut self, command: &str, urls: &engine::Urls, traffic: &Traffic, to: usize) -> anyhow::Result<()> {
        traffic.longest_pause();
        let (began, before) = (Instant::now(), traffic.committed(to));
        let certificate = engine::run(command, &["--yes"], urls).await?;
        until("the clients to go on", Duration::from_secs(60), || async {
            Ok((traffic.committed(to) > before + 20).then_some(()))
        })
        .await?;
        let blocked = certificate["write_blocked_ms"].as_u64().context("a certificate says how long")?;
        let waited = certificate["resolved_wait_ms"].as_u64().unwrap_or(0);
        let waited = if waited > 0 { format!(", {waited} ms of it for a resolved timestamp") } else { String::new() };
        let pause = traffic.longest_pause().as_millis();
        self.step(
            command,
            began,
            format!("nothing could be written for {blocked} ms{waited}; the clients' longest pause was {pause} ms"),
        );
        Ok(())
    }

    async fn stop(&self, traffic: Traffic) -> anyhow::Result<traffic::Totals> {
        let totals = traffic.stop().await?;
        let committed = totals.committed[0] + totals.committed[1];
        self.say(format!(
            "traffic stopped: {committed} transactions committed ({:.0}/s), {} rolled back on purpose",
            committed as f64 / totals.took.as_secs_f64(),
            totals.rolled_back,
        ));
        Ok(totals)
    }

    fn say(&self, what: impl AsRef<str>) {
        say!("[{:5.1} s] {}", self.started.elapsed().as_secs_f64(), what.as_ref());
    }

    /// Returns the steps as a table.
    fn table(&self) -> String {
        let mut table = format!("{:<18}{:>9}  {}\n", "step", "seconds", "what");
        for (name, took, what) in &self.steps {
            table += &format!("{name:<18}{:>9.1}  {what}\n", took.as_secs_f64());
        }
        table
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
