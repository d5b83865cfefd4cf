//! The admin interface's answers as core types. What can't be understood is refused here (I1).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use stonith_core::apply::{LockSeen, Session};
use stonith_core::node::Node;
use stonith_core::plan::Managed;
use stonith_core::row::{CheckType, Hostgroup, Pair};

use super::admin::Answer;

/// What of an answer can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotUnderstood(pub String);

/// `mysql_replication_hostgroups`.
///
/// # Errors
/// A record is no pair of hostgroups with a check_type.
pub fn pairs(answer: &Answer) -> Result<Vec<Pair>, NotUnderstood> {
    let pair = |record: &Vec<Option<String>>| match record.as_slice() {
        [Some(writer), Some(reader), Some(check_type)] => Some(Pair {
            writer: Hostgroup(writer.parse().ok()?),
            reader: Hostgroup(reader.parse().ok()?),
            check_type: CheckType::parse(check_type),
        }),
        _ => None,
    };
    let read = |record| pair(record).ok_or_else(|| NotUnderstood(format!("{record:?}")));
    answer.records.iter().map(read).collect()
}

/// Columns of hostgroups.
///
/// # Errors
/// A value is no number.
pub fn hostgroups(answer: &Answer) -> Result<Vec<Hostgroup>, NotUnderstood> {
    let values = answer.records.iter().flatten();
    let read = |value: &Option<String>| {
        let number = value.as_ref().and_then(|value| value.parse().ok()).map(Hostgroup);
        number.ok_or_else(|| NotUnderstood(format!("{value:?}")))
    };
    values.map(read).collect()
}

/// The first column: names of tables.
pub fn first_column(answer: &Answer) -> BTreeSet<String> {
    answer.records.iter().filter_map(|record| record.first()?.clone()).collect()
}

/// The lock, if there is one.
pub fn lock(answer: &Answer) -> Option<LockSeen> {
    let record = answer.records.first()?;
    Some(LockSeen { owner: record.first()?.clone()?, expired: record.get(1)?.as_deref() != Some("0") })
}

/// Connections in use per node, over the managed hostgroups: elsewhere a node may serve whom it likes.
pub fn used(answer: &Answer, managed: &Managed) -> BTreeMap<Node, u64> {
    let mut used = BTreeMap::new();
    for record in &answer.records {
        let [Some(hostgroup), Some(host), Some(port), Some(count)] = record.as_slice() else { continue };
        let (Ok(hostgroup), Ok(port), Ok(count)) = (hostgroup.parse(), port.parse(), count.parse::<u64>()) else {
            continue;
        };
        if let Ok(node) = Node::new(host, port)
            && managed.contains(Hostgroup(hostgroup))
        {
            *used.entry(node).or_default() += count;
        }
    }
    used
}

/// The client sessions of `stats_mysql_processlist`.
pub fn sessions(answer: &Answer) -> Vec<Session> {
    let session = |record: &Vec<Option<String>>| -> Option<Session> {
        let id = record.first()?.as_ref()?.parse().ok()?;
        let current = match (record.get(1), record.get(2)) {
            (Some(Some(host)), Some(Some(port))) => port.parse().ok().and_then(|port| Node::new(host, port).ok()),
            _ => None,
        };
        let holds = record.get(3).and_then(Option::as_deref).map(held_servers).unwrap_or_default();
        Some(Session { id, current, holds })
    };
    answer.records.iter().filter_map(session).collect()
}

/// The servers in `extended_info.backends` (there with `mysql-show_processlist_extended`; code: MySQL_Session.cpp).
fn held_servers(extended_info: &str) -> BTreeSet<Node> {
    let Ok(info) = serde_json::from_str::<Value>(extended_info) else { return BTreeSet::new() };
    let backends = info["backends"].as_array().map(Vec::as_slice).unwrap_or_default();
    let server = |backend: &Value| {
        let mysql = &backend["conn"]["mysql"];
        let port = mysql["port"].as_u64().and_then(|port| u16::try_from(port).ok())?;
        Node::new(mysql["host"].as_str()?, port).ok()
    };
    backends.iter().filter_map(server).collect()
}
