//! Pairs of databases, and what tests ask of them.

use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tidegate_connect::{Session, Settings};
use tidegate_model::{
    ColumnMap, Hlc, Lsn, Position, RelationId, ReplicaIdentity, SourceColumn, SourceTable, TableMap, TableName,
};
use tidegate_standin::{Standin, StandinOptions};
use tidegate_throwaway::Server;
use tidegate_verify::{
    DifferenceKind, Equality, Key, Options, Pair, Side, TableReport, Verdict, compare_keys, compare_table,
};

pub static SERVER: LazyLock<Server> = LazyLock::new(|| Server::builder().start().expect("a server starts"));
static STANDIN: LazyLock<Standin> = LazyLock::new(|| Standin::start(StandinOptions::default()).expect("one starts"));

/// A database of its own.
pub struct Database {
    pub settings: Settings,
    pub session: Session,
}

impl Database {
    pub async fn postgres() -> Database {
        let name = unique();
        SERVER.create_database(&name).unwrap();
        Database::connect(&SERVER.url(&name)).await
    }

    pub async fn cockroach() -> Database {
        let name = unique();
        STANDIN.create_database(&name).unwrap();
        Database::connect(&STANDIN.url(&name)).await
    }

    pub async fn connect(url: &str) -> Database {
        let settings = Settings::parse(url).unwrap();
        let session = Session::connect(&settings, "test").await.unwrap();
        Database { settings, session }
    }

    pub async fn sql(&self, sql: &str) {
        self.session.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    pub async fn now(&self) -> Hlc {
        let row = self.session.query_one("SELECT cluster_logical_timestamp()::STRING", &[]).await.unwrap();
        row.get::<_, &str>(0).parse().unwrap()
    }

    /// Looks at the database as it is now, for as long as the session that comes with it lives.
    pub async fn side(&self) -> (Side, Option<Session>) {
        let name = "verify".parse().unwrap();
        if self.session.is_cockroach() {
            return (Side::cockroach(self.settings.clone(), self.now().await, name), None);
        }
        let keeper = Session::connect(&self.settings, "test").await.unwrap();
        keeper.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.unwrap();
        let row = keeper.query_one("SELECT pg_export_snapshot()", &[]).await.unwrap();
        (Side::postgres(self.settings.clone(), row.get::<_, &str>(0), name), Some(keeper))
    }

    async fn columns(&self, table: &str) -> Vec<(String, u32, String, bool)> {
        let sql = "SELECT a.attname::text, a.atttypid, format_type(a.atttypid, -1), i.indrelid IS NOT NULL
            FROM pg_catalog.pg_attribute a
            LEFT JOIN pg_catalog.pg_index i ON i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY (i.indkey)
            WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
            ORDER BY a.attnum";
        let rows = self.session.query(sql, &[&format!("public.{table}")]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect()
    }
}

fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("verify_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A source, which is PostgreSQL, and a target.
pub struct Both {
    pub source: Database,
    pub target: Database,
}

/// A pair of snapshots, and what keeps them.
pub struct Fence {
    pub pair: Pair,
    keepers: [Option<Session>; 2],
}

impl Fence {
    /// Lets the snapshots go.
    pub async fn end(self) -> Pair {
        for keeper in self.keepers.into_iter().flatten() {
            keeper.close().await;
        }
        self.pair
    }
}

impl Both {
    /// Makes two PostgreSQL databases of the same content.
    pub async fn alike(sql: &str) -> Both {
        let both = Both { source: Database::postgres().await, target: Database::postgres().await };
        both.source.sql(sql).await;
        both.target.sql(sql).await;
        both
    }

    pub async fn fence(&self) -> Fence {
        let ((source, first), (target, second)) = (self.source.side().await, self.target.side().await);
        let pair = Pair { source, target, position: Position::postgres(Lsn(0x10)) };
        Fence { pair, keepers: [first, second] }
    }

    /// Maps a table of the source to the one of its name; every type to itself.
    pub async fn map(&self, table: &str) -> TableMap {
        let columns = self.source.columns(table).await;
        let source = |(name, type_oid, _, in_key): &(String, u32, String, bool)| SourceColumn {
            name: name.as_str().into(),
            type_oid: *type_oid,
            type_modifier: -1,
            identity: *in_key,
        };
        let carried = |(name, _, target_type, _): &(String, u32, String, bool)| ColumnMap {
            source: name.as_str().into(),
            target: name.as_str().into(),
            target_type: target_type.clone(),
            comparable: true,
        };
        TableMap {
            source: SourceTable {
                id: RelationId(1),
                name: TableName::new("public", table),
                replica_identity: ReplicaIdentity::Default,
                columns: columns.iter().map(source).collect(),
            },
            target: TableName::new("public", table),
            columns: columns.iter().map(carried).collect(),
            key: (0..columns.len()).filter(|index| columns[*index].3).collect(),
            references: vec![],
        }
    }

    pub async fn compare(&self, table: &str) -> TableReport {
        self.compare_by(table, &Options::default()).await
    }

    pub async fn compare_by(&self, table: &str, options: &Options) -> TableReport {
        let (fence, map) = (self.fence().await, self.map(table).await);
        compare_table(&fence.pair, &map, options).await.unwrap_or_else(|problem| panic!("{problem}"))
    }

    pub async fn compare_keys(&self, table: &str, keys: &[Key], options: &Options) -> TableReport {
        let (fence, map) = (self.fence().await, self.map(table).await);
        compare_keys(&fence.pair, &map, keys, options).await.unwrap_or_else(|problem| panic!("{problem}"))
    }
}

/// Options that have rows compared in the engine, whatever the servers could say.
pub fn by_rows() -> Options {
    Options { rows_per_second: NonZeroU32::new(1_000_000), ..Options::default() }
}

pub fn exact() -> Options {
    Options { equality: Equality::Exact, ..by_rows() }
}

pub fn key(values: &[&str]) -> Key {
    values.iter().map(|value| Some(value.as_bytes())).collect()
}

/// Returns what differs, as texts like `different (id="1") in v`.
pub fn differences(report: &TableReport) -> Vec<String> {
    let counted = |kind| report.keys.iter().filter(|key| key.kind == kind).count() as u64;
    let counts = [report.missing, report.extra, report.different];
    let listed = [DifferenceKind::Missing, DifferenceKind::Extra, DifferenceKind::Different].map(counted);
    assert_eq!(listed, counts, "each difference is listed");
    let expected = if counts == [0; 3] { Verdict::Equal } else { Verdict::Different };
    assert_eq!(report.verdict, expected);
    report.keys.iter().map(|key| key.to_string().trim().to_owned()).collect()
}
