//! The applier suite on both kinds of server.

use std::sync::Arc;

use tidegate_connect::{Session, Settings};
use tidegate_model::{
    Applier, Batch, ColumnName, Lsn, MigrationName, Position, Problem, SourceTable, Stream, TableRoute,
};
use tidegate_sql::applier::{ApplierConfig, SqlApplier};
use tidegate_sql::catalog::{self, WantedTable};
use tidegate_sql::state::{self, OwnerConfig, Ownership, Part, StateKey, StateSchema};
use tidegate_testkit::memory;
use tidegate_testkit::suites::{ApplierHarness, applier_suite};
use tidegate_testkit::{Database, Host, cockroach_server, target_server, unique_name};

struct SqlHarness {
    database: Database,
    settings: Settings,
    key: StateKey,
    table: Arc<SourceTable>,
}

/// An applier with the ownership under which it writes.
struct Owned {
    applier: SqlApplier,
    _ownership: Ownership,
}

impl Applier for Owned {
    async fn submit(&mut self, batch: Batch) -> Result<(), Problem> {
        self.applier.submit(batch).await
    }

    async fn durable(&mut self, than: &Position) -> Result<Position, Problem> {
        self.applier.durable(than).await
    }
}

impl SqlHarness {
    async fn new(host: impl Into<Host>) -> SqlHarness {
        let name = unique_name("applier_suite");
        let database = Database::create(host, &name);
        database.sql("CREATE TABLE t (id INT8 PRIMARY KEY, note TEXT)");
        let settings = Settings::parse(&database.url()).unwrap();
        let migration: MigrationName = name.parse().unwrap();
        let key = StateKey { schema: StateSchema::default(), migration, stream: Stream::Forward };
        let harness = SqlHarness { database, settings, key, table: memory::table("t") };
        let session = harness.session().await;
        state::install(&session, &harness.key.schema, Part::Stream).await.unwrap();
        harness
    }

    async fn session(&self) -> Session {
        Session::connect(&self.settings, "suite").await.unwrap()
    }

    async fn route(&self, session: &Session) -> TableRoute {
        let name = &self.table.name;
        let tables = catalog::read_tables(session, std::slice::from_ref(name)).await.unwrap();
        let primary_key = vec![ColumnName::from("id")];
        let wanted = WantedTable { source: SourceTable::clone(&self.table), primary_key, identity_whole: true };
        let map = catalog::map_table(&wanted, &tables[name]).unwrap();
        TableRoute { map, from: Position::postgres(Lsn(0)) }
    }
}

impl ApplierHarness for SqlHarness {
    type Applier = Owned;

    fn table(&self) -> Arc<SourceTable> {
        Arc::clone(&self.table)
    }

    async fn open(&mut self) -> Owned {
        let owner = OwnerConfig { settings: self.settings.clone(), key: self.key.clone(), take_over: false };
        let ownership = state::take(&owner, |_| {}).await.unwrap_or_else(|problem| panic!("{problem}"));
        let session = self.session().await;
        let at = match &ownership.start().position {
            Some(position) => position.clone(),
            None => {
                let start = Position::postgres(Lsn(1_000_000));
                let history = serde_json::json!({});
                state::store_start(&session, ownership.lease(), &start, &history).await.unwrap();
                start
            }
        };
        let config = ApplierConfig::new(self.settings.clone(), ownership.lease().clone());
        let route = self.route(&session).await;
        let applier = SqlApplier::start(config, at, vec![route]).await.unwrap_or_else(|problem| panic!("{problem}"));
        Owned { applier, _ownership: ownership }
    }

    async fn position(&mut self) -> Position {
        self.database.sql("SELECT position FROM tidegate.checkpoint").parse().unwrap()
    }

    async fn ids(&mut self) -> Vec<u64> {
        let text = self.database.sql("SELECT id FROM t ORDER BY id");
        text.lines().map(|line| line.parse().unwrap()).collect()
    }
}

async fn keeps_the_promises(host: impl Into<Host>) {
    let mut harness = SqlHarness::new(host).await;
    // The start point is stored by whoever opens the stream first.
    drop(harness.open().await);
    applier_suite(&mut harness).await;
    harness.database.discard();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_applier_to_postgres_keeps_the_promises() {
    keeps_the_promises(&target_server()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_applier_to_cockroach_keeps_the_promises() {
    keeps_the_promises(&cockroach_server()).await;
}
