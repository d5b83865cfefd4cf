//! What one tick saw: one ProxySQL, and Orchestrator's leader. Plain data; the clients fill it in.

use std::collections::{BTreeMap, BTreeSet};

use crate::node::Node;
use crate::orchestrator::LeaderView;
use crate::orders::{Orders, Release};
use crate::table::{Hostgroup, Layer, Pair, Row};

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
    /// `runtime_proxysql_servers` has rows: a LOAD spreads to peers (facts §6).
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
