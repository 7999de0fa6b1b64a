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

    /// Reads the roles off what both sides say. `reverse`: the reverse stream has a checkpoint; `turned`: a turn was begun
    /// at some time; without one, a reverse stream flows because both directions were asked for. `both_open`: the turn that
    /// led to this generation was an immediate one.
    pub fn of(pair: &Pair, reverse: bool, turned: bool, both_open: bool) -> Roles {
        let (forward, reverse) = match both_open {
            true => (Role::Flows, Role::Flows),
            false => Roles::one_open(pair, reverse, turned),
        };
        Roles { forward, reverse, arbitrated: both_open }
    }

    fn one_open(pair: &Pair, reverse: bool, turned: bool) -> (Role, Role) {
        let generation =
            [&pair.source, &pair.target].into_iter().flatten().map(|row| row.generation).max().unwrap_or(1);
        match (generation, reverse) {
            (1, false) => (Role::Flows, Role::Off),
            (1, true) if turned => (Role::Flows, Role::Parked(StreamState::Armed)),
            (1, true) => (Role::Flows, Role::Flows),
            (odd, _) if odd % 2 == 1 => (Role::Flows, Role::Parked(StreamState::Parked)),
            _ => (Role::Parked(StreamState::Parked), Role::Flows),
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
        let roles = |source, target| {
            let roles = Roles::of(&pair(source, target), true, true, false);
            (roles.forward, roles.reverse)
        };
        assert_eq!(roles(1, 1), (Role::Flows, Role::Parked(StreamState::Armed)));
        let reversed = (Role::Parked(StreamState::Parked), Role::Flows);
        assert_eq!(roles(2, 2), reversed);
        assert_eq!(roles(1, 2), reversed, "the higher generation is the truth");
        assert_eq!(roles(3, 2), (Role::Flows, Role::Parked(StreamState::Parked)));
        assert_eq!(Roles::of(&pair(1, 1), true, false, false).reverse, Role::Flows);
        assert_eq!(Roles::of(&Pair { source: None, target: None }, false, false, false).reverse, Role::Off);
    }

    #[test]
    fn behind_an_immediate_turn_both_flow_and_judge_what_they_find() {
        let both = Roles { forward: Role::Flows, reverse: Role::Flows, arbitrated: true };
        assert_eq!(Roles::of(&pair(1, 2), true, true, true), both);
        assert!(!Roles::of(&pair(1, 1), true, false, false).arbitrated, "both directions without a turn");
    }
}
