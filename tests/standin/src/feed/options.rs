//! Options of changefeeds, checked as CockroachDB checks them before anything is sent.

use std::time::Duration;

use crate::encode::Style;
use crate::error::SqlError;
use crate::knobs::go_duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    Wrapped,
    KeyOnly,
    Row,
    Bare,
    Enriched,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialScan {
    Yes,
    No,
    Only,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Backfill,
    NoBackfill,
    Stop,
    Ignore,
}

/// What a feed was asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    pub updated: bool,
    pub mvcc_timestamp: bool,
    /// Least time between resolved messages; `None` without the option.
    pub resolved: Option<Duration>,
    pub min_checkpoint_frequency: Option<Duration>,
    pub diff: bool,
    pub cursor: Option<String>,
    pub end_time: Option<String>,
    /// As given; without it a cursor decides.
    pub initial_scan: Option<InitialScan>,
    pub envelope: Envelope,
    pub enriched_source: bool,
    pub key_in_value: bool,
    pub topic_in_value: bool,
    pub full_table_name: bool,
    pub split_column_families: bool,
    pub virtual_null: bool,
    /// `schema_change_events = column_changes`.
    pub column_changes: bool,
    pub policy: Policy,
    pub include_hidden: bool,
    pub style: Style,
    pub gc_protect_expires_after: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Flag,
    Duration,
    OptionalDuration,
    Text,
    OptionalText,
}

const KNOWN: &[(&str, Type)] = &[
    ("avro_schema_prefix", Type::Text),
    ("compression", Type::Text),
    ("confluent_schema_registry", Type::Text),
    ("cursor", Type::Text),
    ("diff", Type::Flag),
    ("encode_json_value_null_as_object", Type::Flag),
    ("end_time", Type::Text),
    ("enriched_properties", Type::Text),
    ("envelope", Type::Text),
    ("execution_locality", Type::Text),
    ("extra_headers", Type::Text),
    ("format", Type::Text),
    ("full_table_name", Type::Flag),
    ("gc_protect_expires_after", Type::Duration),
    ("headers_json_column_name", Type::Text),
    ("hibernation_polling_frequency", Type::Duration),
    ("ignore_disable_changefeed_replication", Type::Flag),
    ("initial_scan", Type::OptionalText),
    ("initial_scan_only", Type::Flag),
    ("kafka_sink_config", Type::Text),
    ("key_column", Type::Text),
    ("key_in_value", Type::Flag),
    ("lagging_ranges_polling_interval", Type::Duration),
    ("lagging_ranges_threshold", Type::Duration),
    ("metrics_label", Type::Text),
    ("min_checkpoint_frequency", Type::Duration),
    ("mvcc_timestamp", Type::Flag),
    ("no_initial_scan", Type::Flag),
    ("on_error", Type::Text),
    ("partition_alg", Type::Text),
    ("protect_data_from_gc_on_pause", Type::Flag),
    ("pubsub_sink_config", Type::Text),
    ("range_distribution_strategy", Type::Text),
    ("resolved", Type::OptionalDuration),
    ("schema_change_events", Type::Text),
    ("schema_change_policy", Type::Text),
    ("split_column_families", Type::Flag),
    ("topic_in_value", Type::Flag),
    ("unordered", Type::Flag),
    ("updated", Type::Flag),
    ("virtual_columns", Type::Text),
    ("webhook_auth_header", Type::Text),
    ("webhook_client_timeout", Type::Duration),
    ("webhook_sink_config", Type::Text),
];

fn invalid(text: impl Into<String>) -> SqlError {
    SqlError::new("22023", text)
}

/// What was given, by name.
struct Given<'a>(&'a [(String, Option<String>)]);

impl Given<'_> {
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(given, _)| given == name)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).and_then(|(_, value)| value.as_deref())
    }

    fn duration(&self, name: &str) -> Result<Option<Duration>, SqlError> {
        let Some(text) = self.text(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        if text.strip_prefix('-').is_some_and(|text| go_duration(text).is_some()) {
            return Err(invalid(format!("negative durations are not accepted: {name}='{text}'")));
        }
        let wrong = || invalid(format!("problem parsing option {name}: time: invalid duration \"{text}\""));
        go_duration(text).map(Some).ok_or_else(wrong)
    }

    /// The index of the value in `choices`, whatever its case.
    fn choice(&self, name: &str, choices: &[&str], valid: &str) -> Result<Option<usize>, SqlError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let found = choices.iter().position(|choice| choice.eq_ignore_ascii_case(text));
        found.map(Some).ok_or_else(|| invalid(format!("unknown {name}: {text}{valid}")))
    }
}

/// Checks the options of a feed.
pub fn read(options: &[(String, Option<String>)]) -> Result<Options, SqlError> {
    for (index, (name, value)) in options.iter().enumerate() {
        let Some((_, kind)) = KNOWN.iter().find(|(known, _)| known == name) else {
            return Err(invalid(format!("invalid option \"{name}\"")));
        };
        if options[..index].iter().any(|(earlier, _)| earlier == name) {
            return Err(invalid(format!("option \"{name}\" is given twice")));
        }
        match (kind, value) {
            (Type::Flag, Some(_)) => return Err(invalid(format!("option \"{name}\" does not take a value"))),
            (Type::Text | Type::Duration, None) => {
                return Err(invalid(format!("option \"{name}\" requires a value")));
            }
            _ => {}
        }
    }
    let given = Given(options);
    for (name, kind) in KNOWN {
        if matches!(kind, Type::Duration | Type::OptionalDuration) {
            let duration = given.duration(name)?;
            if *name == "webhook_client_timeout" && duration.is_some_and(|duration| duration.is_zero()) {
                return Err(invalid(format!("option {name} must be a duration greater than 0")));
            }
        }
    }
    let initial_scan = initial_scan(&given)?;
    let read = Options {
        updated: given.has("updated"),
        mvcc_timestamp: given.has("mvcc_timestamp"),
        resolved: if given.has("resolved") { Some(given.duration("resolved")?.unwrap_or_default()) } else { None },
        min_checkpoint_frequency: given.duration("min_checkpoint_frequency")?,
        diff: given.has("diff"),
        cursor: given.text("cursor").map(str::to_owned),
        end_time: given.text("end_time").map(str::to_owned),
        initial_scan,
        envelope: envelope(&given)?,
        enriched_source: enriched(&given, "source"),
        key_in_value: given.has("key_in_value"),
        topic_in_value: given.has("topic_in_value"),
        full_table_name: given.has("full_table_name"),
        split_column_families: given.has("split_column_families"),
        virtual_null: given.choice("virtual_columns", &["omitted", "null"], "")? == Some(1),
        column_changes: given.choice("schema_change_events", &["default", "column_changes"], "")? == Some(1),
        policy: match given.choice("schema_change_policy", &["backfill", "nobackfill", "stop", "ignore"], "")? {
            None | Some(0) => Policy::Backfill,
            Some(1) => Policy::NoBackfill,
            Some(2) => Policy::Stop,
            Some(_) => Policy::Ignore,
        },
        include_hidden: given.has("ignore_disable_changefeed_replication"),
        style: Style { json_null_as_object: given.has("encode_json_value_null_as_object") },
        gc_protect_expires_after: given.duration("gc_protect_expires_after")?,
    };
    given.choice("on_error", &["pause", "fail"], ", valid values are 'pause' and 'fail'")?;
    clashes(&given, &read)?;
    Ok(read)
}

fn initial_scan(given: &Given<'_>) -> Result<Option<InitialScan>, SqlError> {
    let with = [
        ("initial_scan", "initial_scan"),
        ("no_initial_scan", "no_initial_scan"),
        ("initial_scan_only", "initial_scan_only"),
    ];
    let named: Vec<&str> = with.iter().filter(|(name, _)| given.has(name)).map(|(_, shown)| *shown).collect();
    if let [first, second, ..] = named.as_slice() {
        return Err(invalid(format!("cannot specify both {first} and {second}")));
    }
    Ok(if given.has("no_initial_scan") {
        Some(InitialScan::No)
    } else if given.has("initial_scan_only") {
        Some(InitialScan::Only)
    } else if given.has("initial_scan") {
        match given.choice("initial_scan", &["yes", "no", "only", ""], ", valid values are 'only', 'yes' and 'no'")? {
            Some(1) => Some(InitialScan::No),
            Some(2) => Some(InitialScan::Only),
            _ => Some(InitialScan::Yes),
        }
    } else {
        None
    })
}

fn envelope(given: &Given<'_>) -> Result<Envelope, SqlError> {
    let choices = ["wrapped", "key_only", "row", "deprecated_row", "bare", "enriched"];
    Ok(match given.choice("envelope", &choices, "")? {
        None | Some(0) => Envelope::Wrapped,
        Some(1) => Envelope::KeyOnly,
        Some(2 | 3) => Envelope::Row,
        Some(4) => Envelope::Bare,
        Some(_) => Envelope::Enriched,
    })
}

fn enriched(given: &Given<'_>, property: &str) -> bool {
    given.text("enriched_properties").is_some_and(|text| text.split(',').any(|one| one.trim() == property))
}

/// Options that do not go together, with the texts of CockroachDB.
fn clashes(given: &Given<'_>, read: &Options) -> Result<(), SqlError> {
    let format = given.text("format").unwrap_or("json").to_ascii_lowercase();
    let known = ["json", "avro", "experimental_avro", "csv", "parquet", "protobuf"];
    if !known.contains(&format.as_str()) {
        let valid = "valid values are 'json', 'avro', 'csv', 'experimental_avro', 'parquet', 'protobuf'";
        return Err(invalid(format!("unknown format: {format}, {valid}")));
    }
    let avro = format.ends_with("avro");
    if read.initial_scan == Some(InitialScan::Only) {
        for name in ["end_time", "resolved", "diff", "mvcc_timestamp", "updated"] {
            if given.has(name) {
                return Err(invalid(format!("cannot specify both initial_scan='only' and {name}")));
            }
        }
    } else if format == "csv" {
        return Err(invalid("format=csv is only usable with initial_scan_only"));
    }
    for name in ["key_in_value", "topic_in_value"] {
        if given.has(name) && avro {
            return Err(invalid(format!("{name} is not supported with format=avro")));
        }
    }
    let wrapped = read.envelope == Envelope::Wrapped;
    let rich = wrapped || read.envelope == Envelope::Enriched;
    for (name, usable, envelopes) in [
        ("key_in_value", wrapped, "envelope=wrapped"),
        ("topic_in_value", wrapped, "envelope=wrapped"),
        ("diff", rich, "envelope=wrapped"),
        ("updated", rich || (!avro && read.envelope != Envelope::KeyOnly), "envelope=wrapped or envelope=enriched"),
        ("enriched_properties", read.envelope == Envelope::Enriched, "envelope=enriched"),
    ] {
        if given.has(name) && !usable {
            return Err(invalid(format!("{name} is only usable with {envelopes}")));
        }
    }
    let properties = given.text("enriched_properties").unwrap_or("source");
    if let Some(wrong) = properties.split(',').find(|one| !matches!(one.trim(), "source" | "schema")) {
        return Err(invalid(format!("unknown enriched_properties: {wrong}, valid values are: source, schema")));
    }
    if given.has("unordered") && given.has("resolved") {
        let why = "resolved timestamps cannot be guaranteed to be correct in unordered mode";
        return Err(invalid(format!("unordered is not usable with resolved because {why}")));
    }
    if given.has("key_column") && !given.has("unordered") {
        let why =
            "using a value other than the primary key as the message key means end-to-end ordering cannot be preserved";
        return Err(invalid(format!("key_column requires the unordered option because {why}")));
    }
    if given.has("encode_json_value_null_as_object") && format != "json" {
        return Err(invalid("encode_json_value_null_as_object is only usable with format=json"));
    }
    if avro && !given.has("confluent_schema_registry") {
        return Err(invalid("WITH option confluent_schema_registry is required for format=avro"));
    }
    if avro && read.envelope == Envelope::Row {
        return Err(invalid("envelope=row is not supported with format=avro"));
    }
    if enriched(given, "schema") {
        return Err(SqlError::new("0A000", "stand-in: enriched_properties=schema is not there"));
    }
    if format != "json" || given.has("key_column") {
        return Err(SqlError::new(
            "0A000",
            format!("stand-in: changefeeds with format={format} or key_column are not there"),
        ));
    }
    Ok(())
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
