//! Orchestrator's JSON. What is understood must be what any reader of JSON finds there.

use proxysql_stonith::orchestrator::answers;
use proxysql_stonith::untrusted_text::one_line;
use serde_json::Value;
use stonith_core::node::Node;
use stonith_core::orchestrator::{Analysis, Answer, Recovery, RecoveryHistory};

use super::decision::{DATE_S, answer, of_answer};
use super::{may_be_said, owned};

pub const DOWNTIMED: &[u8] = include_bytes!("../../../../lab/tests/recordings/2-failover/downtimed.json");
pub const INSTANCES: &[u8] = include_bytes!("../../../../lab/tests/recordings/2-failover/all-instances.json");
pub const HISTORY: &[u8] = include_bytes!("../../../../lab/tests/recordings/2-failover/audit-recovery.json");
pub const RAFT_STATUS: &[u8] = include_bytes!("../../../../lab/tests/recordings/1-healthy/raft-status.json");
pub const FOLLOWERS_RAFT_STATUS: &[u8] =
    include_bytes!("../../../../lab/tests/recordings/1-healthy/follower__raft-status.json");
pub const RAFT_LEADER: &[u8] = include_bytes!("../../../../lab/tests/recordings/1-healthy/raft-leader.json");
pub const RAFT_PEERS: &[u8] = include_bytes!("../../../../lab/tests/recordings/1-healthy/raft-peers.json");
pub const NOT_LEADER: &[u8] = include_bytes!("../../../../lab/tests/recordings/1-healthy/follower__leader-check.json");
const ERROR: &[u8] = include_bytes!("../../../../lab/tests/recordings/1-healthy/downtimed_nosuch.json");

/// The recorded instances after node01 was made a replica: its entry is that of node02.
pub fn repaired() -> Vec<u8> {
    let mut instances: Vec<Value> = serde_json::from_slice(INSTANCES).unwrap();
    let of = |name: &str| instances.iter().position(|instance| instance["Key"]["Hostname"] == name).unwrap();
    let (node01, node02) = (of("node01"), of("node02"));
    instances[node01] = instances[node02].clone();
    instances[node01]["Key"]["Hostname"] = "node01".into();
    serde_json::to_vec(&instances).unwrap()
}

/// Lists of instances: downtimed ones are written like all others.
pub fn instance_seeds() -> Vec<Vec<u8>> {
    let thread = "\"ReplicationSQLThreadRuning\":";
    let half = String::from_utf8(repaired()).unwrap().replace(&format!("{thread}true"), &format!("{thread}false"));
    let mut seeds = owned(&[
        DOWNTIMED,
        INSTANCES,
        include_bytes!("../../../../lab/tests/recordings/10-mysql97/downtimed.json"),
        include_bytes!("../../../../lab/tests/recordings/12-manual-downtime/downtimed.json"),
        include_bytes!("../../../../lab/tests/recordings/13-classic-orchestrator/downtimed.json"),
        include_bytes!("../../../../lab/tests/recordings/3a-return-no-tool/all-instances.json"),
        b"[]",
        b"null",
        ERROR,
    ]);
    seeds.extend([repaired(), half.into_bytes()]);
    seeds
}

/// Pages of the history: also what an older Orchestrator says, and recoveries that supersede nobody.
pub fn recovery_seeds() -> Vec<Vec<u8>> {
    let recorded = String::from_utf8_lossy(HISTORY);
    let analyses = ["DeadCoMasterAndSomeSlaves", "DeadIntermediateMaster", "UnreachableMaster", ""];
    let mut seeds = owned(&[HISTORY, b"[]", b"null", ERROR]);
    seeds.extend(analyses.map(|analysis| recorded.replace("DeadMaster", analysis).into_bytes()));
    seeds.push(recorded.replace("{\"Hostname\":\"node03\",\"Port\":3306}", "null").into_bytes());
    seeds
}

/// What raft requests answer.
pub fn raft_seeds() -> Vec<Vec<u8>> {
    let many: Vec<String> = (1..=9).map(|node| format!("127.0.0.{node}:10008")).collect();
    let mut seeds =
        owned(&[RAFT_STATUS, FOLLOWERS_RAFT_STATUS, RAFT_LEADER, RAFT_PEERS, NOT_LEADER, b"\"\"", b"null", ERROR]);
    seeds.push(serde_json::to_vec(&many).unwrap());
    seeds
}

/// Errors, and what else is no list.
pub fn error_seeds() -> Vec<Vec<u8>> {
    let off = b"{\"Code\":\"ERROR\",\"Message\":\"raft-state: not running with raft setup\",\"Details\":null}";
    owned(&[ERROR, off, RAFT_STATUS, NOT_LEADER, b"404 page not found\n"])
}

/// `/api/downtimed`.
pub fn downtimed(bytes: &[u8]) -> bool {
    let Some(entries) = understood(answers::downtimes(bytes, DATE_S)) else { return false };
    let list = entries.read;
    if let Some(json) = list_of_another_reader(bytes).filter(|_| entries.skipped.is_empty()) {
        let json: Vec<&Value> = json.iter().filter(|entry| entry["IsDowntimed"] == true).collect();
        assert_eq!(list.len(), json.len());
        for (downtime, json) in list.iter().zip(json) {
            assert_eq!(Some(&downtime.node), node(&json["Key"]).as_ref());
            assert_eq!(downtime.reason, text(&json["DowntimeReason"]));
            assert_eq!(downtime.owner, text(&json["DowntimeOwner"]));
        }
    }
    of_answer(Answer { downtimes: list, ..answer() });
    true
}

/// `/api/all-instances`.
pub fn all_instances(bytes: &[u8]) -> bool {
    let Some(entries) = understood(answers::instances(bytes, DATE_S)) else { return false };
    let list = entries.read;
    if let Some(json) = list_of_another_reader(bytes).filter(|json| json.len() == list.len()) {
        for (instance, json) in list.iter().zip(&json) {
            assert_eq!(Some(&instance.node), node(&json["Key"]).as_ref());
            assert_eq!(instance.primary, node(&json["MasterKey"]));
            let runs = |thread| json[thread] == true;
            assert_eq!(
                [instance.valid, instance.read_only, instance.downtimed],
                ["IsLastCheckValid", "ReadOnly", "IsDowntimed"].map(runs)
            );
            assert_eq!(
                instance.replicating,
                runs("ReplicationIOThreadRuning") && runs("ReplicationSQLThreadRuning"),
                "one thread is not both"
            );
        }
    }
    // With a record beside it, as after a failover, it may prove a node.
    let history = answers::recoveries(HISTORY, DATE_S).ok().map(|records| RecoveryHistory::whole("orc1", records.read));
    of_answer(Answer { instances: Some(list), history, ..answer() });
    true
}

/// A page of `/api/audit-recovery`.
pub fn audit_recovery(bytes: &[u8]) -> bool {
    let Some(entries) = understood(answers::recoveries(bytes, DATE_S)) else { return false };
    let records = entries.read;
    if let Some(json) = list_of_another_reader(bytes).filter(|_| entries.skipped.is_empty()) {
        assert_eq!(records.len(), json.len());
        for (record, json) in records.iter().zip(&json) {
            is_the_record(record, json);
        }
    }
    let instances = answers::instances(INSTANCES, DATE_S).ok().map(|instances| instances.read);
    of_answer(Answer { history: Some(RecoveryHistory::whole("orc1", records)), instances, ..answer() });
    true
}

fn is_the_record(record: &Recovery, json: &Value) {
    assert_eq!(record.uid, text(&json["UID"]));
    assert!(record.uid.starts_with(&record.at_ns.to_string()) || record.uid.starts_with(['0', '+']), "{record:?}");
    assert_eq!(record.successful, json["IsSuccessful"] == true);
    let end = text(&json["RecoveryEndTimestamp"]);
    assert_eq!(record.end_s.is_none(), end.is_empty() || end.starts_with("0000-00-00"));
    assert_eq!(record.successor, node(&json["SuccessorKey"]));
    let entry = &json["AnalysisEntry"];
    assert_eq!(Some(&record.failed), node(&entry["AnalyzedInstanceKey"]).as_ref());
    let analysis = text(&entry["Analysis"]);
    let of_a_primary = analysis.starts_with("DeadMaster") || analysis.starts_with("DeadCoMaster");
    assert!(record.analysis == Analysis::Other || of_a_primary, "{analysis} supersedes nobody");
}

/// `/api/raft-status`.
pub fn raft_status(bytes: &[u8]) -> bool {
    let Some(status) = understood(answers::raft_status(bytes)) else { return false };
    if let Some(json) = another_reader(bytes) {
        assert_eq!(status.leader, text(&json["Leader"]));
        assert!([&json["RaftAdvertise"], &json["RaftBind"]].map(text).contains(&status.node.as_str()));
        assert_eq!(status.peers, json["Peers"].as_array().map_or(0, Vec::len));
    }
    true
}

/// `/api/raft-leader`, of an older Orchestrator.
pub fn raft_leader(bytes: &[u8]) -> bool {
    let Some(leader) = understood(answers::raft_leader(bytes)) else { return false };
    assert_eq!(another_reader(bytes), Some(Value::String(leader)));
    true
}

/// `/api/raft-peers`, of an older Orchestrator.
pub fn raft_peers(bytes: &[u8]) -> bool {
    let Some(peers) = understood(answers::raft_peers(bytes)) else { return false };
    assert_eq!(list_of_another_reader(bytes).map(|list| list.len()), Some(peers));
    true
}

/// An error's body: whether raft is off, and whether it is JSON at all, as all that Orchestrator says is.
pub fn error_body(bytes: &[u8]) -> bool {
    let off = answers::says_raft_is_off(bytes);
    assert!(!off || answers::is_json(bytes));
    if let Some(json) = another_reader(bytes) {
        assert!(answers::is_json(bytes));
        assert!(!off || text(&json["Message"]).contains("not running with raft"), "{json}");
    }
    off
}

/// What was understood; an error goes the way into a message that the client sends it.
fn understood<T>(read: Result<T, answers::AnswerError>) -> Option<T> {
    read.map_err(|error| may_be_said(&one_line(&error.to_string()))).ok()
}

/// The same bytes to a reader that takes any JSON. It is stricter on what we pass over (half a letter in a field that
/// nobody asked for), and of a key that is there twice it takes the last: then it can't tell.
fn another_reader(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice(bytes).ok()
}

fn list_of_another_reader(bytes: &[u8]) -> Option<Vec<Value>> {
    another_reader(bytes)?.as_array().cloned()
}

fn text(json: &Value) -> &str {
    json.as_str().unwrap_or_default()
}

/// A key; none where there is no such node: `{"Hostname":"","Port":0}`, `_`, null.
fn node(json: &Value) -> Option<Node> {
    let hostname = text(&json["Hostname"]);
    let port = json["Port"].as_u64().and_then(|port| u16::try_from(port).ok())?;
    if hostname == "_" { None } else { Node::new(hostname, port).ok() }
}
