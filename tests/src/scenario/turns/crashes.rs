//! Turns in which the engine or a server dies, at every step and in every step.
//!
//! One pair of databases is turned there and back, again and again. Each time something dies at another point; the same
//! command is run again, and has to finish or to say that the turn was undone. Then one side must be open and both equal.

use std::time::{Duration, Instant};

use tidegate_throwaway::Server;

use crate::cockroach::Cockroach;
use crate::database::start_server;
use crate::wait::{PATIENCE, wait_until};
use crate::{Engine, Migration};

const CRASH_AT: &str = "TIDEGATE_CRASH_AT";
/// The moments of a step at which the engine can be made to die.
const MOMENTS: [&str; 4] = ["before", "inside", "after", "done"];

/// What died, and how it ended.
#[derive(Clone, Debug, Default)]
pub struct Deaths {
    /// Points at which the engine died.
    pub engine: usize,
    /// Steps in which a server died.
    pub servers: usize,
    /// How many turns were undone by themselves and made again.
    pub undone: usize,
    /// All of it.
    pub took: Duration,
}

/// Chooses points from those of one direction; all of them: `|_, _| true`.
pub type Choice<'a> = &'a dyn Fn(&str, &str) -> bool;

/// Returns every step of the next turn with each of `what`: the steps are those of the plan.
fn crash_points(migration: &Migration, command: &str, what: &[&str]) -> Vec<(String, String)> {
    let plan = migration.run(command, &["--plan-only", "--json"]).expect_code(0).json();
    let steps = plan["steps"].as_array().expect("a plan has steps").clone();
    let name = |step: &serde_json::Value| step["step"].as_str().expect("a step has a name").to_owned();
    // The turn begins with the first step, whose only effect is its own record.
    let names = steps.iter().map(name).filter(|name| name != "begin");
    names.flat_map(|name| what.iter().map(move |one| (name.clone(), (*one).to_owned()))).collect()
}

/// Runs it. `engine` chooses where the engine dies, `servers` in which steps (the second word is `source` or `target`)
/// a server does.
///
/// # Panics
/// When a turn does not end, both sides are open or they differ.
pub fn run(engine: Choice<'_>, servers: Choice<'_>) -> Deaths {
    let began = Instant::now();
    let (source, target) = (start_server(Server::builder()), Cockroach::start());
    // The pace of a feed and of an idle stream's checkpoint says nothing of deaths, and waiting for them would take most of
    // the time.
    let migration = Migration::between(&source, &target, "crashes").options(["--idle-checkpoint-every=250ms"]);
    target.knob("resolved_lag", "'400ms'");
    migration.both("CREATE SEQUENCE event_seq; CREATE TABLE event (id INT8 PRIMARY KEY, n INT8 NOT NULL)");
    let mut crashes =
        Crashes { migration, source: &source, target: &target, rows: 0, next: "cutover", deaths: Deaths::default() };
    crashes.migration.start_streaming().stop();
    crashes.die(engine, &MOMENTS, Crashes::engine_dies_at);
    crashes.die(servers, &["source", "target"], Crashes::server_dies_in);
    Deaths { took: began.elapsed(), ..crashes.deaths }
}

struct Crashes<'a> {
    migration: Migration,
    source: &'a Server,
    target: &'a Cockroach,
    rows: i64,
    /// The turn that can be made now.
    next: &'static str,
    deaths: Deaths,
}

impl Crashes<'_> {
    /// Points of both directions, in turns: each turn makes the other one possible.
    fn die(&mut self, choice: Choice<'_>, moments: &[&str], kill: fn(&mut Self, &str, &str)) {
        let mut left = [self.chosen_points(choice, moments), Vec::new()];
        self.turn_undisturbed();
        left[1] = self.chosen_points(choice, moments);
        self.turn_undisturbed();
        while left.iter().any(|points| !points.is_empty()) {
            let direction = usize::from(self.next == "failback");
            match left[direction].pop() {
                Some((step, moment)) => kill(self, &step, &moment),
                None => self.turn_undisturbed(),
            }
        }
        if self.next == "failback" {
            self.turn_undisturbed();
        }
    }

    fn chosen_points(&self, choice: Choice<'_>, moments: &[&str]) -> Vec<(String, String)> {
        let engine = self.migration.start_flowing();
        let mut points = crash_points(&self.migration, self.next, moments);
        points.retain(|(step, moment)| choice(step, moment));
        points.reverse();
        engine.stop();
        points
    }

    fn turn_undisturbed(&mut self) {
        let engine = self.migration.start_flowing();
        self.migration.run(self.next, &["--yes"]).expect_code(0);
        self.turned("nothing");
        engine.stop();
    }

    fn engine_dies_at(&mut self, step: &str, moment: &str) {
        let (at, began) = (format!("{step}:{moment}"), Instant::now());
        let dying = self.migration.again().environment(CRASH_AT, &at);
        let mut engine = dying.start_flowing();
        let mut asking = dying.begin(self.next, &["--yes"]);
        wait_until(&format!("the engine dies at {at} of {}", self.next), PATIENCE, || {
            engine.ended().is_some() || asking.ended().is_some()
        });
        let died = engine.ended().is_some();
        asking.kill9();
        assert!(died, "{} went by {at}:\n{}", self.next, asking.log());
        let mut engine = self.migration.start();
        self.finish(&mut engine);
        self.deaths.engine += 1;
        println!("{} engine died at {at:<28} {:.1?}", self.next, began.elapsed());
        self.turned(&at);
        engine.stop();
    }

    fn server_dies_in(&mut self, step: &str, server: &str) {
        let began = Instant::now();
        let mut engine = self.migration.start_flowing();
        let mut asking = self.migration.begin(self.next, &["--yes"]);
        let mark = format!("step={step}");
        wait_until(&format!("{step} begins"), PATIENCE, || engine.log().contains(&mark) || asking.ended().is_some());
        match server {
            "source" => {
                self.source.kill9();
                self.source.start().unwrap_or_else(|error| panic!("{error:#}"));
            }
            _ => {
                self.target.kill9();
                self.target.start_again();
            }
        }
        let _ = asking.wait(PATIENCE * 2);
        if engine.ended().is_some() {
            engine = self.migration.start();
        }
        self.finish(&mut engine);
        self.deaths.servers += 1;
        println!("{} {server} died in {step:<20} {:.1?}", self.next, began.elapsed());
        self.turned(step);
        engine.stop();
    }

    /// Runs the same command again until the turn is made.
    fn finish(&mut self, engine: &mut Engine) {
        let outcome = self.migration.run(self.next, &["--yes"]);
        if outcome.code != Some(0) {
            // It may have been undone: then the closing side is open, and the next attempt goes through.
            self.deaths.undone += 1;
            wait_until("the turn is undone", PATIENCE, || self.migration.status()["phase"] != "cutover");
            self.migration.run(self.next, &["--yes"]).expect_code(0);
        }
        engine.assert_running();
    }

    /// One side is open, and both are equal.
    fn turned(&mut self, at: &str) {
        let Migration { source, target, .. } = &self.migration;
        let (open, phase) = if self.next == "cutover" { (target, "reversed") } else { (source, "initial") };
        let insert = "INSERT INTO event VALUES (nextval('event_seq'), 1)";
        open.sql(insert);
        self.rows += 1;
        if self.next == "cutover" {
            // Who may do everything at CockroachDB is stopped by no fence there.
            assert!(source.try_sql(insert).is_err(), "both sides are open after {at}");
        }
        assert_eq!(self.migration.status()["phase"], phase, "after {at}");
        self.next = if self.next == "cutover" { "failback" } else { "cutover" };
        self.migration.drain();
        self.migration.assert_equal();
        assert_eq!(source.number("SELECT count(*) FROM event"), self.rows, "after {at}");
    }
}
