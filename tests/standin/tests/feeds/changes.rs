//! What feeds say about changes of rows.

use futures_util::TryStreamExt;

use crate::fixture::{LIMIT, database, time_in, values};

#[tokio::test]
async fn each_transaction_says_the_last_of_every_row() {
    let db = database("each_transaction").await;
    db.run("CREATE TABLE t (id INT8 PRIMARY KEY, a STRING)").await;
    let cursor = db.now().await;
    db.run("INSERT INTO t VALUES (1, 'one'), (2, 'two')").await;
    db.run(
        "BEGIN; UPDATE t SET a = 'x' WHERE id = 1; UPDATE t SET a = 'y' WHERE id = 1; \
         DELETE FROM t WHERE id = 2; COMMIT",
    )
    .await;
    db.run("BEGIN; DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (1, 'again'); COMMIT").await;
    db.run("BEGIN; INSERT INTO t VALUES (7, 'no'); ROLLBACK").await;
    let said = db.feed("t", ", updated, diff", &cursor).await;
    assert_eq!(
        values(&said),
        [
            r#"{"after": {"a": "one", "id": 1}, "before": null, "updated": "T"}"#,
            r#"{"after": {"a": "two", "id": 2}, "before": null, "updated": "T"}"#,
            r#"{"after": {"a": "y", "id": 1}, "before": {"a": "one", "id": 1}, "updated": "T"}"#,
            r#"{"after": null, "before": {"a": "two", "id": 2}, "updated": "T"}"#,
            r#"{"after": {"a": "again", "id": 1}, "before": {"a": "y", "id": 1}, "updated": "T"}"#,
        ]
    );
    let times: Vec<&str> = said.iter().map(|(_, _, value)| time_in(value, "updated")).collect();
    assert!(times[0] == times[1] && times[1] < times[2] && times[2] == times[3] && times[3] < times[4], "{times:?}");
    assert!(said.iter().all(|(table, ..)| table.as_deref() == Some("t")));
    assert_eq!(said[0].1.as_deref(), Some("[1]"));
}

#[tokio::test]
async fn a_changed_key_is_a_deletion_and_an_insertion() {
    let db = database("changed_key").await;
    db.run("CREATE TABLE t (id INT8 PRIMARY KEY, a STRING)").await;
    db.run("INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'three')").await;
    let cursor = db.now().await;
    // The rows move onto each other's keys.
    db.run(
        "BEGIN; UPDATE t SET id = 10 WHERE id = 3; \
         UPDATE t SET id = 3 WHERE id = 2; UPDATE t SET id = 2 WHERE id = 1; COMMIT",
    )
    .await;
    assert_eq!(
        values(&db.feed("t", ", diff", &cursor).await),
        [
            r#"{"after": null, "before": {"a": "one", "id": 1}}"#,
            r#"{"after": {"a": "one", "id": 2}, "before": {"a": "two", "id": 2}}"#,
            r#"{"after": {"a": "two", "id": 3}, "before": {"a": "three", "id": 3}}"#,
            r#"{"after": {"a": "three", "id": 10}, "before": null}"#,
        ]
    );
}

#[tokio::test]
async fn what_came_and_went_in_one_transaction_is_at_most_a_deletion_of_nothing() {
    let db = database("came_and_went").await;
    db.run("CREATE TABLE t (id INT8 PRIMARY KEY, a STRING)").await;
    let cursor = db.now().await;
    for _ in 0..20 {
        db.run("BEGIN; INSERT INTO t VALUES (1, 'x'); DELETE FROM t WHERE id = 1; COMMIT").await;
    }
    let said = db.feed("t", ", diff", &cursor).await;
    assert!(values(&said).iter().all(|value| value == r#"{"after": null, "before": null}"#), "{said:?}");
    assert!((1..20).contains(&said.len()) && said.iter().all(|(_, key, _)| key.as_deref() == Some("[1]")));
}

#[tokio::test]
async fn a_scan_shows_the_rows_of_its_time_and_a_feed_goes_on_from_there() {
    let db = database("a_scan").await;
    db.run("CREATE TABLE t (id INT8 PRIMARY KEY, a STRING)").await;
    db.run("INSERT INTO t VALUES (1, 'one'), (2, 'two')").await;
    let cursor = db.now().await;
    db.run("UPDATE t SET a = 'later' WHERE id = 1").await;
    let scan = db.messages("CREATE CHANGEFEED FOR t WITH initial_scan = 'only'").await;
    assert_eq!(values(&scan), [r#"{"after": {"a": "later", "id": 1}}"#, r#"{"after": {"a": "two", "id": 2}}"#]);
    let mut said = db.feed("t", ", updated, mvcc_timestamp, diff, initial_scan = 'yes'", &cursor).await;
    // The scan is in any order.
    said[..2].sort();
    let updated: Vec<&str> = said.iter().map(|(_, _, value)| time_in(value, "updated")).collect();
    let own: Vec<&str> = said.iter().map(|(_, _, value)| time_in(value, "mvcc_timestamp")).collect();
    assert_eq!((said.len(), updated[0], updated[1]), (3, cursor.as_str(), cursor.as_str()));
    assert!(own.iter().zip(&updated).all(|(own, updated)| own <= updated), "{said:?}");
    assert!(own[0] < cursor.as_str() && own[0] == own[1] && own[2] == updated[2] && updated[2] > cursor.as_str());
    assert!(said[0].2.contains(r#""after": {"a": "one", "id": 1}, "before": null"#));
    let column = db.value("SELECT crdb_internal_mvcc_timestamp FROM t WHERE id = 1").await;
    assert_eq!(column, own[2]);
}

#[tokio::test]
async fn resolved_timestamps_go_on_when_nothing_happens() {
    let db = database("resolved_idle").await;
    db.run("CREATE TABLE t (id INT8 PRIMARY KEY)").await;
    let mut feed =
        db.follow("EXPERIMENTAL CHANGEFEED FOR t WITH resolved = '10ms', min_checkpoint_frequency = '10ms'").await;
    let mut last = String::new();
    for _ in 0..5 {
        let (table, key, value) = feed.next().await.unwrap();
        let at = value.strip_prefix("{\"resolved\":\"").and_then(|rest| rest.strip_suffix("\"}")).expect("compact");
        assert!(table.is_none() && key.is_none() && at > last.as_str(), "{value}");
        last = at.to_owned();
    }
    feed.client.cancel_token().cancel_query(tokio_postgres::NoTls).await.unwrap();
    assert_eq!(feed.end().await.1, ("57014".to_owned(), "query execution canceled".to_owned()));
}

#[tokio::test]
async fn writes_of_sessions_that_hide_them_are_not_in_feeds_but_in_the_tables() {
    let db = database("hidden_writes").await;
    db.run("CREATE TABLE t (id INT8 PRIMARY KEY, a STRING)").await;
    let cursor = db.now().await;
    let applier = db.another().await;
    applier.simple_query("SET disable_changefeed_replication = true").await.unwrap();
    applier.simple_query("INSERT INTO t VALUES (1, 'ours')").await.unwrap();
    db.run("UPDATE t SET a = 'theirs' WHERE id = 1").await;
    let said = values(&db.feed("t", ", diff", &cursor).await);
    assert_eq!(said, [r#"{"after": {"a": "theirs", "id": 1}, "before": {"a": "ours", "id": 1}}"#]);
    assert_eq!(db.feed("t", ", ignore_disable_changefeed_replication", &cursor).await.len(), 2);
    let then = db.now().await;
    assert_eq!(db.run(&format!("SELECT a FROM t AS OF SYSTEM TIME '{then}'")).await, [["theirs"]]);
}

#[tokio::test]
async fn names_are_as_asked_for() {
    let db = database("names").await;
    db.run("CREATE TABLE \"T x\" (id INT8 PRIMARY KEY)").await;
    db.run("CREATE TABLE keyless (a INT8)").await;
    let cursor = db.now().await;
    db.run("INSERT INTO \"T x\" VALUES (1)").await;
    db.run("INSERT INTO keyless VALUES (5)").await;
    let said = db.feed("names.public.\"T x\"", ", full_table_name, key_in_value, topic_in_value", &cursor).await;
    assert_eq!(said[0].0.as_deref(), Some("names.public.T x"));
    assert_eq!(said[0].2, r#"{"after": {"id": 1}, "key": [1], "topic": "names.public.T x"}"#);
    // A table without a key has one that does not show in a query.
    let said = db.feed("keyless", "", &cursor).await;
    let rowid = said[0].1.clone().unwrap().trim_matches(['[', ']']).to_owned();
    assert!(rowid.len() > 15, "{rowid}");
    assert_eq!(said[0].2, format!(r#"{{"after": {{"a": 5, "rowid": {rowid}}}}}"#));
    assert_eq!(db.run("SELECT * FROM keyless").await, [["5"]]);
}

#[tokio::test]
async fn a_large_transaction_is_streamed() {
    let db = database("large").await;
    db.run("CREATE TABLE t (id INT8 PRIMARY KEY, a STRING)").await;
    let cursor = db.now().await;
    db.run("INSERT INTO t SELECT i, 'value' FROM generate_series(1, 100000) AS g (i)").await;
    assert_eq!(db.feed("t", ", updated", &cursor).await.len(), 100_000);
}

/// A transaction that stays open keeps the server behind the stand-in from forgetting predicate locks, until it has no
/// memory left for more.
#[tokio::test]
async fn a_feed_that_runs_holds_no_transaction() {
    let db = database("holds_nothing").await;
    db.run("CREATE TABLE t (id INT8 PRIMARY KEY)").await;
    let client = db.another().await;
    client.simple_query("SET application_name = 'a feed'").await.unwrap();
    let sql = "CREATE CHANGEFEED FOR t WITH resolved = '10ms', min_checkpoint_frequency = '10ms'";
    let feed = client.query_raw::<_, i32, _>(sql, []).await.unwrap();
    let mut feed = std::pin::pin!(feed);
    tokio::time::timeout(LIMIT, feed.try_next()).await.expect("a message").unwrap().expect("a resolved one");
    let sessions = "SELECT count(*), count(xact_start) FROM pg_stat_activity WHERE application_name = 'a feed'";
    let seen = db.behind().await.query_one(sessions, &[]).await.unwrap();
    assert_eq!((seen.get::<_, i64>(0), seen.get::<_, i64>(1)), (1, 0));
}
