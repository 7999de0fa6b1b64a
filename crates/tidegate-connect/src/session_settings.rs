//! The server-side settings of our sessions.
//!
//! They travel in the startup packet, which beats what `ALTER ROLE ... SET`, `ALTER DATABASE ... SET` and the server's
//! configuration say (settings of source "client" come last), and there are no moments in which they are not yet in
//! force. Each list is one place to leave out what some server does not know.

/// What every session needs for values to mean the same on both sides, and not to be ended by a timeout that was meant
/// for an application.
const EVERY_SESSION: &[(&str, &str)] = &[
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("xmloption", "content"),
    ("standard_conforming_strings", "on"),
    ("array_nulls", "on"),
    // Values of type money are written and read by it.
    ("lc_monetary", "C"),
    ("search_path", ""),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    // An error instead of rows that a policy leaves out.
    ("row_security", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
];

/// What sessions that write need as well.
const SQL_SESSION: &[(&str, &str)] = &[
    ("default_transaction_read_only", "off"),
    // "Committed" must mean durable, or a position would be acknowledged whose rows a crash of the target takes away.
    ("synchronous_commit", "on"),
];

/// Settings that newer servers have, with the first major version that knows them: to be set once connected, for a
/// startup packet with a setting that the server does not know is refused.
const NEWER: &[(u32, &str, &str)] = &[(17, "transaction_timeout", "0")];

/// Returns the startup parameters of a walsender session.
pub(crate) fn of_walsender_session() -> &'static [(&'static str, &'static str)] {
    EVERY_SESSION
}

/// Returns the `options` of a SQL session: the user's, then ours, which win.
pub(crate) fn options_of_sql_session(users: &str) -> String {
    let mut options = users.to_owned();
    for (name, value) in EVERY_SESSION.iter().chain(SQL_SESSION) {
        if !options.is_empty() {
            options.push(' ');
        }
        options.push_str(&format!("-c {name}={}", value.replace('\\', "\\\\").replace(' ', "\\ ")));
    }
    options
}

/// Returns the statements for settings that only a server of this version knows; empty if there are none.
pub(crate) fn once_connected(server_version: Option<&str>) -> String {
    let major = server_version.and_then(|version| version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    let known = NEWER.iter().filter(|(since, ..)| major.is_some_and(|major: u32| major >= *since));
    known.map(|(_, name, value)| format!("SET {name} = {value};")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_escape_spaces_and_come_after_the_users() {
        let options = options_of_sql_session("-c geqo=off");
        assert!(options.starts_with("-c geqo=off -c client_encoding=UTF8 -c DateStyle=ISO,\\ MDY "), "{options}");
        assert!(options.contains(" -c search_path= "), "{options}");
    }

    #[test]
    fn only_newer_servers_get_newer_settings() {
        assert_eq!(once_connected(Some("15.17 (Debian 15.17-0+deb12u1)")), "");
        assert_eq!(once_connected(Some("17beta1")), "SET transaction_timeout = 0;");
        assert_eq!(once_connected(None), "");
    }
}
