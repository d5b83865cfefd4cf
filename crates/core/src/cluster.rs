//! Which nodes replicate together, and which one of them is the primary.
//!
//! A returned old primary is its *own* cluster to Orchestrator (FACTS §8). So nodes are joined through recovery
//! records, the suggested alias and replication itself, and never through "is it a master of some cluster".

use std::collections::{BTreeMap, BTreeSet};

use crate::node::Node;
use crate::observed::{Instance, Recovery};
use crate::superseded::{promoting, superseding};

/// The nodes as the leader shows them, joined to clusters.
#[derive(Debug)]
pub struct Topology<'a> {
    by_node: BTreeMap<&'a Node, &'a Instance>,
    records: Vec<&'a Recovery>,
    cluster_of: BTreeMap<&'a Node, usize>,
}

impl<'a> Topology<'a> {
    /// Joins instances to clusters.
    pub fn new(instances: &'a [Instance], records: impl IntoIterator<Item = &'a Recovery>) -> Self {
        let by_node: BTreeMap<_, _> = instances.iter().map(|i| (&i.node, i)).collect();
        let records: Vec<_> = records.into_iter().collect();
        let mut joined = Joined::default();
        let mut by_name: BTreeMap<(&str, &str), &Node> = BTreeMap::new();
        for instance in instances {
            joined.add(&instance.node);
            for (what, name) in [("cluster", instance.cluster.as_str()), ("alias", instance.alias.as_str())] {
                if !name.is_empty() {
                    let first = *by_name.entry((what, name)).or_insert(&instance.node);
                    joined.join(first, &instance.node);
                }
            }
            if let Some(primary) = &instance.primary {
                joined.join(primary, &instance.node);
            }
        }
        for record in &records {
            if let Some(successor) = &record.successor {
                joined.join(&record.failed, successor);
            }
        }
        let cluster_of = joined.cluster_of();
        Self { by_node, records, cluster_of }
    }

    /// What the leader shows of a node.
    pub fn instance(&self, node: &Node) -> Option<&'a Instance> {
        self.by_node.get(node).copied()
    }

    /// Whether two nodes replicate together.
    pub fn together(&self, a: &Node, b: &Node) -> bool {
        a == b || matches!((self.cluster_of.get(a), self.cluster_of.get(b)), (Some(x), Some(y)) if x == y)
    }

    /// How many instances the node's cluster has.
    pub fn size(&self, node: &Node) -> usize {
        self.by_node.keys().filter(|other| self.together(node, other)).count()
    }

    /// The running replicas of a node, with valid checks.
    pub fn running_replicas(&self, node: &'a Node) -> impl Iterator<Item = &'a Instance> {
        self.by_node.values().copied().filter(move |i| i.valid && i.replicating && i.primary.as_ref() == Some(node))
    }

    /// The one present primary of the cluster that a node belongs to: the only one that stands as its primary. Where
    /// several do, the only one that others replicate from. Else none: unknown.
    pub fn present_primary(&self, of: &Node) -> Option<&'a Instance> {
        let standing: Vec<_> = self.standing(of).collect();
        if let [only] = standing[..] {
            return Some(only);
        }
        let followed: Vec<_> =
            standing.into_iter().filter(|i| self.running_replicas(&i.node).next().is_some()).collect();
        match followed[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Whether a node is the healthy present primary of its cluster, or may be: where nobody can be said to be it,
    /// any that takes writes and replicates from nobody, and any that was promoted last and whose rows are not so far.
    pub fn may_be_primary(&self, node: &Node) -> bool {
        if let Some(primary) = self.present_primary(node) {
            return primary.node == *node;
        }
        let was_promoted = || promoting(self.records.iter().copied(), node).is_some();
        self.standing(node).any(|i| i.node == *node && !i.read_only)
            || (self.instance(node).is_some_and(|i| i.valid) && was_promoted())
    }

    /// Those of a node's cluster that stand as its primary: valid, replicating from nobody, superseded by no record.
    fn standing(&self, of: &Node) -> impl Iterator<Item = &'a Instance> {
        let in_cluster = self.by_node.values().copied().filter(move |i| self.together(of, &i.node));
        in_cluster.filter(|i| i.valid && i.primary.is_none()).filter(|i| {
            // A node that a record supersedes counts only if its successor, valid, follows it, by a check that began
            // after that recovery: right after it rows show the old replication (FACTS §8).
            match superseding(self.records.iter().copied(), &i.node) {
                None => true,
                Some(record) => self.running_replicas(&i.node).any(|replica| {
                    record.successor.as_ref() == Some(&replica.node)
                        && record.end_s.is_some_and(|end| replica.checked_s > end)
                }),
            }
        })
    }

    /// Whether following a node's primaries leads to this one. A ring leads nowhere.
    pub fn leads_to(&self, node: &Node, primary: &Node) -> bool {
        let mut seen = BTreeSet::new();
        let mut at = node;
        while seen.insert(at) {
            let Some(instance) = self.instance(at) else { return false };
            match &instance.primary {
                Some(next) if next == primary => return true,
                Some(next) => at = next,
                None => return false,
            }
        }
        false
    }

    /// Whether two nodes point at each other, both valid: co-primaries, left alone.
    pub fn co_primaries(&self, a: &Node, b: &Node) -> bool {
        let points = |x: &Node, y: &Node| self.instance(x).is_some_and(|i| i.valid && i.primary.as_ref() == Some(y));
        points(a, b) && points(b, a)
    }
}

/// Sets that grow together.
#[derive(Debug, Default)]
struct Joined<'a> {
    set_of: BTreeMap<&'a Node, usize>,
    parent: Vec<usize>,
}

impl<'a> Joined<'a> {
    fn add(&mut self, node: &'a Node) -> usize {
        let next = self.parent.len();
        let set = *self.set_of.entry(node).or_insert(next);
        if set == next {
            self.parent.push(next);
        }
        self.root(set)
    }

    fn root(&self, mut set: usize) -> usize {
        while self.parent[set] != set {
            set = self.parent[set];
        }
        set
    }

    fn join(&mut self, a: &'a Node, b: &'a Node) {
        let (a, b) = (self.add(a), self.add(b));
        self.parent[a.max(b)] = a.min(b);
    }

    fn cluster_of(&self) -> BTreeMap<&'a Node, usize> {
        self.set_of.iter().map(|(node, set)| (*node, self.root(*set))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::Analysis;
    use crate::observed::shown::{instance, node};

    const END_S: i64 = 100;

    /// Who is the primary, if a was failed over to b and this is what the leader shows.
    fn primary(instances: &[Instance]) -> Option<String> {
        let record = Recovery {
            at_ns: 1,
            uid: "1:x".to_owned(),
            end_s: Some(END_S),
            analysis: Analysis::DeadPrimary,
            successful: true,
            failed: node("a"),
            successor: Some(node("b")),
            alias: String::new(),
        };
        Topology::new(instances, [&record]).present_primary(&node("a")).map(|i| i.node.host.to_string())
    }

    #[test]
    fn a_superseded_node_is_the_primary_again_once_its_successor_is_seen_to_follow_it_by_a_later_check() {
        for (checked_s, expected) in [(END_S, None), (END_S + 1, Some("a"))] {
            let follows = Instance { checked_s, ..instance("b", Some("a")) };
            let shown = [instance("a", None), follows];
            assert_eq!(primary(&shown).as_deref(), expected, "{checked_s}");
        }
    }

    #[test]
    fn whoever_else_follows_a_superseded_node_makes_no_primary_of_it() {
        let mut shown = vec![instance("a", None), Instance { checked_s: END_S + 5, ..instance("c", Some("a")) }];
        assert_eq!(primary(&shown), None);
        shown.push(instance("b", None));
        assert_eq!(primary(&shown).as_deref(), Some("b"), "though nobody was told to follow it");
    }
}
