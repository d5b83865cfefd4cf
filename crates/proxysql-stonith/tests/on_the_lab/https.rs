//! The program over https, with basic auth and a client certificate: the lab's Orchestrator behind a relay that ends TLS.

use std::sync::Arc;

use lab::nodes::Nodes;
use lab::{orchestrator, proxysql};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::pki::{Pki, VALID};
use crate::stage::Stage;

/// A relay to this endpoint; its URL.
pub async fn in_front_of(endpoint: &str, tls: Arc<ServerConfig>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let behind = endpoint.trim_start_matches("http://").to_owned();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, behind) = (TlsAcceptor::from(tls.clone()), behind.clone());
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(stream).await else { return };
                let mut server = TcpStream::connect(behind).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    format!("https://localhost:{port}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_fences_over_https_with_basic_auth_and_a_client_certificate_and_holds_if_any_of_it_is_wrong() {
    let auth = Some(("orc".to_owned(), "sesame".to_owned()));
    let settings = orchestrator::Settings { auth, ..orchestrator::Settings::default() };
    let nodes = Nodes::new(&["node01", "node02", "node03"]);
    let stage = Stage::with(proxysql::Settings::default(), settings, nodes).await;
    let (pki, other) = (Pki::new(), Pki::new());
    let mut urls = Vec::new();
    for endpoint in stage.orchestrator.endpoints() {
        urls.push(in_front_of(&endpoint, pki.serving("localhost", VALID, true)).await);
    }
    let (cert, key) = pki.client_certificate();
    let ca = |pki: &Pki| format!("ca_file = {:?}\n", pki.ca_file());
    let client = format!("client_cert = {cert:?}\nclient_key = {key:?}\n");
    let password = "user = \"orc\"\npassword = \"sesame\"\n";
    let line = |section: &str| {
        let config = stage.config(&format!("[orchestrator]\n{section}"));
        format!("run --once {config} --orchestrator={}", urls.join(","))
    };
    let right = format!("{}{client}{password}", ca(&pki));
    let (text, code) = stage.stonith(&line(&right)).await;
    assert_eq!(code, 0, "{text}");
    stage.fail_over().await;
    stage.make_kept_lease_old();
    let before = stage.everything();
    for (section, says) in [
        (format!("{}{client}{password}", ca(&other)), "orchestrator.ca_file"),
        (format!("{}{password}", ca(&pki)), "orchestrator.client_cert"),
        (format!("{}{client}", ca(&pki)), "401"),
        (right.replace("sesame", "wrong"), "401"),
    ] {
        let run = line(&section);
        let (text, code) = stage.stonith(&run).await;
        assert_eq!(code, 1, "{says}: {text}");
        let (text, code) = stage.stonith(&run.replace("run --once", "status")).await;
        assert!(code == 1 && text.contains(says), "{says}: {code} {text}");
        assert_eq!(stage.everything(), before, "what can't be read is held, however old the lease: {text}");
    }
    let (text, code) = stage.stonith(&line(&right)).await;
    assert_eq!(code, 0, "{text}");
    assert!(stage.is_fenced("node01"), "{text}");
    let unverified = "orchestrator.tls_verify is false: anyone on the network path to Orchestrator can fence";
    for (more, says) in [("", false), ("tls_verify = false\n", true)] {
        let text = stage.succeeds(&line(&format!("{right}{more}"))).await;
        assert_eq!(text.contains(unverified), says, "{text}");
    }
}
