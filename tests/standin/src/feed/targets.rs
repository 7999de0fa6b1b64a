//! The tables of a feed.

use tokio_postgres::Client;

use super::message::Topic;
use super::options::Options;
use super::statement::{Statement, Target};
use crate::error::SqlError;
use crate::history::{Hlc, Layout, Tracked, past_threshold};
use crate::knobs::Settings;

/// A column family of a table.
#[derive(Clone, Debug)]
pub struct Family {
    pub topic: Topic,
    pub columns: Vec<String>,
}

/// A table that a feed follows.
#[derive(Clone, Debug)]
pub struct Followed {
    pub table: Tracked,
    pub topic: Topic,
    /// The columns at the feed's position.
    pub layout: Layout,
    /// Where the messages are split by family.
    pub families: Vec<Family>,
}

/// Who asks, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    pub database: &'a str,
    pub search_path: &'a [String],
    pub user: &'a str,
}

/// The database that the targets are in.
pub fn database<'a>(statement: &'a Statement, of_session: &'a str) -> Result<&'a str, SqlError> {
    let named = statement.targets.iter().filter_map(|target| match target.names.as_slice() {
        [database, _, _] => Some(database.as_str()),
        _ => None,
    });
    let mut named: Vec<&str> = named.collect();
    named.dedup();
    match named.as_slice() {
        [] => Ok(of_session),
        [one] => Ok(one),
        _ => Err(SqlError::new("0A000", "stand-in: changefeeds over tables of several databases are not there")),
    }
}

/// Finds the tables of a statement and checks that they may be followed.
pub async fn resolve(
    client: &Client,
    statement: &Statement,
    options: &Options,
    asker: Asker<'_>,
    cursor: Hlc,
) -> Result<Vec<Followed>, SqlError> {
    let mut found: Vec<(Followed, &Target)> = Vec::new();
    for target in &statement.targets {
        let followed = one(client, target, options, asker, cursor).await?;
        let same = |(other, before): &&(Followed, &Target)| {
            other.table.relation == followed.table.relation && before.family == target.family
        };
        if let Some((other, _)) = found.iter().find(same) {
            let name = &other.table.name;
            let text = format!("CHANGEFEED targets TABLE {name} and TABLE {name} are duplicates");
            return Err(SqlError::new("22023", text));
        }
        found.push((followed, target));
    }
    Ok(found.into_iter().map(|(followed, _)| followed).collect())
}

async fn one(
    client: &Client,
    target: &Target,
    options: &Options,
    asker: Asker<'_>,
    cursor: Hlc,
) -> Result<Followed, SqlError> {
    let (schemas, name): (Vec<String>, &String) = match target.names.as_slice() {
        [name] => (asker.search_path.to_vec(), name),
        [schema, name] | [_, schema, name] => (vec![schema.clone()], name),
        _ => (Vec::new(), &asker.database.to_owned()),
    };
    let sql = "SELECT n.nspname::text, c.relkind::text, c.oid FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN unnest($1::text[]) WITH ORDINALITY AS path (name, place) ON path.name = n.nspname
        WHERE c.relname = $2 AND c.relkind IN ('r', 'v', 'm', 'S', 'p') ORDER BY path.place LIMIT 1";
    let row = client.query_opt(sql, &[&schemas, name]).await?.ok_or_else(|| missing(&target.names, cursor))?;
    let (schema, kind, relation): (String, &str, u32) = (row.get(0), row.get(1), row.get(2));
    let refused = match kind {
        _ if matches!(schema.as_str(), "pg_catalog" | "information_schema" | "crdb_internal") => {
            Some(format!("CHANGEFEED cannot target virtual tables: {name}"))
        }
        "v" | "m" => Some(format!("CHANGEFEED cannot target views: {name}")),
        "S" => Some(format!("CHANGEFEED cannot target sequences: {name}")),
        _ => None,
    };
    if let Some(text) = refused {
        return Err(SqlError::new("22023", text));
    }
    may_read(client, asker.user, relation, name).await?;
    let table = Tracked::named(client, &schema, name).await?;
    let topic = Topic {
        name: if options.full_table_name { format!("{}.{schema}.{name}", asker.database) } else { name.clone() },
        database: asker.database.to_owned(),
        schema,
        table: name.clone(),
        relation,
    };
    let families = families(client, &table, target, options, &topic).await?;
    Ok(Followed { layout: table.layout.clone(), table, topic, families })
}

fn missing(names: &[String], cursor: Hlc) -> SqlError {
    let text =
        format!("failed to resolve targets in the CHANGEFEED stmt: table \"{}\" does not exist", names.join("."));
    SqlError::new("42P01", text).hint(format!("do the targets exist at the specified cursor time {cursor}?"))
}

async fn may_read(client: &Client, user: &str, relation: u32, name: &str) -> Result<(), SqlError> {
    let sql =
        "SELECT pg_catalog.has_table_privilege(rolname, $2::oid, 'SELECT') FROM pg_catalog.pg_roles WHERE rolname = $1";
    let allowed = client.query_opt(sql, &[&user, &relation]).await?.is_none_or(|row| row.get(0));
    if allowed {
        return Ok(());
    }
    Err(SqlError::new("42501", format!("user {user} does not have SELECT privilege on relation {name}")))
}

async fn families(
    client: &Client,
    table: &Tracked,
    target: &Target,
    options: &Options,
    topic: &Topic,
) -> Result<Vec<Family>, SqlError> {
    let sql = "SELECT name::text, columns::text[] FROM standin.family WHERE relid = $1 ORDER BY n";
    let rows = client.query(sql, &[&table.relation]).await?;
    let named = |family: &String| rows.iter().any(|row| row.get::<_, &str>(0) == family);
    if let Some(family) = target.family.as_ref().filter(|family| !named(family)) {
        let text = format!("no such family \"{family}\" in table \"{}\"", table.name);
        return Err(SqlError::new("22023", text));
    }
    if rows.len() > 1 && !options.split_column_families && target.family.is_none() {
        return Err(SqlError::uncoded(format!(
            "CHANGEFEED targeting a table ({}) with multiple column families requires WITH split_column_families and \
             will emit multiple events per row.",
            table.name
        )));
    }
    let wanted = |name: &str| target.family.as_deref().is_none_or(|family| family == name);
    Ok(rows
        .iter()
        .filter(|row| rows.len() > 1 && wanted(row.get(0)))
        .map(|row| Family {
            topic: Topic { name: format!("{}.{}", topic.name, row.get::<_, &str>(0)), ..topic.clone() },
            columns: row.get(1),
        })
        .collect())
}

/// Refuses a cursor that is past the GC threshold of one of the tables.
pub async fn in_window(
    client: &Client,
    settings: &Settings,
    database: &str,
    followed: &[Followed],
    cursor: Hlc,
) -> Result<(), SqlError> {
    for one in followed {
        let threshold = settings.gc_threshold(client, database, &one.table).await?;
        if cursor <= threshold {
            let relation = one.table.relation;
            let text = format!(
                "could not create changefeed: cursor {cursor} is older than the GC threshold {}: {} \
                 (r{relation}: /Table/{{{relation}-{}}})",
                threshold.wall(),
                past_threshold(cursor, threshold).message,
                relation + 1
            );
            return Err(SqlError::uncoded(text).hint("use a more recent cursor"));
        }
    }
    Ok(())
}
