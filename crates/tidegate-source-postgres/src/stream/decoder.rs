//! The thread that turns what the server sent into events.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_model::{Event, Lsn, MigrationName, Position, Problem};
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
    /// Whose own transactions are dropped.
    drop_own: Option<MigrationName>,
    /// The last position that was given out, on whatever connection.
    emitted: Position,
    assembler: Option<Assembler>,
}

impl Decoder {
    pub(super) fn new(
        input: Arc<ByteQueue<Input>>,
        events: Arc<ByteQueue<Result<Vec<Event>, Problem>>>,
        spool: Spool,
        drop_own: Option<MigrationName>,
        from: Position,
    ) -> Self {
        Decoder { input, events, spool, drop_own, emitted: from, assembler: None }
    }

    /// Starts the thread. It ends when the input does, when nobody takes events any more, or with a problem.
    pub(super) fn start(mut self, received: watch::Sender<Received>) -> Result<(), Problem> {
        let run = move || {
            let (input, events) = (Arc::clone(&self.input), Arc::clone(&self.events));
            let _guard = PanicGuard { part: "decoder", input, events };
            let outcome = self.run(&received);
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

    fn run(&mut self, received: &watch::Sender<Received>) -> Result<(), Problem> {
        while let Ok(input) = self.input.pop_blocking() {
            match input {
                Input::Connected { protocol } => {
                    let start = resume_after(&self.emitted);
                    let assembler = Assembler::new(start, protocol, self.spool.clone());
                    self.assembler = Some(match &self.drop_own {
                        Some(name) => assembler.dropping(name),
                        None => assembler,
                    });
                }
                Input::Frames(frames) => {
                    let mut events = self.decode(frames, received)?;
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

    fn decode(&mut self, frames: Vec<Bytes>, received: &watch::Sender<Received>) -> Result<Vec<Event>, Problem> {
        let assembler = self.assembler.as_mut().expect("frames come on a connection");
        let dropped_before = assembler.dropped();
        let mut events = Vec::new();
        for bytes in frames {
            match Frame::parse(&bytes) {
                Some(Frame::Data { start, payload }) => assembler.message(start, payload, &mut events)?,
                Some(Frame::Keepalive { wal_end, .. }) => assembler.keepalive(wal_end, &mut events),
                None => return Err(refusal::bad_message("neither data nor a keepalive")),
            }
        }
        let dropped = assembler.dropped() - dropped_before;
        if dropped > 0 {
            received.send_modify(|received| received.dropped += dropped);
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

#[cfg(test)]
mod tests {
    use tidegate_model::{Changes, RelationId, ReplicaIdentity, Row, SourceColumn, SourceTable, TableName, Timestamp};

    use super::*;
    use crate::pgoutput::encode::encode;
    use crate::pgoutput::{CommitPoint, Message, PROTOCOL_MAX};

    /// One row, and the transaction that ends at `end` with `count` of them, streamed or not.
    fn transaction(end: u64, count: usize, streamed: bool) -> Vec<Message> {
        let xid = streamed.then_some(5);
        let column = SourceColumn { name: "id".into(), type_oid: 25, type_modifier: -1, identity: true };
        let table = SourceTable {
            id: RelationId(1),
            name: TableName::new("public", "t"),
            replica_identity: ReplicaIdentity::Default,
            columns: vec![column],
        };
        let new: Row = [tidegate_model::Value::Text(b"1")].into_iter().collect();
        let commit = CommitPoint { lsn: Lsn(end - 1), end_lsn: Lsn(end), committed_at: Timestamp(0) };
        let mut messages = match streamed {
            true => vec![Message::StreamStart { xid: 5, first_segment: true }],
            false => vec![Message::Begin { final_lsn: Lsn(end - 1), committed_at: Timestamp(0), xid: 5 }],
        };
        messages.push(Message::Relation { xid, table });
        messages.extend((0..count).map(|_| Message::Insert { xid, relation: RelationId(1), new: new.clone() }));
        match streamed {
            true => messages.extend([Message::StreamStop, Message::StreamCommit { xid: 5, commit }]),
            false => messages.push(Message::Commit(commit)),
        }
        messages
    }

    fn frames(messages: &[Message]) -> Input {
        let frame = |message| [&b"w"[..], &[0; 24], &encode(message)].concat().into();
        Input::Frames(messages.iter().map(frame).collect())
    }

    /// Runs a decoder over this input; returns where each event is and how many changes it has.
    async fn decoded(from: Position, inputs: Vec<Input>) -> Vec<(Position, usize)> {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(dir.path(), None, 1000).unwrap();
        let (input, events) = (Arc::new(ByteQueue::new(1 << 20)), Arc::new(ByteQueue::new(1 << 20)));
        let decoder = Decoder::new(Arc::clone(&input), Arc::clone(&events), spool, None, from);
        inputs.into_iter().for_each(|one| input.push(one, 1).unwrap());
        input.close();
        decoder.start(watch::channel(Received::default()).0).unwrap();
        let mut seen = Vec::new();
        while let Ok(given) = events.pop().await {
            seen.extend(given.unwrap().into_iter().map(|event| match event {
                Event::Watermark(position) => (position, 0),
                Event::Commit(transaction) => {
                    let count = transaction.changes.read().unwrap().count();
                    assert!(count < 50 || matches!(transaction.changes, Changes::Spooled(_)));
                    (transaction.position, count)
                }
            }));
        }
        seen
    }

    #[tokio::test]
    async fn a_connection_lost_in_the_middle_of_a_part_gives_the_whole_transaction_once() {
        for streamed in [false, true] {
            let connected = || Input::Connected { protocol: PROTOCOL_MAX };
            let (earlier, giant, later) =
                (transaction(50, 3, false), transaction(100, 200, streamed), transaction(150, 1, false));
            let part = Position { part: 120, ..Position::postgres(Lsn(100)) };
            let keepalive = Input::Frames(vec![[&b"k"[..], &90_u64.to_be_bytes(), &[0; 9]].concat().into()]);
            // The server begins before it, and the connection is lost twice on the way and once behind it.
            let inputs = vec![
                connected(),
                frames(&earlier),
                keepalive,
                frames(&giant[..150]),
                connected(),
                frames(&earlier),
                connected(),
                frames(&earlier),
                frames(&giant),
                connected(),
                frames(&earlier),
                frames(&giant),
                frames(&later),
            ];
            let seen = decoded(part, inputs).await;
            let expected = [(Position::postgres(Lsn(100)), 200), (Position::postgres(Lsn(150)), 1)];
            assert_eq!(seen, expected, "streamed: {streamed}");
        }
    }
}
