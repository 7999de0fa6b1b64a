//! Which process this is, so that the next one can tell whether it is gone.
//!
//! A host name and a pid are not enough: containers share host names, and pids are used again. The text is
//! `boot/namespace/pid/start/number`: boot id and pid namespace say on which machine a pid means something, its start
//! time says whether it is still the same process, and the number tells owners of one process apart.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// The numbers of the owners in this process that were not dropped yet.
static LIVING: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

/// Returns a text that names this process, and this call, for ever.
pub(crate) fn unique() -> String {
    named(number())
}

fn number() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

fn named(number: u64) -> String {
    let pid = std::process::id();
    let (boot, namespace) = machine();
    let start = start_time(pid)
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64));
    format!("{boot}/{namespace}/{pid}/{start}/{number}")
}

/// An owner in this process: gone once it is dropped, for others in this process too.
#[derive(Debug)]
pub(super) struct Living {
    number: u64,
    name: String,
}

impl Living {
    pub(super) fn new() -> Self {
        let number = number();
        living().insert(number);
        Living { number, name: named(number) }
    }

    /// Returns a text that names it for ever.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        living().remove(&self.number);
    }
}

fn living() -> MutexGuard<'static, BTreeSet<u64>> {
    LIVING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the name of this machine, for people.
pub(super) fn host() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| "unknown".to_owned())
}

/// Returns whether an owner is provably gone, by the name that [`Living`] gave it: its process ran here, and its pid is
/// free or another's; or it was dropped by this process.
pub(super) fn is_gone(process: &str) -> bool {
    let parts: Vec<&str> = process.split('/').collect();
    let [boot, namespace, pid, start, number] = parts[..] else { return false };
    let (Ok(pid), Ok(start), Ok(number)) = (pid.parse(), start.parse::<u64>(), number.parse::<u64>()) else {
        return false;
    };
    let here = machine();
    let known = !here.0.is_empty() && !here.1.is_empty();
    if !known || (boot, namespace) != (&here.0, &here.1) {
        return false;
    }
    match start_time(pid) {
        Some(found) if found == start => pid == std::process::id() && !living().contains(&number),
        _ => true,
    }
}

/// The boot id and the pid namespace; empty where the system does not tell.
fn machine() -> (String, String) {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/pid").ok();
    let namespace = namespace.map(|link| link.to_string_lossy().replace('/', "")).unwrap_or_default();
    (boot.trim().to_owned(), namespace)
}

/// When a process began, in ticks since boot; `None` where it is gone.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name, in parentheses, may hold anything; the state is the first field after it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let dead = matches!(*fields.first()?, "Z" | "X");
    if dead { None } else { fields.get(19)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_that_was_dropped_or_whose_process_ended_is_gone() {
        let me = Living::new();
        let name = me.name().to_owned();
        assert_ne!(name, unique());
        assert!(!is_gone(&name));
        drop(me);
        assert!(is_gone(&name));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (boot, namespace) = machine();
        let started = start_time(child.id()).unwrap();
        let name = format!("{boot}/{namespace}/{}/{started}/0", child.id());
        assert!(!is_gone(&name));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_gone(&name));
    }

    #[test]
    fn a_process_of_another_machine_is_never_called_gone() {
        let (_, namespace) = machine();
        assert!(!is_gone(&format!("another/{namespace}/1/1/0")));
        assert!(!is_gone("nonsense"));
    }
}
