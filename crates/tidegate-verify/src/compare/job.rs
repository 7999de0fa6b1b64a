//! The comparison of one table: what to read on which side, and how to look at it.

use std::future::Future;
use std::sync::Arc;

use futures_util::future::try_join;
use tidegate_model::{Position, Problem, TableMap};
use tokio::task::JoinSet;

use super::{Options, Pair};
use crate::layout::Layout;
use crate::problem;
use crate::side::{Selection, Side};

/// One of the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Target,
}

/// The rows of one side.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) side: Side,
    pub(crate) selection: Selection,
}

#[derive(Debug)]
pub(crate) struct Job {
    table: TableMap,
    options: Options,
    position: Position,
    source: Reading,
    target: Reading,
    layout: Arc<Layout>,
}

impl Job {
    pub(crate) fn new(pair: &Pair, table: &TableMap, options: &Options) -> Job {
        let select = |end| Reading { side: pair.side(end).clone(), selection: selection(table, end) };
        Job {
            layout: Arc::new(Layout::of(table, options.equality)),
            source: select(End::Source),
            target: select(End::Target),
            table: table.clone(),
            options: options.clone(),
            position: pair.position.clone(),
        }
    }

    pub(crate) fn table(&self) -> &TableMap {
        &self.table
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn position(&self) -> &Position {
        &self.position
    }

    pub(crate) fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    pub(crate) fn reading(&self, end: End) -> &Reading {
        match end {
            End::Source => &self.source,
            End::Target => &self.target,
        }
    }

    /// Asks the servers for sums; returns the number of rows if they are equal. Not with a limit on the rate: a server
    /// sums up as fast as it can.
    pub(crate) async fn equal_at_the_servers(&self) -> Result<Option<u64>, Problem> {
        let both_postgres = self.source.side.is_postgres() && self.target.side.is_postgres();
        if !both_postgres || self.options.rows_per_second.is_some() {
            return Ok(None);
        }
        let source = self.source.side.checksum(&self.source.selection);
        let target = self.target.side.checksum(&self.target.selection);
        let (source, target) = try_join(source, target).await?;
        Ok(source.filter(|sum| Some(sum) == target.as_ref()).map(|sum| sum.rows))
    }

    /// Does the same on both sides at once, each on a processor of its own where there are two.
    pub(crate) async fn both<T, F>(&self, read: impl Fn(End) -> F) -> Result<(T, T), Problem>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        // A set ends its tasks when it is dropped.
        let mut task = JoinSet::new();
        task.spawn(read(End::Target));
        let target = async move {
            let joined = task.join_next().await.ok_or_else(|| problem::reader_ended("there was no task"))?;
            joined.map_err(|error| problem::reader_ended(&error.to_string()))?
        };
        try_join(read(End::Source), target).await
    }
}

impl Pair {
    fn side(&self, end: End) -> &Side {
        match end {
            End::Source => &self.source,
            End::Target => &self.target,
        }
    }
}

/// Returns what is read of a table: the columns of the map, in its order. What the target has besides is left out.
pub(crate) fn selection(table: &TableMap, end: End) -> Selection {
    let name = match end {
        End::Source => &table.source.name,
        End::Target => &table.target,
    };
    let column = |map: &tidegate_model::ColumnMap| match end {
        End::Source => map.source.to_string(),
        End::Target => map.target.to_string(),
    };
    Selection { table: name.clone(), columns: table.columns.iter().map(column).collect(), key: table.key.clone() }
}
