//! TLS to a server that speaks MySQL's protocol. The server is always verified: TLS without that protects from nobody.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{TlsProblem, WireError};
use crate::tls::{self, JudgedBy, ReadFiles, TlsError};

/// What a certificate has to prove. The words are from the MySQL client's `--ssl-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerCheck {
    /// The CA signed it, for any name. The certificate that ProxySQL makes for itself has no name.
    Ca,
    /// The CA signed it, and it is for the name or address that is connected to.
    Identity,
}

/// TLS settings, ready to connect.
#[derive(Clone)]
pub struct Tls {
    check: ServerCheck,
    ca_file: Option<PathBuf>,
    server: &'static str,
    files: ReadFiles,
    connector: TlsConnector,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("check", &self.check).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the CA; `None` means the system's CAs. `server` is what an error calls the server.
    ///
    /// # Errors
    /// The file can't be read, or the system has no CAs.
    pub fn new(check: ServerCheck, ca_file: Option<&Path>, server: &'static str) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let files = ReadFiles::note(ca_file.map(Path::to_owned));
        let roots = tls::roots(ca_file)?;
        if roots.is_empty() {
            return Err(TlsError::NoSystemCas(server));
        }
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Client(error.to_string()))?;
        let builder = match check {
            ServerCheck::Identity => builder.with_root_certificates(roots),
            ServerCheck::Ca => builder.dangerous().with_custom_certificate_verifier(signed_by_ca(roots, provider)),
        };
        let connector = TlsConnector::from(Arc::new(builder.with_no_client_auth()));
        Ok(Self { check, server, ca_file: ca_file.map(Path::to_owned), files, connector })
    }

    /// Reads the CA again if its file has changed. A file that cannot be read changes nothing.
    pub fn read_again(&mut self) {
        if self.files.changed().is_some()
            && let Ok(tls) = Self::new(self.check, self.ca_file.as_deref(), self.server)
        {
            *self = tls;
        }
    }

    /// The connector, and the name that a certificate may have to contain.
    ///
    /// # Errors
    /// No certificate can be for this name.
    pub fn towards(&self, host: &str) -> Result<(&TlsConnector, ServerName<'static>), WireError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| TlsProblem::NoName(error.to_string()))?;
        Ok((&self.connector, name))
    }
}

/// The error for a failed TLS handshake.
pub(super) fn failure(error: io::Error) -> WireError {
    match tls::found(&error) {
        Some(found) => TlsProblem::Handshake(found.clone()).into(),
        None => error.into(),
    }
}

/// A verifier for [`ServerCheck::Ca`].
fn signed_by_ca(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
    Arc::new(JudgedBy::new(provider, move |certificate, intermediates, now, provider| {
        let algorithms = provider.signature_verification_algorithms.all;
        let certificate = ParsedCertificate::try_from(certificate)?;
        verify_server_cert_signed_by_trust_anchor(&certificate, &roots, intermediates, now, algorithms)
    }))
}
