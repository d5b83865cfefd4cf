//! The client under test, and the servers that it talks to.

pub use std::sync::Arc;
pub use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
pub use std::time::{Duration, Instant};

pub use crate::scripted_http::{DATE_S, Reply, Request, Server};
pub use proxysql_stonith::orchestrator::{Client, Settings, TlsSettings};
pub use proxysql_stonith::secret::{Credential, Secret};
pub use stonith_core::decide::LeaderQuery;
pub use stonith_core::orchestrator::{Answer, AnswerPart, Backing, HistoryProgress, LeaderView};

pub const NOTHING_MORE: LeaderQuery = LeaderQuery { history: false, instances: false, backing: false, hooks: false };
pub const HISTORY: LeaderQuery = LeaderQuery { history: true, instances: false, backing: false, hooks: false };
pub const BACKING: LeaderQuery = LeaderQuery { history: false, instances: false, backing: true, hooks: false };
pub const ALL: LeaderQuery = LeaderQuery { history: true, instances: true, backing: true, hooks: false };

/// More than any machine needs for what is not being waited for.
pub const SLACK: Duration = Duration::from_millis(700);

pub fn recorded(name: &str) -> String {
    let path = format!("{}/../lab/tests/recordings/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

/// The raft node 127.0.0.1x:10008 of three says that node 1y leads; 0 is nobody.
pub fn raft_status(me: u8, leader: u8) -> Reply {
    let whole = recorded("1-healthy/raft-status");
    let leads = if leader == 0 { String::new() } else { format!("127.0.0.1{leader}:10008") };
    let said = whole
        .replace("\"RaftBind\":\"127.0.0.13:10008\"", &format!("\"RaftBind\":\"127.0.0.1{me}:10008\""))
        .replace("\"RaftAdvertise\":\"127.0.0.13:10008\"", &format!("\"RaftAdvertise\":\"127.0.0.1{me}:10008\""))
        .replace("\"Leader\":\"127.0.0.13:10008\"", &format!("\"Leader\":\"{leads}\""));
    Reply::ok(said)
}

pub fn not_found() -> Reply {
    Reply::Json(404, "404 page not found\n".to_owned())
}

pub fn error_500(message: &str) -> Reply {
    Reply::Json(500, format!("{{\"Code\":\"ERROR\",\"Message\":\"{message}\",\"Details\":null}}"))
}

/// What a well-behaved node `me` of three says while node `leader` leads.
pub fn well(me: u8, leader: u8, path: &str) -> Reply {
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

pub fn node(me: u8, leader: u8) -> Server {
    Server::start(move |request| well(me, leader, &request.path))
}

/// A node that accepts, reads, and never answers.
pub fn hung() -> Server {
    Server::start(|_| Reply::Hang)
}

/// A leader that answers one path in its own way.
pub fn leader_but(path: &'static str, reply: impl Fn() -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |request| if request.path == path { reply() } else { well(1, 1, &request.path) })
}

pub fn settings(urls: &[String]) -> Settings {
    Settings {
        endpoints: urls.iter().map(|url| url.parse().unwrap()).collect(),
        auth: None,
        tls: TlsSettings::default(),
        connect_timeout: Duration::from_millis(500),
        read_timeout: Duration::from_secs(1),
        tick_timeout: Duration::from_millis(2_500),
    }
}

pub fn client(servers: &[&Server]) -> Client {
    Client::new(settings(&servers.iter().map(|server| server.url()).collect::<Vec<_>>())).unwrap()
}

pub async fn look(client: &mut Client, query: LeaderQuery) -> LeaderView {
    client.look(|| 42, |_, _| query, &HistoryProgress::default()).await
}

/// One tick of a new client.
pub async fn once(servers: &[&Server], query: LeaderQuery) -> LeaderView {
    look(&mut client(servers), query).await
}

pub fn led(view: LeaderView) -> Answer {
    match view {
        LeaderView::Led(answer) => answer,
        other => panic!("expected a leader, got {other:?}"),
    }
}

pub fn blind(view: LeaderView) -> String {
    match view {
        LeaderView::Blind(cause) => cause.to_string(),
        other => panic!("expected to be blind, got {other:?}"),
    }
}

/// What can't be used: of the whole answer, or of a side question, which costs no lease.
pub fn what_failed(view: LeaderView) -> String {
    match view {
        LeaderView::Led(answer) => {
            assert!(answer.history.is_none() || answer.instances.is_none(), "{answer:?}");
            answer.skipped.into_iter().map(|skipped| skipped.what).collect()
        }
        other => blind(other),
    }
}

pub fn silent(view: LeaderView) -> String {
    match view {
        LeaderView::Silent(cause) => cause.to_string(),
        other => panic!("expected silence, got {other:?}"),
    }
}
