//! The command line. Names are a contract: scripts depend on them.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tidegate_sql::applier::TruncateAs;

use crate::config::{Interval, PipelineOptions};
use crate::logging::LogFormat;

/// Moves a live application from one database to another, without losing or repeating a row.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, about, max_term_width = 110)]
pub struct Cli {
    /// How log lines look. They go to stderr; TIDEGATE_LOG sets the level (default: info).
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub log_format: LogFormat,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Checks both ends for everything that would make a migration fail late; every finding carries its fix.
    Check(CheckArgs),
    /// Checks, copies and streams. Runs until stopped; started again, it goes on where it was.
    Migrate(Box<MigrateArgs>),
    /// Shows phase, positions, lags, retained WAL, copy progress, and why it is waiting.
    Status(StatusArgs),
    /// Waits until everything that the source has committed by now is durable at the target.
    Drain(DrainArgs),
    /// Compares source and target row by row at one and the same position, while both are written.
    Verify(VerifyArgs),
    /// Turns the migration round: closes the source, proves that the target has everything, opens the target.
    Cutover(TurnArgs),
    /// The same the other way: closes the target and opens the source again.
    Failback(TurnArgs),
    /// Ends a migration for good: removes what it made on both sides. Shows the list first. There is no way back.
    Finish(FinishArgs),
    /// Checks or shows a configuration file.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Plays the whole story on this machine, with live traffic, in a few minutes.
    Demo(DemoArgs),
}

/// Which migration, and where its databases are.
#[derive(Debug, Clone, Default, Args)]
pub struct MigrationArgs {
    /// The database that holds the data now, as libpq takes it: postgres://user@host/database?sslmode=verify-full.
    /// Secrets are better kept in PGPASSWORD, the password file or the service file.
    #[arg(long, value_name = "URL")]
    pub source: Option<String>,
    /// The database that the data moves to. Its tables must exist.
    #[arg(long, value_name = "URL")]
    pub target: Option<String>,
    /// Reads migrations from a configuration file. Flags win over the file.
    #[arg(short = 'c', long = "config", value_name = "FILE", conflicts_with_all = ["source", "target"])]
    pub file: Option<PathBuf>,
    /// The migration's name: 1 to 32 of a-z, 0-9 and _ (default: default). Slot and publication are named after it.
    #[arg(long)]
    pub name: Option<String>,
    /// Tables to carry, as globs over schema.table; may be repeated (default: every ordinary table).
    #[arg(long, value_name = "GLOB", value_delimiter = ',')]
    pub tables: Vec<String>,
    /// Tables to leave out, as globs over schema.table; may be repeated.
    #[arg(long, value_name = "GLOB", value_delimiter = ',')]
    pub exclude: Vec<String>,
    /// The schema that holds Tidegate's state (default: tidegate).
    #[arg(long, value_name = "SCHEMA")]
    pub state_schema: Option<String>,
    /// How long to try to reach a database at the start (default: 10s).
    #[arg(long, value_name = "TIME")]
    pub connect_timeout: Option<Interval>,
    /// Prints the result as JSON on stdout.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub migration: MigrationArgs,
    /// Also checks the way back.
    #[arg(long, value_enum, value_name = "DIRECTION", default_value = "forward")]
    pub direction: Direction,
}

#[derive(Debug, Args)]
pub struct MigrateArgs {
    #[command(flatten)]
    pub migration: MigrationArgs,
    #[command(flatten)]
    pub pipeline: PipelineOptions,
    /// Takes the migration over from its present owner without waiting for the owner's heartbeat to go stale.
    #[arg(long)]
    pub take_over: bool,
    /// Takes the target's tables as they are instead of copying. Needs --start-at.
    #[arg(long, requires = "start_at")]
    pub no_copy: bool,
    /// Where the stream begins with --no-copy: the position that the imported data stand for. A position of PostgreSQL
    /// looks like 16/B374D848, one of CockroachDB like 1536344308033843000.0000000001. Refused unless the source still
    /// has everything from there on.
    #[arg(long, value_name = "POSITION", requires = "no_copy")]
    pub start_at: Option<String>,
    /// Empties this table at the target and copies it again at a new point; may be repeated.
    #[arg(long, value_name = "TABLE")]
    pub recopy: Vec<String>,
    /// EMPTIES every table of the migration at the target, makes the start point (the replication slot, or the place in
    /// the changefeed) again and copies everything again. The repair after a lost slot or a passed GC window. Never use it
    /// on a target that applications write to.
    #[arg(long, conflicts_with_all = ["no_copy", "recopy"])]
    pub recreate_slot: bool,
    /// Begins the reverse stream anew from now. GIVES UP what the target has committed and the reverse stream has not
    /// carried back: those rows stay at the target alone, so that both sides must be compared afterwards. The repair of a
    /// reverse stream that cannot go on. With --recopy or --recreate-slot it also gives up those rows at the target.
    #[arg(long)]
    pub restart_reverse: bool,
    /// Which way rows go. "both" also carries back what applications write at the target, from the moment the copy is
    /// complete; the two sides must not write the same rows. Between PostgreSQL and CockroachDB. Once begun it goes on.
    #[arg(long, value_enum, value_name = "DIRECTION", default_value = "forward")]
    pub direction: Direction,
    /// Puts aside triggers, rules and foreign keys with actions of the target that would change rows behind the stream.
    /// How to restore them is kept in the state.
    #[arg(long)]
    pub set_aside_triggers: bool,
    /// Restores what --set-aside-triggers put aside, and ends: for the moment when the application moves in.
    #[arg(long, conflicts_with_all = ["set_aside_triggers", "no_copy", "recopy", "recreate_slot", "restart_reverse"])]
    pub restore_triggers: bool,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub migration: MigrationArgs,
    /// Lists the rows that both sides changed while both were open (after cutover --immediate): key, where each side
    /// changed it, and whose row stays.
    #[arg(long)]
    pub conflicts: bool,
    /// Shows it again every second until interrupted.
    #[arg(long)]
    pub watch: bool,
}

#[derive(Debug, Args)]
pub struct DrainArgs {
    #[command(flatten)]
    pub migration: MigrationArgs,
    /// Gives up after this long, with exit code 1.
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub timeout: Interval,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub migration: MigrationArgs,
    /// Also counts as different what means the same but is written otherwise: a numeric 1.0 and a 1.00.
    #[arg(long)]
    pub exact: bool,
    /// Also shows the values that differ. They are your data: mind where the output goes.
    #[arg(long)]
    pub values: bool,
    /// Reads at most this many rows a second from the source.
    #[arg(long, value_name = "ROWS")]
    pub rate: Option<NonZeroU32>,
    /// Makes the target equal where it is not, while both sides are written. Nothing newer is written over.
    #[arg(long)]
    pub repair: bool,
    /// Compares without a fence, where none can be had: what differs is read again until both sides agree. It proves
    /// less, and the report says so.
    #[arg(long, conflicts_with = "repair")]
    pub weak: bool,
    /// Gives up after this long, with exit code 2. The comparison goes on until its end.
    #[arg(long, value_name = "TIME", default_value = "24h")]
    pub timeout: Interval,
}

#[derive(Debug, Args)]
pub struct TurnArgs {
    #[command(flatten)]
    pub migration: MigrationArgs,
    /// Shows the plan and changes nothing.
    #[arg(long)]
    pub plan_only: bool,
    /// Goes ahead without asking. Needed where nobody can answer.
    #[arg(long)]
    pub yes: bool,
    /// The longest time in which nothing can be written. When it is spent before the other side is opened, the turn is
    /// undone.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub budget: Interval,
    /// Undoes a turn that has not happened. Works without the side that was to be opened, unless that may have been
    /// opened.
    #[arg(long, conflicts_with_all = ["plan_only", "immediate"])]
    pub abort: bool,
    /// Writes the certificate to this file, as JSON; and as text beside it, with .txt added.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// How the side that closes is closed (default: trigger at PostgreSQL, revoke at CockroachDB).
    #[arg(long, value_enum, value_name = "KIND")]
    pub fence: Option<Fence>,
    /// Runs before the fence, by the shell: scale down, pause a pooler. Its time counts as blocked.
    #[arg(long, value_name = "CMD")]
    pub on_fence: Option<String>,
    /// Runs once the other side is open: resume the pooler there, change DNS.
    #[arg(long, value_name = "CMD")]
    pub on_open: Option<String>,
    /// Runs when the turn is undone.
    #[arg(long, value_name = "CMD")]
    pub on_abort: Option<String>,
    /// How far past the last used value sequences are set.
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    pub sequence_margin: u64,
    /// Takes a refusal as it is, by its code; may be repeated. The plan then warns of it.
    #[arg(long, value_name = "CODE")]
    pub accept: Vec<String>,
    /// Opens the other side without closing this one: both are writable, of two changes of one row the opened side's
    /// stays, and equality is not proved. See status --conflicts.
    #[arg(long)]
    pub immediate: bool,
    /// Gives up waiting for the answer after this long. The turn itself goes on.
    #[arg(long, value_name = "TIME", default_value = "24h")]
    pub timeout: Interval,
}

#[derive(Debug, Args)]
pub struct FinishArgs {
    #[command(flatten)]
    pub migration: MigrationArgs,
    /// Shows what would be removed and changes nothing.
    #[arg(long)]
    pub plan_only: bool,
    /// Goes ahead without asking. Needed where nobody can answer.
    #[arg(long)]
    pub yes: bool,
    /// Does not wait until the other side has everything: it may stay behind for ever.
    #[arg(long)]
    pub undrained: bool,
    /// How long the other side may take to get everything, and whoever runs the streams to end them.
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub timeout: Interval,
}

/// How a side is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fence {
    /// A trigger on each table that refuses every write but ours.
    Trigger,
    /// Write privileges revoked from every role but ours.
    Revoke,
    /// The database read-only by default, other sessions ended.
    ReadOnly,
    /// Whatever --on-fence does, and the same locks behind it.
    Command,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Reports every problem of a file at once.
    Check(ConfigArgs),
    /// Prints the effective configuration, defaults included and secrets as ***.
    Show(ConfigArgs),
}

#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The file.
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = "tidegate.toml")]
    pub file: PathBuf,
    /// Prints the result as JSON on stdout.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How long live traffic runs, roughly.
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub duration: Interval,
    /// Seed of the traffic and of the moment of the kill; printed, so that a run can be repeated.
    #[arg(long)]
    pub seed: Option<u64>,
}

/// Which way rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// From the source to the target.
    Forward,
    /// And back, at the same time.
    Both,
}

/// How a TRUNCATE of the source is done at the target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TruncatePolicy {
    /// As TRUNCATE: quick, and readers of an older snapshot see an empty table.
    #[default]
    Truncate,
    /// As DELETE of every row.
    Delete,
}

impl From<TruncatePolicy> for TruncateAs {
    fn from(policy: TruncatePolicy) -> Self {
        match policy {
            TruncatePolicy::Truncate => TruncateAs::Truncate,
            TruncatePolicy::Delete => TruncateAs::Delete,
        }
    }
}

/// What to do when the WAL kept for the migration reaches its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WalBudgetPolicy {
    /// Stop, keep the slot, and say what to do. The source's disk can still fill.
    Stop,
    /// Drop the slot: the source goes first. The tables must be copied again.
    DropSlot,
}
