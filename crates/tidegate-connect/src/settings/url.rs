//! Connection URLs, read by libpq's rules (manual section 34.1.1.2).
//!
//! ```text
//!   postgres://user:password@host1:port1,host2:port2/database?parameter=value&...
//! ```

use tidegate_model::Problem;

use super::{Given, Scheme, invalid};

/// The schemes that mean the PostgreSQL wire protocol.
const SCHEMES: [(&str, Scheme); 4] = [
    ("postgres", Scheme::Postgres),
    ("postgresql", Scheme::Postgres),
    ("cockroach", Scheme::Cockroach),
    ("cockroachdb", Scheme::Cockroach),
];

/// A URL taken apart.
pub(super) struct Url {
    pub(super) given: Given,
    pub(super) scheme: Scheme,
}

/// Reads `text` if it is a URL; `None` if it has no `scheme://` and so is key=value text.
///
/// No message quotes the part before the last `@`: a password with an unescaped `/` would be in it.
pub(super) fn parse(text: &str) -> Option<Result<Url, Problem>> {
    let (named, rest) = text.split_once("://")?;
    if named.is_empty() || !named.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) {
        return None;
    }
    let Some(&(_, scheme)) = SCHEMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(named)) else {
        let why = format!("its scheme \"{named}\" is none of postgres, postgresql, cockroach, cockroachdb");
        return Some(Err(invalid(why)));
    };
    Some(parts(rest).map(|given| Url { given, scheme }))
}

fn parts(rest: &str) -> Result<Given, Problem> {
    let mut given = Given::default();
    // As libpq: the first "@" before any "/" ends the user and password.
    let rest = match rest.find(['@', '/']) {
        Some(at) if rest.as_bytes()[at] == b'@' => {
            credentials(&rest[..at], &mut given)?;
            &rest[at + 1..]
        }
        _ => rest,
    };
    let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (hosts, database) = before_query.split_once('/').unwrap_or((before_query, ""));
    if database.contains('@') {
        return Err(invalid("a \"/\" stands before the \"@\": in a user name or password write / as %2F and @ as %40"));
    }
    host_list(hosts, &mut given)?;
    if !database.is_empty() {
        given.set("dbname", decode(database, "the database name")?)?;
    }
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        query_parameter(parameter, &mut given)?;
    }
    Ok(given)
}

fn credentials(text: &str, given: &mut Given) -> Result<(), Problem> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    if !user.is_empty() {
        given.set("user", decode(user, "the user name")?)?;
    }
    if !password.is_empty() {
        given.set("password", decode(password, "the password")?)?;
    }
    Ok(())
}

fn host_list(text: &str, given: &mut Given) -> Result<(), Problem> {
    let mut hosts = Vec::new();
    let mut ports = Vec::new();
    for place in text.split(',') {
        let (host, port) = host_and_port(place)?;
        hosts.push(decode(host, "the host")?);
        ports.push(decode(port, "the port")?);
    }
    if hosts.iter().any(|host| !host.is_empty()) {
        given.set("host", hosts.join(","))?;
    }
    if ports.iter().any(|port| !port.is_empty()) {
        given.set("port", ports.join(","))?;
    }
    Ok(())
}

fn host_and_port(place: &str) -> Result<(&str, &str), Problem> {
    let Some(bracketed) = place.strip_prefix('[') else {
        return Ok(place.split_once(':').unwrap_or((place, "")));
    };
    let Some((address, after)) = bracketed.split_once(']') else {
        return Err(invalid("an IPv6 address has no closing \"]\""));
    };
    match after.strip_prefix(':') {
        Some(port) => Ok((address, port)),
        None if after.is_empty() => Ok((address, "")),
        None => Err(invalid("an IPv6 address is followed by something other than \":\" and a port")),
    }
}

fn query_parameter(parameter: &str, given: &mut Given) -> Result<(), Problem> {
    let Some((name, value)) = parameter.split_once('=') else {
        return Err(invalid("a parameter after the \"?\" has no \"=\" and value"));
    };
    let name = decode(name, "a parameter's name")?;
    let value = decode(value, &format!("parameter \"{name}\""))?;
    // What JDBC users write.
    if name == "ssl" && value == "true" {
        return given.set("sslmode", "require".to_owned());
    }
    given.set(&name, value)
}

/// Resolves percent escapes. A `+` stays a plus, as in libpq.
fn decode(text: &str, what: &str) -> Result<String, Problem> {
    let broken = || invalid(format!("{what} has a \"%\" that two hexadecimal digits (not 00) do not follow"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16)).ok_or_else(broken);
        let code = (digit()? << 4 | digit()?) as u8;
        if code == 0 {
            return Err(broken());
        }
        bytes.push(code);
    }
    String::from_utf8(bytes).map_err(|_| invalid(format!("{what} is not UTF-8 once its escapes are resolved")))
}
