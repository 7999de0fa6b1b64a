//! What is read of the catalog, and what `check` finds.

use std::collections::HashMap;

use tidegate_model::{Finding, RelationId, ReplicaIdentity, Severity, SourceColumn, SourceTable, TableName};
use tidegate_sql::catalog::{TargetTable, ValueType, map_table, read_tables, value_types};
use tidegate_sql::check::{TargetQuestion, WantedTable, session_rights, target_findings};
use tidegate_sql::plan::SessionRights;
use tidegate_sql::triggers::{bring_back, put_aside};
use tidegate_standin::Standin;

use crate::support::{Target, on_both_servers, quiet};

on_both_servers!(
    columns_keys_and_foreign_keys_are_read,
    a_good_target_has_only_notices,
    what_cannot_be_written_is_critical,
    foreign_keys_with_actions_are_put_aside_and_brought_back,
);

/// A table of a PostgreSQL source; columns are `name type`.
fn wanted(name: &str, columns: &[&str]) -> WantedTable {
    let column = |text: &&str| {
        let (name, type_name) = text.split_once(' ').unwrap();
        let type_oid = SOURCE_TYPES.iter().position(|(known, _)| *known == type_name).unwrap() as u32 + 1;
        SourceColumn { name: name.into(), type_oid, type_modifier: -1, identity: name == "id" }
    };
    WantedTable {
        source: SourceTable {
            id: RelationId(1),
            name: TableName::new("public", name),
            replica_identity: ReplicaIdentity::Default,
            columns: columns.iter().map(column).collect(),
        },
        primary_key: vec!["id".into()],
        identity_whole: true,
    }
}

/// Types of the source by their OIDs, from 1.
const SOURCE_TYPES: [(&str, &[&str]); 7] = [
    ("integer", &[]),
    ("bigint", &[]),
    ("text", &[]),
    ("timestamp with time zone", &[]),
    ("json", &[]),
    ("integer[]", &[]),
    ("public.mood", &["sad", "so so", "glad"]),
];

async fn findings(target: &Target, tables: &[WantedTable], both: bool) -> Vec<Finding> {
    let of = |(index, (name, labels)): (usize, &(&str, &[&str]))| {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        (index as u32 + 1, ValueType::new(*name, -1).with_labels(labels))
    };
    let source_types: HashMap<u32, ValueType> = SOURCE_TYPES.iter().enumerate().map(of).collect();
    let question = TargetQuestion { key: &target.key, tables, source_types: &source_types, no_copy: false, both };
    target_findings(target.session(), &question).await
}

fn codes(findings: &[Finding], at_least: Severity) -> Vec<&'static str> {
    let serious = findings.iter().filter(|finding| finding.severity >= at_least);
    let mut codes: Vec<_> = serious.map(|finding| finding.code).collect();
    codes.sort_unstable();
    codes
}

async fn read_one(target: &Target, name: &str) -> TargetTable {
    let name = TableName::new("public", name);
    read_tables(target.session(), std::slice::from_ref(&name)).await.unwrap().remove(&name).unwrap()
}

async fn columns_keys_and_foreign_keys_are_read(standin: &'static Standin) {
    let schema = [
        "CREATE TYPE mood AS ENUM ('sad', 'glad')",
        "CREATE TABLE parent (a INT8, b INT8, PRIMARY KEY (b, a))",
        "CREATE TABLE t (id INT4 PRIMARY KEY, name VARCHAR(20) NOT NULL, m mood, ms mood[], n DECIMAL(12,4) DEFAULT 1, \
         c CHAR(5), made STRING AS (lower(name)) STORED, a INT8, b INT8, UNIQUE (name), \
         CONSTRAINT to_parent FOREIGN KEY (b, a) REFERENCES parent (b, a) ON DELETE CASCADE ON UPDATE SET NULL)",
        "CREATE TABLE keyless (v STRING)",
    ];
    let target = Target::new(standin, &schema).await;
    let table = read_one(&target, "t").await;
    let shown = |name: &str| {
        let column = table.column(name).unwrap();
        (column.type_name.clone(), column.type_text.clone(), column.value_type.to_string())
    };
    let expect = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    assert_eq!(shown("id"), expect("INT4", "INT4", "integer"));
    assert_eq!(shown("name"), expect("STRING", "VARCHAR(20)", "character varying(20)"));
    assert_eq!(shown("n"), expect("DECIMAL", "DECIMAL(12,4)", "numeric(12,4)"));
    assert_eq!(shown("c"), expect("BPCHAR", "CHAR(5)", "character(5)"));
    assert_eq!(shown("m").0, "\"public\".\"mood\"");
    assert_eq!(shown("ms").0, "\"public\".\"mood\"[]");
    assert_eq!(table.column("m").unwrap().value_type.labels, ["sad", "glad"]);
    assert_eq!(table.column("ms").unwrap().value_type.labels, ["sad", "glad"]);
    let name = table.column("name").unwrap();
    assert!(name.not_null && !name.has_default && !name.generated && name.comparable && !name.hidden);
    assert!(table.column("made").unwrap().generated && table.column("n").unwrap().has_default);
    assert_eq!(table.unique_keys, [vec!["id".into()], vec!["name".into()]]);
    let key = &table.foreign_keys[0];
    assert!(key.has_actions && !key.deferrable && key.references == TableName::new("public", "parent"));
    let definition = "FOREIGN KEY (\"b\", \"a\") REFERENCES \"public\".\"parent\" (\"b\", \"a\") \
                      ON DELETE CASCADE ON UPDATE SET NULL";
    assert_eq!(key.definition, definition);
    let parent = read_one(&target, "parent").await;
    assert_eq!(parent.unique_keys, [vec!["b".into(), "a".into()]]);
    assert_eq!(parent.foreign_keys.len(), 1);
    let keyless = read_one(&target, "keyless").await;
    assert!(keyless.column("rowid").unwrap().hidden);
    assert_eq!(keyless.unique_keys, [vec!["rowid".into()]]);

    let types = value_types(target.session(), &[name.type_oid, table.column("m").unwrap().type_oid, 1]).await.unwrap();
    assert_eq!(types.len(), 2);
    assert_eq!(types[&name.type_oid].name, "character varying");
}

async fn a_good_target_has_only_notices(standin: &'static Standin) {
    let schema = ["CREATE TABLE t (id INT8 PRIMARY KEY, at TIMESTAMPTZ, tags INT4[], doc JSONB, extra INT8, \
         made INT8 AS (id + 1) STORED)"];
    let target = Target::new(standin, &schema).await;
    let table = wanted("t", &["id integer", "at timestamp with time zone", "tags integer[]", "doc json"]);
    let found = findings(&target, std::slice::from_ref(&table), true).await;
    assert_eq!(codes(&found, Severity::Warning), [] as [&str; 0], "{found:#?}");
    assert_eq!(codes(&found, Severity::Notice), ["CK103", "CK109", "CK109", "CK109"], "{found:#?}");
    let map = map_table(&table, &read_one(&target, "t").await).unwrap();
    let types: Vec<&str> = map.columns.iter().map(|column| column.target_type.as_str()).collect();
    assert_eq!(types, ["INT8", "TIMESTAMPTZ", "INT4[]", "JSONB"]);
}

async fn what_cannot_be_written_is_critical(standin: &'static Standin) {
    let schema = [
        "CREATE TYPE mood AS ENUM ('sad', 'glad')",
        "CREATE TABLE t (id INT8 PRIMARY KEY, n INT8, g STRING AS ('x') STORED, must INT8 NOT NULL, m mood, \
         small INT4)",
        "CREATE TABLE full_of_rows (id INT8 PRIMARY KEY)",
        "INSERT INTO full_of_rows VALUES (1)",
        "CREATE VIEW v AS SELECT 1 AS id",
        "CREATE TABLE taken (id INT8 PRIMARY KEY)",
        "CREATE TABLE keyless (v STRING)",
        "CREATE TABLE families (id INT8 PRIMARY KEY, a INT8, FAMILY f1 (id), FAMILY f2 (a))",
        "CREATE TABLE one (id INT8 PRIMARY KEY, other INT8)",
        "CREATE TABLE other (id INT8 PRIMARY KEY, one INT8 REFERENCES one (id))",
        "ALTER TABLE one ADD CONSTRAINT back FOREIGN KEY (other) REFERENCES other (id)",
        "CREATE TABLE other_key (id INT8 NOT NULL UNIQUE, v INT8 PRIMARY KEY)",
    ];
    let target = Target::new(standin, &schema).await;
    target
        .sql(
            "INSERT INTO tidegate.copy_table (migration, stream, source_table, target_table, state) \
             VALUES ('other', 'forward', 'public.taken', 'public.taken', 'copied')",
        )
        .await;
    let tables = [
        wanted("t", &["id bigint", "n text", "g text", "gone text", "m public.mood", "small bigint"]),
        wanted("full_of_rows", &["id bigint"]),
        wanted("v", &["id bigint"]),
        wanted("missing", &["id bigint"]),
        wanted("taken", &["id bigint"]),
        wanted("keyless", &["v text", "rowid bigint"]),
        wanted("families", &["id bigint", "a bigint"]),
        wanted("one", &["id bigint", "other bigint"]),
        wanted("other", &["id bigint", "one bigint"]),
        wanted("other_key", &["id bigint", "v bigint"]),
    ];
    let found = findings(&target, &tables, true).await;
    let critical: Vec<_> = codes(&found, Severity::Critical);
    let expected = ["CK055", "CK056", "CK059", "CK060", "CK061", "CK062", "CK063", "CK066", "CK106"];
    assert_eq!(critical, expected, "{found:#?}");
    let fix = |code: &str| found.iter().find(|finding| finding.code == code).map(|finding| finding.fix.as_str());
    assert_eq!(fix("CK061"), Some("ALTER TABLE \"public\".\"t\" ADD COLUMN \"gone\" STRING"));
    assert_eq!(fix("CK105"), Some("create the table with one family if it is ever to be a source"));
    assert_eq!(fix("CK107"), Some("ALTER TABLE \"public\".\"other_key\" ALTER PRIMARY KEY USING COLUMNS (\"id\")"));
    assert!(fix("CK108").unwrap().contains("DROP CONSTRAINT"));
    let warned = found.iter().filter(|finding| finding.severity == Severity::Warning);
    let mut warned: Vec<_> = warned.map(|finding| finding.code).collect();
    warned.sort_unstable();
    // A label that the target lacks, a number that may be too large, the view's column, the other key, the circle.
    assert_eq!(warned, ["CK062", "CK062", "CK062", "CK065", "CK107", "CK108"], "{found:#?}");
    // A column that only hides at the target cannot be written.
    let keyless = read_one(&target, "keyless").await;
    assert_eq!(map_table(&tables[5], &keyless).unwrap_err().code, "AP063");
}

async fn foreign_keys_with_actions_are_put_aside_and_brought_back(standin: &'static Standin) {
    let schema = [
        "CREATE TABLE parent (id INT8 PRIMARY KEY)",
        "CREATE TABLE child (id INT8 PRIMARY KEY, parent INT8, \
         CONSTRAINT to_parent FOREIGN KEY (parent) REFERENCES parent (id) ON DELETE CASCADE)",
    ];
    let target = Target::new(standin, &schema).await;
    let owner = target.own().await;
    let tables = [wanted("parent", &["id bigint"]), wanted("child", &["id bigint", "parent bigint"])];
    let found = findings(&target, &tables, false).await;
    assert_eq!(codes(&found, Severity::Critical), ["CK069"], "{found:#?}");
    let rights = session_rights(target.session()).await.unwrap();
    assert_eq!(rights, SessionRights { foreign_keys_enforced: true });
    let names = [TableName::new("public", "parent"), TableName::new("public", "child")];
    let aside = put_aside(target.session(), owner.lease(), &names, rights).await.unwrap();
    assert_eq!(aside.len(), 1);
    assert_eq!(put_aside(target.session(), owner.lease(), &names, rights).await.unwrap(), []);
    assert_eq!(codes(&findings(&target, &tables, false).await, Severity::Critical), [] as [&str; 0]);
    for _ in 0..2 {
        bring_back(target.session(), owner.lease()).await.unwrap();
        assert_eq!(codes(&findings(&target, &tables, false).await, Severity::Critical), ["CK069"]);
    }
}

#[tokio::test]
async fn a_locked_schema_is_critical_where_foreign_keys_must_go() {
    let schema = [
        "CREATE TABLE parent (id INT8 PRIMARY KEY)",
        "CREATE TABLE child (id INT8 PRIMARY KEY REFERENCES parent (id))",
        "CREATE TABLE alone (id INT8 PRIMARY KEY)",
        "ALTER TABLE child SET (schema_locked = true)",
        "ALTER TABLE alone SET (schema_locked = true)",
    ];
    let target = Target::new(quiet(), &schema).await;
    let tables = [wanted("child", &["id bigint"]), wanted("alone", &["id bigint"])];
    let found = findings(&target, &tables, false).await;
    let locked = |table: &str| {
        let of_table = |finding: &&Finding| finding.code == "CK104" && finding.subject == format!("public.{table}");
        found.iter().find(of_table).map(|finding| finding.severity)
    };
    assert_eq!((locked("child"), locked("alone")), (Some(Severity::Critical), Some(Severity::Notice)), "{found:#?}");
}
