//! What a comparison found.

mod key_text;
mod text;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_model::{Position, Problem, TableMap, TableName};

use crate::key::Key;
pub use key_text::KeyText;

/// The answer to "are both sides equal?".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// They are.
    Equal,
    /// They are not.
    Different,
    /// It could not be found out.
    Unknown,
}

impl Verdict {
    /// Returns the verdict on both: what differs differs, whatever is not known.
    pub fn and(self, other: Verdict) -> Verdict {
        match (self, other) {
            (Verdict::Different, _) | (_, Verdict::Different) => Verdict::Different,
            (Verdict::Unknown, _) | (_, Verdict::Unknown) => Verdict::Unknown,
            (Verdict::Equal, Verdict::Equal) => Verdict::Equal,
        }
    }

    /// Returns the word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Equal => "equal",
            Verdict::Different => "different",
            Verdict::Unknown => "unknown",
        }
    }
}

/// What a whole run found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// On everything together.
    pub verdict: Verdict,
    /// One for each table.
    pub tables: Vec<TableReport>,
    /// One for each sequence.
    pub sequences: Vec<SequenceReport>,
    /// Whether no fence was taken: rows were read again until both sides agreed, which proves less.
    #[serde(default)]
    pub weak: bool,
    /// How many transactions of others on the closed side were given up, because both sides are equal without them.
    #[serde(default)]
    pub breaches_dropped: u64,
}

/// What was found in one table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableReport {
    /// The source table, with its schema.
    pub name: String,
    /// On this table.
    pub verdict: Verdict,
    /// The point of the source's history at which it was compared; empty for a table that was not.
    pub position: String,
    /// How many rows of the source were compared.
    pub compared: u64,
    /// How many rows the target lacks.
    pub missing: u64,
    /// How many rows only the target has.
    pub extra: u64,
    /// How many rows of one key are not the same.
    pub different: u64,
    /// Which; not all of them where there are a great many.
    pub keys: Vec<KeyReport>,
    /// How many rows of the target were repaired. The counts above are those from before it, the verdict that from
    /// after it.
    #[serde(default)]
    pub repaired: u64,
    /// How long it took.
    pub seconds: f64,
    /// How many rows of the source a second were compared.
    pub rows_per_second: f64,
    /// What there is to say about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// In what a row differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DifferenceKind {
    /// The target lacks it.
    Missing,
    /// Only the target has it.
    Extra,
    /// Both have it, with other values.
    Different,
}

/// A row that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyReport {
    /// Its key; of a table without a key all of its values.
    pub key: KeyText,
    /// In what it differs.
    pub kind: DifferenceKind,
    /// The columns whose values differ, by their names at the source. Empty for a row that one side lacks.
    pub columns: Vec<String>,
    /// The values, where they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ColumnValues>,
    /// The key as it was read, for reading the row again; lost when a report is stored.
    #[serde(skip)]
    pub row: Option<Key>,
}

/// A value on both sides; `null` is NULL, or a row that is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnValues {
    /// The column's name at the source.
    pub column: String,
    /// Its text at the source.
    pub source: Option<String>,
    /// Its text at the target.
    pub target: Option<String>,
}

/// What was found about one sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceReport {
    /// The sequence, with its schema.
    pub name: String,
    /// What it is like at the source.
    pub source: String,
    /// What it is like at the target.
    pub target: String,
    /// On this sequence.
    pub verdict: Verdict,
}

impl Report {
    /// Puts a report together.
    pub fn new(tables: Vec<TableReport>, sequences: Vec<SequenceReport>) -> Report {
        let verdicts = tables.iter().map(|table| table.verdict).chain(sequences.iter().map(|one| one.verdict));
        let verdict = verdicts.fold(Verdict::Equal, Verdict::and);
        Report { verdict, tables, sequences, weak: false, breaches_dropped: 0 }
    }

    /// Says that no fence was taken for it.
    pub fn weakly(self) -> Report {
        Report { weak: true, ..self }
    }
}

impl TableReport {
    pub(crate) fn new(
        table: &TableMap,
        position: &Position,
        compared: u64,
        [missing, extra, different]: [u64; 3],
        keys: Vec<KeyReport>,
        note: Option<String>,
    ) -> TableReport {
        let verdict = if missing + extra + different == 0 { Verdict::Equal } else { Verdict::Different };
        TableReport {
            name: table.source.name.to_string(),
            verdict,
            position: position.to_string(),
            compared,
            missing,
            extra,
            different,
            keys,
            repaired: 0,
            seconds: 0.0,
            rows_per_second: 0.0,
            note,
        }
    }

    /// Reports a table that could not be compared.
    pub fn unread(name: &TableName, problem: &Problem) -> TableReport {
        TableReport {
            name: name.to_string(),
            verdict: Verdict::Unknown,
            position: String::new(),
            compared: 0,
            missing: 0,
            extra: 0,
            different: 0,
            keys: Vec::new(),
            repaired: 0,
            seconds: 0.0,
            rows_per_second: 0.0,
            note: Some(format!("[{}] {}: {}", problem.code, problem.what, problem.why)),
        }
    }

    pub(crate) fn took(&mut self, time: Duration) {
        self.seconds = time.as_secs_f64();
        self.rows_per_second = if self.seconds > 0.0 { self.compared as f64 / self.seconds } else { 0.0 };
    }

    /// Returns how many rows differ.
    pub fn differing(&self) -> u64 {
        self.missing + self.extra + self.different
    }
}

impl KeyReport {
    pub(crate) fn new(key: Key, kind: DifferenceKind, columns: Vec<String>, table: &TableMap) -> KeyReport {
        KeyReport { key: KeyText::new(&key, table), kind, columns, values: Vec::new(), row: Some(key) }
    }
}

#[cfg(test)]
mod tests;
