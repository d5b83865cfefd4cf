//! Whom the members of the raft name as the leader.

use std::collections::{BTreeMap, BTreeSet};

use super::answers::RaftStatus;
use super::came_back::{CameBack, majority};

/// What was heard of each endpoint. Members count by their own names: two endpoints can be one node.
#[derive(Debug)]
pub struct Voices {
    leader: String,
    peers: usize,
    /// Per endpoint: which member it is, as far as that is known.
    members: Vec<String>,
    /// Per member that was heard: whom it names, if anybody.
    named: BTreeMap<String, String>,
}

impl Voices {
    /// What came back already. The leader has passed its check: it is one voice for itself.
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

    /// One more.
    pub fn hear(&mut self, at: usize, status: &RaftStatus, endpoint: &str) {
        let member = status.name(endpoint);
        self.peers = self.peers.max(status.peers);
        if let Some(known) = self.members.get_mut(at) {
            known.clone_from(&member);
        }
        self.named.insert(member, status.leader.clone());
    }

    /// How many a majority are.
    pub fn majority(&self) -> usize {
        majority(self.peers, self.members.iter().collect::<BTreeSet<_>>().len())
    }

    /// Whether a majority names the leader.
    pub fn confirm(&self) -> bool {
        self.naming(&self.leader) >= self.majority()
    }

    /// Another one that a majority names.
    pub fn contradict(&self) -> Option<&str> {
        let others = self.named.values().filter(|name| !name.is_empty() && **name != self.leader);
        others.map(String::as_str).find(|other| self.naming(other) >= self.majority())
    }

    fn naming(&self, leader: &str) -> usize {
        self.named.values().filter(|name| *name == leader).count()
    }
}
