//! Compares the tables of a stream at a fence, while both sides are written.
//!
//! A fence is read for a while and then given up for a new one, so that neither side has to keep its history for the
//! whole comparison; every table of the report names the position at which it was compared.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_connect::{Session, Settings};
use tidegate_model::{Class, Problem, Stream, TableFilter, TableMap, TableName};
use tidegate_sql::comparisons::{self, Compared};
use tidegate_sql::requests::Taken;
use tidegate_sql::state::Lease;
use tidegate_verify::{Equality, Key, Options, Report, TableReport, TouchedKeys, Verdict, compare_keys, compare_table};
use tracing::{info, warn};

use super::conductor::Conductor;
use super::fence::{Fence, Fencing};
use super::seat::Seat;
use super::{repairing, sequences, weakly};

/// How long a fence is read before the next tables get a new one: until then it holds back the source's vacuum, or uses
/// up CockroachDB's GC window.
const SNAPSHOT_AGE_MAX: Duration = Duration::from_secs(15 * 60);
/// How often a table is begun anew whose snapshot was lost.
const ATTEMPTS_MAX: u32 = 5;

/// What a comparison is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VerifyWishes {
    /// Globs over schema.table; none: all tables of the stream.
    pub tables: Vec<String>,
    /// Whether the texts of values count, too, where their meaning is the same.
    pub exact: bool,
    /// Whether values are reported.
    pub values: bool,
    /// How many rows a second the source is asked for.
    pub rate: Option<NonZeroU32>,
    /// Whether the target is made equal where it is not.
    pub repair: bool,
    /// Whether to compare without a fence.
    pub weak: bool,
}

impl VerifyWishes {
    pub fn options(&self) -> Options {
        let equality = if self.exact { Equality::Exact } else { Equality::Meaning };
        let defaults = Options::default();
        let keys_listed_max = if self.repair { repairing::KEYS_LISTED_MAX } else { defaults.keys_listed_max };
        Options { equality, values: self.values, rows_per_second: self.rate, keys_listed_max }
    }
}

/// Compares what a request asks for, and returns the report.
pub async fn verify(conductor: &Conductor, seat: &Seat, taken: &Taken) -> Result<Value, Problem> {
    let wishes: VerifyWishes = serde_json::from_value(taken.request.arguments.clone()).map_err(|error| {
        Problem::definite("ST015", "a comparison that cannot be read", error.to_string(), "ask with a matching program")
    })?;
    may_compare(conductor, seat, &wishes)?;
    let filter = TableFilter::new(&wishes.tables, &[], &conductor.migration.state_schema)?;
    // Whoever compares without a fence need not wait for a stream that has much to catch up with.
    let live = if wishes.weak { seat.live().await } else { seat.caught_up().await };
    let tables: Vec<TableMap> = live.routes.iter().map(|route| route.map.clone()).collect();
    let tables: Vec<TableMap> = tables
        .into_iter()
        .filter(|table| wishes.tables.is_empty() || filter.matches(&table.source.name, &[]))
        .collect();
    if tables.is_empty() {
        return Err(no_table());
    }
    let names: Vec<&TableName> = tables.iter().map(|table| &table.source.name).collect();
    if wishes.weak {
        let fencing = Fencing::new(&conductor.migration, seat)?;
        let reports =
            weakly::compare(&fencing, &live, &tables, &wishes.options(), |table| taken.progress(table)).await?;
        let sequences = sequences::compare(&conductor.migration, &live, &names, !wishes.tables.is_empty()).await;
        return Ok(serde_json::to_value(Report::new(reports, sequences).weakly()).expect("a report is plain data"));
    }
    let mut comparison = Comparison::new(Fencing::new(&conductor.migration, seat)?, wishes.options());
    let mut record = Record {
        settings: comparison.fencing().written().clone(),
        session: None,
        role: conductor.migration.name.application_name("verify"),
        lease: live.lease.clone(),
        request: &taken.request.id,
    };
    // What others wrote on the closed side before this is in what is compared.
    let other = conductor.seat(other(seat.stream));
    let breached = if wishes.repair { other.breached_until().await? } else { None };
    let (mut known, mut reports) = (record.found_equal().await?, Vec::new());
    let all_now = wishes.tables.is_empty() && known.is_empty();
    for (number, table) in tables.iter().enumerate() {
        let name = table.source.name.to_string();
        if let Some(place) = known.iter().position(|report| report.name == name) {
            reports.push(known.swap_remove(place));
            continue;
        }
        taken.progress(json!({ "table": name, "number": number + 1, "of": tables.len() }));
        let report = comparison.table(table).await?;
        record.note(&report).await;
        reports.push(report);
    }
    if wishes.repair {
        repairing::repair(&mut comparison, &tables, &mut reports, |said| taken.progress(json!({ "said": said })))
            .await?;
    }
    let sequences = sequences::compare(&conductor.migration, &live, &names, !wishes.tables.is_empty()).await;
    let rows_equal = reports.iter().all(|report| report.verdict == Verdict::Equal);
    let mut report = Report::new(reports, sequences);
    if let Some(until) = breached.filter(|_| rows_equal && all_now) {
        report.breaches_dropped = other.drop_breaches(&until).await?;
    }
    info!(verdict = report.verdict.as_str(), tables = tables.len(), stream = %seat.stream, "compared");
    Ok(serde_json::to_value(report).expect("a report is plain data"))
}

/// What is written down of a comparison, for whoever takes it up again.
struct Record<'a> {
    settings: Settings,
    session: Option<Session>,
    role: String,
    lease: Lease,
    request: &'a str,
}

impl Record<'_> {
    /// Returns what an owner that is gone had found. Only tables that were equal: what differed is looked at again.
    async fn found_equal(&mut self) -> Result<Vec<TableReport>, Problem> {
        let session = Session::connect(&self.settings, &self.role).await?;
        let found = comparisons::found_equal(&session, &self.lease, self.request).await?;
        self.session = Some(session);
        Ok(found.into_iter().filter_map(|report| serde_json::from_value(report).ok()).collect())
    }

    /// Writes down what was found of a table. Where that fails the table is compared again if the process dies, no more.
    async fn note(&mut self, report: &TableReport) {
        if let Err(problem) = self.try_note(report).await {
            warn!(error = %problem.why, table = report.name, "what was found of a table is not written down");
            self.session = None;
        }
    }

    async fn try_note(&mut self, report: &TableReport) -> Result<(), Problem> {
        let session = match self.session.take() {
            Some(session) => session,
            None => Session::connect(&self.settings, &self.role).await?,
        };
        let TableReport { name, position, verdict, .. } = report;
        let json = serde_json::to_value(report).expect("a report is plain data");
        let compared = Compared { table: name, position, verdict: verdict.as_str(), report: json };
        comparisons::record(&session, &self.lease, self.request, &compared).await?;
        self.session = Some(session);
        Ok(())
    }
}

/// Which rows of a table are compared.
enum Scope {
    Whole,
    /// Those touched since it was last found equal.
    Touched,
    Keys(Vec<Key>),
}

/// A comparison under way, with the fence that it reads.
pub struct Comparison<'a> {
    fencing: Fencing<'a>,
    options: Options,
    fence: Option<Fence>,
}

impl<'a> Comparison<'a> {
    pub fn new(fencing: Fencing<'a>, options: Options) -> Comparison<'a> {
        Comparison { fencing, options, fence: None }
    }

    /// Compares all rows of a table. One that cannot be read is reported as unknown.
    pub async fn table(&mut self, table: &TableMap) -> Result<TableReport, Problem> {
        self.compare(table, &Scope::Whole).await
    }

    /// Compares the rows of a table that were touched since it was last found equal.
    pub async fn touched(&mut self, table: &TableMap) -> Result<TableReport, Problem> {
        self.compare(table, &Scope::Touched).await
    }

    /// Compares the rows of these keys.
    pub async fn keys(&mut self, table: &TableMap, keys: Vec<Key>) -> Result<TableReport, Problem> {
        self.compare(table, &Scope::Keys(keys)).await
    }

    /// Returns where fences are taken.
    pub fn fencing(&self) -> &Fencing<'a> {
        &self.fencing
    }

    /// Returns how rows are compared.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Takes a new fence for what is compared from now on, and returns it.
    pub async fn renew(&mut self) -> Result<&Fence, Problem> {
        self.fence = None;
        Ok(self.fence.insert(self.fencing.take().await?))
    }

    /// Gives up the fence, with what was not settled of it.
    pub fn take_fence(&mut self) -> Option<Fence> {
        self.fence.take()
    }

    async fn compare(&mut self, table: &TableMap, scope: &Scope) -> Result<TableReport, Problem> {
        let name = &table.source.name;
        let mut attempts = 0;
        loop {
            attempts += 1;
            if self.fence.as_ref().is_none_or(|fence| fence.taken_at.elapsed() > SNAPSHOT_AGE_MAX) {
                self.renew().await?;
            }
            let fence = self.fence.as_mut().expect("there is one now");
            let keys = match scope {
                Scope::Whole => TouchedKeys::Whole,
                Scope::Touched => fence.touched(name),
                Scope::Keys(keys) => TouchedKeys::Keys(keys.clone()),
            };
            let compared = match keys {
                TouchedKeys::Whole => compare_table(&fence.pair, table, &self.options).await,
                TouchedKeys::Keys(keys) => compare_keys(&fence.pair, table, &keys, &self.options).await,
                TouchedKeys::Nothing => compare_keys(&fence.pair, table, &[], &self.options).await,
            };
            match compared {
                Ok(report) => {
                    if report.verdict == Verdict::Equal && !matches!(scope, Scope::Keys(_)) {
                        fence.settle(name);
                    }
                    return Ok(report);
                }
                Err(problem) if problem.class == Class::Transient && attempts < ATTEMPTS_MAX => {
                    warn!(error = %problem.why, table = %name, "a table is compared anew at another fence");
                    self.fence = None;
                }
                Err(problem) => {
                    warn!(error = %problem.why, table = %name, "a table cannot be compared");
                    return Ok(TableReport::unread(name, &problem));
                }
            }
        }
    }
}

/// Refuses what would take rows of an open side for damage. Called with the baton, so that nothing turns meanwhile.
fn may_compare(conductor: &Conductor, seat: &Seat, wishes: &VerifyWishes) -> Result<(), Problem> {
    let stream = seat.stream;
    if !seat.flows() {
        let why =
            "a turn has closed its source, or is about to: what applications write at the other side is no damage";
        let what = format!("the {stream} stream does not flow, so there is nothing to compare");
        return Err(Problem::definite(
            "VF012",
            what,
            why,
            "tidegate status says where the migration stands; an unfinished turn goes on with the command that began it",
        ));
    }
    if wishes.repair && conductor.seat(other(stream)).flows() {
        return Err(Problem::definite(
            "VF012",
            "nothing is repaired while both sides are open",
            "a row that differs may be one that the other side has just written",
            "compare without --repair; stop the writers of one side and drain before you mend a row",
        ));
    }
    Ok(())
}

fn other(stream: Stream) -> Stream {
    match stream {
        Stream::Forward => Stream::Reverse,
        Stream::Reverse => Stream::Forward,
    }
}

fn no_table() -> Problem {
    Problem::definite(
        "VF011",
        "there is no table to compare",
        "none of the tables that the stream carries matches --tables",
        "check the globs; tidegate status says how many tables are carried",
    )
}
