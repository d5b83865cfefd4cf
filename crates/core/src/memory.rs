//! What is kept from tick to tick, and over a restart in the state file.
//!
//! Losing it is safe: fences live as markers in ProxySQL's own tables. It makes the difference between "never
//! armed" and "armed", and keeps records that Orchestrator purges.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::evidence::{Evidence, EvidenceKind};
use crate::node::Node;
use crate::orchestrator::{Downtime, HistoryProgress, Identity, Recovery};
use crate::orders::Release;

/// The most records kept; the oldest go first. A served node needs at most two.
pub const RECORDS_MAX: usize = 1_000;

/// One agent's memory of one ProxySQL, in the parts that rules may change.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// The boot that the `_ms` values below belong to.
    pub boot_id: String,
    /// The leader's clock when this agent's unbroken watch began, s since 1970; `None` until a leader has answered. What is
    /// older, records, marks and what was kept, needs live proof before it fences: nodes may have been switched by hand
    /// while nobody watched.
    pub watching_since_s: Option<i64>,
    /// The lease, arming and isolation.
    pub lease: LeaseMemory,
    /// What was read of the recovery history.
    pub history: HistoryMemory,
    /// What is known of nodes, and what speaks against them.
    pub nodes: NodeMemory,
}

/// The lease, arming and isolation. [`crate::lease`] changes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeaseMemory {
    /// Whether isolation is armed.
    pub armed: bool,
    /// Whether the lease was lost: renewing it takes a confirmed leader.
    pub isolated: bool,
    /// Isolation markers may be our own: we were isolated since the rows last had none.
    pub marked_isolated: bool,
    /// Since when nothing that counts was heard, ms.
    pub silent_ms: Option<u64>,
    /// When the last verified answer was asked for, ms.
    pub asked_ms: Option<u64>,
    /// Since when this loop runs, ms; 0 after a host boot, so that isolation starts at once.
    pub started_ms: u64,
    /// The last tick, ms.
    pub last_tick_ms: u64,
    /// The last tick without a lease that was held all the same (leaderless, blind, conflict, a leader that a
    /// majority names and that is not steady yet), ms: silence counts from there.
    pub held_ms: Option<u64>,
    /// The leader, and since when it has been the same.
    pub leader: Option<SteadyLeader>,
}

/// What was read of the recovery history. Only an answer changes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HistoryMemory {
    /// When it was last asked for, ms; `None` asks for it in the next tick.
    pub asked_ms: Option<u64>,
    /// How far it is known, and of which leader.
    pub progress: HistoryProgress,
    /// Who was downtimed then: a change asks for the history again.
    pub downtimes: BTreeMap<Node, Downtime>,
    /// Nodes that a record names which can't be read, and what it is, as of when the history was last asked for.
    pub unreadable: BTreeMap<Node, String>,
    /// Superseding records of served nodes, by UID.
    pub records: BTreeMap<String, Recovery>,
    /// Recoveries of a dead primary that promoted nobody, per node the newest's nanoseconds.
    pub promoted_nobody: BTreeMap<Node, u64>,
}

/// What is known of nodes, and what speaks against them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeMemory {
    /// When instances were last asked for, ms.
    pub instances_asked_ms: Option<u64>,
    /// Nodes that Orchestrator knows or knew.
    pub known: BTreeSet<Node>,
    /// The names of servers that have several.
    pub identity: Identity,
    /// The cluster in which each served node was last seen with others, by a name that outlives its changes.
    pub cluster: BTreeMap<Node, Node>,
    /// Old evidence that the live view contradicted, per node, by its time, s: it never fences by itself again.
    pub contradicted: BTreeMap<Node, i64>,
    /// What fences each node, until it is discharged.
    pub evidence: BTreeMap<Node, BTreeMap<EvidenceKind, Evidence>>,
    /// What was discharged, by proof or by order.
    pub released: BTreeMap<Node, Release>,
    /// Proofs seen once, waiting for the second.
    pub proofs: BTreeMap<Node, FirstProof>,
    /// Nodes that the leader saw up ever since evidence of a recovery arose: a planned takeover's.
    pub up_throughout: BTreeSet<Node>,
    /// Second writers, and the leader's time when both were first seen ONLINE, s.
    pub second_writers: BTreeMap<Node, i64>,
}

/// The same leader since when.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SteadyLeader {
    /// Its name.
    pub name: String,
    /// Since, ms.
    pub since_ms: u64,
}

/// The first of two proofs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FirstProof {
    /// As what.
    pub role: crate::role::Role,
    /// When, ms.
    pub at_ms: u64,
}

impl Memory {
    /// The memory of an agent that starts for the first time.
    pub fn first_start(boot_id: &str, now_ms: u64) -> Self {
        let lease = LeaseMemory { started_ms: now_ms, last_tick_ms: now_ms, ..LeaseMemory::default() };
        Self { boot_id: boot_id.to_owned(), lease, ..Self::default() }
    }

    /// Takes up a memory that was kept: by a process that begins (`gap_ms`: how long a pause between ticks still
    /// counts as running on). After a host boot there is no lease, and isolation starts at once; after a mere
    /// restart it starts one `isolation.after` later (design §7).
    pub fn resume(mut self, boot_id: &str, now_ms: u64, gap_ms: u64) -> Self {
        let lease = &self.lease;
        if self.boot_id != boot_id {
            self.boot_id = boot_id.to_owned();
            self.forget_times();
            self.watching_since_s = None;
            self.lease.started_ms = 0;
        } else if lease.last_tick_ms > now_ms || lease.asked_ms.is_some_and(|asked| asked > now_ms) {
            // A time from the future can't be trusted: no lease.
            self.forget_times();
            self.watching_since_s = None;
            self.lease.started_ms = now_ms;
        } else if now_ms - lease.last_tick_ms > gap_ms {
            self.watching_since_s = None;
            self.lease.started_ms = now_ms;
            self.lease.leader = None;
            self.nodes.proofs.clear();
        }
        self.lease.last_tick_ms = now_ms;
        self
    }

    /// What has to outlive a crash of the host: all but the times of its boot clock, which change with each tick and
    /// mean nothing after it.
    pub fn without_times(&self) -> Self {
        let mut lasting = self.clone();
        (lasting.lease.started_ms, lasting.lease.last_tick_ms) = (0, 0);
        lasting.forget_times();
        lasting
    }

    fn forget_times(&mut self) {
        let LeaseMemory { asked_ms, held_ms, silent_ms, leader, .. } = &mut self.lease;
        (*asked_ms, *held_ms, *silent_ms, *leader) = (None, None, None, None);
        self.history.asked_ms = None;
        self.nodes.instances_asked_ms = None;
        self.nodes.proofs.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_start_counts_from_now() {
        let memory = Memory::first_start("boot", 5_000);
        let LeaseMemory { started_ms, last_tick_ms, .. } = memory.lease;
        assert_eq!((memory.watching_since_s, started_ms, last_tick_ms), (None, 5_000, 5_000));
    }

    #[test]
    fn a_lease_of_this_very_moment_is_none_from_the_future() {
        let mut kept = Memory::first_start("boot", 5_000);
        kept.lease.asked_ms = Some(5_000);
        assert_eq!(kept.clone().resume("boot", 5_000, 1_000).lease.asked_ms, Some(5_000));
        assert_eq!(kept.resume("boot", 4_999, 1_000).lease.asked_ms, None);
    }
}
