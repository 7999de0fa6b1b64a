//! What a fence waits for, and that it says so.

use std::time::Duration;

use tidegate_sql::fence::{Blocker, barrier};
use tokio::time::sleep;

use crate::support::Database;

const TABLE: &str = "CREATE TABLE plain (id int PRIMARY KEY)";
/// Time enough for the fence to run into whoever is in its way.
const MEANWHILE: Duration = Duration::from_millis(800);
const SHORT: Duration = Duration::from_millis(1200);

#[tokio::test]
async fn a_writer_idle_in_its_transaction_is_named_and_waited_for() {
    let database = Database::new(TABLE).await;
    let writer = database.client().await;
    let pid: i32 = writer.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    writer.batch_execute("BEGIN; INSERT INTO plain VALUES (1)").await.unwrap();
    let order = database.order("a", 1, &["plain"]);
    let finish = async {
        sleep(MEANWHILE).await;
        writer.batch_execute("INSERT INTO plain VALUES (2); COMMIT").await.unwrap();
    };
    let (fenced, ()) = tokio::join!(database.put_up(&order), finish);
    let (fenced, seen) = fenced.unwrap();
    assert!(fenced.blocked_since.elapsed() > MEANWHILE / 2);
    let blocker = seen.last().expect("it was told who was in its way");
    assert_eq!((blocker.pid, blocker.state.as_str()), (Some(pid), "idle in transaction"));
    assert_eq!(blocker.query, "BEGIN; INSERT INTO plain VALUES (1)");
    // Both rows came before the fence, and nothing after it.
    assert_eq!(database.text("SELECT count(*)::text FROM plain").await, "2");
    assert!(writer.batch_execute("INSERT INTO plain VALUES (3)").await.is_err());
}

#[tokio::test]
async fn a_prepared_transaction_is_named_and_waited_for() {
    let database = Database::new(TABLE).await;
    let writer = database.client().await;
    let gid = format!("pay_{}", database.name);
    writer.batch_execute(&format!("BEGIN; INSERT INTO plain VALUES (1); PREPARE TRANSACTION '{gid}'")).await.unwrap();
    let problem = database.put_up(&database.order_within("a", 1, &["plain"], SHORT)).await.unwrap_err();
    assert_eq!(problem.code, "FN001");
    assert!(problem.why.contains(&format!("prepared transaction \"{gid}\"")), "{problem}");
    let order = database.order("a", 1, &["plain"]);
    let finish = async {
        sleep(MEANWHILE).await;
        writer.batch_execute(&format!("COMMIT PREPARED '{gid}'")).await.unwrap();
    };
    let (fenced, ()) = tokio::join!(database.put_up(&order), finish);
    let (_, seen) = fenced.unwrap();
    assert!(seen.iter().any(|blocker| blocker.pid.is_none() && blocker.query == gid), "{seen:?}");
    assert_eq!(database.text("SELECT count(*)::text FROM plain").await, "1");
}

#[tokio::test]
async fn writers_behind_a_lock_that_waits_get_on_between_attempts() {
    let database = Database::new(TABLE).await;
    let (long, short) = (database.client().await, database.client().await);
    long.batch_execute("BEGIN; INSERT INTO plain VALUES (0)").await.unwrap();
    let order = database.order_within("a", 1, &["plain"], Duration::from_secs(3));
    let writing = async {
        let mut longest = Duration::ZERO;
        for id in 1..=40 {
            let began = std::time::Instant::now();
            short.execute("INSERT INTO plain VALUES ($1)", &[&id]).await.unwrap();
            longest = longest.max(began.elapsed());
            sleep(Duration::from_millis(20)).await;
        }
        longest
    };
    let (fenced, longest) = tokio::join!(database.put_up(&order), writing);
    assert_eq!(fenced.unwrap_err().code, "FN001");
    // As long as one attempt, and what a busy machine adds.
    assert!(longest < Duration::from_secs(2), "a writer waited for {longest:?}");
}

#[tokio::test]
async fn a_barrier_waits_and_leaves_nothing() {
    let database = Database::new(TABLE).await;
    let before = database.catalog().await;
    let writer = database.client().await;
    writer.batch_execute("BEGIN; INSERT INTO plain VALUES (1)").await.unwrap();
    let order = database.order("a", 1, &["plain"]);
    let mut seen: Vec<Blocker> = Vec::new();
    let mut on_wait = |blockers: &[Blocker]| seen.extend_from_slice(blockers);
    let settings = database.settings();
    let waiting = barrier(&settings, &order, &mut on_wait);
    let finish = async {
        sleep(MEANWHILE).await;
        writer.batch_execute("COMMIT").await.unwrap();
    };
    let (done, ()) = tokio::join!(waiting, finish);
    done.unwrap();
    assert!(!seen.is_empty());
    assert_eq!(database.catalog().await, before);
}
