//! Sequences of every kind, from one PostgreSQL to another.

use tidegate_sql::sequences::{Pair, Sequence, Verdict, advance, compare, is_free, list_sequences, pair};

use crate::support::Database;

const SEQUENCES: &str = r#"
CREATE TABLE a (id serial PRIMARY KEY, n bigint GENERATED ALWAYS AS IDENTITY, s smallserial);
CREATE SEQUENCE alone START 1000 INCREMENT 10;
CREATE SEQUENCE down INCREMENT -1 MINVALUE -50 MAXVALUE -1;
CREATE SEQUENCE round MINVALUE 1 MAXVALUE 5 CYCLE;
CREATE SEQUENCE cached CACHE 40;
CREATE SEQUENCE fresh START 7;
CREATE SEQUENCE ready;
CREATE SEQUENCE "Odd ""name";
CREATE SEQUENCE done MAXVALUE 3;
"#;
const USED: &str = r#"
INSERT INTO a DEFAULT VALUES; INSERT INTO a DEFAULT VALUES;
SELECT nextval('alone'), nextval('alone'), nextval('down'), nextval('cached'), nextval('"Odd ""name"');
SELECT nextval('round') FROM generate_series(1, 7);
SELECT nextval('done') FROM generate_series(1, 3);
SELECT setval('ready', 500, false);
"#;

fn named<'a>(sequences: &'a [Sequence], name: &str) -> &'a Sequence {
    sequences.iter().find(|sequence| &*sequence.name.name == name).unwrap()
}

async fn pairs(source: &Database, target: &Database) -> Vec<Pair> {
    let (one, other) =
        (list_sequences(source.session()).await.unwrap(), list_sequences(target.session()).await.unwrap());
    pair(&one, &other, |owner| Some(owner.clone()))
}

#[tokio::test]
async fn the_next_values_are_free_on_the_other_side() {
    let (source, target) = (Database::new(SEQUENCES).await, Database::new(SEQUENCES).await);
    source.sql(USED).await;
    target.sql("SELECT setval('alone', 9000)").await;
    let found = pairs(&source, &target).await;
    assert!(found.iter().all(|pair| compare(pair).verdict == Verdict::Equal));
    advance(target.session(), &found, 10).await.unwrap();
    let moved = list_sequences(target.session()).await.unwrap();
    let next = |name: &str| named(&moved, name).next();
    assert_eq!((next("a_id_seq"), next("a_n_seq"), next("a_s_seq")), (Some(13), Some(13), Some(13)));
    assert_eq!((next("alone"), next("down"), next("cached")), (Some(9010), Some(-12), Some(81)));
    assert_eq!((next("fresh"), next("ready"), next("done")), (Some(7), Some(500), None));
    assert_eq!((next("Odd \"name"), next("round")), (Some(12), Some(3)));
    for Pair { source, target } in pairs(&source, &target).await {
        assert!(is_free(&source, &target.unwrap()), "{source:?}");
    }
    // Again, after a crash: nothing moves.
    let again = advance(target.session(), &pairs(&source, &target).await, 10).await.unwrap();
    assert!(again.iter().all(|advanced| !advanced.moved), "{again:?}");
    // And back, when the other side has gone on.
    target.sql("SELECT nextval('alone'), nextval('round'), nextval('ready')").await;
    advance(source.session(), &pairs(&target, &source).await, 10).await.unwrap();
    let back = list_sequences(source.session()).await.unwrap();
    assert_eq!((named(&back, "alone").next(), named(&back, "ready").next()), (Some(9120), Some(511)));
}

#[tokio::test]
async fn what_differs_is_named() {
    let source = Database::new("CREATE SEQUENCE s; CREATE SEQUENCE gone; CREATE TABLE t (id serial)").await;
    let target = Database::new(
        "CREATE SEQUENCE s AS int INCREMENT 2 CYCLE; CREATE TABLE t (id serial); \
         ALTER SEQUENCE t_id_seq RENAME TO other",
    )
    .await;
    let found = pairs(&source, &target).await;
    let of = |name: &str| compare(found.iter().find(|pair| &*pair.source.name.name == name).unwrap());
    assert_eq!(of("s").differs, ["AS", "INCREMENT", "MAXVALUE", "CYCLE"]);
    assert_eq!(of("gone").verdict, Verdict::Missing);
    // Found by its column.
    assert_eq!(of("t_id_seq").verdict, Verdict::Equal);
}
