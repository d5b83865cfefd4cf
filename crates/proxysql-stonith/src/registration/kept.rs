//! The registration of one agent at one Orchestrator, kept from look to look.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use stonith_core::node::Node;

use super::{AGAIN, name, value};
use crate::clock;
use crate::config::AgentUrl;
use crate::orchestrator::{Settings, Tags};
use crate::secret::Secret;

/// The nodes that have the registration, and since when.
#[derive(Debug, Default)]
pub struct Kept(BTreeMap<Node, Instant>);

impl Kept {
    /// Sees to it that each node has the registration. Returns how many nodes got it, or got it again.
    ///
    /// # Errors
    /// Orchestrator did not take it, in words. Some nodes may have it.
    pub async fn keep(
        &mut self,
        settings: Settings,
        agent: &AgentUrl,
        token: &Secret,
        nodes: &BTreeSet<Node>,
    ) -> Result<usize, String> {
        let tags = Tags::new(settings).map_err(|error| error.to_string())?;
        let name = name(agent);
        let there = tags.nodes_with(&name).await.map_err(|error| error.to_string())?;
        self.0.retain(|node, at| at.elapsed() < AGAIN && there.contains(node));
        let due: BTreeSet<Node> = nodes.iter().filter(|node| !self.0.contains_key(*node)).cloned().collect();
        if due.is_empty() {
            return Ok(0);
        }
        let began = Instant::now();
        let value = value(agent, clock::wall_s(), token);
        tags.give(&due, &name, &value).await.map_err(|error| error.to_string())?;
        let given = due.len();
        self.0.extend(due.into_iter().map(|node| (node, began)));
        Ok(given)
    }
}
