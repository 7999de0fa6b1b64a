//! Random choices that can be repeated.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A stream of random numbers made from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Starts the stream of this seed.
    pub fn seeded(seed: u64) -> Random {
        Random { state: seed }
    }

    /// Returns the next number.
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    /// Returns a time shorter than `bound`.
    pub fn time_below(&mut self, bound: Duration) -> Duration {
        Duration::from_micros(self.below(bound.as_micros().max(1) as u64))
    }
}

/// Returns the seed of `TIDEGATE_SEED`, or a new one; prints it, so that a failing run can be repeated.
pub fn seed() -> u64 {
    let asked = std::env::var("TIDEGATE_SEED").ok().and_then(|text| text.parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64 % 1_000_000);
    let seed = asked.unwrap_or_else(now);
    println!("seed: TIDEGATE_SEED={seed}");
    seed
}
