//! The registration of one agent at one Orchestrator, kept from look to look.

use std::collections::BTreeSet;
use std::time::Instant;

use stonith_core::node::Node;

use super::{AGAIN, name, value};
use crate::clock;
use crate::config::AgentUrl;
use crate::orchestrator::{Settings, Tags};
use crate::secret::Secret;

/// The registration that each node has to have now.
#[derive(Debug, Default)]
pub struct Kept(Option<Given>);

#[derive(Debug)]
struct Given {
    since: Instant,
    /// The time that is signed, s since 1970.
    at_s: i64,
    value: String,
}

impl Kept {
    /// Sees to it that each node has the registration. A node that has it already is left alone, so a look that was cut off
    /// is gone on with. Returns how many nodes got it.
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
        let (name, value) = (name(agent), self.value(agent, token));
        let there = tags.nodes_with(&name, &value).await.map_err(|error| error.to_string())?;
        let due: BTreeSet<Node> = nodes.difference(&there).cloned().collect();
        tags.give(&due, &name, &value).await.map_err(|error| error.to_string())?;
        Ok(due.len())
    }

    /// The value of the tag: the one before, unless that is old, or was signed with another token.
    fn value(&mut self, agent: &AgentUrl, token: &Secret) -> String {
        let is_good = |given: &Given| given.since.elapsed() < AGAIN && given.value == value(agent, given.at_s, token);
        if !self.0.as_ref().is_some_and(is_good) {
            let at_s = clock::wall_s();
            self.0 = Some(Given { since: Instant::now(), at_s, value: value(agent, at_s, token) });
        }
        self.0.as_ref().map(|given| given.value.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registration_is_the_same_until_the_token_is_another_one() {
        let (agent, mut kept) = ("http://a:1".parse().unwrap(), Kept::default());
        let [first, same, other] = ["one", "one", "two"].map(|token| kept.value(&agent, &Secret::new(token)));
        assert!(first == same && first != other && !first.is_empty());
    }
}
