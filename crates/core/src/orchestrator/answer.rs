//! What came of asking Orchestrator's leader: its answer, or the reason why there is none.

use std::collections::BTreeSet;

use crate::node::Node;
use crate::orchestrator::{BlindCause, ConflictCause, Downtime, Instance, RecoveryHistory, SilentCause};

/// What came of asking Orchestrator in this tick.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LeaderView {
    /// A leader answered, and leader-check held before and after, on one connection (I8).
    Led(Answer),
    /// A majority of the raft nodes answered, and none names a leader: nobody can promote.
    Leaderless,
    /// They answer, but with something that can't be used: 401, a TLS error, garbage.
    Blind(BlindCause),
    /// More than one leads, by their own word or by the majority's.
    Conflict(ConflictCause),
    /// Nothing was heard that counts.
    Silent(SilentCause),
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
    pub skipped: Vec<SkippedEntry>,
}

/// One instance, mark or record of Orchestrator's that does not parse: it is skipped, and a node of ours that it
/// concerns is held.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SkippedEntry {
    /// Of which list.
    pub part: AnswerPart,
    /// The nodes that it concerns, as far as that can be read.
    pub nodes: BTreeSet<Node>,
    /// What could not be read, and why: one bounded line.
    pub what: String,
}

/// A part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AnswerPart {
    /// The marks: who is downtimed.
    Marks,
    /// The instances.
    Instances,
    /// The recovery history.
    History,
    /// A whole side question, which was not answered or can't be used.
    Question,
}
