//! What is written to CockroachDB, or to the stand-in for it.

use std::sync::{Arc, OnceLock};

use serde_json::json;
use tidegate_connect::Session;
use tidegate_model::{
    Applier, Batch, Change, ChangeReader, Changes, Position, Problem, Span, SpooledChanges, Stream, TableName,
    TableRoute, Timestamp, Transaction,
};
use tidegate_sql::applier::{ApplierConfig, ApplyProgress, Giant, SqlApplier, TruncateAs};
use tidegate_sql::state::{
    Lease, OwnerConfig, Ownership, Part, StateKey, StateSchema, install, read_checkpoint, store_start, take,
};
use tidegate_standin::{Standin, StandinOptions};
use tokio::time::timeout;
use tokio_postgres::SimpleQueryMessage;

use crate::proxy::Proxy;
use crate::support::{Changing, LIMIT, at, batch, durable, route, settings, transaction};

/// Shared by the tests that set no knob.
fn standin() -> &'static Standin {
    static STANDIN: OnceLock<Standin> = OnceLock::new();
    STANDIN.get_or_init(|| Standin::start(StandinOptions::default()).unwrap())
}

/// One that asks for transactions again and loses answers to commits, for tests that must not mind.
fn unreliable() -> &'static Standin {
    static STANDIN: OnceLock<Standin> = OnceLock::new();
    STANDIN.get_or_init(|| Standin::start(StandinOptions::default()).unwrap())
}

/// A database with state tables and some tables of its own.
struct Target {
    url: String,
    key: StateKey,
    session: Session,
}

impl Target {
    async fn new(standin: &Standin, name: &str, schema: &[&str]) -> Target {
        standin.create_database(name).unwrap();
        let url = standin.url(name);
        let session = Session::connect(&settings(&url), "test").await.unwrap();
        let key =
            StateKey { schema: StateSchema::default(), migration: name.parse().unwrap(), stream: Stream::Forward };
        install(&session, &key.schema, Part::Stream).await.unwrap();
        let target = Target { url, key, session };
        for statement in schema {
            target.sql(statement).await;
        }
        target
    }

    async fn sql(&self, sql: &str) {
        self.session.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// Returns what a query gives: columns joined by `|`, rows by a space, NULL as `-`.
    async fn text(&self, query: &str) -> String {
        let answer = self.session.simple_query(query).await.unwrap_or_else(|error| panic!("{query}: {error:?}"));
        let row = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|index| row.get(index).unwrap_or("-")).collect::<Vec<_>>().join("|"))
            }
            _ => None,
        };
        answer.iter().filter_map(row).collect::<Vec<_>>().join(" ")
    }

    async fn checkpoint(&self) -> Position {
        read_checkpoint(&self.session, &self.key).await.unwrap().unwrap().position.unwrap()
    }

    async fn own(&self) -> Ownership {
        let config = OwnerConfig { settings: settings(&self.url), key: self.key.clone(), take_over: false };
        let owner = timeout(LIMIT, take(&config, |_| {})).await.unwrap().unwrap();
        if owner.start().position.is_none() {
            store_start(&self.session, owner.lease(), &at(10), &json!({})).await.unwrap();
        }
        owner
    }

    fn config(&self, lease: &Lease) -> ApplierConfig {
        ApplierConfig::new(settings(&self.url), lease.clone())
    }

    async fn applier(&self, owner: &Ownership, routes: Vec<TableRoute>) -> SqlApplier {
        SqlApplier::start(self.config(owner.lease()), at(10), routes).await.unwrap()
    }
}

const TABLE: &str = r#"CREATE TABLE public.t (id INT4 PRIMARY KEY, name STRING UNIQUE)"#;

fn table() -> (TableRoute, Changing) {
    let route = route(1, "t", &["id integer", "name text"], &[0]);
    let changing = Changing::new(&route);
    (route, changing)
}

/// Changes that are made when they are read, as if they came from disk.
struct Made {
    count: u64,
    make: Box<dyn Fn(u64) -> Change + Send + Sync>,
}

struct Handle(Arc<Made>);

impl SpooledChanges for Handle {
    fn read(&self) -> Result<ChangeReader, Problem> {
        let made = Arc::clone(&self.0);
        Ok(Box::new((0..made.count).map(move |index| Ok((made.make)(index)))))
    }

    fn bytes(&self) -> u64 {
        self.0.count * 100
    }
}

fn spooled(after: Position, until: u64, count: u64, make: impl Fn(u64) -> Change + Send + Sync + 'static) -> Batch {
    let made = Handle(Arc::new(Made { count, make: Box::new(make) }));
    let changes = Changes::Spooled(Arc::new(made));
    let transactions = vec![Transaction { position: at(until), committed_at: Timestamp(0), xid: None, changes }];
    Batch { span: Span { after, until: at(until) }, transactions }
}

#[tokio::test]
async fn rows_and_checkpoint_arrive_together() {
    let target = Target::new(standin(), "together", &[TABLE]).await;
    let owner = target.own().await;
    let (route, t) = table();
    let mut applier = target.applier(&owner, vec![route]).await;
    assert!(applier.rights().foreign_keys_enforced);
    applier.submit(batch(10, vec![transaction(11, vec![t.insert("1 a"), t.insert("2 b")])])).await.unwrap();
    let changes = vec![t.update("2 c"), t.delete("1 -")];
    applier.submit(batch(11, vec![transaction(12, changes), transaction(13, vec![t.insert("3 a")])])).await.unwrap();
    let rekeyed = vec![t.rekey("3 -", "9 a"), t.rekey("2 -", "3 ~"), t.rekey("9 -", "2 ~")];
    applier.submit(batch(13, vec![transaction(14, rekeyed)])).await.unwrap();
    let watermark = Batch { span: Span { after: at(14), until: at(20) }, transactions: Vec::new() };
    applier.submit(watermark).await.unwrap();
    durable(&mut applier, 10, 20).await.unwrap();
    assert_eq!(target.text("SELECT id, name FROM t ORDER BY id").await, "2|a 3|c");
    assert_eq!(target.checkpoint().await, at(20));
    assert_eq!(applier.progress().borrow().batches_in_source_order, 0);
}

#[tokio::test]
async fn a_row_that_is_not_there_stops_the_stream_and_is_never_inserted() {
    let target = Target::new(standin(), "missing", &[TABLE]).await;
    let owner = target.own().await;
    let (route, t) = table();
    let mut applier = target.applier(&owner, vec![route]).await;
    let good = transaction(11, vec![t.insert("1 a")]);
    applier.submit(batch(10, vec![good, transaction(12, vec![t.insert("2 b"), t.update("17 c")])])).await.unwrap();
    let problem = durable(&mut applier, 10, 12).await.unwrap_err();
    assert_eq!(problem.code, "AP001", "{problem}");
    assert!(problem.what.contains("(id)=(17)"), "{problem}");
    assert_eq!(target.checkpoint().await, at(11));
    assert_eq!(target.text("SELECT id FROM t").await, "1");
}

#[tokio::test]
async fn a_key_that_is_there_already_is_refused_and_not_written_over() {
    let target = Target::new(standin(), "already", &[TABLE, "INSERT INTO public.t VALUES (1, 'mine')"]).await;
    let owner = target.own().await;
    let (route, t) = table();
    let mut applier = target.applier(&owner, vec![route]).await;
    applier.submit(batch(10, vec![transaction(11, vec![t.insert("1 a")])])).await.unwrap();
    assert_eq!(durable(&mut applier, 10, 11).await.unwrap_err().code, "AP055");
    assert_eq!(target.text("SELECT id, name FROM t").await, "1|mine");
}

#[tokio::test]
async fn values_of_every_kind_arrive_as_they_were() {
    let schema = [
        "CREATE TYPE public.state AS ENUM ('new', 'so so')",
        "CREATE TABLE public.item (id INT8 PRIMARY KEY, ok BOOL, small INT2, n INT4, code CHAR(5), state public.state,
           price DECIMAL(9, 2), data JSONB, bytes BYTES, at TIMESTAMPTZ, day DATE, took INTERVAL, tags STRING[],
           numbers INT4[], vary VARCHAR(10), bits BIT(3), many VARBIT, f FLOAT8, r FLOAT4, who UUID, net INET)",
    ];
    let target = Target::new(standin(), "values", &schema).await;
    let columns = [
        "id bigint",
        "ok boolean",
        "small smallint",
        "n integer",
        "code character",
        "state public.state",
        "price numeric",
        "data jsonb",
        "bytes bytea",
        "at timestamp with time zone",
        "day date",
        "took interval",
        "tags text[]",
        "numbers integer[]",
        "vary character varying",
        "bits bit",
        "many bit varying",
        "f double precision",
        "r real",
        "who uuid",
        "net inet",
    ];
    let item = route(1, "item", &columns, &[0]);
    let t = Changing::new(&item);
    let owner = target.own().await;
    let mut applier = target.applier(&owner, vec![item]).await;
    let values = r#"7|t|-3|21|ab|so so|1.50|{"a": [1, null]}|\x00ff|2024-02-29 12:00:00.5+00|2024-02-29|1 day 02:03:04|{a,"b c",NULL,"x\"y"}|{1,-2}|ü|101|0110011|1e-300|1.5|7f9c24e8-3b12-4fef-91e0-56a2d5a246ec|190.0.0.0/24"#;
    applier.submit(batch(10, vec![transaction(11, vec![t.insert(values)])])).await.unwrap();
    let changed = values.replace("so so", "new").replace(r"\x00ff", r"\x5c78");
    applier.submit(batch(11, vec![transaction(12, vec![t.update(&changed)])])).await.unwrap();
    durable(&mut applier, 10, 12).await.unwrap();
    let first =
        "SELECT id, ok, small, n, state, price, data, bytes, day, took, tags, numbers, vary, bits, many, who, net";
    let read = target.text(&format!("{first} FROM item")).await;
    let expected = r#"7|t|-3|21|new|1.50|{"a": [1, null]}|\x5c78|2024-02-29|1 day 02:03:04|{a,"b c",NULL,"x\"y"}|{1,-2}|ü|101|0110011|7f9c24e8-3b12-4fef-91e0-56a2d5a246ec|190.0.0.0/24"#;
    assert_eq!(read, expected);
    assert_eq!(target.text("SELECT count(*) FROM item WHERE at = '2024-02-29 12:00:00.5+00' AND r = 1.5").await, "1");
    let too_long = values.replace('ü', "12345678901").replacen('7', "8", 1);
    applier.submit(batch(12, vec![transaction(13, vec![t.insert(&too_long)])])).await.unwrap();
    assert_eq!(durable(&mut applier, 12, 13).await.unwrap_err().code, "AP057", "it is refused, not cut");
}

#[tokio::test]
async fn without_a_key_exactly_one_of_equal_rows_is_changed() {
    let schema = ["CREATE TABLE public.log (n DECIMAL, ok BOOL, data JSONB)"];
    let target = Target::new(standin(), "keyless", &schema).await;
    let log = route(1, "log", &["n numeric", "ok boolean", "data jsonb"], &[]);
    let l = Changing::new(&log);
    let owner = target.own().await;
    let mut applier = target.applier(&owner, vec![log]).await;
    let row = "1.0|t|{}";
    let changes = vec![
        l.insert(row),
        l.insert(row),
        l.insert("1.00|t|{}"),
        l.insert("-|-|-"),
        l.insert("-|-|-"),
        l.delete(row),
        l.delete("-|-|-"),
        l.rekey(row, "2|f|~"),
        l.insert(row),
    ];
    applier.submit(batch(10, vec![transaction(11, changes)])).await.unwrap();
    durable(&mut applier, 10, 11).await.unwrap();
    let rows = target.text("SELECT n, ok, data FROM log ORDER BY n::STRING NULLS FIRST").await;
    assert_eq!(rows, "-|-|- 1.0|t|{} 1.00|t|{} 2|f|{}");
    applier.submit(batch(11, vec![transaction(12, vec![l.delete("3|t|{}")])])).await.unwrap();
    assert_eq!(durable(&mut applier, 11, 12).await.unwrap_err().code, "AP001");
}

#[tokio::test]
async fn rows_that_reference_each_other_in_a_circle_come_and_go() {
    let schema = [
        "CREATE TABLE public.company (id INT4 PRIMARY KEY, head INT4 NOT NULL)",
        "CREATE TABLE public.person (id INT4 PRIMARY KEY, company INT4 NOT NULL REFERENCES public.company,
           chief INT4 REFERENCES public.person)",
        "ALTER TABLE public.company ADD CONSTRAINT head FOREIGN KEY (head) REFERENCES public.person",
    ];
    let target = Target::new(standin(), "circle", &schema).await;
    let (mut company, mut person) = (
        route(1, "company", &["id integer", "head integer"], &[0]),
        route(2, "person", &["id integer", "company integer", "chief integer"], &[0]),
    );
    company.map.references = vec![TableName::new("public", "person")];
    person.map.references = vec![TableName::new("public", "company"), TableName::new("public", "person")];
    let (c, p) = (Changing::new(&company), Changing::new(&person));
    let owner = target.own().await;
    let mut applier = target.applier(&owner, vec![company, person]).await;
    // As under deferred constraints at the source: each needs the other, and a child stands before its chief.
    let founded = vec![c.insert("1 1"), p.insert("2 1 1"), p.insert("1 1 -"), p.insert("3 1 2")];
    applier.submit(batch(10, vec![transaction(11, founded)])).await.unwrap();
    durable(&mut applier, 10, 11).await.unwrap();
    assert_eq!(target.text("SELECT id, company, chief FROM person ORDER BY id").await, "1|1|- 2|1|1 3|1|2");
    let moved = vec![c.insert("2 3"), p.update("3 2 -"), p.delete("2 - -")];
    let closed = vec![c.delete("1 -"), p.delete("1 - -")];
    applier.submit(batch(11, vec![transaction(12, moved), transaction(13, closed)])).await.unwrap();
    durable(&mut applier, 11, 13).await.unwrap();
    assert_eq!(target.text("SELECT id, company, chief FROM person").await, "3|2|-");
    assert_eq!(applier.progress().borrow().batches_in_source_order, 0);
}

#[tokio::test]
async fn a_value_freed_and_taken_across_rows_arrives() {
    let target = Target::new(standin(), "freed", &[TABLE]).await;
    let owner = target.own().await;
    let (route, t) = table();
    let mut applier = target.applier(&owner, vec![route]).await;
    applier.submit(batch(10, vec![transaction(11, vec![t.insert("1 a"), t.insert("2 b")])])).await.unwrap();
    let replaced = vec![t.delete("1 -"), t.insert("3 a")];
    applier.submit(batch(11, vec![transaction(12, replaced)])).await.unwrap();
    durable(&mut applier, 10, 12).await.unwrap();
    assert_eq!(applier.progress().borrow().batches_in_source_order, 0, "a table alone frees its values first");
    let swap = vec![t.update("3 z"), t.update("2 a"), t.update("3 b")];
    applier.submit(batch(12, vec![transaction(13, swap)])).await.unwrap();
    durable(&mut applier, 12, 13).await.unwrap();
    assert_eq!(target.text("SELECT id, name FROM t ORDER BY id").await, "2|a 3|b");
    assert_eq!(applier.progress().borrow().batches_in_source_order, 1);
}

#[tokio::test]
async fn truncate_may_be_a_delete() {
    let target = Target::new(standin(), "truncated", &[TABLE, "INSERT INTO public.t VALUES (1, 'a')"]).await;
    let owner = target.own().await;
    let (route, t) = table();
    for (truncate_as, lsn) in [(TruncateAs::Delete, 10), (TruncateAs::Truncate, 11)] {
        let config = ApplierConfig { truncate_as, ..target.config(owner.lease()) };
        let mut applier = SqlApplier::start(config, at(lsn), vec![route.clone()]).await.unwrap();
        let changes = vec![t.truncate(), t.insert(&format!("{lsn} x"))];
        applier.submit(batch(lsn, vec![transaction(lsn + 1, changes)])).await.unwrap();
        durable(&mut applier, lsn, lsn + 1).await.unwrap();
        assert_eq!(target.text("SELECT id, name FROM t").await, format!("{lsn}|x"), "{truncate_as:?}");
    }
}

#[tokio::test]
async fn a_lost_answer_is_not_applied_twice() {
    let target = Target::new(standin(), "lost", &[TABLE]).await;
    let owner = target.own().await;
    let (route, t) = table();
    let port = standin().address().port();
    let proxy = Proxy::before(port).await;
    let mut config = target.config(owner.lease());
    config.settings = settings(&target.url.replace(&format!(":{port}/"), &format!(":{}/", proxy.port)));
    let mut applier = SqlApplier::start(config, at(10), vec![route]).await.unwrap();
    applier.submit(batch(10, vec![transaction(11, vec![t.insert("1 a")])])).await.unwrap();
    durable(&mut applier, 10, 11).await.unwrap();
    proxy.withhold_answers();
    for lsn in 11..14_u64 {
        applier.submit(batch(lsn, vec![transaction(lsn + 1, vec![t.insert(&format!("{lsn} n{lsn}"))])])).await.unwrap();
    }
    let all = async {
        while target.text("SELECT count(*) FROM t").await != "4" {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, all).await.expect("the server commits all");
    proxy.cut();
    durable(&mut applier, 11, 14).await.unwrap();
    assert_eq!(target.text("SELECT id FROM t ORDER BY 1").await, "1 11 12 13");
}

#[tokio::test]
async fn transactions_asked_for_again_and_commits_nobody_knows_of_lose_and_repeat_nothing() {
    let standin = unreliable();
    let target = Target::new(standin, "again", &[TABLE]).await;
    let owner = target.own().await;
    let (route, t) = table();
    let mut applier = target.applier(&owner, vec![route]).await;
    target.sql("SET CLUSTER SETTING standin.retry_errors = 0.05").await;
    target.sql("SET CLUSTER SETTING standin.ambiguous_commits = 0.05").await;
    for lsn in 10..160_u64 {
        let changes = vec![t.insert(&format!("{lsn} n{lsn}")), t.insert(&format!("{} m{lsn}", lsn + 1_000))];
        let moved = vec![t.update(&format!("{} k{lsn}", lsn + 1_000))];
        let until = 10 + (lsn - 9) * 2;
        let transactions = vec![transaction(until - 1, changes), transaction(until, moved)];
        applier.submit(batch(until - 2, transactions)).await.unwrap();
    }
    durable(&mut applier, 10, 310).await.unwrap();
    target.sql("SET CLUSTER SETTING standin.retry_errors = 0").await;
    target.sql("SET CLUSTER SETTING standin.ambiguous_commits = 0").await;
    assert_eq!(target.text("SELECT count(*), min(id), max(id) FROM t").await, "300|10|1159");
    assert_eq!(target.text("SELECT count(*) FROM t WHERE name LIKE 'k%'").await, "150");
    let progress = applier.progress().borrow().clone();
    assert_eq!((progress.retrying, progress.applied), (None, at(310)));
}

#[tokio::test]
async fn a_giant_transaction_is_written_in_parts_and_goes_on_at_its_part() {
    let target = Target::new(standin(), "giant", &[TABLE]).await;
    let owner = target.own().await;
    let (route, t) = table();
    let config = || ApplierConfig { giant_transaction_bytes: 1_000, ..target.config(owner.lease()) };
    let mut applier = SqlApplier::start(config(), at(10), vec![route.clone()]).await.unwrap();
    let made = |t: Changing| move |n: u64| t.insert(&format!("{n} n{n}"));
    applier.submit(spooled(at(10), 11, 30_000, made(Changing::new(&route)))).await.unwrap();
    let mut progress = applier.progress();
    let begun = |progress: &ApplyProgress| progress.giant.as_ref().is_some_and(|giant| giant.part >= 10_000);
    let seen = timeout(LIMIT, progress.wait_for(begun)).await.unwrap().unwrap().clone();
    let Some(Giant { position, part }) = seen.giant else { panic!("it was there") };
    assert_eq!(position, at(11));
    assert_eq!(part % 5_000, 0);
    drop(applier);
    // A new process: the source tells the whole transaction again.
    let stands = target.checkpoint().await;
    assert!(stands.commit == at(11).commit && stands.part >= part, "{stands}");
    let rows = target.text("SELECT count(*) FROM t").await.parse::<u64>().unwrap();
    assert!(rows >= stands.part);
    let mut applier = loop {
        // What was under way when it was dropped may still be committed.
        let stands = target.checkpoint().await;
        match SqlApplier::start(config(), stands.clone(), vec![route.clone()]).await {
            Ok(mut applier) => {
                applier.submit(spooled(stands, 11, 30_000, made(Changing::new(&route)))).await.unwrap();
                break applier;
            }
            Err(problem) => assert_eq!(problem.code, "AP053", "{problem}"),
        }
    };
    applier.submit(batch(11, vec![transaction(12, vec![t.delete("0 -")])])).await.unwrap();
    durable(&mut applier, 10, 12).await.unwrap();
    assert_eq!(target.text("SELECT count(*), min(id), max(id) FROM t").await, "29999|1|29999");
    assert_eq!(applier.progress().borrow().giant, None);
    assert_eq!(target.checkpoint().await, at(12));
}

#[tokio::test]
async fn a_giant_transaction_with_a_bad_row_stops_at_its_part() {
    let target = Target::new(standin(), "giant_bad", &[TABLE]).await;
    let owner = target.own().await;
    let (route, _) = table();
    let config = ApplierConfig { giant_transaction_bytes: 1_000, ..target.config(owner.lease()) };
    let mut applier = SqlApplier::start(config, at(10), vec![route.clone()]).await.unwrap();
    let t = Changing::new(&route);
    let made = move |n| if n == 11_000 { t.update("77777 x") } else { t.insert(&format!("{n} n{n}")) };
    applier.submit(spooled(at(10), 12, 12_000, made)).await.unwrap();
    let mut reached = at(10);
    let problem = loop {
        match timeout(LIMIT, applier.durable(&reached)).await.unwrap() {
            Ok(position) => reached = position,
            Err(problem) => break problem,
        }
    };
    assert_eq!(problem.code, "AP001", "{problem}");
    assert_eq!(reached, Position { part: 10_000, ..at(12) });
    assert_eq!(target.checkpoint().await, reached);
    assert_eq!(target.text("SELECT count(*) FROM t").await, "10000");
}

/// Removals of parents and then of their children, as a cascade of the source tells them.
fn cascade(parents: &TableRoute, children: &TableRoute, count: u64) -> impl Fn(u64) -> Change + Send + Sync + 'static {
    let (parent, child) = (Changing::new(parents), Changing::new(children));
    move |n| if n < count { parent.delete(&format!("{n} -")) } else { child.delete(&format!("{} -", n - count)) }
}

async fn family(name: &str, rows: u64) -> (Target, [TableRoute; 2]) {
    let parents = "CREATE TABLE public.p (id INT4 PRIMARY KEY, note STRING)";
    let children = "CREATE TABLE public.c (id INT4 PRIMARY KEY, parent INT4 REFERENCES public.p (id))";
    let target = Target::new(standin(), name, &[parents, children]).await;
    for table in ["p", "c"] {
        target
            .sql(&format!("INSERT INTO public.{table} SELECT g, g FROM generate_series(0, {}) AS s(g)", rows - 1))
            .await;
    }
    let parents = route(1, "p", &["id integer", "note text"], &[0]);
    let mut children = route(2, "c", &["id integer", "parent integer"], &[0]);
    children.map.references = vec![TableName::new("public", "p")];
    (target, [parents, children])
}

#[tokio::test]
async fn removals_of_a_large_transaction_that_need_each_other_arrive_together() {
    let (target, [parents, children]) = family("cascade", 11_000).await;
    let owner = target.own().await;
    let mut applier = target.applier(&owner, vec![parents.clone(), children.clone()]).await;
    applier.submit(spooled(at(10), 12, 22_000, cascade(&parents, &children, 11_000))).await.unwrap();
    durable(&mut applier, 10, 12).await.unwrap();
    assert_eq!(target.text("SELECT (SELECT count(*) FROM public.p), (SELECT count(*) FROM public.c)").await, "0|0");
}

#[tokio::test]
async fn parts_of_a_giant_transaction_that_need_each_other_are_written_in_larger_ones() {
    let (target, [parents, children]) = family("cascade_parts", 11_000).await;
    let owner = target.own().await;
    let config = ApplierConfig { giant_transaction_bytes: 1 << 20, ..target.config(owner.lease()) };
    let routes = vec![parents.clone(), children.clone()];
    let mut applier = SqlApplier::start(config, at(10), routes).await.unwrap();
    applier.submit(spooled(at(10), 12, 22_000, cascade(&parents, &children, 11_000))).await.unwrap();
    durable(&mut applier, 10, 12).await.unwrap();
    assert_eq!(target.text("SELECT (SELECT count(*) FROM public.p), (SELECT count(*) FROM public.c)").await, "0|0");
}

#[tokio::test]
async fn changes_that_need_each_other_and_are_too_far_apart_stop_the_stream_with_their_own_error() {
    let (target, [parents, children]) = family("too_far", 10).await;
    let owner = target.own().await;
    let mut applier = target.applier(&owner, vec![parents.clone(), children.clone()]).await;
    let (parent, child) = (Changing::new(&parents), Changing::new(&children));
    let filler = "x".repeat(20_000);
    let changes = move |n| match n {
        0 => parent.delete("1 -"),
        6_000 => child.delete("1 -"),
        n => parent.insert(&format!("{} {filler}", n + 100)),
    };
    applier.submit(spooled(at(10), 12, 6_001, changes)).await.unwrap();
    let problem = durable(&mut applier, 10, 12).await.unwrap_err();
    assert_eq!(problem.code, "AP068", "{problem}");
    assert!(problem.what.contains("public.p") && problem.why.contains("23503"), "{problem}");
    assert_eq!(
        (target.checkpoint().await, target.text("SELECT count(*) FROM public.p").await),
        (at(10), "10".to_owned())
    );
}

#[tokio::test]
async fn under_fire_a_giant_transaction_arrives_once() {
    let standin = unreliable();
    let target = Target::new(standin, "giant_fire", &[TABLE]).await;
    let owner = target.own().await;
    let (route, _) = table();
    let config = ApplierConfig { giant_transaction_bytes: 1_000, ..target.config(owner.lease()) };
    let mut applier = SqlApplier::start(config, at(10), vec![route.clone()]).await.unwrap();
    target.sql("SET CLUSTER SETTING standin.retry_errors = 0.05").await;
    let t = Changing::new(&route);
    applier.submit(spooled(at(10), 11, 40_000, move |n| t.insert(&format!("{n} n{n}")))).await.unwrap();
    timeout(LIMIT, durable(&mut applier, 10, 11)).await.unwrap().unwrap();
    assert_eq!(target.text("SELECT count(*), min(id), max(id) FROM t").await, "40000|0|39999");
}

/// Makes the server refuse transactions that insert more than `rows_max` rows, as one short of memory would.
async fn short_of_memory(database: &str, rows_max: u64) {
    let url = standin().backing().expect("it has a server of its own").url(database);
    let backing = Session::connect(&settings(&url), "test").await.unwrap();
    let sql = format!(
        "CREATE FUNCTION public.refuse_many() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF (SELECT count(*) FROM public.t WHERE xmin::text = pg_current_xact_id()::xid::text) > {rows_max} THEN
                RAISE 'memory budget exceeded' USING ERRCODE = '53200';
            END IF;
            RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER refuse_many AFTER INSERT ON public.t DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION public.refuse_many()"
    );
    backing.batch_execute(&sql).await.unwrap();
}

fn rows_from(t: &Changing, first: u64, count: u64) -> Vec<Change> {
    (first..first + count).map(|id| t.insert(&format!("{id} n{id}"))).collect()
}

#[tokio::test]
async fn where_the_target_takes_less_batches_become_smaller_and_stay_whole_transactions() {
    let target = Target::new(standin(), "smaller", &[TABLE]).await;
    short_of_memory("smaller", 40).await;
    let owner = target.own().await;
    let (route, t) = table();
    let mut applier = target.applier(&owner, vec![route]).await;
    let mut lsn = 10;
    for _ in 0..4 {
        let transactions = (1..=30).map(|n| transaction(lsn + n, rows_from(&t, (lsn + n) * 10, 10))).collect();
        applier.submit(batch(lsn, transactions)).await.unwrap();
        lsn += 30;
    }
    durable(&mut applier, 10, lsn).await.unwrap();
    assert_eq!(target.text("SELECT count(*) FROM t").await, "1200");
    let progress = applier.progress().borrow().clone();
    assert!(progress.rows_per_transaction_max.is_some_and(|max| max < 100), "{progress:?}");
    assert_eq!((progress.rows, progress.transactions, progress.batches_in_source_order), (1_200, 120, 0));
    assert_eq!((progress.giant, progress.retrying), (None, None));
}

#[tokio::test]
async fn a_transaction_that_is_too_large_alone_is_written_in_parts() {
    let target = Target::new(standin(), "alone", &[TABLE]).await;
    short_of_memory("alone", 40).await;
    let owner = target.own().await;
    let (route, t) = table();
    let mut applier = target.applier(&owner, vec![route]).await;
    let mut progress = applier.progress();
    let transactions = vec![
        transaction(11, rows_from(&t, 1_000, 5)),
        transaction(12, rows_from(&t, 2_000, 300)),
        transaction(13, rows_from(&t, 3_000, 5)),
    ];
    applier.submit(batch(10, transactions)).await.unwrap();
    let in_parts = |progress: &ApplyProgress| progress.giant.as_ref().is_some_and(|giant| giant.position == at(12));
    timeout(LIMIT, progress.wait_for(in_parts)).await.unwrap().unwrap();
    durable(&mut applier, 10, 13).await.unwrap();
    assert_eq!(target.text("SELECT count(*), min(id), max(id) FROM t").await, "310|1000|3004");
    assert_eq!(applier.progress().borrow().giant, None);
    assert_eq!(target.checkpoint().await, at(13));
}

#[tokio::test]
async fn a_row_that_no_message_holds_stops_the_stream() {
    let target = Target::new(standin(), "wide", &[TABLE]).await;
    let owner = target.own().await;
    let (route, t) = table();
    let mut applier = target.applier(&owner, vec![route]).await;
    let wide = transaction(12, vec![t.insert("1 a"), t.insert(&format!("2 {}", "x".repeat(17 << 20)))]);
    applier.submit(batch(10, vec![transaction(11, vec![t.insert("7 g")]), wide])).await.unwrap();
    let mut reached = at(10);
    let problem = loop {
        match timeout(LIMIT, applier.durable(&reached)).await.unwrap() {
            Ok(position) => reached = position,
            Err(problem) => break problem,
        }
    };
    assert_eq!(problem.code, "AP070", "{problem}");
    assert!(problem.what.contains("change 2 ") && problem.what.contains(&at(12).to_string()), "{problem}");
    assert_eq!(reached, Position { part: 1, ..at(12) });
}
