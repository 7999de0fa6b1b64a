//! What cannot be compared says why.

use tidegate_model::Class;
use tidegate_verify::{Report, TableReport, Verdict, compare_keys, compare_table};

use crate::fixture::*;

const TABLE: &str = "CREATE TABLE public.t (id int PRIMARY KEY, v int); INSERT INTO public.t VALUES (1, 1)";

#[tokio::test]
async fn a_table_that_may_not_be_read_is_unknown() {
    let both = Both::alike(TABLE).await;
    both.target.sql("CREATE ROLE verify_nobody LOGIN PASSWORD 'x'").await;
    let url = SERVER.url_as("verify_nobody", "x", both.target.settings.database());
    let target = Database::connect(&url).await;
    let (mut fence, map) = (both.fence().await, both.map("t").await);
    let (side, _keeper) = target.side().await;
    fence.pair.target = side;
    for options in [&Default::default(), &by_rows()] {
        let problem = compare_table(&fence.pair, &map, options).await.unwrap_err();
        assert_eq!((problem.code, problem.class), ("VF001", Class::Definite), "{problem}");
        let report = Report::new(vec![TableReport::unread(&map.source.name, &problem)], vec![]);
        assert_eq!(report.verdict, Verdict::Unknown);
        assert!(report.to_string().contains("permission denied"), "{report}");
    }
}

#[tokio::test]
async fn a_snapshot_that_is_gone_asks_for_another() {
    let both = Both::alike(TABLE).await;
    let map = both.map("t").await;
    let pair = both.fence().await.end().await;
    let problem = compare_table(&pair, &map, &by_rows()).await.unwrap_err();
    assert_eq!((problem.code, problem.class), ("VF002", Class::Transient), "{problem}");
}

#[tokio::test]
async fn a_table_that_changed_is_said_to_have_changed() {
    let both = Both::alike(TABLE).await;
    both.target.sql("ALTER TABLE public.t RENAME v TO w").await;
    let (fence, map) = (both.fence().await, both.map("t").await);
    for options in [&Default::default(), &by_rows()] {
        assert_eq!(compare_table(&fence.pair, &map, options).await.unwrap_err().code, "VF003");
    }
    both.target.sql("ALTER TABLE public.t RENAME id TO other").await;
    assert_eq!(compare_keys(&fence.pair, &map, &[key(&["1"])], &by_rows()).await.unwrap_err().code, "VF003");
}

#[tokio::test]
async fn a_table_that_was_emptied_or_rewritten_meanwhile_asks_for_another_fence() {
    let both = Both::alike(TABLE).await;
    let map = both.map("t").await;
    for (database, sql) in [(&both.source, "TRUNCATE public.t"), (&both.target, "VACUUM FULL public.t")] {
        let fence = both.fence().await;
        database.sql(sql).await;
        for options in [&Default::default(), &by_rows()] {
            let problem = compare_table(&fence.pair, &map, options).await.unwrap_err();
            assert_eq!((problem.code, problem.class), ("VF005", Class::Transient), "{problem}");
        }
        let problem = compare_keys(&fence.pair, &map, &[key(&["1"])], &by_rows()).await.unwrap_err();
        assert_eq!(problem.code, "VF005");
        both.source.sql("TRUNCATE public.t").await;
        both.target.sql("TRUNCATE public.t").await;
        assert_eq!(differences(&both.compare("t").await), [""; 0]);
    }
}
