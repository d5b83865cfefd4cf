//! What the members say about the leader. These answers are never proxied (facts §9).

use serde_json::{Value, json};

use super::http::Reply;
use super::time::now_s;
use super::{Inner, Process};

/// The recorded health of a member. The variable parts are filled in.
const HEALTH: &str = include_str!("health.json");

/// A member's own name.
pub(super) fn hostname(member: usize) -> String {
    format!("orc{}", member + 1)
}

/// The token that distinguishes its process from others on the same host.
fn token(member: usize) -> String {
    format!("{:064x}", member + 1)
}

/// Its raft address.
fn address(member: usize) -> String {
    format!("127.0.0.{}", 11 + member)
}

fn name(member: usize) -> String {
    format!("{}:10008", address(member))
}

impl Inner {
    /// Whether a member passes leader-check.
    pub(super) fn leads(&self, member: usize) -> bool {
        self.leader == Some(member) || self.members[member].is_stale_leader
    }

    /// The leader that a member names. A deposed leader names itself.
    fn leader_to(&self, member: usize) -> Option<usize> {
        if self.members[member].is_stale_leader { Some(member) } else { self.leader }
    }

    pub(super) fn leader_name_to(&self, member: usize) -> String {
        self.leader_to(member).map(name).unwrap_or_default()
    }

    /// The leader's address. Without a leader it is still that of the last one (18-commands).
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

    /// Lets a member lead, or none. The leader is the first in raft's list of peers; the others keep their order
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

    /// Answers `health` and `status`: 200 even without quorum (9-raft); without raft, 500 if the database is gone
    /// (facts §8).
    pub(super) fn health(&self, member: usize) -> Reply {
        if !self.settings.raft {
            return self.health_by_database(member);
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
        // Followers report to the leader, and only the leader lists them.
        let is_up = |peer: &&usize| self.members[**peer].process == Process::Up;
        let members: Vec<String> = self.peers.iter().filter(is_up).map(|peer| address(*peer)).collect();
        details["RaftHealthyMembers"] = if self.leads(member) { json!(members) } else { Value::Null };
        Reply::json(200, &health)
    }

    /// Answers without raft: 500 if the database is gone. The active node is among the available ones while it lives
    /// (25-shared-database).
    fn health_by_database(&self, member: usize) -> Reply {
        let mut health: Value = serde_json::from_str(HEALTH).unwrap_or_default();
        let details = &mut health["Details"];
        let a_node = details["AvailableNodes"][0].clone();
        let of_nobody = json!({
            "Hostname": "", "Token": "", "AppVersion": "", "FirstSeenActive": "", "LastSeenActive": "", "ExtraInfo": "",
            "Command": "", "DBBackend": "", "LastReported": a_node["LastReported"],
        });
        details["Hostname"] = json!(hostname(member));
        details["Token"] = json!(token(member));
        details["IsActiveNode"] = json!(self.leads(member));
        details["IsRaftLeader"] = json!(false);
        for of_raft in ["RaftLeader", "RaftLeaderURI", "RaftAdvertise"] {
            details[of_raft] = json!("");
        }
        details["RaftHealthyMembers"] = Value::Null;
        details["ActiveNode"] = of_nobody;
        if self.is_without_database {
            details["Healthy"] = json!(false);
            details["AvailableNodes"] = Value::Null;
            details["Error"] = json!({
                "Op": "dial", "Net": "tcp", "Source": null, "Addr": {"IP": "127.0.0.1", "Port": 3396, "Zone": ""},
                "Err": {"Syscall": "connect", "Err": 111},
            });
            health["Code"] = json!("ERROR");
            health["Message"] =
                json!("Application node is unhealthy dial tcp 127.0.0.1:3396: connect: connection refused");
            return Reply::json(500, &health);
        }
        let now = self.local(now_s()).replace('T', " ").replace('Z', "");
        let active = self.leader.or(self.peers.first().copied()).unwrap_or(member);
        details["ActiveNode"]["Hostname"] = json!(hostname(active));
        details["ActiveNode"]["Token"] = json!(token(active));
        details["ActiveNode"]["FirstSeenActive"] = json!(now);
        let is_up = |other: &usize| self.members[*other].process == Process::Up;
        let available = (0..self.members.len()).filter(is_up).map(|other| {
            let mut node = a_node.clone();
            node["Hostname"] = json!(hostname(other));
            node["Token"] = json!(token(other));
            node["FirstSeenActive"] = json!(now);
            node["LastSeenActive"] = json!(now);
            node
        });
        details["AvailableNodes"] = available.collect();
        Reply::json(200, &health)
    }
}
