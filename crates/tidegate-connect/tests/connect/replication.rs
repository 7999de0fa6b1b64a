//! The walsender session.

use std::time::Duration;

use bytes::Bytes;
use tidegate_connect::{CopyReader, CopyStatus, QueryError};
use tokio::time::timeout;

use crate::fixture::{SERVER, connect, connect_replication, settings};

#[tokio::test]
async fn commands_are_answered_with_rows() {
    let mut session = connect_replication(&settings("sslmode=require")).await.unwrap();
    let rows = session.query("IDENTIFY_SYSTEM").await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0][3].as_deref(), Some("postgres"));
    let rows = session.query("SELECT pg_catalog.pg_backend_pid(), NULL").await.unwrap();
    assert_eq!(rows, [[Some(session.backend_pid().to_string()), None]]);
    let error = session.query("SELECT 1 FROM nowhere").await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("42P01"));
    assert_eq!(session.query("SELECT 'still here'").await.unwrap(), [[Some("still here".to_owned())]]);
    session.close().await;
}

#[tokio::test]
async fn a_command_can_be_cancelled() {
    let mut session = connect_replication(&settings("sslmode=require")).await.unwrap();
    let pid = session.backend_pid();
    let cancel = session.cancel();
    let sleep = session.query("SELECT pg_catalog.pg_sleep(600)");
    let cancel = async {
        let watcher = connect(&settings("")).await.unwrap();
        let sql = "SELECT wait_event = 'PgSleep' FROM pg_catalog.pg_stat_activity WHERE pid = $1";
        while watcher.query_one(sql, &[&pid]).await.unwrap().get::<_, Option<bool>>(0) != Some(true) {
            tokio::task::yield_now().await;
        }
        cancel.await.unwrap();
    };
    let (slept, ()) = tokio::join!(sleep, cancel);
    assert_eq!(slept.unwrap_err().sqlstate(), Some("57014"));
    session.query("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn an_abandoned_answer_is_not_taken_for_the_next() {
    let mut session = connect_replication(&settings("")).await.unwrap();
    assert!(timeout(Duration::from_millis(50), session.query("SELECT pg_catalog.pg_sleep(1)")).await.is_err());
    let error = session.query("SELECT 1").await.unwrap_err();
    assert!(matches!(error, QueryError::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn a_copy_goes_both_ways_and_ends() {
    for mode in ["disable", "require"] {
        let name = format!("round_trip_{mode}");
        SERVER.create_database(&name).unwrap();
        SERVER.psql(&name, "CREATE TABLE t (id int); CREATE PUBLICATION p FOR TABLE t").unwrap();
        let settings = settings(&format!("dbname={name} sslmode={mode}"));
        let mut session = connect_replication(&settings).await.unwrap();
        session.query(&format!("CREATE_REPLICATION_SLOT \"{name}\" LOGICAL pgoutput")).await.unwrap();
        SERVER.psql(&name, "INSERT INTO t SELECT pg_catalog.generate_series(1, 20000)").unwrap();
        let start =
            format!("START_REPLICATION SLOT \"{name}\" LOGICAL 0/0 (proto_version '1', publication_names '\"p\"')");
        let (mut reader, mut writer) = session.copy_both(&start).await.unwrap();

        let (kinds, commit_end) = timeout(Duration::from_secs(60), until_commit(&mut reader)).await.unwrap();
        assert_eq!(kinds.iter().filter(|&&kind| kind == b'I').count(), 20000, "{mode}");
        let mut status = vec![b'r'];
        for position in [commit_end; 3] {
            status.extend(position.to_be_bytes());
        }
        status.extend([0; 9]);
        writer.send(&status).await.unwrap();
        let confirmed = format!(
            "SELECT confirmed_flush_lsn >= '{:X}/{:X}' FROM pg_replication_slots WHERE slot_name = '{name}'",
            commit_end >> 32,
            commit_end & 0xFFFF_FFFF
        );
        while SERVER.psql(&name, &confirmed).unwrap().trim() != "t" {}

        writer.done().await.unwrap();
        let mut out = Vec::new();
        while reader.next(&mut out).await.unwrap() == CopyStatus::Open {}
        assert_eq!(reader.next(&mut out).await.unwrap(), CopyStatus::Done, "the end stays the end");
    }
}

/// Reads until a Commit; returns the kinds of the messages and the end of the commit.
async fn until_commit(reader: &mut CopyReader) -> (Vec<u8>, u64) {
    let mut kinds = Vec::new();
    let mut out: Vec<Bytes> = Vec::new();
    loop {
        assert_eq!(reader.next(&mut out).await.unwrap(), CopyStatus::Open);
        for payload in out.drain(..).filter(|payload| payload[0] == b'w') {
            let message = payload.slice(25..);
            kinds.push(message[0]);
            if message[0] == b'C' {
                return (kinds, u64::from_be_bytes(message[10..18].try_into().unwrap()));
            }
        }
    }
}

#[tokio::test]
async fn the_error_that_ends_a_copy_is_said_again() {
    let name = "terminated";
    SERVER.create_database(name).unwrap();
    SERVER.psql(name, "CREATE PUBLICATION p").unwrap();
    let mut session = connect_replication(&settings(&format!("dbname={name}"))).await.unwrap();
    session.query(&format!("CREATE_REPLICATION_SLOT {name} TEMPORARY LOGICAL pgoutput")).await.unwrap();
    let pid = session.backend_pid();
    let start = format!("START_REPLICATION SLOT {name} LOGICAL 0/0 (proto_version '1', publication_names 'p')");
    let (mut reader, _writer) = session.copy_both(&start).await.unwrap();
    SERVER.psql(name, &format!("SELECT pg_terminate_backend({pid})")).unwrap();
    let mut out = Vec::new();
    let error = loop {
        match reader.next(&mut out).await {
            Ok(status) => assert_eq!(status, CopyStatus::Open),
            Err(error) => break error,
        }
    };
    assert_eq!(error.sqlstate(), Some("57P01"));
    assert!(error.is_transient());
    assert_eq!(reader.next(&mut out).await.unwrap_err(), error);
}

#[tokio::test]
async fn a_copy_that_is_refused_says_why() {
    let session = connect_replication(&settings("")).await.unwrap();
    let error = session.copy_both("START_REPLICATION SLOT nowhere LOGICAL 0/0").await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("42704"), "{error}");
    assert!(!error.is_transient());
}
