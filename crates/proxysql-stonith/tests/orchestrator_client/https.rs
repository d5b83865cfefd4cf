//! TLS is verified, and says what to do when it can't be (DESIGN §12).

use crate::client::*;

/// A CA, what it signs, and the files that a config names.
struct Pki {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    ca: rcgen::Certificate,
    dir: tempfile::TempDir,
}

impl Pki {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "a test's CA");
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
        Self { issuer: rcgen::Issuer::new(params, key), ca, dir }
    }

    fn sign(&self, name: &str, not_after_year: i32) -> (rcgen::Certificate, rcgen::KeyPair) {
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(not_after_year, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// How an Orchestrator serves a certificate for this name; `clients` must show one of this CA if it says so.
    fn serving(&self, name: &str, not_after_year: i32, clients: bool) -> Arc<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let (certificate, key) = self.sign(name, not_after_year);
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

    fn serve(&self, name: &str, not_after_year: i32) -> Server {
        Server::start_tls(self.serving(name, not_after_year, false), |request| well(1, 1, &request.path))
    }

    fn ca_file(&self) -> TlsSettings {
        TlsSettings { ca_file: Some(self.dir.path().join("ca.pem")), ..TlsSettings::default() }
    }

    fn client_certificate(&self) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.sign("agent", 2099);
        let paths = (self.dir.path().join("agent.pem"), self.dir.path().join("agent.key"));
        std::fs::write(&paths.0, certificate.pem()).unwrap();
        std::fs::write(&paths.1, key.serialize_pem()).unwrap();
        std::fs::set_permissions(&paths.1, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        paths
    }
}

async fn look_over_tls(url: String, tls: TlsSettings) -> LeaderView {
    look(&mut Client::new(Settings { tls, ..settings(&[url]) }).unwrap(), NOTHING_MORE).await
}

#[tokio::test]
async fn https_is_verified_with_an_own_ca_by_name_and_by_address() {
    let pki = Pki::new();
    for (name, host) in [("localhost", "localhost"), ("127.0.0.1", "127.0.0.1")] {
        let server = pki.serve(name, 2099);
        let answer = led(look_over_tls(server.url_as(host), pki.ca_file()).await);
        assert_eq!(answer.downtimes.len(), 1);
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn i9_a_certificate_that_does_not_verify_is_blind_and_the_error_says_what_to_do() {
    let (pki, other) = (Pki::new(), Pki::new());
    let good = pki.serve("localhost", 2099);
    let expired = pki.serve("localhost", 2020);
    let misnamed = pki.serve("orc1.example", 2099);
    for (what, server, tls, says) in [
        ("another CA", &good, other.ca_file(), "orchestrator.ca_file"),
        ("expired", &expired, pki.ca_file(), "Renew"),
        ("another name", &misnamed, pki.ca_file(), "a name that is in Orchestrator's certificate"),
    ] {
        let why = blind(look_over_tls(server.url_as("localhost"), tls).await);
        assert!(why.contains("TLS failed") && why.contains(says), "{what}: {why}");
        assert!(server.asked().is_empty(), "{what}: it was asked all the same");
        // Named so, and only then, any certificate will do.
        let insecure = TlsSettings { insecure: true, ..TlsSettings::default() };
        led(look_over_tls(server.url_as("localhost"), insecure).await);
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_orchestrator_asks_for_one_and_missing_it_is_blind() {
    let pki = Pki::new();
    let server = Server::start_tls(pki.serving("localhost", 2099, true), |request| well(1, 1, &request.path));
    let why = blind(look_over_tls(server.url_as("localhost"), pki.ca_file()).await);
    assert!(why.contains("orchestrator.client_cert"), "{why}");
    let client = Some(pki.client_certificate());
    led(look_over_tls(server.url_as("localhost"), TlsSettings { client, ..pki.ca_file() }).await);
}

#[tokio::test]
async fn https_where_http_is_spoken_and_the_other_way_round_is_blind_and_told() {
    let pki = Pki::new();
    // Go's http server answers a TLS hello so.
    let answers_first = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = answers_first.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in answers_first.incoming() {
            let mut stream = stream.unwrap();
            let _ = std::io::Read::read(&mut stream, &mut [0; 64]);
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let why = blind(look_over_tls(format!("https://localhost:{}", address.port()), pki.ca_file()).await);
    assert!(why.contains("is the endpoint http://"), "{why}");
    let server = pki.serve("localhost", 2099);
    let why = blind(look_over_tls(server.url_as("localhost").replace("https", "http"), pki.ca_file()).await);
    assert!(why.contains("can't be used"), "{why}");
}

#[tokio::test]
async fn a_connection_that_breaks_during_the_tls_handshake_is_silent_not_blind() {
    // A load balancer with nobody behind it: a cut-off proxy must not hold for it.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let why = silent(look_over_tls(format!("https://localhost:{}", address.port()), Pki::new().ca_file()).await);
    assert!(why.contains("was not reached"), "{why}");
}

#[tokio::test]
async fn a_tls_handshake_that_hangs_costs_no_more_than_connect_timeout() {
    let server = Server::start(|_| Reply::Hang);
    let start = Instant::now();
    let why = silent(look_over_tls(server.url().replace("http", "https"), Pki::new().ca_file()).await);
    assert!(why.contains("did not take a connection within 500ms"), "{why}");
    assert!(start.elapsed() < Duration::from_millis(500) + SLACK, "{:?}", start.elapsed());
}
