//! What a repair consists of.

use tidegate_model::{Row, Value};
use tidegate_verify::{Key, Removal, Repair, read_rows};

use crate::fixture::*;

fn row(values: &[Option<&str>]) -> Row {
    values
        .iter()
        .map(|value| value.map_or(Value::Null, |text| Value::Text(text.as_bytes())))
        .collect::<Vec<_>>()
        .into_iter()
        .collect()
}

#[tokio::test]
async fn rows_with_a_key_are_removed_by_it_and_put_as_the_source_has_them() {
    let sql = "CREATE TABLE public.t (v text, id int PRIMARY KEY); INSERT INTO public.t VALUES ('x', 1), (NULL, 2)";
    let both = Both::alike(sql).await;
    both.target.sql("UPDATE public.t SET v = 'y' WHERE id = 1; DELETE FROM public.t WHERE id = 2").await;
    both.target.sql("INSERT INTO public.t VALUES ('z', 3)").await;
    let (fence, map) = (both.fence().await, both.map("t").await);
    let report = tidegate_verify::compare_table(&fence.pair, &map, &by_rows()).await.unwrap();
    let keys: Vec<Key> = report.keys.iter().filter_map(|key| key.row.clone()).collect();
    let mut rows = read_rows(&fence.pair, &map, &keys).await.unwrap();
    rows.sort_by_key(|row| row.value(1) != Value::Text(b"1"));
    let repair = Repair::new(&map, &report.keys, rows);
    assert_eq!(repair.remove, ["1", "2", "3"].map(|id| Removal::Key(key(&[id]))));
    assert_eq!(repair.put, [row(&[Some("x"), Some("1")]), row(&[None, Some("2")])]);
}

#[tokio::test]
async fn rows_without_a_key_are_removed_and_put_one_by_one() {
    let both =
        Both::alike("CREATE TABLE public.l (a int, b text); INSERT INTO public.l VALUES (1, 'x'), (1, 'x')").await;
    both.source.sql("INSERT INTO public.l VALUES (1, 'x'), (2, NULL)").await;
    both.target.sql("INSERT INTO public.l VALUES (3, 'z'), (3, 'z')").await;
    let report = both.compare("l").await;
    let repair = Repair::new(&both.map("l").await, &report.keys, vec![]);
    let extra = row(&[Some("3"), Some("z")]);
    assert_eq!(repair.remove, [Removal::Row(extra.clone()), Removal::Row(extra)]);
    assert_eq!(repair.put, [row(&[Some("1"), Some("x")]), row(&[Some("2"), None])]);
}
