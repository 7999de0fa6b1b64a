//! TPC-B traffic while the engine and both servers are killed again and again; equal in the end.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_throwaway::Server;

use crate::database::start_server;
use crate::oracle::{self, Oracle};
use crate::pgbench::{self, Traffic};
use crate::random::Random;
use crate::wait::wait_until;
use crate::{Engine, Migration, Proxy, compare};

/// How often what is killed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// pgbench's scale: 100,000 accounts each.
    pub scale: u32,
    /// pgbench's clients.
    pub clients: u32,
    /// Their transactions per second, together.
    pub rate: u32,
    /// Kills of the engine while it copies.
    pub kills_in_copy: u32,
    /// Kills of the engine while a COMMIT of a batch is unanswered.
    pub kills_in_flight: u32,
    /// Kills of the engine at any moment.
    pub kills_anywhere: u32,
    /// Kills of the source server.
    pub source_kills: u32,
    /// Kills of the target server.
    pub target_kills: u32,
    /// Decides the moments.
    pub seed: u64,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Kills of the engine while it copied.
    pub in_copy: u32,
    /// Kills of the engine while a COMMIT was unanswered.
    pub in_flight: u32,
    /// Kills of the engine at any moment.
    pub anywhere: u32,
    /// Kills of the source server.
    pub source: u32,
    /// Kills of the target server.
    pub target: u32,
    /// Transactions that the source acknowledged to the oracle.
    pub acknowledged: usize,
    /// Rows compared.
    pub rows: u64,
    /// How long all of it took.
    pub took: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "engine killed {} times:", self.in_copy + self.in_flight + self.anywhere)?;
        writeln!(f, "  {} during the copy", self.in_copy)?;
        writeln!(f, "  {} with a batch in flight", self.in_flight)?;
        writeln!(f, "  {} at any moment", self.anywhere)?;
        writeln!(f, "source server killed {} times, target server {} times", self.source, self.target)?;
        writeln!(f, "{} transactions acknowledged by the source to the oracle: all there, once", self.acknowledged)?;
        write!(f, "{} rows compared, source and target are equal; took {:.0?}", self.rows, self.took)
    }
}

/// How fast each connection may read while the copy is to be hit, for each 100,000 accounts: some seconds for all of
/// it.
const COPY_BYTES_PER_SECOND: u64 = 1_000_000;
const ANSWER_DELAY: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(120);

/// Runs the scenario.
///
/// # Panics
/// When source and target differ in the end, when the oracle misses something, or when something does not go on.
pub fn run(plan: &Plan) -> Report {
    let started = Instant::now();
    let mut run = Run::prepare(plan);
    run.kill_in_copy();
    run.source_proxy.throttle(None);
    run.kill_in_flight();
    run.kill_anywhere();
    run.kill_servers();
    run.finish(started)
}

struct Run<'a> {
    plan: &'a Plan,
    random: Random,
    migration: Migration,
    source_proxy: Proxy,
    target_proxy: Proxy,
    engine: Engine,
    traffic: Traffic,
    oracle: Oracle,
    report: Report,
}

impl<'a> Run<'a> {
    fn prepare(plan: &'a Plan) -> Run<'a> {
        let source = start_server(Server::builder());
        let target = start_server(Server::builder());
        let source_proxy = Proxy::start(source.port());
        let target_proxy = Proxy::start(target.port());
        source_proxy.throttle(Some(COPY_BYTES_PER_SECOND * u64::from(plan.scale)));
        target_proxy.delay(ANSWER_DELAY);
        let migration =
            Migration::on(&source, &target, "crash").source_via(&source_proxy).target_via(&target_proxy).options([
                // Many small chunks and batches: more moments that differ.
                "--copy-chunk-bytes=512KiB",
                "--batch-bytes-max=256KiB",
            ]);
        pgbench::initialize(&migration.source, &migration.target, plan.scale);
        migration.source.sql("ALTER TABLE pgbench_history REPLICA IDENTITY FULL");
        migration.both(oracle::SCHEMA);
        let traffic = Traffic::start(&migration.source, plan.clients, plan.rate);
        let oracle = Oracle::start(&migration.source, 2, Duration::from_millis(10), plan.seed);
        let engine = migration.start();
        let report = Report::default();
        let random = Random::seeded(plan.seed);
        Run { plan, random, migration, source_proxy, target_proxy, engine, traffic, oracle, report }
    }

    fn restart_engine(&mut self) {
        self.engine = self.migration.start();
    }

    fn copy_is_under_way(&self) -> bool {
        let query = "SELECT EXISTS (SELECT FROM tidegate.copy_table WHERE state = 'copying')";
        self.migration.target.try_sql(query).is_ok_and(|answer| answer == "t")
    }

    /// Some table is half copied before the kill and, by the durable state, still is afterwards: the kill hit the copy.
    fn kill_in_copy(&mut self) {
        while self.report.in_copy < self.plan.kills_in_copy {
            wait_until("the copy is under way", LIMIT, || {
                self.engine.assert_running();
                self.copy_is_under_way()
            });
            std::thread::sleep(self.random.time_below(Duration::from_millis(700)));
            self.engine.assert_running();
            self.engine.kill9();
            assert!(
                self.copy_is_under_way(),
                "the copy was over before it could be killed {} times",
                self.plan.kills_in_copy
            );
            self.report.in_copy += 1;
            self.restart_engine();
        }
    }

    fn kill_in_flight(&mut self) {
        while self.report.in_flight < self.plan.kills_in_flight {
            self.migration.wait_state_for(&mut self.engine, "streaming", LIMIT);
            std::thread::sleep(self.random.time_below(Duration::from_millis(500)));
            let engine = &mut self.engine;
            let hit = self.target_proxy.while_unanswered("apply", LIMIT, || engine.kill9());
            assert!(hit, "no batch was in flight within {LIMIT:?}");
            self.report.in_flight += 1;
            self.restart_engine();
        }
    }

    fn kill_anywhere(&mut self) {
        for _ in 0..self.plan.kills_anywhere {
            std::thread::sleep(self.random.time_below(Duration::from_millis(2500)));
            self.engine.assert_running();
            self.engine.kill9();
            self.report.anywhere += 1;
            self.restart_engine();
        }
    }

    /// The engine keeps running: it reconnects by itself.
    fn kill_servers(&mut self) {
        let (source, target) = (Arc::clone(&self.migration.source.server), Arc::clone(&self.migration.target.server));
        while self.report.source < self.plan.source_kills || self.report.target < self.plan.target_kills {
            self.migration.wait_state_for(&mut self.engine, "streaming", LIMIT);
            std::thread::sleep(self.random.time_below(Duration::from_millis(1000)));
            if self.report.target < self.plan.target_kills {
                self.crash_server(&target);
                self.report.target += 1;
            }
            std::thread::sleep(self.random.time_below(Duration::from_millis(1000)));
            if self.report.source < self.plan.source_kills {
                self.crash_server(&source);
                self.report.source += 1;
                self.traffic = Traffic::start(&self.migration.source, self.plan.clients, self.plan.rate);
            }
            self.engine.assert_running();
        }
    }

    fn crash_server(&mut self, server: &Server) {
        server.kill9();
        std::thread::sleep(self.random.time_below(Duration::from_millis(700)));
        server.start().unwrap_or_else(|error| panic!("{error:#}"));
    }

    fn finish(self, started: Instant) -> Report {
        let Run { mut report, migration, oracle, traffic, mut engine, target_proxy, .. } = self;
        drop(traffic);
        let acknowledged = oracle.stop();
        target_proxy.delay(Duration::ZERO);
        migration.wait_state_for(&mut engine, "streaming", LIMIT);
        migration.drain_for("600s");
        migration.assert_equal();
        for database in [&migration.source, &migration.target] {
            let problems = acknowledged.problems(database);
            assert!(problems.is_empty(), "in {}:\n{}", database.name, problems.join("\n"));
        }
        engine.stop();
        report.acknowledged = acknowledged.count();
        report.rows = compare::row_count(&migration.target);
        report.took = started.elapsed();
        report
    }
}
