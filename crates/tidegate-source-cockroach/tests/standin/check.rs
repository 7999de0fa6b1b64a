//! What `check` finds.

use tidegate_connect::Settings;
use tidegate_model::{Finding, Severity, TableFilter};
use tidegate_source_cockroach::check::source_findings;

use crate::fixture::{Fixture, SHARED, own};

async fn findings(fixture: &Fixture, settings: &Settings, include: &[&str]) -> Vec<Finding> {
    let include: Vec<String> = include.iter().map(ToString::to_string).collect();
    let filter = TableFilter::new(&include, &[], "tidegate").unwrap();
    let found = source_findings(settings, &fixture.name, &filter, true).await;
    found.unwrap_or_else(|problem| panic!("{problem}"))
}

fn critical(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().filter(|finding| finding.severity >= Severity::Critical).map(|finding| finding.code).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_fits_gives_nothing_critical() {
    let fixture = Fixture::new(&SHARED, "fits").await;
    let found = findings(&fixture, &fixture.settings, &[]).await;
    assert_eq!(critical(&found), Vec::<&str>::new(), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_found_with_its_fix() {
    let standin = own();
    let fixture = Fixture::new(&standin, "unfit").await;
    fixture.execute("SET CLUSTER SETTING kv.rangefeed.enabled = false").await;
    fixture.execute("ALTER TABLE public.t CONFIGURE ZONE USING gc.ttlseconds = 60").await;
    fixture.execute("CREATE TABLE public.f (a INT8 PRIMARY KEY, b STRING, FAMILY x (a), FAMILY y (b))").await;
    let found = findings(&fixture, &fixture.settings, &[]).await;
    assert_eq!(critical(&found), ["CK135", "CK141", "CK138"], "{found:?}");
    assert!(found.iter().any(|f| f.fix == "SET CLUSTER SETTING kv.rangefeed.enabled = true"));
    let found = findings(&fixture, &fixture.settings, &["nothing.*"]).await;
    assert!(critical(&found).contains(&"CK139"), "{found:?}");
    assert!(found.iter().any(|f| f.code == "CK140" && f.severity == Severity::Warning));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_without_rights_gets_its_grants() {
    let fixture = Fixture::new(&SHARED, "rights").await;
    fixture.execute("CREATE USER mover").await;
    let settings = Settings::parse(&SHARED.url("rights").replace("root@", "mover@")).unwrap();
    let found = findings(&fixture, &settings, &[]).await;
    let grant = r#"GRANT SELECT ON TABLE "public"."t" TO "mover""#;
    assert!(found.iter().any(|f| f.code == "CK144" && f.fix == grant), "{found:?}");
}
