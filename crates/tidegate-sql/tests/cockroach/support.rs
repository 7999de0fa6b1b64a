//! A target database on a stand-in, with state tables.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use tidegate_connect::{Session, Settings};
use tidegate_model::{Hlc, Lsn, Position, Stream};
use tidegate_sql::state::{
    OwnerConfig, Ownership, Part, StateKey, StateSchema, install, read_checkpoint, store_start, take,
};
use tidegate_standin::{Standin, StandinOptions};
use tokio::time::{sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Error, Row};

/// Longer than anything here takes, also on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Runs each test on a quiet server and on a hostile one.
macro_rules! on_both_servers {
    ($($name:ident),* $(,)?) => {
        mod quiet {
            $(#[tokio::test]
            async fn $name() {
                super::$name($crate::support::quiet()).await;
            })*
        }
        mod hostile {
            $(#[tokio::test]
            async fn $name() {
                super::$name($crate::support::hostile()).await;
            })*
        }
    };
}
pub(crate) use on_both_servers;

/// A server that does what it is told.
pub fn quiet() -> &'static Standin {
    static QUIET: OnceLock<Standin> = OnceLock::new();
    QUIET.get_or_init(|| start(&[]))
}

/// A server where one statement in twenty of a transaction collides, and one COMMIT in twenty has no answer.
pub fn hostile() -> &'static Standin {
    static HOSTILE: OnceLock<Standin> = OnceLock::new();
    HOSTILE.get_or_init(|| start(&["standin.retry_errors = 0.05", "standin.ambiguous_commits = 0.05"]))
}

fn start(settings: &[&str]) -> Standin {
    let standin = Standin::start(StandinOptions::default()).unwrap();
    standin.create_database("knobs").unwrap();
    let (url, settings) = (standin.url("knobs"), settings.iter().map(|set| (*set).to_owned()).collect::<Vec<_>>());
    // The caller may be in a runtime, which cannot be waited in.
    let setting = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let session = Session::connect(&self::settings(&url), "test").await.unwrap();
            for set in settings {
                session.batch_execute(&format!("SET CLUSTER SETTING {set}")).await.unwrap();
            }
        });
    });
    setting.join().unwrap();
    standin
}

/// A database with state tables and some tables of its own.
pub struct Target {
    pub url: String,
    pub key: StateKey,
    session: Session,
}

impl Target {
    pub async fn new(standin: &Standin, schema: &[&str]) -> Target {
        let target = Target::without_state(standin, schema).await;
        install(&target.session, &target.key.schema, Part::Stream).await.unwrap();
        target
    }

    pub async fn without_state(standin: &Standin, schema: &[&str]) -> Target {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("target_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        standin.create_database(&name).unwrap();
        let url = standin.url(&name);
        let session = Session::connect(&settings(&url), "test").await.unwrap();
        for sql in schema {
            session.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        }
        let key =
            StateKey { schema: StateSchema::default(), migration: name.parse().unwrap(), stream: Stream::Forward };
        Target { url, key, session }
    }

    pub fn settings(&self) -> Settings {
        settings(&self.url)
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    pub async fn sql(&self, sql: &str) {
        self.session.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// Returns the first column of a query, as text, joined by spaces.
    pub async fn text(&self, query: &str) -> String {
        let rows = self.rows(query).await;
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join(" ")
    }

    pub async fn number(&self, query: &str) -> i64 {
        self.rows(query).await[0].get(0)
    }

    /// Runs a query until it does not collide with what is written meanwhile.
    async fn rows(&self, query: &str) -> Vec<Row> {
        loop {
            match self.session.query(query, &[]).await {
                Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => {}
                decided => return decided.unwrap_or_else(|error| panic!("{query}: {error:?}")),
            }
        }
    }

    /// Waits until a query gives a number other than 0.
    pub async fn until(&self, what: &str, query: &str) {
        let waiting = async {
            while self.number(query).await == 0 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
    }

    pub fn owner_config(&self) -> OwnerConfig {
        OwnerConfig { settings: self.settings(), key: self.key.clone(), take_over: false }
    }

    /// Takes the stream, which nobody owns, and makes `at(10)` its start point if it has none.
    pub async fn own(&self) -> Ownership {
        let owner = timeout(LIMIT, take(&self.owner_config(), |_| {})).await.unwrap().unwrap();
        if read_checkpoint(&self.session, &self.key).await.unwrap().unwrap().position.is_none() {
            store_start(&self.session, owner.lease(), &at(10), &json!({})).await.unwrap();
        }
        owner
    }
}

pub fn settings(url: &str) -> Settings {
    Settings::parse(url).unwrap()
}

pub fn at(lsn: u64) -> Position {
    Position::postgres(Lsn(lsn))
}

pub fn at_time(wall: u64) -> Position {
    Position::cockroach(Hlc { wall, logical: 1 })
}

/// Runs a transaction of the test's own until it is committed; one with a lost answer counts as such.
pub async fn committed<F: Future<Output = Result<(), Error>>>(
    session: &Session,
    work: impl Fn() -> F,
) -> Result<(), Error> {
    loop {
        let done = match work().await {
            Ok(()) => session.batch_execute("COMMIT").await,
            Err(error) => Err(error),
        };
        let Err(error) = done else { return Ok(()) };
        let state = error.code().map_or(String::new(), |state| state.code().to_owned());
        let _ = session.batch_execute("ROLLBACK").await;
        match state.as_str() {
            "40001" => {}
            "40003" => return Ok(()),
            _ => return Err(error),
        }
    }
}
