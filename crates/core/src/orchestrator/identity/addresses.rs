//! Matches rows to Orchestrator's instances by address, where their names differ.
//!
//! A match holds only one to one, both ways, among all rows and all instances with the same port. A match that was made
//! is kept while nothing speaks against it. A match that changes, or is one of several, is unsure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::list::first_few;
use crate::node::{Host, Node};
use crate::shared::Shared;

/// The largest number of names in one text.
const NAMED_MAX: usize = 3;

/// The addresses of hosts. A host whose addresses are unknown is missing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Addresses {
    of: Shared<BTreeMap<Host, BTreeSet<IpAddr>>>,
}

impl Addresses {
    /// Takes up newer addresses. A host that is missing there keeps the addresses that it had.
    pub fn take_up(&mut self, newer: &Self) {
        for (host, addresses) in &newer.of {
            if self.of.get(host) != Some(addresses) {
                self.of.insert(host.clone(), addresses.clone());
            }
        }
    }

    /// Whether it tells anything that `known` does not.
    pub fn tell_more_than(&self, known: &Self) -> bool {
        self.of.iter().any(|(host, addresses)| known.of.get(host) != Some(addresses))
    }

    /// Drops hosts that are no longer of interest.
    pub fn retain(&mut self, is_meant: impl Fn(&Host) -> bool) {
        self.of.retain(|host, _| is_meant(host));
    }

    /// Whether the node's addresses are known.
    fn is_known(&self, node: &Node) -> bool {
        self.of.contains_key(&node.host)
    }

    /// The node's sockets.
    fn sockets(&self, node: &Node) -> impl Iterator<Item = Socket> + use<'_> {
        let port = node.port;
        self.of.get(&node.host).into_iter().flatten().map(move |address| (*address, port))
    }
}

impl FromIterator<(Host, BTreeSet<IpAddr>)> for Addresses {
    /// A host without any address counts as unknown.
    fn from_iter<I: IntoIterator<Item = (Host, BTreeSet<IpAddr>)>>(hosts: I) -> Self {
        let known: BTreeMap<_, _> = hosts.into_iter().filter(|(_, addresses)| !addresses.is_empty()).collect();
        Self { of: known.into() }
    }
}

type Socket = (IpAddr, u16);

/// The reason why a row is not taken for an instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnsureName {
    /// The instance that the row matched before.
    pub was: Option<Node>,
    /// The instances that have its address now.
    pub now: BTreeSet<Node>,
    /// The other rows that share an instance with it.
    pub rivals: BTreeSet<Node>,
}

impl fmt::Display for UnsureName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = |nodes: &BTreeSet<Node>| first_few(nodes, nodes.len(), NAMED_MAX);
        match &self.was {
            Some(was) => write!(f, "its address was that of {was} in Orchestrator, and is now ")?,
            None => f.write_str("its address is ")?,
        }
        match self.now.len() {
            0 => f.write_str("that of no instance")?,
            _ => write!(f, "that of {}", listed(&self.now))?,
        }
        if !self.rivals.is_empty() {
            write!(f, ", as is that of the rows of {}", listed(&self.rivals))?;
        }
        f.write_str(": say in [aliases] which instance it is")
    }
}

/// What the names and addresses of one tick show.
pub(super) struct Shown<'a> {
    /// The names in ProxySQL's rows.
    pub served: &'a BTreeSet<Node>,
    /// The names that Orchestrator lists.
    pub listed: &'a BTreeSet<&'a Node>,
    /// The addresses of the hosts of both.
    pub addresses: &'a Addresses,
    /// Whether a row is matched without its address: by an alias, its name or a UUID.
    pub is_matched: &'a dyn Fn(&Node) -> bool,
    /// The name that stands for an instance with several names.
    pub server: &'a dyn Fn(&'a Node) -> &'a Node,
    /// Whether an alias gives the instance to a row.
    pub is_aliased: &'a dyn Fn(&Node) -> bool,
}

/// The instance of each row that is matched by its address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Matches {
    /// The instance of each row, also while it is unsure.
    instance_of: BTreeMap<Node, Node>,
    /// Rows that are not taken for an instance.
    unsure: BTreeMap<Node, UnsureName>,
}

impl Matches {
    /// The rows with their instances.
    pub(super) fn sure(&self) -> impl Iterator<Item = (&Node, &Node)> {
        self.instance_of.iter().filter(|(row, _)| !self.unsure.contains_key(*row))
    }

    /// The instance of a row.
    pub(super) fn of(&self, row: &Node) -> Option<&Node> {
        self.instance_of.get(row).filter(|_| !self.unsure.contains_key(row))
    }

    /// The reason why this row is not taken for an instance.
    pub(super) fn unsure(&self, row: &Node) -> Option<&UnsureName> {
        self.unsure.get(row)
    }

    /// Learns from what is shown.
    pub(super) fn learn(&mut self, shown: &Shown<'_>) {
        let before = std::mem::take(self);
        let open: Vec<&Node> = shown.served.iter().filter(|row| !(shown.is_matched)(row)).collect();
        if open.is_empty() {
            return;
        }
        let rows_at = by_socket(shown.served.iter(), shown.addresses);
        let listed_at = by_socket(shown.listed.iter().copied(), shown.addresses);
        for row in open {
            let sockets = || shown.addresses.sockets(row);
            let now = sockets().filter_map(|socket| listed_at.get(&socket)).flatten();
            let now: BTreeSet<&Node> = now.map(|instance| (shown.server)(instance)).collect();
            let sharing = now.iter().flat_map(|instance| shown.addresses.sockets(instance));
            let mut rivals: BTreeSet<&Node> =
                sharing.filter_map(|socket| rows_at.get(&socket)).flatten().copied().collect();
            rivals.extend(now.iter().copied().filter(|name| shown.served.contains(*name) || (shown.is_aliased)(name)));
            rivals.remove(row);
            let was = before.instance_of.get(row);
            let is_same = match (was, now.first()) {
                (Some(was), Some(first)) => was == *first && now.len() == 1 && rivals.is_empty(),
                (None, Some(_)) => now.len() == 1 && rivals.is_empty(),
                // An address that is not known, or an instance that is not listed, tells nothing.
                (Some(was), None) => {
                    !(shown.addresses.is_known(row) && shown.addresses.is_known(was) && shown.listed.contains(was))
                }
                (None, None) => continue,
            };
            if let Some(instance) = was.or(now.first().copied().filter(|_| is_same)) {
                self.instance_of.insert(row.clone(), instance.clone());
            }
            if !is_same {
                let owned = |nodes: &BTreeSet<&Node>| nodes.iter().map(|node| (*node).clone()).collect();
                let unsure = UnsureName { was: was.cloned(), now: owned(&now), rivals: owned(&rivals) };
                self.unsure.insert(row.clone(), unsure);
            }
        }
    }
}

fn by_socket<'a>(nodes: impl Iterator<Item = &'a Node>, addresses: &Addresses) -> BTreeMap<Socket, BTreeSet<&'a Node>> {
    let mut found: BTreeMap<Socket, BTreeSet<&Node>> = BTreeMap::new();
    for node in nodes {
        for socket in addresses.sockets(node) {
            found.entry(socket).or_default().insert(node);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrator::shown::node;

    /// Which rows match which of these instances, on port 3306. A host without an address is not resolved.
    struct World {
        rows: BTreeSet<Node>,
        instances: Vec<Node>,
        addresses: Addresses,
        matches: Matches,
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    impl World {
        fn new(rows: &[&str], instances: &[&str]) -> Self {
            Self {
                rows: rows.iter().map(|name| node(name)).collect(),
                instances: instances.iter().map(|name| node(name)).collect(),
                addresses: Addresses::default(),
                matches: Matches::default(),
            }
        }

        fn resolve(&mut self, hosts: &[(&str, &[u8])]) -> &mut Self {
            let host = |(name, last): &(&str, &[u8])| (node(name).host, last.iter().map(|last| ip(*last)).collect());
            self.addresses.take_up(&hosts.iter().map(host).collect());
            self
        }

        /// Learns, and shows `row=instance` for each match and `row?` for each unsure row.
        fn learn(&mut self) -> String {
            let listed: BTreeSet<&Node> = self.instances.iter().collect();
            self.matches.learn(&Shown {
                served: &self.rows,
                listed: &listed,
                addresses: &self.addresses,
                is_matched: &|row| listed.contains(row),
                server: &|instance| instance,
                is_aliased: &|_| false,
            });
            let matched = |(row, instance): (&Node, &Node)| format!("{}={}", row.host, instance.host);
            let sure = self.matches.sure().map(matched);
            sure.chain(self.matches.unsure.keys().map(|row| format!("{}?", row.host))).collect::<Vec<_>>().join(" ")
        }
    }

    #[test]
    fn a_row_is_matched_if_one_instance_has_its_address_and_no_other_row_has() {
        let mut world = World::new(&["r5", "r6"], &["db1", "db2"]);
        assert_eq!(world.learn(), "", "nothing is resolved");
        world.resolve(&[("r5", &[5]), ("r6", &[6]), ("db1", &[5]), ("db2", &[6, 7])]);
        assert_eq!(world.learn(), "r5=db1 r6=db2");
    }

    #[test]
    fn the_port_counts() {
        let mut world = World::new(&["r5"], &[]);
        world.instances = vec![Node::new("db1", 3307).unwrap()];
        world.resolve(&[("r5", &[5]), ("db1", &[5])]);
        assert_eq!(world.learn(), "");
    }

    #[test]
    fn a_row_of_two_instances_and_two_rows_of_one_are_unsure() {
        let mut world = World::new(&["r5"], &["db1", "db2"]);
        world.resolve(&[("r5", &[5]), ("db1", &[5]), ("db2", &[5])]);
        assert_eq!(world.learn(), "r5?");
        let mut world = World::new(&["r5", "s5"], &["db1"]);
        world.resolve(&[("r5", &[5]), ("s5", &[5]), ("db1", &[5])]);
        assert_eq!(world.learn(), "r5? s5?");
        let mut world = World::new(&["r5", "db1"], &["db1"]);
        world.resolve(&[("r5", &[5]), ("db1", &[5])]);
        assert_eq!(world.learn(), "r5?", "db1 has a row of its own name");
    }

    #[test]
    fn a_match_that_changes_is_unsure_until_it_is_as_before() {
        let mut world = World::new(&["r5"], &["db1", "db2"]);
        world.resolve(&[("r5", &[5]), ("db1", &[5]), ("db2", &[6])]);
        assert_eq!(world.learn(), "r5=db1");
        world.resolve(&[("db1", &[6]), ("db2", &[5])]);
        assert_eq!(world.learn(), "r5?", "never the other one");
        let text = world.matches.unsure(&node("r5")).unwrap().to_string();
        assert_eq!(
            text,
            "its address was that of db1:3306 in Orchestrator, and is now that of db2:3306: say in [aliases] which \
             instance it is"
        );
        world.resolve(&[("db1", &[6]), ("db2", &[7])]);
        assert_eq!(world.learn(), "r5?", "nobody's");
        world.resolve(&[("db1", &[5])]);
        assert_eq!(world.learn(), "r5=db1");
    }

    #[test]
    fn a_match_outlives_what_tells_nothing() {
        let mut world = World::new(&["r5"], &["db1"]);
        world.resolve(&[("r5", &[5]), ("db1", &[5])]);
        assert_eq!(world.learn(), "r5=db1");
        world.instances.clear();
        assert_eq!(world.learn(), "r5=db1", "Orchestrator forgot it");
        world.instances.push(node("db1"));
        world.addresses = Addresses::default();
        assert_eq!(world.learn(), "r5=db1", "nothing is resolved any more");
    }
}
