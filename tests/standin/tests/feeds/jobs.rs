//! Jobs that keep history.

use crate::fixture::database;

#[tokio::test]
async fn a_job_can_be_seen_paused_resumed_and_cancelled() {
    let db = database("job_control").await;
    db.run("CREATE TABLE foo (a INT8 PRIMARY KEY)").await;
    let id = db.value("CREATE CHANGEFEED FOR foo INTO 'null://' WITH envelope = 'wrapped', updated").await;
    let shown = db.run(&format!("SHOW CHANGEFEED JOB {id}")).await;
    let job = &shown[0];
    assert_eq!((job.len(), job[0].as_str(), job[3].as_str()), (16, id.as_str(), "running"));
    assert_eq!(
        job[1],
        "CREATE CHANGEFEED FOR TABLE job_control.public.foo INTO 'null://' WITH OPTIONS (envelope = 'wrapped', updated)"
    );
    assert!(job[4].starts_with("running: resolved="), "{job:?}");
    let status = async || db.run(&format!("SHOW CHANGEFEED JOB {id}")).await[0][3].clone();
    db.run(&format!("PAUSE JOB {id}")).await;
    assert_eq!(status().await, "paused");
    db.run(&format!("RESUME JOB {id}")).await;
    assert_eq!(status().await, "running");
    db.run(&format!("CANCEL JOB {id}")).await;
    assert_eq!(status().await, "canceled");
    assert!(db.error(&format!("RESUME JOB {id}")).await.1.contains("canceled"));
}

#[tokio::test]
async fn a_job_on_a_truncated_table_fails() {
    let db = database("job_fails").await;
    db.run("CREATE TABLE foo (a INT8 PRIMARY KEY)").await;
    let id = db.value("CREATE CHANGEFEED FOR foo INTO 'null://'").await;
    db.run("TRUNCATE foo").await;
    let job = &db.run(&format!("SHOW CHANGEFEED JOB {id}")).await[0];
    assert_eq!((job[3].as_str(), job[11].as_str()), ("failed", "\"foo\" was truncated"));
}
