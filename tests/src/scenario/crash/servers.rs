//! The servers of a run: of its own, because they are killed.

use std::time::Duration;

use tidegate_throwaway::Server;

use super::plan::Direction;
use crate::cockroach::Cockroach;
use crate::database::{Host, start_server};
use crate::random::Random;

/// How long a server may be down.
const DOWN_MAX: Duration = Duration::from_millis(700);

/// What a CockroachDB may do to its clients at any time, and the stand-in does when told to.
const FAULTS: [(&str, &str); 5] = [
    ("duplicates", "0.05"),
    ("reorder", "true"),
    // Messages between dropped connections of a feed. What piled up while the engine was away has to come through
    // between two of them.
    ("drop_connections", "20000"),
    ("retry_errors", "0.01"),
    ("ambiguous_commits", "0.005"),
];

/// One server.
#[derive(Debug)]
pub(super) struct Victim {
    host: Host,
    kills: u32,
}

impl Victim {
    /// Starts the source and the target of this direction.
    pub(super) fn both(direction: Direction) -> (Victim, Victim) {
        let postgres = || Host::Postgres(start_server(Server::builder()));
        let cockroach = || {
            let server = Cockroach::start();
            for (knob, value) in FAULTS {
                server.knob(knob, value);
            }
            Host::Cockroach(server)
        };
        let (source, target) = match direction {
            Direction::PostgresToPostgres => (postgres(), postgres()),
            Direction::PostgresToCockroach => (postgres(), cockroach()),
            Direction::CockroachToPostgres => (cockroach(), postgres()),
        };
        (Victim { host: source, kills: 0 }, Victim { host: target, kills: 0 })
    }

    pub(super) fn host(&self) -> Host {
        self.host.clone()
    }

    /// Kills it and starts it again. Of the stand-in the process that clients talk to and the PostgreSQL behind it are
    /// killed by turns. False: it is not ours to kill.
    pub(super) fn crash(&mut self, random: &mut Random) -> bool {
        let down = random.time_below(DOWN_MAX);
        self.kills += 1;
        match &self.host {
            Host::Postgres(server) => {
                server.kill9();
                std::thread::sleep(down);
                server.start().unwrap_or_else(|error| panic!("{error:#}"));
            }
            Host::Cockroach(server) if !server.can_be_killed() => return false,
            Host::Cockroach(server) => {
                if self.kills % 2 == 1 || !server.crash_backing(|| std::thread::sleep(down)) {
                    server.kill9();
                    std::thread::sleep(down);
                    server.start_again();
                }
            }
        }
        true
    }

    /// Ends the faults, so that what is left to do is done soon.
    pub(super) fn calm(&self) {
        let Host::Cockroach(server) = &self.host else { return };
        for (knob, _) in FAULTS {
            server.knob(knob, "DEFAULT");
        }
    }
}
