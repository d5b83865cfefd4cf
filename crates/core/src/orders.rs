//! Operators' orders, and the releases of evidence by orders and proofs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::evidence::Level;
use crate::node::Node;
use crate::orchestrator::DOWNTIME_BEGIN_SLACK_S;
use crate::role::Role;

/// The operators' orders on this host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Orders {
    /// The reason of a suspension in force. The caller drops it when its time is over.
    pub suspended: Option<String>,
    /// The releases by `unfence`, per node.
    pub released: BTreeMap<Node, Release>,
    /// The order that a command gives in this tick.
    #[serde(skip)]
    pub now: Option<Order>,
}

/// An operator's order. The same decide and apply carry it out as everything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Take a node out of service.
    Fence {
        /// The node.
        node: Node,
        /// The level of the fence.
        level: Level,
    },
    /// Let a node back, and release its evidence by id.
    Unfence {
        /// The node.
        node: Node,
        /// Skip the role check, and restore the rows as they were.
        without_lease: bool,
        /// The role that the operator vouches for if the leader cannot prove it.
        role: Option<Role>,
    },
    /// Take a node out of service for a barrier, as its mark does. The hook gives it for a ProxySQL without an agent.
    Barrier {
        /// The node.
        node: Node,
        /// The UID of the recovery that waits.
        recovery: String,
    },
    /// Drain a node for a planned takeover, as its mark does. The hook gives it for a ProxySQL that it reaches.
    Drain {
        /// The node.
        node: Node,
        /// Soft for as long as transactions may finish; then the sessions that are left are ended.
        level: Level,
    },
    /// Let back, without a lease, all nodes that are out for an isolation alone. Their rows go back as they were.
    EndIsolation,
}

/// The ids up to which a node's evidence is discharged. Newer evidence counts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Release {
    /// The newest released recovery, in ns since 1970.
    pub recovery_ns: u64,
    /// The begin of the newest released downtime, in s since 1970.
    pub downtime_s: i64,
    /// The time of the release, in s since 1970, for evidence without an id; 0 is never.
    pub ordered_s: i64,
}

impl Release {
    /// Whether a downtime with this begin is released. Begins are computed, so one a little later is the same downtime.
    pub fn has_downtime(&self, begin_s: i64) -> bool {
        self.downtime_s != 0 && begin_s <= self.downtime_s.saturating_add(DOWNTIME_BEGIN_SLACK_S)
    }

    /// The release of all that either releases.
    pub fn and(self, other: Self) -> Self {
        Self {
            recovery_ns: self.recovery_ns.max(other.recovery_ns),
            downtime_s: self.downtime_s.max(other.downtime_s),
            ordered_s: self.ordered_s.max(other.ordered_s),
        }
    }
}
