//! The only requests that change something at Orchestrator: the begin and the end of a downtime. Only the hook has them.
//!
//! ```text
//! leader-check at all endpoints -> begin-downtime at the first that leads -> downtimed, leader-check -> listed
//! ```
//!
//! An endpoint that hangs delays nothing: its site may be the one that failed.
//!
//! **Invariant:** a mark counts as published only if the leader lists it afterwards, and still leads.

use std::fmt::Write;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use stonith_core::barrier::Lead;
use stonith_core::node::Node;
use stonith_core::orchestrator::Downtime;
use tokio_rustls::TlsConnector;

use super::answers::{self, Raft};
use super::connection::Connection;
use super::error::RequestError;
use super::response::Response;
use super::way::{LeadCheck, Way};
use super::{Settings, TlsError, tls};
use crate::untrusted_text::one_line;

/// A downtime to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The node.
    pub node: Node,
    /// The owner.
    pub owner: String,
    /// The reason.
    pub reason: &'static str,
    /// Its length, in s.
    pub seconds: u64,
}

/// Why a downtime was not begun or ended.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    /// The request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// No endpoint leads.
    #[error("no Orchestrator endpoint leads: {}", .0.join("; "))]
    NoLeader(Vec<String>),
    /// The user may only read.
    #[error(
        "Orchestrator at {0} refuses to begin or end a downtime: its user may only read. Give the hook a user that may \
         write (no `readonly` user, a member of PowerAuthUsers; ReadOnly off)"
    )]
    ReadOnlyUser(String),
    /// Orchestrator refused for another reason.
    #[error("Orchestrator at {endpoint} did not change the downtime: {why}")]
    Refused {
        /// The endpoint.
        endpoint: String,
        /// Its reason.
        why: String,
    },
    /// The leader does not list it.
    #[error("Orchestrator's leader at {0} took the downtime, and does not list it")]
    NotListed(String),
}

/// Begins and ends downtimes at the leader.
pub struct MarkWriter {
    settings: Arc<Settings>,
    tls: Option<TlsConnector>,
}

impl std::fmt::Debug for MarkWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MarkWriter").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl MarkWriter {
    /// Makes a writer; loads CAs if an endpoint is https.
    ///
    /// # Errors
    /// A certificate or key can't be read.
    pub fn new(settings: Settings) -> Result<Self, TlsError> {
        let is_https = settings.endpoints.iter().any(|endpoint| endpoint.is_https());
        let tls = is_https.then(|| tls::connector(&settings.tls)).transpose()?;
        Ok(Self { settings: Arc::new(settings), tls })
    }

    /// Begins a downtime. Returns once the leader lists it.
    ///
    /// # Errors
    /// See [`MarkError`].
    pub async fn begin(&self, mark: &Mark) -> Result<(), MarkError> {
        let mut way = self.leader().await?;
        let Mark { node, owner, reason, seconds } = mark;
        let [owner_in_path, reason_in_path] = [owner.as_str(), reason].map(segment);
        let length = format!("{seconds}s");
        let path = format!("begin-downtime/{}/{owner_in_path}/{reason_in_path}/{length}", of(node));
        change(&mut way, &path).await?;
        let is_it = |d: &Downtime| d.node == *node && d.reason == *reason && d.owner == safe(owner);
        match lists(&mut way, is_it).await? {
            true => Ok(()),
            false => Err(MarkError::NotListed(way.endpoint().to_string())),
        }
    }

    /// Whether the leader lists a node's downtime with this reason.
    ///
    /// # Errors
    /// See [`MarkError`].
    pub async fn lists(&self, node: &Node, reason: &str) -> Result<bool, MarkError> {
        lists(&mut self.leader().await?, |d| d.node == *node && d.reason == reason).await
    }

    /// Ends a node's downtime if it has one of these reasons. Returns whether it had.
    ///
    /// # Errors
    /// See [`MarkError`].
    pub async fn end(&self, node: &Node, reasons: &[&str]) -> Result<bool, MarkError> {
        let mut way = self.leader().await?;
        let is_it = |d: &Downtime| d.node == *node && reasons.contains(&d.reason.as_str());
        if !lists(&mut way, is_it).await? {
            return Ok(false);
        }
        change(&mut way, &format!("end-downtime/{}", of(node))).await?;
        match lists(&mut way, is_it).await? {
            true => Err(MarkError::NotListed(way.endpoint().to_string())),
            false => Ok(true),
        }
    }

    /// Whether the leader is in a raft, so that what it notes itself is not on the others.
    ///
    /// # Errors
    /// See [`MarkError`].
    pub async fn is_raft(&self) -> Result<bool, MarkError> {
        Ok(matches!(self.leader().await?.raft().await?, Raft::On(_)))
    }

    /// Whether the Orchestrator of this host leads. Without one among the endpoints, any leader will do. `now_ms` is
    /// the time of the answer.
    pub async fn lead_of(&self, host: Option<&str>, now_ms: impl Fn() -> u64) -> Lead {
        let ours =
            |index: &usize| host.is_some_and(|host| self.settings.endpoints[*index].host().eq_ignore_ascii_case(host));
        let all = 0..self.settings.endpoints.len();
        let ours: Vec<usize> = all.clone().filter(ours).collect();
        let asked = if ours.is_empty() { all.collect() } else { ours.clone() };
        let mut checks: FuturesUnordered<_> = asked.into_iter().map(|index| self.checked(index)).collect();
        let mut all_say_no = true;
        while let Some((_, checked)) = checks.next().await {
            match checked {
                Ok((_, true)) => return Lead::Held(now_ms()),
                Ok((_, false)) => {}
                Err(_) => all_say_no = false,
            }
        }
        if all_say_no && !ours.is_empty() { Lead::Lost } else { Lead::Unknown }
    }

    /// A way to the first endpoint that answers that it leads.
    async fn leader(&self) -> Result<Way, MarkError> {
        let mut checks: FuturesUnordered<_> =
            (0..self.settings.endpoints.len()).map(|index| self.checked(index)).collect();
        let mut why = Vec::new();
        while let Some((index, checked)) = checks.next().await {
            match checked {
                Ok((connection, true)) => {
                    let (settings, tls) = (self.settings.clone(), self.tls.clone());
                    return Ok(Way::new(connection, LeadCheck::Leads, index, settings, tls));
                }
                Ok((_, false)) => why.push(format!("{} does not lead", self.settings.endpoints[index])),
                Err(error) => why.push(error.to_string()),
            }
        }
        Err(MarkError::NoLeader(why))
    }

    async fn checked(&self, index: usize) -> (usize, Result<(Connection, bool), RequestError>) {
        let endpoint = &self.settings.endpoints[index];
        let checking = async {
            let mut connection = Connection::open(endpoint, &self.settings, self.tls.as_ref()).await?;
            let leads = connection.get("leader-check").await?.leads()?;
            Ok((connection, leads))
        };
        (index, checking.await)
    }
}

/// Whether the leader lists such a downtime.
async fn lists(way: &mut Way, is_it: impl Fn(&Downtime) -> bool) -> Result<bool, MarkError> {
    Ok(way.marks().await?.downtimes.read.iter().any(is_it))
}

/// Sends one request that changes something.
async fn change(way: &mut Way, path: &str) -> Result<(), MarkError> {
    let response = way.ask(async |connection| connection.get(path).await).await?;
    read_only(&response)?;
    match response.status {
        200 if answers::is_json(&response.body) => Ok(()),
        500 if answers::is_own_error(&response.body) => {
            let why = one_line(&String::from_utf8_lossy(&response.body));
            Err(MarkError::Refused { endpoint: response.endpoint, why })
        }
        _ => Err(response.unexpected().into()),
    }
}

/// Orchestrator refuses a user who may only read with a 500 and the message "Unauthorized".
fn read_only(response: &Response) -> Result<(), MarkError> {
    let message: Option<serde_json::Value> = serde_json::from_slice(&response.body).ok();
    let message = message.as_ref().and_then(|body| body.get("Message")).and_then(|message| message.as_str());
    match (response.status, message) {
        (500, Some("Unauthorized")) => Err(MarkError::ReadOnlyUser(response.endpoint.clone())),
        _ => Ok(()),
    }
}

fn of(node: &Node) -> String {
    format!("{}/{}", segment(node.host.as_str()), node.port)
}

/// The part of a text that an owner may have: Orchestrator's router knows no slash in a value.
fn safe(text: &str) -> String {
    text.chars().map(|c| if c == '/' { '_' } else { c }).collect()
}

/// One segment of a path, percent-encoded.
fn segment(text: &str) -> String {
    let mut encoded = String::new();
    for byte in safe(text).bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                encoded.push(char::from(byte))
            }
            _ => _ = write!(encoded, "%{byte:02X}"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_of_a_path_is_one_whatever_the_text() {
        assert_eq!(segment("1750001060000000000:abc"), "1750001060000000000:abc");
        assert_eq!(segment("a/../b c?d#e%"), "a_.._b%20c%3Fd%23e%25");
        assert_eq!(segment("fe80::1"), "fe80::1");
    }
}
