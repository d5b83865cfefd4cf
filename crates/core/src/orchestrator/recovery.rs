//! The records of Orchestrator's recovery history.

use serde::{Deserialize, Serialize};

use crate::node::Node;

/// What kind of failure a recovery was for; only those of a primary supersede (design §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Analysis {
    /// DeadMaster, DeadMasterAndSomeReplicas, DeadCoMaster or DeadCoMasterAndSomeReplicas.
    DeadPrimary,
    /// Anything else.
    Other,
}

/// A record of the recovery history.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Recovery {
    /// Nanoseconds since 1970 at the front of the UID: the order of records.
    pub at_ns: u64,
    /// The whole UID.
    pub uid: String,
    /// `RecoveryEndTimestamp`, s; `None` while it runs.
    pub end_s: Option<i64>,
    /// What it was for.
    pub analysis: Analysis,
    /// `IsSuccessful`.
    pub successful: bool,
    /// The node that failed.
    pub failed: Node,
    /// The node that took over, if any.
    pub successor: Option<Node>,
    /// The cluster's alias at that time; may be empty.
    pub alias: String,
}

impl Recovery {
    /// When it was registered, s since 1970 of the leader's clock.
    pub fn at_s(&self) -> i64 {
        // A u64 of nanoseconds is 584 years.
        i64::try_from(self.at_ns / 1_000_000_000).unwrap_or(i64::MAX)
    }
}

/// The nanoseconds at the front of a recovery's UID (facts §8).
pub fn uid_ns(uid: &str) -> Option<u64> {
    uid.split(':').next()?.parse().ok()
}
