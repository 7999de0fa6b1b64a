//! Ways of proving who one is.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tidegate_connect::Settings;
use tidegate_model::Class;

use crate::fixture::{PASSWORD, SERVER, expect_both, refusal, settings};

#[tokio::test]
async fn scram_binds_to_the_channel_on_both_kinds_of_session() {
    expect_both(&settings("sslmode=require channel_binding=require"), true).await;
    expect_both(&settings("sslmode=require channel_binding=disable"), true).await;
}

#[tokio::test]
async fn required_channel_binding_is_refused_where_it_cannot_be_had() {
    for text in [
        "sslmode=disable channel_binding=require",
        "sslmode=require user=md5_user channel_binding=require",
        "sslmode=require user=cleartext_user channel_binding=require",
    ] {
        let problem = refusal(&settings(text), "CN012").await;
        assert_eq!(problem.class, Class::Definite, "{text}");
    }
}

#[tokio::test]
async fn md5_and_cleartext_passwords_are_understood() {
    for role in ["md5_user", "cleartext_user"] {
        for mode in ["require", "disable"] {
            expect_both(&settings(&format!("user={role} sslmode={mode}")), mode == "require").await;
        }
    }
}

#[tokio::test]
async fn a_wrong_password_is_definite_and_ends_the_search() {
    for role in ["scram_user", "md5_user", "cleartext_user", "nobody"] {
        let problem =
            refusal(&settings(&format!("user={role} password=wrong host=localhost,127.0.0.1")), "CN009").await;
        assert_eq!(problem.class, Class::Definite);
        assert!(problem.what.contains(role), "{problem}");
    }
}

#[tokio::test]
async fn a_missing_password_is_asked_for_with_the_reason() {
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("passwords");
    fs::write(&file, format!("*:*:*:*:{PASSWORD}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let problem = refusal(&settings(&format!("password='' passfile={}", file.display())), "CN009").await;
    assert!(problem.why.contains("asks for a password") && problem.why.contains("0644"), "{problem}");
}

#[tokio::test]
async fn the_password_file_lets_in() {
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("passwords");
    fs::write(&file, format!("localhost:{}:postgres:scram_user:{PASSWORD}\n", SERVER.port())).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    expect_both(&settings(&format!("password='' passfile={} sslmode=require", file.display())), true).await;
}

#[tokio::test]
async fn the_service_file_says_everything() {
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("services");
    let port = SERVER.port();
    let text = format!(
        "[shop]\nhost=localhost\nport={port}\ndbname=postgres\nuser=scram_user\npassword={PASSWORD}\nsslmode=disable\n"
    );
    fs::write(&file, text).unwrap();
    let url = format!("postgres://?service=shop&servicefile={}", file.display());
    expect_both(&Settings::parse(&url).unwrap(), false).await;
}

#[tokio::test]
async fn a_unix_socket_is_reached_whatever_sslmode_says() {
    let directory = SERVER.socket_dir().display().to_string().replace('/', "%2F");
    let url = format!("postgres://scram_user@{directory}:{}/postgres?sslmode=verify-full", SERVER.port());
    expect_both(&Settings::parse(&url).unwrap(), false).await;
    let problem = refusal(&Settings::parse(&format!("{url}&requirepeer=nobody")).unwrap(), "CN009").await;
    assert!(problem.why.contains("requirepeer"), "{problem}");
}
