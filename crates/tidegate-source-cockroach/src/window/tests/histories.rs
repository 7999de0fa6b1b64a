//! Random histories, sent as a feed may: in any order across rows, repeated, cut and begun again.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
struct Version {
    row: FeedRow,
    /// The rows that a feed keeps in order among each other.
    identity: (u32, u64),
}

#[derive(Clone, Debug)]
struct History {
    versions: Vec<Version>,
    /// What has to come out.
    transactions: Vec<(u64, String)>,
    last: u64,
    tables: BTreeMap<(u32, String), String>,
}

const TABLES: u32 = 3;

fn tables() -> [Arc<TableInfo>; TABLES as usize] {
    [keyed(0), keyed(1), keyless(2)]
}

/// How much later a transaction is, and which rows of which tables it writes to what (`None`: deletes).
type Plan = (u64, Vec<(u32, u64, Option<u8>)>);

fn history(plan: &[Plan]) -> History {
    let tables = tables();
    let mut state: BTreeMap<(u32, u64), String> = BTreeMap::new();
    let (mut versions, mut transactions, mut time) = (Vec::new(), Vec::new(), 0);
    for (later, writes) in plan {
        time += later;
        // The last write of a row in a transaction counts.
        let writes: BTreeMap<(u32, u64), Option<u8>> =
            writes.iter().map(|(table, id, value)| ((*table, *id), *value)).collect();
        let mut lines: [Vec<String>; 3] = Default::default();
        for ((table, id), value) in writes {
            let before = state.get(&(table, id)).cloned();
            let after = value.map(|value| format!("v{value}"));
            let row = fed(&tables[table as usize], time, id, before.as_deref(), after.as_deref());
            let (name, keyless) = (&row.table.table.name.name, row.table.carries_old_rows());
            match (&before, &after) {
                (None, None) => {}
                (Some(_), None) => lines[0].push(format!("-{name}[{id}]")),
                (Some(old), Some(new)) if keyless => lines[1].push(format!("~{name}[{id}]={old}>{new}")),
                (Some(_), Some(new)) => lines[1].push(format!("~{name}[{id}]={new}")),
                (None, Some(new)) => lines[2].push(format!("+{name}[{id}]={new}")),
            }
            match after {
                Some(new) => state.insert((table, id), new),
                None => state.remove(&(table, id)),
            };
            versions.push(Version { row, identity: (table, id) });
        }
        let line = lines.concat().join(" ");
        if !line.is_empty() {
            transactions.push((time, line));
        }
    }
    let tables = state.into_iter().map(|((table, id), value)| ((table, id.to_string()), value)).collect();
    History { versions, transactions, last: time, tables }
}

/// What happens while the feed runs.
#[derive(Clone, Debug)]
enum Step {
    /// Sends the next version of some row.
    Send(u8),
    /// Sends something again that was sent on this connection.
    Repeat(u8),
    /// Sends a copy of a version, as a schema change does.
    Copy(u8, u8),
    /// Says the highest resolved timestamp that is true, less so much.
    Resolve(u8),
    /// Takes so many events out, and leaves the rest for later.
    Take(u8),
    /// The connection breaks. The window is kept, or made anew behind the last event.
    Reconnect { keep_window: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => any::<u8>().prop_map(Step::Send),
        2 => any::<u8>().prop_map(Step::Repeat),
        1 => any::<(u8, u8)>().prop_map(|(which, at)| Step::Copy(which, at)),
        2 => (0..4_u8).prop_map(Step::Resolve),
        2 => (0..4_u8).prop_map(Step::Take),
        1 => any::<bool>().prop_map(|keep_window| Step::Reconnect { keep_window }),
    ];
    proptest::collection::vec(step, 0..80)
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let write = (0..TABLES, 1..6_u64, proptest::option::weighted(0.7, any::<u8>()));
    proptest::collection::vec((1..4_u64, proptest::collection::vec(write, 1..6)), 0..20)
}

/// A feed of a history: sends each row's versions in order, and knows what is true to say.
struct Feed<'a> {
    history: &'a History,
    cursor: Hlc,
    unsent: BTreeSet<usize>,
    sent: Vec<usize>,
}

impl<'a> Feed<'a> {
    fn new(history: &'a History, cursor: Hlc) -> Self {
        let after = |index: &usize| history.versions[*index].row.updated > cursor;
        Feed { history, cursor, unsent: (0..history.versions.len()).filter(after).collect(), sent: Vec::new() }
    }

    fn send(&mut self, choice: u8) -> Option<FeedRow> {
        let firsts: BTreeMap<(u32, u64), usize> =
            self.unsent.iter().rev().map(|&index| (self.history.versions[index].identity, index)).collect();
        let chosen = *firsts.values().nth(usize::from(choice) % firsts.len().max(1))?;
        self.unsent.remove(&chosen);
        self.sent.push(chosen);
        Some(self.history.versions[chosen].row.clone())
    }

    fn again(&self, choice: u8) -> Option<FeedRow> {
        let chosen = *self.sent.get(usize::from(choice) % self.sent.len().max(1))?;
        Some(self.history.versions[chosen].row.clone())
    }

    fn copy(&self, which: u8, at: u8) -> Option<FeedRow> {
        let version = self.history.versions.get(usize::from(which) % self.history.versions.len().max(1))?;
        let mut row = version.row.clone();
        row.updated.wall += 1 + u64::from(at % 16);
        Some(row)
    }

    fn resolved(&self, less: u8) -> Hlc {
        let true_up_to = match self.unsent.iter().map(|&index| self.history.versions[index].row.updated.wall).min() {
            Some(unsent) => unsent - 1,
            None => self.history.last + 2,
        };
        at(true_up_to.saturating_sub(less.into())).max(self.cursor)
    }
}

/// Runs a feed through windows and returns all events.
fn run(history: &History, steps: &[Step], budget: u64) -> Vec<Event> {
    let spool = spool(budget);
    let mut window = Window::new(at(0), spool.clone());
    let mut feed = Feed::new(history, at(0));
    let mut events: Vec<Event> = Vec::new();
    let position = |events: &[Event]| match events.last() {
        None => at(0),
        Some(Event::Commit(transaction)) => transaction.position.hlc().unwrap(),
        Some(Event::Watermark(position)) => position.hlc().unwrap(),
    };
    for step in steps {
        match step {
            Step::Send(choice) => feed.send(*choice).map(|row| window.push(row).unwrap()).unwrap_or_default(),
            Step::Repeat(choice) => feed.again(*choice).map(|row| window.push(row).unwrap()).unwrap_or_default(),
            Step::Copy(which, at) => feed.copy(*which, *at).map(|row| window.push(row).unwrap()).unwrap_or_default(),
            Step::Resolve(less) => window.resolved(feed.resolved(*less)),
            Step::Take(count) => {
                for _ in 0..*count {
                    events.extend(window.next_event().unwrap());
                }
            }
            Step::Reconnect { keep_window: true } => feed = Feed::new(history, window.closed()),
            Step::Reconnect { keep_window: false } => {
                let from = position(&events);
                window = Window::new(from, spool.clone());
                feed = Feed::new(history, from);
            }
        }
    }
    while let Some(row) = feed.send(7) {
        window.push(row).unwrap();
    }
    window.resolved(feed.resolved(0));
    events.extend(drain(&mut window));
    drop(window);
    let spooled: u64 = events.iter().filter(|event| is_spooled(event)).map(disk_bytes).sum();
    assert_eq!(spool.disk_bytes(), spooled);
    events
}

fn disk_bytes(event: &Event) -> u64 {
    match event {
        Event::Commit(transaction) => transaction.changes.bytes(),
        Event::Watermark(_) => 0,
    }
}

fn check(history: &History, events: &[Event]) {
    let shown = shown(events);
    let commits: Vec<String> = shown.iter().filter(|line| !line.starts_with("<=")).cloned().collect();
    let expected: Vec<String> = history.transactions.iter().map(|(time, line)| format!("{time}: {line}")).collect();
    assert_eq!(commits, expected);
    let mut last = 0;
    for line in &shown {
        let time: u64 = line.trim_start_matches("<=").split(':').next().unwrap().parse().unwrap();
        assert!(time > last || (line.starts_with("<=") && time == last), "{shown:?}");
        last = time;
    }
    assert!(last >= history.last);
    let mut tables = BTreeMap::new();
    apply(events, &mut tables);
    assert_eq!(tables, history.tables);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn every_way_to_send_a_history_gives_its_transactions_in_order(plan in plans(), steps in steps()) {
        let history = history(&plan);
        let in_memory = run(&history, &steps, 1 << 30);
        check(&history, &in_memory);
        for budget in [0, 700, 5_000] {
            let on_disk = run(&history, &steps, budget);
            prop_assert_eq!(shown(&on_disk), shown(&in_memory), "budget {}", budget);
        }
    }
}
