//! What a database of the backing server gets so that it can pass for one of CockroachDB.

use anyhow::Context;
use tokio_postgres::Client;

use crate::backing::Backing;
use crate::error::SqlError;
use crate::history;

/// New databases are copies of this one, which has everything in it already.
pub const TEMPLATE: &str = "tidegate_standin_template";
/// The database that every cluster begins with.
pub const FIRST_DATABASE: &str = "defaultdb";

/// Names that CockroachDB's clients use, as functions, operators and views.
const CATALOG_SQL: &str = include_str!("install/catalog.sql");
const INFORMATION_SQL: &str = include_str!("install/information.sql");
const SHOW_SQL: &str = include_str!("install/show.sql");
const LOCK: i64 = 0x7469_6465_6761_7465;

/// Prepares a backing server: roles, the template, the first database.
pub async fn cluster(backing: &Backing) -> anyhow::Result<()> {
    let client = backing.client("postgres").await?;
    client.execute("SELECT pg_catalog.pg_advisory_lock($1)", &[&LOCK]).await?;
    for role in ["admin", "root"] {
        let exists = client.query_opt("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = $1", &[&role]).await?;
        if exists.is_none() {
            client.batch_execute(&format!("CREATE ROLE {role} SUPERUSER LOGIN")).await?;
        }
    }
    if !exists(&client, TEMPLATE).await? {
        // Under another name until it is whole: a stand-in that is killed half-way leaves no half template.
        let unfinished = format!("{TEMPLATE}_unfinished");
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {unfinished}")).await?;
        client.batch_execute(&format!("CREATE DATABASE {unfinished} TEMPLATE template0 OWNER root")).await?;
        database(backing, &unfinished).await.context("the template database")?;
        client.batch_execute(&format!("ALTER DATABASE {unfinished} RENAME TO {TEMPLATE}")).await?;
    }
    if !exists(&client, FIRST_DATABASE).await? {
        client.batch_execute(&create_sql(FIRST_DATABASE)).await?;
    }
    Ok(())
}

async fn exists(client: &Client, database: &str) -> Result<bool, SqlError> {
    let sql = "SELECT 1 FROM pg_catalog.pg_database WHERE datname = $1";
    Ok(client.query_opt(sql, &[&database]).await?.is_some())
}

/// Returns the statement that makes a database.
pub fn create_sql(name: &str) -> String {
    format!("CREATE DATABASE \"{}\" TEMPLATE {TEMPLATE} OWNER root", name.replace('"', "\"\""))
}

/// Makes a database fit, whoever made it. Repeating it changes nothing.
pub async fn database(backing: &Backing, name: &str) -> Result<(), SqlError> {
    let client = backing.client(name).await?;
    let installed = "SELECT to_regclass('standin_catalog.installed') IS NOT NULL";
    if client.query_one(installed, &[]).await?.get(0) {
        return Ok(());
    }
    client.execute("SELECT pg_catalog.pg_advisory_lock($1)", &[&LOCK]).await?;
    if client.query_one(installed, &[]).await?.get(0) {
        return Ok(());
    }
    history::install(&client).await?;
    for sql in [CATALOG_SQL, INFORMATION_SQL, SHOW_SQL] {
        client.batch_execute(sql).await?;
    }
    client.batch_execute("CREATE TABLE standin_catalog.installed ()").await?;
    Ok(())
}
