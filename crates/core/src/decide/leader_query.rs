//! What to ask the leader in this tick besides who is downtimed: as little as a decision needs (facts §9).

use std::collections::{BTreeMap, BTreeSet};

use crate::evidence::EvidenceKind;
use crate::managed::{Managed, managed_rows};
use crate::memory::Memory;
use crate::node::Node;
use crate::observed::ProxyView;
use crate::orchestrator::{Downtime, Identity, NewestRecoveries};
use crate::policy::{DOWNTIME_BEGIN_SLACK_S, HISTORY_EVERY_MS, Policy};
use crate::table::{Comment, Hostgroup, Status};

/// What the client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaderQuery {
    /// The recovery history.
    pub history: bool,
    /// All instances.
    pub instances: bool,
    /// Whom the other raft nodes name as the leader.
    pub backing: bool,
}

/// Says what this tick needs, once the leader has listed who is downtimed.
pub fn leader_query(
    proxy: &ProxyView,
    memory: &Memory,
    leader: &str,
    downtimes: &[Downtime],
    policy: &Policy,
    now_ms: u64,
) -> LeaderQuery {
    let due = |asked: Option<u64>| asked.is_none_or(|asked| asked > now_ms || now_ms - asked >= HISTORY_EVERY_MS);
    let managed = Managed::of(proxy, policy);
    let noted = Noted::of(proxy, &managed);
    let history = due(memory.history_asked_ms)
        || memory.history.leader != leader
        || memory.history.under_way.is_some()
        // Its end lets nodes back, which takes a history that is known up to now.
        || noted.isolation
        || downtimes_changed(&memory.history_downtimes, downtimes)
        // A node is about to be let back, and a recovery's record can come later than its downtime.
        || !memory.proofs.is_empty();
    let unconfirmed = memory.records.values().any(|record| !record.successful);
    let instances = !memory.armed
        || noted.any
        || unconfirmed
        || has_two_writers(proxy, &managed, &memory.identity)
        || (due(memory.instances_asked_ms) && has_row_of(proxy, &managed, memory, |server| !memory.known.contains(server)))
        || history // a record that arrives now needs the topology now
        || has_suspect(proxy, &managed, memory, downtimes);
    let lease_lost = memory.isolated
        || memory.lease_asked_ms.is_none_or(|asked| now_ms >= asked.saturating_add(policy.isolation_after_ms));
    LeaderQuery { history, instances, backing: instances || lease_lost }
}

/// What the rows' comments say.
#[derive(Default)]
struct Noted {
    any: bool,
    isolation: bool,
}

impl Noted {
    fn of(proxy: &ProxyView, managed: &Managed) -> Self {
        let mut noted = Self::default();
        for (_, row) in managed_rows(proxy, managed) {
            match Comment::parse(&row.comment) {
                Comment::Plain => continue,
                Comment::Marked(_, marker) => noted.isolation |= marker.kind == EvidenceKind::Isolation,
                Comment::Unreadable(_) => {}
            }
            noted.any = true;
        }
        noted
    }
}

/// Whether a server that is meant has a managed row.
fn has_row_of(proxy: &ProxyView, managed: &Managed, memory: &Memory, is_meant: impl Fn(&Node) -> bool) -> bool {
    let mut names = managed_rows(proxy, managed).filter_map(|(_, row)| row.node());
    names.any(|name| is_meant(memory.identity.server(&name)))
}

fn has_two_writers(proxy: &ProxyView, managed: &Managed, identity: &Identity) -> bool {
    let mut online: BTreeMap<Hostgroup, Node> = BTreeMap::new();
    let mut writers =
        proxy.runtime.iter().filter(|row| row.status == Status::Online && managed.is_writer(row.key.hostgroup));
    writers.any(|row| {
        let Some(name) = row.node() else { return false };
        let server = identity.server(&name);
        online.entry(row.key.hostgroup).or_insert_with(|| server.clone()) != server
    })
}

/// Whether something may speak against a server that has a managed row.
fn has_suspect(proxy: &ProxyView, managed: &Managed, memory: &Memory, downtimes: &[Downtime]) -> bool {
    let newest = NewestRecoveries::of_each(memory.records.values());
    let released = |server: &Node| memory.released.get(server).copied().unwrap_or_default();
    let superseded = newest.records().filter_map(|record| {
        let server = memory.identity.server(&record.failed);
        let counts = newest.superseding(&record.failed).is_some() && record.at_ns > released(server).recovery_ns;
        counts.then_some(server)
    });
    let downtimed = downtimes.iter().map(|downtime| memory.identity.server(&downtime.node));
    let suspects: BTreeSet<&Node> = memory.evidence.keys().chain(superseded).chain(downtimed).collect();
    !suspects.is_empty() && has_row_of(proxy, managed, memory, |server| suspects.contains(server))
}

/// A recovery writes its mark over an operator's downtime: the reason tells them apart, however near they began.
fn downtimes_changed(before: &BTreeMap<Node, Downtime>, now: &[Downtime]) -> bool {
    let slack = DOWNTIME_BEGIN_SLACK_S.unsigned_abs();
    let same = |a: &Downtime, b: &Downtime| a.reason == b.reason && a.begin_s.abs_diff(b.begin_s) <= slack;
    let is_listed = |downtime: &Downtime| before.get(&downtime.node).is_some_and(|listed| same(listed, downtime));
    before.len() != now.len() || !now.iter().all(is_listed)
}
