//! Encrypted connections, passwords and certificates, through the whole program.

use std::fs;

use tidegate_testkit::{Authority, Migration, start_server, target_server};
use tidegate_throwaway::Server;

#[test]
fn verify_full_scram_with_channel_binding_and_client_certificates_work_end_to_end() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign("localhost");
    let (client_certificate, client_key) = authority.sign("app");
    let root = authority.root();
    let source = start_server(
        Server::builder()
            .file("server.crt", fs::read(certificate).unwrap())
            .file("server.key", fs::read(key).unwrap())
            .file("root.crt", fs::read(&root).unwrap())
            .setting("ssl", "on")
            .setting("ssl_cert_file", "server.crt")
            .setting("ssl_key_file", "server.key")
            .setting("ssl_ca_file", "root.crt")
            .hba("hostssl all,replication app 127.0.0.1/32 cert")
            .hba("hostssl all,replication postgres 127.0.0.1/32 scram-sha-256")
            .hba("hostnossl all,replication all 127.0.0.1/32 reject"),
    );
    let migration = Migration::on(&source, &target_server(), "tls");
    migration.both("CREATE TABLE t (id int PRIMARY KEY)");
    migration.source.sql("INSERT INTO t VALUES (1); CREATE ROLE app SUPERUSER LOGIN");
    let url = |user: &str, host: &str, options: &str| {
        format!(
            "postgres://{user}@{host}:{}/{}?sslmode=verify-full&sslrootcert={}{options}",
            source.port(),
            migration.name,
            root.display()
        )
    };
    let with_password = format!("postgres:{}", source.password());
    let certificates = format!("&sslcert={}&sslkey={}", client_certificate.display(), client_key.display());
    let check = |url: &str| migration.again().source_url(url).run("check", &[]);

    check(&url(&with_password, "localhost", "&channel_binding=require")).expect_code(0);
    check(&url("app", "localhost", &certificates)).expect_code(0);
    // The certificate is for another name.
    let wrong_host = check(&url(&with_password, "127.0.0.1", "")).expect_code(2);
    assert!(wrong_host.error_code().is_some() && !wrong_host.says(source.password()), "{}", wrong_host.stderr);
    // The certificate is signed by somebody else.
    let stranger = Authority::new();
    let (ours, strange) = (root.to_str().unwrap(), stranger.root());
    let strange_root = url(&with_password, "localhost", "").replace(ours, strange.to_str().unwrap());
    check(&strange_root).expect_code(2);
    // A wrong password.
    check(&url("postgres:wrong", "localhost", "")).expect_code(2);

    // The replication connection takes the same way.
    let encrypted = migration.again().source_url(&url("app", "localhost", &certificates));
    let engine = encrypted.start_streaming();
    migration.source.sql("INSERT INTO t VALUES (2)");
    encrypted.drain();
    migration.assert_equal();
    engine.stop();
}
