//! Transactions larger than memory, and the disk they take.

use super::*;

const STOP: Message = Message::StreamStop;

/// How many open files of this process lie in `dir`, named or not.
fn open_files(dir: &std::path::Path) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    open.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok()).filter(|path| path.starts_with(dir)).count()
}

fn every_kind_of_change(xid: Option<u32>) -> Vec<Message> {
    let full = SourceTable { replica_identity: ReplicaIdentity::Full, ..table(2, "f") };
    let partial: Row = [Value::Text(b"1"), Value::Unchanged].into_iter().collect();
    let key: Row = [Value::Text(b"1"), Value::Null].into_iter().collect();
    let binary: Row = [Value::Binary(b"\0\0\0\x01"), Value::Text(b"")].into_iter().collect();
    let (one, two) = (RelationId(1), RelationId(2));
    vec![
        describe(xid, table(1, "a")),
        describe(xid, full),
        insert(xid, 1, 1),
        Message::Insert { xid, relation: one, new: binary },
        Message::Update { xid, relation: one, old: None, new: NewRow::Partial(partial.clone()) },
        Message::Update {
            xid,
            relation: one,
            old: Some(OldRow::Key(key.clone())),
            new: NewRow::Partial(partial.clone()),
        },
        Message::Update { xid, relation: two, old: Some(OldRow::Full(row(1, "y"))), new: NewRow::Partial(partial) },
        Message::Delete { xid, relation: one, old: OldRow::Key(key) },
        Message::Delete { xid, relation: two, old: OldRow::Full(row(1, "y")) },
        Message::Truncate { xid, relations: vec![two, one] },
        logical(xid, true, MESSAGE_PREFIX),
        Message::Insert { xid, relation: two, new: row(7, &"wide".repeat(200_000)) },
        insert(xid, 1, 2),
    ]
}

#[test]
fn every_kind_of_change_survives_the_disk() {
    let mut expected = Run::new(0, LARGE);
    expected.send(&begin(10)).unwrap();
    expected.all(&every_kind_of_change(None));
    expected.send(&commit(10)).unwrap();
    assert_eq!(expected.spool.disk_bytes(), 0);
    for budget in [0, 100, 1000, 1_000_000, LARGE] {
        let mut plain = Run::new(0, budget);
        plain.send(&begin(10)).unwrap();
        plain.all(&every_kind_of_change(None));
        plain.send(&commit(10)).unwrap();
        assert_eq!(plain.seen(), expected.seen(), "budget {budget}");
        assert_eq!(plain.spool.disk_bytes() > 0, budget < LARGE);

        let mut streamed = Run::new(0, budget);
        streamed.send(&start(5, true)).unwrap();
        streamed.all(&every_kind_of_change(Some(6)));
        streamed.all(&[STOP, stream_commit(5, 10)]);
        assert_eq!(streamed.seen(), expected.seen(), "budget {budget}");
        assert_eq!(streamed.spool.disk_bytes() > 0, budget < LARGE);
    }
}

#[test]
fn the_disk_is_free_once_the_last_handle_is_gone() {
    let mut run = Run::new(0, 1000);
    let dir = run.spool.dir().to_owned();
    run.all(&[start(5, true), describe(Some(5), table(1, "a"))]);
    for id in 0..1000 {
        run.send(&insert(Some(5), 1, id)).unwrap();
    }
    run.send(&STOP).unwrap();
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "a killed process would leave a file");
    assert_eq!(open_files(&dir), 1);
    run.send(&stream_commit(5, 10)).unwrap();
    let Event::Commit(transaction) = run.out.pop().unwrap() else { panic!("no transaction") };
    assert!(run.spool.disk_bytes() > 10_000 && transaction.changes.bytes() == run.spool.disk_bytes());
    let (mut one, mut two) = (transaction.changes.read().unwrap(), transaction.changes.read().unwrap());
    drop(transaction);
    drop(run.assembler);
    for id in 0..1000 {
        let expected = inserted(table(1, "a"), id);
        assert_eq!(SeenChange::of(one.next().unwrap().unwrap()), expected);
        assert_eq!(SeenChange::of(two.next().unwrap().unwrap()), expected);
    }
    assert!(one.next().is_none() && two.next().is_none());
    drop((one, two));
    assert_eq!((run.spool.disk_bytes(), open_files(&dir)), (0, 0));
}

#[test]
fn the_cap_stops_with_the_figures_and_what_to_set() {
    let mut run = Run::capped(0, 0, 2000);
    run.all(&[start(5, true), describe(Some(5), table(1, "a"))]);
    let problem = (0..1000).find_map(|id| run.send(&insert(Some(5), 1, id)).err()).expect("the cap was passed");
    assert_eq!(problem.code, "PG110");
    let dir = run.spool.dir().display().to_string();
    assert!(problem.what.contains(&dir) && problem.what.contains("of 2000 bytes"), "{}", problem.what);
    assert!(problem.next.contains("--spool-dir") && problem.next.contains("spool_bytes_max"), "{}", problem.next);
    assert!(run.spool.disk_bytes() <= 2000);
}

#[test]
fn the_cap_is_shared_with_transactions_that_wait_to_be_applied() {
    let mut run = Run::capped(0, 0, 1500);
    let mut fill = |xid: u32, end| {
        run.send(&start(xid, true))?;
        run.send(&describe(Some(xid), table(1, "a")))?;
        (0..30).try_for_each(|id| run.send(&insert(Some(xid), 1, id)))?;
        run.send(&STOP)?;
        run.send(&stream_commit(xid, end))?;
        Ok::<_, Problem>(run.out.pop().unwrap())
    };
    let first = fill(5, 10).unwrap();
    drop(first);
    let second = fill(6, 20).unwrap();
    let problem = fill(7, 30).unwrap_err();
    assert_eq!(problem.code, "PG110");
    drop(second);
}

#[test]
fn the_largest_transaction_goes_to_disk_first() {
    let mut run = Run::new(0, 400_000);
    let wide = row(1, &"wide".repeat(250));
    let mut block = |xid: u32, rows: u32| {
        run.send(&start(xid, true)).unwrap();
        run.send(&describe(Some(xid), table(1, "a"))).unwrap();
        for _ in 0..rows {
            let insert = Message::Insert { xid: Some(xid), relation: RelationId(1), new: wide.clone() };
            run.send(&insert).unwrap();
        }
        run.send(&STOP).unwrap();
        run.spool.disk_bytes()
    };
    // About 1 kB each: no transaction passes a quarter of the budget alone, all together pass the whole.
    assert_eq!(block(1, 60), 0);
    let on_disk = (2..=20).map(|xid| block(xid, 20)).find(|&bytes| bytes > 0).expect("the budget was passed");
    assert!(on_disk > 55_000, "{on_disk}: a smaller one went to disk");
}

#[test]
fn rows_do_not_keep_what_they_came_in_while_transactions_are_in_progress() {
    let mut run = Run::new(0, LARGE);
    run.all(&[start(5, true), describe(Some(5), table(1, "a"))]);
    let mut receive = |message: &Message| {
        let read = encode(message);
        run.assembler.message(Lsn(1), read.slice(..), &mut run.out).unwrap();
        assert!(read.is_unique(), "the whole read is kept for one row of it");
    };
    receive(&insert(Some(5), 1, 1));
    receive(&STOP);
    // Between streamed blocks others are small, and most of what is read is not theirs.
    receive(&begin(10));
    receive(&describe(None, table(1, "a")));
    receive(&insert(None, 1, 2));
    receive(&commit(10));
    assert_eq!(run.seen(), [Seen::Commit(10, vec![inserted(table(1, "a"), 2)])]);
}

#[test]
fn many_small_rows_count_as_what_they_take_once_decoded() {
    let mut run = Run::new(0, 4_000_000);
    run.all(&[start(5, true), describe(Some(5), table(1, "a"))]);
    (0..10_000).for_each(|id| run.send(&insert(Some(5), 1, id)).unwrap());
    run.all(&[STOP, stream_commit(5, 10)]);
    let Some(Event::Commit(transaction)) = run.out.last() else { panic!("no transaction") };
    assert!(transaction.changes.memory_bytes() <= 1_000_000, "a quarter of the budget");
}
