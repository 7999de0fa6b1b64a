//! Servers that refuse, that are gone, that never answer, that are something else.

use std::time::{Duration, Instant};

use tidegate_model::{Class, Problem};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::fixture::{SERVER, connect, expect_both, refusal, settings, settings_at};

/// Listens, and gives each connection these bytes after the first it gets; without any it stays silent for ever.
async fn stub(answer: &'static [u8]) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            if !answer.is_empty() {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
            }
            held.push(stream);
        }
    });
    (port, task)
}

#[tokio::test]
async fn a_server_that_never_answers_is_transient_within_the_connect_timeout() {
    let (port, _task) = stub(b"").await;
    for mode in ["disable", "prefer", "require"] {
        let dead = settings_at(port, &format!("host=127.0.0.1 sslmode={mode}"));
        let dead = dead.connect_timeout(Duration::from_millis(400));
        let started = Instant::now();
        let problem = refusal(&dead, "CN005").await;
        assert_eq!(problem.class, Class::Transient, "{mode}");
        assert!(started.elapsed() < Duration::from_secs(5), "{mode}: two connections took {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_dead_host_leaves_time_for_the_next() {
    let (port, _task) = stub(b"").await;
    let text = format!("host=127.0.0.1,localhost port={port},{} sslmode=disable connect_timeout=4", SERVER.port());
    let started = Instant::now();
    assert!(connect(&settings(&text)).await.is_ok());
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_closed_port_and_an_unknown_name_are_transient() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let problem = refusal(&settings_at(port, "sslmode=prefer"), "CN004").await;
    assert!(problem.class == Class::Transient && problem.what.contains(&port.to_string()), "{problem}");
    let problem = refusal(&settings("host=no-such-host.invalid"), "CN004").await;
    assert!(problem.class == Class::Transient && problem.why.contains("no-such-host.invalid"), "{problem}");
    let problem = refusal(&settings("host=/nowhere"), "CN004").await;
    assert!(problem.why.contains("/nowhere/.s.PGSQL."), "{problem}");
}

#[tokio::test]
async fn all_hosts_that_failed_are_told() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let text = format!("host=127.0.0.1,/nowhere port={port},{port}");
    let problem = refusal(&settings(&text), "CN004").await;
    assert!(problem.what.contains("127.0.0.1") && problem.why.contains("/nowhere"), "{problem}");
}

#[tokio::test]
async fn a_missing_database_is_definite() {
    let problem = refusal(&settings("dbname=nowhere"), "CN010").await;
    assert!(problem.class == Class::Definite && problem.what.contains("nowhere"), "{problem}");
}

#[tokio::test]
async fn too_many_connections_are_transient() {
    let problem: Problem = connect(&settings("user=full_user")).await.unwrap_err();
    assert_eq!((problem.code, problem.class), ("CN011", Class::Transient), "{problem}");
}

#[tokio::test]
async fn a_server_that_starts_up_is_transient() {
    let (port, _task) = stub(b"E\0\0\0\x34SFATAL\0C57P03\0Mthe database system is starting\0\0").await;
    let problem = refusal(&settings_at(port, "host=127.0.0.1 sslmode=disable"), "CN011").await;
    assert!(problem.class == Class::Transient && problem.why.contains("57P03"), "{problem}");
}

#[tokio::test]
async fn a_server_that_hangs_up_is_transient() {
    let (port, _task) = stub(b"N").await;
    let problem = refusal(&settings_at(port, "host=127.0.0.1 sslmode=prefer"), "CN004").await;
    assert_eq!(problem.class, Class::Transient);
}

#[tokio::test]
async fn something_else_behind_the_port_is_definite() {
    for mode in ["disable", "require"] {
        let (port, _task) = stub(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
        let problem = refusal(&settings_at(port, &format!("host=127.0.0.1 sslmode={mode}")), "CN015").await;
        assert_eq!(problem.class, Class::Definite, "{mode}");
    }
}

#[tokio::test]
async fn a_role_without_the_right_to_replicate_is_definite() {
    let role = "no_replication";
    SERVER.psql("postgres", &format!("CREATE ROLE {role} LOGIN PASSWORD 'x'")).unwrap();
    let settings = settings(&format!("user={role} password=x"));
    let problem = crate::fixture::connect_replication(&settings).await.unwrap_err();
    assert_eq!((problem.code, problem.class), ("CN013", Class::Definite), "{problem}");
}

#[tokio::test]
async fn the_wanted_kind_of_server_is_looked_for() {
    expect_both(&settings("target_session_attrs=read-write sslmode=disable"), false).await;
    expect_both(&settings("target_session_attrs=prefer-standby sslmode=disable"), false).await;
    let problem = refusal(&settings("target_session_attrs=standby"), "CN014").await;
    assert_eq!(problem.class, Class::Transient);
}
