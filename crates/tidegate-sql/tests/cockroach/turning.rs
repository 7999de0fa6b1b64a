//! A turn where the database is CockroachDB: privileges, sequences, the write that turns, and leaving.

use std::time::Duration;

use serde_json::json;
use tidegate_connect::Session;
use tidegate_model::{Stream, TableName};
use tidegate_sql::fence::{FenceOrder, Unrevoked, Why, give_back, give_up, let_through, put_up_by_revoke, read_fence};
use tidegate_sql::finish::{RemovalKind, inventory, remove};
use tidegate_sql::sequences::{Verdict, advance, compare, list_sequences, pair};
use tidegate_sql::state::{Side, write_migration};
use tidegate_sql::turn::{Book, Opening, Recorded, StepState};
use tidegate_standin::Standin;
use tokio::time::Instant;

use crate::support::{LIMIT, Target, on_both_servers, settings};

on_both_servers!(
    writing_is_revoked_and_given_back,
    a_privilege_that_our_role_cannot_revoke_is_told,
    a_fence_given_up_is_not_put_up_again,
    sequences_are_moved_on,
    a_turn_is_one_write,
    an_opening_that_was_refused_comes_too_late,
    steps_are_recorded_and_copied,
    nothing_of_ours_is_left,
);

async fn target(standin: &Standin, tables: &[&str]) -> Target {
    let target = Target::new(standin, tables).await;
    let (schema, name) = (&target.key.schema, &target.key.migration);
    write_migration(target.session(), schema, name, Side::Target, &json!({})).await.unwrap();
    target
}

fn order(target: &Target, turn: &str) -> FenceOrder {
    let tables = vec![TableName::new("public", "orders"), TableName::new("public", "owned")];
    let until = Instant::now() + Duration::from_secs(30);
    FenceOrder::new(target.key.migration.clone(), turn, 2, tables, "pg.example:5432/app", until)
}

/// Tables and roles of an application; roles belong to the whole server.
async fn with_application(standin: &Standin) -> (Target, String) {
    let target = target(standin, &["CREATE TABLE orders (id INT8 PRIMARY KEY, note STRING)"]).await;
    let app = format!("app_{}", target.key.migration);
    for sql in [
        format!("CREATE USER {app}"),
        format!("CREATE USER {app}_owner"),
        format!("CREATE USER {app}_reader"),
        format!("GRANT ALL ON TABLE orders TO {app}"),
        format!("GRANT SELECT, INSERT ON TABLE orders TO {app}_reader WITH GRANT OPTION"),
        "CREATE TABLE owned (id INT8 PRIMARY KEY)".to_owned(),
        format!("GRANT CREATE ON SCHEMA public TO {app}_owner"),
        format!("ALTER TABLE owned OWNER TO {app}_owner"),
    ] {
        target.sql(&sql).await;
    }
    (target, app)
}

/// Returns SQLSTATE of what a role is told, empty where it may.
async fn told(target: &Target, role: &str, sql: &str) -> String {
    let url = target.url.replacen("root@", &format!("{role}@"), 1);
    let session = Session::connect(&settings(&url), "app").await.unwrap();
    loop {
        match session.batch_execute(sql).await {
            Ok(()) => return String::new(),
            Err(error) => match error.code().unwrap().code() {
                "40001" => {}
                code => return code.to_owned(),
            },
        }
    }
}

async fn grants(target: &Target) -> String {
    let sql = "SELECT concat_ws(' ', table_name, grantee, privilege_type, is_grantable)::STRING \
               FROM information_schema.table_privileges WHERE table_schema = 'public' ORDER BY 1";
    target.text(sql).await
}

async fn writing_is_revoked_and_given_back(standin: &Standin) {
    let (target, app) = with_application(standin).await;
    let before = grants(&target).await;
    let (schema, name) = (&target.key.schema, &target.key.migration);
    for _ in 0..2 {
        let (fenced, unrevoked) =
            put_up_by_revoke(&target.settings(), schema, &order(&target, "a"), &mut |_| {}).await.unwrap();
        assert_eq!(fenced.tables.len(), 2);
        let owner = Unrevoked { role: format!("{app}_owner"), why: Why::Owner };
        assert!(unrevoked.contains(&owner), "{unrevoked:?}");
        assert!(unrevoked.contains(&Unrevoked { role: "admin".to_owned(), why: Why::Administrator }));
        assert!(!unrevoked.iter().any(|role| role.role == app));
    }
    for sql in ["INSERT INTO orders VALUES (1)", "DELETE FROM orders WHERE id = 1", "TRUNCATE orders"] {
        assert_eq!(told(&target, &app, sql).await, "42501", "{sql}");
    }
    assert_eq!(told(&target, &app, "SELECT * FROM orders").await, "");
    assert_eq!(told(&target, &format!("{app}_reader"), "INSERT INTO orders VALUES (1)").await, "42501");
    give_up(target.session(), schema, name, "a").await.unwrap();
    for _ in 0..2 {
        give_back(target.session(), schema, name).await.unwrap();
    }
    assert_eq!(told(&target, &app, "INSERT INTO orders VALUES (1)").await, "");
    assert_eq!(grants(&target).await, before);
}

/// Where it fails no fence stands; where nothing was revoked, whoever can still write is named.
async fn a_privilege_that_our_role_cannot_revoke_is_told(standin: &Standin) {
    let (target, app) = with_application(standin).await;
    let (schema, applier) = (&target.key.schema, format!("{app}_applier"));
    for sql in [
        format!("CREATE USER {applier}"),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE orders, owned TO {applier}"),
        format!("GRANT USAGE ON SCHEMA {schema} TO {applier}"),
        format!("GRANT ALL ON TABLE {schema}.fence, {schema}.fence_grant, {schema}.migration TO {applier}"),
    ] {
        target.sql(&sql).await;
    }
    let as_applier = settings(&target.url.replacen("root@", &format!("{applier}@"), 1));
    if let Ok((_, unrevoked)) = put_up_by_revoke(&as_applier, schema, &order(&target, "a"), &mut |_| {}).await {
        assert!(unrevoked.contains(&Unrevoked { role: app.clone(), why: Why::Granted }), "{unrevoked:?}");
        assert_eq!(told(&target, &app, "INSERT INTO orders VALUES (1)").await, "");
    }
}

async fn a_fence_given_up_is_not_put_up_again(standin: &Standin) {
    let (target, app) = with_application(standin).await;
    let (schema, name) = (&target.key.schema, &target.key.migration);
    // There is nothing to say there, and nothing fails.
    let_through(target.session(), schema, name).await.unwrap();
    give_up(target.session(), schema, name, "a").await.unwrap();
    let late = put_up_by_revoke(&target.settings(), schema, &order(&target, "a"), &mut |_| {}).await.unwrap_err();
    assert_eq!(late.code, "FN002");
    assert_eq!(told(&target, &app, "INSERT INTO orders VALUES (2)").await, "");
    assert!(!read_fence(target.session(), schema, name).await.unwrap().unwrap().is_up);
}

async fn sequences_are_moved_on(standin: &Standin) {
    let tables = [
        "CREATE TABLE t (id INT8 GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, n INT8)",
        "CREATE SEQUENCE alone INCREMENT 5 START 100",
        "CREATE SEQUENCE down INCREMENT -1 MINVALUE -1000 MAXVALUE -1",
    ];
    let (source, target) = (target(standin, &tables).await, target(standin, &tables).await);
    for sql in ["SELECT nextval('t_id_seq'), nextval('alone'), nextval('down')", "SELECT nextval('alone')"] {
        source.sql(sql).await;
    }
    let pairs = async || {
        let (one, other) =
            (list_sequences(source.session()).await.unwrap(), list_sequences(target.session()).await.unwrap());
        pair(&one, &other, |owner| Some(owner.clone()))
    };
    let found = pairs().await;
    let owned = found.iter().find(|pair| &*pair.source.name.name == "t_id_seq").unwrap();
    assert_eq!(owned.source.owner.as_ref().unwrap().column, "id");
    assert!(found.iter().all(|pair| compare(pair).verdict == Verdict::Equal));
    advance(target.session(), &found, 10).await.unwrap();
    let expected: Vec<Option<i64>> = found.iter().map(|pair| pair.source.next()).collect();
    let moved = list_sequences(target.session()).await.unwrap();
    for ((pair, next), moved) in found.iter().zip(expected).zip(&moved) {
        assert_eq!(moved.next(), next.map(|next| next + 10 * pair.source.increment), "{moved:?}");
    }
    let again = advance(target.session(), &pairs().await, 10).await.unwrap();
    assert!(again.iter().all(|advanced| !advanced.moved), "{again:?}");
}

fn book(target: &Target) -> Book<'_> {
    Book { session: target.session(), schema: &target.key.schema, name: &target.key.migration }
}

fn opening(turn: &str, generation: i64, recorded: Option<Recorded>) -> Opening {
    let none = Recorded { stream: Stream::Forward, turn: turn.to_owned(), steps: Vec::new() };
    Opening {
        turn: turn.to_owned(),
        refused: format!("aborted {turn}"),
        generation,
        phase: "reversed".to_owned(),
        record: json!({ "c": "5.0" }),
        recorded: recorded.unwrap_or(none),
    }
}

async fn a_turn_is_one_write(standin: &Standin) {
    let target = target(standin, &[]).await;
    let book = book(&target);
    for _ in 0..2 {
        book.open(&opening("2.1", 1, None)).await.unwrap();
    }
    assert_eq!(book.turned().await.unwrap(), json!({ "c": "5.0", "turn": "2.1" }));
    assert_eq!(book.set(1, None, "aborted 2.1").await.unwrap_err().code, "TN002");
    // As the side that closes.
    for _ in 0..2 {
        book.begin((Stream::Reverse, "3.1"), 2, None, "begun 3.1", &["fence"], None).await.unwrap();
    }
    book.set(2, Some("begun 3.1"), "turning 3.1").await.unwrap();
    book.follow(3, "initial", &json!({ "turn": "3.1" })).await.unwrap();
    assert_eq!(book.turned().await.unwrap()["turn"], "3.1");
}

async fn an_opening_that_was_refused_comes_too_late(standin: &Standin) {
    let target = target(standin, &[]).await;
    let book = book(&target);
    for _ in 0..2 {
        book.set(1, None, "aborted 2.1").await.unwrap();
    }
    // Often enough that on the hostile server each statement of it collides.
    for _ in 0..50 {
        assert_eq!(book.open(&opening("2.1", 1, None)).await.unwrap_err().code, "TN002");
    }
    book.open(&opening("2.2", 1, None)).await.unwrap();
}

async fn steps_are_recorded_and_copied(standin: &Standin) {
    let (one, mut other) = (target(standin, &[]).await, target(standin, &[]).await);
    let turn = (Stream::Forward, "2.1");
    let closing = book(&one);
    closing.begin(turn, 1, None, "begun 2.1", &["fence", "turn"], None).await.unwrap();
    closing.step(turn, "fence", StepState::Begun, &json!(null)).await.unwrap();
    closing.step(turn, "fence", StepState::Done, &json!({ "tables": 2 })).await.unwrap();
    let recorded = closing.newest().await.unwrap().unwrap();
    assert!(recorded.steps[0].ended_at.unwrap() >= recorded.steps[0].began_at.unwrap());
    other.key.migration = one.key.migration.clone();
    write_migration(other.session(), &other.key.schema, &other.key.migration, Side::Target, &json!({})).await.unwrap();
    book(&other).open(&opening("2.1", 1, Some(recorded))).await.unwrap();
    let copied = book(&other).newest().await.unwrap().unwrap();
    assert_eq!((copied.steps.len(), copied.steps[0].state), (2, StepState::Done));
    assert_eq!(copied.detail("fence"), &json!({ "tables": 2 }));
}

async fn nothing_of_ours_is_left(standin: &Standin) {
    let (target, app) = with_application(standin).await;
    let (schema, name) = (&target.key.schema, &target.key.migration);
    put_up_by_revoke(&target.settings(), schema, &order(&target, "a"), &mut |_| {}).await.unwrap();
    let listed = inventory(target.session(), schema, name).await.unwrap();
    assert_eq!(listed.last().unwrap().kind, RemovalKind::StateSchema);
    assert_eq!(listed.iter().filter(|removal| removal.kind == RemovalKind::Grants).count(), 2);
    let until = Instant::now() + LIMIT;
    assert_eq!(remove(&target.settings(), schema, name, until, &mut |_| {}).await.unwrap(), listed);
    assert!(remove(&target.settings(), schema, name, until, &mut |_| {}).await.unwrap().is_empty());
    assert_eq!(told(&target, &app, "INSERT INTO orders VALUES (3)").await, "");
}
