//! Every form in which CockroachDB writes a value is the value that PostgreSQL reads.

mod cases;

use cases::{CASES, Case, REFUSED};
use tidegate_connect::{Session, Settings};
use tidegate_source_cockroach::value::{Kind, write};
use tidegate_throwaway::Server;

fn text(cockroach: &str, json: &str) -> Result<Option<String>, String> {
    let kind = Kind::of_type(cockroach).unwrap_or_else(|| panic!("{cockroach} has no kind"));
    let mut out = Vec::new();
    let is_there = write(&kind, json, &mut out).map_err(|error| error.to_string())?;
    Ok(is_there.then(|| String::from_utf8(out).unwrap()))
}

#[test]
fn every_form_of_every_type_has_its_text() {
    for Case { cockroach, json, text: expected, .. } in CASES {
        assert_eq!(text(cockroach, json).unwrap().as_deref(), *expected, "{cockroach} {json}");
    }
}

#[test]
fn what_is_not_of_its_type_is_refused_without_showing_it() {
    for (cockroach, json, says) in REFUSED {
        let error = text(cockroach, json).unwrap_err();
        assert!(error.contains(says), "{cockroach} {json}: {error}");
    }
}

#[test]
fn composites_have_no_kind() {
    for name in ["RECORD", "tuple{int, string}", "public.address", "address[]"] {
        assert_eq!(Kind::of_type(name), None, "{name}");
    }
}

#[tokio::test]
async fn postgres_reads_every_text_as_the_value_it_stands_for() {
    let server = Server::builder().start().unwrap();
    let session = Session::connect(&Settings::parse(&server.url("postgres")).unwrap(), "test").await.unwrap();
    session
        .batch_execute("SET search_path = public; SET timezone = 'UTC'; CREATE TYPE mood AS ENUM ('open', 'it''s')")
        .await
        .unwrap();
    let mut wrong = Vec::new();
    for Case { cockroach, postgres, json, text, value } in CASES.iter().filter(|case| !case.postgres.is_empty()) {
        let sql = format!(
            "SELECT got::text, value::text
             FROM (SELECT ($1::text)::{postgres} AS got, ({value})::{postgres} AS value) AS both_ways"
        );
        match session.query_one(&sql, &[text]).await {
            Ok(row) => {
                let (got, value): (Option<String>, Option<String>) = (row.get(0), row.get(1));
                if got != value {
                    wrong.push(format!("{cockroach} {json} as {postgres}: {got:?}, not {value:?}"));
                }
            }
            Err(error) => wrong.push(format!("{cockroach} {json} as {postgres}: {error:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
