//! Orchestrator's JSON as core types (FACTS §8, §9). Unknown fields are ignored; a needed one of a wrong type refuses
//! the answer whole.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Deserialize;
use stonith_core::node::Node;
use stonith_core::observed::{Analysis, Downtime, Instance, Recovery};

use super::json::{Bounded, Object};
use crate::foreign::shown;

/// The longest UID of a recovery: real ones have 84.
const UID_MAX_BYTES: usize = 256;

/// Why an answer can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// Not the JSON we know.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A time that is none.
    #[error("{field} of {of} is {value:?}, which is not a time")]
    Time {
        /// Which field.
        field: &'static str,
        /// Of what.
        of: String,
        /// Its value.
        value: String,
    },
    /// A recovery's UID that doesn't begin with nanoseconds.
    #[error(
        "a recovery's UID is {0:?}, which is not nanoseconds, a colon and some more, {UID_MAX_BYTES} bytes at most"
    )]
    Uid(String),
    /// A host name that is none.
    #[error(transparent)]
    Node(#[from] stonith_core::node::NodeError),
    /// The same thing twice.
    #[error("{0} is listed twice")]
    Twice(Node),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Key {
    hostname: String,
    port: u16,
}

impl Key {
    fn node(&self) -> Result<Node, AnswerError> {
        Ok(Node::new(&self.hostname, self.port)?)
    }

    /// An empty name is no node, nor is `_`, which Orchestrator writes where there is no primary any more. It marks a
    /// detached primary with `//`.
    fn maybe(&self) -> Result<Option<Node>, AnswerError> {
        if self.hostname.is_empty() || self.hostname == "_" { Ok(None) } else { self.node().map(Some) }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InstanceJson {
    key: Object<Key>,
    master_key: Object<Key>,
    read_only: bool,
    #[serde(rename = "ReplicationIOThreadRuning")]
    io_running: bool,
    #[serde(rename = "ReplicationSQLThreadRuning")]
    sql_running: bool,
    cluster_name: String,
    #[serde(default)]
    suggested_cluster_alias: String,
    last_seen_timestamp: String,
    #[serde(default)]
    last_discovery_latency: i64,
    is_last_check_valid: bool,
    is_downtimed: bool,
    #[serde(default, rename = "ServerUUID")]
    server_uuid: String,
    #[serde(default)]
    gtid_errant: String,
    #[serde(default, rename = "LastIOError")]
    last_io_error: String,
    #[serde(default, rename = "LastSQLError")]
    last_sql_error: String,
    #[serde(default)]
    downtime_reason: String,
    #[serde(default)]
    downtime_owner: String,
    #[serde(default)]
    elapsed_downtime: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RecoveryJson {
    #[serde(rename = "UID")]
    uid: String,
    analysis_entry: Object<AnalysisJson>,
    /// A pointer in Orchestrator: may be null, may not be missing.
    #[serde(deserialize_with = "Option::deserialize")]
    successor_key: Option<Object<Key>>,
    is_successful: bool,
    recovery_end_timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AnalysisJson {
    analyzed_instance_key: Object<Key>,
    analysis: String,
    cluster_details: Object<ClusterJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ClusterJson {
    #[serde(default)]
    cluster_alias: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RaftJson {
    #[serde(default)]
    raft_bind: String,
    #[serde(default)]
    raft_advertise: String,
    leader: String,
    #[serde(default)]
    peers: Option<Vec<String>>,
}

/// What a node says of the raft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raft {
    /// There is none.
    Off,
    /// There is one.
    On(RaftStatus),
}

/// What a raft node says of the raft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftStatus {
    /// Which node says it: its address in the raft; empty if it doesn't say.
    pub node: String,
    /// Whom it takes for the leader; empty if nobody.
    pub leader: String,
    /// How many raft nodes there are; 0 if it doesn't say.
    pub peers: usize,
}

/// `/api/raft-status`.
pub fn raft_status(body: &[u8]) -> Result<RaftStatus, AnswerError> {
    let Object(status): Object<RaftJson> = serde_json::from_slice(body)?;
    let node = if status.raft_advertise.is_empty() { status.raft_bind } else { status.raft_advertise };
    Ok(RaftStatus { node, leader: status.leader, peers: status.peers.map_or(0, |peers| peers.len()) })
}

/// `/api/raft-leader`.
pub fn raft_leader(body: &[u8]) -> Result<String, AnswerError> {
    Ok(serde_json::from_slice(body)?)
}

/// `/api/raft-peers`: how many.
pub fn raft_peers(body: &[u8]) -> Result<usize, AnswerError> {
    let Bounded(peers) = serde_json::from_slice::<Bounded<String>>(body)?;
    Ok(peers.len())
}

/// How Orchestrator words an error: no gateway answers such an object.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorJson {
    #[serde(rename = "Code")]
    _code: String,
    message: String,
}

fn own_error(body: &[u8]) -> Option<ErrorJson> {
    serde_json::from_slice::<Object<ErrorJson>>(body).ok().map(|Object(error)| error)
}

/// Whether the body of a 5xx is Orchestrator's own, and not that of a gateway in front of it.
pub fn is_own_error(body: &[u8]) -> bool {
    own_error(body).is_some()
}

/// Whether this is how Orchestrator answers raft requests where raft is off (with status 500).
pub fn says_raft_is_off(body: &[u8]) -> bool {
    own_error(body).is_some_and(|error| error.message.contains("not running with raft"))
}

/// Whether this is JSON at all, as every answer of Orchestrator's API is, "Not leader" included.
pub fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
}

/// `/api/downtimed`; `date_s` is the leader's time.
pub fn downtimes(body: &[u8], date_s: i64) -> Result<Vec<Downtime>, AnswerError> {
    let list: Vec<InstanceJson> = objects(body)?;
    let downtime = |instance: &InstanceJson| -> Result<Downtime, AnswerError> {
        Ok(Downtime {
            node: instance.key.0.node()?,
            reason: instance.downtime_reason.clone(),
            owner: instance.downtime_owner.clone(),
            begin_s: date_s - instance.elapsed_downtime / 1_000_000_000,
        })
    };
    list.iter().filter(|instance| instance.is_downtimed).map(downtime).collect()
}

/// `/api/all-instances`.
pub fn instances(body: &[u8]) -> Result<Vec<Instance>, AnswerError> {
    let list: Vec<InstanceJson> = objects(body)?;
    let mut seen = std::collections::BTreeSet::new();
    let mut instances = Vec::with_capacity(list.len());
    for json in &list {
        let instance = instance(json)?;
        if !seen.insert(instance.node.clone()) {
            return Err(AnswerError::Twice(instance.node));
        }
        instances.push(instance);
    }
    Ok(instances)
}

/// What the server says of its stopped replication threads. Orchestrator passes the texts on as Go strings in quotes.
fn replication_error(json: &InstanceJson) -> String {
    let said = [&json.last_io_error, &json.last_sql_error].map(|text| text.trim_matches('"'));
    let said: Vec<&str> = said.into_iter().filter(|text| !text.is_empty()).collect();
    said.join("; ")
}

fn instance(json: &InstanceJson) -> Result<Instance, AnswerError> {
    let node = json.key.0.node()?;
    let seen_s = time("LastSeenTimestamp", &node.to_string(), &json.last_seen_timestamp)?.unwrap_or(0);
    Ok(Instance {
        primary: json.master_key.0.maybe()?,
        cluster: json.cluster_name.clone(),
        alias: json.suggested_cluster_alias.clone(),
        valid: json.is_last_check_valid,
        read_only: json.read_only,
        replicating: json.io_running && json.sql_running,
        checked_s: seen_s - json.last_discovery_latency.max(0) / 1_000_000_000,
        downtimed: json.is_downtimed,
        uuid: json.server_uuid.clone(),
        errant_gtid: json.gtid_errant.clone(),
        replication_error: shown(&replication_error(json)),
        node,
    })
}

/// A page of `/api/audit-recovery`: the records that are of use, and how many there were.
pub fn recoveries(body: &[u8]) -> Result<(Vec<Recovery>, usize), AnswerError> {
    let list: Vec<RecoveryJson> = objects(body)?;
    let of = list.len();
    Ok((list.iter().map(recovery).collect::<Result<Vec<_>, _>>()?, of))
}

fn recovery(json: &RecoveryJson) -> Result<Recovery, AnswerError> {
    let at_ns = stonith_core::gather::uid_ns(&json.uid)
        .filter(|_| json.uid.len() <= UID_MAX_BYTES)
        .ok_or_else(|| AnswerError::Uid(json.uid.chars().take(80).collect()))?;
    let Object(entry) = &json.analysis_entry;
    let analysis = match entry.analysis.as_str() {
        "DeadMaster"
        | "DeadMasterAndSomeReplicas"
        | "DeadMasterAndSomeSlaves"
        | "DeadCoMaster"
        | "DeadCoMasterAndSomeReplicas"
        | "DeadCoMasterAndSomeSlaves" => Analysis::DeadPrimary,
        _ => Analysis::Other,
    };
    Ok(Recovery {
        at_ns,
        end_s: time("RecoveryEndTimestamp", &json.uid, &json.recovery_end_timestamp)?,
        uid: json.uid.clone(),
        analysis,
        successful: json.is_successful,
        failed: entry.analyzed_instance_key.0.node()?,
        successor: json.successor_key.as_ref().map(|key| key.0.maybe()).transpose()?.flatten(),
        alias: entry.cluster_details.0.cluster_alias.clone(),
    })
}

fn objects<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<Vec<T>, AnswerError> {
    let Bounded(list) = serde_json::from_slice::<Bounded<Object<T>>>(body)?;
    Ok(list.into_iter().map(|Object(entry)| entry).collect())
}

/// Orchestrator's times have no zone, and are UTC (FACTS §8): `2026-11-23T06:20:08Z`, `2026-11-23 06:20:11`, or empty.
fn time(field: &'static str, of: &str, value: &str) -> Result<Option<i64>, AnswerError> {
    if value.is_empty() {
        return Ok(None);
    }
    let civil: Result<DateTime, _> = value.trim_end_matches('Z').parse();
    let bad = || AnswerError::Time { field, of: of.to_owned(), value: value.chars().take(40).collect() };
    let timestamp = TimeZone::UTC.to_timestamp(civil.map_err(|_| bad())?).map_err(|_| bad())?;
    Ok(Some(timestamp.as_second()))
}

/// The `Date` header, s since 1970.
pub fn http_date(text: &str) -> Option<i64> {
    jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp().as_second())
}

#[cfg(test)]
mod recorded;

#[cfg(test)]
mod tests {
    use super::super::json::ENTRIES_MAX;
    use super::*;

    fn recorded(name: &str) -> Vec<u8> {
        let path = format!("{}/../lab/tests/recordings/{name}.json", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(path).unwrap()
    }

    #[test]
    fn the_recorded_failover_reads_as_what_happened() {
        let (records, of) = recoveries(&recorded("2-failover/audit-recovery")).unwrap();
        assert_eq!((of, records.len()), (1, 1));
        assert_eq!(records[0].failed.to_string(), "node01:3306");
        assert_eq!(records[0].successor.as_ref().unwrap().to_string(), "node03:3306");
        assert_eq!((records[0].at_ns, records[0].end_s), (1_795_414_811_497_811_603, Some(1_795_414_811)));
        assert!(stonith_core::superseded::supersedes(&records[0]));
        let downtimes = downtimes(&recorded("2-failover/downtimed"), 1_000).unwrap();
        assert_eq!((downtimes[0].reason.as_str(), downtimes[0].begin_s), ("lost-in-recovery", 976));
        let instances = instances(&recorded("2-failover/all-instances")).unwrap();
        let of = |name: &str| instances.iter().find(|i| i.node.host.as_str() == name).unwrap();
        assert!(!of("node01").valid && of("node01").downtimed && of("node01").cluster == "node01:3306");
        assert!(of("node03").valid && of("node03").primary.is_none());
        assert!(of("node02").replicating && of("node02").read_only);
    }

    #[test]
    fn the_recorded_raft_status_names_the_leader_and_three_peers() {
        let status = raft_status(&recorded("1-healthy/follower__raft-status")).unwrap();
        assert_eq!((status.leader.as_str(), status.peers), ("127.0.0.13:10008", 3));
        assert_eq!(status.node, "127.0.0.12:10008");
    }

    #[test]
    fn a_list_that_is_too_long_is_refused_before_it_is_read_whole() {
        let entries = |count: usize| format!("[{}\"x\"]", "\"x\",".repeat(count - 1));
        assert_eq!(raft_peers(entries(ENTRIES_MAX).as_bytes()).unwrap(), ENTRIES_MAX);
        // What follows the one too many is never looked at: not even that it is no JSON.
        let garbage = format!("{},{}", entries(ENTRIES_MAX + 1).trim_end_matches(']'), "garbage".repeat(10));
        let error = raft_peers(garbage.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("at most 50000 entries"), "{error}");
    }

    #[test]
    fn a_recovery_without_a_successor_may_say_null_and_a_reset_primary_is_none() {
        let good = String::from_utf8(recorded("2-failover/audit-recovery")).unwrap();
        let key = "\"SuccessorKey\":{\"Hostname\":\"node03\",\"Port\":3306}";
        assert!(good.contains(key));
        let (records, _) = recoveries(good.replacen(key, "\"SuccessorKey\":null", 1).as_bytes()).unwrap();
        assert_eq!(records[0].successor, None);
        let missing = good.replacen(key, "\"Whatever\":null", 1);
        assert!(recoveries(missing.as_bytes()).is_err());
        let reset = good.replacen(key, "\"SuccessorKey\":{\"Hostname\":\"_\",\"Port\":0}", 1);
        assert_eq!(recoveries(reset.as_bytes()).unwrap().0[0].successor, None);
    }

    #[test]
    fn wrong_types_in_needed_fields_refuse_the_answer_and_unknown_fields_do_not() {
        let good = String::from_utf8(recorded("2-failover/downtimed")).unwrap();
        assert!(downtimes(good.replacen("\"Uptime\"", "\"Whatever\"", 1).as_bytes(), 0).is_ok());
        for (from, to) in [
            ("\"IsDowntimed\":true", "\"IsDowntimed\":\"yes\""),
            ("\"Port\":3306", "\"Port\":\"3306\""),
            ("\"Hostname\":\"node01\"", "\"Hostname\":null"),
            ("\"IsLastCheckValid\":false", "\"IsLastCheckValid\":0"),
        ] {
            assert!(good.contains(from));
            assert!(downtimes(good.replacen(from, to, 1).as_bytes(), 0).is_err(), "{to}");
        }
        for body in ["", "null", "{}", "[", "[{}]", "{\"Code\":\"ERROR\"}"] {
            assert!(downtimes(body.as_bytes(), 0).is_err(), "{body}");
        }
    }

    #[test]
    fn i1_a_list_does_not_pass_for_an_object() {
        assert!(raft_status(&recorded("1-healthy/raft-peers")).is_err());
        assert!(!says_raft_is_off(b"[\"raft-state: not running with raft setup\"]"));
        let good = String::from_utf8(recorded("2-failover/downtimed")).unwrap();
        let key = "\"Key\":{\"Hostname\":\"node01\",\"Port\":3306}";
        assert!(good.contains(key));
        assert!(downtimes(good.replacen(key, "\"Key\":[\"node01\",3306]", 1).as_bytes(), 0).is_err());
    }

    #[test]
    fn times_are_utc_in_both_spellings() {
        assert_eq!(time("x", "y", "2026-11-23T06:20:08Z").unwrap(), time("x", "y", "2026-11-23 06:20:08").unwrap());
        assert_eq!(http_date("Mon, 23 Nov 2026 06:19:34 GMT"), time("x", "y", "2026-11-23 06:19:34").unwrap());
        assert!(time("x", "y", "yesterday").is_err());
    }
}
