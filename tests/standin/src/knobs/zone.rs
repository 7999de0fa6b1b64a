//! Zone configurations, of which only `gc.ttlseconds` has an effect.

use std::sync::PoisonError;
use std::time::Duration;

use super::Settings;
use crate::error::SqlError;
use crate::history::quoted;

const GC: &str = "gc.ttlseconds";
/// What RANGE default begins with.
const DEFAULTS: &[(&str, &str)] = &[
    ("range_min_bytes", "134217728"),
    ("range_max_bytes", "536870912"),
    (GC, "14400"),
    ("num_replicas", "3"),
    ("constraints", "'[]'"),
    ("lease_preferences", "'[]'"),
];

/// What a zone configuration is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Zone {
    /// RANGE default.
    Default,
    Database(String),
    /// Database, schema, table.
    Table(String, String, String),
}

impl Zone {
    /// The text under which it is stored.
    fn key(&self) -> String {
        let parts: Vec<&str> = match self {
            Zone::Default => Vec::new(),
            Zone::Database(database) => vec![database],
            Zone::Table(database, schema, table) => vec![database, schema, table],
        };
        parts.join("\u{1}")
    }

    pub(super) fn of_key(key: &str) -> Option<Zone> {
        let parts: Vec<String> = key.split('\u{1}').map(str::to_owned).collect();
        match parts.as_slice() {
            [none] if none.is_empty() => Some(Zone::Default),
            [database] => Some(Zone::Database(database.clone())),
            [database, schema, table] => Some(Zone::Table(database.clone(), schema.clone(), table.clone())),
            _ => None,
        }
    }

    fn parent(&self) -> Option<Zone> {
        match self {
            Zone::Default => None,
            Zone::Database(_) => Some(Zone::Default),
            Zone::Table(database, ..) => Some(Zone::Database(database.clone())),
        }
    }

    /// As SHOW ZONE CONFIGURATION names it.
    fn shown(&self) -> String {
        let name = |name: &String| {
            let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            if plain { name.clone() } else { quoted(name) }
        };
        match self {
            Zone::Default => "RANGE default".to_owned(),
            Zone::Database(database) => format!("DATABASE {}", name(database)),
            Zone::Table(database, schema, table) => {
                format!("TABLE {}.{}.{}", name(database), name(schema), name(table))
            }
        }
    }
}

impl Settings {
    /// ALTER ... CONFIGURE ZONE USING name = value, ...; `COPY FROM PARENT` is the value `None`.
    pub async fn configure_zone<V>(&self, zone: &Zone, values: &[(String, V)]) -> Result<(), SqlError>
    where
        V: Clone + Into<Option<String>>,
    {
        let values: Vec<(String, Option<String>)> =
            values.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        let values = values.as_slice();
        for (name, value) in values {
            let known = DEFAULTS.iter().any(|(known, _)| known == name)
                || matches!(name.as_str(), "num_voters" | "voter_constraints" | "global_reads");
            if !known {
                return Err(SqlError::new("22023", format!("unsupported zone config parameter: \"{name}\"")));
            }
            let number = value.as_ref().is_none_or(|value| value.parse::<i32>().is_ok_and(|seconds| seconds > 0));
            if name == GC && !number {
                return Err(SqlError::new("22023", "could not validate zone config: GC.TTLSeconds must be at least 1"));
            }
        }
        let store = self.store().await?;
        let key = zone.key();
        for (name, value) in values {
            store.execute("DELETE FROM standin.zone WHERE (target, name) = ($1, $2)", &[&key, name]).await?;
            if let Some(value) = value {
                store.execute("INSERT INTO standin.zone VALUES ($1, $2, $3)", &[&key, name, value]).await?;
            }
        }
        let mut zones = self.zones.write().unwrap_or_else(PoisonError::into_inner);
        let configuration = zones.entry(zone.clone()).or_default();
        for (name, value) in values {
            match value {
                Some(value) => configuration.insert(name.clone(), value.clone()),
                None => configuration.remove(name),
            };
        }
        Ok(())
    }

    /// ALTER ... CONFIGURE ZONE DISCARD.
    pub async fn discard_zone(&self, zone: &Zone) -> Result<(), SqlError> {
        self.store().await?.execute("DELETE FROM standin.zone WHERE target = $1", &[&zone.key()]).await?;
        self.zones.write().unwrap_or_else(PoisonError::into_inner).remove(zone);
        Ok(())
    }

    /// SHOW ZONE CONFIGURATION: the `target` (such as `TABLE defaultdb.public.t` or, inherited, `RANGE default`) and
    /// the `raw_config_sql`.
    pub fn zone_configuration(&self, zone: &Zone) -> (String, String) {
        let own = |zone: &Zone| {
            let zones = self.zones.read().unwrap_or_else(PoisonError::into_inner);
            *zone == Zone::Default || zones.get(zone).is_some_and(|values| !values.is_empty())
        };
        let mut shown = zone.clone();
        while !own(&shown) {
            shown = shown.parent().expect("the default has a configuration of its own");
        }
        let lines: Vec<String> =
            DEFAULTS.iter().map(|(name, _)| format!("\t{name} = {}", self.zone_value(zone, name))).collect();
        let target = shown.shown();
        let sql = format!("ALTER {target} CONFIGURE ZONE USING\n{}", lines.join(",\n"));
        (target, sql)
    }

    /// How long a table's history is kept.
    pub fn gc_ttl(&self, zone: &Zone) -> Duration {
        Duration::from_secs(self.zone_value(zone, GC).parse().unwrap_or(14_400))
    }

    fn zone_value(&self, zone: &Zone, name: &str) -> String {
        let zones = self.zones.read().unwrap_or_else(PoisonError::into_inner);
        let mut zone = Some(zone.clone());
        while let Some(at) = zone {
            if let Some(value) = zones.get(&at).and_then(|values| values.get(name)) {
                return value.clone();
            }
            zone = at.parent();
        }
        DEFAULTS.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()).unwrap_or_default()
    }
}
