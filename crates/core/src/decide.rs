//! The decision: what is to become of each node, and why.
//!
//! ```text
//! lease::advance -> learn -> per node: evidence (gather) -> discharge (proof) -> verdict -> plan
//! ```
//!
//! Pure: the same input gives the same decision, and every verdict carries its evidence as data.

use std::collections::BTreeMap;
use std::fmt;

use crate::cluster::Topology;
use crate::evidence::{Evidence, Kind, Level};
use crate::gather::{ByKind, Facts, OF_RECOVERY, served, uid_ns};
use crate::guards::{Guard, is_out_for_good, may_fence_for_downtime};
use crate::lease::{AtProxy, Share, Standing, advance, share};
use crate::marker::Comment;
use crate::memory::{FirstProof, Memory, RECORDS_MAX};
use crate::node::Node;
use crate::observed::{Analysis, Answer, LeaderView, Observed, Order, Orders, Recovery, Release};
use crate::plan::{Directive, Managed, Plan};
use crate::policy::{PROOF_GAP_MS, Policy};
use crate::proof::{Missing, Role};
use crate::row::{Layer, Row, Status};
use crate::superseded::{newest, supersedes};

/// What is to become of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Nothing speaks against it.
    Keep,
    /// Out, and it stays out.
    Fence {
        /// How far.
        level: Level,
        /// Highest rank first; never empty.
        evidence: Vec<Evidence>,
        /// What would let it back.
        lacks: Lacks,
    },
    /// Something speaks against it, or can't be understood; nothing is changed.
    Hold(Why),
    /// Back, in this role.
    Unfence {
        /// As what.
        role: Role,
        /// What had fenced it.
        evidence: Vec<Evidence>,
    },
    /// Not ours to judge.
    Ignore(Why),
}

/// What still keeps a fenced node out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Lacks {
    /// A leader whose good news counts (I8).
    ConfirmedLeader,
    /// The lease.
    Lease,
    /// Something about the node.
    Proof(Missing),
    /// The same proof once more, 2 s later.
    SecondProof(Role),
    /// The end of the downtime in Orchestrator.
    DowntimeEnd,
    /// An operator's `unfence`.
    Operator,
}

impl fmt::Display for Lacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfirmedLeader => write!(f, "Orchestrator's leader is not confirmed yet"),
            Self::Lease => write!(f, "the lease: Orchestrator's leader must be reached"),
            Self::Proof(missing) => missing.fmt(f),
            Self::SecondProof(role) => write!(f, "seen as {role}; waiting to see it again"),
            Self::DowntimeEnd => write!(f, "its downtime in Orchestrator must end"),
            Self::Operator => write!(f, "an operator's `unfence`"),
        }
    }
}

/// Why nothing is changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Why {
    /// The operator said hands off.
    Suspended(String),
    /// Orchestrator never listed the node.
    NotKnown,
    /// A row has a status that we don't know.
    UnknownStatus(String),
    /// A row has a note of ours that we can't read.
    UnreadableMarker,
    /// Evidence is older than the first start, and the node is not proven bad.
    OldEvidence(Evidence),
    /// A plain downtime, held by a guard.
    Guarded(Guard),
    /// This proxy is a ProxySQL Cluster member: an isolation of its table would spread.
    Clustered,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Suspended(reason) => write!(f, "suspended: {reason}"),
            Self::NotKnown => write!(f, "Orchestrator does not list it under this name"),
            Self::UnknownStatus(status) => {
                write!(f, "a row has the status {status:?}, which this version does not know")
            }
            Self::UnreadableMarker => {
                write!(f, "a row's comment has a [stonith:...] note that this version cannot read")
            }
            Self::OldEvidence(evidence) => {
                write!(f, "{evidence} is older than the first start, and the node is not proven bad")
            }
            Self::Guarded(guard) => write!(f, "a downtime does not fence it: {guard}"),
            Self::Clustered => write!(f, "ProxySQL Cluster peers are configured: its isolation would spread to them"),
        }
    }
}

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
            Err(_) if fenced.contains_key(&node) => {}
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

/// Old evidence against a node that is proven well, twice, is discharged: its later death is another matter.
fn settle_old(facts: &Facts<'_>, next: &mut Memory, node: &Node, now_ms: u64) {
    if let Some(Ok(role)) = facts.live_proof(node, None)
        && facts.standing == (Standing::Led { good: true })
    {
        if proven_twice(next, node, role, now_ms) {
            release(facts, next, node);
        }
    } else {
        next.proofs.remove(node);
    }
}

/// Whether this proof was seen before, at least 2 s ago; remembers it otherwise.
fn proven_twice(next: &mut Memory, node: &Node, role: Role, now_ms: u64) -> bool {
    match next.proofs.get(node) {
        Some(first) if first.role == role && first.at_ms <= now_ms => now_ms - first.at_ms >= PROOF_GAP_MS,
        _ => {
            next.proofs.insert(node.clone(), FirstProof { role, at_ms: now_ms });
            false
        }
    }
}

fn release(facts: &Facts<'_>, next: &mut Memory, node: &Node) {
    let of_now = Release {
        recovery_ns: facts.superseding(node).map_or(0, |record| record.at_ns),
        downtime_s: facts.downtime(node).map_or(0, |downtime| downtime.begin_s),
        ordered_s: facts.answer.map_or(0, |answer| answer.date_s),
    };
    let released = next.released.get(node).copied().unwrap_or_default();
    next.released.insert(node.clone(), released.and(of_now).and(of_kept(next, node)));
    // Its proofs stay until its rows show the return: one that is put off is not proven from the start again.
    next.evidence.remove(node);
    next.up_throughout.remove(node);
}

/// The ids in what was kept: without an answer nothing else knows them.
fn of_kept(memory: &Memory, node: &Node) -> Release {
    let kept = || memory.evidence.get(node).into_iter().flatten().map(|(_, fact)| fact);
    let of_downtime = |fact: &&Evidence| matches!(fact.kind, Kind::LostInRecovery | Kind::Downtime);
    Release {
        recovery_ns: kept().filter_map(|fact| uid_ns(&fact.id)).max().unwrap_or(0),
        downtime_s: kept().filter(of_downtime).map(|fact| fact.at_s).max().unwrap_or(0),
        ordered_s: 0,
    }
}

/// Ends the evidence that has been discharged, and says what is left.
fn discharge(facts: &Facts<'_>, next: &mut Memory, node: &Node, evidence: ByKind, now_ms: u64) -> Verdict {
    track_up_throughout(facts, next, node, &evidence);
    let mut left = evidence.clone();
    let lacks = match ended(facts, next, node, &mut left, now_ms) {
        Ok(role) if left.is_empty() => {
            release(facts, next, node);
            return Verdict::Unfence { role, evidence: evidence.into_values().collect() };
        }
        Ok(_) => Lacks::Operator,
        Err(lacks) => lacks,
    };
    // Until its role is known, a node stays out for what it was out for.
    let evidence = if left.is_empty() { evidence } else { left };
    // What a marker or the lease says is said anew each tick; the rest must outlive the leader that said it.
    let keeps = |e: &Evidence| e.source != "marker" && !matches!(e.kind, Kind::Isolation | Kind::Manual);
    let mut kept: ByKind = evidence.iter().filter(|(_, e)| keeps(e)).map(|(kind, e)| (*kind, e.clone())).collect();
    kept.extend(order_that_no_marker_will_name(facts, node, &evidence).map(|fact| (fact.kind, fact)));
    if kept.is_empty() {
        next.evidence.remove(node)
    } else {
        next.evidence.insert(node.clone(), kept)
    };
    let level = evidence.values().map(|e| level(facts, e)).max().unwrap_or(Level::Soft);
    Verdict::Fence { level, evidence: evidence.into_values().collect(), lacks }
}

/// A marker names the highest rank only: where that is another's, an operator's order would be forgotten with it.
/// It counts until the operator releases the node anew.
fn order_that_no_marker_will_name(facts: &Facts<'_>, node: &Node, evidence: &ByKind) -> Option<Evidence> {
    let order = evidence.get(&Kind::Manual)?;
    let is_named = evidence.keys().next() == Some(&Kind::Manual)
        && (order.source == "operator" || facts.marked(node).contains_key(&Kind::Manual));
    (!is_named).then(|| Evidence {
        source: "operator".to_owned(),
        at_s: facts.released_by_order(node).ordered_s.saturating_add(1),
        ..order.clone()
    })
}

/// Removes what has ended from the evidence. `Ok`: the role in which the node may go back, if nothing is left.
fn ended(facts: &Facts<'_>, next: &mut Memory, node: &Node, evidence: &mut ByKind, now_ms: u64) -> Result<Role, Lacks> {
    if let Some(Order::Unfence { node: ordered, without_lease }) = &facts.observed.orders.now
        && ordered == node
    {
        return released_by_operator(facts, node, evidence, *without_lease);
    }
    if evidence.contains_key(&Kind::Isolation) && facts.standing == Standing::Isolated {
        return Err(Lacks::Lease);
    }
    // Good news needs a good leader (I8). A lease that never lapsed ends an isolation that is only in the rows.
    if facts.standing != (Standing::Led { good: true }) {
        let by = evidence.values().find_map(|e| e.by.as_ref());
        if matches!(facts.live_proof(node, by), Some(Err(_))) {
            next.proofs.remove(node); // bad news counts at once (I8): what was proven once is so no more
        }
        return Err(Lacks::ConfirmedLeader);
    }
    evidence.remove(&Kind::Isolation);
    let judge = facts.judge(node).ok_or(Lacks::ConfirmedLeader)?;
    let by = evidence.values().find_map(|e| e.by.clone());
    let needs_proof = evidence.keys().any(|kind| OF_RECOVERY.contains(kind));
    let mut proven = None;
    if needs_proof {
        let role = match facts.live_proof(node, by.as_ref()) {
            Some(Ok(role)) => role,
            Some(Err(Missing::SuccessorNotFollowing)) if facts.was_promoted_since(node, evidence) => Role::Primary,
            Some(Err(missing)) => {
                next.proofs.remove(node);
                return Err(Lacks::Proof(missing));
            }
            None => return Err(Lacks::ConfirmedLeader),
        };
        // The mark of a planned takeover stays for a minute while the demoted node replicates: that one may serve reads.
        let marked_lost = facts.downtime(node).is_some();
        if role == Role::Replica && marked_lost && !next.up_throughout.contains(node) {
            return Err(Lacks::DowntimeEnd);
        }
        // As the primary it goes back on its former successor's word, so that one must be known: the mark alone names
        // nobody, and a replica that was not told of the recovery still follows the old primary.
        let successor_is_known = by.is_some() || facts.superseding(node).is_some() || facts.promoted_nobody(node);
        let was_lost = evidence.contains_key(&Kind::LostInRecovery);
        if role == Role::Primary && was_lost && !successor_is_known && !facts.was_promoted_since(node, evidence) {
            return Err(Lacks::Operator);
        }
        if !proven_twice(next, node, role, now_ms) {
            return Err(Lacks::SecondProof(role));
        }
        evidence.retain(|kind, _| !OF_RECOVERY.contains(kind));
        proven = Some(role);
    }
    if evidence.contains_key(&Kind::Downtime) {
        let instance = judge.topology.instance(node).ok_or(Lacks::Proof(Missing::Unlisted))?;
        if !instance.valid {
            return Err(Lacks::Proof(Missing::NotValid));
        }
        // Promoted meanwhile: a plain downtime never takes the healthy present primary (DESIGN §5).
        let is_primary = judge.topology.present_primary(node).is_some_and(|primary| primary.node == *node);
        if !is_primary && (instance.downtimed || facts.downtime(node).is_some()) {
            return Err(Lacks::DowntimeEnd);
        }
        evidence.remove(&Kind::Downtime);
    }
    match proven {
        Some(role) => Ok(role),
        None => judge.role(node).map(|role| as_before(facts, node, role)).map_err(Lacks::Proof),
    }
}

/// Where the runtime rows are still those of the node's role, they go back exactly as they were.
fn as_before(facts: &Facts<'_>, node: &Node, role: Role) -> Role {
    let is_in_writer = facts
        .observed
        .proxy
        .runtime
        .iter()
        .filter(|row| row.status != Status::OfflineHard) // the ghost of a row that the monitor moved
        .any(|row| row.node().as_ref() == Some(node) && facts.managed.is_writer(row.key.hostgroup));
    let unchanged = match role {
        Role::Replica => !is_in_writer,
        Role::Primary => is_in_writer,
        Role::AsBefore => true,
    };
    if unchanged { Role::AsBefore } else { role }
}

fn released_by_operator(
    facts: &Facts<'_>,
    node: &Node,
    evidence: &mut ByKind,
    without_lease: bool,
) -> Result<Role, Lacks> {
    if without_lease {
        evidence.clear();
        return Ok(Role::AsBefore);
    }
    match facts.standing {
        Standing::Led { good: true } => {}
        _ if facts.answer.is_none() => return Err(Lacks::Lease),
        _ => return Err(Lacks::ConfirmedLeader), // any unfence is good news (I8)
    }
    let judge = facts.judge(node).ok_or(Lacks::ConfirmedLeader)?;
    let role = judge.role(node).map_err(Lacks::Proof)?;
    // Nobody is known to be the primary just now: rows as before could make it of a node that is not.
    let is_told = judge.topology.instance(node).is_none_or(|instance| instance.primary.is_some());
    if role == Role::AsBefore && !is_told && evidence.keys().any(|kind| OF_RECOVERY.contains(kind)) {
        return Err(Lacks::Proof(Missing::NoPresentPrimary));
    }
    evidence.clear();
    Ok(role)
}

/// Remembers whether the leader saw the node up from the moment that evidence of a recovery arose.
fn track_up_throughout(facts: &Facts<'_>, next: &mut Memory, node: &Node, evidence: &ByKind) {
    let Some(topology) = facts.topology else { return };
    let up = topology.instance(node).is_some_and(|instance| instance.valid);
    let is_new = !facts.memory.evidence.contains_key(node) && evidence.values().all(|e| e.source != "marker");
    if !up {
        next.up_throughout.remove(node);
    } else if is_new {
        next.up_throughout.insert(node.clone());
    }
}

fn level(facts: &Facts<'_>, evidence: &Evidence) -> Level {
    match &facts.observed.orders.now {
        Some(Order::Fence { level, .. }) if evidence.source == "operator" => *level,
        _ => evidence.kind.default_level(),
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

/// The release that an operator's `unfence` puts on record: all that is known of the node now.
pub fn release_by_order(memory: &Memory, leader: &LeaderView, node: &Node, now_s: i64) -> Release {
    let downtimes = match leader {
        LeaderView::Led(answer) => answer.downtimes.as_slice(),
        _ => &[],
    };
    Release {
        recovery_ns: newest(memory.records.values(), node).map_or(0, |record| record.at_ns),
        downtime_s: downtimes.iter().find(|d| d.node == *node).map_or(0, |d| d.begin_s),
        ordered_s: now_s,
    }
    .and(of_kept(memory, node))
}
