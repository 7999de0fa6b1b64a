//! The certificate.

use insta::assert_snapshot;
use tidegate_control::*;

use crate::fixture::*;

fn certificate() -> Certificate {
    Certificate {
        migration: "orders".to_owned(),
        id: ID,
        direction: Direction::Cutover,
        immediate: false,
        asked_by: Some("ada@ops1".to_owned()),
        turned_at: "2026-11-29T20:15:00Z".to_owned(),
        closed_at: Some("postgres:16/B374D848".parse().unwrap()),
        opened_at: Some("cockroach:1701102296662969433.0000000012".parse().unwrap()),
        tables: vec![TableProof {
            name: "public.orders".to_owned(),
            rows: 5_000_000,
            compared_in_block: 213,
            checksum: Some("9f86d081".to_owned()),
            verdict: Verdict::Equal,
        }],
        sequences: vec![
            SequenceProof {
                name: "public.orders_id_seq".to_owned(),
                closed_last: Some(5_000_100),
                opened_next: 5_001_101,
            },
            SequenceProof { name: "public.spare".to_owned(), closed_last: None, opened_next: 1 },
        ],
        steps: vec![
            StepTime { step: Step::Fence, took_ms: 41 },
            StepTime { step: Step::Drain, took_ms: 120 },
            StepTime { step: Step::Turn, took_ms: 12 },
        ],
        write_blocked_ms: 611,
        resolved_wait_ms: 0,
        accepted: vec!["CT013".to_owned()],
        breaches: 0,
        conflicts: Vec::new(),
    }
}

#[test]
fn it_says_what_was_proved() {
    assert_snapshot!(certificate());
}

#[test]
fn it_survives_its_json() {
    let json = serde_json::to_string(&certificate()).unwrap();
    assert_eq!(serde_json::from_str::<Certificate>(&json).unwrap(), certificate());
}

#[test]
fn its_verdict_is_that_of_the_worst_table() {
    let mut certificate = certificate();
    certificate.tables.push(TableProof { verdict: Verdict::Unknown, ..certificate.tables[0].clone() });
    assert_eq!(certificate.verdict(), Verdict::Unknown);
    certificate.tables.push(TableProof { verdict: Verdict::Different, ..certificate.tables[0].clone() });
    assert_eq!(certificate.verdict(), Verdict::Different);
}

#[test]
fn an_immediate_turn_proves_nothing() {
    let certificate = Certificate { immediate: true, resolved_wait_ms: 4100, asked_by: None, ..certificate() };
    assert_eq!(certificate.verdict(), Verdict::Unknown);
    assert!(certificate.to_string().contains("IMMEDIATE"));
}

#[test]
fn a_turn_behind_a_breach_proves_nothing_and_says_so() {
    let certificate = Certificate { breaches: 2, ..certificate() };
    assert_eq!(certificate.verdict(), Verdict::Unknown);
    assert!(certificate.to_string().contains("2 transactions by others at the target before it was opened"));
}
