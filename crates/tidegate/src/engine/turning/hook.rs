//! Commands of the operator's, run at their places in a turn.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_control::{Direction, TurnId};
use tidegate_model::{MigrationName, Problem};
use tokio::process::Command;
use tokio::time::timeout;

/// How long a command may take. It is part of the time in which nothing can be written.
const LIMIT: Duration = Duration::from_secs(300);
/// How much of what it prints is kept.
const OUTPUT_BYTES_MAX: usize = 4096;

/// Runs a command by the shell and returns what it printed. It may run again after a crash.
pub async fn run(
    command: &str,
    place: &str,
    name: &MigrationName,
    direction: Direction,
    id: TurnId,
) -> Result<Value, Problem> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).kill_on_drop(true);
    shell.env("TIDEGATE_NAME", name.as_str()).env("TIDEGATE_TURN", id.to_string());
    shell.env("TIDEGATE_DIRECTION", direction.to_string()).env("TIDEGATE_HOOK", place);
    let output = match timeout(LIMIT, shell.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(failed(place, error.to_string(), String::new())),
        Err(_elapsed) => {
            return Err(failed(place, format!("it took longer than {} s", LIMIT.as_secs()), String::new()));
        }
    };
    let printed = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let printed = String::from_utf8_lossy(&printed[printed.len().saturating_sub(OUTPUT_BYTES_MAX)..]).into_owned();
    if output.status.success() {
        return Ok(json!({ "printed": printed }));
    }
    Err(failed(place, format!("it ended with {}", output.status), printed))
}

fn failed(place: &str, why: String, printed: String) -> Problem {
    let printed = if printed.is_empty() { printed } else { format!("; it printed: {}", printed.trim()) };
    let next = "mend the command, which may run again, and ask for the turn again";
    Problem::definite("CT097", format!("the command of --{} failed", place.replace('_', "-")), why + &printed, next)
}
