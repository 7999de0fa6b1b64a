use super::*;

#[test]
fn a_transaction_larger_than_memory_comes_from_disk_as_often_as_wanted() {
    let spool = spool(1 << 20);
    let mut window = Window::new(at(0), spool.clone());
    let table = keyed(1);
    let rows = 100_000_u64;
    // In no order, and some twice.
    for n in 0..rows {
        let id = n * 7_919 % rows;
        let row = match id % 3 {
            0 => fed(&table, 5, id, Some("old"), None),
            1 => fed(&table, 5, id, Some("old"), Some("some value of a row")),
            _ => fed(&table, 5, id, None, Some("some value of a row")),
        };
        if n % 10 == 0 {
            window.push(row.clone()).unwrap();
        }
        window.push(row).unwrap();
        assert!(window.memory_bytes() <= 1 << 20);
    }
    window.push(fed(&table, 4, 1, None, Some("small"))).unwrap();
    assert!(spool.disk_bytes() > 4 << 20);
    window.resolved(at(6));
    let events = drain(&mut window);
    assert_eq!(events.iter().map(is_spooled).collect::<Vec<_>>(), [false, true, false]);
    drop(window);
    let Event::Commit(transaction) = &events[1] else { panic!() };
    assert_eq!(transaction.changes.memory_bytes(), 0);
    assert_eq!(transaction.changes.bytes(), spool.disk_bytes());
    let kinds = || {
        let changes = transaction.changes.read().unwrap();
        changes.map(|change| shown_change(&change.unwrap()).remove(0)).collect::<String>()
    };
    let count = |kind| rows / 3 + u64::from(kind < rows % 3);
    let expected =
        ["-".repeat(count(0) as usize), "~".repeat(count(1) as usize), "+".repeat(count(2) as usize)].concat();
    assert!(kinds() == expected && kinds() == expected);
    let (one, other) = (transaction.changes.read().unwrap(), transaction.changes.read().unwrap());
    assert!(one.zip(other).all(|(a, b)| shown_change(&a.unwrap()) == shown_change(&b.unwrap())));
    drop(events);
    assert_eq!(spool.disk_bytes(), 0);
}

#[test]
fn many_small_transactions_come_from_disk_one_by_one() {
    let spool = spool(64 << 10);
    let mut window = Window::new(at(0), spool.clone());
    let table = keyed(1);
    let rows = 50_000_u64;
    for n in 0..rows {
        let time = 1 + n * 7_919 % rows;
        window.push(fed(&table, time, time, None, Some("some value of a row"))).unwrap();
    }
    window.resolved(at(rows));
    assert!(window.statistics().runs > 200);
    for time in 1..=rows {
        let event = window.next_event().unwrap().unwrap();
        assert!(!is_spooled(&event) && shown(&[event])[0].starts_with(&format!("{time}: ")));
        assert!(window.memory_bytes() <= 64 << 10);
    }
    assert_eq!(shown(&drain(&mut window)), [format!("<={rows}")]);
    assert_eq!(spool.disk_bytes(), 0);
}

#[test]
fn runs_stay_few() {
    let mut window = window(0, 0);
    let table = keyed(1);
    for n in 0..5_000_u64 {
        window.push(fed(&table, 1 + n % 100, n, None, Some("x"))).unwrap();
        assert!(window.runs.len() < 16 * 4, "{} runs", window.runs.len());
    }
    window.resolved(at(50));
    assert_eq!(drain(&mut window).len(), 51);
    window.resolved(at(100));
    assert_eq!(drain(&mut window).len(), 51);
    assert_eq!(window.runs.len(), 0);
}

#[test]
fn rows_may_come_while_events_are_still_to_come_out() {
    let mut window = window(0, 0);
    let table = keyed(1);
    for time in 1..=3 {
        window.push(fed(&table, time, time, None, Some("x"))).unwrap();
    }
    window.resolved(at(2));
    assert_eq!(shown(&[window.next_event().unwrap().unwrap()]), ["1: +keyed1[1]=x"]);
    window.push(fed(&table, 2, 9, None, Some("late"))).unwrap();
    window.push(fed(&table, 4, 4, None, Some("x"))).unwrap();
    window.resolved(at(3));
    assert_eq!(shown(&drain(&mut window)), ["2: +keyed1[2]=x", "3: +keyed1[3]=x", "<=3"]);
    window.resolved(at(4));
    assert_eq!(shown(&drain(&mut window)), ["4: +keyed1[4]=x", "<=4"]);
}

#[test]
fn the_cap_is_told() {
    let mut window = Window::new(at(0), Spool::new(std::env::temp_dir(), Some(10_000), 1_000).unwrap());
    let problem = (1..).find_map(|time| window.push(fed(&keyed(1), time, 1, None, Some("x"))).err()).unwrap();
    assert_eq!(problem.code, "CR110");
    assert!(problem.what.contains("of 10000 bytes") && problem.next.contains("--spool-dir"), "{problem}");
}

#[test]
fn a_dropped_window_frees_its_disk() {
    let spool = spool(0);
    let mut window = Window::new(at(0), spool.clone());
    window.push(fed(&keyed(1), 1, 1, None, Some("x"))).unwrap();
    assert!(spool.disk_bytes() > 0);
    drop(window);
    assert_eq!(spool.disk_bytes(), 0);
}
