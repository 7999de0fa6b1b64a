//! Making, waiting for and dropping slots.

use std::sync::{Arc, Mutex};

use tidegate_connect::{ReplicationSession, Session, Settings};
use tidegate_model::{Class, MigrationName};
use tidegate_source_postgres::slot::{self, Holder, SlotRequest, Waiting};
use tidegate_throwaway::Server;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Fixture, SHARED, text, until};

#[tokio::test]
async fn the_snapshot_holds_exactly_what_the_slot_does_not_send() {
    let fixture = Fixture::new(&SHARED, "snap").await;
    fixture.insert(0..3).await;
    let request =
        SlotRequest { settings: &fixture.settings, name: &fixture.name, slot: "tidegate_snap_again", temporary: true };
    let created = slot::create_with_snapshot(request, &CancellationToken::new(), |_| {}).await.unwrap();
    fixture.insert(3..6).await;
    fixture.execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await;
    fixture.execute(&format!("SET TRANSACTION SNAPSHOT '{}'", created.snapshot_name)).await;
    assert_eq!(fixture.text("SELECT count(*)::text FROM public.t").await, "3");
    fixture.execute("ROLLBACK").await;
    drop(created);
    // A temporary slot goes with its session.
    until("the temporary slot is gone", || async {
        slot::inspect(&fixture.session, "tidegate_snap_again").await.unwrap().is_none()
    })
    .await;
}

#[tokio::test]
async fn what_creation_waits_for_is_listed_and_giving_up_leaves_nothing_behind() {
    let server = Server::builder().start().unwrap();
    let settings = Settings::parse(&server.url("postgres")).unwrap();
    let name: MigrationName = "waits".parse().unwrap();
    let session = Session::connect(&settings, "test").await.unwrap();
    let writer = Session::connect(&settings, "writer").await.unwrap();
    session.batch_execute("CREATE TABLE public.t (id int)").await.unwrap();
    session
        .batch_execute("BEGIN; INSERT INTO public.t VALUES (1); PREPARE TRANSACTION 'the prepared one'")
        .await
        .unwrap();
    let writer_pid: i32 = writer.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    writer.batch_execute("BEGIN; INSERT INTO public.t VALUES (2)").await.unwrap();

    // Given up by its token, and by dropping the future.
    for by_token in [true, false] {
        let cancel = CancellationToken::new();
        let seen: Arc<Mutex<Vec<Waiting>>> = Arc::default();
        let creation = {
            let (settings, name, cancel, seen) = (settings.clone(), name.clone(), cancel.clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                let request =
                    SlotRequest { settings: &settings, name: &name, slot: "tidegate_waits", temporary: false };
                slot::create_with_snapshot(request, &cancel, |waiting| seen.lock().unwrap().push(waiting.clone())).await
            })
        };
        until("both transactions are listed", || async {
            let seen = seen.lock().unwrap();
            let listed = |is: &dyn Fn(&Holder) -> bool| {
                seen.iter().any(|waiting| waiting.transactions.iter().any(|t| is(&t.holder) && t.age.is_some()))
            };
            listed(&|holder| matches!(holder, Holder::Prepared { gid, .. } if gid == "the prepared one"))
                && listed(&|holder| {
                    matches!(holder, Holder::Session { pid, state, query, .. }
                             if *pid == writer_pid && state == "idle in transaction" && query.contains("INSERT"))
                })
        })
        .await;
        assert!(seen.lock().unwrap().iter().any(|waiting| waiting.transactions.iter().any(|t| t.next)));
        if by_token {
            cancel.cancel();
            let problem = creation.await.unwrap().unwrap_err();
            assert_eq!((problem.code, problem.class), ("PG033", Class::Transient));
        } else {
            creation.abort();
        }
        until("neither walsender nor slot is left", || async {
            let left = "SELECT ((SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender')
                              + (SELECT count(*) FROM pg_replication_slots))::text";
            text(&session, left).await == "0"
        })
        .await;
    }

    session.batch_execute("COMMIT PREPARED 'the prepared one'").await.unwrap();
    writer.batch_execute("COMMIT").await.unwrap();
    let request = SlotRequest { settings: &settings, name: &name, slot: "tidegate_waits", temporary: false };
    slot::create_with_snapshot(request, &CancellationToken::new(), |_| {}).await.unwrap();
}

#[tokio::test]
async fn a_walsender_left_by_a_killed_process_does_not_stop_the_next_one() {
    let server = Server::builder().start().unwrap();
    let settings = Settings::parse(&server.url("postgres")).unwrap();
    let name: MigrationName = "killed".parse().unwrap();
    let session = Session::connect(&settings, "test").await.unwrap();
    session.batch_execute("CREATE TABLE public.t (id int); BEGIN; INSERT INTO public.t VALUES (1)").await.unwrap();
    // What a killed process leaves: a walsender that goes on waiting, and does not look at its socket.
    let mut left = ReplicationSession::connect(&settings, &name.application_name("slot")).await.unwrap();
    let pid = left.backend_pid();
    let waits = left.query("CREATE_REPLICATION_SLOT \"tidegate_killed\" LOGICAL pgoutput (SNAPSHOT 'export')");
    assert!(tokio::time::timeout(std::time::Duration::from_millis(500), waits).await.is_err());
    drop(left);
    let alive = format!("SELECT count(*)::text FROM pg_stat_activity WHERE pid = {pid}");
    assert_eq!(text(&session, &alive).await, "1");

    let watch = Session::connect(&settings, "watch").await.unwrap();
    let request = SlotRequest { settings: &settings, name: &name, slot: "tidegate_killed", temporary: false };
    let cancel = CancellationToken::new();
    let creation = slot::create_with_snapshot(request, &cancel, |_| {});
    let release = async {
        until("the old walsender is ended", || async { text(&watch, &alive).await == "0" }).await;
        session.batch_execute("COMMIT").await.unwrap();
    };
    let (created, ()) = tokio::join!(creation, release);
    created.unwrap();
}

#[tokio::test]
async fn a_slot_is_dropped_also_while_a_walsender_of_ours_uses_it_and_never_under_somebody_else() {
    let fixture = Fixture::new(&SHARED, "dropped").await;
    let source = fixture.start().await;
    until("the stream is open", || async { fixture.walsender().await.is_some() }).await;
    assert!(slot::drop(&fixture.session, &fixture.name, &fixture.name.object_name()).await.unwrap());
    assert!(!slot::drop(&fixture.session, &fixture.name, &fixture.name.object_name()).await.unwrap());
    drop(source);

    let other: MigrationName = "other_user".parse().unwrap();
    let fixture = Fixture::new(&SHARED, "kept").await;
    let source = fixture.start().await;
    until("the stream is open", || async { fixture.walsender().await.is_some() }).await;
    let problem = slot::drop(&fixture.session, &other, &fixture.name.object_name()).await.unwrap_err();
    let pid = fixture.walsender().await.unwrap().to_string();
    assert!(problem.code == "PG018" && problem.why.contains(&pid), "{problem}");
    source.close().await;
}

#[tokio::test]
async fn an_existing_slot_is_not_taken_over_silently() {
    let fixture = Fixture::new(&SHARED, "exists").await;
    let object = fixture.name.object_name();
    let request = SlotRequest { settings: &fixture.settings, name: &fixture.name, slot: &object, temporary: false };
    let problem = slot::create_with_snapshot(request, &CancellationToken::new(), |_| {}).await.unwrap_err();
    assert_eq!(problem.code, "PG019");
}

#[tokio::test]
async fn a_slot_that_is_refused_for_two_phase_can_be_dropped_as_the_refusal_advises() {
    let fixture = Fixture::new(&SHARED, "two_phase").await;
    let object = fixture.name.object_name();
    assert!(slot::drop(&fixture.session, &fixture.name, &object).await.unwrap());
    fixture.execute(&format!("SELECT pg_create_logical_replication_slot('{object}', 'pgoutput', false, true)")).await;
    let problem = slot::claimable(&fixture.session, &fixture.name, &object).await.unwrap_err();
    assert_eq!(problem.code, "PG015");
    assert!(slot::drop(&fixture.session, &fixture.name, &object).await.unwrap());
}

#[tokio::test]
async fn slots_are_failover_slots_where_the_server_has_them() {
    let fixture = Fixture::new(&SHARED, "failover").await;
    // Through JSON, because the column exists from version 17 on.
    let sql = "SELECT to_jsonb(s) ->> 'failover' FROM pg_replication_slots s WHERE slot_name = 'tidegate_failover'";
    let expected = if SHARED.binaries().major() >= 17 { "true" } else { "" };
    assert_eq!(fixture.text(sql).await, expected);
}
