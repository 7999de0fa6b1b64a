//! A migration between two databases of a test.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidegate_throwaway::Server;

use crate::cockroach::cockroach_server;
use crate::database::{Database, Host, source_server, target_server, unique_name};
use crate::engine::{Engine, Outcome};
use crate::wait::PATIENCE;
use crate::{compare, proxy::Proxy};

/// Two databases and the command line that migrates one to the other.
#[derive(Debug)]
pub struct Migration {
    /// The database to read.
    pub source: Database,
    /// The database to write.
    pub target: Database,
    /// Its name, which is also the name of both databases.
    pub name: String,
    source_url: String,
    target_url: String,
    options: Vec<String>,
    environment: Vec<(String, String)>,
    /// Whether the databases end with this value.
    owner: bool,
}

impl Migration {
    /// Makes two empty databases on the shared servers.
    pub fn new(topic: &str) -> Migration {
        Migration::on(&source_server(), &target_server(), topic)
    }

    /// Makes an empty database on the shared PostgreSQL and one on the shared CockroachDB, to which it migrates.
    pub fn to_cockroach(topic: &str) -> Migration {
        Migration::between(&source_server(), &cockroach_server(), topic)
    }

    /// Makes an empty database on the shared CockroachDB and one on the shared PostgreSQL, to which it migrates.
    pub fn from_cockroach(topic: &str) -> Migration {
        Migration::between(&cockroach_server(), &target_server(), topic)
    }

    /// Makes two empty databases on these servers.
    pub fn on(source: &Arc<Server>, target: &Arc<Server>, topic: &str) -> Migration {
        Migration::between(source, target, topic)
    }

    /// Makes two empty databases on these servers of either kind.
    pub fn between(source: impl Into<Host>, target: impl Into<Host>, topic: &str) -> Migration {
        let name = unique_name(topic);
        let source = Database::create(source, &name);
        let target = Database::create(target, &name);
        let (source_url, target_url) = (source.url(), target.url());
        Migration {
            source,
            target,
            name,
            source_url,
            target_url,
            options: Vec::new(),
            environment: Vec::new(),
            owner: true,
        }
    }

    /// Returns the same migration with a command line of its own, to reach the same databases in another way. It must
    /// not outlive this one, which removes the databases.
    pub fn again(&self) -> Migration {
        Migration {
            source: self.source.clone(),
            target: self.target.clone(),
            name: self.name.clone(),
            source_url: self.source_url.clone(),
            target_url: self.target_url.clone(),
            options: self.options.clone(),
            environment: self.environment.clone(),
            owner: false,
        }
    }

    /// Makes the engine reach the source through a proxy.
    pub fn source_via(mut self, proxy: &Proxy) -> Self {
        self.source_url = proxy.redirect(&self.source_url);
        self
    }

    /// Makes the engine reach the target through a proxy.
    pub fn target_via(mut self, proxy: &Proxy) -> Self {
        self.target_url = proxy.redirect(&self.target_url);
        self
    }

    /// Uses another source URL.
    pub fn source_url(mut self, url: &str) -> Self {
        self.source_url = url.to_owned();
        self
    }

    /// Uses another target URL.
    pub fn target_url(mut self, url: &str) -> Self {
        self.target_url = url.to_owned();
        self
    }

    /// Adds options to every `migrate` of this migration.
    pub fn options<const N: usize>(mut self, options: [&str; N]) -> Self {
        self.options.extend(options.map(str::to_owned));
        self
    }

    /// Sets an environment variable for the engine.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs SQL in both databases: the schema, usually.
    pub fn both(&self, sql: &str) {
        self.source.sql(sql);
        self.target.sql(sql);
    }

    /// Returns the name of its slot and publication.
    pub fn slot(&self) -> String {
        format!("tidegate_{}", self.name)
    }

    /// Starts `tidegate migrate`.
    pub fn start(&self) -> Engine {
        self.start_with(&[])
    }

    /// Starts `tidegate migrate` with more options.
    pub fn start_with(&self, options: &[&str]) -> Engine {
        let mut arguments = self.arguments("migrate");
        arguments.extend(self.options.iter().cloned());
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        Engine::start(&arguments, &self.environment)
    }

    /// Starts `tidegate migrate` and waits until one of its streams flows, whichever way.
    pub fn start_flowing(&self) -> Engine {
        let mut engine = self.start();
        crate::wait::wait_until("a stream flows", PATIENCE, || {
            engine.assert_running();
            self.states().iter().any(|state| state == "streaming")
        });
        engine
    }

    /// Starts `tidegate migrate` and waits until it streams.
    pub fn start_streaming(&self) -> Engine {
        let mut engine = self.start();
        self.wait_state(&mut engine, "streaming");
        engine
    }

    /// Runs `tidegate migrate`, which is expected to end by itself.
    pub fn migrate_to_its_end(&self, options: &[&str]) -> Outcome {
        self.start_with(options).wait(PATIENCE)
    }

    /// Runs another command to its end.
    pub fn run(&self, command: &str, options: &[&str]) -> Outcome {
        self.begin(command, options).wait(Duration::from_secs(180))
    }

    /// Begins another command, and does not wait for it.
    pub fn begin(&self, command: &str, options: &[&str]) -> Engine {
        let mut arguments = self.arguments(command);
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        Engine::start(&arguments, &self.environment)
    }

    /// Runs any command line to its end, with the environment of this migration.
    pub fn run_bare(&self, arguments: &[&str]) -> Outcome {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Engine::start(&arguments, &self.environment).wait(Duration::from_secs(180))
    }

    fn arguments(&self, command: &str) -> Vec<String> {
        let url = |flag: &str, url: &str| [flag.to_owned(), url.to_owned()];
        let mut arguments = vec![command.to_owned()];
        arguments.extend(url("--source", &self.source_url));
        arguments.extend(url("--target", &self.target_url));
        arguments.extend(["--name".to_owned(), self.name.clone()]);
        arguments
    }

    /// Returns what `tidegate status --json` says; `None` if there is nothing to say yet.
    pub fn try_status(&self) -> Option<Value> {
        let outcome = self.run("status", &["--json"]);
        serde_json::from_str(&outcome.stdout).ok()
    }

    /// Returns what `tidegate status --json` says.
    pub fn status(&self) -> Value {
        self.run("status", &["--json"]).json()
    }

    /// Returns the state of its first stream.
    pub fn state(&self) -> Option<String> {
        Some(self.try_status()?["streams"][0]["state"].as_str()?.to_owned())
    }

    /// Returns the states of all its streams.
    pub fn states(&self) -> Vec<String> {
        let status = self.try_status().unwrap_or_default();
        let streams = status["streams"].as_array().cloned().unwrap_or_default();
        streams.iter().filter_map(|stream| Some(stream["state"].as_str()?.to_owned())).collect()
    }

    /// Waits until the stream is in this state, and fails at once if the engine ends.
    #[track_caller]
    pub fn wait_state(&self, engine: &mut Engine, state: &str) {
        self.wait_state_for(engine, state, PATIENCE);
    }

    /// As [`Migration::wait_state`], with another limit.
    #[track_caller]
    pub fn wait_state_for(&self, engine: &mut Engine, state: &str, limit: Duration) {
        let deadline = std::time::Instant::now() + limit;
        loop {
            let now = self.state();
            if now.as_deref() == Some(state) {
                return;
            }
            engine.assert_running();
            assert!(std::time::Instant::now() < deadline, "the stream is {now:?} and not {state} after {limit:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until everything committed at the source until now is in the target.
    #[track_caller]
    pub fn drain(&self) {
        self.drain_for("90s");
    }

    /// As [`Migration::drain`], with a limit as the command line takes it.
    #[track_caller]
    pub fn drain_for(&self, timeout: &str) {
        self.run("drain", &["--timeout", timeout]).expect_code(0);
    }

    /// Compares every table of the source with the target, row by row.
    #[track_caller]
    pub fn assert_equal(&self) {
        compare::assert_equal(&self.source, &self.target);
    }
}

impl Drop for Migration {
    fn drop(&mut self) {
        if self.owner {
            self.source.discard();
            self.target.discard();
        }
    }
}
