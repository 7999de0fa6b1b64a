//! A cutover and a failback under load.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_throwaway::{Binaries, Server};

use super::writers::{Known, Writers};
use crate::Migration;
use crate::cockroach::Cockroach;
use crate::database::{Database, start_server};
use crate::wait::{PATIENCE, wait_until};

/// How much is written, and for how long around each turn.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Writers.
    pub writers: u32,
    /// Writes a second that they try to make together.
    pub rate: u32,
    /// Before and after each turn.
    pub around: Duration,
}

/// What one turn did to the writers.
#[derive(Clone, Copy, Debug)]
pub struct Turned {
    /// `cutover` or `failback`.
    pub name: &'static str,
    /// Acknowledged writes a second before it.
    pub rate: f64,
    /// The longest time between two acknowledged writes of one writer.
    pub pause: Duration,
    /// By the certificate.
    pub blocked: Duration,
    /// How long of that the first resolved timestamp was waited for.
    pub resolved_wait: Duration,
}

impl fmt::Display for Turned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Turned { name, rate, .. } = self;
        let [pause, blocked, resolved] = [self.pause, self.blocked, self.resolved_wait].map(|time| time.as_millis());
        write!(
            f,
            "{name:<9} at {rate:.0} writes/s: longest pause of a writer {pause} ms (write-blocked {blocked} ms, of \
             which {resolved} ms for a resolved timestamp)"
        )
    }
}

/// Runs it.
///
/// # Panics
/// When an acknowledged write is lost or was accepted on the wrong side, or a sequence gave a value twice.
pub fn run(load: &Load) -> Vec<Turned> {
    let (source, target) = (start_server(Server::builder().setting("max_connections", 100)), Cockroach::start());
    let migration = Migration::between(&source, &target, "turns");
    let role = format!("app_{}", migration.name);
    prepare(&migration, &role);
    let mut engine = migration.start_streaming();
    let pause = Duration::from_secs(1) * load.writers / load.rate.max(1);
    let sides = [migration.source.clone(), migration.target.clone()];
    let writers = Writers::start(&sides, &role, load.writers, pause);
    let mut made = Vec::new();
    for name in ["cutover", "failback"] {
        let before = writers.written();
        std::thread::sleep(load.around);
        let rate = f64::from(writers.written() - before) / load.around.as_secs_f64();
        let began = Instant::now();
        let certificate = turn(&migration, name, &role);
        std::thread::sleep(load.around);
        engine.assert_running();
        made.push((name, rate, began, certificate));
    }
    let known = writers.stop();
    migration.drain();
    migration.run("verify", &[]).expect_code(0);
    migration.assert_equal();
    assert_right(&known, &migration);
    let until = Instant::now();
    let turned = made.iter().map(|(name, rate, began, certificate)| {
        let ms = |key: &str| Duration::from_millis(certificate[key].as_u64().unwrap_or(0));
        let end = made.iter().map(|(_, _, other, _)| *other).find(|other| other > began).unwrap_or(until);
        let pause = known.iter().map(|known| longest_pause(known, *began, end)).max().unwrap_or_default();
        let (blocked, resolved_wait) = (ms("write_blocked_ms"), ms("resolved_wait_ms"));
        Turned { name, rate: *rate, pause, blocked, resolved_wait }
    });
    let turned = turned.collect();
    engine.stop();
    turned
}

fn prepare(migration: &Migration, role: &str) {
    migration.both(
        "CREATE SEQUENCE event_seq; CREATE TABLE event (id INT8 PRIMARY KEY, writer INT4 NOT NULL, n INT8 NOT NULL)",
    );
    migration.source.sql(&format!(
        "CREATE ROLE {role} LOGIN; GRANT ALL ON event, event_seq TO {role}; GRANT USAGE ON SCHEMA public TO {role}"
    ));
    // The target is not open yet, and whoever is refused at the source tries it: the right to write comes with the turn.
    migration.target.sql(&format!("CREATE USER {role}; GRANT USAGE, SELECT, UPDATE ON SEQUENCE event_seq TO {role}"));
}

fn turn(migration: &Migration, name: &str, role: &str) -> Value {
    let psql = Binaries::find(None).expect("PostgreSQL's programs are installed: make setup").program("psql");
    let target = migration.target.cockroach().expect("the target is a CockroachDB").psql_url(&migration.name);
    let grant = format!("{} -X -q -d '{target}' -c 'GRANT ALL ON TABLE event TO {role}'", psql.display());
    let hook = if name == "cutover" { vec!["--on-open", grant.as_str()] } else { Vec::new() };
    let options = [&["--yes", "--json"], hook.as_slice()].concat();
    let certificate = migration.run(name, &options).expect_code(0).json();
    wait_until("the turn is over", PATIENCE, || migration.status()["phase"] != "cutover");
    certificate
}

fn longest_pause(known: &Known, began: Instant, end: Instant) -> Duration {
    let pairs = known.acknowledged.windows(2).filter(|pair| pair[1].at > began && pair[0].at < end);
    pairs.map(|pair| pair[1].at - pair[0].at).max().unwrap_or_default()
}

fn assert_right(known: &[Known], migration: &Migration) {
    for database in [&migration.source, &migration.target] {
        let problems = problems(known, database);
        assert!(problems.is_empty(), "in {}:\n{}", database.url(), problems.join("\n"));
    }
    let wrong: Vec<&String> = known.iter().flat_map(|known| &known.wrong).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(known.iter().all(|known| known.unknown.is_empty()), "nothing died, so every answer came");
    assert_one_side_at_a_time(known);
}

/// Every acknowledged write is there once.
fn problems(known: &[Known], database: &Database) -> Vec<String> {
    let mut times: BTreeMap<(usize, u64), u32> = BTreeMap::new();
    for line in database.sql("SELECT writer, n FROM event").lines() {
        let (writer, n) = line.split_once('|').expect("two columns");
        let number = |text: &str| text.parse::<u64>().expect("the columns are numbers");
        *times.entry((number(writer) as usize, number(n))).or_default() += 1;
    }
    let acknowledged = known
        .iter()
        .enumerate()
        .flat_map(|(writer, known)| known.acknowledged.iter().map(move |acknowledged| (writer, acknowledged.n)));
    let lost = acknowledged.filter(|one| !times.contains_key(one)).map(|one| format!("{one:?} is lost"));
    let doubled = times.iter().filter(|(_, times)| **times > 1).map(|(one, _)| format!("{one:?} is there twice"));
    lost.chain(doubled).collect()
}

/// Between the first write and the last of a side's turn to be open, nothing was accepted on the other.
fn assert_one_side_at_a_time(known: &[Known]) {
    let mut all: Vec<_> = known.iter().flat_map(|known| &known.acknowledged).collect();
    all.sort_by_key(|acknowledged| acknowledged.at);
    let changes = all.windows(2).filter(|pair| pair[0].side != pair[1].side).count();
    assert_eq!(changes, 2, "writes were accepted on the source, then on the target, then on the source");
    for pair in all.windows(2).filter(|pair| pair[0].side != pair[1].side) {
        assert!(pair[1].at > pair[0].sent, "a write was accepted on both sides at once");
    }
}
