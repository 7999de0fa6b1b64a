//! The write that turns, and the decisions around it.

use serde_json::{Value, json};
use tidegate_connect::Session;
use tidegate_model::Stream;
use tidegate_sql::fence::let_through;
use tidegate_sql::state::{Side, read_migration, write_migration};
use tidegate_sql::turn::{Book, Opening, Recorded, StepState};

use crate::support::Database;

const STEPS: [&str; 2] = ["fence", "turn"];

/// Two databases of one migration; both rows bear the name of the first.
struct Ends {
    source: Database,
    target: Database,
}

impl Ends {
    async fn new() -> Ends {
        let (source, mut target) = (Database::new("CREATE TABLE t (id int)").await, Database::new("").await);
        target.sql("TRUNCATE tidegate.migration").await;
        target.name = source.name.clone();
        write_migration(target.session(), &target.schema, &target.name, Side::Target, &json!({})).await.unwrap();
        Ends { source, target }
    }

    /// Begins the first turn, and records that it is about to be sent.
    async fn turning(&self, turn: &str) {
        let closing = book(&self.source);
        let turning = format!("begun {turn}");
        closing.begin((Stream::Forward, turn), 1, None, &turning, &STEPS, None).await.unwrap();
        closing.set(1, Some(&turning), &format!("turning {turn}")).await.unwrap();
    }
}

fn book(database: &Database) -> Book<'_> {
    Book { session: database.session(), schema: &database.schema, name: &database.name }
}

fn opening(turn: &str, generation: i64, recorded: Option<Recorded>) -> Opening {
    let none = Recorded { stream: Stream::Forward, turn: turn.to_owned(), steps: Vec::new() };
    Opening {
        turn: turn.to_owned(),
        refused: format!("aborted {turn}"),
        generation,
        phase: if generation % 2 == 1 { "reversed" } else { "initial" }.to_owned(),
        record: json!({ "c": "1.0" }),
        recorded: recorded.unwrap_or(none),
    }
}

async fn stands(database: &Database) -> (i64, String, Option<String>) {
    let row = read_migration(database.session(), &database.schema, &database.name).await.unwrap().unwrap();
    (row.generation, row.phase, row.turning)
}

#[tokio::test]
async fn a_turn_is_one_write_and_the_other_side_follows() {
    let ends = Ends::new().await;
    let (closing, opened) = (book(&ends.source), book(&ends.target));
    ends.turning("2.1").await;
    ends.source.sql("SELECT 1").await;
    // The second is what a client does that did not hear the answer to the first.
    for _ in 0..2 {
        opened.open(&opening("2.1", 1, closing.newest().await.unwrap())).await.unwrap();
    }
    assert_eq!(stands(&ends.target).await, (2, "reversed".to_owned(), None));
    let record = opened.turned().await.unwrap();
    assert_eq!(record, json!({ "c": "1.0", "turn": "2.1" }));
    for _ in 0..2 {
        closing.follow(2, "reversed", &record).await.unwrap();
    }
    assert_eq!(stands(&ends.source).await, (2, "reversed".to_owned(), None));
    // And back: what was the closing side is opened.
    opened.begin((Stream::Reverse, "3.1"), 2, None, "begun 3.1", &STEPS, None).await.unwrap();
    opened.set(2, Some("begun 3.1"), "turning 3.1").await.unwrap();
    closing.open(&opening("3.1", 2, None)).await.unwrap();
    assert_eq!(stands(&ends.source).await.0, 3);
    assert_eq!(closing.open(&opening("2.1", 1, None)).await.unwrap_err().code, "TN002");
}

#[tokio::test]
async fn what_moved_on_is_not_overwritten() {
    let ends = Ends::new().await;
    let closing = book(&ends.source);
    for _ in 0..2 {
        closing.begin((Stream::Forward, "2.1"), 1, None, "begun 2.1", &STEPS, None).await.unwrap();
    }
    let other = closing.begin((Stream::Forward, "2.2"), 1, None, "begun 2.2", &STEPS, None).await;
    assert_eq!(other.unwrap_err().code, "TN002");
    assert_eq!(closing.newest().await.unwrap().unwrap().turn, "2.1", "a refused beginning left its steps");
    closing.set(1, Some("begun 2.1"), "aborted 2.1").await.unwrap();
    assert_eq!(closing.set(1, Some("begun 2.1"), "turning 2.1").await.unwrap_err().code, "TN002");
    assert_eq!(closing.set(2, Some("aborted 2.1"), "begun 3.1").await.unwrap_err().code, "TN002");
    closing.begin((Stream::Forward, "2.2"), 1, Some("aborted 2.1"), "begun 2.2", &STEPS, None).await.unwrap();
    assert_eq!(closing.newest().await.unwrap().unwrap().turn, "2.2");
}

#[tokio::test]
async fn a_side_that_refused_a_turn_is_never_opened_by_it() {
    let ends = Ends::new().await;
    ends.turning("2.1").await;
    let opened = book(&ends.target);
    for _ in 0..2 {
        opened.set(1, None, "aborted 2.1").await.unwrap();
    }
    assert_eq!(opened.open(&opening("2.1", 1, None)).await.unwrap_err().code, "TN002");
    opened.open(&opening("2.2", 1, None)).await.unwrap();
    assert_eq!(opened.set(1, None, "aborted 2.2").await.unwrap_err().code, "TN002");
}

#[tokio::test]
async fn of_an_opening_and_a_refusal_one_takes_place() {
    for _ in 0..10 {
        let ends = Ends::new().await;
        ends.turning("2.1").await;
        let other = Session::connect(&ends.target.settings(), "test").await.unwrap();
        let (one, other) = (book(&ends.target), Book { session: &other, ..book(&ends.target) });
        let opening = opening("2.1", 1, None);
        let (opened, refused) = tokio::join!(one.open(&opening), other.set(1, None, "aborted 2.1"));
        assert_ne!(opened.is_ok(), refused.is_ok(), "{opened:?} {refused:?}");
        assert_eq!(stands(&ends.target).await.0, if opened.is_ok() { 2 } else { 1 });
    }
}

#[tokio::test]
async fn opening_ends_the_fence_in_the_same_transaction() {
    let ends = Ends::new().await;
    let source = &ends.source;
    source.fenced(&source.order("2.1", 1, &["t"])).await;
    let applier = source.client().await;
    let_through(&applier, &source.schema, &source.name).await.unwrap();
    source.sql("UPDATE tidegate.migration SET generation = 2, turning = NULL").await;
    assert!(source.session().batch_execute("INSERT INTO t VALUES (1)").await.is_err());
    book(source).open(&opening("3.1", 2, None)).await.unwrap();
    source.sql("INSERT INTO t VALUES (1)").await;
}

#[tokio::test]
async fn steps_are_kept_where_they_are_taken_and_copied() {
    let ends = Ends::new().await;
    let closing = book(&ends.source);
    let turn = (Stream::Forward, "2.1");
    closing.begin(turn, 1, None, "begun 2.1", &["fence", "drain", "turn"], None).await.unwrap();
    closing.step(turn, "fence", StepState::Begun, &Value::Null).await.unwrap();
    closing.step(turn, "fence", StepState::Done, &json!({ "tables": 2 })).await.unwrap();
    closing.step(turn, "drain", StepState::Begun, &Value::Null).await.unwrap();
    let recorded = closing.newest().await.unwrap().unwrap();
    let states: Vec<_> = recorded.steps.iter().map(|row| (row.name.as_str(), row.state)).collect();
    assert_eq!(states, [("fence", StepState::Done), ("drain", StepState::Begun), ("turn", StepState::Planned)]);
    assert!(recorded.steps[0].ended_at >= recorded.steps[0].began_at && recorded.steps[0].ended_at.is_some());
    assert_eq!(recorded.detail("fence"), &json!({ "tables": 2 }));
    book(&ends.target).open(&opening("2.1", 1, Some(recorded.clone()))).await.unwrap();
    let copied = book(&ends.target).newest().await.unwrap().unwrap();
    assert_eq!((copied.stream, copied.steps.len()), (Stream::Forward, 3));
    let apart = copied.steps[0].began_at.unwrap() - recorded.steps[0].began_at.unwrap();
    assert!(apart.abs() < 0.001, "{apart}");
    assert_eq!(closing.step(turn, "dance", StepState::Done, &Value::Null).await.unwrap_err().code, "TN002");
}
