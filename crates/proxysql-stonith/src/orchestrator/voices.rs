//! Which leader the raft's members name.

use std::collections::{BTreeMap, BTreeSet};

use super::answers::RaftStatus;
use super::came_back::{CameBack, majority};

/// The leader that each member names. Members count by their own names: two endpoints can be one node.
#[derive(Debug)]
pub struct Voices {
    leader: String,
    peers: usize,
    /// Per endpoint: the member behind it, as far as known.
    members: Vec<String>,
    /// Per member that answered: the leader that it names, if any.
    named: BTreeMap<String, String>,
}

impl Voices {
    /// Counts the answers so far. The leader has passed its check, so it counts for itself.
    pub fn of(own: &RaftStatus, came_back: &[CameBack], endpoints: &[String]) -> Self {
        let members = came_back.iter().zip(endpoints).map(|(one, at)| one.member(at, &own.leader)).collect();
        let named = [(own.leader.clone(), own.leader.clone())].into();
        let mut voices = Self { leader: own.leader.clone(), peers: own.peers, members, named };
        for (at, (one, endpoint)) in came_back.iter().zip(endpoints).enumerate() {
            if let CameBack::Follows(status) = one {
                voices.hear(at, status, endpoint);
            }
        }
        voices
    }

    /// Adds one member's answer.
    pub fn hear(&mut self, at: usize, status: &RaftStatus, endpoint: &str) {
        let member = status.name(endpoint);
        self.peers = self.peers.max(status.peers);
        if let Some(known) = self.members.get_mut(at) {
            known.clone_from(&member);
        }
        self.named.insert(member, status.leader.clone());
    }

    /// The size of a majority.
    pub fn majority(&self) -> usize {
        majority(self.peers, self.members.iter().collect::<BTreeSet<_>>().len())
    }

    /// Whether a majority names the leader.
    pub fn confirm(&self) -> bool {
        self.naming(&self.leader) >= self.majority()
    }

    /// Another leader that a majority names.
    pub fn contradict(&self) -> Option<&str> {
        let others = self.named.values().filter(|name| !name.is_empty() && **name != self.leader);
        others.map(String::as_str).find(|other| self.naming(other) >= self.majority())
    }

    fn naming(&self, leader: &str) -> usize {
        self.named.values().filter(|name| *name == leader).count()
    }
}
