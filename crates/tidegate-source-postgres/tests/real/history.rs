//! Each way in which a server can tell another history is refused, by its own code.

use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};

use tidegate_connect::{Session, Settings};
use tidegate_model::{Lsn, Position, Problem, Source};
use tidegate_source_postgres::{History, HistorySink, PostgresSource, SourceConfig, slot};
use tidegate_throwaway::{Server, StopMode};

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
    standby.stop(StopMode::Immediate).unwrap();
    fixture.insert(0..3).await;
    let mut source = fixture.start().await;
    let (_, ahead) = take_rows(&mut source, 3).await;
    source.close().await;
    primary.kill9();
    standby.start().unwrap();
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

/// A primary with its standby, and a stream that goes to whichever of them is writable.
struct Pair {
    primary: Server,
    standby: Server,
    fixture: Fixture,
    settings: Settings,
}

impl Pair {
    async fn new(name: &str) -> Pair {
        let primary = Server::builder().start().unwrap();
        let standby = Server::builder().start_standby_of(&primary).unwrap();
        let fixture = Fixture::new(&primary, name).await;
        let url = format!(
            "postgres://postgres:{}@127.0.0.1:{},127.0.0.1:{}/{name}?target_session_attrs=read-write",
            primary.password(),
            primary.port(),
            standby.port()
        );
        Pair { primary, standby, fixture, settings: Settings::parse(&url).unwrap() }
    }

    async fn start(&self, on_new_history: Option<HistorySink>) -> PostgresSource {
        let config = SourceConfig { settings: self.settings.clone(), on_new_history, ..self.fixture.config() };
        PostgresSource::start(config, self.fixture.point.clone(), self.fixture.history.clone()).await.unwrap()
    }

    async fn until_replayed(&self) {
        let flushed = "SELECT pg_current_wal_flush_lsn()::text";
        let written: Position = self.fixture.text(flushed).await.parse().unwrap();
        let settings = Settings::parse(&self.standby.url("postgres")).unwrap();
        let session = Session::connect(&settings, "test").await.unwrap();
        until("the standby has replayed", || async {
            let at = text(&session, "SELECT pg_last_wal_replay_lsn()::text").await;
            at.parse::<Position>().unwrap() >= written
        })
        .await;
    }

    /// Kills the primary and promotes the standby with the slot of the primary: what version 17 does by itself.
    async fn fail_over(&self) -> Session {
        self.primary.kill9();
        if self.standby.pid().is_some() {
            self.standby.stop(StopMode::Immediate).unwrap();
        }
        let slot = self.fixture.name.object_name();
        let directory = |server: &Server| server.data_dir().join("pg_replslot").join(&slot);
        let (from, to) = (directory(&self.primary), directory(&self.standby));
        let owner = std::fs::metadata(self.standby.data_dir()).unwrap();
        std::fs::create_dir(&to).unwrap();
        std::fs::copy(from.join("state"), to.join("state")).unwrap();
        for path in [to.clone(), to.join("state")] {
            std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        self.standby.start().unwrap();
        let settings = promoted(&self.fixture, &self.standby).await;
        Session::connect(&settings, "test").await.unwrap()
    }
}

#[tokio::test]
async fn a_stream_follows_a_promotion_that_lost_nothing_and_records_it_first() {
    let pair = Pair::new("followed").await;
    let stored: Arc<Mutex<Vec<u32>>> = Arc::default();
    let sink: HistorySink = {
        let stored = Arc::clone(&stored);
        Arc::new(move |history: History| {
            stored.lock().unwrap().push(history.timeline);
            Box::pin(async { Ok(()) })
        })
    };
    let mut source = pair.start(Some(sink)).await;
    pair.fixture.insert(0..3).await;
    assert_eq!(take_rows(&mut source, 3).await.0, [0, 1, 2]);
    // Let the last watermark settle, or it would lie past the switch.
    pair.until_replayed().await;
    let promoted = pair.fail_over().await;
    promoted.batch_execute("INSERT INTO public.t VALUES (3, 'x')").await.unwrap();
    assert_eq!(take_rows(&mut source, 1).await.0, [3]);
    assert_eq!(*stored.lock().unwrap(), [2]);
}

#[tokio::test]
async fn a_stream_does_not_follow_a_promotion_that_lost_what_it_has_given_out() {
    let pair = Pair::new("not_followed").await;
    let mut source = pair.start(Some(Arc::new(|_| Box::pin(async { Ok(()) })))).await;
    pair.until_replayed().await;
    // Stopped, not paused: what is in its socket it would still receive.
    pair.standby.stop(StopMode::Immediate).unwrap();
    pair.fixture.insert(0..3).await;
    assert_eq!(take_rows(&mut source, 3).await.0, [0, 1, 2]);
    pair.fail_over().await;
    let problem = loop {
        if let Err(problem) = next(&mut source).await {
            break problem;
        }
    };
    assert_eq!(problem.code, "PG022", "{problem}");
}

#[tokio::test]
async fn without_a_place_to_record_it_a_promotion_ends_the_stream() {
    let pair = Pair::new("unrecorded").await;
    let mut source = pair.start(None).await;
    pair.fixture.insert(0..1).await;
    assert_eq!(take_rows(&mut source, 1).await.0, [0]);
    pair.until_replayed().await;
    pair.fail_over().await;
    let problem = loop {
        if let Err(problem) = next(&mut source).await {
            break problem;
        }
    };
    assert_eq!(problem.code, "PG026", "{problem}");
}

#[tokio::test]
async fn a_slot_that_is_made_again_under_a_running_stream_ends_it() {
    let fixture = Fixture::new(&SHARED, "running").await;
    let mut source = fixture.start().await;
    let object = fixture.name.object_name();
    until("the stream is open", || async { fixture.walsender().await.is_some() }).await;
    fixture
        .execute(&format!(
            "BEGIN; SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots
                     WHERE slot_name = '{object}';
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
