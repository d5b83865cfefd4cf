//! The lab's Orchestrator answers as the recorded one did; each test names the fact.

use std::time::Duration;

use lab::nodes::Nodes;
use lab::orchestrator::{Fault, Orchestrator, Settings};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn start() -> (Nodes, Orchestrator) {
    let nodes = Nodes::new(&["node01", "node02", "node03"]);
    (nodes.clone(), Orchestrator::start(nodes, Settings::default()).await.unwrap())
}

async fn get(orchestrator: &Orchestrator, member: usize, path: &str) -> (u16, Value) {
    let endpoint = &orchestrator.endpoints()[member];
    let mut stream = TcpStream::connect(endpoint.trim_start_matches("http://")).await.unwrap();
    stream.write_all(format!("GET /api/{path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut bytes = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        size += stream.read(&mut bytes[size..]).await.unwrap();
        let text = String::from_utf8_lossy(&bytes[..size]);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length: usize = head.split("Content-Length: ").nth(1).unwrap().trim().parse().unwrap();
        if body.len() == length {
            return (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap());
        }
    }
}

/// The fields of an object and the types of their values, all the way down.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
        Value::Array(values) => values.first().map_or(Value::Array(vec![]), |first| Value::Array(vec![shape(first)])),
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
    }
}

#[tokio::test]
async fn its_answers_have_the_fields_and_types_of_the_recorded_ones() {
    let (_nodes, orchestrator) = start().await;
    orchestrator.fail_over("node01", Some("node03"));
    for (path, recorded) in [
        ("all-instances", include_str!("recordings/all-instances.json")),
        ("downtimed", include_str!("recordings/downtimed.json")),
        ("audit-recovery", include_str!("recordings/audit-recovery.json")),
        ("raft-status", include_str!("recordings/raft-status.json")),
    ] {
        let (status, body) = get(&orchestrator, 0, path).await;
        let recorded: Value = serde_json::from_str(recorded).unwrap();
        assert_eq!(status, 200);
        // The first instance may be a replica here and a primary there: the lists in it are left out.
        let without_lists = |mut shape: Value| {
            if let Some(fields) = shape.get_mut(0).and_then(Value::as_object_mut) {
                fields.retain(|_, value| !value.is_array());
            }
            shape
        };
        assert_eq!(without_lists(shape(&body)), without_lists(shape(&recorded)), "{path}");
    }
    assert_eq!(get(&orchestrator, 0, "leader-check").await, (200, "OK".into()));
    assert_eq!(get(&orchestrator, 1, "leader-check").await, (404, "Not leader".into()));
}

#[tokio::test]
async fn the_downtime_of_a_failover_is_on_the_leader_only_and_an_operators_on_all() {
    let (_nodes, orchestrator) = start().await;
    orchestrator.fail_over("node01", Some("node02"));
    let (_, downtimed) = get(&orchestrator, 2, "downtimed").await;
    assert_eq!(downtimed[0]["DowntimeReason"], "lost-in-recovery", "a follower asks the leader");
    orchestrator.kill_leader(Duration::ZERO).await;
    assert_eq!(get(&orchestrator, 1, "downtimed").await, (200, serde_json::json!([])));
    let (_, history) = get(&orchestrator, 1, "audit-recovery/0").await;
    assert_eq!(history[0]["SuccessorKey"]["Hostname"], "node02", "the history is replicated");
    orchestrator.begin_downtime("node03", "maintenance");
    orchestrator.set_leader(Some(2));
    assert_eq!(get(&orchestrator, 2, "downtimed").await.1[0]["Key"]["Hostname"], "node03");
}

#[tokio::test]
async fn a_returned_old_primary_is_a_cluster_of_its_own() {
    let (nodes, orchestrator) = start().await;
    nodes.kill("node01");
    orchestrator.fail_over("node01", Some("node02"));
    nodes.start("node01");
    orchestrator.poll();
    let (_, instances) = get(&orchestrator, 0, "all-instances").await;
    assert_eq!(instances[0]["ClusterName"], "node01:3306");
    assert_eq!(instances[2]["ClusterName"], "node02:3306");
    assert_eq!(get(&orchestrator, 0, "downtimed/nodecluster").await.1, serde_json::json!([]));
}

#[tokio::test]
async fn without_a_leader_a_member_answers_stale_data_with_200() {
    let (_nodes, orchestrator) = start().await;
    orchestrator.set_leader(None);
    assert_eq!(get(&orchestrator, 0, "leader-check").await.0, 404);
    assert_eq!(get(&orchestrator, 0, "raft-state").await.1, "Candidate");
    assert_eq!(get(&orchestrator, 0, "raft-leader").await.1, "");
    assert_eq!(get(&orchestrator, 0, "all-instances").await.0, 200);
    assert_eq!(get(&orchestrator, 0, "health").await.0, 200);
}

#[tokio::test]
async fn the_history_comes_in_pages_of_20_newest_first() {
    let (_nodes, orchestrator) = start().await;
    for n in 0..45 {
        orchestrator.record_old_failover("node01", "node02", Duration::from_secs(1_000 - n));
    }
    let sizes = [0, 1, 2, 3].map(|page| format!("audit-recovery/{page}"));
    let mut seen = Vec::new();
    for path in &sizes {
        seen.push(get(&orchestrator, 0, path).await.1.as_array().unwrap().len());
    }
    assert_eq!(seen, [20, 20, 5, 0]);
    assert_eq!(get(&orchestrator, 0, "audit-recovery").await.1[0]["Id"], 45);
}

#[tokio::test]
async fn a_hung_member_takes_the_connection_and_answers_nothing() {
    let (_nodes, orchestrator) = start().await;
    orchestrator.hang(0);
    let waiting = tokio::time::timeout(Duration::from_millis(100), get(&orchestrator, 0, "leader-check")).await;
    assert!(waiting.is_err());
    orchestrator.resume(0);
    orchestrator.fault(0, Some(Fault::Unauthorized));
    assert_eq!(get(&orchestrator, 0, "leader-check").await.0, 401);
    get(&orchestrator, 1, "no-such-thing").await;
    assert_eq!(orchestrator.unknown(), ["no-such-thing"]);
}
