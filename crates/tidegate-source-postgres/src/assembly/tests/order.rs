//! Which transactions come out, in which order, and what is refused.

use super::*;

const STOP: Message = Message::StreamStop;

#[test]
fn transactions_come_out_at_the_end_of_their_commit() {
    let mut run = Run::new(0, LARGE);
    run.all(&[begin(10), describe(None, table(1, "a")), insert(None, 1, 1), insert(None, 1, 2), commit(10)]);
    run.all(&[begin(20), insert(None, 1, 3), commit(20)]);
    let first = vec![inserted(table(1, "a"), 1), inserted(table(1, "a"), 2)];
    let second = vec![inserted(table(1, "a"), 3)];
    assert_eq!(run.seen(), [Seen::Commit(10, first), Seen::Commit(20, second)]);
}

#[test]
fn what_ends_at_or_before_the_start_is_dropped_but_its_tables_are_known() {
    let mut run = Run::new(20, LARGE);
    run.all(&[begin(10), describe(None, table(1, "a")), insert(None, 1, 1), commit(10)]);
    run.all(&[start(5, true), describe(Some(5), table(2, "a")), insert(Some(5), 2, 1), STOP, stream_commit(5, 20)]);
    run.all(&[begin(21), insert(None, 1, 2), insert(None, 2, 3), commit(21)]);
    let changes = vec![inserted(table(1, "a"), 2), inserted(table(2, "a"), 3)];
    assert_eq!(run.seen(), [Seen::Commit(21, changes)]);
}

#[test]
fn a_transaction_that_begins_before_the_start_and_ends_after_it_is_whole() {
    // The server sends streamed transactions again from their beginning.
    let mut run = Run::new(20, LARGE);
    run.all(&[start(5, true), describe(Some(5), table(1, "a")), insert(Some(5), 1, 1), STOP]);
    run.all(&[begin(20), describe(None, table(1, "a")), insert(None, 1, 9), commit(20)]);
    run.all(&[start(5, false), insert(Some(5), 1, 2), STOP, stream_commit(5, 30)]);
    let changes = vec![inserted(table(1, "a"), 1), inserted(table(1, "a"), 2)];
    assert_eq!(run.seen(), [Seen::Commit(30, changes)]);
}

#[test]
fn a_transaction_without_changes_becomes_a_watermark() {
    let mut run = Run::new(0, LARGE);
    run.all(&[begin(10), commit(10), begin(20), logical(None, true, "other"), commit(20)]);
    run.all(&[start(5, true), logical(Some(5), true, "other"), STOP, stream_commit(5, 30)]);
    assert_eq!(run.seen(), [Seen::Watermark(30)], "one watermark says what three do");
    run.all(&[begin(40), logical(None, true, MESSAGE_PREFIX), commit(40), begin(50), commit(50)]);
    assert_eq!(run.seen()[1..], [Seen::Commit(40, vec![marker()]), Seen::Watermark(50)]);
}

#[test]
fn a_transaction_whose_changes_were_all_rolled_back_becomes_a_watermark() {
    for budget in [0, LARGE] {
        let mut run = Run::new(0, budget);
        run.all(&[start(5, true), describe(Some(5), table(1, "a")), insert(Some(6), 1, 1), STOP, abort(5, 6)]);
        run.all(&[stream_commit(5, 10)]);
        assert_eq!(run.seen(), [Seen::Watermark(10)]);
        assert_eq!(run.spool.disk_bytes(), 0);
    }
}

#[test]
fn only_our_transactional_messages_are_passed_on() {
    let mut run = Run::new(0, LARGE);
    run.send(&logical(None, false, MESSAGE_PREFIX)).unwrap();
    let messages =
        |xid| [logical(xid, false, MESSAGE_PREFIX), logical(xid, true, "other"), logical(xid, true, "tidegate")];
    run.send(&begin(10)).unwrap();
    run.all(&messages(None));
    run.all(&[commit(10), start(5, true)]);
    run.all(&messages(Some(5)));
    run.all(&[STOP, logical(None, false, MESSAGE_PREFIX), stream_commit(5, 20)]);
    assert_eq!(run.seen(), [Seen::Commit(10, vec![marker()]), Seen::Commit(20, vec![marker()])]);
}

#[test]
fn a_keepalive_becomes_a_watermark_only_between_transactions() {
    let mut run = Run::new(5, LARGE);
    run.keepalive(5);
    run.keepalive(4);
    assert_eq!(run.seen(), []);
    run.keepalive(7);
    run.keepalive(6);
    assert_eq!(run.seen(), [Seen::Watermark(7)]);
    run.send(&begin(20)).unwrap();
    run.keepalive(15);
    run.all(&[describe(None, table(1, "a")), insert(None, 1, 1), commit(20)]);
    run.keepalive(19);
    run.keepalive(20);
    assert_eq!(run.seen()[1..], [Seen::Commit(20, vec![inserted(table(1, "a"), 1)])]);
    run.send(&start(5, true)).unwrap();
    run.keepalive(25);
    run.send(&STOP).unwrap();
    run.keepalive(26);
    assert_eq!(run.seen()[2..], [Seen::Watermark(26)], "a transaction in progress does not hold watermarks back");
}

#[test]
fn a_commit_behind_an_announced_position_is_refused() {
    let mut run = Run::new(5, LARGE);
    run.keepalive(20);
    run.send(&begin(20)).unwrap();
    assert_eq!(run.code(&commit(20)), "PG106");
    let mut run = Run::new(5, LARGE);
    run.all(&[start(5, true), STOP]);
    run.keepalive(20);
    assert_eq!(run.code(&stream_commit(5, 10)), "PG106");
}

#[test]
fn messages_out_of_order_are_refused() {
    let other_commit = [begin(10), commit(11)];
    let cases: Vec<(&str, Vec<Message>)> = vec![
        ("change outside", vec![insert(None, 1, 1)]),
        ("our message outside", vec![logical(None, true, MESSAGE_PREFIX)]),
        ("commit outside", vec![commit(10)]),
        ("begin inside", vec![begin(10), begin(20)]),
        ("another commit than announced", other_commit.into()),
        ("stop outside", vec![STOP]),
        ("stream inside a transaction", vec![begin(10), start(5, true)]),
        ("stream commit inside a transaction", vec![begin(10), stream_commit(5, 20)]),
        ("stream abort inside a transaction", vec![begin(10), abort(5, 5)]),
        ("stop inside a transaction", vec![begin(10), STOP]),
        ("begin inside a block", vec![start(5, true), begin(10)]),
        ("commit inside a block", vec![start(5, true), commit(10)]),
        ("start inside a block", vec![start(5, true), start(6, true)]),
        ("stream commit inside a block", vec![start(5, true), stream_commit(5, 10)]),
        ("stream abort inside a block", vec![start(5, true), abort(5, 6)]),
        ("block without the first", vec![start(5, false)]),
        ("commit of what never came", vec![stream_commit(5, 10)]),
        ("commit after abort", vec![start(5, true), STOP, abort(5, 5), stream_commit(5, 10)]),
        ("commit twice", vec![start(5, true), STOP, stream_commit(5, 10), stream_commit(5, 20)]),
    ];
    for (case, mut messages) in cases {
        let mut run = Run::new(0, LARGE);
        run.all(&[begin(2), describe(None, table(1, "a")), commit(2)]);
        let last = messages.pop().unwrap();
        run.all(&messages);
        assert_eq!(run.code(&last), "PG103", "{case}");
    }
}

#[test]
fn rollbacks_of_what_was_never_streamed_change_nothing() {
    let mut run = Run::new(0, LARGE);
    run.all(&[abort(5, 5), abort(5, 6), start(7, true), describe(Some(7), table(1, "a")), insert(Some(7), 1, 1), STOP]);
    run.all(&[abort(7, 8), abort(5, 7), stream_commit(7, 10)]);
    assert_eq!(run.seen(), [Seen::Commit(10, vec![inserted(table(1, "a"), 1)])]);
}

#[test]
fn a_rolled_back_transaction_leaves_nothing() {
    for budget in [0, LARGE] {
        let mut run = Run::new(0, budget);
        run.all(&[
            start(5, true),
            describe(Some(5), table(1, "a")),
            insert(Some(5), 1, 1),
            insert(Some(6), 1, 2),
            STOP,
        ]);
        run.all(&[abort(5, 6), abort(5, 5), abort(5, 6)]);
        assert_eq!(run.seen(), []);
        assert_eq!((run.spool.disk_bytes(), run.spool.memory_bytes()), (0, 0));
    }
}

#[test]
fn a_subtransaction_is_taken_back_alone() {
    let mut run = Run::new(0, LARGE);
    run.all(&[start(5, true), describe(Some(5), table(1, "a")), insert(Some(5), 1, 1), insert(Some(6), 1, 2), STOP]);
    run.all(&[start(5, false), insert(Some(7), 1, 3), insert(Some(6), 1, 4), STOP, abort(5, 6)]);
    run.all(&[start(5, false), insert(Some(8), 1, 5), insert(Some(5), 1, 6), STOP, stream_commit(5, 10)]);
    let changes = [1, 3, 5, 6].map(|id| inserted(table(1, "a"), id)).to_vec();
    assert_eq!(run.seen(), [Seen::Commit(10, changes)]);
}

#[test]
fn a_stream_that_begins_again_replaces_what_came_before() {
    let mut run = Run::new(0, LARGE);
    run.all(&[start(5, true), describe(Some(5), table(1, "a")), insert(Some(5), 1, 1), STOP]);
    run.all(&[start(5, true), describe(Some(5), table(1, "a")), insert(Some(5), 1, 2), STOP, stream_commit(5, 10)]);
    assert_eq!(run.seen(), [Seen::Commit(10, vec![inserted(table(1, "a"), 2)])]);
}

#[test]
fn origins_and_types_change_nothing() {
    let origin = || Message::Origin { lsn: Lsn(3), name: "elsewhere".into() };
    let named = |xid| Message::Type { xid, oid: 3, name: TableName::new("public", "mood") };
    let mut run = Run::new(0, LARGE);
    run.all(&[begin(10), origin(), named(None), describe(None, table(1, "a")), insert(None, 1, 1), commit(10)]);
    run.all(&[start(5, true), origin(), named(Some(6)), describe(Some(6), table(1, "a")), insert(Some(6), 1, 2), STOP]);
    run.send(&stream_commit(5, 20)).unwrap();
    let commit = |end, id| Seen::Commit(end, vec![inserted(table(1, "a"), id)]);
    assert_eq!(run.seen(), [commit(10, 1), commit(20, 2)]);
}

#[test]
fn streaming_that_was_not_agreed_on_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::new(dir.path(), Some(LARGE), LARGE).unwrap();
    let mut assembler = Assembler::new(Lsn(0), 1, spool);
    let refused = assembler.message(Lsn(1), encode(&start(5, true)), &mut Vec::new()).unwrap_err();
    assert_eq!(refused.code, "PG101");
    assert!(refused.what.contains("0/1"), "{}", refused.what);
}
