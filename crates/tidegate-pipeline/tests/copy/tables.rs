//! What is copied, and what happens to the target's tables around it.

use tidegate_connect::Session;
use tidegate_model::{Chunk, ChunkStart, ChunkWriter, CopyTarget};
use tidegate_pipeline::copy::CopyEnd;

use crate::bench::Bench;

#[tokio::test]
async fn binary_and_text_tables_arrive_as_they_are() {
    let schema = "
        CREATE TYPE mood AS ENUM ('sad', 'ok');
        CREATE TABLE plain (id int PRIMARY KEY, n numeric(10, 2), t text, ts timestamptz,
                            a int[], j jsonb, b bytea, f float8);
        CREATE TABLE fancy (\"Key \"\"x\" bigint PRIMARY KEY, m mood, ms mood[], r regclass);
        CREATE TABLE \"Odd Name\" (v varchar(5));
        CREATE TABLE wide (id int PRIMARY KEY, w text);
        ALTER TABLE wide ALTER w SET STORAGE EXTERNAL;
        CREATE TABLE nothing (id int);
        CREATE TABLE computed (a int, b int GENERATED ALWAYS AS (a * 2) STORED, c int GENERATED ALWAYS AS IDENTITY)";
    let rows = "
        INSERT INTO plain SELECT g, g / 3.0, CASE WHEN g % 7 = 0 THEN NULL ELSE E'a\\tb\\\\N' || g END,
               '2000-01-01'::timestamptz + g * '1 s'::interval, ARRAY[g, NULL], jsonb_build_object('k', g),
               decode('00ff', 'hex'), g / 7.0::float8 FROM generate_series(1, 5000) g;
        INSERT INTO fancy SELECT g, 'ok', '{sad,ok}', 'pg_class' FROM generate_series(1, 3000) g;
        INSERT INTO \"Odd Name\" VALUES ('a'), (NULL), ('');
        INSERT INTO wide SELECT g, repeat(g::text, 20000) FROM generate_series(1, 30) g;
        INSERT INTO computed (a) SELECT generate_series(1, 10)";
    let bench = Bench::new(schema, rows).await;
    let CopyEnd::Copied(routes) = bench.run().await.unwrap() else { panic!("stopped") };
    assert_eq!(routes.len(), 6);
    for table in ["plain", "fancy", "\"Odd Name\"", "wide", "nothing", "computed"] {
        bench.assert_equal(table).await;
    }
    let format = async |table: &str| -> String {
        bench.ask(&format!("SELECT format FROM tidegate.copy_table WHERE source_table = 'public.{table}'")).await
    };
    assert_eq!((format("plain").await, format("fancy").await), ("binary".to_owned(), "text".to_owned()));
    assert!(bench.chunks("plain").await > 5, "more than one chunk");
    assert!(bench.chunks("wide").await >= 1);
    let counted: i64 =
        bench.ask("SELECT sum(rows)::bigint FROM tidegate.copy_chunk WHERE source_table = 'public.plain'").await;
    assert_eq!(counted, 5000);
}

#[tokio::test]
async fn a_table_with_rows_of_others_is_refused_and_untouched() {
    let bench = Bench::new("CREATE TABLE t (id int)", "INSERT INTO t VALUES (1)").await;
    bench.target_session.batch_execute("INSERT INTO public.t VALUES (7)").await.unwrap();
    assert_eq!(bench.run().await.unwrap_err().code, "CP001");
    assert_eq!(bench.ask::<i32>("SELECT id FROM public.t").await, 7);
    assert_eq!(bench.copies("t").await, 0);
}

#[tokio::test]
async fn indexes_and_keys_are_back_after_the_load_and_after_a_crash() {
    let schema = "
        CREATE TABLE parent (id int PRIMARY KEY, u text UNIQUE DEFERRABLE, x int);
        CREATE INDEX by_x ON parent (x DESC) WHERE x > 3;
        CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent (id) ON DELETE CASCADE);
        ALTER TABLE child ADD CONSTRAINT not_valid FOREIGN KEY (p) REFERENCES parent (id) NOT VALID";
    let rows = "
        INSERT INTO parent SELECT g, g, g FROM generate_series(1, 4000) g;
        INSERT INTO child SELECT g, g FROM generate_series(1, 4000) g";
    let mut bench = Bench::new(schema, rows).await;
    bench.indexes_kept_below_bytes = 0;
    let objects = "
        SELECT coalesce(string_agg(d, E'\\n' ORDER BY d), '') FROM (
            SELECT pg_get_indexdef(indexrelid) FROM pg_index
             WHERE indrelid IN ('public.parent'::regclass, 'public.child'::regclass)
            UNION ALL SELECT conname || ' ' || pg_get_constraintdef(oid) || ' ' || convalidated FROM pg_constraint
             WHERE conrelid IN ('public.parent'::regclass, 'public.child'::regclass)) o (d)";
    let before: String = bench.ask(objects).await;

    // Stopped in the middle, the target lacks them, and the state knows them.
    let held = bench.hold_target("parent", "NEW.id > 2000").await;
    let running = bench.start().await;
    bench.until_chunks("child", 3).await;
    running.stop.cancel();
    assert_eq!(running.end().await.unwrap(), CopyEnd::Stopped);
    drop(held);
    assert_ne!(bench.ask::<String>(objects).await, before);

    bench.start_with(None).await.end().await.unwrap();
    bench.assert_equal("parent").await;
    bench.assert_equal("child").await;
    let keys = "SELECT count(*) FROM pg_constraint WHERE contype = 'f'";
    assert_eq!(bench.ask::<i64>(keys).await, 0, "foreign keys come back later");
    for _ in 0..2 {
        bench.target().restore_foreign_keys().await.unwrap();
        assert_eq!(bench.ask::<String>(objects).await, before);
    }
}

#[tokio::test]
async fn a_crash_between_the_load_and_its_indexes_leaves_neither_undone() {
    let mut bench = Bench::new(
        "CREATE TABLE t (id int PRIMARY KEY, x int); CREATE INDEX t_x ON t (x)",
        "INSERT INTO t SELECT g, g FROM generate_series(1, 1000) g",
    )
    .await;
    bench.indexes_kept_below_bytes = 0;
    let load = {
        let tables = bench.plan().await;
        bench.target().begin(&tables[0].map, tables[0].bytes_estimated).await.unwrap()
    };
    assert_eq!(load.copy, 1);
    let indexes = "SELECT count(*) FROM pg_index WHERE indrelid = 'public.t'::regclass";
    assert_eq!(bench.ask::<i64>(indexes).await, 0);
    // As if the process had ended right after the last chunk.
    let sql = "UPDATE tidegate.copy_table SET state = 'copied', route = $1::text::jsonb";
    let tables = bench.plan().await;
    let from = tidegate_model::Position::postgres(tidegate_model::Lsn(1));
    let route = tidegate_model::TableRoute { map: tables[0].map.clone(), from };
    bench.target_session.execute(sql, &[&serde_json::to_string(&route).unwrap()]).await.unwrap();
    bench.start_with(None).await.end().await.unwrap();
    assert_eq!((bench.ask::<i64>(indexes).await, bench.copies("t").await), (2, 1));
}

#[tokio::test]
async fn a_displaced_owner_writes_nothing_more() {
    let bench = Bench::new("CREATE TABLE t (id int)", "INSERT INTO t SELECT generate_series(1, 50000)").await;
    let held = bench.hold_target("t", "NEW.id > 20000").await;
    let running = bench.start().await;
    bench.until_chunks("t", 1).await;
    let take_over = Session::connect(&bench.target, "test").await.unwrap();
    // The new owner's first write waits for what the old one has under way, and nothing follows it.
    let taken = tokio::spawn(async move { take_over.batch_execute("UPDATE tidegate.checkpoint SET epoch = 2").await });
    drop(held);
    taken.await.unwrap().unwrap();
    assert_eq!(running.end().await.unwrap_err().code, "ST003");
    let rows = bench.ask::<i64>("SELECT count(*) FROM public.t").await;
    let recorded = bench.ask::<i64>("SELECT coalesce(sum(rows), 0)::bigint FROM tidegate.copy_chunk").await;
    assert_eq!(rows, recorded, "what is there and what is recorded are one");
}

#[tokio::test]
async fn refused_rows_are_named_by_table_and_chunk_without_their_values() {
    let bench = Bench::new("CREATE TABLE t (id int, secret text)", "INSERT INTO t VALUES (1, 'hush')").await;
    let check = "ALTER TABLE public.t ADD CHECK (secret <> 'hush')";
    bench.target_session.batch_execute(check).await.unwrap();
    let problem = bench.run().await.unwrap_err();
    assert_eq!(problem.code, "CP003");
    let text = problem.to_string();
    assert!(text.contains("public.t") && text.contains("chunk 0") && text.contains("23514"), "{text}");
    assert!(!text.contains("hush"), "{text}");
}

#[tokio::test]
async fn a_chunk_that_a_dead_session_may_yet_commit_is_written_once() {
    let bench = Bench::new("CREATE TABLE t (id int)", "INSERT INTO t VALUES (1)").await;
    // Text, so that a chunk without a byte is one.
    bench.target_session.batch_execute("ALTER TABLE public.t ALTER id TYPE bigint").await.unwrap();
    let tables = bench.plan().await;
    let (map, target) = (&tables[0].map, bench.target());
    let load = target.begin(map, 0).await.unwrap();
    let [first, second, third] = [0, 1, 2].map(|number| Chunk { number, first_page: number, end_page: None });

    // Its answer was lost, but it was committed.
    let mut writer = target.writer();
    assert_eq!(writer.begin(map, &load, &first).await.unwrap(), ChunkStart::Open);
    let size = writer.commit().await.unwrap();
    assert_eq!(target.writer().begin(map, &load, &first).await.unwrap(), ChunkStart::Written(size));

    // It is still under way: whoever comes second waits, and finds out how it ended.
    for (chunk, commits) in [(second, true), (third, false)] {
        let mut zombie = target.writer();
        assert_eq!(zombie.begin(map, &load, &chunk).await.unwrap(), ChunkStart::Open);
        let mut writer = target.writer();
        let mut again = Box::pin(writer.begin(map, &load, &chunk));
        let early = tokio::time::timeout(std::time::Duration::from_millis(300), &mut again).await;
        assert!(early.is_err(), "it did not wait");
        if commits {
            let size = zombie.commit().await.unwrap();
            assert_eq!(again.await.unwrap(), ChunkStart::Written(size));
        } else {
            zombie.abandon().await;
            assert_eq!(again.await.unwrap(), ChunkStart::Open);
        }
    }

    // One of an earlier copy never writes into a later one.
    let later = target.begin(map, 0).await.unwrap();
    assert_eq!(later.copy, load.copy + 1);
    let late = Chunk { number: 7, first_page: 7, end_page: None };
    assert_eq!(target.writer().begin(map, &load, &late).await.unwrap_err().code, "CP010");
}
