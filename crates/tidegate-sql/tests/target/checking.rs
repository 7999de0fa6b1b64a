//! What `check` finds at a target.

use std::collections::HashMap;

use tidegate_connect::Session;
use tidegate_model::{Class, Finding, ReplicaIdentity, Severity, TableName};
use tidegate_sql::catalog::{ValueType, map_table, read_tables};
use tidegate_sql::check::{TargetQuestion, WantedTable, target_findings};
use tidegate_sql::dialect::Dialect;
use tidegate_sql::plan::SessionRights;
use tidegate_sql::state::{Part, StateSchema, install};
use tidegate_sql::triggers::{active_objects, bring_back, put_aside};

use crate::support::{Target, route, server, settings};

fn wanted(name: &str, columns: &[&str]) -> WantedTable {
    WantedTable {
        source: route(1, name, columns, &[0]).map.source,
        primary_key: vec!["id".into()],
        identity_whole: true,
    }
}

async fn findings(target: &Target, session: &Session, tables: &[WantedTable]) -> Vec<Finding> {
    let source_types = HashMap::from([(25, ValueType::new("text", -1))]);
    let question =
        TargetQuestion { key: &target.key, tables, source_types: &source_types, no_copy: false, both: false };
    target_findings(session, &question).await
}

fn critical(findings: &[Finding]) -> Vec<&'static str> {
    let mut codes: Vec<_> =
        findings.iter().filter(|finding| finding.severity == Severity::Critical).map(|finding| finding.code).collect();
    codes.sort_unstable();
    codes
}

#[tokio::test]
async fn a_good_target_has_no_findings() {
    let target = Target::new(
        "CREATE TABLE t (id text PRIMARY KEY, name text, extra int, made int GENERATED ALWAYS AS (1) STORED)",
    )
    .await;
    let session = Session::connect(&target.settings(), "test").await.unwrap();
    assert_eq!(findings(&target, &session, &[wanted("t", &["id text", "name text"])]).await, []);
}

#[tokio::test]
async fn what_cannot_be_written_is_critical() {
    let target = Target::new(
        "CREATE TABLE t (id text PRIMARY KEY, n integer, g text GENERATED ALWAYS AS ('x') STORED, must int NOT NULL);
         CREATE TABLE full_of_rows (id text PRIMARY KEY); INSERT INTO full_of_rows VALUES ('1');
         CREATE VIEW v AS SELECT 1::text AS id;
         CREATE TABLE taken (id text PRIMARY KEY);
         INSERT INTO tidegate.copy_table (migration, stream, source_table, target_table, state)
         VALUES ('other', 'forward', 'public.taken', 'public.taken', 'copied')",
    )
    .await;
    let session = Session::connect(&target.settings(), "test").await.unwrap();
    let tables = [
        wanted("t", &["id text", "n text", "g text", "gone text"]),
        wanted("full_of_rows", &["id text"]),
        wanted("v", &["id text"]),
        wanted("missing", &["id text"]),
        wanted("taken", &["id text"]),
    ];
    let found = findings(&target, &session, &tables).await;
    let expected = ["CK055", "CK056", "CK059", "CK060", "CK061", "CK062", "CK063", "CK066"];
    assert_eq!(critical(&found), expected, "{found:#?}");
}

/// Of a key (id, made) only `id` is sent where `made` is generated: two rows with one `id` would be folded into one.
#[tokio::test]
async fn a_key_that_is_not_sent_whole_is_refused() {
    let target = Target::new(
        "CREATE TABLE t (id text, v text, made text GENERATED ALWAYS AS (v || 'x') STORED, PRIMARY KEY (id, made))",
    )
    .await;
    let session = Session::connect(&target.settings(), "test").await.unwrap();
    let mut table = wanted("t", &["id text", "v text"]);
    table.primary_key.push("made".into());
    let targets = read_tables(target.client(), std::slice::from_ref(&table.source.name)).await.unwrap();
    for identity in [ReplicaIdentity::Default, ReplicaIdentity::Index] {
        table.source.replica_identity = identity;
        table.identity_whole = false;
        let found = findings(&target, &session, std::slice::from_ref(&table)).await;
        assert_eq!(found.iter().map(|finding| finding.code).collect::<Vec<_>>(), ["CK071"], "{found:#?}");
        assert_eq!(found[0].fix, "at the source: ALTER TABLE \"public\".\"t\" REPLICA IDENTITY FULL");
        assert_eq!(map_table(&table, &targets[&table.source.name]).unwrap_err().class, Class::Definite);
    }
    // What the fix makes of it: every column is sent, and whole rows are compared.
    table.source.replica_identity = ReplicaIdentity::Full;
    table.source.columns.iter_mut().for_each(|column| column.identity = true);
    table.identity_whole = true;
    assert_eq!(findings(&target, &session, std::slice::from_ref(&table)).await, []);
    assert_eq!(map_table(&table, &targets[&table.source.name]).unwrap().key, [0_usize; 0]);
}

#[tokio::test]
async fn tables_of_migrations_with_another_state_schema_are_taken_too() {
    let target =
        Target::new("CREATE TABLE mine (id text PRIMARY KEY); CREATE TABLE theirs (id text PRIMARY KEY)").await;
    let other: StateSchema = "other_state".parse().unwrap();
    install(target.client(), &other, Part::Stream).await.unwrap();
    target
        .sql(&format!(
            "INSERT INTO other_state.copy_table (migration, stream, source_table, target_table, state)
             VALUES ('{}', 'forward', 'public.theirs', 'public.theirs', 'copied')",
            target.key.migration
        ))
        .await;
    let session = Session::connect(&target.settings(), "test").await.unwrap();
    let tables = [wanted("mine", &["id text"]), wanted("theirs", &["id text"])];
    let found = findings(&target, &session, &tables).await;
    let [taken] = found.as_slice() else { panic!("one table is taken: {found:#?}") };
    assert_eq!((taken.code, taken.severity, &*taken.subject), ("CK059", Severity::Critical, "public.theirs"));
    assert!(taken.what.contains("other_state"), "{}", taken.what);

    let role = format!("outsider_{}", target.name);
    target
        .sql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA tidegate TO {role};
             GRANT SET ON PARAMETER session_replication_role TO {role};
             GRANT ALL ON ALL TABLES IN SCHEMA tidegate, public TO {role}"
        ))
        .await;
    let session = Session::connect(&settings(&server().url_as(&role, "x", &target.name)), "test").await.unwrap();
    let found = findings(&target, &session, &tables).await;
    let [closed] = found.as_slice() else { panic!("one schema is closed: {found:#?}") };
    assert_eq!((closed.code, closed.severity), ("CK059", Severity::Unknown));
    target.sql(&closed.fix).await;
    assert_eq!(critical(&findings(&target, &session, &tables).await), ["CK059"]);
}

#[tokio::test]
async fn what_changes_rows_by_itself_is_critical_where_it_cannot_be_turned_off() {
    let target = Target::new(
        "CREATE TABLE p (id text PRIMARY KEY);
         CREATE TABLE c (id text PRIMARY KEY, p text REFERENCES p ON DELETE CASCADE, q text REFERENCES p);
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
         CREATE TRIGGER ordinary BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION f();
         CREATE TRIGGER always BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION f();
         ALTER TABLE p ENABLE ALWAYS TRIGGER always;
         CREATE TRIGGER off BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION f();
         ALTER TABLE p DISABLE TRIGGER off;
         CREATE RULE r AS ON DELETE TO c DO ALSO NOTHING",
    )
    .await;
    let session = Session::connect(&target.settings(), "test").await.unwrap();
    let tables = [wanted("p", &["id text"]), wanted("c", &["id text", "p text", "q text"])];
    assert_eq!(critical(&findings(&target, &session, &tables).await), ["CK067"]);
    let role = format!("limited_{}", target.name);
    target
        .sql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA tidegate TO {role};
             GRANT ALL ON ALL TABLES IN SCHEMA tidegate, public TO {role}; REVOKE TRUNCATE ON p FROM {role}"
        ))
        .await;
    let session = Session::connect(&settings(&server().url_as(&role, "x", &target.name)), "test").await.unwrap();
    let found = findings(&target, &session, &tables).await;
    assert_eq!(critical(&found), ["CK057", "CK067", "CK067", "CK068", "CK069"], "{found:#?}");
    let with = |code: &str| found.iter().find(|finding| finding.code == code).unwrap();
    assert!(
        with("CK069")
            .fix
            .contains("ADD CONSTRAINT \"c_p_fkey\" FOREIGN KEY (p) REFERENCES public.p(id) ON DELETE CASCADE")
    );
    assert!(with("CK057").fix.contains(&format!("GRANT TRUNCATE ON \"public\".\"p\" TO {role}")));
    assert_eq!(with("CK054").fix, format!("GRANT SET ON PARAMETER session_replication_role TO {role}"));
    assert_eq!(with("CK070").severity, Severity::Warning);
    target.sql(&format!("GRANT SET ON PARAMETER session_replication_role TO {role}")).await;
    assert_eq!(critical(&findings(&target, &session, &tables).await), ["CK057", "CK067"]);
}

#[tokio::test]
async fn tables_are_mapped_by_the_names_of_their_columns() {
    let target = Target::new(
        "CREATE TYPE mood AS ENUM ('good', 'bad');
         CREATE TABLE \"Odd \"\"name\" (extra int, \"B\" varchar(20), id bigint PRIMARY KEY, j json, m mood, a int[],
            parent bigint REFERENCES \"Odd \"\"name\")",
    )
    .await;
    let name = "Odd \"name";
    let columns = ["id x", "B x", "j x", "m x", "a x", "parent x"];
    let wanted = wanted(name, &columns);
    let source = &wanted.source;
    let tables = read_tables(target.client(), std::slice::from_ref(&source.name)).await.unwrap();
    let map = map_table(&wanted, &tables[&source.name]).unwrap();
    let types: Vec<(&str, bool)> =
        map.columns.iter().map(|column| (column.target_type.as_str(), column.comparable)).collect();
    let expected = [
        ("bigint", true),
        ("character varying", true),
        ("json", false),
        ("mood", true),
        ("integer[]", true),
        ("bigint", true),
    ];
    assert_eq!(types, expected);
    assert_eq!((map.key, map.references), (vec![0], vec![source.name.clone()]));
}

#[tokio::test]
async fn what_was_put_aside_comes_back_as_it_was() {
    let target = Target::new(
        "CREATE TABLE p (id text PRIMARY KEY);
         CREATE TABLE c (id text PRIMARY KEY, p text REFERENCES p ON DELETE CASCADE);
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
         CREATE TRIGGER ordinary BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION f();
         CREATE TRIGGER always BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION f();
         ALTER TABLE p ENABLE ALWAYS TRIGGER always;
         CREATE RULE r AS ON DELETE TO c DO ALSO NOTHING",
    )
    .await;
    let owner = target.own().await;
    let names = [TableName::new("public", "p"), TableName::new("public", "c")];
    let before = read_tables(target.client(), &names).await.unwrap();
    let rights = SessionRights { foreign_keys_enforced: true };
    assert_eq!(put_aside(target.client(), owner.lease(), &names, rights).await.unwrap().len(), 4);
    let aside = read_tables(target.client(), &names).await.unwrap();
    assert!(aside.values().all(|table| active_objects(table, rights, Dialect::Postgres).is_empty()));
    assert_eq!(put_aside(target.client(), owner.lease(), &names, rights).await.unwrap(), []);
    for _ in 0..2 {
        bring_back(target.client(), owner.lease()).await.unwrap();
        assert_eq!(read_tables(target.client(), &names).await.unwrap(), before);
    }
}

#[tokio::test]
async fn a_fence_of_ours_is_not_among_what_changes_rows_by_itself() {
    let target = Target::new(
        "CREATE TABLE t (id int PRIMARY KEY);
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
         CREATE TRIGGER tidegate_orders_fence BEFORE INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION f();
         CREATE TRIGGER audit BEFORE INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION f();
         ALTER TABLE t ENABLE ALWAYS TRIGGER tidegate_orders_fence, ENABLE ALWAYS TRIGGER audit",
    )
    .await;
    let name = TableName::new("public", "t");
    let tables = read_tables(target.client(), std::slice::from_ref(&name)).await.unwrap();
    for foreign_keys_enforced in [false, true] {
        let found = active_objects(&tables[&name], SessionRights { foreign_keys_enforced }, Dialect::Postgres);
        assert_eq!(found.iter().map(|object| object.name.as_str()).collect::<Vec<_>>(), ["audit"]);
    }
}
