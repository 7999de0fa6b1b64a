//! The turn of a migration, decided without looking at anything: cutover, failback, and their undoing.
//!
//! ```text
//!   Observed + Policy --> plan() ---> Plan    (shown, then executed step by step, each step recorded)
//!                              \----> Refusal (every reason at once)
//!   Observed --> resume()      ---> Next      (after a crash, a lost answer, or simply: what now?)
//!   Observed --> abort_steps() ---> steps that undo, or a Refusal
//! ```
//!
//! Nothing here does I/O or reads a clock. Whoever executes observes, asks, does one step, and observes again; the
//! model in `tests/model` does exactly that against two imagined databases, and is searched completely.
//!
//! What keeps a turn safe is one word in the `migration` row of each side, the [`Turning`]. It only ever moves forward,
//! by compare-and-set, and every transaction of a turn checks it before it does anything:
//!
//! ```text
//!   closing side:  begun 2.1 --> turning 2.1 --> generation 2, nothing under way
//!                      |             |
//!                      |             | only once the opening side says "aborted 2.1"
//!                      +-------------+--> aborted 2.1 --> begun 2.2 ...
//!   opening side:  generation 1 --> generation 2   (the turn)
//!                      +----------> aborted 2.1    (after which turn 2.1 is refused there for ever)
//! ```

mod abort;
mod begin;
mod certificate;
mod direction;
mod observed;
mod plan;
mod policy;
mod position_text;
mod preflight;
mod refusal;
mod resume;
mod side;
mod step;
mod turning;

pub use abort::{AbortRule, Undo, abort_rule, abort_steps, budget_exceeded, when_over_budget};
pub use begin::ready_to_fence;
pub use certificate::{Certificate, ConflictSeen, SequenceProof, StepTime, TableProof};
pub use direction::{Direction, Phase, Side};
pub use observed::{
    Breach, Feed, LongWriter, Observed, PreparedTransaction, Rights, StreamSeen, StreamState, Verdict, VerifySeen,
};
pub use plan::{Plan, plan};
pub use policy::{Accept, FenceKind, Hooks, Policy};
pub use refusal::{Reason, Refusal};
pub use resume::{Next, resume};
pub use side::{Database, FenceSeen, RecordedStep, RecordedTurn, SideSays, SideSeen, StepState};
pub use step::{OnFailure, PlannedStep, Step};
pub use turning::{InvalidTurning, TurnId, Turning};
