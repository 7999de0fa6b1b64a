//! Reading for the copy: as of one time, in ranges, and without a gap or an overlap to the stream.

use std::collections::BTreeMap;

use tidegate_model::{
    ChunkReader, ColumnMap, CopyFormat, CopySnapshot, CopySource, Event, Guarded, Hlc, Position, TableGuard, TableMap,
};
use tidegate_source_cockroach::TableInfo;
use tidegate_source_cockroach::copy::{CockroachCopySource, ReadConfig};

use crate::fixture::{Fixture, SHARED, apply, next, own};

fn map(info: &TableInfo) -> TableMap {
    let column = |column: &tidegate_model::SourceColumn| ColumnMap {
        source: column.name.clone(),
        target: column.name.clone(),
        target_type: "text".to_owned(),
        comparable: true,
    };
    TableMap {
        source: (*info.table).clone(),
        target: info.table.name.clone(),
        columns: info.table.columns.iter().map(column).collect(),
        key: vec![0],
        references: vec![],
    }
}

/// Reads a table whole; returns its lines of COPY text, and how many chunks they came in.
async fn read(fixture: &Fixture, table: &str, at: Hlc, chunk_bytes: u64) -> (Vec<String>, usize) {
    let source =
        CockroachCopySource::new(fixture.settings.clone(), fixture.name.clone(), at, ReadConfig { chunk_bytes });
    let snapshot = source.snapshot().await.unwrap();
    assert_eq!(*snapshot.point(), Position::cockroach(at));
    let map = map(&*fixture.table(table).await);
    let Guarded::Held(guard) = snapshot.guard(&map).await.unwrap_or_else(|problem| panic!("{problem}")) else {
        panic!("nothing is in the way of reading at a time");
    };
    let mut reader = snapshot.reader().await.unwrap();
    let chunks = guard.chunks();
    let mut text = Vec::new();
    for chunk in &chunks {
        reader.open(&map, chunk, CopyFormat::Text).await.unwrap();
        while let Some(block) = reader.next().await.unwrap_or_else(|problem| panic!("{problem}")) {
            text.extend_from_slice(&block);
        }
    }
    assert!(guard.release().await);
    (String::from_utf8(text).unwrap().lines().map(str::to_owned).collect(), chunks.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_cover_every_row_once_whatever_the_key() {
    let ddl = "CREATE TABLE public.n (id INT8 PRIMARY KEY, v STRING);
               CREATE TABLE public.c (a STRING, b TIMESTAMPTZ, v BYTES, PRIMARY KEY (a, b));
               CREATE TABLE public.k (v INT8);
               CREATE TABLE public.e (id UUID PRIMARY KEY)";
    let fixture = Fixture::with(&SHARED, "ranges", ddl).await;
    fixture.execute("INSERT INTO public.n SELECT g, 'v' FROM generate_series(-250, 249) AS s(g)").await;
    fixture
        .execute(
            "INSERT INTO public.c SELECT 'it''s ' || (g % 7)::STRING, \
             '2020-01-01 00:00:00+00'::TIMESTAMPTZ + g * '1 hour'::INTERVAL, '\\x00ff' \
             FROM generate_series(1, 300) AS s(g)",
        )
        .await;
    fixture.execute("INSERT INTO public.k SELECT g FROM generate_series(1, 100) AS s(g)").await;
    let at = fixture.now().await;
    for (table, rows) in [("n", 500), ("c", 300), ("k", 100), ("e", 0)] {
        for chunk_bytes in [1 << 30, 100] {
            let (mut lines, chunks) = read(&fixture, table, at, chunk_bytes).await;
            assert_eq!(lines.len(), rows, "{table}");
            assert_eq!(chunks > 1, chunk_bytes == 100 && rows > 0, "{table} came in {chunks} chunks");
            lines.sort();
            lines.dedup();
            assert_eq!(lines.len(), rows, "{table}: a row came twice");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_written_as_copy_reads_them() {
    let ddl = "CREATE TABLE public.t (id INT8 PRIMARY KEY, v STRING, b BYTES, f BOOL)";
    let fixture = Fixture::with(&SHARED, "values", ddl).await;
    let odd = "a\tb\\c\nd";
    fixture.session.execute("INSERT INTO public.t VALUES (1, $1, '\\x0aff', true)", &[&odd]).await.unwrap();
    fixture.execute("INSERT INTO public.t VALUES (2, NULL, NULL, NULL)").await;
    let (lines, _) = read(&fixture, "t", fixture.now().await, 1 << 20).await;
    assert_eq!(lines, ["1\ta\\tb\\\\c\\nd\t\\\\x0aff\tt", "2\t\\N\t\\N\t\\N"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_and_stream_meet_without_a_gap_or_an_overlap() {
    let fixture = Fixture::new(&SHARED, "meet").await;
    let writers: Vec<_> = (0..4_i64)
        .map(|writer| {
            let settings = fixture.settings.clone();
            tokio::spawn(async move {
                let session = tidegate_connect::Session::connect(&settings, "writer").await.unwrap();
                for number in 0..150_i64 {
                    let id = writer * 1_000 + number % 30;
                    let sql = match number / 30 % 3 {
                        0 => format!("INSERT INTO public.t VALUES ({id}, '{number}')"),
                        1 => format!("UPDATE public.t SET v = '{number}' WHERE id = {id}"),
                        _ => format!("DELETE FROM public.t WHERE id = {id}"),
                    };
                    session.batch_execute(&sql).await.unwrap();
                }
            })
        })
        .collect();
    crate::fixture::until("writing has begun", || async { fixture.rows().await.len() > 20 }).await;
    let at = fixture.now().await;
    let (lines, _) = read(&fixture, "t", at, 200).await;
    let mut rows: BTreeMap<i64, String> = BTreeMap::new();
    for line in lines {
        let (id, value) = line.split_once('\t').unwrap();
        assert_eq!(rows.insert(id.parse().unwrap(), value.to_owned()), None);
    }
    let mut source = fixture.start_from(&Position::cockroach(at)).await;
    for writer in writers {
        writer.await.unwrap();
    }
    let end = Position::cockroach(fixture.now().await);
    loop {
        // A row that fits neither the copy nor what came since is a gap or an overlap.
        match next(&mut source).await.unwrap() {
            Event::Commit(transaction) => apply(&mut rows, &transaction),
            Event::Watermark(position) if position >= end => break,
            Event::Watermark(_) => {}
        }
    }
    assert_eq!(rows, fixture.rows().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_whose_history_is_gone_says_so() {
    let standin = own();
    let fixture = Fixture::new(&standin, "copied_late").await;
    fixture.insert(0..3).await;
    let at = fixture.now().await;
    fixture.insert(3..4).await;
    let info = fixture.table("t").await;
    let threshold = fixture.now().await;
    fixture.set("gc_threshold", &format!("'{threshold}'")).await;
    let config = ReadConfig::default();
    let source = CockroachCopySource::new(fixture.settings.clone(), fixture.name.clone(), at, config);
    let snapshot = source.snapshot().await.unwrap();
    let problem = snapshot.guard(&map(&info)).await.unwrap_err();
    assert_eq!(problem.code, "CR010", "{problem}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_changed_since_the_plan_is_refused() {
    let fixture = Fixture::new(&SHARED, "altered").await;
    let info = fixture.table("t").await;
    fixture.execute("ALTER TABLE public.t ADD COLUMN extra INT8").await;
    let (settings, name) = (fixture.settings.clone(), fixture.name.clone());
    let source = CockroachCopySource::new(settings, name, fixture.now().await, ReadConfig::default());
    let snapshot = source.snapshot().await.unwrap();
    let problem = snapshot.guard(&map(&info)).await.unwrap_err();
    assert_eq!(problem.code, "CP002", "{problem}");
    assert!(problem.why.contains("\"extra\" is new"));
}
