//! Taking a stream over where no lock tells that its owner is gone.
//!
//! ```text
//!   its row says that it stopped?   yes --> take
//!     | no
//!   its process ended here?         yes --> take
//!     | no
//!   heartbeat older than 10 s?      yes --> take       (by the database's clock)
//!     | no
//!   --take-over?                    yes --> take       otherwise say who owns it, wait, look again
//! ```
//!
//! The epoch is raised by compare-and-set from the one that was judged, so that of two newcomers only one takes it.

use tidegate_connect::Session;
use tidegate_model::Problem;
use tokio::time::sleep;
use tracing::info;

use crate::retry;
use crate::state::checkpoint::{COLUMNS, CheckpointRow};
use crate::state::owner::{Myself, OwnerRow, read_owner, write_owner};
use crate::state::ownership::{LEFTOVER_AFTER, LOOK_EVERY, OwnerConfig, Verdict, Waiting, judge_owner};
use crate::state::{Lease, StateKey, failed, read_checkpoint};

/// Takes the next epoch once the stream is free.
pub(in crate::state) async fn take(
    config: &OwnerConfig,
    session: &Session,
    myself: &Myself,
    waiting: &mut (impl FnMut(&Waiting) + Send),
) -> Result<(Lease, CheckpointRow), Problem> {
    let key = &config.key;
    loop {
        let checkpoint = read_checkpoint(session, key).await?;
        let owner = read_owner(session, key).await?;
        if let (Some(start), Some(owner)) = (&checkpoint, &owner)
            && owner.process == myself.process()
            && owner.epoch == start.epoch
        {
            // An earlier attempt, whose answer was lost, has taken it.
            let start = start.clone();
            return Ok((Lease { key: key.clone(), epoch: start.epoch }, start));
        }
        match judge(owner.as_ref(), config.take_over) {
            Verdict::Take(reason) => {
                info!(reason, "taking the stream");
                let from = checkpoint.map_or(0, |row| row.epoch);
                if let Some(taken) = raise_epoch(key, session, myself, from, waiting).await? {
                    return Ok(taken);
                }
            }
            Verdict::Wait(why) => {
                waiting(&why);
                sleep(LOOK_EVERY).await;
            }
            Verdict::LookAgain => sleep(LOOK_EVERY).await,
        }
    }
}

fn judge(owner: Option<&OwnerRow>, take_over: bool) -> Verdict {
    match owner {
        None => Verdict::Take("nobody ever owned it"),
        Some(owner) if owner.stopped => Verdict::Take("it was given back"),
        Some(_) if take_over => Verdict::Take("told to"),
        Some(owner) => judge_owner(owner),
    }
}

/// Takes the epoch after `from`; `None` where another newcomer was faster, or the answer was lost. A transaction that
/// holds the checkpoint row is waited for: it is the server that ends it, when its client is gone.
async fn raise_epoch(
    key: &StateKey,
    session: &Session,
    myself: &Myself,
    from: i64,
    waiting: &mut (impl FnMut(&Waiting) + Send),
) -> Result<Option<(Lease, CheckpointRow)>, Problem> {
    let raising = retry::repeatable(|| async { raise_epoch_once(key, session, myself, from).await });
    tokio::pin!(raising);
    loop {
        tokio::select! {
            raised = &mut raising => return raised,
            () = sleep(LEFTOVER_AFTER) => waiting(&Waiting::UnnamedTransaction),
        }
    }
}

async fn raise_epoch_once(
    key: &StateKey,
    session: &Session,
    myself: &Myself,
    from: i64,
) -> Result<Option<(Lease, CheckpointRow)>, Problem> {
    let raised = match session.batch_execute("BEGIN").await {
        Ok(()) => raise_in_transaction(key, session, myself, from).await,
        Err(error) => Err(failed("begin")(error)),
    };
    if let Ok(Some(taken)) = raised {
        match session.batch_execute("COMMIT").await {
            Ok(()) => return Ok(Some(taken)),
            Err(error) => {
                roll_back(session).await;
                return Err(failed("take the stream")(error));
            }
        }
    }
    roll_back(session).await;
    raised
}

/// Where the connection is gone there is nothing to roll back.
async fn roll_back(session: &Session) {
    let _ = session.batch_execute("ROLLBACK").await;
}

async fn raise_in_transaction(
    key: &StateKey,
    session: &Session,
    myself: &Myself,
    from: i64,
) -> Result<Option<(Lease, CheckpointRow)>, Problem> {
    let sql = format!(
        "INSERT INTO {} (migration, stream, epoch) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING",
        key.table("checkpoint")
    );
    let (migration, stream) = (key.migration.as_str(), key.stream.as_str());
    session.execute(&sql, &[&migration, &stream]).await.map_err(failed("take the stream"))?;
    let sql = format!(
        "UPDATE {} SET epoch = epoch + 1 WHERE {} AND shard = 0 AND epoch = {from} RETURNING {COLUMNS}",
        key.table("checkpoint"),
        key.condition()
    );
    let Some(row) = session.query_opt(&sql, &[]).await.map_err(failed("take the stream"))? else { return Ok(None) };
    let start = CheckpointRow::from_row(&row)?;
    let lease = Lease { key: key.clone(), epoch: start.epoch };
    write_owner(session, &lease, myself).await?;
    Ok(Some((lease, start)))
}
