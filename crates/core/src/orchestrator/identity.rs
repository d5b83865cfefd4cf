//! The names of one server. They are unified here, before the decision, which sees one name per server.
//!
//! Orchestrator can list a server under two names, such as its address and its host name, as two valid instances with
//! one `ServerUUID` (facts §8). Records and marks name either. MariaDB has no such UUID, so its names stay separate
//! nodes.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::node::Node;
use crate::orchestrator::{Answer, Instance, Recovery};

/// The servers that have several names. Each other name maps to the one that stands for the server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identity {
    server_of: BTreeMap<Node, Node>,
}

impl Identity {
    /// Learns from the leader's instances. Two names stay one server until the leader lists both as two. A name that is
    /// not listed, or whose instance cannot be read, does not become another server.
    pub fn learn(&mut self, instances: &[Instance], served: &BTreeSet<Node>) {
        let listed: BTreeSet<&Node> = instances.iter().map(|instance| &instance.node).collect();
        let mut learned = Self::of(instances, served);
        let stands: BTreeSet<Node> = learned.server_of.values().cloned().collect();
        for (name, server) in std::mem::take(&mut self.server_of) {
            let is_known = learned.server_of.contains_key(&name) || stands.contains(&name);
            if !(is_known || listed.contains(&name) && listed.contains(&server)) {
                let server = learned.server(&server).clone();
                learned.server_of.insert(name, server);
            }
        }
        *self = learned;
    }

    /// The identity that these instances show. A name in this ProxySQL's rows stands for the server, if there is one.
    fn of(instances: &[Instance], served: &BTreeSet<Node>) -> Self {
        let mut by_uuid: BTreeMap<&str, Vec<&Instance>> = BTreeMap::new();
        for instance in instances.iter().filter(|instance| !instance.uuid.is_empty()) {
            by_uuid.entry(&instance.uuid).or_default().push(instance);
        }
        let mut server_of = BTreeMap::new();
        for group in by_uuid.into_values().filter(|group| group.len() > 1) {
            // A copied data directory has its origin's UUID. Instances that replicate from each other are no aliases.
            let names: BTreeSet<&Node> = group.iter().map(|instance| &instance.node).collect();
            if group.iter().any(|instance| instance.primary.as_ref().is_some_and(|primary| names.contains(primary))) {
                continue;
            }
            let Some(server) = names.iter().find(|name| served.contains(**name)).or(names.first()) else { continue };
            let others = names.iter().filter(|name| *name != server);
            server_of.extend(others.map(|name| ((*name).clone(), (*server).clone())));
        }
        Self { server_of }
    }

    /// The name that stands for the server with this name.
    pub fn server<'n>(&'n self, name: &'n Node) -> &'n Node {
        self.server_of.get(name).unwrap_or(name)
    }

    /// All names of a server, the one that stands for it first.
    pub fn names<'n>(&'n self, server: &'n Node) -> impl Iterator<Item = &'n Node> {
        let others = self.server_of.iter().filter(move |(_, of)| *of == server).map(|(name, _)| name);
        std::iter::once(server).chain(others)
    }

    /// The other names, each with the one that stands for its server.
    pub fn aliases(&self) -> impl Iterator<Item = (&Node, &Node)> {
        self.server_of.iter()
    }

    /// Renames the nodes of an answer to one name per server.
    pub fn unified<'a>(&self, answer: &'a Answer) -> Cow<'a, Answer> {
        if self.server_of.is_empty() {
            return Cow::Borrowed(answer);
        }
        let mut unified = answer.clone();
        for downtime in &mut unified.downtimes {
            self.rename(&mut downtime.node);
        }
        for record in unified.history.iter_mut().flat_map(|history| &mut history.records) {
            self.rename_in(record);
        }
        for skipped in &mut unified.skipped {
            skipped.nodes = skipped.nodes.iter().map(|name| self.server(name).clone()).collect();
        }
        if let Some(instances) = unified.instances.take() {
            unified.instances = Some(self.one_per_server(instances));
        }
        Cow::Owned(unified)
    }

    /// Renames the nodes of a record to one name per server.
    pub fn rename_in(&self, record: &mut Recovery) {
        self.rename(&mut record.failed);
        if let Some(successor) = &mut record.successor {
            self.rename(successor);
        }
    }

    fn rename(&self, name: &mut Node) {
        if let Some(server) = self.server_of.get(name) {
            *name = server.clone();
        }
    }

    /// Keeps one instance per server: valid before invalid, then the one that was checked last. The server is downtimed
    /// if any of its instances is.
    fn one_per_server(&self, instances: Vec<Instance>) -> Vec<Instance> {
        let mut by_server: BTreeMap<Node, Instance> = BTreeMap::new();
        for mut instance in instances {
            self.rename(&mut instance.node);
            if let Some(primary) = &mut instance.primary {
                self.rename(primary);
            }
            match by_server.get_mut(&instance.node) {
                None => drop(by_server.insert(instance.node.clone(), instance)),
                Some(known) => {
                    let downtimed = known.downtimed || instance.downtimed;
                    if (instance.valid, instance.checked_s) > (known.valid, known.checked_s) {
                        *known = instance;
                    }
                    known.downtimed = downtimed;
                }
            }
        }
        by_server.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrator::shown::{instance, node};

    fn named(name: &str, primary: Option<&str>, uuid: &str) -> Instance {
        Instance { uuid: uuid.to_owned(), ..instance(name, primary) }
    }

    #[test]
    fn one_uuid_under_two_names_is_one_server_by_the_name_that_proxysql_has() {
        let shown = [named("10.0.0.1", None, "u1"), named("a", None, "u1"), named("b", Some("a"), "u2")];
        let identity = Identity::of(&shown, &[node("a")].into());
        assert_eq!(identity.server(&node("10.0.0.1")), &node("a"));
        assert_eq!(identity.server(&node("b")), &node("b"));
        assert_eq!(identity.names(&node("a")).count(), 2);
    }

    #[test]
    fn names_stay_one_server_until_both_are_listed_and_are_seen_to_be_two() {
        let shown = [named("10.0.0.1", None, "u1"), named("a", None, "u1"), named("b", Some("a"), "u2")];
        let mut identity = Identity::default();
        identity.learn(&shown, &[node("a")].into());
        for listed in [&shown[2..], &shown[1..], &[shown[0].clone()]] {
            identity.learn(listed, &[node("a")].into());
            assert_eq!(identity.server(&node("10.0.0.1")), &node("a"));
        }
        identity.learn(&[named("10.0.0.1", None, "u3"), named("a", None, "u1")], &[node("a")].into());
        assert_eq!(identity, Identity::default());
    }

    #[test]
    fn no_uuid_joins_no_names_and_neither_does_a_copied_one() {
        let shown = [instance("a", None), instance("b", None)];
        assert_eq!(Identity::of(&shown, &BTreeSet::new()), Identity::default());
        let copied = [named("a", None, "u"), named("b", Some("a"), "u")];
        assert_eq!(Identity::of(&copied, &BTreeSet::new()), Identity::default());
    }

    #[test]
    fn the_last_good_check_of_either_name_counts() {
        let stale = Instance { checked_s: 90, read_only: true, ..named("a", None, "u") };
        let shown = [stale, Instance { downtimed: true, ..named("10.0.0.1", None, "u") }];
        let identity = Identity::of(&shown, &[node("a")].into());
        let unified = identity.one_per_server(shown.to_vec());
        assert_eq!(unified.len(), 1);
        assert_eq!((unified[0].node.clone(), unified[0].checked_s, unified[0].downtimed), (node("a"), 100, true));
        assert!(!unified[0].read_only);
    }
}
