//! Who leads, as the members tell it: the answers that are never proxied (FACTS §9).

use serde_json::{Value, json};

use super::Inner;
use super::http::Reply;
use super::recovery::{now_s, timestamp};

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

    fn leader_name_to(&self, member: usize) -> String {
        self.leader_to(member).map(name).unwrap_or_default()
    }

    fn leader_uri_to(&self, member: usize) -> String {
        self.leader_to(member).map(|leader| self.endpoints[leader].clone()).unwrap_or_default()
    }

    pub(super) fn leader_check(&self, member: usize, otherwise: u16) -> Reply {
        if self.leads(member) { Reply::json(200, &json!("OK")) } else { Reply::json(otherwise, &json!("Not leader")) }
    }

    /// `raft-*`; `None`: no such request.
    pub(super) fn raft(&self, member: usize, what: &str) -> Option<Reply> {
        let body = match what {
            "state" => json!(self.raft_state(member)),
            "leader" => json!(self.leader_name_to(member)),
            // 9-raft, without quorum.
            "health" if self.leader_to(member).is_none() => return Some(Reply::error("unhealthy")),
            "health" => json!("healthy"),
            "peers" => json!(self.peers()),
            "status" => self.raft_status(member),
            _ => return None,
        };
        Some(Reply::json(200, &body))
    }

    fn peers(&self) -> Vec<String> {
        (0..self.members.len()).map(name).collect()
    }

    fn raft_state(&self, member: usize) -> &'static str {
        match self.leader_to(member) {
            Some(leader) if leader == member => "Leader",
            Some(_) => "Follower",
            None => "Candidate",
        }
    }

    fn raft_status(&self, member: usize) -> Value {
        let has = self.leader_to(member).is_some();
        json!({
            "RaftBind": name(member), "RaftAdvertise": name(member), "State": self.raft_state(member),
            "Healthy": has, "IsPartOfQuorum": has, "Leader": self.leader_name_to(member),
            "LeaderURI": self.leader_uri_to(member), "Peers": self.peers(),
        })
    }

    /// `health` and `status`: 200 also without quorum (9-raft).
    pub(super) fn health(&self, member: usize) -> Reply {
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
        details["AvailableNodes"][0]["LastSeenActive"] = json!(timestamp(now_s()));
        // Followers report to the leader, which alone lists them.
        let members: Vec<String> = (0..self.members.len()).map(address).collect();
        details["RaftHealthyMembers"] = if self.leads(member) { json!(members) } else { Value::Null };
        Reply::json(200, &health)
    }
}
