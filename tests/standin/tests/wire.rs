//! The stand-in against a real backing PostgreSQL, with an ordinary client.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tidegate_standin::{Standin, StandinOptions};
use tidegate_throwaway::Server;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

mod support;
use support::{Raw, code, connect, database, standin};

#[tokio::test]
async fn it_passes_for_a_cockroachdb_and_says_what_it_is() {
    let client = connect(&database("identity")).await;
    let banner: String = client.query_one("SELECT version()", &[]).await.expect("version").get(0);
    assert!(banner.starts_with("CockroachDB CCL v25.4.0 ("), "{banner}");
    assert!(banner.contains("stand-in, backed by PostgreSQL"), "{banner}");
    let row = client.query_one("SHOW crdb_version", &[]).await.expect("a variable");
    assert_eq!(row.columns()[0].name(), "crdb_version");
    assert_eq!(row.get::<_, String>(0), banner);
    let row = client.query_one("SHOW CLUSTER SETTING kv.rangefeed.enabled", &[]).await.expect("a setting");
    assert_eq!(row.columns()[0].name(), "kv.rangefeed.enabled");
    assert_eq!(row.columns()[0].type_(), &tokio_postgres::types::Type::BOOL);
}

#[tokio::test]
async fn upsert_goes_by_the_primary_key_and_keeps_columns_that_are_not_listed() {
    let client = connect(&database("upsert")).await;
    client
        .batch_execute("CREATE TABLE t (a INT PRIMARY KEY, b STRING, c STRING UNIQUE DEFAULT 'd')")
        .await
        .expect("DDL");
    let upsert = "UPSERT INTO nowhere.public.t (a, b) VALUES ($1, $2)";
    assert_eq!(code(client.execute(upsert, &[&1_i64, &"x"]).await), "42P01");
    let upsert =
        "UPSERT INTO \"t\"@{NO_FULL_SCAN} (a, b, c) VALUES ($1::INT8, $2::STRING, $3::STRING), ($4::INT8, 'z', 'q')";
    assert_eq!(client.execute(upsert, &[&1_i64, &"x", &"p", &2_i64]).await.expect("an upsert"), 2);
    assert_eq!(client.execute("UPSERT INTO t (a, b) VALUES (1, 'y')", &[]).await.expect("an upsert"), 1);
    let row = client.query_one("SELECT b, c FROM t WHERE a = 1", &[]).await.expect("a row");
    assert_eq!((row.get::<_, String>(0), row.get::<_, String>(1)), ("y".to_owned(), "p".to_owned()));
    client.execute("UPSERT INTO t VALUES (1, 'w')", &[]).await.expect("an upsert without a list");
    let row = client.query_one("SELECT b, c FROM t WHERE a = 1", &[]).await.expect("a row");
    assert_eq!((row.get::<_, String>(0), row.get::<_, String>(1)), ("w".to_owned(), "d".to_owned()));
    assert_eq!(code(client.execute("UPSERT INTO t (a, c) VALUES (9, 'q')", &[]).await), "23505");
    assert_eq!(code(client.execute("UPSERT INTO t (a, c) VALUES (3, 'm'), (3, 'n')", &[]).await), "21000");
}

#[tokio::test]
async fn tables_without_a_key_have_a_hidden_one() {
    let client = connect(&database("rowid")).await;
    client.batch_execute("CREATE TABLE t (x STRING, y INT4); ALTER TABLE t ADD COLUMN z INT8").await.expect("DDL");
    client.execute("INSERT INTO t VALUES ($1, $2)", &[&"a", &1_i32]).await.expect("an insert");
    client.execute("INSERT INTO t VALUES ('b', 2, 3)", &[]).await.expect("an insert");
    let row = client.query_one("SELECT * FROM t WHERE y = 2", &[]).await.expect("a row");
    assert_eq!(row.columns().iter().map(|column| column.name()).collect::<Vec<_>>(), ["x", "y", "z"]);
    assert_eq!(row.get::<_, i64>(2), 3);
    let row = client.query_one("INSERT INTO t VALUES ('c', 3) RETURNING *, rowid", &[]).await;
    assert!(row.is_err() || row.is_ok_and(|row| row.columns().len() >= 3));
    let shown = "SELECT column_name FROM information_schema.columns WHERE table_name = 't' AND is_hidden = 'YES'";
    assert_eq!(client.query_one(shown, &[]).await.expect("one hidden column").get::<_, String>(0), "rowid");
    client.batch_execute("ALTER TABLE t ADD CONSTRAINT t_key PRIMARY KEY (x ASC)").await.expect("a key");
    assert_eq!(client.query(shown, &[]).await.expect("no hidden column").len(), 0);
}

#[tokio::test]
async fn what_cockroachdb_refuses_is_refused_with_its_codes() {
    let client = connect(&database("refusals")).await;
    client
        .batch_execute(
            "CREATE TABLE t (a INT8 PRIMARY KEY, b INT8 AS (a + 1) STORED, c INT8 GENERATED ALWAYS AS IDENTITY);
             CREATE TABLE u (a INT8 PRIMARY KEY, t INT8 NOT NULL REFERENCES t (a));
             CREATE TABLE v (a INT8 PRIMARY KEY, x INT8) WITH (schema_locked = true)",
        )
        .await
        .expect("DDL");
    let cases = [
        ("LISTEN x", "42601"),
        ("NOTIFY x", "42601"),
        ("LOCK TABLE t", "42601"),
        ("MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE", "42601"),
        ("SELECT pg_advisory_xact_lock(1)", "42883"),
        ("SELECT pg_try_advisory_lock(1, 2)", "42883"),
        ("SELECT pg_current_wal_lsn()", "42883"),
        ("SELECT ctid FROM t", "42703"),
        ("SELECT t.xmin FROM t", "42703"),
        ("SELECT * FROM pg_stat_wal", "42P01"),
        ("SELECT * FROM standin.commit", "42P01"),
        ("SET session_replication_role = 'replica'", "42704"),
        ("SET xmloption = content", "42704"),
        ("SET CONSTRAINTS ALL DEFERRED", "0A000"),
        ("CREATE TABLE w (a INT8 PRIMARY KEY REFERENCES t (a) DEFERRABLE)", "0A000"),
        ("CREATE DOMAIN d AS INT8", "0A000"),
        ("CREATE TABLE w (a INT8 PRIMARY KEY, r int4range)", "0A000"),
        ("CREATE TABLE w (a INT8[][])", "0A000"),
        ("CREATE TABLE w () INHERITS (t)", "0A000"),
        ("CREATE TABLE w (a INT8) PARTITION BY RANGE (a)", "42601"),
        ("CREATE PUBLICATION p FOR ALL TABLES", "0A000"),
        ("CREATE TABLE w (EXCLUDE USING gist (a WITH =))", "0A000"),
        ("INSERT INTO t (a) OVERRIDING SYSTEM VALUE VALUES (1)", "42601"),
        ("INSERT INTO t (a, b) VALUES (1, 2)", "55000"),
        ("INSERT INTO t (a, c) VALUES (1, 2)", "428C9"),
        ("INSERT INTO u VALUES (1, 1)", "23503"),
        ("INSERT INTO u VALUES (1, NULL)", "23502"),
        ("ALTER TABLE v ADD COLUMN y INT8", "57000"),
        ("SHOW nonsense", "42704"),
        ("SHOW CLUSTER SETTING nonsense", "XXUUU"),
        ("SELECT * FROM nowhere", "42P01"),
        ("SELECT FROM t", "42601"),
        ("COPY t FROM '/etc/passwd'", "0A000"),
        ("TRUNCATE t RESTART IDENTITY", "42601"),
    ];
    for (sql, wanted) in cases {
        let found = code(client.simple_query(sql).await);
        assert!(found == wanted || wanted == "XXUUU" && found != "00000", "{sql}: {found}, not {wanted}");
    }
    client
        .batch_execute("ALTER TABLE v SET (schema_locked = false); ALTER TABLE v ADD COLUMN y INT8")
        .await
        .expect("unlocked");
    let locked: bool = client.query_one("SELECT pg_try_advisory_lock(7)", &[]).await.expect("a stub").get(0);
    assert!(locked, "the stub locks nothing and says it does");
}

#[tokio::test]
async fn the_restart_savepoint_commits_at_release_and_can_be_gone_back_to() {
    let name = database("restart");
    let (client, other) = (connect(&name).await, connect(&name).await);
    client
        .batch_execute("CREATE TABLE t (a INT8 PRIMARY KEY, b INT8); INSERT INTO t VALUES (1, 0)")
        .await
        .expect("DDL");
    client.batch_execute("BEGIN; SAVEPOINT cockroach_restart").await.expect("a transaction");
    client.query("SELECT b FROM t", &[]).await.expect("a read");
    other.batch_execute("UPDATE t SET b = b + 1").await.expect("a write in between");
    let failed = client.execute("UPDATE t SET b = b + 10", &[]).await;
    assert_eq!(code(failed), "40001");
    for sql in ["SELECT 1", "SELECT * FROM t", "UPSERT INTO t VALUES (1, 2)"] {
        assert_eq!(code(client.query(sql, &[]).await), "25P02", "{sql}");
        assert_eq!(code(client.simple_query(sql).await), "25P02", "{sql}");
    }
    client.batch_execute("ROLLBACK TO SAVEPOINT cockroach_restart").await.expect("back to the savepoint");
    client.execute("UPDATE t SET b = b + 10", &[]).await.expect("a second try");
    client.batch_execute("RELEASE SAVEPOINT cockroach_restart").await.expect("the commit");
    let seen: i64 = other.query_one("SELECT b FROM t", &[]).await.expect("a row").get(0);
    assert_eq!(seen, 11);
    assert_eq!(code(client.query("SELECT 1", &[]).await), "25000");
    client.batch_execute("COMMIT").await.expect("the end");
}

#[tokio::test]
async fn an_aborted_serializable_transaction_gives_the_text_of_cockroachdb() {
    let name = database("serializable");
    let (one, two) = (connect(&name).await, connect(&name).await);
    one.batch_execute("CREATE TABLE t (a INT8 PRIMARY KEY, b INT8); INSERT INTO t VALUES (1, 0), (2, 0)")
        .await
        .expect("DDL");
    one.batch_execute("BEGIN; SELECT sum(b) FROM t; UPDATE t SET b = 1 WHERE a = 1").await.expect("a skew");
    two.batch_execute("BEGIN; SELECT sum(b) FROM t; UPDATE t SET b = 1 WHERE a = 2").await.expect("a skew");
    one.batch_execute("COMMIT").await.expect("the first wins");
    let error = two.batch_execute("COMMIT").await.expect_err("the second cannot");
    let error = error.as_db_error().expect("an error of the server");
    assert_eq!(error.code().code(), "40001");
    assert!(error.message().starts_with("restart transaction: TransactionRetryWithProtoRefreshError:"), "{error}");
}

#[tokio::test]
async fn statements_that_are_transactions_of_their_own_are_tried_again_unseen() {
    let name = database("retries");
    let first = connect(&name).await;
    first.batch_execute("CREATE TABLE t (a INT8 PRIMARY KEY, b INT8); INSERT INTO t VALUES (1, 0)").await.expect("DDL");
    let add = async |extended: bool| {
        let client = connect(&name).await;
        for _ in 0..50 {
            let sql = "UPDATE t SET b = b + 1 RETURNING b";
            match extended {
                true => drop(client.query_one(sql, &[]).await.expect("an update")),
                false => drop(client.simple_query(sql).await.expect("an update")),
            }
        }
    };
    futures_util::future::join3(add(true), add(false), add(true)).await;
    let sum: i64 = first.query_one("SELECT b FROM t", &[]).await.expect("a row").get(0);
    assert_eq!(sum, 150);
}

#[tokio::test]
async fn errors_on_demand_hit_explicit_transactions_only() {
    let options = StandinOptions { backing: Some(support::server()), ..StandinOptions::default() };
    let standin = Standin::start(options).expect("a second stand-in");
    let client = support::connect_to(&standin, &database("knobs")).await;
    client.batch_execute("CREATE TABLE t (a INT8 PRIMARY KEY)").await.expect("DDL");
    client.batch_execute("SET inject_retry_errors_enabled = true").await.expect("a variable");
    client.batch_execute("INSERT INTO t VALUES (1)").await.expect("an implicit transaction");
    client.batch_execute("BEGIN").await.expect("a transaction");
    assert_eq!(code(client.execute("INSERT INTO t VALUES (2)", &[]).await), "40001");
    client.batch_execute("ROLLBACK; SET inject_retry_errors_enabled = false").await.expect("the end");
    client.batch_execute("SET CLUSTER SETTING standin.ambiguous_commits = 1.0").await.expect("a knob");
    let mut committed = 0;
    for value in 10..30_i64 {
        client.batch_execute(&format!("BEGIN; INSERT INTO t VALUES ({value})")).await.expect("a transaction");
        assert_eq!(code(client.batch_execute("COMMIT").await), "40003");
        let found = client.query_one("SELECT count(*) FROM t WHERE a = $1", &[&value]).await.expect("a row");
        committed += found.get::<_, i64>(0);
    }
    client.batch_execute("SET CLUSTER SETTING standin.ambiguous_commits = 0.0").await.expect("a knob");
    assert!((1..20).contains(&committed), "{committed} of 20 were committed");
}

#[tokio::test]
async fn reading_at_a_time_sees_that_time_and_aborts_nobody() {
    let client = connect(&database("past")).await;
    client
        .batch_execute("CREATE TABLE t (a INT8 PRIMARY KEY, b STRING); INSERT INTO t VALUES (1, 'old')")
        .await
        .expect("DDL");
    let now = "SELECT cluster_logical_timestamp()::STRING";
    let at: String = client.query_one(now, &[]).await.expect("a time").get(0);
    client.batch_execute("UPDATE t SET b = 'new'; INSERT INTO t VALUES (2, 'more')").await.expect("writes");
    let past = format!("SELECT b, count(*) OVER () FROM t AS OF SYSTEM TIME '{at}' WHERE a > $1");
    let row = client.query_one(&past, &[&0_i64]).await.expect("a row of the past");
    assert_eq!((row.get::<_, String>(0), row.get::<_, i64>(1)), ("old".to_owned(), 1));
    client.batch_execute(&format!("BEGIN AS OF SYSTEM TIME '{at}'")).await.expect("a transaction in the past");
    let row = client.query_one("SELECT b FROM t", &[]).await.expect("a row of the past");
    assert_eq!(row.get::<_, String>(0), "old");
    assert_eq!(client.query_one(now, &[]).await.expect("the same time").get::<_, String>(0), at);
    assert_eq!(code(client.execute("DELETE FROM t", &[]).await), "25006");
    client.batch_execute("ROLLBACK").await.expect("the end");
    assert_eq!(client.query("SELECT * FROM t", &[]).await.expect("rows of now").len(), 2);
    let stamp = "SELECT crdb_internal_mvcc_timestamp > $1::STRING::DECIMAL FROM t WHERE a = 2";
    let later: bool = client.query_one(stamp, &[&at]).await.expect("a row").get(0);
    assert!(later, "a row's timestamp is that of its transaction");
}

#[tokio::test]
async fn copies_work_in_the_simple_protocol_alone() {
    let name = database("copy");
    let client = connect(&name).await;
    client.batch_execute("CREATE TABLE t (a INT8, b STRING)").await.expect("DDL");
    let refused = client.copy_in::<_, bytes::Bytes>("COPY t FROM STDIN").await;
    let error = refused.map(drop).expect_err("tokio-postgres copies in the extended protocol");
    let error = error.as_db_error().expect("an error of the server");
    assert_eq!(error.message(), "CopyFrom not supported in extended protocol mode");
    let mut raw = Raw::connect(standin().address(), &name).await;
    raw.query("COPY t FROM STDIN").await;
    assert_eq!(raw.next().await.0, b'G');
    let line: Vec<u8> = (0..2000).flat_map(|n| format!("{n}\trow {n}\n").into_bytes()).collect();
    for _ in 0..50 {
        raw.send(b'd', &line).await;
    }
    raw.send(b'c', b"").await;
    assert_eq!(raw.next().await, (b'C', b"COPY 100000\0".to_vec()));
    assert_eq!(raw.next().await.0, b'Z');
    // A copy that fails half-way leaves the connection as it was.
    raw.query("COPY t FROM STDIN").await;
    assert_eq!(raw.next().await.0, b'G');
    raw.send(b'd', b"no number\trow\n").await;
    for _ in 0..50 {
        raw.send(b'd', &line).await;
    }
    raw.send(b'c', b"").await;
    assert_eq!(raw.next().await.0, b'E');
    assert_eq!(raw.next().await.0, b'Z');
    raw.query("COPY t TO STDOUT").await;
    assert_eq!(raw.next().await.0, b'H');
    let mut rows = 0;
    while raw.next().await.0 == b'd' {
        rows += 1;
    }
    assert_eq!(rows, 100_000);
}

#[tokio::test]
async fn many_requests_in_flight_are_answered_in_order() {
    let client = connect(&database("pipeline")).await;
    client.batch_execute("CREATE TABLE t (a INT8 PRIMARY KEY)").await.expect("DDL");
    let insert = client.prepare("INSERT INTO t VALUES ($1) RETURNING a").await.expect("a statement");
    let answers = (0..500_i64).map(|value| {
        let (client, insert) = (&client, &insert);
        async move {
            let row = client.query_one(insert, &[&value]).await.expect("a row");
            assert_eq!(row.get::<_, i64>(0), value);
        }
    });
    futures_util::future::join_all(answers).await;
    let both = futures_util::future::join(client.query("SELECT 1/0", &[]), client.query("SELECT count(*) FROM t", &[]));
    let (failed, counted) = both.await;
    assert_eq!(code(failed), "22012");
    assert_eq!(counted.expect("a row")[0].get::<_, i64>(0), 500);
}

#[tokio::test]
async fn a_running_statement_can_be_cancelled() {
    let client = connect(&database("cancel")).await;
    let cancel = client.cancel_token();
    let cancelling = async {
        // The statement may not have begun at the first tries.
        for _ in 0..200 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            let _ = cancel.cancel_query(NoTls).await;
        }
    };
    let error = tokio::select! {
        ended = client.query("SELECT pg_sleep(60)", &[]) => ended.expect_err("cancelled"),
        () = cancelling => panic!("the statement was not cancelled"),
    };
    assert_eq!(error.as_db_error().expect("an error of the server").message(), "query execution canceled");
}

#[tokio::test]
async fn too_many_parameters_and_too_long_messages_are_refused() {
    let name = database("limits");
    let client = connect(&name).await;
    assert_eq!(code(client.simple_query("SELECT $65536").await), "08P01");
    let long = format!("SELECT '{}'", "x".repeat(17 << 20));
    assert_eq!(code(client.simple_query(&long).await), "08P01");
    client.simple_query("SELECT 1").await.expect("the connection goes on");
}

#[tokio::test]
async fn a_schema_change_commits_first() {
    let name = database("autocommit");
    let (client, other) = (connect(&name).await, connect(&name).await);
    client.batch_execute("CREATE TABLE t (a INT8 PRIMARY KEY)").await.expect("DDL");
    client.batch_execute("BEGIN; INSERT INTO t VALUES (1); CREATE TABLE u (a INT8 PRIMARY KEY)").await.expect("DDL");
    assert_eq!(other.query("SELECT * FROM t", &[]).await.expect("committed").len(), 1);
    client.batch_execute("ROLLBACK").await.expect("a warning at most");
    assert_eq!(other.query("SELECT * FROM u", &[]).await.expect("made").len(), 0);
    client
        .batch_execute("SET autocommit_before_ddl = off; BEGIN; CREATE TABLE w (a INT8 PRIMARY KEY)")
        .await
        .expect("DDL");
    client.batch_execute("ROLLBACK").await.expect("the end");
    assert_eq!(code(other.query("SELECT * FROM w", &[]).await), "42P01");
}

#[tokio::test]
async fn an_older_release_lacks_what_came_later() {
    let options = StandinOptions {
        backing: Some(support::server()),
        version: "23.1.11".parse().expect("a version"),
        ..StandinOptions::default()
    };
    let standin = Standin::start(options).expect("an older stand-in");
    let client = support::connect_to(&standin, &database("older")).await;
    assert_eq!(code(client.simple_query("SET disable_changefeed_replication = true").await), "42704");
    let banner: String = client.query_one("SELECT version()", &[]).await.expect("version").get(0);
    assert!(banner.starts_with("CockroachDB CCL v23.1.11 "), "{banner}");
}

#[tokio::test]
async fn startup_options_are_those_of_cockroachdb() {
    let name = database("startup");
    let with = |options: &str| {
        let mut config = support::config(standin(), &name);
        config.options(options);
        config
    };
    assert_eq!(code(with("-c xmloption=content").connect(NoTls).await), "42704");
    let (client, connection) = with("-c disable_changefeed_replication=on -c statement_timeout=5000")
        .connect(NoTls)
        .await
        .expect("known variables");
    tokio::spawn(connection);
    let shown = client.query_one("SHOW disable_changefeed_replication", &[]).await.expect("a variable");
    assert_eq!(shown.get::<_, String>(0), "on");
    let mut config = support::config(standin(), "nowhere");
    assert_eq!(code(config.connect(NoTls).await), "3D000");
    config.dbname(&name).user("nobody");
    assert_eq!(code(config.connect(NoTls).await), "28000");
}

#[tokio::test]
async fn a_second_stand_in_finds_what_the_first_one_kept() {
    let server = Arc::new(Server::builder().start().expect("a server"));
    let options = StandinOptions { backing: Some(server), ..StandinOptions::default() };
    let first = Standin::start(options.clone()).expect("a stand-in");
    first.create_database("d").expect("a database");
    let client = support::connect_to(&first, "d").await;
    client
        .batch_execute(
            "SET CLUSTER SETTING kv.rangefeed.enabled = true; CREATE TABLE t (a INT8); INSERT INTO t VALUES (1);
             ALTER TABLE t CONFIGURE ZONE USING gc.ttlseconds = 777",
        )
        .await
        .expect("state");
    let at: String = client.query_one("SELECT cluster_logical_timestamp()::STRING", &[]).await.expect("a time").get(0);
    client.batch_execute("DELETE FROM t").await.expect("a write");
    first.stop();
    let second = Standin::start(options).expect("a second stand-in");
    let client = support::connect_to(&second, "d").await;
    let enabled: bool =
        client.query_one("SHOW CLUSTER SETTING kv.rangefeed.enabled", &[]).await.expect("a setting").get(0);
    assert!(enabled);
    let past = format!("SELECT * FROM t AS OF SYSTEM TIME '{at}'");
    assert_eq!(client.query(&past, &[]).await.expect("the past").len(), 1);
    let zone: String = client.query_one("SHOW ZONE CONFIGURATION FROM TABLE t", &[]).await.expect("a zone").get(1);
    assert!(zone.contains("gc.ttlseconds = 777"), "{zone}");
}

#[tokio::test]
async fn a_large_insert_runs_at_the_speed_of_the_backing_server() {
    static ROWS: OnceLock<Vec<i64>> = OnceLock::new();
    let rows = ROWS.get_or_init(|| (0..200_000).collect());
    let name = database("speed");
    let client = connect(&name).await;
    client.batch_execute("CREATE TABLE t (a INT8 PRIMARY KEY, b STRING)").await.expect("DDL");
    let texts: Vec<String> = rows.iter().map(|row| format!("row {row}")).collect();
    let began = Instant::now();
    let insert = "INSERT INTO t (a, b) SELECT * FROM unnest($1::INT8[], $2::STRING[])";
    assert_eq!(client.execute(insert, &[rows, &texts]).await.expect("an insert"), 200_000);
    // No figure to hold on a busy machine: a relay that copies a byte at a time would take minutes.
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
    let messages = client.simple_query("SELECT * FROM t").await.expect("rows");
    assert_eq!(messages.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_))).count(), 200_000);
    drop::<Client>(client);
}
