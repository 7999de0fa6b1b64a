//! Floating-point numbers: by the value that the text stands for at the type's own precision.

use super::Equality;

/// All bits of NaN mean the same.
const NAN: &[u8] = b"NaN";

/// Appends a number of 8 bytes. `None`: the text is not one.
pub(super) fn double(text: &[u8], equality: Equality, out: &mut Vec<u8>) -> Option<()> {
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    if value.is_nan() {
        out.extend_from_slice(NAN);
        return Some(());
    }
    let value = if equality == Equality::Meaning && value == 0.0 { 0.0 } else { value };
    out.extend_from_slice(&value.to_bits().to_be_bytes());
    Some(())
}

/// Appends a number of 4 bytes. `None`: the text is not one.
pub(super) fn single(text: &[u8], equality: Equality, out: &mut Vec<u8>) -> Option<()> {
    let value: f32 = std::str::from_utf8(text).ok()?.parse().ok()?;
    if value.is_nan() {
        out.extend_from_slice(NAN);
        return Some(());
    }
    let value = if equality == Equality::Meaning && value == 0.0 { 0.0 } else { value };
    out.extend_from_slice(&value.to_bits().to_be_bytes());
    Some(())
}
