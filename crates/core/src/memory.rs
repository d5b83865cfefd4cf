//! The agent's memory: kept from tick to tick, and over a restart in the state file.
//!
//! **Invariant:** losing it is safe, since fences live in ProxySQL's own rows. It tells an armed agent from an unarmed
//! one, and keeps records that Orchestrator purges.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::evidence::{Evidence, EvidenceKind};
use crate::node::Node;
use crate::orchestrator::{Addresses, Downtime, HistoryProgress, Identity, ProxyHooks, Recovery};
use crate::orders::Release;
use crate::shared::Shared;
use crate::table::Hostgroup;

/// The most records that are kept. The oldest are dropped first. A served node needs at most two.
pub const RECORDS_MAX: usize = 1_000;

/// One agent's memory of one ProxySQL. A rule takes the part that it may change.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// The boot of the host that the `_ms` values below belong to.
    pub boot_id: String,
    /// The leader's time when this agent's unbroken watch began, in s since 1970; `None` until a leader has answered.
    /// Older evidence needs live proof before it fences (design §5).
    pub watching_since_s: Option<i64>,
    /// The lease, arming and isolation.
    pub lease: LeaseMemory,
    /// The recovery history as far as it was read.
    pub history: HistoryMemory,
    /// The known nodes, and the evidence against them.
    pub nodes: NodeMemory,
    /// The rows as they were before Orchestrator's hooks changed them.
    pub hooks: HookMemory,
}

/// The lease, arming and isolation. Only [`crate::lease`] and the arming rule change it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeaseMemory {
    /// Whether isolation is armed.
    pub armed: bool,
    /// Whether the agent isolates. Only a confirmed leader renews the lease then.
    pub isolated: bool,
    /// Whether isolation markers may be this agent's own: it has isolated since the rows last had none.
    pub marked_isolated: bool,
    /// The first of the ticks in a row without an answer that counts, in ms.
    pub silent_ms: Option<u64>,
    /// The request of the last verified answer that renewed the lease, in ms.
    pub asked_ms: Option<u64>,
    /// The start of this loop, in ms; 0 after a host boot, so that isolation starts at once.
    pub started_ms: u64,
    /// The last tick, in ms.
    pub last_tick_ms: u64,
    /// The last tick whose answer held isolation back (leaderless, blind, conflict, or an unconfirmed leader that a
    /// majority names), in ms. Silence counts from there.
    pub held_ms: Option<u64>,
    /// The leader of the last tick.
    pub leader: Option<SteadyLeader>,
}

/// The recovery history as far as it was read. Only an answer changes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HistoryMemory {
    /// The last time it was asked for, in ms; `None` asks for it in the next tick.
    pub asked_ms: Option<u64>,
    /// How far the history is known, and from which leader.
    pub progress: HistoryProgress,
    /// The downtimes at that time. A change asks for the history again.
    pub downtimes: BTreeMap<Node, Downtime>,
    /// Nodes that an unreadable record names, and a description of the record, as of the last time.
    pub unreadable: BTreeMap<Node, String>,
    /// Superseding records of served nodes, by UID.
    pub records: Shared<BTreeMap<String, Recovery>>,
    /// Per failed primary, the newest recovery that promoted nobody, in ns since 1970.
    pub promoted_nobody: BTreeMap<Node, u64>,
}

/// The known nodes, and the evidence against them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeMemory {
    /// The last time that instances were asked for, in ms.
    pub instances_asked_ms: Option<u64>,
    /// Served nodes that Orchestrator knows or knew.
    pub known: Shared<BTreeSet<Node>>,
    /// The servers that have several names.
    pub identity: Shared<Identity>,
    /// The addresses of hosts that ProxySQL's rows or Orchestrator name.
    pub addresses: Addresses,
    /// The cluster in which each served node was last seen with others. A cluster is named by one of its nodes, and
    /// keeps the name while its members change.
    pub cluster: Shared<BTreeMap<Node, Node>>,
    /// Per node, the time in s of old evidence that the live view contradicted. It never fences by itself again.
    pub contradicted: BTreeMap<Node, i64>,
    /// The evidence that fences each node, until it is discharged.
    pub evidence: BTreeMap<Node, BTreeMap<EvidenceKind, Evidence>>,
    /// The evidence that proofs, and orders of other agents, have discharged.
    pub released: BTreeMap<Node, Release>,
    /// Proofs that were seen once.
    pub proofs: BTreeMap<Node, FirstProof>,
    /// Nodes that the leader has seen up ever since evidence against them arose, as in a planned takeover.
    pub up_throughout: BTreeSet<Node>,
    /// Second writers, with the leader's time in s when both writers were first seen ONLINE.
    pub second_writers: BTreeMap<Node, i64>,
}

/// What is known of Orchestrator's own ProxySQL hooks, and the rows of each pair as they were before the hooks changed
/// them (facts §14). Rows are viewed only while the hooks are on, and only in ticks in which a leader answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HookMemory {
    /// The leader that was asked last, and when, in ms.
    pub asked: Option<(String, u64)>,
    /// The last clear answer, and the leader that gave it.
    pub said: Option<(String, ProxyHooks)>,
    /// The leader's time of the last view, in s. Views only tell apart what lies before and after them.
    pub viewed_s: Option<i64>,
    /// The view of each node by the writer hostgroup of its pair.
    pub views: BTreeMap<Hostgroup, BTreeMap<Node, PairView>>,
}

/// A node in one pair, as the last views showed it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PairView {
    /// When it went out of service otherwise than by this program; `None` while it is in service or fenced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<Seen>,
    /// Its hostgroups with an OFFLINE_SOFT row that has no marker, in any layer, and since when.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub soft: BTreeMap<Hostgroup, Seen>,
    /// Its rows that are not at the defaults, as they were last.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub kept: BTreeMap<Hostgroup, KeptRow>,
    /// The last recovery whose reset was undone, in ns since 1970.
    #[serde(skip_serializing_if = "is_zero")]
    pub restored_ns: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A change between two views, by the leader's clock in s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Seen {
    /// The last view without it; `None` if there was none.
    pub after_s: Option<i64>,
    /// The first view with it.
    pub by_s: i64,
}

/// A row's columns, for when they are reset.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeptRow {
    /// The operator's part of the comment.
    pub comment: String,
    /// The other columns (weight, max_connections, ...), by name.
    pub settings: Shared<BTreeMap<String, String>>,
    /// When the row was reset or went; `None` while it is as kept here.
    pub gone: Option<Seen>,
}

/// A leader that has been the same for some time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SteadyLeader {
    /// The leader's name, as in [`crate::orchestrator::Answer::leader`].
    pub name: String,
    /// The first tick in a row with this leader, in ms.
    pub since_ms: u64,
}

/// The first of two proofs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FirstProof {
    /// The proven role.
    pub role: crate::role::Role,
    /// The tick of the proof, in ms.
    pub at_ms: u64,
}

impl Memory {
    /// The memory of an agent that starts for the first time.
    pub fn first_start(boot_id: &str, now_ms: u64) -> Self {
        let lease = LeaseMemory { started_ms: now_ms, last_tick_ms: now_ms, ..LeaseMemory::default() };
        Self { boot_id: boot_id.to_owned(), lease, ..Self::default() }
    }

    /// Takes up a memory that an earlier tick kept. A pause of up to `gap_ms` since that tick does not break the watch.
    /// After a boot of the host there is no lease, and isolation starts at once. After any longer pause it starts one
    /// `isolation.after` later (design §7).
    pub fn resume(mut self, boot_id: &str, now_ms: u64, gap_ms: u64) -> Self {
        let lease = &self.lease;
        if self.boot_id != boot_id {
            self.boot_id = boot_id.to_owned();
            self.forget_times();
            self.watching_since_s = None;
            self.lease.started_ms = 0;
        } else if lease.last_tick_ms > now_ms || lease.asked_ms.is_some_and(|asked| asked > now_ms) {
            // A time from the future is no lease (design §7).
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

    /// The part that has to outlive a crash of the host: all but the times of its boot clock, which change with each
    /// tick and mean nothing after a boot.
    pub fn without_times(&self) -> Self {
        self.clone().with_times(&Self::default())
    }

    /// The times alone, with their boot.
    pub fn times(&self) -> Self {
        Self { boot_id: self.boot_id.clone(), ..Self::default() }.with_times(self)
    }

    /// The same memory with the times of another one.
    pub fn with_times(mut self, of: &Self) -> Self {
        let LeaseMemory { started_ms, last_tick_ms, asked_ms, held_ms, silent_ms, leader, .. } = of.lease.clone();
        self.lease = LeaseMemory { started_ms, last_tick_ms, asked_ms, held_ms, silent_ms, leader, ..self.lease };
        self.history.asked_ms = of.history.asked_ms;
        (self.hooks.asked, self.hooks.viewed_s) = (of.hooks.asked.clone(), of.hooks.viewed_s);
        self.nodes.instances_asked_ms = of.nodes.instances_asked_ms;
        self.nodes.proofs.clone_from(&of.nodes.proofs);
        self
    }

    fn forget_times(&mut self) {
        let LeaseMemory { asked_ms, held_ms, silent_ms, leader, .. } = &mut self.lease;
        (*asked_ms, *held_ms, *silent_ms, *leader) = (None, None, None, None);
        self.history.asked_ms = None;
        self.hooks.asked = None;
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
    fn a_memory_is_its_lasting_part_and_its_times() {
        let mut memory = Memory::first_start("boot", 5_000);
        memory.watching_since_s = Some(1);
        memory.lease.armed = true;
        (memory.lease.asked_ms, memory.lease.held_ms, memory.lease.silent_ms) = (Some(6), Some(7), Some(8));
        memory.lease.leader = Some(SteadyLeader { name: "orc1".to_owned(), since_ms: 9 });
        (memory.history.asked_ms, memory.nodes.instances_asked_ms) = (Some(10), Some(11));
        (memory.hooks.asked, memory.hooks.viewed_s) = (Some(("orc1".to_owned(), 12)), Some(13));
        let node: Node = "node01:3306".parse().unwrap();
        memory.nodes.known.insert(node.clone());
        memory.nodes.proofs.insert(node, FirstProof { role: crate::role::Role::Replica, at_ms: 14 });
        let (lasting, times) = (memory.without_times(), memory.times());
        assert_eq!(lasting.without_times(), lasting);
        assert_eq!((lasting.lease.asked_ms, times.lease.armed, times.nodes.known.len()), (None, false, 0));
        assert_eq!(lasting.with_times(&times), memory);
    }

    #[test]
    fn a_lease_of_this_very_moment_is_none_from_the_future() {
        let mut kept = Memory::first_start("boot", 5_000);
        kept.lease.asked_ms = Some(5_000);
        assert_eq!(kept.clone().resume("boot", 5_000, 1_000).lease.asked_ms, Some(5_000));
        assert_eq!(kept.resume("boot", 4_999, 1_000).lease.asked_ms, None);
    }
}
