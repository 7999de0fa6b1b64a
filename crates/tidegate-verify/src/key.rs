//! What identifies a row.

use std::fmt;

/// The length that stands for NULL.
const NULL: u32 = u32::MAX;

/// The values that identify a row, in the text of the side they were read from and in the order of
/// [`TableMap::key`](tidegate_model::TableMap); for a table without a key the whole row. One allocation, because there
/// may be a great many of them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Each value with its length in front.
    bytes: Box<[u8]>,
}

impl Key {
    /// Returns the values; `None` is NULL, which only rows without a key have.
    pub fn values(&self) -> impl Iterator<Item = Option<&[u8]>> {
        let mut rest = &*self.bytes;
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let length = u32::from_be_bytes(*length);
            let size = if length == NULL { 0 } else { length as usize };
            let (value, after) = after.split_at(size);
            rest = after;
            Some((length != NULL).then_some(value))
        })
    }

    /// Returns how much memory the values take.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl<'a> FromIterator<Option<&'a [u8]>> for Key {
    /// # Panics
    /// If a value has 4 GiB or more: no server has such a value.
    fn from_iter<I: IntoIterator<Item = Option<&'a [u8]>>>(values: I) -> Self {
        let mut bytes = Vec::new();
        for value in values {
            let length = value.map_or(NULL, |text| u32::try_from(text.len()).expect("a value is smaller than 4 GiB"));
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(value.unwrap_or_default());
        }
        Key { bytes: bytes.into_boxed_slice() }
    }
}

impl fmt::Debug for Key {
    /// Shows the shape, not the values: keys are other people's data, and logs travel.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} values, {} bytes)", self.values().count(), self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_give_back_what_was_put_in_and_show_none_of_it() {
        let values = [Some(&b"secret"[..]), None, Some(&b""[..])];
        let key: Key = values.into_iter().collect();
        assert!(key.values().eq(values));
        assert!(!format!("{key:?}").contains("secret"));
    }
}
