//! The result of asking Orchestrator's leader: its answer, or the reason why there is none.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::node::Node;
use crate::orchestrator::{BlindCause, ConflictCause, Downtime, Instance, RecoveryHistory, SilentCause};

/// The result of asking Orchestrator in one tick. Design §7 has what each means for the lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LeaderView {
    /// A leader answered. The leader check held before and after the answer, on one connection (I8).
    Led(Answer),
    /// Nobody can promote: a majority of the raft nodes names no leader, or without raft no node is active.
    Leaderless,
    /// Answers came that cannot be used: 401, a TLS error, garbage.
    Blind(BlindCause),
    /// More than one node leads, by its own word or by the majority's.
    Conflict(ConflictCause),
    /// No answer counts.
    Silent(SilentCause),
}

/// The support for the leader among Orchestrator's nodes (I8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Backing {
    /// A majority of the raft nodes names it.
    Majority,
    /// No majority can be asked: raft is off, or too few endpoints are configured. A longer steady time stands in.
    Single,
    /// No majority names it, or nobody was asked. Only its bad news counts.
    Unconfirmed,
}

impl Backing {
    /// Every support.
    pub const ALL: [Self; 3] = [Self::Majority, Self::Single, Self::Unconfirmed];

    /// A stable name for programs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Majority => "majority",
            Self::Single => "single",
            Self::Unconfirmed => "unconfirmed",
        }
    }
}

/// The verified leader's answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Answer {
    /// The leader's name, the same from tick to tick.
    pub leader: String,
    /// The time of the first request, in ms of the agent's boot clock. The lease counts from here.
    pub asked_ms: u64,
    /// The leader's own time, in s since 1970 (HTTP `Date`).
    pub date_s: i64,
    /// The support for this leader among Orchestrator's nodes.
    pub backing: Backing,
    /// All of `/api/downtimed`.
    pub downtimes: Vec<Downtime>,
    /// `/api/audit-recovery` as far as it was read; `None` if this tick did not ask.
    pub history: Option<RecoveryHistory>,
    /// `/api/all-instances`; `None` if this tick did not ask.
    pub instances: Option<Vec<Instance>>,
    /// What its build says of its own ProxySQL hooks; `None` if this tick did not ask.
    pub hooks: Option<ProxyHooks>,
    /// The entries that could not be read. Only they are missing in the lists above.
    pub skipped: Vec<SkippedEntry>,
}

/// The hooks of the ProxySQL fork's Orchestrator, which change ProxySQL at a failover (facts §14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyHooks {
    /// They change ProxySQL.
    On,
    /// The build has them, and they are not configured.
    Off,
    /// The build has none.
    Absent,
    /// Something else answered, or nothing.
    Unclear,
}

/// An instance, downtime or record that does not parse. It is skipped, and a served node that it names is held.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SkippedEntry {
    /// The part of the answer that has the entry.
    pub part: AnswerPart,
    /// The nodes that the entry names, as far as they can be read.
    pub nodes: BTreeSet<Node>,
    /// The entry and its error, in one bounded line.
    pub what: String,
}

/// A part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AnswerPart {
    /// The downtimes.
    Marks,
    /// The instances.
    Instances,
    /// The recovery history.
    History,
    /// A whole request besides these, which got no usable answer.
    Question,
}
