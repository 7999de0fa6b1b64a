//! What a certificate says: read leniently, as libpq does, where the Web's rules are stricter.

use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use x509_cert::Certificate;
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, Utf8StringRef};
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;
use x509_cert::der::oid::db::rfc5280::ID_CE_SUBJECT_ALT_NAME;
use x509_cert::der::{Decode, Encode};

/// Tells whether a certificate that lists no alternative names stands for `name` by its common name. (The Web gave
/// common names up; private certificate authorities of databases did not, and libpq accepts them.)
pub(super) fn common_name_matches(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    let ServerName::DnsName(name) = name else { return false };
    let Ok(certificate) = Certificate::from_der(certificate) else { return false };
    let extensions = certificate.tbs_certificate.extensions.iter().flatten();
    if extensions.into_iter().any(|extension| extension.extn_id == ID_CE_SUBJECT_ALT_NAME) {
        return false;
    }
    common_name(&certificate).is_some_and(|pattern| matches(&pattern, name.as_ref()))
}

fn common_name(certificate: &Certificate) -> Option<String> {
    let attributes = certificate.tbs_certificate.subject.0.iter().flat_map(|set| set.0.iter());
    let value = &attributes.into_iter().find(|attribute| attribute.oid == COMMON_NAME)?.value;
    let utf8 = value.decode_as::<Utf8StringRef<'_>>().map(|text| text.as_str().to_owned());
    let printable = || value.decode_as::<PrintableStringRef<'_>>().map(|text| text.as_str().to_owned());
    let ia5 = || value.decode_as::<Ia5StringRef<'_>>().map(|text| text.as_str().to_owned());
    utf8.or_else(|_| printable()).or_else(|_| ia5()).ok()
}

/// Compares by libpq's rule: equal without regard to case, or `*.rest` for exactly one label before `.rest`.
fn matches(pattern: &str, name: &str) -> bool {
    if pattern.eq_ignore_ascii_case(name) {
        return true;
    }
    let (Some(rest), Some((label, name_rest))) = (pattern.strip_prefix("*."), name.split_once('.')) else {
        return false;
    };
    !label.is_empty() && rest.contains('.') && rest.eq_ignore_ascii_case(name_rest)
}

/// Tells whether `now` lies in the time a certificate is valid for.
pub(super) fn is_valid_at(certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
    let Ok(certificate) = Certificate::from_der(certificate) else { return false };
    let validity = certificate.tbs_certificate.validity;
    let seconds = now.as_secs();
    let after = validity.not_before.to_unix_duration().as_secs();
    (after..=validity.not_after.to_unix_duration().as_secs()).contains(&seconds)
}

/// Returns the public key of a certificate.
pub(super) fn public_key(certificate: &CertificateDer<'_>) -> Option<SubjectPublicKeyInfoDer<'static>> {
    let certificate = Certificate::from_der(certificate).ok()?;
    certificate.tbs_certificate.subject_public_key_info.to_der().ok().map(SubjectPublicKeyInfoDer::from)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_wildcard_stands_for_one_label() {
        for (pattern, name) in [("db", "DB"), ("*.example.com", "db.example.com")] {
            assert!(matches(pattern, name), "{pattern} should match {name}");
        }
        for (pattern, name) in [("*.example.com", "a.b.example.com"), ("*.com", "a.com"), ("*", "db"), ("db", "db2")] {
            assert!(!matches(pattern, name), "{pattern} should not match {name}");
        }
    }
}
