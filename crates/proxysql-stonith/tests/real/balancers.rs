//! Orchestrator's variants, as they are installed: behind HAProxy and nginx, by https, with certificates and logins,
//! and below a URL prefix.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::pki::Pki;
use crate::world::{Access, Balancer, Binaries, Front, Haproxy, World, Writers, eventually};
use crate::{ISOLATION_AFTER, fences_a_failover, goes_out_of_service, guard, one_at_a_time, seconds};

/// The login that they ask for.
const USER: &str = "stonith";
const PASSWORD: &str = "a secret";

/// The change of the leader is no outage; a failover is fenced; that nobody answers is an outage, and the first leader ends it.
fn stands_all(mut world: World, writers: Writers) {
    let before = world.proxy.all_rows();
    world.proxy.stays(seconds(3), &before);
    let leader = world.leader();
    world.raft.signal(leader, "KILL");
    let killed = Instant::now();
    while world.raft.leader().is_none_or(|other| other == leader) {
        world.proxy.stays(Duration::from_millis(200), &before);
        assert!(killed.elapsed() < seconds(40), "another leader");
    }
    println!("--- another leader {:.1?} after the death of {leader}", killed.elapsed());
    world.proxy.stays(ISOLATION_AFTER, &before);
    assert_eq!(writers.errors(), Vec::<String>::new());
    world.raft.run(leader);

    let primary = fences_a_failover(&mut world);
    drop(writers);
    let cut = Instant::now();
    world.raft.members().for_each(|n| world.raft.signal(n, "STOP"));
    goes_out_of_service(&world.proxy, cut);
    world.raft.members().for_each(|n| world.raft.signal(n, "CONT"));
    eventually("back in service", seconds(30), || world.proxy.writer() == Some(primary) && world.proxy.write());
    assert!(world.proxy.has_fenced(1), "and the old primary is not");
    println!("--- the daemon's log\n{}", world.proxy.stonith_log());
}

fn addresses(world: &World) -> Vec<String> {
    world.raft.members().map(|n| world.raft.address(n)).collect()
}

fn behind_haproxy(mut world: World, how: Haproxy) {
    let Some(haproxy) = Balancer::haproxy(how, &addresses(&world)) else { return };
    world.proxy.set_orchestrator(haproxy.addresses().iter().map(|address| format!("http://{address}")).collect());
    let (world, writers) = guard(world);
    stands_all(world, writers);
}

#[test]
fn haproxy_in_http_mode_before_two_nodes_without_raft_is_a_way_to_the_active_one() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    behind_haproxy(World::with_shared_backend(binaries), Haproxy::HttpToAll);
}

#[test]
fn haproxy_in_tcp_mode_before_a_raft_is_a_way_to_its_leader() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    behind_haproxy(World::start(binaries), Haproxy::TcpToLeader);
}

/// What the agent needs to get through: the CA, a certificate, and a login.
fn config(pki: &Pki, login: &str) -> String {
    let (certificate, key) = pki.client_certificate();
    format!(
        "[orchestrator]\nca_file = {:?}\nclient_cert = {certificate:?}\nclient_key = {key:?}\n{login}",
        pki.ca_file()
    )
}

fn login() -> String {
    format!("user = {USER:?}\npassword = {PASSWORD:?}\n")
}

/// The controls: what lacks a certificate, the login or the CA is refused, and is told which.
fn are_refused(world: &World, pki: &Pki, without_certificate: &str) {
    let plain = format!("[orchestrator]\nca_file = {:?}\n{}", pki.ca_file(), login());
    for (says, config) in [(without_certificate, plain), ("401", config(pki, "")), ("ca_file", login_alone())] {
        world.proxy.set_config(&config);
        let (said, code) = world.proxy.command(&["config", "check", "--connect"]);
        let why = said.lines().find(|line| line.starts_with("Orchestrator ") && line.contains(says));
        println!("--- exit code {code}: {}", why.unwrap_or(&said));
        assert!(code != 0 && why.is_some(), "{says}: {said}");
    }
}

fn login_alone() -> String {
    format!("[orchestrator]\n{}", login())
}

#[test]
fn nginx_with_https_client_certificates_basic_auth_and_a_prefix_hands_on_to_proxy_auth() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let pki = Pki::new();
    let access = Access {
        config: json!({ "AuthenticationMethod": "proxy", "AuthUserHeader": "X-Forwarded-User",
            "PowerAuthUsers": ["dba"], "URLPrefix": "/orchestrator" }),
        scheme: "http",
        prefix: "/orchestrator",
        curl: vec!["-H".into(), "X-Forwarded-User: dba".into()],
    };
    let mut world = World::with_access(binaries, access);
    let (certificate, key) = pki.server_files(&["127.0.3.2"]);
    let ca = pki.ca_file();
    let front = Front {
        certificate: &certificate,
        key: &key,
        ca: &ca,
        prefix: "/orchestrator",
        user: USER,
        password: PASSWORD,
    };
    let Some(nginx) = Balancer::nginx(&front, &addresses(&world)) else { return };
    let url = |address: &String| format!("https://{address}/orchestrator");
    world.proxy.set_orchestrator(nginx.addresses().iter().map(url).collect());
    are_refused(&world, &pki, "certificate");
    assert_eq!(nginx.passed(), 0);
    world.proxy.set_config(&config(&pki, &login()));
    let (world, writers) = guard(world);
    eventually("requests through nginx", seconds(10), || nginx.passed() > 10);
    stands_all(world, writers);
}

#[test]
fn orchestrators_own_https_asks_for_a_certificate_and_a_login_below_a_prefix() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let pki = Pki::new();
    let (certificate, key) = pki.server_files(&["127.0.2.1", "127.0.2.2", "127.0.2.3"]);
    let (own_certificate, own_key) = pki.client_certificate();
    let curl = [
        "--cacert".into(),
        pki.ca_file().display().to_string(),
        "--cert".into(),
        own_certificate.display().to_string(),
        "--key".into(),
        own_key.display().to_string(),
        "-u".into(),
        format!("{USER}:{PASSWORD}"),
    ];
    let access = Access {
        config: json!({ "UseSSL": true, "UseMutualTLS": true, "SSLSkipVerify": false, "SSLCAFile": pki.ca_file(),
            "SSLCertFile": certificate, "SSLPrivateKeyFile": key, "SSLValidOUs": ["stonith"],
            "AuthenticationMethod": "basic", "HTTPAuthUser": USER, "HTTPAuthPassword": PASSWORD,
            "URLPrefix": "/orchestrator" }),
        scheme: "https",
        prefix: "/orchestrator",
        curl: curl.into(),
    };
    let world = World::with_access(binaries, access);
    // Orchestrator checks the certificate's organisational unit after the handshake. It answers 401 to a client without one.
    are_refused(&world, &pki, "401");
    world.proxy.set_config(&config(&pki, &login()));
    let (world, writers) = guard(world);
    stands_all(world, writers);
}
