//! What a snapshot sees.

use std::collections::HashSet;
use std::str::FromStr;

/// The text of `pg_current_snapshot()`: `xmin:xmax:in,progress` (PostgreSQL manual, "Transaction ID and Snapshot
/// Information Functions"). It knows top-level transactions only, with their epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotView {
    /// Everything below has ended.
    xmin: u64,
    /// Everything from here on had not begun, or had not ended.
    xmax: u64,
    in_progress: HashSet<u64>,
}

impl SnapshotView {
    /// Returns whether the snapshot sees the transaction, which has committed. A pgoutput message leaves the epoch out:
    /// the transaction is the one of that number that is nearest to the snapshot.
    pub fn sees(&self, xid: u32) -> bool {
        let distance = xid.wrapping_sub(self.xmax as u32).cast_signed();
        let whole = self.xmax.wrapping_add_signed(i64::from(distance));
        whole < self.xmin || (whole < self.xmax && !self.in_progress.contains(&whole))
    }
}

/// Text that is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a snapshot")]
pub struct InvalidSnapshot(String);

impl FromStr for SnapshotView {
    type Err = InvalidSnapshot;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidSnapshot(text.to_owned());
        let number = |part: &str| part.parse::<u64>().map_err(|_| invalid());
        let mut parts = text.split(':');
        let (Some(xmin), Some(xmax), Some(list), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid());
        };
        let in_progress = list.split(',').filter(|part| !part.is_empty()).map(number).collect::<Result<_, _>>()?;
        Ok(SnapshotView { xmin: number(xmin)?, xmax: number(xmax)?, in_progress })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_sees_what_had_ended_and_nothing_else() {
        let view: SnapshotView = "100:105:100,103".parse().unwrap();
        let seen: Vec<u32> = (98..108).filter(|xid| view.sees(*xid)).collect();
        assert_eq!(seen, [98, 99, 101, 102, 104]);
        let idle: SnapshotView = "7:7:".parse().unwrap();
        assert!(idle.sees(6) && !idle.sees(7));
    }

    #[test]
    fn numbers_that_wrap_belong_to_the_nearest_epoch() {
        // Epoch 3, just begun.
        let view: SnapshotView = "12884901887:12884901890:12884901888".parse().unwrap();
        assert!(view.sees(u32::MAX - 1), "the last but one of the epoch before");
        assert!(!view.sees(0) && view.sees(1) && !view.sees(2) && !view.sees(1_000));
    }

    #[test]
    fn what_is_no_snapshot_is_refused() {
        for text in ["", "1", "1:2", "a:2:", "1:2:x", "1:2:3:4"] {
            assert!(text.parse::<SnapshotView>().is_err(), "{text:?} was taken");
        }
    }
}
