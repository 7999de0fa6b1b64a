//! Batches, as they should go and when the target refuses them.

use tidegate_model::{Applier, Batch, Span, TableName, TableRoute};
use tidegate_sql::applier::SqlApplier;

use crate::support::{Changing, Target, at, batch, durable, route, server, settings, transaction};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE)";

fn table() -> (TableRoute, Changing) {
    let route = route(1, "t", &["id integer", "name text"], &[0]);
    let changing = Changing::new(&route);
    (route, changing)
}

#[tokio::test]
async fn rows_and_checkpoint_arrive_together() {
    let target = Target::new(TABLE).await;
    let owner = target.own().await;
    let (route, t) = table();
    let mut applier = target.applier(owner.lease(), [route]).await;
    applier.submit(batch(10, vec![transaction(11, vec![t.insert("1 a"), t.insert("2 b")])])).await.unwrap();
    let changes = vec![t.update("2 c"), t.delete("1 -")];
    applier.submit(batch(11, vec![transaction(12, changes), transaction(13, vec![t.insert("3 d")])])).await.unwrap();
    let watermark = Batch { span: Span { after: at(13), until: at(20) }, transactions: Vec::new() };
    applier.submit(watermark).await.unwrap();
    durable(&mut applier, 10, 20).await.unwrap();
    assert_eq!(target.text("SELECT id, name FROM t ORDER BY id").await, "2|c 3|d");
    assert_eq!(target.checkpoint().await, at(20).to_string());
    assert_eq!(target.number("SELECT extract(epoch FROM committed_at) * 1000000 FROM tidegate.checkpoint").await, 13);
    let progress = applier.progress().borrow().clone();
    assert_eq!((progress.applied, progress.rows, progress.transactions), (at(20), 5, 3));
}

#[tokio::test]
async fn a_batch_that_does_not_join_is_refused() {
    let target = Target::new(TABLE).await;
    let owner = target.own().await;
    let mut applier = target.applier(owner.lease(), [table().0]).await;
    assert_eq!(applier.submit(batch(12, vec![transaction(13, vec![])])).await.unwrap_err().code, "AP050");
    let elsewhere = SqlApplier::start(target.applier_config(owner.lease()), at(12), vec![]).await;
    assert_eq!(elsewhere.unwrap_err().code, "AP053");
}

/// The next batches are sent while the first one waits for a lock, and take effect in order.
#[tokio::test]
async fn batches_are_sent_behind_an_unanswered_commit() {
    let target = Target::new(TABLE).await;
    let owner = target.own().await;
    let (route, t) = table();
    let mut applier = target.applier(owner.lease(), [route]).await;
    applier.submit(batch(10, vec![transaction(11, vec![t.insert("1 a")])])).await.unwrap();
    durable(&mut applier, 10, 11).await.unwrap();
    target.sql("BEGIN; LOCK TABLE t IN EXCLUSIVE MODE").await;
    for lsn in 11..14 {
        applier.submit(batch(lsn, vec![transaction(lsn + 1, vec![t.insert(&format!("{lsn} n{lsn}"))])])).await.unwrap();
    }
    let role = target.key.migration.application_name("apply");
    let waits = format!(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = '{role}' AND wait_event_type = 'Lock')"
    );
    target.until("the first batch waits", &waits).await;
    target.sql("COMMIT").await;
    durable(&mut applier, 11, 14).await.unwrap();
    assert_eq!(target.text("SELECT id FROM t ORDER BY 1").await, "1 11 12 13");
}

#[tokio::test]
async fn a_row_that_is_refused_stops_the_stream_exactly_before_its_transaction() {
    let target = Target::new(TABLE).await;
    let owner = target.own().await;
    let (route, t) = table();
    let mut applier = target.applier(owner.lease(), [route]).await;
    applier.submit(batch(10, vec![transaction(11, vec![t.insert("1 a"), t.insert("2 b")])])).await.unwrap();
    let freed = transaction(12, vec![t.update("1 c")]);
    let taken = transaction(13, vec![t.update("2 a")]);
    let collides = transaction(14, vec![t.update("1 d"), t.insert("3 a")]);
    applier.submit(batch(11, vec![freed, taken, collides])).await.unwrap();
    applier.submit(batch(14, vec![transaction(15, vec![t.insert("4 e")])])).await.unwrap();
    applier.submit(batch(15, vec![transaction(16, vec![t.insert("5 f")])])).await.unwrap();
    let problem = durable(&mut applier, 10, 16).await.unwrap_err();
    assert_eq!(problem.code, "AP055");
    assert!(problem.what.contains("(id)=(3)") && problem.what.contains(&at(14).to_string()), "{problem}");
    assert_eq!(target.checkpoint().await, at(13).to_string());
    assert_eq!(target.text("SELECT id, name FROM t ORDER BY id").await, "1|c 2|a");
    drop(applier);
    // What was in the way is removed: it goes on behind the last whole transaction.
    target.sql("UPDATE t SET name = 'other' WHERE id = 2").await;
    let mut applier = SqlApplier::start(target.applier_config(owner.lease()), at(13), vec![table().0]).await.unwrap();
    let again = transaction(14, vec![t.update("1 d"), t.insert("3 a")]);
    applier.submit(batch(13, vec![again])).await.unwrap();
    durable(&mut applier, 13, 14).await.unwrap();
    assert_eq!(target.text("SELECT id, name FROM t ORDER BY id").await, "1|d 2|other 3|a");
}

#[tokio::test]
async fn a_value_freed_and_taken_across_rows_arrives_although_the_fold_loses_its_order() {
    let target = Target::new(TABLE).await;
    let owner = target.own().await;
    let (route, t) = table();
    let mut applier = target.applier(owner.lease(), [route]).await;
    applier.submit(batch(10, vec![transaction(11, vec![t.insert("1 a"), t.insert("2 b")])])).await.unwrap();
    let swap = vec![t.update("1 z"), t.update("2 a"), t.update("1 b")];
    applier.submit(batch(11, vec![transaction(12, swap)])).await.unwrap();
    applier.submit(batch(12, vec![transaction(13, vec![t.insert("3 e")])])).await.unwrap();
    applier.submit(batch(13, vec![transaction(14, vec![t.insert("4 f")])])).await.unwrap();
    durable(&mut applier, 10, 14).await.unwrap();
    assert_eq!(target.text("SELECT id, name FROM t ORDER BY id").await, "1|b 2|a 3|e 4|f");
    assert_eq!(applier.progress().borrow().batches_in_source_order, 1);
}

#[tokio::test]
async fn a_missing_row_stops_the_stream_at_its_transaction_with_its_key() {
    let target = Target::new(TABLE).await;
    let owner = target.own().await;
    let (route, t) = table();
    let mut applier = target.applier(owner.lease(), [route]).await;
    applier.submit(batch(10, vec![transaction(11, vec![t.insert("1 a"), t.insert("17 b")])])).await.unwrap();
    durable(&mut applier, 10, 11).await.unwrap();
    target.sql("DELETE FROM t WHERE id = 17").await;
    let good = transaction(12, vec![t.update("1 c")]);
    let bad = transaction(13, vec![t.insert("2 d"), t.update("17 e")]);
    let after = transaction(14, vec![t.insert("3 f")]);
    applier.submit(batch(11, vec![good, bad, after])).await.unwrap();
    applier.submit(batch(14, vec![transaction(15, vec![t.insert("4 g")])])).await.unwrap();
    let problem = durable(&mut applier, 11, 15).await.unwrap_err();
    assert_eq!(problem.code, "AP001");
    assert!(problem.what.contains("(id)=(17)") && problem.what.contains(&at(13).to_string()), "{problem}");
    assert_eq!(target.checkpoint().await, at(12).to_string());
    assert_eq!(target.text("SELECT id, name FROM t ORDER BY id").await, "1|c");
    assert_eq!(applier.durable(&at(11)).await.unwrap(), at(12), "what is durable is told even now");
}

#[tokio::test]
async fn a_table_that_changed_stops_the_stream_behind_what_came_before() {
    let target = Target::new(TABLE).await;
    let owner = target.own().await;
    let (route, t) = table();
    let mut changed = route.clone();
    changed.map.source.columns[1].type_oid = 20;
    let other = Changing::new(&changed);
    let mut applier = target.applier(owner.lease(), [route]).await;
    let before = transaction(11, vec![t.insert("1 a")]);
    applier.submit(batch(10, vec![before, transaction(12, vec![other.insert("2 7")])])).await.unwrap();
    assert_eq!(durable(&mut applier, 10, 12).await.unwrap_err().code, "AP003");
    assert_eq!(target.checkpoint().await, at(11).to_string());
    assert_eq!(target.text("SELECT id FROM t").await, "1");
}

#[tokio::test]
async fn without_the_right_to_rest_triggers_foreign_keys_hold_and_parents_go_first() {
    let schema = "CREATE TABLE parent (id int PRIMARY KEY);
                  CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent DEFERRABLE)";
    let target = Target::new(schema).await;
    let owner = target.own().await;
    let role = format!("limited_{}", target.name);
    target
        .sql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA tidegate TO {role};
             GRANT ALL ON ALL TABLES IN SCHEMA tidegate, public TO {role}"
        ))
        .await;
    let parent = route(1, "parent", &["id integer"], &[0]);
    let mut child = route(2, "child", &["id integer", "parent integer"], &[0]);
    child.map.references = vec![TableName::new("public", "parent")];
    let (p, c) = (Changing::new(&parent), Changing::new(&child));
    let mut config = target.applier_config(owner.lease());
    config.settings = settings(&server().url_as(&role, "x", &target.name));
    let mut applier = SqlApplier::start(config, at(10), vec![child, parent]).await.unwrap();
    assert!(applier.rights().foreign_keys_enforced);
    // The child before its parent, as under deferred constraints at the source.
    let changes = vec![c.insert("1 7"), p.insert("7")];
    applier.submit(batch(10, vec![transaction(11, changes)])).await.unwrap();
    durable(&mut applier, 10, 11).await.unwrap();
    applier.submit(batch(11, vec![transaction(12, vec![p.delete("7"), c.delete("1 -")])])).await.unwrap();
    durable(&mut applier, 11, 12).await.unwrap();
    applier.submit(batch(12, vec![transaction(13, vec![c.insert("2 8")])])).await.unwrap();
    let problem = durable(&mut applier, 12, 13).await.unwrap_err();
    assert_eq!(problem.code, "AP058", "{problem}");
    assert_eq!(target.checkpoint().await, at(12).to_string());
}

/// The table had one row when it was analyzed, and the first plans were made for that.
#[tokio::test]
async fn rows_are_found_by_index_in_a_table_that_grows() {
    let target = Target::new(TABLE).await;
    target.sql("ALTER TABLE t SET (autovacuum_enabled = off); INSERT INTO t VALUES (0, 'first'); ANALYZE t").await;
    let owner = target.own().await;
    let (route, t) = table();
    let mut applier = target.applier(owner.lease(), [route]).await;
    for step in 0..50 {
        let lsn = 10 + step * 2;
        let first = step * 1_000 + 1;
        let inserts = (first..first + 1_000).map(|id| t.insert(&format!("{id} n{id}"))).collect();
        applier.submit(batch(lsn, vec![transaction(lsn + 1, inserts)])).await.unwrap();
        let updates = (0..100).map(|n| t.update(&format!("{} m{lsn}n{n}", n * (step + 1) * 10)));
        let changes = updates.chain([t.delete(&format!("{} -", first + 1))]).collect();
        applier.submit(batch(lsn + 1, vec![transaction(lsn + 2, changes)])).await.unwrap();
    }
    durable(&mut applier, 10, 110).await.unwrap();
    drop(applier);
    let figures = "pg_stat_user_tables WHERE relname = 't'";
    target.until("the session has told its figures", &format!("SELECT n_tup_del = 50 FROM {figures}")).await;
    let read = target.number(&format!("SELECT seq_tup_read + idx_tup_fetch FROM {figures}")).await;
    // Reading all of it each time would be more than two million.
    assert!(read < 50_000, "{read} rows were read to change 5,000");
}
