//! The imagined world: two databases, up to two processes, requests under way, writers.

use std::hash::{DefaultHasher, Hash, Hasher};

use tidegate_control::{Side, Step, TurnId, Turning};

/// The application writes two tables, so that a fence goes up in two groups.
pub const TABLES: usize = 2;

pub const SIDES: [Side; 2] = [Side::Source, Side::Target];

/// Everything there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// The source and the target.
    pub databases: [Database; 2],
    /// Two processes that know nothing of each other.
    pub processes: [Process; 2],
    /// Requests whose sender is dead or has lost the connection. Each may still arrive, at any time, or never.
    pub flying: Vec<Request>,
    /// The writes that were acknowledged to the application: all that committed. One bit each, in commit order.
    pub acknowledged: u8,
    /// How often a database has gone away.
    pub outages: u8,
}

/// One database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Database {
    pub up: bool,
    pub generation: i64,
    pub turning: Option<Turning>,
    pub record: Option<Record>,
    /// Per table: from which generation on its fence lets everybody pass.
    pub fence: [Option<i64>; TABLES],
    /// The fence is made of grants: it ends when they are given back, whatever the generation.
    pub grants: bool,
    /// The writes whose rows are here.
    pub rows: u8,
}

/// The rows of `cutover_step`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    pub id: TurnId,
    /// One bit per step that is done.
    pub done: u32,
    /// The steps of the undoing are recorded too.
    pub aborting: bool,
    /// The writes before the marker.
    pub marker: Option<u8>,
}

impl Record {
    pub fn is_done(&self, step: Step) -> bool {
        self.done & bit(step) != 0
    }

    pub fn mark(&mut self, step: Step) {
        self.done |= bit(step);
    }
}

fn bit(step: Step) -> u32 {
    1 << (step as u32)
}

/// A process running a command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Process {
    Dead,
    Alive { wish: Wish, doing: Doing },
}

/// What its user asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wish {
    Turn,
    Abort,
}

/// Where a process is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Doing {
    /// About to look.
    Idle,
    /// Has read one side, which may move on before the other is read. `None`: it could not be read.
    Looked(Side, Option<Box<Database>>),
    /// Waiting for an answer.
    Waiting(Request),
}

/// One transaction sent to one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    pub to: Side,
    pub id: TurnId,
    pub op: Op,
}

/// What a transaction does. All of them check `turning` or the generation first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    Begin {
        expects: Option<Turning>,
    },
    Mark(Step),
    Fence {
        table: usize,
    },
    Marker,
    RecordTurning,
    Turn {
        record: Record,
        expects: Option<Turning>,
    },
    Follow,
    /// Drops triggers, or gives grants back.
    DropFence {
        table: usize,
    },
    RefuseTurn {
        expects: Option<Turning>,
    },
    RecordAbort {
        expects: Option<Turning>,
    },
    Unfence {
        table: usize,
    },
}

impl World {
    /// The source is open; the target waits behind a fence that ends with generation 2.
    pub fn new(grants: bool) -> World {
        let database = |fence| Database {
            up: true,
            generation: 1,
            turning: None,
            record: None,
            fence: [fence; TABLES],
            grants,
            rows: 0,
        };
        World {
            databases: [database(None), database(Some(2))],
            processes: [Process::Dead, Process::Dead],
            flying: Vec::new(),
            acknowledged: 0,
            outages: 0,
        }
    }

    pub fn database(&self, side: Side) -> &Database {
        &self.databases[side as usize]
    }

    pub fn database_mut(&mut self, side: Side) -> &mut Database {
        &mut self.databases[side as usize]
    }

    /// The side that is the truth: the one of the higher generation, or the one that this generation opens.
    pub fn open(&self) -> Side {
        let [source, target] = &self.databases;
        match source.generation.cmp(&target.generation) {
            std::cmp::Ordering::Greater => Side::Source,
            std::cmp::Ordering::Less => Side::Target,
            std::cmp::Ordering::Equal => opened_by(source.generation),
        }
    }

    /// The next write that the flowing stream has to carry.
    pub fn pending(&self) -> Option<u8> {
        let open = self.open();
        let missing = self.database(open).rows & !self.database(open.other()).rows;
        (missing != 0).then(|| missing & missing.wrapping_neg())
    }
}

impl World {
    /// Forgets what makes no difference: which process is which, and in which order requests were sent.
    pub fn forget_order(&mut self) {
        self.processes.sort_by_cached_key(fingerprint);
        self.flying.sort_by_cached_key(fingerprint);
    }
}

/// Returns a number that equal things share.
pub fn fingerprint(thing: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    thing.hash(&mut hasher);
    hasher.finish()
}

impl Database {
    pub fn is_writable(&self, table: usize) -> bool {
        self.up && self.lets_pass(table)
    }

    /// Whether a write would be let in were the server up.
    pub fn lets_pass(&self, table: usize) -> bool {
        self.fence[table].is_none_or(|opens_at| !self.grants && self.generation >= opens_at)
    }
}

/// Which side a generation opens: they take turns.
pub fn opened_by(generation: i64) -> Side {
    if generation % 2 == 1 { Side::Source } else { Side::Target }
}
