//! The numbered migrations of the state schema. One that was released is never changed: a change is a new number.

/// The version of the state that this program writes and reads.
pub(super) const VERSION: i32 = 3;

/// Where each step brings the two parts of the schema. Texts that both servers take: `{s}` stands for the schema,
/// `{hot}` for what a server wants to know of a table that is rewritten all the time. Each statement stands alone and
/// may be repeated, because CockroachDB makes no tables in a transaction.
pub(super) struct Step {
    pub(super) version: i32,
    /// On both databases.
    pub(super) common: &'static [&'static str],
    /// In the target of a stream.
    pub(super) stream: &'static [&'static str],
}

/// The tables that are rewritten all the time.
pub(super) const HOT: [&str; 2] = ["checkpoint", "owner"];

/// The tables that have rows of migrations, `migration` last.
pub(super) const TABLES: [&str; 12] = [
    "checkpoint",
    "owner",
    "copy_table",
    "copy_chunk",
    "target_object",
    "request",
    "verify_run",
    "conflict",
    "cutover_step",
    "fence_grant",
    "fence",
    "migration",
];

/// The table that says which steps were done.
pub(super) const SCHEMA_VERSION: &str = "
CREATE TABLE IF NOT EXISTS {s}.schema_version (
    part text NOT NULL,
    version INT4 NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (part, version)
)";

pub(super) const STEPS: [Step; 3] = [
    Step { version: 1, common: &COMMON_1, stream: &STREAM_1 },
    Step { version: 2, common: &COMMON_2, stream: &STREAM_2 },
    Step { version: 3, common: &[], stream: &STREAM_3 },
];

const COMMON_1: [&str; 1] = ["
CREATE TABLE IF NOT EXISTS {s}.migration (
    migration text PRIMARY KEY,
    generation INT8 NOT NULL,
    phase text NOT NULL,
    turning text,
    side text NOT NULL,
    settings jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
)"];

const STREAM_1: [&str; 6] = [
    "
CREATE TABLE IF NOT EXISTS {s}.checkpoint (
    migration text NOT NULL,
    stream text NOT NULL,
    shard INT4 NOT NULL DEFAULT 0,
    epoch INT8 NOT NULL,
    position text,
    history jsonb,
    committed_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (migration, stream, shard)
){hot}",
    "
CREATE TABLE IF NOT EXISTS {s}.owner (
    migration text NOT NULL,
    stream text NOT NULL,
    epoch INT8 NOT NULL,
    host text NOT NULL,
    pid INT4 NOT NULL,
    process text NOT NULL,
    backend_pid INT4 NOT NULL,
    heartbeat timestamptz NOT NULL,
    status jsonb,
    error jsonb,
    stopped_at timestamptz,
    PRIMARY KEY (migration, stream)
){hot}",
    "
CREATE TABLE IF NOT EXISTS {s}.copy_table (
    migration text NOT NULL,
    stream text NOT NULL,
    source_table text NOT NULL,
    target_table text NOT NULL,
    state text NOT NULL,
    route jsonb,
    format text,
    rows_estimated INT8 NOT NULL DEFAULT 0,
    copies INT4 NOT NULL DEFAULT 0,
    PRIMARY KEY (migration, stream, source_table)
)",
    "
CREATE TABLE IF NOT EXISTS {s}.copy_chunk (
    migration text NOT NULL,
    stream text NOT NULL,
    source_table text NOT NULL,
    chunk INT8 NOT NULL,
    first_page INT8 NOT NULL,
    end_page INT8 NOT NULL,
    rows INT8 NOT NULL,
    bytes INT8 NOT NULL,
    whole bool NOT NULL,
    PRIMARY KEY (migration, stream, source_table, chunk)
)",
    "
CREATE TABLE IF NOT EXISTS {s}.target_object (
    migration text NOT NULL,
    stream text NOT NULL,
    target_table text NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    definition text NOT NULL,
    state text NOT NULL,
    PRIMARY KEY (migration, stream, target_table, kind, name)
)",
    "
CREATE TABLE IF NOT EXISTS {s}.request (
    migration text NOT NULL,
    stream text NOT NULL,
    id text NOT NULL,
    kind text NOT NULL,
    arguments jsonb NOT NULL,
    state text NOT NULL,
    progress jsonb,
    answer jsonb,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (migration, stream, id)
)",
];

const COMMON_2: [&str; 4] = [
    "ALTER TABLE {s}.migration ADD COLUMN IF NOT EXISTS turned jsonb",
    "
CREATE TABLE IF NOT EXISTS {s}.cutover_step (
    migration text NOT NULL,
    stream text NOT NULL,
    turn text NOT NULL,
    step text NOT NULL,
    place INT4 NOT NULL,
    generation INT8 NOT NULL,
    state text NOT NULL,
    began_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    detail jsonb,
    PRIMARY KEY (migration, stream, turn, step)
)",
    "
CREATE TABLE IF NOT EXISTS {s}.fence (
    migration text PRIMARY KEY,
    secret text NOT NULL,
    turn text,
    opens_at INT8,
    state text NOT NULL,
    write_to text
)",
    "
CREATE TABLE IF NOT EXISTS {s}.fence_grant (
    migration text NOT NULL,
    turn text NOT NULL,
    target_table text NOT NULL,
    target_column text NOT NULL,
    grantee text NOT NULL,
    privilege text NOT NULL,
    grantable bool NOT NULL,
    PRIMARY KEY (migration, target_table, target_column, grantee, privilege)
)",
];

const STREAM_2: [&str; 1] = ["
CREATE TABLE IF NOT EXISTS {s}.verify_run (
    migration text NOT NULL,
    stream text NOT NULL,
    id text NOT NULL,
    source_table text NOT NULL,
    position text,
    verdict text NOT NULL,
    report jsonb NOT NULL,
    ended_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (migration, stream, id, source_table)
)"];

const STREAM_3: [&str; 1] = ["
CREATE TABLE IF NOT EXISTS {s}.conflict (
    migration text NOT NULL,
    stream text NOT NULL,
    position text NOT NULL,
    place INT8 NOT NULL,
    source_table text NOT NULL,
    row_key text NOT NULL,
    operation text NOT NULL,
    found_row text NOT NULL,
    found_position text,
    settled bool NOT NULL DEFAULT false,
    found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (migration, stream, position, place)
)"];
