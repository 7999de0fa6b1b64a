//! What a schema change sends again neither overwrites nor brings anything back, whenever it comes.

use super::*;

/// Returns every order of the items.
fn orders<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    (0..items.len())
        .flat_map(|first| {
            let mut rest = items.to_vec();
            let first = rest.remove(first);
            orders(&rest).into_iter().map(move |mut order| {
                order.insert(0, first.clone());
                order
            })
        })
        .collect()
}

fn copy(mut row: FeedRow, mvcc: u64) -> FeedRow {
    row.mvcc = Some(at(mvcc));
    row
}

#[test]
fn a_backfill_changes_nothing_in_any_order() {
    let table = keyed(1);
    let rows = [
        // Row 1 is written, deleted at 30; row 2 is written, and again at the very time of the schema change and after.
        fed(&table, 10, 1, None, Some("a")),
        fed(&table, 30, 1, Some("a"), None),
        fed(&table, 10, 2, None, Some("b")),
        fed(&table, 25, 2, Some("b"), Some("c")),
        // The schema change at 20 sends both as they were: with or without what was before.
        copy(fed(&table, 20, 1, None, Some("a")), 10),
        copy(fed(&table, 20, 2, Some("b"), Some("b")), 10),
    ];
    let expected =
        ["10: +keyed1[1]=a +keyed1[2]=b", "25: ~keyed1[2]=c", "30: -keyed1[1]", "<=30"].map(str::to_owned).to_vec();
    for order in orders(&rows) {
        let mut window = window(0, 1 << 20);
        order.into_iter().for_each(|row| window.push(row).unwrap());
        window.resolved(at(30));
        assert_eq!(shown(&drain(&mut window)), expected);
        assert_eq!(window.statistics().copies, 2);
    }
}

#[test]
fn a_backfill_may_come_while_resolved_timestamps_pass() {
    let table = keyed(1);
    let script: [&[FeedRow]; 4] = [
        &[fed(&table, 10, 1, None, Some("a")), fed(&table, 10, 2, None, Some("b"))],
        &[fed(&table, 18, 1, Some("a"), None)],
        &[
            copy(fed(&table, 20, 2, None, Some("b")), 10),
            fed(&table, 22, 2, Some("b"), Some("c")),
            copy(fed(&table, 20, 1, None, Some("a")), 10),
        ],
        &[copy(fed(&table, 20, 2, None, Some("b")), 10), fed(&table, 22, 2, Some("b"), Some("c"))],
    ];
    let mut window = window(0, 1 << 20);
    let (mut tables, mut events) = (BTreeMap::new(), Vec::new());
    for (rows, resolved) in script.into_iter().zip([10, 19, 25, 30]) {
        rows.iter().for_each(|row| window.push(row.clone()).unwrap());
        window.resolved(at(resolved));
        events.extend(drain(&mut window));
    }
    apply(&events, &mut tables);
    assert_eq!(tables, BTreeMap::from([((1, "2".to_owned()), "c".to_owned())]));
}

#[test]
fn without_mvcc_timestamps_a_backfill_is_an_update_that_changes_nothing() {
    let table = keyed(1);
    let unknown = |mut row: FeedRow| {
        row.mvcc = None;
        row
    };
    let rows = [
        unknown(fed(&table, 10, 1, None, Some("a"))),
        unknown(fed(&table, 20, 1, Some("a"), Some("a"))),
        unknown(fed(&table, 30, 1, Some("a"), None)),
    ];
    for order in orders(&rows) {
        let mut window = window(0, 1 << 20);
        order.into_iter().for_each(|row| window.push(row).unwrap());
        window.resolved(at(30));
        assert_eq!(shown(&drain(&mut window)), ["10: +keyed1[1]=a", "20: ~keyed1[1]=a", "30: -keyed1[1]", "<=30"]);
    }
}
