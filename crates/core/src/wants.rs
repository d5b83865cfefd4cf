//! What to ask the leader in this tick besides who is downtimed: as little as a decision needs (FACTS §9).

use std::collections::BTreeMap;

use crate::gather::served;
use crate::marker::Comment;
use crate::memory::Memory;
use crate::node::Node;
use crate::observed::{Downtime, ProxyView};
use crate::plan::Managed;
use crate::policy::{DOWNTIME_BEGIN_SLACK_S, HISTORY_EVERY_MS, Policy};
use crate::row::{Layer, Status};
use crate::superseded::superseding;

/// What the client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Wants {
    /// The recovery history.
    pub history: bool,
    /// All instances.
    pub instances: bool,
    /// Whom the other raft nodes name as the leader.
    pub backing: bool,
}

/// Says what this tick needs, once the leader has listed who is downtimed.
pub fn wants(
    proxy: &ProxyView,
    memory: &Memory,
    leader: &str,
    downtimes: &[Downtime],
    policy: &Policy,
    now_ms: u64,
) -> Wants {
    let due = |asked: Option<u64>| asked.is_none_or(|asked| asked > now_ms || now_ms - asked >= HISTORY_EVERY_MS);
    let managed = Managed::of(proxy, policy);
    let served = served(proxy, &managed);
    let history = due(memory.history_asked_ms)
        || memory.history_leader != leader
        || downtimes_changed(&memory.history_downtimes, downtimes)
        // A node is about to be let back, and a recovery's record can come later than its downtime.
        || !memory.proofs.is_empty();
    let marked = [Layer::Runtime, Layer::Memory, Layer::Disk]
        .into_iter()
        .flat_map(|layer| proxy.layer(layer))
        .any(|row| managed.contains(row.key.hostgroup) && Comment::parse(&row.comment) != Comment::Plain);
    let unsettled = served.iter().any(|node| {
        let released = memory.released.get(node).copied().unwrap_or_default();
        superseding(memory.records.values(), node).is_some_and(|record| record.at_ns > released.recovery_ns)
    });
    let two_writers = managed.pairs.iter().any(|pair| {
        let rows = proxy.runtime.iter();
        rows.filter(|row| row.key.hostgroup == pair.writer && row.status == Status::Online).count() > 1
    });
    let a_node_is_new = served.iter().any(|node| !memory.known.contains(node)) && due(memory.instances_asked_ms);
    let instances = !memory.armed
        || marked
        || unsettled
        || two_writers
        || a_node_is_new
        || history // a record that arrives now needs the topology now
        || memory.evidence.keys().any(|node| served.contains(node))
        || downtimes.iter().any(|downtime| served.contains(&downtime.node));
    let lease_lost = memory.isolated
        || memory.lease_asked_ms.is_none_or(|asked| now_ms >= asked.saturating_add(policy.isolation_after_ms));
    Wants { history, instances, backing: instances || lease_lost }
}

/// A recovery writes its mark over an operator's downtime: the reason tells them apart, however near they began.
fn downtimes_changed(before: &BTreeMap<Node, Downtime>, now: &[Downtime]) -> bool {
    let slack = DOWNTIME_BEGIN_SLACK_S.unsigned_abs();
    let same = |a: &Downtime, b: &Downtime| a.reason == b.reason && a.begin_s.abs_diff(b.begin_s) <= slack;
    let is_listed = |downtime: &Downtime| before.get(&downtime.node).is_some_and(|listed| same(listed, downtime));
    before.len() != now.len() || !now.iter().all(is_listed)
}
