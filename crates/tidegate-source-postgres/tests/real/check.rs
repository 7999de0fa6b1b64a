//! What `check` finds at a real server, and that a role which follows its advice passes.

use tidegate_connect::{Session, Settings};
use tidegate_model::{Finding, MigrationName, Severity, TableFilter};
use tidegate_source_postgres::check::source_findings;
use tidegate_throwaway::Server;

async fn findings(settings: &Settings, include: &[&str]) -> Vec<Finding> {
    let include: Vec<String> = include.iter().map(|pattern| (*pattern).to_owned()).collect();
    let filter = TableFilter::new(&include, &[], "tidegate").unwrap();
    let name: MigrationName = "checked".parse().unwrap();
    source_findings(settings, &name, &filter).await.unwrap()
}

fn codes(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().map(|finding| finding.code).collect()
}

#[tokio::test]
async fn following_the_advice_of_each_finding_leads_to_a_pass() {
    let server = Server::builder().setting("max_slot_wal_keep_size", "1GB").start().unwrap();
    server
        .psql(
            "postgres",
            "CREATE ROLE owner; CREATE ROLE mover LOGIN PASSWORD 'm'; GRANT CREATE ON DATABASE postgres TO owner;
             SET ROLE owner; CREATE SCHEMA shop;
             CREATE TABLE shop.orders (id int PRIMARY KEY); CREATE TABLE shop.log (x int NOT NULL UNIQUE, y int);
             CREATE TABLE shop.secret (id int PRIMARY KEY); ALTER TABLE shop.secret ENABLE ROW LEVEL SECURITY;",
        )
        .unwrap();
    let settings = Settings::parse(&server.url_as("mover", "m", "postgres")).unwrap();
    let admin = Session::connect(&Settings::parse(&server.url("postgres")).unwrap(), "admin").await.unwrap();

    let found = findings(&settings, &[]).await;
    assert_eq!(codes(&found), ["CK010", "CK006", "CK014", "CK018", "CK013", "CK012", "CK011"], "{found:#?}");
    for finding in &found {
        assert_eq!(finding.severity, Severity::Critical);
        // Some fixes offer a second way after the first, or explain it.
        let fix = finding.fix.split(';').next().unwrap().split(" (").next().unwrap();
        admin.batch_execute(fix).await.unwrap_or_else(|error| panic!("{fix}: {error}"));
    }
    let left = findings(&settings, &[]).await;
    assert!(left.is_empty(), "{left:#?}");
}

#[tokio::test]
async fn a_server_that_refuses_replication_only_is_told_apart_from_a_role_that_may_not() {
    let server = Server::builder()
        .hba("host all mover 127.0.0.1/32 scram-sha-256")
        .setting("wal_level", "replica")
        .setting("max_replication_slots", "0")
        .start()
        .unwrap();
    server.psql("postgres", "CREATE ROLE mover LOGIN PASSWORD 'm' REPLICATION SUPERUSER").unwrap();
    let settings = Settings::parse(&server.url_as("mover", "m", "postgres")).unwrap();
    let found = findings(&settings, &["shop.*"]).await;
    assert_eq!(codes(&found), ["CK003", "CK004", "CK009", "CK024", "CK020"], "{found:#?}");
}

#[tokio::test]
async fn a_table_that_cannot_be_carried_is_critical() {
    let server = Server::builder().start().unwrap();
    server
        .psql(
            "postgres",
            "CREATE UNLOGGED TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);
             CREATE TABLE c (PRIMARY KEY (id)) INHERITS (b);",
        )
        .unwrap();
    let found = findings(&Settings::parse(&server.url("postgres")).unwrap(), &[]).await;
    assert_eq!(codes(&found), ["CK009", "CK015", "CK017"], "{found:#?}");
    assert_eq!(found[1].subject, "public.a");
}
