//! Every kind of difference is found, with its key and its columns, and nothing else is.

use crate::fixture::*;

const ZOO: &str = "
CREATE TYPE public.mood AS ENUM ('sad', 'ok');
CREATE DOMAIN public.amount AS numeric CHECK (VALUE >= 0);
CREATE TABLE public.zoo (
    id bigint PRIMARY KEY, a text, b text, n numeric, f float8, s real, j jsonb, raw json, big bytea, at timestamptz,
    clock timetz, i interval, l int[], t text[], mood public.mood, amount public.amount, p char(5), ip inet, u uuid,
    flag boolean, bits bit(3), day date);
INSERT INTO public.zoo SELECT id, 'a' || id, 'b' || E'\\t\\n\\\\' || id, id + 0.50, 1.0 / id, 1.0 / id,
    jsonb_build_object('k', id, 'list', jsonb_build_array(id, NULL, 'x')), '{\"z\": 1, \"a\": 2}', '\\x00ff'::bytea,
    '2020-01-01 12:00:00+02', '12:00+02', '1 mon 2 days', ARRAY[id, NULL], ARRAY['a,b', 'NULL', '\"'], 'ok', id, 'ab',
    '10.0.0.1', md5(id::text)::uuid, id % 2 = 0, B'101', '0044-03-15 BC'
  FROM generate_series(1, 1000) AS id;
UPDATE public.zoo SET big = decode(repeat('ab', 1024 * 1024), 'hex') WHERE id = 500;
INSERT INTO public.zoo (id) VALUES (2000), (-9223372036854775808);";

#[tokio::test]
async fn what_is_equal_is_equal_at_the_servers_and_row_by_row() {
    let both = Both::alike(ZOO).await;
    for options in [&Default::default(), &by_rows(), &exact()] {
        let report = both.compare_by("zoo", options).await;
        assert_eq!(differences(&report), [""; 0]);
        assert_eq!((report.compared, report.position.as_str()), (1002, "postgres:0/10"));
    }
}

#[tokio::test]
async fn every_kind_of_difference_is_found_with_its_key_and_its_columns() {
    let both = Both::alike(ZOO).await;
    both.target
        .sql(
            "DELETE FROM public.zoo WHERE id = 1;
             INSERT INTO public.zoo (id) VALUES (3000);
             UPDATE public.zoo SET a = b, b = a WHERE id = 2;
             UPDATE public.zoo SET big = set_byte(big, 777777, 0) WHERE id = 500;
             UPDATE public.zoo SET f = 0.33333333333333337 WHERE id = 3;
             UPDATE public.zoo SET n = 4.51 WHERE id = 4;
             UPDATE public.zoo SET j = '{\"k\": 5, \"list\": [5, null, \"y\"]}' WHERE id = 5;
             UPDATE public.zoo SET at = at + '1 microsecond' WHERE id = 6;
             UPDATE public.zoo SET l = NULL, t = '{}' WHERE id = 7;
             UPDATE public.zoo SET a = '' WHERE id = 2000;",
        )
        .await;
    let expected = [
        "missing (id=\"1\")",
        "different (id=\"2\") in a, b",
        "different (id=\"3\") in f",
        "different (id=\"4\") in n",
        "different (id=\"5\") in j",
        "different (id=\"6\") in at",
        "different (id=\"7\") in l, t",
        "different (id=\"500\") in big",
        "different (id=\"2000\") in a",
        "extra (id=\"3000\")",
    ];
    for options in [&Default::default(), &by_rows(), &exact()] {
        assert_eq!(differences(&both.compare_by("zoo", options).await), expected);
    }
    let keys: Vec<_> = [1, 2, 3, 4, 5, 6, 7, 500, 2000, 3000, 8, 9, 12345].map(|id| key(&[&format!("{id}")])).into();
    let report = both.compare_keys("zoo", &keys, &by_rows()).await;
    assert_eq!(differences(&report), expected);
    assert_eq!(report.compared, 11);
    assert_eq!(differences(&both.compare_keys("zoo", &keys[10..], &by_rows()).await), [""; 0]);
}

#[tokio::test]
async fn another_spelling_is_no_difference_and_another_scale_one_by_exact_only() {
    let both = Both::alike(ZOO).await;
    both.target
        .sql(
            "ALTER TABLE public.zoo ALTER p TYPE text;
             UPDATE public.zoo SET p = 'ab   ' WHERE id BETWEEN 1 AND 9;
             UPDATE public.zoo SET raw = '{\"a\":2,  \"z\":1}' WHERE id = 1;
             UPDATE public.zoo SET n = 2.5 WHERE id = 2;
             UPDATE public.zoo SET f = '-0' WHERE id = 3",
        )
        .await;
    both.source.sql("UPDATE public.zoo SET f = 0 WHERE id = 3").await;
    assert_eq!(differences(&both.compare("zoo").await), [""; 0]);
    let found = differences(&both.compare_by("zoo", &exact()).await);
    assert_eq!(found, ["different (id=\"2\") in n", "different (id=\"3\") in f"]);
}

#[tokio::test]
async fn values_are_told_on_request_only() {
    let both = Both::alike(
        "CREATE TABLE public.t (id int PRIMARY KEY, v text); INSERT INTO public.t VALUES (1, 'x'), (2, 'y')",
    )
    .await;
    both.target.sql("UPDATE public.t SET v = NULL WHERE id = 1; DELETE FROM public.t WHERE id = 2").await;
    assert!(both.compare("t").await.keys.iter().all(|key| key.values.is_empty()));
    let options = tidegate_verify::Options { values: true, ..by_rows() };
    let found = differences(&both.compare_by("t", &options).await);
    assert_eq!(
        found,
        [
            "different (id=\"1\") in v\n    v: source \"x\", target NULL",
            "missing (id=\"2\")\n    id: source \"2\", target NULL\n    v: source \"y\", target NULL"
        ]
    );
}
