//! The processes of a server, found by their working directory: unlike a process number, that is never another's.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Returns the processes that work in this data directory.
pub fn of(data_dir: &Path) -> Vec<Pid> {
    let Ok(entries) = Path::new("/proc").read_dir() else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let works_here = |pid: &i32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data_dir);
    numbers.filter(works_here).map(Pid::from_raw).collect()
}

/// Sends a signal to each of them, to `first` before the others. Those that ended meanwhile are no error.
pub fn signal_all(data_dir: &Path, first: Option<Pid>, signal: Signal) {
    // The postmaster is stopped before the list is made, so that it starts no child which the list lacks.
    if let Some(first) = first {
        let _ = kill(first, signal);
    }
    for pid in of(data_dir).into_iter().filter(|pid| Some(*pid) != first) {
        let _ = kill(pid, signal);
    }
}
