//! What feeds refuse, and how they end.

use crate::fixture::database;

#[tokio::test]
async fn statements_are_refused_with_the_published_texts() {
    let db = database("refused").await;
    db.run("CREATE TABLE foo (a INT8 PRIMARY KEY, b STRING)").await;
    db.run("CREATE VIEW vw AS SELECT a FROM foo").await;
    db.run("CREATE SEQUENCE seq").await;
    for (sql, code, text) in [
        (
            "CREATE CHANGEFEED FOR bar",
            "42P01",
            "failed to resolve targets in the CHANGEFEED stmt: table \"bar\" does not exist",
        ),
        ("CREATE CHANGEFEED FOR vw", "22023", "CHANGEFEED cannot target views: vw"),
        ("CREATE CHANGEFEED FOR seq", "22023", "CHANGEFEED cannot target sequences: seq"),
        ("CREATE CHANGEFEED FOR foo, foo", "22023", "CHANGEFEED targets TABLE foo and TABLE foo are duplicates"),
        ("CREATE CHANGEFEED FOR foo WITH topics", "22023", "invalid option \"topics\""),
        (
            "CREATE CHANGEFEED FOR foo WITH resolved = 'bar'",
            "22023",
            "problem parsing option resolved: time: invalid duration \"bar\"",
        ),
        ("CREATE CHANGEFEED FOR foo INTO ''", "22023", "omit the SINK clause for inline results"),
        (
            "CREATE CHANGEFEED FOR foo WITH initial_scan = 'only', end_time = '1'",
            "22023",
            "cannot specify both initial_scan='only' and end_time",
        ),
    ] {
        assert_eq!(db.error(sql).await, (code.to_owned(), text.to_owned()), "{sql}");
    }
    let (code, text) = db.error("CREATE CHANGEFEED FOR foo WITH cursor = '9000000000000000000.0000000000'").await;
    assert_eq!(
        (code.as_str(), text.as_str()),
        ("22023", "timestamp '9000000000000000000.0000000000' is in the future")
    );
    let (_, text) = db.error("CREATE CHANGEFEED FOR foo WITH end_time = '1.0000000000'").await;
    assert!(
        text.starts_with("specified end time 0.") && text.contains(" cannot be less than statement time 1"),
        "{text}"
    );
    // What was refused has not broken the session.
    assert_eq!(db.value("SELECT 1").await, "1");
}

#[tokio::test]
async fn privileges_count() {
    let db = database("privileges").await;
    db.run("CREATE TABLE foo (a INT8 PRIMARY KEY)").await;
    db.run("CREATE USER feed_reader").await;
    let mut config: tokio_postgres::Config = db.url().parse().unwrap();
    let (client, connection) = config.user("feed_reader").connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let error = client.simple_query("CREATE CHANGEFEED FOR foo").await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.message(), "user feed_reader does not have SELECT privilege on relation foo");
    assert_eq!(error.code().code(), "42501");
}

#[tokio::test]
async fn truncate_and_drop_end_a_feed() {
    let db = database("truncate_drop").await;
    for (table, sql, text) in
        [("cut", "TRUNCATE cut", "\"cut\" was truncated"), ("gone", "DROP TABLE gone", "\"gone\" was dropped")]
    {
        db.run(&format!("CREATE TABLE {table} (a INT8 PRIMARY KEY)")).await;
        db.run(&format!("INSERT INTO {table} VALUES (1)")).await;
        let mut feed = db.follow(&format!("CREATE CHANGEFEED FOR {table}")).await;
        assert_eq!(feed.row().await.2, r#"{"after": {"a": 1}}"#);
        db.run(sql).await;
        let (rows, (code, said)) = feed.end().await;
        assert_eq!((rows.len(), code.as_str(), said.as_str()), (0, "XXUUU", text));
    }
}

#[tokio::test]
async fn history_before_a_truncate_is_still_there() {
    let db = database("before_truncate").await;
    db.run("CREATE TABLE t (a INT8 PRIMARY KEY)").await;
    db.run("INSERT INTO t VALUES (1), (2)").await;
    let then = db.now().await;
    db.run("TRUNCATE t").await;
    db.run("INSERT INTO t VALUES (2)").await;
    assert_eq!(db.run(&format!("SELECT a FROM t AS OF SYSTEM TIME '{then}' ORDER BY a")).await, [["1"], ["2"]]);
}

#[tokio::test]
async fn what_went_past_the_stand_in_is_found() {
    let db = database("past_the_stand_in").await;
    db.run("CREATE TABLE t (a INT8 PRIMARY KEY)").await;
    let mut feed = db.follow("CREATE CHANGEFEED FOR t WITH resolved = '10ms', min_checkpoint_frequency = '10ms'").await;
    feed.next().await.unwrap();
    let then = db.now().await;
    let behind = db.behind().await;
    behind.batch_execute("ALTER TABLE standin.pending DISABLE TRIGGER stamp; INSERT INTO t VALUES (1)").await.unwrap();
    let said = feed.end().await.1.1;
    assert!(said.contains("wrote without a commit stamp"), "{said}");
    let (_, said) = db.error(&format!("SELECT a FROM t AS OF SYSTEM TIME '{then}'")).await;
    assert!(said.contains("wrote without a commit stamp"), "{said}");
}
