//! Plain roles and odd settings at both ends.

use tidegate_testkit::wait::PATIENCE;
use tidegate_testkit::{Migration, source_server, target_server};

#[test]
fn plain_roles_with_the_grants_that_check_prints_are_enough() {
    let migration = Migration::new("plain_roles");
    let role = format!("{}_role", migration.name);
    let (database, password) = (migration.name.clone(), "plain-password");
    migration.both(
        "CREATE TABLE parent (id int PRIMARY KEY);
         CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE)",
    );
    migration.source.sql("INSERT INTO parent VALUES (1), (2); INSERT INTO child VALUES (1, 1)");
    migration.source.sql(&format!(
        "CREATE ROLE {role} LOGIN REPLICATION PASSWORD '{password}'; GRANT CREATE ON DATABASE {database} TO {role};
         ALTER TABLE parent OWNER TO {role}; ALTER TABLE child OWNER TO {role}"
    ));
    migration.target.sql(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD '{password}'; GRANT CREATE ON DATABASE {database} TO {role};
         ALTER TABLE parent OWNER TO {role}; ALTER TABLE child OWNER TO {role};
         GRANT SET ON PARAMETER session_replication_role TO {role}"
    ));
    let plain = migration
        .again()
        .source_url(&source_server().url_as(&role, password, &database))
        .target_url(&target_server().url_as(&role, password, &database));
    plain.run("check", &[]).expect_code(0);
    let mut engine = plain.start_streaming();
    migration.source.sql(
        "INSERT INTO child VALUES (2, 1); UPDATE child SET parent = 2 WHERE id = 1; DELETE FROM parent WHERE id = 1",
    );
    plain.drain();
    migration.assert_equal();
    engine.kill9();
    let engine = plain.start_streaming();
    migration.source.sql("INSERT INTO child VALUES (5, 2)");
    plain.drain();
    migration.assert_equal();
    engine.stop();
    for database in [&migration.source, &migration.target] {
        database.sql(&format!("DROP OWNED BY {role} CASCADE"));
    }
    migration.source.discard();
    migration.target.discard();
    for server in [source_server(), target_server()] {
        server.psql("postgres", &format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}")).unwrap();
    }
}

#[test]
fn cascades_at_a_target_that_cannot_be_switched_off_are_refused_with_their_ddl() {
    let migration = Migration::new("no_replica_role");
    let role = format!("{}_role", migration.name);
    migration.both(
        "CREATE TABLE parent (id int PRIMARY KEY);
         CREATE TABLE child (id int PRIMARY KEY, parent int CONSTRAINT of_parent REFERENCES parent ON DELETE CASCADE)",
    );
    migration.target.sql(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT CREATE ON DATABASE {} TO {role};
         ALTER TABLE parent OWNER TO {role}; ALTER TABLE child OWNER TO {role}",
        migration.name
    ));
    let plain = migration.again().target_url(&target_server().url_as(&role, "x", &migration.name));
    let found = plain.run("check", &[]).expect_code(1);
    assert!(found.says("of_parent"), "{}\n{}", found.stdout, found.stderr);
    plain.migrate_to_its_end(&[]).expect_code(1);
    migration.target.discard();
    target_server().psql("postgres", &format!("DROP ROLE {role}")).unwrap();
}

#[test]
fn settings_of_databases_and_roles_change_no_value() {
    let migration = Migration::new("odd_settings");
    migration.both(
        "CREATE SCHEMA trap; CREATE TABLE trap.t (id int PRIMARY KEY, wrong bool);
         CREATE TABLE t (id int PRIMARY KEY, d date, ts timestamptz, iv interval, f float8, b bytea, x text,
             n numeric)",
    );
    for setting in [
        "DateStyle = 'SQL, DMY'",
        "IntervalStyle = 'sql_standard'",
        "TimeZone = 'Asia/Kathmandu'",
        "extra_float_digits = -5",
        "bytea_output = 'escape'",
        "search_path = 'trap, public'",
        "statement_timeout = '700ms'",
        "idle_in_transaction_session_timeout = '700ms'",
        "default_transaction_isolation = 'serializable'",
        "standard_conforming_strings = 'off'",
        "escape_string_warning = 'off'",
        "client_encoding = 'LATIN1'",
    ] {
        let alter = format!("ALTER DATABASE {} SET {setting}", migration.name);
        migration.both(&alter);
    }
    let row = |id: u32| {
        format!(
            "INSERT INTO public.t VALUES ({id}, '2024-02-01', '2024-02-01 10:11:12.123456+00',
             interval '-1 mon +2 days -3:04:05',
             0.1::float8 + 0.2, '\\\\x00ff5c', U&'\\00e4\\20ac back\\\\slash', 1.10)"
        )
    };
    // The application's own session: whatever it sees, the stored values are what counts.
    let insert = |id: u32| format!("SET standard_conforming_strings = on; SET client_encoding = 'UTF8'; {}", row(id));
    migration.source.sql(&insert(1));
    let mut engine = migration.start_streaming();
    migration.source.sql(&insert(2));
    migration.source.sql("UPDATE public.t SET iv = iv * 2, ts = ts + interval '1 day' WHERE id = 1");
    migration.drain();
    migration.assert_equal();
    let exact = "SET extra_float_digits = 3;
        SELECT f, encode(b, 'hex'), length(x), d - date '2024-01-01' FROM public.t WHERE id = 2";
    assert_eq!(migration.source.sql(exact), migration.target.sql(exact));
    engine.kill9();
    // Also where the database says that nothing may be written.
    migration.target.sql(&format!("ALTER DATABASE {} SET default_transaction_read_only = on", migration.name));
    let mut engine = migration.start();
    migration.wait_state_for(&mut engine, "streaming", PATIENCE);
    migration.source.sql(&insert(3));
    migration.drain();
    migration.assert_equal();
    engine.stop();
}
