//! TPC-B traffic by pgbench.

use std::process::{Child, Command, Stdio};

use crate::database::Database;
use crate::engine::end_with_us;

/// Makes the pgbench tables with their rows in the source and without rows in the target.
pub fn initialize(source: &Database, target: &Database, scale: u32) {
    let scale = scale.to_string();
    run(source, &["-i", "-I", "dtgp", "-s", &scale]);
    run(target, &["-i", "-I", "dtp", "-s", &scale]);
}

fn run(database: &Database, arguments: &[&str]) {
    let output = command(database).args(arguments).arg(&database.name).output().expect("pgbench can be run");
    assert!(output.status.success(), "pgbench {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn command(database: &Database) -> Command {
    database.server().client("pgbench")
}

/// Traffic under way; ends with the value.
#[derive(Debug)]
pub struct Traffic {
    child: Child,
}

impl Traffic {
    /// Starts `clients` clients, together at no more than `rate` transactions per second. They end when the server
    /// does.
    pub fn start(database: &Database, clients: u32, rate: u32) -> Traffic {
        let (clients, rate) = (clients.to_string(), rate.to_string());
        let mut command = command(database);
        command.args(["-n", "-c", &clients, "-j", "1", "-T", "86400", "-R", &rate, &database.name]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("pgbench can be run");
        end_with_us(&child, None);
        Traffic { child }
    }

    /// Returns whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
