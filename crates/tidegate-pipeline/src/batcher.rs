//! Decides which transactions are written together, and when.
//!
//! Larger batches fold better; smaller ones are visible sooner. So an applier that has nothing to do takes what is there
//! at once, and only a busy one lets a batch grow. Pure: the clock is passed in.

use std::collections::VecDeque;
use std::time::Duration;

use tidegate_model::{Batch, Changes, Event, Position, Problem, Span, Transaction};
use tokio::time::Instant;

/// When a batch closes, and how often an idle stream moves its checkpoint.
#[derive(Debug, Clone)]
pub struct BatchLimits {
    /// Closes a batch; with `in_flight_max` it bounds memory.
    pub bytes_max: u64,
    /// Closes a batch, so that many tiny transactions do not wait for `bytes_max`.
    pub transactions_max: usize,
    /// Batches given to the applier and not yet durable.
    pub in_flight_max: usize,
    /// The longest a transaction waits for company while the applier is busy.
    pub flush_after: Duration,
    /// How often a watermark alone moves the checkpoint.
    pub idle_checkpoint_every: Duration,
    /// How much log may pass before a watermark alone moves the checkpoint at once: a busy server with idle published
    /// tables writes gigabytes in the time of `idle_checkpoint_every`, and keeps them until the checkpoint has moved.
    pub idle_checkpoint_bytes: u64,
}

impl Default for BatchLimits {
    fn default() -> Self {
        BatchLimits {
            bytes_max: 8 << 20,
            transactions_max: 2_000,
            in_flight_max: 3,
            flush_after: Duration::from_millis(20),
            idle_checkpoint_every: Duration::from_secs(5),
            idle_checkpoint_bytes: 16 << 20,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Batcher {
    limits: BatchLimits,
    closed: VecDeque<Batch>,
    open: Vec<Transaction>,
    open_bytes: u64,
    opened_at: Instant,
    /// Where the next batch begins: the end of the last closed one.
    after: Position,
    /// Everything at or before it has been received.
    received: Position,
    /// When the checkpoint was last sent on its way. `None`: not since the start, so that the first watermark moves it.
    moved_at: Option<Instant>,
}

impl Batcher {
    pub(crate) fn new(limits: BatchLimits, start: Position, now: Instant) -> Self {
        Batcher {
            limits,
            closed: VecDeque::new(),
            open: Vec::new(),
            open_bytes: 0,
            opened_at: now,
            after: start.clone(),
            received: start,
            moved_at: None,
        }
    }

    /// Returns up to where everything has been received.
    pub(crate) fn received(&self) -> &Position {
        &self.received
    }

    /// Returns whether the next event may be taken from the source.
    pub(crate) fn has_room(&self) -> bool {
        self.closed.is_empty() && !self.is_full()
    }

    /// Takes an event. A source that goes back would make rows appear twice, so that is a bug, not a skip.
    pub(crate) fn push(&mut self, event: Event, now: Instant) -> Result<(), Problem> {
        match event {
            Event::Commit(transaction) => {
                if transaction.position.is_at_or_before(&self.received) {
                    return Err(went_back(&transaction.position, &self.received));
                }
                self.received = transaction.position.clone();
                // A transaction on disk may take minutes: what came before it becomes durable first.
                if matches!(transaction.changes, Changes::Spooled(_)) {
                    self.close();
                }
                if self.open.is_empty() {
                    self.opened_at = now;
                }
                self.open_bytes += transaction.changes.bytes();
                let alone = matches!(transaction.changes, Changes::Spooled(_));
                self.open.push(transaction);
                if alone {
                    self.close();
                }
            }
            Event::Watermark(position) => {
                if !self.received.is_at_or_before(&position) {
                    return Err(went_back(&position, &self.received));
                }
                self.received = position;
            }
        }
        Ok(())
    }

    /// Returns from when on a batch should be submitted: `None` while there is nothing to say.
    pub(crate) fn due(&self, in_flight: usize) -> Option<Instant> {
        if in_flight >= self.limits.in_flight_max {
            return None;
        }
        if !self.closed.is_empty() || self.is_full() {
            return Some(self.opened_at);
        }
        if !self.open.is_empty() {
            return Some(if in_flight == 0 { self.opened_at } else { self.opened_at + self.limits.flush_after });
        }
        if in_flight > 0 || self.received == self.after {
            return None;
        }
        let passed = self.received.bytes_since(&self.after).unwrap_or(0);
        match self.moved_at {
            Some(at) if passed < self.limits.idle_checkpoint_bytes => Some(at + self.limits.idle_checkpoint_every),
            at => Some(at.unwrap_or(self.opened_at)),
        }
    }

    /// Returns the next batch. Without transactions it only moves the checkpoint.
    pub(crate) fn take(&mut self, now: Instant) -> Batch {
        self.moved_at = Some(now);
        if self.closed.is_empty() {
            self.close_until_received();
        }
        self.closed.pop_front().expect("closing leaves a batch")
    }

    fn is_full(&self) -> bool {
        self.open_bytes >= self.limits.bytes_max || self.open.len() >= self.limits.transactions_max
    }

    /// Closes the open batch at its last transaction.
    fn close(&mut self) {
        if let Some(last) = self.open.last() {
            let until = last.position.clone();
            self.close_at(until);
        }
    }

    /// Closes the open batch at the last watermark, so that an empty stretch after it needs no write of its own.
    fn close_until_received(&mut self) {
        self.close_at(self.received.clone());
    }

    fn close_at(&mut self, until: Position) {
        let span = Span { after: self.after.clone(), until };
        self.after = span.until.clone();
        self.open_bytes = 0;
        self.closed.push_back(Batch { span, transactions: std::mem::take(&mut self.open) });
    }
}

fn went_back(position: &Position, received: &Position) -> Problem {
    Problem::bug("PL001", format!("the source went back to {position}"), format!("it had been read up to {received}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidegate_model::{Change, ChangeReader, Lsn, SpooledChanges, Timestamp};

    use super::*;

    struct OnDisk;

    impl SpooledChanges for OnDisk {
        fn read(&self) -> Result<ChangeReader, Problem> {
            Ok(Box::new(std::iter::empty()))
        }

        fn bytes(&self) -> u64 {
            100 << 20
        }
    }

    fn at(lsn: u64) -> Position {
        Position::postgres(Lsn(lsn))
    }

    fn commit(lsn: u64) -> Event {
        let change = Change::Message { prefix: "tidegate".into(), content: vec![0; 100].into() };
        let changes = Changes::Memory(Arc::from([change]));
        Event::Commit(Transaction { position: at(lsn), committed_at: Timestamp(0), changes })
    }

    fn giant(lsn: u64) -> Event {
        let changes = Changes::Spooled(Arc::new(OnDisk));
        Event::Commit(Transaction { position: at(lsn), committed_at: Timestamp(0), changes })
    }

    fn batcher(now: Instant) -> Batcher {
        let limits = BatchLimits { transactions_max: 3, ..BatchLimits::default() };
        Batcher::new(limits, at(10), now)
    }

    #[test]
    fn spans_join_without_gap_or_overlap() {
        let now = Instant::now();
        let mut batcher = batcher(now);
        let mut joined = at(10);
        let events = [commit(11), commit(12), Event::Watermark(at(15)), giant(20), commit(21), giant(30), commit(31)];
        for event in events {
            batcher.push(event, now).unwrap();
            while batcher.due(0).is_some_and(|due| due <= now) {
                let span = batcher.take(now).span;
                assert_eq!(span.after, joined);
                joined = span.until;
            }
        }
        assert_eq!(joined, at(31));
    }

    #[test]
    fn a_transaction_on_disk_is_a_batch_to_itself() {
        let now = Instant::now();
        let mut batcher = batcher(now);
        batcher.push(commit(11), now).unwrap();
        batcher.push(giant(20), now).unwrap();
        assert!(!batcher.has_room());
        assert_eq!(batcher.take(now).transactions.len(), 1);
        let alone = batcher.take(now);
        assert_eq!((alone.transactions.len(), alone.span.after), (1, at(11)));
    }

    #[test]
    fn an_idle_applier_takes_at_once_and_a_busy_one_lets_the_batch_grow() {
        let now = Instant::now();
        let mut batcher = batcher(now);
        batcher.push(commit(11), now).unwrap();
        assert_eq!(batcher.due(0), Some(now));
        assert_eq!(batcher.due(1), Some(now + batcher.limits.flush_after));
        assert_eq!(batcher.due(3), None);
        batcher.push(commit(12), now).unwrap();
        batcher.push(commit(13), now).unwrap();
        assert!(!batcher.has_room());
        assert_eq!(batcher.due(1), Some(now));
    }

    #[test]
    fn an_idle_stream_moves_its_checkpoint_seldom_unless_much_log_has_passed() {
        let now = Instant::now();
        let mut batcher = batcher(now);
        assert_eq!(batcher.due(0), None);
        batcher.push(Event::Watermark(at(100)), now).unwrap();
        assert_eq!(batcher.due(0), Some(now), "the first one says where the stream is");
        batcher.take(now);
        batcher.push(Event::Watermark(at(1_000)), now).unwrap();
        assert_eq!(batcher.due(0), Some(now + batcher.limits.idle_checkpoint_every));
        batcher.push(Event::Watermark(at(32 << 20)), now).unwrap();
        assert_eq!(batcher.due(0), Some(now));
        let batch = batcher.take(now);
        assert!(batch.transactions.is_empty());
        assert_eq!(batch.span.until, at(32 << 20));
        assert_eq!(batcher.due(0), None);
    }

    #[test]
    fn a_source_that_goes_back_stops_the_pipeline() {
        let now = Instant::now();
        for bad in [commit(12), commit(11), Event::Watermark(at(11))] {
            let mut batcher = batcher(now);
            batcher.push(commit(12), now).unwrap();
            assert_eq!(batcher.push(bad, now).unwrap_err().code, "PL001");
        }
    }
}
