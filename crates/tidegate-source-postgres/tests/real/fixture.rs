//! A database with a table, a publication and a slot, and what tests do with them.

use std::future::Future;
use std::sync::LazyLock;
use std::time::Duration;

use tidegate_connect::{ReplicationSession, Session, Settings};
use tidegate_model::{Change, Event, MigrationName, Position, Problem, Source, TableName, Value};
use tidegate_source_postgres::slot::{self, SlotRequest};
use tidegate_source_postgres::{History, PostgresSource, SourceConfig, history, publication};
use tidegate_throwaway::Server;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// The server of tests that neither stop it nor hold transactions open. Short timeouts: a stream must keep itself
/// alive.
pub static SHARED: LazyLock<Server> =
    LazyLock::new(|| Server::builder().setting("wal_sender_timeout", "2s").start().expect("a server starts"));

pub const LIMIT: Duration = Duration::from_secs(30);

pub struct Fixture {
    pub database: String,
    pub name: MigrationName,
    pub settings: Settings,
    pub session: Session,
    pub history: History,
    pub point: Position,
    /// Of the exported snapshot. Closed, so that the next command of the server does not wait for it.
    _snapshot: ReplicationSession,
}

impl Fixture {
    /// Makes a database and a migration of this name, with a table `t (id, v)` that is published from the start.
    pub async fn new(server: &Server, name: &str) -> Fixture {
        server.create_database(name).unwrap();
        Self::in_database(server, name, name).await
    }

    pub async fn in_database(server: &Server, database: &str, name: &str) -> Fixture {
        let settings = Settings::parse(&server.url(database)).unwrap();
        let name: MigrationName = name.parse().unwrap();
        let session = Session::connect(&settings, "test").await.unwrap();
        session.batch_execute("CREATE TABLE public.t (id int PRIMARY KEY, v text)").await.unwrap();
        let object = name.object_name();
        publication::ensure(&session, &object, &[TableName::new("public", "t")]).await.unwrap();
        let request = SlotRequest { settings: &settings, name: &name, slot: &object, temporary: false };
        let created = slot::create_with_snapshot(request, &CancellationToken::new(), |_| {}).await.unwrap();
        let history = history::identify(&settings, &name, &object, &object).await.unwrap();
        Fixture {
            database: database.to_owned(),
            name,
            settings,
            session,
            history,
            point: Position::postgres(created.point),
            _snapshot: created.session,
        }
    }

    pub fn config(&self) -> SourceConfig {
        SourceConfig::new(self.settings.clone(), self.name.clone())
    }

    pub async fn start(&self) -> PostgresSource {
        self.start_from(&self.point).await
    }

    pub async fn start_from(&self, from: &Position) -> PostgresSource {
        PostgresSource::start(self.config(), from.clone(), self.history.clone()).await.unwrap()
    }

    pub async fn execute(&self, sql: &str) {
        self.session.batch_execute(sql).await.unwrap();
    }

    /// Commits one transaction for each row.
    pub async fn insert(&self, ids: std::ops::Range<i32>) {
        for id in ids {
            self.execute(&format!("INSERT INTO public.t VALUES ({id}, 'x')")).await;
        }
    }

    pub async fn text(&self, sql: &str) -> String {
        text(&self.session, sql).await
    }

    pub async fn confirmed_flush(&self) -> Position {
        let sql = format!(
            "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = '{}'",
            self.name.object_name()
        );
        self.text(&sql).await.parse().unwrap()
    }

    /// Returns the process that streams for this migration.
    pub async fn walsender(&self) -> Option<i32> {
        let row = self
            .session
            .query_one("SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1", &[&self.name.object_name()])
            .await;
        row.unwrap().get(0)
    }
}

pub async fn text(session: &Session, sql: &str) -> String {
    session.query_one(sql, &[]).await.unwrap().get::<_, Option<String>>(0).unwrap_or_default()
}

/// Waits until the condition holds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + LIMIT;
    while !condition().await {
        assert!(Instant::now() < deadline, "{what}: not within {LIMIT:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Takes events until `rows` rows were inserted; returns their ids in order and the last position.
pub async fn take_rows(source: &mut PostgresSource, rows: usize) -> (Vec<i32>, Position) {
    let mut ids = Vec::new();
    loop {
        let position = match next(source).await.unwrap() {
            Event::Watermark(_) => continue,
            Event::Commit(transaction) => {
                for change in transaction.changes.read().unwrap() {
                    ids.push(inserted_id(&change.unwrap()));
                }
                transaction.position
            }
        };
        if ids.len() >= rows {
            return (ids, position);
        }
    }
}

fn inserted_id(change: &Change) -> i32 {
    let Change::Insert { new, .. } = change else { panic!("only inserts are expected, got {change:?}") };
    let Value::Text(id) = new.value(0) else { panic!("an id is text") };
    std::str::from_utf8(id).unwrap().parse().unwrap()
}

pub async fn next(source: &mut PostgresSource) -> Result<Event, Problem> {
    timeout(LIMIT, source.next()).await.expect("an event comes in time")
}

/// Takes watermarks until one is at or past `position`.
pub async fn take_watermark(source: &mut PostgresSource, position: &Position) -> Position {
    loop {
        match next(source).await.unwrap() {
            Event::Watermark(watermark) if watermark >= *position => return watermark,
            Event::Watermark(_) => {}
            Event::Commit(transaction) => panic!("no transaction is expected, got {transaction:?}"),
        }
    }
}
