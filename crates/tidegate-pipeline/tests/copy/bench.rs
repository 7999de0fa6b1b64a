//! Two databases, a slot, and a copy between them.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tidegate_connect::{Session, Settings};
use tidegate_model::{
    ColumnMap, CopyTable, MigrationName, Problem, RelationId, ReplicaIdentity, SourceColumn, SourceTable, Stream,
    TableMap, TableName,
};
use tidegate_pipeline::copy::{Copy, CopyConfig, CopyEnd};
use tidegate_source_postgres::copy::{PostgresCopySource, ReadConfig};
use tidegate_source_postgres::slot::{CreatedSlot, SlotRequest, create_with_snapshot};
use tidegate_sql::copy::{CopyTargetConfig, PlannedTable, SqlCopyTarget, plan, recopy};
use tidegate_sql::state::{Lease, Part, StateKey, StateSchema, install};
use tidegate_throwaway::Server;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// One server for all tests of this program; it ends with the process.
pub fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::builder().start().expect("a server that cannot be started fails the run"))
}

/// A source database, a target database and what a migration between them needs.
pub struct Bench {
    pub name: MigrationName,
    pub source: Settings,
    pub target: Settings,
    pub source_session: Session,
    pub target_session: Session,
    pub lease: Lease,
    pub read: ReadConfig,
    pub indexes_kept_below_bytes: u64,
}

impl Bench {
    /// Makes both databases with the same schema; `rows` go to the source only.
    pub async fn new(schema: &str, rows: &str) -> Bench {
        Bench::on(server(), schema, rows).await
    }

    /// The same on a server of the test's own.
    pub async fn on(server: &Server, schema: &str, rows: &str) -> Bench {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name: MigrationName = format!("copy{number}").parse().unwrap();
        let database = async |side: &str| {
            let database = format!("copy_{side}_{number}");
            server.create_database(&database).unwrap();
            let settings = Settings::parse(&server.url(&database)).unwrap();
            let session = Session::connect(&settings, "test").await.unwrap();
            session.batch_execute(&format!("SET search_path = public; {schema}")).await.unwrap();
            (settings, session)
        };
        let (source, source_session) = database("source").await;
        let (target, target_session) = database("target").await;
        source_session.batch_execute(rows).await.unwrap();

        let key = StateKey { schema: StateSchema::default(), migration: name.clone(), stream: Stream::Forward };
        install(&target_session, &key.schema, Part::Stream).await.unwrap();
        let checkpoint = format!(
            "INSERT INTO tidegate.checkpoint (migration, stream, epoch, position) VALUES ('{name}', 'forward', 1, NULL)"
        );
        target_session.batch_execute(&checkpoint).await.unwrap();
        // Small chunks: a few thousand rows are then more than one.
        let read = ReadConfig {
            chunk_bytes: 64 * 1024,
            lock_yield: Duration::from_secs(1),
            lock_timeout: Duration::from_millis(500),
        };
        Bench {
            name,
            source,
            target,
            source_session,
            target_session,
            lease: Lease { key, epoch: 1 },
            read,
            indexes_kept_below_bytes: CopyTargetConfig::INDEXES_KEPT_BELOW_BYTES,
        }
    }

    /// Connects the test itself again after its server was down.
    pub async fn reconnect(&mut self) {
        self.source_session = Session::connect(&self.source, "test").await.unwrap();
        self.target_session = Session::connect(&self.target, "test").await.unwrap();
    }

    /// Maps every table of schema `public` to its namesake.
    pub async fn tables(&self) -> Vec<PlannedTable> {
        let sql = "
            SELECT c.oid, c.relname::text, a.attname::text, a.atttypid, a.atttypmod, format_type(a.atttypid, -1)
              FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
             WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
               AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
             ORDER BY c.relname, a.attnum";
        let mut tables: Vec<PlannedTable> = Vec::new();
        for row in self.source_session.query(sql, &[]).await.unwrap() {
            let id = RelationId(row.get(0));
            if tables.last().is_none_or(|table| table.map.source.id != id) {
                tables.push(self.empty_map(id, row.get(1)).await);
            }
            let map = &mut tables.last_mut().unwrap().map;
            let (column, type_oid, type_modifier): (&str, u32, i32) = (row.get(2), row.get(3), row.get(4));
            map.source.columns.push(SourceColumn { name: column.into(), type_oid, type_modifier, identity: false });
            let target_type: String = row.get(5);
            map.columns.push(ColumnMap { source: column.into(), target: column.into(), target_type, comparable: true });
        }
        tables
    }

    async fn empty_map(&self, id: RelationId, table: &str) -> PlannedTable {
        let size = self.source_session.query_one("SELECT pg_table_size($1::oid)", &[&id.0]).await.unwrap();
        let name = TableName::new("public", table);
        let replica_identity = ReplicaIdentity::Default;
        let source = SourceTable { id, name: name.clone(), replica_identity, columns: vec![] };
        let map = TableMap { source, target: name, columns: vec![], key: vec![], references: vec![] };
        PlannedTable { map, rows_estimated: 0, bytes_estimated: size.get::<_, i64>(0) as u64 }
    }

    pub async fn make_slot(&self) -> CreatedSlot {
        let slot = self.name.object_name();
        let request = SlotRequest { settings: &self.source, name: &self.name, slot: &slot, temporary: false };
        create_with_snapshot(request, &CancellationToken::new(), |_| {}).await.unwrap()
    }

    pub fn target(&self) -> SqlCopyTarget {
        SqlCopyTarget::new(CopyTargetConfig {
            settings: self.target.clone(),
            name: self.name.clone(),
            lease: self.lease.clone(),
            indexes_kept_below_bytes: self.indexes_kept_below_bytes,
        })
    }

    pub async fn plan(&self) -> Vec<CopyTable> {
        plan(&self.target_session, &self.lease, self.tables().await).await.unwrap()
    }

    pub async fn copy(&self, first: Option<CreatedSlot>) -> Copy<PostgresCopySource, SqlCopyTarget> {
        let tables = self.plan().await;
        let source = PostgresCopySource::new(self.source.clone(), self.name.clone(), self.read.clone(), first);
        let config = CopyConfig { pause_first: Duration::from_millis(100), ..CopyConfig::default() };
        Copy::new(source, self.target(), tables, config)
    }

    /// Copies from a new slot.
    pub async fn run(&self) -> Result<CopyEnd, Problem> {
        let slot = self.make_slot().await;
        self.copy(Some(slot)).await.run(CancellationToken::new()).await
    }

    /// Starts a copy from a new slot, in the background.
    pub async fn start(&self) -> Running {
        let slot = self.make_slot().await;
        self.start_with(Some(slot)).await
    }

    /// Starts a copy; without a slot as after a restart.
    pub async fn start_with(&self, first: Option<CreatedSlot>) -> Running {
        let stop = CancellationToken::new();
        let copy = self.copy(first).await;
        Running { stop: stop.clone(), task: tokio::spawn(copy.run(stop)) }
    }

    pub async fn recopy(&self, table: &str) {
        recopy(&self.target_session, &self.lease, &TableName::new("public", table)).await.unwrap();
    }

    pub async fn copies(&self, table: &str) -> i32 {
        let sql = "SELECT copies FROM tidegate.copy_table WHERE source_table = $1";
        self.target_session.query_one(sql, &[&format!("public.{table}")]).await.unwrap().get(0)
    }

    pub async fn chunks(&self, table: &str) -> i64 {
        let sql = "SELECT count(*) FROM tidegate.copy_chunk WHERE source_table = $1";
        self.target_session.query_one(sql, &[&format!("public.{table}")]).await.unwrap().get(0)
    }

    /// Waits until a table has so many chunks at the target.
    pub async fn until_chunks(&self, table: &str, chunks: i64) {
        wait_for(&format!("{chunks} chunks of {table}"), async || self.chunks(table).await >= chunks).await;
    }

    /// Waits until the target says so of a table.
    pub async fn until_state(&self, table: &str, state: &str) {
        let sql = "SELECT state FROM tidegate.copy_table WHERE source_table = $1";
        wait_for(&format!("{table} is {state}"), async || {
            let row = self.target_session.query_one(sql, &[&format!("public.{table}")]).await.unwrap();
            row.get::<_, &str>(0) == state
        })
        .await;
    }

    /// Makes the target keep chunks with such rows waiting until the session is dropped.
    pub async fn hold_target(&self, table: &str, rows: &str) -> Session {
        let sql = format!(
            "CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS \
                 'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END'; \
             CREATE TRIGGER hold BEFORE INSERT ON public.{table} FOR EACH ROW WHEN ({rows}) \
                 EXECUTE FUNCTION public.hold(); \
             ALTER TABLE public.{table} ENABLE ALWAYS TRIGGER hold"
        );
        self.target_session.batch_execute(&sql).await.unwrap();
        let session = Session::connect(&self.target, "test hold").await.unwrap();
        session.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
        session
    }

    /// The promise: the same rows on both sides, compared as text by a query of the test's own.
    pub async fn assert_equal(&self, table: &str) {
        let sql = format!("SELECT count(*), md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM public.{table} t");
        let of = async |session: &Session| -> (i64, Option<String>) {
            let row = session.query_one(&sql, &[]).await.unwrap();
            (row.get(0), row.get(1))
        };
        assert_eq!(of(&self.source_session).await, of(&self.target_session).await, "{table} differs");
    }

    /// Returns one value from the target.
    pub async fn ask<T: for<'a> tokio_postgres::types::FromSql<'a>>(&self, sql: &str) -> T {
        self.target_session.query_one(sql, &[]).await.unwrap().get(0)
    }
}

/// A copy in the background.
pub struct Running {
    pub stop: CancellationToken,
    pub task: JoinHandle<Result<CopyEnd, Problem>>,
}

impl Running {
    pub async fn end(self) -> Result<CopyEnd, Problem> {
        let limit = Duration::from_secs(120);
        tokio::time::timeout(limit, self.task).await.expect("the copy ends within two minutes").unwrap()
    }
}

pub async fn wait_for(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
