//! TLS to ProxySQL's admin interface. There is none without a check of who answers: it would keep nobody out.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error, RootCertStore};

use super::wire::WireError;
use crate::tls::{self, JudgedBy, TlsError};
use crate::untrusted_text::one_line;

/// What a certificate has to prove. The words are those of the MySQL client's `--ssl-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerCheck {
    /// That the CA signed it, for whichever name: the certificate that ProxySQL makes for itself carries none.
    Ca,
    /// That, and that it is for the name or address that is connected to.
    Identity,
}

/// TLS, ready to connect.
#[derive(Clone)]
pub struct Tls {
    check: ServerCheck,
    connector: TlsConnector,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("check", &self.check).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the CA; `None` is the system's.
    ///
    /// # Errors
    /// It can't be read, or the system has none.
    pub fn new(check: ServerCheck, ca_file: Option<&Path>) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let roots = tls::roots(ca_file)?;
        if roots.is_empty() {
            return Err(TlsError::NoSystemCas("ProxySQL"));
        }
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Client(error.to_string()))?;
        let builder = match check {
            ServerCheck::Identity => builder.with_root_certificates(roots),
            ServerCheck::Ca => builder.dangerous().with_custom_certificate_verifier(signed_by_ca(roots, provider)),
        };
        Ok(Self { check, connector: TlsConnector::from(Arc::new(builder.with_no_client_auth())) })
    }

    /// The connector, and the name that a certificate may have to carry.
    pub(super) fn towards(&self, host: &str) -> Result<(&TlsConnector, ServerName<'static>), WireError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| WireError::Tls {
            cause: error.to_string(),
            advice: "Name ProxySQL by a host name or an address that a certificate can have",
        })?;
        Ok((&self.connector, name))
    }
}

/// A TLS handshake that failed, and what to do about it.
pub(super) fn failure(error: io::Error) -> WireError {
    use CertificateError as Bad;
    let Some(found) = tls::found(&error) else { return error.into() };
    let advice = match found {
        Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "Renew ProxySQL's certificate (PROXYSQL RELOAD TLS), or set this host's clock right"
        }
        Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => "Set this host's clock right",
        Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            "Name ProxySQL by a name that is in its certificate, or set tls = \"verify-ca\" with a CA of its own, such \
             as the proxysql-ca.pem in its data directory"
        }
        Error::InvalidCertificate(_) => {
            "Let ca_file name the CA that signed ProxySQL's certificate: the proxysql-ca.pem in its data directory, \
             unless it was given another"
        }
        _ => "Check ProxySQL's certificate, and ca_file",
    };
    WireError::Tls { cause: one_line(&found.to_string()), advice }
}

/// [`ServerCheck::Ca`].
fn signed_by_ca(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
    Arc::new(JudgedBy::new(provider, move |certificate, intermediates, now, provider| {
        let algorithms = provider.signature_verification_algorithms.all;
        let certificate = ParsedCertificate::try_from(certificate)?;
        verify_server_cert_signed_by_trust_anchor(&certificate, &roots, intermediates, now, algorithms)
    }))
}
