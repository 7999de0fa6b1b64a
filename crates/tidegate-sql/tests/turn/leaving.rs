//! What is left when a migration is over: nothing but what is kept on purpose.

use serde_json::json;
use tidegate_sql::finish::{RemovalKind, inventory, remove};
use tidegate_sql::state::{Side, write_migration};
use tokio::time::Instant;

use crate::support::{Database, LIMIT};

/// Everything in the database and the cluster that could be ours.
const OURS: &str = "
SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname = 'tidegate'
UNION ALL SELECT 'publication ' || pubname FROM pg_publication
UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database = current_database()
UNION ALL SELECT 'origin ' || roname FROM pg_replication_origin
WHERE roname ~ ('^tidegate_' || current_database() || '_')
UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE proname = 'fence'
ORDER BY 1";

async fn used() -> Database {
    let database = Database::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let name = database.name.as_str();
    database.sql(&format!("CREATE PUBLICATION tidegate_{name} FOR TABLE t")).await;
    database.sql(&format!("SELECT pg_create_logical_replication_slot('tidegate_{name}', 'pgoutput')")).await;
    database.sql(&format!("SELECT pg_replication_origin_create('tidegate_{name}_1')")).await;
    database.fenced(&database.order("a", 1, &["t"])).await;
    database
}

#[tokio::test]
async fn nothing_of_ours_is_left() {
    let untouched = Database::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let database = used().await;
    let listed = inventory(database.session(), &database.schema, &database.name).await.unwrap();
    let kinds: Vec<RemovalKind> = listed.iter().map(|removal| removal.kind).collect();
    use RemovalKind::{FenceTriggers, Origin, Publication, Slot, StateSchema};
    assert_eq!(kinds, [FenceTriggers, Slot, Publication, Origin, StateSchema]);
    let until = Instant::now() + LIMIT;
    let (settings, schema, name) = (database.settings(), &database.schema, &database.name);
    assert_eq!(remove(&settings, schema, name, until, &mut |_| {}).await.unwrap(), listed);
    assert_eq!(database.text(OURS).await, "");
    assert_eq!(database.catalog().await, untouched.catalog().await);
    assert!(remove(&settings, schema, name, until, &mut |_| {}).await.unwrap().is_empty());
    database.sql("INSERT INTO t VALUES (1)").await;
}

#[tokio::test]
async fn another_migration_keeps_its_state() {
    let database = used().await;
    let other = "other".parse().unwrap();
    write_migration(database.session(), &database.schema, &other, Side::Source, &json!({})).await.unwrap();
    let (settings, schema, name) = (database.settings(), &database.schema, &database.name);
    let removed = remove(&settings, schema, name, Instant::now() + LIMIT, &mut |_| {}).await.unwrap();
    assert_eq!(removed.last().unwrap().kind, RemovalKind::StateRows);
    assert_eq!(database.text("SELECT migration FROM tidegate.migration").await, "other");
    assert_eq!(database.text("SELECT count(*)::text FROM tidegate.fence").await, "0");
    assert!(remove(&settings, schema, name, Instant::now() + LIMIT, &mut |_| {}).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_database_that_met_no_migration_has_nothing_to_remove() {
    let database = Database::new("").await;
    database.sql("DROP SCHEMA tidegate CASCADE").await;
    assert!(inventory(database.session(), &database.schema, &database.name).await.unwrap().is_empty());
}
