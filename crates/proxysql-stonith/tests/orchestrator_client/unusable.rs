//! Answers that can't be used: blind, not obeyed (I1, I9).

use crate::client::*;

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
    client.set_auth(Some(Credential { user: "right".to_owned(), password: Secret::new("pass") }));
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
    let bad: [Bad; 7] = [
        ("Unable to read", || error_500("2026-11-23 06:19:34 ERROR Unable to read")),
        ("unusable JSON", || Reply::ok("<html>welcome</html>")),
        ("unusable JSON", || Reply::ok("")),
        ("unusable answer", || Reply::bytes("SSH-2.0-OpenSSH_9.2p1\r\n\r\n")),
        ("unusable answer", || {
            Reply::BytesThenClose(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n[{\"Key\":".to_vec())
        }),
        ("unusable answer", || {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            Reply::BytesThenClose([head, b"zz\r\nnot a length\r\n".to_vec()].concat())
        }),
        ("unusable answer", || {
            Reply::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), b"X-More: and more\r\n".repeat(100), u64::MAX)
        }),
    ];
    for (says, reply) in bad {
        let server = leader_but("/api/downtimed", reply);
        let why = blind(once(&[&server], ALL).await);
        assert!(why.contains(says) && why.contains("/api/downtimed") && why.contains(&server.url()), "{why}");
    }
    // The opening check: without it nobody leads.
    for (says, reply) in bad {
        let server = leader_but("/api/leader-check", reply);
        let why = blind(once(&[&server], ALL).await);
        let says = if says.contains("JSON") { "not Orchestrator's JSON" } else { says };
        assert!(why.contains(says) && why.contains("/api/leader-check"), "{why}");
        assert!(server.requests().iter().all(|request| request.path == "/api/leader-check"), "it was believed");
    }
}

/// What gateways answer when nothing is behind them: nginx, HAProxy, Envoy, an API gateway, and a follower of
/// Orchestrator's whose leader is gone (an empty 502).
const GATEWAYS: [(u16, &str); 6] = [
    (502, "<html><head><title>502 Bad Gateway</title></head></html>"),
    (503, "<html><body><h1>503 Service Unavailable</h1>\nNo server is available.\n</body></html>\n"),
    (504, "upstream request timeout"),
    (503, "{\"message\":\"Service Unavailable\"}"),
    (500, "<html><title>500 Proxy Error</title></html>"),
    (502, ""),
];

#[tokio::test]
async fn a_gateway_that_does_not_reach_orchestrator_is_silence_whatever_was_asked() {
    for (status, body) in GATEWAYS {
        let server = Server::start(move |_| Reply::Json(status, body.to_owned()));
        let why = silent(once(&[&server], ALL).await);
        assert!(why.contains("was not reached") && why.contains(&status.to_string()), "{why}");
        let server = leader_but("/api/downtimed", move || Reply::Json(status, body.to_owned()));
        let why = silent(once(&[&server], ALL).await);
        assert!(why.contains("/api/downtimed") && why.contains(&server.url()), "{why}");
    }
}

#[tokio::test]
async fn an_error_of_orchestrators_own_is_blind_with_any_status() {
    for status in [500, 502, 503, 504] {
        let body = "{\"Code\":\"ERROR\",\"Message\":\"Unable to read\",\"Details\":null}";
        let server = Server::start(move |_| Reply::Json(status, body.to_owned()));
        let why = blind(once(&[&server], NOTHING_MORE).await);
        assert!(why.contains("Unable to read"), "{why}");
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
    let server = Server::start(|_| Reply::Json(400, "a\nb\u{1b}[31m".repeat(5_000)));
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
        let why = what_failed(once(&[&server], HISTORY).await);
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
        let why = what_failed(once(&[&server], HISTORY).await);
        assert!(why.contains("more than"), "{path}: {why}");
        assert!(server.written() < most + (20 << 20), "{path}: {} bytes", server.written());
    }
}

#[tokio::test]
async fn a_long_list_is_read_and_an_error_as_long_is_not() {
    let padding = " ".repeat(100_000);
    let long = format!("{padding}{}", recorded("2-failover/downtimed"));
    let list = leader_but("/api/downtimed", move || Reply::ok(long.clone()));
    led(once(&[&list], NOTHING_MORE).await);
    let long = format!("{padding}{}", recorded("2-failover/audit-recovery"));
    let history = leader_but("/api/audit-recovery/0", move || Reply::ok(long.clone()));
    assert!(led(once(&[&history], HISTORY).await).history.is_some());
    let error = leader_but("/api/downtimed", move || error_500(&padding));
    let why = what_failed(once(&[&error], NOTHING_MORE).await);
    assert!(why.contains("more than 64 KiB"), "{why}");
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
async fn an_entry_with_a_wrong_type_in_a_needed_field_is_skipped_and_said_and_an_unknown_field_is_not() {
    let cases = [
        ("/api/downtimed", "2-failover/downtimed", "\"IsDowntimed\":true", "\"IsDowntimed\":\"true\""),
        ("/api/downtimed", "2-failover/downtimed", "\"Port\":3306", "\"Port\":70000"),
        ("/api/audit-recovery/0", "2-failover/audit-recovery", "\"IsSuccessful\":true", "\"IsSuccessful\":1"),
        ("/api/audit-recovery/0", "2-failover/audit-recovery", "\"UID\":\"1795", "\"UID\":\"x1795"),
        ("/api/audit-recovery/0", "2-failover/audit-recovery", "\"UID\":\"1795", "\"UID\":\"\",\"X\":\"1795"),
        ("/api/audit-recovery/0", "2-failover/audit-recovery", "\"Hostname\":\"node01\"", "\"Hostname\":\"\""),
        ("/api/all-instances", "2-failover/all-instances", "\"ReadOnly\":false", "\"ReadOnly\":\"OFF\""),
        ("/api/all-instances", "2-failover/all-instances", "\"IsLastCheckValid\"", "\"IsLastCheckFine\""),
        (
            "/api/all-instances",
            "2-failover/all-instances",
            "\"SecondsSinceLastSeen\":{",
            "\"SecondsSinceLastSeen\":{\"X\":[{}],\"Int64\":\"x\",",
        ),
    ];
    for (path, recording, from, to) in cases {
        let good = recorded(recording);
        assert!(good.contains(from), "{from}");
        let bad = good.replacen(from, to, 1);
        let server = leader_but(path, move || Reply::ok(bad.clone()));
        let answer = led(once(&[&server], ALL).await);
        let [skipped] = &answer.skipped[..] else { panic!("{to}: {:?}", answer.skipped) };
        assert!(skipped.what.contains("is skipped"), "{to}: {}", skipped.what);
        let left = (answer.downtimes.len(), answer.history.unwrap().records.len(), answer.instances.unwrap().len());
        let expected = match skipped.part {
            AnswerPart::Marks => (0, 1, 6),
            AnswerPart::History => (1, 0, 6),
            _ => (1, 1, 5),
        };
        assert_eq!(left, expected, "{to}");
        let more = good.replacen("\"Port\":3306", "\"Port\":3306,\"Zone\":{\"New\":[1,null]}", 1);
        let server = leader_but(path, move || Reply::ok(more.clone()));
        assert_eq!(led(once(&[&server], ALL).await).skipped, []);
    }
}

#[tokio::test]
async fn i2_null_is_no_list_where_orchestrator_always_answers_one() {
    // Its Go code starts each of them as an empty slice (facts §9: only `problems` is null).
    for path in ["/api/downtimed", "/api/audit-recovery/0", "/api/all-instances"] {
        let server = leader_but(path, || Reply::ok("null"));
        let why = what_failed(once(&[&server], ALL).await);
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

#[tokio::test]
async fn a_password_that_one_endpoint_refuses_is_refused_though_no_other_is_reached() {
    let (refuses, gone) = (Server::start(|_| Reply::Json(401, String::new())), Server::start(|_| Reply::Close));
    for servers in [[&refuses, &gone], [&gone, &refuses]] {
        let mut client = client(&servers);
        blind(look(&mut client, NOTHING_MORE).await);
        assert!(client.refused(), "else it is never read again");
    }
    let mut client = client(&[&gone, &gone]);
    silent(look(&mut client, NOTHING_MORE).await);
    assert!(!client.refused(), "the control");
}
