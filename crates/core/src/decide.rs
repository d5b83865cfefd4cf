//! The decision: what is to become of each node, and why.
//!
//! ```text
//! lease::advance -> learn -> per node: evidence (gather) -> discharge (proof) -> verdict -> plan
//! ```
//!
//! Pure: the same input gives the same decision, and every verdict carries its evidence as data.

use std::collections::BTreeMap;

use crate::cluster::Topology;
use crate::discharge::{discharge, settle_old};
use crate::evidence::{Evidence, Kind, Level};
use crate::gather::{ByKind, Facts, OF_RECOVERY, served};
use crate::guards::{is_out_for_good, may_fence_for_downtime};
use crate::lease::{AtProxy, Share, Standing, advance, share};
use crate::marker::Comment;
use crate::memory::{Memory, RECORDS_MAX};
use crate::node::Node;
use crate::observed::{Analysis, Answer, LeaderView, Observed, Order, Orders, Recovery, Release};
use crate::plan::{Directive, Managed, Plan};
use crate::policy::Policy;
use crate::row::{Layer, Row, Status};
use crate::superseded::{newest, supersedes};
use crate::verdict::{Verdict, Why};

/// What one tick decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Per served node.
    pub verdicts: BTreeMap<Node, Verdict>,
    /// The row changes.
    pub plan: Plan,
    /// To be kept until the next tick.
    pub memory: Memory,
    /// Where we stand towards the leader.
    pub standing: Standing,
}

/// Decides. `now_ms` counts on the clock that `memory`'s `_ms` values are of.
pub fn decide(observed: &Observed, memory: &Memory, policy: &Policy, now_ms: u64) -> Decision {
    let mut next = memory.clone();
    let managed = Managed::of(&observed.proxy, policy);
    take_up_isolation_markers(&mut next, &observed.proxy, &managed);
    for (node, release) in &observed.proxy.released {
        let released = next.released.entry(node.clone()).or_default();
        *released = released.and(*release);
    }
    let at_proxy = AtProxy { may_isolate: !observed.proxy.clustered, lease: observed.proxy.lease.as_ref() };
    let standing = advance(&mut next, &observed.leader, at_proxy, policy, now_ms);
    let answer = match &observed.leader {
        LeaderView::Led(answer) => Some(answer),
        _ => None,
    };
    match answer {
        Some(answer) => {
            learn(&mut next, answer, observed, &managed, now_ms);
            arm(&mut next, standing, observed, &managed);
        }
        // Whoever failed over meanwhile is asked for at once.
        None => next.history_asked_ms = None,
    }
    let unreleased: Vec<_> = {
        let orders = &observed.orders.released;
        let released = |node: &Node| {
            next.released.get(node).copied().unwrap_or_default().and(orders.get(node).copied().unwrap_or_default())
        };
        next.records.values().filter(|record| record.at_ns > released(&record.failed).recovery_ns).cloned().collect()
    };
    let topology = answer
        .and_then(|answer| answer.instances.as_ref())
        .map(|instances| Topology::new(instances, unreleased.iter()));
    let before = next.clone();
    let facts =
        Facts { observed, policy, managed: &managed, memory: &before, standing, answer, topology: topology.as_ref() };
    let (verdicts, directives) = judge_all(&facts, &mut next, now_ms);
    let mut plan = Plan::new(managed.clone(), directives, &observed.proxy);
    plan.releases = releases(&verdicts, &next, &observed.orders);
    plan.share = share_lease(&mut next, standing, observed, &managed, policy, now_ms);
    Decision { verdicts, plan, memory: next, standing }
}

/// What returning nodes are released of; the end of an isolation releases nothing.
fn releases(verdicts: &BTreeMap<Node, Verdict>, memory: &Memory, orders: &Orders) -> BTreeMap<Node, Release> {
    let returns = verdicts.iter().filter(|(_, verdict)| match verdict {
        Verdict::Unfence { evidence, .. } => evidence.iter().any(|fact| fact.kind != Kind::Isolation),
        _ => false,
    });
    let of = |released: &BTreeMap<Node, Release>, node| released.get(node).copied().unwrap_or_default();
    returns.map(|(node, _)| (node.clone(), of(&memory.released, node).and(of(&orders.released, node)))).collect()
}

/// See [`crate::lease`]: of two agents of one ProxySQL one isolates it, and the other has a lease.
fn share_lease(
    memory: &mut Memory,
    standing: Standing,
    observed: &Observed,
    managed: &Managed,
    policy: &Policy,
    now_ms: u64,
) -> Option<Share> {
    let Observed { proxy, orders, .. } = observed;
    let layers = [&proxy.runtime, &proxy.memory, &proxy.disk];
    let is_marked = layers.into_iter().flatten().any(|row| is_isolated(row, managed));
    let by_others = is_marked && !memory.marked_isolated;
    if !is_marked && standing != Standing::Isolated {
        memory.marked_isolated = false;
    }
    if orders.suspended.is_some() {
        return None;
    }
    share(memory, standing, proxy.lease.as_ref(), by_others, policy, now_ms)
}

fn is_isolated(row: &Row, managed: &Managed) -> bool {
    managed.contains(row.key.hostgroup)
        && matches!(Comment::parse(&row.comment), Comment::Marked(_, marker) if marker.kind == Kind::Isolation)
}

/// The state file is lost, but the rows say that we were isolated: so we were armed (DESIGN §7).
fn take_up_isolation_markers(memory: &mut Memory, proxy: &crate::observed::ProxyView, managed: &Managed) {
    let isolated = |row: &&Row| is_isolated(row, managed);
    if !memory.armed && proxy.runtime.iter().any(|row| isolated(&row)) {
        memory.armed = true;
        memory.isolated = true;
        memory.marked_isolated = true;
        memory.known.extend(proxy.runtime.iter().filter(isolated).filter_map(Row::node));
    }
}

/// Takes the answer into the memory: which nodes there are, and the records that concern ours.
fn learn(memory: &mut Memory, answer: &Answer, observed: &Observed, managed: &Managed, now_ms: u64) {
    let served = served(&observed.proxy, managed);
    let named = answer.downtimes.iter().map(|d| &d.node);
    let named = named.chain(answer.instances.iter().flatten().map(|i| &i.node));
    let named =
        named.chain(answer.history.iter().flatten().flat_map(|r| std::iter::once(&r.failed).chain(&r.successor)));
    let known: Vec<Node> = named.filter(|node| served.contains(*node)).cloned().collect();
    memory.known.extend(known);
    if answer.instances.is_some() {
        memory.instances_asked_ms = Some(now_ms);
    }
    if let Some(history) = &answer.history {
        memory.history_asked_ms = Some(now_ms);
        memory.history_leader = answer.leader.clone();
        memory.history_downtimes = answer.downtimes.iter().map(|d| (d.node.clone(), d.clone())).collect();
        memory.records.extend(history.iter().filter(|r| supersedes(r)).map(|r| (r.uid.clone(), r.clone())));
        let in_vain = |r: &&Recovery| r.analysis == Analysis::DeadPrimary && !supersedes(r) && r.end_s.is_some();
        for record in history.iter().filter(in_vain).filter(|record| memory.known.contains(&record.failed)) {
            let newest = memory.promoted_nobody.entry(record.failed.clone()).or_default();
            *newest = (*newest).max(record.at_ns);
        }
        // The newest of each node that is or was served is all that can ever matter.
        let matter: Vec<String> = memory
            .known
            .iter()
            .filter_map(|node| newest(memory.records.values(), node))
            .map(|r| r.uid.clone())
            .take(RECORDS_MAX)
            .collect();
        memory.records.retain(|uid, _| matter.contains(uid));
    }
}

/// Armed once a lease was held that knows the writer nodes of this ProxySQL (DESIGN §7).
fn arm(memory: &mut Memory, standing: Standing, observed: &Observed, managed: &Managed) {
    let mut writers = observed
        .proxy
        .runtime
        .iter()
        .filter(|row| managed.is_writer(row.key.hostgroup))
        .filter_map(Row::node)
        .peekable();
    let any = writers.peek().is_some();
    if matches!(standing, Standing::Led { .. }) && any && writers.all(|node| memory.known.contains(&node)) {
        memory.armed = true;
    }
}

type Judged = (BTreeMap<Node, Verdict>, BTreeMap<Node, Directive>);

fn judge_all(facts: &Facts<'_>, next: &mut Memory, now_ms: u64) -> Judged {
    let (seen, second_writers) = facts.second_writers();
    next.second_writers = seen;
    let mut verdicts = BTreeMap::new();
    let mut fenced: BTreeMap<Node, ByKind> = BTreeMap::new();
    let mut for_downtime = Vec::new();
    for node in served(&facts.observed.proxy, facts.managed) {
        let marked = facts.marked(&node);
        let kept = facts.kept(&node);
        if let Some(why) = hands_off(facts, &node, marked.is_empty()) {
            verdicts.insert(node, why);
            continue;
        }
        let mut evidence = kept;
        for (kind, fact) in marked.iter() {
            evidence.entry(*kind).or_insert_with(|| fact.clone());
        }
        let mut held = None;
        let fenced_for_recovery = evidence.keys().any(|kind| OF_RECOVERY.contains(kind));
        match facts.of_recovery(&node, fenced_for_recovery) {
            Ok(found) => evidence.extend(found),
            Err(old) => held = Some(Why::OldEvidence(old)),
        }
        evidence.extend(second_writers.get(&node).map(|fact| (fact.kind, fact.clone())));
        evidence.extend(facts.of_isolation(&node).map(|fact| (fact.kind, fact)));
        evidence.extend(ordered(facts, &node));
        if let Some(fact) = facts.of_downtime(&node) {
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
            if held.is_some() {
                settle_old(facts, next, &node, now_ms);
            } else {
                next.proofs.remove(&node);
            }
            verdicts.insert(node, held.map_or(Verdict::Keep, Verdict::Hold));
            continue;
        }
        fenced.insert(node, evidence);
    }
    for (node, fact) in for_downtime {
        match may_fence_for_downtime(facts, &node, &fenced) {
            Ok(()) => drop(fenced.entry(node).or_default().insert(fact.kind, fact)),
            // One that is out for an isolation is judged by that, below.
            Err(guard) => drop(verdicts.insert(node, Verdict::Hold(Why::Guarded(guard)))),
        }
    }
    let mut directives = BTreeMap::new();
    // Judged, and nothing counts any more: released. A node that was not judged keeps what speaks against it (I2).
    let settled = |verdict: Option<&Verdict>| match verdict {
        Some(Verdict::Hold(why)) => matches!(why, Why::OldEvidence(_) | Why::Guarded(_)),
        verdict => matches!(verdict, Some(Verdict::Keep)),
    };
    next.evidence.retain(|node, _| !settled(verdicts.get(node)));
    for (node, evidence) in fenced {
        let verdict = discharge(facts, next, &node, evidence, now_ms);
        if let Some(directive) = directive(&verdict, facts, &node) {
            directives.insert(node.clone(), directive);
        }
        verdicts.insert(node, verdict);
    }
    (verdicts, directives)
}

/// What can't or mustn't be judged.
fn hands_off(facts: &Facts<'_>, node: &Node, unmarked: bool) -> Option<Verdict> {
    let rows = || {
        let layers = [Layer::Runtime, Layer::Memory, Layer::Disk].into_iter();
        let rows = layers.flat_map(|layer| facts.observed.proxy.layer(layer));
        rows.filter(|row| facts.managed.contains(row.key.hostgroup) && row.node().as_ref() == Some(node))
    };
    if rows().any(|row| matches!(Comment::parse(&row.comment), Comment::Unreadable(_))) {
        return Some(Verdict::Hold(Why::UnreadableMarker));
    }
    if let Some(Status::Unknown(text)) =
        rows().map(|row| &row.status).find(|status| matches!(status, Status::Unknown(_)))
    {
        return Some(Verdict::Hold(Why::UnknownStatus(text.clone())));
    }
    let ordered = match &facts.observed.orders.now {
        Some(Order::Fence { node: ordered, .. } | Order::Unfence { node: ordered, .. }) => ordered == node,
        None => false,
    };
    if let Some(reason) = facts.observed.orders.suspended.as_ref().filter(|_| !ordered) {
        return Some(Verdict::Hold(Why::Suspended(reason.clone())));
    }
    // A marker proves that Orchestrator knew it once, and an operator's order needs no such knowledge.
    (!facts.memory.known.contains(node) && unmarked && !ordered).then_some(Verdict::Ignore(Why::NotKnown))
}

fn ordered(facts: &Facts<'_>, node: &Node) -> Option<(Kind, Evidence)> {
    match &facts.observed.orders.now {
        Some(Order::Fence { node: ordered, .. }) if ordered == node => Some((
            Kind::Manual,
            Evidence { kind: Kind::Manual, by: None, source: "operator".to_owned(), id: String::new(), at_s: 0 },
        )),
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
