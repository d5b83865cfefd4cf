//! Judges each server: collects its evidence, asks the guards, discharges, and gives the verdict.

use std::collections::BTreeMap;

use super::discharge::{discharge, return_as_primary, settle_old};
use super::facts::{ByKind, Facts};
use super::guards::{Fenced, is_out_for_good, may_fence_for_downtime};
use super::{HoldReason, Verdict};
use crate::evidence::{EndsBy, Evidence, EvidenceKind, Level};
use crate::managed::ServerRows;
use crate::memory::NodeMemory;
use crate::node::Node;
use crate::orchestrator::TAKEOVER;
use crate::orders::Order;
use crate::plan::Directive;
use crate::table::{Comment, Row, Status};

type Judged = (BTreeMap<Node, Verdict>, BTreeMap<Node, Directive>);

/// Gives the verdict and the directive of each node name.
pub fn judge_all(facts: &Facts<'_>, next: &mut NodeMemory, now_ms: u64) -> Judged {
    let (seen, second_writers) = facts.second_writers();
    next.second_writers = seen;
    // A sorted list makes a tree faster than single insertions.
    let mut not_fenced = Vec::new();
    let mut fenced = Fenced::default();
    let cluster_of = |node: &Node| facts.topology.and_then(|topology| topology.cluster_of(node));
    let mut for_downtime = Vec::new();
    for (node, rows) in facts.rows.servers() {
        let marked = facts.marked_in(rows);
        if let Some(verdict) = left_alone(facts, node, rows, marked.is_empty()) {
            not_fenced.push((node.clone(), verdict));
            continue;
        }
        if let Some(unsure) = facts.unsure_name_in(rows) {
            match evidence_beside_its_name(facts, node, rows, &marked) {
                evidence if evidence.is_empty() => {
                    not_fenced.push((node.clone(), Verdict::Hold(HoldReason::UnsureName(unsure.clone()))));
                }
                evidence => fenced.add(cluster_of(node), node, evidence),
            }
            continue;
        }
        let found = facts.of_recovery(node, rows, &marked);
        let mut evidence = found.evidence;
        evidence.extend(other_evidence(facts, node, rows, &marked));
        evidence.extend(second_writers.get(node).map(|fact| (fact.kind, fact.clone())));
        if let Some(fact) = facts.of_downtime(node) {
            // Evidence that outlasts an isolation makes the guards needless. An isolation alone does not.
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
            not_fenced.push((node.clone(), without_evidence(facts, next, node, &marked, found.held, now_ms)));
            continue;
        }
        fenced.add(cluster_of(node), node, evidence);
    }
    let mut verdicts: BTreeMap<Node, Verdict> = not_fenced.into_iter().collect();
    for (node, fact) in for_downtime {
        match may_fence_for_downtime(facts, &node, &fenced) {
            Ok(()) => fenced.add(cluster_of(&node), &node, ByKind::from([(fact.kind, fact)])),
            // The verdict of a node that is also isolated replaces this one below.
            Err(guard) => drop(verdicts.insert(node, Verdict::Hold(HoldReason::Guarded(guard)))),
        }
    }
    next.evidence.retain(|node, _| !verdicts.get(node).is_some_and(is_clear));
    for (node, evidence) in fenced {
        let verdict = discharge(facts, next, &node, evidence, now_ms);
        verdicts.insert(node, verdict);
    }
    under_every_name(facts, verdicts)
}

/// Whether the node was judged and no kept evidence counts against it. A node that was not judged keeps its evidence
/// (I2).
fn is_clear(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Keep => true,
        Verdict::Hold(why) => match why {
            HoldReason::OldEvidence(_) | HoldReason::Contradicted(_) | HoldReason::Guarded(_) => true,
            HoldReason::Suspended(_)
            | HoldReason::NotKnown
            | HoldReason::UnknownStatus(_)
            | HoldReason::UnreadableMarker
            | HoldReason::UnsureName(_)
            | HoldReason::Unreadable(_) => false,
        },
        Verdict::Fence { .. } | Verdict::Unfence { .. } | Verdict::Ignore(_) => false,
    }
}

/// Evidence that does not end by proof: kept evidence, markers, an isolation, an order. A kept downtime does not count
/// against a node in service without a marker, since somebody let that node back.
fn other_evidence(facts: &Facts<'_>, node: &Node, rows: &ServerRows<'_>, marked: &ByKind) -> ByKind {
    let was_let_back = marked.is_empty() && rows.in_service();
    let is_other = |kind: &EvidenceKind| match kind.ends_by() {
        EndsBy::Proof | EndsBy::Promotion => false,
        EndsBy::DowntimeEnd | EndsBy::TakeoverEnd => !was_let_back,
        EndsBy::Lease | EndsBy::Order => true,
    };
    let mut evidence: ByKind = facts.kept(node).into_iter().filter(|(kind, _)| is_other(kind)).collect();
    for (kind, fact) in marked.iter().filter(|(kind, _)| is_other(kind)) {
        evidence.entry(*kind).or_insert_with(|| fact.clone());
    }
    evidence.extend(facts.takeover(node).map(|fact| (fact.kind, fact)));
    evidence.extend(facts.of_isolation(node).map(|fact| (fact.kind, fact)));
    evidence.extend(ordered(facts, node));
    evidence
}

/// The evidence against a node whose instance is not known for sure. It may come from no instance: what its rows show,
/// an isolation, and an order.
fn evidence_beside_its_name(facts: &Facts<'_>, node: &Node, rows: &ServerRows<'_>, marked: &ByKind) -> ByKind {
    let mut evidence: ByKind =
        marked.iter().filter(|(kind, _)| kind.ends_by_proof()).map(|(kind, fact)| (*kind, fact.clone())).collect();
    evidence.extend(other_evidence(facts, node, rows, marked));
    evidence
}

/// The verdict of a node without evidence that counts.
fn without_evidence(
    facts: &Facts<'_>,
    next: &mut NodeMemory,
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
        let has_marker = marked.keys().any(|kind| kind.ends_by_proof());
        if let Some(role) = settled.filter(|_| has_marker) {
            // Memory or disk still have the marker that runtime lacks. The return removes it there, in the tick that
            // releases the record beside it (I7).
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

/// Gives each name of a server the server's verdict and directive.
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

/// The verdict of a node that cannot or must not be judged. `None`: it is judged.
fn left_alone(facts: &Facts<'_>, node: &Node, rows: &ServerRows<'_>, unmarked: bool) -> Option<Verdict> {
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
            facts.is_named(node, ordered)
        }
        Some(Order::EndIsolation) => !unmarked,
        Some(Order::Barrier { .. } | Order::Drain { .. }) | None => false,
    };
    if let Some(reason) = facts.observed.orders.suspended.as_ref().filter(|_| !ordered) {
        return Some(Verdict::Hold(HoldReason::Suspended(reason.clone())));
    }
    // A marker proves that Orchestrator knew the node once. An order does not need Orchestrator to know it.
    let is_known = facts.memory.nodes.known.contains(node) || facts.unsure_name_in(rows).is_some();
    (!is_known && unmarked && !ordered).then_some(Verdict::Ignore(HoldReason::NotKnown))
}

fn ordered(facts: &Facts<'_>, node: &Node) -> Option<(EvidenceKind, Evidence)> {
    match &facts.observed.orders.now {
        Some(Order::Fence { node: ordered, .. }) if facts.is_named(node, ordered) => {
            Some((EvidenceKind::Manual, Evidence::ordered()))
        }
        Some(Order::Barrier { node: ordered, recovery }) if facts.is_named(node, ordered) => {
            let now_s = facts.answer.map_or(0, |answer| answer.date_s);
            Some((EvidenceKind::Barrier, Evidence::barrier(recovery, now_s)))
        }
        Some(Order::Drain { node: ordered, .. }) if facts.is_named(node, ordered) => {
            let now_s = facts.answer.map_or(0, |answer| answer.date_s);
            Some((EvidenceKind::Takeover, Evidence::downtime(EvidenceKind::Takeover, TAKEOVER, now_s)))
        }
        _ => None,
    }
}

fn directive(verdict: &Verdict, facts: &Facts<'_>, node: &Node) -> Option<Directive> {
    match verdict {
        Verdict::Fence { level, evidence, .. } => {
            let first = evidence.first()?;
            // Live evidence names the successor. If it does not, the marker's name stays.
            let by = first.by.clone().or_else(|| facts.marked(node).get(&first.kind).and_then(|e| e.by.clone()));
            Some(Directive::Fence { kind: first.kind, by, sessions: *level >= Level::Sessions })
        }
        Verdict::Unfence { role, .. } => Some(Directive::Unfence(*role)),
        Verdict::Keep | Verdict::Hold(_) | Verdict::Ignore(_) => None,
    }
}
