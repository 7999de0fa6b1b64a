//! A comparison sees its snapshots and disturbs nobody.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use tidegate_verify::{Options, compare_keys, compare_table};

use crate::fixture::*;

const TABLE: &str = "CREATE TABLE public.t (id int PRIMARY KEY, v int);
    INSERT INTO public.t SELECT n, n FROM generate_series(1, 20000) n";

#[tokio::test]
async fn rows_that_change_after_the_fence_are_seen_as_they_were() {
    let both = Both::alike(TABLE).await;
    let (fence, map) = (both.fence().await, both.map("t").await);
    for round in 0..3 {
        both.source.sql(&format!("UPDATE public.t SET v = v + 1 WHERE id % 3 = {round}")).await;
        both.target.sql("DELETE FROM public.t WHERE id % 7 = 0; UPDATE public.t SET v = 0 WHERE id % 5 = 0").await;
        for options in [&Options::default(), &by_rows()] {
            assert_eq!(differences(&compare_table(&fence.pair, &map, options).await.unwrap()), [""; 0]);
        }
        let keys = [key(&["3"]), key(&["7"]), key(&["35"])];
        let report = compare_keys(&fence.pair, &map, &keys, &Options::default()).await.unwrap();
        assert_eq!((differences(&report).len(), report.compared), (0, 3));
    }
    assert!(!differences(&both.compare_keys("t", &[key(&["7"])], &by_rows()).await).is_empty());
}

#[tokio::test]
async fn nothing_stays_locked_between_tables() {
    let both = Both::alike(TABLE).await;
    let (fence, map) = (both.fence().await, both.map("t").await);
    compare_table(&fence.pair, &map, &Options::default()).await.unwrap();
    compare_table(&fence.pair, &map, &by_rows()).await.unwrap();
    compare_keys(&fence.pair, &map, &[key(&["1"])], &by_rows()).await.unwrap();
    for database in [&both.source, &both.target] {
        database.sql("SET lock_timeout = '1s'; DROP TABLE public.t").await;
    }
}

#[tokio::test]
async fn the_source_is_read_no_faster_than_asked() {
    let both = Both::alike(TABLE).await;
    let options = Options { rows_per_second: NonZeroU32::new(20_000), ..Options::default() };
    let started = Instant::now();
    assert_eq!(differences(&both.compare_by("t", &options).await), [""; 0]);
    assert!(started.elapsed() >= Duration::from_millis(900), "20,000 rows in {:?}", started.elapsed());
}

#[tokio::test]
async fn many_tables_are_compared_at_once_under_one_fence() {
    let both = Both::alike(TABLE).await;
    both.target.sql("UPDATE public.t SET v = 0 WHERE id = 5").await;
    let (fence, map) = (both.fence().await, both.map("t").await);
    let options = by_rows();
    let runs = (0..6).map(|_| compare_table(&fence.pair, &map, &options));
    for report in futures_util::future::join_all(runs).await {
        assert_eq!(differences(&report.unwrap()), ["different (id=\"5\") in v"]);
    }
}
