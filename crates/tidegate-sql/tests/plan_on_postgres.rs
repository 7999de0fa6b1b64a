//! Plans, run on a real server: every shape of statement does what its row count says, and nothing else.

#[path = "../src/plan/tests/fixture.rs"]
mod fixture;
#[path = "../src/plan/tests/history.rs"]
mod history;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tidegate_model::{Change, TableRoute};
use tidegate_sql::dialect::Dialect;
use tidegate_sql::plan::{Planner, SessionRights, SliceLimit, Statement};
use tidegate_throwaway::Server;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls};

use fixture::{Changing, at, route, with_full_identity};
use history::{COLUMNS, Cells, History, wishes};

const REPLICA: SessionRights = SessionRights { foreign_keys_enforced: false };
const ENFORCED: SessionRights = SessionRights { foreign_keys_enforced: true };
const UNLIMITED: SliceLimit = SliceLimit { bytes: u64::MAX, changes: u64::MAX };

/// A database of its own, in a session set up like an applier's.
struct Target {
    client: Client,
    prepared: HashMap<Arc<str>, tokio_postgres::Statement>,
}

impl Target {
    async fn new(schema: &str) -> Target {
        static SERVER: OnceLock<Server> = OnceLock::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let server = SERVER.get_or_init(|| Server::builder().start().unwrap());
        let name = format!("plan_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        connect(server, "postgres").await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let client = connect(server, &name).await;
        client.batch_execute(schema).await.unwrap();
        let session = "SET search_path = ''; SET session_replication_role = replica; SET TimeZone = 'UTC'";
        client.batch_execute(session).await.unwrap();
        Target { client, prepared: HashMap::new() }
    }

    /// Runs statements in one transaction; at the first refusal everything is rolled back.
    async fn run(&mut self, statements: &[Statement]) -> Result<(), SqlState> {
        self.run_after("BEGIN", statements).await
    }

    async fn run_after(&mut self, begin: &str, statements: &[Statement]) -> Result<(), SqlState> {
        self.client.batch_execute(begin).await.unwrap();
        for statement in statements {
            if let Err(error) = self.run_one(statement).await {
                self.client.batch_execute("ROLLBACK").await.unwrap();
                return Err(error.code().unwrap_or_else(|| panic!("{error:?}")).clone());
            }
        }
        self.client.batch_execute("COMMIT").await.unwrap();
        Ok(())
    }

    async fn run_one(&mut self, statement: &Statement) -> Result<(), tokio_postgres::Error> {
        if !self.prepared.contains_key(&statement.sql) {
            let prepared = self.client.prepare(&statement.sql).await?;
            self.prepared.insert(Arc::clone(&statement.sql), prepared);
        }
        let params: Vec<&(dyn ToSql + Sync)> = statement.params.iter().map(|param| param as _).collect();
        self.client.query(&self.prepared[&statement.sql], &params).await.map(drop)
    }

    async fn apply(&mut self, planner: &mut Planner, changes: Vec<Change>) -> Result<(), SqlState> {
        let mut changes = changes.into_iter().map(|change| Ok((at(1), change)));
        let plan = planner.slice(&mut changes, UNLIMITED).unwrap().unwrap();
        self.run(&plan.statements).await
    }

    /// Returns the rows of a query, each as text, in order of their text.
    async fn rows(&self, select: &str) -> Vec<String> {
        let query = format!("SELECT q::text FROM ({select}) AS q ORDER BY 1");
        self.client.query(&query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }
}

async fn connect(server: &Server, database: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(&server.url(database), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn planner(routes: &[&TableRoute]) -> Planner {
    Planner::new(routes.iter().map(|route| (*route).clone()).collect(), REPLICA, Dialect::Postgres)
}

#[tokio::test]
async fn values_of_every_kind_arrive_as_they_were() {
    let mut target = Target::new(
        r#"CREATE SCHEMA "My Shop"; CREATE TYPE "My Shop"."State" AS ENUM ('new', 'so so');
           CREATE DOMAIN "My Shop".price AS numeric CHECK (VALUE >= 0);
           CREATE TABLE "My Shop"."Item" ("Id" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, twice int
             GENERATED ALWAYS AS (n * 2) STORED, extra text DEFAULT 'kept', ok boolean, n int, code char(5),
             state "My Shop"."State", price "My Shop".price, data jsonb, raw json, bytes bytea, at timestamptz,
             tags text[], span int4range, vary varchar(10), bits bit(3), f float8, x xml)"#,
    )
    .await;
    let columns = [
        "Id bigint",
        "ok boolean",
        "n integer",
        "code bpchar",
        "state \"My Shop\".\"State\"",
        "price \"My Shop\".price",
        "data jsonb",
        "raw json",
        "bytes bytea",
        "at timestamp with time zone",
        "tags text[]",
        "span int4range",
        "vary character varying",
        "bits \"bit\"",
        "f double precision",
        "x xml",
    ];
    let mut item = route(1, "Item", &columns, &[0]);
    item.map.target.schema = "My Shop".into();
    let t = Changing::new(&item);
    let mut planner = planner(&[&item]);
    let rest = [
        r#"so so|1.50|{"a": [1, null]}|{"b" : 1}|\x00ff|2024-02-29 12:00:00.5+00"#,
        r#"{a,"b c",NULL,"x\"y"}|[1,5)|ü|101|1e-300|<a/>"#,
    ];
    let rest = rest.join("|");
    target.apply(&mut planner, vec![t.insert(&format!("7|t|21|ab   |{rest}"))]).await.unwrap();
    let written = [
        r#"(7,42,kept,t,21,"ab   ","so so",1.50,"{""a"": [1, null]}","{""b"" : 1}","\\x00ff""#,
        r#""2024-02-29 12:00:00.5+00","{a,""b c"",NULL,""x\\""y""}","[1,5)",ü,101,1e-300,<a/>)"#,
    ];
    let written = written.join(",");
    assert_eq!(target.rows(r#"SELECT * FROM "My Shop"."Item""#).await, [written.as_str()]);
    target.client.execute(r#"UPDATE "My Shop"."Item" SET extra = 'mine'"#, &[]).await.unwrap();
    target.apply(&mut planner, vec![t.update(&format!("7|f|4|-|{rest}"))]).await.unwrap();
    let written = written.replace("42,kept,t,21,\"ab   \"", "8,mine,f,4,");
    assert_eq!(target.rows(r#"SELECT * FROM "My Shop"."Item""#).await, [written]);
    let too_long = rest.replace('ü', "longer than the column");
    let refusal = target.apply(&mut planner, vec![t.update(&format!("7|f|4|-|{too_long}"))]).await;
    assert_eq!(refusal, Err(SqlState::STRING_DATA_RIGHT_TRUNCATION));
    target.apply(&mut planner, vec![t.delete(&format!("7{}", "|-".repeat(15)))]).await.unwrap();
    assert!(target.rows(r#"SELECT * FROM "My Shop"."Item""#).await.is_empty());
}

#[tokio::test]
async fn a_row_that_is_not_there_is_an_error_in_every_shape() {
    let schema = "CREATE TABLE items (id int PRIMARY KEY, a text, b text); INSERT INTO items VALUES (1, 'a', 'b');
                  CREATE TABLE log (a text, b json); INSERT INTO log VALUES ('a', '{}')";
    let mut target = Target::new(schema).await;
    let items = route(1, "items", &["id integer", "a text", "b text"], &[0]);
    let log = route(2, "log", &["a text", "b json"], &[]);
    let (t, l) = (Changing::new(&items), Changing::new(&log));
    let mut planner = planner(&[&items, &log]);
    let lost = [
        vec![t.update("1 a b"), t.update("2 a b")],
        vec![t.update("1 a ~"), t.update("2 a ~")],
        vec![t.update("1 ~ ~"), t.update("2 ~ ~")],
        vec![t.rekey("1 - -", "8 a ~"), t.rekey("2 - -", "9 a ~")],
        vec![t.rekey("1 - -", "9 ~ ~"), t.rekey("2 - -", "1 ~ ~"), t.rekey("9 - -", "2 ~ ~")],
        vec![t.delete("1 - -"), t.delete("2 - -")],
        vec![l.delete("b|{}")],
        vec![l.delete("a|-")],
        vec![l.rekey("-|{}", "c|{}")],
        vec![l.rekey("a|{ }", "~|~")],
    ];
    for changes in lost {
        let text = format!("{changes:?}");
        assert_eq!(target.apply(&mut planner, changes).await, Err(SqlState::DIVISION_BY_ZERO), "{text}");
    }
    assert_eq!(target.apply(&mut planner, vec![t.insert("1 a b")]).await, Err(SqlState::UNIQUE_VIOLATION));
    assert_eq!(target.rows("SELECT * FROM public.items").await, ["(1,a,b)"]);
    assert_eq!(target.rows("SELECT * FROM public.log").await, ["(a,{})"]);
}

#[tokio::test]
async fn a_trigger_that_swallows_rows_is_noticed() {
    let schema = "CREATE TABLE items (id int PRIMARY KEY, a text);
        CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER swallow BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION swallow();
        ALTER TABLE items ENABLE ALWAYS TRIGGER swallow";
    let mut target = Target::new(schema).await;
    let items = route(1, "items", &["id integer", "a text"], &[0]);
    let t = Changing::new(&items);
    assert_eq!(target.apply(&mut planner(&[&items]), vec![t.insert("1 a")]).await, Err(SqlState::DIVISION_BY_ZERO));
}

const TOASTED: &str = "CREATE TABLE items (id int PRIMARY KEY, a text, big text, extra int DEFAULT 7);
    ALTER TABLE items ALTER big SET STORAGE EXTERNAL;
    INSERT INTO items SELECT i, 'a', repeat(i::text || ' ', 4000), i * 10 FROM generate_series(1, 1000) AS i";
const WHOSE: &str = "SELECT id, a, split_part(big, ' ', 1), length(big) > 4000, extra FROM public.items";

#[tokio::test]
async fn swapped_keys_keep_values_that_were_not_sent_and_columns_of_the_target() {
    let mut target = Target::new(TOASTED).await;
    target.client.batch_execute("DELETE FROM public.items WHERE id > 4").await.unwrap();
    let items = route(1, "items", &["id integer", "a text", "big text"], &[0]);
    let t = Changing::new(&items);
    let swap = vec![t.rekey("1 - -", "9 a ~"), t.rekey("2 - -", "1 b ~"), t.rekey("9 - -", "2 c ~")];
    let circle = [t.rekey("3 - -", "9 ~ ~"), t.rekey("4 - -", "3 ~ ~"), t.rekey("9 - -", "4 ~ ~")];
    let changes = swap.into_iter().chain(circle).collect();
    target.apply(&mut planner(&[&items]), changes).await.unwrap();
    assert_eq!(target.rows(WHOSE).await, ["(1,b,2,t,20)", "(2,c,1,t,10)", "(3,a,4,t,40)", "(4,a,3,t,30)"]);
}

#[tokio::test]
async fn a_thousand_keys_that_follow_each_other_all_move() {
    let mut target = Target::new(TOASTED).await;
    let items = route(1, "items", &["id integer", "a text", "big text"], &[0]);
    let t = Changing::new(&items);
    let one_up = |id: i32| t.rekey(&format!("{id} - -"), &format!("{} a ~", id + 1));
    target.apply(&mut planner(&[&items]), (1..=1000).rev().map(one_up).collect()).await.unwrap();
    let moved = "SELECT count(*), min(id), max(id), bool_and(big LIKE (id - 1)::text || ' %' AND extra = (id - 1) * 10)
        FROM public.items";
    assert_eq!(target.rows(moved).await, ["(1000,2,1001,t)"]);
    // Under a deferrable key the source may go upwards, and its old rows are full.
    let whole = with_full_identity(items);
    let t = Changing::new(&whole);
    let big = |id: i32| format!("{} ", id - 1).repeat(4000);
    let one_up = |id: i32| t.rekey(&format!("{id}|a|{}", big(id)), &format!("{}|a|~", id + 1));
    target.apply(&mut planner(&[&whole]), (2..=1001).map(one_up).collect()).await.unwrap();
    assert_eq!(target.rows(&moved.replace("- 1", "- 2")).await, ["(1000,3,1002,t)"]);
}

#[tokio::test]
async fn where_a_generated_column_forbids_rotation_source_order_works() {
    let schema = "CREATE TABLE items (id int PRIMARY KEY, a text, twice int GENERATED ALWAYS AS (id * 2) STORED);
                  INSERT INTO items VALUES (1, 'one'), (2, 'two')";
    let mut target = Target::new(schema).await;
    let items = route(1, "items", &["id integer", "a text"], &[0]);
    let t = Changing::new(&items);
    let mut planner = planner(&[&items]);
    let swap = vec![t.rekey("1 -", "9 ~"), t.rekey("2 -", "1 ~"), t.rekey("9 -", "2 ~")];
    assert_eq!(target.apply(&mut planner, swap.clone()).await, Err(SqlState::GENERATED_ALWAYS));
    for change in &swap {
        let single = planner.single(&at(1), change).unwrap().unwrap();
        target.run(&single.statements).await.unwrap();
    }
    assert_eq!(target.rows("SELECT * FROM public.items").await, ["(1,two,2)", "(2,one,4)"]);
}

#[tokio::test]
async fn without_a_key_exactly_one_of_equal_rows_is_changed() {
    let schema = "CREATE TABLE log (n numeric, ok boolean, code char(4), data json, p point);
        CREATE INDEX ON log (n)";
    let mut target = Target::new(schema).await;
    let columns = ["n numeric", "ok boolean", "code bpchar", "data json", "p point"];
    let log = route(1, "log", &columns, &[]);
    let l = Changing::new(&log);
    let mut planner = planner(&[&log]);
    let row = "1.0|t|ab  |{}|(1,2)";
    let all = vec![
        l.insert(row),
        l.insert(row),
        l.insert("1.00|t|ab  |{}|(1,2)"),
        l.insert("-|-|-|-|-"),
        l.insert("-|-|-|-|-"),
        l.delete(row),
        l.delete("-|-|-|-|-"),
        l.rekey(row, "2|f|cd  |{ }|~"),
        l.insert(row),
    ];
    target.apply(&mut planner, all).await.unwrap();
    let rows = [
        "(,,,,)",
        "(1.0,t,\"ab  \",{},\"(1,2)\")",
        "(1.00,t,\"ab  \",{},\"(1,2)\")",
        "(2,f,\"cd  \",\"{ }\",\"(1,2)\")",
    ];
    assert_eq!(target.rows("SELECT * FROM public.log").await, rows);
}

#[tokio::test]
async fn without_a_key_texts_that_a_collation_holds_equal_are_told_apart() {
    let schema = "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TABLE log (name text COLLATE ci, n int); INSERT INTO log VALUES ('abc', 1), ('ABC', 1), ('Abc', 1)";
    let mut target = Target::new(schema).await;
    let log = route(1, "log", &["name text", "n integer"], &[]);
    let l = Changing::new(&log);
    let mut planner = planner(&[&log]);
    target.apply(&mut planner, vec![l.delete("ABC 1")]).await.unwrap();
    assert_eq!(target.rows("SELECT * FROM public.log").await, ["(Abc,1)", "(abc,1)"]);
    target.apply(&mut planner, vec![l.rekey("Abc 1", "Abc 2")]).await.unwrap();
    assert_eq!(target.rows("SELECT * FROM public.log").await, ["(Abc,2)", "(abc,1)"]);
    let lost = target.apply(&mut planner, vec![l.delete("aBC 1")]).await;
    assert_eq!(lost, Err(SqlState::DIVISION_BY_ZERO));
}

/// Plans changes one by one.
fn one_by_one(planner: &mut Planner, changes: &[Change]) -> Vec<Statement> {
    changes.iter().flat_map(|change| planner.single(&at(1), change).unwrap().unwrap().statements).collect()
}

#[tokio::test]
async fn in_source_order_rows_that_share_a_key_for_a_moment_are_told_apart() {
    let sessions = [
        ("replica", "BEGIN", REPLICA, "INITIALLY DEFERRED"),
        ("origin", "BEGIN; SET CONSTRAINTS ALL DEFERRED", ENFORCED, "INITIALLY DEFERRED"),
        ("origin", "BEGIN; SET CONSTRAINTS ALL DEFERRED", ENFORCED, "INITIALLY IMMEDIATE"),
    ];
    for (role, begin, rights, initially) in sessions {
        let schema = format!(
            "CREATE TABLE d (id int PRIMARY KEY DEFERRABLE {initially}, a int,
               g int GENERATED ALWAYS AS (a * 2) STORED);
             INSERT INTO d VALUES (1, 1), (2, 2)"
        );
        let mut target = Target::new(&schema).await;
        target.client.batch_execute(&format!("SET session_replication_role = {role}")).await.unwrap();
        let d = with_full_identity(route(1, "d", &["id integer", "a integer"], &[0]));
        let t = Changing::new(&d);
        let mut planner = Planner::new(vec![d], rights, Dialect::Postgres);
        let swap = [t.rekey("1 1", "2 1"), t.rekey("2 2", "1 2")];
        if rights == REPLICA {
            // What leads to source order.
            assert_eq!(target.apply(&mut planner, swap.to_vec()).await, Err(SqlState::GENERATED_ALWAYS));
        }
        target.run_after(begin, &one_by_one(&mut planner, &swap)).await.unwrap();
        assert_eq!(target.rows("SELECT * FROM public.d").await, ["(1,2,4)", "(2,1,2)"], "{role} {initially}");
        let replaced = [t.insert("1 5"), t.rekey("1 5", "1 6"), t.delete("1 2")];
        target.run_after(begin, &one_by_one(&mut planner, &replaced)).await.unwrap();
        assert_eq!(target.rows("SELECT * FROM public.d").await, ["(1,6,12)", "(2,1,2)"], "{role} {initially}");
        let lost = target.run_after(begin, &one_by_one(&mut planner, &[t.delete("3 1")])).await;
        assert_eq!(lost, Err(SqlState::DIVISION_BY_ZERO));
    }
}

#[tokio::test]
async fn a_row_that_alone_has_its_key_is_found_though_the_target_keeps_another_scale() {
    let schema = "CREATE TABLE prices (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY DEFERRABLE, a numeric(9, 2));
        INSERT INTO prices OVERRIDING SYSTEM VALUE VALUES (1, 1.5), (2, 2.5)";
    let mut target = Target::new(schema).await;
    let prices = with_full_identity(route(1, "prices", &["id bigint", "a numeric"], &[0]));
    let t = Changing::new(&prices);
    let mut planner = planner(&[&prices]);
    let changes = [t.rekey("1 1.5", "1 3.5"), t.delete("2 2.5")];
    target.run(&one_by_one(&mut planner, &changes)).await.unwrap();
    assert_eq!(target.rows("SELECT * FROM public.prices").await, ["(1,3.50)"]);
    // Of two rows with the key none equals the given one: neither may be taken for it.
    let changes = [t.insert("1 4.5"), t.delete("1 3.5")];
    assert_eq!(target.run(&one_by_one(&mut planner, &changes)).await, Err(SqlState::DIVISION_BY_ZERO));
    assert_eq!(target.rows("SELECT * FROM public.prices").await, ["(1,3.50)"]);
}

#[tokio::test]
async fn tables_may_have_more_columns_than_functions_have_arguments() {
    let names: Vec<String> = (0..300).map(|index| format!("c{index} integer")).collect();
    let mut target = Target::new(&format!("CREATE TABLE wide ({}, PRIMARY KEY (c0))", names.join(", "))).await;
    let wide = route(1, "wide", &names.iter().map(String::as_str).collect::<Vec<_>>(), &[0]);
    let t = Changing::new(&wide);
    let values = |last: &str| format!("{}{last}", "1 ".repeat(299));
    let mut planner = planner(&[&wide]);
    target.apply(&mut planner, vec![t.insert(&values("5"))]).await.unwrap();
    target.apply(&mut planner, vec![t.update(&values("6"))]).await.unwrap();
    assert_eq!(target.rows("SELECT c0, c299 FROM public.wide").await, ["(1,6)"]);
}

#[tokio::test]
async fn only_the_table_itself_is_changed_and_truncated() {
    let schema = "CREATE TABLE base (id int PRIMARY KEY, a text); CREATE TABLE derived () INHERITS (base);
        CREATE TABLE pointing (id int REFERENCES base);
        INSERT INTO base VALUES (1, 'a'); INSERT INTO derived VALUES (1, 'a')";
    let mut target = Target::new(schema).await;
    let base = route(1, "base", &["id integer", "a text"], &[0]);
    let mut pointing = route(2, "pointing", &["id integer"], &[]);
    pointing.map.references = vec![base.map.target.clone()];
    let (t, p) = (Changing::new(&base), Changing::new(&pointing));
    let mut planner = planner(&[&base, &pointing]);
    target.apply(&mut planner, vec![t.update("1 b")]).await.unwrap();
    assert_eq!(target.rows("SELECT * FROM public.base").await, ["(1,a)", "(1,b)"]);
    target.apply(&mut planner, vec![t.truncate(), t.insert("2 c")]).await.unwrap();
    assert_eq!(target.rows("SELECT * FROM public.base").await, ["(1,a)", "(2,c)"]);
    let both = Change::Truncate { tables: vec![Arc::clone(&t.0), Arc::clone(&p.0)] };
    target.apply(&mut planner, vec![both]).await.unwrap();
    assert_eq!(target.rows("SELECT * FROM public.base").await, ["(1,a)"]);
}

#[tokio::test]
async fn enforced_foreign_keys_hold_after_every_statement() {
    let schema = "CREATE TABLE parent (id int PRIMARY KEY, up int REFERENCES parent);
        CREATE TABLE child (id int PRIMARY KEY, parent int NOT NULL REFERENCES parent);
        INSERT INTO parent VALUES (1, NULL); INSERT INTO child VALUES (1, 1), (2, 1)";
    let mut target = Target::new(schema).await;
    target.client.batch_execute("SET session_replication_role = origin").await.unwrap();
    let mut parent = route(1, "parent", &["id integer", "up integer"], &[0]);
    parent.map.references = vec![parent.map.target.clone()];
    let mut child = route(2, "child", &["id integer", "parent integer"], &[0]);
    child.map.references = vec![parent.map.target.clone()];
    let (p, c) = (Changing::new(&parent), Changing::new(&child));
    let mut planner = Planner::new(vec![child, parent], ENFORCED, Dialect::Postgres);
    // A child before its parent, a parent that points to itself, a child that moves, a parent that goes.
    let changes =
        vec![c.insert("3 5"), p.insert("5 6"), p.insert("6 6"), c.update("1 5"), p.delete("1 -"), c.delete("2 -")];
    target.apply(&mut planner, changes).await.unwrap();
    assert_eq!(target.rows("SELECT * FROM public.parent").await, ["(5,6)", "(6,6)"]);
    assert_eq!(target.rows("SELECT * FROM public.child").await, ["(1,5)", "(3,5)"]);
}

fn random_routes() -> [TableRoute; 3] {
    [route(1, "one", &COLUMNS, &[0]), route(2, "two", &COLUMNS, &[0]), route(3, "log", &COLUMNS, &[])]
}

/// Puts rows into emptied tables.
async fn fill(target: &Target, routes: &[TableRoute], tables: &[Vec<Cells>]) {
    for (route, rows) in routes.iter().zip(tables) {
        let name = &route.map.target.name;
        target.client.batch_execute(&format!("TRUNCATE public.{name}")).await.unwrap();
        let insert = format!("INSERT INTO public.{name} VALUES ($1::text::int, $2, $3)");
        for row in rows {
            target.client.execute(&insert, &[&row[0], &row[1], &row[2]]).await.unwrap();
        }
    }
}

async fn contents(target: &Target, routes: &[TableRoute]) -> Vec<Vec<Cells>> {
    let mut tables = Vec::new();
    for route in routes {
        let query = format!("SELECT id::text, a, b FROM public.{}", route.map.target.name);
        let rows = target.client.query(&query, &[]).await.unwrap();
        let mut rows: Vec<Cells> = rows.iter().map(|row| vec![row.get(0), row.get(1), row.get(2)]).collect();
        rows.sort();
        tables.push(rows);
    }
    tables
}

#[tokio::test]
async fn random_histories_end_as_at_the_source() {
    let seed: u64 = std::env::var("TIDEGATE_SEED").ok().map_or_else(
        || std::time::UNIX_EPOCH.elapsed().expect("the clock is past 1970").as_nanos() as u64,
        |text| text.parse().expect("TIDEGATE_SEED is a number"),
    );
    println!("seed {seed} (TIDEGATE_SEED)");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let keyed = |name| format!("CREATE TABLE {name} (id int PRIMARY KEY, a text, b text);");
    let schema = format!("{}{} CREATE TABLE log (id int, a text, b text)", keyed("one"), keyed("two"));
    let mut target = Target::new(&schema).await;
    let plain = random_routes();
    let full = random_routes().map(with_full_identity);
    for case in 0..120 {
        let deferrable = case % 3 == 0;
        let (routes, tables) = if deferrable { (&full, 2) } else { (&plain, 3) };
        let routes = &routes[..tables];
        let wishes = wishes(tables).new_tree(&mut runner).unwrap().current();
        let History { before, changes, mut after } = History::of(routes, &wishes, deferrable);
        fill(&target, routes, &before).await;
        let rights = if !deferrable && case % 2 == 0 { ENFORCED } else { REPLICA };
        let limit = if deferrable { UNLIMITED } else { SliceLimit { changes: case % 17 + 1, ..UNLIMITED } };
        let mut planner = Planner::new(routes.to_vec(), rights, Dialect::Postgres);
        let mut changes = changes.into_iter().map(|change| Ok((at(1), change)));
        while let Some(plan) = planner.slice(&mut changes, limit).unwrap() {
            let done = target.run(&plan.statements).await;
            assert_eq!(done, Ok(()), "case {case}: {wishes:?}");
        }
        after.iter_mut().for_each(|rows| rows.sort());
        assert_eq!(contents(&target, routes).await, after, "case {case}: {wishes:?}");
    }
}
