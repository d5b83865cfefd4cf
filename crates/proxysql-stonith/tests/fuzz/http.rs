//! Orchestrator's answers through the real client: bodies, status lines, whole HTTP responses.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proxysql_stonith::orchestrator::{Client, Settings, TlsSettings};
use stonith_core::node::Node;
use stonith_core::observed::LeaderView;
use stonith_core::wants::Wants;

use crate::mutation::{Mutator, fuzz, recordings};
use crate::server::{Said, Server};

const PATHS: [&str; 5] = ["leader-check", "downtimed", "audit-recovery/0", "all-instances", "raft-status"];
const TICK: Duration = Duration::from_millis(600);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(2);

fn recorded(name: &str) -> Vec<u8> {
    let path = format!("{}/../lab/tests/recordings/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap()
}

fn response(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json; charset=UTF-8\r\nDate: Mon, 23 Nov 2026 06:20:36 GMT\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body.to_vec()].concat()
}

fn well(leads: bool, path: &str) -> Vec<u8> {
    match path {
        "leader-check" if leads => response("200 OK", b"\"OK\""),
        "leader-check" => response("404 Not Found", b"\"Not leader\""),
        "downtimed" => response("200 OK", &recorded("2-failover/downtimed")),
        "audit-recovery/0" => response("200 OK", &recorded("2-failover/audit-recovery")),
        "all-instances" => response("200 OK", &recorded("2-failover/all-instances")),
        "raft-status" if leads => response("200 OK", &recorded("1-healthy/raft-status")),
        "raft-status" => response("200 OK", &recorded("1-healthy/follower__raft-status")),
        path if path.starts_with("audit-recovery/") => response("200 OK", b"[]"),
        _ => response("404 Not Found", b"404 page not found\n"),
    }
}

/// A leader and a follower; one of their answers is these bytes.
struct Orchestrators([Server; 2]);

impl Orchestrators {
    fn start() -> Self {
        Self([Server::start(), Server::start()])
    }

    /// From the second request for `path` on if `later`, as the closing check is.
    fn answer(&self, server: usize, path: &'static str, later: bool, close: bool, bytes: &[u8]) {
        for (at, one) in self.0.iter().enumerate() {
            let (bytes, mut asked) = (bytes.to_vec(), 0);
            one.script(move |_, _, heard| {
                let head = String::from_utf8_lossy(heard);
                let target = head.split(' ').nth(1)?.trim_start_matches("/api/").to_owned();
                if at != server || target != path {
                    return Some(Said::Bytes(well(at == 0, &target)));
                }
                asked += 1;
                match (later && asked == 1, close) {
                    (true, _) => Some(Said::Bytes(well(at == 0, &target))),
                    (_, true) => Some(Said::Last(bytes.clone())),
                    (_, false) => Some(Said::Bytes(bytes.clone())),
                }
            });
        }
    }

    fn look(&self, runtime: &tokio::runtime::Runtime) -> LeaderView {
        let settings = Settings {
            endpoints: self.0.iter().map(|server| format!("http://{}", server.address).parse().unwrap()).collect(),
            auth: None,
            tls: TlsSettings::default(),
            connect_timeout: Duration::from_millis(200),
            read_timeout: Duration::from_millis(150),
            tick_timeout: TICK,
        };
        let served: BTreeSet<Node> = ["node01", "node03"].map(|name| Node::new(name, 3306).unwrap()).into();
        let all = Wants { history: true, instances: true, backing: true };
        let began = Instant::now();
        let view = runtime.block_on(async {
            let mut client = Client::new(settings).unwrap();
            client.look(|| 42, |_, _| all, &served).await
        });
        assert!(began.elapsed() < TICK + SLACK, "it hung for {:?}: {view:?}", began.elapsed());
        view
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn choose(mutator: &mut Mutator) -> (usize, &'static str, bool) {
    let server = usize::from(mutator.0.u8(0..4) == 0);
    let path = if server == 0 {
        PATHS[mutator.0.usize(0..PATHS.len())]
    } else {
        ["leader-check", "raft-status"][mutator.0.usize(0..2)]
    };
    (server, path, mutator.0.bool())
}

#[test]
fn the_bodies_that_nobody_touched_make_a_leader() {
    let orchestrators = Orchestrators::start();
    orchestrators.answer(0, "none", false, false, b"");
    let view = orchestrators.look(&runtime());
    assert!(
        matches!(&view, LeaderView::Led(answer) if answer.history.is_some() && answer.instances.is_some()),
        "{view:?}"
    );
}

/// Whole bodies with a right head, so that what is in them is read.
#[test]
fn any_json_is_an_answer_or_an_error() {
    let (orchestrators, runtime) = (Orchestrators::start(), runtime());
    let seeds = recordings("../lab/tests/recordings");
    let (mut led, mut not) = (0, 0);
    fuzz("json", 500, |mutator| {
        let (server, path, later) = choose(mutator);
        let own = well(server == 0, path);
        let own = own[own.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4..].to_vec();
        let other = seeds[mutator.0.usize(0..seeds.len())].clone();
        let body = mutator.mutated(&[own.clone(), own.clone(), own, other]);
        let status = if mutator.0.u8(0..8) == 0 { "500 Internal Server Error" } else { "200 OK" };
        orchestrators.answer(server, path, later && path == "leader-check", false, &response(status, &body));
        match orchestrators.look(&runtime) {
            LeaderView::Led(_) => led += 1,
            _ => not += 1,
        }
    });
    assert!(std::env::var("FUZZ_RUNS").is_ok() || (led > 50 && not > 50), "{led} led, {not} not: the mutations miss");
}

/// Whole responses, status line and head included; cut off or left open.
#[test]
fn any_bytes_for_a_response_are_an_answer_or_an_error() {
    let (orchestrators, runtime) = (Orchestrators::start(), runtime());
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n\"OK\"\r\n0\r\n\r\n".to_vec();
    let odd = b"HTTP/1.0 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nConnection: close\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n".to_vec();
    fuzz("response", 250, |mutator| {
        let (server, path, later) = choose(mutator);
        let own = well(server == 0, path);
        let mut bytes = mutator.mutated(&[own.clone(), own.clone(), chunked.clone(), odd.clone()]);
        if mutator.0.bool() {
            // In the head, where mutations of a long body hardly come.
            let head = bytes.len().min(160);
            let mutated = mutator.mutated(&[bytes[..head].to_vec()]);
            bytes.splice(..head, mutated);
        }
        let close = mutator.0.u8(0..4) != 0;
        orchestrators.answer(server, path, later && path == "leader-check", close, &bytes);
        orchestrators.look(&runtime);
    });
}
