//! Each way in which a server can tell another history is refused, by its own code.

use std::sync::{Arc, Mutex};

use tidegate_connect::{Session, Settings};
use tidegate_model::{Lsn, Position, Problem, Source};
use tidegate_source_postgres::{History, HistorySink, PostgresSource, SourceConfig, slot};
use tidegate_throwaway::Server;

use crate::fixture::{Fixture, SHARED, next, take_rows, text, until};

async fn refusal(fixture: &Fixture, settings: &Settings, at: &Position) -> Problem {
    let verified = slot::verify_resume(settings, &fixture.name, &fixture.history, at).await.unwrap_err();
    let config = SourceConfig { settings: settings.clone(), ..fixture.config() };
    let started = PostgresSource::start(config, at.clone(), fixture.history.clone()).await.unwrap_err();
    assert_eq!(verified.to_string(), started.to_string());
    started
}

#[tokio::test]
async fn the_same_server_is_accepted() {
    let fixture = Fixture::new(&SHARED, "same").await;
    let verified = slot::verify_resume(&fixture.settings, &fixture.name, &fixture.history, &fixture.point).await;
    assert_eq!(verified.unwrap(), fixture.history);
}

#[tokio::test]
async fn another_cluster_is_refused() {
    let fixture = Fixture::new(&SHARED, "moved").await;
    let other = Server::builder().start().unwrap();
    let same_name = Fixture::new(&other, "moved").await;
    assert_eq!(refusal(&fixture, &same_name.settings, &fixture.point).await.code, "PG020");
}

#[tokio::test]
async fn another_database_of_the_cluster_is_refused() {
    let fixture = Fixture::new(&SHARED, "base_a").await;
    SHARED.create_database("base_b").unwrap();
    let other = Settings::parse(&SHARED.url("base_b")).unwrap();
    assert_eq!(refusal(&fixture, &other, &fixture.point).await.code, "PG021");
    // And a new migration there cannot take the slot of the first.
    let session = Session::connect(&other, "test").await.unwrap();
    let problem = slot::claimable(&session, &fixture.name, "tidegate_base_a").await.unwrap_err();
    assert_eq!(problem.code, "PG011");
}

#[tokio::test]
async fn a_slot_that_was_dropped_and_one_that_was_made_again_are_refused() {
    let fixture = Fixture::new(&SHARED, "again").await;
    let object = fixture.name.object_name();
    slot::drop(&fixture.session, &fixture.name, &object).await.unwrap();
    assert_eq!(refusal(&fixture, &fixture.settings, &fixture.point).await.code, "PG010");
    fixture.insert(0..3).await;
    fixture.execute(&format!("SELECT pg_create_logical_replication_slot('{object}', 'pgoutput')")).await;
    let problem = refusal(&fixture, &fixture.settings, &fixture.point).await;
    assert_eq!(problem.code, "PG013");
    let lost_until = fixture.confirmed_flush().await.lsn().unwrap().to_string();
    for part in [&lost_until, &fixture.point.lsn().unwrap().to_string(), "--name again --recreate-slot"] {
        assert!(problem.to_string().contains(part), "{part} is missing in {problem}");
    }
}

#[tokio::test]
async fn slots_of_the_wrong_kind_are_refused() {
    let fixture = Fixture::new(&SHARED, "kinds").await;
    let object = fixture.name.object_name();
    for (make, code) in [
        ("SELECT pg_create_logical_replication_slot('{}', 'pgoutput', false, true)", "PG015"),
        ("SELECT pg_create_logical_replication_slot('{}', 'test_decoding')", "PG014"),
        ("SELECT pg_create_physical_replication_slot('{}')", "PG014"),
        ("SELECT pg_create_logical_replication_slot('{}', 'pgoutput', true)", "PG016"),
    ] {
        fixture.execute(&format!("SELECT pg_drop_replication_slot('{object}')")).await;
        fixture.execute(&make.replace("{}", &object)).await;
        assert_eq!(refusal(&fixture, &fixture.settings, &fixture.point).await.code, code, "{make}");
    }
}

#[tokio::test]
async fn a_slot_whose_wal_was_removed_is_refused_with_the_setting_that_removed_it() {
    let server = Server::builder()
        .setting("max_slot_wal_keep_size", "1MB")
        .setting("min_wal_size", "32MB")
        .setting("max_wal_size", "32MB")
        .start()
        .unwrap();
    let fixture = Fixture::new(&server, "lost").await;
    until("the slot is lost", || async {
        fixture.execute("CREATE TABLE public.w AS SELECT repeat('x', 500) FROM generate_series(1, 40000)").await;
        fixture.execute("DROP TABLE public.w; SELECT pg_switch_wal(); CHECKPOINT").await;
        fixture.text("SELECT wal_status FROM pg_replication_slots").await == "lost"
    })
    .await;
    let problem = refusal(&fixture, &fixture.settings, &fixture.point).await;
    assert!(problem.code == "PG012" && problem.why.contains("max_slot_wal_keep_size = 1MB"), "{problem}");
}

#[tokio::test]
async fn a_server_that_is_behind_the_checkpoint_is_refused() {
    let fixture = Fixture::new(&SHARED, "behind").await;
    let beyond = Position::postgres(Lsn(1 << 50));
    assert_eq!(refusal(&fixture, &fixture.settings, &beyond).await.code, "PG024");
}

/// Before version 17 a standby has no copy of a slot, so it is made there by hand, at a position of before.
async fn promoted(primary: &Fixture, standby: &Server) -> Settings {
    standby.promote().unwrap();
    let settings = Settings::parse(&standby.url(&primary.database)).unwrap();
    let session = Session::connect(&settings, "test").await.unwrap();
    until("the standby is a primary", || async { text(&session, "SELECT pg_is_in_recovery()::text").await == "false" })
        .await;
    settings
}

#[tokio::test]
async fn a_promotion_that_lost_what_was_applied_is_refused_with_the_range() {
    let primary = Server::builder().start().unwrap();
    let fixture = Fixture::new(&primary, "promoted").await;
    let standby = Server::builder().start_standby_of(&primary).unwrap();
    standby.pause();
    fixture.insert(0..3).await;
    let mut source = fixture.start().await;
    let (_, ahead) = take_rows(&mut source, 3).await;
    source.close().await;
    primary.kill9();
    standby.resume();
    let settings = promoted(&fixture, &standby).await;

    let problem = refusal(&fixture, &settings, &ahead).await;
    assert_eq!(problem.code, "PG022");
    assert!(problem.what.contains(&ahead.lsn().unwrap().to_string()), "{problem}");
    // With a checkpoint from before the promotion the history holds, but the slot is gone.
    assert_eq!(refusal(&fixture, &settings, &fixture.point).await.code, "PG010");
}

#[tokio::test]
async fn a_server_on_a_timeline_that_ours_does_not_lead_to_is_refused() {
    let mut fixture = Fixture::new(&SHARED, "former_primary").await;
    fixture.history = History { timeline: 7, ..fixture.history };
    assert_eq!(refusal(&fixture, &fixture.settings, &fixture.point).await.code, "PG023");
}

#[tokio::test]
async fn a_promotion_after_the_checkpoint_is_accepted_and_recorded_before_anything_else() {
    let primary = Server::builder().start().unwrap();
    let standby = Server::builder().start_standby_of(&primary).unwrap();
    let fixture = Fixture::new(&primary, "followed").await;
    let replayed: Position = fixture.text("SELECT pg_current_wal_flush_lsn()::text").await.parse().unwrap();
    let settings = Settings::parse(&standby.url("postgres")).unwrap();
    let on_standby = Session::connect(&settings, "test").await.unwrap();
    until("the standby has replayed", || async {
        let at = text(&on_standby, "SELECT pg_last_wal_replay_lsn()::text").await;
        at.parse::<Position>().unwrap() >= replayed
    })
    .await;
    primary.kill9();
    let settings = promoted(&fixture, &standby).await;
    let session = Session::connect(&settings, "test").await.unwrap();
    // Stands for a synchronised slot: its position is after the promotion, and so is the checkpoint here.
    let made = "SELECT lsn::text FROM pg_create_logical_replication_slot('tidegate_followed', 'pgoutput')";
    let at: Position = text(&session, made).await.parse().unwrap();
    let on_new_timeline = History { timeline: 2, ..fixture.history.clone() };
    let old_history = refusal(&fixture, &settings, &at).await;
    assert_eq!(old_history.code, "PG022", "a position past the switch is not one of timeline 1");
    let verified = slot::verify_resume(&settings, &fixture.name, &on_new_timeline, &at).await.unwrap();
    assert_eq!(verified, on_new_timeline);

    // A checkpoint from before the switch, with a slot that reaches back: only the record of the new timeline lets it go on.
    let stored: Arc<Mutex<Vec<u32>>> = Arc::default();
    let sink: HistorySink = {
        let stored = Arc::clone(&stored);
        Arc::new(move |history: History| {
            stored.lock().unwrap().push(history.timeline);
            Box::pin(async { Ok(()) })
        })
    };
    let config = SourceConfig { settings, on_new_history: Some(sink), ..fixture.config() };
    let mut source = PostgresSource::start(config, at, on_new_timeline).await.unwrap();
    session.batch_execute("INSERT INTO public.t VALUES (1, 'x')").await.unwrap();
    assert_eq!(take_rows(&mut source, 1).await.0, [1]);
    assert!(stored.lock().unwrap().is_empty(), "the timeline was known");
}

#[tokio::test]
async fn a_slot_that_is_made_again_under_a_running_stream_ends_it() {
    let fixture = Fixture::new(&SHARED, "running").await;
    let mut source = fixture.start().await;
    let object = fixture.name.object_name();
    until("the stream is open", || async { fixture.walsender().await.is_some() }).await;
    fixture
        .execute(&format!(
            "BEGIN; SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = '{object}';
             SELECT pg_drop_replication_slot('{object}'); COMMIT"
        ))
        .await;
    let problem = loop {
        if let Err(problem) = next(&mut source).await {
            break problem;
        }
    };
    assert_eq!(problem.code, "PG010");
    assert_eq!(source.received().borrow().ended, Some("PG010"));
    assert_eq!(source.next().await.unwrap_err().code, "PG063");
}
