//! Finds the conditions of a tick, from its observations and decision, and from the outcome of its apply.

use std::collections::{BTreeMap, BTreeSet};

use super::{Condition, HELD_MAX, NAMED_MAX, NodeList, UnarmedReason};
use crate::apply::Outcome;
use crate::decide::{Decision, HoldReason, Verdict};
use crate::lease::LeaseState;
use crate::managed::Managed;
use crate::node::Node;
use crate::node_fence::NodeFenceRecord;
use crate::node_fence::power::FenceAgentRecord;
use crate::observed::{Observed, ProxyView};
use crate::orchestrator::{Instance, LeaderView};
use crate::policy::{IsolationScope, Policy};
use crate::role::Role;
use crate::table::{CheckType, Hostgroup, Row, Status};

/// The conditions of one tick before its apply.
pub fn conditions(observed: &Observed, decision: &Decision, policy: &Policy) -> Vec<Condition> {
    let managed = Managed::of(&observed.proxy, policy);
    let mut found: Vec<Condition> = of_leader(&observed.leader).into_iter().collect();
    found.extend(skipped(observed, &managed));
    let protection = unprotected(observed, decision, &managed);
    let is_protected = !matches!(protection, Some(Condition::NothingManaged | Condition::NothingProtected { .. }));
    found.extend(protection);
    if is_protected && managed.writers().next().is_none() {
        found.push(Condition::NoWriterHostgroup);
    }
    if !decision.unmatched.is_empty() {
        found.push(Condition::Unmatched(NodeList::of(decision.unmatched.keys())));
    }
    found.extend(two_writers(observed, decision, &managed));
    found.extend(decision.hooks_are_on.then_some(Condition::ForeignHooks));
    found.extend(decision.without_writer.iter().filter_map(|(hostgroup, key)| {
        Some(Condition::WithoutWriter { hostgroup: *hostgroup, hostname: key.hostname.to_string(), node: key.node()? })
    }));
    if policy.isolation_scope != IsolationScope::Off {
        found.extend(unarmed(observed, decision).filter(|_| is_protected).map(Condition::Unarmed));
    }
    found.extend(returns_by_hand(observed, &managed));
    match (decision.lease_state, &observed.proxy.lease) {
        (LeaseState::Isolated, _) => found.push(Condition::Isolated),
        (LeaseState::Shared, Some(lease)) => found.push(Condition::AnsweredFor(lease.owner.clone())),
        _ => {}
    }
    let pause = observed.proxy.pause;
    found.extend((pause.paused || pause.noted).then_some(Condition::Paused { by_agents: pause.noted }));
    found.extend(observed.orders.suspended.clone().map(Condition::Suspended));
    found.extend(held(decision));
    found.extend(errant_transactions(observed, decision));
    found
}

/// The nodes that have a runtime row, other than a ghost, in a hostgroup that `is_meant` accepts.
pub fn in_force(proxy: &ProxyView, is_meant: impl Fn(Hostgroup) -> bool) -> BTreeSet<Node> {
    rows_in_force(proxy, is_meant).filter_map(Row::node).collect()
}

fn rows_in_force(proxy: &ProxyView, is_meant: impl Fn(Hostgroup) -> bool) -> impl Iterator<Item = &Row> {
    proxy.runtime.iter().filter(move |row| row.status != Status::OfflineHard && is_meant(row.key.hostgroup))
}

/// The writers of a hostgroup that has several, if nothing tells which one is the primary. Co-primaries that replicate
/// from each other are meant to be so.
fn two_writers(observed: &Observed, decision: &Decision, managed: &Managed) -> Option<Condition> {
    let LeaderView::Led(answer) = &observed.leader else { return None };
    let instances = answer.instances.as_ref()?;
    let nodes = &decision.memory.nodes;
    let identity = &nodes.identity;
    let writable: BTreeMap<&Node, &Instance> =
        instances.iter().filter(|i| i.valid && !i.read_only).map(|i| (identity.server(&i.node), i)).collect();
    let is_judged = |node: &Node| {
        nodes.second_writers.contains_key(node) || matches!(decision.verdicts.get(node), Some(Verdict::Fence { .. }))
    };
    managed.writers().find_map(|hostgroup| {
        let online = observed.proxy.runtime.iter().filter(|row| row.key.hostgroup == hostgroup);
        let online = online.filter(|row| row.status == Status::Online).filter_map(Row::node);
        let online: Vec<Node> = online.filter(|node| !is_judged(node)).collect();
        let writers: BTreeMap<&Node, &Instance> = online
            .iter()
            .filter_map(|node| writable.get_key_value(identity.server(node)))
            .map(|(node, i)| (*node, *i))
            .collect();
        let follows_one =
            |i: &&Instance| i.primary.as_ref().is_some_and(|primary| writers.contains_key(identity.server(primary)));
        let is_ring = writers.values().all(follows_one);
        let nodes = || NodeList::of(writers.keys().copied());
        (writers.len() > 1 && !is_ring).then(|| Condition::TwoWriters { hostgroup, nodes: nodes() })
    })
}

fn of_leader(leader: &LeaderView) -> Option<Condition> {
    match leader {
        LeaderView::Led(_) => None,
        LeaderView::Leaderless => Some(Condition::Leaderless),
        LeaderView::Blind(why) => Some(Condition::LeaderUnusable(why.clone())),
        LeaderView::Conflict(why) => Some(Condition::LeaderConflict(why.clone())),
        LeaderView::Silent(why) => Some(Condition::LeaderUnreached(why.clone())),
    }
}

fn skipped(observed: &Observed, managed: &Managed) -> Option<Condition> {
    let LeaderView::Led(answer) = &observed.leader else { return None };
    let first = answer.skipped.first()?.what.clone();
    let served = in_force(&observed.proxy, |hostgroup| managed.contains(hostgroup));
    let concerned = answer.skipped.iter().flat_map(|entry| &entry.nodes).filter(|node| served.contains(*node));
    Some(Condition::AnswerSkipped { count: answer.skipped.len(), first, nodes: NodeList::of(concerned) })
}

fn unprotected(observed: &Observed, decision: &Decision, managed: &Managed) -> Option<Condition> {
    let is_managed = |hostgroup: Hostgroup| managed.contains(hostgroup);
    if rows_in_force(&observed.proxy, is_managed).all(|row| row.node().is_none()) {
        return Some(Condition::NothingManaged);
    }
    // No answer has told yet which nodes Orchestrator knows.
    if decision.memory.nodes.instances_asked_ms.is_none() && decision.memory.nodes.known.is_empty() {
        return None;
    }
    let is_unknown = |verdict: &Verdict| matches!(verdict, Verdict::Ignore(HoldReason::NotKnown));
    let unknown = decision.verdicts.iter().filter(|(_, verdict)| is_unknown(verdict));
    let unknown: BTreeSet<Node> = unknown.map(|(node, _)| node.clone()).collect();
    if unknown.is_empty() {
        return None;
    }
    let served = in_force(&observed.proxy, is_managed);
    if served.is_subset(&unknown) {
        let instances = match &observed.leader {
            LeaderView::Led(answer) => answer.instances.as_deref().unwrap_or_default(),
            _ => &[],
        };
        let listed = NodeList::of(instances.iter().map(|instance| &instance.node));
        return Some(Condition::NothingProtected { served: NodeList::of(&served), listed });
    }
    // Hostgroups that take no writes may have servers that Orchestrator is not meant to know.
    let replicating = in_force(&observed.proxy, |hostgroup| managed.writer_beside(hostgroup).is_some());
    let nodes = NodeList::of(replicating.intersection(&unknown));
    (nodes.count() > 0).then_some(Condition::UnknownNodes { nodes, served: replicating.len() })
}

fn unarmed(observed: &Observed, decision: &Decision) -> Option<UnarmedReason> {
    let is_led = matches!(observed.leader, LeaderView::Led(_));
    if !is_led && !decision.memory.lease.armed {
        return Some(UnarmedReason::NoLeader);
    }
    if !decision.unarmed.is_empty() {
        let hostgroups = decision.unarmed.keys().copied().collect();
        return Some(UnarmedReason::UnknownWriters {
            hostgroups,
            nodes: NodeList::of(decision.unarmed.values().flatten()),
        });
    }
    (!decision.memory.lease.armed).then_some(UnarmedReason::NoWriter)
}

/// The pairs with rows whose `check_type` Orchestrator does not report.
fn returns_by_hand(observed: &Observed, managed: &Managed) -> Vec<Condition> {
    let in_use = |hostgroup: Hostgroup| observed.proxy.runtime.iter().any(|row| row.key.hostgroup == hostgroup);
    let mut by_check: BTreeMap<&str, Vec<Hostgroup>> = BTreeMap::new();
    for pair in managed.writers().filter_map(|hostgroup| managed.pair_of_writer(hostgroup)) {
        if let CheckType::Other(check_type) = &pair.check_type
            && (in_use(pair.writer) || in_use(pair.reader))
        {
            by_check.entry(check_type).or_default().push(pair.writer);
        }
    }
    let condition =
        |(check_type, writers): (&str, _)| Condition::ReturnsByHand { check_type: check_type.to_owned(), writers };
    by_check.into_iter().map(condition).collect()
}

/// The replicas that return in this tick with transactions that their primary lacks.
fn errant_transactions(observed: &Observed, decision: &Decision) -> Option<Condition> {
    let LeaderView::Led(answer) = &observed.leader else { return None };
    let returns = |node: &Node| {
        matches!(decision.verdicts.get(node), Some(Verdict::Unfence { role: Role::Replica, evidence })
            if evidence.iter().any(|fact| fact.kind.ends_by_proof()))
    };
    let shown = answer.instances.iter().flatten();
    let errant: Vec<_> = shown.filter(|i| !i.errant_gtid.is_empty() && returns(&i.node)).collect();
    let set = errant.first()?.errant_gtid.clone();
    Some(Condition::ErrantTransactions { set, nodes: NodeList::of(errant.iter().map(|i| &i.node)) })
}

fn held(decision: &Decision) -> Vec<Condition> {
    let mut by_text: BTreeMap<String, (HoldReason, Vec<&Node>)> = BTreeMap::new();
    for (node, verdict) in &decision.verdicts {
        match verdict {
            Verdict::Hold(HoldReason::Suspended(_)) => {}
            Verdict::Hold(why) => by_text.entry(why.to_string()).or_insert((why.clone(), vec![])).1.push(node),
            _ => {}
        }
    }
    let mut groups: Vec<_> = by_text.into_values().collect();
    groups.sort_by(|(_, one), (_, other)| one.cmp(other));
    let more: usize = groups.iter().skip(HELD_MAX).map(|(_, nodes)| nodes.len()).sum();
    let condition = |(why, nodes): (HoldReason, Vec<&Node>)| Condition::Held { why, nodes: NodeList::of(nodes) };
    let mut found: Vec<_> = groups.into_iter().take(HELD_MAX).map(condition).collect();
    found.extend((more > 0).then_some(Condition::HeldMore(more)));
    found
}

/// What needs attention of what was done at the nodes themselves. `unready` are those where it could not be done.
pub fn of_node_fences(records: &BTreeMap<Node, NodeFenceRecord>, unready: &BTreeMap<Node, String>) -> Vec<Condition> {
    let failed = |is_verified: bool| {
        let open = records.iter().filter(|(_, record)| record.ended_s.is_none());
        let of_it = open.filter(|(_, record)| record.verified_s.is_some() == is_verified);
        of_it.filter_map(|(node, record)| Some((node, &record.failure.as_ref()?.text))).collect::<Vec<_>>()
    };
    let undone: Vec<&Node> =
        records.iter().filter(|(_, record)| record.state() == "undone").map(|(node, _)| node).collect();
    let left = first_of(failed(true)).map(|(nodes, why)| Condition::NodeFenceSessionsLeft { nodes, why });
    let failed = first_of(failed(false)).map(|(nodes, why)| Condition::NodeFenceFailed { nodes, why });
    let unready = first_of(unready).map(|(nodes, why)| Condition::NodeFenceUnready { nodes, why });
    let undone = (!undone.is_empty()).then(|| Condition::NodeFenceUndone(NodeList::of(undone)));
    failed.into_iter().chain(unready).chain(left).chain(undone).collect()
}

/// What needs attention of nodes that are powered off.
pub fn of_fence_agents(records: &BTreeMap<Node, FenceAgentRecord>) -> Option<Condition> {
    let failed = records.iter().filter(|(_, record)| record.state() == "failed");
    let failed = first_of(failed.filter_map(|(node, record)| Some((node, &record.failure.as_ref()?.text))));
    failed.map(|(nodes, why)| Condition::FenceAgentFailed { nodes, why })
}

/// The nodes, and the reason of the first.
fn first_of<'a>(all: impl IntoIterator<Item = (&'a Node, &'a String)>) -> Option<(NodeList, String)> {
    let all: Vec<(&Node, &String)> = all.into_iter().collect();
    let why = all.first().map(|(_, why)| (*why).clone())?;
    Some((NodeList::of(all.into_iter().map(|(node, _)| node)), why))
}

/// The conditions of an apply's outcome.
pub fn of_outcome(outcome: &Outcome) -> Vec<Condition> {
    match outcome {
        Outcome::Busy { owner } => vec![Condition::ApplierBusy(owner.clone())],
        Outcome::LostLock => vec![Condition::ApplierReplaced],
        Outcome::PutOff => vec![Condition::ReturnPutOff],
        Outcome::Failed { statement, error } => {
            vec![Condition::ApplyFailed(format!("ProxySQL refused a step of the apply ({statement}): {error}"))]
        }
        Outcome::Applied(done) => {
            let mut found = Vec::new();
            if !done.sessions_left.is_empty() {
                found.push(Condition::SessionsLeft(NodeList::of(&done.sessions_left)));
            }
            if !done.not_as_planned.is_empty() {
                let rows: Vec<&str> = done.not_as_planned.iter().take(NAMED_MAX).map(String::as_str).collect();
                let more = done.not_as_planned.len() - rows.len();
                let more = if more > 0 { format!("; ... and {more} more") } else { String::new() };
                found.push(Condition::NotAsPlanned(format!("{}{more}", rows.join("; "))));
            }
            found.extend(done.disk_error.clone().map(Condition::DiskRefused));
            let clients_left = done.clients_left;
            found.extend((clients_left > 0).then_some(Condition::ClientsLeft(clients_left)));
            found.extend(done.pause_error.clone().map(Condition::ApplyFailed));
            found
        }
    }
}
