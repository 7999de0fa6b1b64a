//! The thread that turns what the feed sent into events.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_model::{Event, Hlc, Position, Problem, RelationId};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_postgres::Row;

use super::{Outcome, Received, SourceConfig, refusal};
use crate::message::{self, Envelope, Message};
use crate::queue::{Closed, Giver, Taker};
use crate::spool::Spool;
use crate::table::Tables;
use crate::window::Window;

/// Events are given out in blocks of about this many bytes, or as few as there are.
const BLOCK_BYTES: u64 = 64 << 10;

/// What the reader gives to the decoder, in order.
#[derive(Debug)]
pub(super) enum Input {
    /// A connection begins: the server sends again what was not resolved.
    Connected,
    /// Rows as they came.
    Rows(Vec<Row>),
    /// The stream has ended.
    Ended(Problem),
}

pub(super) struct Decoder {
    messages: message::Decoder,
    tables: Tables,
    /// Tables whose copy is later than the stream's start.
    points: HashMap<RelationId, Hlc>,
    spool: Spool,
    window: Window,
    /// The last position that was given out, on whatever connection.
    last: Position,
    /// Tells the reader from where on it has to ask again.
    emitted: watch::Sender<Hlc>,
    received: watch::Sender<Received>,
}

/// Where events go.
struct Output {
    events: Giver<Outcome>,
    runtime: Handle,
}

impl Decoder {
    pub(super) fn new(
        config: &SourceConfig,
        spool: Spool,
        from: Position,
        emitted: watch::Sender<Hlc>,
        received: watch::Sender<Received>,
    ) -> Self {
        let messages = message::Decoder::new(Envelope::Wrapped { diff: true }, config.tables.iter().cloned())
            .changed_only(config.changed_only)
            .old_rows(Arc::clone(&config.old_rows));
        let window = Window::new(*emitted.borrow(), spool.clone());
        let (tables, points) = (config.tables.iter().cloned().collect(), config.points.clone());
        Decoder { messages, tables, points, spool, window, last: from, emitted, received }
    }

    /// Starts the thread. It ends when the input does, when nobody takes events any more, or with a problem.
    pub(super) fn start(mut self, mut input: Taker<Input>, events: Giver<Outcome>) -> Result<(), Problem> {
        let output = Output { events, runtime: Handle::current() };
        let run = move || {
            let guard = PanicGuard { output };
            if let Err(problem) = self.run(&mut input, &guard.output) {
                self.received.send_modify(|received| received.ended = Some(problem.code));
                // Whoever dropped the source does not want to know.
                let _ = guard.output.events.give_now(Err(problem));
            }
        };
        std::thread::Builder::new().name("decode".to_owned()).spawn(run).map(drop).map_err(refusal::no_thread)
    }

    fn run(&mut self, input: &mut Taker<Input>, output: &Output) -> Result<(), Problem> {
        while let Ok(input) = input.take_blocking() {
            match input {
                // What is pending comes again, so it is not kept twice.
                Input::Connected => self.window = Window::new(*self.emitted.borrow(), self.spool.clone()),
                Input::Rows(rows) => {
                    for row in &rows {
                        let message = self.decode(row)?;
                        let resolved = matches!(message, Message::Resolved(_));
                        if !self.is_in_copy(row, &message) {
                            self.window.take(message)?;
                        }
                        if resolved && self.give_out(output)? == Err(Closed) {
                            return Ok(());
                        }
                    }
                }
                Input::Ended(problem) => return Err(problem),
            }
        }
        Ok(())
    }

    fn decode(&mut self, row: &Row) -> Result<Message, Problem> {
        let read = || -> Result<_, tokio_postgres::Error> {
            let table: Option<&str> = row.try_get(0)?;
            let (key, value): (Option<&[u8]>, Option<&[u8]>) = (row.try_get(1)?, row.try_get(2)?);
            Ok((table.map(str::as_bytes), key, value.unwrap_or_default()))
        };
        let (table, key, value) = read().map_err(|error| refusal::bad_row(&error))?;
        let message = self.messages.decode(table, key, value)?;
        if let Message::Resolved(at) = message {
            self.received.send_modify(|received| received.resolved = received.resolved.max(Some(at)));
        }
        Ok(message)
    }

    /// Returns whether the table's copy holds the change. A row of before may have had other columns, so it is not for
    /// the window to judge.
    fn is_in_copy(&self, row: &Row, message: &Message) -> bool {
        let updated = match message {
            Message::Row(row) => row.updated,
            Message::Refused(refusal) => refusal.updated,
            Message::Resolved(_) => return false,
        };
        if self.points.is_empty() {
            return false;
        }
        let table = row.try_get::<_, Option<&str>>(0).ok().flatten().and_then(|name| self.tables.find(name));
        table.and_then(|table| self.points.get(&table.table.id)).is_some_and(|point| updated <= *point)
    }

    /// Gives out everything up to the resolved timestamp that was taken. What comes before a problem goes first.
    fn give_out(&mut self, output: &Output) -> Result<Result<(), Closed>, Problem> {
        loop {
            let mut block = Vec::new();
            let mut bytes = 0;
            let ended = loop {
                match self.window.next_event() {
                    Ok(Some(event)) => {
                        if let Err(problem) = self.advance(&event) {
                            break Some(Err(problem));
                        }
                        bytes += weight(&event);
                        block.push(event);
                        if bytes >= BLOCK_BYTES {
                            break None;
                        }
                    }
                    Ok(None) => break Some(Ok(())),
                    Err(problem) => break Some(Err(problem)),
                }
            };
            if !block.is_empty() && output.events.give_blocking(&output.runtime, Ok(block), bytes) == Err(Closed) {
                return Ok(Err(Closed));
            }
            if let Some(at) = self.last.hlc().filter(|_| self.last.part == 0) {
                self.emitted.send_replace(at);
            }
            if let Some(ended) = ended {
                return ended.map(Ok);
            }
        }
    }

    fn advance(&mut self, event: &Event) -> Result<(), Problem> {
        let (position, moves) = match event {
            Event::Commit(transaction) => (&transaction.position, transaction.position > self.last),
            Event::Watermark(position) => (position, *position >= self.last),
        };
        if !moves {
            return Err(refusal::went_back(position, &self.last));
        }
        self.last.clone_from(position);
        Ok(())
    }
}

/// Returns what an event counts. Also what is on disk: a consumer that does not follow holds the reader back, and does
/// not fill the spool.
fn weight(event: &Event) -> u64 {
    let changes = match event {
        Event::Commit(transaction) => transaction.changes.bytes(),
        Event::Watermark(_) => 0,
    };
    changes + size_of::<Event>() as u64
}

/// Ends the stream with a problem where the decoder panics: nobody may wait for what never comes.
struct PanicGuard {
    output: Output,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.output.events.give_now(Err(refusal::panicked("decoder")));
        }
    }
}
