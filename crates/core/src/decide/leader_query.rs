//! Chooses what to ask the leader in this tick besides the downtimes: as little as the decision needs (facts §9).

use std::collections::{BTreeMap, BTreeSet};

use crate::evidence::EvidenceKind;
use crate::managed::{Managed, managed_rows};
use crate::memory::{HookMemory, Memory};
use crate::node::Node;
use crate::observed::ProxyView;
use crate::orchestrator::{
    Addresses, DOWNTIME_BEGIN_SLACK_S, Downtime, Identity, NewestRecoveries, ProxyHooks, downtime_of_each,
};
use crate::policy::{HISTORY_EVERY_MS, HOOKS_AGAIN_MS, HOOKS_EVERY_MS, Policy};
use crate::table::{Comment, Hostgroup};

/// The questions of one tick, besides the downtimes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaderQuery {
    /// The recovery history.
    pub history: bool,
    /// All instances.
    pub instances: bool,
    /// The leader that the other raft nodes name.
    pub backing: bool,
    /// Whether its build has ProxySQL hooks of its own, and whether they are on.
    pub hooks: bool,
}

/// The questions that this tick needs, given the hosts' addresses and the leader's downtimes.
pub fn leader_query(
    proxy: &ProxyView,
    memory: &Memory,
    addresses: &Addresses,
    leader: &str,
    downtimes: &[Downtime],
    policy: &Policy,
    now_ms: u64,
) -> LeaderQuery {
    let due = |asked: Option<u64>| asked.is_none_or(|asked| asked > now_ms || now_ms - asked >= HISTORY_EVERY_MS);
    let managed = Managed::of(proxy, policy);
    let noted = Noted::of(proxy, &managed);
    let suspect = || has_suspect(proxy, &managed, memory, downtimes);
    let history = due(memory.history.asked_ms)
        || memory.history.progress.leader != leader
        || memory.history.progress.under_way.is_some()
        // The end of an isolation lets nodes back, and every return needs the history up to now.
        || noted.isolation
        // Rows that are only observed have no note.
        || (policy.fences_at_node && (noted.any || suspect()))
        || proxy.pause.noted
        || downtimes_changed(&memory.history.downtimes, downtimes, &memory.nodes.identity)
        // A node is about to return, and a recovery's record can appear later than its downtime.
        || !memory.nodes.proofs.is_empty();
    let unconfirmed = memory.history.records.values().any(|record| !record.successful);
    let instances = !memory.lease.armed
        || noted.any
        || unconfirmed
        || addresses.tell_more_than(&memory.nodes.addresses) // they are matched to the names in this answer
        || has_two_writers(proxy, &managed, &memory.nodes.identity)
        || due(memory.nodes.instances_asked_ms)
            && has_row_of(proxy, &managed, memory, |server| !memory.nodes.known.contains(server))
        // A new record is judged by the topology of the same tick.
        || history
        || suspect();
    let lease_lost = memory.lease.isolated
        || memory.lease.asked_ms.is_none_or(|asked| now_ms >= asked.saturating_add(policy.isolation_after_ms));
    LeaderQuery {
        history,
        instances,
        backing: instances || lease_lost,
        hooks: hooks_due(&memory.hooks, leader, now_ms),
    }
}

/// Whether this leader was not asked for its hooks yet, or long ago.
fn hooks_due(hooks: &HookMemory, leader: &str, now_ms: u64) -> bool {
    let is_of = |(name, _): &(String, ProxyHooks)| name == leader;
    let every_ms = if hooks.said.as_ref().is_some_and(is_of) { HOOKS_EVERY_MS } else { HOOKS_AGAIN_MS };
    match &hooks.asked {
        Some((name, asked_ms)) if name == leader => *asked_ms > now_ms || now_ms - asked_ms >= every_ms,
        _ => true,
    }
}

/// The notes in the rows' comments.
#[derive(Default)]
struct Noted {
    /// Some row has a note, readable or not.
    any: bool,
    /// Some row has a marker of an isolation.
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

/// Whether a server that `is_meant` accepts has a managed row.
fn has_row_of(proxy: &ProxyView, managed: &Managed, memory: &Memory, is_meant: impl Fn(&Node) -> bool) -> bool {
    let mut names = managed_rows(proxy, managed).filter_map(|(_, row)| row.node());
    names.any(|name| is_meant(memory.nodes.identity.server(&name)))
}

fn has_two_writers(proxy: &ProxyView, managed: &Managed, identity: &Identity) -> bool {
    let mut found: BTreeMap<Hostgroup, Node> = BTreeMap::new();
    let mut writers =
        proxy.runtime.iter().filter(|row| row.status.in_service() && managed.is_writer(row.key.hostgroup));
    writers.any(|row| {
        let Some(name) = row.node() else { return false };
        let server = identity.server(&name);
        found.entry(row.key.hostgroup).or_insert_with(|| server.clone()) != server
    })
}

/// Whether there may be evidence against a server that has a managed row.
fn has_suspect(proxy: &ProxyView, managed: &Managed, memory: &Memory, downtimes: &[Downtime]) -> bool {
    let newest = NewestRecoveries::of_each(memory.history.records.values());
    let released = |server: &Node| memory.nodes.released.get(server).copied().unwrap_or_default();
    let superseded = newest.records().filter_map(|record| {
        let server = memory.nodes.identity.server(&record.failed);
        let counts = newest.superseding(&record.failed).is_some() && record.at_ns > released(server).recovery_ns;
        counts.then_some(server)
    });
    let downtimed = downtimes.iter().map(|downtime| memory.nodes.identity.server(&downtime.node));
    let suspects: BTreeSet<&Node> = memory.nodes.evidence.keys().chain(superseded).chain(downtimed).collect();
    !suspects.is_empty() && has_row_of(proxy, managed, memory, |server| suspects.contains(server))
}

/// Whether the downtimes differ, by server, reason or begin. A recovery's mark replaces an operator's downtime, and only
/// the reason shows it if both began within seconds.
fn downtimes_changed(before: &BTreeMap<Node, Downtime>, now: &[Downtime], identity: &Identity) -> bool {
    let slack = DOWNTIME_BEGIN_SLACK_S.unsigned_abs();
    let same = |a: &Downtime, b: &Downtime| a.reason == b.reason && a.begin_s.abs_diff(b.begin_s) <= slack;
    let now = downtime_of_each(now.iter().map(|d| (identity.server(&d.node), d)));
    let is_listed =
        |(server, downtime): (&&Node, &&Downtime)| before.get(*server).is_some_and(|listed| same(listed, downtime));
    before.len() != now.len() || !now.iter().all(is_listed)
}
