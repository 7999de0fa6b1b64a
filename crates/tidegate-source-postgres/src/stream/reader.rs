//! The reader: owns the connection, keeps it alive, and gives what comes to the decoder.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tidegate_connect::CopyStatus;
use tidegate_model::{Class, Lsn, Position, Problem};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::decoder::Input;
use super::feedback::{Feedback, Frame};
use super::open::{Greeted, Opened};
use super::{Received, SourceConfig, refusal};
use crate::History;
use crate::queue::{ByteQueue, Closed};
use crate::slot;

/// Waits between attempts to reconnect: from the first to the last, doubled each time.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// How long the server gets to end the stream when we do.
const GOODBYE: Duration = Duration::from_secs(5);

/// How reading came to its end.
#[derive(Debug)]
pub(super) enum Ended {
    /// It was asked to, or nobody decodes any more.
    Stopped,
    /// It cannot go on.
    Failed(Problem),
}

impl From<Problem> for Ended {
    fn from(problem: Problem) -> Self {
        Ended::Failed(problem)
    }
}

impl From<Closed> for Ended {
    fn from(Closed: Closed) -> Self {
        Ended::Stopped
    }
}

pub(super) struct Reader {
    config: SourceConfig,
    history: History,
    acknowledged: watch::Receiver<Position>,
    input: Arc<ByteQueue<Input>>,
    received: watch::Sender<Received>,
    stop: CancellationToken,
    /// Made before the reader runs.
    first: Option<Opened>,
    /// The walsender of the last stream.
    walsender: Option<i32>,
    /// Attempts that failed since something last came.
    failures: u32,
}

impl Reader {
    pub(super) fn new(
        config: SourceConfig,
        history: History,
        acknowledged: watch::Receiver<Position>,
        input: Arc<ByteQueue<Input>>,
        received: watch::Sender<Received>,
        stop: CancellationToken,
    ) -> Self {
        Reader { config, history, acknowledged, input, received, stop, first: None, walsender: None, failures: 0 }
    }

    /// Opens the stream for the first time. A slot that somebody else uses is no failure: it is waited for.
    pub(super) async fn connect_first(&mut self) -> Result<(), Problem> {
        let from = self.acknowledged.borrow().clone();
        let greeted = Greeted::greet(&self.config.settings, &self.config.name, &self.history).await?;
        let history = greeted.verdict(&self.config.name, &self.history, &from)?;
        self.adopt(history).await?;
        match self.begin(greeted).await {
            Ok(opened) => self.first = Some(opened),
            Err(problem) if problem.code == slot::IN_USE => self.waits_because(&problem),
            Err(problem) => return Err(problem),
        }
        Ok(())
    }

    /// Reads until it is stopped or cannot go on.
    pub(super) async fn run(mut self) -> Ended {
        loop {
            let interrupted = match self.connected().await {
                Ok(opened) => self.stream(opened).await,
                Err(ended) => ended,
            };
            match interrupted {
                Ended::Failed(problem) if problem.class == Class::Transient => {
                    self.waits_because(&problem);
                    tokio::select! {
                        () = sleep(self.back_off()) => {}
                        () = self.stop.cancelled() => return Ended::Stopped,
                    }
                }
                ended => return ended,
            }
        }
    }

    async fn connected(&mut self) -> Result<Opened, Ended> {
        if let Some(opened) = self.first.take() {
            return Ok(opened);
        }
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => Err(Ended::Stopped),
            opened = self.reconnect() => opened,
        }
    }

    async fn reconnect(&mut self) -> Result<Opened, Ended> {
        let name = self.config.name.clone();
        let greeted = Greeted::greet(&self.config.settings, &name, &self.history).await?;
        let acknowledged = self.acknowledged.borrow().clone();
        let history = greeted.verdict(&name, &self.history, &acknowledged)?;
        if greeted.timeline() != self.history.timeline {
            // What was given out beyond the last acknowledged position must be part of the new timeline, too.
            let emitted = self.emitted().await?;
            greeted.verdict(&name, &self.history, &emitted)?;
        }
        self.adopt(history).await?;
        Ok(self.begin(greeted).await?)
    }

    async fn begin(&mut self, greeted: Greeted) -> Result<Opened, Problem> {
        let (settings, name, flushed) = (&self.config.settings, &self.config.name, self.flushed());
        let opened = greeted.begin(settings, name, &self.history, flushed, self.walsender).await?;
        self.walsender = Some(opened.pid);
        Ok(opened)
    }

    /// Returns the last position that was given out, once everything received has been.
    async fn emitted(&self) -> Result<Position, Ended> {
        let (answer, emitted) = oneshot::channel();
        self.input.push(Input::Where(answer), 0)?;
        emitted.await.map_err(|_| Ended::Stopped)
    }

    /// Goes on with another history: the same, or on a later timeline.
    async fn adopt(&mut self, history: History) -> Result<(), Problem> {
        if history == self.history {
            return Ok(());
        }
        let Some(store) = &self.config.on_new_history else {
            return Err(refusal::new_timeline(&self.history, history.timeline));
        };
        store(history.clone()).await?;
        info!(before = self.history.timeline, now = history.timeline, "source was promoted, nothing lost");
        self.history = history;
        Ok(())
    }

    async fn stream(&mut self, opened: Opened) -> Ended {
        let Opened { mut reader, mut writer, protocol, wal_sender_timeout, .. } = opened;
        if let Err(Closed) = self.input.push(Input::Connected { protocol }, 0) {
            return Ended::Stopped;
        }
        self.received.send_modify(|received| received.waiting_for = None);
        let mut feedback = Feedback::new(wal_sender_timeout, Instant::now());
        let mut pulse = interval(self.config.status_every);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = self.stop.clone();
        let input = Arc::clone(&self.input);
        let mut frames = Vec::new();
        let error = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    let last = Feedback::last(self.flushed(), self.received_until());
                    let goodbye = async {
                        writer.send(&last).await?;
                        writer.done().await?;
                        while reader.next(&mut frames).await? == CopyStatus::Open {
                            frames.clear();
                        }
                        Ok::<(), tidegate_connect::QueryError>(())
                    };
                    // A server that does not answer will notice by itself.
                    let _ = timeout(GOODBYE, goodbye).await;
                    return Ended::Stopped;
                }
                _ = pulse.tick() => {
                    let now = Instant::now();
                    if !input.has_room() {
                        // Silence of our own making: nothing is read at the moment.
                        feedback.heard(now);
                    }
                    if let Some(update) = feedback.due(self.flushed(), self.received_until(), now)
                        && let Err(error) = writer.send(&update).await
                    {
                        break error;
                    }
                    if let Some(silent) = feedback.silent_for(now) {
                        return refusal::silent(silent.as_secs()).into();
                    }
                }
                read = async {
                    if input.room().await.is_err() {
                        return Err(Closed);
                    }
                    Ok(reader.next(&mut frames).await)
                } => match read {
                    Err(Closed) => return Ended::Stopped,
                    Ok(Err(error)) => break error,
                    Ok(Ok(status)) => {
                        if let Err(ended) = self.take(&mut frames, &mut feedback) {
                            return ended;
                        }
                        if status == CopyStatus::Done {
                            return refusal::server_finished().into();
                        }
                    }
                },
            }
        };
        refusal::interrupted(&self.config.name, &self.history, error).into()
    }

    /// Takes note of what the frames say about the connection, and passes them on.
    fn take(&mut self, frames: &mut Vec<Bytes>, feedback: &mut Feedback) -> Result<(), Ended> {
        if frames.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        feedback.heard(now);
        let mut until = Lsn(0);
        let mut bytes = 0;
        for frame in frames.iter() {
            bytes += frame.len() as u64;
            match Frame::parse(frame) {
                Some(Frame::Data { start, .. }) => until = until.max(start),
                Some(Frame::Keepalive { wal_end, reply }) => {
                    feedback.heard_keepalive(reply, now);
                    until = until.max(wal_end);
                }
                // The decoder says what is wrong with it, after everything before it.
                None => {}
            }
        }
        self.failures = 0;
        self.received.send_modify(|received| {
            received.position = received.position.max(until);
            received.heard_at = Some(SystemTime::now());
        });
        Ok(self.input.push(Input::Frames(std::mem::take(frames)), bytes)?)
    }

    /// Returns what the server may forget; 0/0 while nothing was acknowledged as a whole.
    fn flushed(&self) -> Lsn {
        let acknowledged = self.acknowledged.borrow();
        if acknowledged.part == 0 { acknowledged.lsn().unwrap_or_default() } else { Lsn(0) }
    }

    fn received_until(&self) -> Lsn {
        self.received.borrow().position
    }

    fn waits_because(&mut self, problem: &Problem) {
        let reason = format!("{}: {}", problem.what, problem.why);
        // Once for each reason, not for each attempt.
        if self.received.borrow().waiting_for.as_ref() != Some(&reason) {
            warn!(code = problem.code, error = reason, "stream interrupted, trying again");
        }
        self.received.send_modify(|received| received.waiting_for = Some(reason));
    }

    fn back_off(&mut self) -> Duration {
        let [first, last] = BACK_OFF;
        let wait = first.saturating_mul(1 << self.failures.min(16)).min(last);
        self.failures += 1;
        wait
    }
}
