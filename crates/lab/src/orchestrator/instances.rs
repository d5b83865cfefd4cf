//! Instances and clusters as JSON. They are made from a recorded instance, so they have every field of the real one.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::time::now_s;
use super::{Inner, Seen};
use crate::nodes::PORT;

/// A recorded instance. The variable parts are filled in.
static INSTANCE: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("instance.json")).unwrap_or_default());

/// How a list is sorted (code; 2-failover).
#[derive(Clone, Copy)]
pub(super) enum Order {
    /// `all-instances`: primaries first, the one with most replicas first.
    Depth,
    /// `downtimed`, `masters`: cluster by cluster.
    Cluster,
    /// `cluster`, `problems`: by name.
    Name,
}

/// The key of an instance; the empty key without a name.
pub(super) fn key(name: &str) -> Value {
    json!({"Hostname": name, "Port": if name.is_empty() { 0 } else { PORT }})
}

impl Inner {
    pub(super) fn knows(&self, node: &str) -> bool {
        self.seen.contains_key(node)
    }

    /// The writable primaries, one per cluster, including failed ones (2-failover/masters.json).
    pub(super) fn masters(&self, member: usize) -> Value {
        let is_writable_primary = |seen: &Seen| seen.server.replicates_from.is_none() && !seen.server.read_only;
        self.instances(member, Order::Cluster, |name| self.seen.get(name).is_some_and(is_writable_primary))
    }

    pub(super) fn instances(&self, member: usize, order: Order, wanted: impl Fn(&str) -> bool) -> Value {
        let mut names: Vec<&String> = self.seen.keys().filter(|name| wanted(name)).collect();
        names.sort_by_cached_key(|name| {
            let (depth, replicas) =
                (self.chain(name).len(), self.seen.get(*name).map_or(0, |seen| seen.replicas.len()));
            match order {
                Order::Depth => (depth, Reverse(replicas), self.cluster_of(name), 0),
                Order::Cluster => (0, Reverse(0), self.cluster_of(name), depth),
                Order::Name => (0, Reverse(0), String::new(), 0),
            }
        });
        Value::Array(names.into_iter().flat_map(|name| self.under_each_name(member, name)).collect())
    }

    /// The instance under its second name (facts §8). This one has the downtime mark.
    fn under_each_name(&self, member: usize, name: &str) -> Vec<Value> {
        let mut instance = self.instance(member, name);
        let Some(second) = self.second_names.get(name) else { return vec![instance] };
        instance["ServerUUID"] = json!(second.uuid);
        let mut again = instance.clone();
        again["Key"] = key(&second.name);
        for field in ["IsDowntimed", "DowntimeReason", "DowntimeOwner", "DowntimeEndTimestamp", "ElapsedDowntime"] {
            instance[field] = INSTANCE[field].clone();
        }
        vec![instance, again]
    }

    /// A cluster's nodes, by name (2-failover/cluster_labcluster.json).
    pub(super) fn cluster_instances(&self, member: usize, cluster: &str) -> Value {
        self.instances(member, Order::Name, |name| self.cluster_of(name) == cluster)
    }

    /// A cluster's primary.
    pub(super) fn cluster_master(&self, member: usize, cluster: &str) -> Value {
        self.instance(member, cluster.trim_end_matches(&format!(":{PORT}")))
    }

    /// The nodes with a problem, without downtimed ones; null if there are none (facts §9, 19-takeover).
    pub(super) fn problems(&self, member: usize, cluster: Option<&str>) -> Value {
        let is_wanted = |name: &str| {
            let instance = self.instance(member, name);
            let has_problem = instance["Problems"].as_array().is_some_and(|problems| !problems.is_empty());
            has_problem && instance["IsDowntimed"] == false && cluster.is_none_or(|of| self.cluster_of(name) == of)
        };
        match self.instances(member, Order::Name, is_wanted) {
            Value::Array(none) if none.is_empty() => Value::Null,
            some => some,
        }
    }

    /// The downtimed nodes, of all clusters or of one.
    pub(super) fn downtimed_of(&self, member: usize, cluster: Option<&str>) -> Value {
        let downtimes = &self.members[member].downtimes;
        let wanted =
            |name: &str| downtimes.contains_key(name) && cluster.is_none_or(|cluster| self.cluster_of(name) == cluster);
        let mut downtimed = self.instances(member, Order::Cluster, wanted);
        if let Some(instances) = downtimed.as_array_mut() {
            instances.retain(|instance| instance["IsDowntimed"] == true);
        }
        downtimed
    }

    /// An instance as a member knows it; null if the name is unknown.
    pub(super) fn instance(&self, member: usize, name: &str) -> Value {
        let Some(seen) = self.seen.get(name) else { return Value::Null };
        let mut instance = self.topology_instance(seen, name);
        self.fill_checks(&mut instance, seen);
        self.fill_downtime(&mut instance, member, name);
        instance
    }

    /// The node's own state, as `discover` answers it, without the earlier polls and downtimes.
    pub(super) fn topology_instance(&self, seen: &Seen, name: &str) -> Value {
        let mut instance = INSTANCE.clone();
        let server = &seen.server;
        instance["Key"] = key(name);
        instance["ServerID"] = json!(1 + self.seen.keys().take_while(|other| *other != name).count());
        instance["MasterKey"] = key(server.replicates_from.as_deref().unwrap_or_default());
        instance["ReadOnly"] = json!(server.read_only);
        instance["GtidErrant"] = json!(server.errant);
        let replicas: Vec<Value> = seen.replicas.iter().map(|replica| key(replica)).collect();
        instance["Replicas"] = json!(replicas);
        instance["SlaveHosts"] = json!(replicas);
        instance["ReplicationDepth"] = json!(self.chain(name).len());
        instance["ClusterName"] = json!(self.cluster_of(name));
        // A failed node has it too: only the cluster's alias moves (2-failover/all-instances.json, clusters-info.json).
        instance["SuggestedClusterAlias"] = json!(self.alias_of(name));
        fill_replication(&mut instance, seen);
        instance["LastSeenTimestamp"] = json!("");
        instance["SecondsSinceLastSeen"] = json!({"Int64": 0, "Valid": false});
        instance
    }

    fn fill_checks(&self, instance: &mut Value, seen: &Seen) {
        let poll_s = i64::try_from(self.settings.poll_interval.as_secs()).unwrap_or(0).max(1);
        let since_check_s = now_s() - seen.checked_at;
        let is_recent = since_check_s <= poll_s * 5;
        instance["LastSeenTimestamp"] = json!(self.local(seen.seen_at));
        instance["SecondsSinceLastSeen"] = json!({"Int64": now_s() - seen.seen_at, "Valid": true});
        instance["IsLastCheckValid"] = json!(seen.valid);
        instance["IsUpToDate"] = json!(since_check_s <= poll_s);
        instance["IsRecentlyChecked"] = json!(is_recent);
        instance["Problems"] = if !seen.valid {
            json!(["last_check_invalid"])
        } else if !is_recent {
            json!(["not_recently_checked"])
        } else if seen.server.replicates_from.is_some() && !seen.replicates() {
            json!(["not_replicating"])
        } else {
            json!([])
        };
    }

    fn fill_downtime(&self, instance: &mut Value, member: usize, name: &str) {
        let Some(downtime) = self.members[member].downtimes.get(name) else { return };
        instance["IsDowntimed"] = json!(true);
        instance["DowntimeReason"] = json!(downtime.reason);
        instance["DowntimeOwner"] = json!(downtime.owner);
        instance["DowntimeEndTimestamp"] = json!(self.local(downtime.end_s()).replace('T', " ").replace('Z', ""));
        instance["ElapsedDowntime"] = json!(downtime.begun.elapsed().as_secs() * 1_000_000_000);
    }

    /// The nodes that it replicates from, directly and indirectly, up to the primary. A ring ends at any node.
    fn chain(&self, name: &str) -> Vec<&str> {
        let mut chain: Vec<&str> = Vec::new();
        let mut at = name;
        while let Some(next) = self.seen.get(at).and_then(|seen| seen.server.replicates_from.as_deref()) {
            if chain.len() == self.seen.len() {
                break;
            }
            chain.push(next);
            at = next;
        }
        chain
    }

    /// The name of its cluster, which is its primary's name. A failed primary is its own cluster (facts §8).
    pub(super) fn cluster_of(&self, name: &str) -> String {
        format!("{}:{PORT}", self.chain(name).last().copied().unwrap_or(name))
    }

    /// The alias that a node suggests: unless set, `node01`'s is `nodecluster`, as `my01`'s is `mycluster` in the
    /// recordings.
    pub(super) fn alias_of(&self, name: &str) -> String {
        if !self.settings.alias.is_empty() {
            return self.settings.alias.clone();
        }
        format!("{}cluster", name.trim_end_matches(|letter: char| letter.is_ascii_digit()))
    }

    /// An alias belongs to the cluster that had it first, until a recovery moves it.
    pub(super) fn claim_aliases(&mut self) {
        let primaries: Vec<String> = self
            .seen
            .iter()
            .filter(|(_, seen)| seen.server.replicates_from.is_none() && !seen.server.read_only)
            .map(|(name, _)| name.clone())
            .collect();
        for primary in primaries {
            self.aliases.entry(self.alias_of(&primary)).or_insert(primary);
        }
    }

    /// A cluster's alias, or its name.
    fn alias_of_cluster(&self, cluster: &str) -> String {
        let alias = self.aliases.iter().find(|(_, primary)| self.cluster_of(primary) == cluster);
        alias.map_or(cluster, |(alias, _)| alias).to_owned()
    }

    pub(super) fn clusters(&self) -> BTreeMap<String, usize> {
        let mut clusters = BTreeMap::new();
        for name in self.seen.keys() {
            *clusters.entry(self.cluster_of(name)).or_default() += 1;
        }
        clusters
    }

    /// 2-failover/clusters-info.json
    pub(super) fn clusters_info(&self) -> Vec<Value> {
        self.clusters().keys().map(|cluster| self.cluster_info(0, cluster)).collect()
    }

    /// One cluster. Every member gives the same answer.
    pub(super) fn cluster_info(&self, _member: usize, cluster: &str) -> Value {
        json!({
            "ClusterName": cluster, "ClusterAlias": self.alias_of_cluster(cluster), "ClusterDomain": "",
            "CountInstances": self.clusters().get(cluster), "HeuristicLag": 0, "HasAutomatedMasterRecovery": true,
            "HasAutomatedIntermediateMasterRecovery": true,
        })
    }

    /// A cluster by its alias.
    pub(super) fn cluster_by_alias(&self, alias: &str) -> Option<String> {
        self.clusters().into_keys().find(|name| self.alias_of_cluster(name) == alias)
    }

    /// A cluster by its name, its alias, or one of its nodes.
    pub(super) fn cluster_by_hint(&self, hint: &str) -> Option<String> {
        let clusters = self.clusters();
        let by_name = clusters.keys().find(|name| *name == hint);
        let node = hint.strip_suffix(&format!(":{PORT}")).unwrap_or(hint);
        let by_node = || self.seen.contains_key(node).then(|| self.cluster_of(node));
        by_name.cloned().or_else(|| self.cluster_by_alias(hint)).or_else(by_node)
    }
}

impl Seen {
    /// Whether both threads run.
    pub(super) fn replicates(&self) -> bool {
        self.server.replicating && !self.primary_is_gone
    }
}

fn fill_replication(instance: &mut Value, seen: &Seen) {
    // A thread's state is -1 where there is none, 0 stopped, 1 running, 2 trying to connect (18-commands).
    let (io, sql) = match (&seen.server.replicates_from, seen.server.replicating) {
        (None, _) => (-1, -1),
        (Some(_), false) => (0, 0),
        (Some(_), true) => (if seen.primary_is_gone { 2 } else { 1 }, 1),
    };
    for (field, state) in [("Slave_IO_Running", io), ("Slave_SQL_Running", sql)] {
        instance[field] = json!(state == 1);
    }
    for (thread, state) in [("IO", io), ("SQL", sql)] {
        instance[format!("Replication{thread}ThreadRuning")] = json!(state == 1);
        instance[format!("Replication{thread}ThreadState")] = json!(state);
    }
    for field in ["SecondsBehindMaster", "SlaveLagSeconds", "ReplicationLagSeconds"] {
        instance[field] = json!({"Int64": 0, "Valid": seen.replicates()});
    }
}
