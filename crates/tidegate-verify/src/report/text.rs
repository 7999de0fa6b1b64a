//! Reports for people.

use std::fmt;

use super::{DifferenceKind, KeyReport, KeyText, Report, TableReport};

/// Longer values are cut in text, never in JSON.
const VALUE_CHARS_MAX: usize = 60;

/// As many keys of a table are shown in text; JSON has all that are listed.
const KEYS_SHOWN_MAX: usize = 20;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for table in &self.tables {
            write!(f, "{table}")?;
        }
        for sequence in &self.sequences {
            let (name, verdict) = (&sequence.name, sequence.verdict.as_str());
            writeln!(f, "sequence {name}: {verdict} (source {}, target {})", sequence.source, sequence.target)?;
        }
        if self.breaches_dropped > 0 {
            let count = self.breaches_dropped;
            writeln!(
                f,
                "given up: {count} transactions of others on the closed side; both sides are equal without them"
            )?;
        }
        let weak = if self.weak { " (weak: no fence was taken, rows were read until they agreed)" } else { "" };
        writeln!(f, "verdict: {}{weak}", self.verdict.as_str())
    }
}

impl fmt::Display for TableReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {}: {}", self.name, self.verdict.as_str())?;
        if !self.position.is_empty() {
            write!(f, " at {}, {} rows in {:.1} s", self.position, self.compared, self.seconds)?;
        }
        if self.differing() > 0 {
            write!(f, ", {} missing, {} extra, {} different", self.missing, self.extra, self.different)?;
        }
        if self.repaired > 0 {
            write!(f, ", {} repaired", self.repaired)?;
        }
        writeln!(f)?;
        if let Some(note) = &self.note {
            writeln!(f, "  note: {note}")?;
        }
        for key in self.keys.iter().take(KEYS_SHOWN_MAX) {
            write!(f, "{key}")?;
        }
        let hidden = self.differing().saturating_sub(self.keys.len().min(KEYS_SHOWN_MAX) as u64);
        if hidden > 0 { writeln!(f, "  and {hidden} more") } else { Ok(()) }
    }
}

impl fmt::Display for KeyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DifferenceKind::Missing => "missing",
            DifferenceKind::Extra => "extra",
            DifferenceKind::Different => "different",
        };
        write!(f, "  {kind} {}", self.key)?;
        if !self.columns.is_empty() {
            write!(f, " in {}", self.columns.join(", "))?;
        }
        writeln!(f)?;
        for value in &self.values {
            let (source, target) = (shown(value.source.as_deref()), shown(value.target.as_deref()));
            writeln!(f, "    {}: source {source}, target {target}", value.column)?;
        }
        Ok(())
    }
}

impl fmt::Display for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.0.iter().map(|(column, value)| format!("{column}={}", shown(value.as_deref())));
        write!(f, "({})", parts.collect::<Vec<_>>().join(", "))
    }
}

fn shown(value: Option<&str>) -> String {
    let Some(text) = value else { return "NULL".to_owned() };
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{:?} and {} bytes more", &text[..end], text.len() - end),
        None => format!("{text:?}"),
    }
}
