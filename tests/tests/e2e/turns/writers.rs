//! Writers whom a weak fence would let slip: each one is either carried over or refused, and never lost.

use std::time::Duration;

use tidegate_testkit::wait::{PATIENCE, wait_until};
use tidegate_testkit::{Cockroach, Engine, Migration, Session, source_server, start_server};
use tidegate_throwaway::Server;

/// A turn under way, asked for by a process of its own.
fn turn(migration: &Migration, options: &[&str]) -> Engine {
    migration.begin("cutover", &[&["--yes"], options].concat())
}

fn assert_refused(outcome: anyhow::Result<String>) {
    let error = outcome.expect_err("the source is closed").to_string();
    assert!(error.contains("application has moved") || error.contains("application is being moved"), "{error}");
}

#[test]
fn whoever_overrides_a_setting_or_goes_by_the_leaf_is_refused() {
    let migration = super::turning("turn_refused");
    let parts = "CREATE TABLE parted (id INT8 PRIMARY KEY, n INT8)";
    // The leaf is carried; its root is not, and must be no way round.
    migration.target.sql("CREATE TABLE leaf (id INT8 PRIMARY KEY, n INT8)");
    migration.source.sql(&format!(
        "{parts} PARTITION BY RANGE (id); CREATE TABLE leaf PARTITION OF parted FOR VALUES FROM (0) TO (1000);
         INSERT INTO parted SELECT i, i FROM generate_series(1, 50) i"
    ));
    let engine = migration.start_streaming();
    migration.run("cutover", &["--yes"]).expect_code(0);
    let refused = [
        "SET default_transaction_read_only = off; INSERT INTO item VALUES (200, 'late')",
        "BEGIN READ WRITE; UPDATE item SET name = 'late'; COMMIT",
        "INSERT INTO leaf VALUES (60, 1)",
        "UPDATE parted SET n = 2 WHERE id = 1",
        "TRUNCATE bag",
        "COPY bag FROM PROGRAM 'echo 1'",
        "SET session_replication_role = replica; INSERT INTO item VALUES (201, 'late')",
        "SET session_replication_role = replica; DELETE FROM leaf",
    ];
    for sql in refused {
        assert_refused(migration.source.try_sql(sql));
    }
    assert_eq!(migration.target.sql("SELECT count(*) FROM leaf"), "50");
    migration.run("verify", &[]).expect_code(0);
    engine.stop();
}

#[test]
fn whoever_is_in_a_transaction_is_waited_for_or_refused() {
    let migration = super::turning("turn_waits");
    let engine = migration.start_streaming();
    // One with a snapshot from before the fence, one that has written and sits idle.
    let mut older = Session::open(&migration.source);
    older.sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM item");
    let mut idle = Session::open(&migration.source);
    idle.sql("BEGIN; INSERT INTO item VALUES (300, 'idle in a transaction')");
    let pid = idle.sql("SELECT pg_backend_pid()");
    let mut turning = turn(&migration, &[]);
    turning.wait_for_log(&format!("pid {pid}"), PATIENCE);
    idle.sql("COMMIT");
    turning.wait(PATIENCE).expect_code(0);
    assert_eq!(migration.target.sql("SELECT name FROM item WHERE id = 300"), "idle in a transaction");
    let late = "DO $$ BEGIN INSERT INTO item VALUES (301, 'late'); EXCEPTION WHEN read_only_sql_transaction THEN
                PERFORM set_config('test.refused', SQLERRM, false); END $$";
    older.sql(late);
    // It does not see that the turn has happened, and is told to try again.
    assert!(older.sql("SHOW test.refused").contains("application is being moved"));
    older.sql("COMMIT");
    migration.run("verify", &[]).expect_code(0);
    engine.stop();
}

#[test]
fn a_comparison_right_behind_a_cutover_calls_no_row_extra_that_the_cutover_carried_over() {
    // The reverse stream begins before the fence, and is long behind what the forward stream wrote at the last.
    let server = Cockroach::start();
    server.knob("resolved_lag", "'8s'");
    let migration = super::with_tables(Migration::between(&source_server(), &server, "turn_behind"));
    let engine = migration.start_streaming();
    let mut idle = Session::open(&migration.source);
    idle.sql("BEGIN; INSERT INTO item VALUES (500, 'carried over at the last')");
    let pid = idle.sql("SELECT pg_backend_pid()");
    let mut turning = turn(&migration, &[]);
    turning.wait_for_log(&format!("pid {pid}"), PATIENCE);
    idle.sql("COMMIT");
    turning.wait(PATIENCE).expect_code(0);
    let verified = migration.run("verify", &["--json"]).expect_code(0);
    assert_eq!(verified.json()["verdict"], "equal", "{}", verified.stdout);
    engine.stop();
}

#[test]
fn a_prepared_transaction_is_named_and_carried_over() {
    // Prepared transactions keep new slots waiting: servers of its own.
    let source = start_server(Server::builder());
    let migration =
        super::with_tables(Migration::between(&source, &tidegate_testkit::cockroach_server(), "turn_prepared"));
    let engine = migration.start_streaming();
    migration.source.sql("BEGIN; INSERT INTO item VALUES (400, 'prepared'); PREPARE TRANSACTION 'undecided'");
    let refused = migration.run("cutover", &["--yes"]).expect_code(1);
    assert!(refused.says("CT009") && refused.says("undecided"), "{}", refused.stderr);
    let mut turning = turn(&migration, &["--accept", "CT009"]);
    turning.wait_for_log("the fence waits for prepared transaction \"undecided\"", PATIENCE);
    migration.source.sql("COMMIT PREPARED 'undecided'");
    turning.wait(PATIENCE).expect_code(0);
    assert_eq!(migration.target.sql("SELECT name FROM item WHERE id = 400"), "prepared");
    engine.stop();
}

#[test]
fn a_spent_budget_opens_the_source_again_and_names_who_was_in_the_way() {
    let migration = super::turning("turn_budget");
    let engine = migration.start_streaming();
    let mut idle = Session::open(&migration.source);
    idle.sql("BEGIN; UPDATE bag SET n = 7");
    let pid = idle.sql("SELECT pg_backend_pid()");
    let given_up = migration
        .run("cutover", &["--yes", "--budget", "2s", "--accept", "CT010", "--on-abort", "echo undone"])
        .expect_code(1);
    assert!(given_up.says(&format!("pid {pid}")), "{}", given_up.stderr);
    migration.source.sql("INSERT INTO item VALUES (500, 'open again')");
    idle.sql("COMMIT");
    assert_eq!(migration.source.sql("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'tidegate%'"), "0");
    assert_eq!(
        migration.source.sql("SELECT detail->>'printed' FROM tidegate.cutover_step WHERE step = 'on_abort'"),
        "undone"
    );
    migration.drain();
    migration.assert_equal();
    // The next attempt has an id of its own and goes through.
    let turned = migration.run("cutover", &["--yes"]).expect_code(0);
    assert!(turned.says("certificate of cutover 2.2"), "{}", turned.stdout);
    engine.stop();
}

#[test]
fn a_write_past_the_fence_is_a_breach_and_is_seen() {
    let migration = super::turning("turn_breach");
    let mut engine = migration.start_streaming();
    let disable = format!("ALTER TABLE item DISABLE TRIGGER tidegate_{}_fence", migration.name);
    migration.run("cutover", &["--yes"]).expect_code(0);
    migration.source.sql(&format!("{disable}; INSERT INTO item VALUES (600, 'past the fence')"));
    wait_until("the breach is shown", Duration::from_secs(10), || {
        let status = migration.run("status", &["--json"]);
        status.code == Some(1)
            && status.json()["streams"][0]["breaches"] == 1
            && status.json()["error"]["code"] == "CT015"
    });
    assert!(migration.run("status", &[]).says("BREACH"));
    assert_eq!(migration.target.sql("SELECT count(*) FROM item WHERE id = 600"), "0");
    let refused = migration.run("failback", &["--yes"]).expect_code(1);
    assert!(refused.says("CT015"), "{}", refused.stderr);
    migration.target.sql("INSERT INTO item VALUES (601, 'the target is open')");
    // Of some tables only, or where nothing is made equal, nothing is given up.
    migration.run("verify", &["--tables", "public.bag", "--repair"]).expect_code(0);
    migration.run("verify", &[]).expect_code(1);
    migration.run("failback", &["--yes"]).expect_code(1);
    let repaired = migration.run("verify", &["--repair", "--json"]).expect_code(0).json();
    assert_eq!(repaired["breaches_dropped"], 1, "{repaired}");
    assert_eq!(migration.source.number("SELECT count(*) FROM item WHERE id = 600"), 0);
    wait_until("status says so", PATIENCE, || migration.run("status", &[]).code == Some(0));
    // It stays given up.
    engine.kill9();
    let mut engine = migration.start_flowing();
    migration.run("failback", &["--yes"]).expect_code(0);
    migration.source.sql("INSERT INTO item VALUES (602, 'the source is open')");
    migration.drain();
    assert_eq!(migration.target.number("SELECT count(*) FROM item WHERE id IN (600, 601, 602)"), 2);
    engine.assert_running();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn a_write_at_the_side_that_is_to_be_opened_refuses_the_turn() {
    let migration = super::turning("turn_early");
    let engine = migration.start_streaming();
    // The first attempt arms the feed, which from then on sees what others write at the target.
    migration.run("cutover", &["--yes", "--on-fence", "exit 3"]).expect_code(1);
    migration.target.sql("INSERT INTO item VALUES (700, 'too early')");
    let refused = migration.run("cutover", &["--yes"]).expect_code(1);
    assert!(refused.says("CT015") || refused.says("CT005"), "{}", refused.stderr);
    migration.source.sql("INSERT INTO item VALUES (701, 'the source is open')");
    engine.stop();
}

/// Writes at the target while a hook of the turn runs, and returns the certificate.
fn turn_with_a_write_during(migration: &Migration, place: &str, write: &str) -> serde_json::Value {
    let option = format!("--{}", place.replace('_', "-"));
    let mut turning = turn(migration, &["--json", &option, "sleep 3"]);
    let side = if place == "on_open" { &migration.target } else { &migration.source };
    wait_until("the hook runs", PATIENCE, || {
        side.sql(&format!("SELECT state FROM tidegate.cutover_step WHERE step = '{place}'")) == "begun"
    });
    migration.target.sql(write);
    let breaches = migration.run("status", &["--json"]).json()["streams"][1]["breaches"].clone();
    assert_eq!(breaches, 0, "nothing is called a breach that need not be one");
    turning.wait(PATIENCE).expect_code(0).json()
}

#[test]
fn a_write_just_before_the_opening_is_told_as_a_breach_and_one_behind_it_is_none() {
    let server = Cockroach::start();
    // The feed says nothing of the write before the turn has happened.
    server.knob("resolved_lag", "'8s'");
    let migration = super::with_tables(Migration::between(&source_server(), &server, "turn_just_before"));
    let engine = migration.start_streaming();
    let certificate = turn_with_a_write_during(&migration, "on_fence", "INSERT INTO item VALUES (800, 'not open yet')");
    assert_eq!(certificate["breaches"], 1, "{certificate}");
    migration.run("verify", &[]).expect_code(0);
    migration.run("failback", &["--yes"]).expect_code(0);
    let certificate = turn_with_a_write_during(&migration, "on_open", "INSERT INTO item VALUES (801, 'open')");
    assert_eq!(certificate["breaches"], 0, "{certificate}");
    migration.run("verify", &[]).expect_code(0);
    assert_eq!(migration.source.sql("SELECT count(*) FROM item WHERE id IN (800, 801)"), "2");
    engine.stop();
}

#[test]
fn whoever_logs_in_as_the_applier_is_named_before_anything_is_closed() {
    let migration = super::turning("turn_same_role");
    let engine = migration.start_streaming();
    migration.run("cutover", &["--yes"]).expect_code(0);
    let mut other = Session::open(&migration.target);
    other.sql("SET application_name = 'shop'");
    let refused = migration.run("failback", &["--yes"]).expect_code(1);
    assert!(refused.says("CT014") && refused.says("shop"), "{}", refused.stderr);
    migration.target.sql("INSERT INTO item VALUES (900, 'still open')");
    drop(other);
    wait_until("the session is gone", PATIENCE, || migration.run("failback", &["--plan-only"]).code == Some(0));
    let certificate = migration.run("failback", &["--yes", "--json", "--accept", "CT014"]).expect_code(0).json();
    assert_eq!(certificate["accepted"], serde_json::json!(["CT014"]));
    engine.stop();
}
