//! Values that the target would round, cut or pad without an error are found before anything is written.

use tidegate_connect::Session;
use tidegate_model::{Finding, RelationId, ReplicaIdentity, Severity, SourceColumn, SourceTable, TableName};
use tidegate_sql::catalog::{WantedTable, read_tables, value_types};
use tidegate_sql::check::{TargetQuestion, target_findings};
use tokio_postgres::{Client, Error, Row};

use crate::support::Target;

/// A type at the source, one at the target, and a value that shows what becomes of it.
const CHANGED: [(&str, &str, &str); 14] = [
    ("numeric(12,4)", "numeric(12,2)", "1.2345"),
    ("numeric", "numeric(12,2)", "1.2345"),
    ("numeric", "double precision", "1.00000000000000000001"),
    ("numeric", "numeric(5,-2)", "1234"),
    ("bigint", "double precision", "9007199254740993"),
    ("double precision", "real", "0.12345678901234"),
    ("timestamptz", "timestamptz(3)", "2020-01-01 00:00:00.123456+00"),
    ("timestamptz", "date", "2020-01-01 12:00:00+00"),
    ("timestamp", "date", "2020-01-01 12:00:00"),
    ("time", "time(0)", "12:00:00.5"),
    ("interval", "interval(1)", "1.234 s"),
    ("numeric(12,4)[]", "numeric(12,2)[]", "{1.2345}"),
    ("numeric(12,4)", "rounded", "1.2345"),
    ("json", "jsonb", "{\"a\": 1, \"a\": 2}"),
];

/// As above, compared as text: the space at the end is the point.
const CUT: [(&str, &str, &str); 2] = [("text", "varchar(3)", "abc "), ("varchar(9)", "char(9)", "abc")];

const KEPT: [(&str, &str, &str); 11] = [
    ("numeric(12,2)", "numeric(14,4)", "1.25"),
    ("numeric(12,2)", "numeric", "1.25"),
    ("numeric(12,2)", "rounded", "1.25"),
    ("rounded", "numeric(12,2)", "1.25"),
    ("smallint", "integer", "7"),
    ("integer", "double precision", "2147483647"),
    ("integer", "numeric(10,0)", "2147483647"),
    ("real", "double precision", "0.1"),
    ("varchar(3)", "varchar(9)", "ab "),
    ("char(3)", "char(9)", "ab"),
    ("timestamptz(3)", "timestamptz", "2020-01-01 00:00:00.123+00"),
];

const REFUSED: [(&str, &str, &str); 3] = [
    ("bigint", "integer", "9007199254740993"),
    ("numeric(12,2)", "numeric(10,2)", "1234567890.12"),
    ("numeric", "integer", "1.5"),
];

/// Makes the table `s` of a source and `t` of the target.
async fn make_tables(target: &Target, source_type: &str, target_type: &str) {
    let sql = format!(
        "DROP TABLE IF EXISTS s, t; CREATE TABLE s (id int PRIMARY KEY, v {source_type});
         CREATE TABLE t (id int PRIMARY KEY, v {target_type})"
    );
    target.sql(&sql).await;
}

async fn findings(target: &Target) -> Vec<Finding> {
    // A session as migrations have it: the one of the tests has another search_path.
    let session = Session::connect(&target.settings(), "test").await.unwrap();
    let wanted = [source(&session).await];
    let types: Vec<u32> = wanted[0].source.columns.iter().map(|column| column.type_oid).collect();
    let source_types = value_types(&session, &types).await.unwrap();
    let question =
        TargetQuestion { key: &target.key, tables: &wanted, source_types: &source_types, no_copy: false, both: false };
    target_findings(&session, &question).await
}

/// The table `s` as a source describes it, under the name of the target's `t`.
async fn source(client: &Client) -> WantedTable {
    let sql = "SELECT attname::text, atttypid, atttypmod FROM pg_attribute
                WHERE attrelid = 'public.s'::regclass AND attnum > 0 ORDER BY attnum";
    let column = |row: &Row| SourceColumn {
        name: row.get::<_, String>(0).into(),
        type_oid: row.get(1),
        type_modifier: row.get(2),
        identity: row.get::<_, &str>(0) == "id",
    };
    let source = SourceTable {
        id: RelationId(1),
        name: TableName::new("public", "t"),
        replica_identity: ReplicaIdentity::Default,
        columns: client.query(sql, &[]).await.unwrap().iter().map(column).collect(),
    };
    WantedTable { source, primary_key: vec!["id".into()], identity_whole: true }
}

/// Writes a value of `s` to `t` as a stream does, and returns what was there and what is there, read by an expression.
async fn carried(target: &Target, value: &str, read: &str) -> Result<(String, String), Error> {
    let name = TableName::new("public", "t");
    let table = read_tables(target.client(), std::slice::from_ref(&name)).await.unwrap().remove(&name).unwrap();
    let client = target.client();
    client.batch_execute(&format!("INSERT INTO s VALUES (1, '{value}')")).await?;
    let cast = &table.column("v").unwrap().type_name;
    // Never a cast of the value itself: the stream sends text.
    client.batch_execute(&format!("INSERT INTO t SELECT id, format('%s', v)::{cast} FROM s")).await?;
    let before = client.query_one(&format!("SELECT {read} FROM s"), &[]).await?.get(0);
    let after = client.query_one(&format!("SELECT {read} FROM t"), &[]).await?.get(0);
    Ok((before, after))
}

fn codes(findings: &[Finding]) -> Vec<(&'static str, Severity)> {
    findings.iter().map(|finding| (finding.code, finding.severity)).collect()
}

#[tokio::test]
async fn what_would_be_rounded_without_an_error_is_critical() {
    let target = Target::new("CREATE DOMAIN rounded AS numeric(12,2)").await;
    for (from, to, value) in CHANGED.into_iter().chain(CUT) {
        make_tables(&target, from, to).await;
        let found = findings(&target).await;
        assert_eq!(codes(&found), [("CK072", Severity::Critical)], "{from} to {to}: {found:#?}");
        let (before, after) = carried(&target, value, "format('%s', v)").await.unwrap();
        assert_ne!(before, after, "{from} to {to}");
        // The fix is SQL that helps.
        target.sql(&found[0].fix.replace("ALTER TABLE", "TRUNCATE t; ALTER TABLE")).await;
        assert_eq!(findings(&target).await, [], "{from} to {to}, altered");
    }
}

#[tokio::test]
async fn wider_types_keep_every_value_and_are_no_finding() {
    let target = Target::new("CREATE DOMAIN rounded AS numeric(12,2)").await;
    for (from, to, value) in KEPT {
        make_tables(&target, from, to).await;
        let found = findings(&target).await;
        assert_eq!(found, [], "{from} to {to}");
        let same = if from.starts_with("numeric") || from == "rounded" { "trim_scale(v)::text" } else { "v::text" };
        let (before, after) = carried(&target, value, same).await.unwrap();
        assert_eq!(before, after, "{from} to {to}");
    }
}

#[tokio::test]
async fn what_the_target_refuses_is_a_warning_that_says_so() {
    let target = Target::new("").await;
    for (from, to, value) in REFUSED {
        make_tables(&target, from, to).await;
        let found = findings(&target).await;
        assert_eq!(codes(&found), [("CK062", Severity::Warning)], "{from} to {to}");
        assert!(carried(&target, value, "v::text").await.is_err(), "{from} to {to}");
    }
}
