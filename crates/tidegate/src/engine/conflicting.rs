//! What both streams have seen of rows that both sides changed.

use tidegate_model::{Problem, Stream};
use tidegate_sql::conflicts::{self, Conflict};
use tidegate_sql::state::{self, Part};

use super::{Ends, Flow};
use crate::config::Migration;

/// Returns the conflicts of a migration so far, by table and key.
pub async fn conflicts(migration: &Migration, ends: &Ends) -> Result<Vec<Conflict>, Problem> {
    let mut seen = Vec::new();
    for stream in [Stream::Forward, Stream::Reverse] {
        let flow = Flow { migration, ends, stream };
        let (holder, key) = (&flow.to().session, flow.key()?);
        if state::is_installed(holder, &key.schema, Part::Stream).await? {
            seen.extend(conflicts::read(holder, &key).await?);
        }
    }
    Ok(conflicts::merged(&seen))
}
