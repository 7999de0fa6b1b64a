//! The traffic of a run.

use std::time::Duration;

use super::plan::{Direction, Plan};
use crate::database::Database;
use crate::oracle::{self, Oracle};
use crate::pgbench::{self, Traffic};
use crate::sampler::Sampler;
use crate::transfers::{self, Transfers};
use crate::{Migration, compare};

const BALLAST_PER_SCALE: u32 = 25_000;
/// Between samples. On CockroachDB a reader stands in the way of the writers it reads from.
const SAMPLE_EVERY: [Duration; 2] = [Duration::from_millis(40), Duration::from_millis(250)];

/// What writes to the source.
pub(super) struct Load {
    oracle: Oracle,
    main: Main,
}

enum Main {
    Pgbench(Traffic),
    Transfers(Transfers, transfers::Plan),
}

impl Load {
    /// Makes the tables in both databases, fills the source's and starts to write.
    pub(super) fn start(plan: &Plan, source: &Database, target: &Database) -> Load {
        for database in [source, target] {
            oracle::create_tables(database);
        }
        let main = if plan.direction == Direction::PostgresToPostgres {
            pgbench::initialize(source, target, plan.scale);
            source.sql("ALTER TABLE pgbench_history REPLICA IDENTITY FULL");
            Main::Pgbench(Traffic::start(source, plan.clients, plan.rate))
        } else {
            let ballast = BALLAST_PER_SCALE * plan.scale;
            let transfers = transfers::Plan { ballast, ..transfers::Plan::new(plan.clients, plan.rate, plan.seed) };
            for database in [source, target] {
                transfers::create_tables(database);
            }
            transfers::fill(source, &transfers);
            Main::Transfers(Transfers::start(source, &transfers), transfers)
        };
        let oracle = Oracle::start(source, 2, Duration::from_millis(10), plan.seed);
        Load { oracle, main }
    }

    /// Goes on after the source was down.
    pub(super) fn start_again(&mut self, plan: &Plan, source: &Database) {
        if let Main::Pgbench(traffic) = &mut self.main {
            *traffic = Traffic::start(source, plan.clients, plan.rate);
        }
    }

    /// Starts to look at the target, where the traffic has something that every reader must see.
    pub(super) fn sampler(&self, target: &Database) -> Option<Sampler> {
        let Main::Transfers(_, plan) = &self.main else { return None };
        let every = SAMPLE_EVERY[usize::from(target.cockroach().is_some())];
        Some(Sampler::start(target, plan.total(), every))
    }

    /// Stops writing.
    pub(super) fn stop(self) -> Written {
        let transfers = match self.main {
            Main::Pgbench(traffic) => {
                drop(traffic);
                None
            }
            Main::Transfers(transfers, plan) => Some((transfers.stop(), plan.total())),
        };
        Written { oracle: self.oracle.stop(), transfers }
    }
}

/// What must be there in the end.
pub(super) struct Written {
    oracle: oracle::Acknowledged,
    transfers: Option<(transfers::Made, i64)>,
}

impl Written {
    /// Fails the run unless both ends are equal and hold what was acknowledged; returns how many rows were compared.
    pub(super) fn verify(&self, migration: &Migration) -> u64 {
        migration.assert_equal();
        for database in [&migration.source, &migration.target] {
            let mut problems = self.oracle.problems(database);
            if let Some((made, total)) = &self.transfers {
                problems.extend(made.problems(database, *total));
            }
            assert!(problems.is_empty(), "in {}:\n{}", database.name, problems.join("\n"));
        }
        compare::row_count(&migration.target)
    }

    /// Returns how many transactions were acknowledged.
    pub(super) fn acknowledged(&self) -> usize {
        self.oracle.count() + self.transfers.as_ref().map_or(0, |(made, _)| made.count())
    }

    /// Returns how many transactions were run again because the source asked for it.
    pub(super) fn retries(&self) -> u64 {
        self.transfers.as_ref().map_or(0, |(made, _)| made.retries)
    }
}
