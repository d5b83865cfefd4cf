//! TLS to Orchestrator: verified by the system's CAs or an own one, with ring.

use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use crate::files::{Links, NOT_SECRET, Regular};

/// How certificates are judged.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    /// Accept any certificate: named so, never the default.
    pub insecure: bool,
    /// Trust these instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

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
    #[error(
        "the system has no CA certificates to verify Orchestrator with: install ca-certificates, or set orchestrator.ca_file"
    )]
    NoSystemCas,
    /// The certificate and the key don't fit.
    #[error("the client certificate cannot be used: {0}")]
    Client(String),
}

/// A connector for these settings.
///
/// # Errors
/// A file can't be read, or the system has no CAs.
pub fn connector(settings: &TlsSettings) -> Result<TlsConnector, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    match &settings.ca_file {
        Some(path) => roots.add_parsable_certificates(certificates(path, "a CA certificate")?),
        None => roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    };
    if roots.is_empty() && !settings.insecure {
        return Err(TlsError::NoSystemCas);
    }
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Client(error.to_string()))?;
    let builder = if settings.insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        builder.with_root_certificates(roots)
    };
    let config = match &settings.client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let private = private_key(key)?;
            builder
                .with_client_auth_cert(certificates(certificate, "a certificate")?, private)
                .map_err(|error| TlsError::Client(error.to_string()))?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// What TLS itself found wrong, somewhere below an error, and what to do about it.
pub fn cause_and_advice(error: &(dyn StdError + 'static)) -> Option<(String, &'static str)> {
    let mut next = Some(error);
    while let Some(error) = next {
        // An I/O error gives what it carries as its own text, not as its source.
        let carried = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let found = carried.and_then(|carried| carried.downcast_ref()).or_else(|| error.downcast_ref::<Error>());
        if let Some(found) = found {
            return Some((found.to_string(), advice(found)));
        }
        next = carried.map(|carried| carried as &(dyn StdError + 'static)).or_else(|| error.source());
    }
    None
}

fn advice(error: &Error) -> &'static str {
    use CertificateError as Bad;
    match error {
        Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "Renew Orchestrator's certificate, or set this host's clock right"
        }
        Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => "Set this host's clock right",
        Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            "Name the endpoint by a name that is in Orchestrator's certificate"
        }
        Error::InvalidCertificate(_) => "Let orchestrator.ca_file name the CA that signed Orchestrator's certificate",
        Error::AlertReceived(_) => {
            "Orchestrator refused us: check orchestrator.client_cert and orchestrator.client_key"
        }
        Error::InvalidMessage(_) => "It does not speak TLS: is the endpoint http://, not https://?",
        _ => "Check Orchestrator's certificate, and orchestrator.ca_file",
    }
}

/// The largest PEM file that is read, in bytes: a system's bundle of CAs has a fifth of it.
const PEM_MAX_BYTES: u64 = 1024 * 1024;

/// Reads a PEM file, and its mode.
fn pem(path: &Path) -> Result<(Vec<u8>, u32), String> {
    let file = Regular::open(path, Links::Follow).map_err(|error| error.to_string())?;
    let mode = file.mode;
    Ok((file.read(PEM_MAX_BYTES).map_err(|error| error.to_string())?, mode))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let file = |cause: String| TlsError::File { path: path.to_owned(), what: "a private key", cause };
    let (bytes, mode) = pem(path).map_err(file)?;
    if mode & NOT_SECRET != 0 {
        return Err(TlsError::OpenKey { path: path.to_owned(), mode });
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| file(error.to_string()))
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file = |cause: String| TlsError::File { path: path.to_owned(), what, cause };
    let (bytes, _) = pem(path).map_err(file)?;
    let read = CertificateDer::pem_slice_iter(&bytes);
    let read: Vec<_> = read.collect::<Result<_, _>>().map_err(|error| file(error.to_string()))?;
    if read.is_empty() { Err(file("no certificate in it".to_owned())) } else { Ok(read) }
}

/// `tls_verify = false`: takes any certificate, still checks that the peer holds its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
