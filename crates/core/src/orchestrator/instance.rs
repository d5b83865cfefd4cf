//! Orchestrator's instances and downtimes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::node::Node;

/// One MySQL server as the leader shows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Instance {
    /// The server, by the name under which Orchestrator lists it.
    pub node: Node,
    /// `ClusterName`. A returned old primary has one of its own.
    pub cluster: String,
    /// `SuggestedClusterAlias`; may be empty.
    pub alias: String,
    /// `IsLastCheckValid`. Every field below is a last-known value without it.
    pub valid: bool,
    /// `ReadOnly`, the global `read_only`.
    pub read_only: bool,
    /// The server that it replicates from, also while replication is stopped.
    pub primary: Option<Node>,
    /// Both replication threads run.
    pub replicating: bool,
    /// The begin of its last good check, in s since 1970 (`LastSeenTimestamp` less `LastDiscoveryLatency`).
    pub checked_s: i64,
    /// `IsDowntimed`.
    pub downtimed: bool,
    /// `ServerUUID`, the same under each of the server's names; empty if Orchestrator does not know it.
    pub uuid: String,
    /// `GtidErrant`: transactions that its primary lacks (MySQL only); empty if there are none.
    pub errant_gtid: String,
    /// `LastIOError` and `LastSQLError`, one bounded line; empty if there is none.
    pub replication_error: String,
}

/// The reason of a mark: the downtime that Orchestrator itself sets at the end of a recovery (facts §8).
pub const LOST_IN_RECOVERY: &str = "lost-in-recovery";

/// The reason of the barrier's mark: the short downtime that this program's hook sets before a promotion. Its owner is
/// the UID of the recovery.
pub const BARRIER: &str = "proxysql-stonith-barrier";

/// The reason of a planned takeover's mark: the shorter downtime that the hook sets while it drains the old primary.
pub const TAKEOVER: &str = "proxysql-stonith-takeover";

/// The most by which two computed begins of one downtime differ, in s.
pub const DOWNTIME_BEGIN_SLACK_S: i64 = 5;

/// A downtime of one server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Downtime {
    /// The downtimed server.
    pub node: Node,
    /// `DowntimeReason`.
    pub reason: String,
    /// `DowntimeOwner`.
    pub owner: String,
    /// The begin, in s since 1970 by the leader's clock (`Date` less `ElapsedDowntime`; exact to about 2 s).
    pub begin_s: i64,
}

/// The downtime of each server. One with several names may have several: a recovery's mark counts first, then a
/// barrier's, a takeover's, and then the latest.
pub fn downtime_of_each<'a>(
    listed: impl IntoIterator<Item = (&'a Node, &'a Downtime)>,
) -> BTreeMap<&'a Node, &'a Downtime> {
    let rank = |d: &Downtime| (d.reason == LOST_IN_RECOVERY, d.reason == BARRIER, d.reason == TAKEOVER, d.begin_s);
    let mut of_each: BTreeMap<&Node, &Downtime> = BTreeMap::new();
    for (server, downtime) in listed {
        let known = of_each.entry(server).or_insert(downtime);
        if (rank(downtime), &downtime.reason, &downtime.owner) > (rank(known), &known.reason, &known.owner) {
            *known = downtime;
        }
    }
    of_each
}

/// Instances for the unit tests of this crate.
#[cfg(test)]
pub(crate) mod shown {
    use super::{Instance, Node};

    pub(crate) fn node(name: &str) -> Node {
        format!("{name}:3306").parse().unwrap()
    }

    /// A healthy primary, or read-only replica, that was checked at 100 s.
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
