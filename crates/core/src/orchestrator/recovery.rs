//! The records of Orchestrator's recovery history.

use serde::{Deserialize, Serialize};

use crate::node::Node;

/// The failure that a recovery was for. Only the recovery of a primary supersedes a node (design §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Analysis {
    /// `DeadMaster`, `DeadMasterAndSomeReplicas`, `DeadCoMaster` or `DeadCoMasterAndSomeReplicas`.
    DeadPrimary,
    /// Any other analysis.
    Other,
}

/// A record of the recovery history.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Recovery {
    /// The time at the front of the UID, in ns since 1970. Records are ordered by it.
    pub at_ns: u64,
    /// The whole UID.
    pub uid: String,
    /// `RecoveryEndTimestamp`, in s since 1970; `None` while the recovery runs.
    pub end_s: Option<i64>,
    /// The failure that the recovery was for.
    pub analysis: Analysis,
    /// `IsSuccessful`.
    pub successful: bool,
    /// The node that failed.
    pub failed: Node,
    /// The node that took over, if any.
    pub successor: Option<Node>,
    /// The alias of the cluster at that time; may be empty.
    pub alias: String,
}

impl Recovery {
    /// The time when it was registered, in s since 1970 by the leader's clock.
    pub fn at_s(&self) -> i64 {
        // The conversion never fails: a u64 holds 584 years of nanoseconds.
        i64::try_from(self.at_ns / 1_000_000_000).unwrap_or(i64::MAX)
    }
}

/// The time at the front of a recovery's UID, in ns since 1970 (facts §8).
pub fn uid_ns(uid: &str) -> Option<u64> {
    uid.split(':').next()?.parse().ok()
}
