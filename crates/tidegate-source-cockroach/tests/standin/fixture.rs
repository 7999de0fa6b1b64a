//! A database with a table, and what tests do with it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tidegate_connect::{Session, Settings};
use tidegate_model::{
    Change, Event, Hlc, MigrationName, OldRow, Position, Problem, Row, Source, Stream, TableFilter, TableName,
    Transaction, Value,
};
use tidegate_source_cockroach::{CockroachSource, History, SourceConfig, TableInfo, catalog, history, now};
use tidegate_standin::{Standin, StandinOptions};
use tokio::time::{Instant, sleep, timeout};

pub const LIMIT: Duration = Duration::from_secs(30);

/// The stand-in of tests that change no setting of it.
pub static SHARED: LazyLock<Standin> = LazyLock::new(own);

/// Starts a stand-in of its own, with changefeeds and without waiting.
pub fn own() -> Standin {
    let standin = Standin::start(StandinOptions::default()).expect("a stand-in starts");
    let url = standin.url("defaultdb");
    let set = async move {
        let session = Session::connect(&Settings::parse(&url).unwrap(), "test").await.unwrap();
        session.batch_execute("SET CLUSTER SETTING kv.rangefeed.enabled = true").await.unwrap();
        session.batch_execute("SET CLUSTER SETTING standin.resolved_lag = '20ms'").await.unwrap();
    };
    // From inside a test's runtime nothing may block on another.
    let thread = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(set);
    });
    thread.join().expect("a stand-in takes settings");
    standin
}

pub struct Fixture {
    pub name: MigrationName,
    pub settings: Settings,
    pub session: Session,
    pub history: History,
    /// Before the first row.
    pub point: Position,
}

impl Fixture {
    /// Makes a database and a migration of this name, with a table `t (id, v)`.
    pub async fn new(standin: &Standin, name: &str) -> Fixture {
        Self::with(standin, name, "CREATE TABLE public.t (id INT8 PRIMARY KEY, v STRING)").await
    }

    /// Makes a database and a migration of this name, with what the statements make.
    pub async fn with(standin: &Standin, name: &str, ddl: &str) -> Fixture {
        standin.create_database(name).unwrap();
        let settings = Settings::parse(&standin.url(name)).unwrap();
        let session = Session::connect(&settings, "test").await.unwrap();
        session.batch_execute(ddl).await.unwrap();
        let history = history::identify(&session).await.unwrap();
        let point = Position::cockroach(now(&session).await.unwrap());
        Fixture { name: name.parse().unwrap(), settings, session, history, point }
    }

    pub async fn tables(&self) -> Vec<TableInfo> {
        let filter = TableFilter::new(&[], &[], "tidegate").unwrap();
        let tables = catalog::list_tables(&self.session, &filter).await.unwrap();
        tables.into_iter().filter(catalog::CatalogTable::is_carried).map(|table| table.info).collect()
    }

    pub async fn table(&self, name: &str) -> Arc<TableInfo> {
        let found = self.tables().await.into_iter().find(|table| *table.table.name.name == *name);
        Arc::new(found.unwrap_or_else(|| panic!("there is no table {name}")))
    }

    pub async fn config(&self) -> SourceConfig {
        let (settings, name) = (self.settings.clone(), self.name.clone());
        SourceConfig {
            resolved_every: Duration::from_millis(20),
            gauge_every: Duration::from_millis(50),
            stalled_max: Duration::from_millis(500),
            ttl_every: Duration::from_millis(50),
            ..SourceConfig::new(settings, name, Stream::Reverse, self.tables().await)
        }
    }

    pub async fn start(&self) -> CockroachSource {
        self.start_from(&self.point).await
    }

    pub async fn start_from(&self, from: &Position) -> CockroachSource {
        let started = CockroachSource::start(self.config().await, from.clone(), self.history.clone()).await;
        started.unwrap_or_else(|problem| panic!("{problem}"))
    }

    pub async fn execute(&self, sql: &str) {
        if let Err(error) = self.session.batch_execute(sql).await {
            panic!("{sql}: {error:?}");
        }
    }

    pub async fn set(&self, knob: &str, value: &str) {
        self.execute(&format!("SET CLUSTER SETTING standin.{knob} = {value}")).await;
    }

    /// Commits one transaction for each row.
    pub async fn insert(&self, ids: std::ops::Range<i64>) {
        for id in ids {
            self.execute(&format!("INSERT INTO public.t (id, v) VALUES ({id}, 'x')")).await;
        }
    }

    pub async fn now(&self) -> Hlc {
        now(&self.session).await.unwrap()
    }

    /// Returns the rows of `t` as they are, by id.
    pub async fn rows(&self) -> BTreeMap<i64, String> {
        let rows = self.session.query("SELECT id, coalesce(v, '') FROM public.t", &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

pub fn name(text: &str) -> TableName {
    TableName::new("public", text)
}

/// Waits until the condition holds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + LIMIT;
    while !condition().await {
        assert!(Instant::now() < deadline, "{what}: not within {LIMIT:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

pub async fn next(source: &mut CockroachSource) -> Result<Event, Problem> {
    let received = source.received();
    match timeout(LIMIT, source.next()).await {
        Ok(event) => event,
        Err(_) => panic!("no event came in time: {:?}", *received.borrow()),
    }
}

pub fn changes(transaction: &Transaction) -> Vec<Change> {
    transaction.changes.read().unwrap().map(Result::unwrap).collect()
}

/// Takes events until `rows` rows were inserted; returns their ids in order and the last position.
pub async fn take_rows(source: &mut CockroachSource, rows: usize) -> (Vec<i64>, Position) {
    let mut ids = Vec::new();
    loop {
        let position = match next(source).await.unwrap_or_else(|problem| panic!("{problem}")) {
            Event::Watermark(_) => continue,
            Event::Commit(transaction) => {
                ids.extend(changes(&transaction).iter().map(inserted_id));
                transaction.position
            }
        };
        if ids.len() >= rows {
            return (ids, position);
        }
    }
}

/// Takes events until the stream ends; returns the ids that were inserted before.
pub async fn take_to_the_end(source: &mut CockroachSource) -> (Vec<i64>, Problem) {
    let mut ids = Vec::new();
    loop {
        match next(source).await {
            Ok(Event::Watermark(_)) => {}
            Ok(Event::Commit(transaction)) => ids.extend(changes(&transaction).iter().map(inserted_id)),
            Err(problem) => return (ids, problem),
        }
    }
}

pub fn inserted_id(change: &Change) -> i64 {
    let Change::Insert { new, .. } = change else { panic!("only inserts are expected, got {change:?}") };
    id(new)
}

/// Takes watermarks until one is at or past `position`.
pub async fn take_watermark(source: &mut CockroachSource, position: &Position) -> Position {
    loop {
        match next(source).await.unwrap_or_else(|problem| panic!("{problem}")) {
            Event::Watermark(watermark) if watermark >= *position => return watermark,
            Event::Watermark(_) => {}
            Event::Commit(transaction) => panic!("no transaction is expected, got {transaction:?}"),
        }
    }
}

pub fn id(row: &Row) -> i64 {
    text(row, 0).expect("an id is no NULL").parse().expect("an id is a number")
}

pub fn text(row: &Row, column: usize) -> Option<String> {
    match row.value(column) {
        Value::Null => None,
        Value::Text(text) => Some(String::from_utf8(text.to_vec()).expect("text is UTF-8")),
        Value::Unchanged | Value::Binary(_) => panic!("feeds give whole rows as text"),
    }
}

/// Follows the changes of `t`, as a target would. Panics at one that does not fit what is there.
pub fn apply(rows: &mut BTreeMap<i64, String>, transaction: &Transaction) {
    for change in changes(transaction) {
        match change {
            Change::Insert { new, .. } => {
                let before = rows.insert(id(&new), text(&new, 1).unwrap_or_default());
                assert_eq!(before, None, "row {} was there already", id(&new));
            }
            Change::Update { new, .. } => {
                let before = rows.insert(id(new.row()), text(new.row(), 1).unwrap_or_default());
                assert!(before.is_some(), "row {} was not there", id(new.row()));
            }
            Change::Delete { old: OldRow::Key(old) | OldRow::Full(old), .. } => {
                assert!(rows.remove(&id(&old)).is_some(), "row {} was not there", id(&old));
            }
            Change::Truncate { .. } | Change::Message { .. } => panic!("feeds tell neither"),
        }
    }
}
