//! Both databases are open: each change is judged by the row that it finds, and a conflict is recorded exactly once.

use std::sync::atomic::Ordering;

use tidegate_model::{Applier, Stream, TableRoute};
use tidegate_sql::applier::{ApplierConfig, SqlApplier};
use tidegate_sql::conflicts::read;
use tidegate_sql::state::Ownership;

use crate::fixture::with_full_identity;
use crate::proxy::Proxy;
use crate::support::{Changing, Target, at, batch, durable, route, server, settings, transaction};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE, n numeric);
    INSERT INTO t SELECT i, 'row ' || i, 1.0 FROM generate_series(1, 9) AS g (i)";
const ROWS: &str = "SELECT id, name FROM t WHERE id < 4 OR id > 9 ORDER BY 1";

fn table() -> (TableRoute, Changing) {
    let route = with_full_identity(route(1, "t", &["id integer", "name text", "n numeric"], &[0]));
    let changing = Changing::new(&route);
    (route, changing)
}

/// A target of a stream whose source is the truth, or of one whose source is not.
async fn open(truth: bool) -> (Target, Ownership, ApplierConfig) {
    let mut target = Target::new(TABLE).await;
    target.key.stream = if truth { Stream::Reverse } else { Stream::Forward };
    let owner = target.own().await;
    let config = target.applier_config(owner.lease());
    config.arbitrate.store(true, Ordering::Relaxed);
    (target, owner, config)
}

/// Operation and key of each conflict.
async fn conflicts(target: &Target) -> Vec<(String, String)> {
    let seen = read(target.client(), &target.key).await.unwrap();
    seen.into_iter().map(|one| (one.operation, one.key)).collect()
}

fn conflict(operation: &str, id: u32) -> (String, String) {
    (operation.to_owned(), format!("{{\"id\":\"{id}\"}}"))
}

#[tokio::test]
async fn of_two_changes_of_a_row_the_truth_stays_whichever_stream_it_comes_by() {
    for truth in [false, true] {
        let (target, _owner, config) = open(truth).await;
        let (route, t) = table();
        let mut applier = SqlApplier::start(config, at(10), vec![route]).await.unwrap();
        // Somebody else has changed 1, removed 2 and added 10.
        target.sql("UPDATE t SET name = 'theirs' WHERE id = 1; DELETE FROM t WHERE id = 2").await;
        target.sql("INSERT INTO t VALUES (10, 'theirs too', 1)").await;
        let changes = vec![
            t.rekey("1|row 1|1.0", "1|ours|1.0"),
            t.rekey("2|row 2|1.0", "2|ours 2|1.0"),
            // 1.00 is what the target has.
            t.rekey("3|row 3|1.00", "3|ours 3|1.00"),
            t.insert("10|ours 10|1"),
        ];
        applier.submit(batch(10, vec![transaction(11, changes)])).await.unwrap();
        durable(&mut applier, 10, 11).await.unwrap();
        let rows = if truth { "1|ours 2|ours 2 3|ours 3 10|ours 10" } else { "1|theirs 3|ours 3 10|theirs too" };
        assert_eq!(target.text(ROWS).await, rows);
        assert_eq!(conflicts(&target).await, [conflict("update", 1), conflict("update", 2), conflict("insert", 10)]);
    }
}

#[tokio::test]
async fn a_change_that_was_given_up_does_not_speak_for_the_one_behind_it() {
    let (target, _owner, config) = open(false).await;
    let (route, t) = table();
    let mut applier = SqlApplier::start(config, at(10), vec![route]).await.unwrap();
    target.sql("UPDATE t SET name = 'theirs' WHERE id = 1").await;
    // The second one was made from what the other side wrote, which had come over in between.
    let one = transaction(11, vec![t.rekey("1|row 1|1.0", "1|ours|1.0")]);
    let two = transaction(12, vec![t.rekey("1|theirs|1.0", "1|after theirs|1.0")]);
    applier.submit(batch(10, vec![one, two])).await.unwrap();
    durable(&mut applier, 10, 12).await.unwrap();
    assert_eq!(target.text("SELECT name FROM t WHERE id = 1").await, "after theirs");
    assert_eq!(conflicts(&target).await, [conflict("update", 1)]);
}

#[tokio::test]
async fn a_connection_that_is_lost_among_conflicts_records_none_twice() {
    let (target, _owner, mut config) = open(false).await;
    let proxy = Proxy::before(server().port()).await;
    let url = target.url().replace(&format!(":{}/", server().port()), &format!(":{}/", proxy.port));
    config.settings = settings(&url);
    let (route, t) = table();
    let mut applier = SqlApplier::start(config, at(10), vec![route]).await.unwrap();
    target.sql("UPDATE t SET name = concat('theirs ', id)").await;
    let change = |id: u64| vec![t.rekey(&format!("{id}|row {id}|1.0"), &format!("{id}|ours {id}|1.0"))];
    applier.submit(batch(10, vec![transaction(11, change(1))])).await.unwrap();
    durable(&mut applier, 10, 11).await.unwrap();
    // The second transaction waits for a row when the connection goes.
    target.sql("BEGIN; SELECT FROM t WHERE id = 2 FOR UPDATE").await;
    applier.submit(batch(11, vec![transaction(12, change(2)), transaction(13, change(3))])).await.unwrap();
    let role = target.key.migration.application_name("apply");
    let waits = format!(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = '{role}' AND wait_event_type = 'Lock')"
    );
    target.until("the row is waited for", &waits).await;
    proxy.cut();
    target.sql("COMMIT").await;
    durable(&mut applier, 11, 13).await.unwrap();
    assert_eq!(conflicts(&target).await, [1, 2, 3].map(|id| conflict("update", id)));
    assert_eq!(target.text("SELECT count(*) FROM t WHERE name LIKE 'theirs%'").await, "9");
}

#[tokio::test]
async fn what_a_constraint_refuses_is_left_by_the_one_stream_and_stops_the_other() {
    for truth in [false, true] {
        let (target, _owner, config) = open(truth).await;
        let (route, t) = table();
        let mut applier = SqlApplier::start(config, at(10), vec![route]).await.unwrap();
        let changes = vec![t.insert("10|row 9|1"), t.insert("11|free|1")];
        applier.submit(batch(10, vec![transaction(11, changes)])).await.unwrap();
        let done = durable(&mut applier, 10, 11).await;
        let rows = "1|row 1 2|row 2 3|row 3";
        if truth {
            assert_eq!(done.unwrap_err().code, "AP055");
            assert_eq!((target.text(ROWS).await, conflicts(&target).await.len()), (rows.to_owned(), 0));
        } else {
            done.unwrap();
            assert_eq!(target.text(ROWS).await, format!("{rows} 11|free"));
            assert_eq!(conflicts(&target).await, [conflict("insert", 10)]);
        }
    }
}

/// The removal of the parent waits for that of the child, and what brings a row of its key waits with it.
#[tokio::test]
async fn a_row_that_is_removed_and_added_again_is_no_conflict_while_its_removal_waits() {
    let orders: [&[&str]; 2] = [&["parent", "child", "again"], &["parent", "again", "child"]];
    for order in orders {
        let (target, _owner, config) = open(false).await;
        target.sql("CREATE TABLE c (id int PRIMARY KEY, t int REFERENCES t); INSERT INTO c VALUES (1, 1)").await;
        let (parents, t) = table();
        let children = with_full_identity(route(2, "c", &["id integer", "t integer"], &[0]));
        let c = Changing::new(&children);
        let mut applier = SqlApplier::start(config, at(10), vec![parents, children]).await.unwrap();
        let change = |what: &&str| match *what {
            "parent" => t.delete("1|row 1|1.0"),
            "child" => c.delete("1|1"),
            _ => t.insert("1|again|2"),
        };
        applier.submit(batch(10, vec![transaction(11, order.iter().map(change).collect())])).await.unwrap();
        durable(&mut applier, 10, 11).await.unwrap();
        assert_eq!(target.text(ROWS).await, "1|again 2|row 2 3|row 3", "{order:?}");
        assert_eq!(conflicts(&target).await, [], "{order:?}");
    }
}
