//! One server with TLS for all tests of this binary, and what they say to it.

use std::sync::LazyLock;

use tidegate_connect::{ReplicationSession, Session, Settings};
use tidegate_model::Problem;
use tidegate_throwaway::Server;

use crate::certificates::{Certificates, text};

/// Passwords of all roles are this.
pub const PASSWORD: &str = "sesame street";

pub static CERTIFICATES: LazyLock<Certificates> = LazyLock::new(Certificates::make);

/// A server that presents `server.crt` and lets roles in by different methods.
pub static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let server = server_with_certificate("server")
        .file("ca.crt", CERTIFICATES.read("ca.crt"))
        .setting("ssl_ca_file", "ca.crt")
        .hba("hostssl all cert_user 127.0.0.1/32 cert")
        .hba("hostnossl all tls_only 127.0.0.1/32 reject")
        .hba("hostssl all plain_only 127.0.0.1/32 reject")
        .hba("host all,replication md5_user 127.0.0.1/32 md5")
        .hba("host all,replication cleartext_user 127.0.0.1/32 password")
        .start()
        .unwrap();
    let mut sql = String::new();
    for role in ["scram_user", "tls_only", "plain_only", "cleartext_user", "cert_user", "full_user", "odd_user"] {
        sql.push_str(&format!("CREATE ROLE {role} LOGIN REPLICATION PASSWORD '{PASSWORD}';"));
    }
    sql.push_str("ALTER ROLE full_user CONNECTION LIMIT 0;");
    sql.push_str(&format!(
        "SET password_encryption = md5; CREATE ROLE md5_user LOGIN REPLICATION PASSWORD '{PASSWORD}';"
    ));
    server.psql("postgres", &sql).unwrap();
    server
});

/// Describes a server that presents this certificate.
pub fn server_with_certificate(name: &str) -> tidegate_throwaway::Builder {
    Server::builder()
        .file("server.crt", CERTIFICATES.read(&format!("{name}.crt")))
        .file("server.key", CERTIFICATES.read(&format!("{name}.key")))
        .setting("ssl", "on")
        .setting("ssl_cert_file", "server.crt")
        .setting("ssl_key_file", "server.key")
}

/// Makes settings for the common server: `host=localhost`, the role `scram_user` and its password unless `more` says
/// otherwise. The home directory of whoever runs the test stays out of it.
pub fn settings(more: &str) -> Settings {
    settings_at(SERVER.port(), more)
}

pub fn settings_at(port: u16, more: &str) -> Settings {
    let base = format!(
        "host=localhost port={port} dbname=postgres user=scram_user password='{PASSWORD}' sslcertmode=disable \
         passfile=/dev/null"
    );
    Settings::parse(&format!("{base} {more}")).unwrap()
}

/// `sslrootcert` of a certificate made for the run.
pub fn root(name: &str) -> String {
    format!("sslrootcert={}", text(&CERTIFICATES.path(&format!("{name}.crt"))))
}

/// `sslcert` and `sslkey` of a certificate made for the run.
pub fn own(name: &str) -> String {
    let path = |ending| text(&CERTIFICATES.path(&format!("{name}.{ending}")));
    format!("sslcertmode=allow sslcert={} sslkey={}", path("crt"), path("key"))
}

pub async fn connect(settings: &Settings) -> Result<Session, Problem> {
    Session::connect(settings, "tidegate/test/connect").await
}

pub async fn connect_replication(settings: &Settings) -> Result<ReplicationSession, Problem> {
    ReplicationSession::connect(settings, "tidegate/test/connect").await
}

/// Connects both kinds of session and tells for each whether it is encrypted; the error of either.
pub async fn both_encrypted(settings: &Settings) -> [Result<bool, Problem>; 2] {
    const ENCRYPTED: &str = "SELECT ssl::text FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()";
    let sql = async {
        let session = connect(settings).await?;
        Ok(session.query_one(ENCRYPTED, &[]).await.unwrap().get::<_, &str>(0) == "true")
    };
    let replication = async {
        let mut session = connect_replication(settings).await?;
        Ok(session.query(ENCRYPTED).await.unwrap() == [[Some("true".to_owned())]])
    };
    [sql.await, replication.await]
}

/// Expects both kinds of session to connect, encrypted or not.
pub async fn expect_both(settings: &Settings, encrypted: bool) {
    for found in both_encrypted(settings).await {
        assert_eq!(found.unwrap(), encrypted, "{settings:?}");
    }
}

/// Expects both kinds of session to be refused with the same problem, and returns it.
pub async fn refusal(settings: &Settings, code: &str) -> Problem {
    let [sql, replication] = both_encrypted(settings).await;
    let (sql, replication) = (sql.unwrap_err(), replication.unwrap_err());
    assert_eq!((sql.code, replication.code), (code, code), "{sql}\n{replication}");
    assert_eq!(sql.class, replication.class);
    let told = format!("{sql} {sql:?} {replication} {replication:?} {settings:?}");
    assert!(!told.contains(PASSWORD), "the password is shown: {told}");
    sql
}
