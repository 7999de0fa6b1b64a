//! The fence of triggers: who is refused, who passes, and how it ends.

use std::time::Duration;

use tidegate_model::TableName;
use tidegate_sql::fence::{Blocker, give_up, let_through, not_owned, present, put_up, read_fence, take_down};
use tidegate_sql::turn::Book;
use tokio::time::{Instant, timeout};

use crate::support::{Database, LIMIT, refusal, server};

const TABLES: &str = "
CREATE TABLE plain (id int PRIMARY KEY, note text);
CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE middle PARTITION OF root FOR VALUES FROM (0) TO (100) PARTITION BY RANGE (id);
CREATE TABLE leaf PARTITION OF middle FOR VALUES FROM (0) TO (50);
INSERT INTO plain VALUES (1); INSERT INTO root VALUES (1)";
const BOTH: [&str; 2] = ["plain", "root"];
const FOR_NOW: &str =
    "25006: this database takes no writes to public.plain at the moment: the application is being moved";

#[tokio::test]
async fn nobody_gets_through_but_the_applier() {
    let database = Database::new(TABLES).await;
    let applier = database.client().await;
    let_through(&applier, &database.schema, &database.name).await.unwrap();
    let fenced = database.fenced(&database.order("a", 1, &BOTH)).await;
    assert_eq!(fenced.tables.len(), 4);
    let client = database.client().await;
    assert_eq!(refusal(client.batch_execute("INSERT INTO plain VALUES (2)").await), FOR_NOW);
    for write in [
        "UPDATE plain SET id = 3",
        "DELETE FROM plain",
        "TRUNCATE plain",
        "COPY plain FROM PROGRAM 'echo 9'",
        "INSERT INTO root VALUES (2)",
        "INSERT INTO leaf VALUES (2)",
        "DELETE FROM middle",
        "SET default_transaction_read_only = off; INSERT INTO plain VALUES (2)",
        "SET session_replication_role = replica; DELETE FROM leaf",
        "SELECT set_config('tidegate.pass', '', false); DELETE FROM plain",
    ] {
        assert!(refusal(client.batch_execute(write).await).starts_with("25006"), "{write}");
        client.batch_execute("RESET ALL; SET search_path = public").await.unwrap();
    }
    client
        .batch_execute("SELECT * FROM plain; CREATE TABLE other (id int); INSERT INTO other VALUES (1)")
        .await
        .unwrap();
    applier
        .batch_execute(
            "INSERT INTO plain VALUES (2); DELETE FROM leaf; SET session_replication_role = replica; \
                           UPDATE plain SET note = 'x'; TRUNCATE root",
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn a_leaf_is_closed_against_what_comes_through_a_root_that_is_not() {
    let database = Database::new(TABLES).await;
    let applier = database.client().await;
    let_through(&applier, &database.schema, &database.name).await.unwrap();
    database.fenced(&database.order("a", 1, &["leaf"])).await;
    let client = database.client().await;
    for write in ["INSERT INTO root VALUES (2)", "UPDATE middle SET id = 3", "DELETE FROM root", "TRUNCATE root"] {
        assert!(refusal(client.batch_execute(write).await).starts_with("25006"), "{write}");
    }
    applier.batch_execute("INSERT INTO root VALUES (2); DELETE FROM leaf; TRUNCATE root").await.unwrap();
}

#[tokio::test]
async fn the_refusal_says_where_to_go() {
    let database = Database::new(TABLES).await;
    database.fenced(&database.order("a", 1, &BOTH)).await;
    let write = || database.session().batch_execute("INSERT INTO public.plain VALUES (2)");
    let error = write().await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert!(error.hint().unwrap().contains("crdb.example:26257/app"), "{error:?}");
    assert!(error.detail().unwrap().contains(&format!("\"{}\"", database.name)), "{error:?}");
    database.sql("UPDATE tidegate.migration SET generation = 2").await;
    let moved = "25006: this database takes no more writes to public.plain: the application has moved";
    assert_eq!(refusal(write().await), moved);
}

#[tokio::test]
async fn a_role_without_rights_to_the_state_is_refused_and_passed_like_everybody() {
    let database = Database::new(TABLES).await;
    let role = format!("app_{}", database.name);
    database.sql(&format!("CREATE ROLE {role}; GRANT ALL ON plain TO {role}")).await;
    let as_role = |sql: &str| format!("SET ROLE {role}; {sql}");
    database.fenced(&database.order("a", 1, &BOTH)).await;
    let client = database.client().await;
    assert_eq!(refusal(client.batch_execute(&as_role("INSERT INTO plain VALUES (2)")).await), FOR_NOW);
    assert!(refusal(client.batch_execute(&as_role("SELECT secret FROM tidegate.fence")).await).starts_with("42501"));
    give_up(database.session(), &database.schema, &database.name, "a").await.unwrap();
    client.batch_execute(&as_role("INSERT INTO plain VALUES (2)")).await.unwrap();
}

#[tokio::test]
async fn giving_up_opens_at_once_and_for_good() {
    let database = Database::new(TABLES).await;
    let before = database.catalog().await;
    let order = database.order("a", 1, &BOTH);
    database.fenced(&order).await;
    // A reader that stays would hold up DROP TRIGGER.
    let reader = database.client().await;
    reader.batch_execute("BEGIN; SELECT * FROM plain").await.unwrap();
    give_up(database.session(), &database.schema, &database.name, "a").await.unwrap();
    database.sql("INSERT INTO plain VALUES (2); INSERT INTO leaf VALUES (2)").await;
    assert_eq!(database.put_up(&order).await.unwrap_err().code, "FN002");
    reader.batch_execute("COMMIT").await.unwrap();
    let until = Instant::now() + LIMIT;
    let down = take_down(&database.settings(), &database.name, until, &mut |_| {}).await.unwrap();
    assert_eq!(down.len(), 4);
    assert_eq!(database.catalog().await, before);
    assert!(take_down(&database.settings(), &database.name, until, &mut |_| {}).await.unwrap().is_empty());
    assert!(!read_fence(database.session(), &database.schema, &database.name).await.unwrap().unwrap().is_up);
    // The next turn has a fence of its own.
    database.fenced(&database.order("b", 1, &BOTH)).await;
    assert!(database.session().batch_execute("DELETE FROM plain").await.is_err());
}

#[tokio::test]
async fn a_turn_given_up_before_its_fence_gets_none() {
    let database = Database::new(TABLES).await;
    give_up(database.session(), &database.schema, &database.name, "a").await.unwrap();
    assert_eq!(database.put_up(&database.order("a", 1, &BOTH)).await.unwrap_err().code, "FN002");
    assert!(present(database.session(), &database.name, &names(&BOTH)).await.unwrap().fenced.is_empty());
    // The next turn has one, and whoever is late with the first does not take it over.
    let book = Book { session: database.session(), schema: &database.schema, name: &database.name };
    book.set(1, None, "begun b").await.unwrap();
    database.fenced(&database.order("b", 1, &BOTH)).await;
    assert_eq!(database.put_up(&database.order("a", 1, &BOTH)).await.unwrap_err().code, "FN002");
    let row = read_fence(database.session(), &database.schema, &database.name).await.unwrap().unwrap();
    assert_eq!((row.turn.as_deref(), row.is_up), (Some("b"), true));
}

#[tokio::test]
async fn the_generation_that_opens_ends_the_fence_and_the_next_turn_does_not_trust_what_is_left_of_it() {
    let database = Database::new(TABLES).await;
    database.fenced(&database.order("a", 1, &BOTH)).await;
    database.sql("UPDATE tidegate.migration SET generation = 3").await;
    database.sql("INSERT INTO plain VALUES (2)").await;
    // Sees generation 3 for ever, in which the triggers of turn "a" refuse nothing.
    let older = database.client().await;
    older.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM plain").await.unwrap();
    database.fenced(&database.order("b", 3, &BOTH)).await;
    assert_eq!(refusal(older.batch_execute("INSERT INTO plain VALUES (3)").await), FOR_NOW);
    assert!(database.session().batch_execute("DELETE FROM leaf").await.is_err());
    // Whoever is late with the earlier turn changes nothing.
    assert_eq!(database.put_up(&database.order("a", 1, &BOTH)).await.unwrap_err().code, "FN002");
}

#[tokio::test]
async fn an_older_transaction_sees_the_fence() {
    let database = Database::new(TABLES).await;
    let older = database.client().await;
    older.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class").await.unwrap();
    database.fenced(&database.order("a", 1, &BOTH)).await;
    assert_eq!(refusal(older.batch_execute("INSERT INTO plain VALUES (2)").await), FOR_NOW);
}

#[tokio::test]
async fn two_at_a_time_and_again_after_a_crash_make_one_fence() {
    let database = Database::new(TABLES).await;
    let mut order = database.order("a", 1, &BOTH);
    order.group_size = 1;
    let (one, other) = tokio::join!(database.put_up(&order), database.put_up(&order));
    assert_eq!(one.unwrap().0.tables, other.unwrap().0.tables);
    let made = database.catalog().await;
    database.sql(&format!("DROP TRIGGER tidegate_{}_fence ON leaf", database.name)).await;
    database.sql(&format!("ALTER TABLE plain ENABLE TRIGGER tidegate_{}_fence", database.name)).await;
    database.fenced(&order).await;
    assert_eq!(database.catalog().await, made);
}

#[tokio::test]
async fn what_is_open_is_known() {
    let database = Database::new(TABLES).await;
    database.fenced(&database.order("a", 1, &BOTH)).await;
    database.sql("CREATE TABLE later PARTITION OF middle FOR VALUES FROM (50) TO (100)").await;
    database.sql(&format!("ALTER TABLE plain DISABLE TRIGGER tidegate_{}_fence", database.name)).await;
    let present = present(database.session(), &database.name, &names(&BOTH)).await.unwrap();
    assert_eq!(present.fenced, names(&["root", "middle", "leaf"]));
    assert_eq!(present.open, names(&["plain", "later"]));
    database.fenced(&database.order("a", 1, &BOTH)).await;
    assert!(database.session().batch_execute("INSERT INTO later VALUES (60)").await.is_err());
}

#[tokio::test]
async fn a_table_that_is_gone_is_named() {
    let database = Database::new(TABLES).await;
    assert_eq!(database.put_up(&database.order("a", 1, &["plain", "nothing"])).await.unwrap_err().code, "FN004");
}

#[tokio::test]
async fn tables_of_others_are_known_before() {
    let database = Database::new(TABLES).await;
    let role = format!("mover_{}", database.name);
    database.sql(&format!("CREATE ROLE {role}; ALTER TABLE plain OWNER TO {role}; SET ROLE {role}")).await;
    assert_eq!(not_owned(database.session(), &names(&BOTH)).await.unwrap(), names(&["leaf", "middle", "root"]));
}

/// A subscription's worker fires no triggers of statements.
#[tokio::test]
async fn what_a_subscription_writes_is_refused_too() {
    let (publisher, database) = (Database::new(TABLES).await, Database::new(TABLES).await);
    let name = database.name.as_str();
    publisher.sql("CREATE PUBLICATION p FOR TABLE plain; ALTER TABLE plain REPLICA IDENTITY FULL").await;
    publisher.sql(&format!("SELECT pg_create_logical_replication_slot('sub_{name}', 'pgoutput')")).await;
    database
        .sql(&format!(
            "CREATE SUBSCRIPTION sub_{name} CONNECTION '{}' PUBLICATION p \
             WITH (create_slot = false, copy_data = false)",
            server().url(publisher.name.as_str())
        ))
        .await;
    publisher.sql("INSERT INTO plain VALUES (7)").await;
    until(&database, "SELECT count(*)::text FROM plain WHERE id = 7", "1").await;
    database.fenced(&database.order("a", 1, &BOTH)).await;
    publisher.sql("INSERT INTO plain VALUES (8)").await;
    // It is refused again and again, and arrives once it may.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(database.text("SELECT count(*)::text FROM plain WHERE id = 8").await, "0");
    give_up(database.session(), &database.schema, &database.name, "a").await.unwrap();
    until(&database, "SELECT count(*)::text FROM plain WHERE id = 8", "1").await;
    take_down(&database.settings(), &database.name, Instant::now() + LIMIT, &mut |_| {}).await.unwrap();
    assert!(!database.catalog().await.contains("fence"));
    database.sql(&format!("ALTER SUBSCRIPTION sub_{name} DISABLE")).await;
    database.sql(&format!("ALTER SUBSCRIPTION sub_{name} SET (slot_name = NONE); DROP SUBSCRIPTION sub_{name}")).await;
}

async fn until(database: &Database, query: &str, text: &str) {
    let waiting = async {
        while database.text(query).await != text {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("waited in vain for {query}"));
}

fn names(names: &[&str]) -> Vec<TableName> {
    names.iter().map(|name| TableName::new("public", *name)).collect()
}

#[tokio::test]
async fn a_transaction_of_ddl_in_between_is_waited_for() {
    let database = Database::new(TABLES).await;
    let other = database.client().await;
    other.batch_execute("BEGIN; ALTER TABLE plain ADD COLUMN more int").await.unwrap();
    let order = database.order("a", 1, &BOTH);
    let mut told = false;
    let mut on_wait = |_: &[Blocker]| told = true;
    let (settings, schema) = (database.settings(), database.schema.clone());
    let fence = put_up(&settings, &schema, &order, &mut on_wait);
    let commit = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        other.batch_execute("COMMIT").await.unwrap();
    };
    let (fenced, ()) = tokio::join!(fence, commit);
    fenced.unwrap();
    assert!(told);
}
