//! Whether the judges judge: a comparison that finds nothing proves nothing by itself.

use std::time::Duration;

use tidegate_testkit::oracle::{self, Oracle};
use tidegate_testkit::sampler::Sampler;
use tidegate_testkit::transfers::{self, Transfers};
use tidegate_testkit::wait::{PATIENCE, wait_until};
use tidegate_testkit::{Database, Migration, cockroach_server, compare, source_server, unique_name};

#[test]
fn the_comparison_finds_missing_extra_changed_and_doubled_rows() {
    let migration = Migration::new("comparison");
    migration.both("CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE b (n int); CREATE TABLE c (id int)");
    let fill = "INSERT INTO a SELECT i, i FROM generate_series(1, 100) i; INSERT INTO b VALUES (1), (1), (NULL)";
    migration.both(fill);
    migration.assert_equal();
    let differs = |damage: &str, repair: &str| {
        migration.target.sql(damage);
        let found = compare::differences(&migration.source, &migration.target, None);
        assert!(!found.is_empty(), "not found: {damage}");
        migration.target.sql(repair);
        migration.assert_equal();
    };
    differs("DELETE FROM a WHERE id = 50", "INSERT INTO a VALUES (50, 50)");
    differs("INSERT INTO a VALUES (101, 1)", "DELETE FROM a WHERE id = 101");
    differs("UPDATE a SET n = NULL WHERE id = 100", "UPDATE a SET n = 100 WHERE id = 100");
    differs("INSERT INTO b VALUES (1)", "DELETE FROM b WHERE ctid = (SELECT min(ctid) FROM b WHERE n = 1)");
    differs("UPDATE b SET n = 0 WHERE n IS NULL", "UPDATE b SET n = NULL WHERE n = 0");
    differs("INSERT INTO c VALUES (1)", "TRUNCATE c");
    differs("DROP TABLE c", "CREATE TABLE c (id int)");
}

#[test]
fn the_oracle_finds_lost_doubled_and_old_writes() {
    let migration = Migration::new("oracle");
    let database = &migration.source;
    oracle::create_tables(database);
    let oracle = Oracle::start(database, 2, Duration::ZERO, 7);
    wait_until("some were written", PATIENCE, || database.number("SELECT count(*) FROM oracle_log") > 50);
    let acknowledged = oracle.stop();
    assert_eq!(acknowledged.problems(database), [""; 0]);
    let finds = |damage: &str| {
        database.sql(&format!(
            "CREATE TABLE kept_log AS TABLE oracle_log; CREATE TABLE kept_key AS TABLE oracle_key; {damage}"
        ));
        assert!(!acknowledged.problems(database).is_empty(), "not found: {damage}");
        database.sql(
            "TRUNCATE oracle_log, oracle_key; INSERT INTO oracle_log TABLE kept_log;
             INSERT INTO oracle_key TABLE kept_key;
             DROP TABLE kept_log, kept_key",
        );
        assert_eq!(acknowledged.problems(database), [""; 0]);
    };
    finds("DELETE FROM oracle_log WHERE ctid = (SELECT min(ctid) FROM oracle_log)");
    finds("INSERT INTO oracle_log SELECT * FROM oracle_log LIMIT 1");
    finds("UPDATE oracle_key SET last = last - 1 WHERE ctid = (SELECT min(ctid) FROM oracle_key)");
    finds("DELETE FROM oracle_key WHERE ctid = (SELECT min(ctid) FROM oracle_key)");
}

#[test]
fn the_transfers_and_the_sampler_find_what_is_wrong_on_either_kind_of_server() {
    let name = unique_name("transfers");
    for database in [Database::create(&source_server(), &name), Database::create(&cockroach_server(), &name)] {
        transfers::create_tables(&database);
        let plan = transfers::Plan { ballast: 100, ..transfers::Plan::new(2, 200, 7) };
        transfers::fill(&database, &plan);
        database.sql("CREATE SCHEMA tidegate; CREATE TABLE tidegate.checkpoint (position TEXT)");
        let working = Transfers::start(&database, &plan);
        let sampler = Sampler::start(&database, plan.total(), Duration::ZERO);
        wait_until("some were made", PATIENCE, || database.number("SELECT count(*) FROM transfer") > 50);
        let (made, samples) = (working.stop(), sampler.stop());
        assert!(samples.count() > 5 && samples.wrong().is_empty(), "{samples}");
        assert_eq!(made.problems(&database, plan.total()), [""; 0]);
        for damage in [
            "DELETE FROM transfer_line WHERE n = 3 AND client = 0",
            "UPDATE account SET balance = balance + 1 WHERE id = 1",
            "INSERT INTO transfer_line SELECT * FROM transfer_line WHERE n = 5 AND client = 1",
            "DELETE FROM transfer_line WHERE n = 7; DELETE FROM transfer WHERE n = 7",
        ] {
            let before = made.problems(&database, plan.total()).len();
            database.sql(damage);
            assert!(made.problems(&database, plan.total()).len() > before, "not found: {damage}");
        }
        let sampler = Sampler::start(&database, plan.total(), Duration::ZERO);
        wait_until("the sampler has looked", PATIENCE, || sampler.looked() > 0);
        assert!(!sampler.stop().wrong().is_empty());
        database.discard();
    }
}
