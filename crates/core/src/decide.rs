//! The decision: what happens to each node, and why.
//!
//! ```text
//! learn, lease -> per node: facts (evidence) -> guards -> discharge (proof) -> verdict -> plan
//! ```
//!
//! **Invariant:** [`decide`] is pure. The same input gives the same decision. Every verdict carries its evidence as
//! data.

mod barrier;
mod discharge;
mod facts;
mod guards;
mod hooks;
mod leader_query;
mod learn;
mod past;
mod per_node;
mod proof;
mod takeover;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};

use self::discharge::history_is_known;
use self::facts::{Facts, knows_a_server_of};
use self::hooks::{learn_hooks, view};
use self::learn::{arm, by_server, clusters_seen, learn, learn_names, take_up_isolation, take_up_releases};
use self::per_node::judge_all;
use crate::evidence::EvidenceKind;
use crate::lease::{AtProxy, LeaseAction, LeaseState, advance, shared_lease_action};
use crate::managed::{Managed, ManagedRows, served};
use crate::memory::{LeaseMemory, Memory};
use crate::node::Node;
use crate::observed::Observed;
use crate::orchestrator::{
    Answer, Identity, KnownTies, LOST_IN_RECOVERY, LeaderView, NewestRecoveries, Recovery, Topology, downtime_of_each,
};
use crate::orders::{Order, Orders, Release};
use crate::plan::{PauseAction, Plan};
use crate::policy::{IsolationScope, Policy};
use crate::shared::Shared;
use crate::table::{Hostgroup, RowKey};

pub use discharge::release_by_order;
pub use guards::Guard;
pub use leader_query::{LeaderQuery, leader_query};
pub use past::{PastFence, past_fences};
pub use proof::{Judge, ProofGap, ProofGaps, prove_bad};
pub use verdict::{HoldReason, ReturnBlocker, Verdict};

/// The outcome of one decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// One verdict per node name in the managed rows. A server with two names has two equal verdicts.
    pub verdicts: Shared<BTreeMap<Node, Verdict>>,
    /// The row changes that carry the verdicts out.
    pub plan: Plan,
    /// The memory that the next tick must be given.
    pub memory: Memory,
    /// The lease after this tick's answer.
    pub lease_state: LeaseState,
    /// Writer hostgroups with no server that Orchestrator knows, and their servers. Isolation is not armed for these
    /// hostgroups and their readers.
    pub unarmed: BTreeMap<Hostgroup, BTreeSet<Node>>,
    /// Living nodes with evidence against them that match no row. Orchestrator lists them in a cluster that this
    /// ProxySQL serves.
    pub unmatched: BTreeMap<Node, EvidenceKind>,
    /// The leader's own hooks change ProxySQL too.
    pub hooks_are_on: bool,
    /// Writer hostgroups without a writer beside such hooks, with the row that somebody took out.
    pub without_writer: BTreeMap<Hostgroup, RowKey>,
    /// For each fenced node: who is the primary of its cluster, or was promoted to it last, if that is known. The node
    /// itself is in its set if it is one of them, or may be. `None` if a promotion may be unknown.
    pub primaries: Option<BTreeMap<Node, BTreeSet<Node>>>,
}

/// Decides one tick. `now_ms` is on the same clock as the `_ms` values of `memory`.
pub fn decide(observed: &Observed, memory: &Memory, policy: &Policy, now_ms: u64) -> Decision {
    let proxy = &observed.proxy;
    let managed = Managed::of(proxy, policy);
    let mut next = memory.clone();
    next.nodes.addresses.take_up(&observed.addresses);
    if let Some(instances) = leader_answer(observed).and_then(|answer| answer.instances.as_ref()) {
        learn_names(&mut next.nodes, instances, &served(proxy, &managed), policy);
    }
    let identity = next.nodes.identity.clone();
    let rows = ManagedRows::new(proxy, &managed, &identity);
    let answer = leader_answer(observed).map(|answer| identity.unified(answer));
    let answer = answer.as_deref();
    let lease_state = update_memory(&mut next, observed, answer, &rows, &managed, policy, now_ms);

    let records = records_by_server(&next.history.records, &identity);
    if let Some(answer) = answer {
        learn_hooks(&mut next.hooks, answer, now_ms);
        view(&mut next.hooks, proxy, &managed, &records, &identity, answer.date_s);
    }
    let before = next.clone();
    let ordered_releases = by_server(&observed.orders.released, &identity);
    let shown = answer.and_then(|answer| answer.instances.as_ref());
    let ties = shown.map(|_| known_ties(&before, &records, &ordered_releases, &rows, &managed)).unwrap_or_default();
    let topology = shown.map(|shown| Topology::new(shown, &ties));
    let facts = Facts {
        observed,
        policy,
        managed: &managed,
        rows: &rows,
        memory: &before,
        lease_state,
        answer,
        downtimes: &downtime_of_each(answer.iter().flat_map(|answer| &answer.downtimes).map(|d| (&d.node, d))),
        newest: &NewestRecoveries::of_each(&records),
        ordered_releases: &ordered_releases,
        topology: topology.as_ref(),
    };
    let (verdicts, directives) = judge_all(&facts, &mut next.nodes, now_ms);

    if let Some(topology) = &topology {
        next.nodes.cluster.set(clusters_seen(&memory.nodes.cluster, topology, &rows));
    }
    if verdicts.values().any(|verdict| matches!(verdict, Verdict::Fence { blocker: ReturnBlocker::History, .. })) {
        next.history.asked_ms = None; // makes the next tick ask for the history
    }
    let hooks = facts.hook_repairs(rows_left_by_hooks(&facts, &verdicts));
    let mut plan = Plan::with_hooks(managed.clone(), directives, hooks, proxy);
    plan.pause = pause_action(&facts);
    plan.end_possible_holders = policy.end_possible_holders;
    plan.releases = releases(&verdicts, &next, &observed.orders, &identity);
    plan.lease_action = share_lease(&mut next.lease, lease_state, observed, &rows, policy, now_ms);
    Decision {
        primaries: primaries(&facts, &verdicts),
        verdicts: verdicts.into(),
        plan,
        lease_state,
        unarmed: unarmed(&rows, &managed, &next),
        unmatched: unmatched(&facts),
        hooks_are_on: facts.hooks_are_on(),
        without_writer: facts.without_writer(),
        memory: next,
    }
}

/// The rows that the hooks left of nodes that are fenced for the recovery.
fn rows_left_by_hooks(facts: &Facts<'_>, verdicts: &BTreeMap<Node, Verdict>) -> BTreeMap<RowKey, Node> {
    let is_fenced = |server: &Node| match verdicts.get(server) {
        Some(Verdict::Fence { evidence, .. }) => evidence.iter().any(|fact| fact.kind == EvidenceKind::Superseded),
        _ => false,
    };
    let mut left = BTreeMap::new();
    for (server, rows) in facts.rows.servers() {
        if rows.names().iter().any(is_fenced) {
            left.extend(facts.left_by_hooks(server, rows).into_iter().map(|key| (key, server.clone())));
        }
    }
    left
}

fn leader_answer(observed: &Observed) -> Option<&Answer> {
    match &observed.leader {
        LeaderView::Led(answer) => Some(answer),
        LeaderView::Leaderless | LeaderView::Blind(_) | LeaderView::Conflict(_) | LeaderView::Silent(_) => None,
    }
}

/// Takes this tick's observations into the memory. Returns the new state of the lease.
fn update_memory(
    next: &mut Memory,
    observed: &Observed,
    answer: Option<&Answer>,
    rows: &ManagedRows<'_>,
    managed: &Managed,
    policy: &Policy,
    now_ms: u64,
) -> LeaseState {
    let proxy = &observed.proxy;
    take_up_isolation(next, rows, proxy.pause.noted);
    take_up_releases(&mut next.nodes, observed);
    let at_proxy = AtProxy { may_isolate: true, clustered: proxy.clustered, lease: proxy.lease.as_ref() };
    let lease_state = advance(&mut next.lease, &observed.leader, at_proxy, policy, now_ms);
    match answer {
        Some(answer) => {
            learn(next, answer, rows, now_ms);
            arm(next, lease_state, rows, managed);
        }
        // A failover may happen before the next answer. The next tick with a leader reads the history at once.
        None => next.history.asked_ms = None,
    }
    lease_state
}

/// The kept records, with one name per server.
fn records_by_server(records: &BTreeMap<String, Recovery>, identity: &Identity) -> Vec<Recovery> {
    let renamed = |record: &Recovery| {
        let mut record = record.clone();
        identity.rename_in(&mut record);
        record
    };
    records.values().map(renamed).collect()
}

/// Ties between nodes that the leader's instances do not show.
fn known_ties<'a>(
    memory: &'a Memory,
    records: &'a [Recovery],
    ordered_releases: &BTreeMap<Node, Release>,
    rows: &'a ManagedRows<'_>,
    managed: &Managed,
) -> KnownTies<'a> {
    let released = |node: &Node| {
        let of = |of: &BTreeMap<Node, Release>| of.get(node).copied().unwrap_or_default();
        of(&memory.nodes.released).and(of(ordered_releases))
    };
    let since_s = memory.watching_since_s.unwrap_or(i64::MAX);
    KnownTies {
        records: records.iter().filter(|record| record.at_ns > released(&record.failed).recovery_ns).collect(),
        old_before_ns: u64::try_from(since_s).unwrap_or(0).saturating_mul(1_000_000_000),
        companions: companions(memory, rows, managed),
    }
}

/// Two nodes each that share a pair or a hostgroup, and were last seen to replicate together. They tie a returned old
/// primary to its cluster: Orchestrator shows it alone, and its record may be purged.
fn companions<'a>(memory: &'a Memory, rows: &'a ManagedRows<'_>, managed: &Managed) -> Vec<(&'a Node, &'a Node)> {
    let mut first: BTreeMap<(&Node, Hostgroup), &Node> = BTreeMap::new();
    let mut joined = Vec::new();
    for (server, of_server) in rows.servers() {
        let Some(cluster) = memory.nodes.cluster.get(server) else { continue };
        for hostgroup in of_server.hostgroups() {
            let shared = managed.writer_beside(hostgroup).unwrap_or(hostgroup);
            joined.push((*first.entry((cluster, shared)).or_insert(server), server));
        }
    }
    joined.retain(|(a, b)| a != b);
    joined
}

/// The releases of returning nodes, under each of their names. The end of an isolation releases nothing.
fn releases(
    verdicts: &BTreeMap<Node, Verdict>,
    memory: &Memory,
    orders: &Orders,
    identity: &Identity,
) -> BTreeMap<Node, Release> {
    let returns = verdicts.iter().filter(|(_, verdict)| match verdict {
        Verdict::Unfence { evidence, .. } => evidence.iter().any(|fact| fact.kind != EvidenceKind::Isolation),
        _ => false,
    });
    let of = |released: &BTreeMap<Node, Release>, node: &Node| released.get(node).copied().unwrap_or_default();
    let both = |name: &Node| of(&memory.nodes.released, identity.server(name)).and(of(&orders.released, name));
    returns.map(|(name, _)| (name.clone(), both(name))).collect()
}

/// Whether this ProxySQL must take no clients, or may take them again (design §10).
///
/// A pause ends as an isolation of rows does: by a confirmed leader, once the history was read up to this tick. The
/// apply changes the rows before it resumes. A pause that no agent noted is an operator's, and stays.
fn pause_action(facts: &Facts<'_>) -> Option<PauseAction> {
    let Observed { proxy, orders, .. } = facts.observed;
    let seen = proxy.pause;
    if seen.noted && orders.now == Some(Order::EndIsolation) {
        return Some(PauseAction::Resume);
    }
    if orders.suspended.is_some() {
        return None;
    }
    match facts.lease_state {
        LeaseState::Isolated => {
            let is_wanted = proxy.clustered && facts.policy.isolation_scope != IsolationScope::Off;
            let is_done = seen.paused && seen.clients == 0;
            (is_wanted && !is_done).then_some(PauseAction::Pause(seen))
        }
        LeaseState::Led { good: true } => {
            let is_informed = facts.topology.is_some() && history_is_known(facts);
            (seen.noted && is_informed).then_some(PauseAction::Resume)
        }
        _ => None,
    }
}

/// The lease action for the other agents of this ProxySQL (see [`crate::lease`]).
fn share_lease(
    memory: &mut LeaseMemory,
    lease_state: LeaseState,
    observed: &Observed,
    rows: &ManagedRows<'_>,
    policy: &Policy,
    now_ms: u64,
) -> Option<LeaseAction> {
    let Observed { proxy, orders, .. } = observed;
    let is_marked = rows.any_marker(EvidenceKind::Isolation) || proxy.pause.noted;
    let by_others = is_marked && !memory.marked_isolated;
    if !is_marked && lease_state != LeaseState::Isolated {
        memory.marked_isolated = false;
    }
    if orders.suspended.is_some() {
        return None;
    }
    let at_proxy = AtProxy { may_isolate: true, clustered: proxy.clustered, lease: proxy.lease.as_ref() };
    shared_lease_action(memory, lease_state, at_proxy, by_others, policy, now_ms)
}

/// For each fenced node its present primary, and the successor of its newest recovery. A successor that was superseded
/// meanwhile, or that does not take writes, does not count: somebody may have switched back by hand. A node that an
/// unreadable entry names may have been promoted by it.
///
/// `None` if a node is fenced, and no confirmed leader told its instances and its whole history in this tick.
fn primaries(facts: &Facts<'_>, verdicts: &BTreeMap<Node, Verdict>) -> Option<BTreeMap<Node, BTreeSet<Node>>> {
    if !verdicts.values().any(|verdict| matches!(verdict, Verdict::Fence { .. })) {
        return Some(BTreeMap::new());
    }
    let is_fenced = |name: &&Node| matches!(verdicts.get(*name), Some(Verdict::Fence { .. }));
    let topology = facts.topology.filter(|_| facts.lease_state == LeaseState::Led { good: true });
    let topology = topology.filter(|_| history_is_known(facts))?;
    let mut of_each = BTreeMap::new();
    for (server, rows) in facts.rows.servers().filter(|(_, rows)| rows.names().iter().any(|name| is_fenced(&name))) {
        let present = topology.present_primary(server).map(|i| &i.node);
        let may_be = facts.unreadable(server).is_some();
        let promoted = facts.newest.of(server).and_then(|record| record.successor.as_ref());
        let stands = |successor: &&Node| facts.newest.superseding(successor).is_none();
        let takes_writes =
            |n: &&Node| topology.instance(n).is_some_and(|instance| instance.valid && !instance.read_only);
        let promoted = promoted.filter(stands);
        let found: BTreeSet<&Node> = present.into_iter().chain(promoted.filter(takes_writes)).collect();
        for name in rows.names().iter().filter(is_fenced) {
            let is_itself = may_be || promoted == Some(server) || found.contains(server);
            let itself = is_itself.then(|| name.clone());
            of_each.insert(name.clone(), found.iter().map(|node| (*node).clone()).chain(itself).collect());
        }
    }
    Some(of_each)
}

fn unarmed(rows: &ManagedRows<'_>, managed: &Managed, memory: &Memory) -> BTreeMap<Hostgroup, BTreeSet<Node>> {
    let unknown = managed.writers().filter(|hostgroup| !knows_a_server_of(rows, memory, *hostgroup));
    let servers = |hostgroup| rows.in_runtime(hostgroup).map(|(server, _)| server.clone()).collect();
    unknown
        .map(|hostgroup| (hostgroup, servers(hostgroup)))
        .filter(|(_, servers)| !BTreeSet::is_empty(servers))
        .collect()
}

fn unmatched(facts: &Facts<'_>) -> BTreeMap<Node, EvidenceKind> {
    let Some(topology) = facts.topology else { return BTreeMap::new() };
    let served: BTreeSet<usize> = facts.rows.servers().filter_map(|(server, _)| topology.cluster_of(server)).collect();
    let marked = facts.downtimes.values().filter(|downtime| downtime.reason == LOST_IN_RECOVERY);
    let marked = marked.map(|downtime| (&downtime.node, EvidenceKind::LostInRecovery));
    let superseded = facts.newest.records().map(|record| &record.failed).map(|node| (node, EvidenceKind::Superseded));
    let concerns = |node: &Node| topology.cluster_of(node).is_some_and(|cluster| served.contains(&cluster));
    let is_alive = |node: &Node| topology.instance(node).is_some_and(|instance| instance.valid);
    marked
        .chain(superseded)
        .filter(|(node, _)| !facts.rows.serves(node) && is_alive(node) && concerns(node))
        .filter(|(node, kind)| *kind != EvidenceKind::Superseded || facts.superseding(node).is_some())
        .map(|(node, kind)| (node.clone(), kind))
        .collect()
}
