//! Moving sequences on.

use tidegate_connect::Session;
use tidegate_model::{Problem, TableName};

use super::problem::{failed, no_room, other_direction};
use super::{Pair, Sequence};
use crate::{quote, retry};

/// A sequence that was moved on, or stood far enough already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advanced {
    /// The sequence of the side that opens.
    pub name: TableName,
    /// Its next value; `None` where none is left, as on the side that closes.
    pub next: Option<i64>,
    /// Whether it had to be moved.
    pub moved: bool,
}

/// Where a sequence is to stand: what `setval` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stand {
    value: i64,
    is_called: bool,
}

/// Moves the target's sequences on, so that they hand out nothing that the source's have. `margin`: as many values are
/// left out; at least as many as the source's sessions take at a time. For after the fence. May be repeated: a
/// sequence that stands far enough is left alone, so that nothing that the target has handed out comes again either.
/// Sequences without a counterpart are passed over. `SQ002`: the target's bounds leave no room, `SQ003`: it counts in
/// the other direction; then no sequence was moved.
pub async fn advance(session: &Session, pairs: &[Pair], margin: u32) -> Result<Vec<Advanced>, Problem> {
    let mut wanted = Vec::new();
    for pair in pairs {
        if let Some(target) = &pair.target {
            wanted.push((target, stand(&pair.source, target, margin)?));
        }
    }
    let mut advanced = Vec::new();
    for (target, stand) in wanted {
        if let Some(Stand { value, is_called }) = stand {
            let sql = format!("SELECT setval({}, {value}, {is_called})", quote::literal(&quote::table(&target.name)));
            retry::repeatable(|| async { session.query_one(&sql, &[]).await.map_err(failed("move one on")) }).await?;
        }
        let stands = stand.map_or_else(|| target.clone(), |at| at.apply(target));
        advanced.push(Advanced { name: target.name.clone(), next: stands.next(), moved: stand.is_some() });
    }
    Ok(advanced)
}

/// Returns the next value that the target must have after a turn; `None` where none is left.
pub fn next_after_turn(source: &Sequence, target: &Sequence, margin: u32) -> Result<Option<i64>, Problem> {
    let stand = stand(source, target, margin)?;
    Ok(stand.map_or_else(|| target.next(), |at| at.apply(target).next()))
}

impl Stand {
    fn apply(self, sequence: &Sequence) -> Sequence {
        Sequence { last_value: self.value, is_called: self.is_called, ..sequence.clone() }
    }
}

/// Returns where the target is to stand; `None` where it stands well.
fn stand(source: &Sequence, target: &Sequence, margin: u32) -> Result<Option<Stand>, Problem> {
    if (source.increment > 0) != (target.increment > 0) {
        return Err(other_direction(source, target));
    }
    let Some(next) = source.next() else { return used_up(source, target) };
    if !target.holds(next) {
        return Err(no_room(source, target, next));
    }
    // One that was never called has handed out nothing.
    let margin = if source.is_called { i64::from(margin).max(source.cache) } else { 0 };
    let goal = if source.cycle && target.cycle {
        further_round(source, next, margin)
    } else {
        further(source, target, next, margin)
    };
    let own = target.next();
    let is_far_enough = match own {
        // What was handed out before it began anew comes again by intention.
        Some(own) if source.cycle && target.cycle => own == goal,
        Some(own) => {
            if target.increment > 0 {
                own >= goal
            } else {
                own <= goal
            }
        }
        None => true,
    };
    Ok((!is_far_enough).then_some(Stand { value: goal, is_called: false }))
}

/// A source that has no value left: the target gets none either, unless it is further already.
fn used_up(source: &Sequence, target: &Sequence) -> Result<Option<Stand>, Problem> {
    let last = source.last_value;
    let Some(own) = target.next() else { return Ok(None) };
    let is_beyond = if target.increment > 0 { own > last } else { own < last };
    if is_beyond {
        return Ok(None);
    }
    if !target.holds(last) {
        return Err(no_room(source, target, last));
    }
    Ok(Some(Stand { value: last, is_called: true }))
}

/// Goes `margin` values further, as far as both have room: values left out are a precaution, and not worth an error.
fn further(source: &Sequence, target: &Sequence, next: i64, margin: i64) -> i64 {
    let last = if source.increment > 0 { target.max.min(source.max) } else { target.min.max(source.min) };
    let room = (i128::from(last) - i128::from(next)) / i128::from(source.increment);
    let steps = i128::from(margin).min(room.max(0));
    // Within bounds of 64 bits by the room.
    i64::try_from(i128::from(next) + steps * i128::from(source.increment)).unwrap_or(next)
}

/// The same, beginning anew at the end.
fn further_round(sequence: &Sequence, next: i64, margin: i64) -> i64 {
    let mut stands = Sequence { last_value: next, is_called: false, ..sequence.clone() };
    for _ in 0..margin {
        stands.last_value = stands.next().unwrap_or(stands.last_value);
        stands.is_called = true;
    }
    stands.next().filter(|_| stands.is_called).unwrap_or(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(increment: i64, min: i64, max: i64, last_value: i64, is_called: bool) -> Sequence {
        Sequence {
            name: TableName::new("public", "s"),
            of: None,
            start: if increment > 0 { min } else { max },
            increment,
            min,
            max,
            cycle: false,
            cache: 1,
            last_value,
            is_called,
            owner: None,
        }
    }

    fn next(source: &Sequence, target: &Sequence, margin: u32) -> Result<Option<i64>, &'static str> {
        next_after_turn(source, target, margin).map_err(|problem| problem.code)
    }

    #[test]
    fn the_next_value_is_beyond_what_either_side_handed_out() {
        let fresh = sequence(1, 1, i64::MAX, 1, false);
        assert_eq!(next(&sequence(1, 1, i64::MAX, 100, true), &fresh, 10), Ok(Some(111)));
        assert_eq!(next(&sequence(1, 1, i64::MAX, 100, true), &sequence(1, 1, i64::MAX, 500, true), 10), Ok(Some(501)));
        let cached = Sequence { cache: 50, ..sequence(1, 1, i64::MAX, 100, true) };
        assert_eq!(next(&cached, &fresh, 10), Ok(Some(151)));
        assert_eq!(next(&fresh, &fresh, 10), Ok(Some(1)));
        assert_eq!(next(&sequence(1, 1, i64::MAX, 70, false), &fresh, 10), Ok(Some(70)));
    }

    #[test]
    fn steps_and_direction_are_kept() {
        let (odd, fresh) = (sequence(2, 1, i64::MAX, 7, true), sequence(2, 1, i64::MAX, 1, false));
        assert_eq!(next(&odd, &fresh, 3), Ok(Some(15)));
        let (down, fresh) = (sequence(-1, -100, -1, -20, true), sequence(-1, -100, -1, -1, false));
        assert_eq!(next(&down, &fresh, 10), Ok(Some(-31)));
        assert_eq!(next(&down, &sequence(-1, -100, -1, -50, true), 10), Ok(Some(-51)));
        assert_eq!(next(&down, &sequence(1, -100, 100, 1, false), 10), Err("SQ003"));
    }

    #[test]
    fn bounds_are_kept() {
        let narrow = sequence(1, 1, 100, 1, false);
        assert_eq!(next(&sequence(1, 1, 100, 97, true), &narrow, 10), Ok(Some(100)));
        assert_eq!(next(&sequence(1, 1, 100, 100, true), &narrow, 10), Ok(None));
        assert_eq!(next(&sequence(1, 1, 1000, 500, true), &narrow, 10), Err("SQ002"));
        let end = sequence(1, 1, i64::MAX, i64::MAX - 1, true);
        assert_eq!(next(&end, &sequence(1, 1, i64::MAX, 1, false), 10), Ok(Some(i64::MAX)));
        let down = sequence(-5, i64::MIN, -1, i64::MIN + 7, true);
        assert_eq!(next(&down, &sequence(-5, i64::MIN, -1, -1, false), 10), Ok(Some(i64::MIN + 2)));
    }

    #[test]
    fn one_that_cycles_goes_round() {
        let round = |last| Sequence { cycle: true, ..sequence(1, 1, 10, last, true) };
        let fresh = Sequence { cycle: true, ..sequence(1, 1, 10, 1, false) };
        assert_eq!(next(&round(8), &fresh, 4), Ok(Some(3)));
        assert_eq!(next(&round(10), &fresh, 1), Ok(Some(2)));
        assert_eq!(next(&round(3), &round(9), 1), Ok(Some(5)));
    }

    #[test]
    fn doing_it_again_changes_nothing() {
        for source in [sequence(1, 1, 100, 97, true), sequence(3, 1, 100, 100, true), sequence(1, 1, 100, 5, false)] {
            let target = sequence(source.increment, 1, 100, 1, false);
            if let Some(at) = stand(&source, &target, 10).unwrap() {
                assert_eq!(stand(&source, &at.apply(&target), 10).unwrap(), None, "{source:?}");
            }
        }
    }
}
