//! One owner at a time.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tidegate_connect::Session;
use tidegate_model::{Applier, Problem};
use tidegate_sql::dialect::Dialect;
use tidegate_sql::state::{OwnerConfig, Waiting, read_owner, take};
use tokio::time::timeout;

use crate::support::{Changing, LIMIT, Target, at, batch, durable, remember, route, transaction};

#[tokio::test]
async fn a_second_owner_waits_for_the_first_and_goes_on_when_it_is_given_back() {
    let target = Target::new("").await;
    let first = target.own().await;
    first.status().send(json!({ "state": "streaming" })).unwrap();
    let seen = Arc::default();
    let second = tokio::spawn({
        let (config, waiting) = (target.owner_config(), remember(&seen));
        async move { take(&config, waiting).await }
    });
    while seen.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let expected = std::process::id() as i32;
    assert!(matches!(seen.lock().unwrap()[0], Waiting::Owner { pid, .. } if pid == expected));
    assert!(!second.is_finished());
    first.release(None).await.unwrap();
    let row = read_owner(target.client(), &target.key).await.unwrap().unwrap();
    assert!(row.stopped || row.epoch == 2);
    let second = timeout(LIMIT, second).await.unwrap().unwrap().unwrap();
    assert_eq!(second.lease().epoch, 2);
}

#[tokio::test]
async fn an_owner_that_crashed_is_followed_at_once() {
    let target = Target::new("").await;
    let first = target.own().await;
    drop(first);
    // Its connection takes a moment to be noticed, but nobody waits for its heartbeat to grow old.
    let begun = std::time::Instant::now();
    let second = take(&target.owner_config(), |_| {}).await.unwrap();
    assert_eq!(second.lease().epoch, 2);
    assert!(begun.elapsed().as_secs() < 5, "took {:?}", begun.elapsed());
}

#[tokio::test]
async fn an_owner_whose_process_is_gone_is_followed_although_its_session_is_still_there() {
    let target = Target::new("").await;
    let _first = target.own().await;
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let gone = child.id();
    child.wait().unwrap();
    // As if the owner had been another process of this machine. Its heartbeat stays fresh.
    let set = format!("process = regexp_replace(process, '/[0-9]+/[0-9]+/[0-9]+$', '/{gone}/1/0')");
    target.sql(&format!("UPDATE tidegate.owner SET {set}, heartbeat = clock_timestamp() + interval '1 hour'")).await;
    let second = timeout(LIMIT, take(&target.owner_config(), |_| {})).await.unwrap().unwrap();
    assert_eq!(second.lease().epoch, 2);
}

#[tokio::test]
async fn an_owner_that_gives_no_sign_of_life_is_followed() {
    let target = Target::new("").await;
    let lock = Session::connect(&target.settings(), "somebody").await.unwrap();
    let first = target.own().await;
    drop(first);
    target
        .until(
            "the lock is free",
            "SELECT NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND \
        database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
        )
        .await;
    // A session that holds the lock and is silent, such as that of a process that was halted.
    let key = advisory_key(&format!("tidegate/tidegate/{}/forward", target.name));
    lock.execute("SELECT pg_advisory_lock($1)", &[&key]).await.unwrap();
    target
        .sql(
            "UPDATE tidegate.owner SET process = 'elsewhere', backend_pid = (SELECT pid FROM pg_stat_activity \
        WHERE application_name = 'somebody' AND datname = current_database())",
        )
        .await;
    target.sql("UPDATE tidegate.owner SET heartbeat = clock_timestamp() - interval '8 seconds'").await;
    let seen: Arc<Mutex<Vec<Waiting>>> = Arc::default();
    let second = timeout(LIMIT, take(&target.owner_config(), remember(&seen))).await.unwrap().unwrap();
    assert_eq!(second.lease().epoch, 2);
    assert!(!seen.lock().unwrap().is_empty(), "8 seconds are not 10");
}

#[tokio::test]
async fn a_displaced_owner_is_told_and_writes_nothing_more() {
    let target = Target::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let first = target.own().await;
    let routes = [route(1, "t", &["id integer"], &[0])];
    let t = Changing::new(&routes[0]);
    let mut applier = target.applier(first.lease(), routes).await;
    applier.submit(batch(10, vec![transaction(11, vec![t.insert("1")])])).await.unwrap();
    durable(&mut applier, 10, 11).await.unwrap();
    let config = OwnerConfig { take_over: true, ..target.owner_config() };
    let second = timeout(LIMIT, take(&config, |_| {})).await.unwrap().unwrap();
    assert_eq!(second.start().position, Some(at(11)));
    applier.submit(batch(11, vec![transaction(12, vec![t.insert("2")])])).await.unwrap();
    assert_eq!(durable(&mut applier, 11, 12).await.unwrap_err().code, "ST003");
    let told = timeout(LIMIT, first.displaced()).await.unwrap();
    assert_eq!(told.code, "ST003");
    assert_eq!(first.release(None).await.unwrap_err().code, "ST003");
    assert_eq!(target.text("SELECT id FROM t").await, "1");
    second.release(None).await.unwrap();
}

#[tokio::test]
async fn a_zombie_that_holds_the_checkpoint_is_ended_and_leaves_nothing() {
    let target = Target::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let first = target.own().await;
    let zombie = Session::connect(&target.settings(), &target.key.migration.application_name("apply")).await.unwrap();
    zombie
        .batch_execute(&format!(
            "BEGIN; {}; INSERT INTO public.t VALUES (1)",
            first.lease().guard_sql(Dialect::Postgres)
        ))
        .await
        .unwrap();
    drop(first);
    let second = timeout(LIMIT, take(&target.owner_config(), |_| {})).await.unwrap().unwrap();
    assert!(zombie.batch_execute("COMMIT").await.is_err());
    assert_eq!(target.number("SELECT count(*) FROM t").await, 0);
    assert_eq!(second.lease().epoch, 2);
}

#[tokio::test]
async fn a_zombie_that_commits_first_is_read_by_the_new_owner() {
    let target = Target::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let first = target.own().await;
    let zombie = Session::connect(&target.settings(), "zombie of another name").await.unwrap();
    let step = format!("UPDATE tidegate.checkpoint SET position = '{}' WHERE epoch = 1", at(20));
    zombie.batch_execute(&format!("BEGIN; {step}; INSERT INTO public.t VALUES (1)")).await.unwrap();
    drop(first);
    let seen: Arc<Mutex<Vec<Waiting>>> = Arc::default();
    let second = tokio::spawn({
        let (config, waiting) = (target.owner_config(), remember(&seen));
        async move { take(&config, waiting).await }
    });
    let told = |waiting: &Waiting| match waiting {
        Waiting::Transaction { application_name, .. } => application_name == "zombie of another name",
        _ => false,
    };
    while !seen.lock().unwrap().iter().any(told) {
        tokio::task::yield_now().await;
    }
    zombie.batch_execute("COMMIT").await.unwrap();
    let second = timeout(LIMIT, second).await.unwrap().unwrap().unwrap();
    assert_eq!(second.start().position, Some(at(20)));
    assert_eq!(target.number("SELECT count(*) FROM t").await, 1);
}

#[tokio::test]
async fn an_owner_whose_session_was_cut_stays_the_owner() {
    let target = Target::new("").await;
    let owner = target.own().await;
    let role = target.key.migration.application_name("owner");
    let backend = "SELECT backend_pid FROM tidegate.owner";
    let before = target.number(backend).await;
    target.sql(&format!("SELECT pg_terminate_backend({before})")).await;
    target.until("the owner is back", &format!("SELECT backend_pid <> {before} FROM tidegate.owner")).await;
    target
        .until("the lock is held again", &format!(
            "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' \
             AND l.granted AND a.application_name = '{role}' AND a.pid <> {before})"))
        .await;
    owner.release(None).await.unwrap();
}

#[tokio::test]
async fn the_error_that_stopped_an_owner_stays_for_status() {
    let target = Target::new("").await;
    let owner = target.own().await;
    owner.status().send(json!({ "state": "stopped" })).unwrap();
    let problem = Problem::definite("AP001", "a row is missing", "it was deleted", "copy the table again");
    owner.release(Some(&problem)).await.unwrap();
    let row = read_owner(target.client(), &target.key).await.unwrap().unwrap();
    assert!(row.stopped);
    assert_eq!(row.status, Some(json!({ "state": "stopped" })));
    let error = row.error.unwrap();
    assert_eq!((&error["code"], &error["what"]), (&json!("AP001"), &json!("a row is missing")));
    let next = target.own().await;
    assert_eq!(next.lease().epoch, 2);
    assert_eq!(read_owner(target.client(), &target.key).await.unwrap().unwrap().error, None);
}

/// The key of a stream's lock, written down a second time: it must never change.
fn advisory_key(text: &str) -> i64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash as i64
}
