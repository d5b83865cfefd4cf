//! The evidence of a barrier: the mark that this program's hook sets while Orchestrator waits to promote (design §5).
//!
//! ```text
//! mark listed -> fenced at once -> the recovery ends: a record supersedes the node, or nobody was promoted
//! ```
//!
//! **Invariant:** a mark never fences a node that a later recovery promoted. The end of a mark lets no node back by
//! itself (I2).

use std::collections::BTreeSet;

use super::ReturnBlocker;
use super::facts::Facts;
use crate::decide::ProofGap;
use crate::evidence::{Evidence, EvidenceKind, Source};
use crate::managed::ServerRows;
use crate::node::Node;
use crate::orchestrator::{BARRIER, Instance, Recovery, uid_ns};
use crate::policy::BARRIER_LAST_S;
use crate::table::Hostgroup;

impl<'a> Facts<'a> {
    /// The mark of a barrier that the leader lists, if it counts and no order released it.
    pub fn barrier(&self, node: &Node) -> Option<Evidence> {
        let mark = self.downtime(node).filter(|downtime| downtime.reason == BARRIER)?;
        let fact = Evidence::barrier(&mark.owner, mark.begin_s);
        let fact =
            if fact.id.is_empty() { Evidence { id: format!("{BARRIER}@{}", mark.begin_s), ..fact } } else { fact };
        (!self.is_left_over(node, &fact)).then_some(fact)
    }

    /// A barrier's marker in a row counts from when it was first seen, by the leader's time. It names no recovery.
    pub fn first_seen(&self, marked: &Evidence) -> Evidence {
        let now_s = self.answer.map_or(0, |answer| answer.date_s);
        let is_barrier = marked.kind == EvidenceKind::Barrier;
        Evidence { at_s: if is_barrier { now_s } else { marked.at_s }, ..marked.clone() }
    }

    /// Whether a later recovery promoted the node, so that the barrier's mark is left over.
    pub fn is_left_over(&self, node: &Node, barrier: &Evidence) -> bool {
        self.newest.promoting(node).is_some_and(|record| !is_from_before(record, barrier))
    }

    /// Whether the recovery that a barrier was for may still promote another node. Once it has, its record decides, or
    /// Orchestrator's own mark where the record never came.
    pub fn recovery_goes_on(&self, node: &Node, barrier: &Evidence) -> bool {
        let kept = self.kept(node);
        let marked = kept.get(&EvidenceKind::LostInRecovery);
        let has_ended = self.is_answered(node, barrier)
            || self.recovery_promoted_nobody(node, barrier)
            || marked.is_some_and(|mark| mark.at_s >= earliest_s(barrier));
        self.barrier(node).is_some() || (!has_ended && !self.is_long_ago(barrier))
    }

    /// `Ok` if a node that is proven to be the primary may go back after a barrier. The recovery has ended without a
    /// successor, or nothing is known of it for long, and no other node of the cluster may take writes.
    pub fn barrier_is_over(&self, node: &Node, barrier: &Evidence) -> Result<(), ReturnBlocker> {
        if self.is_answered(node, barrier) || self.is_left_over(node, barrier) {
            return Ok(()); // the record's own proof decides
        }
        if !self.recovery_promoted_nobody(node, barrier) && !self.is_long_ago(barrier) {
            return Err(ReturnBlocker::Recovery);
        }
        match self.other_writer(node) {
            Some(other) => Err(ReturnBlocker::Proof(vec![ProofGap::StandsAlone(other.node.clone())])),
            None => Ok(()),
        }
    }

    /// Whether a record of the recovery that a barrier was for, or of a later one, supersedes the node.
    fn is_answered(&self, node: &Node, barrier: &Evidence) -> bool {
        self.superseding(node).is_some_and(|record| match barrier.source {
            Source::Marker => record.at_s() >= earliest_s(barrier),
            _ => !is_from_before(record, barrier),
        })
    }

    fn recovery_promoted_nobody(&self, node: &Node, barrier: &Evidence) -> bool {
        let in_vain_ns = self.memory.history.promoted_nobody.get(node);
        in_vain_ns.zip(uid_ns(&barrier.id)).is_some_and(|(in_vain_ns, uid_ns)| *in_vain_ns >= uid_ns)
    }

    fn is_long_ago(&self, barrier: &Evidence) -> bool {
        self.answer.is_some_and(|answer| answer.date_s > barrier.at_s.saturating_add(BARRIER_LAST_S))
    }

    /// Another node that takes writes, by its last known values, and does not follow this one. It is of the cluster, or
    /// shares a pair or a hostgroup with the node: an agent whose state was lost knows no cluster but what is shown.
    fn other_writer(&self, node: &Node) -> Option<&'a Instance> {
        let topology = self.topology?;
        let follows = |other: &Instance| other.valid && other.replicating && topology.leads_to(&other.node, node);
        let takes_writes = |other: &&Instance| other.node != *node && !other.read_only && !follows(other);
        let of_cluster =
            topology.clusters().flatten().copied().find(|i| takes_writes(i) && topology.together(&i.node, node));
        let shared = |of: &ServerRows<'_>| -> BTreeSet<Hostgroup> {
            of.hostgroups().into_iter().map(|h| self.managed.writer_beside(h).unwrap_or(h)).collect()
        };
        of_cluster.or_else(|| {
            let ours = shared(self.rows.of(node)?);
            let mut beside = self.rows.servers().filter(|(_, rows)| !shared(rows).is_disjoint(&ours));
            beside.find_map(|(server, _)| topology.instance(server).filter(takes_writes))
        })
    }
}

/// The earliest time at which the recovery that this barrier is for began, in s. A marker names no recovery, and may be
/// seen first when its recovery is over.
fn earliest_s(barrier: &Evidence) -> i64 {
    match barrier.source {
        Source::Marker => barrier.at_s.saturating_sub(BARRIER_LAST_S),
        _ => barrier.at_s,
    }
}

/// Whether a recovery began before the one that this barrier is for. A mark without a UID counts by its time.
fn is_from_before(record: &Recovery, barrier: &Evidence) -> bool {
    match uid_ns(&barrier.id) {
        Some(uid_ns) => record.at_ns < uid_ns,
        None => record.at_s() < barrier.at_s,
    }
}
