//! Triggers and cascades of the target, for a role that cannot make them rest.

use tidegate_testkit::{Migration, target_server};

/// Both sides alike; the trigger and what it would write only at the target.
const TABLES: &str = "
    CREATE TABLE parent (id int PRIMARY KEY);
    CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent ON DELETE CASCADE);
    CREATE TABLE log (what text);
    ALTER TABLE log REPLICA IDENTITY FULL;";
const TRIGGER: &str = "
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO public.log VALUES ('behind the plan'); RETURN new; END $$;
    CREATE TRIGGER note AFTER INSERT ON child FOR EACH ROW EXECUTE FUNCTION note();";
const OBJECTS: &str = "
    SELECT string_agg(line, ' ' ORDER BY line) FROM (
        SELECT tgname || tgenabled::text FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT conname || pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f') AS o (line)";

/// A migration whose role at the target owns the tables and nothing else.
fn with_plain_role(topic: &str) -> (Migration, String) {
    let migration = Migration::new(topic);
    let role = format!("{}_r", migration.name);
    migration
        .target
        .sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT CREATE ON DATABASE {} TO {role}", migration.name));
    migration.both(TABLES);
    migration.target.sql(TRIGGER);
    for table in ["parent", "child", "log"] {
        migration.target.sql(&format!("ALTER TABLE {table} OWNER TO {role}"));
    }
    let url = target_server().url_as(&role, "x", &migration.name);
    (migration.target_url(&url), role)
}

#[test]
fn what_changes_rows_behind_the_stream_is_refused_or_put_aside_when_told_and_restored() {
    let (migration, _role) = with_plain_role("aside");
    migration.source.sql("INSERT INTO parent VALUES (1), (2); INSERT INTO child VALUES (1, 1), (2, 2)");
    let before = migration.target.sql(OBJECTS);

    let refused = migration.migrate_to_its_end(&[]).expect_code(1);
    assert!(refused.says("CK067") && refused.says("CK069"), "{}", refused.stderr);
    assert_eq!(migration.target.sql(OBJECTS), before, "a refusal changes nothing");

    let mut engine = migration.start_with(&["--set-aside-triggers"]);
    migration.wait_state(&mut engine, "streaming");
    // Folded, a cascade of the target would take the moved child along.
    migration.source.sql(
        "BEGIN; UPDATE child SET p = 2 WHERE id = 1; DELETE FROM parent WHERE id = 1; INSERT INTO child VALUES (3, 2);
         COMMIT",
    );
    migration.drain();
    migration.assert_equal();
    assert_eq!(migration.target.number("SELECT count(*) FROM child"), 3);
    engine.stop();

    migration.migrate_to_its_end(&["--restore-triggers"]).expect_code(0);
    assert_eq!(migration.target.sql(OBJECTS), before);
}
