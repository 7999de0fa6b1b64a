//! A stream that this process owns, and keeps through outages: whatever was under way when a database went away, it is
//! reached again and the stream goes on from what both databases know.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tidegate_model::{Class, Problem, Stream};
use tidegate_sql::state::Ownership;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::upstream::Upstream;
use super::{Before, Ended, Ends, Flow, Ready, Run, Seat, Standing, Wishes, ready, with_upstream};
use crate::output::{Exit, Failure};

/// The pauses between attempts to go on: a server that starts again is back within a second, one that is moved takes
/// minutes and is not to be hammered.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// An attempt that lasted so long was not one of a series that fails at once.
const LASTED: Duration = Duration::from_secs(10);

/// A stream that this process owns.
#[derive(Debug)]
pub struct Owned<'a> {
    pub ownership: &'a Ownership,
    pub seat: &'a Seat,
    pub stop: &'a CancellationToken,
}

impl Owned<'_> {
    /// Runs it to its end. Only what a retry cannot change is returned as a problem.
    pub async fn run(&self, flow: Flow<'_>, wishes: &Wishes, ready: Ready) -> Result<Ended, Problem> {
        let (mut wishes, mut ready, mut pause) = (wishes.clone(), ready, PAUSE_FIRST);
        // The sessions that the start was given are of no use after an outage.
        let (mut reached, mut role_taken) = (None::<Ends>, false);
        loop {
            let (now, tried_at) = (Flow { ends: reached.as_ref().unwrap_or(flow.ends), ..flow }, Instant::now());
            let begun = AtomicBool::new(false);
            let attempt = async {
                if !role_taken {
                    self.take_role(now, &wishes).await?;
                    role_taken = true;
                }
                with_upstream!(now, upstream => Box::pin(self.once(now, &upstream, &wishes, &ready, &begun)).await)
            };
            let ended = attempt.await;
            self.seat.note_live(None);
            let problem = match ended {
                Err(problem) if problem.class == Class::Transient => problem,
                ended => return ended,
            };
            if begun.into_inner() {
                wishes = wishes.that_last();
            }
            if tried_at.elapsed() > LASTED {
                pause = PAUSE_FIRST;
            }
            match self.reach_again(flow, &wishes, problem, &mut pause).await? {
                Some((ends, again)) => (reached, ready) = (Some(ends), again),
                None => return Ok(Ended { applied: ready.before.position() }),
            }
        }
    }

    /// Takes the role that the stream has now that it is owned: another process may have turned while this one waited.
    async fn take_role(&self, flow: Flow<'_>, wishes: &Wishes) -> Result<(), Problem> {
        let (forward, reverse) = (Flow { stream: Stream::Forward, ..flow }, Flow { stream: Stream::Reverse, ..flow });
        self.seat.note_owned(Standing::read(forward, reverse, wishes).await?.roles);
        Ok(())
    }

    async fn once<U: Upstream>(
        &self,
        flow: Flow<'_>,
        upstream: &U,
        wishes: &Wishes,
        ready: &Ready,
        begun: &AtomicBool,
    ) -> Result<Ended, Problem> {
        let other = if flow.stream == Stream::Forward { Stream::Reverse } else { Stream::Forward };
        let other = Before::read(Flow { stream: other, ..flow }).await?;
        let both = wishes.both || other.checkpoint.is_some();
        let Owned { ownership, seat, stop } = *self;
        let run = Run { flow, ownership, seat, wishes, stop, both, begun };
        run.run(upstream, &ready.preflight.tables).await
    }

    /// Reaches both databases again and looks at them as every start does; `None` if told to stop before.
    async fn reach_again(
        &self,
        flow: Flow<'_>,
        wishes: &Wishes,
        mut problem: Problem,
        pause: &mut Duration,
    ) -> Result<Option<(Ends, Ready)>, Problem> {
        loop {
            warn!(error = %problem.what, why = %problem.why, stream = %flow.stream, "interrupted, to be tried again");
            self.seat.board.change(|status| status.waiting_for = Some(format!("{}: {}", problem.what, problem.why)));
            if self.stop.run_until_cancelled(sleep(*pause)).await.is_none() {
                return Ok(None);
            }
            *pause = (*pause * 2).min(PAUSE_MAX);
            let reaching = async {
                let ends = Ends::connect(flow.migration).await?;
                let now = Flow { ends: &ends, ..flow };
                let ready = with_upstream!(now, upstream => ready(now, &upstream, wishes).await);
                Ok::<_, Problem>((ready.map_err(may_pass)?, ends))
            };
            match self.stop.run_until_cancelled(reaching).await {
                None => return Ok(None),
                Some(Ok((ready, ends))) => {
                    self.seat.board.change(|status| status.waiting_for = None);
                    return Ok(Some((ends, ready)));
                }
                Some(Err(again)) if again.class == Class::Transient => problem = again,
                Some(Err(definite)) => return Err(definite),
            }
        }
    }
}

/// A question that could not be answered is asked again.
fn may_pass(failure: Failure) -> Problem {
    match failure.exit {
        Exit::Unknown => Problem { class: Class::Transient, ..failure.problem },
        Exit::Done | Exit::Negative | Exit::Stopped => failure.problem,
    }
}
