//! The write that turns, and the decisions around it.

use serde_json::json;
use tidegate_connect::Session;
use tidegate_sql::fence::let_through;
use tidegate_sql::state::{Pair, Side, read_migration, write_migration};
use tidegate_sql::turn::{
    Opening, Standing, Step, StepState, Turning, Withdrawal, abort, begin, copy_steps, follow, open, read_steps,
    read_turned, record_step, send, standing, withdraw,
};

use crate::support::Database;

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

    async fn standing(&self) -> Standing {
        let read = |session| read_migration(session, &self.source.schema, &self.source.name);
        let source = read(self.source.session()).await.unwrap();
        let target = read(self.target.session()).await.unwrap();
        standing(&self.source.name, &Pair { source, target }).unwrap()
    }

    async fn begin(&self, turn: &str) {
        for end in [&self.target, &self.source] {
            begin(end.session(), &end.schema, &end.name, 1, turn).await.unwrap();
        }
    }

    async fn open(&self, session: &Session, opening: &Opening) -> Option<&'static str> {
        open(session, &self.source.schema, &self.source.name, opening).await.err().map(|problem| problem.code)
    }
}

fn opening(turn: &str, generation: i64) -> Opening {
    let phase = if generation % 2 == 1 { "reversed" } else { "initial" };
    Opening { turn: turn.to_owned(), generation, phase: phase.to_owned(), record: json!({ "c": "1.0" }) }
}

#[tokio::test]
async fn a_turn_is_one_write_and_the_other_side_follows() {
    let ends = Ends::new().await;
    let (source, target) = (&ends.source, &ends.target);
    ends.begin("a").await;
    ends.begin("a").await;
    assert_eq!(ends.standing().await.turning, Some(Turning::Prepared("a".to_owned())));
    for _ in 0..2 {
        send(source.session(), &source.schema, &source.name, 1, "a").await.unwrap();
    }
    assert_eq!(ends.standing().await.turning, Some(Turning::Sent("a".to_owned())));
    // The second is what a client does that did not hear the answer to the first.
    for _ in 0..2 {
        assert_eq!(ends.open(target.session(), &opening("a", 1)).await, None);
    }
    let stands = ends.standing().await;
    assert_eq!((stands.generation, stands.open, stands.behind), (2, Side::Target, Some(Side::Source)));
    assert_eq!(stands.phase, "reversed");
    for _ in 0..2 {
        follow(source.session(), &source.schema, &source.name, &opening("a", 1)).await.unwrap();
    }
    let stands = ends.standing().await;
    assert_eq!((stands.behind, stands.turning), (None, None));
    let turned = read_turned(source.session(), &source.schema, &source.name).await.unwrap().unwrap();
    assert_eq!(turned, (2, json!({ "c": "1.0", "turn": "a" })));
    // And back. What was the closing side is opened, and its fence ends.
    for end in [source, target] {
        begin(end.session(), &end.schema, &end.name, 2, "b").await.unwrap();
    }
    assert_eq!(ends.open(source.session(), &opening("b", 2)).await, None);
    assert_eq!(ends.standing().await.open, Side::Source);
    assert_eq!(ends.open(source.session(), &opening("b", 1)).await, Some("TN002"));
}

#[tokio::test]
async fn before_it_was_sent_one_side_alone_aborts() {
    let ends = Ends::new().await;
    let source = &ends.source;
    ends.begin("a").await;
    for _ in 0..2 {
        abort(source.session(), &source.schema, &source.name, 1, "a", false).await.unwrap();
    }
    assert_eq!(send(source.session(), &source.schema, &source.name, 1, "a").await.unwrap_err().code, "TN002");
    // The same turn never begins again, another one does; the side that was not told is told first.
    assert_eq!(begin(source.session(), &source.schema, &source.name, 1, "a").await.unwrap_err().code, "TN002");
    let target = &ends.target;
    assert_eq!(begin(target.session(), &target.schema, &target.name, 1, "b").await.unwrap_err().code, "TN002");
    withdraw(target.session(), &target.schema, &target.name, 1, "a").await.unwrap();
    ends.begin("b").await;
}

#[tokio::test]
async fn once_sent_the_other_side_decides() {
    let ends = Ends::new().await;
    let (source, target) = (&ends.source, &ends.target);
    ends.begin("a").await;
    send(source.session(), &source.schema, &source.name, 1, "a").await.unwrap();
    assert_eq!(abort(source.session(), &source.schema, &source.name, 1, "a", false).await.unwrap_err().code, "TN002");
    for _ in 0..2 {
        let withdrawn = withdraw(target.session(), &target.schema, &target.name, 1, "a").await.unwrap();
        assert_eq!(withdrawn, Withdrawal::Withdrawn);
    }
    // An opening that was on its way comes too late.
    assert_eq!(ends.open(target.session(), &opening("a", 1)).await, Some("TN002"));
    for _ in 0..2 {
        abort(source.session(), &source.schema, &source.name, 1, "a", true).await.unwrap();
    }
    ends.begin("b").await;
    send(source.session(), &source.schema, &source.name, 1, "b").await.unwrap();
    assert_eq!(ends.open(target.session(), &opening("b", 1)).await, None);
    let late = withdraw(target.session(), &target.schema, &target.name, 1, "b").await.unwrap();
    assert_eq!(late, Withdrawal::Opened);
    assert_eq!(withdraw(target.session(), &target.schema, &target.name, 1, "c").await.unwrap_err().code, "TN004");
}

#[tokio::test]
async fn of_an_opening_and_a_withdrawal_one_takes_place() {
    for _ in 0..10 {
        let ends = Ends::new().await;
        let target = &ends.target;
        ends.begin("a").await;
        let other = target.session();
        let one = Session::connect(&ends.source.settings(), "test").await.unwrap();
        drop(one);
        let opening = opening("a", 1);
        let (opened, withdrawn) =
            tokio::join!(ends.open(target.session(), &opening), withdraw(other, &target.schema, &target.name, 1, "a"));
        match withdrawn.unwrap() {
            Withdrawal::Opened => assert_eq!(opened, None),
            Withdrawal::Withdrawn => assert_eq!(opened, Some("TN002")),
        }
    }
}

#[tokio::test]
async fn opening_ends_the_fence_in_the_same_transaction() {
    let ends = Ends::new().await;
    let source = &ends.source;
    source.fenced(&source.order("a", 1, &["t"])).await;
    let applier = source.client().await;
    let_through(&applier, &source.schema, &source.name).await.unwrap();
    source.sql("UPDATE tidegate.migration SET generation = 2, turning = NULL").await;
    begin(source.session(), &source.schema, &source.name, 2, "b").await.unwrap();
    assert!(source.session().batch_execute("INSERT INTO t VALUES (1)").await.is_err());
    assert_eq!(ends.open(source.session(), &opening("b", 2)).await, None);
    source.sql("INSERT INTO t VALUES (1)").await;
}

#[tokio::test]
async fn steps_are_kept_where_they_are_taken_and_copied() {
    let ends = Ends::new().await;
    let key = ends.source.key();
    let step = |step: &str, place, state| Step {
        turn: "a".to_owned(),
        generation: 1,
        step: step.to_owned(),
        place,
        state,
        began_at: 0.0,
        ended_at: None,
        detail: json!({ "tables": 2 }),
    };
    record_step(ends.source.session(), &key, &step("fence", 1, StepState::Began)).await.unwrap();
    record_step(ends.source.session(), &key, &step("fence", 1, StepState::Done)).await.unwrap();
    record_step(ends.source.session(), &key, &step("drain", 2, StepState::Began)).await.unwrap();
    let steps = read_steps(ends.source.session(), &key, "a").await.unwrap();
    assert_eq!(steps.iter().map(|step| step.step.as_str()).collect::<Vec<_>>(), ["fence", "drain"]);
    assert_eq!(steps[0].state, StepState::Done);
    assert!(steps[0].ended_at.unwrap() >= steps[0].began_at);
    assert_eq!(steps[1].ended_at, None);
    for _ in 0..2 {
        copy_steps(ends.target.session(), &key, &steps).await.unwrap();
    }
    let copied = read_steps(ends.target.session(), &key, "a").await.unwrap();
    assert_eq!(copied.len(), 2);
    assert!((copied[0].began_at - steps[0].began_at).abs() < 0.001);
}
