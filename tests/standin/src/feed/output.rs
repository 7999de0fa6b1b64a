//! The way of messages to the client, with the faults that the knobs ask for.

use super::FeedSink;
use super::message::Message;
use crate::error::SqlError;
use crate::knobs::Knobs;

/// Messages that wait to be shuffled are sent at the latest when there are this many.
const HELD_MAX: usize = 512;
/// Copies that wait to be sent again.
const AGAIN_MAX: usize = 64;
const FLUSH_BYTES: usize = 64 * 1024;

/// Why a feed stops.
#[derive(Debug)]
pub enum Stop {
    /// The client is gone, or loses its connection because the knobs say so.
    Dropped,
    Failed(SqlError),
}

impl<E: Into<SqlError>> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop::Failed(error.into())
    }
}

pub struct Output<'a, S> {
    sink: &'a mut S,
    knobs: Knobs,
    held: Vec<Message>,
    again: Vec<Message>,
    waiting_bytes: usize,
    /// Rows sent, repeats included.
    pub rows: u64,
}

impl<'a, S: FeedSink> Output<'a, S> {
    pub fn new(sink: &'a mut S, knobs: Knobs) -> Output<'a, S> {
        Output { sink, knobs, held: Vec::new(), again: Vec::new(), waiting_bytes: 0, rows: 0 }
    }

    /// Takes the knobs of this moment.
    pub fn turn(&mut self, knobs: Knobs) {
        self.knobs = knobs;
    }

    pub fn knobs(&self) -> &Knobs {
        &self.knobs
    }

    pub async fn row(&mut self, message: Message) -> Result<(), Stop> {
        if !self.knobs.reorder && self.held.is_empty() {
            return self.send(message).await;
        }
        self.held.push(message);
        if self.held.len() >= HELD_MAX {
            self.shuffle(|_| true).await?;
        }
        Ok(())
    }

    /// Sends the held messages of about half of the keys.
    pub async fn some(&mut self) -> Result<(), Stop> {
        let chosen = fastrand::u64(..);
        self.shuffle(|hash| (hash ^ chosen).is_multiple_of(2)).await
    }

    /// Sends everything that is held.
    pub async fn settle(&mut self) -> Result<(), Stop> {
        self.shuffle(|_| true).await
    }

    /// Sends held messages in random order of their keys, and of one key in their own.
    async fn shuffle(&mut self, due: impl Fn(u64) -> bool) -> Result<(), Stop> {
        if self.held.is_empty() {
            return Ok(());
        }
        let salt = fastrand::u64(..);
        let held = std::mem::take(&mut self.held);
        let (mut now, later): (Vec<Message>, Vec<Message>) = held.into_iter().partition(|m| due(hash(m, 0)));
        self.held = later;
        now.sort_by_key(|message| hash(message, salt));
        for message in now {
            self.send(message).await?;
        }
        Ok(())
    }

    pub async fn resolved(&mut self, text: &str) -> Result<(), Stop> {
        self.settle().await?;
        self.sink.row(None, None, text.as_bytes());
        self.rows += 1;
        self.flush().await?;
        self.perhaps_drop().await
    }

    async fn send(&mut self, message: Message) -> Result<(), Stop> {
        self.emit(&message).await?;
        let repeats = self.knobs.duplicates;
        if repeats > 0.0 {
            if fastrand::f64() < repeats && self.again.len() < AGAIN_MAX {
                self.again.push(message);
            }
            // Repeats come in any order, also after the resolved that covers them.
            if !self.again.is_empty() && fastrand::f64() < 0.3 {
                let repeat = self.again.swap_remove(fastrand::usize(..self.again.len()));
                self.emit(&repeat).await?;
            }
        }
        Ok(())
    }

    async fn emit(&mut self, message: &Message) -> Result<(), Stop> {
        self.sink.row(Some(&message.table), Some(message.key.as_bytes()), message.value.as_bytes());
        self.rows += 1;
        self.waiting_bytes += message.key.len() + message.value.len() + 32;
        if self.waiting_bytes >= FLUSH_BYTES {
            self.flush().await?;
        }
        self.perhaps_drop().await
    }

    pub async fn flush(&mut self) -> Result<(), Stop> {
        self.waiting_bytes = 0;
        self.sink.flush().await.map_err(|_| Stop::Dropped)
    }

    async fn perhaps_drop(&mut self) -> Result<(), Stop> {
        match self.knobs.drop_connections {
            Some(mean) if fastrand::u64(..mean) == 0 => {
                // What was written before may arrive or not, as on a network.
                if fastrand::bool() {
                    self.flush().await?;
                }
                Err(Stop::Dropped)
            }
            _ => Ok(()),
        }
    }
}

/// FNV-1a over table and key.
fn hash(message: &Message, salt: u64) -> u64 {
    let bytes = message.table.bytes().chain(message.key.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325 ^ salt, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
