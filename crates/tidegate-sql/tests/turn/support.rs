//! A database of a migration at PostgreSQL.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use tidegate_connect::{Session, Settings};
use tidegate_model::{MigrationName, Problem, TableName};
use tidegate_sql::fence::{Blocker, FenceOrder, Fenced, put_up};
use tidegate_sql::state::{Part, Side, StateSchema, install, write_migration};
use tidegate_throwaway::Server;
use tokio::time::Instant;
use tokio_postgres::Error;

/// Longer than anything here takes, also on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);

pub fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let builder = Server::builder().setting("max_prepared_transactions", 10).setting("wal_level", "logical");
        builder.start().unwrap()
    })
}

/// A database with state tables, a migration and some tables of its own.
pub struct Database {
    pub name: MigrationName,
    pub schema: StateSchema,
    session: Session,
}

impl Database {
    pub async fn new(sql: &str) -> Database {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let text = format!("turn_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        server().create_database(&text).unwrap();
        let (name, schema): (MigrationName, _) = (text.parse().unwrap(), StateSchema::default());
        let session = connect(&text).await;
        session.batch_execute(sql).await.unwrap();
        install(&session, &schema, Part::Stream).await.unwrap();
        write_migration(&session, &schema, &name, Side::Source, &json!({})).await.unwrap();
        Database { name, schema, session }
    }

    pub fn settings(&self) -> Settings {
        Settings::parse(&server().url(self.name.as_str())).unwrap()
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Opens a session of the application.
    pub async fn client(&self) -> Session {
        connect(self.name.as_str()).await
    }

    /// Returns the same database with a new session, where the one before was ended.
    pub async fn fresh(&self) -> Database {
        Database { name: self.name.clone(), schema: self.schema.clone(), session: self.client().await }
    }

    pub async fn sql(&self, sql: &str) {
        self.session.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// Returns the first column of a query, as text, joined by spaces.
    pub async fn text(&self, query: &str) -> String {
        let rows = self.session.query(query, &[]).await.unwrap_or_else(|error| panic!("{query}: {error:?}"));
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join(" ")
    }

    pub fn order(&self, turn: &str, generation: i64, tables: &[&str]) -> FenceOrder {
        self.order_within(turn, generation, tables, LIMIT)
    }

    pub fn order_within(&self, turn: &str, generation: i64, tables: &[&str], within: Duration) -> FenceOrder {
        let tables = tables.iter().map(|name| TableName::new("public", *name)).collect();
        FenceOrder::new(self.name.clone(), turn, generation, tables, "crdb.example:26257/app", Instant::now() + within)
    }

    /// Puts a fence up; nobody may be in its way.
    pub async fn fenced(&self, order: &FenceOrder) -> Fenced {
        self.put_up(order).await.unwrap().0
    }

    /// Puts a fence up, and tells who was in its way.
    pub async fn put_up(&self, order: &FenceOrder) -> Result<(Fenced, Vec<Blocker>), Problem> {
        let mut seen: Vec<Blocker> = Vec::new();
        let mut on_wait = |blockers: &[Blocker]| seen.extend_from_slice(blockers);
        let fenced = put_up(&self.settings(), &self.schema, order, &mut on_wait).await?;
        Ok((fenced, seen))
    }

    /// Everything in the catalog that a fence could leave behind.
    pub async fn catalog(&self) -> String {
        self.text(
            "SELECT 'trigger ' || tgrelid::regclass || tgname::text || tgenabled::text FROM pg_trigger \
             WHERE NOT tgisinternal \
             UNION ALL SELECT 'table ' || oid::regclass::text || coalesce((SELECT string_agg(a::text, ',' \
             ORDER BY a::text) FROM unnest(relacl) a), '') FROM pg_class \
             WHERE relkind IN ('r', 'p', 'S') AND relnamespace = 'public'::regnamespace \
             UNION ALL SELECT 'column ' || attname::text || attacl::text FROM pg_attribute WHERE attacl IS NOT NULL \
             UNION ALL SELECT 'setting ' || s::text FROM pg_db_role_setting s WHERE setdatabase = \
             (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1",
        )
        .await
    }
}

async fn connect(database: &str) -> Session {
    let session = Session::connect(&Settings::parse(&server().url(database)).unwrap(), "app").await.unwrap();
    session.batch_execute("SET search_path = public").await.unwrap();
    session
}

/// Returns SQLSTATE and message of a refusal.
pub fn refusal(result: Result<impl Sized, Error>) -> String {
    let error = result.err().expect("it is refused");
    let error = error.as_db_error().expect("the server refused it");
    format!("{}: {}", error.code().code(), error.message())
}
