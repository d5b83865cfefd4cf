//! The decision: what is to become of each node, and why.
//!
//! ```text
//! lease::advance -> learn -> per node: evidence (gather) -> discharge (proof) -> verdict -> plan
//! ```
//!
//! Pure: the same input gives the same decision, and every verdict carries its evidence as data.

mod discharge;
mod facts;
mod guards;
mod leader_query;
mod learn;
mod proof;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::discharge::{discharge, return_as_primary, settle_old};
use crate::decide::facts::{ByKind, Facts, knows_a_server_of};
use crate::decide::guards::{Fenced, is_out_for_good, may_fence_for_downtime};
use crate::decide::learn::{arm, by_server, clusters_seen, learn, take_up_isolation_markers, take_up_releases};
use crate::evidence::{EndsBy, Evidence, EvidenceKind, Level, Source};
use crate::lease::{AtProxy, LeaseAction, LeaseState, advance, shared_lease_action};
use crate::managed::{Managed, ManagedRows, ServerRows};
use crate::memory::Memory;
use crate::node::Node;
use crate::observed::Observed;
use crate::orchestrator::{
    Downtime, Identity, KnownTies, LOST_IN_RECOVERY, LeaderView, NewestRecoveries, Recovery, Topology,
};
use crate::orders::{Order, Orders, Release};
use crate::plan::{Directive, Plan};
use crate::policy::Policy;
use crate::table::{Comment, Hostgroup, Row, Status};

pub use discharge::release_by_order;
pub use guards::Guard;
pub use leader_query::{LeaderQuery, leader_query};
pub use proof::{Judge, ProofGap, ProofGaps, prove_bad};
pub use verdict::{HoldReason, ReturnBlocker, Verdict};

/// What one tick decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Per name of a served node.
    pub verdicts: BTreeMap<Node, Verdict>,
    /// The row changes.
    pub plan: Plan,
    /// To be kept until the next tick.
    pub memory: Memory,
    /// Where we stand towards the leader.
    pub lease_state: LeaseState,
    /// Writer hostgroups of which Orchestrator knows no server: isolation is not armed for them and their readers.
    pub unarmed: BTreeMap<Hostgroup, BTreeSet<Node>>,
    /// Nodes that something speaks against, and that are listed in a cluster which this ProxySQL serves, but have no row
    /// here under that name.
    pub unmatched: BTreeMap<Node, EvidenceKind>,
}

/// Decides. `now_ms` counts on the clock that `memory`'s `_ms` values are of.
pub fn decide(observed: &Observed, memory: &Memory, policy: &Policy, now_ms: u64) -> Decision {
    let mut next = memory.clone();
    let proxy = &observed.proxy;
    let managed = Managed::of(proxy, policy);
    let said = match &observed.leader {
        LeaderView::Led(answer) => Some(answer),
        _ => None,
    };
    if let Some(instances) = said.and_then(|answer| answer.instances.as_ref()) {
        next.identity.learn(instances, &crate::managed::served(proxy, &managed));
    }
    let identity = next.identity.clone();
    let rows = ManagedRows::new(proxy, &managed, &identity);
    take_up_isolation_markers(&mut next, &rows);
    take_up_releases(&mut next, observed, &identity);
    let at_proxy = AtProxy { may_isolate: !proxy.clustered, lease: proxy.lease.as_ref() };
    let lease_state = advance(&mut next, &observed.leader, at_proxy, policy, now_ms);
    let answer = said.map(|answer| identity.unified(answer));
    let answer = answer.as_deref();
    match answer {
        Some(answer) => {
            learn(&mut next, answer, &rows, now_ms);
            arm(&mut next, lease_state, &rows, &managed);
        }
        // Whoever failed over meanwhile is asked for at once.
        None => next.history_asked_ms = None,
    }
    let before = next.clone();
    let ordered_releases = by_server(&observed.orders.released, &identity);
    let records: Vec<Recovery> = before.records.values().cloned().map(|record| renamed(record, &identity)).collect();
    let all: Vec<&Recovery> = records.iter().collect();
    let released = |node: &Node| {
        let of = |of: &BTreeMap<Node, Release>| of.get(node).copied().unwrap_or_default();
        of(&before.released).and(of(&ordered_releases))
    };
    let unreleased = all.iter().copied().filter(|record| record.at_ns > released(&record.failed).recovery_ns);
    let shown = answer.and_then(|answer| answer.instances.as_ref());
    let history = || KnownTies {
        records: unreleased.collect(),
        old_before_ns: watching_since_ns(&before),
        companions: companions(&before, &rows),
    };
    let topology = shown.map(|shown| Topology::new(shown, &history()));
    let clusters = topology.as_ref().map(|topology| clusters_seen(&memory.cluster, topology, &rows));
    let downtimes: BTreeMap<&Node, &Downtime> =
        answer.iter().flat_map(|answer| &answer.downtimes).map(|downtime| (&downtime.node, downtime)).collect();
    let facts = Facts {
        observed,
        policy,
        managed: &managed,
        rows: &rows,
        memory: &before,
        lease_state,
        answer,
        downtimes: &downtimes,
        newest: &NewestRecoveries::of_each(all.iter().copied()),
        ordered_releases: &ordered_releases,
        topology: topology.as_ref(),
    };
    let (verdicts, directives) = judge_all(&facts, &mut next, now_ms);
    if let Some(clusters) = clusters {
        next.cluster = clusters;
    }
    let mut plan = Plan::new(managed.clone(), directives, proxy);
    plan.end_possible_holders = policy.end_possible_holders;
    plan.releases = releases(&verdicts, &next, &observed.orders, &identity);
    plan.lease_action = share_lease(&mut next, lease_state, observed, &rows, policy, now_ms);
    let (unarmed, unmatched) = (unarmed(&rows, &managed, &next), unmatched(&facts));
    Decision { verdicts, plan, memory: next, lease_state, unarmed, unmatched }
}

fn renamed(mut record: Recovery, identity: &Identity) -> Recovery {
    identity.rename_in(&mut record);
    record
}

fn watching_since_ns(memory: &Memory) -> u64 {
    let since_s = memory.watching_since_s.unwrap_or(i64::MAX);
    u64::try_from(since_s).unwrap_or(0).saturating_mul(1_000_000_000)
}

/// Nodes that were last seen to replicate together and serve one hostgroup: a returned old primary is alone in what
/// Orchestrator calls its cluster, and no record may be left.
fn companions<'a>(memory: &'a Memory, rows: &'a ManagedRows<'_>) -> Vec<(&'a Node, &'a Node)> {
    let mut first: BTreeMap<(&Node, Hostgroup), &Node> = BTreeMap::new();
    let mut joined = Vec::new();
    for (server, of_server) in rows.servers() {
        let Some(cluster) = memory.cluster.get(server) else { continue };
        for hostgroup in of_server.hostgroups() {
            joined.push((*first.entry((cluster, hostgroup)).or_insert(server), server));
        }
    }
    joined.retain(|(a, b)| a != b);
    joined
}

/// What returning nodes are released of, under each of their names; the end of an isolation releases nothing.
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
    let both = |name: &Node| of(&memory.released, identity.server(name)).and(of(&orders.released, name));
    returns.map(|(name, _)| (name.clone(), both(name))).collect()
}

/// See [`crate::lease`]: of two agents of one ProxySQL one isolates it, and the other has a lease.
fn share_lease(
    memory: &mut Memory,
    lease_state: LeaseState,
    observed: &Observed,
    rows: &ManagedRows<'_>,
    policy: &Policy,
    now_ms: u64,
) -> Option<LeaseAction> {
    let Observed { proxy, orders, .. } = observed;
    let is_marked = rows.any_marker(EvidenceKind::Isolation);
    let by_others = is_marked && !memory.marked_isolated;
    if !is_marked && lease_state != LeaseState::Isolated {
        memory.marked_isolated = false;
    }
    if orders.suspended.is_some() {
        return None;
    }
    shared_lease_action(memory, lease_state, proxy.lease.as_ref(), by_others, policy, now_ms)
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

type Judged = (BTreeMap<Node, Verdict>, BTreeMap<Node, Directive>);

/// What is to become of each server.
fn judge_all(facts: &Facts<'_>, next: &mut Memory, now_ms: u64) -> Judged {
    let (seen, second_writers) = facts.second_writers();
    next.second_writers = seen;
    // In the order of the servers: a tree is made of them at once.
    let mut quiet = Vec::new();
    let mut fenced = Fenced::default();
    let cluster_of = |node: &Node| facts.topology.and_then(|topology| topology.cluster_of(node));
    let mut for_downtime = Vec::new();
    for (node, rows) in facts.rows.servers() {
        let marked = facts.marked_in(rows);
        if let Some(why) = hands_off(facts, node, rows, marked.is_empty()) {
            quiet.push((node.clone(), why));
            continue;
        }
        let found = facts.of_recovery(node, rows, &marked);
        let mut evidence = found.evidence;
        evidence.extend(other_evidence(facts, node, rows, &marked));
        evidence.extend(second_writers.get(node).map(|fact| (fact.kind, fact.clone())));
        if let Some(fact) = facts.of_downtime(node) {
            // An isolation, which ends by itself, must not carry it past the guards.
            if is_out_for_good(&evidence) {
                evidence.insert(fact.kind, fact);
            } else {
                for_downtime.push((node.clone(), fact));
                if evidence.is_empty() {
                    continue;
                }
            }
        }
        if evidence.is_empty() {
            quiet.push((node.clone(), not_fenced(facts, next, node, &marked, found.held, now_ms)));
            continue;
        }
        fenced.add(cluster_of(node), node, evidence);
    }
    let mut verdicts: BTreeMap<Node, Verdict> = quiet.into_iter().collect();
    for (node, fact) in for_downtime {
        match may_fence_for_downtime(facts, &node, &fenced) {
            Ok(()) => fenced.add(cluster_of(&node), &node, ByKind::from([(fact.kind, fact)])),
            // One that is out for an isolation is judged by that, below.
            Err(guard) => drop(verdicts.insert(node, Verdict::Hold(HoldReason::Guarded(guard)))),
        }
    }
    // Judged, and nothing counts any more: released. A node that was not judged keeps what speaks against it (I2).
    let settled = |verdict: Option<&Verdict>| match verdict {
        Some(Verdict::Hold(why)) => {
            matches!(why, HoldReason::OldEvidence(_) | HoldReason::Contradicted(_) | HoldReason::Guarded(_))
        }
        verdict => matches!(verdict, Some(Verdict::Keep)),
    };
    next.evidence.retain(|node, _| !settled(verdicts.get(node)));
    for (node, evidence) in fenced {
        let verdict = discharge(facts, next, &node, evidence, now_ms);
        verdicts.insert(node, verdict);
    }
    under_every_name(facts, verdicts)
}

/// Evidence that is not of a recovery: what was kept, what markers say, a lease that is over, an order. A downtime of before
/// is nothing against a node that is in service and bears no marker: somebody let it back.
fn other_evidence(facts: &Facts<'_>, node: &Node, rows: &ServerRows<'_>, marked: &ByKind) -> ByKind {
    let was_let_back = marked.is_empty() && rows.in_service();
    let is_other = |kind: &EvidenceKind| match kind.ends_by() {
        EndsBy::Proof | EndsBy::Promotion => false,
        EndsBy::DowntimeEnd => !was_let_back,
        EndsBy::Lease | EndsBy::Order => true,
    };
    let mut evidence: ByKind = facts.kept(node).into_iter().filter(|(kind, _)| is_other(kind)).collect();
    for (kind, fact) in marked.iter().filter(|(kind, _)| is_other(kind)) {
        evidence.entry(*kind).or_insert_with(|| fact.clone());
    }
    evidence.extend(facts.of_isolation(node).map(|fact| (fact.kind, fact)));
    evidence.extend(ordered(facts, node));
    evidence
}

/// What becomes of a node that nothing fences.
fn not_fenced(
    facts: &Facts<'_>,
    next: &mut Memory,
    node: &Node,
    marked: &ByKind,
    held: Option<Evidence>,
    now_ms: u64,
) -> Verdict {
    if let Some(what) = facts.unreadable(node) {
        next.proofs.remove(node);
        return Verdict::Hold(HoldReason::Unreadable(what.to_owned()));
    }
    if let Some(old) = held {
        let settled = settle_old(facts, next, node, &old, now_ms);
        if let Some(role) = settled.filter(|_| old.source == Source::Marker) {
            // Memory or disk still show the fence that its runtime rows are without.
            return Verdict::Unfence { role, evidence: vec![old] };
        }
        let is_contradicted = next.contradicted.contains_key(node) || facts.is_contradicted(node, old.by.as_ref());
        return Verdict::Hold(if is_contradicted {
            HoldReason::Contradicted(old)
        } else {
            HoldReason::OldEvidence(old)
        });
    }
    if let Some(waiting) = marked.get(&EvidenceKind::Replica) {
        return return_as_primary(facts, next, node, waiting, now_ms);
    }
    next.proofs.remove(node);
    Verdict::Keep
}

/// What was judged of a server holds for each name that its rows have.
fn under_every_name(facts: &Facts<'_>, by_server: BTreeMap<Node, Verdict>) -> Judged {
    let (mut verdicts, mut directives) = (Vec::with_capacity(by_server.len()), BTreeMap::new());
    let mut by_server = by_server.into_iter().peekable();
    for (server, rows) in facts.rows.servers() {
        let Some((_, verdict)) = by_server.next_if(|(judged, _)| judged == server) else { continue };
        let directive = directive(&verdict, facts, server);
        for name in rows.names() {
            directives.extend(directive.iter().map(|directive| (name.clone(), directive.clone())));
            verdicts.push((name.clone(), verdict.clone()));
        }
    }
    (verdicts.into_iter().collect(), directives)
}

/// What can't or mustn't be judged.
fn hands_off(facts: &Facts<'_>, node: &Node, rows: &ServerRows<'_>, unmarked: bool) -> Option<Verdict> {
    let is_unreadable = |row: &Row| matches!(Comment::parse(&row.comment), Comment::Unreadable(_));
    if rows.has_note() && rows.all().any(is_unreadable) {
        return Some(Verdict::Hold(HoldReason::UnreadableMarker));
    }
    if let Some(Status::Unknown(text)) =
        rows.all().map(|row| &row.status).find(|status| matches!(status, Status::Unknown(_)))
    {
        return Some(Verdict::Hold(HoldReason::UnknownStatus(text.clone())));
    }
    let ordered = match &facts.observed.orders.now {
        Some(Order::Fence { node: ordered, .. } | Order::Unfence { node: ordered, .. }) => {
            rows.names().contains(ordered)
        }
        Some(Order::EndIsolation) => !unmarked,
        None => false,
    };
    if let Some(reason) = facts.observed.orders.suspended.as_ref().filter(|_| !ordered) {
        return Some(Verdict::Hold(HoldReason::Suspended(reason.clone())));
    }
    // A marker proves that Orchestrator knew it once, and an operator's order needs no such knowledge.
    (!facts.memory.known.contains(node) && unmarked && !ordered).then_some(Verdict::Ignore(HoldReason::NotKnown))
}

fn ordered(facts: &Facts<'_>, node: &Node) -> Option<(EvidenceKind, Evidence)> {
    match &facts.observed.orders.now {
        Some(Order::Fence { node: ordered, .. }) if facts.is_named(node, ordered) => {
            Some((EvidenceKind::Manual, Evidence::ordered()))
        }
        _ => None,
    }
}

fn directive(verdict: &Verdict, facts: &Facts<'_>, node: &Node) -> Option<Directive> {
    match verdict {
        Verdict::Fence { level, evidence, .. } => {
            let first = evidence.first()?;
            // The successor is named by whichever evidence of that kind knows it; a marker's own name comes second.
            let by = first.by.clone().or_else(|| facts.marked(node).get(&first.kind).and_then(|e| e.by.clone()));
            Some(Directive::Fence { kind: first.kind, by, sessions: *level >= Level::Sessions })
        }
        Verdict::Unfence { role, .. } => Some(Directive::Unfence(*role)),
        Verdict::Keep | Verdict::Hold(_) | Verdict::Ignore(_) => None,
    }
}
