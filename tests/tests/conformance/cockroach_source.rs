//! The source suite on a CockroachDB.

use std::sync::Arc;

use tidegate_connect::{Session, Settings};
use tidegate_model::{MigrationName, Position, Stream, TableFilter};
use tidegate_source_cockroach::{CockroachSource, SourceConfig, catalog, history, now};
use tidegate_testkit::suites::{SourceHarness, source_suite};
use tidegate_testkit::{Cockroach, Database, cockroach_server, unique_name};

struct CockroachHarness {
    database: Database,
    settings: Settings,
    name: MigrationName,
}

impl CockroachHarness {
    fn new(server: &Arc<Cockroach>) -> CockroachHarness {
        let name = unique_name("source_suite");
        let database = Database::create(server, &name);
        database.sql("CREATE TABLE t (id INT8 PRIMARY KEY, note TEXT)");
        let settings = Settings::parse(&database.url()).unwrap();
        CockroachHarness { database, settings, name: name.parse().unwrap() }
    }

    fn insert(ids: &[u64]) -> String {
        let rows: Vec<String> = ids.iter().map(|id| format!("({id}, 'x')")).collect();
        format!("INSERT INTO t VALUES {}", rows.join(", "))
    }
}

impl SourceHarness for CockroachHarness {
    type Source = CockroachSource;

    async fn commit(&mut self, ids: &[u64]) {
        self.database.sql(&CockroachHarness::insert(ids));
    }

    async fn roll_back(&mut self, ids: &[u64]) {
        self.database.sql(&format!("BEGIN; {}; ROLLBACK", CockroachHarness::insert(ids)));
    }

    async fn open(&mut self, from: Option<&Position>) -> CockroachSource {
        let session = Session::connect(&self.settings, "suite").await.unwrap();
        // A feed keeps no place of its own: whoever reads it says where to begin.
        let from = match from {
            Some(position) => position.clone(),
            None => Position::cockroach(now(&session).await.unwrap()),
        };
        let filter = TableFilter::new(&[], &[], "tidegate").unwrap();
        let tables = catalog::list_tables(&session, &filter).await.unwrap_or_else(|problem| panic!("{problem}"));
        let tables = tables.into_iter().map(|table| table.info);
        let history = history::identify(&session).await.unwrap();
        let config = SourceConfig::new(self.settings.clone(), self.name.clone(), Stream::Forward, tables);
        CockroachSource::start(config, from, history).await.unwrap_or_else(|problem| panic!("{problem}"))
    }
}

async fn keeps_the_promises(server: &Arc<Cockroach>) {
    let mut harness = CockroachHarness::new(server);
    source_suite(&mut harness).await;
    harness.database.discard();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cockroach_source_keeps_the_promises() {
    keeps_the_promises(&cockroach_server()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cockroach_source_keeps_the_promises_while_its_feed_repeats_reorders_and_breaks_off() {
    let server = Cockroach::start();
    for (knob, value) in [("duplicates", "0.5"), ("reorder", "true"), ("drop_connections", "20")] {
        server.knob(knob, value);
    }
    keeps_the_promises(&server).await;
}
