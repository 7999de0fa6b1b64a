//! From decoded changes to statements. Elements are source changes.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tidegate_benches::Backlog;
use tidegate_model::{ColumnMap, Lsn, Position, SourceTable, TableMap, TableRoute};
use tidegate_source_postgres::spool::Spool;
use tidegate_sql::dialect::Dialect;
use tidegate_sql::plan::{Planner, SessionRights, SliceLimit};

const LARGE: u64 = 256 << 20;

fn route(source: &SourceTable) -> TableRoute {
    let column = |column: &tidegate_model::SourceColumn| ColumnMap {
        source: column.name.clone(),
        target: column.name.clone(),
        target_type: "text".to_owned(),
        comparable: true,
    };
    let columns = source.columns.iter().map(column).collect();
    let (target, key, references) = (source.name.clone(), vec![0], Vec::new());
    let map = TableMap { source: source.clone(), target, columns, key, references };
    TableRoute { map, from: Position::postgres(Lsn(0)) }
}

fn fold(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fold");
    for (name, backlog, batch_changes) in [
        ("tpcb, 100 transactions in a batch", Backlog::tpcb(20_000), 400),
        ("tpcb, 2000 transactions in a batch", Backlog::tpcb(20_000), 8_000),
        ("inserts, 10000 in a batch", Backlog::inserts(50, 1000), 10_000),
    ] {
        let spool = Spool::new(std::env::temp_dir(), None, LARGE).expect("the temporary directory works");
        let changes = backlog.decoded(&spool);
        let routes: Vec<TableRoute> = backlog.tables.iter().map(route).collect();
        let limit = SliceLimit { bytes: LARGE, changes: batch_changes };
        let position = Position::postgres(Lsn(1));
        let mut planner = Planner::new(routes, SessionRights { foreign_keys_enforced: false }, Dialect::Postgres);
        group.throughput(Throughput::Elements(backlog.changes));
        group.bench_function(name, |bencher| {
            // The applier takes its changes from a reader, so the copy is not part of folding.
            let copy = || changes.clone().into_iter().map(|change| Ok((position.clone(), change)));
            bencher.iter_batched(
                copy,
                |mut changes| {
                    let mut rows = 0;
                    while let Some(plan) = planner.slice(&mut changes, limit).expect("the backlog can be planned") {
                        rows += plan.rows;
                    }
                    rows
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, fold);
criterion_main!(benches);
