//! Fences for roles that may not make triggers.

use tidegate_connect::Session;
use tidegate_sql::fence::{Why, give_back, give_up, make_read_only, make_writable, put_up_by_revoke};

use crate::support::{Database, refusal};

const TABLES: &str = "
CREATE TABLE plain (id int PRIMARY KEY, note text);
CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (50)";

/// A session of a role that owns nothing.
async fn as_role(database: &Database, role: &str) -> Session {
    let client = database.client().await;
    client.batch_execute(&format!("SET SESSION AUTHORIZATION {role}")).await.unwrap();
    client
}

#[tokio::test]
async fn what_was_revoked_is_given_back_exactly() {
    let database = Database::new(TABLES).await;
    let (app, team) = (format!("app_{}", database.name), format!("team_{}", database.name));
    database
        .sql(&format!(
            "CREATE ROLE {team}; CREATE ROLE {app} LOGIN IN ROLE {team}; GRANT ALL ON plain TO {team}; \
             GRANT INSERT (id), UPDATE (id), SELECT ON root TO {app}; GRANT DELETE ON leaf TO PUBLIC; \
             GRANT INSERT ON leaf TO {app} WITH GRANT OPTION"
        ))
        .await;
    let before = database.catalog().await;
    let client = as_role(&database, &app).await;
    let order = database.order("a", 1, &["plain", "root"]);
    for _ in 0..2 {
        let done = put_up_by_revoke(&database.settings(), &database.schema, &order, &mut |_| {}).await.unwrap();
        assert_eq!(done.0.tables.len(), 3);
        assert!(done.1.iter().all(|role| role.why == Why::Administrator), "{:?}", done.1);
    }
    for write in
        ["INSERT INTO plain VALUES (1)", "INSERT INTO root (id) VALUES (1)", "DELETE FROM leaf", "TRUNCATE plain"]
    {
        assert!(refusal(client.batch_execute(write).await).starts_with("42501"), "{write}");
    }
    client.batch_execute("SELECT * FROM plain").await.unwrap();
    give_up(database.session(), &database.schema, &database.name, "a").await.unwrap();
    for _ in 0..2 {
        give_back(database.session(), &database.schema, &database.name).await.unwrap();
    }
    client.batch_execute("INSERT INTO plain VALUES (1); INSERT INTO root (id) VALUES (1)").await.unwrap();
    // The owner's own privileges, which stood for themselves, are written out wherever somebody else had some before.
    assert_eq!(database.catalog().await, before);
    let late = put_up_by_revoke(&database.settings(), &database.schema, &order, &mut |_| {}).await.unwrap_err();
    assert_eq!(late.code, "FN002");
}

#[tokio::test]
async fn a_privilege_from_somebody_else_is_refused() {
    let database = Database::new(TABLES).await;
    let (one, other) = (format!("one_{}", database.name), format!("other_{}", database.name));
    database
        .sql(&format!(
            "CREATE ROLE {one}; CREATE ROLE {other}; GRANT INSERT ON plain TO {one} WITH GRANT OPTION; \
             SET ROLE {one}; GRANT INSERT ON public.plain TO {other}; RESET ROLE"
        ))
        .await;
    let before = database.catalog().await;
    let order = database.order("a", 1, &["plain"]);
    let problem = put_up_by_revoke(&database.settings(), &database.schema, &order, &mut |_| {}).await.unwrap_err();
    assert_eq!(problem.code, "FN005");
    assert_eq!(database.catalog().await, before);
}

#[tokio::test]
async fn read_only_ends_sessions_and_names_whom_it_does_not_reach() {
    let database = Database::new(TABLES).await;
    let name = database.name.as_str();
    database.sql(&format!("ALTER DATABASE {name} SET work_mem = '8MB'; CREATE ROLE own_{name} LOGIN")).await;
    database.sql(&format!("ALTER ROLE own_{name} IN DATABASE {name} SET default_transaction_read_only = off")).await;
    let before = database.catalog().await;
    let writer = database.client().await;
    writer.batch_execute("BEGIN; INSERT INTO plain VALUES (1)").await.unwrap();
    let order = database.order("a", 1, &["plain", "root"]);
    let (_, reached) = make_read_only(&database.settings(), &database.schema, &order, &mut |_| {}).await.unwrap();
    assert_eq!((reached.survivors, reached.roles), (Vec::new(), vec![format!("own_{name}")]));
    assert!(writer.batch_execute("COMMIT").await.is_err());
    let again = database.client().await;
    let shown: String = again.query_one("SHOW default_transaction_read_only", &[]).await.unwrap().get(0);
    // Our own sessions say how they want it.
    assert_eq!(shown, "off");
    again.batch_execute("RESET default_transaction_read_only").await.unwrap();
    assert!(refusal(again.batch_execute("INSERT INTO plain VALUES (2)").await).starts_with("25006"));
    for _ in 0..2 {
        make_read_only(&database.settings(), &database.schema, &order, &mut |_| {}).await.unwrap();
    }
    let session = database.client().await;
    for _ in 0..2 {
        make_writable(&session, &database.schema, &database.name).await.unwrap();
    }
    assert_eq!(database.fresh().await.catalog().await, before);
}
