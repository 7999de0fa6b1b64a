//! What users of throw-away servers rely on, tried on a real one.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tidegate_throwaway::{Server, StopMode};

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within 30 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_server_keeps_what_it_answered_through_kills_and_goes_with_its_value() {
    let server = Server::builder().setting("wal_sender_timeout", "5s").start().unwrap();
    assert_eq!(server.psql("postgres", "SHOW wal_level; SHOW wal_sender_timeout").unwrap(), "logical\n5s");
    server.create_database("a b").unwrap();
    server.psql("a b", "CREATE TABLE t (i int); INSERT INTO t VALUES (1)").unwrap();
    let port = server.port();
    server.kill9();
    assert!(server.pid().is_none() && server.psql("postgres", "SELECT 1").is_err());
    server.start().unwrap();
    server.stop(StopMode::Immediate).unwrap();
    server.restart().unwrap();
    assert_eq!((server.port(), server.psql("a b", "TABLE t").unwrap().as_str()), (port, "1"));
    let directory = server.data_dir();
    drop(server);
    assert!(!directory.exists());
}

#[test]
fn a_paused_server_answers_after_it_was_resumed() {
    let server = Server::builder().start().unwrap();
    server.pause();
    let mut query = server.psql_command("postgres").args(["-c", "SELECT 1"]).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(query.try_wait().unwrap().is_none(), "a paused server answered");
    server.resume();
    assert!(query.wait().unwrap().success());
}

#[test]
fn a_promoted_standby_is_on_a_new_timeline_of_the_same_history() {
    let primary = Server::builder().start().unwrap();
    let standby = Server::builder().start_standby_of(&primary).unwrap();
    primary.psql("postgres", "CREATE TABLE t (i int)").unwrap();
    wait_until("the standby replays", || standby.psql("postgres", "TABLE t").is_ok());
    standby.promote().unwrap();
    standby.psql("postgres", "INSERT INTO t VALUES (1)").unwrap();
    let identity =
        |server: &Server| server.psql("postgres", "SELECT system_identifier FROM pg_control_system()").unwrap();
    assert_eq!(identity(&primary), identity(&standby));
    let timeline = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";
    assert_eq!(standby.psql("postgres", timeline).unwrap(), "00000002");
}

#[test]
fn a_server_that_cannot_start_shows_its_log() {
    let error = Server::builder().setting("shared_buffers", "plenty").start().unwrap_err().to_string();
    assert!(error.contains("shared_buffers"), "{error}");
}

/// Runs this test binary again, has that process start a server, and kills it.
#[test]
fn a_server_ends_with_a_killed_starter() {
    const ROLE: &str = "TIDEGATE_THROWAWAY_TEST_STARTER";
    if let Some(report) = std::env::var_os(ROLE) {
        let server = Server::builder().start().unwrap();
        std::fs::write(report, server.data_dir().to_str().unwrap()).unwrap();
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let report = scratch.path().join("data_dir");
    let mut starter = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_server_ends_with_a_killed_starter"])
        .env(ROLE, &report)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the starter starts its server", || report.exists() && std::fs::metadata(&report).unwrap().len() > 0);
    let data_dir = PathBuf::from(std::fs::read_to_string(&report).unwrap());
    let pid = std::fs::read_to_string(data_dir.join("postmaster.pid")).unwrap().lines().next().unwrap().to_owned();
    starter.kill().unwrap();
    starter.wait().unwrap();
    wait_until("the server ends", || !data_dir.exists() && !PathBuf::from(format!("/proc/{pid}")).exists());
}
