//! Traffic while the engine and both servers are killed again and again; equal in the end.
//!
//! With CockroachDB on one end it also repeats, reorders and drops what its feed sends, asks for transactions to be run
//! again and leaves commits ambiguous, and every snapshot of the target shows a state that the source once had.

mod load;
mod plan;
mod servers;

use std::time::{Duration, Instant};

use crate::random::Random;
use crate::sampler::Sampler;
use crate::wait::wait_until;
use crate::{Engine, Migration, Proxy};
use load::Load;
pub use plan::{Direction, Plan, Report};
use servers::Victim;

/// How fast each connection to the source may read while the copy is to be hit, for each unit of the scale: some
/// seconds for all of it.
const COPY_BYTES_PER_SECOND: u64 = 1_000_000;
/// What was copied from CockroachDB stays copied after a kill, so each kill needs some that is left.
const COPY_BYTES_PER_SECOND_RESUMED: u64 = 200_000;
const ANSWER_DELAY: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(120);

/// Runs the scenario.
///
/// # Panics
/// When source and target differ in the end, when something acknowledged is missing, when a sample of the target was
/// wrong, or when something does not go on.
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
    source: Victim,
    target: Victim,
    source_proxy: Proxy,
    target_proxy: Proxy,
    engine: Engine,
    load: Load,
    sampler: Option<Sampler>,
    report: Report,
}

impl<'a> Run<'a> {
    fn prepare(plan: &'a Plan) -> Run<'a> {
        let (source, target) = Victim::both(plan.direction);
        let source_proxy = Proxy::start(source.host().port());
        let target_proxy = Proxy::start(target.host().port());
        let pace = match plan.direction {
            Direction::CockroachToPostgres => COPY_BYTES_PER_SECOND_RESUMED,
            Direction::PostgresToPostgres | Direction::PostgresToCockroach => COPY_BYTES_PER_SECOND,
        };
        source_proxy.throttle(Some(pace * u64::from(plan.scale)));
        target_proxy.delay(ANSWER_DELAY);
        let migration = Migration::between(source.host(), target.host(), "crash")
            .source_via(&source_proxy)
            .target_via(&target_proxy)
            // Many small chunks and batches: more moments that differ.
            .options(["--copy-chunk-bytes=512KiB", "--batch-bytes-max=256KiB"]);
        let load = Load::start(plan, &migration.source, &migration.target);
        let engine = migration.start();
        let (random, report) = (Random::seeded(plan.seed), Report::default());
        let sampler = None;
        Run { plan, random, migration, source, target, source_proxy, target_proxy, engine, load, sampler, report }
    }

    fn restart_engine(&mut self) {
        self.engine = self.migration.start();
    }

    fn copy_is_under_way(&self) -> bool {
        let query = "SELECT count(*) > 0 FROM tidegate.copy_table WHERE state = 'copying'";
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

    /// From the first time on that this returns, every reader of the target sees what the source once was.
    fn wait_streaming(&mut self) {
        self.migration.wait_state_for(&mut self.engine, "streaming", LIMIT);
        if self.sampler.is_none() {
            self.sampler = self.load.sampler(&self.migration.target);
        }
    }

    fn kill_in_flight(&mut self) {
        while self.report.in_flight < self.plan.kills_in_flight {
            self.wait_streaming();
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
        while self.report.source < self.plan.source_kills || self.report.target < self.plan.target_kills {
            self.wait_streaming();
            std::thread::sleep(self.random.time_below(Duration::from_millis(1000)));
            let mut killed = 0;
            if self.report.target < self.plan.target_kills && self.target.crash(&mut self.random) {
                self.report.target += 1;
                killed += 1;
            }
            std::thread::sleep(self.random.time_below(Duration::from_millis(1000)));
            if self.report.source < self.plan.source_kills && self.source.crash(&mut self.random) {
                self.report.source += 1;
                killed += 1;
                self.load.start_again(self.plan, &self.migration.source);
            }
            self.engine.assert_running();
            if killed == 0 {
                println!("the servers that are left are not ours to kill");
                return;
            }
        }
    }

    fn finish(mut self, started: Instant) -> Report {
        self.wait_streaming();
        let Run { plan, migration, source, target, load, sampler, mut engine, mut report, target_proxy, .. } = self;
        let written = load.stop();
        target_proxy.delay(Duration::ZERO);
        source.calm();
        target.calm();
        migration.wait_state_for(&mut engine, "streaming", LIMIT);
        migration.drain_for("600s");
        if let Some(samples) = sampler.map(Sampler::stop) {
            assert_eq!(samples.wrong(), [""; 0]);
            assert!(samples.count() >= plan.samples_min, "too few: {samples}");
            report.samples = Some(samples);
        }
        report.rows = written.verify(&migration);
        engine.stop();
        report.acknowledged = written.acknowledged();
        report.retries = written.retries();
        report.took = started.elapsed();
        report
    }
}
