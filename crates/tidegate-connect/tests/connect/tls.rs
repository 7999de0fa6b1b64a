//! The modes of `sslmode`, and certificates of both sides.

use tidegate_model::Class;

use crate::fixture::{
    CERTIFICATES, SERVER, connect, expect_both, own, refusal, root, server_with_certificate, settings, settings_at,
};

#[tokio::test]
async fn verify_full_takes_the_right_name_only() {
    expect_both(&settings(&format!("sslmode=verify-full {}", root("ca"))), true).await;
    let wrong = settings(&format!("sslmode=verify-full host=127.0.0.1 {}", root("ca")));
    let problem = refusal(&wrong, "CN007").await;
    assert_eq!(problem.class, Class::Definite);
    assert!(problem.why.contains("127.0.0.1") && problem.why.contains("localhost"), "{problem}");
}

#[tokio::test]
async fn verify_full_checks_the_host_and_not_the_address() {
    let settings = settings(&format!("sslmode=verify-full hostaddr=127.0.0.1 {}", root("ca")));
    expect_both(&settings, true).await;
}

#[tokio::test]
async fn verify_ca_takes_any_name() {
    expect_both(&settings(&format!("sslmode=verify-ca host=127.0.0.1 {}", root("ca"))), true).await;
}

#[tokio::test]
async fn a_stranger_is_no_authority() {
    for mode in ["verify-ca", "verify-full"] {
        let problem = refusal(&settings(&format!("sslmode={mode} {}", root("other"))), "CN007").await;
        assert!(problem.why.contains("no trusted authority"), "{problem}");
    }
}

#[tokio::test]
async fn require_only_encrypts_unless_a_root_certificate_is_given() {
    expect_both(&settings("sslmode=require"), true).await;
    expect_both(&settings(&format!("sslmode=require host=127.0.0.1 {}", root("ca"))), true).await;
    refusal(&settings(&format!("sslmode=require {}", root("other"))), "CN007").await;
}

#[tokio::test]
async fn disable_allow_and_prefer_choose_as_libpq_does() {
    expect_both(&settings("sslmode=disable"), false).await;
    expect_both(&settings("sslmode=allow"), false).await;
    expect_both(&settings("sslmode=prefer"), true).await;
    let tls_only = "user=tls_only";
    refusal(&settings(&format!("{tls_only} sslmode=disable")), "CN009").await;
    for mode in ["allow", "prefer"] {
        let session = connect(&settings(&format!("{tls_only} sslmode={mode}"))).await.unwrap();
        assert!(!session.is_closed(), "{mode}");
    }
    assert!(connect(&settings("user=plain_only sslmode=prefer")).await.is_ok());
    refusal(&settings("user=plain_only sslmode=require"), "CN009").await;
}

#[tokio::test]
async fn a_missing_or_useless_root_certificate_is_named() {
    let missing = settings("sslmode=verify-full sslrootcert=/nowhere/root.crt");
    assert!(refusal(&missing, "CN008").await.what.contains("/nowhere/root.crt"));
    let key = CERTIFICATES.path("ca.key").display().to_string();
    let useless = settings(&format!("sslmode=verify-full sslrootcert={key}"));
    assert!(refusal(&useless, "CN008").await.what.contains("ca.key"));
}

#[tokio::test]
async fn a_revoked_certificate_is_refused() {
    let with = |list| {
        let list = CERTIFICATES.path(list);
        settings(&format!("sslmode=verify-full {} sslcrl={}", root("ca"), list.display()))
    };
    expect_both(&with("none.crl"), true).await;
    let problem = refusal(&with("server.crl"), "CN007").await;
    assert!(problem.why.contains("revoked"), "{problem}");
}

#[tokio::test]
async fn a_client_certificate_lets_its_role_in() {
    let session = connect(&settings(&format!("user=cert_user sslmode=require {}", own("client")))).await.unwrap();
    let sql = "SELECT client_dn FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()";
    assert_eq!(session.query_one(sql, &[]).await.unwrap().get::<_, &str>(0), "/CN=cert_user");
}

#[tokio::test]
async fn without_the_client_certificate_its_role_stays_out() {
    let problem = connect(&settings("user=cert_user sslmode=require")).await.unwrap_err();
    assert_eq!(problem.code, "CN009", "{problem}");
    assert!(problem.why.contains("certificate"), "{problem}");
    let of_a_stranger = settings(&format!("user=cert_user sslmode=require {}", own("other")));
    let problem = connect(&of_a_stranger).await.unwrap_err();
    assert_eq!((problem.code, problem.class), ("CN016", Class::Definite), "{problem}");
}

#[tokio::test]
async fn a_client_key_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::TempDir::new().unwrap();
    let key = directory.path().join("open.key");
    std::fs::write(&key, CERTIFICATES.read("client.key")).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let text = format!("sslmode=require {} sslkey={}", own("client"), key.display());
    let problem = refusal(&settings(&text), "CN008").await;
    assert!(problem.why.contains("0644"), "{problem}");
}

#[tokio::test]
async fn versions_can_be_bounded() {
    for (bound, version) in
        [("ssl_max_protocol_version=TLSv1.2", "TLSv1.2"), ("ssl_min_protocol_version=TLSv1.3", { "TLSv1.3" })]
    {
        let session = connect(&settings(&format!("sslmode=require {bound}"))).await.unwrap();
        let sql = "SELECT version FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()";
        assert_eq!(session.query_one(sql, &[]).await.unwrap().get::<_, &str>(0), version);
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_required() {
    let server = tidegate_throwaway::Server::builder().start().unwrap();
    let text = format!("user=postgres password={} ", server.password());
    refusal(&settings_at(server.port(), &format!("{text} sslmode=require")), "CN006").await;
    expect_both(&settings_at(server.port(), &format!("{text} sslmode=prefer")), false).await;
    // Versions before 17 do not know TLS without being asked.
    let direct = settings_at(SERVER.port(), "sslmode=require sslnegotiation=direct");
    assert!(connect(&direct).await.is_err());
}

#[tokio::test]
async fn certificates_as_the_manual_makes_them_are_taken() {
    for name in ["self_signed", "version_1"] {
        let server = server_with_certificate(name).start().unwrap();
        let with = |more: &str| {
            settings_at(server.port(), &format!("user=postgres password={} {more}", { server.password() }))
        };
        expect_both(&with("sslmode=require channel_binding=require"), true).await;
        expect_both(&with(&format!("sslmode=verify-full {}", root(name))), true).await;
        expect_both(&with(&format!("sslmode=verify-ca host=127.0.0.1 {}", root(name))), true).await;
        refusal(&with(&format!("sslmode=verify-full host=127.0.0.1 {}", root(name))), "CN007").await;
        refusal(&with(&format!("sslmode=verify-full {}", root("other"))), "CN007").await;
    }
}
