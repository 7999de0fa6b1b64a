//! Which cluster settings there are.

use super::duration::go_duration;
use crate::error::SqlError;
use crate::history::Hlc;

/// The type of a setting decides the type of the column in SHOW CLUSTER SETTING.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingKind {
    Bool,
    Int,
    Float,
    /// INTERVAL.
    Duration,
    /// Also byte sizes, enumerations and versions.
    String,
}

impl SettingKind {
    /// The type in SHOW ALL CLUSTER SETTINGS.
    pub fn letter(self) -> char {
        match self {
            SettingKind::Bool => 'b',
            SettingKind::Int => 'i',
            SettingKind::Float => 'f',
            SettingKind::Duration => 'd',
            SettingKind::String => 's',
        }
    }

    fn word(self) -> &'static str {
        match self {
            SettingKind::Bool => "bool",
            SettingKind::Int => "int",
            SettingKind::Float => "float",
            SettingKind::Duration => "duration",
            SettingKind::String => "string",
        }
    }
}

#[derive(Debug)]
pub struct Setting {
    pub name: &'static str,
    pub kind: SettingKind,
    default: &'static str,
}

const fn setting(name: &'static str, kind: SettingKind, default: &'static str) -> Setting {
    Setting { name, kind, default }
}

/// Defaults are CockroachDB's (`cluster-settings` pages of its documentation).
pub const ALL: &[Setting] = &[
    setting("changefeed.max_retry_backoff", SettingKind::Duration, "10m"),
    setting("changefeed.memory.per_changefeed_limit", SettingKind::String, "512 MiB"),
    setting("changefeed.protect_timestamp.max_age", SettingKind::Duration, "96h"),
    setting("changefeed.protect_timestamp_interval", SettingKind::Duration, "10m"),
    setting("cluster.organization", SettingKind::String, ""),
    setting("enterprise.license", SettingKind::String, ""),
    setting("feature.changefeed.enabled", SettingKind::Bool, "true"),
    setting("kv.closed_timestamp.side_transport_interval", SettingKind::Duration, "200ms"),
    setting("kv.closed_timestamp.target_duration", SettingKind::Duration, "3s"),
    setting("kv.raft.command.max_size", SettingKind::String, "64 MiB"),
    setting("kv.rangefeed.closed_timestamp_refresh_interval", SettingKind::Duration, "3s"),
    setting("kv.rangefeed.concurrent_catchup_iterators", SettingKind::Int, "16"),
    setting("kv.rangefeed.enabled", SettingKind::Bool, "false"),
    setting("kv.transaction.max_intents_bytes", SettingKind::Int, "4194304"),
    setting("kv.transaction.max_refresh_spans_bytes", SettingKind::Int, "4194304"),
    setting("server.max_connections_per_gateway", SettingKind::Int, "-1"),
    setting("server.time_until_store_dead", SettingKind::Duration, "5m"),
    setting("sql.conn.max_read_buffer_message_size", SettingKind::String, "16 MiB"),
    setting("sql.defaults.results_buffer.size", SettingKind::String, "512 KiB"),
    setting("sql.defaults.serial_normalization", SettingKind::String, "rowid"),
    setting("sql.guardrails.max_row_size_err", SettingKind::String, "512 MiB"),
    setting("sql.guardrails.max_row_size_log", SettingKind::String, "64 MiB"),
    setting("sql.stats.automatic_collection.enabled", SettingKind::Bool, "true"),
    setting("sql.txn.read_committed_isolation.enabled", SettingKind::Bool, "true"),
    setting("sql.txn.repeatable_read_isolation.enabled", SettingKind::Bool, "false"),
    setting("standin.ambiguous_commits", SettingKind::Float, "0"),
    setting("standin.delay_resolved", SettingKind::Duration, "0s"),
    setting("standin.drop_connections", SettingKind::Int, "0"),
    setting("standin.duplicates", SettingKind::Float, "0"),
    setting("standin.gc_threshold", SettingKind::String, ""),
    setting("standin.reorder", SettingKind::Bool, "false"),
    setting("standin.resolved_lag", SettingKind::Duration, "6s"),
    setting("standin.retry_errors", SettingKind::Float, "0"),
    setting("standin.slow", SettingKind::Duration, "0s"),
    setting("version", SettingKind::String, "25.4"),
];

/// Finds a setting, in any case of letters.
pub fn find(name: &str) -> Result<&'static Setting, SqlError> {
    let found = ALL.iter().find(|setting| setting.name.eq_ignore_ascii_case(name));
    found.ok_or_else(|| SqlError::new("42704", format!("unknown setting: \"{name}\"")))
}

impl Setting {
    pub fn default_text(&self) -> String {
        self.read(self.default).expect("defaults are of the setting's type")
    }

    /// Reads a literal into the text form in which values are kept.
    pub fn read(&self, value: &str) -> Result<String, SqlError> {
        let value = value.trim();
        let wrong = || {
            let text = format!("could not parse \"{value}\" as type {}", self.kind.word());
            SqlError::new("22023", text).detail(format!("cluster setting {}", self.name))
        };
        Ok(match self.kind {
            SettingKind::Bool => match value.to_ascii_lowercase().as_str() {
                "true" | "t" | "on" | "yes" | "1" => "t".to_owned(),
                "false" | "f" | "off" | "no" | "0" => "f".to_owned(),
                _ => return Err(wrong()),
            },
            SettingKind::Int => value.parse::<i64>().map_err(|_| wrong())?.to_string(),
            SettingKind::Float => {
                value.parse::<f64>().ok().filter(|number| number.is_finite()).ok_or_else(wrong)?.to_string()
            }
            SettingKind::Duration => {
                let duration = go_duration(value).or_else(|| clock(value)).ok_or_else(wrong)?;
                duration.as_micros().to_string()
            }
            SettingKind::String => {
                if self.name == "standin.gc_threshold" && !value.is_empty() && Hlc::parse(value).is_none() {
                    return Err(wrong());
                }
                value.to_owned()
            }
        })
    }
}

/// Reads an interval as PostgreSQL prints short ones: `00:00:03.5`.
fn clock(text: &str) -> Option<std::time::Duration> {
    let mut parts = text.split(':');
    let hours: f64 = parts.next()?.parse().ok()?;
    let minutes: f64 = parts.next()?.parse().ok()?;
    let seconds: f64 = parts.next()?.parse().ok()?;
    if parts.next().is_some() {
        return None;
    }
    std::time::Duration::try_from_secs_f64(hours * 3600.0 + minutes * 60.0 + seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_of_its_type() {
        for setting in ALL {
            assert!(setting.read(setting.default).is_ok(), "{}", setting.name);
        }
        assert_eq!(find("KV.rangefeed.enabled").unwrap().default_text(), "f");
        assert_eq!(find("nope").unwrap_err().message, "unknown setting: \"nope\"");
    }
}
