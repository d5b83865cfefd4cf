//! What an operator ordered, and what orders and proofs have released.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::evidence::Level;
use crate::node::Node;
use crate::orchestrator::DOWNTIME_BEGIN_SLACK_S;
use crate::role::Role;

/// What the operator ordered on this host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Orders {
    /// Hands off, with the reason. The caller drops it once its time is over.
    pub suspended: Option<String>,
    /// Nodes whose evidence up to a time is released.
    pub released: BTreeMap<Node, Release>,
    /// What a command orders in this very tick.
    #[serde(skip)]
    pub now: Option<Order>,
}

/// An operator's order, given by a command and carried out by the same decide and apply as everything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Take a node out.
    Fence {
        /// Which.
        node: Node,
        /// How far.
        level: Level,
    },
    /// Let a node back: its evidence is released by id.
    Unfence {
        /// Which.
        node: Node,
        /// Without asking the leader for its role: the rows go back as they were.
        without_lease: bool,
        /// The role that the operator vouches for, where the leader can't prove it.
        role: Option<Role>,
    },
    /// Let back what is out for an isolation and for nothing else, without a lease: the rows go back as they were.
    EndIsolation,
}

/// Evidence that was discharged, by id: what is newer counts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Release {
    /// The newest released recovery's nanoseconds.
    pub recovery_ns: u64,
    /// The newest released downtime's begin, s.
    pub downtime_s: i64,
    /// Markers of these kinds that carry no id: released when this order was given, s; 0 is never.
    pub ordered_s: i64,
}

impl Release {
    /// Whether a downtime that began then is released: begins are computed, so it may be a little later.
    pub fn has_downtime(&self, begin_s: i64) -> bool {
        self.downtime_s != 0 && begin_s <= self.downtime_s.saturating_add(DOWNTIME_BEGIN_SLACK_S)
    }

    /// Both releases in one.
    pub fn and(self, other: Self) -> Self {
        Self {
            recovery_ns: self.recovery_ns.max(other.recovery_ns),
            downtime_s: self.downtime_s.max(other.downtime_s),
            ordered_s: self.ordered_s.max(other.ordered_s),
        }
    }
}
