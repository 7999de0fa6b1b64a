//! What must never be true in a world, and what must be possible.

use stateright::Property;
use tidegate_control::{AbortRule, Next, Policy, Side, Turning, abort_rule, abort_steps, resume};

use crate::config::{Config, Variant};
use crate::world::{Database, SIDES, TABLES, Wish, World};

pub const NEVER_BOTH: &str = "no table is ever writable at both sides";
pub const NOTHING_LOST: &str = "the open side has every acknowledged write";
pub const ABORTABLE: &str = "an attempt can be undone exactly until the other side is open";

/// Returns every promise.
pub fn all() -> Vec<Property<Config>> {
    vec![
        Property::always(NEVER_BOTH, |_, world: &World| {
            (0..TABLES).all(|table| !world.databases.iter().all(|database| database.lets_pass(table)))
        }),
        Property::always(NOTHING_LOST, |_, world: &World| world.acknowledged & !world.database(world.open()).rows == 0),
        Property::always(ABORTABLE, Config::abort_is_ruled_rightly),
        Property::sometimes("a turn is finished", |config: &Config, world: &World| {
            config.has_ended(world) && world.database(Side::Source).generation == config.generations
        }),
        Property::sometimes("the last attempt is undone", |config: &Config, world: &World| {
            let aborted = |database: &Database| match database.turning {
                Some(Turning::Aborted(id)) => id.attempt == config.attempts,
                Some(Turning::Begun(_) | Turning::Turning(_)) | None => false,
            };
            config.has_ended(world) && world.databases.iter().any(aborted)
        }),
    ]
}

impl Config {
    /// Whether nothing is left to do: no turn is unfinished, the open side takes every write, both sides are equal.
    pub fn has_ended(&self, world: &World) -> bool {
        let open = world.database(world.open());
        resume(&world.view().observed(Wish::Turn, self)) == Next::Nothing
            && world.databases.iter().all(|database| database.up)
            && (0..TABLES).all(|table| open.is_writable(table))
            && world.pending().is_none()
    }

    /// Before `turning` the closing side alone is enough to undo an attempt; with it both are needed; after the turn
    /// nothing undoes it.
    fn abort_is_ruled_rightly(&self, world: &World) -> bool {
        let both = World {
            databases: world.databases.clone().map(|database| Database { up: true, ..database }),
            ..world.clone()
        };
        SIDES.into_iter().all(|closing| match both.database(closing).turning {
            Some(Turning::Begun(id)) if self.variant == Variant::Whole => {
                let opened = both.database(closing.other()).generation >= id.to;
                !opened && both.may_abort_alone(closing, self)
            }
            Some(Turning::Turning(id)) => {
                let opened = both.database(closing.other()).generation >= id.to;
                let observed = both.view().observed(Wish::Turn, self);
                let possible = abort_steps(&observed, &Policy::default()).is_ok();
                !both.may_abort_alone(closing, self)
                    && possible != opened
                    && (abort_rule(&observed) == AbortRule::Never) == opened
            }
            _ => true,
        })
    }
}

impl World {
    /// Whether an attempt may be undone while the other side cannot be read.
    fn may_abort_alone(&self, closing: Side, config: &Config) -> bool {
        let mut world = self.clone();
        world.database_mut(closing.other()).up = false;
        abort_steps(&world.view().observed(Wish::Turn, config), &Policy::default()).is_ok()
    }
}
