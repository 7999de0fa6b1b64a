//! One owner at a time, where no lock tells them apart.

use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use tidegate_connect::Session;
use tidegate_model::Problem;
use tidegate_sql::dialect::Dialect;
use tidegate_sql::state::{OwnerConfig, StateKey, Waiting, read_checkpoint, read_owner, take};
use tidegate_standin::Standin;
use tokio::time::{sleep, timeout};

use crate::support::{LIMIT, Target, at, committed, on_both_servers, settings};

on_both_servers!(
    a_second_owner_waits_for_the_first_and_goes_on_when_it_is_given_back,
    an_owner_that_was_dropped_is_followed_at_once,
    an_owner_whose_process_was_killed_is_followed_at_once,
    an_owner_that_gives_no_sign_of_life_is_followed,
    of_many_newcomers_one_owns_it_and_the_others_wait,
    a_displaced_owner_is_told_and_writes_nothing_more,
    two_owners_never_both_write,
    a_transaction_that_commits_before_the_new_owner_is_read_by_it,
    the_error_that_stopped_an_owner_stays_for_status,
);

fn remember(seen: &Arc<Mutex<Vec<Waiting>>>) -> impl FnMut(&Waiting) + Send + 'static {
    let seen = Arc::clone(seen);
    move |waiting| seen.lock().unwrap().push(waiting.clone())
}

async fn a_second_owner_waits_for_the_first_and_goes_on_when_it_is_given_back(standin: &'static Standin) {
    let target = Target::new(standin, &[]).await;
    let first = target.own().await;
    first.status().send(json!({ "state": "streaming" })).unwrap();
    let seen: Arc<Mutex<Vec<Waiting>>> = Arc::default();
    let second = tokio::spawn({
        let (config, waiting) = (target.owner_config(), remember(&seen));
        async move { take(&config, waiting).await }
    });
    let owned = |waiting: &Waiting| matches!(waiting, Waiting::Owner { pid, .. } if *pid == std::process::id() as i32);
    while !seen.lock().unwrap().iter().any(owned) {
        sleep(Duration::from_millis(5)).await;
    }
    assert!(!second.is_finished());
    let before = first.lease().epoch;
    first.release(None).await.unwrap();
    let second = timeout(LIMIT, second).await.unwrap().unwrap().unwrap();
    assert!(second.lease().epoch > before);
}

async fn an_owner_that_was_dropped_is_followed_at_once(standin: &'static Standin) {
    let target = Target::new(standin, &[]).await;
    drop(target.own().await);
    let begun = Instant::now();
    take(&target.owner_config(), |_| {}).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(8), "took {:?}", begun.elapsed());
}

/// Where a child finds its target.
const CHILD_URL: &str = "TIDEGATE_TEST_OWNER_URL";
const CHILD_NAME: &str = "TIDEGATE_TEST_OWNER_NAME";

/// What the child of the next test does: it owns the stream until it is killed. As a test it does nothing.
#[tokio::test]
async fn own_in_a_child() {
    let (Ok(url), Ok(name)) = (std::env::var(CHILD_URL), std::env::var(CHILD_NAME)) else { return };
    let key = StateKey {
        schema: tidegate_sql::state::StateSchema::default(),
        migration: name.parse().unwrap(),
        stream: tidegate_model::Stream::Forward,
    };
    let _owner = take(&OwnerConfig { settings: settings(&url), key, take_over: false }, |_| {}).await.unwrap();
    std::future::pending::<()>().await;
}

async fn an_owner_whose_process_was_killed_is_followed_at_once(standin: &'static Standin) {
    let target = Target::new(standin, &[]).await;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ownership::own_in_a_child"])
        .env(CHILD_URL, &target.url)
        .env(CHILD_NAME, target.key.migration.as_str())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    target.until("the child owns it", "SELECT count(*) FROM tidegate.owner").await;
    let seen: Arc<Mutex<Vec<Waiting>>> = Arc::default();
    let next = tokio::spawn({
        let (config, waiting) = (target.owner_config(), remember(&seen));
        async move { take(&config, waiting).await }
    });
    while seen.lock().unwrap().is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let killed = Instant::now();
    timeout(LIMIT, next).await.unwrap().unwrap().unwrap();
    assert!(killed.elapsed() < Duration::from_secs(8), "took {:?}", killed.elapsed());
}

async fn an_owner_that_gives_no_sign_of_life_is_followed(standin: &'static Standin) {
    let target = Target::new(standin, &[]).await;
    drop(target.own().await);
    let set = "process = 'elsewhere', heartbeat = clock_timestamp() - '8 seconds'::INTERVAL";
    target.sql(&format!("UPDATE tidegate.owner SET {set}")).await;
    let seen: Arc<Mutex<Vec<Waiting>>> = Arc::default();
    timeout(LIMIT, take(&target.owner_config(), remember(&seen))).await.unwrap().unwrap();
    assert!(!seen.lock().unwrap().is_empty(), "8 seconds are not 10");
}

async fn of_many_newcomers_one_owns_it_and_the_others_wait(standin: &'static Standin) {
    let target = Target::new(standin, &[]).await;
    let seen: Arc<Mutex<Vec<Waiting>>> = Arc::default();
    let mut newcomers = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let (config, waiting) = (target.owner_config(), remember(&seen));
        newcomers.spawn(async move { take(&config, waiting).await.unwrap() });
    }
    let owner = timeout(LIMIT, newcomers.join_next()).await.unwrap().unwrap().unwrap();
    let waits = |waiting: &Waiting| matches!(waiting, Waiting::Owner { .. });
    while seen.lock().unwrap().iter().filter(|waiting| waits(waiting)).count() < 20 {
        sleep(Duration::from_millis(5)).await;
    }
    assert!(newcomers.try_join_next().is_none(), "a second one took it from a live owner");
    let row = read_checkpoint(target.session(), &target.key).await.unwrap().unwrap();
    assert_eq!(row.epoch, owner.lease().epoch);
    newcomers.shutdown().await;
}

async fn a_displaced_owner_is_told_and_writes_nothing_more(standin: &'static Standin) {
    let target = Target::new(standin, &["CREATE TABLE t (id INT8 PRIMARY KEY)"]).await;
    let first = target.own().await;
    let session = Session::connect(&target.settings(), "test").await.unwrap();
    let guard = first.lease().guard_sql(Dialect::Cockroach);
    let write = async |id: i64| {
        let sql = format!("BEGIN; {guard}; INSERT INTO public.t VALUES ({id}) ON CONFLICT DO NOTHING");
        committed(&session, || session.batch_execute(&sql)).await
    };
    write(1).await.unwrap();
    let config = OwnerConfig { take_over: true, ..target.owner_config() };
    let second = timeout(LIMIT, take(&config, |_| {})).await.unwrap().unwrap();
    assert_eq!(write(2).await.unwrap_err().code().unwrap().code(), "22012");
    assert_eq!(timeout(LIMIT, first.displaced()).await.unwrap().code, "ST003");
    assert_eq!(first.release(None).await.unwrap_err().code, "ST003");
    assert_eq!(target.number("SELECT count(*) FROM public.t WHERE id = 2").await, 0);
    second.release(None).await.unwrap();
}

/// Owners follow each other while each writes as fast as it can. A counter in the same transactions tells their order.
async fn two_owners_never_both_write(standin: &'static Standin) {
    let tables = [
        "CREATE TABLE counter (id INT8 PRIMARY KEY, n INT8 NOT NULL)",
        "INSERT INTO counter VALUES (1, 0)",
        "CREATE TABLE log (n INT8 PRIMARY KEY, epoch INT8 NOT NULL)",
    ];
    let target = Target::new(standin, &tables).await;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let config = OwnerConfig { take_over: true, ..target.owner_config() };
        let owner = timeout(LIMIT, take(&config, |_| {})).await.unwrap().unwrap();
        let (settings, lease) = (target.settings(), owner.lease().clone());
        let before = target.number("SELECT count(*) FROM public.log").await;
        writers.spawn(async move {
            let _owner = owner;
            let session = Session::connect(&settings, "test").await.unwrap();
            let sql = format!(
                "BEGIN; {}; UPDATE public.counter SET n = n + 1 WHERE id = 1; \
                 INSERT INTO public.log SELECT n, {} FROM public.counter WHERE id = 1",
                lease.guard_sql(Dialect::Cockroach),
                lease.epoch
            );
            while committed(&session, || session.batch_execute(&sql)).await.is_ok() {}
        });
        target
            .until(
                "it writes",
                &format!("SELECT (CASE WHEN count(*) > {before} THEN 1 ELSE 0 END)::INT8 FROM public.log"),
            )
            .await;
    }
    // The last one is ended by a successor that writes nothing.
    let config = OwnerConfig { take_over: true, ..target.owner_config() };
    let last = timeout(LIMIT, take(&config, |_| {})).await.unwrap().unwrap();
    let ended = async { while writers.join_next().await.is_some() {} };
    timeout(LIMIT, ended).await.expect("every earlier owner is refused");
    let rows = target.session().query("SELECT n, epoch FROM public.log ORDER BY n", &[]).await.unwrap();
    let epochs: Vec<i64> = rows.iter().map(|row| row.get(1)).collect();
    assert!(epochs.is_sorted(), "an owner wrote after its successor: {epochs:?}");
    assert!(epochs.last().is_some_and(|epoch| *epoch < last.lease().epoch));
}

async fn a_transaction_that_commits_before_the_new_owner_is_read_by_it(standin: &'static Standin) {
    let target = Target::new(standin, &[]).await;
    let first = target.own().await;
    let zombie = Session::connect(&target.settings(), "zombie").await.unwrap();
    let step =
        format!("BEGIN; UPDATE tidegate.checkpoint SET position = '{}' WHERE epoch = {}", at(20), first.lease().epoch);
    while zombie.batch_execute(&step).await.is_err() {
        zombie.batch_execute("ROLLBACK").await.unwrap();
    }
    drop(first);
    let seen: Arc<Mutex<Vec<Waiting>>> = Arc::default();
    let second = tokio::spawn({
        let (config, waiting) = (target.owner_config(), remember(&seen));
        async move { take(&config, waiting).await }
    });
    while !seen.lock().unwrap().contains(&Waiting::UnnamedTransaction) {
        sleep(Duration::from_millis(5)).await;
    }
    let committed = zombie.batch_execute("COMMIT").await.is_ok();
    drop(zombie);
    let second = timeout(LIMIT, second).await.unwrap().unwrap().unwrap();
    let position = read_checkpoint(target.session(), &target.key).await.unwrap().unwrap().position;
    assert_eq!(second.start().position, position, "what it was told is what is there");
    assert!(!committed || position == Some(at(20)));
}

async fn the_error_that_stopped_an_owner_stays_for_status(standin: &'static Standin) {
    let target = Target::new(standin, &[]).await;
    let owner = target.own().await;
    owner.status().send(json!({ "state": "stopped" })).unwrap();
    let problem = Problem::definite("AP001", "a row is missing", "it was deleted", "copy the table again");
    owner.release(Some(&problem)).await.unwrap();
    let row = read_owner(target.session(), &target.key).await.unwrap().unwrap();
    assert!(row.stopped && row.backend_pid == 0);
    assert_eq!(row.status, Some(json!({ "state": "stopped" })));
    assert_eq!(row.error.unwrap()["code"], json!("AP001"));
    let next = target.own().await;
    assert_eq!(read_owner(target.session(), &target.key).await.unwrap().unwrap().error, None);
    next.release(None).await.unwrap();
}
