//! What is known about tables, for whom and from when on.

use std::sync::Arc;

use super::*;

const STOP: Message = Message::StreamStop;

#[test]
fn a_table_keeps_its_identity_until_it_changes() {
    let mut run = Run::new(0, LARGE);
    run.all(&[begin(10), describe(None, table(1, "a")), insert(None, 1, 1), commit(10)]);
    run.all(&[begin(20), describe(None, table(1, "a")), insert(None, 1, 2), commit(20)]);
    run.all(&[start(5, true), describe(Some(5), table(1, "a")), insert(Some(5), 1, 3), STOP, stream_commit(5, 30)]);
    run.all(&[begin(40), insert(None, 1, 4), describe(None, table(1, "b")), insert(None, 1, 5), commit(40)]);
    let tables = run.tables();
    assert!(tables[1..4].iter().all(|table| Arc::ptr_eq(table, &tables[0])));
    assert_eq!(*tables[4], table(1, "b"));
}

#[test]
fn a_streamed_description_counts_for_others_from_its_commit_on() {
    let mut run = Run::new(0, LARGE);
    run.all(&[begin(10), describe(None, table(1, "a")), insert(None, 1, 1), commit(10)]);
    run.all(&[start(5, true), describe(Some(5), table(1, "b")), insert(Some(5), 1, 2), STOP]);
    run.all(&[
        begin(20),
        insert(None, 1, 3),
        commit(20),
        stream_commit(5, 30),
        begin(40),
        insert(None, 1, 4),
        commit(40),
    ]);
    let columns: Vec<_> = run.tables().iter().map(|table| table.columns[1].name.to_string()).collect();
    assert_eq!(columns, ["a", "a", "b", "b"], "in commit order");
}

#[test]
fn a_description_of_a_rolled_back_transaction_is_forgotten() {
    let mut run = Run::new(0, LARGE);
    run.all(&[begin(10), describe(None, table(1, "a")), insert(None, 1, 1), commit(10)]);
    run.all(&[start(5, true), describe(Some(5), table(1, "b")), describe(Some(5), table(2, "b")), STOP, abort(5, 5)]);
    run.all(&[begin(20), insert(None, 1, 2), commit(20)]);
    assert_eq!(*run.tables()[1], table(1, "a"));
    run.send(&begin(30)).unwrap();
    assert_eq!(run.code(&insert(None, 2, 1)), "PG104");
}

#[test]
fn a_description_of_a_rolled_back_subtransaction_is_kept() {
    for budget in [0, LARGE] {
        let mut run = Run::new(0, budget);
        run.all(&[start(5, true), describe(Some(6), table(1, "a")), insert(Some(6), 1, 1), STOP, abort(5, 6)]);
        run.all(&[start(5, false), insert(Some(5), 1, 2), STOP, stream_commit(5, 10)]);
        assert_eq!(run.seen(), [Seen::Commit(10, vec![inserted(table(1, "a"), 2)])]);
    }
}

#[test]
fn a_later_description_is_not_undone_by_an_older_transaction() {
    // A column list changes while transaction 5 is in progress: locks do not keep that apart.
    let mut run = Run::new(0, LARGE);
    run.all(&[start(5, true), describe(Some(5), table(1, "a")), insert(Some(5), 1, 1), STOP]);
    run.all(&[begin(10), describe(None, table(1, "b")), insert(None, 1, 2), commit(10)]);
    run.all(&[stream_commit(5, 20), begin(30), insert(None, 1, 3), commit(30)]);
    let columns: Vec<_> = run.tables().iter().map(|table| table.columns[1].name.to_string()).collect();
    assert_eq!(columns, ["b", "a", "b"]);
}

#[test]
fn a_table_may_change_inside_a_transaction() {
    for budget in [0, LARGE] {
        let mut run = Run::new(0, budget);
        run.all(&[start(5, true), describe(Some(5), table(1, "a")), insert(Some(5), 1, 1), STOP, start(5, false)]);
        run.all(&[describe(Some(5), table(1, "b")), insert(Some(5), 1, 2), describe(Some(5), table(1, "a")), STOP]);
        run.all(&[start(5, false), insert(Some(5), 1, 3), STOP, stream_commit(5, 10)]);
        run.all(&[begin(20), insert(None, 1, 4), describe(None, table(1, "b")), insert(None, 1, 5), commit(20)]);
        let columns: Vec<_> = run.tables().iter().map(|table| table.columns[1].name.to_string()).collect();
        assert_eq!(columns, ["a", "b", "a", "a", "b"]);
    }
}

#[test]
fn a_streamed_change_of_a_table_never_described_is_refused() {
    // That others know the table does not count: the server describes it anew in every streamed transaction.
    let mut run = Run::new(0, LARGE);
    run.all(&[begin(10), describe(None, table(1, "a")), insert(None, 1, 1), commit(10)]);
    run.all(&[start(5, true), insert(Some(5), 1, 1), STOP]);
    assert_eq!(run.code(&stream_commit(5, 20)), "PG104");
}
