//! Session variables of CockroachDB: which there are, and where each is kept.

use crate::error::SqlError;
use crate::history;
use crate::options::Version;

/// The PostgreSQL release whose behaviour CockroachDB claims.
pub const SERVER_VERSION: &str = "13.0.0";
/// Settings of the backing session that stand for CockroachDB's own variables begin so.
const PREFIX: &str = "crdb.";

/// Where a variable is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// A setting that the backing server has too, under this name.
    Backing(&'static str),
    /// CockroachDB's own: a setting that means nothing to the backing server, and its default.
    Own { name: &'static str, setting: String, default: &'static str },
    /// With a dot in its name: any value.
    Custom(String),
    /// Cannot be set: its value.
    Fixed(&'static str),
}

const BACKING: [&str; 22] = [
    "application_name",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "escape_string_warning",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "lock_timeout",
    "row_security",
    "search_path",
    "standard_conforming_strings",
    "statement_timeout",
    "synchronous_commit",
    "synchronize_seqscans",
    "timezone",
    "transaction_isolation",
    "transaction_read_only",
    "role",
];

/// Variables with a default of on or off take only these.
const OWN: [(&str, &str); 47] = [
    ("allow_unsafe_internals", "off"),
    ("autocommit_before_ddl", "on"),
    ("avoid_buffering", "off"),
    ("check_function_bodies", "on"),
    ("copy_from_atomic_enabled", "on"),
    ("copy_from_retries_enabled", "on"),
    ("copy_fast_path_enabled", "on"),
    ("copy_transaction_quality_of_service", "background"),
    ("cost_scans_with_default_col_size", "off"),
    ("default_int_size", "8"),
    ("default_table_access_method", "heap"),
    ("default_tablespace", ""),
    ("default_transaction_priority", "normal"),
    ("default_transaction_quality_of_service", "regular"),
    ("default_transaction_use_follower_reads", "off"),
    ("disable_changefeed_replication", "off"),
    ("disallow_full_table_scans", "off"),
    ("distsql", "auto"),
    ("enable_auto_rehoming", "off"),
    ("enable_durable_locking_for_serializable", "off"),
    ("enable_implicit_fk_locking_for_serializable", "off"),
    ("enable_implicit_select_for_update", "on"),
    ("enable_implicit_transaction_for_batch_statements", "on"),
    ("enable_insert_fast_path", "on"),
    ("enable_multiple_modifications_of_table", "off"),
    ("enable_shared_locking_for_serializable", "off"),
    ("enable_zigzag_join", "off"),
    ("expect_and_ignore_not_visible_columns_in_copy", "off"),
    ("foreign_key_cascades_limit", "10000"),
    ("force_savepoint_restart", "off"),
    ("idle_in_session_timeout", "0"),
    ("inject_retry_errors_enabled", "off"),
    ("inject_retry_errors_on_commit_enabled", "off"),
    ("multiple_active_portals_enabled", "off"),
    ("null_ordered_last", "off"),
    ("override_multi_region_zone_config", "off"),
    ("plan_cache_mode", "auto"),
    ("prefer_lookup_joins_for_fks", "off"),
    ("reorder_joins_limit", "8"),
    ("results_buffer_size", "524288"),
    ("serial_normalization", "rowid"),
    ("sql_safe_updates", "off"),
    ("stub_catalog_tables", "on"),
    ("tracing", "off"),
    ("transaction_rows_read_err", "0"),
    ("transaction_rows_written_err", "0"),
    ("transaction_timeout", "0"),
];

const FIXED: [(&str, &str); 12] = [
    ("crdb_version", ""),
    ("database", ""),
    ("integer_datetimes", "on"),
    ("is_superuser", "on"),
    ("max_identifier_length", "128"),
    ("max_index_keys", "32"),
    ("node_id", "1"),
    ("server_encoding", "UTF8"),
    ("server_version", SERVER_VERSION),
    ("server_version_num", "130000"),
    ("session_id", "0000000000000001"),
    ("session_user", ""),
];

/// Finds a variable by its name in lower case: 42704 if there is none.
pub fn find(name: &str, version: Version) -> Result<Variable, SqlError> {
    if let Some(setting) = BACKING.iter().find(|known| **known == name) {
        return Ok(Variable::Backing(setting));
    }
    let exists = |known: &str| known != "disable_changefeed_replication" || version.at_least(24, 1);
    if let Some((known, default)) = OWN.iter().find(|(known, _)| *known == name && exists(known)) {
        let setting = match *known {
            "disable_changefeed_replication" => history::HIDDEN_SETTING.to_owned(),
            known => format!("{PREFIX}{known}"),
        };
        let default = if *known == "autocommit_before_ddl" && !version.at_least(25, 1) { "off" } else { default };
        return Ok(Variable::Own { name: known, setting, default });
    }
    if let Some((_, value)) = FIXED.iter().find(|(known, _)| *known == name) {
        return Ok(Variable::Fixed(value));
    }
    match name.split_once('.') {
        Some((first, rest)) if !rest.is_empty() && !first.starts_with("standin") && first != "crdb" => {
            Ok(Variable::Custom(name.to_owned()))
        }
        _ => Err(SqlError::new("42704", format!("unrecognized configuration parameter {name:?}"))),
    }
}

/// Checks a value of a variable of CockroachDB's own, and gives it as SHOW does.
pub fn check(name: &str, value: &str, version: Version) -> Result<String, SqlError> {
    let Variable::Own { default, .. } = find(name, version)? else { return Ok(value.to_owned()) };
    if value.eq_ignore_ascii_case("default") {
        return Ok(default.to_owned());
    }
    if !matches!(default, "on" | "off") {
        return Ok(value.to_owned());
    }
    match value.to_lowercase().as_str() {
        "on" | "true" | "t" | "yes" | "y" | "1" => Ok("on".to_owned()),
        "off" | "false" | "f" | "no" | "n" | "0" => Ok("off".to_owned()),
        _ => {
            let text = format!("parameter {name:?} requires a Boolean value");
            Err(SqlError::new("22023", text))
        }
    }
}

/// Returns all variables, for SHOW ALL.
pub fn names() -> impl Iterator<Item = &'static str> {
    let of = |list: &'static [(&'static str, &'static str)]| list.iter().map(|(name, _)| *name);
    BACKING.iter().copied().chain(of(&OWN)).chain(of(&FIXED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::VERSION;

    #[test]
    fn unknown_variables_are_refused() {
        for name in ["session_replication_role", "xmloption", "standin.hidden", "crdb.x"] {
            assert_eq!(find(name, VERSION).expect_err("unknown").code, "42704", "{name}");
        }
        assert_eq!(find("myapp.x", VERSION), Ok(Variable::Custom("myapp.x".to_owned())));
    }

    #[test]
    fn the_loop_prevention_variable_came_with_24_1() {
        let old = "23.1.0".parse().expect("a version");
        assert_eq!(find("disable_changefeed_replication", old).expect_err("unknown").code, "42704");
        assert_eq!(check("disable_changefeed_replication", "TRUE", VERSION), Ok("on".to_owned()));
        assert_eq!(check("disable_changefeed_replication", "maybe", VERSION).expect_err("no boolean").code, "22023");
    }
}
