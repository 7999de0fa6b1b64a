//! Whether a server tells the history that a stream belongs to.

use tidegate_model::{Class, Hlc, Position};
use tidegate_source_cockroach::{History, history};

use crate::fixture::{Fixture, SHARED, name};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_of_before_is_taken_up_and_any_other_is_refused() {
    let fixture = Fixture::new(&SHARED, "history").await;
    let tables = [name("t")];
    let verify = async |history: &History, at: &Position| {
        let verified = history::verify(&fixture.session, &fixture.name, history, at, &tables).await;
        verified.map_err(|problem| (problem.code, problem.class))
    };
    assert_eq!(fixture.history.database, "history");
    assert_eq!(verify(&fixture.history, &fixture.point).await, Ok(()));
    let stored = serde_json::to_string(&fixture.history).unwrap();
    assert_eq!(serde_json::from_str::<History>(&stored).unwrap(), fixture.history);

    let elsewhere = History { database: "other".to_owned(), ..fixture.history.clone() };
    assert_eq!(verify(&elsewhere, &fixture.point).await, Err(("CR014", Class::Definite)));
    let ahead = Position::cockroach(Hlc { wall: fixture.now().await.wall + 60_000_000_000, logical: 0 });
    assert_eq!(verify(&fixture.history, &ahead).await, Err(("CR012", Class::Definite)));
    if fixture.history.cluster.is_some() {
        let another = History { cluster: Some("another".to_owned()), ..fixture.history.clone() };
        assert_eq!(verify(&another, &fixture.point).await, Err(("CR013", Class::Definite)));
    }
}
