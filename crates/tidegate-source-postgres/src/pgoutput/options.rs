//! What is asked of the plugin.

/// Returns the highest protocol version that a server of this `server_version_num` and this program both speak.
pub fn newest_protocol(server_version_num: u32) -> u8 {
    match server_version_num / 10_000 {
        ..14 => 1,
        14 => 2,
        15 => 3,
        16.. => super::PROTOCOL_MAX,
    }
}

/// Returns the parenthesised options of `START_REPLICATION ... LOGICAL`: `protocol` with streaming where it has it, the
/// changes of `publication`, logical messages, values as text. Understood by servers from version 14 on.
pub fn options(protocol: u8, publication: &str) -> String {
    let streaming = match protocol {
        ..2 => "",
        // Of 'parallel' only the position in Stream Abort is seen; without it the server may leave that out.
        2 | 3 => ", streaming 'on'",
        4.. => ", streaming 'parallel'",
    };
    // A list of identifiers inside of a string literal: quoted twice.
    let names = publication.replace('"', "\"\"").replace('\'', "''");
    format!("(proto_version '{protocol}'{streaming}, publication_names '\"{names}\"', messages 'true', binary 'false')")
}
