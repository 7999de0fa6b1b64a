//! The model: what can happen next in a world.

use stateright::{Model, Property};
use tidegate_control::{Policy, Side, when_over_budget};

use crate::config::{Config, Variant};
use crate::executor::{Decision, View};
use crate::promises;
use crate::world::{Database, Doing, Process, Request, SIDES, TABLES, Wish, World};

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

impl Model for Config {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.grants)]
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
        promises::all()
    }
}

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
        let observed = || world.view().observed(Wish::Turn, self);
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
}

impl World {
    pub fn view(&self) -> View<'_> {
        let seen = |database: &'_ Database| database.up;
        let [source, target] = &self.databases;
        View { source: seen(source).then_some(source), target: seen(target).then_some(target) }
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
