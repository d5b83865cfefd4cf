//! Conditions: what needs a person's attention, as data. The log, `status`, `plan`, `config check` and JSON render the
//! same list.
//!
//! **Invariant:** the list and each text in it are bounded for any number of nodes. A condition that lasts has the same
//! text in each tick, so it is logged once.

mod find;
mod text;
mod untold;

use std::collections::BTreeSet;
use std::fmt;

pub use find::{conditions, in_force, of_fence_agents, of_node_fences, of_outcome};
pub use untold::Untold;

use crate::decide::HoldReason;
use crate::list::first_few;
use crate::node::Node;
use crate::orchestrator::{BlindCause, ConflictCause, SilentCause};
use crate::table::Hostgroup;

/// The most nodes that one text names.
const NAMED_MAX: usize = 5;

/// The most groups of held nodes that get a condition each.
const HELD_MAX: usize = 10;

/// The severity of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Nobody needs to do anything.
    Info,
    /// Somebody should look at it. Protection works.
    Warning,
    /// Something was not reached, or failed.
    Failure,
    /// The ProxySQL or one of its nodes is isolated, held or not protected.
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

/// A bounded list of nodes: the first few by name, and the number of all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeList {
    named: Vec<Node>,
    count: usize,
}

impl NodeList {
    /// The list of these nodes. Duplicates count once.
    pub fn of<'n>(nodes: impl IntoIterator<Item = &'n Node>) -> Self {
        let all: BTreeSet<&Node> = nodes.into_iter().collect();
        Self { named: all.iter().take(NAMED_MAX).map(|node| (*node).clone()).collect(), count: all.len() }
    }

    /// The nodes that are named: the first five in order.
    pub fn named(&self) -> &[Node] {
        &self.named
    }

    /// The number of all nodes, named or not.
    pub fn count(&self) -> usize {
        self.count
    }
}

impl fmt::Display for NodeList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&first_few(&self.named, self.count, NAMED_MAX))
    }
}

/// The reason why isolation is not armed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UnarmedReason {
    /// No leader that knows the writers has answered yet.
    NoLeader,
    /// The managed writer hostgroups have no row.
    NoWriter,
    /// Orchestrator knows no node of these writer hostgroups.
    UnknownWriters {
        /// The writer hostgroups.
        hostgroups: Vec<Hostgroup>,
        /// The nodes in these hostgroups.
        nodes: NodeList,
    },
}

/// One thing that needs attention.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Orchestrator has no leader: a majority of the raft names none, or without raft no node is active.
    Leaderless,
    /// Orchestrator's answers cannot be used.
    LeaderUnusable(BlindCause),
    /// Two Orchestrator nodes lead.
    LeaderConflict(ConflictCause),
    /// No leader of Orchestrator was reached.
    LeaderUnreached(SilentCause),
    /// Entries of the leader's answer could not be read.
    AnswerSkipped {
        /// The number of entries.
        count: usize,
        /// The first entry, and its error.
        first: String,
        /// The nodes of this ProxySQL that the entries name.
        nodes: NodeList,
    },
    /// Nothing proves that the answers come from Orchestrator. A sentence with the reason.
    OrchestratorUnverified(String),
    /// Nothing proves that the answers come from this ProxySQL. A sentence with the reason.
    ProxyUnverified(String),
    /// ProxySQL could not be read. A sentence with the reason.
    ProxyUnread(String),
    /// ProxySQL lacks something that a change needs, so `run` changes nothing.
    ProxyUnfit {
        /// A stable name of what is missing.
        what: String,
        /// What is missing and what to do, as a sentence without its end.
        text: String,
    },
    /// ProxySQL is newer than every version that this program was tried with.
    ProxyAhead {
        /// Its version.
        version: String,
        /// The highest version that was tried.
        tried: String,
    },
    /// Nothing shows whether somebody LOADs while an apply works.
    LoadsUncounted,
    /// No row may be touched.
    NothingManaged,
    /// No hostgroup is known to take writes.
    NoWriterHostgroup,
    /// Orchestrator knows no node under the names that ProxySQL has.
    NothingProtected {
        /// The nodes by ProxySQL's names.
        served: NodeList,
        /// The nodes by Orchestrator's names.
        listed: NodeList,
    },
    /// Orchestrator does not know some of the nodes.
    UnknownNodes {
        /// The unknown nodes.
        nodes: NodeList,
        /// The number of all nodes in hostgroups that take writes, or are paired with one.
        served: usize,
    },
    /// Several nodes take writes through one hostgroup, and nothing tells which of them is the primary.
    TwoWriters {
        /// The writer hostgroup.
        hostgroup: Hostgroup,
        /// The nodes.
        nodes: NodeList,
    },
    /// Evidence speaks against these nodes of a served cluster, and no row has their name.
    Unmatched(NodeList),
    /// Orchestrator's own hooks change this ProxySQL at a failover too.
    ForeignHooks,
    /// A writer hostgroup has no writer, as those hooks leave it if a failover fails.
    WithoutWriter {
        /// The writer hostgroup.
        hostgroup: Hostgroup,
        /// The row's host, as ProxySQL spells it.
        hostname: String,
        /// The node.
        node: Node,
    },
    /// Isolation is not armed.
    Unarmed(UnarmedReason),
    /// ProxySQL is paused, and takes no clients. Noticed in a ProxySQL Cluster only.
    Paused {
        /// Agents paused it to isolate it. Otherwise an operator did.
        by_agents: bool,
    },
    /// This ProxySQL is one of a cluster, and its version takes longer to pause than an isolation allows for.
    PauseIsSlow(String),
    /// This ProxySQL is one of a cluster, and its version may hang when it is resumed after an isolation.
    ResumeMayHang(String),
    /// Returns after a recovery cannot be proven in these pairs.
    ReturnsByHand {
        /// The pairs' `check_type`.
        check_type: String,
        /// The pairs' writer hostgroups.
        writers: Vec<Hostgroup>,
    },
    /// The managed rows are out of service for want of a lease.
    Isolated,
    /// This agent has no leader, and this other agent has a lease for the ProxySQL.
    AnsweredFor(String),
    /// An operator suspended this ProxySQL, for this reason.
    Suspended(String),
    /// Nodes whose rows stay as they are, though something is unclear or speaks against them.
    Held {
        /// The reason, the same for all of them.
        why: HoldReason,
        /// The held nodes.
        nodes: NodeList,
    },
    /// The number of held nodes beyond the groups that have a condition each.
    HeldMore(usize),
    /// Nodes return as replicas with transactions that their primary lacks (`errant_gtid = "warn"`).
    ErrantTransactions {
        /// The GTID set of the first node.
        set: String,
        /// The returning nodes.
        nodes: NodeList,
    },
    /// `mode = "observe"`, and this plan is not carried out.
    Observing(String),
    /// The state directory cannot keep the memory. A sentence with the reason.
    StateUnkept(String),
    /// The standing orders cannot be read. A sentence with the reason.
    OrdersUnread(String),
    /// No agent has ticked for this ProxySQL lately. A sentence with the last tick.
    NoAgent(String),
    /// This other applier works on the ProxySQL.
    ApplierBusy(String),
    /// Another applier took over the lock, and finishes the work.
    ApplierReplaced,
    /// A return is put off, since the server tables keep changing.
    ReturnPutOff,
    /// The apply failed. A sentence with the statement and the error.
    ApplyFailed(String),
    /// These fenced nodes still have connections in use.
    SessionsLeft(NodeList),
    /// This number of client sessions is left in a ProxySQL that is paused.
    ClientsLeft(u64),
    /// Runtime does not show these rows as they were loaded.
    NotAsPlanned(String),
    /// ProxySQL's disk layer refused the change, with this error.
    DiskRefused(String),
    /// These fenced nodes are not read-only at the node itself, though the config says so.
    NodeFenceFailed {
        /// The nodes.
        nodes: NodeList,
        /// Why the first is not.
        why: String,
    },
    /// These fenced nodes are not powered off, though the config says so.
    FenceAgentFailed {
        /// The nodes.
        nodes: NodeList,
        /// Why the first is not.
        why: String,
    },
    /// The account could not make these nodes read-only if it were needed, or their agents could not power them off.
    NodeFenceUnready {
        /// The nodes.
        nodes: NodeList,
        /// Why not the first.
        why: String,
    },
    /// These fenced nodes are read-only, and the account may not end all client sessions there.
    NodeFenceSessionsLeft {
        /// The nodes.
        nodes: NodeList,
        /// The server's words at the first.
        why: String,
    },
    /// Somebody made these fenced nodes writable again.
    NodeFenceUndone(NodeList),
    /// The config fences nodes themselves, and only the daemon does that.
    NodeFenceNeedsDaemon,
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
            Self::ProxyUnfit { .. } => "proxysql-unfit",
            Self::ProxyAhead { .. } => "proxysql-ahead",
            Self::LoadsUncounted => "loads-uncounted",
            Self::NothingManaged => "nothing-managed",
            Self::NoWriterHostgroup => "no-writer-hostgroup",
            Self::TwoWriters { .. } => "two-writers",
            Self::Unmatched(_) => "unmatched-nodes",
            Self::NothingProtected { .. } => "nothing-protected",
            Self::UnknownNodes { .. } => "unknown-nodes",
            Self::ForeignHooks => "orchestrator-hooks",
            Self::WithoutWriter { .. } => "without-writer",
            Self::Unarmed(_) => "unarmed",
            Self::Paused { .. } => "paused",
            Self::PauseIsSlow(_) => "pause-is-slow",
            Self::ResumeMayHang(_) => "resume-may-hang",
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
            Self::ClientsLeft(_) => "clients-left",
            Self::NotAsPlanned(_) => "not-as-planned",
            Self::DiskRefused(_) => "disk-refused",
            Self::NodeFenceFailed { .. } => "node-fence-failed",
            Self::FenceAgentFailed { .. } => "fence-agent-failed",
            Self::NodeFenceUnready { .. } => "node-fence-unready",
            Self::NodeFenceSessionsLeft { .. } => "node-fence-sessions-left",
            Self::NodeFenceUndone(_) => "node-fence-undone",
            Self::NodeFenceNeedsDaemon => "node-fence-needs-daemon",
        }
    }

    /// A stable name of the condition's cause, for conditions that have several.
    pub fn cause(&self) -> Option<&'static str> {
        match self {
            Self::LeaderUnusable(cause) => Some(cause.label()),
            Self::LeaderConflict(cause) => Some(cause.label()),
            Self::LeaderUnreached(cause) => Some(cause.label()),
            Self::Held { why, .. } => Some(why.label()),
            _ => None,
        }
    }

    /// A key that tells it from the other conditions of this ProxySQL. It does not depend on the text.
    pub fn key(&self) -> String {
        match self {
            Self::Held { why, nodes } => match nodes.named() {
                [first, ..] => format!("{} {} {first}", self.label(), why.label()),
                [] => self.label().to_owned(),
            },
            Self::ProxyUnfit { what, .. } => format!("{} {what}", self.label()),
            Self::WithoutWriter { hostgroup, .. } => format!("{} {hostgroup}", self.label()),
            Self::ReturnsByHand { check_type, .. } => format!("{} {check_type}", self.label()),
            _ => self.label().to_owned(),
        }
    }

    /// The severity of this condition.
    pub fn severity(&self) -> Severity {
        match self {
            Self::ApplierBusy(_) | Self::ProxyAhead { .. } | Self::ForeignHooks => Severity::Info,
            Self::AnswerSkipped { nodes, .. } if nodes.count() > 0 => Severity::Unprotected,
            Self::AnswerSkipped { .. }
            | Self::OrchestratorUnverified(_)
            | Self::ProxyUnverified(_)
            | Self::PauseIsSlow(_)
            | Self::ResumeMayHang(_)
            | Self::ReturnsByHand { .. }
            | Self::LoadsUncounted
            | Self::NoWriterHostgroup
            | Self::Unmatched(_)
            | Self::AnsweredFor(_)
            | Self::Observing(_)
            | Self::ErrantTransactions { .. }
            | Self::NodeFenceUndone(_)
            | Self::NodeFenceSessionsLeft { .. }
            | Self::NodeFenceNeedsDaemon
            | Self::ApplierReplaced => Severity::Warning,
            Self::LeaderUnreached(_)
            | Self::LeaderUnusable(_)
            | Self::ProxyUnread(_)
            | Self::OrdersUnread(_)
            | Self::ReturnPutOff
            | Self::ApplyFailed(_)
            | Self::SessionsLeft(_)
            | Self::ClientsLeft(_)
            | Self::WithoutWriter { .. }
            | Self::NotAsPlanned(_)
            | Self::NodeFenceFailed { .. }
            | Self::FenceAgentFailed { .. }
            | Self::NodeFenceUnready { .. }
            | Self::DiskRefused(_) => Severity::Failure,
            Self::Leaderless
            | Self::LeaderConflict(_)
            | Self::ProxyUnfit { .. }
            | Self::NothingManaged
            | Self::NothingProtected { .. }
            | Self::TwoWriters { .. }
            | Self::UnknownNodes { .. }
            | Self::Unarmed(_)
            | Self::Paused { .. }
            | Self::Isolated
            | Self::Suspended(_)
            | Self::Held { .. }
            | Self::HeldMore(_)
            | Self::StateUnkept(_)
            | Self::NoAgent(_) => Severity::Unprotected,
        }
    }

    /// The nodes that its text names.
    pub fn nodes(&self) -> &[Node] {
        match self {
            Self::NothingProtected { served: nodes, .. }
            | Self::UnknownNodes { nodes, .. }
            | Self::TwoWriters { nodes, .. }
            | Self::Held { nodes, .. }
            | Self::AnswerSkipped { nodes, .. }
            | Self::ErrantTransactions { nodes, .. }
            | Self::Unmatched(nodes)
            | Self::NodeFenceFailed { nodes, .. }
            | Self::FenceAgentFailed { nodes, .. }
            | Self::NodeFenceUnready { nodes, .. }
            | Self::NodeFenceSessionsLeft { nodes, .. }
            | Self::NodeFenceUndone(nodes)
            | Self::Unarmed(UnarmedReason::UnknownWriters { nodes, .. })
            | Self::SessionsLeft(nodes) => nodes.named(),
            Self::WithoutWriter { node, .. } => std::slice::from_ref(node),
            _ => &[],
        }
    }
}
