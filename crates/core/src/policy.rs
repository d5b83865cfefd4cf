//! What the operator chose, as data.

use std::collections::BTreeSet;

use crate::table::Hostgroup;

/// Which downtimes fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FenceOn {
    /// Every downtime, as in the article of 2019.
    AnyDowntime,
    /// Only what a recovery left behind.
    LostInRecovery,
}

/// What goes out of service without a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IsolationScope {
    /// Every node.
    All,
    /// Every row of each node that has a writer row.
    Writers,
    /// Nothing.
    Off,
}

/// What transactions that a repaired node has and its primary lacks mean for its return after a recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrantGtid {
    /// The node stays out until they are gone.
    Hold,
    /// The node returns, and they are said.
    Warn,
}

/// The policy of one ProxySQL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Which downtimes fence.
    pub fence_on: FenceOn,
    /// At most so many nodes of a cluster are fenced for plain downtime, and at most half of it.
    pub max_downtime_fences: usize,
    /// What isolation takes out.
    pub isolation_scope: IsolationScope,
    /// By ask + this, rows are soft and sessions gone, in ms.
    pub isolation_after_ms: u64,
    /// The largest gap between two ticks, in ms.
    pub tick_ms: u64,
    /// Whether unreadable answers isolate when the lease runs out (`on_blind = "isolate"`).
    pub blind_isolates: bool,
    /// Idle sessions that may hold a fenced node are ended where it can't be told which ones do.
    pub end_possible_holders: bool,
    /// Hostgroups that are never touched.
    pub excluded_hostgroups: BTreeSet<Hostgroup>,
    /// Hostgroups that take writes without being in a pair.
    pub writer_hostgroups: BTreeSet<Hostgroup>,
    /// Whether transactions that only the old primary has keep it out.
    pub errant_gtid: ErrantGtid,
}

impl Default for Policy {
    /// What holds where nobody chose: a daemon that ticks once a second.
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
            errant_gtid: ErrantGtid::Hold,
        }
    }
}

/// What an apply may take, in ms: measured at 15 ms (facts §1), with sessions up to 0.3 s (facts §4).
pub const APPLY_MS: u64 = 1_000;

/// The longest raft election that must not count as a loss, in ms: 3.4 s was measured (facts §9).
pub const ELECTION_MS: u64 = 5_000;

/// How long the same leader must be seen before good news counts, in ms (I8).
pub const STEADY_MAJORITY_MS: u64 = 2_000;

/// The same where one endpoint must stand for all, in ms (I8).
pub const STEADY_SINGLE_MS: u64 = 5_000;

/// Two proofs must lie at least so far apart, in ms (design §6).
pub const PROOF_GAP_MS: u64 = 2_000;

/// The history is asked again after this, in ms, even if nothing changed.
pub const HISTORY_EVERY_MS: u64 = 30_000;

/// An agent that counts on another's lease says so again after this, in ms.
pub const WANTED_EVERY_MS: u64 = 10_000;

/// A lease that no other agent has counted on for so long is not shared any more, in ms: three times that.
pub const WANTED_FOR_MS: u64 = 30_000;

impl Policy {
    /// The shortest `isolation.after` that no election can reach: election + 2 ticks + an apply (design §7).
    pub fn shortest_isolation_after_ms(tick_ms: u64) -> u64 {
        ELECTION_MS.saturating_add(tick_ms.saturating_mul(2)).saturating_add(APPLY_MS)
    }
}
