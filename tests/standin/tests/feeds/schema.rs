//! Changes of a table's columns while a feed runs.

use crate::fixture::{database, time_in, timeless, values};

#[tokio::test]
async fn a_column_with_a_default_sends_every_row_again() {
    let db = database("column_default").await;
    db.run("CREATE TABLE dogs (id INT8 PRIMARY KEY, name STRING)").await;
    db.run("INSERT INTO dogs VALUES (1, 'Petee H'), (2, 'Carl')").await;
    let with = "updated, mvcc_timestamp, diff, resolved = '10ms', min_checkpoint_frequency = '10ms'";
    let mut feed = db.follow(&format!("CREATE CHANGEFEED FOR dogs WITH {with}")).await;
    let scanned = [feed.row().await, feed.row().await];
    db.run("ALTER TABLE dogs ADD COLUMN likes_treats BOOL DEFAULT TRUE").await;
    let (mut again, mut resolved) = (Vec::new(), String::new());
    while again.len() < 2 {
        let message = feed.next().await.unwrap();
        match message.0 {
            Some(_) => again.push(message),
            None if again.is_empty() => resolved = time_in(&message.2, "resolved").to_owned(),
            None => {}
        }
    }
    assert_eq!(
        values(&again),
        [
            concat!(
                r#"{"after": {"id": 1, "likes_treats": true, "name": "Petee H"}, "#,
                r#""before": {"id": 1, "name": "Petee H"}, "mvcc_timestamp": "T", "updated": "T"}"#
            ),
            concat!(
                r#"{"after": {"id": 2, "likes_treats": true, "name": "Carl"}, "#,
                r#""before": {"id": 2, "name": "Carl"}, "mvcc_timestamp": "T", "updated": "T"}"#
            ),
        ]
    );
    let (own, updated) = (time_in(&again[0].2, "mvcc_timestamp"), time_in(&again[0].2, "updated"));
    assert_eq!(own, time_in(&scanned[0].2, "mvcc_timestamp"));
    assert!(own < updated && resolved.as_str() < updated && resolved.as_str() > own, "{own} {resolved} {updated}");
    db.run("INSERT INTO dogs VALUES (3, 'Ernie', false)").await;
    assert!(feed.row().await.2.starts_with(r#"{"after": {"id": 3, "likes_treats": false, "name": "Ernie"}"#));
}

#[tokio::test]
async fn a_column_that_may_be_null_sends_nothing() {
    let db = database("column_null").await;
    db.run("CREATE TABLE t (id INT8 PRIMARY KEY)").await;
    db.run("INSERT INTO t VALUES (1)").await;
    let cursor = db.now().await;
    let mut feed = db.follow(&format!("CREATE CHANGEFEED FOR t WITH cursor = '{cursor}'")).await;
    db.run("INSERT INTO t VALUES (2)").await;
    assert_eq!(feed.row().await.2, r#"{"after": {"id": 2}}"#);
    db.run("ALTER TABLE t ADD COLUMN b STRING").await;
    db.run("INSERT INTO t VALUES (3, 'x')").await;
    assert_eq!(feed.row().await.2, r#"{"after": {"b": "x", "id": 3}}"#);
}

#[tokio::test]
async fn a_late_feed_shows_the_columns_of_the_time() {
    let db = database("late_feed").await;
    db.run("CREATE TABLE t (id INT8 PRIMARY KEY, a STRING)").await;
    let cursor = db.now().await;
    db.run("INSERT INTO t VALUES (1, 'x')").await;
    db.run("ALTER TABLE t DROP COLUMN a").await;
    db.run("INSERT INTO t VALUES (2)").await;
    let said = values(&db.feed("t", "", &cursor).await);
    assert_eq!(said, [r#"{"after": {"a": "x", "id": 1}}"#, r#"{"after": {"id": 1}}"#, r#"{"after": {"id": 2}}"#]);
    let quiet = values(&db.feed("t", ", schema_change_policy = 'nobackfill'", &cursor).await);
    assert_eq!(quiet, [r#"{"after": {"a": "x", "id": 1}}"#, r#"{"after": {"id": 2}}"#]);
}

#[tokio::test]
async fn the_stop_policy_stops() {
    let db = database("stop_policy").await;
    db.run("CREATE TABLE t (id INT8 PRIMARY KEY)").await;
    let with = format!("schema_change_policy = 'stop', resolved, cursor = '{}'", db.now().await);
    let mut feed = db.follow(&format!("CREATE CHANGEFEED FOR t WITH {with}")).await;
    db.run("INSERT INTO t VALUES (1)").await;
    db.run("ALTER TABLE t ADD COLUMN b INT8 NOT NULL DEFAULT 1").await;
    let (rows, (_, text)) = feed.end().await;
    assert_eq!(values(&rows), [r#"{"after": {"id": 1}}"#]);
    assert_eq!(timeless(&text), "schema change occurred at T");
}
