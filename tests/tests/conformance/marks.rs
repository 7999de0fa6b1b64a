//! Loop prevention on one PostgreSQL: what an applying session marks, the reader of the same migration drops, and
//! nothing else.

use std::sync::Arc;

use tidegate_connect::{Session, Settings};
use tidegate_model::{
    Applier, Batch, Change, Changes, ColumnName, Event, Lsn, MigrationName, Position, Source, SourceTable, Span,
    Stream, TableRoute, Timestamp, Transaction, Value,
};
use tidegate_source_postgres::{PostgresSource, SourceConfig, history};
use tidegate_sql::applier::{ApplierConfig, Mark, SqlApplier};
use tidegate_sql::catalog::{self, WantedTable};
use tidegate_sql::state::{self, Lease, OwnerConfig, Part, StateKey, StateSchema};
use tidegate_testkit::memory;
use tidegate_testkit::wait::{PATIENCE, wait_until};
use tidegate_testkit::{Database, source_server, unique_name};
use tidegate_throwaway::Server;
use tokio::time::timeout;

/// A database that one direction of a migration writes and the other reads.
struct Meeting {
    database: Database,
    name: MigrationName,
}

impl Meeting {
    fn new(server: &Arc<Server>) -> Meeting {
        let name = unique_name("marks");
        let database = Database::create(server, &name);
        let name: MigrationName = name.parse().unwrap();
        let slot = name.object_name();
        database.sql(&format!(
            "CREATE TABLE t (id bigint PRIMARY KEY, note text); CREATE PUBLICATION {slot} FOR TABLE t;
             SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
        ));
        Meeting { database, name }
    }

    fn lease(&self) -> Lease {
        let key = StateKey { schema: StateSchema::default(), migration: self.name.clone(), stream: Stream::Reverse };
        Lease { key, epoch: 7 }
    }

    /// Makes a role that may write the table and nothing else.
    fn role(&self) -> String {
        let role = format!("{}_writer", self.name);
        self.database.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'; GRANT ALL ON t TO {role}"));
        role
    }

    async fn connect(&self) -> Session {
        Session::connect(&Settings::parse(&self.database.url()).unwrap(), "test").await.unwrap()
    }

    async fn connect_as(&self, role: &str) -> Session {
        Session::connect(&Settings::parse(&self.url_as(role)).unwrap(), "test").await.unwrap()
    }

    fn url_as(&self, role: &str) -> String {
        let (port, database) = (self.database.host.port(), &self.database.name);
        format!("host=127.0.0.1 port={port} dbname={database} user={role} password=secret passfile=/dev/null")
    }

    async fn mark(&self, session: &Session) -> Mark {
        Mark::set_up(session, &self.lease()).await.unwrap_or_else(|problem| panic!("{problem}"))
    }

    fn origin(&self, number: u32) -> Option<String> {
        Some(self.name.origin_name(number))
    }

    /// Takes what the reader gives up to and with the row `last`; returns its rows and how many transactions of our own
    /// it dropped.
    async fn read(&self, last: i64) -> (Vec<i64>, u64) {
        let settings = Settings::parse(&self.database.url()).unwrap();
        let slot = self.name.object_name();
        let history = history::identify(&settings, &self.name, &slot, &slot).await.unwrap();
        let sql = format!("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{slot}'");
        let from = Position::postgres(self.database.sql(&sql).parse().unwrap());
        let config = SourceConfig { drop_own: true, ..SourceConfig::new(settings, self.name.clone()) };
        let mut source = PostgresSource::start(config, from, history).await.unwrap();
        let mut ids = Vec::new();
        while ids.last() != Some(&last) {
            let event = timeout(PATIENCE, source.next()).await.expect("an event in time").unwrap();
            let Event::Commit(transaction) = event else { continue };
            ids.extend(transaction.changes.read().unwrap().map(|change| inserted(&change.unwrap())));
        }
        let dropped = source.received().borrow().dropped;
        source.close().await;
        (ids, dropped)
    }
}

fn inserted(change: &Change) -> i64 {
    let Change::Insert { new, .. } = change else { panic!("only rows are inserted here: {change:?}") };
    let Value::Text(id) = new.value(0) else { panic!("an id is text") };
    std::str::from_utf8(id).unwrap().parse().unwrap()
}

/// Writes one row as an applier does.
async fn apply(session: &Session, mark: &Mark, id: i64) {
    let first = mark.first_statement().map_or(String::new(), |sql| format!("; {sql}"));
    let sql = format!("BEGIN READ WRITE{first}; INSERT INTO public.t VALUES ({id}, 'applied'); COMMIT");
    session.batch_execute(&sql).await.unwrap();
}

fn of_the_application(meeting: &Meeting, id: i64) {
    meeting.database.sql(&format!("INSERT INTO t VALUES ({id}, 'application')"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_superuser_marks_with_origins_of_its_own_and_only_that_is_dropped() {
    let meeting = Meeting::new(&source_server());
    let session = meeting.connect().await;
    // As an applying session has it.
    session.batch_execute("SET default_transaction_read_only = on").await.unwrap();
    let mark = meeting.mark(&session).await;
    assert_eq!(mark.origin().map(str::to_owned), meeting.origin(1));
    let another = meeting.connect().await;
    let another_mark = meeting.mark(&another).await;
    assert_eq!(another_mark.origin().map(str::to_owned), meeting.origin(2));
    of_the_application(&meeting, 1);
    apply(&session, &mark, 2).await;
    apply(&another, &another_mark, 3).await;
    of_the_application(&meeting, 4);
    apply(&session, &mark, 5).await;
    // Without the message the origin alone says it.
    session.batch_execute("BEGIN READ WRITE; INSERT INTO public.t VALUES (6, 'applied'); COMMIT").await.unwrap();
    let other = Meeting { database: meeting.database.clone(), name: "other".parse().unwrap() };
    let foreign = other.connect().await;
    let foreign_mark = other.mark(&foreign).await;
    apply(&foreign, &foreign_mark, 7).await;
    of_the_application(&meeting, 8);
    assert_eq!(meeting.read(8).await, (vec![1, 4, 7, 8], 4));
    drop((session, another, foreign));
    meeting.database.discard();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordinary_role_marks_with_messages() {
    let meeting = Meeting::new(&source_server());
    let session = meeting.connect_as(&meeting.role()).await;
    let mark = meeting.mark(&session).await;
    assert_eq!(mark.origin(), None);
    of_the_application(&meeting, 1);
    apply(&session, &mark, 2).await;
    apply(&session, &Mark::by_message(&meeting.lease()), 3).await;
    of_the_application(&meeting, 4);
    assert_eq!(meeting.read(4).await, (vec![1, 4], 2));
    drop(session);
    meeting.database.discard();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordinary_role_uses_origins_where_it_was_allowed_to() {
    let meeting = Meeting::new(&source_server());
    let role = meeting.role();
    let grant = |function: &str| {
        meeting.database.sql(&format!("GRANT EXECUTE ON FUNCTION {function}(text) TO {role}"));
    };
    // One that a predecessor left may be taken, no new one made.
    grant("pg_replication_origin_session_setup");
    let session = meeting.connect_as(&role).await;
    assert_eq!(meeting.mark(&session).await.origin(), None);
    meeting.database.sql(&format!("SELECT pg_replication_origin_create('{}')", meeting.name.origin_name(3)));
    assert_eq!(meeting.mark(&session).await.origin().map(str::to_owned), meeting.origin(3));
    grant("pg_replication_origin_create");
    let another = meeting.connect_as(&role).await;
    let mark = meeting.mark(&another).await;
    assert_eq!(mark.origin().map(str::to_owned), meeting.origin(1));
    apply(&another, &mark, 1).await;
    of_the_application(&meeting, 2);
    assert_eq!(meeting.read(2).await, (vec![2], 1));
    // Without the right to emit messages the origin has to do, and without either nothing is written.
    meeting.database.sql(
        "DO $$ DECLARE f regprocedure; BEGIN
             FOR f IN SELECT oid FROM pg_proc WHERE proname = 'pg_logical_emit_message' LOOP
                 EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
             END LOOP;
         END $$",
    );
    let third = meeting.connect_as(&role).await;
    let mark = meeting.mark(&third).await;
    assert!(mark.origin().is_some() && mark.first_statement().is_none());
    apply(&third, &mark, 3).await;
    of_the_application(&meeting, 4);
    assert_eq!(meeting.read(4).await, (vec![2, 4], 2));
    meeting.database.sql(&format!("REVOKE EXECUTE ON FUNCTION pg_replication_origin_session_setup(text) FROM {role}"));
    let refused = Mark::set_up(&meeting.connect_as(&role).await, &meeting.lease()).await.unwrap_err();
    assert_eq!(refused.code, "AP080", "{refused}");
    drop((session, another, third));
    meeting.database.discard();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_origin_of_a_session_that_died_is_taken_again() {
    let meeting = Meeting::new(&source_server());
    let mut busy = Vec::new();
    for round in 1..=12 {
        let session = meeting.connect().await;
        let mark = meeting.mark(&session).await;
        assert_eq!(mark.origin().map(str::to_owned), meeting.origin(1));
        // In the middle of a transaction, which leaves nothing.
        session.batch_execute(&format!("BEGIN; INSERT INTO public.t VALUES ({round}, 'lost')")).await.unwrap();
        let pid: i32 = session.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        meeting.database.sql(&format!("SELECT pg_terminate_backend({pid})"));
        let gone = format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = {pid}");
        wait_until("the session is gone", PATIENCE, || meeting.database.holds(&gone));
        busy.push(session);
    }
    let made = format!("SELECT count(*) FROM pg_replication_origin WHERE roname LIKE 'tidegate_{}%'", meeting.name);
    assert_eq!(meeting.database.number(&made), 1);
    drop(busy);
    meeting.database.discard();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_begin_at_once_share_no_origin_and_find_an_end() {
    let meeting = Meeting::new(&source_server());
    let sessions = futures_util::future::join_all((0..10).map(|_| meeting.connect())).await;
    let marks = futures_util::future::join_all(sessions.iter().map(|session| meeting.mark(session))).await;
    let mut origins: Vec<&str> = marks.iter().filter_map(Mark::origin).collect();
    origins.sort_unstable();
    origins.dedup();
    assert_eq!(origins.len(), marks.iter().filter(|mark| mark.origin().is_some()).count(), "{marks:?}");
    assert_eq!(origins.len(), 4, "four and no more: {marks:?}");
    assert!(marks.iter().all(|mark| mark.first_statement().is_some()));
    for (number, (session, mark)) in sessions.iter().zip(&marks).enumerate() {
        apply(session, mark, number as i64).await;
    }
    of_the_application(&meeting, 10);
    assert_eq!(meeting.read(10).await, (vec![10], 10));
    drop(sessions);
    meeting.database.discard();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_server_has_no_place_for_an_origin_messages_do() {
    let server = Arc::new(Server::builder().setting("max_replication_slots", "1").start().unwrap());
    let meeting = Meeting::new(&server);
    let session = meeting.connect().await;
    assert!(meeting.mark(&session).await.origin().is_some());
    let another = meeting.connect().await;
    let mark = meeting.mark(&another).await;
    assert_eq!(mark.origin(), None);
    apply(&another, &mark, 1).await;
    of_the_application(&meeting, 2);
    assert_eq!(meeting.read(2).await, (vec![2], 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_is_dropped_is_still_known_for_what_was_written_under_it() {
    let meeting = Meeting::new(&source_server());
    let session = meeting.connect().await;
    let mark = meeting.mark(&session).await;
    apply(&session, &mark, 1).await;
    session.batch_execute("BEGIN READ WRITE; INSERT INTO public.t VALUES (2, 'origin alone'); COMMIT").await.unwrap();
    session.close().await;
    meeting.database.sql(&format!("SELECT pg_replication_origin_drop('{}')", mark.origin().unwrap()));
    of_the_application(&meeting, 3);
    assert_eq!(meeting.read(3).await, (vec![3], 2));
    meeting.database.discard();
}

/// Batches of one transaction each: small, large enough to be streamed, one that begins with TRUNCATE, one of nothing
/// but its checkpoint.
fn batches(start: &Position, table: &Arc<SourceTable>) -> Vec<Batch> {
    let insert = |first: u64, count: u64| (first..first + count).map(|id| memory::insert(table, id));
    let truncate = || Change::Truncate { tables: vec![Arc::clone(table)] };
    let contents: [Vec<Change>; 5] = [
        insert(0, 3).collect(),
        insert(100_000, 20_000).collect(),
        std::iter::once(truncate()).chain(insert(200_000, 20_000)).collect(),
        vec![],
        insert(300_000, 1).chain([memory::update(table, 200_000), truncate()]).collect(),
    ];
    let mut after = start.clone();
    let batch = |changes: Vec<Change>| {
        let until = Position::postgres(Lsn(after.lsn().unwrap().0 + 100));
        let span = Span { after: std::mem::replace(&mut after, until.clone()), until: until.clone() };
        let changes = Changes::Memory(changes.into());
        let transaction = Transaction { position: until, committed_at: Timestamp(0), xid: None, changes };
        let transactions = if transaction.changes.bytes() == 0 { vec![] } else { vec![transaction] };
        Batch { span, transactions }
    };
    contents.into_iter().map(batch).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_an_applier_writes_is_dropped_and_nothing_else() {
    let server = Arc::new(Server::builder().setting("logical_decoding_work_mem", "64kB").start().unwrap());
    for is_superuser in [true, false] {
        let meeting = Meeting::new(&server);
        let role = meeting.role();
        meeting.database.sql(&format!("GRANT CREATE ON DATABASE {} TO {role}", meeting.database.name));
        let text = match is_superuser {
            true => meeting.database.url(),
            false => meeting.url_as(&role),
        };
        let settings = Settings::parse(&text).unwrap();
        let session = Session::connect(&settings, "test").await.unwrap();
        let key = meeting.lease().key;
        state::install(&session, &key.schema, Part::Stream).await.unwrap();
        let owner = OwnerConfig { settings: settings.clone(), key, take_over: false };
        let ownership = state::take(&owner, |_| {}).await.unwrap_or_else(|problem| panic!("{problem}"));
        let start = Position::postgres(Lsn(1_000_000));
        state::store_start(&session, ownership.lease(), &start, &serde_json::json!({})).await.unwrap();

        let table = memory::table("t");
        let targets = catalog::read_tables(&session, std::slice::from_ref(&table.name)).await.unwrap();
        let wanted = WantedTable {
            source: SourceTable::clone(&table),
            primary_key: vec![ColumnName::from("id")],
            identity_whole: true,
        };
        let map = catalog::map_table(&wanted, &targets[&table.name]).unwrap();
        let route = TableRoute { map, from: Position::postgres(Lsn(0)) };
        let config = ApplierConfig { mark: true, ..ApplierConfig::new(settings, ownership.lease().clone()) };
        let mut applier = SqlApplier::start(config, start.clone(), vec![route]).await.unwrap();

        let batches = batches(&start, &table);
        let count = batches.len() as u64;
        let mut durable = start;
        for (number, batch) in batches.into_iter().enumerate() {
            let until = batch.span.until.clone();
            applier.submit(batch).await.unwrap();
            while durable < until {
                let waiting = applier.durable(&durable);
                durable = timeout(PATIENCE, waiting).await.expect("it is durable in time").unwrap();
            }
            of_the_application(&meeting, -1 - number as i64);
        }
        let kept: Vec<i64> = (1..=count as i64).map(|number| -number).collect();
        assert_eq!(meeting.read(-(count as i64)).await, (kept, count), "superuser: {is_superuser}");
    }
}
