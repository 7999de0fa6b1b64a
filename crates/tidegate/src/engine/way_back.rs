//! The way back: what a reverse stream that has begun forbids, how it is begun anew, and how its problems are told.
//!
//! The reverse stream reads the target and writes the source. What empties tables of the target to copy them again would
//! take away rows that it has not carried back yet, and it would remove at the source what vanished at the target.

use tidegate_model::{Problem, Stream, TableName};
use tidegate_sql::copy;
use tidegate_sql::state;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Before, Flow, Upstream, Wishes, install_and_take, with_upstream};
use crate::config::Migration;
use crate::output::Failure;

/// Codes of the parts that know one direction only: for them the source is what is read, and the target what is written.
const OF_ONE_DIRECTION: [&str; 5] = ["CR", "PG", "PL", "AP", "CP"];

/// Refuses wishes that would empty tables from which the reverse stream is still to carry rows, and the wish to begin a
/// stream anew that is not there. Told to begin the reverse stream anew, nothing is refused: its rows are given up.
pub fn verify(migration: &Migration, wishes: &Wishes, reverse: &Before) -> Result<(), Problem> {
    if wishes.restart_reverse {
        return reverse.checkpoint.is_some().then_some(()).ok_or_else(|| not_there(migration));
    }
    if reverse.position().is_none() {
        return Ok(());
    }
    if wishes.recreate_slot {
        return Err(would_be_emptied(migration, "every table", "--recreate-slot"));
    }
    let carried = |table: &&TableName| reverse.records.iter().any(|record| record.is_of(table));
    match wishes.recopy.iter().find(carried) {
        Some(table) => Err(would_be_emptied(migration, &format!("table \"{table}\""), &format!("--recopy {table}"))),
        None => Ok(()),
    }
}

/// Forgets where the reverse stream is and what it carries, so that it begins anew with the tables as they then are. May
/// be repeated. What it has not carried back yet is given up.
pub async fn forget(flow: Flow<'_>, before: &Before, wishes: &Wishes, stop: &CancellationToken) -> Result<(), Failure> {
    let Some(position) = before.position() else { return Ok(()) };
    let (read, written) = (&flow.from().settings, &flow.to().settings);
    warn!(
        %position, %read, %written,
        "the reverse stream begins anew: what was committed after this position and is not carried back stays where it \
         is; verify afterwards that both sides are equal"
    );
    let history = with_upstream!(flow, upstream => upstream.identity().await).map_err(Failure::at_start)?;
    let ownership = install_and_take(flow, before, wishes, stop).await.map_err(Failure::at_start)?;
    let Some(ownership) = ownership else { return Ok(()) };
    let (session, lease) = (&flow.to().session, ownership.lease());
    let forgotten = async {
        copy::forget_all(session, lease).await?;
        state::forget_start(session, lease, &history).await
    };
    let forgotten = forgotten.await;
    let released = ownership.release(forgotten.as_ref().err()).await;
    forgotten.and(released).map_err(Failure::stopped)
}

/// Tells a problem of a stream in the words of whoever called us: the source is what `--source` names, also where a
/// stream writes it; and what repairs the one stream would destroy rows of the other.
pub fn told(stream: Stream, problem: Problem) -> Problem {
    if stream == Stream::Forward {
        return problem;
    }
    let swap = OF_ONE_DIRECTION.iter().any(|part| problem.code.starts_with(part));
    let text = |text: String| if swap { exchanged(&text) } else { text };
    let what = text(problem.what);
    Problem {
        what: if what.starts_with("reverse stream") { what } else { format!("reverse stream: {what}") },
        why: text(problem.why),
        next: repaired(text(problem.next)),
        ..problem
    }
}

/// Names each database as the other one.
fn exchanged(text: &str) -> String {
    let swap = |text: &str, [source, target]: [&str; 2]| {
        let parts: Vec<String> = text.split(source).map(|part| part.replace(target, source)).collect();
        parts.join(target)
    };
    ["the ", "The ", "other "]
        .iter()
        .fold(text.to_owned(), |text, before| swap(&text, [&format!("{before}source"), &format!("{before}target")]))
}

/// Replaces the commands that repair a forward stream. What is to be done before them stays.
fn repaired(next: String) -> String {
    if !next.contains("--recreate-slot") && !next.contains("--recopy") {
        return next;
    }
    const COPIES: [&str; 7] = [
        "recreate the slot and copy the tables again",
        "copy the tables again from a new start point",
        "take it and copy everything",
        "copy the tables again",
        "copy the table again",
        "copy its table again",
        "copy it again",
    ];
    let mut text = COPIES.iter().fold(next, |text, copies| text.replace(copies, "begin the reverse stream anew"));
    text = text.replace("--recreate-slot", "--restart-reverse");
    while let Some((before, after)) = text.split_once("--recopy") {
        // The table that is named goes with the flag.
        let after = after.trim_start();
        let name_ends = after.find([' ', ';', ',', ')']).unwrap_or(after.len());
        let rest = after[name_ends..].trim_start_matches(' ');
        let gap = if rest.is_empty() || rest.starts_with([';', ',', ')']) { "" } else { " " };
        let flag = if before.contains("--restart-reverse") { "" } else { "--restart-reverse" };
        text = format!("{}{flag}{gap}{rest}", if flag.is_empty() { before.trim_end() } else { before });
    }
    format!("{text}; it gives up what was not carried back, so verify afterwards that both sides are equal")
}

fn would_be_emptied(migration: &Migration, what: &str, flag: &str) -> Problem {
    let name = &migration.name;
    Problem::definite(
        "MI030",
        format!("{what} of the target cannot be emptied and copied again while the reverse stream reads it"),
        "rows that applications wrote at the target and that are not carried back yet would be lost on both sides",
        format!(
            "stop the writers of the target, wait until tidegate status shows the reverse stream without a lag, then copy \
             again and begin the reverse stream anew: tidegate migrate --name {name} {flag} --restart-reverse"
        ),
    )
}

fn not_there(migration: &Migration) -> Problem {
    Problem::definite(
        "MI031",
        format!("migration \"{}\" has no reverse stream", migration.name),
        "--restart-reverse begins one anew that was there before",
        "begin one with --direction both",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reverse(code: &'static str, what: &str, next: &str) -> Problem {
        told(Stream::Reverse, Problem::definite(code, what, "why", next))
    }

    #[test]
    fn databases_have_the_names_that_the_user_gave_them() {
        let problem = reverse("CR010", "the source lost it, the target's row stays", "ask the source");
        assert_eq!(problem.what, "reverse stream: the target lost it, the source's row stays");
        assert_eq!(problem.next, "ask the target");
        // Who knows both streams means what the user means.
        assert_eq!(reverse("MI012", "the source is away", "wait").what, "reverse stream: the source is away");
        let forward = told(Stream::Forward, Problem::definite("CR010", "the source", "why", "--recreate-slot"));
        assert_eq!((&*forward.what, &*forward.next), ("the source", "--recreate-slot"));
    }

    #[test]
    fn what_repairs_the_forward_stream_is_never_the_advice_for_the_way_back() {
        for (next, told) in [
            (
                "copy the tables again from a new start point: tidegate migrate --name a --recreate-slot",
                "begin the reverse stream anew: tidegate migrate --name a --restart-reverse",
            ),
            (
                "change the target's table likewise, then copy it again: tidegate migrate --recopy public.t",
                "change the source's table likewise, then begin the reverse stream anew: tidegate migrate \
                 --restart-reverse",
            ),
            (
                "copy the table again: --recopy public.t; if it happens again, report it",
                "begin the reverse stream anew: --restart-reverse; if it happens again, report it",
            ),
            (
                "tidegate migrate --name a --recopy public.t --recopy public.u",
                "tidegate migrate --name a --restart-reverse",
            ),
            (
                "copy the table again (--recopy TABLE). Not else",
                "begin the reverse stream anew (--restart-reverse). Not else",
            ),
        ] {
            let found = reverse("AP001", "it broke", next).next;
            assert!(found.starts_with(told), "{found}");
            assert!(found.ends_with("verify afterwards that both sides are equal"), "{found}");
            assert!(!found.contains("--recopy") && !found.contains("--recreate-slot"), "{found}");
        }
    }
}
