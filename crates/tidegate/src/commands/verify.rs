//! `verify`: are both sides equal?

use serde_json::Value;
use tidegate_control::Direction;
use tidegate_model::Problem;
use tidegate_sql::requests::{self, Request, VERIFY};
use tidegate_verify::{Report, Verdict};

use super::asking;
use crate::cli::VerifyArgs;
use crate::config::{Migration, PipelineOptions};
use crate::engine::{Ends, Flow, VerifyWishes, unfinished_turn};
use crate::output::{Exit, Failure, print_json, say};

pub async fn run(args: VerifyArgs) -> Result<Exit, Failure> {
    let migration = Migration::read(&args.migration, PipelineOptions::default()).map_err(Failure::unknown)?;
    let ends = Ends::connect(&migration).await.map_err(Failure::unknown)?;
    let stream = asking::flowing(&migration, &ends).await?;
    if args.repair
        && let Some(turn) = unfinished_turn(&migration, &ends).await.map_err(Failure::unknown)?
    {
        return Err(Failure::unknown(turns(turn)));
    }
    let wishes = VerifyWishes {
        tables: args.migration.tables.clone(),
        exact: args.exact,
        values: args.values,
        rate: args.rate,
        repair: args.repair,
        weak: args.weak,
    };
    let request = Request {
        id: requests::new_request_id(),
        kind: VERIFY.to_owned(),
        arguments: serde_json::to_value(wishes).expect("wishes are plain data"),
    };
    let flow = Flow { migration: &migration, ends: &ends, stream };
    let answer = asking::ask(flow, &request, args.timeout.0, show_progress).await;
    // An owner that could not compare has not said that anything differs.
    let answer = answer.map_err(|failure| match failure.exit {
        Exit::Negative => Failure::unknown(failure.problem),
        _ => failure,
    })?;
    let report: Report = serde_json::from_value(answer).map_err(|error| {
        let what = "the owner's report cannot be read";
        Failure::unknown(Problem::definite("MI009", what, error.to_string(), "use matching programs"))
    })?;
    if args.migration.json {
        print_json(&report);
    } else {
        say!("{report}");
    }
    Ok(match report.verdict {
        Verdict::Equal => Exit::Done,
        Verdict::Different => Exit::Negative,
        Verdict::Unknown => Exit::Unknown,
    })
}

fn turns(direction: Direction) -> Problem {
    Problem::definite(
        "CT003",
        "a turn of this migration is unfinished",
        "what differs may be what applications write at the side that it opens, so nothing is repaired meanwhile",
        format!("let it go on: tidegate {direction}; or undo it, if that is still possible: --abort"),
    )
}

fn show_progress(progress: &Value) {
    if let Some(said) = progress["said"].as_str() {
        return eprintln!("{said}");
    }
    let table = progress["table"].as_str().unwrap_or_default();
    eprintln!("comparing {table} ({} of {})", progress["number"], progress["of"]);
}
