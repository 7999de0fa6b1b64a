//! The thread that turns what the server sent into events.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_model::{Event, Lsn, Position, Problem};
use tokio::sync::{oneshot, watch};

use super::feedback::Frame;
use super::{PanicGuard, Received, refusal};
use crate::assembly::Assembler;
use crate::queue::{ByteQueue, Closed};
use crate::spool::Spool;

/// What the reader gives to the decoder, in order.
#[derive(Debug)]
pub(super) enum Input {
    /// A connection begins: the server sends again what was not acknowledged.
    Connected {
        /// The version of the pgoutput protocol.
        protocol: u8,
    },
    /// Frames as they came.
    Frames(Vec<Bytes>),
    /// Asks for the last position that was given out, once everything before this has been.
    Where(oneshot::Sender<Position>),
    /// The stream has ended.
    Ended(Problem),
}

pub(super) struct Decoder {
    input: Arc<ByteQueue<Input>>,
    events: Arc<ByteQueue<Result<Vec<Event>, Problem>>>,
    spool: Spool,
    /// The last position that was given out, on whatever connection.
    emitted: Position,
    assembler: Option<Assembler>,
}

impl Decoder {
    pub(super) fn new(
        input: Arc<ByteQueue<Input>>,
        events: Arc<ByteQueue<Result<Vec<Event>, Problem>>>,
        spool: Spool,
        from: Position,
    ) -> Self {
        Decoder { input, events, spool, emitted: from, assembler: None }
    }

    /// Starts the thread. It ends when the input does, when nobody takes events any more, or with a problem.
    pub(super) fn start(mut self, received: watch::Sender<Received>) -> Result<(), Problem> {
        let run = move || {
            let (input, events) = (Arc::clone(&self.input), Arc::clone(&self.events));
            let _guard = PanicGuard { part: "decoder", input, events };
            let outcome = self.run();
            self.input.abandon();
            if let Err(problem) = outcome {
                received.send_modify(|received| received.ended = Some(problem.code));
                // Whoever abandoned the events does not want to know.
                let _ = self.events.push(Err(problem), 0);
            }
            self.events.close();
        };
        std::thread::Builder::new().name("decode".to_owned()).spawn(run).map(drop).map_err(refusal::no_thread)
    }

    fn run(&mut self) -> Result<(), Problem> {
        while let Ok(input) = self.input.pop_blocking() {
            match input {
                Input::Connected { protocol } => {
                    let start = resume_after(&self.emitted);
                    self.assembler = Some(Assembler::new(start, protocol, self.spool.clone()));
                }
                Input::Frames(frames) => {
                    let mut events = self.decode(frames)?;
                    self.advance(&mut events)?;
                    if self.emit(events) == Err(Closed) {
                        return Ok(());
                    }
                }
                // The reader may have been stopped in the meantime.
                Input::Where(answer) => drop(answer.send(self.emitted.clone())),
                Input::Ended(problem) => return Err(problem),
            }
        }
        Ok(())
    }

    fn decode(&mut self, frames: Vec<Bytes>) -> Result<Vec<Event>, Problem> {
        let assembler = self.assembler.as_mut().expect("frames come on a connection");
        let mut events = Vec::new();
        for bytes in frames {
            match Frame::parse(&bytes) {
                Some(Frame::Data { start, payload }) => assembler.message(start, payload, &mut events)?,
                Some(Frame::Keepalive { wal_end, .. }) => assembler.keepalive(wal_end, &mut events),
                None => return Err(refusal::bad_message("neither data nor a keepalive")),
            }
        }
        Ok(events)
    }

    fn emit(&self, events: Vec<Event>) -> Result<(), Closed> {
        if events.is_empty() {
            return Ok(());
        }
        let bytes = events.iter().map(weight).sum();
        self.events.push_blocking(Ok(events), bytes)
    }

    /// Moves over the events. A watermark behind us says nothing: after a reconnection the server begins with one.
    fn advance(&mut self, events: &mut Vec<Event>) -> Result<(), Problem> {
        let mut problem = None;
        events.retain(|event| match event {
            Event::Watermark(position) => {
                let moves = *position > self.emitted;
                if moves {
                    self.emitted.clone_from(position);
                }
                moves
            }
            Event::Commit(transaction) => {
                if transaction.position > self.emitted {
                    self.emitted.clone_from(&transaction.position);
                } else {
                    problem.get_or_insert_with(|| refusal::went_back(&transaction.position, &self.emitted));
                }
                true
            }
        });
        problem.map_or(Ok(()), Err)
    }
}

/// Returns the LSN up to which transactions are dropped. In the middle of one, the whole of it comes again.
fn resume_after(emitted: &Position) -> Lsn {
    let lsn = emitted.lsn().unwrap_or_default();
    if emitted.part == 0 { lsn } else { Lsn(lsn.0.saturating_sub(1)) }
}

/// Returns what an event counts. Also what is on disk: a consumer that does not follow holds the reader back, and does
/// not fill the spool.
fn weight(event: &Event) -> u64 {
    match event {
        Event::Commit(transaction) => transaction.changes.bytes(),
        Event::Watermark(_) => size_of::<Event>() as u64,
    }
}
