//! The verdict on a node, as data and in words.

use std::fmt;

use crate::decide::{Guard, ProofGap, ProofGaps};
use crate::evidence::{Evidence, Level};
use crate::orchestrator::UnsureName;
use crate::role::Role;

/// The verdict on a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Nothing counts against the node. Its rows stay as they are.
    Keep,
    /// The node goes out of service or stays out.
    Fence {
        /// How far the fence goes.
        level: Level,
        /// Highest rank first. Never empty.
        evidence: Vec<Evidence>,
        /// The obstacle to the node's return.
        blocker: ReturnBlocker,
    },
    /// The node's rows stay as they are, though something is unclear or speaks against it.
    Hold(HoldReason),
    /// The node goes back into service.
    Unfence {
        /// The role in which it goes back.
        role: Role,
        /// The evidence that has ended.
        evidence: Vec<Evidence>,
    },
    /// The node is not judged.
    Ignore(HoldReason),
}

/// The obstacle to a fenced node's return.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReturnBlocker {
    /// The leader is not confirmed (I8).
    ConfirmedLeader,
    /// There is no lease.
    Lease,
    /// The node lacks the proof, or the role, for a return.
    Proof(ProofGaps),
    /// Orchestrator's instances were not read in this tick.
    Instances,
    /// The recovery history was not read up to this tick. A missing record may speak against the node.
    History,
    /// An entry of Orchestrator's answer that names the node cannot be read.
    Unreadable(String),
    /// The node's instance in Orchestrator is not known for sure.
    UnsureName(UnsureName),
    /// The proof was seen once. It must be seen again, at least 2 s later.
    SecondProof(Role),
    /// The downtime in Orchestrator has not ended.
    DowntimeEnd,
    /// Orchestrator's recovery, which a barrier was for, may not be over.
    Recovery,
    /// Only an operator's `unfence` lets the node back.
    Operator,
}

impl Verdict {
    /// A stable name for programs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Fence { .. } => "fence",
            Self::Hold(_) => "hold",
            Self::Unfence { .. } => "unfence",
            Self::Ignore(_) => "ignore",
        }
    }
}

impl ReturnBlocker {
    /// A stable name for programs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::ConfirmedLeader => "confirmed-leader",
            Self::Lease => "lease",
            Self::Proof(gaps) => gaps.first().map_or("proof", ProofGap::label),
            Self::Instances => "instances",
            Self::History => "history",
            Self::Unreadable(_) => "unreadable",
            Self::UnsureName(_) => "unsure-name",
            Self::SecondProof(_) => "second-proof",
            Self::DowntimeEnd => "downtime-end",
            Self::Recovery => "recovery",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for ReturnBlocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfirmedLeader => write!(f, "Orchestrator's leader is not confirmed yet"),
            Self::Lease => write!(f, "there is no lease: Orchestrator's leader must be reached"),
            Self::Proof(gaps) => f.write_str(&gaps.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
            Self::Instances => write!(f, "Orchestrator's list of instances was not read in this tick"),
            Self::History => write!(f, "Orchestrator's recovery history is not read up to this tick yet"),
            Self::Unreadable(what) => {
                write!(f, "an entry of Orchestrator's answer that names it cannot be read: {what}")
            }
            Self::UnsureName(unsure) => write!(f, "{unsure}"),
            Self::SecondProof(role) => write!(f, "it was seen once as {role} and must be seen again"),
            Self::DowntimeEnd => write!(f, "its downtime in Orchestrator must end"),
            Self::Recovery => write!(f, "Orchestrator's recovery, which the fence was for, may not be over yet"),
            Self::Operator => write!(f, "an operator must `unfence` it"),
        }
    }
}

/// The reason why a node's rows stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HoldReason {
    /// An operator suspended this ProxySQL, for this reason.
    Suspended(String),
    /// Orchestrator never listed the node under this name.
    NotKnown,
    /// A row has a status that is not one of ProxySQL's four.
    UnknownStatus(String),
    /// A row has a marker that this version cannot read.
    UnreadableMarker,
    /// The evidence is from before the watch, and the node is not proven bad.
    OldEvidence(Evidence),
    /// The evidence is from before the watch, and running replicas follow the node.
    Contradicted(Evidence),
    /// An entry of Orchestrator's answer that names the node cannot be read.
    Unreadable(String),
    /// The node's instance in Orchestrator is not known for sure.
    UnsureName(UnsureName),
    /// A guard forbids the fence for a plain downtime.
    Guarded(Guard),
}

impl HoldReason {
    /// A stable name for programs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Suspended(_) => "suspended",
            Self::NotKnown => "not-known",
            Self::UnknownStatus(_) => "unknown-status",
            Self::UnreadableMarker => "unreadable-marker",
            Self::OldEvidence(_) => "old-evidence",
            Self::Contradicted(_) => "contradicted",
            Self::Unreadable(_) => "unreadable",
            Self::UnsureName(_) => "unsure-name",
            Self::Guarded(_) => "guarded",
        }
    }
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Suspended(reason) => write!(f, "suspended: {reason}"),
            Self::NotKnown => write!(f, "Orchestrator does not list it under this name"),
            Self::UnknownStatus(status) => {
                write!(f, "a row has the status {status:?}, which this version does not know")
            }
            Self::UnreadableMarker => {
                write!(f, "a row's comment has a [stonith:...] marker that this version cannot read")
            }
            Self::OldEvidence(evidence) => {
                write!(f, "{evidence} is from before this agent's watch, and nothing shows that the node is not well")
            }
            Self::Unreadable(what) => write!(f, "{what}"),
            Self::UnsureName(unsure) => write!(f, "{unsure}"),
            Self::Contradicted(evidence) => write!(
                f,
                "{evidence} is from before this agent's watch, but the node takes writes and has running replicas: \
                 `unfence` it if it is the primary, `fence` it if it is not"
            ),
            Self::Guarded(guard) => write!(f, "its downtime does not fence it: {guard}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::ProofGap;

    #[test]
    fn what_keeps_a_node_out_or_holds_it_is_said_in_words() {
        for (blocker, words) in [
            (ReturnBlocker::ConfirmedLeader, "confirmed"),
            (
                ReturnBlocker::Proof(vec![ProofGap::NotReplicating(String::new()), ProofGap::Writable]),
                "start replication; it is writable",
            ),
            (ReturnBlocker::SecondProof(Role::Replica), "seen once as replica"),
            (ReturnBlocker::Operator, "`unfence`"),
        ] {
            assert!(blocker.to_string().contains(words), "{blocker}");
        }
        for (why, words) in [
            (HoldReason::Suspended("by me".to_owned()), "by me"),
            (HoldReason::UnknownStatus("DRAINING".to_owned()), "\"DRAINING\""),
            (HoldReason::Guarded(Guard::TooMany(2)), "2 of its cluster"),
        ] {
            assert!(why.to_string().contains(words), "{why}");
        }
    }
}
