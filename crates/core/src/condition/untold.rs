//! Tells whether one look shows what the next ticks will do, for `plan` and `status`.

use std::fmt;

use super::NodeList;
use crate::decide::{Decision, ReturnBlocker, Verdict};
use crate::lease::LeaseState;
use crate::node::Node;
use crate::observed::Observed;
use crate::orchestrator::LeaderView;

/// The reason why one look does not show what the next ticks will do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Untold {
    /// No leader answered.
    NoLeader,
    /// The leader is not confirmed yet, and good news waits for that.
    LeaderUnconfirmed,
    /// Orchestrator has to check both writers of a hostgroup once more. These nodes may be second writers.
    SecondWriters(NodeList),
    /// The return of these nodes waits for the leader, the history or a second proof.
    SecondProof(NodeList),
}

impl fmt::Display for Untold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLeader => write!(f, "Orchestrator's leader did not answer"),
            Self::LeaderUnconfirmed => write!(f, "Orchestrator's leader is not confirmed yet"),
            Self::SecondWriters(nodes) => {
                write!(f, "{nodes} may be a second writer; Orchestrator has to check the writers again")
            }
            Self::SecondProof(nodes) => write!(f, "{nodes} may be let back; the proof must be seen again"),
        }
    }
}

impl Decision {
    /// The reason why the next ticks may decide otherwise though nothing changes; `None` if they decide the same.
    pub fn untold(&self, observed: &Observed) -> Option<Untold> {
        // A tick asks the raft members for the leader that they name only if something depends on it.
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
