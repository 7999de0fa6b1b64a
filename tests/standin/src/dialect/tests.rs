use super::*;
use crate::options::VERSION;

fn rewritten(sql: &str) -> Result<Rewritten, SqlError> {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let builtins = Builtins {
        functions: names(&["pg_current_wal_lsn", "count", "pg_advisory_lock", "version", "lower"]),
        relations: names(&["pg_class", "pg_stat_wal", "pg_stat_activity"]),
    };
    let context = Context {
        database: "shop",
        user: "root",
        version: VERSION,
        banner: "CockroachDB",
        builtins: &builtins,
        cluster_id: "c",
        as_of: None,
    };
    let column = |name: &str, hidden: bool| Column { name: name.to_owned(), hidden, generated: false };
    let table = |name: &str, columns: Vec<Column>, key: &str| {
        let info = TableInfo {
            schema: "public".to_owned(),
            table: name.to_owned(),
            columns,
            key: vec![(0, key.to_owned())],
            locked: name == "locked",
            stored: true,
        };
        let bare = TableName { schema: None, table: name.to_owned() };
        let full = TableName { schema: Some("public".to_owned()), table: name.to_owned() };
        [(bare, info.clone()), (full, info)]
    };
    let mut known = Known::default();
    known.tables.extend(table("t", vec![column("a", false), column("b", false)], "a"));
    known.tables.extend(table("h", vec![column("x", false), column("rowid", true), column("y", false)], "rowid"));
    known.tables.extend(table("locked", vec![column("a", false)], "a"));
    let statements = lexer::statements(sql)?;
    rewrite(&statements[0], &context, &known)
}

fn sql(text: &str) -> String {
    rewritten(text).unwrap_or_else(|error| panic!("{text}: {error}")).sql
}

fn code(text: &str) -> String {
    rewritten(text).expect_err(text).code
}

#[test]
fn upsert_becomes_an_insert_that_goes_by_the_primary_key() {
    assert_eq!(
        sql("UPSERT INTO shop.public.t@{NO_FULL_SCAN} (a, b) VALUES ($1::INT, $2::STRING) RETURNING b"),
        "INSERT INTO \"public\".\"t\" (a, b) VALUES ($1::int8, $2::text) \
         ON CONFLICT (\"a\") DO UPDATE SET \"b\" = excluded.\"b\" RETURNING b"
    );
    assert!(sql("UPSERT INTO t (a) VALUES (1)").ends_with("DO UPDATE SET \"a\" = excluded.\"a\" "));
    let inner = sql("WITH u AS (UPSERT INTO t (a, b) SELECT x, y FROM s) SELECT count(*) FROM s");
    assert!(inner.contains("DO UPDATE SET \"b\" = excluded.\"b\" ) SELECT count(*)"), "{inner}");
}

#[test]
fn hidden_columns_are_left_out_where_none_are_named() {
    assert_eq!(sql("SELECT * FROM h"), "SELECT \"h\".\"x\", \"h\".\"y\" FROM h");
    assert_eq!(sql("SELECT q.*, t.a FROM h q, t"), "SELECT \"q\".\"x\", \"q\".\"y\", t.a FROM h q, t");
    assert_eq!(sql("SELECT * FROM t"), "SELECT * FROM t");
    assert_eq!(sql("INSERT INTO h VALUES (1, 2)"), "INSERT INTO h(\"x\", \"y\") VALUES (1, 2)");
    assert_eq!(sql("INSERT INTO h VALUES (f(1, 2))"), "INSERT INTO h(\"x\") VALUES (f(1, 2))");
    assert_eq!(sql("COPY h FROM STDIN"), "COPY \"h\"(\"x\", \"y\") FROM STDIN");
    assert_eq!(sql("COPY h (rowid) FROM STDIN"), "COPY \"h\" (rowid) FROM STDIN");
}

#[test]
fn tables_get_keys_and_types_that_postgresql_has() {
    let made = sql("CREATE TABLE s.t (a INT, b STRING(5) NOT NULL, FAMILY f (a, b), INDEX (b DESC) STORING (a))");
    assert!(
        made.starts_with(
            "DO $standin_do$ BEGIN EXECUTE $standin$CREATE TABLE \"s\".\"t\" (a int8, b varchar(5) NOT NULL"
        ),
        "{made}"
    );
    for part in ["PRIMARY KEY (\"rowid\")", "COMMENT ON COLUMN", "CREATE INDEX  ON \"s\".\"t\" (b DESC) INCLUDE (a)"] {
        assert!(made.contains(part), "{part} in {made}");
    }
    assert_eq!(
        sql("CREATE TABLE IF NOT EXISTS t (id SERIAL PRIMARY KEY, c INT8 AS (id + 1) STORED ON UPDATE now())"),
        "CREATE TABLE IF NOT EXISTS \"t\" (id int8 NOT NULL DEFAULT standin_catalog.unique_rowid() PRIMARY KEY, \
         c INT8 GENERATED ALWAYS AS (id + 1) STORED)"
    );
    assert_eq!(sql("ALTER TABLE t ADD COLUMN c STRING[] NULL"), "ALTER TABLE t ADD COLUMN c text[] NULL");
}

#[test]
fn names_of_the_catalog_lead_to_views() {
    assert_eq!(sql("SELECT 1 FROM pg_catalog.pg_class c"), "SELECT 1 FROM standin_catalog.pg_class c");
    assert_eq!(sql("SELECT 1 FROM \"shop\".information_schema.tables"), "SELECT 1 FROM standin_information.tables");
    assert_eq!(code("SELECT 1 FROM pg_stat_wal"), "42P01");
    assert_eq!(code("SELECT 1 FROM standin.commit"), "42P01");
}

#[test]
fn functions_outside_the_list_are_unknown() {
    assert_eq!(sql("SELECT version()"), "SELECT (SELECT 'CockroachDB'::text AS version)");
    assert_eq!(sql("SELECT mine(1), lower('A')"), "SELECT mine(1), lower('A')");
    assert_eq!(code("SELECT pg_current_wal_lsn()"), "42883");
    assert_eq!(code("SELECT pg_advisory_lock(1)"), "42883");
}

#[test]
fn variables_go_where_they_are_kept() {
    assert_eq!(sql("SET disable_changefeed_replication = true"), "SET  standin.hidden = 'on'");
    assert_eq!(sql("SET statement_timeout = '5s'"), "SET  statement_timeout = '5s'");
    assert_eq!(code("SET session_replication_role = replica"), "42704");
    assert_eq!(code("SET crdb_version = 'x'"), "55P02");
}

#[test]
fn transactions_are_the_stand_ins_own_business() {
    let action = |text: &str| rewritten(text).expect(text).action;
    let begin = |sql: &str| Action::Begin { sql: sql.to_owned(), as_of: None };
    assert_eq!(
        action("BEGIN ISOLATION LEVEL REPEATABLE READ, PRIORITY HIGH"),
        begin("BEGIN ISOLATION LEVEL SERIALIZABLE")
    );
    assert_eq!(action("START TRANSACTION READ ONLY, NOT DEFERRABLE"), begin("BEGIN READ ONLY"));
    assert_eq!(action("ROLLBACK TO SAVEPOINT cockroach_restart"), Action::RollbackTo("cockroach_restart".to_owned()));
    assert_eq!(action("ROLLBACK WORK"), Action::Rollback);
    assert!(
        matches!(action("BEGIN AS OF SYSTEM TIME '-1s'"), Action::Begin { as_of: Some(text), .. } if text == "-1s")
    );
}

#[test]
fn the_right_to_truncate_is_called_drop() {
    assert_eq!(sql("REVOKE INSERT, DROP ON TABLE t FROM app"), "REVOKE INSERT, TRUNCATE ON TABLE t FROM app");
    assert_eq!(code("GRANT TRUNCATE ON TABLE t TO app"), "42601");
    assert_eq!(code("REVOKE INSERT ON TABLE t FROM app CASCADE"), "42601");
    assert_eq!(code("CREATE SEQUENCE s CYCLE"), "0A000");
    assert_eq!(sql("CREATE SEQUENCE s NO CYCLE"), "CREATE SEQUENCE s NO CYCLE");
}

#[test]
fn locked_tables_keep_their_schema() {
    assert_eq!(code("ALTER TABLE locked ADD COLUMN b INT8"), "57000");
    assert_eq!(code("CREATE INDEX ON locked (a)"), "57000");
    assert!(
        sql("ALTER TABLE locked SET (schema_locked = false)").contains("set_locked('\"locked\"'::regclass, false)")
    );
}

#[test]
fn words_that_only_postgresql_has_are_refused() {
    for text in ["VACUUM", "NOTIFY a", "CLUSTER t", "SELECT FROM t", "INSERT INTO t OVERRIDING SYSTEM VALUE VALUES (1)"]
    {
        assert_eq!(code(text), "42601", "{text}");
    }
    for text in [
        "CREATE DOMAIN d AS INT8",
        "CREATE TABLE c () INHERITS (t)",
        "ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES t (a) INITIALLY DEFERRED",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "COPY t FROM STDIN WITH (FREEZE)",
        "SELECT '1'::money",
        "CREATE RULE r AS ON INSERT TO t DO NOTHING",
    ] {
        assert_eq!(code(text), "0A000", "{text}");
    }
}
