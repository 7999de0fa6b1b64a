//! Timestamps of the cluster.

use std::fmt;
use std::time::Duration;

/// A timestamp in the form the backing stores: microseconds * 1000 + the logical counter (0 to 999).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hlc(pub i64);

const LOGICAL: i64 = 1000;

impl Hlc {
    /// Reads `<nanoseconds>[.<logical>]`. What falls between two timestamps that can occur becomes the lower one, so
    /// that comparing with commits stays exact.
    pub fn parse(text: &str) -> Option<Hlc> {
        let (wall, logical) = text.split_once('.').unwrap_or((text, "0"));
        if wall.is_empty() || logical.is_empty() || logical.len() > 10 {
            return None;
        }
        if !wall.bytes().chain(logical.bytes()).all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let wall: i64 = wall.parse().ok()?;
        let logical: i64 = format!("{logical:0<10}").parse().ok()?;
        let within = if wall % LOGICAL == 0 { logical.min(LOGICAL - 1) } else { LOGICAL - 1 };
        Some(Hlc(wall - wall % LOGICAL + within))
    }

    /// Nanoseconds since 1970.
    pub fn wall(self) -> i64 {
        self.0 - self.0 % LOGICAL
    }

    pub fn logical(self) -> i64 {
        self.0 % LOGICAL
    }

    /// The form of messages about ranges: `1595866288.020022200,0`.
    pub fn as_internal(self) -> String {
        let wall = self.wall();
        format!("{}.{:09},{}", wall / 1_000_000_000, wall % 1_000_000_000, self.logical())
    }

    /// The timestamp this much earlier.
    pub fn minus(self, time: Duration) -> Hlc {
        Hlc(self.wall().saturating_sub(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)).max(0)).whole()
    }

    /// Time from `earlier` to this one.
    pub fn since(self, earlier: Hlc) -> Duration {
        Duration::from_nanos(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }

    /// Without the logical counter.
    fn whole(self) -> Hlc {
        Hlc(self.wall())
    }

    /// The timestamp just before this one.
    pub fn before(self) -> Hlc {
        Hlc(self.0 - 1)
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{:010}", self.wall(), self.logical())
    }
}

#[cfg(test)]
mod tests {
    use super::Hlc;

    #[test]
    fn messages_about_ranges_write_seconds() {
        assert_eq!(Hlc(1_595_866_288_020_022_002).as_internal(), "1595866288.020022000,2");
    }

    #[test]
    fn timestamps_keep_their_digits_and_round_down() {
        assert_eq!(Hlc::parse("1536344308033843000.0000000001").unwrap().to_string(), "1536344308033843000.0000000001");
        assert_eq!(Hlc::parse("1536344308033843000").unwrap(), Hlc(1_536_344_308_033_843_000));
        assert_eq!(Hlc::parse("1536344308033843001.0000000000").unwrap(), Hlc(1_536_344_308_033_843_999));
        assert_eq!(Hlc::parse("1536344308033843000.2147483647").unwrap(), Hlc(1_536_344_308_033_843_999));
        assert!(Hlc::parse("-1.0").is_none() && Hlc::parse("x").is_none() && Hlc::parse("1.").is_none());
    }
}
