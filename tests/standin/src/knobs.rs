//! Cluster settings, those of CockroachDB and the stand-in's own (`standin.*`), and zone configurations.
//!
//! Kept in the database `system` of the backing server, so that they outlive the process, and read from memory.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls};

use crate::error::SqlError;
use crate::history::{self, Hlc, Tracked};
use crate::jobs;

mod duration;
mod settings;
mod zone;

pub use duration::{go_duration, interval_text};
pub use settings::SettingKind;
pub use zone::Zone;

/// The database that holds what belongs to the whole cluster.
const STORE: &str = "system";
const STORE_SQL: &str = "
    SELECT pg_catalog.pg_advisory_lock(7126002);
    CREATE SCHEMA IF NOT EXISTS standin;
    CREATE TABLE IF NOT EXISTS standin.setting (name text PRIMARY KEY, value text NOT NULL);
    CREATE TABLE IF NOT EXISTS standin.zone (
        target text NOT NULL, name text NOT NULL, value text NOT NULL, PRIMARY KEY (target, name));
    CREATE SEQUENCE IF NOT EXISTS standin.job_id START 1101234051444375553 INCREMENT 32769;
    CREATE TABLE IF NOT EXISTS standin.job (
        id bigint PRIMARY KEY, description text NOT NULL, user_name text NOT NULL, status text NOT NULL,
        database text NOT NULL, relations oid[] NOT NULL, names text[] NOT NULL, sink text NOT NULL, created timestamptz NOT NULL DEFAULT now(),
        finished timestamptz, modified timestamptz NOT NULL DEFAULT now(), started_at bigint NOT NULL,
        high_water bigint NOT NULL, ends_at bigint, error text NOT NULL DEFAULT '', expires_after_us bigint);
    SELECT pg_catalog.pg_advisory_unlock(7126002);";

/// The stand-in's own settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Knobs {
    /// Share of rows sent twice, and the probability that a resolved is followed by a replay from the one before.
    pub duplicates: f64,
    pub reorder: bool,
    /// Mean number of feed messages between dropped feed connections.
    pub drop_connections: Option<u64>,
    pub delay_resolved: Duration,
    /// The most by which a resolved timestamp is behind when it is sent; the least is half of it.
    pub resolved_lag: Duration,
    /// Probability of a 40001 per statement and COMMIT of an explicit transaction.
    pub retry_errors: f64,
    /// Probability of a 40003 at COMMIT, half of them committed.
    pub ambiguous_commits: f64,
    /// Delay per statement.
    pub slow: Duration,
    /// What counts as collected, whatever `gc.ttlseconds` and jobs say.
    pub gc_threshold: Option<Hlc>,
}

/// All settings of a stand-in.
#[derive(Debug)]
pub struct Settings {
    store: Config,
    client: tokio::sync::Mutex<Option<Arc<Client>>>,
    /// Values that were set, in PostgreSQL's text form (durations: microseconds).
    values: RwLock<BTreeMap<String, String>>,
    zones: RwLock<BTreeMap<Zone, BTreeMap<String, String>>>,
}

impl Settings {
    /// Reads the settings that the backing server keeps; makes the database `system` if it is not there.
    pub async fn open(backing: &Config) -> Result<Arc<Settings>, SqlError> {
        let mut store = backing.clone();
        store.dbname("postgres");
        let client = connect(&store).await?;
        client.batch_execute("SELECT pg_catalog.pg_advisory_lock(7126002)").await?;
        let there = "SELECT FROM pg_catalog.pg_database WHERE datname = $1";
        if client.query_opt(there, &[&STORE]).await?.is_none() {
            client.batch_execute(&format!("CREATE DATABASE {STORE} TEMPLATE template0")).await?;
        }
        drop(client);
        store.dbname(STORE);
        let client = connect(&store).await?;
        client.batch_execute(STORE_SQL).await?;
        let mut values = BTreeMap::new();
        for row in client.query("SELECT name, value FROM standin.setting", &[]).await? {
            values.insert(row.get(0), row.get(1));
        }
        let mut zones: BTreeMap<Zone, BTreeMap<String, String>> = BTreeMap::new();
        for row in client.query("SELECT target, name, value FROM standin.zone", &[]).await? {
            if let Some(zone) = Zone::of_key(row.get(0)) {
                zones.entry(zone).or_default().insert(row.get(1), row.get(2));
            }
        }
        let client = tokio::sync::Mutex::new(Some(Arc::new(client)));
        Ok(Arc::new(Settings { store, client, values: RwLock::new(values), zones: RwLock::new(zones) }))
    }

    /// A session in the database of the whole cluster; a lost one is opened again.
    pub(crate) async fn store(&self) -> Result<Arc<Client>, SqlError> {
        let mut held = self.client.lock().await;
        if let Some(client) = held.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        let client = Arc::new(connect(&self.store).await?);
        *held = Some(client.clone());
        Ok(client)
    }

    /// SHOW CLUSTER SETTING: the type, and the value in PostgreSQL's text form. `unknown setting: "x"` if there is
    /// none.
    pub fn show(&self, name: &str) -> Result<(SettingKind, String), SqlError> {
        let setting = settings::find(name)?;
        let value = self.value(setting);
        Ok((setting.kind, if setting.kind == SettingKind::Duration { interval_text(micros(&value)) } else { value }))
    }

    /// SHOW ALL CLUSTER SETTINGS: name, value, type (`b`, `i`, `f`, `d`, `s`).
    pub fn show_all(&self) -> Vec<(String, String, char)> {
        let shown = |setting: &&settings::Setting| {
            let (kind, value) = self.show(setting.name).expect("the setting is in the list");
            (setting.name.to_owned(), value, kind.letter())
        };
        settings::ALL.iter().filter(|setting| !setting.name.starts_with("standin.")).map(|s| shown(&s)).collect()
    }

    fn value(&self, setting: &settings::Setting) -> String {
        let values = self.values.read().unwrap_or_else(PoisonError::into_inner);
        values.get(setting.name).cloned().unwrap_or_else(|| setting.default_text())
    }

    fn get(&self, name: &str) -> String {
        self.value(settings::find(name).expect("the setting is in the list"))
    }

    /// The value of a boolean setting of the list.
    pub fn is_on(&self, name: &str) -> bool {
        self.get(name) == "t"
    }

    /// The value of a duration of the list.
    pub fn duration(&self, name: &str) -> Duration {
        Duration::from_micros(u64::try_from(micros(&self.get(name))).unwrap_or(0))
    }

    /// SET CLUSTER SETTING, `value` being the literal without quotes; `None` is DEFAULT.
    pub async fn set(&self, name: &str, value: Option<&str>) -> Result<(), SqlError> {
        let setting = settings::find(name)?;
        let text = value.map(|value| setting.read(value)).transpose()?;
        let store = self.store().await?;
        match &text {
            Some(text) => {
                let sql = "INSERT INTO standin.setting VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = $2";
                store.execute(sql, &[&setting.name, text]).await?;
            }
            None => {
                store.execute("DELETE FROM standin.setting WHERE name = $1", &[&setting.name]).await?;
            }
        }
        let mut values = self.values.write().unwrap_or_else(PoisonError::into_inner);
        match text {
            Some(text) => values.insert(setting.name.to_owned(), text),
            None => values.remove(setting.name),
        };
        Ok(())
    }

    /// The stand-in's own settings at this moment.
    pub fn knobs(&self) -> Knobs {
        let share = |name: &str| self.get(name).parse().unwrap_or(0.0);
        let messages: u64 = self.get("standin.drop_connections").parse().unwrap_or(0);
        Knobs {
            duplicates: share("standin.duplicates"),
            reorder: self.is_on("standin.reorder"),
            drop_connections: Some(messages).filter(|mean| *mean > 0),
            delay_resolved: self.duration("standin.delay_resolved"),
            resolved_lag: self.duration("standin.resolved_lag"),
            retry_errors: share("standin.retry_errors"),
            ambiguous_commits: share("standin.ambiguous_commits"),
            slow: self.duration("standin.slow"),
            gc_threshold: Hlc::parse(&self.get("standin.gc_threshold")),
        }
    }

    /// Returns the time at or below which the history of a table is collected.
    pub async fn gc_threshold(&self, client: &Client, database: &str, table: &Tracked) -> Result<Hlc, SqlError> {
        if let Some(forced) = self.knobs().gc_threshold {
            return Ok(forced);
        }
        let now = history::now(client).await?;
        let ttl = self.gc_ttl(&Zone::Table(database.to_owned(), table.schema.clone(), table.name.clone()));
        let collected = now.minus(ttl);
        Ok(match jobs::protected(self, database, table.relation, now).await? {
            Some(protected) => collected.min(protected.before()),
            None => collected,
        })
    }
}

fn micros(text: &str) -> i64 {
    text.parse().unwrap_or(0)
}

async fn connect(config: &Config) -> Result<Client, SqlError> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
