//! What ends a stream: each with everything before it given out, and with what to do.

use tidegate_model::{Class, Event, Source};
use tidegate_source_cockroach::CockroachSource;
use tidegate_source_cockroach::SourceConfig;

use crate::fixture::{Fixture, SHARED, changes, id, next, own, take_rows, take_to_the_end, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_emptied_ends_the_stream_behind_what_was_resolved() {
    let fixture = Fixture::new(&SHARED, "emptied").await;
    let mut source = fixture.start().await;
    fixture.insert(0..5).await;
    let received = source.received();
    let inserted = Some(fixture.now().await);
    until("the rows are resolved", || async { received.borrow().resolved >= inserted }).await;
    // Nothing was taken yet.
    fixture.execute("TRUNCATE TABLE public.t").await;
    until("the stream ends", || async { received.borrow().ended.is_some() }).await;
    let (ids, problem) = take_to_the_end(&mut source).await;
    assert_eq!((problem.code, problem.class), ("CR023", Class::Definite), "{problem}");
    assert_eq!(ids, (0..5).collect::<Vec<_>>());
    assert_eq!(source.received().borrow().ended, Some("CR023"));
    assert_eq!(source.next().await.unwrap_err().code, "CR029", "its error was given");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_dropped_ends_the_stream() {
    let fixture = Fixture::new(&SHARED, "dropped").await;
    let mut source = fixture.start().await;
    fixture.insert(0..3).await;
    assert_eq!(take_rows(&mut source, 3).await.0, [0, 1, 2]);
    fixture.execute("DROP TABLE public.t").await;
    let (ids, problem) = take_to_the_end(&mut source).await;
    assert_eq!(problem.code, "CR023", "{problem}");
    assert!(ids.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_rangefeeds_the_setting_is_named() {
    let standin = own();
    let fixture = Fixture::new(&standin, "nofeeds").await;
    fixture.execute("SET CLUSTER SETTING kv.rangefeed.enabled = false").await;
    let mut source = fixture.start().await;
    let problem = next(&mut source).await.unwrap_err();
    assert_eq!(problem.code, "CR020", "{problem}");
    assert!(problem.next.contains("SET CLUSTER SETTING kv.rangefeed.enabled = true"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_change_with_a_backfill_brings_nothing_back_and_stops_at_its_place() {
    let fixture = Fixture::new(&SHARED, "backfilled").await;
    let mut source = fixture.start().await;
    fixture.insert(0..10).await;
    fixture.execute("UPDATE public.t SET v = 'new' WHERE id < 5; DELETE FROM public.t WHERE id = 9").await;
    fixture.execute("ALTER TABLE public.t ADD COLUMN extra INT8 NOT NULL DEFAULT 7").await;
    fixture.execute("INSERT INTO public.t (id, v) VALUES (100, 'y')").await;
    let mut rows = std::collections::BTreeMap::new();
    let problem = loop {
        match next(&mut source).await {
            Ok(Event::Watermark(_)) => {}
            Ok(Event::Commit(transaction)) => crate::fixture::apply(&mut rows, &transaction),
            Err(problem) => break problem,
        }
    };
    assert_eq!(problem.code, "CR102", "{problem}");
    assert_eq!(rows.len(), 9, "everything before the change came, once: {rows:?}");
    assert!((0..5).all(|id| rows[&id] == "new") && !rows.contains_key(&9));

    // The table is copied again at a later point: what its rows were before has been taken care of.
    let config = fixture.config().await;
    let point = fixture.now().await;
    let points = config.tables.iter().map(|table| (table.table.id, point)).collect();
    let config = SourceConfig { points, ..config };
    let mut source = CockroachSource::start(config, fixture.point.clone(), fixture.history.clone()).await.unwrap();
    fixture.execute("INSERT INTO public.t (id, v) VALUES (101, 'z')").await;
    assert_eq!(take_rows(&mut source, 1).await.0, [101]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_without_a_key_is_told_with_its_old_rows() {
    let ddl = "CREATE TABLE public.k (a INT8, b STRING)";
    let fixture = Fixture::with(&SHARED, "keyless", ddl).await;
    let mut source = fixture.start().await;
    fixture.execute("INSERT INTO public.k VALUES (1, 'x')").await;
    fixture.execute("UPDATE public.k SET b = 'y'").await;
    fixture.execute("DELETE FROM public.k").await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        if let Event::Commit(transaction) = next(&mut source).await.unwrap() {
            seen.extend(changes(&transaction));
        }
    }
    use tidegate_model::{Change, OldRow};
    assert!(matches!(&seen[0], Change::Insert { new, .. } if id(new) == 1));
    assert!(matches!(&seen[1], Change::Update { old: Some(OldRow::Full(old)), .. } if id(old) == 1));
    assert!(matches!(&seen[2], Change::Delete { old: OldRow::Full(old), .. } if id(old) == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_source_leaves_no_session_behind() {
    let fixture = Fixture::new(&SHARED, "closed").await;
    let mut source = fixture.start().await;
    fixture.insert(0..1).await;
    take_rows(&mut source, 1).await;
    source.close().await;
    let backing = SHARED.backing().expect("it started its own");
    until("no session of ours is left", || async {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tidegate/closed/%'";
        let settings = tidegate_connect::Settings::parse(&backing.url("postgres")).unwrap();
        let session = tidegate_connect::Session::connect(&settings, "count").await.unwrap();
        session.query_one(count, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
}
