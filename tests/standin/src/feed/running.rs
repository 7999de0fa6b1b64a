//! A feed at work.

use std::time::{Duration, Instant};

use super::cadence::Cadence;
use super::events::{self, Event, What};
use super::message::{self, Change, Image};
use super::options::{InitialScan, Options, Policy};
use super::output::{Output, Stop};
use super::request::Accepted;
use super::stream::{self, Changes, Commit, Folded, Scanned};
use super::targets::Followed;
use super::{FeedEnd, FeedSink};
use crate::error::SqlError;
use crate::history::{self, Hlc, Layout, Tracked, past_threshold, source};
use crate::knobs::Settings;

/// Transactions read at a time.
const COMMITS_AT_ONCE: i64 = 2000;
/// How often a feed looks for what should not be: a window that has moved past it, rows without a stamp.
const GUARD_EVERY: Duration = Duration::from_secs(1);
/// How often a feed removes what is past the window.
const TRIM_EVERY: Duration = Duration::from_secs(60);
/// More rows than these are not replayed.
const REPLAY_MAX: u64 = 20_000;

struct Running<'a, S> {
    feed: Accepted,
    settings: &'a Settings,
    output: Output<'a, S>,
    cadence: Cadence,
    /// Everything up to here was given to the output.
    position: Hlc,
    /// The resolved timestamp before the last, from which a replay begins, and the count of rows at that moment.
    replay_from: (Hlc, u64),
    guarded: Instant,
    trimmed: Instant,
    /// Transactions below it were seen to have stamps.
    stamped_below: i64,
}

/// The transaction of the last commit at or before a time.
const LAST_BEFORE_SQL: &str = "SELECT coalesce(
    (SELECT xid::text::int8 FROM standin.commit WHERE hlc <= $1 ORDER BY hlc DESC LIMIT 1), 0)";

/// Runs an accepted feed.
pub async fn run<S: FeedSink>(feed: Accepted, settings: &Settings, sink: &mut S) -> Result<FeedEnd, SqlError> {
    let start = feed.start;
    let mut running = Running {
        output: Output::new(sink, settings.knobs()),
        cadence: Cadence::new(&feed.options, start, Instant::now()),
        position: start,
        replay_from: (start, 0),
        guarded: Instant::now(),
        trimmed: Instant::now(),
        stamped_below: 0,
        settings,
        feed,
    };
    match running.go().await {
        Ok(()) => Ok(FeedEnd::Completed { rows: running.output.rows }),
        Err(Stop::Dropped) => Ok(FeedEnd::Dropped),
        Err(Stop::Failed(error)) => {
            // What was found before the end is the client's.
            let _ = running.output.settle().await;
            let _ = running.output.flush().await;
            Err(error)
        }
    }
}

impl<S: FeedSink> Running<'_, S> {
    async fn go(&mut self) -> Result<(), Stop> {
        self.output.flush().await?;
        if self.feed.scan != InitialScan::No {
            self.scan_all().await?;
            self.output.settle().await?;
            self.output.flush().await?;
        }
        if self.feed.scan == InitialScan::Only {
            return Ok(());
        }
        events::lay_out(&self.feed.client, &mut self.feed.followed, self.position).await?;
        let before = self.feed.client.query_one(LAST_BEFORE_SQL, &[&self.position.0]).await?;
        self.stamped_below = before.get::<_, i64>(0) + 1;
        loop {
            self.output.turn(self.settings.knobs());
            let now = history::now(&self.feed.client).await?;
            let until = self.feed.end.map_or(now, |end| end.min(now));
            match self.deliver(until).await {
                Ok(()) => {}
                Err(Stop::Failed(error)) if error.code == "42P01" => self.log_is_gone(error).await?,
                Err(stop) => return Err(stop),
            }
            self.output.some().await?;
            if self.feed.end.is_some_and(|end| self.position >= end) {
                self.output.settle().await?;
                return self.output.flush().await;
            }
            if let Some(at) = self.cadence.due(self.position, self.output.knobs(), Instant::now()) {
                self.resolved(at).await?;
            }
            self.output.flush().await?;
            if self.guarded.elapsed() >= GUARD_EVERY {
                self.guard().await?;
            }
            tokio::time::sleep(Cadence::pause(self.output.knobs())).await;
        }
    }

    async fn scan_all(&mut self) -> Result<(), Stop> {
        let start = self.feed.start;
        for one in self.feed.followed.clone() {
            scan(&self.feed.client, &self.feed.options, &one, start, None, &mut self.output).await?;
        }
        Ok(())
    }

    async fn resolved(&mut self, at: Hlc) -> Result<(), Stop> {
        let text = message::resolved(self.feed.options.envelope, at);
        let (before, rows) = self.replay_from;
        self.output.resolved(&text).await?;
        self.replay_from = (at, self.output.rows);
        // As after a transient error inside the server: from an older checkpoint once more.
        let repeats = self.output.knobs().duplicates * 0.2;
        if repeats > 0.0 && fastrand::f64() < repeats && self.output.rows - rows < REPLAY_MAX {
            self.position = before;
            events::lay_out(&self.feed.client, &mut self.feed.followed, before).await?;
        }
        Ok(())
    }

    /// Sends the changes after the position up to `until`.
    async fn deliver(&mut self, until: Hlc) -> Result<(), Stop> {
        while self.position < until {
            let commits = stream::commits(&self.feed.client, self.position, until, COMMITS_AT_ONCE).await?;
            let Some(last) = commits.last() else {
                self.position = until;
                return Ok(());
            };
            let whole = i64::try_from(commits.len()).unwrap_or(i64::MAX) < COMMITS_AT_ONCE;
            let upper = if whole { until } else { last.at };
            let relations: Vec<u32> = self.feed.followed.iter().map(|one| one.table.relation).collect();
            let mut events = events::between(&self.feed.client, &relations, self.position, upper).await?;
            let Some(first) = events.first().map(|event| event.at) else {
                self.send(&commits, upper).await?;
                continue;
            };
            self.send(&commits, first.before()).await?;
            self.output.settle().await?;
            events.retain(|event| event.at == first);
            for event in events {
                self.happen(event).await?;
            }
            self.send(&commits, first).await?;
        }
        Ok(())
    }

    /// Sends the changes of those transactions that are after the position and not after `until`, which becomes the
    /// position.
    async fn send(&mut self, commits: &[Commit], until: Hlc) -> Result<(), Stop> {
        let hidden_too = self.feed.options.include_hidden;
        let wanted =
            |commit: &&Commit| commit.at > self.position && commit.at <= until && (hidden_too || !commit.hidden);
        let wanted: Vec<&Commit> = commits.iter().filter(wanted).collect();
        if !wanted.is_empty() {
            let Running { feed, output, .. } = self;
            for one in &feed.followed {
                let options = &feed.options;
                let mut changes = Changes::of(&feed.client, &one.table, &one.layout, &wanted).await?;
                while let Some(folded) = changes.next().await? {
                    emit(options, one, folded, output).await?;
                }
            }
        }
        self.position = self.position.max(until);
        Ok(())
    }

    async fn happen(&mut self, event: Event) -> Result<(), Stop> {
        let (new, backfill, columns_changed) = match event.what {
            What::Ended(text) => return Err(SqlError::uncoded(text).into()),
            What::Columns { new, backfill, columns_changed, .. } => (new, backfill, columns_changed),
        };
        let counts = backfill || (self.feed.options.column_changes && columns_changed);
        let policy = self.feed.options.policy;
        if counts && policy != Policy::Ignore {
            if let Some(at) = self.cadence.boundary(event.at.before(), Instant::now()) {
                let text = message::resolved(self.feed.options.envelope, at);
                self.output.resolved(&text).await?;
            }
            if policy == Policy::Stop {
                return Err(SqlError::uncoded(format!("schema change occurred at {}", event.at)).into());
            }
        }
        let Some(one) = self.feed.followed.iter_mut().find(|one| one.table.relation == event.relation) else {
            return Ok(());
        };
        let old = std::mem::replace(&mut one.layout, new);
        one.table = Tracked::named(&self.feed.client, &one.table.schema, &one.table.name)
            .await
            .unwrap_or_else(|_| one.table.clone());
        if counts && policy == Policy::Backfill {
            let one = one.clone();
            scan(&self.feed.client, &self.feed.options, &one, event.at, Some(&old), &mut self.output).await?;
            self.output.settle().await?;
        }
        Ok(())
    }

    /// A log that cannot be read belongs to a table that was dropped: the event is on its way.
    async fn log_is_gone(&mut self, error: SqlError) -> Result<(), Stop> {
        let now = history::now(&self.feed.client).await?;
        let relations: Vec<u32> = self.feed.followed.iter().map(|one| one.table.relation).collect();
        for event in events::between(&self.feed.client, &relations, self.position, now).await? {
            if let What::Ended(text) = event.what {
                return Err(SqlError::uncoded(text).into());
            }
        }
        Err(error.into())
    }

    async fn guard(&mut self) -> Result<(), Stop> {
        self.guarded = Instant::now();
        let client = &self.feed.client;
        let xmin = "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::int8";
        let below: i64 = client.query_one(xmin, &[]).await?.get(0);
        // A threshold that a test forces is not for ever.
        let trim = self.trimmed.elapsed() >= TRIM_EVERY && self.output.knobs().gc_threshold.is_none();
        for one in &self.feed.followed {
            let threshold = self.settings.gc_threshold(client, &self.feed.database, &one.table).await?;
            if self.position <= threshold {
                return Err(past_threshold(self.position, threshold).into());
            }
            if trim {
                history::trim(client, &one.table, threshold).await?;
                self.trimmed = Instant::now();
            }
            let sql = format!(
                "SELECT standin.unstamped(l.x) FROM {} l WHERE l.x >= '{}'::xid8 AND l.x < '{below}'::xid8 \
                 AND NOT EXISTS (SELECT FROM standin.commit c WHERE c.xid = l.x) LIMIT 1",
                one.table.log(),
                self.stamped_below
            );
            client.simple_query(&sql).await?;
        }
        self.stamped_below = below;
        Ok(())
    }
}

/// Sends all rows of a table as of a time: at the start, or (with the columns of before) after a change of its columns.
async fn scan<S: FeedSink>(
    client: &tokio_postgres::Client,
    options: &Options,
    one: &Followed,
    at: Hlc,
    before: Option<&Layout>,
    output: &mut Output<'_, S>,
) -> Result<(), Stop> {
    let layout = &one.table.layout;
    let mvcc = options.mvcc_timestamp;
    let source = source(client, &one.table, at, mvcc).await?;
    let mut rows = Scanned::of(client, &source, layout, mvcc).await?;
    while let Some((row, own)) = rows.next().await? {
        // The old copy of a row that a change of the schema touched is the same row with the columns of before.
        let old = before.map(|old| narrowed(old, layout, &row));
        let change = Change {
            key: Image { layout, row: &row },
            before: old.as_ref().map(|(layout, row)| Image { layout, row }),
            after: Some(Image { layout, row: &row }),
            updated: at,
            mvcc: own.unwrap_or(at),
        };
        write(options, one, &change, output).await?;
    }
    Ok(())
}

/// A row of `now` with those of its columns that `old` has.
fn narrowed(old: &Layout, now: &Layout, row: &[Option<String>]) -> (Layout, message::Row) {
    let place = |number: i16| now.columns.iter().position(|column| column.number == number);
    let mut columns = Vec::new();
    let mut values = Vec::new();
    for column in &old.columns {
        if let Some(place) = place(column.number) {
            columns.push(column.clone());
            values.push(row[place].clone());
        }
    }
    let keys =
        old.keys.iter().filter_map(|key| columns.iter().position(|column| column.number == old.columns[*key].number));
    let keys = keys.collect();
    (Layout { columns, keys }, values)
}

async fn emit<S: FeedSink>(
    options: &Options,
    one: &Followed,
    folded: Folded,
    output: &mut Output<'_, S>,
) -> Result<(), Stop> {
    let layout = &one.layout;
    let Some(key) = folded.after.as_ref().or(folded.before.as_ref()).or(folded.passing.as_ref()) else { return Ok(()) };
    // A row that came and went in one transaction leaves a deletion of nothing, or no trace; the same when repeated.
    if folded.before.is_none() && folded.after.is_none() && folded.at.wall() / 1000 % 2 == 0 {
        return Ok(());
    }
    let change = Change {
        key: Image { layout, row: key },
        before: folded.before.as_ref().map(|row| Image { layout, row }),
        after: folded.after.as_ref().map(|row| Image { layout, row }),
        updated: folded.at,
        mvcc: folded.at,
    };
    write(options, one, &change, output).await
}

async fn write<S: FeedSink>(
    options: &Options,
    one: &Followed,
    change: &Change<'_>,
    output: &mut Output<'_, S>,
) -> Result<(), Stop> {
    if one.families.is_empty() {
        return output.row(message::change(options, &one.topic, None, change)).await;
    }
    for family in &one.families {
        output.row(message::change(options, &family.topic, Some(&family.columns), change)).await?;
    }
    Ok(())
}
