//! Positions in JSON: the tagged text that state tables store.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tidegate_model::Position;

pub(crate) fn serialize<S: Serializer>(position: &Option<Position>, serializer: S) -> Result<S::Ok, S::Error> {
    position.as_ref().map(Position::to_string).serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Position>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse()).transpose().map_err(de::Error::custom)
}
