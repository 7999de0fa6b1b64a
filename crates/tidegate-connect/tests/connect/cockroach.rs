//! A server that says it is CockroachDB: recognised whatever the URL calls it, and sent only what it knows.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_connect::{Server, Session, Settings};
use tidegate_standin::{Standin, StandinOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::fixture::{SERVER, connect, settings};

/// The beginning of a CockroachDB, as a client sees it: a greeting, answers to `SET` and `SELECT version()`, requests
/// to cancel.
struct Fake {
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    startup: Vec<String>,
    statements: Vec<String>,
    cancelled: Vec<[u8; 8]>,
}

#[derive(Clone, Copy)]
struct Manners {
    /// Whether it says so in its greeting, or only when asked.
    announces: bool,
    /// Settings that it does not know.
    unknown: &'static [&'static str],
}

const VERSION: &str = "CockroachDB CCL v24.1.3 (x86_64-pc-linux-gnu, built 2024/08/01 10:00:00, go1.22.5)";
const KEY: [u8; 8] = [0, 0, 0, 7, 1, 2, 3, 4];

impl Fake {
    async fn start(manners: Manners) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let fake = Fake { port, seen: seen.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, manners, seen.clone()));
            }
        });
        fake
    }

    async fn connect(&self, scheme: &str) -> Session {
        let url = format!("{scheme}://root@127.0.0.1:{}/shop?options=--cluster%3Dblue&sslmode=disable", self.port);
        connect(&Settings::parse(&url).unwrap()).await.unwrap()
    }

    fn statements(&self) -> Vec<String> {
        self.seen.lock().unwrap().statements.clone()
    }
}

async fn serve(mut stream: TcpStream, manners: Manners, seen: Arc<Mutex<Seen>>) {
    let startup = frame(&mut stream).await.unwrap();
    if startup[..4] == 80_877_102_u32.to_be_bytes() {
        seen.lock().unwrap().cancelled.push(startup[4..12].try_into().unwrap());
        return;
    }
    let words = startup[4..].split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    seen.lock().unwrap().startup = words.collect();
    let mut greeting = message(b'R', &[0; 4]);
    greeting.extend(message(b'S', b"server_version\x0013.0.0\0"));
    if manners.announces {
        greeting.extend(message(b'S', format!("crdb_version\0{VERSION}\0").as_bytes()));
    }
    greeting.extend(message(b'K', &KEY));
    greeting.extend(message(b'Z', b"I"));
    stream.write_all(&greeting).await.unwrap();
    while let Ok(kind) = stream.read_u8().await {
        let Ok(body) = frame(&mut stream).await else { return };
        if kind == b'Q' {
            let sql = String::from_utf8_lossy(&body[..body.len() - 1]).into_owned();
            seen.lock().unwrap().statements.push(sql.clone());
            stream.write_all(&answer(&sql, manners)).await.unwrap();
        }
    }
}

fn answer(sql: &str, manners: Manners) -> Vec<u8> {
    let mut out = Vec::new();
    if sql == "SELECT version()" {
        let column = [0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0];
        out.extend(message(b'T', &[&[0, 1][..], b"version\0", &column].concat()));
        let length = u32::try_from(VERSION.len()).unwrap().to_be_bytes();
        out.extend(message(b'D', &[&[0, 1], &length[..], VERSION.as_bytes()].concat()));
        out.extend(message(b'C', b"SELECT 1\0"));
    }
    for name in sql.split(';').filter_map(|statement| statement.strip_prefix("SET ")?.split(' ').next()) {
        if manners.unknown.contains(&name) {
            let text = format!("SERROR\0C42704\0Munrecognized configuration parameter \"{name}\"\0\0");
            out.extend(message(b'E', text.as_bytes()));
            break;
        }
        out.extend(message(b'C', b"SET\0"));
    }
    out.extend(message(b'Z', b"I"));
    out
}

async fn frame(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u32().await? as usize;
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind], &length[..], body].concat()
}

#[tokio::test]
async fn the_server_decides_what_it_is_and_the_url_does_not() {
    for (scheme, announces) in [("cockroach", true), ("postgres", true), ("cockroachdb", false), ("postgresql", false)]
    {
        let fake = Fake::start(Manners { announces, unknown: &[] }).await;
        let session = fake.connect(scheme).await;
        assert!(session.is_cockroach(), "{scheme}");
        let Server::Cockroach(version) = session.server() else { panic!("{scheme}: {:?}", session.server()) };
        assert_eq!(version.text, VERSION);
        assert!(version.at_least(24, 1) && !version.at_least(24, 2));
    }
    let postgres = settings("sslmode=disable");
    let postgres = format!("cockroach://scram_user:sesame%20street@{}/postgres?sslmode=disable", postgres.address());
    let session = connect(&Settings::parse(&postgres).unwrap()).await.unwrap();
    let number: String = session.query_one("SHOW server_version_num", &[]).await.unwrap().get(0);
    assert_eq!(*session.server(), Server::Postgres { version_num: number.parse().unwrap() });
    assert!(!session.is_cockroach() && SERVER.port() > 0);
}

#[tokio::test]
async fn only_what_cockroach_knows_is_sent_to_it() {
    let fake = Fake::start(Manners { announces: true, unknown: &[] }).await;
    fake.connect("cockroach").await;
    let startup = fake.seen.lock().unwrap().startup.clone();
    let expected = [
        "client_encoding",
        "UTF8",
        "user",
        "root",
        "database",
        "shop",
        "options",
        "--cluster=blue",
        "application_name",
    ];
    assert!(expected.iter().all(|word| startup.iter().any(|found| found == word)), "{startup:?}");
    assert!(!startup.iter().any(|word| word.contains("-c ")), "{startup:?}");
    let statements = fake.statements();
    assert_eq!(statements.len(), 1, "one message: {statements:?}");
    for setting in ["extra_float_digits = 3", "timezone = 'UTC'", "default_transaction_isolation = 'serializable'"] {
        assert!(statements[0].contains(&format!("SET {setting};")), "{setting}: {statements:?}");
    }
    for unknown in ["xmloption", "search_path", "row_security", "array_nulls", "lc_monetary", "idle_session_timeout"] {
        assert!(!statements[0].contains(unknown), "{unknown}: {statements:?}");
    }
}

#[tokio::test]
async fn a_setting_that_this_version_does_not_know_is_left_out_alone() {
    let unknown = &["transaction_timeout", "copy_from_atomic_enabled"];
    let fake = Fake::start(Manners { announces: true, unknown }).await;
    let session = fake.connect("cockroach").await;
    assert!(!session.is_closed());
    let statements = fake.statements();
    let (together, alone) = statements.split_first().unwrap();
    assert_eq!(together.matches("SET ").count(), alone.len(), "each is tried by itself");
    assert_eq!(together.replace(';', ""), alone.concat().replace(';', ""), "in the same order");
}

#[tokio::test]
async fn a_request_to_cancel_carries_the_key_of_the_session() {
    let fake = Fake::start(Manners { announces: true, unknown: &[] }).await;
    let session = fake.connect("cockroach").await;
    session.cancel().await.unwrap();
    while fake.seen.lock().unwrap().cancelled.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(fake.seen.lock().unwrap().cancelled, [KEY]);
}

/// What a session at CockroachDB shows of its settings.
const SHOWN: &[(&str, &str)] = &[
    ("application_name", "tidegate/test/connect"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("timezone", "UTC"),
    ("intervalstyle", "postgres"),
    ("statement_timeout", "0"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_read_only", "off"),
];

#[tokio::test]
async fn a_stand_in_is_recognised_and_its_statements_can_be_cancelled() {
    let standin = tokio::task::spawn_blocking(|| Standin::start(StandinOptions::default()).unwrap()).await.unwrap();
    standin.create_database("shop").unwrap();
    for scheme in ["cockroach", "postgres"] {
        let url = standin.url("shop").replacen("cockroach", scheme, 1);
        let session = connect(&Settings::parse(&url).unwrap()).await.unwrap();
        let Server::Cockroach(version) = session.server() else { panic!("{:?}", session.server()) };
        assert!(version.at_least(23, 1), "{version}");
        for (name, expected) in SHOWN {
            let found: String = session.query_one(&format!("SHOW {name}"), &[]).await.unwrap().get(0);
            assert_eq!(found, *expected, "{name}");
        }
        let sleep = session.batch_execute("SELECT pg_sleep(600)");
        let cancel = async {
            // The request has no answer, and one that comes before the statement does nothing.
            loop {
                session.cancel().await.unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let error = tokio::select! {
            slept = sleep => slept.unwrap_err(),
            () = cancel => unreachable!("it goes on until the statement ends"),
            () = tokio::time::sleep(Duration::from_secs(30)) => panic!("the statement was never cancelled"),
        };
        assert_eq!(error.code().unwrap().code(), "57014");
    }
}
