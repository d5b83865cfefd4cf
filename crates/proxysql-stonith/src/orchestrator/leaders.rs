//! A way to the leader for one question, and the requests that change something there.
//!
//! An endpoint that hangs delays nothing: its site may be the one that failed.

use std::fmt::Write;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use stonith_core::node::Node;
use tokio_rustls::TlsConnector;

use super::answers;
use super::connection::Connection;
use super::error::RequestError;
use super::response::Response;
use super::way::{LeadCheck, Way};
use super::{Settings, TlsError, tls};
use crate::untrusted_text::one_line;

/// Why the leader did not do or tell what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum LeaderError {
    /// The request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// No endpoint leads.
    #[error("no Orchestrator endpoint leads: {}", .0.join("; "))]
    NoLeader(Vec<String>),
    /// The user may only read.
    #[error(
        "Orchestrator at {0} refuses the change: its user may only read. Give the hook a user that may \
         write (no `readonly` user, a member of PowerAuthUsers; ReadOnly off)"
    )]
    ReadOnlyUser(String),
    /// Orchestrator refused for another reason.
    #[error("Orchestrator at {endpoint} did not do it: {why}")]
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

/// All endpoints of an Orchestrator, of which one leads.
#[derive(Clone)]
pub struct Leaders {
    pub(super) settings: Arc<Settings>,
    tls: Option<TlsConnector>,
}

impl std::fmt::Debug for Leaders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaders").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Leaders {
    /// Loads CAs if an endpoint is https.
    ///
    /// # Errors
    /// A certificate or key can't be read.
    pub fn new(settings: Settings) -> Result<Self, TlsError> {
        let is_https = settings.endpoints.iter().any(|endpoint| endpoint.is_https());
        let tls = is_https.then(|| tls::connector(&settings.tls)).transpose()?;
        Ok(Self { settings: Arc::new(settings), tls })
    }

    /// A way to the first endpoint that answers that it leads.
    pub(super) async fn leader(&self) -> Result<Way, LeaderError> {
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
        why.sort(); // one text, whoever answers first
        Err(LeaderError::NoLeader(why))
    }

    /// Whether an endpoint leads, with the connection on which it said so.
    pub(super) async fn checked(&self, index: usize) -> (usize, Result<(Connection, bool), RequestError>) {
        let endpoint = &self.settings.endpoints[index];
        let checking = async {
            let mut connection = Connection::open(endpoint, &self.settings, self.tls.as_ref()).await?;
            let leads = connection.get("leader-check").await?.leads()?;
            Ok((connection, leads))
        };
        (index, checking.await)
    }
}

/// Sends one request that changes something.
pub(super) async fn change(way: &mut Way, path: &str) -> Result<(), LeaderError> {
    let response = way.ask(async |connection| connection.get(path).await).await?;
    read_only(&response)?;
    match response.status {
        200 if answers::is_json(&response.body) => Ok(()),
        500 if answers::is_own_error(&response.body) => {
            let why = one_line(&String::from_utf8_lossy(&response.body));
            Err(LeaderError::Refused { endpoint: response.endpoint, why })
        }
        _ => Err(response.unexpected().into()),
    }
}

/// Orchestrator refuses a user who may only read with a 500 and the message "Unauthorized".
fn read_only(response: &Response) -> Result<(), LeaderError> {
    let message: Option<serde_json::Value> = serde_json::from_slice(&response.body).ok();
    let message = message.as_ref().and_then(|body| body.get("Message")).and_then(|message| message.as_str());
    match (response.status, message) {
        (500, Some("Unauthorized")) => Err(LeaderError::ReadOnlyUser(response.endpoint.clone())),
        _ => Ok(()),
    }
}

pub(super) fn of(node: &Node) -> String {
    format!("{}/{}", segment(node.host.as_str()), node.port)
}

/// The part of a text that an owner may have: Orchestrator's router knows no slash in a value.
pub(super) fn safe(text: &str) -> String {
    text.chars().map(|c| if c == '/' { '_' } else { c }).collect()
}

/// One segment of a path, percent-encoded.
pub(super) fn segment(text: &str) -> String {
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
