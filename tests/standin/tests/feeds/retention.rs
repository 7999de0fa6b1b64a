//! How far back one can look.

use std::time::Duration;

use crate::fixture::database;

#[tokio::test]
async fn times_past_the_window_are_refused() {
    let db = database("past_window").await;
    db.run("CREATE TABLE t (a INT8 PRIMARY KEY)").await;
    let then = db.now().await;
    db.run("ALTER TABLE t CONFIGURE ZONE USING gc.ttlseconds = 1").await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let (code, text) = db.error(&format!("SELECT a FROM t AS OF SYSTEM TIME '{then}'")).await;
    assert!(
        code == "XXUUU"
            && text.starts_with("batch timestamp 1")
            && text.contains(",0 must be after replica GC threshold 1"),
        "{code} {text}"
    );
    let (_, text) = db.error(&format!("CREATE CHANGEFEED FOR t WITH cursor = '{then}'")).await;
    assert!(
        text.starts_with(&format!("could not create changefeed: cursor {then} is older than the GC threshold ")),
        "{text}"
    );
    assert!(text.contains("must be after replica GC threshold"), "{text}");
}

#[tokio::test]
async fn a_job_keeps_history() {
    let db = database("job_keeps").await;
    db.run("CREATE TABLE t (a INT8 PRIMARY KEY)").await;
    db.run("INSERT INTO t VALUES (1)").await;
    let id = db.value("CREATE CHANGEFEED FOR t INTO 'null://' WITH initial_scan = 'no'").await;
    db.run(&format!("PAUSE JOB {id}")).await;
    let then = db.now().await;
    db.run("ALTER TABLE t CONFIGURE ZONE USING gc.ttlseconds = 1").await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let sql = format!("SELECT a FROM t AS OF SYSTEM TIME '{then}'");
    assert_eq!(db.run(&sql).await, [["1"]]);
    db.run(&format!("CANCEL JOB {id}")).await;
    assert!(db.error(&sql).await.1.contains("must be after replica GC threshold"));
}

#[tokio::test]
async fn times_in_every_form_are_understood() {
    let db = database("forms_of_time").await;
    db.run("CREATE TABLE t (a INT8 PRIMARY KEY)").await;
    db.run("INSERT INTO t VALUES (1)").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    for form in ["'-1ms'", "'-10us'", "with_max_staleness('10s')"] {
        assert_eq!(db.run(&format!("SELECT a FROM t AS OF SYSTEM TIME {form}")).await, [["1"]], "{form}");
    }
    assert!(db.run("SELECT a FROM t AS OF SYSTEM TIME '-1h'").await.is_empty());
    assert!(db.run("SELECT a FROM t AS OF SYSTEM TIME follower_read_timestamp()").await.is_empty());
    let (_, text) = db.error("SELECT a FROM t AS OF SYSTEM TIME '9000000000000000000.0000000000'").await;
    assert!(text.contains("cannot specify timestamp in the future"), "{text}");
}
