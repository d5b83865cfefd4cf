//! What TLS to Orchestrator and TLS to ProxySQL have in common: PEM files, CAs, and what TLS itself found wrong.

use std::error::Error as StdError;
use std::path::{Path, PathBuf};

use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{Error, RootCertStore};

/// Why TLS can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("{path}: {cause}; expected a PEM file with {what}")]
    File {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// Why not.
        cause: String,
    },
    /// No CA at all.
    #[error("the system has no CA certificates to verify {0} with: install ca-certificates, or set ca_file")]
    NoSystemCas(&'static str),
    /// The certificate and the key don't fit.
    #[error("the client certificate cannot be used: {0}")]
    Client(String),
}

/// The CAs in a file, or the system's.
///
/// # Errors
/// The file can't be read.
pub fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => roots.add_parsable_certificates(certificates(path, "a CA certificate")?),
        None => roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    };
    Ok(roots)
}

/// The certificates in a PEM file, at least one.
///
/// # Errors
/// It can't be read, or has none.
pub fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file = |cause: String| TlsError::File { path: path.to_owned(), what, cause };
    let read = CertificateDer::pem_file_iter(path).map_err(|error| file(error.to_string()))?;
    let read: Vec<_> = read.collect::<Result<_, _>>().map_err(|error| file(error.to_string()))?;
    if read.is_empty() { Err(file("no certificate in it".to_owned())) } else { Ok(read) }
}

/// What TLS itself found wrong, somewhere below an error.
pub fn found<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        // An I/O error gives what it carries as its own text, not as its source.
        let carried = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let found = carried.and_then(|carried| carried.downcast_ref()).or_else(|| error.downcast_ref::<Error>());
        if found.is_some() {
            return found;
        }
        next = carried.map(|carried| carried as &(dyn StdError + 'static)).or_else(|| error.source());
    }
    None
}
