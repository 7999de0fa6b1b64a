//! Channel binding: what ties a password exchange to the TLS session it runs in.

use ring::digest;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::oid::db::rfc5912;

/// Returns the `tls-server-end-point` data (RFC 5929 section 4.1) of a server's certificate: its hash, by the hash
/// function of its signature, with SHA-256 in the place of MD5 and SHA-1. `None` where the signature names no hash
/// function (Ed25519) or keeps it in parameters (RSA-PSS); libpq and the server then do without as well.
pub(crate) fn server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let algorithm = match parsed.signature_algorithm.oid {
        rfc5912::SHA_1_WITH_RSA_ENCRYPTION
        | rfc5912::MD_5_WITH_RSA_ENCRYPTION
        | rfc5912::SHA_256_WITH_RSA_ENCRYPTION
        | rfc5912::ECDSA_WITH_SHA_256 => &digest::SHA256,
        rfc5912::SHA_384_WITH_RSA_ENCRYPTION | rfc5912::ECDSA_WITH_SHA_384 => &digest::SHA384,
        rfc5912::SHA_512_WITH_RSA_ENCRYPTION | rfc5912::ECDSA_WITH_SHA_512 => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}
