//! Decides which transactions are written together, and when.
//!
//! Larger batches fold better; smaller ones are visible sooner. So an applier that has nothing to do takes what is there
//! at once, and only a busy one lets a batch grow. A [`Gate`] says how far it may go. Pure: the clock is passed in.

use std::collections::VecDeque;
use std::time::Duration;

use tidegate_model::{Batch, Changes, Event, Position, Problem, Span, Transaction};
use tokio::time::Instant;

use crate::gate::{Gate, Pending, changes_rows};

/// How much is read ahead while a gate keeps batches back: much more than a batch, so that a hold of some seconds does
/// not stop the reading, and not so much that memory is not bounded.
const HELD_BYTES_MAX: u64 = 64 << 20;
/// Ids of transactions that are remembered once they were given to the applier. One that is older and still not visible
/// at the source waits for a synchronous standby.
const XIDS_REMEMBERED: usize = 65_536;

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
    gate: Gate,
    /// What was received and not taken yet, in commit order.
    queue: VecDeque<Transaction>,
    /// What the queue holds in memory.
    queue_bytes: u64,
    /// Transactions of the queue that are on disk.
    queue_spooled: usize,
    /// Transactions of the queue that change rows.
    queue_rows: usize,
    /// Since when there is something in the queue.
    opened_at: Instant,
    /// Where the next batch begins: the end of the last one.
    after: Position,
    /// Everything at or before it has been received.
    received: Position,
    /// When the checkpoint was last sent on its way. `None`: not since the start, so that the first watermark moves it.
    moved_at: Option<Instant>,
    /// The ids of the last transactions that were taken, the newest last.
    taken: VecDeque<u32>,
}

impl Batcher {
    pub(crate) fn new(limits: BatchLimits, start: Position, now: Instant) -> Self {
        Batcher {
            limits,
            gate: Gate::Open,
            queue: VecDeque::new(),
            queue_bytes: 0,
            queue_spooled: 0,
            queue_rows: 0,
            opened_at: now,
            after: start.clone(),
            received: start,
            moved_at: None,
            taken: VecDeque::new(),
        }
    }

    /// Says how far batches may go from now on.
    pub(crate) fn set_gate(&mut self, gate: Gate) {
        self.gate = gate;
        self.pass_over_messages();
    }

    /// Of a parked stream, gives up what was received up to `position`, and returns it.
    pub(crate) fn drop_until(&mut self, position: &Position) -> Vec<Pending> {
        let mut dropped = Vec::new();
        while self.gate == Gate::Parked
            && let Some(next) = self.queue.front()
            && next.position.is_at_or_before(position)
        {
            dropped.push(Pending::of(next));
            self.pop();
        }
        self.pass_over_messages();
        if !dropped.is_empty() {
            // The next watermark moves the checkpoint past it at once.
            self.moved_at = None;
        }
        dropped
    }

    /// A parked stream need not keep what changes no row.
    fn pass_over_messages(&mut self) {
        while self.gate == Gate::Parked && self.queue.front().is_some_and(|next| !changes_rows(next)) {
            self.pop();
        }
    }

    fn pop(&mut self) -> Transaction {
        let next = self.queue.pop_front().expect("the front is there");
        self.queue_bytes -= next.changes.memory_bytes();
        self.queue_spooled -= usize::from(is_spooled(&next));
        self.queue_rows -= usize::from(changes_rows(&next));
        next
    }

    /// Returns how far batches may go.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Returns up to where everything has been received.
    pub(crate) fn received(&self) -> &Position {
        &self.received
    }

    /// Returns how many transactions that change rows were received and not taken.
    pub(crate) fn waiting(&self) -> usize {
        self.queue_rows
    }

    /// Returns what was received and not taken, in commit order.
    pub(crate) fn pending(&self) -> Vec<Pending> {
        self.queue.iter().map(Pending::of).collect()
    }

    /// Returns the ids of the transactions that were taken last, the newest last.
    pub(crate) fn taken(&self) -> Vec<u32> {
        self.taken.iter().copied().collect()
    }

    /// Returns whether the next event may be taken from the source.
    pub(crate) fn has_room(&self) -> bool {
        match self.gate {
            Gate::Open => self.queue_spooled == 0 && !self.is_full(),
            Gate::Held | Gate::Until(_) | Gate::Parked => self.queue_bytes < HELD_BYTES_MAX,
        }
    }

    /// Takes an event. A source that goes back would make rows appear twice, so that is a bug, not a skip.
    pub(crate) fn push(&mut self, event: Event, now: Instant) -> Result<(), Problem> {
        match event {
            Event::Commit(transaction) => {
                if transaction.position.is_at_or_before(&self.received) {
                    return Err(went_back(&transaction.position, &self.received));
                }
                self.received = transaction.position.clone();
                // A parked stream applies nothing, and what changes no row needs no applying.
                if self.gate == Gate::Parked && self.queue.is_empty() && !changes_rows(&transaction) {
                    return Ok(());
                }
                if self.queue.is_empty() {
                    self.opened_at = now;
                }
                self.queue_bytes += transaction.changes.memory_bytes();
                self.queue_spooled += usize::from(is_spooled(&transaction));
                self.queue_rows += usize::from(changes_rows(&transaction));
                self.queue.push_back(transaction);
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
        match &self.gate {
            Gate::Held => None,
            Gate::Until(limit) => self.is_short_of(limit).then_some(self.opened_at),
            Gate::Parked if !self.queue.is_empty() => None,
            Gate::Parked | Gate::Open if self.queue.is_empty() => self.watermark_due(in_flight),
            Gate::Parked | Gate::Open => {
                let wait = in_flight > 0 && self.queue_spooled == 0 && !self.is_full();
                Some(if wait { self.opened_at + self.limits.flush_after } else { self.opened_at })
            }
        }
    }

    /// Returns whether something up to `limit` has been received and not been taken.
    fn is_short_of(&self, limit: &Position) -> bool {
        match self.queue.front() {
            Some(next) if next.position.is_at_or_before(limit) => true,
            _ => self.after < *limit && limit.is_at_or_before(&self.received),
        }
    }

    fn watermark_due(&self, in_flight: usize) -> Option<Instant> {
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
        let mut transactions: Vec<Transaction> = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.queue.front() {
            let full = bytes >= self.limits.bytes_max || transactions.len() >= self.limits.transactions_max;
            // A transaction on disk may take minutes: what came before it becomes durable first.
            let alone = is_spooled(next) && !transactions.is_empty();
            if full || alone || !self.gate.lets(&next.position) {
                break;
            }
            let next = self.pop();
            bytes += next.changes.memory_bytes();
            let spooled = is_spooled(&next);
            self.remember(next.xid);
            transactions.push(next);
            if spooled {
                break;
            }
        }
        let until = self.end_of(transactions.last());
        let span = Span { after: std::mem::replace(&mut self.after, until.clone()), until };
        Batch { span, transactions }
    }

    /// Returns where a batch ends whose last transaction is `last`: there, or as far after it as no transaction is
    /// known, so that an empty stretch needs no write of its own.
    fn end_of(&self, last: Option<&Transaction>) -> Position {
        let next = self.queue.front().map(|next| &next.position);
        if let Gate::Until(limit) = &self.gate
            && limit.is_at_or_before(&self.received)
            && next.is_none_or(|next| !next.is_at_or_before(limit))
        {
            return limit.clone();
        }
        match (next, last) {
            (None, _) => self.received.clone(),
            (Some(_), Some(last)) => last.position.clone(),
            (Some(_), None) => self.after.clone(),
        }
    }

    fn remember(&mut self, xid: Option<u32>) {
        let Some(xid) = xid else { return };
        if self.taken.len() == XIDS_REMEMBERED {
            self.taken.pop_front();
        }
        self.taken.push_back(xid);
    }

    fn is_full(&self) -> bool {
        self.queue_bytes >= self.limits.bytes_max || self.queue.len() >= self.limits.transactions_max
    }
}

fn is_spooled(transaction: &Transaction) -> bool {
    matches!(transaction.changes, Changes::Spooled(_))
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
        Event::Commit(Transaction { position: at(lsn), committed_at: Timestamp(0), xid: None, changes })
    }

    fn giant(lsn: u64) -> Event {
        let changes = Changes::Spooled(Arc::new(OnDisk));
        Event::Commit(Transaction { position: at(lsn), committed_at: Timestamp(0), xid: None, changes })
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

    #[test]
    fn a_held_stream_reads_on_and_takes_nothing() {
        let now = Instant::now();
        let mut batcher = batcher(now);
        batcher.set_gate(Gate::Held);
        for lsn in 11..20 {
            batcher.push(commit(lsn), now).unwrap();
        }
        assert!(batcher.has_room() && batcher.due(0).is_none());
        assert_eq!(batcher.pending().len(), 9);
    }

    #[test]
    fn only_a_parked_stream_gives_up_what_it_received_and_its_checkpoint_goes_on_behind_it() {
        let now = Instant::now();
        let mut batcher = batcher(now);
        for event in [giant(11), giant(12), giant(13), Event::Watermark(at(20))] {
            batcher.push(event, now).unwrap();
        }
        batcher.set_gate(Gate::Held);
        assert!(batcher.drop_until(&at(20)).is_empty());
        batcher.set_gate(Gate::Parked);
        assert_eq!(batcher.drop_until(&at(12)).len(), 2);
        assert_eq!((batcher.waiting(), batcher.due(0)), (1, None), "one is left in front of which it stays");
        assert_eq!(batcher.drop_until(&at(20)).len(), 1);
        assert_eq!(batcher.due(0), Some(now));
        let batch = batcher.take(now);
        assert!(batch.transactions.is_empty());
        assert_eq!(batch.span, Span { after: at(10), until: at(20) });
        assert!(batcher.has_room());
    }

    #[test]
    fn the_last_batch_is_cut_exactly_where_the_gate_says() {
        let now = Instant::now();
        for (limit, ends) in [(14, vec![13, 14]), (16, vec![13, 16]), (10, vec![]), (20, vec![13, 20])] {
            let mut batcher = batcher(now);
            batcher.set_gate(Gate::Until(at(limit)));
            for lsn in [11, 12, 13, 14, 15] {
                batcher.push(commit(lsn), now).unwrap();
            }
            let later = if limit < 20 { [giant(17), commit(18)] } else { [giant(21), commit(22)] };
            for event in later {
                batcher.push(event, now).unwrap();
            }
            let mut ended = Vec::new();
            while batcher.due(0).is_some() {
                ended.push(batcher.take(now).span.until);
            }
            assert_eq!(ended, ends.into_iter().map(at).collect::<Vec<_>>(), "up to {limit}");
        }
    }

    #[test]
    fn a_parked_stream_moves_over_watermarks_and_stops_at_a_transaction() {
        let now = Instant::now();
        let mut batcher = batcher(now);
        batcher.set_gate(Gate::Parked);
        // A message changes no row.
        batcher.push(commit(11), now).unwrap();
        batcher.push(Event::Watermark(at(15)), now).unwrap();
        assert!(batcher.due(0).is_some() && batcher.take(now).span.until == at(15));
        batcher.push(giant(20), now).unwrap();
        batcher.push(Event::Watermark(at(30)), now).unwrap();
        assert_eq!((batcher.due(0), batcher.waiting()), (None, 1));
    }
}
