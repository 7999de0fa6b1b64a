//! What the engine wants of the database that a stream reads, whichever kind it is.

use std::future::Future;

use serde_json::Value;
use tidegate_model::{
    CopySource, CopyTable, Finding, Position, Problem, RelationId, Source, TableFilter, TableName, TableRoute,
};
use tidegate_source_cockroach::Work;
use tidegate_sql::check::WantedTable;
use tidegate_sql::copy::PlannedTable;

use super::{Before, Board, Run, Wishes};

/// A table that a stream could carry.
#[derive(Debug, Clone)]
pub struct Listed {
    pub wanted: WantedTable,
    pub rows_estimated: u64,
    pub bytes_estimated: u64,
}

impl Listed {
    pub fn name(&self) -> &TableName {
        &self.wanted.source.name
    }

    pub fn id(&self) -> RelationId {
        self.wanted.source.id
    }
}

/// Where a stream begins, or goes on.
#[derive(Debug)]
pub struct Start<B> {
    pub position: Position,
    /// All tables of the stream, as the state knows them.
    pub tables: Vec<CopyTable>,
    /// What only this kind of database knows of the beginning.
    pub begun: B,
}

/// What a running source says of itself.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// The end of the source's history.
    pub end: Option<Position>,
    pub lag_bytes: Option<u64>,
    pub lag_seconds: Option<f64>,
    pub retained_wal_bytes: Option<u64>,
    /// How long the source still keeps what the stream has not applied.
    pub history_seconds_left: Option<f64>,
    pub waiting_for: Option<String>,
    pub spooled_bytes: u64,
}

/// Reads what a running source says of itself, given what was received from it.
pub type View = Box<dyn FnMut(&Position) -> Reading + Send>;

/// The database that a stream reads.
pub trait Upstream: Sync {
    /// Streams what it commits.
    type Source: Source;
    /// Reads what is there already.
    type Copy: CopySource;
    /// What it knows of a stream's beginning.
    type Begun: Send;

    /// Finds what would make the stream fail.
    fn findings(
        &self,
        filter: &TableFilter,
        wishes: &Wishes,
    ) -> impl Future<Output = Result<Vec<Finding>, Problem>> + Send;

    /// Lists the tables that the filter takes and that can be carried.
    fn tables(&self, filter: &TableFilter) -> impl Future<Output = Result<Vec<Listed>, Problem>> + Send;

    /// Refuses what would lose, repeat or mix up rows. Nothing may be written before this has passed.
    fn verify(&self, before: &Before, wishes: &Wishes) -> impl Future<Output = Result<(), Problem>> + Send;

    /// Returns the history that a stream which begins now belongs to, as the state keeps it.
    fn identity(&self) -> impl Future<Output = Result<Value, Problem>> + Send;

    /// Makes the start point, once, or finds it again.
    fn start(
        &self,
        run: &Run<'_>,
        planned: &[PlannedTable],
    ) -> impl Future<Output = Result<Start<Self::Begun>, Problem>> + Send;

    /// Returns what the copy reads from.
    fn copy_source(&self, begun: &mut Self::Begun) -> Self::Copy;

    /// Watches over what the source must keep while nothing streams from it, and returns the problem when it cannot.
    fn watch_copy(&self, begun: &Self::Begun, at: &Position, board: &Board) -> impl Future<Output = Problem> + Send;

    /// Starts to stream. `work` returns a number that changes while the target is being written.
    fn source(
        &self,
        run: &Run<'_>,
        begun: &Self::Begun,
        position: &Position,
        routes: &[TableRoute],
        work: Work,
    ) -> impl Future<Output = Result<(Self::Source, View), Problem>> + Send;

    /// Ends a source in good order.
    fn close(&self, source: Self::Source) -> impl Future<Output = ()> + Send;

    /// Watches the source's tables, and returns the problem of changes that the stream would miss.
    fn watch_tables(
        &self,
        begun: &Self::Begun,
        routes: &[TableRoute],
        board: &Board,
    ) -> impl Future<Output = Problem> + Send;

    /// Makes a place in the history to wait for: whatever was committed before lies at or before it.
    fn marker(&self) -> impl Future<Output = Result<Position, Problem>> + Send;

    /// Refuses to say "everything is there" where the source may have left out changes.
    fn verify_carried(&self, before: &Before) -> impl Future<Output = Result<(), Problem>> + Send;
}

/// Reads the history that a stored checkpoint, or the intention to make one, belongs to.
pub fn stored_history<H: serde::de::DeserializeOwned>(stored: Option<&Value>) -> Result<Option<H>, Problem> {
    stored.cloned().map(serde_json::from_value).transpose().map_err(|error| {
        let what = "the history of the checkpoint cannot be read";
        let next = "check that --source and --target are what they were when the migration began; nothing but tidegate \
                    may write to the state tables: restore the row from a backup";
        Problem::definite("MI001", what, error.to_string(), next)
    })
}
