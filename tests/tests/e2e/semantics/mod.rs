//! What arrives for which kind of change.
//!
//! Every case is a schema of its own with tables, rows and changes. All cases together are migrated three times, so
//! that
//! the same changes meet the planner alone, folded into large batches, and cut into several batches in flight. Each
//! case
//! is one test, which fails with the run in which its schema differed.

mod keys;
mod references;
mod shapes;
mod toast;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use tidegate_testkit::{Migration, Proxy, compare, target_server};

/// Tables, rows and changes in a schema of their own. SQL runs with the schema as search path.
#[derive(Clone, Copy)]
struct Case {
    /// The schema's name.
    name: &'static str,
    /// Tables, in both databases.
    both: &'static str,
    /// What only the source has.
    source: &'static str,
    /// What only the target has.
    target: &'static str,
    /// Rows at the source before the copy.
    rows: &'static str,
    /// What is done at the source while streaming.
    changes: &'static str,
}

/// Makes a test of each case, and the list of them all.
macro_rules! cases {
    ($($(#[$meta:meta])* $name:ident { $($field:ident: $sql:expr),* $(,)? })*) => {
        pub(super) const CASES: &[super::Case] = &[$({
            let mut case = super::EMPTY;
            case.name = stringify!($name);
            $(case.$field = $sql;)*
            case
        }),*];
        $($(#[$meta])* #[test] fn $name() { super::verify(stringify!($name)); })*
    };
}
use cases;

const EMPTY: Case = Case { name: "", both: "", source: "", target: "", rows: "", changes: "" };

fn all_cases() -> impl Iterator<Item = &'static Case> {
    let cases = [toast::CASES, keys::CASES, references::CASES, shapes::CASES].into_iter().flatten();
    // The server cuts longer names.
    cases.inspect(|case| assert!(case.name.len() < 64, "too long: {}", case.name))
}

/// What a run found: the differences of each case, or why there is nothing to compare.
struct Found {
    run: &'static str,
    stopped: Option<String>,
    by_case: HashMap<&'static str, Vec<String>>,
}

fn verify(name: &str) {
    for found in runs() {
        let differences = &found.by_case[name];
        let stopped = found.stopped.as_deref().unwrap_or("it ran to the end");
        assert!(differences.is_empty(), "run \"{}\" ({stopped}):\n{}", found.run, differences.join("\n"));
    }
}

fn runs() -> &'static [Found] {
    static RUNS: OnceLock<Vec<Found>> = OnceLock::new();
    RUNS.get_or_init(|| {
        vec![
            run("one transaction per batch", PiledUp::Never, &["--batch-transactions-max=1"]),
            run("each case in one batch", PiledUp::PerCase, &[]),
            run(
                "three transactions per batch",
                PiledUp::All,
                &["--batch-transactions-max=3", "--batches-in-flight-max=4"],
            ),
        ]
    })
}

/// When the target is out of reach while the source is written, so that transactions wait and batches are as large as
/// they may be.
#[derive(Clone, Copy, PartialEq)]
enum PiledUp {
    Never,
    /// One case after another: a batch that the target refuses is replayed in source order, and would take the other
    /// cases with it.
    PerCase,
    All,
}

fn run(label: &'static str, piled_up: PiledUp, options: &[&str]) -> Found {
    let proxy = Proxy::start(target_server().port());
    let migration = Migration::new("semantics").target_via(&proxy);
    let script = |part: fn(&Case) -> &str| -> String { all_cases().map(|case| in_schema(case, part(case))).collect() };
    let schemas: String = all_cases().map(|case| format!("CREATE SCHEMA {};\n", case.name)).collect();
    migration.both(&format!("{BIG}{schemas}{}", script(|case| case.both)));
    migration.source.sql(&script(|case| case.source));
    migration.target.sql(&script(|case| case.target));
    migration.source.sql(&script(|case| case.rows));
    let mut engine = migration.start_with(options);
    // A stream that stops is what some test is there to find: it is told with the differences.
    let ran = catch_unwind(AssertUnwindSafe(|| {
        migration.wait_state(&mut engine, "streaming");
        let change = |script: &str, pile_up: bool| {
            if pile_up {
                proxy.pause();
            }
            migration.source.sql(script);
            proxy.resume();
            migration.drain_for("60s");
        };
        match piled_up {
            PiledUp::PerCase => all_cases().for_each(|case| change(&in_schema(case, case.changes), true)),
            PiledUp::All | PiledUp::Never => change(&script(|case| case.changes), piled_up == PiledUp::All),
        }
    }));
    let stopped = ran.err().map(|_| format!("stopped: {}", engine.log()));
    let by_case = all_cases()
        .map(|case| (case.name, compare::differences(&migration.source, &migration.target, Some(case.name))))
        .collect();
    Found { run: label, stopped, by_case }
}

fn in_schema(case: &Case, sql: &str) -> String {
    format!("SET search_path TO {};\n{sql};\n", case.name)
}

/// A text of 6,400 characters that is stored out of line, because it cannot be compressed.
const BIG: &str = "CREATE FUNCTION public.big(seed int) RETURNS text LANGUAGE sql IMMUTABLE AS
    $$ SELECT string_agg(md5(seed || '/' || i), '') FROM generate_series(1, 200) i $$;\n";
