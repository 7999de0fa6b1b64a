//! The numbered migrations of the state schema. One that was released is never changed: a change is a new number.

/// The version of the state that this program writes and reads.
pub(super) const VERSION: i32 = 1;

/// Where each step brings the two parts of the schema. `{s}` stands for the schema.
pub(super) struct Step {
    pub(super) version: i32,
    /// On both databases.
    pub(super) common: &'static str,
    /// In the target of a stream.
    pub(super) stream: &'static str,
}

pub(super) const STEPS: [Step; 1] = [Step { version: 1, common: COMMON_1, stream: STREAM_1 }];

const COMMON_1: &str = "
CREATE TABLE {s}.migration (
    migration text PRIMARY KEY,
    generation bigint NOT NULL,
    phase text NOT NULL,
    turning text,
    side text NOT NULL,
    settings jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
";

/// The checkpoint and owner rows are rewritten all the time: room on their page lets each new version stay there.
const STREAM_1: &str = "
CREATE TABLE {s}.checkpoint (
    migration text NOT NULL,
    stream text NOT NULL,
    shard int NOT NULL DEFAULT 0,
    epoch bigint NOT NULL,
    position text,
    history jsonb,
    committed_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (migration, stream, shard)
) WITH (fillfactor = 20);
CREATE TABLE {s}.owner (
    migration text NOT NULL,
    stream text NOT NULL,
    epoch bigint NOT NULL,
    host text NOT NULL,
    pid int NOT NULL,
    process text NOT NULL,
    backend_pid int NOT NULL,
    heartbeat timestamptz NOT NULL,
    status jsonb,
    error jsonb,
    stopped_at timestamptz,
    PRIMARY KEY (migration, stream)
) WITH (fillfactor = 20);
CREATE TABLE {s}.copy_table (
    migration text NOT NULL,
    stream text NOT NULL,
    source_table text NOT NULL,
    target_table text NOT NULL,
    state text NOT NULL,
    route jsonb,
    format text,
    rows_estimated bigint NOT NULL DEFAULT 0,
    rows bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    copies int NOT NULL DEFAULT 0,
    PRIMARY KEY (migration, stream, source_table)
);
CREATE TABLE {s}.copy_chunk (
    migration text NOT NULL,
    stream text NOT NULL,
    source_table text NOT NULL,
    chunk bigint NOT NULL,
    first_page bigint NOT NULL,
    end_page bigint NOT NULL,
    rows bigint NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (migration, stream, source_table, chunk)
);
CREATE TABLE {s}.target_object (
    migration text NOT NULL,
    stream text NOT NULL,
    target_table text NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    definition text NOT NULL,
    state text NOT NULL,
    PRIMARY KEY (migration, stream, target_table, kind, name)
);
CREATE TABLE {s}.request (
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
);
";
