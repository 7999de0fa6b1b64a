//! The promises of a `Source`.

use std::future::Future;

use tidegate_model::{Change, Event, Position, Source, Value};

use super::{cancelled, within};

/// A source that a suite can commit to. The table's first column is a number.
pub trait SourceHarness {
    /// What is tried.
    type Source: Source;
    /// Commits one transaction that inserts rows with these numbers.
    fn commit(&mut self, ids: &[u64]) -> impl Future<Output = ()>;
    /// Commits one transaction that inserts such rows and is rolled back.
    fn roll_back(&mut self, ids: &[u64]) -> impl Future<Output = ()>;
    /// Opens the source after this position; `None`: where it was first made.
    fn open(&mut self, from: Option<&Position>) -> impl Future<Output = Self::Source>;
}

/// Tries every promise. Panics at the first one that is broken.
pub async fn source_suite(harness: &mut impl SourceHarness) {
    commits_come_once_and_in_order(harness).await;
    a_dropped_call_loses_nothing(harness).await;
    a_reopened_source_goes_on_after_its_position(harness).await;
    an_idle_source_tells_a_watermark(harness).await;
}

/// Reads commits until one inserts `last`; returns the numbers of each with its position.
async fn read_until(source: &mut impl Source, last: u64) -> Vec<(Position, Vec<u64>)> {
    let mut commits = Vec::new();
    let mut newest: Option<Position> = None;
    loop {
        let event = within("the next event", source.next()).await.expect("a source without faults gives no error");
        let (position, ids) = match event {
            Event::Watermark(position) => (position, None),
            Event::Commit(transaction) => {
                let changes = transaction.changes.read().expect("changes can be read");
                let ids = changes.map(|change| id_of(&change.expect("a change can be read"))).collect();
                (transaction.position, Some::<Vec<u64>>(ids))
            }
        };
        if let Some(newest) = &newest {
            let steps_on = if ids.is_some() { position > *newest } else { position >= *newest };
            assert!(steps_on, "{position} came after {newest}");
        }
        newest = Some(position.clone());
        if let Some(ids) = ids {
            let ends = ids.contains(&last);
            commits.push((position, ids));
            if ends {
                return commits;
            }
        }
    }
}

fn id_of(change: &Change) -> u64 {
    let Change::Insert { new, .. } = change else { panic!("only inserts were made: {change:?}") };
    let Value::Text(text) = new.value(0) else { panic!("the number came in another form") };
    String::from_utf8_lossy(text).parse().expect("the first column is a number")
}

fn ids(commits: &[(Position, Vec<u64>)]) -> Vec<Vec<u64>> {
    commits.iter().map(|(_, ids)| ids.clone()).collect()
}

async fn commits_come_once_and_in_order(harness: &mut impl SourceHarness) {
    let mut source = harness.open(None).await;
    harness.commit(&[1, 2]).await;
    harness.roll_back(&[90, 91]).await;
    harness.commit(&[3]).await;
    harness.commit(&[4, 5, 6]).await;
    let commits = read_until(&mut source, 6).await;
    assert_eq!(ids(&commits), [vec![1, 2], vec![3], vec![4, 5, 6]]);
    let last = commits.last().expect("there are commits").0.clone();
    source.acknowledge(&last).await.expect("a source can be acknowledged");
    source.acknowledge(&commits[0].0).await.expect("an older acknowledgement is harmless");
}

async fn a_dropped_call_loses_nothing(harness: &mut impl SourceHarness) {
    let mut source = harness.open(None).await;
    let mut seen = Vec::new();
    for id in 10..20 {
        harness.commit(&[id]).await;
        if let Some(event) = cancelled(source.next()).await {
            seen.push(event.expect("a source without faults gives no error"));
        }
    }
    let before: Vec<u64> = seen.iter().flat_map(inserted).collect();
    harness.commit(&[20]).await;
    let after = read_until(&mut source, 20).await;
    let all: Vec<u64> = before.into_iter().chain(after.into_iter().flat_map(|(_, ids)| ids)).collect();
    let new: Vec<u64> = all.into_iter().filter(|id| (10..=20).contains(id)).collect();
    assert_eq!(new, (10..=20).collect::<Vec<_>>(), "a dropped call lost or repeated a commit");
}

fn inserted(event: &Event) -> Vec<u64> {
    match event {
        Event::Watermark(_) => Vec::new(),
        Event::Commit(transaction) => {
            let changes = transaction.changes.read().expect("changes can be read");
            changes.map(|change| id_of(&change.expect("a change can be read"))).collect()
        }
    }
}

async fn a_reopened_source_goes_on_after_its_position(harness: &mut impl SourceHarness) {
    let mut source = harness.open(None).await;
    for id in 30..35 {
        harness.commit(&[id]).await;
    }
    let commits = read_until(&mut source, 34).await;
    let at = |id: u64| {
        let found = commits.iter().find(|(_, ids)| ids.contains(&id));
        found.expect("it was read").0.clone()
    };
    source.acknowledge(&at(31)).await.expect("a source can be acknowledged");
    drop(source);
    // Further than what was acknowledged: the target may be ahead of what the source was told.
    let mut source = harness.open(Some(&at(32))).await;
    assert_eq!(ids(&read_until(&mut source, 34).await), [vec![33], vec![34]]);
}

async fn an_idle_source_tells_a_watermark(harness: &mut impl SourceHarness) {
    let mut source = harness.open(None).await;
    harness.commit(&[40]).await;
    let last = read_until(&mut source, 40).await.pop().expect("it was read").0;
    harness.roll_back(&[95]).await;
    loop {
        let event = within("a watermark", source.next()).await.expect("a source without faults gives no error");
        match event {
            Event::Watermark(position) if position > last => return,
            Event::Watermark(position) => assert!(position >= last, "a watermark went back"),
            Event::Commit(transaction) => panic!("nothing was committed after {last}: {transaction:?}"),
        }
    }
}
