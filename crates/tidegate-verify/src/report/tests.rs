use serde_json::json;
use tidegate_model::{Lsn, Position, Problem, TableName};

use super::*;

fn table(verdict: Verdict) -> TableReport {
    let problem = Problem::definite("VF001", "what", "why", "next");
    TableReport { verdict, ..TableReport::unread(&TableName::new("public", "t"), &problem) }
}

#[test]
fn what_differs_differs_whatever_is_not_known() {
    let verdict = |tables: &[Verdict]| Report::new(tables.iter().copied().map(table).collect(), vec![]).verdict;
    assert_eq!(verdict(&[]), Verdict::Equal);
    assert_eq!(verdict(&[Verdict::Equal, Verdict::Unknown]), Verdict::Unknown);
    assert_eq!(verdict(&[Verdict::Unknown, Verdict::Different, Verdict::Equal]), Verdict::Different);
    let sequence =
        SequenceReport { name: "s".into(), source: "1".into(), target: "2".into(), verdict: Verdict::Different };
    assert_eq!(Report::new(vec![table(Verdict::Unknown)], vec![sequence]).verdict, Verdict::Different);
}

fn example() -> Report {
    let key = KeyText(vec![("region".into(), Some("eu".into())), ("id".into(), Some("7".into()))]);
    let report = KeyReport {
        key,
        kind: DifferenceKind::Different,
        columns: vec!["v".into()],
        values: vec![ColumnValues { column: "v".into(), source: Some("x".repeat(70)), target: None }],
        row: None,
    };
    let table = TableReport {
        name: "public.t".into(),
        verdict: Verdict::Different,
        position: Position::postgres(Lsn(0x16_B374_D848)).to_string(),
        compared: 10,
        missing: 0,
        extra: 3,
        different: 1,
        keys: vec![report],
        repaired: 0,
        seconds: 2.0,
        rows_per_second: 5.0,
        note: None,
    };
    Report::new(vec![table], vec![])
}

#[test]
fn json_has_the_keys_that_are_promised_and_reads_back() {
    let text = serde_json::to_string(&example()).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["verdict"], "different");
    assert_eq!(value["tables"][0]["name"], "public.t");
    assert_eq!(value["tables"][0]["position"], "postgres:16/B374D848");
    assert_eq!(value["tables"][0]["keys"][0]["key"], json!({"region": "eu", "id": "7"}));
    assert_eq!(value["tables"][0]["keys"][0]["kind"], "different");
    assert_eq!(value["sequences"], json!([]));
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), example());
}

#[test]
fn text_says_what_differs_and_how_much_more_there_is() {
    let shown = example().to_string();
    let cut = "x".repeat(60);
    assert_eq!(
        shown,
        format!(
            "table public.t: different at postgres:16/B374D848, 10 rows in 2.0 s, 0 missing, 3 extra, 1 different\n  \
             different (region=\"eu\", id=\"7\") in v\n    v: source \"{cut}\" and 10 bytes more, target NULL\n  \
             and 3 more\nverdict: different\n"
        )
    );
}
