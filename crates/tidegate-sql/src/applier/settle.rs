//! What the checkpoint row says about batches whose answer did not come, or was an error.

use std::collections::VecDeque;

use tidegate_model::{Position, Problem};

use super::job::Job;

/// Takes out the jobs that are durable when the checkpoint stands at `position`, drops what is durable of the first one
/// left, and returns those taken out. A position that none of them could have left behind is a bug: it would skip or
/// repeat rows.
pub(super) fn settle(jobs: &mut VecDeque<Job>, position: &Position) -> Result<Vec<Job>, Problem> {
    let ended = jobs.iter().rposition(|job| job.batch.span.until == *position);
    let done = ended.map_or(0, |index| index + 1);
    let fits = match jobs.get_mut(done) {
        Some(next) if done == 0 => next.resume_at(position),
        _ => true,
    };
    if !fits {
        let spans: Vec<String> =
            jobs.iter().map(|job| format!("({}, {}]", job.batch.span.after, job.batch.span.until)).collect();
        return Err(Problem::bug(
            "AP053",
            "the checkpoint is where no batch of ours could have left it",
            format!("it stands at {position}, the batches under way cover {}", spans.join(", ")),
        ));
    }
    Ok(jobs.drain(..done).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidegate_model::{Batch, Changes, Lsn, Span, Timestamp, Transaction};

    use super::super::job::Mode;
    use super::*;

    fn at(lsn: u64) -> Position {
        Position::postgres(Lsn(lsn))
    }

    /// Batches (10, 20], (20, 30] and (30, 40] with transactions at 12, 15, 20 and so on.
    fn jobs() -> VecDeque<Job> {
        let transaction = |lsn| Transaction {
            position: at(lsn),
            committed_at: Timestamp(0),
            xid: None,
            changes: Changes::Memory(Arc::new([])),
        };
        let batch = |after: u64| Batch {
            span: Span { after: at(after), until: at(after + 10) },
            transactions: vec![transaction(after + 2), transaction(after + 5), transaction(after + 10)],
        };
        [10, 20, 30].map(|after| Job::new(Arc::new(batch(after)), Mode::Folded(Arc::default()))).into()
    }

    #[test]
    fn the_checkpoint_says_which_batches_are_done() {
        for (lsn, done, transactions_left) in [(10, 0, 3), (15, 0, 1), (20, 1, 3), (30, 2, 3)] {
            let mut jobs = jobs();
            assert_eq!(settle(&mut jobs, &at(lsn)).unwrap().len(), done, "at {lsn}");
            assert_eq!(jobs[0].batch.transactions.len(), transactions_left, "at {lsn}");
            assert_eq!(jobs[0].batch.span.after, at(lsn));
        }
        let mut all = jobs();
        assert_eq!(settle(&mut all, &at(40)).unwrap().len(), 3);
        assert!(all.is_empty());
    }

    #[test]
    fn a_batch_resumed_in_its_middle_is_not_folded_again() {
        let mut jobs = jobs();
        settle(&mut jobs, &at(12)).unwrap();
        assert!(matches!(jobs[0].mode, Mode::SourceOrder));
    }

    #[test]
    fn a_checkpoint_that_no_batch_left_behind_is_a_bug() {
        for lsn in [5, 13, 22, 41] {
            assert_eq!(settle(&mut jobs(), &at(lsn)).unwrap_err().code, "AP053", "at {lsn}");
        }
    }
}
