//! The check of a server's certificate, with what libpq leaves out in each mode left out.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::certificate::{common_name_matches, is_valid_at, public_key};

/// What a certificate is checked against.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) webpki: Arc<WebPkiServerVerifier>,
    /// Certificates of the root file. One that a server presents itself (self-signed, as the manual shows how to make
    /// them) is trusted as it is; the Web's rules would refuse it, for an authority may not be a server.
    pub(super) listed: Vec<CertificateDer<'static>>,
    pub(super) checks_name: bool,
}

/// Checks a server's certificate; without a chain only that the server holds its key, which channel binding needs.
#[derive(Debug)]
pub(super) struct Verifier {
    chain: Option<Chain>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(provider: &CryptoProvider, chain: Option<Chain>) -> Self {
        Verifier { chain, algorithms: provider.signature_verification_algorithms }
    }
}

impl Chain {
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let checked = if self.listed.iter().any(|listed| listed.as_ref() == certificate.as_ref()) {
            verify_listed(certificate, name, now)
        } else {
            // The chain is checked first, the name last: an error about the name says that the chain is good.
            self.webpki.verify_server_cert(certificate, intermediates, name, &[], now).map(|_| ())
        };
        match checked {
            Err(Error::InvalidCertificate(reason)) if is_about_the_name(&reason) => {
                if !self.checks_name || common_name_matches(certificate, name) {
                    return Ok(());
                }
                Err(Error::InvalidCertificate(reason))
            }
            other => other,
        }
    }
}

fn verify_listed(certificate: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<(), Error> {
    if !is_valid_at(certificate, now) {
        return Err(Error::InvalidCertificate(CertificateError::Expired));
    }
    match ParsedCertificate::try_from(certificate) {
        Ok(parsed) => verify_server_name(&parsed, name),
        // Version 1 of X.509 has no alternative names; only its common name can fit.
        Err(_) => Err(Error::InvalidCertificate(CertificateError::NotValidForName)),
    }
}

fn is_about_the_name(reason: &CertificateError) -> bool {
    matches!(reason, CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(chain) = &self.chain {
            chain.verify(certificate, intermediates, name, now)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match verify_tls13_signature(message, certificate, signed, &self.algorithms) {
            // Certificates of version 1 are not read there, but their key is as good as any.
            Err(Error::InvalidCertificate(reason)) => match public_key(certificate) {
                Some(key) => verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms),
                None => Err(Error::InvalidCertificate(reason)),
            },
            other => other,
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
