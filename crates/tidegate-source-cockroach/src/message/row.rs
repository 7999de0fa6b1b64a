//! A row of a feed: a JSON object of its columns.

use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use tidegate_model::{Row, RowBuilder};

use super::problem::RowError;
use crate::table::{Place, TableInfo};
use crate::value;

/// Reads rows. Holds memory for it: values come in the order of their names, and go out in that of the table.
#[derive(Debug, Default)]
pub(super) struct RowReader {
    values: Vec<u8>,
    cells: Vec<Cell>,
    seen: Vec<bool>,
}

#[derive(Clone, Copy, Debug)]
enum Cell {
    Missing,
    Null,
    Text { start: u32, len: u32 },
}

impl RowReader {
    pub(super) fn read(&mut self, table: &TableInfo, json: &RawValue) -> Result<Row, RowError> {
        // The parser's own words for it would repeat the value.
        if !json.get().starts_with('{') {
            return Err(RowError::NotObject);
        }
        self.values.clear();
        self.cells.clear();
        self.cells.resize(table.kinds.len(), Cell::Missing);
        self.seen.clear();
        self.seen.resize(table.places(), false);
        let mut error = None;
        let columns = Columns { table, reader: self, error: &mut error };
        let parsed = serde_json::Deserializer::from_str(json.get()).deserialize_map(columns);
        if let Some(error) = error {
            return Err(error);
        }
        parsed.map_err(RowError::Json)?;
        self.row(table)
    }

    fn row(&self, table: &TableInfo) -> Result<Row, RowError> {
        let mut row = RowBuilder::with_capacity(self.cells.len());
        for (at, cell) in self.cells.iter().enumerate() {
            match *cell {
                Cell::Null => row.null(),
                Cell::Text { start, len } => row.text_at(start, len),
                Cell::Missing => return Err(RowError::MissingColumn(table.table.columns[at].name.clone())),
            }
        }
        Ok(row.over(Bytes::copy_from_slice(&self.values)))
    }

    fn take(&mut self, table: &TableInfo, at: usize, json: &str) -> Result<(), RowError> {
        let column = || table.table.columns[at].name.clone();
        let start = self.values.len();
        let is_there = value::write(&table.kinds[at], json, &mut self.values)
            .map_err(|error| RowError::Value { column: column(), error })?;
        self.cells[at] = if is_there {
            let (start, len) = (u32::try_from(start), u32::try_from(self.values.len() - start));
            let (Ok(start), Ok(len)) = (start, len) else { return Err(RowError::TooLarge) };
            Cell::Text { start, len }
        } else {
            Cell::Null
        };
        Ok(())
    }
}

/// Takes the columns of a row as they come.
struct Columns<'a> {
    table: &'a TableInfo,
    reader: &'a mut RowReader,
    /// What is wrong beyond the JSON.
    error: &'a mut Option<RowError>,
}

impl<'de> Visitor<'de> for Columns<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of columns")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut refuse = |error| {
            *self.error = Some(error);
            Err(serde::de::Error::custom("refused"))
        };
        let mut guess = 0;
        while let Some(found) = map.next_key_seed(Name { table: self.table, guess })? {
            let (at, place) = match found {
                Ok(found) => found,
                Err(name) => return refuse(RowError::UnknownColumn(name)),
            };
            guess = at + 1;
            let value: &RawValue = map.next_value()?;
            if std::mem::replace(&mut self.reader.seen[at], true) {
                return refuse(RowError::TwiceColumn(self.table.place_name(at).clone()));
            }
            if let Place::Carried(at) = place
                && let Err(error) = self.reader.take(self.table, at, value.get())
            {
                return refuse(error);
            }
        }
        Ok(())
    }
}

/// Finds a column by its name without keeping the name.
struct Name<'a> {
    table: &'a TableInfo,
    guess: usize,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Result<(usize, Place), String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Result<(usize, Place), String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a column")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.table.place(name, self.guess).ok_or_else(|| name.to_owned()))
    }
}
