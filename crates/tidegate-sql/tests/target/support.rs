//! A target database with state tables, and what tests do with it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::json;
use tidegate_connect::{Session, Settings};
use tidegate_model::{
    Applier, Batch, Change, Changes, Position, Problem, Span, Stream, TableRoute, Timestamp, Transaction,
};
use tidegate_sql::applier::{ApplierConfig, SqlApplier};
use tidegate_sql::state::{
    Lease, OwnerConfig, Ownership, Part, StateKey, StateSchema, Waiting, install, store_start, take,
};
use tidegate_throwaway::Server;
use tokio::time::{sleep, timeout};

pub use crate::fixture::{Changing, at, route};

/// Longer than anything here takes, also on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);

pub fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::builder().start().unwrap())
}

/// A database with state tables and some tables of its own.
pub struct Target {
    pub name: String,
    pub key: StateKey,
    session: Session,
}

impl Target {
    pub async fn new(schema: &str) -> Target {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("target_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        server().create_database(&name).unwrap();
        let session = Session::connect(&settings(&server().url(&name)), "test").await.unwrap();
        // Names differ from target to target: backends are looked for by application_name in the whole cluster.
        let key =
            StateKey { schema: StateSchema::default(), migration: name.parse().unwrap(), stream: Stream::Forward };
        install(&session, &key.schema, Part::Stream).await.unwrap();
        session.batch_execute("SET search_path = public").await.unwrap();
        session.batch_execute(schema).await.unwrap();
        Target { name, key, session }
    }

    pub fn url(&self) -> String {
        server().url(&self.name)
    }

    pub fn settings(&self) -> Settings {
        settings(&self.url())
    }

    pub fn client(&self) -> &Session {
        &self.session
    }

    pub async fn sql(&self, sql: &str) {
        self.session.batch_execute(sql).await.unwrap();
    }

    /// Returns what a query gives, as text: columns joined by `|`, rows by a space.
    pub async fn text(&self, query: &str) -> String {
        let sql = format!(
            "SELECT coalesce(string_agg(concat_ws('|', VARIADIC r.a), ' '), '') FROM \
             (SELECT ARRAY(SELECT coalesce(v.value, '-') FROM json_each_text(row_to_json(q)) AS v) AS a \
             FROM ({query}) AS q) AS r"
        );
        self.session.query_one(&sql, &[]).await.unwrap().get(0)
    }

    pub async fn number(&self, query: &str) -> i64 {
        self.session.query_one(&format!("SELECT ({query})::bigint"), &[]).await.unwrap().get(0)
    }

    /// Waits until a query gives true.
    pub async fn until(&self, what: &str, query: &str) {
        let waiting = async {
            while !self.session.query_one(query, &[]).await.unwrap().get::<_, bool>(0) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
    }

    pub async fn checkpoint(&self) -> String {
        self.text("SELECT position FROM tidegate.checkpoint").await
    }

    pub fn owner_config(&self) -> OwnerConfig {
        OwnerConfig { settings: self.settings(), key: self.key.clone(), take_over: false }
    }

    /// Takes the stream, which nobody owns, or whose owner was dropped just now, and makes `at(10)` its start point
    /// if it has none.
    pub async fn own(&self) -> Ownership {
        let owner = timeout(LIMIT, take(&self.owner_config(), |_| {})).await.unwrap().unwrap();
        if owner.start().position.is_none() {
            store_start(&self.session, owner.lease(), &at(10), &json!({})).await.unwrap();
        }
        owner
    }

    pub fn applier_config(&self, lease: &Lease) -> ApplierConfig {
        ApplierConfig::new(self.settings(), lease.clone())
    }

    pub async fn applier(&self, lease: &Lease, routes: impl Into<Vec<TableRoute>>) -> SqlApplier {
        SqlApplier::start(self.applier_config(lease), at(10), routes.into()).await.unwrap()
    }
}

pub fn settings(url: &str) -> Settings {
    Settings::parse(url).unwrap()
}

/// Remembers what a newcomer was told while it waited.
pub fn remember(seen: &Arc<std::sync::Mutex<Vec<Waiting>>>) -> impl FnMut(&Waiting) + Send + 'static {
    let seen = Arc::clone(seen);
    move |waiting| seen.lock().unwrap().push(waiting.clone())
}

/// A transaction in memory that ends at `lsn`.
pub fn transaction(lsn: u64, changes: Vec<Change>) -> Transaction {
    Transaction {
        position: at(lsn),
        committed_at: Timestamp(lsn as i64),
        xid: None,
        changes: Changes::Memory(changes.into()),
    }
}

/// A batch after `after` up to its last transaction.
pub fn batch(after: u64, transactions: Vec<Transaction>) -> Batch {
    let until = transactions.last().map_or(at(after), |last| last.position.clone());
    Batch { span: Span { after: at(after), until }, transactions }
}

/// Waits until `until` is durable; returns the error that ends the applier before.
pub async fn durable(applier: &mut SqlApplier, from: u64, until: u64) -> Result<(), Problem> {
    let mut durable: Position = at(from);
    while durable < at(until) {
        durable = timeout(LIMIT, applier.durable(&durable)).await.expect("the applier gets on")?;
    }
    Ok(())
}
