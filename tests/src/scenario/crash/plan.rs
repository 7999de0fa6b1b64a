//! What a run is to do, and what it did.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::sampler::Samples;

/// From what to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// PostgreSQL to PostgreSQL.
    PostgresToPostgres,
    /// PostgreSQL to CockroachDB.
    PostgresToCockroach,
    /// CockroachDB to PostgreSQL.
    CockroachToPostgres,
}

impl Direction {
    /// Returns whether CockroachDB is on one end.
    pub fn has_cockroach(self) -> bool {
        self != Direction::PostgresToPostgres
    }
}

impl FromStr for Direction {
    type Err = String;

    fn from_str(text: &str) -> Result<Direction, String> {
        match text {
            "postgres-postgres" => Ok(Direction::PostgresToPostgres),
            "postgres-cockroach" => Ok(Direction::PostgresToCockroach),
            "cockroach-postgres" => Ok(Direction::CockroachToPostgres),
            _ => Err(format!("{text:?} is not postgres-postgres, postgres-cockroach or cockroach-postgres")),
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::PostgresToPostgres => "PostgreSQL -> PostgreSQL",
            Direction::PostgresToCockroach => "PostgreSQL -> CockroachDB",
            Direction::CockroachToPostgres => "CockroachDB -> PostgreSQL",
        })
    }
}

/// How much traffic, and how often what is killed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// From what to what. Between PostgreSQL servers the traffic is pgbench, which speaks to nothing else; otherwise
    /// transfers.
    pub direction: Direction,
    /// The amount of rows to copy: 100,000 accounts of pgbench, or 25,000 wider rows, each.
    pub scale: u32,
    /// Clients that write to the source.
    pub clients: u32,
    /// Their transactions per second, together.
    pub rate: u32,
    /// Kills of the engine while it copies.
    pub kills_in_copy: u32,
    /// Kills of the engine while a COMMIT of a batch is unanswered.
    pub kills_in_flight: u32,
    /// Kills of the engine at any moment.
    pub kills_anywhere: u32,
    /// Kills of the source server.
    pub source_kills: u32,
    /// Kills of the target server.
    pub target_kills: u32,
    /// The least number of samples of the target, taken from outside with CockroachDB on one end.
    pub samples_min: usize,
    /// Decides the moments.
    pub seed: u64,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Kills of the engine while it copied.
    pub in_copy: u32,
    /// Kills of the engine while a COMMIT was unanswered.
    pub in_flight: u32,
    /// Kills of the engine at any moment.
    pub anywhere: u32,
    /// Kills of the source server.
    pub source: u32,
    /// Kills of the target server.
    pub target: u32,
    /// Transactions that the source acknowledged to those who know what must be there.
    pub acknowledged: usize,
    /// Transactions that the source asked to run again.
    pub retries: u64,
    /// What a reader of the target saw.
    pub samples: Option<Samples>,
    /// Rows compared.
    pub rows: u64,
    /// How long all of it took.
    pub took: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "engine killed {} times:", self.in_copy + self.in_flight + self.anywhere)?;
        writeln!(f, "  {} during the copy", self.in_copy)?;
        writeln!(f, "  {} with a batch in flight", self.in_flight)?;
        writeln!(f, "  {} at any moment", self.anywhere)?;
        writeln!(f, "source server killed {} times, target server {} times", self.source, self.target)?;
        writeln!(f, "{} transactions acknowledged by the source: all there, once", self.acknowledged)?;
        if let Some(samples) = &self.samples {
            writeln!(f, "{} transactions run again because the source asked for it", self.retries)?;
            writeln!(f, "{samples}")?;
        }
        write!(f, "{} rows compared, source and target are equal; took {:.0?}", self.rows, self.took)
    }
}
