//! What TLS to Orchestrator and TLS to ProxySQL have in common: PEM files, CAs, and what TLS itself found wrong.

use std::error::Error as StdError;
use std::path::{Path, PathBuf};

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{Error, RootCertStore};

use crate::files::{Links, NOT_SECRET, Regular};

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
    /// Others can read the key, or change it.
    #[error(
        "others than its owner and its group can read the private key {path}, or others than its owner can change it \
         (mode {mode:04o}); do: chmod g-w,o-rwx {path}"
    )]
    OpenKey {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
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
    let (bytes, _) = pem(path).map_err(file)?;
    let read = CertificateDer::pem_slice_iter(&bytes);
    let read: Vec<_> = read.collect::<Result<_, _>>().map_err(|error| file(error.to_string()))?;
    if read.is_empty() { Err(file("no certificate in it".to_owned())) } else { Ok(read) }
}

/// The private key in a PEM file that nobody else may read.
///
/// # Errors
/// It can't be read, has none, or others can read it.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let file = |cause: String| TlsError::File { path: path.to_owned(), what: "a private key", cause };
    let (bytes, mode) = pem(path).map_err(file)?;
    if mode & NOT_SECRET != 0 {
        return Err(TlsError::OpenKey { path: path.to_owned(), mode });
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| file(error.to_string()))
}

/// The largest PEM file that is read, in bytes: a system's bundle of CAs has a fifth of it.
const PEM_MAX_BYTES: u64 = 1024 * 1024;

/// A PEM file, and its mode.
fn pem(path: &Path) -> Result<(Vec<u8>, u32), String> {
    let file = Regular::open(path, Links::Follow).map_err(|error| error.to_string())?;
    let mode = file.mode;
    Ok((file.read(PEM_MAX_BYTES).map_err(|error| error.to_string())?, mode))
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
