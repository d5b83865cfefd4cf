//! Tags of nodes, by which agents register themselves. A raft gives them to all its members (facts §8).

use std::collections::BTreeSet;

use stonith_core::node::Node;

use super::answers;
use super::leaders::{LeaderError, Leaders, change, of, segment};
use super::{Settings, TlsError};

/// The tags at one Orchestrator.
#[derive(Debug)]
pub struct Tags(pub(super) Leaders);

impl Tags {
    /// Loads CAs if an endpoint is https.
    ///
    /// # Errors
    /// A certificate or key can't be read.
    pub fn new(settings: Settings) -> Result<Self, TlsError> {
        Leaders::new(settings).map(Self)
    }

    /// Gives each node a tag. A node that is refused keeps no other from its tag.
    ///
    /// # Errors
    /// See [`LeaderError`]. Some nodes may have the tag.
    pub async fn give(&self, nodes: &BTreeSet<Node>, name: &str, value: &str) -> Result<(), LeaderError> {
        if nodes.is_empty() {
            return Ok(());
        }
        let mut way = self.0.leader().await?;
        let mut refused = None;
        for node in nodes {
            let path = format!("tag/{}?tag={}%3D{}", of(node), segment(name), segment(value));
            match change(&mut way, &path).await {
                Err(error @ LeaderError::Refused { .. }) => refused = refused.or(Some(error)),
                done => done?,
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// The nodes with this tag.
    ///
    /// # Errors
    /// See [`LeaderError`].
    pub async fn nodes_with(&self, name: &str, value: &str) -> Result<BTreeSet<Node>, LeaderError> {
        let path = format!("tagged?tag={}%3D{}", segment(name), segment(value));
        let mut way = self.0.leader().await?;
        Ok(way.ask(async |connection| connection.get(&path).await?.read(answers::tagged)).await?)
    }

    /// The tags of a node, `NAME=VALUE` each.
    ///
    /// # Errors
    /// See [`LeaderError`].
    pub async fn of_node(&self, node: &Node) -> Result<Vec<String>, LeaderError> {
        let path = format!("tags/{}", of(node));
        let mut way = self.0.leader().await?;
        Ok(way.ask(async |connection| connection.get(&path).await?.read(answers::tags)).await?)
    }
}
