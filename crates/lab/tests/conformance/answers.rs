//! Recorded answers of Orchestrator's API: body, status, headers.

use std::collections::BTreeMap;
use std::time::Duration;

use lab::nodes::Nodes;
use lab::orchestrator::{Orchestrator, Settings};
use serde_json::Value;

use crate::client::{Answer, SOON, ask};
use crate::compare::{self, differences, differences_to_another_build};
use crate::recordings::{Kind, of, read};
use crate::requests;

/// An Orchestrator of the lab that nobody but the test makes look at its nodes.
pub async fn orchestrator(nodes: &Nodes, leader: usize) -> Orchestrator {
    with(nodes, leader, Settings::default()).await
}

/// One that is set up in its own way.
pub async fn with(nodes: &Nodes, leader: usize, settings: Settings) -> Orchestrator {
    let settings = Settings { poll_interval: Duration::from_secs(3600), ..settings };
    let orchestrator = Orchestrator::start(nodes.clone(), settings).await.unwrap();
    orchestrator.set_leader(Some(leader));
    orchestrator
}

pub const NODES: [&str; 3] = ["node01", "node02", "node03"];

/// What the recordings of a folder were recorded of, and who led.
async fn recorded_of(folder: &str) -> (Orchestrator, usize) {
    let nodes = Nodes::new(&NODES);
    let both = Nodes::new(&NODES).and(&["my01", "my02", "my03"]);
    let fail_over = async |nodes: &Nodes, failed: &str, successor: &str, leader: usize| {
        let orchestrator = orchestrator(nodes, leader).await;
        nodes.kill(failed);
        orchestrator.poll();
        orchestrator.fail_over(failed, Some(successor));
        orchestrator
    };
    match folder {
        "1-healthy" => (orchestrator(&both, 2).await, 2),
        "2-failover" => (fail_over(&both, "node01", "node03", 2).await, 2),
        "3a-return-no-tool" => {
            let orchestrator = fail_over(&both, "node01", "node03", 2).await;
            both.start("node01");
            orchestrator.poll();
            (orchestrator, 2)
        }
        "10-mysql97" => (fail_over(&both, "my01", "my03", 2).await, 2),
        "12-manual-downtime" => {
            let orchestrator = orchestrator(&nodes, 0).await;
            asked(&orchestrator, 0, "begin-downtime/node02/3306/alice/x/10m").await;
            (orchestrator, 0)
        }
        "13-classic-orchestrator" => (fail_over(&nodes, "node01", "node02", 0).await, 0),
        "16-leader-killed-after-failover" => {
            let orchestrator = fail_over(&nodes, "node01", "node02", 0).await;
            orchestrator.kill(0);
            orchestrator.set_leader(Some(2));
            (orchestrator, 2)
        }
        "18-commands" => (orchestrator(&nodes, 0).await, 0),
        "20-basic-auth" => {
            let auth = Some(("ops".to_owned(), "secret".to_owned()));
            (with(&nodes, 0, Settings { auth, ..Settings::default() }).await, 0)
        }
        _ => panic!("nobody knows what {folder} was recorded of"),
    }
}

/// An answer of the lab, with the names that the recordings have.
pub async fn asked(orchestrator: &Orchestrator, member: usize, path: &str) -> Answer {
    asked_with(orchestrator, member, path, "").await
}

async fn asked_with(orchestrator: &Orchestrator, member: usize, path: &str, headers: &str) -> Answer {
    let endpoints = orchestrator.endpoints();
    let path = path.replace("labcluster", "nodecluster");
    let asked = ask(&endpoints[member], &path, headers);
    let mut answer = tokio::time::timeout(SOON, asked).await.expect("an answer").unwrap();
    answer.body = answer.body.replace("nodecluster", "labcluster");
    for (n, endpoint) in endpoints.iter().enumerate() {
        answer.body = answer.body.replace(endpoint, &format!("http://127.0.0.1{}:3000", n + 1));
        answer.body = answer.body.replace(&format!("\"orc{}\"", n + 1), "\"vm\"");
    }
    answer
}

/// The request whose answer has this name: `_` stands for `/`, and for `:` before a port where a cluster is named.
fn request(name: &str) -> String {
    let name = name.trim_end_matches("-after");
    let names_a_cluster = ["cluster_", "downtimed_"].iter().any(|start| name.starts_with(start));
    let name = if names_a_cluster { name.replace("_3306", ":3306") } else { name.to_owned() };
    name.replace('_', "/")
}

/// The request of a recording.
pub fn request_of(path: &str) -> String {
    let (_, file) = path.split_once('/').unwrap();
    let (name, _) = file.rsplit_once('.').unwrap();
    request(name.split_once("__").map_or(name, |(_, name)| name))
}

/// A body: JSON, or text.
pub fn body(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.trim_end().to_owned()))
}

/// Status line and headers; the date and the body's length are other ones.
fn head(text: &str) -> Vec<String> {
    let line = |line: &str| match line.split_once(": ") {
        Some((name @ ("Date" | "Content-Length"), _)) => name.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(|text| line(text.trim_end())).filter(|line| !line.is_empty()).collect()
}

/// Compares a recording with what the lab answers.
async fn compare(path: &str, orchestrator: &Orchestrator, leader: usize) -> Vec<String> {
    let (folder, file) = path.split_once('/').unwrap();
    let (name, extension) = file.rsplit_once('.').unwrap();
    if extension == "codes" {
        let mut codes = String::new();
        for member in 0..3 {
            let answer = asked(orchestrator, member, name).await;
            codes += &format!("127.0.0.1{} {name} {}\n", member + 1, answer.status);
        }
        return if codes == read(path) { Vec::new() } else { vec![codes] };
    }
    let member = if name.starts_with("follower__") { 1 } else { leader };
    let wrong = file.starts_with("wrong__").then_some("Authorization: Basic b3BzOndyb25n\r\n");
    let answer = asked_with(orchestrator, member, &request_of(path), wrong.unwrap_or_default()).await;
    if extension == "headers" {
        let (real, lab) = (head(&read(path)), head(&answer.head));
        return if real == lab { Vec::new() } else { vec![format!("real {real:?}, lab {lab:?}")] };
    }
    let (real, lab) = (body(&read(path)), body(&answer.body));
    match folder {
        "13-classic-orchestrator" => differences_to_another_build(&real, &lab),
        _ => differences(&real, &lab),
    }
}

#[tokio::test]
async fn recorded_answers_are_the_labs() {
    let mut folders: BTreeMap<String, (Orchestrator, usize)> = BTreeMap::new();
    let (mut wrong, recordings) = (String::new(), of(Kind::Answer));
    for path in &recordings {
        let (folder, _) = path.split_once('/').unwrap();
        if !folders.contains_key(folder) {
            folders.insert(folder.to_owned(), recorded_of(folder).await);
        }
        let (orchestrator, leader) = &folders[folder];
        for difference in compare(path, orchestrator, *leader).await {
            wrong += &format!("{path}{difference}\n");
        }
    }
    let (more, requests) = requests::compare_all().await;
    assert!(wrong.is_empty() && more.is_empty(), "{wrong}{more}");
    compare::each_exception_is_needed();
    println!(
        "{} recorded answers of Orchestrator compared over {} states of it, and {requests} requests in their order",
        recordings.len(),
        folders.len()
    );
}
