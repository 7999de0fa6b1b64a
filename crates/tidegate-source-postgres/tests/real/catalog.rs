//! Tables are described as pgoutput will describe them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_connect::Session;
use tidegate_model::{Change, Event, ReplicaIdentity, SourceTable, TableFilter, TableName};
use tidegate_source_postgres::catalog::{self, CatalogTable, Obstacle};
use tidegate_source_postgres::{PostgresSource, publication};

use crate::fixture::{Fixture, SHARED, next};

const TABLES: &str = r#"
CREATE SCHEMA "Odd Schema";
CREATE TYPE public.mood AS ENUM ('ok', 'bad');
CREATE DOMAIN public.percent AS numeric(5, 2);
CREATE TABLE "Odd Schema"."Odd ""Table""" (
    gone int, b varchar(10), a numeric(12, 3) NOT NULL, m public.mood, p public.percent, tags text[],
    twice numeric GENERATED ALWAYS AS (a * 2) STORED, id bigint GENERATED ALWAYS AS IDENTITY, ts timestamptz(3),
    PRIMARY KEY (id, a));
ALTER TABLE "Odd Schema"."Odd ""Table""" DROP COLUMN gone;
CREATE TABLE public.by_index (x int, y int NOT NULL, z int NOT NULL, payload int);
CREATE UNIQUE INDEX by_index_key ON public.by_index (z, y) INCLUDE (payload);
ALTER TABLE public.by_index REPLICA IDENTITY USING INDEX by_index_key;
CREATE TABLE public.whole (x int, y int);
ALTER TABLE public.whole REPLICA IDENTITY FULL;
CREATE TABLE public.deferrable_key (id int PRIMARY KEY DEFERRABLE);
CREATE TABLE public.no_identity (id int PRIMARY KEY);
ALTER TABLE public.no_identity REPLICA IDENTITY NOTHING;
CREATE TABLE public.no_key (x int, y int NOT NULL UNIQUE);
CREATE TABLE public.sales (id int, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE public.sales_eu PARTITION OF public.sales FOR VALUES IN ('eu') PARTITION BY LIST (region);
CREATE TABLE public.sales_eu_1 (extra_first int, region text NOT NULL, id int NOT NULL);
ALTER TABLE public.sales_eu_1 DROP COLUMN extra_first;
ALTER TABLE public.sales_eu ATTACH PARTITION public.sales_eu_1 FOR VALUES IN ('eu');
CREATE UNLOGGED TABLE public.volatile (id int PRIMARY KEY);
CREATE TABLE public.parent (id int PRIMARY KEY);
CREATE TABLE public.child (PRIMARY KEY (id)) INHERITS (public.parent);
CREATE SCHEMA tidegate;
CREATE TABLE tidegate.checkpoint (id int PRIMARY KEY);
"#;

/// Writes one row to each carried table, so that each is described on the stream.
const WRITES: &str = r#"
INSERT INTO "Odd Schema"."Odd ""Table""" (b, a, m, p, tags) VALUES ('b', 1, 'ok', 1, '{x}');
INSERT INTO public.by_index VALUES (1, 2, 3, 4);
INSERT INTO public.whole VALUES (1, 2);
INSERT INTO public.deferrable_key VALUES (1);
INSERT INTO public.no_identity VALUES (1);
INSERT INTO public.no_key VALUES (1, 2);
INSERT INTO public.sales VALUES (1, 'eu');
INSERT INTO public.child VALUES (1);
INSERT INTO public.t VALUES (1, 'x');
"#;

async fn list(session: &Session, include: &[&str], exclude: &[&str]) -> Vec<CatalogTable> {
    let own = |patterns: &[&str]| patterns.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
    let filter = TableFilter::new(&own(include), &own(exclude), "tidegate").unwrap();
    catalog::list_tables(session, &filter).await.unwrap()
}

#[tokio::test]
async fn every_carried_table_is_described_as_on_the_stream() {
    let fixture = Fixture::new(&SHARED, "described").await;
    fixture.execute(TABLES).await;
    let tables = list(&fixture.session, &[], &[]).await;
    let carried: Vec<TableName> = tables.iter().filter(|t| t.is_carried()).map(|t| t.name().clone()).collect();
    let ensured = publication::ensure(&fixture.session, &fixture.name.object_name(), &carried).await.unwrap();
    assert_eq!(ensured, publication::Ensured::Changed);
    let ensured = publication::ensure(&fixture.session, &fixture.name.object_name(), &carried).await.unwrap();
    assert_eq!(ensured, publication::Ensured::Unchanged);
    fixture.execute(WRITES).await;

    let mut source: PostgresSource = fixture.start().await;
    let mut streamed: BTreeMap<TableName, Arc<SourceTable>> = BTreeMap::new();
    while streamed.len() < carried.len() {
        let Event::Commit(transaction) = next(&mut source).await.unwrap() else { continue };
        for change in transaction.changes.read().unwrap() {
            let Change::Insert { table, .. } = change.unwrap() else { panic!("only inserts are expected") };
            streamed.insert(table.name.clone(), table);
        }
    }
    for table in tables.iter().filter(|table| table.is_carried()) {
        assert_eq!(table.table, *streamed[table.name()], "{}", table.name());
    }
}

#[tokio::test]
async fn what_is_more_than_the_description_is_told_too() {
    let fixture = Fixture::new(&SHARED, "more").await;
    fixture.execute(TABLES).await;
    let tables = list(&fixture.session, &[], &[]).await;
    let find = |name: &str| tables.iter().find(|table| &*table.name().name == name).unwrap();
    assert!(!tables.iter().any(|table| &*table.name().schema == "tidegate"), "the state schema is not carried");
    assert!(!tables.iter().any(|table| ["sales", "sales_eu"].contains(&&*table.name().name)), "roots are not listed");

    let leaf = find("sales_eu_1");
    assert_eq!(leaf.root(), Some(&TableName::new("public", "sales")));
    assert_eq!(leaf.ancestors.len(), 2);
    assert_eq!(find("volatile").obstacles, [Obstacle::Unlogged]);
    assert_eq!(find("parent").obstacles, [Obstacle::InheritanceParent]);
    assert!(find("child").is_carried());
    let odd = find("Odd \"Table\"");
    assert_eq!(odd.generated.iter().map(|name| &**name).collect::<Vec<_>>(), ["twice"]);
    assert_eq!(odd.primary_key.iter().map(|name| &**name).collect::<Vec<_>>(), ["id", "a"]);
    for (name, has) in
        [("by_index", true), ("whole", true), ("deferrable_key", false), ("no_identity", false), ("no_key", false)]
    {
        assert_eq!(find(name).has_identity(), has, "{name}");
    }
    assert_eq!(find("no_key").identity_candidates, ["no_key_y_key"]);
    assert_eq!(find("whole").table.replica_identity, ReplicaIdentity::Full);
    assert!(leaf.relfilenode > 0 && leaf.rights.owned && leaf.rights.select && !leaf.rights.row_security);

    let by_root = list(&fixture.session, &["public.sales"], &[]).await;
    assert_eq!(by_root.iter().map(|t| t.name().to_string()).collect::<Vec<_>>(), ["public.sales_eu_1"]);
    let without = list(&fixture.session, &["public.*"], &["public.sales", "parent", "volatile"]).await;
    assert!(without.iter().all(|table| table.is_carried() && table.root().is_none()));
}

/// Of an identity with a generated column only the rest is sent.
#[tokio::test]
async fn an_identity_that_is_not_sent_whole_is_told() {
    let fixture = Fixture::new(&SHARED, "identity_whole").await;
    let generated = "made int GENERATED ALWAYS AS (1) STORED NOT NULL";
    fixture
        .execute(&format!(
            "CREATE TABLE public.by_key (id int, {generated}, PRIMARY KEY (id, made));
             CREATE TABLE public.by_index (id int NOT NULL, n int PRIMARY KEY, {generated}, UNIQUE (id, made));
             ALTER TABLE public.by_index REPLICA IDENTITY USING INDEX by_index_id_made_key;
             CREATE TABLE public.by_key_whole (id int PRIMARY KEY, {generated}, UNIQUE (id, made));
             CREATE TABLE public.by_row (id int, {generated}, PRIMARY KEY (id, made));
             ALTER TABLE public.by_row REPLICA IDENTITY FULL"
        ))
        .await;
    let whole: BTreeMap<String, bool> = list(&fixture.session, &["by_*"], &[])
        .await
        .into_iter()
        .map(|table| (table.name().name.to_string(), table.identity_whole))
        .collect();
    let expected = [("by_index", false), ("by_key", false), ("by_key_whole", true), ("by_row", true)];
    assert_eq!(whole, expected.map(|(name, whole)| (name.to_owned(), whole)).into());
}

#[tokio::test]
async fn state_tables_of_other_migrations_are_no_tables_of_an_application() {
    let fixture = Fixture::new(&SHARED, "other_state").await;
    fixture
        .execute(
            "CREATE SCHEMA other_state;
             CREATE TABLE other_state.schema_version (part text PRIMARY KEY);
             CREATE TABLE other_state.migration (migration text PRIMARY KEY, generation int, phase text, side text);
             CREATE TABLE other_state.orders (id int PRIMARY KEY);
             CREATE SCHEMA app;
             CREATE TABLE app.schema_version (id int PRIMARY KEY);
             CREATE TABLE app.migration (id int PRIMARY KEY, phase text)",
        )
        .await;
    let tables = list(&fixture.session, &["other_state.*", "app.*"], &[]).await;
    let names: Vec<String> = tables.iter().map(|table| table.name().to_string()).collect();
    assert_eq!(names, ["app.migration", "app.schema_version", "other_state.orders"]);
}
