//! A queue between a task and a thread, bounded by bytes: what is read from a socket or decoded, and not yet wanted,
//! costs no more memory than the bound, whatever the size of one item.
//!
//! Either end may be async or blocking. An item larger than the whole bound passes when the queue is empty, so that the
//! bound never stops the stream.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The other side has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// Makes a queue that holds at most so many bytes.
pub(crate) fn queue<T>(bytes_max: u64) -> (Giver<T>, Taker<T>) {
    let bytes_max = u32::try_from(bytes_max.max(1)).unwrap_or(u32::MAX).min(Semaphore::MAX_PERMITS as u32);
    let bytes = Arc::new(Semaphore::new(bytes_max as usize));
    let (give, take) = unbounded_channel();
    (Giver { items: give, bytes: Arc::clone(&bytes), bytes_max }, Taker { items: take, bytes })
}

/// Puts items in. When the last one is dropped, the other side finds the end after what is still there.
pub(crate) struct Giver<T> {
    items: UnboundedSender<(T, OwnedSemaphorePermit)>,
    bytes: Arc<Semaphore>,
    bytes_max: u32,
}

/// Takes items out.
#[derive(Debug)]
pub(crate) struct Taker<T> {
    items: UnboundedReceiver<(T, OwnedSemaphorePermit)>,
    bytes: Arc<Semaphore>,
}

/// The right to put an item of a certain size in.
#[derive(Debug)]
pub(crate) struct Room(OwnedSemaphorePermit);

impl<T> Clone for Giver<T> {
    fn clone(&self) -> Self {
        Giver { items: self.items.clone(), bytes: Arc::clone(&self.bytes), bytes_max: self.bytes_max }
    }
}

impl<T> Giver<T> {
    /// Waits until the queue takes an item of this size. Cancel-safe.
    pub(crate) async fn room(&self, bytes: u64) -> Result<Room, Closed> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes_max);
        Arc::clone(&self.bytes).acquire_many_owned(bytes).await.map(Room).map_err(|_| Closed)
    }

    /// Appends an item.
    pub(crate) fn give(&self, item: T, room: Room) -> Result<(), Closed> {
        self.items.send((item, room.0)).map_err(|_| Closed)
    }

    /// Appends an item that weighs nothing.
    pub(crate) fn give_now(&self, item: T) -> Result<(), Closed> {
        let room = Arc::clone(&self.bytes).try_acquire_many_owned(0).map_err(|_| Closed)?;
        self.give(item, Room(room))
    }

    /// Waits for room and appends an item. Blocks: for threads of our own.
    pub(crate) fn give_blocking(&self, runtime: &Handle, item: T, bytes: u64) -> Result<(), Closed> {
        let room = runtime.block_on(self.room(bytes))?;
        self.give(item, room)
    }
}

impl<T> Drop for Taker<T> {
    /// Whoever waits for room waits for nothing.
    fn drop(&mut self) {
        self.bytes.close();
    }
}

impl<T> Taker<T> {
    /// Waits for the next item. After the end of the other side, what is still there comes first. Cancel-safe.
    pub(crate) async fn take(&mut self) -> Result<T, Closed> {
        self.items.recv().await.map(|(item, _)| item).ok_or(Closed)
    }

    /// Waits for the next item. Blocks: for threads of our own.
    pub(crate) fn take_blocking(&mut self) -> Result<T, Closed> {
        self.items.blocking_recv().map(|(item, _)| item).ok_or(Closed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn items_cross_in_order_and_the_bound_holds() {
        let (give, mut take) = queue(100);
        let thread =
            std::thread::spawn(move || (0..1_000).map(|_| take.take_blocking().unwrap()).collect::<Vec<u32>>());
        for item in 0..1_000 {
            let room = give.room(60).await.unwrap();
            assert!(give.bytes.available_permits() <= 40);
            give.give(item, room).unwrap();
        }
        assert_eq!(thread.join().unwrap(), (0..1_000).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_blocked_thread_goes_on_when_an_item_is_taken() {
        let (give, mut take) = queue(100);
        let runtime = Handle::current();
        let thread =
            std::thread::spawn(move || (0..1_000_u32).try_for_each(|item| give.give_blocking(&runtime, item, 150)));
        for item in 0..1_000 {
            assert_eq!(take.take().await, Ok(item));
        }
        assert_eq!(take.take().await, Err(Closed));
        assert_eq!(thread.join().unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_thread_that_waits_for_room_ends_with_the_taker() {
        let (give, take) = queue(10);
        give.give(1, give.room(10).await.unwrap()).unwrap();
        let runtime = Handle::current();
        let thread = std::thread::spawn(move || give.give_blocking(&runtime, 2, 10));
        drop(take);
        assert_eq!(thread.join().unwrap(), Err(Closed));
    }

    #[tokio::test]
    async fn waiting_for_an_item_can_be_given_up_without_losing_it() {
        let (give, mut take) = queue(100);
        assert!(tokio::time::timeout(Duration::from_millis(5), take.take()).await.is_err());
        give.give(7, give.room(1).await.unwrap()).unwrap();
        assert_eq!(take.take().await, Ok(7));
    }
}
