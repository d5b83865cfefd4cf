//! Joins nodes to clusters, and finds the primary of each cluster (design §6, §10).
//!
//! Orchestrator takes a returned old primary for a cluster of its own (facts §8), and unrelated clusters can share an
//! alias. So nodes are joined by `ClusterName`, by replication, by recovery records, and by the company in which they
//! were last seen to replicate. Everything is computed once per tick, in time linear in the instances.

use std::collections::{BTreeMap, BTreeSet};

use crate::node::Node;
use crate::orchestrator::joined::Joined;
use crate::orchestrator::{Instance, NewestRecoveries, Recovery};

/// Ties between nodes that the instances do not show.
#[derive(Debug, Clone, Default)]
pub struct KnownTies<'a> {
    /// Recovery records that are not released.
    pub records: Vec<&'a Recovery>,
    /// The begin of the watch, in ns since 1970. Older records do not count against a node that running replicas
    /// follow.
    pub old_before_ns: u64,
    /// Two nodes each that share a pair or a hostgroup, and were last seen to replicate together.
    pub companions: Vec<(&'a Node, &'a Node)>,
}

/// The leader's instances, joined to clusters.
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
    /// Joins instances to clusters, and finds the primary of each cluster.
    pub fn new(instances: &'a [Instance], history: &KnownTies<'a>) -> Self {
        let by_node: BTreeMap<_, _> = instances.iter().map(|i| (&i.node, i)).collect();
        let cluster_of = joined(instances, history).set_of_each();
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

    /// The leader's instance of a node.
    pub fn instance(&self, node: &Node) -> Option<&'a Instance> {
        self.by_node.get(node).copied()
    }

    /// Whether two nodes are in one cluster.
    pub fn together(&self, a: &Node, b: &Node) -> bool {
        a == b || matches!((self.cluster_of(a), self.cluster_of(b)), (Some(x), Some(y)) if x == y)
    }

    /// The cluster of a node, by a number that holds within this topology.
    pub fn cluster_of(&self, node: &Node) -> Option<usize> {
        self.cluster_of.get(node).copied()
    }

    /// The instances of each cluster.
    pub fn clusters(&self) -> impl Iterator<Item = &[&'a Instance]> {
        self.members.values().map(Vec::as_slice)
    }

    /// The number of instances in the node's cluster.
    pub fn size(&self, node: &Node) -> usize {
        self.cluster_of(node).and_then(|cluster| self.members.get(&cluster)).map_or(0, Vec::len)
    }

    /// The running replicas of a node whose last check is valid.
    pub fn running_replicas(&self, node: &Node) -> impl Iterator<Item = &'a Instance> {
        self.replicas_of.get(node).into_iter().flatten().copied()
    }

    /// The present primary of a node's cluster (design §6); `None` if it is unknown. It is valid, writable, and
    /// replicates from nobody. Without such a node, it may have leftover replica settings, as in a ring or after a
    /// promotion without `RESET SLAVE ALL`. Of several, the only one with running replicas is it.
    pub fn present_primary(&self, of: &Node) -> Option<&'a Instance> {
        self.primary_of.get(&self.cluster_of(of)?).copied()
    }

    fn find_primary(&self, members: &[&'a Instance]) -> Option<&'a Instance> {
        let mut candidates = self.candidates(members);
        // An old record names a successor that takes writes, and the live view contradicts it. Either may be right.
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

    /// The members that may be the primary of their cluster.
    fn candidates(&self, members: &[&'a Instance]) -> Vec<&'a Instance> {
        let writable = members.iter().copied().filter(|i| i.valid && !i.read_only && self.may_be_primary_by_records(i));
        let (alone, settings_left): (Vec<_>, Vec<_>) = writable.partition(|i| i.primary.is_none());
        if !alone.is_empty() {
            return alone;
        }
        settings_left.into_iter().filter(|i| self.has_leftover_settings(i)).collect()
    }

    /// Whether the replica settings of a writable node do not tell its role. Its primary points back at it or is
    /// unknown, or the node was promoted, or it does not replicate and others replicate from it.
    fn has_leftover_settings(&self, i: &Instance) -> bool {
        let Some(primary) = &i.primary else { return false };
        let points_back = self.instance(primary).is_none_or(|other| other.primary.as_ref() == Some(&i.node));
        points_back || self.newest.promoting(&i.node).is_some() || (!i.replicating && self.is_followed(i))
    }

    /// Whether running replicas follow the node, other than the node that it follows itself.
    fn is_followed(&self, i: &Instance) -> bool {
        self.running_replicas(&i.node).any(|replica| Some(&replica.node) != i.primary.as_ref())
    }

    /// Whether no record keeps the node from being the primary. A superseded node may be it once its successor follows
    /// it, valid and read-only, by a check that began after the recovery. Earlier checks show the old replication
    /// (facts §8).
    fn may_be_primary_by_records(&self, i: &Instance) -> bool {
        let Some(record) = self.newest.superseding(&i.node) else { return true };
        self.contradicted.contains(&i.node)
            || self.running_replicas(&i.node).any(|replica| {
                record.successor.as_ref() == Some(&replica.node)
                    && replica.read_only
                    && record.end_s.is_some_and(|end| replica.checked_s > end)
            })
    }

    /// Whether the live view contradicts a failover: the failed node takes writes and has running replicas besides its
    /// successor, and the successor does not.
    pub fn contradicts(&self, failed: &Node, successor: Option<&Node>) -> bool {
        let leads = |node: &Node| {
            self.instance(node).is_some_and(|i| i.valid && !i.read_only)
                && self.running_replicas(node).any(|replica| successor != Some(&replica.node))
        };
        leads(failed) && !successor.is_some_and(leads)
    }

    /// Whether running replicas follow a node, and nobody but that node follows its primary. A node that was promoted
    /// without `RESET SLAVE ALL` looks like this beside its returned predecessor until its record is read. So does a
    /// writable replica in the middle of a chain.
    pub fn leads_instead_of(&self, node: &Node, primary: &Node) -> bool {
        let leads = |a: &Node, b: &Node| self.running_replicas(a).any(|replica| replica.node != *b);
        leads(node, primary) && !leads(primary, node)
    }

    fn successor_takes_writes(&self, failed: &Node) -> bool {
        let successor = self.newest.superseding(failed).and_then(|record| record.successor.as_ref());
        let shown = successor.and_then(|successor| self.instance(successor));
        shown.is_some_and(|i| i.valid && !i.read_only && i.primary.is_none())
    }

    /// Whether a valid node is the present primary of its cluster, or may be. If the present primary is unknown, it may
    /// be any writable candidate, any node at the top of running replicas, and any node that the newest record
    /// promoted.
    pub fn may_be_primary(&self, node: &Node) -> bool {
        if let Some(primary) = self.present_primary(node) {
            return primary.node == *node;
        }
        let Some(i) = self.instance(node).filter(|i| i.valid) else { return false };
        let may_write =
            !i.read_only && self.may_be_primary_by_records(i) && (i.primary.is_none() || self.has_leftover_settings(i));
        may_write || (i.primary.is_none() && self.is_followed(i)) || self.newest.promoting(node).is_some()
    }

    /// Whether another node was promoted in place of the primary that this node follows.
    pub fn follows_a_replaced_primary(&self, i: &Instance) -> bool {
        let Some(primary) = i.primary.as_ref().filter(|primary| !self.contradicted.contains(primary)) else {
            return false;
        };
        let record = self.newest.superseding(primary);
        record.is_some_and(|record| record.successor.as_ref() != Some(&i.node))
    }

    /// Whether following a node's primaries leads to `primary`. A ring leads nowhere.
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

    /// Whether two valid nodes replicate from each other. Such co-primaries are left alone.
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

    /// The present primary of these instances after a failover from a to b.
    fn primary(instances: &[Instance]) -> Option<String> {
        let record = record();
        let history = KnownTies { records: vec![&record], ..KnownTies::default() };
        Topology::new(instances, &history).present_primary(&node("a")).map(|i| i.node.host.to_string())
    }

    /// The present primary of these instances without any record.
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
        assert_eq!(primary(instance("b", None), 5).as_deref(), Some("b"), "a record from the watch counts");
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
        assert_eq!(primary(&shown).as_deref(), Some("b"), "though no replica follows it yet");
    }
}
