//! From the messages of a changefeed to whole transactions in commit order. Elements are rows: a time per element is
//! what one row costs.

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidegate_model::{Event, Hlc, RelationId, ReplicaIdentity, SourceColumn, SourceTable, TableName};
use tidegate_source_cockroach::message::{Decoder, Envelope};
use tidegate_source_cockroach::spool::Spool;
use tidegate_source_cockroach::table::TableInfo;
use tidegate_source_cockroach::value::Kind;
use tidegate_source_cockroach::window::Window;

const ROWS: u64 = 50_000;
const LARGE: u64 = 256 << 20;
/// Small enough that most rows go to disk.
const SMALL: u64 = 1 << 20;

fn accounts() -> Arc<TableInfo> {
    let types = [
        ("aid", "INT8"),
        ("bid", "INT8"),
        ("abalance", "DECIMAL"),
        ("filler", "STRING"),
        ("changed_at", "TIMESTAMPTZ"),
        ("open", "BOOL"),
    ];
    let column =
        |name: &str| SourceColumn { name: name.into(), type_oid: 25, type_modifier: -1, identity: name == "aid" };
    let table = SourceTable {
        id: RelationId(1),
        name: TableName::new("public", "accounts"),
        replica_identity: ReplicaIdentity::Default,
        columns: types.iter().map(|(name, _)| column(name)).collect(),
    };
    let kinds = types.iter().map(|(_, kind)| Kind::of_type(kind).expect("it is a type")).collect();
    Arc::new(TableInfo::new("bank", Arc::new(table), kinds, Vec::new(), vec!["aid".into()]))
}

/// Updates as a feed sends them, `per_transaction` with one timestamp, in no order across rows.
fn feed(per_transaction: u64) -> Vec<(String, String)> {
    let image = |aid: u64, balance: u64| {
        format!(
            r#"{{"abalance": {balance}.25, "aid": {aid}, "bid": {}, "changed_at": "2025-05-09T21:20:29.203923Z", "filler": "some words that fill the row", "open": true}}"#,
            aid % 10
        )
    };
    (0..ROWS)
        .map(|n| {
            let aid = n * 7_919 % ROWS;
            let at = format!("{}.0000000000", 1_701_102_296_662_969_433 + aid / per_transaction);
            let value = format!(
                r#"{{"after": {}, "before": {}, "mvcc_timestamp": "{at}", "updated": "{at}"}}"#,
                image(aid, n + 1),
                image(aid, n)
            );
            (format!("[{aid}]"), value)
        })
        .collect()
}

fn changefeed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("changefeed");
    group.throughput(Throughput::Elements(ROWS));
    group.sample_size(20);
    let rows = feed(5);
    group.bench_function("decode", |bencher| {
        let mut decoder = Decoder::new(Envelope::Wrapped { diff: true }, [accounts()]);
        bencher.iter(|| {
            for (key, value) in &rows {
                let message = decoder.decode(Some(b"bank.public.accounts"), Some(key.as_bytes()), value.as_bytes());
                std::hint::black_box(message.expect("the row is whole"));
            }
        });
    });
    for (name, per_transaction, budget) in [
        ("window, in memory", 5, LARGE),
        ("window, spooled", 5, SMALL),
        ("window, one transaction, spooled", ROWS, SMALL),
    ] {
        let rows = feed(per_transaction);
        let spool = Spool::new(std::env::temp_dir(), None, budget).expect("the temporary directory works");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut decoder = Decoder::new(Envelope::Wrapped { diff: true }, [accounts()]);
                let mut window = Window::new(Hlc::default(), spool.clone());
                for (key, value) in &rows {
                    let message = decoder.decode(Some(b"bank.public.accounts"), Some(key.as_bytes()), value.as_bytes());
                    window.take(message.expect("the row is whole")).expect("the spool takes it");
                }
                window.resolved(Hlc { wall: u64::MAX, logical: 0 });
                let mut changes = 0;
                while let Some(event) = window.next_event().expect("the feed is consistent") {
                    if let Event::Commit(transaction) = event {
                        changes += transaction.changes.read().expect("it can be read").count() as u64;
                    }
                }
                assert_eq!(changes, ROWS);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, changefeed);
criterion_main!(benches);
