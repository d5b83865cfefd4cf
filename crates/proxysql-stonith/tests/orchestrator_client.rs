//! The Orchestrator client against servers that answer well, badly, or not at all.
//!
//! Bodies are Orchestrator's own, from tests/recordings; how it answers otherwise is FACTS §8 and §9.

mod scripted_http;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proxysql_stonith::orchestrator::{Basic, Client, Settings, TlsSettings};
use proxysql_stonith::secret::Secret;
use scripted_http::{DATE, DATE_S, Reply, Request, Server};
use stonith_core::node::Node;
use stonith_core::observed::{Answer, Backing, LeaderView};
use stonith_core::wants::Wants;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

const NOTHING_MORE: Wants = Wants { history: false, instances: false, backing: false };
const HISTORY: Wants = Wants { history: true, instances: false, backing: false };
const BACKING: Wants = Wants { history: false, instances: false, backing: true };
const ALL: Wants = Wants { history: true, instances: true, backing: true };

/// More than any machine needs for what is not being waited for.
const SLACK: Duration = Duration::from_millis(700);

fn recorded(name: &str) -> String {
    let path = format!("{}/tests/recordings/orchestrator/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

/// The raft node 127.0.0.1x:10008 of three says that node 1y leads; 0 is nobody.
fn raft_status(me: u8, leader: u8) -> Reply {
    let whole = recorded("1-healthy/raft-status");
    let leads = if leader == 0 { String::new() } else { format!("127.0.0.1{leader}:10008") };
    let said = whole
        .replace("\"RaftBind\":\"127.0.0.13:10008\"", &format!("\"RaftBind\":\"127.0.0.1{me}:10008\""))
        .replace("\"RaftAdvertise\":\"127.0.0.13:10008\"", &format!("\"RaftAdvertise\":\"127.0.0.1{me}:10008\""))
        .replace("\"Leader\":\"127.0.0.13:10008\"", &format!("\"Leader\":\"{leads}\""));
    Reply::ok(said)
}

fn not_found() -> Reply {
    Reply::Json(404, "404 page not found\n".to_owned())
}

fn error_500(message: &str) -> Reply {
    Reply::Json(500, format!("{{\"Code\":\"ERROR\",\"Message\":\"{message}\",\"Details\":null}}"))
}

/// What a well-behaved node `me` of three says while node `leader` leads.
fn well(me: u8, leader: u8, path: &str) -> Reply {
    match path {
        "/api/leader-check" if me == leader => Reply::ok("\"OK\""),
        "/api/leader-check" => Reply::Json(404, "\"Not leader\"".to_owned()),
        "/api/raft-status" => raft_status(me, leader),
        "/api/downtimed" => Reply::ok(recorded("2-failover/downtimed")),
        "/api/audit-recovery/0" => Reply::ok(recorded("2-failover/audit-recovery")),
        "/api/all-instances" => Reply::ok(recorded("2-failover/all-instances")),
        _ => not_found(),
    }
}

fn node(me: u8, leader: u8) -> Server {
    Server::start(move |request| well(me, leader, &request.path))
}

/// A node that accepts, reads, and never answers.
fn hung() -> Server {
    Server::start(|_| Reply::Hang)
}

/// A leader that answers one path in its own way.
fn leader_but(path: &'static str, reply: impl Fn() -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |request| if request.path == path { reply() } else { well(1, 1, &request.path) })
}

fn settings(urls: &[String]) -> Settings {
    Settings {
        endpoints: urls.iter().map(|url| url.parse().unwrap()).collect(),
        auth: None,
        tls: TlsSettings::default(),
        connect_timeout: Duration::from_millis(500),
        read_timeout: Duration::from_secs(1),
        tick_timeout: Duration::from_millis(2_500),
    }
}

fn client(servers: &[&Server]) -> Client {
    Client::new(settings(&servers.iter().map(|server| server.url()).collect::<Vec<_>>())).unwrap()
}

fn served(names: &[&str]) -> BTreeSet<Node> {
    names.iter().map(|name| Node::new(name, 3306).unwrap()).collect()
}

async fn look(client: &mut Client, wants: Wants) -> LeaderView {
    client.look(|| 42, |_, _| wants, &served(&["node01", "node03"])).await
}

/// One tick of a new client.
async fn once(servers: &[&Server], wants: Wants) -> LeaderView {
    look(&mut client(servers), wants).await
}

fn led(view: LeaderView) -> Answer {
    match view {
        LeaderView::Led(answer) => answer,
        other => panic!("expected a leader, got {other:?}"),
    }
}

fn blind(view: LeaderView) -> String {
    match view {
        LeaderView::Blind(why) => why,
        other => panic!("expected to be blind, got {other:?}"),
    }
}

fn silent(view: LeaderView) -> String {
    match view {
        LeaderView::Silent(why) => why,
        other => panic!("expected silence, got {other:?}"),
    }
}

// ---- what a tick asks ----

#[tokio::test]
async fn i8_a_tick_is_leader_check_answer_leader_check_on_one_connection_and_so_is_the_next() {
    let server = node(1, 1);
    let mut client = client(&[&server]);
    let answer = led(look(&mut client, NOTHING_MORE).await);
    assert_eq!((answer.leader, answer.asked_ms, answer.date_s), (server.url(), 42, DATE_S));
    assert_eq!((answer.downtimes.len(), answer.history, answer.instances), (1, None, None));
    led(look(&mut client, NOTHING_MORE).await);
    let tick = ["0 /api/leader-check", "0 /api/downtimed", "0 /api/leader-check"];
    assert_eq!(server.asked(), [tick, tick].concat());
}

#[tokio::test]
async fn all_that_a_decision_wants_is_asked_between_the_two_checks_and_nothing_of_the_others() {
    let (one, two) = (node(1, 1), node(2, 1));
    let answer = led(once(&[&one, &two], ALL).await);
    assert_eq!(answer.history.unwrap().len(), 1);
    assert_eq!(answer.instances.unwrap().len(), 6);
    let paths = ["leader-check", "downtimed", "audit-recovery/0", "all-instances", "raft-status", "leader-check"];
    assert_eq!(one.asked(), paths.map(|path| format!("0 /api/{path}")));
    assert_eq!(two.asked(), ["0 /api/leader-check", "0 /api/raft-status"]);
}

#[tokio::test]
async fn a_url_prefix_and_api_may_be_there_or_not() {
    for (suffix, prefix) in [("", ""), ("/", ""), ("/api", ""), ("/api/", ""), ("/orc", "/orc"), ("/orc/api/", "/orc")]
    {
        let server = Server::start(move |request| match request.path.strip_prefix(prefix) {
            Some(path) => well(1, 1, path),
            None => not_found(),
        });
        let mut client = Client::new(settings(&[format!("{}{suffix}", server.url())])).unwrap();
        assert_eq!(led(look(&mut client, NOTHING_MORE).await).leader, format!("{}{prefix}", server.url()), "{suffix}");
    }
}

#[tokio::test]
async fn i9_a_wrong_url_prefix_is_blind_not_a_follower() {
    let server = node(1, 1);
    let mut client = Client::new(settings(&[format!("{}/typo", server.url())])).unwrap();
    let why = blind(look(&mut client, NOTHING_MORE).await);
    assert!(why.contains("/typo/api/leader-check with 404") && why.contains("URL prefix"), "{why}");
}

#[tokio::test]
async fn the_history_is_read_page_by_page_until_every_served_node_is_settled() {
    let page = |records: &[(u64, &str, &str)]| {
        let one: serde_json::Value = serde_json::from_str(&recorded("2-failover/audit-recovery")).unwrap();
        let made = records.iter().map(|(at_ns, failed, successor)| {
            let mut record = one[0].clone();
            record["UID"] = format!("{at_ns}:x").into();
            record["AnalysisEntry"]["AnalyzedInstanceKey"]["Hostname"] = (*failed).into();
            record["SuccessorKey"]["Hostname"] = (*successor).into();
            record
        });
        serde_json::Value::Array(made.collect()).to_string()
    };
    let others: Vec<(u64, &str, &str)> = (0..20).map(|i| (9_000 - i, "other1", "other2")).collect();
    let mut second: Vec<(u64, &str, &str)> = (0..20).map(|i| (8_000 - i, "other2", "other1")).collect();
    second[7] = (7_993, "node01", "node03");
    let pages = [page(&others), page(&second), page(&others), page(&others[..3])];
    let server = Server::start(move |request| match request.path.strip_prefix("/api/audit-recovery/") {
        Some(number) => Reply::ok(pages[number.parse::<usize>().unwrap()].clone()),
        None => well(1, 1, &request.path),
    });
    for (nodes, pages) in [(vec!["other1"], 1), (vec!["node01", "node03"], 2), (vec!["node01", "never-failed"], 4)] {
        let before = server.asked().len();
        let view = client(&[&server]).look(|| 42, |_, _| HISTORY, &served(&nodes)).await;
        assert_eq!(led(view).history.unwrap().len(), [20, 40, 60, 63][pages - 1], "{nodes:?}");
        let asked: Vec<String> = server.requests()[before..].iter().map(|request| request.path.clone()).collect();
        let mut expected = vec!["/api/leader-check".to_owned(), "/api/downtimed".to_owned()];
        expected.extend((0..pages).map(|page| format!("/api/audit-recovery/{page}")));
        expected.push("/api/leader-check".to_owned());
        assert_eq!(asked, expected, "{nodes:?}");
    }
}

// ---- which answers count ----

#[tokio::test]
async fn i8_an_answer_does_not_count_if_the_lead_is_lost_before_the_closing_check() {
    let checks = AtomicUsize::new(0);
    let server = Server::start(move |request| match request.path.as_str() {
        "/api/leader-check" if checks.fetch_add(1, Ordering::SeqCst) == 0 => well(1, 1, &request.path),
        "/api/leader-check" => well(1, 2, &request.path),
        path => well(1, 1, path),
    });
    let why = silent(once(&[&server], NOTHING_MORE).await);
    assert!(why.contains("lost the lead"), "{why}");
}

#[tokio::test]
async fn i8_an_answer_does_not_count_if_its_connection_is_closed_before_the_closing_check() {
    let body = recorded("2-failover/downtimed");
    let server = leader_but("/api/downtimed", move || {
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\nDate: {DATE}\r\nContent-Length: {length}\r\n\r\n{body}");
        Reply::BytesThenClose(answer.into_bytes())
    });
    let why = silent(once(&[&server], NOTHING_MORE).await);
    assert!(why.contains("the connection broke before /api/leader-check"), "{why}");
    assert_eq!(server.asked(), ["0 /api/leader-check", "0 /api/downtimed"], "it was asked again elsewhere");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn i8_a_server_without_keep_alive_never_counts_and_the_reason_is_told() {
    for head in ["HTTP/1.1 200 OK\r\nConnection: close", "HTTP/1.0 200 OK"] {
        let answer = format!("{head}\r\nContent-Length: 4\r\n\r\n\"OK\"");
        let server = leader_but("/api/leader-check", move || Reply::bytes(&answer));
        let why = silent(once(&[&server], NOTHING_MORE).await);
        assert!(why.contains("keep-alive"), "{why}");
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn two_endpoints_that_both_pass_leader_check_are_a_conflict() {
    let (one, two, three) = (node(1, 1), node(2, 2), node(3, 1));
    match once(&[&one, &two, &three], NOTHING_MORE).await {
        LeaderView::Conflict(why) => {
            assert!(why.contains(&one.url()) && why.contains(&two.url()) && !why.contains(&three.url()), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(one.asked(), ["0 /api/leader-check"], "it was believed");
}

#[tokio::test]
async fn a_second_leader_that_is_heard_only_while_the_raft_is_asked_is_a_conflict_too() {
    let one = node(1, 1);
    let late = || Reply::After(Duration::from_millis(250), Box::new(well(2, 2, "/api/leader-check")));
    let two = leader_but("/api/leader-check", late);
    let view = once(&[&one, &two], BACKING).await;
    assert!(matches!(view, LeaderView::Conflict(_)), "{view:?}");
}

#[tokio::test]
async fn a_connection_that_went_stale_between_ticks_is_made_anew_and_nothing_is_lost() {
    let server = node(1, 1);
    let mut client = client(&[&server]);
    led(look(&mut client, NOTHING_MORE).await);
    server.close_connections();
    led(look(&mut client, NOTHING_MORE).await);
    let tick = ["leader-check", "downtimed", "leader-check"];
    assert_eq!(server.asked(), [tick.map(|p| format!("0 /api/{p}")), tick.map(|p| format!("1 /api/{p}"))].concat());
}

#[tokio::test]
async fn a_server_that_closes_every_connection_at_once_is_tried_once_on_each_tick_and_silent() {
    let server = Server::start(|_| Reply::Close);
    let mut client = client(&[&server]);
    for tick in 1..=2 {
        let why = silent(look(&mut client, NOTHING_MORE).await);
        assert!(why.contains("the connection broke"), "{why}");
        assert_eq!(server.connections(), tick);
    }
}

#[tokio::test]
async fn nobody_listening_is_silent_and_says_where() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut client = Client::new(settings(&[format!("http://{free}")])).unwrap();
    let why = silent(look(&mut client, NOTHING_MORE).await);
    assert!(why.contains(&format!("http://{free} was not reached")) && why.contains("refused"), "{why}");
}

// ---- deadlines ----

#[tokio::test]
async fn a_hung_endpoint_costs_hardly_anything_once_another_leads() {
    let (well, hung) = (node(1, 1), hung());
    let mut client = client(&[&hung, &well]);
    for _ in 0..3 {
        let start = Instant::now();
        led(look(&mut client, NOTHING_MORE).await);
        assert!(start.elapsed() < SLACK, "{:?}", start.elapsed());
    }
    assert_eq!(hung.asked(), ["0 /api/leader-check"], "asked again while it still owed an answer");
}

#[tokio::test]
async fn a_hung_endpoint_costs_its_deadline_once_and_in_the_next_tick_no_more_than_the_grace() {
    let (follower, hung) = (node(2, 1), hung());
    let mut client = client(&[&hung, &follower]);
    let start = Instant::now();
    let why = silent(look(&mut client, NOTHING_MORE).await);
    assert!(why.contains("did not answer /api/leader-check within 1s"), "{why}");
    assert!(start.elapsed() >= Duration::from_secs(1), "it was not waited for: {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_millis(1_500) + SLACK, "{:?}", start.elapsed());
    let start = Instant::now();
    silent(look(&mut client, NOTHING_MORE).await);
    assert!(start.elapsed() < SLACK, "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_endpoint_that_was_hung_and_answers_again_is_heard_again() {
    let hangs = Arc::new(AtomicBool::new(true));
    let hanging = hangs.clone();
    let server = Server::start(move |request| match hanging.load(Ordering::SeqCst) {
        true => Reply::Hang,
        // Slower than what a hung one is waited for.
        false => Reply::After(Duration::from_millis(200), Box::new(well(1, 1, &request.path))),
    });
    let mut client = client(&[&server]);
    silent(look(&mut client, NOTHING_MORE).await);
    hangs.store(false, Ordering::SeqCst);
    silent(look(&mut client, NOTHING_MORE).await);
    tokio::time::sleep(Duration::from_millis(500)).await;
    led(look(&mut client, NOTHING_MORE).await);
}

#[tokio::test]
async fn a_connect_that_never_completes_costs_no_more_than_connect_timeout() {
    // Linux drops the SYN where the backlog is full.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut fillers = Vec::new();
    let mut is_full = false;
    for _ in 0..8 {
        let connecting = tokio::net::TcpStream::connect(address);
        match tokio::time::timeout(Duration::from_millis(100), connecting).await {
            Ok(stream) => fillers.push(stream.unwrap()),
            Err(_) => is_full = true,
        }
    }
    assert!(is_full, "the backlog takes all");
    let mut client = Client::new(settings(&[format!("http://{address}")])).unwrap();
    let start = Instant::now();
    let why = silent(look(&mut client, NOTHING_MORE).await);
    assert!(why.contains("did not take a connection within 500ms"), "{why}");
    assert!(start.elapsed() < Duration::from_millis(500) + SLACK, "{:?}", start.elapsed());
}

#[tokio::test]
async fn the_ticks_deadline_holds_however_many_answers_come_just_in_time() {
    let slow = Arc::new(AtomicBool::new(true));
    let is_slow = slow.clone();
    let one: serde_json::Value = serde_json::from_str(&recorded("2-failover/audit-recovery")).unwrap();
    let full = serde_json::Value::Array(vec![one[0].clone(); 20]).to_string();
    let server = Server::start(move |request| {
        let reply = match request.path.starts_with("/api/audit-recovery/") {
            true => Reply::ok(full.clone()),
            false => well(1, 1, &request.path),
        };
        let wait = if is_slow.load(Ordering::SeqCst) { 150 } else { 0 };
        Reply::After(Duration::from_millis(wait), Box::new(reply))
    });
    let settings = Settings { tick_timeout: Duration::from_secs(1), ..settings(&[server.url()]) };
    let mut client = Client::new(settings).unwrap();
    let start = Instant::now();
    let view = client.look(|| 42, |_, _| ALL, &served(&["never-failed"])).await;
    let why = silent(view);
    assert!(why.contains("orchestrator.tick_timeout (1s)"), "{why}");
    assert!(start.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", start.elapsed());
    // The question that was cut off is not taken for the next one's: a new connection.
    slow.store(false, Ordering::SeqCst);
    led(look(&mut client, NOTHING_MORE).await);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_follower_slower_than_the_grace_keeps_its_connection_and_still_counts() {
    let (one, three) = (node(1, 1), hung());
    let two = Server::start(|request| Reply::After(Duration::from_millis(180), Box::new(well(2, 1, &request.path))));
    let mut client = client(&[&one, &two, &three]);
    for _ in 0..3 {
        assert_eq!(led(look(&mut client, BACKING).await).backing, Backing::Majority);
    }
    assert_eq!(two.connections(), 1);
}

// ---- what can't be used ----

#[tokio::test]
async fn i9_a_refused_password_is_blind_and_said_to_be_refused() {
    for status in [401, 403] {
        let server = Server::start(move |_| Reply::Json(status, "Not Authorized\n".to_owned()));
        let mut client = client(&[&server]);
        let why = blind(look(&mut client, NOTHING_MORE).await);
        assert!(why.contains("refused") && why.contains("orchestrator.user"), "{why}");
        assert!(client.refused());
    }
}

#[tokio::test]
async fn a_password_that_works_after_it_was_read_again_is_not_refused_any_more() {
    let server = Server::start(|request| match request.head.contains("authorization: Basic cmlnaHQ6cGFzcw==\r\n") {
        true => well(1, 1, &request.path),
        false => Reply::Json(401, "Not Authorized\n".to_owned()),
    });
    let mut client = client(&[&server]);
    blind(look(&mut client, NOTHING_MORE).await);
    assert!(client.refused());
    client.set_auth(Some(Basic { user: "right".to_owned(), password: Secret::new("pass") }));
    led(look(&mut client, NOTHING_MORE).await);
    assert!(!client.refused());
}

#[tokio::test]
async fn one_endpoint_that_refuses_does_not_matter_while_another_leads() {
    let refuses = Server::start(|_| Reply::Json(401, String::new()));
    let well = node(1, 1);
    let mut client = client(&[&refuses, &well]);
    led(look(&mut client, NOTHING_MORE).await);
    assert!(!client.refused(), "the password would be read again, and everything asked twice, in every tick");
}

#[tokio::test]
async fn i1_an_answer_that_is_not_whole_good_json_is_blind_wherever_it_comes() {
    type Bad = (&'static str, fn() -> Reply);
    let bad: [Bad; 8] = [
        ("Unable to read", || error_500("2026-11-23 06:19:34 ERROR Unable to read")),
        ("JSON that cannot be used", || Reply::ok("<html>welcome</html>")),
        ("JSON that cannot be used", || Reply::ok("")),
        ("can't be used", || Reply::bytes("SSH-2.0-OpenSSH_9.2p1\r\n\r\n")),
        ("can't be used", || {
            Reply::BytesThenClose(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n[{\"Key\":".to_vec())
        }),
        ("can't be used", || {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            Reply::BytesThenClose([head, b"zz\r\nnot a length\r\n".to_vec()].concat())
        }),
        ("can't be used", || {
            Reply::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), b"X-More: and more\r\n".repeat(100), u64::MAX)
        }),
        ("with 502", || Reply::Json(502, "<html>Bad Gateway</html>".to_owned())),
    ];
    for path in ["/api/downtimed", "/api/audit-recovery/0", "/api/all-instances"] {
        for (says, reply) in bad {
            let server = leader_but(path, reply);
            let why = blind(once(&[&server], ALL).await);
            assert!(why.contains(says) && why.contains(path) && why.contains(&server.url()), "{path}: {why}");
        }
    }
    // The opening check: without it nobody leads.
    for (says, reply) in bad {
        let server = leader_but("/api/leader-check", reply);
        let why = blind(once(&[&server], ALL).await);
        let says = if says.starts_with("JSON") { "not the JSON" } else { says };
        assert!(why.contains(says) && why.contains("/api/leader-check"), "{why}");
        assert!(server.requests().iter().all(|request| request.path == "/api/leader-check"), "it was believed");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_named() {
    let elsewhere = node(1, 1);
    let location = format!("{}/api/leader-check", elsewhere.url());
    let server = Server::start(move |_| {
        Reply::bytes(&format!("HTTP/1.1 301 Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"))
    });
    let why = blind(once(&[&server], NOTHING_MORE).await);
    assert!(why.contains("301") && why.contains(&elsewhere.url()) && why.contains("not followed"), "{why}");
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn an_error_shows_little_of_what_came_and_on_one_line() {
    let server = Server::start(|_| Reply::Json(500, "a\nb\u{1b}[31m".repeat(5_000)));
    let why = blind(once(&[&server], NOTHING_MORE).await);
    assert!(why.len() < 500 && !why.contains(char::is_control), "{why:?}");
    let server = leader_but("/api/downtimed", || Reply::ok(format!("[\"{}\"]", "a\\nb\\u001b[31m".repeat(5_000))));
    let why = blind(once(&[&server], NOTHING_MORE).await);
    assert!(why.len() < 500 && !why.contains(char::is_control), "{why:?}");
}

/// 100 MB were to come; what the client took, with what lies in the sockets' buffers.
const HUGE: u64 = 100 << 20;

#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_not_read_at_all() {
    for path in ["/api/leader-check", "/api/downtimed", "/api/audit-recovery/0"] {
        let server = leader_but(path, || {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {HUGE}\r\n\r\n");
            Reply::Endless(head.into_bytes(), vec![b' '; 1 << 16], HUGE)
        });
        let why = blind(once(&[&server], HISTORY).await);
        assert!(why.contains("more than") && why.contains("KiB"), "{path}: {why}");
        assert!(server.written() < 20 << 20, "{path}: {} bytes", server.written());
    }
}

#[tokio::test]
async fn a_body_that_does_not_say_how_large_it_is_is_cut_off_at_the_bound() {
    for (path, most) in [("/api/leader-check", 64 << 10), ("/api/audit-recovery/0", 8 << 20)] {
        let server = leader_but(path, || {
            let chunk = [b"10000\r\n".to_vec(), vec![b' '; 0x10000], b"\r\n".to_vec()].concat();
            Reply::Endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), chunk, HUGE)
        });
        let why = blind(once(&[&server], HISTORY).await);
        assert!(why.contains("more than"), "{path}: {why}");
        assert!(server.written() < most + (20 << 20), "{path}: {} bytes", server.written());
    }
}

#[tokio::test]
async fn a_chunked_body_that_never_ends_costs_no_more_than_the_read_timeout() {
    let server = leader_but("/api/downtimed", || {
        Reply::Bytes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n".to_vec())
    });
    let start = Instant::now();
    let why = silent(once(&[&server], NOTHING_MORE).await);
    assert!(why.contains("did not answer /api/downtimed within 1s"), "{why}");
    assert!(start.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", start.elapsed());
}

#[tokio::test]
async fn i1_a_wrong_type_in_a_needed_field_refuses_the_answer_and_an_unknown_field_does_not() {
    let cases = [
        ("/api/downtimed", "2-failover/downtimed", "\"IsDowntimed\":true", "\"IsDowntimed\":\"true\""),
        ("/api/downtimed", "2-failover/downtimed", "\"Port\":3306", "\"Port\":70000"),
        ("/api/audit-recovery/0", "2-failover/audit-recovery", "\"IsSuccessful\":true", "\"IsSuccessful\":1"),
        ("/api/audit-recovery/0", "2-failover/audit-recovery", "\"UID\":\"1795", "\"UID\":\"x1795"),
        ("/api/audit-recovery/0", "2-failover/audit-recovery", "\"Hostname\":\"node01\"", "\"Hostname\":\"\""),
        ("/api/all-instances", "2-failover/all-instances", "\"ReadOnly\":false", "\"ReadOnly\":\"OFF\""),
        ("/api/all-instances", "2-failover/all-instances", "\"IsLastCheckValid\"", "\"IsLastCheckFine\""),
        ("/api/all-instances", "2-failover/all-instances", "\"LastSeenTimestamp\":\"20", "\"LastSeenTimestamp\":\"the"),
    ];
    for (path, recording, from, to) in cases {
        let good = recorded(recording);
        assert!(good.contains(from), "{from}");
        let bad = good.replacen(from, to, 1);
        let server = leader_but(path, move || Reply::ok(bad.clone()));
        let why = blind(once(&[&server], ALL).await);
        assert!(why.contains(path) && why.contains("JSON that cannot be used"), "{to}: {why}");
        let more = good.replacen("\"Port\":3306", "\"Port\":3306,\"Zone\":{\"New\":[1,null]}", 1);
        let server = leader_but(path, move || Reply::ok(more.clone()));
        led(once(&[&server], ALL).await);
    }
}

#[tokio::test]
async fn i2_null_is_no_list_where_orchestrator_always_answers_one() {
    // Its Go code starts each of them as an empty slice (FACTS §9: only `problems` is null).
    for path in ["/api/downtimed", "/api/audit-recovery/0", "/api/all-instances"] {
        let server = leader_but(path, || Reply::ok("null"));
        let why = blind(once(&[&server], ALL).await);
        assert!(why.contains("null") && why.contains("a list"), "{path}: {why}");
    }
}

#[tokio::test]
async fn without_a_date_that_can_be_read_this_hosts_clock_stands_in() {
    for date in ["", "Date: yesterday\r\n", "Date: Mon, 99 Nov 2026 06:20:36 GMT\r\n", "Date: \u{e9}\r\n"] {
        let body = recorded("2-failover/downtimed");
        let answer = format!("HTTP/1.1 200 OK\r\n{date}Content-Length: {}\r\n\r\n{body}", body.len());
        let server = leader_but("/api/downtimed", move || Reply::bytes(&answer));
        let answer = led(once(&[&server], NOTHING_MORE).await);
        let now_s = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
        assert!((now_s - 5..=now_s).contains(&answer.date_s), "{date:?}: {} at {now_s}", answer.date_s);
        assert_eq!(answer.downtimes[0].begin_s, answer.date_s - 24);
    }
}

// ---- the raft ----

#[tokio::test]
async fn while_a_majority_of_the_raft_names_no_leader_it_is_leaderless() {
    let (one, two, three) = (node(1, 0), node(2, 0), hung());
    for servers in [vec![&one, &two], vec![&one, &two, &three]] {
        assert_eq!(once(&servers, NOTHING_MORE).await, LeaderView::Leaderless);
    }
}

#[tokio::test]
async fn a_minority_without_a_leader_is_silent() {
    // One of three is cut off, two don't answer; or two still name the dead one.
    let (cut_off, follower, other) = (node(1, 0), node(2, 3), node(1, 3));
    for servers in [vec![&cut_off], vec![&cut_off, &follower], vec![&cut_off, &follower, &other]] {
        let why = silent(once(&servers, NOTHING_MORE).await);
        assert!(why.contains(&format!("{} answers that it does not lead", cut_off.url())), "{why}");
    }
}

#[tokio::test]
async fn one_node_by_two_names_is_no_majority() {
    // Cut off from the two others, and listed twice.
    let cut_off = node(1, 0);
    let urls = [cut_off.url(), cut_off.url_as("localhost")];
    silent(look(&mut Client::new(settings(&urls)).unwrap(), NOTHING_MORE).await);
    // The same as a follower: two endpoints and one voice besides the leader's, which three of five must be.
    let five = |me: u8, leader: u8| {
        let Reply::Json(_, body) = raft_status(me, leader) else { unreachable!() };
        Reply::ok(body.replace("\"Peers\":[", "\"Peers\":[\"127.0.0.14:10008\",\"127.0.0.15:10008\","))
    };
    let serve = move |me: u8| {
        Server::start(move |request| match request.path.as_str() {
            "/api/raft-status" => five(me, 1),
            path => well(me, 1, path),
        })
    };
    let (leader, follower, third) = (serve(1), serve(2), serve(3));
    let urls = [leader.url(), follower.url(), follower.url_as("localhost")];
    let view = look(&mut Client::new(settings(&urls)).unwrap(), BACKING).await;
    assert_eq!(led(view).backing, Backing::Unconfirmed);
    assert_eq!(led(once(&[&leader, &follower, &third], BACKING).await).backing, Backing::Majority);
}

#[tokio::test]
async fn i8_a_leader_that_a_majority_names_is_confirmed_and_one_alone_is_not() {
    let (leader, follower, third) = (node(1, 1), node(2, 1), node(3, 1));
    let (cut_off, hung) = (node(2, 0), hung());
    let gone = Server::start(|_| Reply::Close);
    let disagrees = Server::start(|request| {
        if request.path.ends_with("raft-status") { raft_status(3, 2) } else { well(3, 1, &request.path) }
    });
    for (others, expected) in [
        ([&follower, &third], Backing::Majority),
        ([&follower, &hung], Backing::Majority),
        ([&gone, &third], Backing::Majority),
        ([&cut_off, &gone], Backing::Unconfirmed),
        ([&disagrees, &cut_off], Backing::Unconfirmed),
        ([&hung, &gone], Backing::Unconfirmed),
    ] {
        let answer = led(once(&[&leader, others[0], others[1]], BACKING).await);
        assert_eq!(answer.backing, expected);
    }
    assert_eq!(led(once(&[&leader, &follower], NOTHING_MORE).await).backing, Backing::Unconfirmed, "it was not asked");
}

#[tokio::test]
async fn a_hung_member_does_not_hold_up_a_majority() {
    let (leader, follower, hung) = (node(1, 1), node(2, 1), hung());
    let mut took = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        assert_eq!(led(once(&[&leader, &follower, &hung], BACKING).await).backing, Backing::Majority);
        took.push(start.elapsed());
    }
    // Waited for, it would cost half a second besides the grace, each time.
    assert!(took.iter().min().unwrap() < &Duration::from_millis(450), "{took:?}");
}

#[tokio::test]
async fn with_one_endpoint_or_without_raft_steadiness_stands_in() {
    assert_eq!(led(once(&[&node(1, 1)], BACKING).await).backing, Backing::Single);
    let without_raft = |me: u8| {
        Server::start(move |request| match request.path.as_str() {
            "/api/raft-status" => error_500("raft-state: not running with raft setup"),
            path => well(me, 1, path),
        })
    };
    let (active, passive) = (without_raft(1), without_raft(2));
    assert_eq!(led(once(&[&active, &passive], BACKING).await).backing, Backing::Single);
    // And nobody active: no raft, so nothing says that nobody can promote.
    silent(once(&[&passive], NOTHING_MORE).await);
}

#[tokio::test]
async fn i8_a_raft_status_that_fails_otherwise_does_not_pass_for_no_raft() {
    let replies: [fn() -> Reply; 4] = [
        || error_500("Cannot get raft peers: no such file"),
        || Reply::Json(503, String::new()),
        || Reply::ok("{}"),
        || Reply::ok("{\"Leader\":null}"),
    ];
    for reply in replies {
        let (leader, follower) = (leader_but("/api/raft-status", reply), node(2, 1));
        assert_eq!(led(once(&[&leader, &follower], BACKING).await).backing, Backing::Unconfirmed);
    }
    // The leader itself names nobody.
    let (leader, follower) = (leader_but("/api/raft-status", || raft_status(1, 0)), node(2, 0));
    assert_eq!(led(once(&[&leader, &follower], BACKING).await).backing, Backing::Unconfirmed);
}

#[tokio::test]
async fn an_orchestrator_before_3_2_3_has_no_raft_status_and_is_asked_for_leader_and_peers() {
    let old = |me: u8, leader: &'static str| {
        Server::start(move |request| match request.path.as_str() {
            "/api/raft-status" => not_found(),
            "/api/raft-leader" => Reply::ok(format!("\"{leader}\"")),
            "/api/raft-peers" => Reply::ok("[\"127.0.0.13:10008\",\"127.0.0.11:10008\",\"127.0.0.12:10008\"]"),
            path => well(me, 1, path),
        })
    };
    let (leader, follower) = (old(1, "127.0.0.11:10008"), old(2, "127.0.0.11:10008"));
    assert_eq!(led(once(&[&leader, &follower], BACKING).await).backing, Backing::Majority);
    let cut_off = old(2, "");
    assert_eq!(led(once(&[&leader, &cut_off], BACKING).await).backing, Backing::Unconfirmed);
    assert_eq!(once(&[&cut_off, &old(3, "")], NOTHING_MORE).await, LeaderView::Leaderless);
    // Before 3.0 there was no raft.
    let (one, two) = (
        leader_but("/api/raft-status", not_found),
        leader_but("/api/leader-check", || well(2, 1, "/api/leader-check")),
    );
    assert_eq!(led(once(&[&one, &two], BACKING).await).backing, Backing::Single);
}

// ---- secrets ----

#[tokio::test]
async fn i11_basic_auth_is_sent_and_is_in_no_debug_output_and_no_error() {
    const ENCODED: &str = "b3JjOmh1bnRlcjIwMTk=";
    let auth = Some(Basic { user: "orc".to_owned(), password: Secret::new("hunter2019") });
    let server = Server::start(|request| match request.head.contains(&format!("authorization: Basic {ENCODED}\r\n")) {
        true => well(1, 1, &request.path),
        false => Reply::Json(401, String::new()),
    });
    let mut client = Client::new(Settings { auth: auth.clone(), ..settings(&[server.url()]) }).unwrap();
    led(look(&mut client, NOTHING_MORE).await);
    let mut shown = vec![format!("{client:?}")];
    // A server that sends back what it was sent, and one that has the password in its redirect and its JSON.
    let echoes: [fn(&Request) -> Reply; 5] = [
        |request| Reply::Json(500, format!("{} hunter2019", request.head)),
        |request| Reply::Json(401, request.head.clone()),
        |_| Reply::bytes("HTTP/1.1 302 Found\r\nLocation: http://orc:hunter2019@x/\r\nContent-Length: 0\r\n\r\n"),
        |request| Reply::bytes(&request.head),
        |request| match request.path.as_str() {
            "/api/downtimed" => Reply::ok(serde_json::to_string(&[&request.head, "hunter2019"]).unwrap()),
            path => well(1, 1, path),
        },
    ];
    for echo in echoes {
        let server = Server::start(echo);
        let mut client = Client::new(Settings { auth: auth.clone(), ..settings(&[server.url()]) }).unwrap();
        shown.push(blind(look(&mut client, NOTHING_MORE).await));
        shown.push(format!("{client:?}"));
    }
    for text in shown {
        assert!(!text.contains("hunter2019") && !text.contains(ENCODED), "{text}");
    }
}

#[tokio::test]
async fn i11_a_password_is_not_shown_by_half_where_a_message_ends() {
    // Wherever the password stands in what is echoed, the end of what is shown cuts through it nowhere.
    let auth = Some(Basic { user: "orc".to_owned(), password: Secret::new("hunter2019") });
    for before in 190..205 {
        let server = Server::start(move |_| Reply::Json(500, format!("{}hunter2019", "x".repeat(before))));
        let mut client = Client::new(Settings { auth: auth.clone(), ..settings(&[server.url()]) }).unwrap();
        let why = blind(look(&mut client, NOTHING_MORE).await);
        assert!(!why.contains("xh"), "{why}");
    }
}

#[tokio::test]
async fn proxy_variables_of_the_environment_are_ignored() {
    const URL: &str = "STONITH_TEST_ORCHESTRATOR_URL";
    // The test runs itself again, with the variables set.
    if let Ok(url) = std::env::var(URL) {
        led(look(&mut Client::new(settings(&[url])).unwrap(), NOTHING_MORE).await);
        return;
    }
    let (server, proxy) = (node(1, 1), hung());
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "proxy_variables_of_the_environment_are_ignored"]).env(URL, server.url());
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        child.env(name, proxy.url());
    }
    for name in ["no_proxy", "NO_PROXY"] {
        child.env_remove(name);
    }
    let output = child.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!((server.connections(), proxy.connections()), (1, 0));
}

// ---- https ----

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
        assert!(answer.leader.starts_with("https://"));
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
