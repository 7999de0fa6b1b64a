//! A key as a report shows it.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidegate_model::TableMap;

use crate::key::Key;

/// Columns and their texts, in the order of the key. In JSON an object; a value that is no UTF-8 is shown as near as
/// may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyText(pub Vec<(String, Option<String>)>);

impl KeyText {
    pub(crate) fn new(key: &Key, table: &TableMap) -> KeyText {
        let all: Vec<usize> = (0..table.columns.len()).collect();
        let columns = if table.key.is_empty() { &all } else { &table.key };
        let value = |(index, value): (&usize, Option<&[u8]>)| {
            let text = value.map(|text| String::from_utf8_lossy(text).into_owned());
            (table.columns[*index].source.to_string(), text)
        };
        KeyText(columns.iter().zip(key.values()).map(value).collect())
    }
}

impl Serialize for KeyText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(column, value)| (column, value)))
    }
}

impl<'de> Deserialize<'de> for KeyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = KeyText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of columns and texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<KeyText, A::Error> {
        let mut key = Vec::new();
        while let Some(member) = members.next_entry()? {
            key.push(member);
        }
        Ok(KeyText(key))
    }
}
