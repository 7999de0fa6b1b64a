//! Compares sequences, which no stream carries: their definitions always, and after a turn whether the side that is open
//! goes on behind every value that was used.

use tidegate_connect::Session;
use tidegate_model::{Problem, Stream, TableName};
use tidegate_sql::sequences::{self, Owner, Pair, Sequence};
use tidegate_sql::state;
use tidegate_verify::{SequenceReport, Verdict};
use tracing::warn;

use super::Ends;
use super::seat::Live;
use crate::config::Migration;

/// Compares the sequences of these tables; unless only some tables were `chosen`, also those that stand alone. What
/// cannot be found out is reported as unknown.
pub async fn compare(migration: &Migration, live: &Live, tables: &[&TableName], chosen: bool) -> Vec<SequenceReport> {
    match try_compare(migration, live, tables, chosen).await {
        Ok(reports) => reports,
        Err(problem) => {
            warn!(error = %problem.what, why = %problem.why, "sequences cannot be compared");
            let why = format!("[{}] {}: {}", problem.code, problem.what, problem.why);
            vec![SequenceReport { name: "*".to_owned(), source: why, target: String::new(), verdict: Verdict::Unknown }]
        }
    }
}

async fn try_compare(
    migration: &Migration,
    live: &Live,
    tables: &[&TableName],
    chosen: bool,
) -> Result<Vec<SequenceReport>, Problem> {
    let ends = Ends::connect(migration).await?;
    let (from, to) = match live.lease.key.stream {
        Stream::Forward => (&ends.source.session, &ends.target.session),
        Stream::Reverse => (&ends.target.session, &ends.source.session),
    };
    let (source, target) = (sequences::list_sequences(from).await?, sequences::list_sequences(to).await?);
    let counterpart = |owner: &Owner| {
        let route = live.routes.iter().find(|route| route.map.source.name == owner.table)?;
        let column = route.map.columns.iter().find(|column| *column.source == *owner.column)?;
        Some(Owner { table: route.map.target.clone(), column: column.target.to_string() })
    };
    let is_whole = migration.tables.is_empty() && migration.exclude.is_empty();
    let is_wanted = |pair: &Pair| match &pair.source.owner {
        Some(owner) => tables.contains(&&owner.table),
        None if *pair.source.name.schema == *migration.state_schema => false,
        // Where not everything is carried a sequence of the other side may be none of ours.
        None => !chosen && (is_whole || pair.target.is_some()),
    };
    let turned = has_turned(&ends, live).await?;
    let mut reports = Vec::new();
    for pair in sequences::pair(&source, &target, counterpart).into_iter().filter(is_wanted) {
        let used = if turned { sequences::last_used(from, &pair.source).await? } else { None };
        reports.push(report(&pair, turned, used));
    }
    Ok(reports)
}

async fn has_turned(ends: &Ends, live: &Live) -> Result<bool, Problem> {
    let key = &live.lease.key;
    let generation = async |session: &Session| {
        let row = state::read_migration(session, &key.schema, &key.migration).await?;
        Ok::<i64, Problem>(row.map_or(0, |row| row.generation))
    };
    Ok(generation(&ends.source.session).await?.max(generation(&ends.target.session).await?) > 1)
}

/// The source is the side that is open, `used` the last value in its column.
fn report(pair: &Pair, turned: bool, used: Option<i64>) -> SequenceReport {
    let source = &pair.source;
    let name = source.name.to_string();
    let Some(target) = &pair.target else {
        let (verdict, what) = match source.owner {
            Some(_) => (Verdict::Equal, "none: the column's values come from elsewhere"),
            None => (Verdict::Different, "none"),
        };
        return SequenceReport { name, source: shown(source), target: what.to_owned(), verdict };
    };
    let mut differs: Vec<String> = sequences::compare(pair).differs.into_iter().map(str::to_owned).collect();
    if turned && !sequences::is_free(target, source) {
        differs.push("values that the closed side has handed out come again".to_owned());
    }
    if let Some(used) = used.filter(|used| !source.cycle && !source.is_beyond(*used)) {
        differs.push(format!("{used} is used already"));
    }
    let verdict = if differs.is_empty() { Verdict::Equal } else { Verdict::Different };
    let mut at_target = shown(target);
    if !differs.is_empty() {
        at_target = format!("{at_target} [{}]", differs.join(", "));
    }
    SequenceReport { name, source: shown(source), target: at_target, verdict }
}

fn shown(sequence: &Sequence) -> String {
    let next = sequence.next().map_or("no value left".to_owned(), |next| format!("next {next}"));
    let Sequence { increment, min, max, .. } = sequence;
    let cycle = if sequence.cycle { ", cycles" } else { "" };
    format!("{next}, by {increment}, {min} to {max}{cycle}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(of: Option<&str>, max: i64, last_value: i64) -> Sequence {
        Sequence {
            name: TableName::new("public", "s"),
            of: of.map(str::to_owned),
            start: 1,
            increment: 1,
            min: 1,
            max,
            cycle: false,
            cache: 1,
            last_value,
            is_called: true,
            owner: None,
        }
    }

    #[test]
    fn what_comes_again_after_a_turn_is_different() {
        let pair = |open: i64, closed: i64| Pair {
            source: sequence(None, i64::MAX, open),
            target: Some(sequence(Some("integer"), i64::from(i32::MAX), closed)),
        };
        let verdict = |pair: &Pair, turned, used| report(pair, turned, used).verdict;
        assert_eq!(verdict(&pair(100, 90), true, Some(100)), Verdict::Equal);
        assert_eq!(verdict(&pair(80, 90), true, None), Verdict::Different);
        assert_eq!(verdict(&pair(80, 90), false, None), Verdict::Equal, "values count after a turn only");
        assert_eq!(verdict(&pair(100, 90), true, Some(101)), Verdict::Different);
    }

    #[test]
    fn one_that_stands_alone_is_missed() {
        let alone = Pair { source: sequence(None, i64::MAX, 1), target: None };
        assert_eq!(report(&alone, false, None).verdict, Verdict::Different);
        let owner = Some(Owner { table: TableName::new("public", "t"), column: "id".to_owned() });
        let owned = Pair { source: Sequence { owner, ..alone.source }, target: None };
        assert_eq!(report(&owned, false, None).verdict, Verdict::Equal);
    }
}
