use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;
use tidegate_model::Class;

use super::*;

/// A process in a home directory of its own.
struct Process {
    home: TempDir,
    variables: HashMap<String, String>,
}

impl Process {
    fn new() -> Self {
        Process { home: TempDir::new().unwrap(), variables: HashMap::new() }
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn file(self, name: &str, mode: u32, text: &str) -> Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn parse(&self, text: &str) -> Result<Settings, Problem> {
        let home = Some(self.home.path().to_owned());
        // Whatever the machine has system-wide stays out of it.
        let mut variables = self.variables.clone();
        variables.entry("PGSYSCONFDIR".to_owned()).or_insert(self.path("system").display().to_string());
        resolve::settings(text, &Surroundings { variables, home, user: Some("me".to_owned()) })
    }

    fn settings(&self, text: &str) -> Settings {
        self.parse(text).unwrap_or_else(|problem| panic!("{text} was refused: {problem}"))
    }

    fn refusal(&self, text: &str) -> Problem {
        let problem = self.parse(text).expect_err(text);
        assert_eq!(problem.class, Class::Definite, "{text}");
        problem
    }
}

fn password(settings: &Settings) -> Option<&str> {
    settings.hosts[0].password.as_ref().map(Secret::expose)
}

#[test]
fn urls_and_key_value_text_are_read_as_libpq_reads_them() {
    let process = Process::new();
    for (text, address, database, user, secret) in [
        ("postgres://app:secret@db.example:6543/shop", "db.example:6543", "shop", "app", Some("secret")),
        ("postgresql://db/shop", "db:5432", "shop", "me", None),
        ("POSTGRES://db", "db:5432", "me", "me", None),
        ("postgres://app@db", "db:5432", "app", "app", None),
        ("cockroach://root@roach/defaultdb", "roach:26257", "defaultdb", "root", None),
        ("cockroachdb://", "localhost:26257", "defaultdb", "root", None),
        ("cockroach://app@roach", "roach:26257", "defaultdb", "app", None),
        ("cockroachdb://app:secret@roach:26300/shop", "roach:26300", "shop", "app", Some("secret")),
        ("postgres://a%40b:p%2Fw%3A%25@db/x%20y", "db:5432", "x y", "a@b", Some("p/w:%")),
        ("postgres://u:p:w?+@db/d", "db:5432", "d", "u", Some("p:w?+")),
        ("postgres://u@[::1]:5433/d", "[::1]:5433", "d", "u", None),
        ("postgres://u@%2Frun%2Fpg/d", "/run/pg:5432", "d", "u", None),
        ("postgres://u@a,b:2,c:3/d", "a:5432,b:2,c:3", "d", "u", None),
        ("postgres:///d?host=/run/pg&port=7&user=u", "/run/pg:7", "d", "u", None),
        ("postgres://u@ignored/d?host=a,b", "a:5432,b:5432", "d", "u", None),
        ("host=db port=7 dbname=d user=u password=p", "db:7", "d", "u", Some("p")),
        ("host = db dbname = 'my db' user='o\\'neill' password='back\\\\slash'", "db:5432", "my db", "o'neill", {
            Some("back\\slash")
        }),
        ("host=db user=u password=with\\ space", "db:5432", "u", "u", Some("with space")),
        ("host=db user=first user=last", "db:5432", "last", "last", None),
        ("hostaddr=10.0.0.1 user=u", "10.0.0.1:5432", "u", "u", None),
        ("host=db hostaddr=::1 user=u", "db:5432", "u", "u", None),
        ("host=a,b port=1,2 user=u", "a:1,b:2", "u", "u", None),
        ("host=a,b port=9 user=u", "a:9,b:9", "u", "u", None),
    ] {
        let settings = process.settings(text);
        let found = (settings.address(), settings.database(), settings.user(), password(&settings));
        assert_eq!(found, (address.to_owned(), database, user, secret), "{text}");
    }
}

#[test]
fn a_cockroach_url_is_read_as_libpq_would_and_shown_as_such() {
    let text = "cockroach://roach/shop?options=--cluster%3Dblue-1&sslmode=verify-full&sslrootcert=/ca.crt";
    let settings = Process::new().settings(text);
    assert_eq!(settings.options, "--cluster=blue-1");
    assert_eq!((settings.tls.mode, &settings.tls.roots), (TlsMode::VerifyFull, &Roots::File("/ca.crt".into())));
    assert_eq!(settings.to_string(), "cockroach://root@roach:26257/shop");
    assert_eq!(Process::new().settings("cockroach://roach").tls.mode, TlsMode::Prefer);
    let process = Process::new().variable("PGUSER", "app").variable("PGDATABASE", "shop");
    assert_eq!(process.settings("cockroach://roach").to_string(), "cockroach://app@roach:26257/shop");
}

#[test]
fn what_cannot_be_understood_is_refused_and_named() {
    let process = Process::new();
    for (text, code, words) in [
        ("", "CN001", "empty"),
        ("shop", "CN001", "\"=\""),
        ("mysql://db/shop", "CN001", "mysql"),
        ("postgres://db/shop?colour=red", "CN001", "colour"),
        ("host=db colour=red", "CN001", "colour"),
        ("postgres://db/shop?sslmode", "CN001", "\"=\""),
        ("postgres://db/%zz", "CN001", "the database name"),
        ("postgres://db/%00", "CN001", "the database name"),
        ("postgres://[::1/d", "CN001", "IPv6"),
        ("postgres://db:port/d", "CN001", "port"),
        ("host=db port=0", "CN001", "port"),
        ("host=db port=65536", "CN001", "port"),
        ("host=a,b port=1,2,3", "CN001", "3 ports for 2 hosts"),
        ("host=a,b hostaddr=10.0.0.1", "CN001", "2 hosts and 1 hostaddrs"),
        ("hostaddr=db", "CN001", "hostaddr"),
        ("host=@abstract", "CN001", "abstract"),
        ("host=db password='open", "CN001", "\"password\""),
        ("host=db sslmode=secure", "CN001", "verify-full"),
        ("host=db connect_timeout=soon", "CN001", "connect_timeout"),
        ("host=db sslrootcert=system sslmode=require", "CN001", "verify-full"),
        ("host=db sslnegotiation=direct", "CN001", "sslmode=require"),
        ("host=db ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2", "CN001", "above"),
        ("host=db target_session_attrs=leader", "CN001", "read-write"),
        ("host=db gssencmode=require", "CN002", "gssencmode"),
        ("host=db load_balance_hosts=random", "CN002", "load_balance_hosts"),
        ("host=db require_auth=scram-sha-256", "CN002", "require_auth"),
        ("host=db sslcrldir=/crl", "CN002", "sslcrldir"),
        ("host=db sslpassword=x", "CN002", "sslpassword"),
        ("host=db sslcertmode=require", "CN002", "sslcertmode"),
        ("host=db replication=database", "CN002", "replication"),
        ("host=db service=nowhere", "CN003", "nowhere"),
    ] {
        let problem = process.refusal(text);
        let told = problem.to_string();
        assert!(problem.code == code && told.contains(words), "{text}: {told}");
    }
}

#[test]
fn what_cannot_weaken_anything_is_accepted_without_effect() {
    let text = "host=db application_name=mine client_encoding=LATIN1 sslcompression=1 gssencmode=prefer krbsrvname=x \
                load_balance_hosts=disable max_protocol_version=latest min_protocol_version=3.0 replication=false";
    Process::new().settings(text);
}

#[test]
fn the_text_beats_the_service_which_beats_variables_which_beat_defaults() {
    let service = "# a comment\n[other]\nhost=wrong\n[shop]\nhost=service\nport=2\nuser=service\n[more]\nport=9\n";
    let process = Process::new()
        .file(".pg_service.conf", 0o644, service)
        .variable("PGSERVICE", "shop")
        .variable("PGHOST", "variable")
        .variable("PGPORT", "3")
        .variable("PGUSER", "variable")
        .variable("PGDATABASE", "variable")
        .variable("PGAPPNAME", "variable");
    assert_eq!(process.settings("postgres://text").to_string(), "postgres://service@text:2/variable");
    assert_eq!(process.settings("postgres://u@/d?port=1").to_string(), "postgres://u@service:1/d");
    let without_service = process.variable("PGSERVICE", "");
    assert_eq!(without_service.settings("postgres://").to_string(), "postgres://variable@variable:3/variable");
}

#[test]
fn the_service_is_found_in_the_named_file_or_the_systems() {
    let process = Process::new().file("mine", 0o644, "[shop]\nhost=mine\n").file(
        "system/pg_service.conf",
        0o644,
        "[shop]\nhost=system\n[all]\nhost=all\n",
    );
    assert_eq!(process.settings("service=shop user=u").address(), "system:5432");
    let mine = process.path("mine").display().to_string();
    assert_eq!(process.settings(&format!("service=shop servicefile={mine} user=u")).address(), "mine:5432");
    let process = process.variable("PGSERVICEFILE", &mine);
    assert_eq!(process.settings("postgres://?service=shop").address(), "mine:5432");
    assert_eq!(process.settings("postgres://?service=all").address(), "all:5432");
}

#[test]
fn a_broken_service_file_is_refused_with_its_line() {
    for (line, words) in [("nonsense", "line 3"), ("colour=red", "colour"), ("service=other", "another service")] {
        let process = Process::new().file(".pg_service.conf", 0o644, &format!("\n[shop]\n{line}\n"));
        let told = process.refusal("service=shop").to_string();
        assert!(told.contains("CN003") && told.contains(words), "{line}: {told}");
    }
}

#[test]
fn the_password_file_comes_last_and_fits_line_by_line() {
    let lines = "# comment:with:five:fields:here\n\
                 db:5432:shop:app:of the line\n\
                 /run/pg:*:*:*:of the socket\n\
                 localhost:*:*:*:of localhost\n\
                 10.0.0.1:*:*:*:of the address\n\
                 odd\\:host:*:*:*:a\\:b\\\\c\n\
                 *:*:*:guest:of the guest";
    let process = Process::new().file(".pgpass", 0o600, lines);
    for (text, expected) in [
        ("host=db dbname=shop user=app", Some("of the line")),
        ("host=db dbname=shop user=app password=given", Some("given")),
        ("host=db dbname=other user=app", None),
        ("host=db port=5433 dbname=shop user=app", None),
        ("host=/run/pg user=app", Some("of the socket")),
        ("host=/tmp user=app", Some("of localhost")),
        ("user=app", Some("of localhost")),
        ("hostaddr=10.0.0.1 user=app", Some("of the address")),
        ("host=name hostaddr=10.0.0.1 user=app", None),
        ("host='odd:host' user=app", Some("a:b\\c")),
        ("host=anywhere user=guest", Some("of the guest")),
    ] {
        assert_eq!(password(&process.settings(text)), expected, "{text}");
    }
    let process = process.variable("PGPASSWORD", "of the variable");
    assert_eq!(password(&process.settings("host=db dbname=shop user=app")), Some("of the variable"));
}

#[test]
fn each_host_has_its_own_line_of_the_password_file() {
    let process = Process::new().file("passwords", 0o600, "a:*:*:*:one\nb:*:*:*:two\n");
    let file = process.path("passwords").display().to_string();
    let settings = process.settings(&format!("host=a,b,c user=u passfile={file}"));
    let passwords = settings.hosts.iter().map(|host| host.password.as_ref().map(Secret::expose));
    assert_eq!(passwords.collect::<Vec<_>>(), [Some("one"), Some("two"), None]);
}

#[test]
fn a_password_file_that_others_may_read_is_left_aside_and_said_so() {
    let process = Process::new().file(".pgpass", 0o640, "*:*:*:*:seen by others\n");
    let settings = process.settings("host=db user=u");
    assert_eq!(password(&settings), None);
    assert!(settings.password_file_ignored.unwrap().contains("mode 0640"));
}

#[test]
fn no_secret_is_ever_printed() {
    let process = Process::new().file(".pgpass", 0o600, "*:*:*:*:hunter2\n");
    for text in ["postgres://app:hunter2@db/shop", "host=db password=hunter2", "host=db"] {
        let settings = process.settings(text);
        assert_eq!(password(&settings), Some("hunter2"));
        let shown = format!("{settings} {settings:?} {:?}", settings.hosts);
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    for broken in [
        "postgres://app:hunter2/x@db/shop",
        "postgres://app:hunter2%zz@db/shop",
        "postgres://app:hunter2@db:x/shop",
        "postgres://app:hunter2",
        "host=db password=a hunter2",
        "host=db password='hunter2",
        "host=db sslpassword=hunter2",
    ] {
        let problem = process.refusal(broken);
        assert!(!format!("{problem} {problem:?}").contains("hunter2"), "{broken}: {problem}");
    }
}

#[test]
fn root_certificates_follow_the_mode() {
    let absent = |settings: &Settings| matches!(settings.tls.roots, Roots::Absent { .. });
    let process = Process::new();
    let settings = process.settings("host=db");
    assert!(settings.tls.mode == TlsMode::Prefer && absent(&settings));
    let system = process.settings("host=db sslrootcert=system");
    assert_eq!((system.tls.mode, system.tls.roots), (TlsMode::VerifyFull, Roots::System));
    let named = process.settings("host=db sslrootcert=/ca.crt sslmode=verify-ca");
    assert_eq!(named.tls.roots, Roots::File(PathBuf::from("/ca.crt")));
    let process = process.file(".postgresql/root.crt", 0o644, "");
    let expected = Roots::File(process.path(".postgresql/root.crt"));
    assert_eq!(process.settings("host=db").tls.roots, expected);
}

#[test]
fn client_certificates_are_found_in_the_home_directory() {
    let process = Process::new();
    assert_eq!(process.settings("host=db").tls.certificate, None);
    let process = process.file(".postgresql/postgresql.crt", 0o644, "");
    let certificate = process.path(".postgresql/postgresql.crt");
    let key = process.path(".postgresql/postgresql.key");
    assert_eq!(process.settings("host=db").tls.certificate, Some(ClientCertificate { certificate, key }));
    assert_eq!(process.settings("host=db sslcertmode=disable").tls.certificate, None);
    let named = process.settings("host=db sslcert=/c sslkey=/k").tls.certificate;
    assert_eq!(named, Some(ClientCertificate { certificate: PathBuf::from("/c"), key: PathBuf::from("/k") }));
}

#[test]
fn timeouts_and_keepalives_have_defaults_that_notice_a_dead_peer() {
    let process = Process::new();
    let settings = process.settings("host=db");
    assert_eq!(settings.connect_timeout, Some(Duration::from_secs(10)));
    assert!(settings.keepalive.on && settings.keepalive.idle <= Duration::from_secs(60));
    let text = "host=db connect_timeout=3 keepalives=0 keepalives_idle=5 keepalives_count=2 tcp_user_timeout=1500";
    let settings = process.settings(text);
    assert_eq!(settings.connect_timeout, Some(Duration::from_secs(3)));
    let expected = Keepalive {
        on: false,
        idle: Duration::from_secs(5),
        interval: Duration::from_secs(10),
        count: 2,
        unacknowledged: Some(Duration::from_millis(1500)),
    };
    assert_eq!(settings.keepalive, expected);
    assert_eq!(process.settings("host=db connect_timeout=0").connect_timeout, None);
    assert_eq!(settings.connect_timeout(Duration::ZERO).connect_timeout, None);
}

#[test]
fn variables_are_checked_like_parameters() {
    for (variable, parameter) in [
        ("PGSSLMODE", "sslmode"),
        ("PGCHANNELBINDING", "channel_binding"),
        ("PGTARGETSESSIONATTRS", "target_session_attrs"),
        ("PGSSLNEGOTIATION", "sslnegotiation"),
        ("PGCONNECT_TIMEOUT", "connect_timeout"),
        ("PGPORT", "port"),
        ("PGHOSTADDR", "hostaddr"),
        ("PGGSSENCMODE", "gssencmode"),
        ("PGREQUIREAUTH", "require_auth"),
        ("PGLOADBALANCEHOSTS", "load_balance_hosts"),
        ("PGSERVICE", "service"),
    ] {
        let told = Process::new().variable(variable, "nonsense").refusal("dbname=d").to_string();
        assert!(told.contains(parameter), "{variable}: {told}");
    }
}

#[test]
fn the_socket_of_the_default_host_is_local() {
    let settings = Process::new().settings("dbname=d");
    assert!(matches!(&settings.hosts[0].place, Place::Unix(directory) if directory.starts_with(Path::new("/"))));
}
