//! Both ends of a pipeline without a database: what the traits ask for, in its plainest form.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_model::{
    Applier, Batch, Change, Changes, Checkpoint, ColumnName, Event, Lsn, NewRow, OldRow, Position, Problem, RelationId,
    ReplicaIdentity, Row, Source, SourceColumn, SourceTable, TableName, Timestamp, Transaction, Value,
};
use tokio::sync::Notify;

/// The distance between two commits of a [`MemoryHistory`].
const STEP: u64 = 10;
/// The type `int8`.
const INT8_OID: u32 = 20;
/// The type `text`.
const TEXT_OID: u32 = 25;

/// Returns the table that tests in memory use: `id`, which is the key, and `note`.
pub fn table(name: &str) -> Arc<SourceTable> {
    let column = |name: &str, type_oid, identity| SourceColumn {
        name: ColumnName::from(name),
        type_oid,
        type_modifier: -1,
        identity,
    };
    Arc::new(SourceTable {
        id: RelationId(1),
        name: TableName::new("public", name),
        replica_identity: ReplicaIdentity::Default,
        columns: vec![column("id", INT8_OID, true), column("note", TEXT_OID, false)],
    })
}

/// Returns an insert into such a table.
pub fn insert(table: &Arc<SourceTable>, id: u64) -> Change {
    let id = id.to_string();
    Change::Insert {
        table: Arc::clone(table),
        new: [Value::Text(id.as_bytes()), Value::Text(b"new")].into_iter().collect(),
    }
}

/// Returns an update of a row of such a table that leaves its key alone.
pub fn update(table: &Arc<SourceTable>, id: u64) -> Change {
    let id = id.to_string();
    let new: Row = [Value::Text(id.as_bytes()), Value::Text(b"changed")].into_iter().collect();
    Change::Update { table: Arc::clone(table), old: None, new: NewRow::from(new) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a source in memory has committed. Clones are the same history.
#[derive(Clone, Debug, Default)]
pub struct MemoryHistory {
    inner: Arc<Mutex<Committed>>,
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Committed {
    events: Vec<Event>,
    end: u64,
    acknowledged: Option<Position>,
}

impl MemoryHistory {
    /// Returns the position before everything.
    pub fn start() -> Position {
        Position::postgres(Lsn(0))
    }

    /// Commits a transaction; returns its position.
    pub fn commit(&self, changes: Vec<Change>) -> Position {
        self.append(|position| {
            let changes = Changes::Memory(changes.into());
            Event::Commit(Transaction { position, committed_at: Timestamp(0), xid: None, changes })
        })
    }

    /// Lets time pass without a transaction; returns the position that the source then tells.
    pub fn idle(&self) -> Position {
        self.append(Event::Watermark)
    }

    fn append(&self, event: impl FnOnce(Position) -> Event) -> Position {
        let mut inner = lock(&self.inner);
        inner.end += STEP;
        let position = Position::postgres(Lsn(inner.end));
        let event = event(position.clone());
        inner.events.push(event);
        drop(inner);
        self.changed.notify_waiters();
        position
    }

    /// Returns up to where the source was told that it may forget.
    pub fn acknowledged(&self) -> Option<Position> {
        lock(&self.inner).acknowledged.clone()
    }

    /// Reads what lies after `from`.
    pub fn open(&self, from: &Position) -> MemorySource {
        let inner = lock(&self.inner);
        let next = inner.events.iter().position(|event| position_of(event) > from).unwrap_or(inner.events.len());
        drop(inner);
        MemorySource { history: self.clone(), next }
    }
}

fn position_of(event: &Event) -> &Position {
    match event {
        Event::Commit(transaction) => &transaction.position,
        Event::Watermark(position) => position,
    }
}

/// Reads a [`MemoryHistory`].
#[derive(Debug)]
pub struct MemorySource {
    history: MemoryHistory,
    next: usize,
}

impl Source for MemorySource {
    async fn next(&mut self) -> Result<Event, Problem> {
        loop {
            let changed = self.history.changed.notified();
            let event = lock(&self.history.inner).events.get(self.next).cloned();
            if let Some(event) = event {
                self.next += 1;
                return Ok(event);
            }
            changed.await;
        }
    }

    async fn acknowledge(&mut self, position: &Position) -> Result<(), Problem> {
        let mut inner = lock(&self.history.inner);
        if inner.acknowledged.as_ref().is_none_or(|acknowledged| acknowledged < position) {
            inner.acknowledged = Some(position.clone());
        }
        Ok(())
    }
}

type Cells = Vec<Option<Vec<u8>>>;
/// The rows of one table by key.
type Rows = BTreeMap<Cells, Cells>;

#[derive(Clone, Debug)]
struct Content {
    checkpoint: Checkpoint,
    tables: BTreeMap<TableName, Rows>,
}

/// A target in memory. Clones are the same target.
#[derive(Clone, Debug)]
pub struct MemoryTarget {
    content: Arc<Mutex<Content>>,
}

impl MemoryTarget {
    /// Makes an empty one that stands at `position`.
    pub fn at(position: Position) -> MemoryTarget {
        let content = Content { checkpoint: Checkpoint { applied: position }, tables: BTreeMap::new() };
        MemoryTarget { content: Arc::new(Mutex::new(content)) }
    }

    /// Returns how far it is.
    pub fn position(&self) -> Position {
        lock(&self.content).checkpoint.applied.clone()
    }

    /// Returns the first columns of the rows of a table, as numbers, in order.
    pub fn ids(&self, table: &TableName) -> Vec<u64> {
        let content = lock(&self.content);
        let rows = content.tables.get(table).into_iter().flat_map(BTreeMap::values);
        let id = |row: &Cells| String::from_utf8_lossy(row[0].as_deref().unwrap_or_default()).parse().unwrap_or(0);
        let mut ids: Vec<u64> = rows.map(id).collect();
        ids.sort_unstable();
        ids
    }

    /// Starts writing where it stands.
    pub fn open(&self) -> MemoryApplier {
        MemoryApplier { target: self.clone(), under_way: VecDeque::new(), refused: None }
    }

    /// Writes the batch with its checkpoint, or nothing.
    fn write(&self, batch: &Batch) -> Result<(), Problem> {
        let mut content = lock(&self.content);
        let mut next = content.clone();
        next.checkpoint
            .advance(&batch.span)
            .map_err(|error| Problem::bug("TK001", "a batch does not fit the checkpoint", error.to_string()))?;
        for transaction in &batch.transactions {
            for change in transaction.changes.read()? {
                next.apply(&change?)?;
            }
        }
        *content = next;
        Ok(())
    }
}

impl Content {
    fn apply(&mut self, change: &Change) -> Result<(), Problem> {
        match change {
            Change::Insert { table, new } => {
                let rows = self.tables.entry(table.name.clone()).or_default();
                match rows.insert(key(table, new), cells(new)) {
                    None => Ok(()),
                    Some(_) => Err(refused(table, "the row is there already")),
                }
            }
            Change::Update { table, old, new } => {
                let rows = self.tables.entry(table.name.clone()).or_default();
                let old_key = key(table, old.as_ref().map_or(new.row(), OldRow::row));
                let before = rows.remove(&old_key).ok_or_else(|| refused(table, "there is no row with this key"))?;
                let kept = |(index, cell): (usize, Option<Vec<u8>>)| match new.row().value(index) {
                    Value::Unchanged => before[index].clone(),
                    _ => cell,
                };
                let after: Cells = cells(new.row()).into_iter().enumerate().map(kept).collect();
                rows.insert(key(table, new.row()), after);
                Ok(())
            }
            Change::Delete { table, old } => {
                let rows = self.tables.entry(table.name.clone()).or_default();
                match rows.remove(&key(table, old.row())) {
                    Some(_) => Ok(()),
                    None => Err(refused(table, "there is no row with this key")),
                }
            }
            Change::Truncate { tables } => {
                for table in tables {
                    self.tables.remove(&table.name);
                }
                Ok(())
            }
            Change::Message { .. } => Ok(()),
        }
    }
}

fn refused(table: &SourceTable, why: &str) -> Problem {
    Problem::definite("TK002", format!("table \"{table}\" refuses a row"), why, "this target is for tests")
}

fn cells(row: &Row) -> Cells {
    let cell = |value: Value<'_>| match value {
        Value::Null | Value::Unchanged => None,
        Value::Text(bytes) | Value::Binary(bytes) => Some(bytes.to_vec()),
    };
    row.values().map(cell).collect()
}

fn key(table: &SourceTable, row: &Row) -> Cells {
    let identity = table.columns.iter().zip(cells(row)).filter(|(column, _)| column.identity);
    identity.map(|(_, cell)| cell).collect()
}

/// Writes to a [`MemoryTarget`], a batch each time it is asked for progress.
#[derive(Debug)]
pub struct MemoryApplier {
    target: MemoryTarget,
    under_way: VecDeque<Batch>,
    refused: Option<String>,
}

impl Applier for MemoryApplier {
    async fn submit(&mut self, batch: Batch) -> Result<(), Problem> {
        self.under_way.push_back(batch);
        Ok(())
    }

    async fn durable(&mut self, than: &Position) -> Result<Position, Problem> {
        loop {
            let position = self.target.position();
            if position > *than {
                return Ok(position);
            }
            if let Some(why) = &self.refused {
                return Err(Problem::definite("TK003", "the applier has stopped", why.as_str(), "open a new one"));
            }
            let Some(batch) = self.under_way.pop_front() else { return std::future::pending().await };
            if let Err(problem) = self.target.write(&batch) {
                self.refused = Some(problem.why.clone());
                self.under_way.clear();
                return Err(problem);
            }
        }
    }
}
