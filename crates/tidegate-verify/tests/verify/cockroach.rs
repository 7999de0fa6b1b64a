//! Comparisons with CockroachDB, or what stands in for it.

use tidegate_model::{Hlc, Position};
use tidegate_verify::{Pair, compare_keys, compare_table};

use crate::fixture::*;

const AT_POSTGRES: &str = "
CREATE TABLE public.zoo (
    id bigint PRIMARY KEY, a text, b varchar(20), n numeric(12,2), f float8, s real, j json, raw bytea, at timestamptz,
    clock timetz, i interval, l int[], p char(5), ip inet, u uuid, flag boolean, bits bit(3), day date);
CREATE TABLE public.pair (k text, n numeric, v text, PRIMARY KEY (k, n));
CREATE TABLE public.log (a bigint, b text);
CREATE TABLE public.one (id bigint PRIMARY KEY);
CREATE TYPE public.mood AS ENUM ('sad', 'ok');
CREATE TABLE public.moods (mood public.mood PRIMARY KEY, v text);";

const AT_COCKROACH: &str = "
CREATE TABLE public.zoo (
    id INT8 PRIMARY KEY, a STRING, b VARCHAR(20), n DECIMAL(12,2), f FLOAT8, s FLOAT4, j JSONB, raw BYTES,
    at TIMESTAMPTZ, clock TIMETZ, i INTERVAL, l INT8[], p CHAR(5), ip INET, u UUID, flag BOOL, bits BIT(3), day DATE);
CREATE TABLE public.pair (k STRING, n DECIMAL, v STRING, PRIMARY KEY (k, n));
CREATE TABLE public.log (a INT8, b STRING);
CREATE TABLE public.one (id INT8 PRIMARY KEY);
CREATE TYPE public.mood AS ENUM ('sad', 'ok');
CREATE TABLE public.moods (mood public.mood PRIMARY KEY, v STRING);";

fn rows() -> Vec<String> {
    let zoo = |id: u32| {
        format!(
            "INSERT INTO public.zoo (id, a, b, n, f, s, j, raw, at, clock, i, l, p, ip, u, flag, bits, day) VALUES \
             ({id}, 'a{id}', 'b', {id}.50, 0.{id}, 0.{id}, '{{\"z\": {id}, \"a\": [1.50, null]}}', '\\x00ff', \
             '2020-01-01 12:00:00+02', '12:00:00+02', '1 mon 2 days', '{{1,NULL}}', 'ab', '10.0.0.1', \
             'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', true, '101', '2020-02-29')"
        )
    };
    let mut rows: Vec<String> = (1..=40).map(zoo).collect();
    rows.push("INSERT INTO public.zoo (id) VALUES (100)".to_owned());
    rows.push(
        "INSERT INTO public.pair (k, n, v) VALUES ('o''x\\', 1.0, 'v'), ('é', 2, NULL), ('é', 3, 'w')".to_owned(),
    );
    rows.push("INSERT INTO public.one (id) VALUES (1), (2)".to_owned());
    rows.push("INSERT INTO public.moods (mood, v) VALUES ('sad', 'x'), ('ok', NULL)".to_owned());
    rows.push("INSERT INTO public.log (a, b) VALUES (1, 'x'), (1, 'x'), (2, NULL)".to_owned());
    rows
}

async fn alike() -> Both {
    let both = Both { source: Database::postgres().await, target: Database::cockroach().await };
    both.source.sql(AT_POSTGRES).await;
    for statement in AT_COCKROACH.split_inclusive(';').filter(|sql| !sql.trim().is_empty()) {
        both.target.sql(statement).await;
    }
    for row in rows() {
        both.source.sql(&row).await;
        both.target.sql(&row).await;
    }
    both
}

#[tokio::test]
async fn one_value_is_equal_however_either_server_prints_it() {
    let both = alike().await;
    for table in ["zoo", "pair", "log", "one", "moods"] {
        for options in [&Default::default(), &exact()] {
            let report = both.compare_by(table, options).await;
            assert_eq!(differences(&report), [""; 0]);
            assert!(report.compared > 0);
        }
    }
    let ids: Vec<_> = (1..=41).map(|id| key(&[&id.to_string()])).collect();
    let report = both.compare_keys("zoo", &ids, &exact()).await;
    assert_eq!((differences(&report).len(), report.compared), (0, 40));
    for (table, only) in [("zoo", key(&["7"])), ("pair", key(&["é", "3"])), ("one", key(&["2"]))] {
        let report = both.compare_keys(table, &[only], &exact()).await;
        assert_eq!((differences(&report).len(), report.compared), (0, 1));
    }
    let report = both.compare_keys("one", &ids, &exact()).await;
    assert_eq!((differences(&report).len(), report.compared), (0, 2));
    let report = both.compare_keys("moods", &[key(&["sad"]), key(&["ok"])], &exact()).await;
    assert_eq!((differences(&report).len(), report.compared), (0, 2));
}

#[tokio::test]
async fn differences_are_found_in_either_direction() {
    let both = alike().await;
    for sql in [
        "UPDATE public.zoo SET n = 1.51, a = 'x' WHERE id = 1",
        "DELETE FROM public.zoo WHERE id = 2",
        "INSERT INTO public.zoo (id) VALUES (200)",
        "UPDATE public.pair SET v = '' WHERE k = 'é' AND n = 2",
        "DELETE FROM public.pair WHERE n = 1",
        "DELETE FROM public.log WHERE a = 2",
        "INSERT INTO public.log (a, b) VALUES (1, 'x')",
    ] {
        both.target.sql(sql).await;
    }
    let zoo = ["different (id=\"1\") in a, n", "missing (id=\"2\")", "extra (id=\"200\")"];
    assert_eq!(differences(&both.compare("zoo").await), zoo);
    let pair = differences(&both.compare("pair").await);
    assert_eq!(pair, ["different (k=\"é\", n=\"2\") in v", "missing (k=\"o'x\\\\\", n=\"1.0\")"]);
    assert_eq!(differences(&both.compare("log").await), ["extra (a=\"1\", b=\"x\")", "missing (a=\"2\", b=NULL)"]);
    let keys = [key(&["o'x\\", "1.00"]), key(&["é", "2"]), key(&["é", "3"]), key(&["none", "0"])];
    assert_eq!(differences(&both.compare_keys("pair", &keys, &by_rows()).await), pair);
    let ids = ["1", "2", "3", "200", "201"].map(|id| key(&[id]));
    assert_eq!(differences(&both.compare_keys("zoo", &ids, &by_rows()).await), zoo);

    let (fence, map) = (both.fence().await, both.map("zoo").await);
    let position = Position::cockroach(Hlc { wall: 7, logical: 0 });
    let back = Pair { source: fence.pair.target.clone(), target: fence.pair.source.clone(), position };
    let report = compare_table(&back, &map, &Default::default()).await.unwrap();
    let turned = ["different (id=\"1\") in a, n", "extra (id=\"2\")", "missing (id=\"200\")"];
    assert_eq!(differences(&report), turned);
    let report = compare_keys(&back, &map, &ids, &by_rows()).await.unwrap();
    assert_eq!(differences(&report), turned);
    assert_eq!(report.position, "cockroach:7.0000000000");
}

#[tokio::test]
async fn rows_are_seen_as_of_the_time() {
    let both = alike().await;
    let (fence, map) = (both.fence().await, both.map("zoo").await);
    both.target.sql("UPDATE public.zoo SET a = 'later' WHERE id < 10").await;
    both.source.sql("DELETE FROM public.zoo WHERE id = 3").await;
    assert_eq!(differences(&compare_table(&fence.pair, &map, &by_rows()).await.unwrap()), [""; 0]);
    let report = compare_keys(&fence.pair, &map, &[key(&["3"]), key(&["4"])], &by_rows()).await.unwrap();
    assert_eq!((differences(&report).len(), report.compared), (0, 2));
}

#[tokio::test]
async fn history_that_is_gone_asks_for_another_fence() {
    let both = alike().await;
    let (mut fence, map) = (both.fence().await, both.map("zoo").await);
    let past = Hlc { wall: 1_000_000_000, logical: 0 };
    fence.pair.target = tidegate_verify::Side::cockroach(both.target.settings.clone(), past, "verify".parse().unwrap());
    let problem = compare_table(&fence.pair, &map, &by_rows()).await.unwrap_err();
    assert_eq!(problem.code, "VF002", "{problem}");
}
