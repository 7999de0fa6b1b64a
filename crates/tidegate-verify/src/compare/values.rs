//! The values of rows that differ, for those who ask for them.

use std::collections::HashMap;

use tidegate_model::{Problem, Row, Value};

use super::job::{End, Job};
use crate::key::Key;
use crate::repair::read_side;
use crate::report::{ColumnValues, DifferenceKind, KeyReport};

type RowsByKey = HashMap<u128, Row>;

impl Job {
    /// Reads the rows once more and adds what differs: of a row that is on one side only, all of it. Rows without a key
    /// are their own values.
    pub(super) async fn add_values(&self, keys: &mut [KeyReport]) -> Result<(), Problem> {
        if self.table().key.is_empty() || keys.is_empty() {
            return Ok(());
        }
        let (source, target) = (self.rows(End::Source, keys).await?, self.rows(End::Target, keys).await?);
        let mut scratch = Vec::new();
        for report in keys {
            let Some(key) = &report.row else { continue };
            let hash = self.layout().hash_key(key, &mut scratch);
            let is_shown = |name: &str| match report.kind {
                DifferenceKind::Different => report.columns.iter().any(|column| column == name),
                DifferenceKind::Missing | DifferenceKind::Extra => true,
            };
            for (index, column) in self.table().columns.iter().enumerate().filter(|(_, map)| is_shown(&map.source)) {
                let value = |rows: &RowsByKey| rows.get(&hash).and_then(|row| text(row.value(index)));
                let (source, target) = (value(&source), value(&target));
                report.values.push(ColumnValues { column: column.source.to_string(), source, target });
            }
        }
        Ok(())
    }

    async fn rows(&self, end: End, keys: &[KeyReport]) -> Result<RowsByKey, Problem> {
        let keys: Vec<Key> = keys.iter().filter_map(|report| report.row.clone()).collect();
        let rows = read_side(self.reading(end), self.layout(), &keys).await?;
        Ok(rows.into_iter().collect())
    }
}

fn text(value: Value<'_>) -> Option<String> {
    match value {
        Value::Text(text) | Value::Binary(text) => Some(String::from_utf8_lossy(text).into_owned()),
        Value::Null | Value::Unchanged => None,
    }
}
