//! What the migration wrote itself is dropped, exactly.

use super::*;

const STOP: Message = Message::StreamStop;

/// One row between the brackets of a transaction that comes whole.
fn plain(opening: &[Message], end: u64) -> Vec<Message> {
    let rest = [describe(None, table(1, "a")), insert(None, 1, 1), commit(end)];
    [&[begin(end)], opening, &rest].concat()
}

fn streamed(opening: &[Message], end: u64) -> Vec<Message> {
    let rest = [describe(Some(5), table(1, "a")), insert(Some(5), 1, 1), STOP, stream_commit(5, end)];
    [&[start(5, true)], opening, &rest].concat()
}

#[test]
fn transactions_of_ours_are_dropped_whole_and_move_the_watermark() {
    let marks: [fn(Option<u32>) -> Vec<Message>; 3] = [
        |_| vec![origin("tidegate_orders_1")],
        |xid| vec![applied(xid, "orders")],
        |xid| vec![origin("tidegate_orders_64"), applied(xid, "orders")],
    ];
    for (number, mark) in marks.into_iter().enumerate() {
        for budget in [0, LARGE] {
            let mut run = Run::new(0, budget).dropping();
            run.all(&plain(&mark(None), 10));
            assert_eq!(run.seen(), [Seen::Watermark(10)], "mark {number}");
            run.all(&streamed(&mark(Some(5)), 20));
            assert_eq!(run.seen(), [Seen::Watermark(20)], "mark {number}");
            assert_eq!((run.assembler.dropped(), run.spool.disk_bytes()), (2, 0));
        }
    }
}

#[test]
fn what_others_write_is_kept() {
    let marks: [fn(Option<u32>) -> Vec<Message>; 9] = [
        |_| vec![],
        |_| vec![origin("tidegate_other_1")],
        |_| vec![origin("tidegate_orders_x")],
        |_| vec![origin("tidegate_orders_2_1")],
        |_| vec![origin("pg_16393")],
        |xid| vec![applied(xid, "other")],
        |xid| vec![applied(xid, "orders_2")],
        |xid| vec![logical(xid, true, "applied/orders/reverse/3")],
        // Written elsewhere by us, and brought here by somebody else.
        |xid| vec![origin("pg_16393"), applied(xid, "orders")],
    ];
    for (number, mark) in marks.into_iter().enumerate() {
        let mut run = Run::new(0, LARGE).dropping();
        run.all(&plain(&mark(None), 10));
        run.all(&streamed(&mark(Some(5)), 20));
        let commit = |end| Seen::Commit(end, vec![inserted(table(1, "a"), 1)]);
        assert_eq!(run.seen(), [commit(10), commit(20)], "mark {number}");
        assert_eq!(run.assembler.dropped(), 0);
    }
}

#[test]
fn nothing_is_dropped_unless_it_is_asked_for() {
    let mut run = Run::new(0, LARGE);
    run.all(&plain(&[origin("tidegate_orders_1"), applied(None, "orders")], 10));
    run.all(&streamed(&[origin("tidegate_orders_1"), applied(Some(5), "orders")], 20));
    let commit = |end| Seen::Commit(end, vec![inserted(table(1, "a"), 1)]);
    assert_eq!(run.seen(), [commit(10), commit(20)]);
}

#[test]
fn a_mark_behind_somebodys_change_or_message_says_nothing() {
    let mut run = Run::new(0, LARGE).dropping();
    let rows = |xid| [describe(xid, table(1, "a")), insert(xid, 1, 1), applied(xid, "orders"), insert(xid, 1, 2)];
    run.send(&begin(10)).unwrap();
    run.all(&rows(None));
    run.all(&[commit(10), start(5, true)]);
    run.all(&rows(Some(5)));
    run.all(&[STOP, start(5, false), applied(Some(5), "orders"), STOP, stream_commit(5, 20)]);
    let both = vec![inserted(table(1, "a"), 1), inserted(table(1, "a"), 2)];
    assert_eq!(run.seen(), [Seen::Commit(10, both.clone()), Seen::Commit(20, both)]);
    for prefix in ["other", MESSAGE_PREFIX] {
        let mut run = Run::new(0, LARGE).dropping();
        run.all(&[begin(10), logical(None, true, prefix), applied(None, "orders"), describe(None, table(1, "a"))]);
        run.all(&[insert(None, 1, 1), commit(10)]);
        let Seen::Commit(10, changes) = run.seen().remove(0) else { panic!("{prefix}: it was dropped") };
        assert_eq!(changes.last(), Some(&inserted(table(1, "a"), 1)), "{prefix}");
    }
}

#[test]
fn what_is_not_transactional_is_not_the_beginning_of_anything() {
    let mut run = Run::new(0, LARGE).dropping();
    run.all(&[begin(10), logical(None, false, "other"), applied(None, "orders"), describe(None, table(1, "a"))]);
    run.all(&[insert(None, 1, 1), commit(10)]);
    assert_eq!(run.seen(), [Seen::Watermark(10)]);
}

#[test]
fn a_drain_marker_is_no_mark() {
    let mut run = Run::new(0, LARGE).dropping();
    run.all(&[begin(10), logical(None, true, MESSAGE_PREFIX), commit(10)]);
    assert_eq!(run.seen(), [Seen::Commit(10, vec![marker()])]);
}

#[test]
fn the_mark_of_another_migration_is_not_passed_on() {
    let mut run = Run::new(0, LARGE);
    run.all(&[begin(10), applied(None, "other"), commit(10)]);
    run.all(&[start(5, true), applied(Some(5), "other"), STOP, stream_commit(5, 20)]);
    assert_eq!(run.seen(), [Seen::Watermark(20)]);
}

#[test]
fn descriptions_in_a_dropped_transaction_hold_for_the_next() {
    let mut run = Run::new(0, LARGE).dropping();
    run.all(&plain(&[origin("tidegate_orders_1")], 10));
    run.all(&[start(5, true), applied(Some(5), "orders"), describe(Some(5), table(2, "b")), insert(Some(5), 2, 1)]);
    run.all(&[STOP, stream_commit(5, 20), begin(30), insert(None, 1, 2), insert(None, 2, 3), commit(30)]);
    let changes = vec![inserted(table(1, "a"), 2), inserted(table(2, "b"), 3)];
    assert_eq!(run.seen()[1..], [Seen::Commit(30, changes)]);
}

#[test]
fn a_dropped_transaction_never_takes_memory_or_disk() {
    let mut run = Run::new(0, 1000).dropping();
    run.all(&[start(5, true), applied(Some(5), "orders"), describe(Some(5), table(1, "a"))]);
    for id in 0..1000 {
        run.send(&insert(Some(5), 1, id)).unwrap();
        assert_eq!((run.spool.disk_bytes(), run.spool.memory_bytes()), (0, 0));
    }
    run.all(&[STOP, stream_commit(5, 10), begin(20), origin("tidegate_orders_1")]);
    for id in 0..1000 {
        run.send(&insert(None, 1, id)).unwrap();
        assert_eq!((run.spool.disk_bytes(), run.spool.memory_bytes()), (0, 0));
    }
    run.send(&commit(20)).unwrap();
    assert_eq!(run.seen(), [Seen::Watermark(20)]);
}

#[test]
fn an_origin_that_comes_late_frees_what_was_spooled() {
    for opening in [vec![begin(10)], vec![start(5, true)]] {
        let is_streamed = opening.len() == 1 && matches!(opening[0], Message::StreamStart { .. });
        let xid = is_streamed.then_some(5);
        let mut run = Run::new(0, 1000).dropping();
        run.all(&opening);
        run.send(&describe(xid, table(1, "a"))).unwrap();
        (0..200).for_each(|id| run.send(&insert(xid, 1, id)).unwrap());
        assert!(run.spool.disk_bytes() > 0);
        run.send(&origin("tidegate_orders_1")).unwrap();
        assert_eq!((run.spool.disk_bytes(), run.spool.memory_bytes()), (0, 0));
        run.send(&insert(xid, 1, 200)).unwrap();
        run.all(&if is_streamed { vec![STOP, stream_commit(5, 10)] } else { vec![commit(10)] });
        assert_eq!(run.seen(), [Seen::Watermark(10)]);
    }
}

#[test]
fn origins_that_contradict_each_other_are_refused() {
    let mut run = Run::new(0, LARGE).dropping();
    run.all(&[begin(10), origin("tidegate_orders_1")]);
    assert_eq!(run.code(&origin("pg_16393")), "PG103");
    let mut run = Run::new(0, LARGE).dropping();
    assert_eq!(run.code(&origin("tidegate_orders_1")), "PG103", "between transactions");
}

#[test]
fn a_rolled_back_transaction_of_ours_is_not_counted() {
    let mut run = Run::new(0, LARGE).dropping();
    run.all(&[start(5, true), applied(Some(5), "orders"), STOP, abort(5, 5)]);
    run.all(&[start(6, true), applied(Some(6), "orders"), STOP, start(7, true), origin("pg_1")]);
    run.all(&[describe(Some(7), table(1, "a")), insert(Some(7), 1, 1), STOP, stream_commit(7, 10)]);
    run.send(&stream_commit(6, 20)).unwrap();
    assert_eq!(run.seen(), [Seen::Commit(10, vec![inserted(table(1, "a"), 1)]), Seen::Watermark(20)]);
    assert_eq!(run.assembler.dropped(), 1);
}

#[test]
fn what_was_applied_before_is_not_counted_again() {
    let mut run = Run::new(20, LARGE).dropping();
    run.all(&plain(&[origin("tidegate_orders_1")], 10));
    run.all(&streamed(&[applied(Some(5), "orders")], 20));
    assert_eq!((run.assembler.dropped(), run.seen()), (0, vec![]));
}
