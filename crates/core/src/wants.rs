//! What to ask the leader in this tick besides who is downtimed: as little as a decision needs (FACTS §9).

use std::collections::BTreeMap;

use crate::evidence::Kind;
use crate::managed::{Managed, ManagedRows};
use crate::memory::Memory;
use crate::node::Node;
use crate::observed::{Downtime, ProxyView};
use crate::policy::{DOWNTIME_BEGIN_SLACK_S, HISTORY_EVERY_MS, Policy};
use crate::superseded::Newest;

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
    let rows = ManagedRows::new(proxy, &managed, &memory.identity);
    let history = due(memory.history_asked_ms)
        || memory.history.leader != leader
        || memory.history.under_way.is_some()
        // Its end lets nodes back, which takes a history that is known up to now.
        || rows.any_marker(Kind::Isolation)
        || downtimes_changed(&memory.history_downtimes, downtimes)
        // A node is about to be let back, and a recovery's record can come later than its downtime.
        || !memory.proofs.is_empty();
    let newest = Newest::of_each(memory.records.values());
    let unsettled = rows.servers().any(|(node, _)| {
        let released = memory.released.get(node).copied().unwrap_or_default();
        newest.superseding(node).is_some_and(|record| record.at_ns > released.recovery_ns)
    });
    let unconfirmed = memory.records.values().any(|record| !record.successful);
    let two_writers = managed.writers().any(|hostgroup| rows.online(hostgroup).len() > 1);
    let a_node_is_new = due(memory.instances_asked_ms) && rows.servers().any(|(node, _)| !memory.known.contains(node));
    let instances = !memory.armed
        || rows.any_note()
        || unsettled
        || unconfirmed
        || two_writers
        || a_node_is_new
        || history // a record that arrives now needs the topology now
        || memory.evidence.keys().any(|node| rows.serves(node))
        || downtimes.iter().any(|downtime| rows.serves(memory.identity.server(&downtime.node)));
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
