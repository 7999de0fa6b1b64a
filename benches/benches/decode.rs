//! From pgoutput messages to whole transactions. Elements are changes: a time per element is what one change costs.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidegate_benches::Backlog;
use tidegate_source_postgres::spool::Spool;

const LARGE: u64 = 256 << 20;
/// Small enough that a transaction of tens of thousands of rows goes to disk.
const SMALL: u64 = 1 << 20;

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for (name, backlog, memory_budget_bytes) in [
        ("tpcb", Backlog::tpcb(20_000), LARGE),
        ("inserts, 1000 in a transaction", Backlog::inserts(50, 1000), LARGE),
        ("streamed, in memory", Backlog::streamed(20_000), LARGE),
        ("streamed, spooled", Backlog::streamed(50_000), SMALL),
        ("inserts, 50000 in a transaction, spooled", Backlog::inserts(1, 50_000), SMALL),
    ] {
        let spool = Spool::new(std::env::temp_dir(), None, memory_budget_bytes).expect("the temporary directory works");
        group.throughput(Throughput::Elements(backlog.changes));
        group.bench_function(name, |bencher| bencher.iter(|| backlog.decode(&spool)));
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
