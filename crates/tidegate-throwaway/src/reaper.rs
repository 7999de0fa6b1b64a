//! Ends a server whose starter is gone.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context;

// Several rounds, because a postmaster that is not hit first can start another child meanwhile.
const SCRIPT: &str = r#"
while read -r _; do :; done
for round in 1 2 3 4 5 6 7 8 9 10; do
    found=
    for process in /proc/[0-9]*; do
        if [ "$(readlink "$process/cwd" 2>/dev/null)" = "$1/data" ]; then
            found=yes
            kill -9 "${process#/proc/}" 2>/dev/null
        fi
    done
    [ -z "$found" ] && break
    sleep 0.1
done
rm -rf "$1"
"#;

/// A process that waits for our end. It reads a pipe whose only writer is this value: the pipe is closed on exec, so
/// that
/// no child of ours keeps it open.
#[derive(Debug)]
pub struct Reaper {
    child: Child,
}

impl Reaper {
    /// Starts watching over the server whose data directory is `data` below `directory`.
    pub fn watch(directory: &Path) -> anyhow::Result<Reaper> {
        let child = Command::new("sh")
            .args(["-c", SCRIPT, "throwaway-reaper"])
            .arg(directory)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Its own group: what ends our group, such as Ctrl-C, must not end it.
            .process_group(0)
            .spawn()
            .context("could not start the reaper of a throw-away server")?;
        Ok(Reaper { child })
    }

    /// Lets it do its work now, and waits for it.
    pub fn reap(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
