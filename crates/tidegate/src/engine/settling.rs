//! Makes sure that both sides have one and the same row wherever they collided.
//!
//! Each stream decides about a change by what it finds, and neither knows what the other one has under way. Mostly both come
//! to the same row by that alone. But a row may be changed and changed back, and then a change finds what it expects
//! although the other side was there in between. Whatever happens, one of the streams has seen a conflict of the row: where
//! none does, both have written the same changes in an order that suits all of them. So every row with a conflict is looked
//! at again, once nothing of it is under way:
//!
//! ```text
//!   version of the source's row --> marker at the source --> the forward stream is past it: all that led to that version
//!        |                                                   was judged at the target
//!        |     hold the reverse stream at P, past that: all that the target had by then was written to the source
//!        v                                        v
//!   still that version, locked? --> then the source is to have what the target had at P: written if it has not
//! ```
//!
//! A row that is changed meanwhile has its turn later. One that collides again has a new conflict.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate_model::{Problem, Stream, TableMap};
use tidegate_sql::conflicts::{self, Seen, rows_of};
use tidegate_sql::repair::{Repairer, RowOf};
use tidegate_verify::{Key, Options, compare_keys};
use tokio::time::sleep;
use tracing::{debug, info};

use super::conductor::Conductor;
use super::fence::Fencing;
use super::upstream::Upstream;
use super::{Ends, Flow, with_upstream};

/// How often it is looked for conflicts.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many rows are looked at while the reverse stream is held once, and of how many bytes.
const ROWS_MAX: usize = 500;
const BYTES_MAX: u64 = 8 << 20;

/// Looks after conflicts for as long as the streams run.
pub async fn settle(conductor: &Conductor) -> std::convert::Infallible {
    let mut ends = None;
    loop {
        sleep(LOOK_EVERY).await;
        let both_open = [&conductor.forward, &conductor.reverse].iter().all(|seat| seat.is_live())
            && conductor.forward.arbitrate.load(Ordering::Relaxed);
        if !both_open {
            continue;
        }
        if let Err(problem) = once(conductor, &mut ends).await {
            // A database that went away is reached again; a row that was changed has its turn later.
            debug!(error = %problem.what, why = %problem.why, "conflicts are settled later");
            ends = None;
        }
    }
}

async fn once(conductor: &Conductor, kept: &mut Option<Ends>) -> Result<(), Problem> {
    let ends = match kept {
        Some(ends) => ends,
        None => kept.insert(Ends::connect(&conductor.migration).await?),
    };
    let flow = |stream| Flow { migration: &conductor.migration, ends, stream };
    let mut seen = Vec::new();
    for flow in [flow(Stream::Forward), flow(Stream::Reverse)] {
        seen.extend(conflicts::unsettled(&flow.to().session, &flow.key()?).await?);
    }
    if seen.is_empty() {
        return Ok(());
    }
    let fencing = Fencing::new(&conductor.migration, &conductor.reverse)?;
    let live = fencing.live().await;
    let mut rows = rows_of(&seen, &live.routes, Stream::Reverse);
    rows.truncate(ROWS_MAX);
    let repairer = Repairer::open(fencing.written(), &live.lease, &live.routes, true).await?;
    let versions = repairer.versions(&rows).await?;
    let forward = flow(Stream::Forward);
    let marker = with_upstream!(forward, upstream => upstream.marker().await?);
    conductor.forward.applied(&marker).await;

    let _baton = conductor.baton.lock().await;
    let held = fencing.hold().await?;
    let now = repairer.versions(&rows).await?;
    let unchanged = rows.into_iter().zip(versions.into_iter().zip(now)).filter(|(_, (then, now))| then == now);
    let unchanged: Vec<(RowOf, Option<String>)> = unchanged.map(|(row, (_, now))| (row, now)).collect();
    let (mut changes, mut differing) = (Vec::new(), 0);
    let options = Options { keys_listed_max: ROWS_MAX, ..Options::default() };
    for (route, keys) in by_route(&unchanged) {
        let table: &TableMap = &live.routes[route].map;
        let found = compare_keys(&held.fence.pair, table, &keys, &options).await?;
        differing += found.keys.len();
        changes.extend(tidegate_verify::repair(&held.fence.pair, table, &found.keys, BYTES_MAX).await?);
    }
    repairer.write_unchanged(&held.fence.position, &changes, &unchanged).await?;
    drop(held);
    if changes.len() < differing {
        // They were too large for one transaction: the others are looked at again with the next look.
        return Ok(());
    }

    for (row, _) in &unchanged {
        let of_row =
            |one: &&Seen| rows_of(std::slice::from_ref(*one), &live.routes, Stream::Reverse).first() == Some(row);
        let of_row: Vec<&Seen> = seen.iter().filter(of_row).collect();
        for flow in [flow(Stream::Forward), flow(Stream::Reverse)] {
            conflicts::note_settled(&flow.to().session, &flow.key()?, &of_row).await?;
        }
    }
    info!(rows = unchanged.len(), rewritten = changes.len(), "conflicts settled");
    Ok(())
}

fn by_route(rows: &[(RowOf, Option<String>)]) -> Vec<(usize, Vec<Key>)> {
    let mut routes: Vec<(usize, Vec<Key>)> = Vec::new();
    for (row, _) in rows {
        let key: Key = row.key.iter().map(|value| Some(value.as_bytes())).collect();
        match routes.iter_mut().find(|(route, _)| *route == row.route) {
            Some((_, keys)) => keys.push(key),
            None => routes.push((row.route, vec![key])),
        }
    }
    routes
}
