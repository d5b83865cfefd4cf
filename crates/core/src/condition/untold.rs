//! Whether one look can tell what the next ticks do.

use std::fmt;

use super::NodeList;
use crate::decide::{Decision, ReturnBlocker, Verdict};
use crate::lease::LeaseState;
use crate::node::Node;
use crate::observed::Observed;
use crate::orchestrator::LeaderView;

/// Why one look can't tell what the next ticks do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Untold {
    /// No leader answered.
    NoLeader,
    /// The leader is not confirmed yet, and good news waits for that.
    LeaderUnconfirmed,
    /// Both writers of a hostgroup have to be checked by Orchestrator once more.
    SecondWriters(NodeList),
    /// A proof was seen once, and has to be seen again.
    SecondProof(NodeList),
}

impl fmt::Display for Untold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLeader => write!(f, "Orchestrator's leader did not answer"),
            Self::LeaderUnconfirmed => write!(f, "Orchestrator's leader is not confirmed yet"),
            Self::SecondWriters(nodes) => {
                write!(f, "{nodes} may be a second writer, once Orchestrator has checked the writers again")
            }
            Self::SecondProof(nodes) => write!(f, "{nodes} may be let back, once the proof is seen again"),
        }
    }
}

impl Decision {
    /// Whether the next ticks may decide otherwise although nothing changes; `None`: this is what they do.
    pub fn untold(&self, observed: &Observed) -> Option<Untold> {
        // Where nothing depends on it, the raft's members are not asked whom they name.
        let is_asked = matches!(&observed.leader, LeaderView::Led(answer) if answer.instances.is_some());
        match self.lease_state {
            LeaseState::Led { good: true } => {}
            LeaseState::Led { good: false } if !is_asked => return None,
            LeaseState::Led { good: false } | LeaseState::Unconfirmed => return Some(Untold::LeaderUnconfirmed),
            LeaseState::Isolated => return None,
            _ => return Some(Untold::NoLeader),
        }
        let is_fenced = |node: &&Node| matches!(self.verdicts.get(*node), Some(Verdict::Fence { .. }));
        let second: Vec<&Node> = self.memory.nodes.second_writers.keys().filter(|node| !is_fenced(node)).collect();
        if !second.is_empty() {
            return Some(Untold::SecondWriters(NodeList::of(second)));
        }
        let seen_once = self.verdicts.iter().filter(|(_, verdict)| {
            let is_open = |blocker: &ReturnBlocker| {
                matches!(
                    blocker,
                    ReturnBlocker::SecondProof(_) | ReturnBlocker::ConfirmedLeader | ReturnBlocker::History
                )
            };
            matches!(verdict, Verdict::Fence { blocker, .. } if is_open(blocker))
        });
        let seen_once: Vec<&Node> = seen_once.map(|(node, _)| node).collect();
        (!seen_once.is_empty()).then(|| Untold::SecondProof(NodeList::of(seen_once)))
    }
}
