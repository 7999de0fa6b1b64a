//! The steps themselves. Each may be done again.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_connect::Server;
use tidegate_control::{FenceKind, SequenceProof, Side, Step, TurnId, Turning, ready_to_fence};
use tidegate_model::{Position, Problem};
use tidegate_pipeline::Gate;
use tidegate_sql::fence::{self, Blocker, FenceOrder, Why};
use tidegate_sql::sequences;
use tidegate_sql::snapshot::SnapshotTaker;
use tidegate_sql::turn::{Opening, Recorded, StepState};
use tokio::time::sleep;
use tracing::{info, warn};

use super::certifying::{millis, now};
use super::immediate::immediate;
use super::{IMMEDIATE, Turn, hook, refused};
use crate::engine::{NoCopy, Seat, Upstream, with_upstream};
use crate::status::StreamState;

/// How often it is looked whether an armed feed has said something.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the removal of an opened side's triggers may wait for locks before it is tried again.
const TAKE_DOWN_MAX: Duration = Duration::from_secs(30);

impl Turn<'_> {
    /// Does a step, and returns what is worth recording of it.
    pub(super) async fn perform(&mut self, id: TurnId, step: Step) -> Result<Value, Problem> {
        match step {
            Step::Begin => Ok(Value::Null),
            Step::ArmFeed => self.arm_feed().await,
            Step::VerifyRounds => self.verify_rounds(id).await,
            Step::OnFence => {
                self.ready(id).await?;
                self.blocked_since.get_or_insert_with(Instant::now);
                self.hook(id, "on_fence", self.policy().hooks.on_fence.clone()).await
            }
            Step::Fence => self.fence(id).await,
            Step::Marker => self.marker().await,
            Step::Drain => self.drain(id).await,
            Step::VerifyTouched => self.verify_touched().await,
            Step::Sequences => self.sequences().await,
            Step::RecordTurning => self.record_turning(id).await,
            Step::Turn => self.turn(id).await,
            Step::GiveBack => self.give_back().await,
            Step::OnOpen => self.hook(id, "on_open", self.policy().hooks.on_open.clone()).await,
            Step::Follow => self.follow(id).await,
            Step::Park => self.park().await,
            Step::DropFenceTriggers => self.drop_fence_triggers().await,
            Step::Certificate => Ok(Value::Null),
            Step::FlowBothWays => self.flow_both_ways().await,
            Step::ConflictReport => self.conflict_report().await,
            Step::RefuseTurn | Step::RecordAbort | Step::OnAbort | Step::Unfence => {
                Err(Problem::bug("CT099", "a step that undoes was to be done forwards", step.name()))
            }
        }
    }

    async fn hook(&self, id: TurnId, place: &str, command: Option<String>) -> Result<Value, Problem> {
        match command {
            Some(command) => hook::run(&command, place, &self.migration().name, self.direction(), id).await,
            None => Ok(json!({ "skipped": "no command was given this time" })),
        }
    }

    /// Reads the side that will be opened, from now on, and applies nothing.
    pub(super) async fn arm_feed(&self) -> Result<Value, Problem> {
        let seat = self.conductor.seat(self.direction().armed());
        self.refuse_flowing(seat)?;
        // Before it runs: what it reads is to tell the row before, too.
        seat.arbitrate.store(self.is_immediate().await?, Ordering::Relaxed);
        if !seat.is_live() {
            seat.park(StreamState::Armed);
            self.conductor.seat(self.drained()).read_back.store(true, Ordering::Relaxed);
            seat.want(NoCopy::Now);
        }
        let began = Instant::now();
        let mut marked = None;
        loop {
            if let Some(why) = seat.failed() {
                let next = "repair that, and ask for the turn again";
                return Err(Problem::definite("CT016", "the feed of the side to be opened cannot run", why, next));
            }
            if seat.is_live() {
                let live = seat.live().await;
                let progress = live.handle.progress().borrow().clone();
                // An idle PostgreSQL says nothing by itself.
                let past = match &marked {
                    None if live.start.lsn().is_some() => {
                        let flow = self.flow(self.direction().armed());
                        marked = Some(with_upstream!(flow, upstream => upstream.marker().await?));
                        false
                    }
                    None => progress.received > live.start,
                    Some(marker) => progress.received >= *marker,
                };
                if past {
                    return Ok(json!({ "waited_ms": millis(began.elapsed()), "from": live.start.to_string() }));
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Refuses a turn that cannot tell what applications write at the side to be opened from what the stream writes there.
    pub(super) fn refuse_flowing(&self, seat: &Seat) -> Result<(), Problem> {
        let armed = self.direction().armed();
        if !self.ends.source.session.is_cockroach() && !self.ends.target.session.is_cockroach() {
            let why = "the way back between two PostgreSQL databases is not built yet";
            let next = "stop the writers, tidegate drain, tidegate verify, and point them at the target by hand";
            return Err(Problem::definite(
                "CT092",
                "a turn between two PostgreSQL databases is not possible",
                why,
                next,
            ));
        }
        if seat.flows() {
            let next = "a turn needs a migration that was begun without --direction both";
            let why = "both sides are open for writing, so none of them can be closed consistently";
            return Err(Problem::definite("CT094", format!("the {armed} stream flows already"), why, next));
        }
        if let Server::Cockroach(version) = self.end(self.direction().opening()).session.server()
            && !version.at_least(24, 1)
        {
            let why = "before v24.1 a changefeed cannot leave out what we wrote ourselves";
            let next = "upgrade the cluster to v24.1 or later";
            return Err(Problem::definite("CT093", "a turn to this CockroachDB is not possible", why, next));
        }
        Ok(())
    }

    /// Compares until what is left is small.
    async fn verify_rounds(&mut self, id: TurnId) -> Result<Value, Problem> {
        let (migration, taken) = (self.migration(), self.taken);
        let seat = self.conductor.seat(self.drained());
        let say = |text: String| taken.progress(json!({ "said": text }));
        let detail = self.rounds.run(migration, seat, say).await?;
        // Whatever keeps them from being moved on is told before anybody is stopped; behind the fence they go on from here.
        self.sequences().await?;
        self.ready(id).await?;
        Ok(detail)
    }

    /// Looks once more at everything before the fence.
    async fn ready(&self, id: TurnId) -> Result<(), Problem> {
        let observed = self.observe_all().await?;
        ready_to_fence(&observed, self.policy(), id).map_err(refused)
    }

    async fn fence(&mut self, id: TurnId) -> Result<Value, Problem> {
        if self.blocked_since.is_none() {
            self.ready(id).await?;
        }
        let since = *self.blocked_since.get_or_insert_with(Instant::now);
        let closing = self.direction().closing();
        let settings = self.end(closing).settings.clone();
        let budget = Duration::from_secs(self.policy().budget_seconds);
        let until = tokio::time::Instant::from_std(since + budget);
        let write_to = self.end(self.direction().opening()).settings.address();
        let mut order = FenceOrder::new(
            self.migration().name.clone(),
            id.to_string(),
            id.from(),
            self.closing_tables().await,
            write_to,
            until,
        );
        order.group_size = self.policy().fence_group_tables as usize;
        order.lock_timeout = Duration::from_millis(self.policy().fence_lock_timeout_ms);
        let kind = self.fence_kind();
        let taken = self.taken;
        let mut on_wait = |blockers: &[Blocker]| {
            let waiting: Vec<String> = blockers.iter().map(ToString::to_string).collect();
            taken.progress(json!({ "said": format!("the fence waits for {}", waiting.join("; ")) }));
        };
        let schema = &self.ends.schema;
        let mut writers: Vec<String> = Vec::new();
        let (fenced, unrevoked) = match kind {
            FenceKind::Trigger => (fence::put_up(&settings, schema, &order, &mut on_wait).await?, Vec::new()),
            FenceKind::Revoke => fence::put_up_by_revoke(&settings, schema, &order, &mut on_wait).await?,
            FenceKind::ReadOnly => {
                let (fenced, left) = fence::make_read_only(&settings, schema, &order, &mut on_wait).await?;
                // A session that overrides the setting writes on: the same locks, but nothing refuses it.
                let survivors = left.survivors.iter().map(|pid| format!("the session of process {pid}"));
                let roles = left.roles.iter().map(|role| format!("\"{role}\" has a setting of its own"));
                writers.extend(survivors.chain(roles));
                (fenced, Vec::new())
            }
            FenceKind::Command => (fence::barrier(&settings, &order, &mut on_wait).await?, Vec::new()),
        };
        // Administrators are known to everybody; an owner or a member is most often the application itself.
        writers.extend(unrevoked.iter().filter(|one| one.why != Why::Administrator).map(ToString::to_string));
        if !writers.is_empty() && !self.policy().accept.unrevocable_roles {
            return Err(not_fenced(&writers));
        }
        let unrevoked: Vec<String> = unrevoked.iter().map(ToString::to_string).chain(writers).collect();
        Ok(json!({ "kind": kind, "tables": fenced.tables.len(), "can_still_write": unrevoked }))
    }

    /// Returns how the closing side is closed.
    pub(super) fn fence_kind(&self) -> FenceKind {
        let at_cockroach = self.end(self.direction().closing()).session.is_cockroach();
        let default = if at_cockroach { FenceKind::Revoke } else { FenceKind::Trigger };
        self.policy().fence.unwrap_or(default)
    }

    /// Marks a place in the history behind the last write that the fence let through.
    async fn marker(&self) -> Result<Value, Problem> {
        let flow = self.flow(self.drained());
        let marker = with_upstream!(flow, upstream => upstream.marker().await?);
        Ok(json!({ "position": marker.to_string() }))
    }

    /// Lets the drained stream go exactly up to the marker, and no further: what comes behind it is nobody's.
    async fn drain(&mut self, _id: TurnId) -> Result<Value, Problem> {
        let began = Instant::now();
        let marker = self.recorded_marker().await?;
        let seat = self.conductor.seat(self.drained());
        seat.set_gate(Gate::Until(marker.clone()));
        let applied = seat.applied(&marker).await;
        let took = began.elapsed();
        if marker.hlc().is_some() {
            self.resolved_wait = took;
        }
        self.refuse_breaches().await?;
        Ok(json!({ "applied": applied.to_string(), "took_ms": millis(took) }))
    }

    async fn verify_touched(&mut self) -> Result<Value, Problem> {
        let (migration, seat) = (self.migration(), self.conductor.seat(self.drained()));
        self.rounds.last(migration, seat).await
    }

    /// Moves the sequences of the side that opens past what was used on the one that closes.
    async fn sequences(&self) -> Result<Value, Problem> {
        let (closing, opening) = (self.direction().closing(), self.direction().opening());
        let (from, to) = (&self.end(closing).session, &self.end(opening).session);
        let (closed, opened) = (sequences::list_sequences(from).await?, sequences::list_sequences(to).await?);
        let live = self.conductor.seat(self.drained()).live().await;
        let counterpart = |owner: &sequences::Owner| {
            let route = live.routes.iter().find(|route| route.map.source.name == owner.table)?;
            let column = route.map.columns.iter().find(|column| *column.source == *owner.column)?;
            Some(sequences::Owner { table: route.map.target.clone(), column: column.target.to_string() })
        };
        let pairs = sequences::pair(&closed, &opened, counterpart);
        let margin = u32::try_from(self.policy().sequence_margin).unwrap_or(u32::MAX);
        let mut used = pairs.clone();
        if self.is_immediate().await? {
            // The side that stays open goes on handing out values, also of those that it has not used yet.
            used.iter_mut().for_each(|pair| pair.source.is_called = true);
        }
        let advanced = sequences::advance(to, &used, margin).await?;
        let proof = |advanced: &sequences::Advanced| {
            let pair =
                pairs.iter().find(|pair| pair.target.as_ref().is_some_and(|target| target.name == advanced.name));
            let last = pair.and_then(|pair| pair.source.is_called.then_some(pair.source.last_value));
            Some(SequenceProof { name: advanced.name.to_string(), closed_last: last, opened_next: advanced.next? })
        };
        let proofs: Vec<SequenceProof> = advanced.iter().filter_map(proof).collect();
        let alone: Vec<String> =
            pairs.iter().filter(|pair| pair.target.is_none()).map(|pair| pair.source.name.to_string()).collect();
        Ok(json!({ "sequences": proofs, "without_counterpart": alone }))
    }

    async fn record_turning(&self, id: TurnId) -> Result<Value, Problem> {
        self.refuse_breaches().await?;
        let (begun, turning) = (Turning::Begun(id).to_string(), Turning::Turning(id).to_string());
        self.book(self.direction().closing()).set(id.from(), Some(&begun), &turning).await?;
        Ok(Value::Null)
    }

    /// The turn: one write in the side that opens.
    async fn turn(&mut self, id: TurnId) -> Result<Value, Problem> {
        let (closing, opening) = (self.direction().closing(), self.direction().opening());
        let recorded = self.book(closing).recorded(&id.to_string()).await?;
        let mut recorded = recorded.ok_or_else(|| Problem::bug("CT099", "a turn has no record", id.to_string()))?;
        let immediate = immediate(&recorded);
        if immediate {
            self.arbitrate().await?;
        }
        // Where both sides stay open, nothing stands still that would say where the other one begins.
        let opened_at = if immediate { None } else { self.drained_checkpoint().await? };
        let blocked = self.blocked_since.map(|since| since.elapsed());
        let detail = json!({
            "at": now(),
            "opened_at": opened_at,
            "write_blocked_ms": blocked.map(millis),
            "resolved_wait_ms": millis(self.resolved_wait),
        });
        mark_done(&mut recorded, &detail);
        let phase = self.direction().phase_after().to_string();
        let marker = recorded.detail(Step::Marker.name())["position"].clone();
        let turn = Opening {
            turn: id.to_string(),
            refused: Turning::Aborted(id).to_string(),
            generation: id.from(),
            phase,
            record: json!({
                "closed_at": marker,
                "opened_at": opened_at,
                "direction": self.direction(),
                IMMEDIATE: immediate,
            }),
            recorded,
        };
        let book = self.book(opening);
        book.open(&turn).await?;
        // From here on whoever writes there may: no breach, though nothing of it is applied before the streams change places.
        self.conductor.seat(self.direction().armed()).park(StreamState::Held);
        info!(turn = %id, opening = %opening, "opened");
        Ok(detail)
    }

    /// Gives back, at the opened side, what an earlier fence there revoked.
    async fn give_back(&self) -> Result<Value, Problem> {
        let book = self.book(self.direction().opening());
        fence::give_back(book.session, book.schema, book.name).await?;
        if !book.session.is_cockroach() {
            fence::make_writable(book.session, book.schema, book.name).await?;
        }
        Ok(Value::Null)
    }

    async fn follow(&self, id: TurnId) -> Result<Value, Problem> {
        let record = self.book(self.direction().opening()).turned().await?;
        let phase = self.direction().phase_after().to_string();
        self.book(self.direction().closing()).follow(id.to, &phase, &record).await?;
        Ok(Value::Null)
    }

    /// The streams change places.
    async fn park(&self) -> Result<Value, Problem> {
        let (drained, armed) = (self.conductor.seat(self.drained()), self.conductor.seat(self.direction().armed()));
        drained.park(StreamState::Parked);
        drained.read_back.store(true, Ordering::Relaxed);
        armed.read_back.store(true, Ordering::Relaxed);
        // After a restart in the middle of a turn it may not have run since.
        armed.want(NoCopy::Now);
        let early = self.written_too_early(armed).await?;
        if let Some(first) = early.first() {
            let (count, opening) = (early.len(), self.direction().opening());
            warn!(count, %first, %opening, "BREACH: somebody wrote there before it was opened");
        }
        armed.set_gate(Gate::Open);
        let first = early.first().map(ToString::to_string);
        Ok(json!({ "breaches": early.len(), "first_breach": first }))
    }

    /// Returns the transactions of others at the opened side from before its opening, as far as they could not be seen
    /// before the turn: the feed of that side is behind by the pace of its resolved timestamps.
    async fn written_too_early(&self, armed: &Seat) -> Result<Vec<Position>, Problem> {
        let record = self.book(self.direction().opening()).turned().await?;
        let opened_at = record["opened_at"].as_str().and_then(|text| text.parse::<Position>().ok());
        // Also where there is nothing to look for: a stream that runs has taken the role that it had before this step.
        while !armed.is_live() {
            if let Some(why) = armed.failed() {
                let next = "it is tried again; repair what it names";
                return Err(Problem::transient("CT016", "the stream of the opened side does not run", why, next));
            }
            sleep(LOOK_EVERY).await;
        }
        let Some(opened_at) = opened_at else { return Ok(Vec::new()) };
        armed.live().await.handle.received(&opened_at).await?;
        let early = armed.breaches().await?.into_iter().map(|pending| pending.position);
        Ok(early.filter(|position| position.is_at_or_before(&opened_at)).collect())
    }

    async fn drop_fence_triggers(&self) -> Result<Value, Problem> {
        let opened = self.end(self.direction().opening());
        if opened.session.is_cockroach() {
            return Ok(Value::Null);
        }
        let until = tokio::time::Instant::now() + TAKE_DOWN_MAX;
        let tables = fence::take_down(&opened.settings, &self.migration().name, until, &mut |_| {}).await?;
        Ok(json!({ "tables": tables.len() }))
    }

    /// Refuses to go on where somebody has written to the side that is closed, or to the one that is not open yet.
    async fn refuse_breaches(&self) -> Result<(), Problem> {
        // What an open side has to carry is no breach.
        let drained = (!self.is_immediate().await?).then(|| self.drained());
        for stream in drained.into_iter().chain([self.direction().armed()]) {
            let seat = self.conductor.seat(stream);
            if !seat.is_live() {
                continue;
            }
            let breaches = seat.breaches().await?;
            if let Some(first) = breaches.first() {
                return Err(breach(stream, breaches.len(), &first.position));
            }
        }
        Ok(())
    }

    pub(super) async fn recorded_marker(&self) -> Result<Position, Problem> {
        let recorded = self.book(self.direction().closing()).newest().await?;
        let text = recorded.as_ref().and_then(|recorded| recorded.detail(Step::Marker.name())["position"].as_str());
        let marker = text.and_then(|text| text.parse().ok());
        marker.ok_or_else(|| {
            Problem::bug("CT099", "the marker of a turn is not recorded", "its step says that it is done")
        })
    }

    /// Returns the commit of the drained checkpoint: all at or before it came from us. Nothing at PostgreSQL, where the
    /// other stream goes on from its own checkpoint.
    async fn drained_checkpoint(&self) -> Result<Option<String>, Problem> {
        let opening = self.end(self.direction().opening());
        if self.direction().opening() == Side::Source || !opening.session.is_cockroach() {
            return Ok(None);
        }
        let key = self.flow(self.drained()).key()?;
        let checkpoint = tidegate_sql::state::read_checkpoint(&opening.session, &key).await?;
        let Some(at) = checkpoint.and_then(|checkpoint| checkpoint.position) else { return Ok(None) };
        let committed_at = SnapshotTaker::open(&opening.settings, &key).await?.committed_at(&at).await?;
        Ok(Some(Position::cockroach(committed_at).to_string()))
    }
}

/// What is copied to the opened side says that everything up to the turn is done.
fn mark_done(recorded: &mut Recorded, detail: &Value) {
    let last_end = recorded.steps.iter().filter_map(|row| row.ended_at).fold(0.0, f64::max);
    let is_later = |name: &str| name == Step::Turn.name();
    for row in &mut recorded.steps {
        if is_later(&row.name) {
            row.state = StepState::Done;
            row.detail = detail.clone();
            (row.began_at, row.ended_at) = (Some(last_end), Some(last_end));
            break;
        }
        row.state = StepState::Done;
    }
}

fn breach(stream: tidegate_model::Stream, count: usize, first: &Position) -> Problem {
    Problem::definite(
        "CT015",
        format!("somebody wrote where nobody may: {count} transactions on the {stream} stream"),
        format!("the first one ends at {first}; none of them is applied"),
        "find the writer and stop it; tidegate verify --repair gives up what was written there; then turn again",
    )
}

fn not_fenced(writers: &[String]) -> Problem {
    Problem::definite(
        "CT013",
        "the fence does not stop everybody",
        format!("these can still write: {}", writers.join(", ")),
        "stop them, or have them use another role; or take it as it is: --accept CT013",
    )
}
