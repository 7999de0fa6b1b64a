//! The state tables: made once, refused when they are newer, and never contradicting each other.

use serde_json::json;
use tidegate_connect::Session;
use tidegate_sql::state::{
    Pair, Part, Side, forget_start, install, is_installed, read_checkpoint, read_migration, store_history,
    store_intention, store_start, write_migration,
};
use tidegate_standin::Standin;

use crate::support::{Target, at, at_time, on_both_servers};

on_both_servers!(
    starters_at_the_same_time_make_the_tables_once,
    a_newer_state_is_refused,
    the_source_holds_nothing_but_the_migration,
    both_sides_know_the_migration,
    a_start_point_is_stored_once_and_only_by_the_owner,
    every_kind_of_position_survives,
);

const PARTS: &str = "SELECT concat(part, '|', version::text) FROM tidegate.schema_version ORDER BY 1";

async fn starters_at_the_same_time_make_the_tables_once(standin: &'static Standin) {
    let target = Target::without_state(standin, &[]).await;
    let mut starters = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (settings, schema) = (target.settings(), target.key.schema.clone());
        starters.spawn(async move {
            let session = Session::connect(&settings, "test").await.unwrap();
            install(&session, &schema, Part::Stream).await
        });
    }
    for done in starters.join_all().await {
        done.unwrap();
    }
    assert_eq!(target.text(PARTS).await, "common|1 common|2 common|3 stream|1 stream|2 stream|3");
    assert!(is_installed(target.session(), &target.key.schema, Part::Stream).await.unwrap());
}

async fn a_newer_state_is_refused(standin: &'static Standin) {
    let target = Target::new(standin, &[]).await;
    target.sql("UPDATE tidegate.schema_version SET version = 99 WHERE part = 'stream' AND version = 2").await;
    let problem = install(target.session(), &target.key.schema, Part::Stream).await.unwrap_err();
    assert_eq!(problem.code, "ST001");
}

async fn the_source_holds_nothing_but_the_migration(standin: &'static Standin) {
    let source = Target::without_state(standin, &[]).await;
    install(source.session(), &source.key.schema, Part::Common).await.unwrap();
    let tables = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'tidegate' ORDER BY 1";
    assert_eq!(source.text(tables).await, "cutover_step fence fence_grant migration schema_version");
}

async fn both_sides_know_the_migration(standin: &'static Standin) {
    let (source, target) = (Target::new(standin, &[]).await, Target::new(standin, &[]).await);
    let (schema, name) = (&target.key.schema, &target.key.migration);
    let read = async || Pair {
        source: read_migration(source.session(), schema, name).await.unwrap(),
        target: read_migration(target.session(), schema, name).await.unwrap(),
    };
    read().await.verify(name, false).unwrap();
    let settings = read().await.settings(json!({ "tables": ["public.*"] }));
    write_migration(target.session(), schema, name, Side::Target, &settings).await.unwrap();
    // A crash here: the next start finishes it.
    let pair = read().await;
    pair.verify(name, false).unwrap();
    assert_eq!(pair.settings(json!({})), settings);
    write_migration(source.session(), schema, name, Side::Source, &settings).await.unwrap();
    let pair = read().await;
    pair.verify(name, true).unwrap();
    let swapped = Pair { source: pair.target, target: pair.source };
    assert_eq!(swapped.verify(name, true).unwrap_err().code, "ST004");
}

async fn a_start_point_is_stored_once_and_only_by_the_owner(standin: &'static Standin) {
    let target = Target::new(standin, &[]).await;
    let first = target.own().await;
    let session = target.session();
    assert_eq!(store_start(session, first.lease(), &at(11), &json!({})).await.unwrap_err().code, "ST010");
    forget_start(session, first.lease(), &json!({ "slot": "new" })).await.unwrap();
    let row = read_checkpoint(session, &target.key).await.unwrap().unwrap();
    assert_eq!((row.position, row.history), (None, Some(json!({ "slot": "new" }))));
    store_intention(session, first.lease(), &json!({ "slot": "newer" })).await.unwrap();
    let old = first.lease().clone();
    drop(first);
    let _second = target.own().await;
    for refused in [
        store_intention(session, &old, &json!({})).await,
        store_start(session, &old, &at(12), &json!({})).await,
        forget_start(session, &old, &json!({})).await,
    ] {
        assert_eq!(refused.unwrap_err().code, "ST003");
    }
}

async fn every_kind_of_position_survives(standin: &'static Standin) {
    let target = Target::new(standin, &[]).await;
    let owner = target.own().await;
    for position in [at(0x16_B374_D848), at_time(1_701_102_296_662_969_433)] {
        forget_start(target.session(), owner.lease(), &json!({})).await.unwrap();
        store_start(target.session(), owner.lease(), &position, &json!({})).await.unwrap();
        store_history(target.session(), owner.lease(), &json!({ "cluster": "c" })).await.unwrap();
        let sql = "UPDATE tidegate.checkpoint SET committed_at = '2024-05-06 07:08:09.123456+00'";
        target.sql(sql).await;
        let row = read_checkpoint(target.session(), &target.key).await.unwrap().unwrap();
        assert_eq!(row.position, Some(position));
        assert_eq!(row.committed_at.map(|time| time.0), Some(1_714_979_289_123_456));
    }
}
