//! Looks at a target from outside, again and again: does it only ever show states that the source once had?

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::database::{Database, Host};
use crate::wire::{Refused, Wire};

/// How long it waits before it connects again to a server that is down.
const BACK_OFF: Duration = Duration::from_millis(50);
const PARTS: usize = 10;

/// A sampler at work. It is started once the stream is in the state `streaming`: nothing is promised before.
#[derive(Debug)]
pub struct Sampler {
    stop: Arc<AtomicBool>,
    looked: Arc<AtomicU64>,
    thread: JoinHandle<Samples>,
}

/// What it saw.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// When each sample was taken, from the start on.
    taken: Vec<Duration>,
    lasted: Duration,
    positions: BTreeSet<String>,
    wrong: Vec<String>,
}

impl Sampler {
    /// Starts looking: the accounts of the transfer workload must have this sum in every snapshot.
    pub fn start(target: &Database, total: i64, every: Duration) -> Sampler {
        let (stop, looked) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (target, stopped, counted) = (target.clone(), Arc::clone(&stop), Arc::clone(&looked));
        let thread = std::thread::spawn(move || look(&target, total, every, &stopped, &counted));
        Sampler { stop, looked, thread }
    }

    /// Returns how many samples it has taken.
    pub fn looked(&self) -> u64 {
        self.looked.load(Ordering::Relaxed)
    }

    /// Ends it.
    pub fn stop(self) -> Samples {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the sampler does not panic")
    }
}

fn look(target: &Database, total: i64, every: Duration, stop: &AtomicBool, looked: &AtomicU64) -> Samples {
    let began = Instant::now();
    let mut samples = Samples::default();
    let mut session = None;
    while !stop.load(Ordering::Relaxed) {
        let next = Instant::now() + every;
        let seen = match session.take().map_or_else(|| Wire::connect(target), Ok) {
            Ok(open) => sample(&open, &target.host).inspect(|_| session = Some(open)),
            Err(refused) => Err(refused),
        };
        match seen {
            Ok((position, sum)) => {
                samples.taken.push(began.elapsed());
                if sum != Some(total) {
                    samples.wrong.push(format!("at {position} the sum is {sum:?} and not {total}"));
                }
                samples.positions.insert(position);
                looked.fetch_add(1, Ordering::Relaxed);
            }
            Err(Refused::Sql(code, message)) => samples.wrong.push(format!("the sample was refused: {code} {message}")),
            // The server is down, or asks to read again.
            Err(Refused::Retry | Refused::Unknown(_)) => std::thread::sleep(BACK_OFF),
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    samples.lasted = began.elapsed();
    samples
}

/// Reads checkpoint and sum in one snapshot. After an error the session is thrown away with its transaction.
fn sample(session: &Wire, host: &Host) -> Result<(String, Option<i64>), Refused> {
    session.run(match host {
        Host::Postgres(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        Host::Cockroach(_) => "BEGIN",
    })?;
    let position = session.rows("SELECT position FROM tidegate.checkpoint")?;
    let sum = session.rows("SELECT sum(balance) FROM account")?;
    session.run("COMMIT")?;
    let one = |rows: Vec<Vec<Option<String>>>| rows.into_iter().next().and_then(|row| row.into_iter().next().flatten());
    Ok((one(position).unwrap_or_default(), one(sum).and_then(|sum| sum.parse().ok())))
}

impl Samples {
    /// Returns how many samples were taken.
    pub fn count(&self) -> usize {
        self.taken.len()
    }

    /// Returns what was wrong.
    pub fn wrong(&self) -> &[String] {
        &self.wrong
    }

    /// Returns how many samples fell into each tenth of the time.
    fn spread(&self) -> [usize; PARTS] {
        let mut spread = [0; PARTS];
        for taken in &self.taken {
            let part = taken.as_secs_f64() / self.lasted.as_secs_f64() * PARTS as f64;
            spread[(part as usize).min(PARTS - 1)] += 1;
        }
        spread
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let least = self.spread().into_iter().min().unwrap_or(0);
        write!(
            f,
            "{} samples of the target in {:.0?}, {} different checkpoints, at least {least} in each tenth of it: ",
            self.count(),
            self.lasted,
            self.positions.len()
        )?;
        if self.wrong.is_empty() {
            write!(f, "the sum was right in each")
        } else {
            write!(f, "WRONG: {:?}", self.wrong)
        }
    }
}
