//! The coordinator over halves in memory: what it promises when the source and the target do their worst.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tidegate_model::{
    Chunk, ChunkReader, ChunkSize, ChunkStart, ChunkWriter, ColumnMap, CopyFormat, CopySnapshot, CopySource, CopyState,
    CopyTable, CopyTarget, Guarded, Load, Lsn, Position, Problem, RelationId, ReplicaIdentity, SourceColumn,
    SourceTable, TableGuard, TableMap, TableName, TableRoute, Wanted,
};
use tokio_util::sync::CancellationToken;

use super::{Copy, CopyConfig, CopyEnd};

/// What happens to a table when a chunk of it is about to be read, once.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// Someone waits for the table, and gives up when we let go.
    Wanted,
    /// Someone waits for the table, and rewrites it when we let go.
    Rewritten,
    /// The session that holds the snapshot ends.
    SnapshotLost,
    /// The session that reads ends.
    ReaderLost,
    /// The session that holds the guard ends and the table is rewritten at once, before the chunk is read.
    GuardLostAndRewritten,
    /// The target commits the chunk and the answer is lost.
    AnswerLost,
    /// The target refuses the rows.
    Refused,
    /// The process ends.
    Crash,
}

#[derive(Debug, Default)]
struct World {
    /// The clock of the source: every snapshot is a tick later.
    now: u64,
    lost_snapshots: HashSet<u64>,
    tables: BTreeMap<TableName, SourceSide>,
    target: BTreeMap<TableName, TargetSide>,
    crash: CancellationToken,
}

#[derive(Debug, Default)]
struct SourceSide {
    chunks: u64,
    rewritten_at: u64,
    wanted: bool,
    rewrite_when_let_go: bool,
    guard_lost: bool,
    busy_times: u32,
    /// Every chunk read to its end: (snapshot, chunk).
    reads: Vec<(u64, u64)>,
    faults: BTreeMap<u64, VecDeque<Fault>>,
    guards_held: u32,
}

#[derive(Debug, Default)]
struct TargetSide {
    state: Option<TableRoute>,
    copies: i32,
    /// Chunk -> snapshot it was read under, rewritten since or not.
    chunks: BTreeMap<u64, (u64, bool)>,
    restored: u32,
}

type Shared = Arc<Mutex<World>>;

#[derive(Clone, Debug)]
struct Fake(Shared);

fn name(table: &str) -> TableName {
    TableName::new("public", table)
}

fn map(table: &str) -> TableMap {
    let column = SourceColumn { name: "id".into(), type_oid: 23, type_modifier: -1, identity: true };
    TableMap {
        source: SourceTable {
            id: RelationId(1),
            name: name(table),
            replica_identity: ReplicaIdentity::Default,
            columns: vec![column],
        },
        target: name(table),
        columns: vec![ColumnMap {
            source: "id".into(),
            target: "id".into(),
            target_type: "integer".into(),
            comparable: true,
        }],
        key: vec![0],
        references: vec![],
    }
}

fn problem(transient: bool) -> Problem {
    if transient { Problem::transient("CP006", "x", "y", "z") } else { Problem::definite("CP003", "x", "y", "z") }
}

impl Fake {
    fn new(tables: &[(&str, u64)]) -> Self {
        let mut world = World::default();
        for (table, chunks) in tables {
            world.tables.insert(name(table), SourceSide { chunks: *chunks, ..SourceSide::default() });
            world.target.insert(name(table), TargetSide::default());
        }
        Fake(Arc::new(Mutex::new(world)))
    }

    fn with<R>(&self, look: impl FnOnce(&mut World) -> R) -> R {
        look(&mut self.0.lock().unwrap())
    }

    fn fault(&self, table: &str, chunk: u64, fault: Fault) {
        self.with(|world| {
            world.tables.get_mut(&name(table)).unwrap().faults.entry(chunk).or_default().push_back(fault);
        });
    }

    /// Runs a copy from what the target remembers, as a start of the process does.
    async fn run(&self) -> Result<CopyEnd, Problem> {
        let tables = self.with(|world| {
            world.crash = CancellationToken::new();
            let state = |target: &TargetSide| match (&target.state, target.copies) {
                (Some(route), _) => CopyState::Copied(route.clone()),
                (None, 0) => CopyState::Planned,
                (None, _) => CopyState::Copying,
            };
            let table = |table: &TableName| CopyTable {
                map: map(&table.name),
                bytes_estimated: world.tables[table].chunks * 100,
                rows_estimated: 0,
                state: state(&world.target[table]),
            };
            world.tables.keys().map(table).collect()
        });
        let crash = self.with(|world| world.crash.clone());
        let copy = Copy::new(self.clone(), self.clone(), tables, CopyConfig::default());
        // An hour of paused time is for ever: a copy that hangs fails its test.
        tokio::time::timeout(Duration::from_secs(3600), copy.run(crash)).await.expect("the copy ends")
    }

    fn copies(&self, table: &str) -> i32 {
        self.with(|world| world.target[&name(table)].copies)
    }

    /// The promise: every chunk is there, all under the snapshot of the route, and none was read after a rewrite.
    fn assert_copied(&self) {
        self.with(|world| {
            for (table, target) in &world.target {
                let source = &world.tables[table];
                let route = target.state.as_ref().unwrap_or_else(|| panic!("{table} is not copied"));
                let point = route.from.lsn().unwrap().0;
                assert_eq!(target.chunks.len() as u64, source.chunks, "{table}");
                assert!(target.chunks.values().all(|chunk| *chunk == (point, true)), "{table} mixes {target:?}");
                assert_eq!(source.guards_held, 0, "{table} is still guarded");
                assert!(target.restored > 0, "{table} has no indexes");
            }
        });
    }
}

struct FakeSnapshot {
    world: Shared,
    taken: u64,
    point: Position,
}

struct FakeGuard {
    world: Shared,
    table: TableName,
    chunks: u64,
    lost: bool,
}

struct FakeReader {
    world: Shared,
    taken: u64,
    open: Option<(TableName, u64, bool)>,
}

impl CopySource for Fake {
    type Snapshot = FakeSnapshot;

    async fn snapshot(&self) -> Result<FakeSnapshot, Problem> {
        let taken = self.with(|world| {
            world.now += 1;
            world.now
        });
        Ok(FakeSnapshot { world: Arc::clone(&self.0), taken, point: Position::postgres(Lsn(taken)) })
    }
}

impl CopySnapshot for FakeSnapshot {
    type Guard = FakeGuard;
    type Reader = FakeReader;

    fn point(&self) -> &Position {
        &self.point
    }

    async fn lost(&self) {
        while !self.world.lock().unwrap().lost_snapshots.contains(&self.taken) {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    async fn guard(&self, table: &TableMap) -> Result<Guarded<FakeGuard>, Problem> {
        tokio::task::yield_now().await;
        let mut world = self.world.lock().unwrap();
        let side = world.tables.get_mut(&table.source.name).unwrap();
        if side.busy_times > 0 {
            side.busy_times -= 1;
            return Ok(Guarded::Busy);
        }
        if side.rewritten_at >= self.taken {
            return Ok(Guarded::Rewritten);
        }
        side.guards_held += 1;
        side.guard_lost = false;
        let (world, table, chunks) = (Arc::clone(&self.world), table.source.name.clone(), side.chunks);
        Ok(Guarded::Held(FakeGuard { world, table, chunks, lost: false }))
    }

    async fn reader(&self) -> Result<FakeReader, Problem> {
        if self.world.lock().unwrap().lost_snapshots.contains(&self.taken) {
            return Err(problem(true));
        }
        Ok(FakeReader { world: Arc::clone(&self.world), taken: self.taken, open: None })
    }
}

impl TableGuard for FakeGuard {
    fn chunks(&self) -> Vec<Chunk> {
        Chunk::cut(self.chunks, 1)
    }

    async fn wanted(&mut self) -> Wanted {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let world = self.world.lock().unwrap();
            let side = &world.tables[&self.table];
            if side.guard_lost {
                self.lost = true;
                return Wanted::Lost;
            }
            if side.wanted {
                return Wanted::ByOther;
            }
        }
    }

    async fn release(mut self) -> bool {
        self.lost |= self.world.lock().unwrap().tables[&self.table].guard_lost;
        !self.lost
    }
}

impl Drop for FakeGuard {
    fn drop(&mut self) {
        let mut world = self.world.lock().unwrap();
        let now = world.now;
        let side = world.tables.get_mut(&self.table).unwrap();
        side.guards_held -= 1;
        side.wanted = false;
        if std::mem::take(&mut side.rewrite_when_let_go) {
            side.rewritten_at = now;
        }
    }
}

impl ChunkReader for FakeReader {
    async fn open(&mut self, table: &TableMap, chunk: &Chunk, _: CopyFormat) -> Result<(), Problem> {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let table = table.source.name.clone();
        let fault = {
            let mut world = self.world.lock().unwrap();
            let now = world.now;
            let taken = self.taken;
            let side = world.tables.get_mut(&table).unwrap();
            let fault = side.faults.get_mut(&chunk.number).and_then(|faults| match faults.front() {
                Some(Fault::AnswerLost | Fault::Refused) => None,
                _ => faults.pop_front(),
            });
            match fault {
                Some(Fault::Wanted) => side.wanted = true,
                Some(Fault::Rewritten) => (side.wanted, side.rewrite_when_let_go) = (true, true),
                Some(Fault::GuardLostAndRewritten) => (side.guard_lost, side.rewritten_at) = (true, now),
                Some(Fault::SnapshotLost) => {
                    world.lost_snapshots.insert(taken);
                }
                Some(Fault::Crash) => world.crash.cancel(),
                _ => {}
            }
            fault
        };
        match fault {
            // The chunk waits behind the one who waits for us, so only letting go helps.
            Some(Fault::Wanted | Fault::Rewritten | Fault::Crash) => std::future::pending().await,
            Some(Fault::ReaderLost | Fault::SnapshotLost) => return Err(problem(true)),
            _ => {}
        }
        let whole = self.world.lock().unwrap().tables[&table].rewritten_at < self.taken;
        self.open = Some((table, chunk.number, whole));
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let Some((table, chunk, whole)) = self.open.take() else { return Ok(None) };
        let mut world = self.world.lock().unwrap();
        world.tables.get_mut(&table).unwrap().reads.push((self.taken, chunk));
        Ok(Some(Bytes::from(format!("{} {whole}", self.taken))))
    }

    async fn abandon(self) {}
}

impl CopyTarget for Fake {
    type Writer = FakeWriter;

    async fn prepare(&self, stream: &[TableMap], loading: &[TableMap]) -> Result<(), Problem> {
        assert!(loading.len() <= stream.len());
        Ok(())
    }

    async fn begin(&self, table: &TableMap, _: u64) -> Result<Load, Problem> {
        self.with(|world| {
            let side = world.target.get_mut(&table.target).unwrap();
            assert!(side.state.is_none(), "a finished table was begun again");
            side.chunks.clear();
            side.copies += 1;
            Ok(Load { format: CopyFormat::Binary, copy: side.copies })
        })
    }

    fn writer(&self) -> FakeWriter {
        FakeWriter { world: Arc::clone(&self.0), open: None, rows: None }
    }

    async fn finish(&self, route: &TableRoute, load: &Load, chunks: u64) -> Result<(), Problem> {
        self.with(|world| {
            let side = world.target.get_mut(&route.map.target).unwrap();
            assert_eq!((side.copies, side.chunks.len() as u64), (load.copy, chunks));
            side.state = Some(route.clone());
            Ok(())
        })
    }

    async fn restore(&self, table: &TableMap) -> Result<(), Problem> {
        self.with(|world| world.target.get_mut(&table.target).unwrap().restored += 1);
        Ok(())
    }
}

struct FakeWriter {
    world: Shared,
    open: Option<(TableName, u64)>,
    rows: Option<(u64, bool)>,
}

impl ChunkWriter for FakeWriter {
    async fn begin(&mut self, table: &TableMap, load: &Load, chunk: &Chunk) -> Result<ChunkStart, Problem> {
        let world = self.world.lock().unwrap();
        let side = &world.target[&table.target];
        assert_eq!(side.copies, load.copy, "a chunk of an earlier copy");
        if side.chunks.contains_key(&chunk.number) {
            return Ok(ChunkStart::Written(ChunkSize { rows: 1, bytes: 1 }));
        }
        self.open = Some((table.target.clone(), chunk.number));
        Ok(ChunkStart::Open)
    }

    async fn write(&mut self, block: Bytes) -> Result<(), Problem> {
        let text = String::from_utf8(block.to_vec()).unwrap();
        let (taken, whole) = text.split_once(' ').unwrap();
        self.rows = Some((taken.parse().unwrap(), whole.parse().unwrap()));
        Ok(())
    }

    async fn commit(&mut self) -> Result<ChunkSize, Problem> {
        let (table, chunk) = self.open.take().unwrap();
        let mut world = self.world.lock().unwrap();
        let source = world.tables.get_mut(&table).unwrap();
        let fault = source.faults.get_mut(&chunk).and_then(VecDeque::pop_front);
        if fault == Some(Fault::Refused) {
            return Err(problem(false));
        }
        let rows = self.rows.take().unwrap();
        assert!(world.target.get_mut(&table).unwrap().chunks.insert(chunk, rows).is_none(), "written twice");
        if fault == Some(Fault::AnswerLost) { Err(problem(true)) } else { Ok(ChunkSize { rows: 1, bytes: 1 }) }
    }

    async fn abandon(&mut self) {
        (self.open, self.rows) = (None, None);
    }
}

#[tokio::test(start_paused = true)]
async fn every_chunk_is_copied_once_under_one_snapshot() {
    let fake = Fake::new(&[("a", 7), ("b", 1), ("c", 30)]);
    let CopyEnd::Copied(routes) = fake.run().await.unwrap() else { panic!("stopped") };
    assert_eq!(routes.iter().map(|route| route.map.source.name.clone()).collect::<Vec<_>>(), ["a", "b", "c"].map(name));
    fake.assert_copied();
    fake.with(|world| {
        assert_eq!(world.now, 1, "one snapshot");
        assert!(world.tables.values().all(|side| side.reads.len() as u64 == side.chunks));
    });
}

#[tokio::test(start_paused = true)]
async fn a_lost_snapshot_costs_only_unfinished_tables() {
    let fake = Fake::new(&[("big", 40), ("small", 1)]);
    fake.fault("big", 30, Fault::SnapshotLost);
    fake.run().await.unwrap();
    fake.assert_copied();
    assert_eq!((fake.copies("big"), fake.copies("small")), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_table_let_go_and_not_rewritten_keeps_its_chunks() {
    let fake = Fake::new(&[("a", 20)]);
    fake.fault("a", 10, Fault::Wanted);
    fake.run().await.unwrap();
    fake.assert_copied();
    assert_eq!(fake.copies("a"), 1);
    fake.with(|world| assert_eq!(world.tables[&name("a")].reads.len(), 20));
}

#[tokio::test(start_paused = true)]
async fn a_rewritten_table_is_read_again_at_a_new_point_and_the_others_are_not() {
    let fake = Fake::new(&[("a", 20), ("b", 20)]);
    fake.fault("a", 10, Fault::Rewritten);
    fake.run().await.unwrap();
    fake.assert_copied();
    assert_eq!((fake.copies("a"), fake.copies("b")), (2, 1));
    fake.with(|world| assert_eq!(world.target[&name("a")].state.as_ref().unwrap().from.lsn(), Some(Lsn(2))));
}

#[tokio::test(start_paused = true)]
async fn chunks_read_behind_a_lost_guard_do_not_count() {
    // Also at the last chunk, where nobody looks at the guard again before the table is finished.
    for chunk in [0, 3, 5] {
        let fake = Fake::new(&[("a", 6)]);
        fake.fault("a", chunk, Fault::GuardLostAndRewritten);
        fake.run().await.unwrap();
        fake.assert_copied();
    }
}

#[tokio::test(start_paused = true)]
async fn lost_readers_and_lost_answers_double_nothing() {
    let fake = Fake::new(&[("a", 9)]);
    fake.fault("a", 2, Fault::ReaderLost);
    fake.fault("a", 5, Fault::AnswerLost);
    fake.fault("a", 8, Fault::AnswerLost);
    fake.run().await.unwrap();
    fake.assert_copied();
    assert_eq!(fake.copies("a"), 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_finished_tables_are_not_read_again() {
    let fake = Fake::new(&[("a", 3), ("b", 50)]);
    fake.fault("b", 49, Fault::Crash);
    assert_eq!(fake.run().await.unwrap(), CopyEnd::Stopped);
    assert_eq!(fake.copies("a"), 1);
    fake.run().await.unwrap();
    fake.assert_copied();
    assert_eq!((fake.copies("a"), fake.copies("b")), (1, 2));
    fake.with(|world| assert_eq!(world.tables[&name("a")].reads.len(), 3));
}

#[tokio::test(start_paused = true)]
async fn a_table_that_is_never_to_be_had_holds_no_snapshot_and_ends_well_at_last() {
    let fake = Fake::new(&[("a", 2), ("b", 2)]);
    fake.with(|world| world.tables.get_mut(&name("a")).unwrap().busy_times = 12);
    let before = tokio::time::Instant::now();
    fake.run().await.unwrap();
    fake.assert_copied();
    assert!(fake.with(|world| world.now) >= 3, "a new snapshot for each round");
    assert!(before.elapsed() > Duration::from_secs(10), "the pauses grow");
    assert_eq!(fake.copies("b"), 1);
}

#[tokio::test(start_paused = true)]
async fn rows_that_the_target_refuses_stop_the_copy() {
    let fake = Fake::new(&[("a", 9), ("b", 9)]);
    fake.fault("a", 4, Fault::Refused);
    assert_eq!(fake.run().await.unwrap_err().code, "CP003");
    tokio::task::yield_now().await;
    fake.with(|world| assert!(world.tables.values().all(|side| side.guards_held == 0), "nothing is left running"));
}

#[tokio::test(start_paused = true)]
async fn progress_reaches_its_end() {
    let fake = Fake::new(&[("a", 4), ("b", 1)]);
    let tables = ["a", "b"].map(|table| CopyTable {
        map: map(table),
        bytes_estimated: 0,
        rows_estimated: 0,
        state: CopyState::Planned,
    });
    let copy = Copy::new(fake.clone(), fake.clone(), tables.to_vec(), CopyConfig::default());
    let progress = copy.progress();
    copy.run(CancellationToken::new()).await.unwrap();
    let progress = progress.borrow().clone();
    assert_eq!((progress.copied(), progress.rows, progress.fraction), (2, 5, 1.0));
    assert_eq!((progress.waiting_for, progress.time_left), (None, Some(Duration::ZERO)));
}
