//! The files of TLS: trusted authorities, the client's certificate and its key, as libpq looks for them.

use super::verify::{Check, Verifier};
use super::{SYSTEM_ROOTS, SslMode, Tls};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a server of PostgreSQL 17 and later asks for by this name; older ones ignore it.
const ALPN: &[u8] = b"postgresql";

/// Makes rustls' configuration; errors complete "the connection parameters are not valid: ...".
pub(super) fn client_config(tls: &Tls) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let trusted = trusted(tls)?;
    let check = match (tls.mode, &trusted) {
        (SslMode::VerifyFull, _) => Check::ChainAndName,
        // As libpq: where authorities are given, the server must be theirs, in every mode.
        (_, Some(_)) => Check::Chain,
        (_, None) => Check::Nothing,
    };
    let verifier = Verifier::new(check, trusted.unwrap_or_default(), algorithms)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match own_certificate(tls)? {
        None => builder.with_no_client_auth(),
        Some(own) => builder.with_client_auth_cert(own.chain, own.key).map_err(|error| {
            format!("{} and {} do not go together: {error}", own.chain_file.display(), own.key_file.display())
        })?,
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// Where a file is: as given, else in `~/.postgresql` if it is there.
fn place(given: Option<&Path>, tls: &Tls, name: &str) -> Option<PathBuf> {
    let usual = || tls.folder.as_ref().map(|folder| folder.join(name)).filter(|path| path.exists());
    given.map(Path::to_owned).or_else(usual)
}

fn trusted(tls: &Tls) -> Result<Option<Vec<CertificateDer<'static>>>, String> {
    let given = tls.options.sslrootcert.as_deref();
    if given == Some(SYSTEM_ROOTS) {
        let found = rustls_native_certs::load_native_certs();
        return match (found.certs.is_empty(), found.errors.first()) {
            (true, Some(error)) => {
                Err(format!("the system's trusted authorities could not be read: {error}"))
            }
            (true, None) => Err("the system has no trusted authorities (package ca-certificates)".to_owned()),
            (false, _) => Ok(Some(found.certs)),
        };
    }
    let verifies = matches!(tls.mode, SslMode::VerifyCa | SslMode::VerifyFull);
    match place(given.map(Path::new), tls, "root.crt") {
        // libpq passes over one that is named and not there, unless it was to verify. Here what is named must be there.
        Some(file) => certificates(&file, "root certificates").map(Some),
        None if verifies => Err(
            "sslmode asks for a check of the server's certificate, and there are no root certificates: name them as sslrootcert, or \
             `system` for those of the operating system"
                .to_owned(),
        ),
        None => Ok(None),
    }
}

struct OwnCertificate {
    chain: Vec<CertificateDer<'static>>,
    chain_file: PathBuf,
    key: PrivateKeyDer<'static>,
    key_file: PathBuf,
}

fn own_certificate(tls: &Tls) -> Result<Option<OwnCertificate>, String> {
    let Some(chain_file) = place(tls.options.sslcert.as_deref(), tls, "postgresql.crt") else {
        return Ok(None);
    };
    let key_file = place(tls.options.sslkey.as_deref(), tls, "postgresql.key").ok_or_else(|| {
        format!("there is a certificate {}, but no private key: name it as sslkey", chain_file.display())
    })?;
    let chain = certificates(&chain_file, "the client's certificate")?;
    Ok(Some(OwnCertificate { chain, chain_file, key: private_key(&key_file)?, key_file }))
}

fn certificates(file: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let fail = |why: String| format!("could not read {what} in {}: {why}", file.display());
    let pem = fs::read(file).map_err(|error| fail(error.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(fail("it holds no certificate in PEM form".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(fail(error.to_string())),
    }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let fail = |why: String| format!("could not use the private key {}: {why}", file.display());
    let metadata = fs::metadata(file).map_err(|error: io::Error| fail(error.to_string()))?;
    // libpq (`fe-secure-openssl.c`): a key of root's may be read by a group, another by its owner alone.
    let closed = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & closed != 0 {
        return Err(fail("others may read it; its mode must be 0600, or 0640 when root owns it".to_owned()));
    }
    let pem = fs::read(file).map_err(|error| fail(error.to_string()))?;
    if pem.windows(9).any(|part| part == b"ENCRYPTED") {
        return Err(fail("it is protected by a passphrase, which pgproof cannot ask for".to_owned()));
    }
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| fail(error.to_string()))
}

/// The store of authorities that rustls builds chains to.
pub(super) fn root_store(trusted: &[CertificateDer<'static>]) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    let (_, unusable) = store.add_parsable_certificates(trusted.iter().cloned());
    match store.is_empty() && unusable > 0 {
        true => Err("none of the root certificates can be used".to_owned()),
        false => Ok(store),
    }
}
