//! The wrapped envelope: `{"after": {...}, "before": {...}, "mvcc_timestamp": "...", "updated": "..."}`, or
//! `{"resolved":"..."}`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tidegate_model::Hlc;

use super::problem::MessageError;

/// The members of a message, not yet looked into. A member that is missing is told from one that is null.
#[derive(Debug, Default)]
pub(super) struct Wrapped<'a> {
    pub after: Option<&'a RawValue>,
    pub before: Option<&'a RawValue>,
    pub key: Option<&'a RawValue>,
    pub topic: Option<Cow<'a, str>>,
    pub mvcc: Option<Hlc>,
    pub updated: Option<Hlc>,
    pub resolved: Option<Hlc>,
}

impl<'a> Wrapped<'a> {
    pub(super) fn parse(value: &'a [u8]) -> Result<Self, MessageError> {
        if value.is_empty() {
            return Err(MessageError::Empty);
        }
        let text = std::str::from_utf8(value).map_err(|_| MessageError::NotUtf8)?;
        // The parser's own words for it would repeat the value.
        if !text.trim_ascii_start().starts_with('{') {
            return Err(MessageError::NotObject);
        }
        Ok(serde_json::from_str(text)?)
    }

    /// Says which member a message of a row lacks, or has too many.
    pub(super) fn incomplete(&self) -> MessageError {
        match self {
            Wrapped { resolved: Some(_), .. } => MessageError::ResolvedRow,
            Wrapped { after: None, .. } => MessageError::Missing("after"),
            _ => MessageError::Missing("updated"),
        }
    }
}

/// The members that are looked at. Others (`op`, `source`, what newer servers add) say nothing about the row.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Member {
    After,
    Before,
    Key,
    Topic,
    MvccTimestamp,
    Updated,
    Resolved,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Wrapped<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Wrapped<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Wrapped<'de>, A::Error> {
        let mut wrapped = Wrapped::default();
        while let Some(member) = map.next_key()? {
            match member {
                Member::After => once(&mut wrapped.after, "after", map.next_value()?)?,
                Member::Before => once(&mut wrapped.before, "before", map.next_value()?)?,
                Member::Key => once(&mut wrapped.key, "key", map.next_value()?)?,
                Member::Topic => once(&mut wrapped.topic, "topic", map.next_value::<Text<'de>>()?.0)?,
                Member::MvccTimestamp => once(&mut wrapped.mvcc, "mvcc_timestamp", timestamp(&mut map)?)?,
                Member::Updated => once(&mut wrapped.updated, "updated", timestamp(&mut map)?)?,
                Member::Resolved => once(&mut wrapped.resolved, "resolved", timestamp(&mut map)?)?,
                Member::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(wrapped)
    }
}

/// A string, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn once<T, E: serde::de::Error>(place: &mut Option<T>, name: &'static str, value: T) -> Result<(), E> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::duplicate_field(name)),
    }
}

fn timestamp<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Hlc, A::Error> {
    map.next_value::<Text<'de>>()?.0.parse().map_err(serde::de::Error::custom)
}
