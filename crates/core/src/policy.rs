//! The policy: the operator's choices, as data. `docs/config.md` names the keys.

use std::collections::{BTreeMap, BTreeSet};

use crate::node::Node;
use crate::table::Hostgroup;

/// The downtimes that fence a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FenceOn {
    /// Every downtime.
    AnyDowntime,
    /// Only a recovery's mark.
    LostInRecovery,
}

/// The rows that go out of service without a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IsolationScope {
    /// Every managed row.
    All,
    /// Every row of each node that has a writer row.
    Writers,
    /// No row.
    Off,
}

/// The effect of transactions that a repaired node has and its primary lacks, on its return after a recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrantGtid {
    /// The node stays out until the transactions are gone.
    Hold,
    /// The node returns, and a condition reports the transactions.
    Warn,
}

/// The policy of one ProxySQL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Policy {
    /// The downtimes that fence a node.
    pub fence_on: FenceOn,
    /// The most nodes of a cluster that are fenced for a plain downtime. Half of the cluster is the other limit.
    pub max_downtime_fences: usize,
    /// The rows that an isolation takes out.
    pub isolation_scope: IsolationScope,
    /// The managed rows are soft and their sessions gone this long after the leader's last answer was asked for, in ms.
    pub isolation_after_ms: u64,
    /// The largest gap between two ticks, in ms.
    pub tick_ms: u64,
    /// Whether unusable answers isolate when the lease runs out (`on_blind = "isolate"`).
    pub blind_isolates: bool,
    /// Whether idle sessions that may hold a fenced node are ended if nothing shows which ones do.
    pub end_possible_holders: bool,
    /// Hostgroups that are never touched.
    pub excluded_hostgroups: BTreeSet<Hostgroup>,
    /// Hostgroups that take writes without being in a pair.
    pub writer_hostgroups: BTreeSet<Hostgroup>,
    /// The instance in Orchestrator of each row that has another name. A row that is named after itself is no other's.
    pub aliases: BTreeMap<Node, Node>,
    /// The effect of transactions that a returning node has and its primary lacks.
    pub errant_gtid: ErrantGtid,
    /// Whether fenced nodes are also fenced at the node itself. While some node is fenced, each tick then reads the history:
    /// a promotion that is not known yet must not be fenced.
    pub fences_at_node: bool,
}

impl Default for Policy {
    /// The defaults, for a daemon that ticks once a second.
    fn default() -> Self {
        Self {
            fence_on: FenceOn::AnyDowntime,
            max_downtime_fences: 2,
            isolation_scope: IsolationScope::All,
            isolation_after_ms: 10_000,
            tick_ms: 1_200,
            blind_isolates: false,
            end_possible_holders: true,
            excluded_hostgroups: BTreeSet::new(),
            writer_hostgroups: BTreeSet::new(),
            aliases: BTreeMap::new(),
            errant_gtid: ErrantGtid::Hold,
            fences_at_node: false,
        }
    }
}

/// The time that an apply may take, in ms. Measured: 15 ms (facts §1), with sessions up to 0.3 s (facts §4).
pub const APPLY_MS: u64 = 1_000;

/// The time that `PROXYSQL PAUSE` and the end of the sessions may take, in ms. Measured: 2.8 s (facts §6).
pub const PAUSE_MS: u64 = 3_000;

/// The longest raft election that must not isolate, in ms. Measured: 3.4 s (facts §9).
pub const ELECTION_MS: u64 = 5_000;

/// The time that a leader must be the same before its good news counts, if a majority names it, in ms (I8).
pub const STEADY_MAJORITY_MS: u64 = 2_000;

/// The same time if no majority can be asked, in ms (I8).
pub const STEADY_SINGLE_MS: u64 = 5_000;

/// The shortest time between the two proofs of a return, in ms (design §6).
pub const PROOF_GAP_MS: u64 = 2_000;

/// A recovery that a barrier was for counts as over this long after the mark began, if no record of its end is there,
/// in s. An aborted recovery never gets one (facts §10).
pub const BARRIER_LAST_S: i64 = 60;

/// The longest time between two reads of the recovery history, in ms.
pub const HISTORY_EVERY_MS: u64 = 30_000;

/// An agent that counts on another's lease says so again after this time, in ms.
pub const WANTED_EVERY_MS: u64 = 10_000;

/// A lease is dropped after this time without another agent that counts on it, in ms. Three times [`WANTED_EVERY_MS`].
pub const WANTED_FOR_MS: u64 = 30_000;

/// Orchestrator is asked again for its hooks after this time, in ms (facts §14).
pub const HOOKS_EVERY_MS: u64 = 600_000;

/// The same if nothing clear came back.
pub const HOOKS_AGAIN_MS: u64 = 60_000;

/// What the hooks do counts as a recovery's up to this time after the end of the recovery, in s.
pub const HOOKS_LAST_S: i64 = 60;

impl Policy {
    /// The shortest `isolation.after` that outlasts an election, in ms: election + 2 ticks + an apply (design §7).
    pub fn shortest_isolation_after_ms(tick_ms: u64) -> u64 {
        ELECTION_MS.saturating_add(tick_ms.saturating_mul(2)).saturating_add(APPLY_MS)
    }
}
