//! The last look before the fence.

use crate::observed::Observed;
use crate::policy::Policy;
use crate::preflight::Preflight;
use crate::refusal::Refusal;
use crate::turning::TurnId;

/// Says whether attempt `id`, whose feed is armed and whose verify rounds have run, may put up its fence now.
/// Everything that [`plan`](fn@crate::plan) checked is checked again, and what its first steps were to achieve as well.
pub fn ready_to_fence(observed: &Observed, policy: &Policy, id: TurnId) -> Result<(), Refusal> {
    Preflight::before_fence(observed, policy, id).verdict().map(|_| ())
}
