//! The certificate: what a turn can prove, written once it is over. Survives `finish`.

use std::fmt;

use serde::{Deserialize, Serialize};
use tidegate_model::Position;

use crate::direction::{Direction, Side};
use crate::observed::Verdict;
use crate::step::Step;
use crate::turning::TurnId;

/// What a turn can prove. Every time is passed in: nothing here reads a clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// The migration's name.
    pub migration: String,
    /// Which turn and attempt.
    pub id: TurnId,
    /// Which way.
    pub direction: Direction,
    /// Both sides were writable: nothing below proves equality.
    pub immediate: bool,
    /// Who asked for it, where known.
    pub asked_by: Option<String>,
    /// When the turn happened, UTC, RFC 3339.
    pub turned_at: String,
    /// The last position of the closed side that belongs to the migrated data: the marker after the fence.
    #[serde(with = "crate::position_text")]
    pub closed_at: Option<Position>,
    /// The commit of the drained checkpoint at the opened side: all after it is the application's.
    #[serde(with = "crate::position_text")]
    pub opened_at: Option<Position>,
    /// Tables, by name.
    pub tables: Vec<TableProof>,
    /// Sequences, by name.
    pub sequences: Vec<SequenceProof>,
    /// How long each step took.
    pub steps: Vec<StepTime>,
    /// How long nothing could be written: from the first attempt at a lock to the opening, hooks included, without the
    /// wait below; milliseconds.
    pub write_blocked_ms: u64,
    /// How long of the block went by waiting for the first resolved timestamp past the last revoke, which CockroachDB
    /// sends at its own pace; milliseconds. 0 where the closed side is PostgreSQL.
    pub resolved_wait_ms: u64,
    /// What the operator accepted, as codes.
    pub accepted: Vec<String>,
    /// Transactions of others at the opened side from before its opening. They are carried over behind the turn, where
    /// they may overwrite something newer.
    #[serde(default)]
    pub breaches: u64,
    /// Rows that both sides had changed by the time of the certificate.
    #[serde(default)]
    pub conflicts: Vec<ConflictSeen>,
}

/// A row that both sides have changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictSeen {
    /// The table, by its name at the source.
    pub table: String,
    /// Its key, for people.
    pub key: String,
    /// Where the source changed it, in its history.
    pub source: Vec<String>,
    /// Where the target changed it, in its history.
    pub target: Vec<String>,
    /// Whose row stays.
    pub kept: Side,
}

impl fmt::Display for ConflictSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = |places: &[String]| if places.is_empty() { "-".to_owned() } else { places.join(", ") };
        let (source, target) = (places(&self.source), places(&self.target));
        write!(f, "{} {}: source {source}, target {target}; kept the {}'s row", self.table, self.key, self.kept)
    }
}

/// What is known of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableProof {
    /// Its name at the closed side.
    pub name: String,
    /// Rows at both sides when last compared as a whole.
    pub rows: u64,
    /// Rows compared again inside the block.
    pub compared_in_block: u64,
    /// A checksum over the rows compared as a whole, where one was made.
    pub checksum: Option<String>,
    /// The verdict.
    pub verdict: Verdict,
}

/// Where a sequence stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceProof {
    /// Its name at the opened side.
    pub name: String,
    /// The last value used at the closed side; `None`: never called.
    pub closed_last: Option<i64>,
    /// The next value of the opened side.
    pub opened_next: i64,
}

/// How long a step took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTime {
    /// Which step.
    pub step: Step,
    /// Milliseconds, retries and a restart in between included.
    pub took_ms: u64,
}

impl Certificate {
    /// Returns the verdict over all tables: the worst of them. An immediate turn proves nothing, nor does one behind a
    /// breach.
    pub fn verdict(&self) -> Verdict {
        let worst = |verdict| self.tables.iter().any(|table| table.verdict == verdict);
        if worst(Verdict::Different) {
            Verdict::Different
        } else if self.immediate || self.breaches > 0 || worst(Verdict::Unknown) || worst(Verdict::NotRun) {
            Verdict::Unknown
        } else {
            Verdict::Equal
        }
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |position: &Option<Position>| position.as_ref().map_or("-".to_owned(), Position::to_string);
        writeln!(f, "certificate of {} {} of migration \"{}\"", self.direction, self.id, self.migration)?;
        if self.immediate {
            writeln!(f, "  IMMEDIATE: both sides were writable; equality is not proved")?;
        }
        writeln!(f, "  turned at      {}", self.turned_at)?;
        if let Some(who) = &self.asked_by {
            writeln!(f, "  asked for by   {who}")?;
        }
        writeln!(f, "  generation     {} -> {}", self.id.from(), self.id.to)?;
        writeln!(f, "  closed         {} at {}", self.direction.closing(), place(&self.closed_at))?;
        writeln!(f, "  opened         {} at {}", self.direction.opening(), place(&self.opened_at))?;
        writeln!(f, "  write-blocked  {} ms", self.write_blocked_ms)?;
        if self.resolved_wait_ms > 0 {
            writeln!(f, "  and waited     {} ms for a resolved timestamp", self.resolved_wait_ms)?;
        }
        if !self.accepted.is_empty() {
            writeln!(f, "  accepted       {}", self.accepted.join(", "))?;
        }
        if self.breaches > 0 {
            let (count, opening) = (self.breaches, self.direction.opening());
            writeln!(f, "  BREACH         {count} transactions by others at the {opening} before it was opened:")?;
            writeln!(f, "                 find the writer, then: tidegate verify --repair")?;
        }
        self.write_tables(f)?;
        self.write_sequences(f)?;
        for conflict in &self.conflicts {
            writeln!(f, "  conflict       {conflict}")?;
        }
        for step in &self.steps {
            writeln!(f, "  step           {:<20} {:>8} ms", step.step, step.took_ms)?;
        }
        write!(f, "  verdict        {}", self.verdict())
    }
}

impl Certificate {
    fn write_tables(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for table in &self.tables {
            let TableProof { name, rows, compared_in_block, verdict, .. } = table;
            let checksum = table.checksum.as_ref().map(|sum| format!(", checksum {sum}")).unwrap_or_default();
            writeln!(f, "  table          {name}: {verdict}, {rows} rows, {compared_in_block} in the block{checksum}")?;
        }
        Ok(())
    }

    fn write_sequences(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for SequenceProof { name, closed_last, opened_next } in &self.sequences {
            let last = closed_last.map_or("never called".to_owned(), |last| format!("last {last}"));
            writeln!(f, "  sequence       {name}: {last}, next {opened_next}")?;
        }
        Ok(())
    }
}
