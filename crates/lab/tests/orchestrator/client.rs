//! Labs to ask, and a client that takes an answer byte by byte.

use std::time::Duration;

use lab::nodes::Nodes;
use lab::orchestrator::{Orchestrator, Settings};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const TICK: Duration = Duration::from_millis(20);

/// Longer than any answer takes that comes at all.
pub const SOON: Duration = Duration::from_secs(10);

/// An answer's status, head and body.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

pub async fn ask(endpoint: &str, path: &str, headers: &str) -> std::io::Result<Answer> {
    let rest = endpoint.trim_start_matches("http://");
    let (host, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let mut stream = TcpStream::connect(host).await?;
    stream.write_all(format!("GET {prefix}/api/{path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes()).await?;
    let mut bytes = Vec::new();
    loop {
        if let Some(answer) = parse(&String::from_utf8_lossy(&bytes)) {
            return Ok(answer);
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let body = if head.contains("Transfer-Encoding: chunked") {
        let (length, rest) = body.strip_suffix("\r\n0\r\n\r\n")?.split_once("\r\n")?;
        assert_eq!(rest.len(), usize::from_str_radix(length, 16).unwrap());
        rest
    } else {
        let length: usize = head.split("Content-Length: ").nth(1)?.split("\r\n").next()?.parse().unwrap();
        if body.len() < length {
            return None;
        }
        body
    };
    Some(Answer { status: head[9..12].parse().unwrap(), head: head.to_owned(), body: body.to_owned() })
}

pub async fn get(orchestrator: &Orchestrator, member: usize, path: &str) -> (u16, Value) {
    let endpoint = &orchestrator.endpoints()[member];
    let answer = tokio::time::timeout(SOON, ask(endpoint, path, "")).await.expect("an answer").unwrap();
    (answer.status, serde_json::from_str(&answer.body).unwrap_or(Value::String(answer.body)))
}

/// Whether a member answers nothing for a while.
pub async fn hangs(orchestrator: &Orchestrator, member: usize, path: &str) -> bool {
    tokio::time::timeout(TICK * 5, ask(&orchestrator.endpoints()[member], path, "")).await.is_err()
}

/// Waits until it was time to poll as many times.
pub async fn rounds(orchestrator: &Orchestrator, count: u64) {
    let until = orchestrator.rounds() + count;
    while orchestrator.rounds() < until {
        tokio::time::sleep(TICK / 4).await;
    }
}

pub async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let until = tokio::time::Instant::now() + SOON;
    while !is_so().await {
        assert!(tokio::time::Instant::now() < until, "{what}");
        tokio::time::sleep(TICK).await;
    }
}

pub async fn start() -> (Nodes, Orchestrator) {
    start_with(Settings::default()).await
}

pub async fn start_with(settings: Settings) -> (Nodes, Orchestrator) {
    let nodes = Nodes::new(&["node01", "node02", "node03"]);
    (nodes.clone(), Orchestrator::start(nodes, settings).await.unwrap())
}

/// The clusters of the recordings, after the failover that was recorded.
pub async fn start_failed_over() -> (Nodes, Orchestrator) {
    let nodes = Nodes::new(&["node01", "node02", "node03"]).and(&["my01", "my02", "my03"]);
    let orchestrator = Orchestrator::start(nodes.clone(), Settings::default()).await.unwrap();
    nodes.kill("node01");
    orchestrator.fail_over("node01", Some("node03"));
    (nodes, orchestrator)
}
