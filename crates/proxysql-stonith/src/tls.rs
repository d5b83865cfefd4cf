//! The common parts of TLS to Orchestrator and TLS to ProxySQL: PEM files, CAs and TLS errors.

use std::error::Error as StdError;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::files::{Links, OpenToOthers, Regular};

/// Why TLS can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be used.
    #[error("{path}: {cause}; expected a PEM file with {what}")]
    File {
        /// The file.
        path: PathBuf,
        /// What it should contain.
        what: &'static str,
        /// The reason.
        cause: String,
    },
    /// Other users can read or change the key.
    #[error(transparent)]
    OpenKey(#[from] OpenToOthers),
    /// The system has no CAs.
    #[error("the system has no CA certificates to verify {0} with: install ca-certificates, or set ca_file")]
    NoSystemCas(&'static str),
    /// The certificate and the key do not match.
    #[error("the client certificate cannot be used: {0}")]
    Client(String),
}

/// Reads the CAs in a file, or the system's.
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

/// The files of TLS settings as they were read, to see a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadFiles(Vec<(PathBuf, Option<Stamp>)>);

/// A file's number, size and time of change, in s and ns.
type Stamp = (u64, u64, i64, i64);

impl ReadFiles {
    /// Notes the files as they are now. They are to be read after this.
    pub fn note(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let stamp = |path: &Path| {
            let file = std::fs::metadata(path).ok()?;
            Some((file.ino(), file.len(), file.ctime(), file.ctime_nsec()))
        };
        Self(paths.into_iter().map(|path| (path.clone(), stamp(&path))).collect())
    }

    /// The files as they are now, if one of them has changed.
    pub fn changed(&self) -> Option<Self> {
        let now = Self::note(self.0.iter().map(|(path, _)| path.clone()));
        (now != *self).then_some(now)
    }
}

/// Reads the certificates in a PEM file, at least one.
///
/// # Errors
/// The file can't be read, or has no certificate.
pub fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file = |cause: String| TlsError::File { path: path.to_owned(), what, cause };
    let bytes = open(path, what)?.read(PEM_MAX_BYTES).map_err(|error| file(error.to_string()))?;
    let read = CertificateDer::pem_slice_iter(&bytes);
    let read: Vec<_> = read.collect::<Result<_, _>>().map_err(|error| file(error.to_string()))?;
    if read.is_empty() { Err(file("no certificate in it".to_owned())) } else { Ok(read) }
}

/// Reads the private key in a PEM file that must be closed to other users.
///
/// # Errors
/// The file can't be read, has no key, or is open to other users.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let what = "a private key";
    let file = |cause: String| TlsError::File { path: path.to_owned(), what, cause };
    let closed = open(path, what)?.closed_to_others("the private key", path)?;
    let bytes = closed.read(PEM_MAX_BYTES).map_err(|error| file(error.to_string()))?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| file(error.to_string()))
}

/// The largest PEM file that is read, in bytes. A system's bundle of CAs has a fifth of it.
const PEM_MAX_BYTES: u64 = 1024 * 1024;

fn open(path: &Path, what: &'static str) -> Result<Regular, TlsError> {
    let file = |cause: String| TlsError::File { path: path.to_owned(), what, cause };
    Regular::open(path, Links::Follow).map_err(|error| file(error.to_string()))
}

/// A verifier with its own rule for certificates. The proof that the server holds the key is checked as usual.
pub struct JudgedBy<J> {
    provider: Arc<CryptoProvider>,
    judge: J,
}

impl<J> JudgedBy<J> {
    /// Makes a verifier. `judge` gets the certificate, the intermediates, the time and the crypto provider.
    pub fn new(provider: Arc<CryptoProvider>, judge: J) -> Self
    where
        J: Fn(&CertificateDer<'_>, &[CertificateDer<'_>], UnixTime, &CryptoProvider) -> Result<(), Error>,
    {
        Self { provider, judge }
    }
}

impl<J> fmt::Debug for JudgedBy<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JudgedBy").finish_non_exhaustive()
    }
}

impl<J> ServerCertVerifier for JudgedBy<J>
where
    J: Fn(&CertificateDer<'_>, &[CertificateDer<'_>], UnixTime, &CryptoProvider) -> Result<(), Error> + Send + Sync,
{
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        (self.judge)(certificate, intermediates, now, &self.provider)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Finds a TLS error among the sources of an error.
pub fn found<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        // An I/O error does not list the error that it wraps as its source.
        let carried = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let found = carried.and_then(|carried| carried.downcast_ref()).or_else(|| error.downcast_ref::<Error>());
        if found.is_some() {
            return found;
        }
        next = carried.map(|carried| carried as &(dyn StdError + 'static)).or_else(|| error.source());
    }
    None
}
