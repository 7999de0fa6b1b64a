//! The parameters a libpq user knows (manual section 34.1.2), and what becomes of each here.

/// What becomes of a parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Treatment {
    /// Taken.
    Taken,
    /// Accepted without effect, because what it asks for cannot be weakened by that: Tidegate decides it itself, or it
    /// only matters for a method that is never used.
    NoEffect,
    /// Refused unless its value is one of these.
    Only(&'static [&'static str]),
}

/// One parameter of a connection.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    /// The environment variable that stands in for it.
    pub(super) variable: Option<&'static str>,
    pub(super) treatment: Treatment,
}

const fn taken(name: &'static str, variable: &'static str) -> Parameter {
    Parameter { name, variable: Some(variable), treatment: Treatment::Taken }
}

const fn taken_from_text_only(name: &'static str) -> Parameter {
    Parameter { name, variable: None, treatment: Treatment::Taken }
}

const fn no_effect(name: &'static str, variable: Option<&'static str>) -> Parameter {
    Parameter { name, variable, treatment: Treatment::NoEffect }
}

const fn only(name: &'static str, variable: Option<&'static str>, values: &'static [&'static str]) -> Parameter {
    Parameter { name, variable, treatment: Treatment::Only(values) }
}

/// Every known parameter. Any other name is an error.
pub(super) const PARAMETERS: &[Parameter] = &[
    taken("service", "PGSERVICE"),
    taken("servicefile", "PGSERVICEFILE"),
    taken("host", "PGHOST"),
    taken("hostaddr", "PGHOSTADDR"),
    taken("port", "PGPORT"),
    taken("dbname", "PGDATABASE"),
    taken("user", "PGUSER"),
    taken("password", "PGPASSWORD"),
    taken("passfile", "PGPASSFILE"),
    taken("options", "PGOPTIONS"),
    taken("connect_timeout", "PGCONNECT_TIMEOUT"),
    taken("target_session_attrs", "PGTARGETSESSIONATTRS"),
    taken("requirepeer", "PGREQUIREPEER"),
    taken("channel_binding", "PGCHANNELBINDING"),
    taken("sslmode", "PGSSLMODE"),
    taken("sslnegotiation", "PGSSLNEGOTIATION"),
    taken("sslrootcert", "PGSSLROOTCERT"),
    taken("sslcert", "PGSSLCERT"),
    taken("sslkey", "PGSSLKEY"),
    taken("sslcertmode", "PGSSLCERTMODE"),
    taken("sslcrl", "PGSSLCRL"),
    taken("sslsni", "PGSSLSNI"),
    taken("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    taken("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    taken_from_text_only("keepalives"),
    taken_from_text_only("keepalives_idle"),
    taken_from_text_only("keepalives_interval"),
    taken_from_text_only("keepalives_count"),
    taken_from_text_only("tcp_user_timeout"),
    // Tidegate names its sessions and fixes their encoding itself.
    no_effect("application_name", Some("PGAPPNAME")),
    no_effect("fallback_application_name", None),
    no_effect("client_encoding", Some("PGCLIENTENCODING")),
    // Compression was removed from TLS; details of GSSAPI, which is never used.
    no_effect("sslcompression", Some("PGSSLCOMPRESSION")),
    no_effect("krbsrvname", Some("PGKRBSRVNAME")),
    no_effect("gsslib", Some("PGGSSLIB")),
    no_effect("gssdelegation", Some("PGGSSDELEGATION")),
    // Version 3.0 of the protocol is always used.
    no_effect("max_protocol_version", Some("PGMAXPROTOCOLVERSION")),
    only("min_protocol_version", Some("PGMINPROTOCOLVERSION"), &["3.0"]),
    only("gssencmode", Some("PGGSSENCMODE"), &["disable", "prefer"]),
    only("load_balance_hosts", Some("PGLOADBALANCEHOSTS"), &["disable"]),
    only("require_auth", Some("PGREQUIREAUTH"), &[]),
    only("sslpassword", None, &[]),
    only("sslcrldir", Some("PGSSLCRLDIR"), &[]),
    only("sslkeylogfile", None, &[]),
    only("scram_client_key", None, &[]),
    only("scram_server_key", None, &[]),
    only("oauth_issuer", None, &[]),
    only("oauth_client_id", None, &[]),
    only("oauth_client_secret", None, &[]),
    only("oauth_scope", None, &[]),
    // Tidegate opens replication sessions itself where it needs them.
    only("replication", None, &["false", "off", "no", "0"]),
];

/// Finds a parameter by its name.
pub(super) fn find(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|parameter| parameter.name == name)
}
