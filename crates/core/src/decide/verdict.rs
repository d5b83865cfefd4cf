//! What is to become of a node, as data, and in words.

use std::fmt;

use crate::decide::{Guard, ProofGap, ProofGaps};
use crate::evidence::{Evidence, Level};
use crate::role::Role;

/// What is to become of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Nothing speaks against it.
    Keep,
    /// Out, and it stays out.
    Fence {
        /// How far.
        level: Level,
        /// Highest rank first; never empty.
        evidence: Vec<Evidence>,
        /// What would let it back.
        blocker: ReturnBlocker,
    },
    /// Something speaks against it, or can't be understood; nothing is changed.
    Hold(HoldReason),
    /// Back, in this role.
    Unfence {
        /// As what.
        role: Role,
        /// What had fenced it.
        evidence: Vec<Evidence>,
    },
    /// Not ours to judge.
    Ignore(HoldReason),
}

/// What still keeps a fenced node out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReturnBlocker {
    /// A leader whose good news counts (I8).
    ConfirmedLeader,
    /// The lease.
    Lease,
    /// Something about the node: all that speaks against it.
    Proof(ProofGaps),
    /// What Orchestrator shows of its nodes, which was not read in this tick.
    Instances,
    /// The recovery history, read down to what is known: a record in what is missing may speak against the node.
    History,
    /// What Orchestrator says of the node and can't be read.
    Unreadable(String),
    /// The same proof once more, 2 s later.
    SecondProof(Role),
    /// The end of the downtime in Orchestrator.
    DowntimeEnd,
    /// An operator's `unfence`.
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
            Self::SecondProof(_) => "second-proof",
            Self::DowntimeEnd => "downtime-end",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for ReturnBlocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfirmedLeader => write!(f, "Orchestrator's leader is not confirmed yet"),
            Self::Lease => write!(f, "the lease: Orchestrator's leader must be reached"),
            Self::Proof(gaps) => f.write_str(&gaps.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
            Self::Instances => write!(f, "Orchestrator's list of instances, which was not read in this tick"),
            Self::History => write!(f, "Orchestrator's recovery history is not read up to now yet"),
            Self::Unreadable(what) => write!(f, "Orchestrator's answer about it must be readable: {what}"),
            Self::SecondProof(role) => write!(f, "seen as {role}; waiting to see it again"),
            Self::DowntimeEnd => write!(f, "its downtime in Orchestrator must end"),
            Self::Operator => write!(f, "an operator's `unfence`"),
        }
    }
}

/// Why nothing is changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HoldReason {
    /// The operator said hands off.
    Suspended(String),
    /// Orchestrator never listed the node.
    NotKnown,
    /// A row has a status that we don't know.
    UnknownStatus(String),
    /// A row has a note of ours that we can't read.
    UnreadableMarker,
    /// Evidence is older than this agent's watch, and the node is not proven bad.
    OldEvidence(Evidence),
    /// Evidence is older than this agent's watch, and running replicas follow the node.
    Contradicted(Evidence),
    /// What Orchestrator says of the node can't be read.
    Unreadable(String),
    /// A plain downtime, held by a guard.
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
                write!(f, "a row's comment has a [stonith:...] note that this version cannot read")
            }
            Self::OldEvidence(evidence) => {
                write!(f, "{evidence} is from before this agent's watch, and the node is not proven bad")
            }
            Self::Unreadable(what) => write!(f, "{what}"),
            Self::Contradicted(evidence) => write!(
                f,
                "{evidence} is from before this agent's watch, and replicas run from the node, which takes writes: \
                 `unfence` it if it is the primary, `fence` it if it is not"
            ),
            Self::Guarded(guard) => write!(f, "a downtime does not fence it: {guard}"),
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
            (ReturnBlocker::SecondProof(Role::Replica), "seen as replica"),
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
