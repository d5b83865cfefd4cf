//! Who leads, as the members tell it: the answers that are never proxied (FACTS §9).

use serde_json::{Value, json};

use super::Inner;
use super::http::Reply;
use super::recovery::now_s;

/// The health of a member, as recorded; what varies is filled in.
const HEALTH: &str = include_str!("health.json");

/// What a member calls itself.
pub(super) fn hostname(member: usize) -> String {
    format!("orc{}", member + 1)
}

/// Its raft address.
fn address(member: usize) -> String {
    format!("127.0.0.{}", 11 + member)
}

fn name(member: usize) -> String {
    format!("{}:10008", address(member))
}

impl Inner {
    /// Passes leader-check.
    pub(super) fn leads(&self, member: usize) -> bool {
        self.leader == Some(member) || self.members[member].is_stale_leader
    }

    /// Whom a member takes for the leader: a deposed one itself.
    fn leader_to(&self, member: usize) -> Option<usize> {
        if self.members[member].is_stale_leader { Some(member) } else { self.leader }
    }

    pub(super) fn leader_name_to(&self, member: usize) -> String {
        self.leader_to(member).map(name).unwrap_or_default()
    }

    /// Without a leader it is still the last one's (18-commands).
    fn leader_uri_to(&self, member: usize) -> String {
        let leader = self.leader_to(member).or_else(|| self.peers.first().copied());
        leader.map(|leader| self.endpoints[leader].clone()).unwrap_or_default()
    }

    pub(super) fn leader_check(&self, member: usize, otherwise: u16) -> Reply {
        if self.leads(member) { Reply::json(200, &json!("OK")) } else { Reply::json(otherwise, &json!("Not leader")) }
    }

    /// 9-raft, without quorum.
    pub(super) fn raft_health(&self, member: usize) -> Reply {
        match self.leader_to(member) {
            Some(_) => Reply::json(200, &json!("healthy")),
            None => Reply::error("unhealthy"),
        }
    }

    /// A member leads from now on, or none does. Raft's list of peers has it first, then the others as they were
    /// (18-commands).
    pub(super) fn lead(&mut self, leader: Option<usize>) {
        self.leader = leader;
        if let Some(leader) = leader {
            self.peers.retain(|peer| *peer != leader);
            self.peers.insert(0, leader);
        }
    }

    pub(super) fn peers(&self) -> Vec<String> {
        self.peers.iter().map(|peer| name(*peer)).collect()
    }

    pub(super) fn raft_state(&self, member: usize) -> &'static str {
        match self.leader_to(member) {
            Some(leader) if leader == member => "Leader",
            Some(_) => "Follower",
            None => "Candidate",
        }
    }

    pub(super) fn raft_status(&self, member: usize) -> Value {
        let has = self.leader_to(member).is_some();
        json!({
            "RaftBind": name(member), "RaftAdvertise": name(member), "State": self.raft_state(member),
            "Healthy": has, "IsPartOfQuorum": has, "Leader": self.leader_name_to(member),
            "LeaderURI": self.leader_uri_to(member), "Peers": self.peers(),
        })
    }

    /// `health` and `status`: 200 also without quorum (9-raft); without raft, 500 once the database is gone (FACTS §8).
    pub(super) fn health(&self, member: usize) -> Reply {
        if self.is_without_database {
            return Reply::error("Application node is unhealthy dial tcp 127.0.0.1:3306: connect: connection refused");
        }
        let mut health: Value = serde_json::from_str(HEALTH).unwrap_or_default();
        let details = &mut health["Details"];
        details["Hostname"] = json!(hostname(member));
        details["IsActiveNode"] = json!(self.leads(member));
        details["IsRaftLeader"] = json!(self.leads(member));
        details["ActiveNode"]["Hostname"] = json!(self.leader_name_to(member));
        details["RaftLeader"] = json!(self.leader_name_to(member));
        details["RaftLeaderURI"] = json!(self.leader_uri_to(member));
        details["RaftAdvertise"] = json!(address(member));
        details["AvailableNodes"][0]["Hostname"] = json!(hostname(member));
        details["AvailableNodes"][0]["LastSeenActive"] = json!(self.local(now_s()));
        if !self.settings.raft {
            // 21-no-raft
            let active = self.leader.or(self.peers.first().copied()).map(hostname).unwrap_or_default();
            details["ActiveNode"]["Hostname"] = json!(active);
            details["ActiveNode"]["LastSeenActive"] = json!(self.local(self.active_at));
            details["IsRaftLeader"] = json!(false);
            for of_raft in ["RaftLeader", "RaftLeaderURI", "RaftAdvertise"] {
                details[of_raft] = json!("");
            }
            details["RaftHealthyMembers"] = Value::Null;
            return Reply::json(200, &health);
        }
        // Followers report to the leader, which alone lists them.
        let members: Vec<String> = self.peers.iter().map(|peer| address(*peer)).collect();
        details["RaftHealthyMembers"] = if self.leads(member) { json!(members) } else { Value::Null };
        Reply::json(200, &health)
    }
}
