//! Lost answers, lost connections, and commits that fail with more sent behind them.

use tidegate_model::{Applier, TableRoute};
use tidegate_sql::applier::SqlApplier;

use crate::proxy::Proxy;
use crate::support::{Changing, Target, at, batch, durable, route, server, settings, transaction};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE DEFERRABLE INITIALLY DEFERRED)";

fn table() -> (TableRoute, Changing) {
    let route = route(1, "t", &["id integer", "name text"], &[0]);
    let changing = Changing::new(&route);
    (route, changing)
}

/// Starts an applier behind a proxy.
async fn behind_proxy(target: &Target, owner: &tidegate_sql::state::Ownership) -> (Proxy, SqlApplier, Changing) {
    let proxy = Proxy::before(server().port()).await;
    let mut config = target.applier_config(owner.lease());
    let url = target.url().replace(&format!(":{}/", server().port()), &format!(":{}/", proxy.port));
    config.settings = settings(&url);
    let (route, t) = table();
    let applier = SqlApplier::start(config, at(10), vec![route]).await.unwrap();
    (proxy, applier, t)
}

#[tokio::test]
async fn a_lost_answer_is_not_applied_twice() {
    let target = Target::new(TABLE).await;
    let owner = target.own().await;
    let (proxy, mut applier, t) = behind_proxy(&target, &owner).await;
    applier.submit(batch(10, vec![transaction(11, vec![t.insert("1 a")])])).await.unwrap();
    durable(&mut applier, 10, 11).await.unwrap();
    proxy.withhold_answers();
    // The shapes are prepared already, so that all three go on their way without an answer.
    for lsn in 11..14_u64 {
        applier.submit(batch(lsn, vec![transaction(lsn + 1, vec![t.insert(&format!("{lsn} n{lsn}"))])])).await.unwrap();
    }
    target.until("the server has committed all", "SELECT count(*) = 4 FROM t").await;
    assert_eq!(applier.progress().borrow().applied, at(11));
    proxy.cut();
    durable(&mut applier, 11, 14).await.unwrap();
    applier.submit(batch(14, vec![transaction(15, vec![t.insert("15 n15")])])).await.unwrap();
    durable(&mut applier, 14, 15).await.unwrap();
    assert_eq!(target.text("SELECT id FROM t ORDER BY 1").await, "1 11 12 13 15");
}

#[tokio::test]
async fn a_batch_cut_off_before_its_commit_is_sent_again() {
    let target = Target::new(TABLE).await;
    let owner = target.own().await;
    let (proxy, mut applier, t) = behind_proxy(&target, &owner).await;
    applier.submit(batch(10, vec![transaction(11, vec![t.insert("1 a")])])).await.unwrap();
    durable(&mut applier, 10, 11).await.unwrap();
    target.sql("BEGIN; LOCK TABLE t IN EXCLUSIVE MODE").await;
    for lsn in 11..14_u64 {
        applier.submit(batch(lsn, vec![transaction(lsn + 1, vec![t.insert(&format!("{lsn} n{lsn}"))])])).await.unwrap();
    }
    let role = target.key.migration.application_name("apply");
    let waits = format!(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = '{role}' AND wait_event_type = 'Lock')"
    );
    target.until("the first of them waits", &waits).await;
    proxy.cut();
    target.sql("COMMIT").await;
    durable(&mut applier, 11, 14).await.unwrap();
    assert_eq!(target.text("SELECT id FROM t ORDER BY 1").await, "1 11 12 13");
}

/// Under `session_replication_role = replica` deferred unique constraints rest, so a constraint trigger that always
/// fires refuses the commit.
#[tokio::test]
async fn a_commit_that_fails_takes_nothing_of_the_batches_behind_it() {
    let schema = "CREATE TABLE t (id int PRIMARY KEY, name text);
        CREATE TABLE switch (refuse bool); INSERT INTO switch VALUES (true);
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.name = 'bad' AND (SELECT refuse FROM public.switch) THEN
                RAISE 'refused' USING ERRCODE = '23514';
            END IF;
            RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION refuse();
        ALTER TABLE t ENABLE ALWAYS TRIGGER refuse";
    let target = Target::new(schema).await;
    let owner = target.own().await;
    let (route, t) = table();
    let mut applier = target.applier(owner.lease(), [route.clone()]).await;
    applier.submit(batch(10, vec![transaction(11, vec![t.insert("1 a")])])).await.unwrap();
    durable(&mut applier, 10, 11).await.unwrap();
    let good = transaction(12, vec![t.insert("2 b")]);
    let bad = transaction(13, vec![t.insert("3 bad")]);
    applier.submit(batch(11, vec![good, bad])).await.unwrap();
    applier.submit(batch(13, vec![transaction(14, vec![t.insert("4 d")])])).await.unwrap();
    applier.submit(batch(14, vec![transaction(15, vec![t.insert("5 e")])])).await.unwrap();
    let problem = durable(&mut applier, 11, 15).await.unwrap_err();
    assert_eq!(problem.code, "AP058", "{problem}");
    assert_eq!(target.checkpoint().await, at(12).to_string());
    assert_eq!(target.text("SELECT id FROM t ORDER BY 1").await, "1 2");
    drop(applier);
    // Put right, it goes on at exactly that transaction.
    target.sql("UPDATE switch SET refuse = false").await;
    let mut applier = SqlApplier::start(target.applier_config(owner.lease()), at(12), vec![route]).await.unwrap();
    applier.submit(batch(12, vec![transaction(13, vec![t.insert("3 bad")])])).await.unwrap();
    durable(&mut applier, 12, 13).await.unwrap();
    assert_eq!(target.text("SELECT id FROM t ORDER BY 1").await, "1 2 3");
}

#[tokio::test]
async fn sessions_ended_again_and_again_lose_and_repeat_nothing() {
    let target = Target::new(TABLE).await;
    let owner = target.own().await;
    let (route, t) = table();
    let mut applier = target.applier(owner.lease(), [route]).await;
    let role = target.key.migration.application_name("apply");
    for lsn in 10..210_u64 {
        let changes = vec![t.insert(&format!("{lsn} n{lsn}"))];
        applier.submit(batch(lsn, vec![transaction(lsn + 1, changes)])).await.unwrap();
        if lsn % 10 == 0 {
            let sql =
                format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{role}'");
            target.sql(&sql).await;
        }
    }
    durable(&mut applier, 10, 210).await.unwrap();
    assert_eq!(target.text("SELECT count(*), min(id), max(id) FROM t").await, "200|10|209");
    assert_eq!(applier.progress().borrow().retrying, None);
}

#[tokio::test]
async fn a_statement_cancelled_by_an_operator_is_repeated() {
    let target = Target::new(TABLE).await;
    let owner = target.own().await;
    let (route, t) = table();
    let mut applier = target.applier(owner.lease(), [route]).await;
    target.sql("BEGIN; LOCK TABLE t IN EXCLUSIVE MODE").await;
    applier.submit(batch(10, vec![transaction(11, vec![t.insert("1 a")])])).await.unwrap();
    applier.submit(batch(11, vec![transaction(12, vec![t.insert("2 b")])])).await.unwrap();
    let role = target.key.migration.application_name("apply");
    let waits = format!(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = '{role}' AND wait_event_type = 'Lock')"
    );
    target.until("the batch waits", &waits).await;
    target.sql(&format!("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = '{role}'")).await;
    let mut progress = applier.progress();
    progress.wait_for(|progress| progress.retrying.is_some()).await.unwrap();
    target.sql("COMMIT").await;
    durable(&mut applier, 10, 12).await.unwrap();
    assert_eq!(target.text("SELECT id FROM t ORDER BY 1").await, "1 2");
}
