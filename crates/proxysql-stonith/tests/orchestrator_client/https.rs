//! TLS is verified, and says what to do when it can't be (design §12).

use crate::client::*;
use std::ops::Range;

use crate::pki::{EXPIRED, NOT_YET_VALID, Pki, VALID};

fn serve(pki: &Pki, name: &str, years: Range<i32>) -> Server {
    Server::start_tls(pki.serving(name, years, false), |request| well(1, 1, &request.path))
}

fn trusting(pki: &Pki) -> TlsSettings {
    TlsSettings { ca_file: Some(pki.ca_file()), ..TlsSettings::default() }
}

async fn look_over_tls(url: String, tls: TlsSettings) -> LeaderView {
    look(&mut Client::new(Settings { tls, ..settings(&[url]) }).unwrap(), NOTHING_MORE).await
}

#[tokio::test]
async fn https_is_verified_with_an_own_ca_by_name_and_by_address() {
    let pki = Pki::new();
    for (name, host) in [("localhost", "localhost"), ("127.0.0.1", "127.0.0.1")] {
        let server = serve(&pki, name, VALID);
        let answer = led(look_over_tls(server.url_as(host), trusting(&pki)).await);
        assert_eq!(answer.downtimes.len(), 1);
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn i9_a_certificate_that_does_not_verify_is_blind_and_the_error_says_what_to_do() {
    let (pki, other) = (Pki::new(), Pki::new());
    let good = serve(&pki, "localhost", VALID);
    let expired = serve(&pki, "localhost", EXPIRED);
    let not_yet = serve(&pki, "localhost", NOT_YET_VALID);
    let misnamed = serve(&pki, "orc1.example", VALID);
    for (what, server, tls, says) in [
        ("another CA", &good, trusting(&other), "ca_file to the CA that signed"),
        ("expired", &expired, trusting(&pki), "Renew"),
        ("not yet valid", &not_yet, trusting(&pki), "host's clock"),
        ("another name", &misnamed, trusting(&pki), "a name that is in Orchestrator's certificate"),
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
    let server = Server::start_tls(pki.serving("localhost", VALID, true), |request| well(1, 1, &request.path));
    let why = blind(look_over_tls(server.url_as("localhost"), trusting(&pki)).await);
    assert!(why.contains("orchestrator.client_cert"), "{why}");
    let client = Some(pki.client_certificate());
    led(look_over_tls(server.url_as("localhost"), TlsSettings { client, ..trusting(&pki) }).await);
}

#[tokio::test]
async fn a_ca_and_a_client_certificate_that_were_replaced_are_read_again() {
    let (pki, before) = (Pki::new(), Pki::new());
    let server = Server::start_tls(pki.serving("localhost", VALID, true), |request| well(1, 1, &request.path));
    let tls = TlsSettings { client: Some(before.client_certificate()), ..trusting(&before) };
    let mut client = Client::new(Settings { tls, ..settings(&[server.url_as("localhost")]) }).unwrap();
    blind(look(&mut client, NOTHING_MORE).await);
    let (certificate, key) = before.client_certificate();
    std::fs::write(&certificate, "half of it").unwrap();
    blind(look(&mut client, NOTHING_MORE).await);
    let (new_certificate, new_key) = pki.client_certificate();
    for (from, to) in [(pki.ca_file(), before.ca_file()), (new_certificate, certificate), (new_key, key)] {
        std::fs::copy(from, to).unwrap();
    }
    led(look(&mut client, NOTHING_MORE).await);
}

#[test]
fn a_private_key_that_others_can_read_is_refused_with_the_way_out() {
    let pki = Pki::new();
    let (certificate, key) = pki.client_certificate();
    let client = || {
        let tls = TlsSettings { client: Some((certificate.clone(), key.clone())), ..trusting(&pki) };
        Client::new(Settings { tls, ..settings(&["https://localhost:1".to_owned()]) }).map(drop)
    };
    assert!(client().is_ok(), "the control");
    for mode in [0o644, 0o660, 0o604] {
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let error = client().unwrap_err().to_string();
        assert!(error.contains(&format!("chmod g-w,o-rwx {}", key.display())), "{error}");
    }
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
    let why = blind(look_over_tls(format!("https://localhost:{}", address.port()), trusting(&pki)).await);
    assert!(why.contains("is the endpoint http://"), "{why}");
    let server = serve(&pki, "localhost", VALID);
    let why = blind(look_over_tls(server.url_as("localhost").replace("https", "http"), trusting(&pki)).await);
    assert!(why.contains("unusable answer"), "{why}");
}

#[tokio::test]
async fn a_connection_that_breaks_during_the_tls_handshake_is_silent_not_blind() {
    // A load balancer with nobody behind it: a cut-off proxy must not hold for it.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let why = silent(look_over_tls(format!("https://localhost:{}", address.port()), trusting(&Pki::new())).await);
    assert!(why.contains("was not reached"), "{why}");
}

#[tokio::test]
async fn a_tls_handshake_that_hangs_costs_no_more_than_connect_timeout() {
    let server = Server::start(|_| Reply::Hang);
    let start = Instant::now();
    let why = silent(look_over_tls(server.url().replace("http", "https"), trusting(&Pki::new())).await);
    assert!(why.contains("did not take a connection within 500ms"), "{why}");
    assert!(start.elapsed() < Duration::from_millis(500) + SLACK, "{:?}", start.elapsed());
}
