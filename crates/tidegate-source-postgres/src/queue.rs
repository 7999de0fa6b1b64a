//! A queue between a task and a thread, bounded by bytes: what is read from a socket or decoded, and not yet wanted,
//! costs no more memory than the bound, whatever the size of one item.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};

use tokio::sync::Notify;

/// Either end may be async or blocking; each side has one user. An item larger than the whole bound passes when the
/// queue is empty, so that the bound never stops the stream.
#[derive(Debug)]
pub(crate) struct ByteQueue<T> {
    bytes_max: u64,
    state: Mutex<State<T>>,
    /// Wakes the blocking side, whichever it is.
    changed: Condvar,
    /// Wakes an async side waiting for room.
    room: Notify,
    /// Wakes an async side waiting for an item.
    filled: Notify,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<(T, u64)>,
    bytes: u64,
    closed: bool,
}

/// The other side has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

impl<T> ByteQueue<T> {
    pub(crate) fn new(bytes_max: u64) -> Self {
        ByteQueue {
            bytes_max,
            state: Mutex::new(State { items: VecDeque::new(), bytes: 0, closed: false }),
            changed: Condvar::new(),
            room: Notify::new(),
            filled: Notify::new(),
        }
    }

    /// Waits until the queue takes another item. Cancel-safe.
    pub(crate) async fn room(&self) -> Result<(), Closed> {
        loop {
            {
                let state = self.lock();
                if state.closed {
                    return Err(Closed);
                }
                if state.bytes < self.bytes_max {
                    return Ok(());
                }
            }
            // A permit stored between the look and the wait wakes the wait at once.
            self.room.notified().await;
        }
    }

    /// Returns whether the queue takes another item now.
    pub(crate) fn has_room(&self) -> bool {
        self.lock().bytes < self.bytes_max
    }

    /// Appends an item whether or not there is room: the caller has waited for it.
    pub(crate) fn push(&self, item: T, bytes: u64) -> Result<(), Closed> {
        let mut state = self.lock();
        if state.closed {
            return Err(Closed);
        }
        state.items.push_back((item, bytes));
        state.bytes += bytes;
        drop(state);
        self.changed.notify_all();
        self.filled.notify_one();
        Ok(())
    }

    /// Waits for room and appends an item. Blocks.
    pub(crate) fn push_blocking(&self, item: T, bytes: u64) -> Result<(), Closed> {
        let mut state = self.lock();
        while !state.closed && state.bytes >= self.bytes_max {
            state = self.changed.wait(state).expect(POISONED);
        }
        drop(state);
        self.push(item, bytes)
    }

    /// Waits for the next item. After closing, what is still there comes first. Cancel-safe.
    pub(crate) async fn pop(&self) -> Result<T, Closed> {
        loop {
            if let Some(taken) = self.take(&mut self.lock()) {
                return taken;
            }
            self.filled.notified().await;
        }
    }

    /// Waits for the next item. After closing, what is still there comes first. Blocks.
    pub(crate) fn pop_blocking(&self) -> Result<T, Closed> {
        let mut state = self.lock();
        loop {
            if let Some(taken) = self.take(&mut state) {
                return taken;
            }
            state = self.changed.wait(state).expect(POISONED);
        }
    }

    /// Takes no more items; those that are there can still be taken.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
        self.room.notify_one();
        self.filled.notify_one();
    }

    /// Closes and throws away what is there.
    pub(crate) fn abandon(&self) {
        let left = {
            let mut state = self.lock();
            state.closed = true;
            state.bytes = 0;
            std::mem::take(&mut state.items)
        };
        drop(left);
        self.close();
    }

    /// Throws away what is there, leaves `item` as the only one, and closes.
    pub(crate) fn end_with(&self, item: T) {
        let left = {
            let mut state = self.lock();
            state.closed = true;
            state.bytes = 0;
            std::mem::replace(&mut state.items, VecDeque::from([(item, 0)]))
        };
        drop(left);
        self.close();
    }

    fn take(&self, state: &mut State<T>) -> Option<Result<T, Closed>> {
        match state.items.pop_front() {
            Some((item, bytes)) => {
                state.bytes -= bytes;
                self.changed.notify_all();
                self.room.notify_one();
                Some(Ok(item))
            }
            None if state.closed => Some(Err(Closed)),
            None => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect(POISONED)
    }
}

const POISONED: &str = "nothing panics while it holds the queue";

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn items_cross_in_order_and_the_bound_holds() {
        let queue = Arc::new(ByteQueue::new(100));
        let reader = Arc::clone(&queue);
        let thread =
            std::thread::spawn(move || (0..1_000).map(|_| reader.pop_blocking().unwrap()).collect::<Vec<u32>>());
        for item in 0..1_000 {
            queue.room().await.unwrap();
            assert!(queue.lock().bytes < 100);
            queue.push(item, 60).unwrap();
        }
        assert_eq!(thread.join().unwrap(), (0..1_000).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_blocked_thread_goes_on_when_an_item_is_taken() {
        let queue = Arc::new(ByteQueue::new(100));
        let writer = Arc::clone(&queue);
        let thread = std::thread::spawn(move || (0..1_000_u32).try_for_each(|item| writer.push_blocking(item, 150)));
        for item in 0..1_000 {
            assert_eq!(queue.pop().await, Ok(item));
        }
        assert_eq!(thread.join().unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn closing_lets_out_what_is_there_and_then_ends() {
        let queue = ByteQueue::new(100);
        queue.push(1, 1).unwrap();
        queue.close();
        assert_eq!(queue.push(2, 1), Err(Closed));
        assert_eq!((queue.pop().await, queue.pop().await), (Ok(1), Err(Closed)));
        assert_eq!(queue.room().await, Err(Closed));
    }

    #[tokio::test]
    async fn waiting_for_an_item_can_be_given_up_without_losing_it() {
        let queue = ByteQueue::new(100);
        assert!(tokio::time::timeout(Duration::from_millis(5), queue.pop()).await.is_err());
        queue.push(7, 1).unwrap();
        assert_eq!(queue.pop().await, Ok(7));
    }
}
