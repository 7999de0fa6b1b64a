//! Taking up a turn that another process began, or this one before an outage.

use std::time::{Duration, Instant};

use tidegate_control::{Hooks, Observed, Step, TurnId};
use tidegate_model::Problem;
use tidegate_pipeline::Gate;
use tidegate_sql::turn::{Book, Recorded};

use super::Turn;

/// How old a request may be that begins a turn.
const BEGIN_WITHIN: Duration = Duration::from_secs(60);
/// The steps between the marker and the turn: the drained stream stands at the marker.
const STANDING: [Step; 4] = [Step::VerifyTouched, Step::Sequences, Step::RecordTurning, Step::Turn];

impl Turn<'_> {
    /// Brings about, before a step, what earlier steps did in a process that is gone.
    pub(super) async fn take_up(&mut self, step: Step) -> Result<(), Problem> {
        if STANDING.contains(&step) {
            self.stand_at_marker().await?;
        }
        if self.blocked_since.is_none() && step.is_write_blocked() {
            self.blocked_since = self.blocked_before().await?;
        }
        // What rounds have found is not written down.
        let before_fence = matches!(step, Step::OnFence | Step::Fence) && self.blocked_since.is_none();
        if before_fence && !self.rounds.have_run() {
            self.arm_feed().await?;
            let (migration, taken) = (self.migration(), self.taken);
            let seat = self.conductor.seat(self.drained());
            let say = |text: String| taken.progress(serde_json::json!({ "said": text }));
            self.rounds.run(migration, seat, say).await?;
        }
        Ok(())
    }

    /// Goes on with an attempt, by the commands that it was begun with where none are given now.
    pub(super) async fn recall(&mut self, ours: &mut Option<TurnId>, id: TurnId) -> Result<(), Problem> {
        if *ours == Some(id) {
            return Ok(());
        }
        for side in [self.direction().opening(), self.direction().closing()] {
            let recorded = recorded_hooks(&self.book(side), id).await?;
            self.request.policy.hooks = self.request.policy.hooks.clone().or(recorded);
        }
        *ours = Some(id);
        Ok(())
    }

    /// Nothing behind the marker is applied until the turn has happened or is given up.
    async fn stand_at_marker(&self) -> Result<(), Problem> {
        let seat = self.conductor.seat(self.drained());
        if seat.gate() == Gate::Open && !self.is_immediate().await? {
            seat.set_gate(Gate::Until(self.recorded_marker().await?));
        }
        Ok(())
    }

    /// Returns since when nothing can be written, if another process has closed the side already; by the clock of that
    /// database.
    async fn blocked_before(&self) -> Result<Option<Instant>, Problem> {
        let book = self.book(self.direction().closing());
        let Some(recorded) = book.newest().await? else { return Ok(None) };
        let began =
            recorded.steps.iter().filter(|row| [Step::OnFence.name(), Step::Fence.name()].contains(&&*row.name));
        let Some(began) = began.filter_map(|row| row.began_at).reduce(f64::min) else { return Ok(None) };
        let ago = Duration::from_secs_f64((book.now().await? - began).max(0.0));
        Ok(Some(Instant::now().checked_sub(ago).unwrap_or_else(Instant::now)))
    }

    /// Returns the attempt that this very request has made, if any: a request is taken again by whoever follows the
    /// process that had it, and a turn that was aborted meanwhile must not begin anew by itself.
    pub(super) async fn made(&self) -> Result<Option<TurnId>, Problem> {
        for side in [self.direction().opening(), self.direction().closing()] {
            let turns = self.book(side).turns().await?;
            let is_ours =
                |recorded: &&Recorded| recorded.detail(Step::Begin.name())["request"] == self.taken.request.id.as_str();
            if let Some(recorded) = turns.iter().find(is_ours) {
                return Ok(recorded.turn.parse().ok());
            }
        }
        Ok(None)
    }

    /// Returns the turn that leads to where the migration stands, if it is the one that is asked for: asking twice does
    /// it once.
    pub(super) async fn stands_already(&self, observed: &Observed) -> Result<Option<TurnId>, Problem> {
        if !is_turned(observed) {
            return Ok(None);
        }
        let turned = self.book(self.direction().opening()).turned().await?;
        Ok(turned["turn"].as_str().and_then(|id| id.parse().ok()))
    }

    /// Refuses to begin a turn that nobody waits for any more.
    pub(super) async fn refuse_late(&self) -> Result<(), Problem> {
        let Some(asked_at) = self.request.asked_at else { return Ok(()) };
        let ago = self.book(self.direction().opening()).now().await? - asked_at;
        if ago <= BEGIN_WITHIN.as_secs_f64() {
            return Ok(());
        }
        Err(Problem::definite(
            "CT095",
            format!("a {} was asked for {ago:.0} s ago and had not begun", self.direction()),
            "nobody ran the streams meanwhile, and whoever asked may have given up",
            "ask again",
        ))
    }
}

/// Returns the commands that an attempt was begun with, if this side has its record.
pub(super) async fn recorded_hooks(book: &Book<'_>, id: TurnId) -> Result<Hooks, Problem> {
    let recorded = book.recorded(&id.to_string()).await?;
    let hooks = recorded.map(|recorded| recorded.detail(Step::Begin.name())["hooks"].clone());
    Ok(hooks.and_then(|hooks| serde_json::from_value(hooks).ok()).unwrap_or_default())
}

/// Returns whether both sides say that the turn of this direction was the last one.
pub fn is_turned(observed: &Observed) -> bool {
    let (Some(closing), Some(opening)) = (observed.closing().says(), observed.opening().says()) else { return false };
    let phase = observed.direction.phase_after();
    opening.generation > 1
        && closing.generation == opening.generation
        && (closing.phase, opening.phase) == (phase, phase)
}
