//! The configuration: flags over file over defaults. One struct of options serves both, so that every key is also a flag.

mod file;
mod quantity;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use tidegate_connect::Settings;
use tidegate_model::{MigrationName, Problem};

use crate::cli::{MigrationArgs, TruncatePolicy, WalBudgetPolicy};
pub use file::{File, Location, Shown};
pub use quantity::{ByteCount, Interval};

/// How a migration runs. A key left out takes its default.
#[derive(Debug, Clone, Default, Args, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineOptions {
    /// Closes a batch; with --batches-in-flight-max it bounds memory [default: 8MiB]
    #[arg(long, value_name = "BYTES", help_heading = "Pipeline")]
    pub batch_bytes_max: Option<ByteCount>,
    /// Closes a batch of many small transactions [default: 2000]
    #[arg(long, value_name = "COUNT", help_heading = "Pipeline")]
    pub batch_transactions_max: Option<usize>,
    /// Batches sent to the target before the first of them is answered [default: 3]
    #[arg(long, value_name = "COUNT", help_heading = "Pipeline")]
    pub batches_in_flight_max: Option<usize>,
    /// How long a transaction waits for company while the target is busy [default: 20ms]
    #[arg(long, value_name = "TIME", help_heading = "Pipeline")]
    pub flush_after: Option<Interval>,
    /// How often an idle stream moves its checkpoint [default: 5s]
    #[arg(long, value_name = "TIME", help_heading = "Pipeline")]
    pub idle_checkpoint_every: Option<Interval>,
    /// Memory for transactions that are not committed yet; what is larger goes to disk [default: 64MiB]
    #[arg(long, value_name = "BYTES", help_heading = "Pipeline")]
    pub memory_budget: Option<ByteCount>,
    /// Where transactions larger than memory are held [default: the system's temporary directory]
    #[arg(long, value_name = "DIR", help_heading = "Pipeline")]
    pub spool_dir: Option<PathBuf>,
    /// The most that may be held there [default: half of its free space]
    #[arg(long, value_name = "BYTES", help_heading = "Pipeline")]
    pub spool_bytes_max: Option<ByteCount>,
    /// Tables and parts of tables copied at the same time [default: 4]
    #[arg(long, value_name = "COUNT", help_heading = "Pipeline")]
    pub copy_workers: Option<usize>,
    /// How much of a table is copied in one transaction [default: 32MiB]
    #[arg(long, value_name = "BYTES", help_heading = "Pipeline")]
    pub copy_chunk_bytes: Option<ByteCount>,
    /// How long a stronger lock at the source may wait behind the copy before the copy lets go [default: 5s]
    #[arg(long, value_name = "TIME", help_heading = "Pipeline")]
    pub copy_lock_yield: Option<Interval>,
    /// Writes a small message into the source's log this often, so that positions move without traffic [default: never]
    #[arg(long, value_name = "TIME", help_heading = "Pipeline")]
    pub heartbeat_every: Option<Interval>,
    /// The WAL that the source may keep for this migration; half of it warns
    /// [default: 80% of max_slot_wal_keep_size where that is set]
    #[arg(long, value_name = "BYTES", help_heading = "Pipeline")]
    pub wal_budget: Option<ByteCount>,
    /// A transaction larger than this is applied to CockroachDB in declared parts, each a transaction of its own; until
    /// the last of them readers of the target see a part of it [default: 64MiB]
    #[arg(long, value_name = "BYTES", help_heading = "Pipeline")]
    pub giant_transaction_bytes: Option<ByteCount>,
    /// How a TRUNCATE of the source is done at the target [default: truncate; with --direction both always delete]
    #[arg(long, value_enum, value_name = "POLICY", help_heading = "Pipeline")]
    pub truncate_as: Option<TruncatePolicy>,
    /// How often a CockroachDB source says up to where its changes are complete [default: 1s]
    #[arg(long, value_name = "TIME", help_heading = "Pipeline")]
    pub resolved_every: Option<Interval>,
    /// How long a changefeed may say nothing before it is opened again [default: 1m]
    #[arg(long, value_name = "TIME", help_heading = "Pipeline")]
    pub resolved_silence_max: Option<Interval>,
    /// What happens when the budget is reached [default: stop]
    #[arg(long, value_enum, value_name = "POLICY", help_heading = "Pipeline")]
    pub wal_budget_policy: Option<WalBudgetPolicy>,
}

impl PipelineOptions {
    /// Fills what is not set here from `lower`.
    fn or(self, lower: PipelineOptions) -> PipelineOptions {
        PipelineOptions {
            batch_bytes_max: self.batch_bytes_max.or(lower.batch_bytes_max),
            batch_transactions_max: self.batch_transactions_max.or(lower.batch_transactions_max),
            batches_in_flight_max: self.batches_in_flight_max.or(lower.batches_in_flight_max),
            flush_after: self.flush_after.or(lower.flush_after),
            idle_checkpoint_every: self.idle_checkpoint_every.or(lower.idle_checkpoint_every),
            memory_budget: self.memory_budget.or(lower.memory_budget),
            spool_dir: self.spool_dir.or(lower.spool_dir),
            spool_bytes_max: self.spool_bytes_max.or(lower.spool_bytes_max),
            copy_workers: self.copy_workers.or(lower.copy_workers),
            copy_chunk_bytes: self.copy_chunk_bytes.or(lower.copy_chunk_bytes),
            copy_lock_yield: self.copy_lock_yield.or(lower.copy_lock_yield),
            heartbeat_every: self.heartbeat_every.or(lower.heartbeat_every),
            giant_transaction_bytes: self.giant_transaction_bytes.or(lower.giant_transaction_bytes),
            truncate_as: self.truncate_as.or(lower.truncate_as),
            resolved_every: self.resolved_every.or(lower.resolved_every),
            resolved_silence_max: self.resolved_silence_max.or(lower.resolved_silence_max),
            wal_budget: self.wal_budget.or(lower.wal_budget),
            wal_budget_policy: self.wal_budget_policy.or(lower.wal_budget_policy),
        }
    }

    /// The defaults. Those left out depend on the machine or on the source.
    fn defaults() -> PipelineOptions {
        PipelineOptions {
            batch_bytes_max: Some(ByteCount(8 << 20)),
            batch_transactions_max: Some(2_000),
            batches_in_flight_max: Some(3),
            flush_after: Some(Interval(Duration::from_millis(20))),
            idle_checkpoint_every: Some(Interval(Duration::from_secs(5))),
            memory_budget: Some(ByteCount(64 << 20)),
            spool_dir: Some(std::env::temp_dir()),
            spool_bytes_max: None,
            copy_workers: Some(4),
            copy_chunk_bytes: Some(ByteCount(32 << 20)),
            copy_lock_yield: Some(Interval(Duration::from_secs(5))),
            heartbeat_every: None,
            giant_transaction_bytes: Some(ByteCount(64 << 20)),
            truncate_as: Some(TruncatePolicy::Truncate),
            resolved_every: Some(Interval(Duration::from_secs(1))),
            resolved_silence_max: Some(Interval(Duration::from_secs(60))),
            wal_budget: None,
            wal_budget_policy: Some(WalBudgetPolicy::Stop),
        }
    }

    /// Finds every value that cannot work.
    fn problems(&self, found: &mut Vec<String>) {
        let mut at_least_one = |key: &str, value: Option<u64>| {
            if value == Some(0) {
                found.push(format!("{key} must be at least 1"));
            }
        };
        at_least_one("batch_bytes_max", self.batch_bytes_max.map(|bytes| bytes.0));
        at_least_one("batch_transactions_max", self.batch_transactions_max.map(|count| count as u64));
        at_least_one("batches_in_flight_max", self.batches_in_flight_max.map(|count| count as u64));
        at_least_one("memory_budget", self.memory_budget.map(|bytes| bytes.0));
        at_least_one("copy_workers", self.copy_workers.map(|count| count as u64));
        at_least_one("copy_chunk_bytes", self.copy_chunk_bytes.map(|bytes| bytes.0));
        at_least_one("giant_transaction_bytes", self.giant_transaction_bytes.map(|bytes| bytes.0));
        at_least_one("wal_budget", self.wal_budget.map(|bytes| bytes.0));
        if let Some(dir) = &self.spool_dir
            && !dir.is_dir()
        {
            found.push(format!("spool_dir \"{}\" is not a directory", dir.display()));
        }
    }
}

/// Everything that is known about one migration before it is reached.
#[derive(Debug, Clone)]
pub struct Migration {
    pub name: MigrationName,
    pub source: Location,
    pub target: Location,
    pub tables: Vec<String>,
    pub exclude: Vec<String>,
    pub state_schema: String,
    pub connect_timeout: Duration,
    /// Every key that has a default is set.
    pub pipeline: PipelineOptions,
}

/// The schema that holds the state, unless another is named.
const STATE_SCHEMA: &str = "tidegate";
/// How long a database may take to answer at the start. Later it is retried for ever.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Migration {
    /// Reads flags, and the file that they name.
    pub fn read(args: &MigrationArgs, pipeline: PipelineOptions) -> Result<Migration, Problem> {
        let mut migration = match &args.file {
            Some(path) => File::read(path)?.choose(args.name.as_deref(), path)?,
            None => file::MigrationTable::default(),
        };
        let given = |value: &Option<String>| value.clone().map(Location::Text);
        migration.take_flags(args, given(&args.source), given(&args.target));
        migration.pipeline = pipeline.or(migration.pipeline);
        let mut found = Vec::new();
        match migration.effective(&mut found) {
            Some(effective) if found.is_empty() => Ok(effective),
            _ => Err(bad_configuration(&found)),
        }
    }

    /// Returns the settings of the source.
    pub fn source_settings(&self) -> Result<Settings, Problem> {
        self.settings(&self.source)
    }

    /// Returns the settings of the target.
    pub fn target_settings(&self) -> Result<Settings, Problem> {
        self.settings(&self.target)
    }

    fn settings(&self, location: &Location) -> Result<Settings, Problem> {
        Ok(Settings::parse(&location.resolve()?)?.connect_timeout(self.connect_timeout))
    }
}

fn bad_configuration(found: &[String]) -> Problem {
    let what = match found {
        [] => "the configuration names no migration".to_owned(),
        [one] => one.clone(),
        several => format!("{} problems in the configuration", several.len()),
    };
    let why = if found.len() > 1 { found.join("\n        ") } else { "without it nothing can be done".to_owned() };
    Problem::definite("CF001", what, why, "correct the flags, or the file (tidegate config check -c FILE)")
}
