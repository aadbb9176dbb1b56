//! Whether the server's certificate is accepted, by libpq's rules.
//!
//! Chains, validity, purposes and signatures are rustls' business. Ours are three things that PostgreSQL's users rely on and it does not know: modes that
//! check less, a server's own self-signed certificate as `root.crt`, and a host name in the common name of a certificate without alternative names.

use super::certificates::root_store;
use aws_lc_rs::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// How much is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Only that the server has the key of the certificate it shows.
    Nothing,
    /// That an authority has signed it.
    Chain,
    /// And that it is this host's.
    ChainAndName,
}

#[derive(Debug)]
pub(super) struct Verifier {
    check: Check,
    trusted: Vec<CertificateDer<'static>>,
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(
        check: Check,
        trusted: Vec<CertificateDer<'static>>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<Self, String> {
        Ok(Self { check, roots: root_store(&trusted)?, trusted, algorithms })
    }

    fn chain(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        // The usual certificate of a server that somebody set up by hand is its own authority, which rustls refuses as the end of a chain.
        // As a root it is trusted by its bytes; that it holds today must be looked at all the same.
        if self.trusted.iter().any(|trusted| trusted == certificate) {
            return within_validity(certificate, now);
        }
        let parsed = ParsedCertificate::try_from(certificate)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )
        .map_err(|error| in_plain_words(error, certificate))
    }
}

/// rustls says of a self-signed certificate only that an authority is no server; what is wrong is that nobody trusts it.
fn in_plain_words(error: Error, certificate: &CertificateDer<'_>) -> Error {
    let is_other = matches!(error, Error::InvalidCertificate(CertificateError::Other(_)));
    match Certificate::from_der(certificate).map(|parsed| parsed.tbs_certificate) {
        Ok(own) if is_other && own.issuer == own.subject => CertificateError::UnknownIssuer.into(),
        _ => error,
    }
}

fn within_validity(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let parsed = Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let validity = &parsed.tbs_certificate.validity;
    let [not_before, not_after] = [&validity.not_before, &validity.not_after]
        .map(|time| UnixTime::since_unix_epoch(time.to_unix_duration()));
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
    }
    if now > not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
    }
    Ok(())
}

fn name(certificate: &CertificateDer<'_>, host: &ServerName<'_>) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    let refused = match verify_server_name(&parsed, host) {
        Ok(()) => return Ok(()),
        Err(refused) => refused,
    };
    match (host, common_name_without_alternatives(certificate)) {
        (ServerName::DnsName(host), Some(name)) if name_matches(&name, host.as_ref()) => Ok(()),
        _ => Err(refused),
    }
}

/// The common name, where there is no alternative name of a host or address: then libpq goes by it (`pgtls_verify_peer_name_matches_certificate_guts`).
fn common_name_without_alternatives(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = Certificate::from_der(certificate).ok()?.tbs_certificate;
    let alternatives = parsed.get::<SubjectAltName>().ok()?;
    let names_host = |name: &GeneralName| matches!(name, GeneralName::DnsName(_) | GeneralName::IpAddress(_));
    if alternatives.is_some_and(|(_, SubjectAltName(names))| names.iter().any(names_host)) {
        return None;
    }
    let mut attributes = parsed.subject.0.iter().flat_map(|part| part.0.iter());
    let value = &attributes.find(|attribute| attribute.oid == COMMON_NAME)?.value;
    let text = Utf8StringRef::try_from(value).map(|text| text.as_str().to_owned());
    let text = text.or_else(|_| PrintableStringRef::try_from(value).map(|text| text.as_str().to_owned()));
    let text = text.or_else(|_| Ia5StringRef::try_from(value).map(|text| text.as_str().to_owned()));
    text.or_else(|_| TeletexStringRef::try_from(value).map(|text| text.as_str().to_owned())).ok()
}

/// `*.` stands for one label, as in libpq's `wildcard_certificate_match`.
fn name_matches(pattern: &str, host: &str) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    let rest = pattern.strip_prefix('*').filter(|rest| rest.starts_with('.') && rest.len() > 1);
    match (rest, host.split_once('.')) {
        (Some(rest), Some((label, domain))) => !label.is_empty() && rest[1..].eq_ignore_ascii_case(domain),
        _ => false,
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.check != Check::Nothing {
            self.chain(end_entity, intermediates, now)?;
        }
        if self.check == Check::ChainAndName {
            name(end_entity, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// RFC 5929, section 4.1: the hash of the signature's algorithm, and SHA-256 in the place of MD5 and SHA-1.
pub(super) fn end_point_hash(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let algorithm = match parsed.signature_algorithm.oid.to_string().as_str() {
        // RSA with MD5, SHA-1, SHA-256; ECDSA with SHA-1, SHA-256.
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.113549.1.1.11" => &digest::SHA256,
        "1.2.840.10045.4.1" | "1.2.840.10045.4.3.2" => &digest::SHA256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &digest::SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_label() {
        assert!(name_matches("DB.example", "db.example"));
        assert!(name_matches("*.example", "db.EXAMPLE"));
        for (pattern, host) in [
            ("*.example", "a.db.example"),
            ("*", "db"),
            ("*.", "db."),
            ("d*.example", "db.example"),
            ("*.example", ".example"),
        ] {
            assert!(!name_matches(pattern, host), "{pattern} {host}");
        }
    }
}
