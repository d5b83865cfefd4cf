//! TLS to Orchestrator, with ring, verified by the system's CAs or a configured one.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error};

pub use crate::tls::TlsError;
use crate::tls::{self, JudgedBy, ReadFiles};

/// How certificates are verified.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    /// Accept any certificate. This is never the default.
    pub insecure: bool,
    /// The CAs to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The agent's own certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl TlsSettings {
    /// The files that are read.
    pub(super) fn files(&self) -> ReadFiles {
        let own = self.client.iter().flat_map(|(certificate, key)| [certificate, key]);
        ReadFiles::note(self.ca_file.iter().chain(own).cloned())
    }
}

/// Makes a connector for these settings.
///
/// # Errors
/// A file can't be read, or the system has no CAs.
pub fn connector(settings: &TlsSettings) -> Result<TlsConnector, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let roots = tls::roots(settings.ca_file.as_deref())?;
    if roots.is_empty() && !settings.insecure {
        return Err(TlsError::NoSystemCas("Orchestrator"));
    }
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Client(error.to_string()))?;
    let builder = if settings.insecure {
        // `tls_verify = false` accepts any certificate if the peer holds its key.
        let any = JudgedBy::new(provider, |_, _, _, _| Ok(()));
        builder.dangerous().with_custom_certificate_verifier(Arc::new(any))
    } else {
        builder.with_root_certificates(roots)
    };
    let config = match &settings.client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let private = tls::private_key(key)?;
            builder
                .with_client_auth_cert(tls::certificates(certificate, "a certificate")?, private)
                .map_err(|error| TlsError::Client(error.to_string()))?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The TLS error among the sources of an error, and what to do about it.
pub fn cause_and_advice(error: &(dyn StdError + 'static)) -> Option<(String, &'static str)> {
    tls::found(error).map(|found| (found.to_string(), advice(found)))
}

fn advice(error: &Error) -> &'static str {
    use CertificateError as Bad;
    match error {
        Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "Renew Orchestrator's certificate, or correct this host's clock"
        }
        Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => "Correct this host's clock",
        Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            "Use an endpoint URL with a name that is in Orchestrator's certificate"
        }
        Error::InvalidCertificate(_) => "Set orchestrator.ca_file to the CA that signed Orchestrator's certificate",
        Error::AlertReceived(_) => {
            "Orchestrator refused the client certificate: check orchestrator.client_cert and orchestrator.client_key"
        }
        Error::InvalidMessage(_) => "It does not speak TLS: is the endpoint http://, not https://?",
        _ => "Check Orchestrator's certificate, and orchestrator.ca_file",
    }
}
