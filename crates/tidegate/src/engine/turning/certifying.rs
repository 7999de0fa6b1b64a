//! The certificate of a turn, put together from what its steps recorded.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tidegate_control::{Certificate, SequenceProof, Step, StepTime, TableProof, TurnId, Verdict};
use tidegate_model::Problem;
use tidegate_sql::turn::{Recorded, StepRow};

use super::Turn;
use super::immediate::immediate;

impl Turn<'_> {
    /// Returns the certificate as JSON and text.
    pub(super) async fn certified(&self, id: TurnId) -> Result<Value, Problem> {
        let recorded = self.book(self.direction().opening()).recorded(&id.to_string()).await?;
        let Some(recorded) = recorded else {
            return Err(Problem::bug(
                "CT099",
                "a turn has left no record",
                format!("turn {id} is not at the opened side"),
            ));
        };
        let certificate = self.certificate(id, &recorded);
        Ok(json!({ "certificate": certificate, "text": certificate.to_string() }))
    }

    fn certificate(&self, id: TurnId, recorded: &Recorded) -> Certificate {
        let marker = recorded.detail(Step::Marker.name());
        let turn = recorded.detail(Step::Turn.name());
        let position = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
        Certificate {
            migration: self.migration().name.to_string(),
            id,
            direction: self.direction(),
            immediate: immediate(recorded),
            asked_by: self.request.asked_by.clone(),
            turned_at: turn["at"].as_str().unwrap_or_default().to_owned(),
            closed_at: position(&marker["position"]),
            opened_at: position(&turn["opened_at"]),
            tables: tables(recorded),
            sequences: serde_json::from_value::<Vec<SequenceProof>>(
                recorded.detail(Step::Sequences.name())["sequences"].clone(),
            )
            .unwrap_or_default(),
            steps: recorded.steps.iter().filter_map(step_time).collect(),
            write_blocked_ms: turn["write_blocked_ms"].as_u64().unwrap_or(0) + until_writable(recorded),
            resolved_wait_ms: millis(self.resolved_wait).max(turn["resolved_wait_ms"].as_u64().unwrap_or(0)),
            accepted: serde_json::from_value(recorded.detail(Step::Begin.name())["accepted"].clone())
                .unwrap_or_default(),
            breaches: recorded.detail(Step::Park.name())["breaches"].as_u64().unwrap_or(0),
            conflicts: serde_json::from_value(recorded.detail(Step::ConflictReport.name())["conflicts"].clone())
                .unwrap_or_default(),
        }
    }
}

fn tables(recorded: &Recorded) -> Vec<TableProof> {
    let whole = recorded.detail(Step::VerifyRounds.name())["rows"].as_object().cloned().unwrap_or_default();
    let block = &recorded.detail(Step::VerifyTouched.name())["rows"];
    let proof = |(name, rows): (&String, &Value)| TableProof {
        name: name.clone(),
        rows: rows.as_u64().unwrap_or(0),
        compared_in_block: block[name].as_u64().unwrap_or(0),
        checksum: None,
        verdict: Verdict::Equal,
    };
    whole.iter().map(proof).collect()
}

fn step_time(row: &StepRow) -> Option<StepTime> {
    let took = row.ended_at? - row.began_at?;
    Some(StepTime { step: Step::named(&row.name)?, took_ms: (took.max(0.0) * 1000.0) as u64 })
}

/// Returns for how long nobody could write after the turn itself, in milliseconds.
fn until_writable(recorded: &Recorded) -> u64 {
    let times = recorded.steps.iter().filter_map(step_time);
    times.filter(|time| matches!(time.step, Step::GiveBack | Step::OnOpen)).map(|time| time.took_ms).sum()
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The time of day, UTC, RFC 3339.
pub(super) fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    humantime::format_rfc3339_millis(UNIX_EPOCH + now).to_string()
}
