//! The model: what can happen next in a world, and what must never be true in one.

use stateright::{Model, Property};
use tidegate_control::{AbortRule, abort_rule, when_over_budget};
use tidegate_control::{Next, Policy, Side, Step, Turning, abort_steps, plan, resume};

use crate::executor::{Decision, View};
use crate::world::{Database, Doing, Process, Request, TABLES, Wish, World};

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
        let config = Config {
            variant,
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
        let world = World::new();
        let view = View { source: Some(&world.databases[0]), target: Some(&world.databases[1]) };
        let plan = plan(&view.observed(&config), &Policy::default()).expect("nothing is in the way at first");
        Config { steps: plan.steps.iter().map(|planned| planned.step).collect(), ..config }
    }
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The application writes a table, and is told so.
    Write(Side, usize),
    /// The flowing stream carries its next write.
    Apply,
    Start(usize, Wish),
    Kill(usize),
    /// A process reads one side first.
    Look(usize, Side),
    /// A process reads the other side too, or both at once, and sends its next transaction.
    Decide(usize),
    /// A process has spent its budget.
    GiveUp(usize),
    /// A request arrives and is answered.
    Answer(usize),
    /// The connection breaks: the request flies on.
    Break(usize),
    /// The connection breaks: the request has not arrived.
    Lose(usize),
    Arrive(usize),
    Vanish(usize),
    GoDown(Side),
    ComeUp(Side),
}

const SIDES: [Side; 2] = [Side::Source, Side::Target];

impl Model for Config {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.acknowledged.count_ones() < self.writes {
            let writes = SIDES.into_iter().flat_map(|side| (0..TABLES).map(move |table| (side, table)));
            let taken = writes.filter(|(side, table)| world.database(*side).is_writable(*table));
            actions.extend(taken.map(|(side, table)| Action::Write(side, table)));
        }
        let alive = world.processes.iter().any(|process| *process != Process::Dead);
        if alive && world.databases.iter().all(|database| database.up) && world.pending().is_some() {
            actions.push(Action::Apply);
        }
        for n in 0..self.processes {
            self.process_actions(world, n, actions);
        }
        for n in 0..world.flying.len() {
            if world.database(world.flying[n].to).up {
                actions.push(Action::Arrive(n));
            }
            actions.push(Action::Vanish(n));
        }
        for side in SIDES {
            match world.database(side).up {
                true if world.outages < self.outages => actions.push(Action::GoDown(side)),
                false if self.comes_back => actions.push(Action::ComeUp(side)),
                true | false => {}
            }
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        match action {
            Action::Write(side, _) => {
                let write = 1 << world.acknowledged.count_ones();
                next.database_mut(side).rows |= write;
                next.acknowledged |= write;
            }
            Action::Apply => {
                let write = world.pending()?;
                next.database_mut(world.open().other()).rows |= write;
            }
            Action::Start(n, wish) => next.processes[n] = Process::Alive { wish, doing: Doing::Idle },
            Action::Kill(n) => self.kill(&mut next, n),
            Action::Look(n, side) => {
                let database = world.database(side);
                let seen = database.up.then(|| Box::new(database.clone()));
                next.set_doing(n, Doing::Looked(side, seen));
            }
            Action::Decide(n) => self.decide(world, &mut next, n)?,
            Action::GiveUp(n) => next.processes[n] = Process::Alive { wish: Wish::Abort, doing: Doing::Idle },
            Action::Answer(n) => {
                let request = world.request(n)?;
                next.execute(request, self.variant);
                next.set_doing(n, Doing::Idle);
            }
            Action::Break(n) => {
                next.fly(world.request(n)?);
                next.set_doing(n, Doing::Idle);
            }
            Action::Lose(n) => next.set_doing(n, Doing::Idle),
            Action::Arrive(n) => {
                let request = next.flying.remove(n);
                next.execute(request, self.variant);
            }
            Action::Vanish(n) => drop(next.flying.remove(n)),
            Action::GoDown(side) => {
                next.database_mut(side).up = false;
                next.outages += 1;
            }
            Action::ComeUp(side) => next.database_mut(side).up = true,
        }
        next.forget_order();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NEVER_BOTH, |_, world: &World| {
                (0..TABLES).all(|table| !world.databases.iter().all(|database| database.lets_pass(table)))
            }),
            Property::always(NOTHING_LOST, |_, world: &World| {
                world.acknowledged & !world.database(world.open()).rows == 0
            }),
            Property::always(ABORTABLE, Config::abort_is_ruled_rightly),
            Property::sometimes("a turn is finished", |config: &Config, world: &World| {
                config.has_ended(world) && world.database(Side::Source).generation == config.generations
            }),
            Property::sometimes("the last attempt is undone", |config: &Config, world: &World| {
                let aborted = |database: &Database| matches!(database.turning, Some(Turning::Aborted(id)) if id.attempt == config.attempts);
                config.has_ended(world) && world.databases.iter().any(aborted)
            }),
        ]
    }
}

pub const NEVER_BOTH: &str = "no table is ever writable at both sides";
pub const NOTHING_LOST: &str = "the open side has every acknowledged write";
pub const ABORTABLE: &str = "an attempt can be undone exactly until the other side is open";

impl Config {
    fn process_actions(&self, world: &World, n: usize, actions: &mut Vec<Action>) {
        let Process::Alive { wish, doing } = &world.processes[n] else {
            actions.extend([Action::Start(n, Wish::Turn), Action::Start(n, Wish::Abort)]);
            return;
        };
        actions.push(Action::Kill(n));
        match doing {
            Doing::Idle if self.torn_reads => actions.extend(SIDES.map(|side| Action::Look(n, side))),
            Doing::Idle => {
                actions.push(Action::Decide(n));
            }
            Doing::Looked(..) => actions.push(Action::Decide(n)),
            Doing::Waiting(request) => {
                if world.database(request.to).up {
                    actions.push(Action::Answer(n));
                }
                if world.flying.len() < self.flying {
                    actions.push(Action::Break(n));
                }
                // With room, a lost request is one that flies on and vanishes.
                if world.flying.len() == self.flying {
                    actions.push(Action::Lose(n));
                }
            }
        }
        let observed = || world.view().observed(self);
        if *doing == Doing::Idle && *wish == Wish::Turn && when_over_budget(&observed(), &Policy::default()).is_some() {
            actions.push(Action::GiveUp(n));
        }
    }

    fn kill(&self, next: &mut World, n: usize) {
        let request = next.request(n).filter(|_| next.flying.len() < self.flying);
        if let Some(request) = request {
            next.fly(request);
        }
        next.processes[n] = Process::Dead;
    }

    fn decide(&self, world: &World, next: &mut World, n: usize) -> Option<()> {
        let Process::Alive { wish, doing } = &world.processes[n] else { return None };
        let mut view = world.view();
        if let Doing::Looked(side, seen) = doing {
            match side {
                Side::Source => view.source = seen.as_deref(),
                Side::Target => view.target = seen.as_deref(),
            }
        }
        match view.decide(*wish, self) {
            Decision::Send(request) => next.set_doing(n, Doing::Waiting(request)),
            Decision::LookAgain => next.set_doing(n, Doing::Idle),
            Decision::End => next.processes[n] = Process::Dead,
        }
        Some(())
    }

    /// Whether nothing is left to do: no turn is unfinished, the open side takes every write, both sides are equal.
    pub fn has_ended(&self, world: &World) -> bool {
        let open = world.database(world.open());
        resume(&world.view().observed(self)) == Next::Nothing
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
                let observed = both.view().observed(self);
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
    pub fn view(&self) -> View<'_> {
        let seen = |database: &'_ Database| database.up;
        let [source, target] = &self.databases;
        View { source: seen(source).then_some(source), target: seen(target).then_some(target) }
    }

    /// Whether an attempt may be undone while the other side cannot be read.
    fn may_abort_alone(&self, closing: Side, config: &Config) -> bool {
        let mut world = self.clone();
        world.database_mut(closing.other()).up = false;
        abort_steps(&world.view().observed(config), &Policy::default()).is_ok()
    }

    fn request(&self, n: usize) -> Option<Request> {
        match self.processes[n] {
            Process::Alive { doing: Doing::Waiting(request), .. } => Some(request),
            _ => None,
        }
    }

    fn set_doing(&mut self, n: usize, now: Doing) {
        if let Process::Alive { doing, .. } = &mut self.processes[n] {
            *doing = now;
        }
    }

    fn fly(&mut self, request: Request) {
        self.flying.push(request);
    }

    fn execute(&mut self, request: Request, variant: Variant) {
        self.database_mut(request.to).execute(request, variant);
    }
}
