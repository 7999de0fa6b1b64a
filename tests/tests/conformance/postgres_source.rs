//! The source suite on a PostgreSQL server.

use tidegate_connect::Settings;
use tidegate_model::{Lsn, MigrationName, Position};
use tidegate_source_postgres::{History, PostgresSource, SourceConfig, history};
use tidegate_testkit::suites::{SourceHarness, source_suite};
use tidegate_testkit::wait::{PATIENCE, wait_until};
use tidegate_testkit::{Database, source_server, unique_name};

struct PostgresHarness {
    database: Database,
    name: MigrationName,
    history: History,
}

impl PostgresHarness {
    async fn new() -> PostgresHarness {
        let name = unique_name("source_suite");
        let database = Database::create(&source_server(), &name);
        let name: MigrationName = name.parse().unwrap();
        let slot = name.object_name();
        database.sql(&format!(
            "CREATE TABLE t (id bigint PRIMARY KEY, note text); CREATE PUBLICATION {slot} FOR TABLE t;
             SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
        ));
        let settings = Settings::parse(&database.url()).unwrap();
        let history = history::identify(&settings, &name, &slot, &slot).await.unwrap();
        PostgresHarness { database, name, history }
    }

    fn insert(ids: &[u64]) -> String {
        let rows: Vec<String> = ids.iter().map(|id| format!("({id}, 'x')")).collect();
        format!("INSERT INTO t VALUES {}", rows.join(", "))
    }

    /// Returns how far the server was told that it may forget, once nobody can tell it more.
    fn confirmed(&self) -> Position {
        let of_slot = format!("FROM pg_replication_slots WHERE slot_name = '{}'", self.history.slot);
        wait_until("the slot is free", PATIENCE, || self.database.holds(&format!("SELECT NOT active {of_slot}")));
        let confirmed: Lsn = self.database.sql(&format!("SELECT confirmed_flush_lsn {of_slot}")).parse().unwrap();
        Position::postgres(confirmed)
    }
}

impl SourceHarness for PostgresHarness {
    type Source = PostgresSource;

    async fn commit(&mut self, ids: &[u64]) {
        self.database.sql(&PostgresHarness::insert(ids));
    }

    async fn roll_back(&mut self, ids: &[u64]) {
        self.database.sql(&format!("BEGIN; {}; ROLLBACK", PostgresHarness::insert(ids)));
    }

    async fn open(&mut self, from: Option<&Position>) -> PostgresSource {
        let from = from.cloned().unwrap_or_else(|| self.confirmed());
        let settings = Settings::parse(&self.database.url()).unwrap();
        let config = SourceConfig::new(settings, self.name.clone());
        PostgresSource::start(config, from, self.history.clone()).await.unwrap_or_else(|problem| panic!("{problem}"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_source_keeps_the_promises() {
    let mut harness = PostgresHarness::new().await;
    source_suite(&mut harness).await;
    harness.confirmed();
    harness.database.discard();
}
