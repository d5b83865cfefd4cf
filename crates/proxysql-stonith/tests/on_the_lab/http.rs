//! HTTP of the daemon: what it answers, who may wake it, and that nobody delays a tick.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::stage::{Daemon, Stage, eventually, eventually_in};

const TOKEN: &str = "sesame-token";

/// An address that nobody listens on.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// One request. Returns the status and the rest of the answer.
fn request(address: SocketAddr, line: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let status = text.split(' ').nth(1).unwrap_or_else(|| panic!("{text:?}")).parse().unwrap();
    (status, text.split_once("\r\n\r\n").unwrap().1.to_owned())
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    request(address, &format!("GET {path}"), "")
}

/// A daemon with HTTP, once it is ready.
async fn served(stage: &Stage, line: &str) -> (Daemon, SocketAddr) {
    let address = free_address();
    let daemon = Daemon::start(stage.command(&format!("run --http={address} {line}")));
    eventually("it is ready", || TcpStream::connect(address).is_ok() && get(address, "/readyz").0 == 200).await;
    (daemon, address)
}

/// The config with a token, as flags.
fn with_token(stage: &Stage) -> String {
    let path = stage.dir.path().join("token");
    std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    stage.config(&format!("http.token_file = {path:?}\n"))
}

async fn wake(address: SocketAddr, query: &str, token: &str) -> (u16, String) {
    let (line, header) = (format!("POST /v1/wake{query}"), format!("Authorization: Bearer {token}\r\n"));
    let answer = tokio::task::spawn_blocking(move || request(address, &line, &header)).await.unwrap();
    assert!(!answer.1.contains("radmin") && !answer.1.contains(TOKEN), "an answer shows a secret: {}", answer.1);
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_health_and_status_show_what_is_guarded_and_no_secret() {
    let stage = Stage::set().await;
    let (_daemon, address) = served(&stage, "--interval 100ms").await;
    eventually("it is armed", || get(address, "/metrics").1.contains("_armed{proxysql=")).await;
    let proxy = stage.proxysql.address();
    assert_eq!(get(address, "/healthz"), (200, "ok\n".to_owned()));
    stage.fail_over().await;
    let fenced = format!("proxysql_stonith_fenced_nodes{{proxysql=\"{proxy}\",kind=\"superseded\"}} 1");
    eventually("the fence is counted", || get(address, "/metrics").1.contains(&fenced)).await;
    let (code, text) = get(address, "/metrics");
    for line in [
        format!("proxysql_stonith_armed{{proxysql=\"{proxy}\",hostgroup=\"10\"}} 1"),
        format!("proxysql_stonith_applies_total{{proxysql=\"{proxy}\",result=\"applied\"}} 1"),
        format!("proxysql_stonith_apply_duration_seconds_count{{proxysql=\"{proxy}\"}} 1"),
        format!("proxysql_stonith_matched_nodes{{proxysql=\"{proxy}\",by=\"name\"}} 3"),
        format!("proxysql_stonith_lease_state{{proxysql=\"{proxy}\",state=\"led\"}} 1"),
        format!("proxysql_stonith_proxysql_info{{proxysql=\"{proxy}\",version="),
    ] {
        assert!(text.contains(&line), "{line}\n{text}");
    }
    assert!(code == 200 && !text.contains("node01"), "no label names a node: {text}");
    let (code, status) = get(address, "/status.json");
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!((code, &status["proxies"][0]["proxysql"]), (200, &proxy.to_string().into()));
    assert_eq!(status["proxies"][0]["nodes"][0]["verdict"], "fence", "{status}");
    for path in ["/metrics", "/status.json", "/healthz", "/readyz", "/nothing"] {
        assert!(!get(address, path).1.contains("radmin"), "{path}");
    }
    let open = request(address, "GET /metrics", "Accept: application/openmetrics-text\r\n").1;
    assert!(open.ends_with("# EOF\n") && open.contains("# UNIT proxysql_stonith_lease_age_seconds seconds"), "{open}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxysql_that_is_not_reached_is_not_ready_and_the_daemon_is_alive() {
    let stage = Stage::set().await;
    let (_daemon, address) = served(&stage, "--interval 100ms").await;
    stage.proxysql.kill();
    let up = format!("proxysql_stonith_proxysql_up{{proxysql=\"{}\"}} 0", stage.proxysql.address());
    eventually("it is seen down", || get(address, "/metrics").1.contains(&up)).await;
    let not_ready = format!("ProxySQL {}: it is not reached\n", stage.proxysql.address());
    eventually_in(60, "it is not ready", || get(address, "/readyz") == (503, not_ready.clone())).await;
    assert_eq!(get(address, "/healthz").0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_answers_once_the_node_is_fenced_and_seen_so() {
    let stage = Stage::set().await;
    // The next tick of its own would come in an hour.
    let line = format!("--interval 1h --isolation-after 3h {}", with_token(&stage));
    let (_daemon, address) = served(&stage, &line).await;
    stage.fail_over().await;
    let (code, text) = wake(address, "?wait=fenced&node=node01:3306&timeout=30s", TOKEN).await;
    assert_eq!(code, 200, "{text}");
    assert!(text.contains("\"fenced\":true") && stage.is_fenced("node01"), "{text}");
    let (code, text) = wake(address, "?wait=fenced&node=node02:3306&timeout=100ms", TOKEN).await;
    assert!(code == 504 && text.contains("\"fenced\":false"), "the primary: {code} {text}");
    assert_eq!(wake(address, "", TOKEN).await, (202, "woken\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_without_the_token_or_with_a_bad_question_does_nothing() {
    let stage = Stage::set().await;
    let (_daemon, address) =
        served(&stage, &format!("--interval 1h --isolation-after 3h {}", with_token(&stage))).await;
    let before = stage.proxysql.statements().len();
    for token in ["", "wrong", "sesame-toke", "sesame-tokens"] {
        assert_eq!(wake(address, "", token).await.0, 401, "{token:?}");
    }
    assert_eq!(request(address, "POST /v1/wake", "").0, 401);
    for query in ["?wait=fenced", "?node=node01:3306", "?wait=soon&node=a:1", "?timeout=1s", "?other=1"] {
        assert_eq!(wake(address, query, TOKEN).await.0, 400, "{query}");
    }
    for query in ["?wait=fenced&node=node01:x", "?wait=fenced&node=a:1&timeout=31s", "?wait=fenced&node=a:1&timeout=x"]
    {
        assert_eq!(wake(address, query, TOKEN).await.0, 400, "{query}");
    }
    assert_eq!(get(address, "/v1/wake").0, 405);
    assert_eq!(stage.proxysql.statements().len(), before, "no tick");
    let unset = Stage::set().await;
    let (_daemon, address) = served(&unset, "--interval 100ms").await;
    assert_eq!(wake(address, "", "").await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_are_slow_broken_or_too_many_keep_no_fence_waiting() {
    let stage = Stage::set().await;
    let (_daemon, address) = served(&stage, "--interval 100ms").await;
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(100_000));
    let many: String = (0..500).map(|n| format!("x-{n}: y\r\n")).collect();
    for garbage in
        ["\0\u{1}\u{2}\r\n\r\n", long.as_str(), &format!("GET / HTTP/1.1\r\n{many}\r\n"), "GET / HTTP/9.9\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let _ = stream.write_all(garbage.as_bytes());
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        assert!(!String::from_utf8_lossy(&text).contains(" 200 "), "{garbage:?}");
    }
    // More than there is room for, each with half a request.
    let mut half: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect();
    half.iter_mut().for_each(|stream| drop(stream.write_all(b"GET /metrics HTTP/1.1\r\nHo")));
    let flood = std::thread::spawn(move || {
        for _ in 0..2_000 {
            let Ok(mut stream) = TcpStream::connect(address) else { continue };
            let _ = stream.write_all(b"GET /status.json HTTP/1.1\r\nHost: x\r\n\r\n");
        }
    });
    stage.fail_over().await;
    eventually("it fences", || stage.is_fenced("node01")).await;
    flood.join().unwrap();
    drop(half);
    eventually("it answers again", || get(address, "/healthz").0 == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_is_said_and_the_daemon_guards_all_the_same() {
    let stage = Stage::set().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let log = stage.dir.path().join("log");
    let line = format!("run --interval 100ms --http={}", taken.local_addr().unwrap());
    let _daemon = Daemon::with_log(stage.command(&line), std::fs::File::create(&log).unwrap());
    eventually("it is said", || std::fs::read_to_string(&log).unwrap().contains("HTTP is off: 127.0.0.1:")).await;
    stage.fail_over().await;
    eventually("it fences", || stage.is_fenced("node01")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_tells_an_agent_that_would_not_fence_one_that_refuses_and_one_that_is_silent() {
    let stage = Stage::set().await;
    let (_daemon, address) = served(&stage, &format!("--interval 100ms {}", with_token(&stage))).await;
    eventually("it is armed", || get(address, "/status.json").1.contains("\"armed\": true")).await;
    let other = stage.dir.path().join("other");
    std::fs::write(&other, "another-token\n").unwrap();
    std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let doctor = async |agent: SocketAddr, token: &str| {
        let token = stage.dir.path().join(token);
        let text = format!("[barrier]\nagents = [\"http://{agent}\"]\ntoken_file = {token:?}\n");
        let (text, _) = stage.stonith(&format!("doctor {}", stage.config(&text))).await;
        assert!(!text.contains(TOKEN) && !text.contains("another-token"), "i11: {text}");
        text
    };
    let well = doctor(address, "token").await;
    assert!(!well.contains("[agent-") && !well.contains("[barrier-"), "{well}");
    let refused = doctor(address, "other").await;
    assert!(refused.contains(&format!("error [agent-refuses] agent http://{address}: it answered 401")), "{refused}");
    let silent = doctor(free_address(), "token").await;
    assert!(silent.contains("warning [agent-unreached]"), "{silent}");
    stage.succeeds("suspend --for 1h --reason maintenance").await;
    eventually("it is suspended", || get(address, "/status.json").1.contains("\"maintenance\"")).await;
    let suspended = doctor(address, "token").await;
    let line =
        format!("[agent-never-fences] agent http://{address} of ProxySQL {} is suspended", stage.proxysql.address());
    assert!(suspended.contains(&line), "{suspended}");
}
