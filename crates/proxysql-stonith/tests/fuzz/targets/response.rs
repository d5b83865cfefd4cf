//! HTTP responses, whole, through the real client: one of what a leader and a follower say is replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proxysql_stonith::orchestrator::{Client, Settings, TlsSettings};
use proxysql_stonith::secret::{Credential, Secret};
use stonith_core::decide::LeaderQuery;
use stonith_core::orchestrator::{HistoryProgress, LeaderView};

use super::decision::of_answer;
use super::may_be_said;
use super::orchestrator::{
    DOWNTIMED, FOLLOWERS_RAFT_STATUS, HISTORY, INSTANCES, NOT_LEADER, RAFT_LEADER, RAFT_PEERS, RAFT_STATUS,
};
use super::server::{Said, Script, Stage};

const HEAD: &[u8] = include_bytes!("../../../../lab/tests/recordings/1-healthy/all-instances.headers");
const LEADS: &[u8] = include_bytes!("../../../../lab/tests/recordings/1-healthy/leader-check.json");

/// Far longer than anything here takes: what hangs is a finding.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The password that is sent with each request; a server may send it back. Its quote and backslash are written otherwise
/// in some places.
const SECRET: &str = "hunter\"2\\x";

/// Which answer is replaced: whose, to what, and how many times it was given well before. The first byte of an input.
const REPLACED: [(&str, &str, usize); 10] = [
    ("leader", "leader-check", 0),
    ("leader", "leader-check", 1), // the closing one
    ("leader", "downtimed", 0),
    ("leader", "audit-recovery/0", 0),
    ("leader", "all-instances", 0),
    ("leader", "raft-status", 0),
    ("follower", "leader-check", 0),
    ("follower", "raft-status", 0),
    ("follower", "raft-leader", 0), // asked if there is no raft-status
    ("follower", "raft-peers", 0),
];

pub fn seeds() -> Vec<Vec<u8>> {
    let chunked = |body: &[u8]| [HEAD, format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n0\r\n\r\n"].concat();
    let early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\"OK\"".to_vec();
    let moved = format!("HTTP/1.0 301 Moved\r\nLocation: http://{SECRET}/\r\nConnection: close\r\n\r\n").into_bytes();
    let mut seeds = Vec::new();
    for (at, (server, path, _)) in (0..).zip(REPLACED) {
        let (status, body) = well(server, path);
        for response in [whole(status, body), chunked(body)] {
            seeds.push([&[at], &response[..]].concat());
        }
    }
    // What a server can send back of what it was sent.
    let in_json = serde_json::to_string(SECRET).unwrap();
    let in_a_field = String::from_utf8_lossy(INSTANCES);
    let in_a_field = in_a_field.replacen("\"ReadOnly\":false", &format!("\"ReadOnly\":{in_json}"), 1);
    let echoes = [
        whole("400 Bad Request", SECRET.as_bytes()),
        whole("400 Bad Request", in_json.as_bytes()),
        whole("401 Unauthorized", SECRET.as_bytes()),
        whole("200 OK", in_a_field.as_bytes()),
    ];
    seeds.extend(echoes.into_iter().chain([moved, early]).map(|response| [&[4], &response[..]].concat()));
    seeds
}

fn well(server: &str, path: &str) -> (&'static str, &'static [u8]) {
    let ok = |body| ("200 OK", body);
    match (server, path) {
        ("leader", "leader-check") => ok(LEADS),
        (_, "leader-check") => ("404 Not Found", NOT_LEADER),
        (_, "downtimed") => ok(DOWNTIMED),
        (_, "audit-recovery/0") => ok(HISTORY),
        (_, "all-instances") => ok(INSTANCES),
        ("leader", "raft-status") => ok(RAFT_STATUS),
        (_, "raft-status") => ok(FOLLOWERS_RAFT_STATUS),
        (_, "raft-leader") => ok(RAFT_LEADER),
        (_, "raft-peers") => ok(RAFT_PEERS),
        (_, path) if path.starts_with("audit-recovery/") => ok(b"[]"),
        _ => ("404 Not Found", b"404 page not found\n"),
    }
}

fn whole(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json; charset=UTF-8\r\nDate: Mon, 23 Nov 2026 06:20:36 GMT\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A response to one of the client's requests.
pub fn response(bytes: &[u8]) -> bool {
    let Some((which, bytes)) = bytes.split_first() else { return false };
    let replaced = REPLACED[usize::from(*which) % REPLACED.len()];
    let view = look(script(replaced, bytes.to_vec()));
    match view {
        LeaderView::Led(answer) => {
            let (server, path, _) = replaced;
            let is_check = (server, path) == ("leader", "leader-check");
            assert!(!is_check || bytes.windows(4).any(|four| four == b" 200"), "I8: it led by {bytes:?}");
            answer.skipped.iter().for_each(|skipped| may_be_told(&skipped.what));
            of_answer(answer);
            true
        }
        LeaderView::Blind(cause) => {
            may_be_told(&cause.to_string());
            false
        }
        LeaderView::Silent(cause) => {
            may_be_told(&cause.to_string());
            false
        }
        LeaderView::Conflict(cause) => {
            may_be_told(&cause.to_string());
            false
        }
        LeaderView::Leaderless => false,
    }
}

fn may_be_told(text: &str) {
    may_be_said(text);
    let escaped = format!("{SECRET:?}");
    assert!(!text.contains(SECRET) && !text.contains(escaped.trim_matches('"')), "I11: {text}");
}

fn script((server, path, after): (&'static str, &'static str, usize), bytes: Vec<u8>) -> Script {
    let asked = AtomicUsize::new(0);
    Arc::new(move |_, heard| {
        let head = String::from_utf8_lossy(heard);
        // `GET /leader/api/leader-check HTTP/1.1`
        let mut parts = head.split(' ').nth(1).unwrap_or_default().splitn(4, '/').skip(1);
        let (Some(of), Some(_), Some(asks)) = (parts.next(), parts.next(), parts.next()) else {
            return Said::Well(Vec::new());
        };
        if (of, asks) == (server, path) && asked.fetch_add(1, Ordering::Relaxed) >= after {
            return Said::Changed(bytes.clone());
        }
        let is_old = ["raft-leader", "raft-peers"].contains(&path) && of == server;
        let (status, body) = if is_old && asks == "raft-status" { well(of, "none") } else { well(of, asks) };
        Said::Well(whole(status, body))
    })
}

fn look(script: Script) -> LeaderView {
    thread_local! {
        static STAGE: Stage = Stage::new();
    }
    STAGE.with(|stage| {
        let endpoint = |name| format!("http://127.0.0.1:{}/{name}", stage.port()).parse().unwrap();
        let settings = Settings {
            endpoints: ["leader", "follower"].map(endpoint).into(),
            auth: Some(Credential { user: "admin".to_owned(), password: Secret::new(SECRET) }),
            tls: TlsSettings::default(),
            connect_timeout: TIMEOUT,
            read_timeout: TIMEOUT,
            tick_timeout: TIMEOUT,
        };
        let all = LeaderQuery { history: true, instances: true, backing: true, hooks: false };
        let began = Instant::now();
        let view = stage.play(&script, async {
            let mut client = Client::new(settings).unwrap();
            client.look(|| 42, |_, _| all, &HistoryProgress::default()).await
        });
        assert!(began.elapsed() < TIMEOUT, "it hung: {view:?}");
        view
    })
}
