//! What Orchestrator knows of each MySQL server, and which servers it has downtimed.

use serde::{Deserialize, Serialize};

use crate::node::Node;

/// What the leader knows of one MySQL server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Instance {
    /// Which.
    pub node: Node,
    /// `ClusterName`: a returned old primary is one of its own.
    pub cluster: String,
    /// `SuggestedClusterAlias`; may be empty.
    pub alias: String,
    /// `IsLastCheckValid`. Without it everything below is a last-known value.
    pub valid: bool,
    /// `ReadOnly`, the global `read_only`.
    pub read_only: bool,
    /// What it replicates from, running or not.
    pub primary: Option<Node>,
    /// Both replication threads run.
    pub replicating: bool,
    /// When its last good check began, s since 1970 (`LastSeenTimestamp` less `LastDiscoveryLatency`).
    pub checked_s: i64,
    /// `IsDowntimed`.
    pub downtimed: bool,
    /// `ServerUUID`, which names the server whatever it is called; empty where Orchestrator does not know it.
    pub uuid: String,
    /// `GtidErrant`: transactions that its primary lacks (MySQL only); empty if there are none.
    pub errant_gtid: String,
    /// `LastIOError` and `LastSQLError`, one bounded line; empty if there is none.
    pub replication_error: String,
}

/// The reason that Orchestrator gives the downtime it sets itself at the end of a recovery (facts §8).
pub const LOST_IN_RECOVERY: &str = "lost-in-recovery";

/// Downtime begins are computed; two within this are the same one, in s.
pub const DOWNTIME_BEGIN_SLACK_S: i64 = 5;

/// A downtimed instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Downtime {
    /// Which.
    pub node: Node,
    /// `DowntimeReason`.
    pub reason: String,
    /// `DowntimeOwner`.
    pub owner: String,
    /// When it began, s since 1970 by the leader's clock (`Date` less `ElapsedDowntime`; good to about 2 s).
    pub begin_s: i64,
}

/// What the unit tests of this crate show of a node.
#[cfg(test)]
pub(crate) mod shown {
    use super::{Instance, Node};

    pub(crate) fn node(name: &str) -> Node {
        format!("{name}:3306").parse().unwrap()
    }

    /// Well: the primary, or a read-only replica, checked at 100 s.
    pub(crate) fn instance(name: &str, primary: Option<&str>) -> Instance {
        Instance {
            node: node(name),
            cluster: String::new(),
            alias: "main".to_owned(),
            valid: true,
            read_only: primary.is_some(),
            primary: primary.map(node),
            replicating: primary.is_some(),
            checked_s: 100,
            downtimed: false,
            uuid: String::new(),
            errant_gtid: String::new(),
            replication_error: String::new(),
        }
    }
}
