//! Joins nodes to sets: the members of a cluster, or the names of a server.

use std::collections::BTreeMap;

use crate::node::Node;

/// A union-find over nodes.
#[derive(Debug, Default)]
pub(super) struct Joined<'a> {
    set_of: BTreeMap<&'a Node, usize>,
    parent: Vec<usize>,
}

impl<'a> Joined<'a> {
    /// Adds a node, alone unless it was joined. Returns its set.
    pub(super) fn add(&mut self, node: &'a Node) -> usize {
        let next = self.parent.len();
        let set = *self.set_of.entry(node).or_insert(next);
        if set == next {
            self.parent.push(next);
        }
        self.root(set)
    }

    fn root(&mut self, mut set: usize) -> usize {
        while self.parent[set] != set {
            self.parent[set] = self.parent[self.parent[set]]; // path halving keeps chains short
            set = self.parent[set];
        }
        set
    }

    /// Puts two nodes into one set.
    pub(super) fn join(&mut self, a: &'a Node, b: &'a Node) {
        let (a, b) = (self.add(a), self.add(b));
        self.parent[a.max(b)] = a.min(b);
    }

    /// The set of each node, by a number.
    pub(super) fn set_of_each(mut self) -> BTreeMap<&'a Node, usize> {
        let sets = std::mem::take(&mut self.set_of);
        sets.into_iter().map(|(node, set)| (node, self.root(set))).collect()
    }
}
