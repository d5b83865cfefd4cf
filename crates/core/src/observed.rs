//! What one tick saw: one ProxySQL, and Orchestrator's leader. Plain data; the clients fill it in.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::evidence::Level;
use crate::history::Progress;
use crate::node::Node;
use crate::policy::DOWNTIME_BEGIN_SLACK_S;
use crate::proof::Role;
use crate::row::{Hostgroup, Layer, Pair, Row};

/// Everything [`crate::decide::decide`] looks at besides policy, memory and the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// One ProxySQL.
    pub proxy: ProxyView,
    /// What came of asking Orchestrator.
    pub leader: LeaderView,
    /// What the operator ordered.
    pub orders: Orders,
}

/// One ProxySQL's server tables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProxyView {
    /// Rows in force, ghosts included.
    pub runtime: Vec<Row>,
    /// Rows being edited.
    pub memory: Vec<Row>,
    /// Rows that a restart loads.
    pub disk: Vec<Row>,
    /// `runtime_mysql_replication_hostgroups`.
    pub pairs: Vec<Pair>,
    /// Hostgroups of group replication, Galera and Aurora: never touched.
    pub foreign: BTreeSet<Hostgroup>,
    /// Connections in use per node, summed over managed hostgroups (`stats_mysql_connection_pool.ConnUsed`).
    pub conn_used: BTreeMap<Node, u64>,
    /// An apply was cut off here: its lock or journal is still in `main`.
    pub unfinished: bool,
    /// Nodes whose return is live and may not be in memory and on disk yet, by that journal: a marker there is a
    /// leftover, unless runtime has one too.
    pub returned: BTreeSet<Node>,
    /// What agents of this ProxySQL have let back since it started, by id: none of them fences it for that again.
    pub released: BTreeMap<Node, Release>,
    /// An agent of this ProxySQL answers for it towards one that does not reach the leader.
    pub lease: Option<SharedLease>,
    /// `runtime_proxysql_servers` has rows: a LOAD spreads to peers (FACTS §6).
    pub clustered: bool,
}

/// A lease that an agent left in ProxySQL for another agent of the same ProxySQL: see [`crate::lease`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SharedLease {
    /// Who has it.
    pub owner: String,
    /// That is us.
    pub ours: bool,
    /// How long it is good for, by ProxySQL's own clock, ms; 0 if it is over.
    pub left_ms: u64,
    /// Since when no other agent has said that it counts on it, ms.
    pub unwanted_ms: u64,
}

impl ProxyView {
    /// The rows of a layer.
    pub fn layer(&self, layer: Layer) -> &[Row] {
        match layer {
            Layer::Runtime => &self.runtime,
            Layer::Memory => &self.memory,
            Layer::Disk => &self.disk,
        }
    }
}

/// What came of asking Orchestrator in this tick.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LeaderView {
    /// A leader answered, and leader-check held before and after, on one connection (I8).
    Led(Answer),
    /// A majority of the raft nodes answered, and none names a leader: nobody can promote.
    Leaderless,
    /// They answer, but with something that can't be used: 401, a TLS error, garbage.
    Blind(String),
    /// Two endpoints both passed leader-check.
    Conflict(String),
    /// Nothing was heard that counts.
    Silent(String),
}

/// How many back the leader up (I8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Backing {
    /// A majority of the raft nodes name it.
    Majority,
    /// One endpoint is configured, or raft is off: steadiness stands in.
    Single,
    /// Not asked, or no majority: good for bad news only.
    Unconfirmed,
}

/// The verified leader's answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Answer {
    /// What names the leader from tick to tick.
    pub leader: String,
    /// When the first request was sent, ms of the agent's boot clock: the lease counts from here.
    pub asked_ms: u64,
    /// The leader's own time in s since 1970 (HTTP `Date`).
    pub date_s: i64,
    /// Who else says so.
    pub backing: Backing,
    /// `/api/downtimed`, all.
    pub downtimes: Vec<Downtime>,
    /// `/api/audit-recovery`, as far as it was read, if asked.
    pub history: Option<RecoveryHistory>,
    /// `/api/all-instances`, if asked.
    pub instances: Option<Vec<Instance>>,
    /// Instances, marks and records that could not be read. They are left out of the lists above, and nothing else is.
    pub skipped: Vec<Skipped>,
}

/// What was read of the recovery history in one tick.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RecoveryHistory {
    /// The records, in any order.
    pub records: Vec<Recovery>,
    /// How far the history is known with them.
    pub progress: Progress,
}

impl RecoveryHistory {
    /// A history that was read to its end.
    pub fn whole(leader: &str, records: Vec<Recovery>) -> Self {
        let known_ns = records.iter().map(|record| record.at_ns).max().unwrap_or(0);
        Self { progress: Progress { leader: leader.to_owned(), known_ns, under_way: None }, records }
    }

    /// Whether no record up to now is missing.
    pub fn is_whole(&self) -> bool {
        self.progress.under_way.is_none()
    }
}

/// One instance, mark or record of Orchestrator's that does not parse: it is skipped, and a node of ours that it
/// concerns is held.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Skipped {
    /// Of which list.
    pub part: Part,
    /// The nodes that it concerns, as far as that can be read.
    pub nodes: BTreeSet<Node>,
    /// What could not be read, and why: one bounded line.
    pub what: String,
}

/// A part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// The marks: who is downtimed.
    Marks,
    /// The instances.
    Instances,
    /// The recovery history.
    History,
    /// A whole side question, which was not answered or can't be used.
    Question,
}

/// The reason that Orchestrator gives the downtime it sets itself at the end of a recovery (FACTS §8).
pub const LOST_IN_RECOVERY: &str = "lost-in-recovery";

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

/// What kind of failure a recovery was for; only those of a primary supersede (DESIGN §5).
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
