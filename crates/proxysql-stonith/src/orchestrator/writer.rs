//! The requests that begin and end a downtime. Only the hook has them. The one other change at Orchestrator is a tag
//! ([`super::tags`]).
//!
//! ```text
//! leader-check at all endpoints -> begin-downtime at the first that leads -> downtimed, leader-check -> listed
//! ```
//!
//! **Invariant:** a mark counts as published only if the leader lists it afterwards, and still leads.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use stonith_core::barrier::Lead;
use stonith_core::node::Node;
use stonith_core::orchestrator::Downtime;

use super::answers::Raft;
use super::leaders::{LeaderError, Leaders, change, of, safe, segment};
use super::tags::Tags;
use super::way::Way;
use super::{Settings, TlsError};

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

/// Begins and ends downtimes at the leader.
#[derive(Debug)]
pub struct MarkWriter(Leaders);

impl MarkWriter {
    /// Makes a writer; loads CAs if an endpoint is https.
    ///
    /// # Errors
    /// A certificate or key can't be read.
    pub fn new(settings: Settings) -> Result<Self, TlsError> {
        Leaders::new(settings).map(Self)
    }

    /// The tags at the same Orchestrator.
    pub fn tags(&self) -> Tags {
        Tags(self.0.clone())
    }

    /// Begins a downtime. Returns once the leader lists it.
    ///
    /// # Errors
    /// See [`LeaderError`].
    pub async fn begin(&self, mark: &Mark) -> Result<(), LeaderError> {
        let mut way = self.0.leader().await?;
        let Mark { node, owner, reason, seconds } = mark;
        let [owner_in_path, reason_in_path] = [owner.as_str(), reason].map(segment);
        let length = format!("{seconds}s");
        let path = format!("begin-downtime/{}/{owner_in_path}/{reason_in_path}/{length}", of(node));
        change(&mut way, &path).await?;
        let is_it = |d: &Downtime| d.node == *node && d.reason == *reason && d.owner == safe(owner);
        match lists(&mut way, is_it).await? {
            true => Ok(()),
            false => Err(LeaderError::NotListed(way.endpoint().to_string())),
        }
    }

    /// Whether the leader lists a node's downtime with this reason.
    ///
    /// # Errors
    /// See [`LeaderError`].
    pub async fn lists(&self, node: &Node, reason: &str) -> Result<bool, LeaderError> {
        lists(&mut self.0.leader().await?, |d| d.node == *node && d.reason == reason).await
    }

    /// Ends a node's downtime if it has one of these reasons. Returns whether it had.
    ///
    /// # Errors
    /// See [`LeaderError`].
    pub async fn end(&self, node: &Node, reasons: &[&str]) -> Result<bool, LeaderError> {
        let mut way = self.0.leader().await?;
        let is_it = |d: &Downtime| d.node == *node && reasons.contains(&d.reason.as_str());
        if !lists(&mut way, is_it).await? {
            return Ok(false);
        }
        change(&mut way, &format!("end-downtime/{}", of(node))).await?;
        match lists(&mut way, is_it).await? {
            true => Err(LeaderError::NotListed(way.endpoint().to_string())),
            false => Ok(true),
        }
    }

    /// Whether the leader is in a raft, so that what it notes itself is not on the others.
    ///
    /// # Errors
    /// See [`LeaderError`].
    pub async fn is_raft(&self) -> Result<bool, LeaderError> {
        Ok(matches!(self.0.leader().await?.raft().await?, Raft::On(_)))
    }

    /// Whether the Orchestrator of this host leads. Without one among the endpoints, any leader will do. `now_ms` is
    /// the time of the answer.
    pub async fn lead_of(&self, host: Option<&str>, now_ms: impl Fn() -> u64) -> Lead {
        let ours = |index: &usize| {
            host.is_some_and(|host| self.0.settings.endpoints[*index].host().eq_ignore_ascii_case(host))
        };
        let all = 0..self.0.settings.endpoints.len();
        let ours: Vec<usize> = all.clone().filter(ours).collect();
        let asked = if ours.is_empty() { all.collect() } else { ours.clone() };
        let mut checks: FuturesUnordered<_> = asked.into_iter().map(|index| self.0.checked(index)).collect();
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
}

/// Whether the leader lists such a downtime.
async fn lists(way: &mut Way, is_it: impl Fn(&Downtime) -> bool) -> Result<bool, LeaderError> {
    Ok(way.marks().await?.downtimes.read.iter().any(is_it))
}
