//! A CA, what it signs, and the files that a config names.

#![allow(dead_code, reason = "each suite uses a part of it")]

use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// The years of a certificate that is valid, and of two that are not.
pub const VALID: Range<i32> = 2019..2099;
pub const EXPIRED: Range<i32> = 2019..2020;
pub const NOT_YET_VALID: Range<i32> = 2098..2099;

pub struct Pki {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    ca: rcgen::Certificate,
    dir: tempfile::TempDir,
}

impl Pki {
    pub fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "a test's CA");
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
        Self { issuer: rcgen::Issuer::new(params, key), ca, dir }
    }

    /// A server's certificate for this name; `clients` must show one of this CA if it says so.
    pub fn serving(&self, name: &str, years: Range<i32>, clients: bool) -> Arc<ServerConfig> {
        self.serving_names(&[name], years, clients)
    }

    /// The same for several names; for none, as ProxySQL makes its own.
    pub fn serving_names(&self, names: &[&str], years: Range<i32>, clients: bool) -> Arc<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let (certificate, key) = self.sign(names, years);
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = if clients {
            let mut roots = RootCertStore::empty();
            roots.add(self.ca.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Arc::new(builder.with_single_cert(vec![certificate.der().clone()], key).unwrap())
    }

    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub fn client_certificate(&self) -> (PathBuf, PathBuf) {
        self.files("agent", &["agent"])
    }

    /// A server's certificate for these names, and its key, as files.
    pub fn server_files(&self, names: &[&str]) -> (PathBuf, PathBuf) {
        self.files("server", names)
    }

    fn files(&self, stem: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.sign(names, VALID);
        let paths = (self.dir.path().join(format!("{stem}.pem")), self.dir.path().join(format!("{stem}.key")));
        std::fs::write(&paths.0, certificate.pem()).unwrap();
        std::fs::write(&paths.1, key.serialize_pem()).unwrap();
        std::fs::set_permissions(&paths.1, std::fs::Permissions::from_mode(0o600)).unwrap();
        paths
    }

    fn sign(&self, names: &[&str], years: Range<i32>) -> (rcgen::Certificate, rcgen::KeyPair) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        // Orchestrator looks at the unit of a client's certificate.
        params.distinguished_name.push(rcgen::DnType::OrganizationalUnitName, "stonith");
        params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}
