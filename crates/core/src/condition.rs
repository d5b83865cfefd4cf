//! What needs a person's attention, as data. The log, `status`, `plan`, `config check` and JSON render one list.
//!
//! **Invariant:** the list and every text in it are bounded, however many nodes there are. A condition that lasts has
//! the same text in each tick, so that it is logged once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::apply::Outcome;
use crate::decide::{Decision, HoldReason, ReturnBlocker, Verdict};
use crate::lease::LeaseState;
use crate::managed::Managed;
use crate::node::Node;
use crate::observed::{Observed, ProxyView};
use crate::orchestrator::LeaderView;
use crate::policy::{IsolationScope, Policy};
use crate::role::Role;
use crate::table::{CheckType, Hostgroup, Row, Status};

/// The most nodes that one text names.
const NAMED_MAX: usize = 5;

/// The most groups of held nodes that are listed one by one.
const HELD_MAX: usize = 10;

/// How much a condition matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Something to look at; protection works.
    Warning,
    /// Something was not reached, or failed.
    Failure,
    /// The ProxySQL, or a node of it, is isolated, held or not protected.
    Unprotected,
}

impl Severity {
    /// A stable name for programs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Failure => "failure",
            Self::Unprotected => "unprotected",
        }
    }
}

/// Some nodes by name, and how many there are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeList {
    named: Vec<Node>,
    count: usize,
}

impl NodeList {
    /// All of these, the first few by name.
    pub fn of<'n>(nodes: impl IntoIterator<Item = &'n Node>) -> Self {
        let all: BTreeSet<&Node> = nodes.into_iter().collect();
        Self { named: all.iter().take(NAMED_MAX).map(|node| (*node).clone()).collect(), count: all.len() }
    }

    /// The first few.
    pub fn named(&self) -> &[Node] {
        &self.named
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }
}

impl fmt::Display for NodeList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<String> = self.named.iter().map(ToString::to_string).collect();
        f.write_str(&named.join(", "))?;
        match self.count - self.named.len() {
            0 => Ok(()),
            more => write!(f, ", ... and {more} more"),
        }
    }
}

/// Why isolation is not armed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UnarmedReason {
    /// No leader was seen that knows the writers.
    NoLeader,
    /// The managed writer hostgroups have no row.
    NoWriter,
    /// Orchestrator knows no node of these writer hostgroups.
    UnknownWriters {
        /// Which.
        hostgroups: Vec<Hostgroup>,
        /// Their nodes.
        nodes: NodeList,
    },
}

/// One thing that needs attention.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Orchestrator: a majority names no leader.
    Leaderless,
    /// Orchestrator: its answers can't be used.
    LeaderUnusable(String),
    /// Orchestrator: two leaders.
    LeaderConflict(String),
    /// Orchestrator: no leader was reached.
    LeaderUnreached(String),
    /// Orchestrator: parts of its answer could not be read.
    AnswerSkipped {
        /// How many.
        count: usize,
        /// The first.
        first: String,
        /// The nodes of this ProxySQL that they concern.
        nodes: NodeList,
    },
    /// Nothing proves that what answers is Orchestrator.
    OrchestratorUnverified(String),
    /// Nothing proves that what answers is this ProxySQL.
    ProxyUnverified(String),
    /// ProxySQL could not be read.
    ProxyUnread(String),
    /// ProxySQL's version is untested, so that `run` changes nothing.
    UntestedVersion(String),
    /// There is no row that may be touched.
    NothingManaged,
    /// No hostgroup is known to take writes.
    NoWriterHostgroup,
    /// Orchestrator knows no node under the names that ProxySQL has.
    NothingProtected {
        /// ProxySQL's.
        served: NodeList,
        /// Orchestrator's.
        listed: NodeList,
    },
    /// Orchestrator does not know some of the nodes.
    UnknownNodes {
        /// Which.
        nodes: NodeList,
        /// Of how many.
        served: usize,
    },
    /// Something speaks against these nodes of a cluster that is served here, and no row has their name.
    Unmatched(NodeList),
    /// Isolation is not armed.
    Unarmed(UnarmedReason),
    /// Isolation is off, since it would spread to the peers.
    Clustered,
    /// Returns after a recovery can't be proven in these pairs.
    ReturnsByHand {
        /// The pairs' `check_type`.
        check_type: String,
        /// Their writer hostgroups.
        writers: Vec<Hostgroup>,
    },
    /// Out of service without a lease.
    Isolated,
    /// Another agent has a lease for this ProxySQL.
    AnsweredFor(String),
    /// The operator paused everything.
    Suspended(String),
    /// Nodes that something speaks against, and that are not changed.
    Held {
        /// Why.
        why: HoldReason,
        /// Which.
        nodes: NodeList,
    },
    /// More held nodes than are listed one by one.
    HeldMore(usize),
    /// A node returns as a replica with transactions that its primary lacks (`errant_gtid = "warn"`).
    ErrantTransactions {
        /// Their GTID set, of the first node.
        set: String,
        /// Which nodes.
        nodes: NodeList,
    },
    /// `mode = "observe"`: what would be changed.
    Observing(String),
    /// The state directory does not keep what was learned.
    StateUnkept(String),
    /// Standing orders can't be read.
    OrdersUnread(String),
    /// No agent has ticked here lately.
    NoAgent(String),
    /// Another applier works on this ProxySQL.
    ApplierBusy(String),
    /// Another applier took over.
    ApplierReplaced,
    /// The server tables keep changing, and a return is put off.
    ReturnPutOff,
    /// The apply failed.
    ApplyFailed(String),
    /// Fenced nodes still have connections in use.
    SessionsLeft(NodeList),
    /// Runtime does not show what was loaded.
    NotAsPlanned(String),
    /// ProxySQL's disk layer refused.
    DiskRefused(String),
}

impl Condition {
    /// A stable name for programs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Leaderless => "leaderless",
            Self::LeaderUnusable(_) => "leader-unusable",
            Self::LeaderConflict(_) => "leader-conflict",
            Self::LeaderUnreached(_) => "leader-unreached",
            Self::AnswerSkipped { .. } => "answer-skipped",
            Self::OrchestratorUnverified(_) => "orchestrator-unverified",
            Self::ProxyUnverified(_) => "proxysql-unverified",
            Self::ProxyUnread(_) => "proxysql-unread",
            Self::UntestedVersion(_) => "untested-version",
            Self::NothingManaged => "nothing-managed",
            Self::NoWriterHostgroup => "no-writer-hostgroup",
            Self::Unmatched(_) => "unmatched-nodes",
            Self::NothingProtected { .. } => "nothing-protected",
            Self::UnknownNodes { .. } => "unknown-nodes",
            Self::Unarmed(_) => "unarmed",
            Self::Clustered => "clustered",
            Self::ReturnsByHand { .. } => "returns-by-hand",
            Self::Isolated => "isolated",
            Self::AnsweredFor(_) => "answered-for",
            Self::Suspended(_) => "suspended",
            Self::Held { .. } => "held",
            Self::HeldMore(_) => "held-more",
            Self::ErrantTransactions { .. } => "errant-transactions",
            Self::Observing(_) => "observing",
            Self::StateUnkept(_) => "state-unkept",
            Self::OrdersUnread(_) => "orders-unread",
            Self::NoAgent(_) => "no-agent",
            Self::ApplierBusy(_) => "applier-busy",
            Self::ApplierReplaced => "applier-replaced",
            Self::ReturnPutOff => "return-put-off",
            Self::ApplyFailed(_) => "apply-failed",
            Self::SessionsLeft(_) => "sessions-left",
            Self::NotAsPlanned(_) => "not-as-planned",
            Self::DiskRefused(_) => "disk-refused",
        }
    }

    /// What tells it from other conditions of this ProxySQL, whatever its text says.
    pub fn key(&self) -> String {
        match self {
            Self::Held { why, nodes } => match nodes.named() {
                [first, ..] => format!("{} {} {first}", self.label(), why.label()),
                [] => self.label().to_owned(),
            },
            Self::ReturnsByHand { check_type, .. } => format!("{} {check_type}", self.label()),
            _ => self.label().to_owned(),
        }
    }

    /// How much it matters.
    pub fn severity(&self) -> Severity {
        match self {
            Self::ApplierBusy(_) => Severity::Info,
            Self::AnswerSkipped { nodes, .. } if nodes.count() > 0 => Severity::Unprotected,
            Self::AnswerSkipped { .. }
            | Self::OrchestratorUnverified(_)
            | Self::ProxyUnverified(_)
            | Self::ReturnsByHand { .. }
            | Self::NoWriterHostgroup
            | Self::Unmatched(_)
            | Self::AnsweredFor(_)
            | Self::Observing(_)
            | Self::ErrantTransactions { .. }
            | Self::ApplierReplaced => Severity::Warning,
            Self::LeaderUnreached(_)
            | Self::LeaderUnusable(_)
            | Self::ProxyUnread(_)
            | Self::OrdersUnread(_)
            | Self::ReturnPutOff
            | Self::ApplyFailed(_)
            | Self::SessionsLeft(_)
            | Self::NotAsPlanned(_)
            | Self::DiskRefused(_) => Severity::Failure,
            Self::Leaderless
            | Self::LeaderConflict(_)
            | Self::UntestedVersion(_)
            | Self::NothingManaged
            | Self::NothingProtected { .. }
            | Self::UnknownNodes { .. }
            | Self::Unarmed(_)
            | Self::Clustered
            | Self::Isolated
            | Self::Suspended(_)
            | Self::Held { .. }
            | Self::HeldMore(_)
            | Self::StateUnkept(_)
            | Self::NoAgent(_) => Severity::Unprotected,
        }
    }

    /// The nodes that it names.
    pub fn nodes(&self) -> &[Node] {
        match self {
            Self::NothingProtected { served: nodes, .. }
            | Self::UnknownNodes { nodes, .. }
            | Self::Held { nodes, .. }
            | Self::AnswerSkipped { nodes, .. }
            | Self::ErrantTransactions { nodes, .. }
            | Self::Unmatched(nodes)
            | Self::Unarmed(UnarmedReason::UnknownWriters { nodes, .. })
            | Self::SessionsLeft(nodes) => nodes.named(),
            _ => &[],
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leaderless => write!(
                f,
                "Orchestrator's nodes report that none of them leads, so none can promote; nothing is changed"
            ),
            Self::LeaderUnusable(why) => {
                write!(f, "Orchestrator's answers cannot be used; nothing is changed: {why}")
            }
            Self::LeaderConflict(why) | Self::OrchestratorUnverified(why) | Self::ProxyUnverified(why) => {
                f.write_str(why)
            }
            Self::LeaderUnreached(why) => write!(f, "Orchestrator's leader was not reached: {why}"),
            Self::AnswerSkipped { count, first, nodes } => {
                write!(
                    f,
                    "{count} entries of Orchestrator's answer cannot be read and are skipped; the first: {first}"
                )?;
                if nodes.count() > 0 {
                    write!(f, ". They concern {nodes}")?;
                }
                Ok(())
            }
            Self::ProxyUnread(why) => f.write_str(why),
            Self::UntestedVersion(version) => write!(
                f,
                "ProxySQL {version} is untested with this program: `run` changes nothing here, and a failover fences \
                 nothing. Allow it with allow_untested_version = true in the [[proxysql]] section, or with \
                 --allow-untested-version"
            ),
            Self::NothingManaged => write!(
                f,
                "nothing is protected here: ProxySQL has no server row outside the hostgroups that are never touched"
            ),
            Self::NoWriterHostgroup => write!(
                f,
                "no hostgroup is known to take writes, so that a second writer is not seen: mysql_replication_hostgroups \
                 has no pair here, and policy.writer_hostgroups names none"
            ),
            Self::Unmatched(nodes) => write!(
                f,
                "Orchestrator lists {nodes} as failed over, in a cluster that is served here, and no row has that name: \
                 a row of it under another name is not fenced"
            ),
            Self::NothingProtected { served, listed } => {
                write!(
                    f,
                    "nothing is protected here: Orchestrator knows none of ProxySQL's {} nodes under their names \
                     ({served})",
                    served.count()
                )?;
                if listed.count() > 0 {
                    write!(f, "; it lists {listed}")?;
                }
                write!(f, ". Write the hostnames and ports into mysql_servers as Orchestrator has them")
            }
            Self::UnknownNodes { nodes, served } => write!(
                f,
                "{} of {served} nodes cannot be fenced, since Orchestrator does not list them under ProxySQL's names: \
                 {nodes}",
                nodes.count()
            ),
            Self::Unarmed(UnarmedReason::NoLeader) => {
                write!(f, "isolation is not armed: no leader that knows this ProxySQL's writers was seen yet")
            }
            Self::Unarmed(UnarmedReason::NoWriter) => {
                write!(f, "isolation is not armed: the writer hostgroups have no row")
            }
            Self::Unarmed(UnarmedReason::UnknownWriters { hostgroups, nodes }) => write!(
                f,
                "isolation is not armed for writer hostgroup {}: Orchestrator lists none of the nodes there under \
                 ProxySQL's names: {nodes}",
                listed(hostgroups)
            ),
            Self::Clustered => write!(
                f,
                "isolation is off: ProxySQL Cluster peers are configured, and an isolation would spread to them. \
                 Accept that with isolation.scope = \"off\""
            ),
            Self::ReturnsByHand { check_type, writers } => {
                write!(
                    f,
                    "returns need a hand: Orchestrator does not report {check_type:?}, the check_type of the pairs with \
                     writer hostgroup {}. A repaired node stays out until an operator's `unfence --as`",
                    listed(writers)
                )
            }
            Self::Isolated => write!(f, "out of service: no lease from Orchestrator's leader"),
            Self::AnsweredFor(owner) => {
                write!(f, "kept in service by agent {owner}, which still reaches Orchestrator's leader")
            }
            Self::Suspended(reason) => write!(f, "suspended, nothing is fenced or let back: {reason}"),
            Self::Held { why, nodes } => {
                let verb = if nodes.count() == 1 { "is" } else { "are" };
                write!(f, "{nodes} {verb} held, nothing is changed: {why}")
            }
            Self::HeldMore(count) => write!(f, "{count} more nodes are held; `status` lists them"),
            Self::ErrantTransactions { set, nodes } => write!(
                f,
                "{nodes} returned with transactions that the primary lacks ({set}): merge them, or rebuild the replica"
            ),
            Self::Observing(plan) => write!(f, "mode = \"observe\", nothing is changed:\n{plan}"),
            Self::StateUnkept(why) | Self::OrdersUnread(why) | Self::NoAgent(why) | Self::ApplyFailed(why) => {
                f.write_str(why)
            }
            Self::ApplierBusy(owner) => {
                write!(f, "another applier ({owner}) is at work on this ProxySQL; the work is left to it")
            }
            Self::ApplierReplaced => write!(f, "another applier took over, and finishes the work"),
            Self::ReturnPutOff => {
                write!(f, "the server tables keep changing; the return of a node is put off")
            }
            Self::SessionsLeft(nodes) => {
                write!(f, "connections to {nodes} are still in use, and no session shows that it holds them")
            }
            Self::NotAsPlanned(rows) => {
                write!(f, "runtime does not show what was loaded; the next tick looks again: {rows}")
            }
            Self::DiskRefused(why) => {
                write!(f, "ProxySQL's disk layer refused the change, and a restart of ProxySQL would lose it: {why}")
            }
        }
    }
}

/// Hostgroups, the first few by number.
fn listed(hostgroups: &[Hostgroup]) -> String {
    let mut listed: Vec<String> = hostgroups.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let more = hostgroups.len() - listed.len();
    listed.extend((more > 0).then(|| format!("... and {more} more")));
    listed.join(", ")
}

/// What one tick shows: the leader, what is protected and armed, what is held.
pub fn conditions(observed: &Observed, decision: &Decision, policy: &Policy) -> Vec<Condition> {
    let managed = Managed::of(&observed.proxy, policy);
    let served = in_force(&observed.proxy, |hostgroup| managed.contains(hostgroup));
    let mut found: Vec<Condition> = of_leader(&observed.leader).into_iter().collect();
    found.extend(skipped(&observed.leader, &served));
    let protection = unprotected(observed, decision, &managed, &served);
    let is_protected = !matches!(protection, Some(Condition::NothingManaged | Condition::NothingProtected { .. }));
    found.extend(protection);
    if is_protected && managed.writers().next().is_none() {
        found.push(Condition::NoWriterHostgroup);
    }
    if !decision.unmatched.is_empty() {
        found.push(Condition::Unmatched(NodeList::of(decision.unmatched.keys())));
    }
    if policy.isolation_scope != IsolationScope::Off {
        let clustered = observed.proxy.clustered.then_some(Condition::Clustered);
        let unarmed = || unarmed(observed, decision).filter(|_| is_protected).map(Condition::Unarmed);
        found.extend(clustered.or_else(unarmed));
    }
    found.extend(returns_by_hand(observed, &managed));
    match (decision.lease_state, &observed.proxy.lease) {
        (LeaseState::Isolated, _) => found.push(Condition::Isolated),
        (LeaseState::Shared, Some(lease)) => found.push(Condition::AnsweredFor(lease.owner.clone())),
        _ => {}
    }
    found.extend(observed.orders.suspended.clone().map(Condition::Suspended));
    found.extend(held(decision));
    found.extend(errant_transactions(observed, decision));
    found
}

/// The nodes with rows in force in these hostgroups; the ghosts of rows that are gone left out.
pub fn in_force(proxy: &ProxyView, is_meant: impl Fn(Hostgroup) -> bool) -> BTreeSet<Node> {
    let rows = proxy.runtime.iter().filter(|row| row.status != Status::OfflineHard && is_meant(row.key.hostgroup));
    rows.filter_map(Row::node).collect()
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

fn skipped(leader: &LeaderView, served: &BTreeSet<Node>) -> Option<Condition> {
    let LeaderView::Led(answer) = leader else { return None };
    let first = answer.skipped.first()?.what.clone();
    let concerned = answer.skipped.iter().flat_map(|entry| &entry.nodes).filter(|node| served.contains(*node));
    Some(Condition::AnswerSkipped { count: answer.skipped.len(), first, nodes: NodeList::of(concerned) })
}

fn unprotected(
    observed: &Observed,
    decision: &Decision,
    managed: &Managed,
    served: &BTreeSet<Node>,
) -> Option<Condition> {
    if served.is_empty() {
        return Some(Condition::NothingManaged);
    }
    // Without an answer nobody knows whom Orchestrator knows.
    if decision.memory.nodes.instances_asked_ms.is_none() && decision.memory.nodes.known.is_empty() {
        return None;
    }
    let is_unknown = |verdict: &Verdict| matches!(verdict, Verdict::Ignore(HoldReason::NotKnown));
    let unknown = decision.verdicts.iter().filter(|(_, verdict)| is_unknown(verdict));
    let unknown: BTreeSet<Node> = unknown.map(|(node, _)| node.clone()).collect();
    if served.is_subset(&unknown) {
        let instances = match &observed.leader {
            LeaderView::Led(answer) => answer.instances.as_deref().unwrap_or_default(),
            _ => &[],
        };
        let listed = NodeList::of(instances.iter().map(|instance| &instance.node));
        return Some(Condition::NothingProtected { served: NodeList::of(served), listed });
    }
    // Other servers may well be none of Orchestrator's business.
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

/// The pairs whose `check_type` names what Orchestrator does not report. Pairs without rows return nothing.
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

/// The replicas that return in this tick though their primary lacks some of their transactions.
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

/// What an apply could not do.
pub fn of_outcome(outcome: &Outcome) -> Vec<Condition> {
    match outcome {
        Outcome::Busy { owner } => vec![Condition::ApplierBusy(owner.clone())],
        Outcome::LostLock => vec![Condition::ApplierReplaced],
        Outcome::PutOff => vec![Condition::ReturnPutOff],
        Outcome::Failed { statement, error } => {
            vec![Condition::ApplyFailed(format!("ProxySQL refused {statement}: {error}"))]
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
            found
        }
    }
}

/// Why one look can't tell what the next ticks do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Untold {
    /// No leader answered.
    NoLeader,
    /// The leader is not confirmed yet, and good news waits for that.
    LeaderUnconfirmed,
    /// Both writers of a hostgroup have to be checked by Orchestrator once more.
    SecondWriters(NodeList),
    /// A proof was seen once, and has to be seen again.
    SecondProof(NodeList),
}

impl fmt::Display for Untold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLeader => write!(f, "Orchestrator's leader did not answer"),
            Self::LeaderUnconfirmed => write!(f, "Orchestrator's leader is not confirmed yet"),
            Self::SecondWriters(nodes) => {
                write!(f, "{nodes} may be a second writer, once Orchestrator has checked the writers again")
            }
            Self::SecondProof(nodes) => write!(f, "{nodes} may be let back, once the proof is seen again"),
        }
    }
}

impl Decision {
    /// Whether the next ticks may decide otherwise although nothing changes; `None`: this is what they do.
    pub fn untold(&self, observed: &Observed) -> Option<Untold> {
        // Where nothing depends on it, the raft's members are not asked whom they name.
        let is_asked = matches!(&observed.leader, LeaderView::Led(answer) if answer.instances.is_some());
        match self.lease_state {
            LeaseState::Led { good: true } => {}
            LeaseState::Led { good: false } if !is_asked => return None,
            LeaseState::Led { good: false } | LeaseState::Unconfirmed => return Some(Untold::LeaderUnconfirmed),
            LeaseState::Isolated => return None,
            _ => return Some(Untold::NoLeader),
        }
        let is_fenced = |node: &&Node| matches!(self.verdicts.get(*node), Some(Verdict::Fence { .. }));
        let second: Vec<&Node> = self.memory.nodes.second_writers.keys().filter(|node| !is_fenced(node)).collect();
        if !second.is_empty() {
            return Some(Untold::SecondWriters(NodeList::of(second)));
        }
        let seen_once = self.verdicts.iter().filter(|(_, verdict)| {
            let is_open = |blocker: &ReturnBlocker| {
                matches!(
                    blocker,
                    ReturnBlocker::SecondProof(_) | ReturnBlocker::ConfirmedLeader | ReturnBlocker::History
                )
            };
            matches!(verdict, Verdict::Fence { blocker, .. } if is_open(blocker))
        });
        let seen_once: Vec<&Node> = seen_once.map(|(node, _)| node).collect();
        (!seen_once.is_empty()).then(|| Untold::SecondProof(NodeList::of(seen_once)))
    }
}
