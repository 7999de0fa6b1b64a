//! The tasks that a round spawns, and what they report.

use tidegate_model::{
    Chunk, CopySnapshot, CopyTarget, Guarded, Load, Problem, TableGuard, TableMap, TableRoute, Wanted,
};
use tokio_util::sync::CancellationToken;

use super::backoff::Retry;
use super::chunk::{ChunkEnd, Worker};
use super::table::GuardEnd;

/// A worker between this source and this target.
pub(super) type WorkerOf<S, T> = Worker<<S as CopySnapshot>::Reader, <T as CopyTarget>::Writer>;

/// What a task reports at its end.
pub(super) enum Event<S: CopySnapshot, T: CopyTarget> {
    Opened(usize, Result<Guarded<Opened<S::Guard>>, Problem>, WorkerOf<S, T>),
    Chunk(usize, Chunk, Result<ChunkEnd, Problem>, WorkerOf<S, T>),
    Guard(usize, GuardEnd),
    Finished(usize, Result<TableRoute, Problem>),
    Restored(usize, Result<(), Problem>, WorkerOf<S, T>),
}

/// A table that is guarded and begun.
pub(super) struct Opened<G> {
    pub(super) guard: G,
    pub(super) load: Load,
    /// Cut anew for a table that is begun in this round, empty for one that goes on.
    pub(super) chunks: Vec<Chunk>,
}

/// Guards a table and makes the target ready for it, unless it was begun in this round already.
pub(super) async fn open<S: CopySnapshot, T: CopyTarget>(
    snapshot: &S,
    target: &T,
    map: &TableMap,
    bytes_estimated: u64,
    begun: Option<Load>,
    retry: Retry,
) -> Result<Guarded<Opened<S::Guard>>, Problem> {
    let mut guard = match snapshot.guard(map).await? {
        Guarded::Held(guard) => guard,
        Guarded::Busy => return Ok(Guarded::Busy),
        Guarded::Rewritten => return Ok(Guarded::Rewritten),
    };
    if let Some(load) = begun {
        return Ok(Guarded::Held(Opened { guard, load, chunks: Vec::new() }));
    }
    // Emptying a large target table takes its time, and the source's lock is not to be kept from others for that.
    let load = tokio::select! {
        load = begin(target, map, bytes_estimated, retry) => load?,
        _ = guard.wanted() => {
            guard.release().await;
            return Ok(Guarded::Busy);
        }
    };
    let load = Load { format: snapshot.format(load.format), ..load };
    let chunks = guard.chunks();
    Ok(Guarded::Held(Opened { guard, load, chunks }))
}

async fn begin<T: CopyTarget>(
    target: &T,
    map: &TableMap,
    bytes_estimated: u64,
    mut retry: Retry,
) -> Result<Load, Problem> {
    loop {
        if let Some(load) = retry.settle(target.begin(map, bytes_estimated).await).await? {
            return Ok(load);
        }
    }
}

/// Holds a guard until it is no longer needed or has to be let go; in that case also stops the table's chunks, at once,
/// because the one who waits waits for them too.
pub(super) async fn watch<S: CopySnapshot, T: CopyTarget>(
    index: usize,
    mut guard: S::Guard,
    interrupt: CancellationToken,
    release: CancellationToken,
) -> Event<S, T> {
    let wanted = tokio::select! {
        wanted = guard.wanted() => Some(wanted),
        () = release.cancelled() => None,
    };
    match wanted {
        None => {
            let kept = guard.release().await;
            Event::Guard(index, if kept { GuardEnd::Kept } else { GuardEnd::Broken })
        }
        Some(wanted) => {
            interrupt.cancel();
            if wanted == Wanted::ByOther {
                guard.release().await;
            }
            Event::Guard(index, GuardEnd::Broken)
        }
    }
}

/// Records that a table is copied.
pub(super) async fn finish<T: CopyTarget>(
    target: &T,
    route: TableRoute,
    load: &Load,
    chunks: u64,
    mut retry: Retry,
) -> Result<TableRoute, Problem> {
    while retry.settle(target.finish(&route, load, chunks).await).await?.is_none() {}
    Ok(route)
}

/// Brings back what was taken away from a table for its load.
pub(super) async fn restore<T: CopyTarget>(target: &T, map: &TableMap, mut retry: Retry) -> Result<(), Problem> {
    while retry.settle(target.restore(map).await).await?.is_none() {}
    Ok(())
}
