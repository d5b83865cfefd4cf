//! The observations of one tick: one ProxySQL, and Orchestrator's leader. Plain data that the clients fill in.

use std::collections::{BTreeMap, BTreeSet};

use crate::node::Node;
use crate::orchestrator::{Addresses, LeaderView};
use crate::orders::{Orders, Release};
use crate::shared::Shared;
use crate::table::{Hostgroup, Layer, Pair, Row};

/// The input of [`crate::decide::decide`] besides policy, memory and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// One ProxySQL.
    pub proxy: ProxyView,
    /// The result of asking Orchestrator.
    pub leader: LeaderView,
    /// The operators' orders.
    pub orders: Orders,
    /// The addresses of hosts that ProxySQL's rows or Orchestrator name. A missing host keeps its addresses.
    pub addresses: Addresses,
}

/// One ProxySQL's server tables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProxyView {
    /// The rows in force, ghosts included (`runtime_mysql_servers`).
    pub runtime: Shared<Vec<Row>>,
    /// The rows that operators edit (`main.mysql_servers`).
    pub memory: Shared<Vec<Row>>,
    /// The rows that a restart loads (`disk.mysql_servers`).
    pub disk: Shared<Vec<Row>>,
    /// `runtime_mysql_replication_hostgroups`.
    pub pairs: Vec<Pair>,
    /// Hostgroups of group replication, Galera, Aurora and RDS blue/green, which are never touched.
    pub foreign: BTreeSet<Hostgroup>,
    /// Connections in use per node, summed over managed hostgroups (`stats_mysql_connection_pool.ConnUsed`).
    pub conn_used: BTreeMap<Node, u64>,
    /// An apply was cut off: its lock or journal is still in `main`.
    pub unfinished: bool,
    /// Nodes in the journal of returns. Their return is live, unless runtime has a marker, and a marker in memory or on
    /// disk is a leftover.
    pub returned: BTreeSet<Node>,
    /// The releases by agents of this ProxySQL since it started. No agent fences for released evidence.
    pub released: BTreeMap<Node, Release>,
    /// The lease that an agent shares through this ProxySQL.
    pub lease: Option<SharedLease>,
    /// `runtime_proxysql_servers` names another ProxySQL, so a LOAD may spread to peers, or come from one (facts §6).
    pub clustered: bool,
    /// Whether it takes clients. Read only in a ProxySQL Cluster, or if there is a note of a pause.
    pub pause: PauseSeen,
}

/// `PROXYSQL PAUSE`, as far as ProxySQL shows it (facts §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PauseSeen {
    /// ProxySQL says that it is paused. Before 2.6 it does not say so.
    pub paused: bool,
    /// Agents noted that they pause it. A pause without a note is an operator's.
    pub noted: bool,
    /// Client sessions that are left while it is paused.
    pub clients: u64,
}

/// A lease that an agent left in ProxySQL for the other agents of this ProxySQL (see [`crate::lease`]).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SharedLease {
    /// The agent that has the lease.
    pub owner: String,
    /// Whether this agent is the owner.
    pub ours: bool,
    /// The time that it is still valid for, in ms of ProxySQL's clock; 0 if it is over.
    pub left_ms: u64,
    /// The time since another agent last said that it counts on the lease, in ms.
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
