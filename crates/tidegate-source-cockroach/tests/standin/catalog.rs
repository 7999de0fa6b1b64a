//! The tables of a database, as they are listed.

use tidegate_model::{ReplicaIdentity, TableFilter};
use tidegate_source_cockroach::Kind;
use tidegate_source_cockroach::catalog::{self, CatalogTable, Obstacle};

use crate::fixture::{Fixture, SHARED, name};

async fn listed(fixture: &Fixture) -> Vec<CatalogTable> {
    let filter = TableFilter::new(&[], &[], "tidegate").unwrap();
    catalog::list_tables(&fixture.session, &filter).await.unwrap_or_else(|problem| panic!("{problem}"))
}

fn named<'a>(tables: &'a [CatalogTable], wanted: &str) -> &'a CatalogTable {
    tables.iter().find(|table| *table.name() == name(wanted)).unwrap_or_else(|| panic!("{wanted} is not listed"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_listed_as_a_feed_tells_them() {
    let ddl = "CREATE TYPE public.mood AS ENUM ('sad', 'glad');
               CREATE TABLE public.one (b STRING NOT NULL, a INT8, m public.mood, n DECIMAL(10,2), s STRING[],
                                        total INT8 AS (a + 1) STORED, PRIMARY KEY (a, b));
               CREATE TABLE public.bare (x STRING);
               CREATE SCHEMA tidegate; CREATE TABLE tidegate.checkpoint (id INT8 PRIMARY KEY);
               CREATE VIEW public.v AS SELECT a FROM public.one";
    let fixture = Fixture::with(&SHARED, "listed", ddl).await;
    let tables = listed(&fixture).await;
    assert_eq!(tables.iter().map(|table| table.name().to_string()).collect::<Vec<_>>(), ["public.bare", "public.one"]);

    let one = named(&tables, "one");
    let columns: Vec<(&str, bool)> = one.info.table.columns.iter().map(|c| (&*c.name, c.identity)).collect();
    assert_eq!(columns, [("b", true), ("a", true), ("m", false), ("n", false), ("s", false)]);
    let array = Kind::Array(Box::new(Kind::Text));
    assert_eq!(one.info.kinds, [Kind::Text, Kind::Int, Kind::Text, Kind::Decimal, array]);
    assert_eq!(one.primary_key.iter().map(|name| &**name).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(one.generated.iter().map(|name| &**name).collect::<Vec<_>>(), ["total"]);
    assert_eq!(one.info.table.replica_identity, ReplicaIdentity::Default);
    assert!(one.is_carried() && one.may_select && one.identity_whole);
    assert!(one.info.table.columns.iter().all(|column| column.type_oid != 0));

    let bare = named(&tables, "bare");
    assert!(bare.primary_key.is_empty() && bare.is_carried());
    assert_eq!(bare.info.table.replica_identity, ReplicaIdentity::Full);
    assert_eq!(bare.info.table.columns.len(), 1);
    assert_eq!(bare.info.key.iter().map(|column| &*column.name).collect::<Vec<_>>(), ["rowid"]);

    let filter = TableFilter::new(&["o*".to_owned()], &[], "tidegate").unwrap();
    let present = catalog::Present::read(&fixture.session).await.unwrap();
    assert_eq!(present.matching(&filter), [(one.id(), name("one"))]);
    let mapped = tables.iter().map(|table| &*table.info.table);
    assert_eq!(present.verify(&fixture.name, mapped).unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_with_several_families_is_not_carried() {
    let ddl = "CREATE TABLE public.f (a INT8 PRIMARY KEY, b STRING, FAMILY one (a), FAMILY two (b))";
    let fixture = Fixture::with(&SHARED, "families", ddl).await;
    assert_eq!(named(&listed(&fixture).await, "f").obstacles, [Obstacle::ColumnFamilies(2)]);
}
