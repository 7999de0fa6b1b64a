//! Transactions of a source that tells no order inside them: values that change hands arrive all the same.

use std::sync::Arc;

use serde_json::json;
use tidegate_model::{
    Applier, Batch, Change, ChangeReader, Changes, Hlc, Position, Problem, Span, SpooledChanges, TableName, TableRoute,
    Timestamp, Transaction,
};
use tidegate_sql::applier::{ApplierConfig, SqlApplier};
use tidegate_sql::state::{Ownership, store_start, take};
use tokio::time::timeout;

use crate::fixture::with_full_identity;
use crate::support::{Changing, LIMIT, Target, route, server, settings};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE, data jsonb, extra int DEFAULT 7)";

fn hlc(wall: u64) -> Position {
    Position::cockroach(Hlc { wall, logical: 0 })
}

fn table() -> (TableRoute, Changing) {
    let mut route = route(1, "t", &["id integer", "name text", "data jsonb"], &[0]);
    route.from = hlc(0);
    let changing = Changing::new(&route);
    (route, changing)
}

fn transaction(wall: u64, changes: Vec<Change>) -> Transaction {
    Transaction { position: hlc(wall), committed_at: Timestamp(0), xid: None, changes: Changes::Memory(changes.into()) }
}

fn batch(after: u64, transactions: Vec<Transaction>) -> Batch {
    let until = transactions.last().map_or(hlc(after), |last| last.position.clone());
    Batch { span: Span { after: hlc(after), until }, transactions }
}

async fn own(target: &Target) -> Ownership {
    let owner = timeout(LIMIT, take(&target.owner_config(), |_| {})).await.unwrap().unwrap();
    store_start(target.client(), owner.lease(), &hlc(10), &json!({})).await.unwrap();
    owner
}

async fn start(config: ApplierConfig, routes: Vec<TableRoute>) -> SqlApplier {
    SqlApplier::start(config, hlc(10), routes).await.unwrap()
}

async fn durable(applier: &mut SqlApplier, until: u64) -> Result<(), Problem> {
    let mut durable = hlc(10);
    while durable < hlc(until) {
        durable = timeout(LIMIT, applier.durable(&durable)).await.expect("the applier gets on")?;
    }
    Ok(())
}

async fn applied(target: &Target, before: &str, changes: impl Fn(&Changing) -> Vec<Change>) -> String {
    target.sql(before).await;
    let owner = own(target).await;
    let (route, t) = table();
    let mut applier = start(target.applier_config(owner.lease()), vec![route]).await;
    // Neighbours in the batch must not suffer.
    let neighbours = [transaction(11, vec![t.insert("100 x {}")]), transaction(13, vec![t.delete("100 - -")])];
    let [before, after] = neighbours;
    applier.submit(batch(10, vec![before, transaction(12, changes(&t)), after])).await.unwrap();
    applier.submit(batch(13, vec![transaction(14, vec![t.insert("101 y {}")])])).await.unwrap();
    durable(&mut applier, 14).await.unwrap();
    assert_eq!(target.number("SELECT count(*) FROM t WHERE id >= 100").await, 1);
    target.text("SELECT id, name, data, extra FROM t WHERE id < 100 ORDER BY id").await
}

const THREE: &str =
    r#"INSERT INTO t VALUES (1, 'a', '{"n": 1}', 10), (2, 'b', '{"n": 2}', 20), (3, 'c', '{"n": 3}', 30)"#;

#[tokio::test]
async fn swapped_values_arrive_and_columns_of_the_target_stay() {
    let target = Target::new(TABLE).await;
    let swapped = applied(&target, THREE, |t| vec![t.update(r#"1|b|{"m":1}"#), t.update(r#"2|a|{"m":2}"#)]);
    assert_eq!(swapped.await, r#"1|b|{"m": 1}|10 2|a|{"m": 2}|20 3|c|{"n": 3}|30"#);
}

#[tokio::test]
async fn a_chain_of_values_arrives_in_whatever_order_it_is_told() {
    let target = Target::new(TABLE).await;
    let chain =
        applied(&target, THREE, |t| vec![t.delete("3 - -"), t.update("1 b 1"), t.update("2 c 2"), t.insert("4 a 4")]);
    assert_eq!(chain.await, "1|b|1|10 2|c|2|20 4|a|4|7");
}

#[tokio::test]
async fn a_circle_of_values_through_several_tables_of_references_arrives() {
    let schema = "CREATE TABLE person (id int PRIMARY KEY, name text UNIQUE, chief int REFERENCES person);
                  CREATE TABLE desk (id int PRIMARY KEY, person int UNIQUE REFERENCES person);
                  INSERT INTO person VALUES (1, 'a', NULL), (2, 'b', 1), (3, 'c', 2);
                  INSERT INTO desk VALUES (1, 1), (2, 2), (3, 3)";
    let target = Target::new(schema).await;
    let owner = own(&target).await;
    let role = format!("limited_{}", target.name);
    target
        .sql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA tidegate TO {role};
             GRANT ALL ON ALL TABLES IN SCHEMA tidegate, public TO {role}"
        ))
        .await;
    let mut config = target.applier_config(owner.lease());
    config.settings = settings(&server().url_as(&role, "x", &target.name));
    let mut person = route(1, "person", &["id integer", "name text", "chief integer"], &[0]);
    let mut desk = route(2, "desk", &["id integer", "person integer"], &[0]);
    person.map.references = vec![TableName::new("public", "person")];
    desk.map.references = vec![TableName::new("public", "person")];
    (person.from, desk.from) = (hlc(0), hlc(0));
    let (p, d) = (Changing::new(&person), Changing::new(&desk));
    let mut applier = start(config, vec![desk, person]).await;
    assert!(applier.rights().foreign_keys_enforced);
    let round = vec![
        d.update("1 2"),
        d.update("2 3"),
        d.update("3 1"),
        p.update("1 b 3"),
        p.update("2 c -"),
        p.update("3 a 1"),
    ];
    applier.submit(batch(10, vec![transaction(11, round)])).await.unwrap();
    durable(&mut applier, 11).await.unwrap();
    assert_eq!(target.text("SELECT * FROM person ORDER BY 1").await, "1|b|3 2|c|- 3|a|1");
    assert_eq!(target.text("SELECT * FROM desk ORDER BY 1").await, "1|2 2|3 3|1");
}

/// A generated column forbids taking rows out and back; a chain needs no more than the right order.
#[tokio::test]
async fn where_rows_cannot_go_out_and_back_an_order_that_works_is_found() {
    let schema = "CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE, data jsonb,
                    extra int GENERATED ALWAYS AS (id * 10) STORED)";
    let target = Target::new(schema).await;
    let before = "INSERT INTO t VALUES (1, 'a', '1'), (2, 'b', '2'), (3, 'c', '3')";
    let chain = applied(&target, before, |t| vec![t.update("1 b 1"), t.update("2 c 2"), t.update("3 d 3")]);
    assert_eq!(chain.await, "1|b|1|10 2|c|2|20 3|d|3|30");
}

#[tokio::test]
async fn rows_without_a_key_are_written_beside_values_that_change_hands() {
    let target = Target::new(&format!("{TABLE}; CREATE TABLE log (n int, note text)")).await;
    target.sql(THREE).await;
    let owner = own(&target).await;
    let (route_t, t) = table();
    let mut log = with_full_identity(route(2, "log", &["n integer", "note text"], &[]));
    log.from = hlc(0);
    let l = Changing::new(&log);
    let mut applier = start(target.applier_config(owner.lease()), vec![route_t, log]).await;
    applier.submit(batch(10, vec![transaction(11, vec![l.insert("1 x"), l.insert("1 x")])])).await.unwrap();
    let swap = vec![l.delete("1 x"), t.update("1 b 1"), t.update("2 a 2"), l.rekey("1 x", "2 y"), l.insert("3 z")];
    applier.submit(batch(11, vec![transaction(12, swap)])).await.unwrap();
    durable(&mut applier, 12).await.unwrap();
    assert_eq!(target.text("SELECT id, name FROM t ORDER BY 1").await, "1|b 2|a 3|c");
    assert_eq!(target.text("SELECT * FROM log ORDER BY 1").await, "2|y 3|z");
}

#[tokio::test]
async fn a_row_that_is_refused_in_every_way_stops_the_stream_before_its_transaction() {
    let target = Target::new(TABLE).await;
    target.sql(THREE).await;
    let owner = own(&target).await;
    let (route, t) = table();
    let mut applier = start(target.applier_config(owner.lease()), vec![route]).await;
    let swap = transaction(11, vec![t.update("1 b 1"), t.update("2 a 2")]);
    let taken = transaction(12, vec![t.insert("9 i 9"), t.insert("8 c 8")]);
    applier.submit(batch(10, vec![swap, taken, transaction(13, vec![t.insert("5 e 5")])])).await.unwrap();
    let problem = durable(&mut applier, 13).await.unwrap_err();
    assert_eq!(problem.code, "AP055", "{problem}");
    assert!(problem.what.contains("(id)=(8)") && problem.what.contains(&hlc(12).to_string()), "{problem}");
    assert_eq!(target.checkpoint().await, hlc(11).to_string());
    assert_eq!(target.text("SELECT id, name FROM t ORDER BY 1").await, "1|b 2|a 3|c");
}

/// Seeds are printed; set `TIDEGATE_SEED` to see one again.
/// Changes that are made when they are read, as if they came from disk.
struct Made(Arc<dyn Fn(u64) -> Change + Send + Sync>, u64);

impl SpooledChanges for Made {
    fn read(&self) -> Result<ChangeReader, Problem> {
        let made = Arc::clone(&self.0);
        Ok(Box::new((0..self.1).map(move |index| Ok(made(index)))))
    }

    fn bytes(&self) -> u64 {
        self.1 * 100
    }
}

#[tokio::test]
async fn values_that_move_through_all_of_a_large_transaction_arrive() {
    const ROWS: u64 = 19_500;
    let target = Target::new("CREATE TABLE t (id int PRIMARY KEY, name int UNIQUE, extra int DEFAULT 7)").await;
    target.sql(&format!("INSERT INTO t SELECT g, g * 7919 % {ROWS} FROM generate_series(0, {}) AS g", ROWS - 1)).await;
    let owner = own(&target).await;
    let mut route = route(1, "t", &["id integer", "name integer"], &[0]);
    route.from = hlc(0);
    let t = Changing::new(&route);
    let mut applier = start(target.applier_config(owner.lease()), vec![route]).await;
    // Each row takes the value that another one, anywhere in the transaction, lets go.
    let change = move |n: u64| t.update(&format!("{n} {}", (n * 7919 + ROWS - 1) % ROWS));
    let changes = Changes::Spooled(Arc::new(Made(Arc::new(change), ROWS)));
    let large = Transaction { position: hlc(11), committed_at: Timestamp(0), xid: None, changes };
    applier.submit(batch(10, vec![large])).await.unwrap();
    durable(&mut applier, 11).await.unwrap();
    let moved = format!("SELECT count(*) FROM t WHERE name = (id::bigint * 7919 + {ROWS} - 1) % {ROWS} AND extra = 7");
    assert_eq!(target.number(&moved).await, ROWS as i64);
}

#[tokio::test]
async fn random_permutations_of_unique_values_arrive() {
    let seed = std::env::var("TIDEGATE_SEED").ok().map_or_else(
        || std::time::UNIX_EPOCH.elapsed().expect("the clock is past 1970").as_nanos() as u64,
        |text| text.parse().expect("TIDEGATE_SEED is a number"),
    );
    println!("seed {seed} (TIDEGATE_SEED)");
    let mut random = fastrand::Rng::with_seed(seed);
    let target = Target::new("CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE, data jsonb)").await;
    target.sql("INSERT INTO t SELECT i, 'n' || i, '0' FROM generate_series(1, 12) AS i").await;
    let owner = own(&target).await;
    let (route, t) = table();
    let mut applier = start(target.applier_config(owner.lease()), vec![route]).await;
    let mut names: Vec<Option<u32>> = (1..=12).map(Some).collect();
    let mut wall = 10;
    for _ in 0..20 {
        let mut transactions = Vec::new();
        for _ in 0..random.usize(1..5) {
            let before = names.clone();
            random.shuffle(&mut names);
            let at = |index: usize| (index + 1, before[index], names[index]);
            let all: Vec<_> = (0..names.len()).map(at).filter(|(_, old, new)| old != new).collect();
            let mut changes = Vec::new();
            changes.extend(all.iter().filter(|all| all.2.is_none()).map(|(id, ..)| t.delete(&format!("{id} - -"))));
            for (id, old, new) in &all {
                if let (Some(_), Some(new)) = (old, new) {
                    changes.push(t.update(&format!("{id} n{new} {id}")));
                }
            }
            for (id, old, new) in &all {
                if let (None, Some(new)) = (old, new) {
                    changes.push(t.insert(&format!("{id} n{new} {id}")));
                }
            }
            wall += 1;
            transactions.push(transaction(wall, changes));
            // From time to time a row goes, or one comes that takes a name of its own.
            let place = random.usize(0..names.len());
            let (id, change) = (place + 1, names[place]);
            names[place] = if change.is_some() { None } else { Some(wall as u32 * 100) };
            let change = match names[place] {
                None => t.delete(&format!("{id} - -")),
                Some(name) => t.insert(&format!("{id} n{name} {id}")),
            };
            wall += 1;
            transactions.push(transaction(wall, vec![change]));
        }
        let after = wall - transactions.len() as u64;
        applier.submit(batch(after, transactions)).await.unwrap();
    }
    durable(&mut applier, wall).await.unwrap();
    let here = names.iter().enumerate().filter_map(|(index, name)| Some(format!("{}|n{}", index + 1, (*name)?)));
    assert_eq!(target.text("SELECT id, name FROM t ORDER BY id").await, here.collect::<Vec<_>>().join(" "));
}
