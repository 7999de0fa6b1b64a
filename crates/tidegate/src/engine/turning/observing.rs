//! What the planner wants to know of both sides.

use tidegate_connect::{Server, Session};
use tidegate_control::{
    Breach, Database, Direction, Feed, FenceKind, FenceSeen, LongWriter, Observed, Phase, PreparedTransaction,
    RecordedStep, RecordedTurn, Rights, Side, SideSays, SideSeen, Step, StepState, StreamSeen, StreamState as Shown,
};
use tidegate_model::{MigrationName, Problem, ReplicaIdentity, Stream, TableMap, TableName};
use tidegate_sql::fence::{self, Why};
use tidegate_sql::state::{self, StateSchema};
use tidegate_sql::turn::{self, Book};

use super::super::Ends;
use super::Turn;
use super::rounds::Rounds;
use crate::config::Migration;
use crate::status::StreamState;

/// Reads what one side says of the migration and its turns.
pub(super) async fn side(session: &Session, schema: &StateSchema, name: &MigrationName) -> Result<SideSays, Problem> {
    let row = state::read_migration(session, schema, name).await?.ok_or_else(|| unknown(name))?;
    let book = Book { session, schema, name };
    let recorded = book.newest().await?.as_ref().map(recorded).transpose()?;
    let fence = match fence::read_fence(session, schema, name).await? {
        Some(row) if row.is_up => {
            let kind = match fence::revoked(session, schema, name).await? {
                true => FenceKind::Revoke,
                false => FenceKind::Trigger,
            };
            // Which tables have it is asked only where it matters; that it is up is what the row says.
            Some(FenceSeen { kind, opens_at: row.opens_at.unwrap_or(i64::MAX), tables: 1 })
        }
        _ => None,
    };
    let phase = match row.phase.as_str() {
        "cutover" => Phase::Cutover,
        "reversed" => Phase::Reversed,
        "final" => Phase::Final,
        _ => Phase::Initial,
    };
    let turning =
        row.turning.map(|text| text.parse()).transpose().map_err(|error: tidegate_control::InvalidTurning| {
            Problem::definite("CT099", "the state of a turn cannot be read", error.to_string(), "restore the row")
        })?;
    let database = match session.server() {
        Server::Postgres { .. } => Database::Postgres,
        Server::Cockroach(version) => Database::Cockroach { version: (version.major, version.minor) },
    };
    Ok(SideSays { database, generation: row.generation, phase, turning, turn: recorded, fence })
}

/// Steps that this program does not know are another version's.
fn recorded(recorded: &turn::Recorded) -> Result<RecordedTurn, Problem> {
    let unreadable = |why: String| {
        Problem::definite("CT099", "the record of a turn cannot be read", why, "use the program that began the turn")
    };
    let id = recorded.turn.parse().map_err(|error: tidegate_control::InvalidTurning| unreadable(error.to_string()))?;
    let step = |row: &turn::StepRow| {
        let step = Step::named(&row.name).ok_or_else(|| unreadable(format!("step \"{}\" is unknown", row.name)))?;
        let state = match row.state {
            turn::StepState::Planned => StepState::Planned,
            turn::StepState::Begun => StepState::Begun,
            turn::StepState::Done => StepState::Done,
        };
        Ok(RecordedStep { step, state })
    };
    Ok(RecordedTurn { id, steps: recorded.steps.iter().map(step).collect::<Result<_, Problem>>()? })
}

/// Reads both sides; one that cannot be read says why.
pub(super) async fn sides(ends: &Ends, migration: &Migration, direction: Direction) -> Observed {
    let (schema, name) = (&ends.schema, &migration.name);
    let seen = |said: Result<SideSays, Problem>| match said {
        Ok(says) => SideSeen::Read(says),
        Err(problem) => SideSeen::Unreachable { why: format!("{}: {}", problem.what, problem.why) },
    };
    let (source, target) =
        tokio::join!(side(&ends.source.session, schema, name), side(&ends.target.session, schema, name));
    observed(migration, direction, seen(source), seen(target))
}

/// Makes an observation that knows nothing but the sides.
pub(super) fn observed(migration: &Migration, direction: Direction, source: SideSeen, target: SideSeen) -> Observed {
    Observed {
        migration: migration.name.to_string(),
        direction,
        source,
        target,
        drained: StreamSeen { state: Shown::Stopped, applied: None, lag_seconds: 0.0 },
        feed: Feed::Unarmed,
        verify: Rounds::default().seen(),
        not_carried: Vec::new(),
        not_judged: Vec::new(),
        dead_letters: 0,
        prepared: Vec::new(),
        long_writers: Vec::new(),
        rights: Rights {
            no_lock: Vec::new(),
            no_trigger: Vec::new(),
            no_revoke: Vec::new(),
            unrevocable_roles: Vec::new(),
            sessions_of_our_role: Vec::new(),
            may_keep_state: true,
        },
        breaches: Vec::new(),
        gc_window_left_seconds: None,
    }
}

impl Turn<'_> {
    /// Reads what both sides say of the turn.
    pub(super) async fn observe_sides(&self) -> Result<Observed, Problem> {
        Ok(sides(&self.ends, self.migration(), self.direction()).await)
    }

    /// Reads everything that a plan is made of.
    pub(super) async fn observe_all(&self) -> Result<Observed, Problem> {
        let mut seen = self.observe_sides().await?;
        let direction = self.direction();
        let drained = self.conductor.seat(direction.drained()).board.subscribe().borrow().clone();
        seen.drained = StreamSeen {
            state: shown(drained.state),
            applied: drained.applied_position.as_ref().and_then(|text| text.parse().ok()),
            lag_seconds: drained.apply_lag_seconds.unwrap_or(0.0),
        };
        seen.not_carried = drained.not_carried;
        let armed = self.conductor.seat(direction.armed());
        seen.feed = match (armed.failed(), armed.is_live()) {
            (Some(why), _) => Feed::Impossible { why },
            (None, false) => Feed::Unarmed,
            (None, true) => Feed::Armed { first_resolved_seen: self.feed_has_moved().await },
        };
        seen.gc_window_left_seconds =
            armed.board.subscribe().borrow().history_seconds_left.map(|left| left.max(0.0) as u64);
        if armed.is_live() {
            let position = |pending: tidegate_pipeline::Pending| Some(pending.position);
            let breach = |pending| Breach { table: "(see the stream)".to_owned(), position: position(pending) };
            seen.breaches = armed.breaches().await?.into_iter().map(breach).collect();
        }
        seen.verify = self.rounds.seen();
        if !self.conductor.seat(direction.drained()).is_live() {
            // A refusal says so; the rest can wait for it.
            seen.drained.state = Shown::Stopped;
            return Ok(seen);
        }
        seen.not_judged = self.not_judged().await;
        self.see_writers(&mut seen).await?;
        seen.rights = self.rights().await?;
        Ok(seen)
    }

    /// Returns whether an armed feed has said that it is past its start.
    async fn feed_has_moved(&self) -> bool {
        let live = self.conductor.seat(self.direction().armed()).live().await;
        let progress = live.handle.progress();
        let progress = progress.borrow();
        progress.received > live.start
    }

    /// Sees whom a fence would have to wait for. CockroachDB's waits for nobody: a write without the privilege fails.
    async fn see_writers(&self, seen: &mut Observed) -> Result<(), Problem> {
        let closing = &self.end(self.direction().closing()).session;
        if closing.is_cockroach() {
            return Ok(());
        }
        for writer in fence::writers(closing, &self.closing_tables().await).await? {
            let age_seconds = writer.age.as_secs_f64();
            match writer.pid {
                Some(_) if writer.is_autovacuum => {}
                Some(pid) => seen.long_writers.push(LongWriter { pid, age_seconds, query: writer.query }),
                None => seen.prepared.push(PreparedTransaction { gid: writer.query, age_seconds }),
            }
        }
        Ok(())
    }

    async fn rights(&self) -> Result<Rights, Problem> {
        let closing = &self.end(self.direction().closing()).session;
        let tables = self.closing_tables().await;
        let not_owned = if closing.is_cockroach() { Vec::new() } else { fence::not_owned(closing, &tables).await? };
        let names: Vec<String> = not_owned.iter().map(ToString::to_string).collect();
        let (mut unrevocable_roles, mut sessions_of_our_role) = (Vec::new(), Vec::new());
        if self.fence_kind() == FenceKind::Revoke {
            let left = fence::unrevoked(closing, &tables).await?.into_iter();
            // Administrators are known to everybody; an owner or a member is most often the application itself.
            unrevocable_roles = left.filter(|one| one.why != Why::Administrator).map(|one| one.to_string()).collect();
            sessions_of_our_role = fence::sessions_of_our_role(closing).await?;
        }
        Ok(Rights {
            no_lock: names.clone(),
            no_trigger: names.clone(),
            no_revoke: names,
            unrevocable_roles,
            sessions_of_our_role,
            may_keep_state: true,
        })
    }

    /// Returns the tables whose changes do not tell the whole row before. Of a CockroachDB a feed always does.
    async fn not_judged(&self) -> Vec<String> {
        let mut found = Vec::new();
        for stream in [self.drained(), self.direction().armed()] {
            let seat = self.conductor.seat(stream);
            if stream != self.drained() && !seat.is_live() {
                continue;
            }
            let live = seat.live().await;
            let of_postgres = live.start.lsn().is_some();
            let is_judged = |map: &TableMap| {
                !map.key.is_empty() && (!of_postgres || map.source.replica_identity == ReplicaIdentity::Full)
            };
            let tables = live.routes.iter().map(|route| &route.map).filter(|map| !is_judged(map));
            found.extend(tables.map(|map| map.source.name.to_string()));
        }
        found.sort();
        found.dedup();
        found
    }

    /// Returns the tables that the turn closes.
    pub(super) async fn closing_tables(&self) -> Vec<TableName> {
        let drained = self.conductor.seat(self.direction().drained()).live().await;
        drained.routes.iter().map(|route| route.map.source.name.clone()).collect()
    }

    /// Returns the stream that the turn drains.
    pub(super) fn drained(&self) -> Stream {
        self.direction().drained()
    }
}

fn shown(state: StreamState) -> Shown {
    match state {
        StreamState::Copying => Shown::Copying,
        StreamState::CatchingUp => Shown::CatchingUp,
        StreamState::Streaming => Shown::Streaming,
        StreamState::Held => Shown::Held,
        StreamState::Armed => Shown::Armed,
        StreamState::Parked => Shown::Parked,
        StreamState::Stopped => Shown::Stopped,
    }
}

/// Returns the end of a side.
pub(super) fn end(ends: &Ends, side: Side) -> &super::super::ends::End {
    match side {
        Side::Source => &ends.source,
        Side::Target => &ends.target,
    }
}

fn unknown(name: &MigrationName) -> Problem {
    let what = format!("a side does not know migration \"{name}\"");
    Problem::definite("MI010", what, "it has no row of that name", "check --source, --target and --name")
}
