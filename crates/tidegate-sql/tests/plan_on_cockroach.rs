//! Plans, run on CockroachDB or the stand-in for it: every shape of statement does what its row count says, and nothing
//! else.

#[path = "../src/plan/tests/fixture.rs"]
#[allow(dead_code, reason = "shared with tests that use the rest")]
mod fixture;
#[path = "../src/plan/tests/history.rs"]
mod history;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tidegate_connect::{Session, Settings};
use tidegate_model::{Change, TableName, TableRoute};
use tidegate_sql::dialect::Dialect;
use tidegate_sql::plan::{Planner, SessionRights, SliceLimit, Statement};
use tidegate_standin::{Standin, StandinOptions};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use fixture::{Changing, at, route, with_full_identity};
use history::{COLUMNS, Cells, History, wishes};

const ENFORCED: SessionRights = SessionRights { foreign_keys_enforced: true };
const UNLIMITED: SliceLimit = SliceLimit { bytes: u64::MAX, changes: u64::MAX };

/// A database of its own.
struct Target {
    session: Session,
    prepared: HashMap<Arc<str>, tokio_postgres::Statement>,
}

impl Target {
    async fn new(schema: &[&str]) -> Target {
        static STANDIN: OnceLock<Standin> = OnceLock::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let standin = STANDIN.get_or_init(|| Standin::start(StandinOptions::default()).unwrap());
        let name = format!("plan_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        standin.create_database(&name).unwrap();
        let settings = Settings::parse(&standin.url(&name)).unwrap();
        // The role's name makes the stand-in check the shapes of statements.
        let session = Session::connect(&settings, "tidegate/plan/apply").await.unwrap();
        // As the applier does, so that a TRUNCATE does not commit what is before it.
        session.batch_execute("SET autocommit_before_ddl = false").await.unwrap();
        let owner = Session::connect(&settings, "test").await.unwrap();
        for statement in schema {
            owner.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        }
        Target { session, prepared: HashMap::new() }
    }

    /// Runs statements in one transaction; at the first refusal everything is rolled back.
    async fn run(&mut self, statements: &[Statement]) -> Result<(), SqlState> {
        self.session.batch_execute("BEGIN READ WRITE").await.unwrap();
        for statement in statements {
            if let Err(error) = self.run_one(statement).await {
                self.session.batch_execute("ROLLBACK").await.unwrap();
                return Err(error.code().unwrap_or_else(|| panic!("{error:?}")).clone());
            }
        }
        self.session.batch_execute("COMMIT").await.unwrap();
        Ok(())
    }

    async fn run_one(&mut self, statement: &Statement) -> Result<(), tokio_postgres::Error> {
        if !self.prepared.contains_key(&statement.sql) {
            let prepared = self.session.prepare(&statement.sql).await?;
            self.prepared.insert(Arc::clone(&statement.sql), prepared);
        }
        let params: Vec<&(dyn ToSql + Sync)> = statement.params.iter().map(|param| param as _).collect();
        self.session.query(&self.prepared[&statement.sql], &params).await.map(drop)
    }

    async fn apply(&mut self, planner: &mut Planner, changes: Vec<Change>) -> Result<(), SqlState> {
        let mut changes = changes.into_iter().map(|change| Ok((at(1), change)));
        let plan = planner.slice(&mut changes, UNLIMITED).unwrap().unwrap();
        self.run(&plan.statements).await
    }

    /// Returns the rows of a query whose columns are text, each joined by `|`, in order.
    async fn rows(&self, query: &str) -> Vec<String> {
        let rows = self.session.query(query, &[]).await.unwrap();
        let cell = |row: &tokio_postgres::Row, index| row.get::<_, Option<String>>(index).unwrap_or("-".to_owned());
        let line = |row| (0..tokio_postgres::Row::len(row)).map(|index| cell(row, index)).collect::<Vec<_>>().join("|");
        let mut lines: Vec<String> = rows.iter().map(line).collect();
        lines.sort();
        lines
    }
}

fn planner(routes: &[&TableRoute]) -> Planner {
    Planner::new(routes.iter().map(|route| (*route).clone()).collect(), ENFORCED, Dialect::Cockroach)
}

const ITEMS: &str = "CREATE TABLE public.items (id INT4 PRIMARY KEY, a STRING, b STRING, extra INT8 DEFAULT 7)";

#[tokio::test]
async fn statements_that_miss_rows_raise() {
    let mut target = Target::new(&[ITEMS, "INSERT INTO public.items VALUES (1, 'a', 'b')"]).await;
    let items = route(1, "items", &["id integer", "a text", "b text"], &[0]);
    let t = Changing::new(&items);
    let mut planner = planner(&[&items]);
    for missing in [
        vec![t.update("1 x y"), t.update("2 x y")],
        vec![t.update("1 x y"), t.update("2 ~ ~")],
        vec![t.delete("1 - -"), t.delete("2 - -")],
        vec![t.rekey("2 - -", "3 x ~")],
    ] {
        assert_eq!(target.apply(&mut planner, missing).await, Err(SqlState::DIVISION_BY_ZERO));
    }
    let again = target.apply(&mut planner, vec![t.insert("1 x y")]).await;
    assert_eq!(again, Err(SqlState::UNIQUE_VIOLATION), "a row that is there is not written over");
    assert_eq!(target.rows("SELECT id::STRING, a, b FROM items").await, ["1|a|b"]);
    let changes = vec![t.update("1 ~ ~"), t.insert("2 x -")];
    target.apply(&mut planner, changes).await.unwrap();
    assert_eq!(target.rows("SELECT id::STRING, a, b, extra::STRING FROM items").await, ["1|a|b|7", "2|x|-|7"]);
}

#[tokio::test]
async fn keys_that_follow_each_other_and_change_places_all_arrive() {
    let mut target = Target::new(&[ITEMS]).await;
    let items = route(1, "items", &["id integer", "a text", "b text"], &[0]);
    let t = Changing::new(&items);
    let mut planner = planner(&[&items]);
    let all = (1..=50).map(|id| t.insert(&format!("{id} a{id} b{id}"))).collect();
    target.apply(&mut planner, all).await.unwrap();
    let up = (1..=50).rev().map(|id| t.rekey(&format!("{id} - -"), &format!("{} ~ x", id + 1))).collect();
    target.apply(&mut planner, up).await.unwrap();
    let moved = "SELECT count(*)::STRING FROM items WHERE a = 'a' || (id - 1)::STRING AND b = 'x'";
    assert_eq!(target.rows(moved).await, ["50"]);
    let swap = vec![t.rekey("2 - -", "99 p ~"), t.rekey("3 - -", "2 q ~"), t.rekey("99 - -", "3 r ~")];
    target.apply(&mut planner, swap).await.unwrap();
    assert_eq!(target.rows("SELECT id::STRING, a FROM items WHERE id < 4").await, ["2|q", "3|r"]);
}

#[tokio::test]
async fn references_hold_after_every_statement() {
    let mut target = Target::new(&[
        "CREATE TABLE public.parent (id INT4 PRIMARY KEY, up INT4 REFERENCES public.parent)",
        "CREATE TABLE public.child (id INT4 PRIMARY KEY, parent INT4 NOT NULL REFERENCES public.parent)",
        "INSERT INTO public.parent VALUES (1, NULL)",
        "INSERT INTO public.child VALUES (1, 1), (2, 1)",
    ])
    .await;
    let mut parent = route(1, "parent", &["id integer", "up integer"], &[0]);
    parent.map.references = vec![parent.map.target.clone()];
    let mut child = route(2, "child", &["id integer", "parent integer"], &[0]);
    child.map.references = vec![parent.map.target.clone()];
    let (p, c) = (Changing::new(&parent), Changing::new(&child));
    let mut planner = planner(&[&child, &parent]);
    let changes =
        vec![c.insert("3 5"), p.insert("5 6"), p.insert("6 6"), c.update("1 5"), p.delete("1 -"), c.delete("2 -")];
    target.apply(&mut planner, changes).await.unwrap();
    assert_eq!(target.rows("SELECT id::STRING, up::STRING FROM parent").await, ["5|6", "6|6"]);
    assert_eq!(target.rows("SELECT id::STRING, parent::STRING FROM child").await, ["1|5", "3|5"]);
    let orphan = target.apply(&mut planner, vec![c.insert("4 77")]).await;
    assert_eq!(orphan, Err(SqlState::FOREIGN_KEY_VIOLATION));
}

#[tokio::test]
async fn a_circle_of_three_tables_comes_and_goes_in_one_statement_each() {
    let names = ["a", "b", "c"];
    let create =
        |index: usize| format!("CREATE TABLE public.{} (id INT4 PRIMARY KEY, next INT4 NOT NULL)", names[index]);
    let refer = |index: usize| {
        let (from, to) = (names[index], names[(index + 1) % 3]);
        format!("ALTER TABLE public.{from} ADD CONSTRAINT next_{from} FOREIGN KEY (next) REFERENCES public.{to} (id)")
    };
    let schema: Vec<String> = (0..3).map(create).chain((0..3).map(refer)).collect();
    let mut target = Target::new(&schema.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut routes =
        [0, 1, 2].map(|index| route(index as u32 + 1, names[index], &["id integer", "next integer"], &[0]));
    for index in 0..3 {
        routes[index].map.references = vec![TableName::new("public", names[(index + 1) % 3])];
    }
    let tables: Vec<Changing> = routes.iter().map(Changing::new).collect();
    let mut planner = planner(&routes.iter().collect::<Vec<_>>());
    let come = (1..=5).flat_map(|id| tables.iter().map(move |t| t.insert(&format!("{id} {id}")))).collect();
    target.apply(&mut planner, come).await.unwrap();
    let count =
        "SELECT (SELECT count(*) FROM a)::STRING, (SELECT count(*) FROM b)::STRING, (SELECT count(*) FROM c)::STRING";
    assert_eq!(target.rows(count).await, ["5|5|5"]);
    let go = tables.iter().map(|t| t.delete("3 -")).collect();
    target.apply(&mut planner, go).await.unwrap();
    assert_eq!(target.rows(count).await, ["4|4|4"]);
    let one_missing = vec![tables[0].delete("1 -"), tables[1].delete("1 -"), tables[2].delete("9 -")];
    assert_eq!(target.apply(&mut planner, one_missing).await, Err(SqlState::DIVISION_BY_ZERO));
}

#[tokio::test]
async fn a_key_that_is_deferrable_at_the_source_moves_where_an_order_exists() {
    let mut target = Target::new(&[ITEMS]).await;
    let items = with_full_identity(route(1, "items", &["id integer", "a text"], &[0]));
    let t = Changing::new(&items);
    let mut planner = planner(&[&items]);
    let all = (1..=20).map(|id| t.insert(&format!("{id} a{id}"))).collect();
    target.apply(&mut planner, all).await.unwrap();
    // Upwards, as only a deferrable key allows at the source.
    let up = (1..=20).map(|id| t.rekey(&format!("{id} a{id}"), &format!("{} a{id}", id + 1))).collect();
    target.apply(&mut planner, up).await.unwrap();
    let moved = "SELECT count(*)::STRING FROM items WHERE a = 'a' || (id - 1)::STRING";
    assert_eq!(target.rows(moved).await, ["20"]);
    let found = planner.single(&at(1), &t.rekey("5 a4", "5 z")).unwrap().unwrap();
    target.run(&found.statements).await.unwrap();
    assert_eq!(target.rows("SELECT a FROM items WHERE id = 5").await, ["z"]);
}

#[tokio::test]
async fn tables_may_have_many_columns() {
    let names: Vec<String> = (0..300).map(|index| format!("c{index} integer")).collect();
    let columns: Vec<String> = (0..300).map(|index| format!("c{index} INT4")).collect();
    let create = format!("CREATE TABLE public.wide ({}, PRIMARY KEY (c0))", columns.join(", "));
    let mut target = Target::new(&[&create]).await;
    let wide = route(1, "wide", &names.iter().map(String::as_str).collect::<Vec<_>>(), &[0]);
    let t = Changing::new(&wide);
    let values = |last: &str| format!("{}{last}", "1 ".repeat(299));
    let mut planner = planner(&[&wide]);
    target.apply(&mut planner, vec![t.insert(&values("5"))]).await.unwrap();
    target.apply(&mut planner, vec![t.update(&values("6"))]).await.unwrap();
    assert_eq!(target.rows("SELECT c0::STRING, c299::STRING FROM wide").await, ["1|6"]);
}

/// Puts rows into emptied tables.
async fn fill(target: &Target, routes: &[TableRoute], tables: &[Vec<Cells>]) {
    for (route, rows) in routes.iter().zip(tables) {
        let name = &route.map.target.name;
        target.session.batch_execute(&format!("DELETE FROM public.{name} WHERE true")).await.unwrap();
        let insert = format!("INSERT INTO public.{name} (id, a, b) VALUES ($1::STRING::INT4, $2::STRING, $3::STRING)");
        for row in rows {
            target.session.execute(&insert, &[&row[0], &row[1], &row[2]]).await.unwrap();
        }
    }
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
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let keyed = |name| format!("CREATE TABLE public.{name} (id INT4 PRIMARY KEY, a STRING, b STRING)");
    let log = "CREATE TABLE public.log (id INT4, a STRING, b STRING)";
    let mut target = Target::new(&[&keyed("one"), &keyed("two"), log]).await;
    let routes = [route(1, "one", &COLUMNS, &[0]), route(2, "two", &COLUMNS, &[0]), route(3, "log", &COLUMNS, &[])];
    for case in 0..60 {
        let wishes = wishes(3).new_tree(&mut runner).unwrap().current();
        let History { before, changes, mut after } = History::of(&routes, &wishes, false);
        fill(&target, &routes, &before).await;
        let limit = SliceLimit { changes: case % 17 + 1, ..UNLIMITED };
        let mut planner = Planner::new(routes.to_vec(), ENFORCED, Dialect::Cockroach);
        let mut changes = changes.into_iter().map(|change| Ok((at(1), change)));
        while let Some(plan) = planner.slice(&mut changes, limit).unwrap() {
            let done = target.run(&plan.statements).await;
            assert_eq!(done, Ok(()), "case {case}: {wishes:?}");
        }
        for (route, rows) in routes.iter().zip(&mut after) {
            let line =
                |row: &Cells| row.iter().map(|cell| cell.as_deref().unwrap_or("-")).collect::<Vec<_>>().join("|");
            let mut expected: Vec<String> = rows.iter().map(line).collect();
            expected.sort();
            let query = format!("SELECT id::STRING, a, b FROM public.{}", route.map.target.name);
            assert_eq!(target.rows(&query).await, expected, "case {case}: {wishes:?}");
        }
    }
}
