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
    /// at some time; without one, a reverse stream flows because both directions were asked for.
    pub fn of(pair: &Pair, reverse: bool, turned: bool) -> Roles {
        let generation =
            [&pair.source, &pair.target].into_iter().flatten().map(|row| row.generation).max().unwrap_or(1);
        match (generation, reverse) {
            (1, false) => Roles { forward: Role::Flows, reverse: Role::Off },
            (1, true) if turned => Roles { forward: Role::Flows, reverse: Role::Parked(StreamState::Armed) },
            (1, true) => Roles { forward: Role::Flows, reverse: Role::Flows },
            (odd, _) if odd % 2 == 1 => Roles { forward: Role::Flows, reverse: Role::Parked(StreamState::Parked) },
            _ => Roles { forward: Role::Parked(StreamState::Parked), reverse: Role::Flows },
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
        let roles = |source, target| Roles::of(&pair(source, target), true, true);
        assert_eq!(roles(1, 1), Roles { forward: Role::Flows, reverse: Role::Parked(StreamState::Armed) });
        let reversed = Roles { forward: Role::Parked(StreamState::Parked), reverse: Role::Flows };
        assert_eq!(roles(2, 2), reversed);
        assert_eq!(roles(1, 2), reversed, "the higher generation is the truth");
        assert_eq!(roles(3, 2).forward, Role::Flows);
        assert_eq!(roles(3, 2).reverse, Role::Parked(StreamState::Parked));
        assert_eq!(Roles::of(&pair(1, 1), true, false).reverse, Role::Flows);
        assert_eq!(Roles::of(&Pair { source: None, target: None }, false, false).reverse, Role::Off);
    }
}
