//! Ends the evidence against a node, by two proofs, the end of a downtime, a lease or an order (design §6).
//!
//! **Invariant:** absence ends nothing (I2). A node does not go back because something can't be shown now.

use std::collections::BTreeSet;

use crate::decide::facts::{ByKind, Facts};
use crate::decide::{Judge, ProofGap, ReturnBlocker, Verdict};
use crate::evidence::{EndsBy, Evidence, EvidenceKind, Level, Source};
use crate::lease::LeaseState;
use crate::memory::{FirstProof, Memory, NodeMemory};
use crate::node::Node;
use crate::orchestrator::{KnownTies, LeaderView, NewestRecoveries, RecoveryHistory, Topology, uid_ns};
use crate::orders::{Order, Release};
use crate::policy::PROOF_GAP_MS;
use crate::role::Role;
use crate::table::{Hostgroup, Layer, Status};

/// Removes the evidence that has ended. The verdict lets the node back if nothing is left, and fences it otherwise.
pub(crate) fn discharge(
    facts: &Facts<'_>,
    next: &mut NodeMemory,
    node: &Node,
    evidence: ByKind,
    now_ms: u64,
) -> Verdict {
    track_up_throughout(facts, next, node, &evidence);
    let mut left = evidence.clone();
    let ended = match ended_by_order(facts, node, &mut left) {
        Some(ended) => ended,
        None => ended(facts, next, node, &mut left, now_ms).and_then(|role| match history_is_known(facts) {
            true => Ok(role),
            false => Err(ReturnBlocker::History), // the next tick asks for it
        }),
    };
    let blocker = match ended {
        Ok(role) if left.is_empty() => {
            release(facts, next, node);
            return Verdict::Unfence { role, evidence: evidence.into_values().collect() };
        }
        Ok(_) => ReturnBlocker::Operator,
        Err(blocker) => blocker,
    };
    // All evidence has ended, and the role is not known yet: the node stays out for the evidence that it had.
    let evidence = if left.is_empty() { evidence } else { left };
    // Markers and the lease are read anew in each tick. Other evidence must outlive the leader that showed it.
    // A barrier's marker alone is kept for the time when it was first seen.
    let keeps = |e: &Evidence| match e.kind.ends_by() {
        EndsBy::Lease | EndsBy::Order => false,
        EndsBy::Proof if e.kind == EvidenceKind::Barrier => e.at_s != 0,
        EndsBy::Proof | EndsBy::DowntimeEnd | EndsBy::TakeoverEnd | EndsBy::Promotion => e.source != Source::Marker,
    };
    let mut kept: ByKind = evidence.iter().filter(|(_, e)| keeps(e)).map(|(kind, e)| (*kind, e.clone())).collect();
    kept.extend(order_that_no_marker_will_name(facts, node, &evidence).map(|fact| (fact.kind, fact)));
    if kept.is_empty() {
        next.evidence.remove(node)
    } else {
        next.evidence.insert(node.clone(), kept)
    };
    let level = evidence.values().map(|e| level(facts, node, e)).max().unwrap_or(Level::Soft);
    Verdict::Fence { level, evidence: evidence.into_values().collect(), blocker }
}

/// Whether the history was read in this tick without a gap. Every return needs that, except by an operator's order.
pub(crate) fn history_is_known(facts: &Facts<'_>) -> bool {
    let history = facts.answer.and_then(|answer| answer.history.as_ref());
    history.is_some_and(RecoveryHistory::is_whole)
}

/// An operator's order that outranking evidence keeps out of the marker. The marker names the highest rank only, so the
/// memory has to keep the order. It counts until the operator releases the node again.
fn order_that_no_marker_will_name(facts: &Facts<'_>, node: &Node, evidence: &ByKind) -> Option<Evidence> {
    let order = evidence.get(&EvidenceKind::Manual)?;
    let is_named = evidence.keys().next() == Some(&EvidenceKind::Manual)
        && (order.source == Source::Operator || facts.marked(node).contains_key(&EvidenceKind::Manual));
    (!is_named).then(|| Evidence {
        source: Source::Operator,
        at_s: facts.released_by_order(node).ordered_s.saturating_add(1),
        ..order.clone()
    })
}

/// The outcome of an operator's order for this node. `None`: no order concerns its return.
fn ended_by_order(facts: &Facts<'_>, node: &Node, evidence: &mut ByKind) -> Option<Result<Role, ReturnBlocker>> {
    match facts.observed.orders.now.as_ref()? {
        Order::Unfence { node: ordered, .. } if !facts.is_named(node, ordered) => None,
        Order::Unfence { without_lease: true, .. } => Some(release_all(evidence, Role::AsBefore)),
        Order::Unfence { role, .. } => Some(released_by_operator(facts, node, evidence, *role)),
        Order::EndIsolation => {
            evidence.remove(&EvidenceKind::Isolation);
            Some(if evidence.is_empty() { Ok(Role::AsBefore) } else { Err(ReturnBlocker::Operator) })
        }
        Order::Fence { .. } | Order::Barrier { .. } | Order::Drain { .. } => None,
    }
}

/// Removes the evidence that has ended. `Ok`: the role in which the node may go back, if nothing is left.
fn ended(
    facts: &Facts<'_>,
    next: &mut NodeMemory,
    node: &Node,
    evidence: &mut ByKind,
    now_ms: u64,
) -> Result<Role, ReturnBlocker> {
    if evidence.contains_key(&EvidenceKind::Isolation) && facts.lease_state == LeaseState::Isolated {
        return Err(ReturnBlocker::Lease);
    }
    // Good news needs a confirmed leader (I8).
    if facts.lease_state != (LeaseState::Led { good: true }) {
        let by = evidence.values().find_map(|e| e.by.as_ref());
        if matches!(facts.live_proof(node, by), Some(Err(_))) {
            next.proofs.remove(node); // bad news counts at once (I8) and voids the first proof
        }
        return Err(ReturnBlocker::ConfirmedLeader);
    }
    evidence.retain(|kind, _| kind.ends_by() != EndsBy::Lease);
    if let Some(unsure) = facts.unsure_name(node) {
        next.proofs.remove(node);
        let is_free = evidence.is_empty(); // an isolation takes nothing from a name
        return if is_free { Ok(Role::AsBefore) } else { Err(ReturnBlocker::UnsureName(unsure.clone())) };
    }
    let unreadable = if evidence.is_empty() { facts.unreadable_evidence(node) } else { facts.unreadable(node) };
    if let Some(what) = unreadable {
        next.proofs.remove(node);
        return Err(ReturnBlocker::Unreadable(what.to_owned()));
    }
    let judge = facts.judge(node).ok_or(ReturnBlocker::Instances)?;
    let mut proven = None;
    let ways: BTreeSet<EndsBy> = evidence.keys().map(|kind| kind.ends_by()).collect();
    for ends_by in ways {
        match ends_by {
            EndsBy::Proof => proven = Some(ended_by_proof(facts, next, node, evidence, now_ms)?),
            EndsBy::DowntimeEnd => downtime_is_over(facts, &judge, node)?,
            EndsBy::TakeoverEnd => facts.takeover_is_over(&judge, node)?,
            EndsBy::Lease => {}
            EndsBy::Order | EndsBy::Promotion => continue,
        }
        evidence.retain(|kind, _| kind.ends_by() != ends_by);
    }
    match proven {
        Some(role) => Ok(role),
        None => judge.role(node).map(|role| as_before(facts, node, role)).map_err(ReturnBlocker::Proof),
    }
}

/// The role in which a node is proven twice. The proof ends all evidence of a recovery.
fn ended_by_proof(
    facts: &Facts<'_>,
    next: &mut NodeMemory,
    node: &Node,
    evidence: &ByKind,
    now_ms: u64,
) -> Result<Role, ReturnBlocker> {
    if facts.barrier(node).is_some() {
        next.proofs.remove(node);
        return Err(ReturnBlocker::DowntimeEnd);
    }
    let by = evidence.values().find_map(|e| e.by.as_ref());
    let role = match facts.live_proof(node, by) {
        Some(Ok(role)) => role,
        Some(Err(gaps)) if gaps == [ProofGap::SuccessorNotFollowing] && facts.was_promoted_since(node, evidence) => {
            Role::Primary
        }
        Some(Err(gaps)) => {
            next.proofs.remove(node);
            return Err(ReturnBlocker::Proof(gaps));
        }
        None => return Err(ReturnBlocker::Instances),
    };
    // After a planned takeover the mark stays for a minute while the demoted node replicates. It may serve reads then.
    let marked_lost = facts.downtime(node).is_some();
    if role == Role::Replica && marked_lost && !next.up_throughout.contains(node) {
        return Err(ReturnBlocker::DowntimeEnd);
    }
    // A return as the primary rests on the former successor, which must be known. The mark alone names nobody, and a
    // replica that Orchestrator did not move still follows the old primary.
    let successor_is_known = by.is_some() || facts.promoted_nobody(node);
    let was_lost = evidence.contains_key(&EvidenceKind::LostInRecovery);
    if role == Role::Primary && was_lost && !successor_is_known && !facts.was_promoted_since(node, evidence) {
        return Err(ReturnBlocker::Operator);
    }
    if let (Role::Primary, Some(barrier)) = (role, evidence.get(&EvidenceKind::Barrier)) {
        facts.barrier_is_over(node, barrier).inspect_err(|_| {
            next.proofs.remove(node);
        })?;
    }
    if !proven_twice(next, node, role, now_ms) {
        return Err(ReturnBlocker::SecondProof(role));
    }
    Ok(role)
}

/// `Ok` if the leader shows the node valid and without a downtime, or valid and as the present primary. A plain
/// downtime never takes the healthy present primary (design §5).
fn downtime_is_over(facts: &Facts<'_>, judge: &Judge<'_>, node: &Node) -> Result<(), ReturnBlocker> {
    let gap = |gap| ReturnBlocker::Proof(vec![gap]);
    let instance = judge.topology.instance(node).ok_or_else(|| gap(ProofGap::Unlisted))?;
    if !instance.valid {
        return Err(gap(ProofGap::NotValid));
    }
    let is_primary = judge.topology.present_primary(node).is_some_and(|primary| primary.node == *node);
    let is_downtimed = instance.downtimed || facts.downtime(node).is_some();
    if is_downtimed && !is_primary { Err(ReturnBlocker::DowntimeEnd) } else { Ok(()) }
}

/// Settles evidence from before the watch, against a node in service. Two proofs discharge it, so it does not count
/// when the node dies later. Evidence that the live view contradicts is remembered as such, until an operator or a new
/// record decides. Returns the node's role if this tick completed the proof.
pub(crate) fn settle_old(
    facts: &Facts<'_>,
    next: &mut NodeMemory,
    node: &Node,
    old: &Evidence,
    now_ms: u64,
) -> Option<Role> {
    let is_confirmed = facts.lease_state == (LeaseState::Led { good: true });
    if is_confirmed && facts.is_contradicted(node, old.by.as_ref()) {
        next.contradicted.insert(node.clone(), old.at_s);
    }
    if let Some(Ok(role)) = facts.live_proof(node, old.by.as_ref())
        && is_confirmed
    {
        if proven_twice(next, node, role, now_ms) {
            release(facts, next, node);
            return Some(role);
        }
    } else {
        next.proofs.remove(node);
    }
    None
}

/// The verdict of a replica whose row waits in a named writer hostgroup. The row returns once the node is proven twice
/// to be the primary.
pub(crate) fn return_as_primary(
    facts: &Facts<'_>,
    next: &mut NodeMemory,
    node: &Node,
    waiting: &Evidence,
    now_ms: u64,
) -> Verdict {
    let is_primary = facts.judge(node).is_some_and(|judge| judge.role(node) == Ok(Role::Primary));
    if !is_primary || facts.lease_state != (LeaseState::Led { good: true }) {
        next.proofs.remove(node);
        return Verdict::Keep;
    }
    match proven_twice(next, node, Role::Primary, now_ms) {
        true => Verdict::Unfence { role: Role::Primary, evidence: vec![waiting.clone()] },
        false => Verdict::Keep,
    }
}

/// Whether the same proof was seen at least [`PROOF_GAP_MS`] ago. Remembers a proof that is seen for the first time.
fn proven_twice(next: &mut NodeMemory, node: &Node, role: Role, now_ms: u64) -> bool {
    match next.proofs.get(node) {
        Some(first) if first.role == role && first.at_ms <= now_ms => now_ms - first.at_ms >= PROOF_GAP_MS,
        _ => {
            next.proofs.insert(node.clone(), FirstProof { role, at_ms: now_ms });
            false
        }
    }
}

fn release(facts: &Facts<'_>, next: &mut NodeMemory, node: &Node) {
    let current = Release {
        recovery_ns: facts.superseding(node).map_or(0, |record| record.at_ns),
        downtime_s: facts.downtime(node).map_or(0, |downtime| downtime.begin_s),
        ordered_s: facts.answer.map_or(0, |answer| answer.date_s),
    };
    let released = next.released.get(node).copied().unwrap_or_default();
    next.released.insert(node.clone(), released.and(current).and(kept_ids(next, node)));
    // The proofs stay until the rows show the return. A return that is put off does not start from the first proof.
    next.evidence.remove(node);
    next.up_throughout.remove(node);
}

/// The ids of the kept evidence. Without an answer they are known from nowhere else.
fn kept_ids(nodes: &NodeMemory, node: &Node) -> Release {
    let kept = || nodes.evidence.get(node).into_iter().flatten().map(|(_, fact)| fact);
    let of_recovery = |fact: &&Evidence| fact.kind == EvidenceKind::Superseded;
    let of_downtime = |fact: &&Evidence| matches!(fact.kind, EvidenceKind::LostInRecovery | EvidenceKind::Downtime);
    Release {
        // A barrier names a recovery that may still supersede the node, so its end releases no recovery.
        recovery_ns: kept().filter(of_recovery).filter_map(|fact| uid_ns(&fact.id)).max().unwrap_or(0),
        downtime_s: kept().filter(of_downtime).map(|fact| fact.at_s).max().unwrap_or(0),
        ordered_s: 0,
    }
}

/// [`Role::AsBefore`] if the runtime rows already fit the role: they go back exactly as they were. Only the hostgroups
/// of a pair show that a node was a writer. In a named writer hostgroup replicas may stand beside the primary.
fn as_before(facts: &Facts<'_>, node: &Node, role: Role) -> Role {
    let is_in = |is_writer: &dyn Fn(Hostgroup) -> bool| {
        facts.rows.of(node).is_some_and(|rows| {
            rows.of(Layer::Runtime)
                .filter(|row| row.status != Status::OfflineHard) // a ghost of a row that the monitor moved
                .any(|row| is_writer(row.key.hostgroup))
        })
    };
    let unchanged = match role {
        Role::Replica => !is_in(&|hostgroup| facts.managed.pair_of_writer(hostgroup).is_some()),
        Role::Primary => is_in(&|hostgroup| facts.managed.is_writer(hostgroup)),
        Role::AsBefore => true,
    };
    if unchanged { Role::AsBefore } else { role }
}

fn released_by_operator(
    facts: &Facts<'_>,
    node: &Node,
    evidence: &mut ByKind,
    vouched: Option<Role>,
) -> Result<Role, ReturnBlocker> {
    match facts.lease_state {
        LeaseState::Led { good: true } => {}
        _ if facts.answer.is_none() => return Err(ReturnBlocker::Lease),
        _ => return Err(ReturnBlocker::ConfirmedLeader), // every return is good news (I8)
    }
    let judge = facts.judge(node).ok_or(ReturnBlocker::Instances)?;
    if let Some(role) = vouched {
        no_second_writer(&judge, node, role).map_err(|gap| ReturnBlocker::Proof(vec![gap]))?;
        return release_all(evidence, role);
    }
    if let Some(unsure) = facts.unsure_name(node) {
        return Err(ReturnBlocker::UnsureName(unsure.clone()));
    }
    // The order releases the evidence, so the node's own records are left out of this judgement.
    let shown = facts.answer.and_then(|answer| answer.instances.as_ref()).ok_or(ReturnBlocker::Instances)?;
    let (ours, of_others): (Vec<_>, Vec<_>) = facts.newest.records().partition(|record| record.failed == *node);
    let successors = || ours.iter().filter_map(|record| record.successor.as_ref());
    let companions = successors().map(|successor| (node, successor)).collect();
    let topology = Topology::new(shown, &KnownTies { records: of_others, companions, ..KnownTies::default() });
    let role = Judge { topology: &topology, ..judge }.role(node).map_err(ReturnBlocker::Proof)?;
    let is_down = |successor: &Node| topology.instance(successor).is_none_or(|instance| !instance.valid);
    if role == Role::Primary && successors().any(is_down) && topology.running_replicas(node).next().is_none() {
        // The successor is down, and no replica follows this node. Nothing shows that it is the primary.
        return Err(ReturnBlocker::Proof(vec![ProofGap::NoPresentPrimary]));
    }
    let Some(instance) = topology.instance(node) else { return release_all(evidence, role) };
    if let (Role::Replica, true, Some(check)) = (role, instance.valid, judge.unproven_check_type) {
        // The monitor reads another variable than Orchestrator, and could make the node a writer.
        return Err(ReturnBlocker::Proof(vec![ProofGap::CheckTypeUnseen(check.to_owned())]));
    }
    // The present primary is unknown. Rows as before could put a node that is not the primary among the writers.
    let is_told = instance.primary.is_some() || topology.present_primary(node).is_some();
    if role == Role::AsBefore && !is_told && evidence.keys().any(|kind| kind.ends_by_proof()) {
        return Err(ReturnBlocker::Proof(vec![ProofGap::NoPresentPrimary]));
    }
    release_all(evidence, role)
}

fn release_all(evidence: &mut ByKind, role: Role) -> Result<Role, ReturnBlocker> {
    evidence.clear();
    Ok(role)
}

/// Refuses a role that an operator vouches for if the leader shows that it would make a second writer.
fn no_second_writer(judge: &Judge<'_>, node: &Node, role: Role) -> Result<(), ProofGap> {
    let instance = judge.topology.instance(node);
    match (role, judge.topology.present_primary(node)) {
        (Role::Primary, Some(present)) if present.node != *node => Err(ProofGap::StandsAlone(present.node.clone())),
        (Role::Replica, _) if instance.is_some_and(|instance| instance.valid && !instance.read_only) => {
            Err(ProofGap::Writable)
        }
        _ => Ok(()),
    }
}

/// Remembers the nodes that the leader has seen up in every tick since evidence against them arose.
fn track_up_throughout(facts: &Facts<'_>, next: &mut NodeMemory, node: &Node, evidence: &ByKind) {
    let Some(topology) = facts.topology else { return };
    let up = topology.instance(node).is_some_and(|instance| instance.valid);
    // The marker of a takeover tells of no failure.
    let is_of_now = |e: &Evidence| e.source != Source::Marker || e.kind == EvidenceKind::Takeover;
    let is_new = !facts.memory.nodes.evidence.contains_key(node) && evidence.values().all(is_of_now);
    if !up {
        next.up_throughout.remove(node);
    } else if is_new {
        next.up_throughout.insert(node.clone());
    }
}

fn level(facts: &Facts<'_>, node: &Node, evidence: &Evidence) -> Level {
    match &facts.observed.orders.now {
        Some(Order::Fence { level, .. }) if evidence.source == Source::Operator => *level,
        Some(Order::Drain { node: ordered, level })
            if evidence.kind == EvidenceKind::Takeover && facts.is_named(node, ordered) =>
        {
            *level
        }
        _ => evidence.kind.default_level(),
    }
}

/// The release that an operator's `unfence` records: the ids of all evidence known against the node. `now_s` is the
/// time of the order, in s since 1970.
pub fn release_by_order(memory: &Memory, leader: &LeaderView, node: &Node, now_s: i64) -> Release {
    let downtimes = match leader {
        LeaderView::Led(answer) => answer.downtimes.as_slice(),
        _ => &[],
    };
    Release {
        recovery_ns: NewestRecoveries::of_each(memory.history.records.values())
            .of(node)
            .map_or(0, |record| record.at_ns),
        downtime_s: downtimes.iter().find(|d| d.node == *node).map_or(0, |d| d.begin_s),
        ordered_s: now_s,
    }
    .and(kept_ids(&memory.nodes, node))
}
