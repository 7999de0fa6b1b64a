//! What a repair consists of.

use tidegate_model::{Change, NewRow, OldRow, Row, Value};
use tidegate_verify::{compare_table, repair};

use crate::fixture::*;

/// More than any of these rows have.
const BYTES_MAX: u64 = 1 << 20;

fn shown(row: &Row) -> String {
    let text = |value| match value {
        Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
        _ => "-".to_owned(),
    };
    row.values().map(text).collect::<Vec<_>>().join(",")
}

fn shown_changes(changes: &[Change]) -> Vec<String> {
    let shown = |change: &Change| match change {
        Change::Insert { new, .. } => format!("insert {}", shown(new)),
        Change::Update { old: None, new: NewRow::Full(new), .. } => format!("update {}", shown(new)),
        Change::Delete { old: OldRow::Key(old), .. } => format!("delete key {}", shown(old)),
        Change::Delete { old: OldRow::Full(old), .. } => format!("delete {}", shown(old)),
        other => panic!("{other:?}"),
    };
    let mut all: Vec<String> = changes.iter().map(shown).collect();
    all.sort();
    all
}

#[tokio::test]
async fn rows_with_a_key_become_what_the_source_has() {
    let sql = "CREATE TABLE public.t (v text, id int PRIMARY KEY); INSERT INTO public.t VALUES ('x', 1), (NULL, 2)";
    let both = Both::alike(sql).await;
    both.target.sql("UPDATE public.t SET v = 'y' WHERE id = 1; DELETE FROM public.t WHERE id = 2").await;
    both.target.sql("INSERT INTO public.t VALUES ('z', 3)").await;
    let (fence, map) = (both.fence().await, both.map("t").await);
    let report = compare_table(&fence.pair, &map, &by_rows()).await.unwrap();
    let changes = repair(&fence.pair, &map, &report.keys, BYTES_MAX).await.unwrap();
    assert_eq!(shown_changes(&changes), ["delete key -,3", "insert -,2", "update x,1"]);
}

#[tokio::test]
async fn rows_without_a_key_are_removed_and_put_one_by_one() {
    let both =
        Both::alike("CREATE TABLE public.l (a int, b text); INSERT INTO public.l VALUES (1, 'x'), (1, 'x')").await;
    both.source.sql("INSERT INTO public.l VALUES (1, 'x'), (2, NULL)").await;
    both.target.sql("INSERT INTO public.l VALUES (3, 'z'), (3, 'z')").await;
    let (fence, map) = (both.fence().await, both.map("l").await);
    let report = compare_table(&fence.pair, &map, &by_rows()).await.unwrap();
    let changes = repair(&fence.pair, &map, &report.keys, BYTES_MAX).await.unwrap();
    assert_eq!(shown_changes(&changes), ["delete 3,z", "delete 3,z", "insert 1,x", "insert 2,-"]);
}

#[tokio::test]
async fn a_repair_ends_where_it_is_large_enough() {
    let rows = "INSERT INTO public.t SELECT i, repeat('x', 100) FROM generate_series(1, 2500) i";
    let both = Both::alike("CREATE TABLE public.t (id int PRIMARY KEY, v text)").await;
    both.source.sql(rows).await;
    let (fence, map) = (both.fence().await, both.map("t").await);
    let options = tidegate_verify::Options { keys_listed_max: 5_000, ..by_rows() };
    let report = compare_table(&fence.pair, &map, &options).await.unwrap();
    assert_eq!(report.keys.len(), 2500);
    let changes = repair(&fence.pair, &map, &report.keys, 1).await.unwrap();
    assert_eq!(changes.len(), 1000, "what one statement reads");
}
