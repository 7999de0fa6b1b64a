//! What the operator wants of a turn.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How long nothing may be writable before the turn gives up: about what a connection pool's queue survives.
pub const BUDGET_SECONDS: u64 = 30;
/// How far past the last used value a sequence is set.
pub const SEQUENCE_MARGIN: u64 = 1000;
/// How many tables are locked in one transaction: enough to be quick, few enough that one busy table holds up few
/// others.
pub const FENCE_GROUP_TABLES: u32 = 200;
/// How long a lock of the fence waits: a lock that waits stops every writer behind it.
pub const FENCE_LOCK_TIMEOUT_MS: u64 = 500;

/// What the operator wants of a turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// How the closing side is closed; `None`: triggers at PostgreSQL, revoked privileges at CockroachDB.
    pub fence: Option<FenceKind>,
    /// The longest time in which nothing can be written, in seconds, counted from the first attempt at a lock.
    pub budget_seconds: u64,
    /// Open without closing: both sides writable at once.
    pub immediate: bool,
    /// Commands to run.
    pub hooks: Hooks,
    /// How far past the last used value a sequence is set, if its cache is not larger.
    pub sequence_margin: u64,
    /// How many tables the fence locks in one transaction.
    pub fence_group_tables: u32,
    /// How long a lock of the fence waits before it is tried again, in milliseconds.
    pub fence_lock_timeout_ms: u64,
    /// What the operator knows of and takes as it is.
    pub accept: Accept,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            fence: None,
            budget_seconds: BUDGET_SECONDS,
            immediate: false,
            hooks: Hooks::default(),
            sequence_margin: SEQUENCE_MARGIN,
            fence_group_tables: FENCE_GROUP_TABLES,
            fence_lock_timeout_ms: FENCE_LOCK_TIMEOUT_MS,
            accept: Accept::default(),
        }
    }
}

/// How a side is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FenceKind {
    /// A trigger on each table that refuses every write but the applier's.
    Trigger,
    /// Write privileges revoked from every role but the applier's.
    Revoke,
    /// The database read-only for the application's sessions.
    ReadOnly,
    /// The command of `--on-fence` closes it, that of `--on-abort` opens it again.
    Command,
}

impl fmt::Display for FenceKind {
    /// The value of `--fence`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FenceKind::Trigger => "trigger",
            FenceKind::Revoke => "revoke",
            FenceKind::ReadOnly => "read-only",
            FenceKind::Command => "command",
        })
    }
}

/// Commands of the operator's. Each may run again after a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// Before the fence.
    pub on_fence: Option<String>,
    /// Once the other side is open.
    pub on_open: Option<String>,
    /// When an attempt is undone, before the side is opened again.
    pub on_abort: Option<String>,
}

/// What the operator knows of and takes as it is. Each lifts one refusal and leaves a warning in the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Accept {
    /// Tables that match and are not carried (CT007).
    pub not_carried: bool,
    /// Dead letters (CT008).
    pub dead_letters: bool,
    /// Prepared transactions: the fence waits for them (CT009).
    pub prepared: bool,
    /// Writers older than the budget: the fence waits for them (CT010).
    pub long_writers: bool,
    /// Roles that the fence cannot stop (CT013).
    pub unrevocable_roles: bool,
    /// Sessions of others that use the applier's role (CT014).
    pub our_role: bool,
    /// Both sides writable at once (CT021).
    pub both_writable: bool,
}

impl Hooks {
    /// Takes from an earlier call what is not given now.
    #[must_use]
    pub fn or(self, earlier: Hooks) -> Hooks {
        Hooks {
            on_fence: self.on_fence.or(earlier.on_fence),
            on_open: self.on_open.or(earlier.on_open),
            on_abort: self.on_abort.or(earlier.on_abort),
        }
    }
}

impl Accept {
    /// Accepts what a refusal's code stands for (`--accept CT007`). Returns false for a code that cannot be accepted.
    pub fn add(&mut self, code: &str) -> bool {
        let found = self.each().into_iter().find(|(known, _)| *known == code);
        found.map(|(_, accepted)| *accepted = true).is_some()
    }

    /// Returns the codes of what is accepted.
    pub fn codes(&self) -> Vec<&'static str> {
        self.clone().each().into_iter().filter(|(_, accepted)| **accepted).map(|(code, _)| code).collect()
    }

    fn each(&mut self) -> [(&'static str, &mut bool); 7] {
        [
            ("CT007", &mut self.not_carried),
            ("CT008", &mut self.dead_letters),
            ("CT009", &mut self.prepared),
            ("CT010", &mut self.long_writers),
            ("CT013", &mut self.unrevocable_roles),
            ("CT014", &mut self.our_role),
            ("CT021", &mut self.both_writable),
        ]
    }
}
