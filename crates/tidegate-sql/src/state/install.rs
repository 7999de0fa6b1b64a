//! Makes the state tables, and brings those of an older version up to date.

use tidegate_connect::Session;
use tidegate_model::Problem;
use tokio_postgres::Client;
use tracing::info;

use super::ddl::{SCHEMA_VERSION, STEPS, Step, VERSION};
use super::schema::{StateSchema, advisory_key};
use super::{cockroach, failed};
use crate::dialect::Dialect;

/// Room on the page of a row that is rewritten all the time lets each new version stay there.
const FILLFACTOR: &str = " WITH (fillfactor = 20)";

/// Which state tables a database needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Only those that both databases of a migration have: the source of a stream.
    Common,
    /// All: the target of a stream.
    Stream,
}

/// Tables that come and go together.
pub(super) struct Piece {
    /// What `schema_version` calls it.
    pub(super) name: &'static str,
    pub(super) ddl: fn(&Step) -> &'static [&'static str],
}

const PIECES: [Piece; 2] =
    [Piece { name: "common", ddl: |step| step.common }, Piece { name: "stream", ddl: |step| step.stream }];

impl Part {
    pub(super) fn pieces(self) -> &'static [Piece] {
        match self {
            Part::Common => &PIECES[..1],
            Part::Stream => &PIECES,
        }
    }
}

/// Makes what is missing of the state tables. Safe to repeat and to run at the same time from several processes; a
/// state that is up to date is only read. A state written by a newer program is refused.
pub async fn install(session: &Session, schema: &StateSchema, part: Part) -> Result<(), Problem> {
    if is_installed(session, schema, part).await? {
        return Ok(());
    }
    match Dialect::of(session) {
        Dialect::Postgres => install_in_transaction(session, schema, part).await,
        Dialect::Cockroach => cockroach::install(session, schema, part).await,
    }
}

async fn install_in_transaction(client: &Client, schema: &StateSchema, part: Part) -> Result<(), Problem> {
    client.batch_execute("BEGIN").await.map_err(failed("begin"))?;
    let done = install_locked(client, schema, part).await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = client.batch_execute(end).await.map_err(failed("end"));
    done.and(ended)
}

/// Returns whether the state tables are there and up to date. A state written by a newer program is refused.
pub async fn is_installed(client: &Client, schema: &StateSchema, part: Part) -> Result<bool, Problem> {
    let sql = "SELECT to_regclass($1) IS NOT NULL";
    let row = client.query_one(sql, &[&schema.table("schema_version")]).await.map_err(failed("look for the schema"))?;
    if !row.get::<_, bool>(0) {
        return Ok(false);
    }
    for piece in part.pieces() {
        if version(client, schema, piece.name).await? < VERSION {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn install_locked(client: &Client, schema: &StateSchema, part: Part) -> Result<(), Problem> {
    let key = advisory_key(&format!("tidegate/{schema}/install"));
    client.execute("SELECT pg_advisory_xact_lock($1)", &[&key]).await.map_err(failed("lock the schema"))?;
    make_schema(client, schema).await?;
    for Piece { name, ddl } in part.pieces() {
        let from = version(client, schema, name).await?;
        for step in STEPS.iter().filter(|step| step.version > from) {
            for sql in ddl(step) {
                let sql = statement(sql, schema, FILLFACTOR);
                client.batch_execute(&sql).await.map_err(failed("make the state tables"))?;
            }
            record(client, schema, name, step.version).await?;
        }
    }
    Ok(())
}

/// Writes a statement of a step for a schema and a server.
pub(super) fn statement(sql: &str, schema: &StateSchema, hot: &str) -> String {
    sql.replace("{s}", &format!("\"{schema}\"")).replace("{hot}", hot)
}

/// Records that a part has a version. May be repeated.
pub(super) async fn record(client: &Client, schema: &StateSchema, part: &str, version: i32) -> Result<(), Problem> {
    let sql = format!(
        "INSERT INTO {} (part, version) VALUES ($1, $2::INT4) ON CONFLICT (part, version) DO NOTHING",
        schema.table("schema_version")
    );
    client.execute(&sql, &[&part, &version]).await.map_err(failed("record the schema version"))?;
    info!(%schema, part, version, "state schema migrated");
    Ok(())
}

/// Returns whether the schema is there.
pub(super) async fn schema_exists(client: &Client, schema: &StateSchema) -> Result<bool, Problem> {
    let sql = "SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = $1";
    let row = client.query_one(sql, &[&schema.as_str()]).await.map_err(failed("look for the schema"))?;
    Ok(row.get::<_, i64>(0) > 0)
}

/// `CREATE SCHEMA IF NOT EXISTS` wants the right to create schemas even where there is nothing to do, so it is looked
/// for first: an administrator may have made the schema for a role without that right.
async fn make_schema(client: &Client, schema: &StateSchema) -> Result<(), Problem> {
    if !schema_exists(client, schema).await? {
        let sql = format!("CREATE SCHEMA \"{schema}\"");
        client.batch_execute(&sql).await.map_err(failed("make the state schema"))?;
    }
    client.batch_execute(&statement(SCHEMA_VERSION, schema, "")).await.map_err(failed("make the state tables"))
}

/// Returns the version of a part, 0 where there is none.
pub(super) async fn version(client: &Client, schema: &StateSchema, part: &str) -> Result<i32, Problem> {
    let sql = format!("SELECT coalesce(max(version), 0)::INT4 FROM {} WHERE part = $1", schema.table("schema_version"));
    let row = client.query_one(&sql, &[&part]).await.map_err(failed("read the schema version"))?;
    let version = row.get(0);
    if version > VERSION {
        return Err(Problem::definite(
            "ST001",
            format!("the state in schema \"{schema}\" was written by a newer tidegate"),
            format!("it has version {version}, this program knows up to {VERSION}"),
            "use the newer program; an older one could misread what is there",
        ));
    }
    Ok(version)
}

/// Returns whether a state table is there: a source has fewer than a target.
pub(crate) async fn table_exists(client: &Client, schema: &StateSchema, name: &str) -> Result<bool, Problem> {
    let sql = "SELECT to_regclass($1) IS NOT NULL";
    let row = client.query_one(sql, &[&schema.table(name)]).await.map_err(failed("look for a state table"))?;
    Ok(row.get(0))
}

/// Returns the state tables that are there and have rows of migrations, `migration` last.
pub(crate) async fn tables(client: &Client, schema: &StateSchema) -> Result<Vec<String>, Problem> {
    let mut found = Vec::new();
    for name in super::ddl::TABLES {
        if table_exists(client, schema, name).await? {
            found.push(name.to_owned());
        }
    }
    Ok(found)
}
