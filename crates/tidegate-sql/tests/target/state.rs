//! The state tables: made once, refused when they are newer, and never contradicting each other.

use serde_json::json;
use tidegate_connect::Session;
use tidegate_sql::state::{
    Pair, Part, Side, forget_start, install, read_checkpoint, read_migration, store_intention, store_start,
    write_migration,
};

use crate::support::{Target, at};

#[tokio::test]
async fn starters_at_the_same_time_make_the_tables_once() {
    let target = Target::new("DROP SCHEMA tidegate CASCADE").await;
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
    assert_eq!(
        target.text("SELECT part, version FROM tidegate.schema_version ORDER BY 1, 2").await,
        "common|1 common|2 common|3 stream|1 stream|2 stream|3"
    );
}

#[tokio::test]
async fn a_newer_state_is_refused() {
    let target =
        Target::new("UPDATE tidegate.schema_version SET version = 99 WHERE part = 'stream' AND version = 2").await;
    let problem = install(target.client(), &target.key.schema, Part::Stream).await.unwrap_err();
    assert_eq!(problem.code, "ST001");
}

#[tokio::test]
async fn the_source_holds_nothing_but_the_migration() {
    let source = Target::new("DROP SCHEMA tidegate CASCADE").await;
    install(source.client(), &source.key.schema, Part::Common).await.unwrap();
    let tables =
        "SELECT relname FROM pg_class WHERE relnamespace = 'tidegate'::regnamespace AND relkind = 'r' ORDER BY 1";
    assert_eq!(source.text(tables).await, "cutover_step fence fence_grant migration schema_version");
}

#[tokio::test]
async fn both_sides_know_the_migration() {
    let (source, target) = (Target::new("").await, Target::new("").await);
    let (schema, name) = (&target.key.schema, &target.key.migration);
    let read = async || Pair {
        source: read_migration(source.client(), schema, name).await.unwrap(),
        target: read_migration(target.client(), schema, name).await.unwrap(),
    };
    let pair = read().await;
    pair.verify(name, false).unwrap();
    let settings = pair.settings(json!({ "tables": ["public.*"] }));
    write_migration(target.client(), schema, name, Side::Target, &settings).await.unwrap();
    // A crash here: the next start finishes it.
    let pair = read().await;
    pair.verify(name, false).unwrap();
    assert_eq!(pair.settings(json!({})), settings);
    write_migration(source.client(), schema, name, Side::Source, &settings).await.unwrap();
    let pair = read().await;
    pair.verify(name, true).unwrap();
    let swapped = Pair { source: pair.target, target: pair.source };
    assert_eq!(swapped.verify(name, true).unwrap_err().code, "ST004");
}

#[tokio::test]
async fn a_start_point_is_stored_once_and_only_by_the_owner() {
    let target = Target::new("").await;
    let first = target.own().await;
    assert_eq!(store_start(target.client(), first.lease(), &at(11), &json!({})).await.unwrap_err().code, "ST010");
    forget_start(target.client(), first.lease(), &json!({ "slot": "new" })).await.unwrap();
    let row = read_checkpoint(target.client(), &target.key).await.unwrap().unwrap();
    assert_eq!((row.position, row.history), (None, Some(json!({ "slot": "new" }))));
    store_intention(target.client(), first.lease(), &json!({ "slot": "newer" })).await.unwrap();
    let old = first.lease().clone();
    drop(first);
    let _second = target.own().await;
    for refused in [
        store_intention(target.client(), &old, &json!({})).await,
        store_start(target.client(), &old, &at(12), &json!({})).await,
        forget_start(target.client(), &old, &json!({})).await,
    ] {
        assert_eq!(refused.unwrap_err().code, "ST003");
    }
}
