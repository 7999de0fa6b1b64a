//! Tables of all shapes.

use tidegate_verify::{DifferenceKind, Options};

use crate::fixture::*;

#[tokio::test]
async fn text_keys_under_other_collations_are_the_same_keys() {
    let both = Both { source: Database::postgres().await, target: Database::postgres().await };
    let table = |collation: &str| {
        format!(
            "CREATE TABLE public.t (k text COLLATE \"{collation}\" PRIMARY KEY, v int);
             INSERT INTO public.t
             SELECT chr(64 + n % 60) || repeat('é', n % 3) || n, n FROM generate_series(1, 5000) n"
        )
    };
    both.source.sql(&table("en-US-x-icu")).await;
    both.target.sql(&table("C")).await;
    assert_eq!(differences(&both.compare("t").await), [""; 0]);
    both.target.sql("UPDATE public.t SET v = 0 WHERE v = 63; DELETE FROM public.t WHERE v = 64").await;
    let found = differences(&both.compare("t").await);
    assert_eq!(found, ["different (k=\"C63\") in v", "missing (k=\"Dé64\")"]);
    let keys = [key(&["C63"]), key(&["Dé64"]), key(&["c63"])];
    assert_eq!(differences(&both.compare_keys("t", &keys, &by_rows()).await), found);
}

#[tokio::test]
async fn rows_without_a_key_count_as_often_as_they_are_there() {
    let both = Both::alike(
        "CREATE TABLE public.log (a int, b text);
         INSERT INTO public.log SELECT n % 10, NULLIF('x' || n % 3, 'x0') FROM generate_series(1, 300) n",
    )
    .await;
    assert_eq!(differences(&both.compare_by("log", &by_rows()).await), [""; 0]);
    both.target
        .sql(
            "DELETE FROM public.log WHERE ctid = (SELECT min(ctid) FROM public.log WHERE a = 3 AND b IS NULL);
             INSERT INTO public.log VALUES (4, 'x1'), (4, 'x1'), (NULL, NULL)",
        )
        .await;
    let expected = [
        "missing (a=\"3\", b=NULL)",
        "extra (a=\"4\", b=\"x1\")",
        "extra (a=\"4\", b=\"x1\")",
        "extra (a=NULL, b=NULL)",
    ];
    assert_eq!(differences(&both.compare_by("log", &by_rows()).await), expected);
    assert_eq!(differences(&both.compare_keys("log", &[], &by_rows()).await), expected);
}

#[tokio::test]
async fn keys_of_several_columns_are_read_by_their_values() {
    let both = Both::alike(
        "CREATE TABLE public.t (v text, at timestamptz, k text, n numeric, PRIMARY KEY (k, at, n));
         INSERT INTO public.t SELECT 'v', timestamptz '2020-01-01' + n * interval '1 s', E'o''x\\\\' || n, n / 4.0
           FROM generate_series(1, 2500) n",
    )
    .await;
    both.target.sql("UPDATE public.t SET v = 'w' WHERE n IN (1, 600)").await;
    let (fence, map) = (both.fence().await, both.map("t").await);
    let report = tidegate_verify::compare_table(&fence.pair, &map, &by_rows()).await.unwrap();
    assert_eq!(differences(&report).len(), 2);
    // More keys than one statement takes; some of them twice, once in another spelling.
    let mut keys: Vec<_> = (1..=2500)
        .map(|n: u32| {
            let at = format!("2020-01-01 {:02}:{:02}:{:02}+00", n / 3600, n / 60 % 60, n % 60);
            let quarter = f64::from(n) / 4.0;
            [Some(at.into_bytes()), Some(format!("o'x\\{n}").into_bytes()), Some(quarter.to_string().into_bytes())]
                .iter()
                .map(|value| value.as_deref())
                .collect()
        })
        .collect();
    keys.push(key(&["2020-01-01 00:00:04.000+00:00", "o'x\\4", "1.000"]));
    let by_key = both.compare_keys("t", &keys, &by_rows()).await;
    assert_eq!(differences(&by_key), differences(&report));
    assert_eq!(by_key.compared, 2500);
}

#[tokio::test]
async fn what_only_the_target_has_is_not_looked_at() {
    let both = Both { source: Database::postgres().await, target: Database::postgres().await };
    both.source
        .sql("CREATE TABLE public.t (id int PRIMARY KEY, v int, g int GENERATED ALWAYS AS (v * 2) STORED)")
        .await;
    both.target
        .sql("CREATE TABLE public.t (more text DEFAULT 'x', v bigint, id bigint PRIMARY KEY, g int DEFAULT 0)")
        .await;
    both.source.sql("INSERT INTO public.t SELECT n, n FROM generate_series(1, 10) n").await;
    both.target.sql("INSERT INTO public.t (id, v) SELECT n, n FROM generate_series(1, 10) n").await;
    both.target
        .sql("CREATE TABLE public.child () INHERITS (public.t); INSERT INTO public.child (id) VALUES (99)")
        .await;
    assert_eq!(differences(&both.compare("t").await), [""; 0]);
    let mut map = both.map("t").await;
    map.columns[1].target = "g".into();
    let fence = both.fence().await;
    let report = tidegate_verify::compare_table(&fence.pair, &map, &Options::default()).await.unwrap();
    assert_eq!(report.different, 10);
}

#[tokio::test]
async fn counts_go_on_where_the_list_of_keys_ends() {
    let both = Both::alike(
        "CREATE TABLE public.t (id int PRIMARY KEY, v int);
         INSERT INTO public.t SELECT n, n FROM generate_series(1, 250000) n",
    )
    .await;
    both.target.sql("UPDATE public.t SET v = -v WHERE id <= 120000; DELETE FROM public.t WHERE id > 249990").await;
    let report = both.compare("t").await;
    assert_eq!((report.missing, report.extra, report.different, report.keys.len()), (10, 0, 120_000, 1000));
    assert!(report.keys.iter().all(|key| key.kind == DifferenceKind::Missing || key.columns == ["v"]));
    both.target.sql("TRUNCATE public.t").await;
    let report = both.compare("t").await;
    assert_eq!((report.missing, report.extra, report.different), (250_000, 0, 0));
    assert!(report.keys.len() >= 1000 && report.note.is_none());
}
