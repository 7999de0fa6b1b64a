//! How large a world is searched, and with which safeguards.

use tidegate_control::{Policy, Step, plan};

use crate::executor::View;
use crate::world::{Wish, World};

/// The machine as it is, or with one of its safeguards left out: each of them is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Whole,
    /// The fence is recorded and not put up.
    WithoutFence,
    /// `turning` is not written before the turn is sent.
    WithoutTurning,
    /// The other side is opened before everything was carried there.
    OpenBeforeDrain,
    /// An attempt that may have been sent is undone after reading the other side, without making it refuse.
    WithoutRefusal,
    /// An attempt is refused whatever the opening side says of a later one.
    UncheckedRefusal,
    /// Taking the fence down does not check which attempt it belongs to.
    UncheckedUnfence,
    /// Dropping the triggers of the opened side does not check whether the next turn has begun there.
    UncheckedDrop,
}

impl Variant {
    /// Steps that change nothing that the model knows of, or that this variant leaves out.
    pub fn steps_without_effect(self) -> impl Iterator<Item = Step> {
        let always = [
            Step::Begin,
            Step::ArmFeed,
            Step::VerifyRounds,
            Step::VerifyTouched,
            Step::Sequences,
            Step::Park,
            Step::Certificate,
        ];
        let left_out = match self {
            Variant::WithoutFence => Some(Step::Fence),
            Variant::OpenBeforeDrain => Some(Step::Drain),
            _ => None,
        };
        always.into_iter().chain(left_out)
    }
}

/// How large a world is searched.
#[derive(Clone, Debug)]
pub struct Config {
    pub variant: Variant,
    /// Fences are made of grants, not of triggers.
    pub grants: bool,
    /// How many writes the application makes.
    pub writes: u32,
    /// The generation after which no turn begins.
    pub generations: i64,
    /// How many attempts each turn has.
    pub attempts: u32,
    /// How many processes may live at once.
    pub processes: usize,
    /// How many requests may be under way without a sender.
    pub flying: usize,
    /// How often a database may go away.
    pub outages: u8,
    /// Whether a database that has gone away comes back.
    pub comes_back: bool,
    /// Whether time passes between the reading of the two sides.
    pub torn_reads: bool,
    /// The steps of every plan.
    pub steps: Vec<Step>,
}

impl Config {
    /// One cutover in two attempts, two processes, a database that goes away.
    pub fn new(variant: Variant) -> Config {
        Config::with_fences(variant, false)
    }

    /// The same with fences made of grants.
    pub fn with_grants(variant: Variant) -> Config {
        Config::with_fences(variant, true)
    }

    fn with_fences(variant: Variant, grants: bool) -> Config {
        let config = Config {
            variant,
            grants,
            writes: 2,
            generations: 2,
            attempts: 2,
            processes: 2,
            flying: 1,
            outages: 1,
            comes_back: true,
            torn_reads: false,
            steps: Vec::new(),
        };
        let world = World::new(grants);
        let view = View { source: Some(&world.databases[0]), target: Some(&world.databases[1]) };
        let plan =
            plan(&view.observed(Wish::Turn, &config), &Policy::default()).expect("nothing is in the way at first");
        Config { steps: plan.steps.iter().map(|planned| planned.step).collect(), ..config }
    }
}
