//! The history a stream belongs to, and whether a server still tells the same one.
//!
//! A position means something only within one history. Before anything is written, and on each reconnection, the server
//! is asked who it is; everything that does not fit is refused, with the range that would be lost and the repair
//! command. [`observe()`] asks, [`verdict()`] decides; it does no I/O.

mod observe;
mod refusal;
mod verdict;

use serde::{Deserialize, Serialize};

use crate::publication;

pub use observe::{identify, observe};
pub(crate) use refusal::recreate;
pub use verdict::{Observed, verdict};

/// The history a stream belongs to: stored with its checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The cluster's identifier, made by `initdb` and shared with its standbys.
    pub system_identifier: u64,
    /// The database that the slot decodes.
    pub database: String,
    /// The timeline on which the checkpoint lies.
    pub timeline: u32,
    /// The replication slot.
    pub slot: String,
    /// The publication.
    pub publication: String,
    /// What the publication was when the stream began or was last found without a gap.
    #[serde(default)]
    pub published: Option<publication::Mark>,
}
