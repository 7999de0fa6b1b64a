//! Plans, refusals, resuming and undoing, from what was observed.

mod certificate;
mod fixture;
mod plans;
mod refusals;
mod resuming;
mod undoing;
