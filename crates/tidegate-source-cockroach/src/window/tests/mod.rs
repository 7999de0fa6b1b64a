mod copies;
mod histories;
mod spooling;

use std::collections::BTreeMap;

use bytes::Bytes;
use tidegate_model::{Change, Changes, CommitPosition, NewRow, OldRow, Row, SourceTable, Timestamp, Value};

use super::*;
use crate::table::tests::table;

fn at(wall: u64) -> Hlc {
    Hlc { wall, logical: 0 }
}

fn spool(memory_budget_bytes: u64) -> Spool {
    Spool::new(std::env::temp_dir(), None, memory_budget_bytes).unwrap()
}

fn window(start: u64, memory_budget_bytes: u64) -> Window {
    Window::new(at(start), spool(memory_budget_bytes))
}

/// A table `id, v`, with a key or without.
fn keyed(id: u32) -> Arc<TableInfo> {
    table(id, &format!("keyed{id}"), &[("*id", "INT8"), ("v", "STRING")])
}

fn keyless(id: u32) -> Arc<TableInfo> {
    table(id, &format!("keyless{id}"), &[("id", "INT8"), ("v", "STRING")])
}

fn values(id: u64, v: &str) -> Row {
    [Value::Text(id.to_string().as_bytes()), Value::Text(v.as_bytes())].into_iter().collect()
}

/// What a feed says of row `id`, which was `before` and is `after`.
fn fed(table: &Arc<TableInfo>, updated: u64, id: u64, before: Option<&str>, after: Option<&str>) -> FeedRow {
    let change = match (before, after) {
        (None, None) => RowChange::Nothing,
        (None, Some(new)) => RowChange::Insert(values(id, new)),
        (Some(old), Some(new)) => {
            let old = table.carries_old_rows().then(|| values(id, old));
            RowChange::Update { old, new: values(id, new) }
        }
        (Some(old), None) => RowChange::Delete(OldRow::Full(values(id, old))),
    };
    let key = Bytes::from(format!("[{id}]"));
    FeedRow { table: Arc::clone(table), key, updated: at(updated), mvcc: Some(at(updated)), change }
}

fn drain(window: &mut Window) -> Vec<Event> {
    std::iter::from_fn(|| window.next_event().unwrap()).collect()
}

/// Shows events: `1: -keyed1[1] ~keyed1[2]=b +keyed1[3]=c` for a transaction, `<=2` for a watermark.
fn shown(events: &[Event]) -> Vec<String> {
    let time = |position: &Position| match position.commit {
        CommitPosition::Cockroach(Hlc { wall, .. }) => wall,
        CommitPosition::Postgres(_) => panic!(),
    };
    let event = |event: &Event| match event {
        Event::Watermark(position) => format!("<={}", time(position)),
        Event::Commit(transaction) => {
            assert_eq!(transaction.committed_at, Timestamp((time(&transaction.position) / 1_000) as i64));
            let changes = transaction.changes.read().unwrap().map(|change| shown_change(&change.unwrap()));
            format!("{}: {}", time(&transaction.position), changes.collect::<Vec<_>>().join(" "))
        }
    };
    events.iter().map(event).collect()
}

fn shown_change(change: &Change) -> String {
    let text = |row: &Row, column: usize| match row.value(column) {
        Value::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    let of = |table: &SourceTable, row: &Row| format!("{}[{}]", table.name.name, text(row, 0));
    match change {
        Change::Insert { table, new } => format!("+{}={}", of(table, new), text(new, 1)),
        Change::Update { table, old: None, new: NewRow::Full(new) } => {
            format!("~{}={}", of(table, new), text(new, 1))
        }
        Change::Update { table, old: Some(OldRow::Full(old)), new: NewRow::Full(new) } => {
            format!("~{}={}>{}", of(table, new), text(old, 1), text(new, 1))
        }
        Change::Delete { table, old: OldRow::Full(old) } => format!("-{}", of(table, old)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn equal_timestamps_are_a_transaction_and_come_out_in_time_order() {
    let mut window = window(0, 1 << 20);
    let (a, b) = (keyed(1), keyed(2));
    window.push(fed(&b, 2_000, 1, None, Some("x"))).unwrap();
    window.push(fed(&a, 2_000, 3, None, Some("new"))).unwrap();
    window.push(fed(&a, 2_000, 1, Some("old"), Some("x"))).unwrap();
    window.push(fed(&a, 1_000, 1, None, Some("old"))).unwrap();
    window.push(fed(&b, 2_000, 9, Some("z"), None)).unwrap();
    window.push(fed(&a, 5_000, 7, None, Some("later"))).unwrap();
    assert!(drain(&mut window).is_empty());
    window.resolved(at(4_000));
    assert_eq!(
        shown(&drain(&mut window)),
        ["1000: +keyed1[1]=old", "2000: -keyed2[9] ~keyed1[1]=x +keyed1[3]=new +keyed2[1]=x", "<=4000"]
    );
    window.resolved(at(5_000));
    assert_eq!(shown(&drain(&mut window)), ["5000: +keyed1[7]=later", "<=5000"]);
}

#[test]
fn what_was_given_out_is_a_repeat_and_older_resolved_timestamps_say_nothing() {
    let mut window = window(10, 1 << 20);
    let table = keyed(1);
    for time in [9, 10, 11] {
        window.push(fed(&table, time, 1, None, Some("x"))).unwrap();
    }
    window.resolved(at(20));
    window.resolved(at(15));
    assert_eq!(shown(&drain(&mut window)), ["11: +keyed1[1]=x", "<=20"]);
    window.resolved(at(20));
    window.push(fed(&table, 11, 1, None, Some("x"))).unwrap();
    window.push(fed(&table, 20, 2, None, Some("never seen"))).unwrap();
    window.resolved(at(19));
    assert!(drain(&mut window).is_empty());
    assert_eq!(window.statistics(), Statistics { rows: 1, repeats: 4, ..Statistics::default() });
}

#[test]
fn a_row_that_came_twice_comes_out_once() {
    let mut window = window(0, 1 << 20);
    let (a, b) = (keyed(1), keyless(2));
    for _ in 0..3 {
        window.push(fed(&a, 1, 1, None, Some("x"))).unwrap();
        window.push(fed(&b, 1, 1, Some("x"), Some("y"))).unwrap();
        window.push(fed(&a, 2, 1, Some("x"), None)).unwrap();
    }
    window.resolved(at(2));
    assert_eq!(shown(&drain(&mut window)), ["1: ~keyless2[1]=x>y +keyed1[1]=x", "2: -keyed1[1]", "<=2"]);
    assert_eq!(window.statistics().duplicates, 6);
}

#[test]
fn two_versions_of_a_row_at_one_time_are_refused() {
    let (a, b) = (keyed(1), keyless(2));
    let versions = [
        (fed(&a, 7, 1, None, Some("x")), fed(&a, 7, 1, None, Some("secret"))),
        (fed(&a, 7, 1, Some("w"), Some("x")), fed(&a, 7, 1, Some("w"), Some("secret"))),
        (fed(&a, 7, 1, Some("w"), Some("x")), fed(&a, 7, 1, Some("w"), None)),
        (fed(&b, 7, 1, Some("w"), Some("x")), fed(&b, 7, 1, Some("secret"), Some("x"))),
        (fed(&b, 7, 1, Some("w"), None), fed(&b, 7, 1, Some("secret"), None)),
    ];
    for (one, other) in versions {
        for budget in [0, 1 << 20] {
            let mut window = window(0, budget);
            window.push(fed(&a, 6, 1, None, Some("before"))).unwrap();
            window.push(one.clone()).unwrap();
            window.push(other.clone()).unwrap();
            window.resolved(at(8));
            assert_eq!(shown(&[window.next_event().unwrap().unwrap()]), ["6: +keyed1[1]=before"]);
            let problem = window.next_event().unwrap_err();
            assert_eq!(problem.code, "CR106");
            assert!(
                problem.what.contains("[1], at 7.0000000000") && !problem.to_string().contains("secret"),
                "{problem}"
            );
        }
    }
}

#[test]
fn how_a_row_was_before_need_be_told_once_only() {
    let table = keyed(1);
    let (with, without) = (fed(&table, 1, 1, Some("w"), Some("x")), fed(&table, 1, 1, None, Some("x")));
    for rows in [[&with, &without], [&without, &with]] {
        for budget in [0, 1 << 20] {
            let mut window = window(0, budget);
            rows.into_iter().for_each(|row| window.push(row.clone()).unwrap());
            window.resolved(at(1));
            assert_eq!(shown(&drain(&mut window)), ["1: ~keyed1[1]=x", "<=1"]);
        }
    }
}

#[test]
fn deletions_of_nothing_are_dropped() {
    let mut window = window(0, 1 << 20);
    window.push(fed(&keyed(1), 1, 1, None, None)).unwrap();
    window.resolved(at(1));
    assert_eq!(shown(&drain(&mut window)), ["<=1"]);
    assert_eq!(window.statistics().phantoms, 1);
}

fn refusal(time: u64) -> Refusal {
    let problem = Problem::definite("CR102", time.to_string(), "", "");
    Refusal { table: keyed(1), updated: at(time), problem }
}

#[test]
fn what_comes_before_a_refused_row_still_comes_out() {
    let mut window = window(10, 1 << 20);
    let table = keyed(1);
    window.refuse(refusal(10));
    window.refuse(refusal(30));
    window.take(Message::Refused(refusal(25))).unwrap();
    window.take(Message::Refused(refusal(40))).unwrap();
    for time in [11, 20, 25, 26] {
        window.push(fed(&table, time, time, None, Some("x"))).unwrap();
    }
    window.resolved(at(20));
    assert_eq!(shown(&drain(&mut window)), ["11: +keyed1[11]=x", "20: +keyed1[20]=x", "<=20"]);
    window.resolved(at(35));
    assert_eq!(window.next_event().unwrap_err().what, "25");
}

#[test]
fn a_refused_row_between_transactions_stops_there_as_well() {
    let mut window = window(0, 1 << 20);
    window.refuse(refusal(5));
    window.resolved(at(4));
    assert_eq!(shown(&drain(&mut window)), ["<=4"]);
    window.resolved(at(6));
    assert_eq!(window.next_event().unwrap_err().code, "CR102");
}

#[test]
fn a_table_keeps_its_description() {
    let mut window = window(0, 1 << 20);
    let other = table(1, "keyed1", &[("*id", "INT8"), ("v", "BYTES")]);
    window.push(fed(&keyed(1), 1, 1, None, Some("x"))).unwrap();
    window.push(fed(&keyed(1), 2, 1, Some("x"), Some("y"))).unwrap();
    assert_eq!(window.push(fed(&other, 3, 1, Some("y"), Some("z"))).unwrap_err().code, "CR107");
}

/// Applies events to tables: table and row to value.
fn apply(events: &[Event], tables: &mut BTreeMap<(u32, String), String>) {
    let text = |row: &Row, column: usize| match row.value(column) {
        Value::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    for event in events {
        let Event::Commit(transaction) = event else { continue };
        for change in transaction.changes.read().unwrap() {
            match change.unwrap() {
                Change::Insert { table, new } => {
                    let known = tables.insert((table.id.0, text(&new, 0)), text(&new, 1));
                    assert_eq!(known, None, "an inserted row was there");
                }
                Change::Update { table, new, .. } => {
                    let known = tables.insert((table.id.0, text(new.row(), 0)), text(new.row(), 1));
                    assert!(known.is_some(), "an updated row was not there");
                }
                Change::Delete { table, old } => {
                    let known = tables.remove(&(table.id.0, text(old.row(), 0)));
                    assert!(known.is_some(), "a deleted row was not there");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn is_spooled(event: &Event) -> bool {
    matches!(event, Event::Commit(transaction) if matches!(transaction.changes, Changes::Spooled(_)))
}
