//! Parses every recorded answer to this client's requests, of each build of Orchestrator, and checks what it says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;

/// What the recordings say, by folder and request.
const TOLD: &str = include_str!("recorded.txt");

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../lab/tests/recordings")
}

/// Summarises an answer; `None` if the client never sends this request.
fn told(request: &str, body: &str) -> Option<String> {
    let bytes = body.as_bytes();
    let name = |node: &Node| node.host.as_str().to_owned();
    let named = |node: &Option<Node>| node.as_ref().map_or("nobody".to_owned(), name);
    let words: Vec<String> = match request.split(['/', '?']).next()? {
        "downtimed" if !request.contains('/') => {
            let told = |one: &Downtime| format!("{} {} by {}", name(&one.node), one.reason, one.owner);
            whole(downtimes(bytes, 0)).iter().map(told).collect()
        }
        "all-instances" => whole(instances(bytes, 0)).iter().map(instance_told).collect(),
        "audit-recovery" => {
            let told = |one: &Recovery| {
                let supersedes =
                    if stonith_core::orchestrator::supersedes(one) { "" } else { ", which promotes nobody" };
                format!("{} to {}{supersedes}", name(&one.failed), named(&one.successor))
            };
            let records = whole(recoveries(bytes, 0));
            if !["audit-recovery", "audit-recovery/0"].contains(&request) {
                return None; // a part of the history says nothing by itself
            }
            records.iter().map(told).collect()
        }
        "raft-status" | "raft-leader" | "raft-peers" if says_raft_is_off(bytes) => vec!["raft is off".to_owned()],
        "raft-status" => {
            let status = raft_status(bytes).unwrap();
            vec![format!("{} of {} says {:?} leads", status.node, status.peers, status.leader)]
        }
        "raft-leader" => vec![raft_leader(bytes).unwrap()],
        "raft-peers" => vec![raft_peers(bytes).unwrap().to_string()],
        "health" if body.contains("\"RaftAdvertise\":\"\"") => match health(bytes).unwrap() {
            Health::NobodyIsActive => vec!["no node is active".to_owned()],
            _ => vec!["a node is active".to_owned()],
        },
        _ => return None,
    };
    Some(if words.is_empty() { "none".to_owned() } else { words.join("; ") })
}

/// All entries. No recorded entry may be skipped.
fn whole<T>(entries: Result<Entries<T>, AnswerError>) -> Vec<T> {
    let entries = entries.unwrap();
    assert_eq!(entries.skipped, []);
    entries.read
}

fn instance_told(one: &Instance) -> String {
    let name = one.node.host.as_str();
    let role = match &one.primary {
        Some(primary) if one.replicating => format!("replicates from {}", primary.host.as_str()),
        Some(primary) => format!("does not replicate from {}", primary.host.as_str()),
        None => "is a primary".to_owned(),
    };
    let flags = [(!one.valid, " unseen"), (!one.read_only, " writable"), (one.downtimed, " downtimed")];
    let flags: String = flags.iter().filter(|(is, _)| *is).map(|(_, flag)| *flag).collect();
    format!("{name} {role}{flags}")
}

/// All recorded answers, from single files and from logs of requests.
fn recorded() -> BTreeMap<String, Vec<(String, String)>> {
    let mut found: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut add = |folder: &str, request: &str, body: &str| {
        found.entry(folder.to_owned()).or_default().push((request.to_owned(), body.to_owned()));
    };
    for entry in std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let folder = entry.file_name().unwrap().to_str().unwrap().to_owned();
        let mut files: Vec<PathBuf> = std::fs::read_dir(&entry).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        for file in files {
            let text = || std::fs::read_to_string(&file).unwrap();
            let name = file.file_stem().unwrap().to_str().unwrap().trim_end_matches("-after");
            match file.extension().and_then(|extension| extension.to_str()) {
                // These requests were refused.
                Some("json") if folder == "20-basic-auth" => assert!(!is_json(text().as_bytes())),
                Some("json") => add(&folder, &name.replace("follower__", "").replace('_', "/"), &text()),
                Some("txt") if name == "log" => {
                    for line in text().lines() {
                        let Some((head, _)) = line.rsplit_once(" [http 200") else { continue };
                        let words: Vec<&str> = head.splitn(4, ' ').collect();
                        let [_, _, request, body] = words[..] else { panic!("{line}") };
                        add(&folder, request, body.trim());
                    }
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn every_recorded_answer_reads_as_what_happened() {
    let (mut all, mut answers) = (String::new(), 0);
    for (folder, recorded) in recorded() {
        let mut last = BTreeMap::new();
        for (request, body) in recorded {
            let Some(told) = told(&request, &body) else { continue };
            answers += 1;
            let request = request.split(['/', '?']).next().unwrap().to_owned();
            if last.insert(request.clone(), told.clone()) != Some(told.clone()) {
                all += &format!("{folder} {request}: {told}\n");
            }
        }
    }
    assert_eq!(all, TOLD);
    println!("{answers} recorded answers of Orchestrator read by the client");
}
