//! Writers that find the open side by themselves: whoever is refused on one side tries the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::database::Database;
use crate::wire::{Refused, Wire};

/// How long a writer waits before it tries the other side.
const FAIL_OVER_AFTER: Duration = Duration::from_millis(20);

/// A write that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledged {
    /// Its number, unique for its writer.
    pub n: u64,
    /// 0: the source, 1: the target.
    pub side: usize,
    /// When it was sent for the time that succeeded.
    pub sent: Instant,
    /// When its answer came.
    pub at: Instant,
}

/// What one writer knows.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// In order.
    pub acknowledged: Vec<Acknowledged>,
    /// Writes whose answer was lost.
    pub unknown: Vec<u64>,
    /// What no writer should ever be told: a value of a sequence that was taken, for instance.
    pub wrong: Vec<String>,
}

/// Writers at work.
#[derive(Debug)]
pub struct Writers {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU32>,
    writers: Vec<JoinHandle<Known>>,
}

impl Writers {
    /// Starts writers as this role, each at this pace.
    pub fn start(sides: &[Database; 2], role: &str, count: u32, pause: Duration) -> Writers {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let start = |number| {
            let (sides, role) = (sides.clone(), role.to_owned());
            let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
            let writer = Writer { sides, role, number, pause, stop, written };
            std::thread::spawn(move || writer.run())
        };
        let writers = (0..count).map(start).collect();
        Writers { stop, written, writers }
    }

    /// Returns how many writes were acknowledged until now.
    pub fn written(&self) -> u32 {
        self.written.load(Ordering::Relaxed)
    }

    /// Stops them.
    pub fn stop(self) -> Vec<Known> {
        self.stop.store(true, Ordering::Relaxed);
        self.writers.into_iter().map(|writer| writer.join().expect("a writer does not panic")).collect()
    }
}

struct Writer {
    sides: [Database; 2],
    role: String,
    number: u32,
    pause: Duration,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU32>,
}

impl Writer {
    fn run(self) -> Known {
        let (mut known, mut side, mut n) = (Known::default(), 0, 1);
        let mut sessions: [Option<Wire>; 2] = [None, None];
        while !self.stop.load(Ordering::Relaxed) {
            if sessions[side].is_none() {
                sessions[side] = Wire::connect_as(&self.sides[side], &self.role).ok();
            }
            let Some(session) = &sessions[side] else {
                std::thread::sleep(FAIL_OVER_AFTER);
                side = 1 - side;
                continue;
            };
            let sent = Instant::now();
            match session.run(&self.statement(n)) {
                Ok(_) => {
                    known.acknowledged.push(Acknowledged { n, side, sent, at: Instant::now() });
                    self.written.fetch_add(1, Ordering::Relaxed);
                    n += 1;
                    std::thread::sleep(self.pause.saturating_sub(sent.elapsed()));
                }
                Err(Refused::Retry) => {}
                // Closed by a fence of triggers, or by revoked privileges.
                Err(Refused::Sql(code, _)) if code == "25006" || code == "42501" => {
                    std::thread::sleep(FAIL_OVER_AFTER);
                    side = 1 - side;
                }
                Err(Refused::Sql(code, message)) => {
                    known.wrong.push(format!("writer {}, {n}: {code} {message}", self.number));
                    n += 1;
                }
                Err(Refused::Unknown(_)) => {
                    known.unknown.push(n);
                    n += 1;
                    sessions[side] = None;
                }
            }
        }
        known
    }

    /// The key comes from a sequence: one that was handed out twice is refused.
    fn statement(&self, n: u64) -> String {
        format!("INSERT INTO event (id, writer, n) VALUES (nextval('event_seq'), {}, {n})", self.number)
    }
}
