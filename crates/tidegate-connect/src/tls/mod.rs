//! TLS as libpq users expect it: the modes of `sslmode`, client certificates, channel binding.

mod binding;
mod certificate;
mod verifier;

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tidegate_model::Problem;

pub(crate) use self::binding::server_end_point;
use self::verifier::{Chain, Verifier};
use crate::settings::{ClientCertificate, Roots, TlsMode, TlsSettings, TlsVersion};

/// The protocol name of direct TLS (manual section 55.2.11).
pub(crate) const ALPN: &[u8] = b"postgresql";

/// Reads the files that the settings name and makes the configuration of one connection's TLS session. Called for each
/// connection, so that renewed certificates are taken up. Errors are definite (`CN008`).
pub(crate) fn client_config(settings: &TlsSettings) -> Result<Arc<ClientConfig>, Problem> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new(&provider, chain(settings, &provider)?);
    let versions: Vec<&SupportedProtocolVersion> = [(TlsVersion::V12, &TLS12), (TlsVersion::V13, &TLS13)]
        .into_iter()
        .filter(|(version, _)| (settings.version_min..=settings.version_max).contains(version))
        .map(|(_, supported)| supported)
        .collect();
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .expect("the provider has cipher suites for both versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &settings.certificate {
        Some(own) => {
            let (certificates, key) = own_certificate(own)?;
            builder
                .with_client_auth_cert(certificates, key)
                .map_err(|error| unusable("client certificate", &own.certificate, &error.to_string()))?
        }
        None => builder.with_no_client_auth(),
    };
    config.enable_sni = settings.server_name_sent;
    if settings.direct {
        config.alpn_protocols = vec![ALPN.to_vec()];
    }
    Ok(Arc::new(config))
}

/// What a server's certificate is checked against; `None`: only encrypted, which is what `prefer` and `require` mean
/// where no root certificate is configured.
fn chain(settings: &TlsSettings, provider: &Arc<CryptoProvider>) -> Result<Option<Chain>, Problem> {
    let certificates = match &settings.roots {
        Roots::Absent { .. } if settings.mode < TlsMode::VerifyCa => return Ok(None),
        Roots::Absent { default } => return Err(no_roots(default.as_deref())),
        Roots::File(path) => certificates(path, "root certificate file")?,
        Roots::System => rustls_native_certs::load_native_certs().certs,
    };
    let mut store = RootCertStore::empty();
    let (taken, _) = store.add_parsable_certificates(certificates.iter().cloned());
    let origin = match &settings.roots {
        Roots::File(path) => path.display().to_string(),
        Roots::System | Roots::Absent { .. } => "the operating system's store".to_owned(),
    };
    if taken == 0 {
        return Err(unusable("root certificates", Path::new(&origin), "none of them can be used"));
    }
    let revoked = settings.revoked.as_deref().map(revocation_lists).transpose()?.unwrap_or_default();
    let checks_revocation = !revoked.is_empty();
    let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
        .with_crls(revoked)
        .build()
        .map_err(|error| unusable("root certificates", Path::new(&origin), &error.to_string()))?;
    // A certificate that is listed itself stands for itself, but a revocation list must then be asked by the chain.
    let listed = if checks_revocation { Vec::new() } else { certificates };
    Ok(Some(Chain { webpki, listed, checks_name: settings.mode == TlsMode::VerifyFull }))
}

fn certificates(path: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let read = CertificateDer::pem_file_iter(path).and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>());
    match read {
        Ok(certificates) if certificates.is_empty() => Err(unusable(what, path, "it holds no PEM certificate")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unusable(what, path, &error.to_string())),
    }
}

fn revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, Problem> {
    let read = CertificateRevocationListDer::pem_file_iter(path).and_then(|lists| lists.collect::<Result<Vec<_>, _>>());
    match read {
        Ok(lists) if lists.is_empty() => Err(unusable("revocation list", path, "it holds no PEM revocation list")),
        Ok(lists) => Ok(lists),
        Err(error) => Err(unusable("revocation list", path, &error.to_string())),
    }
}

fn own_certificate(own: &ClientCertificate) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Problem> {
    let certificates = certificates(&own.certificate, "client certificate file")?;
    key_is_private(&own.key)?;
    let key = PrivateKeyDer::from_pem_file(&own.key).map_err(|error| {
        unusable("client key file", &own.key, &format!("{error} (an encrypted key must be decrypted first)"))
    })?;
    Ok((certificates, key))
}

/// Refuses a key that others may read, by libpq's rule: mode 0600 or less, or 0640 or less when root owns it.
fn key_is_private(path: &Path) -> Result<(), Problem> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let metadata = std::fs::metadata(path).map_err(|error| unusable("client key file", path, &error.to_string()))?;
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & forbidden == 0 {
        return Ok(());
    }
    let why = format!("group or others may access it (mode {mode:04o}; 0600, or 0640 if root owns it)");
    Err(unusable("client key file", path, &why))
}

fn no_roots(default: Option<&Path>) -> Problem {
    let missing = default.map_or("no home directory".to_owned(), |path| format!("{} does not exist", path.display()));
    Problem::definite(
        "CN008",
        "no root certificate to verify the server with",
        format!("\"sslmode\" is verify-ca or verify-full, \"sslrootcert\" is not given and {missing}"),
        "name the authority's file in \"sslrootcert\", or use \"sslrootcert=system\" for public authorities",
    )
}

fn unusable(what: &str, path: &Path, why: &str) -> Problem {
    let what = format!("{what} \"{}\" cannot be used", path.display());
    Problem::definite("CN008", what, why, "correct the file or the connection parameter that names it")
}
