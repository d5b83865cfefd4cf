//! Parses a node's answers about the raft or the shared database, and its errors.

use serde::Deserialize;
use stonith_core::orchestrator::ProxyHooks;

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

/// Whether a node runs in a raft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raft {
    /// There is no raft.
    Off,
    /// There is a raft, with this status.
    On(RaftStatus),
}

/// Why a node does not lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhyNot {
    /// Its raft status.
    Raft(RaftStatus),
    /// There is no raft; this is the state of its database.
    NoRaft(Health),
}

/// The shared database, as a node without raft that is not active sees it (facts §8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// The database can't be written. No node that says so can lead.
    DatabaseGone,
    /// The active node has not renewed its time in the database. No node leads now; another one will soon.
    NobodyIsActive,
    /// Another node is active.
    AnotherIsActive,
}

/// Parses `/api/health` with status 200.
///
/// The active node is known by its token. It is among the available nodes while it renews its time in the database,
/// once a second (25-shared-database).
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
    // A list that lacks the answering node itself is not trusted.
    let is_told = !active.is_empty() && is_available(&details.token);
    Ok(if is_told && !is_available(active) { Health::NobodyIsActive } else { Health::AnotherIsActive })
}

/// The raft status that a node reports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RaftStatus {
    /// The reporting node's address in the raft; empty if it does not say.
    pub node: String,
    /// The leader that it names; empty if none.
    pub leader: String,
    /// The number of raft nodes; 0 if it does not say.
    pub peers: usize,
}

/// Parses `/api/raft-status`.
pub fn raft_status(body: &[u8]) -> Result<RaftStatus, AnswerError> {
    let Object(status): Object<RaftJson> = serde_json::from_slice(body)?;
    let node = if status.raft_advertise.is_empty() { status.raft_bind } else { status.raft_advertise };
    Ok(RaftStatus { node, leader: status.leader, peers: status.peers.map_or(0, |peers| peers.len()) })
}

/// Parses `/api/raft-leader`.
pub fn raft_leader(body: &[u8]) -> Result<String, AnswerError> {
    Ok(serde_json::from_slice(body)?)
}

/// Parses `/api/raft-peers`: the number of raft nodes.
pub fn raft_peers(body: &[u8]) -> Result<usize, AnswerError> {
    let Bounded(peers) = serde_json::from_slice::<Bounded<String>>(body)?;
    Ok(peers.len())
}

/// Orchestrator's own error. A gateway does not answer with such an object.
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

/// Whether the body of a 5xx is Orchestrator's own and not from a gateway in front of it.
pub fn is_own_error(body: &[u8]) -> bool {
    own_error(body).is_some()
}

/// Whether this is Orchestrator's answer (status 500) to raft requests if raft is off.
pub fn says_raft_is_off(body: &[u8]) -> bool {
    own_error(body).is_some_and(|error| error.message.contains("not running with raft"))
}

/// What an answer to `/api/v2/proxysql/servers` says of Orchestrator's own hooks (facts §14).
///
/// A gateway may ask for a login, or answer in Orchestrator's place with a page. Only JSON counts, and a 404 that is no
/// page: a build that does not know the path says so in plain text.
pub fn proxy_hooks(status: u16, body: &[u8]) -> ProxyHooks {
    match status {
        200 if is_json(body) => ProxyHooks::On,
        503 if is_json(body) => ProxyHooks::Off,
        404 if !body.trim_ascii_start().starts_with(b"<") => ProxyHooks::Absent,
        _ => ProxyHooks::Unclear,
    }
}

/// Whether the body is JSON. Every answer of Orchestrator's API is, including "Not leader".
pub fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
}
