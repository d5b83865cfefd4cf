//! What a node says of the raft, or of the database that all nodes share, and how it words an error.

use serde::Deserialize;

use super::AnswerError;
use crate::orchestrator::json::{Bounded, Object};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RaftJson {
    #[serde(default)]
    raft_bind: String,
    #[serde(default)]
    raft_advertise: String,
    leader: String,
    #[serde(default)]
    peers: Option<Vec<String>>,
}

/// What a node says of the raft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raft {
    /// There is none.
    Off,
    /// There is one.
    On(RaftStatus),
}

/// Why a node does not lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhyNot {
    /// What it says of the raft.
    Raft(RaftStatus),
    /// There is no raft.
    NoRaft(Health),
}

/// What a node without raft, which is not the active one, says of the database that all nodes share (facts §8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It can't be written: this node can't lead, nor can any other that says so.
    DatabaseGone,
    /// It is there, and the active node has not renewed its time in it: nobody leads now, another one will soon.
    NobodyIsActive,
    /// Another node is active.
    AnotherIsActive,
}

/// `/api/health`, 200. The active node is known by its token; it is among the available nodes while it renews its time in
/// the database, once a second (25-shared-database).
pub fn health(body: &[u8]) -> Result<Health, AnswerError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct HealthJson {
        details: Object<DetailsJson>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct DetailsJson {
        token: String,
        active_node: Object<NodeJson>,
        #[serde(default)]
        available_nodes: Option<Vec<NodeJson>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct NodeJson {
        token: String,
    }
    let Object(HealthJson { details: Object(details) }) = serde_json::from_slice(body)?;
    let is_available = |token: &str| details.available_nodes.iter().flatten().any(|node| node.token == token);
    let active = &details.active_node.0.token;
    // A list without the node that tells it tells nothing.
    let is_told = !active.is_empty() && is_available(&details.token);
    Ok(if is_told && !is_available(active) { Health::NobodyIsActive } else { Health::AnotherIsActive })
}

/// What a raft node says of the raft.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RaftStatus {
    /// Which node says it: its address in the raft; empty if it doesn't say.
    pub node: String,
    /// Whom it takes for the leader; empty if nobody.
    pub leader: String,
    /// How many raft nodes there are; 0 if it doesn't say.
    pub peers: usize,
}

/// `/api/raft-status`.
pub fn raft_status(body: &[u8]) -> Result<RaftStatus, AnswerError> {
    let Object(status): Object<RaftJson> = serde_json::from_slice(body)?;
    let node = if status.raft_advertise.is_empty() { status.raft_bind } else { status.raft_advertise };
    Ok(RaftStatus { node, leader: status.leader, peers: status.peers.map_or(0, |peers| peers.len()) })
}

/// `/api/raft-leader`.
pub fn raft_leader(body: &[u8]) -> Result<String, AnswerError> {
    Ok(serde_json::from_slice(body)?)
}

/// `/api/raft-peers`: how many.
pub fn raft_peers(body: &[u8]) -> Result<usize, AnswerError> {
    let Bounded(peers) = serde_json::from_slice::<Bounded<String>>(body)?;
    Ok(peers.len())
}

/// How Orchestrator words an error: no gateway answers such an object.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorJson {
    #[serde(rename = "Code")]
    _code: String,
    message: String,
}

fn own_error(body: &[u8]) -> Option<ErrorJson> {
    serde_json::from_slice::<Object<ErrorJson>>(body).ok().map(|Object(error)| error)
}

/// Whether the body of a 5xx is Orchestrator's own, and not that of a gateway in front of it.
pub fn is_own_error(body: &[u8]) -> bool {
    own_error(body).is_some()
}

/// Whether this is how Orchestrator answers raft requests where raft is off (with status 500).
pub fn says_raft_is_off(body: &[u8]) -> bool {
    own_error(body).is_some_and(|error| error.message.contains("not running with raft"))
}

/// Whether this is JSON at all, as every answer of Orchestrator's API is, "Not leader" included.
pub fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
}
