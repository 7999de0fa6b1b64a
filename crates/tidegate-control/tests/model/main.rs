//! The machine of a turn, searched completely: two databases, writers on both, processes that are killed at every step
//! and lose every answer, a second process, requests that arrive late. The executor takes each step from the planner of
//! the real program.

mod config;
mod executor;
mod machine;
mod promises;
mod reach;
mod server;
mod world;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};
use tidegate_control::{Side, Turning};

use config::{Config, Variant};
use promises::{NEVER_BOTH, NOTHING_LOST};
use reach::Graph;
use world::{Database, World};

/// Searches all of it for a broken promise, and for a state without a way out.
fn holds(config: Config) {
    let began = Instant::now();
    let checker = config.clone().checker().threads(2).spawn_bfs().join();
    println!("{} states, deepest {}, {:?}", checker.unique_state_count(), checker.max_depth(), began.elapsed());
    checker.assert_properties();
}

fn ends(config: Config) {
    let began = Instant::now();
    let graph = Graph::explore(&config);
    let stuck = graph.stuck(|_| true, |world| config.has_ended(world));
    assert_eq!(stuck, None, "no ended state can be reached from here");
    let stuck = graph.stuck(may_be_undone, is_undone);
    assert_eq!(stuck, None, "this attempt cannot be undone");
    println!("{} states, an end in reach of each, {:?}", graph.len(), began.elapsed());
}

fn may_be_undone(world: &World) -> bool {
    let begun = |database: &Database| matches!(database.turning, Some(Turning::Begun(_)));
    world.databases.iter().any(begun)
}

fn is_undone(world: &World) -> bool {
    let aborted = |database: &Database| matches!(database.turning, Some(Turning::Aborted(_)));
    world
        .databases
        .iter()
        .any(|database| aborted(database) && (0..world::TABLES).all(|table| database.lets_pass(table)))
}

/// Searches until that promise is broken, and says how.
fn breaks(promise: &'static str, config: Config) {
    let variant = config.variant;
    let until = HasDiscoveries::AnyOf([promise].into());
    let checker = config.checker().finish_when(until).spawn_bfs().join();
    let path = checker.discovery(promise).unwrap_or_else(|| panic!("{variant:?} does not break \"{promise}\""));
    println!("{variant:?} breaks \"{promise}\": {:?}", path.into_actions());
}

fn whole() -> Config {
    Config::new(Variant::Whole)
}

fn grants() -> Config {
    Config::with_grants(Variant::Whole)
}

#[test]
fn two_processes_at_one_turn_keep_every_promise() {
    holds(Config { attempts: 1, writes: 1, ..whole() });
}

#[test]
fn a_second_attempt_after_an_undone_one_keeps_every_promise() {
    holds(Config { processes: 1, writes: 1, ..whole() });
    holds(Config { processes: 1, flying: 2, writes: 1, outages: 0, ..whole() });
}

#[test]
fn cutover_and_failback_keep_every_promise() {
    holds(Config { processes: 1, attempts: 1, generations: 3, ..whole() });
}

#[test]
fn fences_of_grants_keep_every_promise() {
    let there_and_back = Config { processes: 1, attempts: 1, writes: 1, generations: 3, ..grants() };
    holds(there_and_back.clone());
    ends(Config { outages: 0, ..there_and_back });
    holds(Config { processes: 1, writes: 1, outages: 0, ..grants() });
}

#[test]
fn sides_that_are_not_read_at_one_moment_keep_every_promise() {
    holds(Config { attempts: 1, writes: 1, outages: 0, torn_reads: true, ..whole() });
}

#[test]
fn from_everywhere_an_end_can_be_reached() {
    ends(Config { processes: 1, writes: 1, ..whole() });
    ends(Config { processes: 1, attempts: 1, writes: 1, generations: 3, ..whole() });
    ends(Config { attempts: 1, writes: 1, outages: 0, ..whole() });
}

#[test]
fn before_turning_a_side_is_enough_although_the_other_never_returns() {
    let config = Config { processes: 1, writes: 1, comes_back: false, ..whole() };
    let graph = Graph::explore(&config);
    let from = |world: &World| may_be_undone(world) && world.database(Side::Source).up;
    assert_eq!(graph.stuck(from, is_undone), None, "this attempt cannot be undone at the source alone");
    println!("{} states, undone from each that has not recorded turning", graph.len());
}

#[test]
#[ignore = "takes minutes: everything at once"]
fn everything_at_once_keeps_every_promise() {
    holds(Config { attempts: 1, writes: 1, flying: 2, outages: 0, ..whole() });
    holds(Config { processes: 1, writes: 1, outages: 0, torn_reads: true, ..whole() });
    holds(Config { attempts: 1, writes: 1, generations: 3, ..whole() });
    holds(Config { processes: 1, writes: 1, generations: 4, attempts: 1, ..whole() });
    holds(whole());
}

#[test]
fn no_safeguard_can_be_left_out() {
    let small = |variant| Config { processes: 1, ..Config::new(variant) };
    breaks(NEVER_BOTH, small(Variant::WithoutFence));
    breaks(NEVER_BOTH, small(Variant::WithoutTurning));
    breaks(NOTHING_LOST, small(Variant::OpenBeforeDrain));
    breaks(NEVER_BOTH, small(Variant::WithoutRefusal));
    breaks(NEVER_BOTH, small(Variant::UncheckedRefusal));
    breaks(NEVER_BOTH, small(Variant::UncheckedUnfence));
    breaks(NEVER_BOTH, Config { attempts: 1, generations: 3, ..small(Variant::UncheckedDrop) });
}
