//! Writing tables: whatever interrupts a piece, in the end every row is there once.

use std::time::Duration;

use bytes::Bytes;
use tidegate_model::{
    Chunk, ChunkSize, ChunkStart, ChunkWriter, Class, ColumnMap, CopyFormat, CopyState, CopyTarget, Load, Problem,
    RelationId, ReplicaIdentity, SourceColumn, SourceTable, TableMap, TableName, TableRoute,
};
use tidegate_sql::copy::{CopyTargetConfig, PlannedTable, SqlCopyTarget, mark_copied, plan, read_records, recopy};
use tidegate_sql::state::{Lease, Ownership};
use tidegate_standin::Standin;
use tokio::time::timeout;
use tokio_postgres::SimpleQueryMessage;

use crate::support::{LIMIT, Target, at, on_both_servers};

on_both_servers!(
    a_chunk_is_written_in_pieces_and_recorded_with_them,
    a_chunk_that_is_interrupted_anywhere_ends_with_every_row_once,
    a_table_with_rows_of_someone_else_is_refused,
    a_table_that_was_begun_before_is_emptied,
    chunks_of_an_earlier_copy_and_of_an_earlier_owner_are_refused,
    foreign_keys_go_and_come_back,
    values_of_all_types_arrive,
    what_a_copy_empties_and_writes_is_no_news_to_changefeeds,
    what_the_target_refuses_is_told_without_the_value,
);

struct Copying {
    target: Target,
    /// Kept, so that nobody else takes the stream.
    _owner: Ownership,
    lease: Lease,
    writes: SqlCopyTarget,
}

impl Copying {
    async fn new(standin: &'static Standin, schema: &[&str]) -> Copying {
        let target = Target::new(standin, schema).await;
        let owner = target.own().await;
        let lease = owner.lease().clone();
        let writes = SqlCopyTarget::new(CopyTargetConfig {
            settings: target.settings(),
            name: target.key.migration.clone(),
            lease: lease.clone(),
            indexes_kept_below_bytes: 0,
        });
        Copying { target, _owner: owner, lease, writes }
    }

    async fn planned(&self, maps: &[TableMap]) {
        let tables = maps.iter().map(|map| PlannedTable { map: map.clone(), rows_estimated: 1, bytes_estimated: 1 });
        plan(self.target.session(), &self.lease, tables.collect()).await.unwrap();
    }

    /// Begins a table, as the coordinator does: again for as long as it may help.
    async fn begun(&self, map: &TableMap) -> Load {
        patiently(|| self.writes.begin(map, 1 << 40)).await.unwrap()
    }
}

async fn patiently<T, F: Future<Output = Result<T, Problem>>>(mut attempt: impl FnMut() -> F) -> Result<T, Problem> {
    loop {
        match timeout(LIMIT, attempt()).await.unwrap() {
            Err(problem) if problem.class == Class::Transient => {}
            decided => return decided,
        }
    }
}

fn map(table: &str, columns: &[(&str, &str)]) -> TableMap {
    let name = TableName::new("public", table);
    let source = SourceTable {
        id: RelationId(1),
        name: name.clone(),
        replica_identity: ReplicaIdentity::Default,
        columns: columns
            .iter()
            .map(|(column, _)| SourceColumn {
                name: (*column).into(),
                type_oid: 25,
                type_modifier: -1,
                identity: false,
            })
            .collect(),
    };
    let column = |(name, target_type): &(&str, &str)| ColumnMap {
        source: (*name).into(),
        target: (*name).into(),
        target_type: (*target_type).to_owned(),
        comparable: true,
    };
    TableMap { source, target: name, columns: columns.iter().map(column).collect(), key: vec![0], references: vec![] }
}

fn chunk(number: u64) -> Chunk {
    Chunk { number, first_page: number, end_page: None }
}

fn numbers() -> TableMap {
    map("t", &[("id", "INT8"), ("name", "STRING")])
}

const NUMBERS: &str = "CREATE TABLE t (id INT8 PRIMARY KEY, name STRING)";

/// Rows in blocks that end anywhere.
fn blocks(rows: std::ops::Range<u64>, block_bytes: usize) -> Vec<Bytes> {
    let text: String = rows.map(|row| format!("{row}\tname {row}\n")).collect();
    text.as_bytes().chunks(block_bytes).map(Bytes::copy_from_slice).collect()
}

async fn write(
    writer: &mut impl ChunkWriter,
    map: &TableMap,
    load: &Load,
    chunk: &Chunk,
    blocks: &[Bytes],
) -> Result<ChunkSize, Problem> {
    if let ChunkStart::Written(size) = writer.begin(map, load, chunk).await? {
        return Ok(size);
    }
    for block in blocks {
        writer.write(block.clone()).await?;
    }
    writer.commit().await
}

async fn a_chunk_is_written_in_pieces_and_recorded_with_them(standin: &'static Standin) {
    let copying = Copying::new(standin, &[NUMBERS]).await;
    let map = numbers();
    copying.planned(std::slice::from_ref(&map)).await;
    let load = copying.begun(&map).await;
    // A lost answer counts as another copy.
    assert!(load.format == CopyFormat::Text && load.copy >= 1);
    let mut writer = copying.writes.writer();
    let (first, empty) = (blocks(0..45_000, 100_000), Vec::new());
    let bytes: usize = first.iter().map(Bytes::len).sum();
    let size = patiently_written(&mut writer, &map, &load, &chunk(0), &first).await;
    assert_eq!(size, ChunkSize { rows: 45_000, bytes: bytes as u64 });
    assert_eq!(patiently_written(&mut writer, &map, &load, &chunk(1), &empty).await, ChunkSize::default());
    // Whoever asks again is told what is there.
    assert_eq!(writer.begin(&map, &load, &chunk(0)).await.unwrap(), ChunkStart::Written(size));
    let records = read_records(copying.target.session(), &copying.target.key).await.unwrap();
    assert_eq!((records[0].rows, records[0].bytes), (45_000, bytes as u64));
    assert_eq!(records[0].state, CopyState::Copying);

    let route = TableRoute { map: map.clone(), from: at(10) };
    assert_eq!(patiently(|| copying.writes.finish(&route, &load, 3)).await.unwrap_err().code, "CP010");
    for _ in 0..2 {
        patiently(|| copying.writes.finish(&route, &load, 2)).await.unwrap();
    }
    let records = read_records(copying.target.session(), &copying.target.key).await.unwrap();
    assert_eq!(records[0].state, CopyState::Copied(route));
    assert_eq!(copying.target.number("SELECT count(*) FROM public.t").await, 45_000);
}

async fn patiently_written(
    writer: &mut impl ChunkWriter,
    map: &TableMap,
    load: &Load,
    chunk: &Chunk,
    blocks: &[Bytes],
) -> ChunkSize {
    loop {
        match timeout(LIMIT, write(writer, map, load, chunk, blocks)).await.unwrap() {
            Ok(size) => return size,
            Err(problem) if problem.class == Class::Transient => writer.abandon().await,
            Err(problem) => panic!("{problem}"),
        }
    }
}

/// Two workers write a chunk each and are cut off at any moment, with or without their COMMIT under way.
async fn a_chunk_that_is_interrupted_anywhere_ends_with_every_row_once(standin: &'static Standin) {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let copying = Copying::new(standin, &[NUMBERS]).await;
    let map = numbers();
    copying.planned(std::slice::from_ref(&map)).await;
    let load = copying.begun(&map).await;
    let one = interrupted(&copying, &map, &load, 0, 0..50_000, seed);
    let other = interrupted(&copying, &map, &load, 1, 50_000..100_000, seed.rotate_left(17));
    let (one, other) = tokio::join!(one, other);
    assert!(one + other > 0, "nothing was interrupted");
    let counted = "SELECT concat(count(*)::STRING, '|', count(DISTINCT id)::STRING, '|', \
                   sum(CASE WHEN name = concat('name ', id::STRING) THEN 1 ELSE 0 END)::STRING) FROM public.t";
    assert_eq!(copying.target.text(counted).await, "100000|100000|100000");
    let records = read_records(copying.target.session(), &copying.target.key).await.unwrap();
    assert_eq!(records[0].rows, 100_000);
}

/// Writes a chunk, cut off again and again; returns how often.
async fn interrupted(
    copying: &Copying,
    map: &TableMap,
    load: &Load,
    number: u64,
    rows: std::ops::Range<u64>,
    mut random: u64,
) -> u32 {
    let blocks = blocks(rows.clone(), 50_001);
    let mut writer = copying.writes.writer();
    let mut interruptions = 0;
    loop {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let patience = if interruptions < 12 { (random >> 33) % 400 } else { 60_000 };
        let chunk = chunk(number);
        let written = write(&mut writer, map, load, &chunk, &blocks);
        match timeout(Duration::from_millis(patience), written).await {
            Ok(Ok(size)) => {
                assert_eq!(size.rows, rows.end - rows.start);
                return interruptions;
            }
            Ok(Err(problem)) if problem.class == Class::Transient => {}
            Ok(Err(problem)) => panic!("{problem}"),
            Err(_elapsed) => interruptions += 1,
        }
        writer.abandon().await;
    }
}

async fn a_table_with_rows_of_someone_else_is_refused(standin: &'static Standin) {
    let copying = Copying::new(standin, &[NUMBERS, "INSERT INTO t VALUES (1, 'a')"]).await;
    let map = numbers();
    copying.planned(std::slice::from_ref(&map)).await;
    let refused = patiently(|| copying.writes.begin(&map, 0)).await.unwrap_err();
    assert_eq!(refused.code, "CP001");
    // As it is, when told so.
    mark_copied(copying.target.session(), &copying.lease, &TableRoute { map: map.clone(), from: at(10) })
        .await
        .unwrap();
    let unknown = crate::copying::map("unknown", &[("id", "INT8")]);
    let route = TableRoute { map: unknown.clone(), from: at(10) };
    assert_eq!(mark_copied(copying.target.session(), &copying.lease, &route).await.unwrap_err().code, "CP012");
    copying.planned(std::slice::from_ref(&unknown)).await;
    assert_eq!(patiently(|| copying.writes.begin(&unknown, 0)).await.unwrap_err().code, "CP013");
}

async fn a_table_that_was_begun_before_is_emptied(standin: &'static Standin) {
    let two = "CREATE TABLE two (a INT8, b STRING, PRIMARY KEY (a, b))";
    let copying = Copying::new(standin, &[NUMBERS, two, "CREATE TABLE keyless (v STRING)"]).await;
    let maps = [numbers(), map("two", &[("a", "INT8"), ("b", "STRING")]), map("keyless", &[("v", "STRING")])];
    copying.planned(&maps).await;
    for map in &maps {
        let load = copying.begun(map).await;
        let mut writer = copying.writes.writer();
        let rows = if map.columns.len() == 1 {
            vec![Bytes::from((0..25_000).map(|row| format!("{row}\n")).collect::<String>())]
        } else {
            blocks(0..25_000, 1 << 20)
        };
        patiently_written(&mut writer, map, &load, &chunk(0), &rows).await;
        let table = &map.target.name;
        assert_eq!(copying.target.number(&format!("SELECT count(*) FROM public.{table}")).await, 25_000);
        let again = copying.begun(map).await;
        assert!(again.copy > load.copy);
        assert_eq!(copying.target.number(&format!("SELECT count(*) FROM public.{table}")).await, 0);
        let chunks = format!("SELECT count(*) FROM tidegate.copy_chunk WHERE source_table = 'public.{table}'");
        assert_eq!(copying.target.number(&chunks).await, 0);
    }
}

async fn what_a_copy_empties_and_writes_is_no_news_to_changefeeds(standin: &'static Standin) {
    let copying = Copying::new(standin, &[NUMBERS]).await;
    copying.target.sql("SET CLUSTER SETTING kv.rangefeed.enabled = true").await;
    let now = "SELECT cluster_logical_timestamp()::STRING";
    let cursor = copying.target.text(now).await;
    let map = numbers();
    copying.planned(std::slice::from_ref(&map)).await;
    for rows in [0..3_000, 1_000..2_000] {
        let load = copying.begun(&map).await;
        let mut writer = copying.writes.writer();
        patiently_written(&mut writer, &map, &load, &chunk(0), &blocks(rows, 1 << 20)).await;
    }
    assert_eq!(copying.target.number("SELECT count(*) FROM public.t").await, 1_000);
    let until = copying.target.text(now).await;
    let feed = format!("CREATE CHANGEFEED FOR TABLE t WITH cursor = '{cursor}', end_time = '{until}'");
    let told = copying.target.session().simple_query(&feed).await.unwrap();
    let rows = told.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_)));
    assert_eq!(rows.count(), 0, "the way back would remove and repeat these rows at the source");
}

async fn chunks_of_an_earlier_copy_and_of_an_earlier_owner_are_refused(standin: &'static Standin) {
    let copying = Copying::new(standin, &[NUMBERS]).await;
    let map = numbers();
    copying.planned(std::slice::from_ref(&map)).await;
    let old = copying.begun(&map).await;
    let mut writer = copying.writes.writer();
    assert_eq!(patiently(|| begin_boxed(&copying.writes, &map, &old, 0)).await.unwrap(), ChunkStart::Open);
    let _new = copying.begun(&map).await;
    let refused = async {
        loop {
            match write(&mut writer, &map, &old, &chunk(0), &blocks(0..10, 100)).await {
                Err(problem) if problem.class == Class::Transient => writer.abandon().await,
                decided => return decided,
            }
        }
    };
    assert_eq!(timeout(LIMIT, refused).await.unwrap().unwrap_err().code, "CP010");

    recopy(copying.target.session(), &copying.lease, &map.source.name).await.unwrap();
    let load = copying.begun(&map).await;
    copying.target.sql("UPDATE tidegate.checkpoint SET epoch = epoch + 1").await;
    let mut writer = copying.writes.writer();
    let refused = async {
        loop {
            match write(&mut writer, &map, &load, &chunk(0), &blocks(0..10, 100)).await {
                Err(problem) if problem.class == Class::Transient => writer.abandon().await,
                decided => return decided,
            }
        }
    };
    assert_eq!(timeout(LIMIT, refused).await.unwrap().unwrap_err().code, "ST003");
    assert_eq!(recopy(copying.target.session(), &copying.lease, &map.source.name).await.unwrap_err().code, "ST003");
    assert_eq!(copying.target.number("SELECT count(*) FROM public.t").await, 0);
}

async fn begin_boxed(target: &SqlCopyTarget, map: &TableMap, load: &Load, number: u64) -> Result<ChunkStart, Problem> {
    target.writer().begin(map, load, &chunk(number)).await
}

async fn foreign_keys_go_and_come_back(standin: &'static Standin) {
    let schema = [
        "CREATE TABLE parent (id INT8 PRIMARY KEY)",
        "CREATE TABLE child (id INT8 PRIMARY KEY, parent INT8, twin INT8, \
         CONSTRAINT to_parent FOREIGN KEY (parent) REFERENCES parent (id) ON DELETE CASCADE, \
         CONSTRAINT to_twin FOREIGN KEY (twin) REFERENCES child (id))",
    ];
    let copying = Copying::new(standin, &schema).await;
    let maps = [map("parent", &[("id", "INT8")]), map("child", &[("id", "INT8"), ("parent", "INT8")])];
    copying.planned(&maps).await;
    let keys = "SELECT concat(conname::STRING, '|', confdeltype::STRING, '|', convalidated::STRING) \
                FROM pg_catalog.pg_constraint WHERE contype = 'f' ORDER BY 1";
    assert_eq!(copying.target.text(keys).await, "to_parent|c|true to_twin|a|true");
    for _ in 0..2 {
        patiently(|| copying.writes.prepare(&maps, &maps)).await.unwrap();
        assert_eq!(copying.target.text(keys).await, "");
    }
    let load = copying.begun(&maps[1]).await;
    let mut writer = copying.writes.writer();
    let child = [Bytes::from_static(b"1\t7\n")];
    patiently_written(&mut writer, &maps[1], &load, &chunk(0), &child).await;
    assert_eq!(patiently(|| copying.writes.restore_foreign_keys()).await.unwrap_err().code, "CP009");
    copying.target.sql("INSERT INTO parent VALUES (7)").await;
    for _ in 0..2 {
        patiently(|| copying.writes.restore_foreign_keys()).await.unwrap();
        assert_eq!(copying.target.text(keys).await, "to_parent|c|true to_twin|a|true");
    }
    let open = "SELECT count(*) FROM tidegate.target_object WHERE state <> 'restored'";
    assert_eq!(copying.target.number(open).await, 0);
}

async fn values_of_all_types_arrive(standin: &'static Standin) {
    let schema = [
        "CREATE TYPE mood AS ENUM ('sad', 'glad')",
        "CREATE TABLE v (id INT4 PRIMARY KEY, b BYTES, d DECIMAL(10,2), j JSONB, a STRING[], ts TIMESTAMPTZ, m mood, \
         f FLOAT8, made INT8 AS (id + 1) STORED, t STRING)",
    ];
    let copying = Copying::new(standin, &schema).await;
    let columns = ["id", "b", "d", "j", "a", "ts", "m", "f", "t"].map(|name| (name, "any"));
    let map = map("v", &columns);
    copying.planned(std::slice::from_ref(&map)).await;
    let load = copying.begun(&map).await;
    let row = "1\t\\\\x00ff\t12.50\t{\"k\": [1, null]}\t{a,\"b c\",NULL}\t2024-05-06 07:08:09.1+00\tglad\t1e+300\t\
               tab\\tline\\nback\\\\slash\n2\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\tNaN\t\n";
    let mut writer = copying.writes.writer();
    let size = patiently_written(&mut writer, &map, &load, &chunk(0), &[Bytes::from(row)]).await;
    assert_eq!(size.rows, 2);
    let one = "SELECT count(*) FROM v WHERE id = 1 AND b = '\\x00ff'::BYTES AND d = 12.50 AND j = '{\"k\": [1, null]}' \
               AND a[2] = 'b c' AND a[3] IS NULL AND ts = '2024-05-06 07:08:09.1+00' AND m = 'glad' AND f = 1e300 \
               AND t = e'tab\\tline\\nback\\\\slash' AND made = 2";
    assert_eq!(copying.target.number(one).await, 1);
    let two = "SELECT count(*) FROM v WHERE id = 2 AND b IS NULL AND j IS NULL AND m IS NULL AND t = '' AND made = 3";
    assert_eq!(copying.target.number(two).await, 1);
}

async fn what_the_target_refuses_is_told_without_the_value(standin: &'static Standin) {
    let copying = Copying::new(standin, &[NUMBERS]).await;
    let map = numbers();
    copying.planned(std::slice::from_ref(&map)).await;
    let load = copying.begun(&map).await;
    let mut writer = copying.writes.writer();
    for (row, state) in [("secret\ta\n", "22P02"), ("1\ta\n1\tsecret\n", "23505")] {
        let refused = async {
            loop {
                match write(&mut writer, &map, &load, &chunk(0), &[Bytes::from(row)]).await {
                    Err(problem) if problem.class == Class::Transient => writer.abandon().await,
                    decided => return decided.unwrap_err(),
                }
            }
        };
        let problem = timeout(LIMIT, refused).await.unwrap();
        assert_eq!(problem.code, "CP003");
        assert!(problem.why.contains(state) && !problem.to_string().contains("secret"), "{problem}");
        writer.abandon().await;
    }
}
