//! Network addresses: a mask of all bits may be left out, and a long address has several spellings.

use std::net::IpAddr;

/// Appends address and length of the network. `None`: the text is not an address.
pub(super) fn write(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let text = std::str::from_utf8(text).ok()?;
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    match address {
        IpAddr::V4(v4) => out.extend_from_slice(&v4.octets()),
        IpAddr::V6(v6) => out.extend_from_slice(&v6.octets()),
    }
    out.push(length.unwrap_or(if address.is_ipv4() { 32 } else { 128 }));
    Some(())
}
