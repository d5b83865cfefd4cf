//! Which nodes replicate together, and which one of them is the primary.
//!
//! A returned old primary is its *own* cluster to Orchestrator (facts §8), and an alias can be shared by clusters that have
//! nothing to do with each other. So nodes are joined by `ClusterName`, by replication, by recovery records, and by the
//! company in which they were last seen to replicate. Everything is computed once per tick, linear in the instances.

use std::collections::{BTreeMap, BTreeSet};

use crate::node::Node;
use crate::orchestrator::{Instance, NewestRecoveries, Recovery};

/// What joins nodes besides what the instances show of themselves.
#[derive(Debug, Clone, Default)]
pub struct KnownTies<'a> {
    /// Recovery records that are not released.
    pub records: Vec<&'a Recovery>,
    /// Records from before this, in ns, do not count against a node that running replicas follow.
    pub old_before_ns: u64,
    /// Nodes that were last seen to replicate together, and serve one hostgroup.
    pub companions: Vec<(&'a Node, &'a Node)>,
}

/// The nodes as the leader shows them, joined to clusters.
#[derive(Debug)]
pub struct Topology<'a> {
    by_node: BTreeMap<&'a Node, &'a Instance>,
    cluster_of: BTreeMap<&'a Node, usize>,
    members: BTreeMap<usize, Vec<&'a Instance>>,
    replicas_of: BTreeMap<&'a Node, Vec<&'a Instance>>,
    newest: NewestRecoveries<'a>,
    /// Failed nodes of old records that the live view contradicts.
    contradicted: BTreeSet<&'a Node>,
    primary_of: BTreeMap<usize, &'a Instance>,
}

impl<'a> Topology<'a> {
    /// Joins instances to clusters, and finds the primary of each.
    pub fn new(instances: &'a [Instance], history: &KnownTies<'a>) -> Self {
        let by_node: BTreeMap<_, _> = instances.iter().map(|i| (&i.node, i)).collect();
        let cluster_of = joined(instances, history).cluster_of();
        let mut members: BTreeMap<usize, Vec<&Instance>> = BTreeMap::new();
        let mut replicas_of: BTreeMap<&Node, Vec<&Instance>> = BTreeMap::new();
        for instance in by_node.values() {
            members.entry(cluster_of[&instance.node]).or_default().push(instance);
            if let Some(primary) = instance.primary.as_ref().filter(|_| instance.valid && instance.replicating) {
                replicas_of.entry(primary).or_default().push(instance);
            }
        }
        let newest = NewestRecoveries::of_each(history.records.iter().copied());
        let contradicted = BTreeSet::new();
        let primary_of = BTreeMap::new();
        let mut topology = Self { by_node, cluster_of, members, replicas_of, newest, contradicted, primary_of };
        let old = topology.newest.records().filter(|record| record.at_ns < history.old_before_ns);
        let contradicted = old.filter(|record| {
            let is_newest = topology.newest.superseding(&record.failed) == Some(*record);
            is_newest && topology.contradicts(&record.failed, record.successor.as_ref())
        });
        topology.contradicted = contradicted.map(|record| &record.failed).collect();
        let clusters = topology.members.iter();
        topology.primary_of =
            clusters.filter_map(|(cluster, members)| Some((*cluster, topology.find_primary(members)?))).collect();
        topology
    }

    /// What the leader shows of a node.
    pub fn instance(&self, node: &Node) -> Option<&'a Instance> {
        self.by_node.get(node).copied()
    }

    /// Whether two nodes replicate together.
    pub fn together(&self, a: &Node, b: &Node) -> bool {
        a == b || matches!((self.cluster_of(a), self.cluster_of(b)), (Some(x), Some(y)) if x == y)
    }

    /// What names the cluster of a node within this topology.
    pub fn cluster_of(&self, node: &Node) -> Option<usize> {
        self.cluster_of.get(node).copied()
    }

    /// The instances of each cluster.
    pub fn clusters(&self) -> impl Iterator<Item = &[&'a Instance]> {
        self.members.values().map(Vec::as_slice)
    }

    /// How many instances the node's cluster has.
    pub fn size(&self, node: &Node) -> usize {
        self.cluster_of(node).and_then(|cluster| self.members.get(&cluster)).map_or(0, Vec::len)
    }

    /// The running replicas of a node, with valid checks.
    pub fn running_replicas(&self, node: &Node) -> impl Iterator<Item = &'a Instance> {
        self.replicas_of.get(node).into_iter().flatten().copied()
    }

    /// The one present primary of the cluster that a node belongs to: a valid node that takes writes. A read-only node is
    /// none. It replicates from nobody; only where no such node is there may it have leftover replica settings, as in a
    /// ring or after a promotion without `RESET SLAVE ALL`. Where several may be it, the only one that others replicate
    /// from is. Else none: unknown.
    pub fn present_primary(&self, of: &Node) -> Option<&'a Instance> {
        self.primary_of.get(&self.cluster_of(of)?).copied()
    }

    fn find_primary(&self, members: &[&'a Instance]) -> Option<&'a Instance> {
        let mut candidates = self.candidates(members);
        // An old record, and the live view against it: nothing tells which of the two is right.
        let disputed = |i: &&Instance| self.contradicted.contains(&i.node) && self.successor_takes_writes(&i.node);
        if candidates.iter().any(disputed) {
            return None;
        }
        if candidates.len() > 1 {
            candidates.retain(|i| self.is_followed(i));
        }
        match candidates[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Those of a cluster that may be its primary.
    fn candidates(&self, members: &[&'a Instance]) -> Vec<&'a Instance> {
        let writable = members.iter().copied().filter(|i| i.valid && !i.read_only && self.stands(i));
        let (alone, settings_left): (Vec<_>, Vec<_>) = writable.partition(|i| i.primary.is_none());
        if !alone.is_empty() {
            return alone;
        }
        settings_left.into_iter().filter(|i| self.has_leftover_settings(i)).collect()
    }

    /// Whether the replica settings of a writable node say nothing of its role: its primary points back at it, or is
    /// unknown; or it was promoted; or it does not replicate itself, and others replicate from it.
    fn has_leftover_settings(&self, i: &Instance) -> bool {
        let Some(primary) = &i.primary else { return false };
        let points_back = self.instance(primary).is_none_or(|other| other.primary.as_ref() == Some(&i.node));
        points_back || self.newest.promoting(&i.node).is_some() || (!i.replicating && self.is_followed(i))
    }

    /// Whether running replicas follow it, other than the one that it follows itself.
    fn is_followed(&self, i: &Instance) -> bool {
        self.running_replicas(&i.node).any(|replica| Some(&replica.node) != i.primary.as_ref())
    }

    /// Whether no record speaks against its being the primary. A node that a record supersedes stands only if its
    /// successor, valid and read-only, follows it, by a check that began after that recovery: right after it rows show
    /// the old replication (facts §8).
    fn stands(&self, i: &Instance) -> bool {
        let Some(record) = self.newest.superseding(&i.node) else { return true };
        self.contradicted.contains(&i.node)
            || self.running_replicas(&i.node).any(|replica| {
                record.successor.as_ref() == Some(&replica.node)
                    && replica.read_only
                    && record.end_s.is_some_and(|end| replica.checked_s > end)
            })
    }

    /// Whether the live view contradicts what is said to have failed: that node takes writes and running replicas follow
    /// it, besides its successor, and that is not so of the successor.
    pub fn contradicts(&self, failed: &Node, successor: Option<&Node>) -> bool {
        let leads = |node: &Node| {
            self.instance(node).is_some_and(|i| i.valid && !i.read_only)
                && self.running_replicas(node).any(|replica| successor != Some(&replica.node))
        };
        leads(failed) && !successor.is_some_and(leads)
    }

    fn successor_takes_writes(&self, failed: &Node) -> bool {
        let successor = self.newest.superseding(failed).and_then(|record| record.successor.as_ref());
        let shown = successor.and_then(|successor| self.instance(successor));
        shown.is_some_and(|i| i.valid && !i.read_only && i.primary.is_none())
    }

    /// Whether a node is the healthy present primary of its cluster, or may be: where nobody can be said to be it, any
    /// that takes writes and may be it, any at the top of running replicas, and any that was promoted last and whose
    /// rows are not so far.
    pub fn may_be_primary(&self, node: &Node) -> bool {
        if let Some(primary) = self.present_primary(node) {
            return primary.node == *node;
        }
        let Some(i) = self.instance(node).filter(|i| i.valid) else { return false };
        let may_write = !i.read_only && self.stands(i) && (i.primary.is_none() || self.has_leftover_settings(i));
        may_write || (i.primary.is_none() && self.is_followed(i)) || self.newest.promoting(node).is_some()
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

fn joined<'a>(instances: &'a [Instance], history: &KnownTies<'a>) -> Joined<'a> {
    let mut joined = Joined::default();
    let mut by_name: BTreeMap<&str, &Node> = BTreeMap::new();
    for instance in instances {
        joined.add(&instance.node);
        if !instance.cluster.is_empty() {
            let first = *by_name.entry(instance.cluster.as_str()).or_insert(&instance.node);
            joined.join(first, &instance.node);
        }
        if let Some(primary) = &instance.primary {
            joined.join(primary, &instance.node);
        }
    }
    for record in &history.records {
        if let Some(successor) = &record.successor {
            joined.join(&record.failed, successor);
        }
    }
    for (a, b) in &history.companions {
        joined.join(a, b);
    }
    joined
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

    fn root(&mut self, mut set: usize) -> usize {
        while self.parent[set] != set {
            self.parent[set] = self.parent[self.parent[set]]; // keeps chains short
            set = self.parent[set];
        }
        set
    }

    fn join(&mut self, a: &'a Node, b: &'a Node) {
        let (a, b) = (self.add(a), self.add(b));
        self.parent[a.max(b)] = a.min(b);
    }

    fn cluster_of(mut self) -> BTreeMap<&'a Node, usize> {
        let sets = std::mem::take(&mut self.set_of);
        sets.into_iter().map(|(node, set)| (node, self.root(set))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrator::Analysis;
    use crate::orchestrator::shown::{instance, node};

    const END_S: i64 = 100;

    fn record() -> Recovery {
        Recovery {
            at_ns: 1,
            uid: "1:x".to_owned(),
            end_s: Some(END_S),
            analysis: Analysis::DeadPrimary,
            successful: true,
            failed: node("a"),
            successor: Some(node("b")),
            alias: String::new(),
        }
    }

    /// Who is the primary, if a was failed over to b and this is what the leader shows.
    fn primary(instances: &[Instance]) -> Option<String> {
        let record = record();
        let history = KnownTies { records: vec![&record], ..KnownTies::default() };
        Topology::new(instances, &history).present_primary(&node("a")).map(|i| i.node.host.to_string())
    }

    /// Who is the primary without any record.
    fn primary_of(instances: &[Instance]) -> Option<String> {
        let topology = Topology::new(instances, &KnownTies::default());
        topology.present_primary(&instances[0].node).map(|i| i.node.host.to_string())
    }

    #[test]
    fn a_read_only_node_is_no_present_primary() {
        let top = Instance { read_only: true, ..instance("a", None) };
        assert_eq!(primary_of(&[top, instance("b", Some("a"))]), None);
    }

    #[test]
    fn of_a_ring_the_one_that_takes_writes_is_the_primary_and_of_two_that_do_neither() {
        let writable = |name, of| Instance { read_only: false, ..instance(name, Some(of)) };
        assert_eq!(primary_of(&[writable("a", "b"), instance("b", Some("a"))]).as_deref(), Some("a"));
        let down = Instance { valid: false, ..writable("b", "a") };
        let left = Instance { replicating: false, ..writable("a", "b") };
        assert_eq!(primary_of(&[left, down]).as_deref(), Some("a"));
        assert_eq!(primary_of(&[writable("a", "b"), writable("b", "a")]), None);
    }

    #[test]
    fn a_writable_replica_of_a_primary_that_is_down_is_no_primary() {
        let down = Instance { valid: false, ..instance("a", None) };
        let replica = Instance { read_only: false, replicating: false, ..instance("b", Some("a")) };
        assert_eq!(primary_of(&[down, replica]), None);
    }

    #[test]
    fn an_old_record_against_a_followed_node_names_no_primary_if_its_successor_takes_writes_too() {
        let record = Recovery { at_ns: 5, ..record() };
        let history = KnownTies { records: vec![&record], old_before_ns: 6, ..KnownTies::default() };
        let followed = [instance("a", None), instance("c", Some("a"))];
        let primary = |of_b: Instance, old_before_ns| {
            let shown: Vec<_> = followed.iter().cloned().chain([of_b]).collect();
            let history = KnownTies { old_before_ns, ..history.clone() };
            Topology::new(&shown, &history).present_primary(&node("a")).map(|i| i.node.host.to_string())
        };
        assert_eq!(primary(instance("b", None), 6), None);
        assert_eq!(primary(Instance { read_only: true, ..instance("b", None) }, 6).as_deref(), Some("a"));
        assert_eq!(primary(instance("b", None), 5).as_deref(), Some("b"), "a record of our own time counts");
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
