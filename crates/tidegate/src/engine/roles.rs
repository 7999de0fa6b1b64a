//! What each stream does, from where the migration stands.

use tidegate_model::Stream;
use tidegate_pipeline::Gate;
use tidegate_sql::state::Pair;

use crate::status::StreamState;

/// What each stream does.
#[derive(Clone, Debug, PartialEq)]
pub struct Roles {
    pub forward: Role,
    pub reverse: Role,
    /// Both sides are open since an immediate turn: each stream judges its changes by the rows that they find.
    pub arbitrated: bool,
}

/// What the turns of a migration have left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turns {
    /// One was begun at some time.
    pub begun: bool,
    /// The one that led to this generation left both sides open.
    pub both_open: bool,
    /// The one that led to this generation has still to see whether anybody wrote to the opened side before it was open:
    /// until then nothing of that side is applied.
    pub unparked: bool,
}

/// What a stream does.
#[derive(Clone, Debug, PartialEq)]
pub enum Role {
    /// It does not run.
    Off,
    /// It applies what it reads.
    Flows,
    /// Its source is not open for writing: it reads, applies nothing, and takes a change for a breach. Shown as the state.
    Parked(StreamState),
}

impl Role {
    pub fn gate(&self) -> Gate {
        match self {
            Role::Off | Role::Flows => Gate::Open,
            Role::Parked(_) => Gate::Parked,
        }
    }
}

impl Roles {
    /// Returns what a stream does.
    pub fn of_stream(&self, stream: Stream) -> &Role {
        match stream {
            Stream::Forward => &self.forward,
            Stream::Reverse => &self.reverse,
        }
    }

    /// Reads the roles off what both sides say. `reverse`: the reverse stream has a checkpoint. Where no turn was begun, it
    /// flows because both directions were asked for.
    pub fn of(pair: &Pair, reverse: bool, turns: Turns) -> Roles {
        let (forward, reverse) = match turns.both_open {
            true => (Role::Flows, Role::Flows),
            false => Roles::one_open(pair, reverse, turns),
        };
        Roles { forward, reverse, arbitrated: turns.both_open }
    }

    fn one_open(pair: &Pair, reverse: bool, turns: Turns) -> (Role, Role) {
        let generation =
            [&pair.source, &pair.target].into_iter().flatten().map(|row| row.generation).max().unwrap_or(1);
        let parked = Role::Parked(StreamState::Parked);
        let flowing = if turns.unparked { Role::Parked(StreamState::Held) } else { Role::Flows };
        match (generation, reverse) {
            (1, false) => (Role::Flows, Role::Off),
            (1, true) if turns.begun => (Role::Flows, Role::Parked(StreamState::Armed)),
            (1, true) => (Role::Flows, Role::Flows),
            (odd, _) if odd % 2 == 1 => (flowing, parked),
            _ => (parked, flowing),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tidegate_sql::state::MigrationRow;

    use super::*;

    fn pair(source: i64, target: i64) -> Pair {
        let row = |generation| {
            let (phase, side) = (String::new(), String::new());
            Some(MigrationRow { generation, phase, turning: None, side, settings: Value::Null })
        };
        Pair { source: row(source), target: row(target) }
    }

    #[test]
    fn one_side_is_open_and_the_other_stream_is_parked() {
        let turns = Turns { begun: true, ..Turns::default() };
        let roles = |source, target| {
            let roles = Roles::of(&pair(source, target), true, turns);
            (roles.forward, roles.reverse)
        };
        assert_eq!(roles(1, 1), (Role::Flows, Role::Parked(StreamState::Armed)));
        let reversed = (Role::Parked(StreamState::Parked), Role::Flows);
        assert_eq!(roles(2, 2), reversed);
        assert_eq!(roles(1, 2), reversed, "the higher generation is the truth");
        assert_eq!(roles(3, 2), (Role::Flows, Role::Parked(StreamState::Parked)));
        assert_eq!(Roles::of(&pair(1, 1), true, Turns::default()).reverse, Role::Flows);
        assert_eq!(Roles::of(&Pair { source: None, target: None }, false, Turns::default()).reverse, Role::Off);
    }

    #[test]
    fn nothing_of_an_opened_side_is_applied_before_the_streams_have_changed_places() {
        let turns = Turns { begun: true, unparked: true, both_open: false };
        let (parked, held) = (Role::Parked(StreamState::Parked), Role::Parked(StreamState::Held));
        let roles = Roles::of(&pair(1, 2), true, turns);
        assert_eq!((roles.forward, roles.reverse), (parked.clone(), held.clone()));
        let roles = Roles::of(&pair(3, 3), true, turns);
        assert_eq!((roles.forward, roles.reverse), (held, parked));
    }

    #[test]
    fn behind_an_immediate_turn_both_flow_and_judge_what_they_find() {
        let both = Roles { forward: Role::Flows, reverse: Role::Flows, arbitrated: true };
        let turns = Turns { begun: true, both_open: true, unparked: false };
        assert_eq!(Roles::of(&pair(1, 2), true, turns), both);
        assert!(!Roles::of(&pair(1, 1), true, Turns::default()).arbitrated, "both directions without a turn");
    }
}
