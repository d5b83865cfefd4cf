//! What needs a person's attention, as data. The log, `status`, `plan`, `config check` and JSON render one list.
//!
//! **Invariant:** the list and every text in it are bounded, however many nodes there are. A condition that lasts has
//! the same text in each tick, so that it is logged once.

mod find;
mod text;
mod untold;

use std::collections::BTreeSet;
use std::fmt;

pub use find::{conditions, in_force, of_outcome};
pub use untold::Untold;

use crate::decide::HoldReason;
use crate::node::Node;
use crate::orchestrator::{BlindCause, ConflictCause, SilentCause};
use crate::table::Hostgroup;

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
    LeaderUnusable(BlindCause),
    /// Orchestrator: two leaders.
    LeaderConflict(ConflictCause),
    /// Orchestrator: no leader was reached.
    LeaderUnreached(SilentCause),
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

    /// A stable name of its cause, where there are several.
    pub fn cause(&self) -> Option<&'static str> {
        match self {
            Self::LeaderUnusable(cause) => Some(cause.label()),
            Self::LeaderConflict(cause) => Some(cause.label()),
            Self::LeaderUnreached(cause) => Some(cause.label()),
            Self::Held { why, .. } => Some(why.label()),
            _ => None,
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
