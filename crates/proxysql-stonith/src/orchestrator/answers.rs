//! Parses Orchestrator's JSON into core types (facts §8, §9).
//!
//! Unknown fields are ignored. A list entry with a wrong type in a needed field is skipped and reported with the nodes
//! that it concerns. An answer that is not a list of objects is refused whole.

mod lead;
mod recovery_settings;
mod tags;

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::value::RawValue;
use stonith_core::node::Node;
use stonith_core::orchestrator::{Analysis, AnswerPart, Downtime, Instance, Recovery, SkippedEntry};

use super::json::{Bounded, Object};
pub use lead::{
    Health, Raft, RaftStatus, WhyNot, health, is_json, is_own_error, proxy_hooks, raft_leader, raft_peers, raft_status,
    says_raft_is_off,
};
pub use recovery_settings::{BlockedRecovery, ClusterRecovery, blocked, clusters, global_recoveries, ignored_hosts};
pub use tags::{tagged, tags};

use crate::untrusted_text::{is_obeyed, line_of, one_line};

/// The longest UID of a recovery, in bytes. Real ones have 84.
const UID_MAX_BYTES: usize = 256;

/// The largest part of a GTID set that is kept. A set of a hundred servers has about four thousand characters.
const GTID_SET_MAX_CHARS: usize = 4_000;

const NS_PER_S: i64 = 1_000_000_000;

/// Why an answer, or one of its entries, can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The JSON does not have the expected form.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// The list has entries that are not objects.
    #[error("it is a list, but not of objects")]
    NoObjects,
    /// A recovery's UID does not begin with nanoseconds.
    #[error(
        "a recovery's UID is {0:?}, expected nanoseconds, a colon and more text, {UID_MAX_BYTES} printable bytes at most"
    )]
    Uid(String),
    /// A host name is not valid.
    #[error(transparent)]
    Node(#[from] stonith_core::node::NodeError),
    /// A node has no port.
    #[error("the port of {0:?} is 0")]
    NoPort(String),
    /// A node is listed twice with different values.
    #[error("it is listed twice with different values")]
    Twice,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Key {
    hostname: String,
    port: u16,
}

impl Key {
    fn node(&self) -> Result<Node, AnswerError> {
        match self.port {
            0 => Err(AnswerError::NoPort(self.hostname.chars().take(80).collect())),
            port => Ok(Node::new(&self.hostname, port)?),
        }
    }

    /// The node, unless the name is empty or `_`. Orchestrator writes `_` if there is no primary any more.
    ///
    /// It marks a detached primary with `//`.
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
    seconds_since_last_seen: Object<NumberJson>,
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
}

/// A number that may be null in Orchestrator's database.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NumberJson {
    int64: i64,
    valid: bool,
}

/// An instance in `/api/downtimed`, with only the fields of a downtime mark.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MarkJson {
    key: Object<Key>,
    is_downtimed: bool,
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
    /// A pointer in Orchestrator: it may be null, but not missing.
    #[serde(deserialize_with = "Option::deserialize")]
    successor_key: Option<Object<Key>>,
    is_successful: bool,
    #[serde(default)]
    recovery_start_timestamp: String,
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

/// A list that was parsed entry by entry.
#[derive(Debug)]
pub struct Entries<T> {
    /// The entries that could be parsed.
    pub read: Vec<T>,
    /// The entries that were skipped.
    pub skipped: Vec<SkippedEntry>,
}

/// Parses each entry of a list separately.
fn entries<'b, J: Deserialize<'b>, T>(
    body: &'b [u8],
    part: AnswerPart,
    read: impl Fn(&J) -> Result<T, AnswerError>,
) -> Result<Entries<T>, AnswerError> {
    let Bounded(list) = serde_json::from_slice::<Bounded<&RawValue>>(body)?;
    if list.iter().any(|entry| !entry.get().starts_with('{')) {
        return Err(AnswerError::NoObjects);
    }
    let mut entries = Entries { read: Vec::with_capacity(list.len()), skipped: Vec::new() };
    for entry in list {
        let json = serde_json::from_str::<Object<J>>(entry.get()).map_err(AnswerError::from);
        match json.and_then(|Object(json)| read(&json)) {
            Ok(one) => entries.read.push(one),
            Err(error) => entries.skipped.push(skipped(part, nodes_of(part, entry.get()), &error)),
        }
    }
    Ok(entries)
}

fn skipped(part: AnswerPart, nodes: BTreeSet<Node>, error: &AnswerError) -> SkippedEntry {
    let of: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    let of = if of.is_empty() { "an unreadable node".to_owned() } else { of.join(" and ") };
    let what = match part {
        AnswerPart::Marks => "the downtime mark",
        AnswerPart::Instances => "the instance",
        AnswerPart::History => "a recovery record",
        AnswerPart::Question => "the answer",
    };
    SkippedEntry { part, nodes, what: one_line(&format!("{what} of {of} is skipped: {error}")) }
}

/// The nodes that an entry names, as far as they can be parsed.
fn nodes_of(part: AnswerPart, entry: &str) -> BTreeSet<Node> {
    let entry: serde_json::Value = serde_json::from_str(entry).unwrap_or_default();
    let keys: &[&str] = match part {
        AnswerPart::History => &["/AnalysisEntry/AnalyzedInstanceKey", "/SuccessorKey"],
        AnswerPart::Marks | AnswerPart::Instances | AnswerPart::Question => &["/Key"],
    };
    let node = |key: &&str| Object::<Key>::deserialize(entry.pointer(key)?).ok()?.0.maybe().ok()?;
    keys.iter().filter_map(node).collect()
}

/// Parses `/api/downtimed`; `date_s` is the leader's time.
pub fn downtimes(body: &[u8], date_s: i64) -> Result<Entries<Downtime>, AnswerError> {
    let marks = entries(body, AnswerPart::Marks, |mark: &MarkJson| {
        let downtime = Downtime {
            node: mark.key.0.node()?,
            reason: one_line(&mark.downtime_reason),
            owner: one_line(&mark.downtime_owner),
            begin_s: date_s.saturating_sub(mark.elapsed_downtime / NS_PER_S),
        };
        Ok(mark.is_downtimed.then_some(downtime))
    })?;
    Ok(Entries { read: marks.read.into_iter().flatten().collect(), skipped: marks.skipped })
}

/// Parses `/api/all-instances`; `date_s` is the leader's time before the request.
pub fn instances(body: &[u8], date_s: i64) -> Result<Entries<Instance>, AnswerError> {
    let mut entries = entries(body, AnswerPart::Instances, |json: &InstanceJson| instance(json, date_s))?;
    let mut first: BTreeMap<Node, Instance> = BTreeMap::new();
    let mut twice = BTreeSet::new();
    entries.read.retain(|instance| match first.get(&instance.node) {
        None => first.insert(instance.node.clone(), instance.clone()).is_none(),
        Some(other) => {
            twice.extend((other != instance).then(|| instance.node.clone()));
            false
        }
    });
    entries.read.retain(|instance| !twice.contains(&instance.node));
    let said = |node| skipped(AnswerPart::Instances, BTreeSet::from([node]), &AnswerError::Twice);
    entries.skipped.extend(twice.into_iter().map(said));
    Ok(entries)
}

/// The server's errors of stopped replication threads. Orchestrator passes them on as quoted Go strings.
fn replication_error(json: &InstanceJson) -> String {
    let said = [&json.last_io_error, &json.last_sql_error].map(|text| text.trim_matches('"'));
    let said: Vec<&str> = said.into_iter().filter(|text| !text.is_empty()).collect();
    said.join("; ")
}

fn instance(json: &InstanceJson, date_s: i64) -> Result<Instance, AnswerError> {
    let Object(since) = &json.seconds_since_last_seen;
    // `LastSeenTimestamp` is in the database's time zone (facts §8), so it is not used. `date_s` is from before the
    // request, so the result can only be too early.
    let seen_s = if since.valid { date_s.saturating_sub(since.int64.max(0)) } else { 0 };
    Ok(Instance {
        node: json.key.0.node()?,
        primary: json.master_key.0.maybe()?,
        cluster: json.cluster_name.clone(),
        alias: one_line(&json.suggested_cluster_alias),
        valid: json.is_last_check_valid,
        read_only: json.read_only,
        replicating: json.io_running && json.sql_running,
        checked_s: seen_s.saturating_sub(json.last_discovery_latency.max(0) / NS_PER_S),
        downtimed: json.is_downtimed,
        uuid: json.server_uuid.clone(),
        errant_gtid: line_of(&json.gtid_errant, GTID_SET_MAX_CHARS),
        replication_error: one_line(&replication_error(json)),
    })
}

/// Parses a page of `/api/audit-recovery`; `date_s` is the leader's time.
pub fn recoveries(body: &[u8], date_s: i64) -> Result<Entries<Recovery>, AnswerError> {
    entries(body, AnswerPart::History, |json: &RecoveryJson| recovery(json, date_s))
}

fn recovery(json: &RecoveryJson, date_s: i64) -> Result<Recovery, AnswerError> {
    let at_ns = stonith_core::orchestrator::uid_ns(&json.uid)
        .filter(|_| json.uid.len() <= UID_MAX_BYTES && !json.uid.contains(is_obeyed))
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
    let record = Recovery {
        at_ns,
        end_s: None,
        uid: json.uid.clone(),
        analysis,
        successful: json.is_successful,
        failed: entry.analyzed_instance_key.0.node()?,
        successor: json.successor_key.as_ref().map(|key| key.0.maybe()).transpose()?.flatten(),
        alias: one_line(&entry.cluster_details.0.cluster_alias),
    };
    Ok(Recovery { end_s: end_s(json, record.at_s(), date_s), ..record })
}

/// A time without a zone, as seconds. Only differences of such times make sense.
fn local_s(text: &str) -> Option<i64> {
    let civil: DateTime = text.trim_end_matches('Z').parse().ok()?;
    Some(TimeZone::UTC.to_timestamp(civil).ok()?.as_second())
}

/// The latest possible end of a recovery, s; `None` while it runs.
///
/// Its times are in the database's time zone, so only its duration is used, counted from the UID, which has no zone.
/// A change to or from summer time makes the duration an hour too long or senseless. The end is then now, since the
/// recovery is seen to be over.
fn end_s(json: &RecoveryJson, at_s: i64, date_s: i64) -> Option<i64> {
    let end = json.recovery_end_timestamp.as_str();
    if end.is_empty() || end.starts_with("0000-00-00") {
        return None;
    }
    let took_s = local_s(end).zip(local_s(&json.recovery_start_timestamp)).map(|(end, start)| end - start);
    // Fractions are cut off, so the true end is within the next second.
    let counted = took_s.filter(|took_s| *took_s >= 0).map(|took_s| at_s.saturating_add(took_s + 1));
    Some(counted.unwrap_or(i64::MAX).min(date_s.saturating_add(1)))
}

/// Parses a `Date` header, s since 1970.
pub fn http_date(text: &str) -> Option<i64> {
    jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp().as_second())
}

#[cfg(test)]
mod recorded;

#[cfg(test)]
mod tests {
    use super::super::json::ENTRIES_MAX;
    use super::*;

    /// 2026-11-23 06:20:36 UTC.
    const DATE_S: i64 = 1_795_414_836;

    fn recorded(name: &str) -> Vec<u8> {
        let path = format!("{}/../lab/tests/recordings/{name}.json", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(path).unwrap()
    }

    #[test]
    fn the_recorded_failover_reads_as_what_happened() {
        let records = recoveries(&recorded("2-failover/audit-recovery"), DATE_S).unwrap();
        assert_eq!((records.read.len(), records.skipped.len()), (1, 0));
        let record = &records.read[0];
        assert_eq!(record.failed.to_string(), "node01:3306");
        assert_eq!(record.successor.as_ref().unwrap().to_string(), "node03:3306");
        assert_eq!((record.at_ns, record.end_s), (1_795_414_811_497_811_603, Some(1_795_414_812)));
        assert!(stonith_core::orchestrator::supersedes(record));
        let downtimes = downtimes(&recorded("2-failover/downtimed"), 1_000).unwrap().read;
        assert_eq!((downtimes[0].reason.as_str(), downtimes[0].begin_s), ("lost-in-recovery", 976));
        let instances = instances(&recorded("2-failover/all-instances"), DATE_S).unwrap().read;
        let of = |name: &str| instances.iter().find(|i| i.node.host.as_str() == name).unwrap();
        assert!(!of("node01").valid && of("node01").downtimed && of("node01").cluster == "node01:3306");
        assert!(of("node03").valid && of("node03").primary.is_none());
        assert!(of("node02").replicating && of("node02").read_only);
        assert_eq!(of("my01").checked_s, DATE_S - 1, "SecondsSinceLastSeen");
    }

    /// Anyone who may write to Orchestrator chooses these texts.
    #[test]
    fn d7_texts_of_others_are_one_clean_line_and_bounded_when_they_come_in() {
        let hostile = format!("x\u{1b}[2J\n2026 ERROR forged\u{202e}{}", "y".repeat(3_000_000));
        let is_clean = |text: &str| text.chars().count() <= GTID_SET_MAX_CHARS && !text.contains(is_obeyed);
        let json = |name: &str| serde_json::from_slice::<serde_json::Value>(&recorded(name)).unwrap();
        let mut marks = json("2-failover/downtimed");
        for key in ["DowntimeReason", "DowntimeOwner"] {
            marks[0][key] = hostile.clone().into();
        }
        let read = downtimes(marks.to_string().as_bytes(), DATE_S).unwrap().read;
        assert!(is_clean(&read[0].reason) && is_clean(&read[0].owner), "{:?}", read[0]);
        let mut shown = json("2-failover/all-instances");
        for key in ["SuggestedClusterAlias", "GtidErrant", "LastIOError"] {
            shown[0][key] = hostile.clone().into();
        }
        let read = &instances(shown.to_string().as_bytes(), DATE_S).unwrap().read[0];
        assert!([&read.alias, &read.errant_gtid, &read.replication_error].into_iter().all(|text| is_clean(text)));
        let mut history = json("2-failover/audit-recovery");
        let uid = history[0]["UID"].as_str().unwrap().to_owned();
        for (uid, is_read) in [(format!("{uid}\n"), false), (format!("{uid}{hostile}"), false), (uid.clone(), true)] {
            history[0]["UID"] = uid.into();
            let said = recoveries(history.to_string().as_bytes(), DATE_S).unwrap();
            assert_eq!(said.read.len(), usize::from(is_read));
            assert!(said.skipped.iter().all(|skipped| is_clean(&skipped.what)), "{:?}", said.skipped);
        }
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
        // Nothing after the first surplus entry is read, so invalid JSON there is not noticed.
        let garbage = format!("{},{}", entries(ENTRIES_MAX + 1).trim_end_matches(']'), "garbage".repeat(10));
        let error = raft_peers(garbage.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("at most 50000 entries"), "{error}");
    }

    /// The recorded record, with one text replaced by another.
    fn record_with(from: &str, to: &str) -> Entries<Recovery> {
        let good = String::from_utf8(recorded("2-failover/audit-recovery")).unwrap();
        assert!(good.contains(from), "{from}");
        recoveries(good.replacen(from, to, 1).as_bytes(), DATE_S).unwrap()
    }

    #[test]
    fn a_recovery_without_a_successor_may_say_null_and_a_reset_primary_is_none() {
        let key = "\"SuccessorKey\":{\"Hostname\":\"node03\",\"Port\":3306}";
        assert_eq!(record_with(key, "\"SuccessorKey\":null").read[0].successor, None);
        assert_eq!(record_with(key, "\"Whatever\":null").skipped.len(), 1);
        for nobody in ["{\"Hostname\":\"_\",\"Port\":0}", "{\"Hostname\":\"\",\"Port\":0}"] {
            assert_eq!(record_with(key, &format!("\"SuccessorKey\":{nobody}")).read[0].successor, None);
        }
    }

    #[test]
    fn the_end_of_a_recovery_is_counted_from_its_start_and_never_after_it_was_seen_to_be_over() {
        let end = "\"RecoveryEndTimestamp\":\"2026-11-23 06:20:11\"";
        let at = |text: &str| {
            let text = format!("\"RecoveryEndTimestamp\":\"{text}\"");
            record_with(end, &text).read[0].end_s.map(|end_s| end_s - 1_795_414_811)
        };
        assert_eq!(at("2026-11-23 06:20:15"), Some(5), "4 s, and what is cut off");
        for running in ["", "0000-00-00 00:00:00"] {
            assert_eq!(at(running), None, "{running:?}");
        }
        let seen = Some(DATE_S + 1 - 1_795_414_811);
        for makes_no_sense in ["2026-11-23 05:20:13", "2026-11-23 07:20:13", "the day before"] {
            assert_eq!(at(makes_no_sense), seen, "{makes_no_sense}: the clocks were changed in between");
        }
    }

    #[test]
    fn a_wrong_type_in_a_needed_field_skips_the_entry_with_the_node_that_it_names() {
        let good = String::from_utf8(recorded("2-failover/downtimed")).unwrap();
        assert_eq!(downtimes(good.replacen("\"Uptime\"", "\"Whatever\"", 1).as_bytes(), 0).unwrap().read.len(), 1);
        for (from, to, nodes) in [
            ("\"IsDowntimed\":true", "\"IsDowntimed\":\"yes\"", 1),
            ("\"ElapsedDowntime\":", "\"ElapsedDowntime\":\"x\",\"Y\":", 1),
            ("\"Port\":3306", "\"Port\":\"3306\"", 0),
            ("\"Hostname\":\"node01\"", "\"Hostname\":null", 0),
            ("\"Key\":{\"Hostname\":\"node01\",\"Port\":3306}", "\"Key\":[\"node01\",3306]", 0),
        ] {
            assert!(good.contains(from), "{from}");
            let entries = downtimes(good.replacen(from, to, 1).as_bytes(), 0).unwrap();
            assert_eq!((entries.read.len(), entries.skipped.len()), (0, 1), "{to}");
            assert_eq!(entries.skipped[0].nodes.len(), nodes, "{to}");
            assert!(entries.skipped[0].what.contains("skipped"), "{}", entries.skipped[0].what);
        }
        let whatever = good.replacen("\"IsLastCheckValid\":false", "\"IsLastCheckValid\":0", 1);
        assert_eq!(downtimes(whatever.as_bytes(), 0).unwrap().read.len(), 1, "no mark needs it");
    }

    #[test]
    fn what_is_no_list_of_objects_is_refused_whole() {
        for body in ["", "null", "{}", "[", "[1]", "[{},\"x\"]", "[{}", "{\"Code\":\"ERROR\"}"] {
            assert!(downtimes(body.as_bytes(), 0).is_err(), "{body}");
            assert!(instances(body.as_bytes(), 0).is_err(), "{body}");
            assert!(recoveries(body.as_bytes(), 0).is_err(), "{body}");
        }
    }

    #[test]
    fn an_instance_that_cannot_be_read_takes_no_other_with_it() {
        let good = String::from_utf8(recorded("2-failover/all-instances")).unwrap();
        let key = "\"MasterKey\":{\"Hostname\":\"node03\",\"Port\":3306}";
        for (from, to, node) in [
            (key, "\"MasterKey\":{\"Hostname\":\"[2001:db8::5]\",\"Port\":3306}", Some("node02:3306")),
            (key, "\"MasterKey\":{\"Hostname\":\"node03\",\"Port\":0}", Some("node02:3306")),
            ("\"Key\":{\"Hostname\":\"node02\",\"Port\":3306}", "\"Key\":{\"Hostname\":\"\",\"Port\":3306}", None),
            ("\"Key\":{\"Hostname\":\"node02\",\"Port\":3306}", "\"Key\":{\"Hostname\":\"node02\",\"Port\":0}", None),
        ] {
            assert!(good.contains(from), "{from}");
            let entries = instances(good.replacen(from, to, 1).as_bytes(), DATE_S).unwrap();
            assert_eq!((entries.read.len(), entries.skipped.len()), (5, 1), "{to}");
            let named: Vec<String> = entries.skipped[0].nodes.iter().map(ToString::to_string).collect();
            assert_eq!(named, node.into_iter().collect::<Vec<_>>(), "{to}");
        }
    }

    #[test]
    fn the_errors_of_stopped_replication_threads_are_read_without_their_quotes() {
        let mut json: serde_json::Value = serde_json::from_slice(&recorded("2-failover/all-instances")).unwrap();
        for (io, sql, expected) in [
            (r#""""#, "", ""),
            (r#""error connecting to master""#, r#""""#, "error connecting to master"),
            (r#""error connecting""#, r#""Duplicate entry""#, "error connecting; Duplicate entry"),
        ] {
            json[0]["LastIOError"] = io.into();
            json[0]["LastSQLError"] = sql.into();
            let entries = instances(json.to_string().as_bytes(), DATE_S).unwrap();
            assert_eq!(entries.read[0].replication_error, expected);
        }
    }

    #[test]
    fn an_instance_that_is_listed_twice_counts_only_if_both_say_the_same() {
        let good: serde_json::Value = serde_json::from_slice(&recorded("2-failover/all-instances")).unwrap();
        let with = |more: serde_json::Value| {
            let mut list = good.as_array().unwrap().clone();
            list.push(more);
            instances(serde_json::Value::Array(list).to_string().as_bytes(), DATE_S).unwrap()
        };
        let same = with(good[0].clone());
        assert_eq!((same.read.len(), same.skipped.len()), (6, 0));
        let mut other = good[0].clone();
        other["ReadOnly"] = (!other["ReadOnly"].as_bool().unwrap()).into();
        let other = with(other);
        assert_eq!((other.read.len(), other.skipped.len()), (5, 1));
        assert_eq!(other.skipped[0].nodes.len(), 1);
    }

    #[test]
    fn i1_a_list_does_not_pass_for_an_object() {
        assert!(raft_status(&recorded("1-healthy/raft-peers")).is_err());
        assert!(!says_raft_is_off(b"[\"raft-state: not running with raft setup\"]"));
    }

    #[test]
    fn the_leaders_time_is_read_and_local_text_only_gives_differences() {
        assert_eq!(http_date("Mon, 23 Nov 2026 06:20:36 GMT"), Some(DATE_S));
        assert_eq!(local_s("2026-11-23T06:20:08Z"), local_s("2026-11-23 06:20:08"));
        assert_eq!(local_s("yesterday"), None);
    }
}
