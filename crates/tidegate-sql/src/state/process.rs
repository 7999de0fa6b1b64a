//! Which process this is, so that the next one can tell whether it is gone.
//!
//! A host name and a pid are not enough: containers share host names, and pids are used again. The text is
//! `boot/namespace/pid/start/number`: boot id and pid namespace say on which machine a pid means something, its start
//! time says whether it is still the same process, and the number tells owners of one process apart.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Returns a text that names this process, and this call, for ever.
pub(crate) fn unique() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let pid = std::process::id();
    let (boot, namespace) = machine();
    let start = start_time(pid)
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64));
    format!("{boot}/{namespace}/{pid}/{start}/{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Returns the name of this machine, for people.
pub(super) fn host() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| "unknown".to_owned())
}

/// Returns whether the process that [`unique`] named is provably gone: it ran here, and its pid is free or another's.
pub(super) fn is_gone(process: &str) -> bool {
    let parts: Vec<&str> = process.split('/').collect();
    let [boot, namespace, pid, start, _] = parts[..] else { return false };
    let (Ok(pid), Ok(start)) = (pid.parse(), start.parse::<u64>()) else { return false };
    let here = machine();
    let known = !here.0.is_empty() && !here.1.is_empty();
    known && (boot, namespace) == (&here.0, &here.1) && start_time(pid) != Some(start)
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
    fn this_process_is_here_and_one_that_ended_is_gone() {
        let me = unique();
        assert_ne!(me, unique());
        assert!(!is_gone(&me));
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
