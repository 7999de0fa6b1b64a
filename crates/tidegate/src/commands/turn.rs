//! `cutover` and `failback`: plan, show, execute.

use std::path::Path;

use serde_json::Value;
use tidegate_control::{Accept, Certificate, Direction, FenceKind, Hooks, Policy};
use tidegate_model::Problem;
use tidegate_sql::requests::{self, Request, TURN};

use super::asking;
use crate::cli::{Fence, TurnArgs};
use crate::config::{Migration, PipelineOptions};
use crate::engine::{Ends, Flow, TurnRequest, abort_turn, turn_standing, unfinished_turn};
use crate::output::{Exit, Failure, print_json, say};

pub async fn run(args: TurnArgs, direction: Direction) -> Result<Exit, Failure> {
    let migration = Migration::read(&args.migration, PipelineOptions::default()).map_err(Failure::unknown)?;
    let policy = policy(&args).map_err(Failure::unknown)?;
    if args.abort {
        return abort(&args, &migration, direction, &policy).await;
    }
    let ends = Ends::connect(&migration).await.map_err(Failure::unknown)?;
    let flowing = asking::flowing(&migration, &ends).await?;
    let flow = Flow { migration: &migration, ends: &ends, stream: direction.drained() };
    let asked_by = std::env::var("USER").ok();
    let (is_turned, now) = turn_standing(&migration, &ends, direction).await.map_err(Failure::unknown)?;
    let request = |plan_only, now| {
        let (policy, asked_by, asked_at) = (policy.clone(), asked_by.clone(), Some(now));
        TurnRequest { direction, policy, plan_only, asked_at, asked_by }
    };
    let under_way = unfinished_turn(&migration, &ends).await.map_err(Failure::unknown)?;
    if let Some(other) = under_way.filter(|under_way| *under_way != direction) {
        return Err(Failure::refused(goes_on(other)));
    }
    let unfinished = under_way.is_some();
    if flowing != direction.drained() && !unfinished && !is_turned {
        return Err(Failure::refused(not_that_way(direction)));
    }
    // Asked again for what is done, it shows the certificate again.
    if !unfinished && (!is_turned || args.plan_only) {
        let plan = ask(flow, &request(true, now), &args, |_| {}).await?;
        if args.plan_only {
            show(&args, &plan, "plan");
            return Ok(Exit::Done);
        }
        // Without a question it is told when the turn begins.
        if !args.yes {
            eprintln!("{}", plan["text"].as_str().unwrap_or_default());
            if !asking::confirmed(&direction.to_string()).await? {
                eprintln!("nothing was changed");
                return Ok(Exit::Negative);
            }
        }
    } else if unfinished && args.plan_only {
        return Err(Failure::refused(goes_on(direction)));
    }
    // Whoever confirmed may have taken their time.
    let (_, now) = turn_standing(&migration, &ends, direction).await.map_err(Failure::unknown)?;
    let answer = ask(flow, &request(false, now), &args, said).await?;
    if let Some(out) = &args.out {
        write(out, &answer).map_err(Failure::unknown)?;
    }
    show(&args, &answer, "certificate");
    Ok(Exit::Done)
}

async fn abort(args: &TurnArgs, migration: &Migration, direction: Direction, policy: &Policy) -> Result<Exit, Failure> {
    abort_turn(migration, direction, policy).await.map_err(Failure::at_start)?;
    if args.migration.json {
        print_json(&serde_json::json!({ "aborted": true, "open": direction.closing() }));
    } else {
        say!("aborted: the {} is open", direction.closing());
    }
    Ok(Exit::Done)
}

async fn ask(
    flow: Flow<'_>,
    request: &TurnRequest,
    args: &TurnArgs,
    on_progress: impl FnMut(&Value),
) -> Result<Value, Failure> {
    let arguments = serde_json::to_value(request).expect("a request is plain data");
    let request = Request { id: requests::new_request_id(), kind: TURN.to_owned(), arguments };
    asking::ask(flow, &request, args.timeout.0, on_progress).await
}

fn said(progress: &Value) {
    eprintln!("{}", progress["said"].as_str().unwrap_or_default());
}

fn show(args: &TurnArgs, answer: &Value, what: &str) {
    if args.migration.json {
        print_json(&answer[what]);
    } else {
        say!("{}", answer["text"].as_str().unwrap_or_default());
    }
}

fn write(out: &Path, answer: &Value) -> Result<(), Problem> {
    let failed = |error: std::io::Error| {
        let what = format!("the certificate cannot be written to {}", out.display());
        Problem::definite("CF008", what, error.to_string(), "the turn is done: ask again with another --out")
    };
    let certificate: Certificate =
        serde_json::from_value(answer["certificate"].clone()).map_err(|error| failed(std::io::Error::other(error)))?;
    let json = serde_json::to_string_pretty(&certificate).expect("a certificate is plain data");
    std::fs::write(out, json).map_err(failed)?;
    let mut text = out.as_os_str().to_owned();
    text.push(".txt");
    std::fs::write(text, certificate.to_string()).map_err(failed)
}

fn policy(args: &TurnArgs) -> Result<Policy, Problem> {
    let mut accept = Accept::default();
    for code in &args.accept {
        if !accept.add(code) {
            let what = format!("\"{code}\" is not a refusal that can be accepted");
            return Err(Problem::definite("CF005", what, "each refusal that can be says so", "see the refusal's text"));
        }
    }
    let kind = |fence| match fence {
        Fence::Trigger => FenceKind::Trigger,
        Fence::Revoke => FenceKind::Revoke,
        Fence::ReadOnly => FenceKind::ReadOnly,
        Fence::Command => FenceKind::Command,
    };
    Ok(Policy {
        fence: args.fence.map(kind),
        budget_seconds: args.budget.0.as_secs().max(1),
        immediate: args.immediate,
        hooks: Hooks {
            on_fence: args.on_fence.clone(),
            on_open: args.on_open.clone(),
            on_abort: args.on_abort.clone(),
        },
        sequence_margin: args.sequence_margin,
        accept,
        ..Policy::default()
    })
}

fn not_that_way(direction: Direction) -> Problem {
    let closing = direction.closing();
    Problem::definite(
        "CT002",
        format!("{direction} does not fit the state of the migration"),
        format!("it closes the {closing}, which is not open"),
        "see tidegate status; cutover opens the target, failback the source again",
    )
}

fn goes_on(direction: Direction) -> Problem {
    let next = format!("let it go on: tidegate {direction}; or undo it, if that is still possible: --abort");
    Problem::definite(
        "CT003",
        "a turn of this migration is unfinished",
        "there is nothing to plan before it has ended",
        next,
    )
}
