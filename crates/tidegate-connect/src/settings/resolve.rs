//! From parameters to settings: the order of precedence, the defaults, the types.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use tidegate_model::Problem;

use super::parameters::PARAMETERS;
use super::passfile::PasswordFile;
use super::surroundings::Surroundings;
use super::*;

/// Where Debian's packages and upstream's default build put the Unix socket.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Whom `cockroach sql` connects as, and to what, where nothing else is said.
const COCKROACH_USER: &str = "root";
const COCKROACH_DATABASE: &str = "defaultdb";

/// A peer that vanished is noticed after a minute of silence: 30 s + 3 probes, 10 s apart. (The system's default is two
/// hours, far past the point where an operator expects an alarm.)
const KEEPALIVE: Keepalive = Keepalive {
    on: true,
    idle: Duration::from_secs(30),
    interval: Duration::from_secs(10),
    count: 3,
    unacknowledged: None,
};

/// Resolves connection text in these surroundings.
pub(super) fn settings(text: &str, around: &Surroundings) -> Result<Settings, Problem> {
    let (given, scheme) = complete(text, around)?;
    let kind = scheme.unwrap_or(Scheme::Postgres);
    let default_user = if kind == Scheme::Cockroach { Some(COCKROACH_USER) } else { around.user.as_deref() };
    let user = match given.get("user").or(default_user) {
        Some(user) => user.to_owned(),
        None => return Err(invalid("it names no user, and the user of this process has no name")),
    };
    let default_database = if kind == Scheme::Cockroach { COCKROACH_DATABASE } else { &user };
    let database = given.get("dbname").unwrap_or(default_database).to_owned();
    let (hosts, password_file_ignored) = hosts(&given, around, kind, &database, &user)?;
    let binding = [
        ("disable", ChannelBinding::Disable),
        ("prefer", ChannelBinding::Prefer),
        ("require", ChannelBinding::Require),
    ];
    Ok(Settings {
        scheme,
        hosts,
        database,
        user,
        options: given.get("options").unwrap_or_default().to_owned(),
        connect_timeout: connect_timeout(&given)?,
        tls: tls(&given, around)?,
        channel_binding: choice(&given, "channel_binding", &binding)?.unwrap_or(ChannelBinding::Prefer),
        keepalive: keepalive(&given)?,
        wanted: wanted(&given)?,
        peer_user: given.get("requirepeer").map(str::to_owned),
        password_file_ignored,
    })
}

/// Collects the parameters: text, then service file, then variables.
fn complete(text: &str, around: &Surroundings) -> Result<(Given, Option<Scheme>), Problem> {
    if text.trim().is_empty() {
        return Err(invalid("it is empty; write postgres:// to take everything from the environment"));
    }
    let (mut given, scheme) = match url::parse(text) {
        Some(url) => {
            let url = url?;
            (url.given, Some(url.scheme))
        }
        None => (keyvalue::parse(text)?, None),
    };
    if let Some(name) = given.get("service").or(around.variable("PGSERVICE").filter(|name| !name.is_empty())) {
        let file = given.get("servicefile").or(around.variable("PGSERVICEFILE"));
        let service = service::look_up(name, file, around)?;
        given.complete(service);
    }
    let mut from_variables = Given::default();
    for parameter in PARAMETERS {
        let Some(value) = parameter.variable.and_then(|variable| around.variable(variable)) else { continue };
        if !given.has(parameter.name) {
            from_variables.set(parameter.name, value.to_owned())?;
        }
    }
    given.complete(from_variables);
    Ok((given, scheme))
}

fn hosts(
    given: &Given,
    around: &Surroundings,
    kind: Scheme,
    database: &str,
    user: &str,
) -> Result<(Vec<Host>, Option<String>), Problem> {
    let names = list(given, "host");
    let addresses = list(given, "hostaddr");
    let count = names.len().max(addresses.len()).max(1);
    if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
        return Err(invalid(format!("it names {} hosts and {} hostaddrs", names.len(), addresses.len())));
    }
    let ports = list(given, "port");
    if ports.len() > 1 && ports.len() != count {
        return Err(invalid(format!("it names {} ports for {count} hosts", ports.len())));
    }
    let passwords = match given.get("password") {
        Some(_) => PasswordFile::default(),
        None => password_file(given, around),
    };
    let mut hosts = Vec::with_capacity(count);
    for index in 0..count {
        let port = match ports.get(index).or(ports.first()).filter(|port| !port.is_empty()) {
            Some(port) => port_number(port)?,
            None => kind.default_port(),
        };
        let (place, named) = place(pick(&names, index), pick(&addresses, index), port, kind)?;
        let password = match given.get("password") {
            Some(password) => Some(Secret::new(password)),
            None => passwords.password(&named, port, database, user),
        };
        hosts.push(Host { place, port, password });
    }
    Ok((hosts, passwords.ignored))
}

fn list<'a>(given: &'a Given, name: &str) -> Vec<&'a str> {
    given.get(name).map(|value| value.split(',').map(str::trim).collect()).unwrap_or_default()
}

fn pick<'a>(values: &[&'a str], index: usize) -> Option<&'a str> {
    values.get(index).copied().filter(|value| !value.is_empty())
}

fn port_number(text: &str) -> Result<u16, Problem> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(invalid("a port is not a number from 1 to 65535")),
    }
}

/// Returns where one host is, and the name the password file knows it by.
fn place(name: Option<&str>, address: Option<&str>, port: u16, kind: Scheme) -> Result<(Place, String), Problem> {
    let unparsable = |_| invalid("\"hostaddr\" is not an IP address");
    let address = address.map(IpAddr::from_str).transpose().map_err(unparsable)?;
    match (name, address) {
        (Some(name), _) if name.starts_with('/') => {
            let named = if SOCKET_DIRECTORIES.contains(&name) { "localhost" } else { name };
            Ok((Place::Unix(PathBuf::from(name)), named.to_owned()))
        }
        (Some(name), _) if name.starts_with('@') => {
            Err(invalid("abstract Unix sockets (a host that begins with \"@\") are not supported"))
        }
        (Some(name), address) => Ok((Place::Tcp { name: Some(name.to_owned()), address }, name.to_owned())),
        (None, Some(address)) => Ok((Place::Tcp { name: None, address: Some(address) }, address.to_string())),
        // CockroachDB listens on no Unix socket by default.
        (None, None) if kind == Scheme::Cockroach => {
            Ok((Place::Tcp { name: Some("localhost".to_owned()), address: None }, "localhost".to_owned()))
        }
        (None, None) => Ok((Place::Unix(default_socket_directory(port)), "localhost".to_owned())),
    }
}

fn default_socket_directory(port: u16) -> PathBuf {
    let directories = SOCKET_DIRECTORIES.map(Path::new);
    let with_socket = directories.iter().find(|directory| directory.join(format!(".s.PGSQL.{port}")).exists());
    let existing = || directories.iter().find(|directory| directory.is_dir());
    with_socket.or_else(existing).unwrap_or(&directories[1]).to_path_buf()
}

fn password_file(given: &Given, around: &Surroundings) -> PasswordFile {
    let path = given.get("passfile").map(PathBuf::from).or_else(|| around.in_home(".pgpass"));
    path.map(|path| PasswordFile::read(&path)).unwrap_or_default()
}

fn connect_timeout(given: &Given) -> Result<Option<Duration>, Problem> {
    let seconds = number::<i64>(given, "connect_timeout")?;
    Ok(match seconds {
        None => Some(CONNECT_TIMEOUT_DEFAULT),
        // As in libpq: no limit.
        Some(seconds) if seconds <= 0 => None,
        Some(seconds) => Some(Duration::from_secs(seconds.unsigned_abs())),
    })
}

fn keepalive(given: &Given) -> Result<Keepalive, Problem> {
    let seconds = |name, default| -> Result<Duration, Problem> {
        Ok(match number::<u32>(given, name)? {
            None | Some(0) => default,
            Some(seconds) => Duration::from_secs(seconds.into()),
        })
    };
    let unacknowledged = number::<u32>(given, "tcp_user_timeout")?.filter(|&milliseconds| milliseconds > 0);
    Ok(Keepalive {
        on: number::<u32>(given, "keepalives")? != Some(0),
        idle: seconds("keepalives_idle", KEEPALIVE.idle)?,
        interval: seconds("keepalives_interval", KEEPALIVE.interval)?,
        count: number::<u32>(given, "keepalives_count")?.filter(|&count| count > 0).unwrap_or(KEEPALIVE.count),
        unacknowledged: unacknowledged.map(|milliseconds| Duration::from_millis(milliseconds.into())),
    })
}

fn wanted(given: &Given) -> Result<Wanted, Problem> {
    // Our sessions set default_transaction_read_only = off, so that only recovery makes one read-only.
    let names = [
        ("any", Wanted::Any),
        ("primary", Wanted::Primary),
        ("read-write", Wanted::Primary),
        ("standby", Wanted::Standby),
        ("read-only", Wanted::Standby),
        ("prefer-standby", Wanted::PreferStandby),
    ];
    Ok(choice(given, "target_session_attrs", &names)?.unwrap_or(Wanted::Any))
}

fn tls(given: &Given, around: &Surroundings) -> Result<TlsSettings, Problem> {
    let modes = [
        ("disable", TlsMode::Disable),
        ("allow", TlsMode::Allow),
        ("prefer", TlsMode::Prefer),
        ("require", TlsMode::Require),
        ("verify-ca", TlsMode::VerifyCa),
        ("verify-full", TlsMode::VerifyFull),
    ];
    let asked = choice(given, "sslmode", &modes)?;
    let roots = roots(given, around);
    let mode = asked.unwrap_or(if roots == Roots::System { TlsMode::VerifyFull } else { TlsMode::Prefer });
    if roots == Roots::System && mode != TlsMode::VerifyFull {
        return Err(invalid(
            "\"sslrootcert=system\" needs \"sslmode=verify-full\": anyone can get a public certificate",
        ));
    }
    let direct = choice(given, "sslnegotiation", &[("postgres", false), ("direct", true)])?.unwrap_or(false);
    if direct && mode < TlsMode::Require {
        return Err(invalid("\"sslnegotiation=direct\" needs \"sslmode=require\" or stronger"));
    }
    let (version_min, version_max) = versions(given)?;
    Ok(TlsSettings {
        mode,
        direct,
        roots,
        revoked: given_or_present(given, "sslcrl", around.in_home(".postgresql/root.crl")),
        certificate: client_certificate(given, around)?,
        server_name_sent: number::<u32>(given, "sslsni")? != Some(0),
        version_min,
        version_max,
    })
}

fn roots(given: &Given, around: &Surroundings) -> Roots {
    let default = around.in_home(".postgresql/root.crt");
    match given.get("sslrootcert") {
        Some("system") => Roots::System,
        _ => match given_or_present(given, "sslrootcert", default.clone()) {
            Some(path) => Roots::File(path),
            None => Roots::Absent { default },
        },
    }
}

/// Returns the file a parameter names, or the default file if there is one.
fn given_or_present(given: &Given, name: &str, default: Option<PathBuf>) -> Option<PathBuf> {
    given.get(name).map(PathBuf::from).or(default.filter(|path| path.exists()))
}

fn client_certificate(given: &Given, around: &Surroundings) -> Result<Option<ClientCertificate>, Problem> {
    let mode = choice(given, "sslcertmode", &[("disable", 'd'), ("allow", 'a'), ("require", 'r')])?;
    if mode == Some('d') {
        return Ok(None);
    }
    if mode == Some('r') {
        // Whether the server asked for the certificate cannot be seen from here.
        accept("sslcertmode", "require", &["disable", "allow"])?;
    }
    let certificate = given_or_present(given, "sslcert", around.in_home(".postgresql/postgresql.crt"));
    let key = given.get("sslkey").map(PathBuf::from).or_else(|| around.in_home(".postgresql/postgresql.key"));
    match (certificate, key) {
        (None, _) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(ClientCertificate { certificate, key })),
        (Some(_), None) => Err(invalid("it names a client certificate (\"sslcert\") without its key (\"sslkey\")")),
    }
}

fn versions(given: &Given) -> Result<(TlsVersion, TlsVersion), Problem> {
    // A lower bound below what we speak is met by whatever we speak.
    let lowest = [
        ("TLSv1", TlsVersion::V12),
        ("TLSv1.1", TlsVersion::V12),
        ("TLSv1.2", TlsVersion::V12),
        ("TLSv1.3", TlsVersion::V13),
    ];
    let min = choice(given, "ssl_min_protocol_version", &lowest)?.unwrap_or(TlsVersion::V12);
    let max = choice(given, "ssl_max_protocol_version", &lowest[2..])?.unwrap_or(TlsVersion::V13);
    if min > max {
        return Err(invalid("\"ssl_min_protocol_version\" is above \"ssl_max_protocol_version\""));
    }
    Ok((min, max))
}

fn choice<T: Copy>(given: &Given, name: &str, values: &[(&str, T)]) -> Result<Option<T>, Problem> {
    let Some(text) = given.get(name) else { return Ok(None) };
    match values.iter().find(|(value, _)| value.eq_ignore_ascii_case(text)) {
        Some((_, value)) => Ok(Some(*value)),
        None => {
            let known: Vec<&str> = values.iter().map(|(value, _)| *value).collect();
            Err(invalid(format!("\"{name}\" is \"{text}\", which is none of {}", known.join(", "))))
        }
    }
}

fn number<T: FromStr>(given: &Given, name: &str) -> Result<Option<T>, Problem> {
    let parsed = given.get(name).map(|text| text.trim().parse::<T>()).transpose();
    parsed.map_err(|_| invalid(format!("\"{name}\" is not a whole number in range")))
}
