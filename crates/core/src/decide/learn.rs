//! Takes the leader's answer and ProxySQL's own tables into the memory.
//!
//! **Invariant:** nothing here lets a node back.

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::facts::is_armed_for;
use crate::evidence::EvidenceKind;
use crate::lease::LeaseState;
use crate::managed::{Managed, ManagedRows, ServerRows};
use crate::memory::{Memory, NodeMemory, RECORDS_MAX};
use crate::node::{Host, Node};
use crate::observed::Observed;
use crate::orchestrator::{
    Addresses, Analysis, Answer, AnswerPart, HistoryProgress, Identity, Instance, NewestRecoveries, Recovery, Topology,
    downtime_of_each, supersedes,
};
use crate::orders::Release;
use crate::policy::Policy;
use crate::table::Layer;

/// Restores an isolation from its markers, or from the note of a pause, after the state file was lost. An agent that
/// isolated was armed (design §7).
pub(crate) fn take_up_isolation(memory: &mut Memory, rows: &ManagedRows<'_>, is_paused: bool) {
    if memory.lease.armed {
        return;
    }
    let is_isolated = |rows: &ServerRows<'_>| rows.has_marker(Layer::Runtime, EvidenceKind::Isolation);
    let isolated: Vec<Node> =
        rows.servers().filter(|(_, rows)| is_isolated(rows)).map(|(server, _)| server.clone()).collect();
    if is_paused || !isolated.is_empty() {
        memory.lease.armed = true;
        memory.lease.isolated = true;
        memory.lease.marked_isolated = true;
        memory.nodes.known.extend(isolated);
    }
}

/// Merges the releases of all agents of this ProxySQL into the memory, by server.
pub(crate) fn take_up_releases(nodes: &mut NodeMemory, observed: &Observed) {
    let ours = std::mem::take(&mut nodes.released);
    for released in [&ours, &observed.proxy.released] {
        for (server, release) in by_server(released, &nodes.identity) {
            let known = nodes.released.entry(server).or_default();
            *known = known.and(release);
        }
    }
}

/// Merges the releases of each server's names.
pub(crate) fn by_server(releases: &BTreeMap<Node, Release>, identity: &Identity) -> BTreeMap<Node, Release> {
    let mut of_servers: BTreeMap<Node, Release> = BTreeMap::new();
    for (name, release) in releases {
        let released = of_servers.entry(identity.server(name).clone()).or_default();
        *released = released.and(*release);
    }
    of_servers
}

/// Learns which names are one server, and forgets the addresses of hosts that nobody names any more.
pub(crate) fn learn_names(nodes: &mut NodeMemory, instances: &[Instance], served: &BTreeSet<Node>, policy: &Policy) {
    nodes.identity.learn(instances, served, &policy.aliases, &nodes.addresses);
    if nodes.addresses != Addresses::default() {
        let named: BTreeSet<&Host> = served.iter().chain(instances.iter().map(|i| &i.node)).map(|n| &n.host).collect();
        nodes.addresses.retain(|host| named.contains(host));
    }
}

/// Takes the answer into the memory: the nodes that Orchestrator knows, and the records that concern served nodes.
pub(crate) fn learn(memory: &mut Memory, answer: &Answer, rows: &ManagedRows<'_>, now_ms: u64) {
    memory.watching_since_s.get_or_insert(answer.date_s);
    let named = answer.downtimes.iter().map(|d| &d.node);
    let named = named.chain(answer.instances.iter().flatten().map(|i| &i.node));
    let records = answer.history.iter().flat_map(|history| &history.records);
    let named = named.chain(records.flat_map(|record| std::iter::once(&record.failed).chain(&record.successor)));
    let is_new = |node: &&Node| !memory.nodes.known.contains(*node) && rows.serves(node);
    let new: Vec<Node> = named.filter(is_new).cloned().collect();
    let (knows_more, is_first_read) = (!new.is_empty(), memory.history.progress == HistoryProgress::default());
    if knows_more {
        memory.nodes.known.extend(new);
    }
    if answer.instances.is_some() {
        memory.nodes.instances_asked_ms = Some(now_ms);
    }
    if let Some(history) = &answer.history {
        memory.history.asked_ms = Some(now_ms);
        memory.history.progress = history.progress.clone();
        let unreadable = answer.skipped.iter().filter(|skipped| skipped.part == AnswerPart::History);
        memory.history.unreadable = unreadable
            .flat_map(|skipped| skipped.nodes.iter().map(|node| (node.clone(), skipped.what.clone())))
            .collect();
        let downtimes = downtime_of_each(answer.downtimes.iter().map(|d| (&d.node, d)));
        memory.history.downtimes = downtimes.into_iter().map(|(node, d)| (node.clone(), d.clone())).collect();
        learn_records(memory, &history.records);
    }
    // Records of a node that was not known yet were not kept. The whole history is read again.
    if knows_more && !is_first_read {
        memory.history.progress = HistoryProgress::default();
    }
    if let Some(instances) = &answer.instances {
        confirm_promotions(memory, instances);
    }
}

fn learn_records(memory: &mut Memory, history: &[Recovery]) {
    let promoted = |record: &&Recovery| supersedes(record) || is_said_to_have_failed(record);
    for record in history.iter().filter(promoted) {
        let kept = memory.history.records.entry(record.uid.clone()).or_insert_with(|| record.clone());
        // An end is an upper bound: the time when the recovery was seen to be over. The earliest is the best.
        let end_s = kept.end_s.into_iter().chain(record.end_s).min();
        // A success that the topology confirmed stays confirmed, though the record still denies it.
        let successful = kept.successful || record.successful;
        *kept = Recovery { end_s, successful, ..record.clone() };
    }
    let in_vain = |r: &&Recovery| r.analysis == Analysis::DeadPrimary && !promoted(r) && r.end_s.is_some();
    for record in history.iter().filter(in_vain).filter(|record| memory.nodes.known.contains(&record.failed)) {
        let newest = memory.history.promoted_nobody.entry(record.failed.clone()).or_default();
        *newest = (*newest).max(record.at_ns);
    }
    // Only the newest record of each known node can matter, and records that are not confirmed yet.
    let matter: BTreeSet<String> = {
        let newest = NewestRecoveries::of_each(memory.history.records.values());
        let of_known = memory.nodes.known.iter().filter_map(|node| newest.of(node)).map(|record| record.uid.clone());
        of_known.take(RECORDS_MAX).collect()
    };
    let of_known = |record: &Recovery| memory.nodes.known.contains(&record.failed);
    memory.history.records.retain(|uid, record| matter.contains(uid) || (!record.successful && of_known(record)));
    while memory.history.records.len() > RECORDS_MAX {
        memory.history.records.pop_first();
    }
}

/// Whether a record names a promotion and says that the recovery failed. The failure can be a mere hook's, after the
/// promotion.
fn is_said_to_have_failed(record: &Recovery) -> bool {
    !record.successful && record.end_s.is_some() && supersedes(&Recovery { successful: true, ..record.clone() })
}

/// Confirms recoveries whose record says that they failed: the successor is seen to take writes and to follow nobody.
fn confirm_promotions(memory: &mut Memory, instances: &[Instance]) {
    if memory.history.records.values().all(|record| record.successful) {
        return;
    }
    let shown: BTreeMap<&Node, &Instance> = instances.iter().map(|i| (&i.node, i)).collect();
    for record in memory.history.records.values_mut().filter(|record| !record.successful) {
        let promoted = record.successor.as_ref().and_then(|successor| shown.get(successor));
        let checked_since = |i: &Instance| record.end_s.is_some_and(|end_s| i.checked_s > end_s);
        // A successor without RESET SLAVE ALL still has its replica settings.
        let follows_nobody =
            |i: &Instance| i.primary.is_none() || (i.primary.as_ref() == Some(&record.failed) && !i.replicating);
        record.successful = promoted.is_some_and(|i| i.valid && !i.read_only && follows_nobody(i) && checked_since(i));
    }
}

/// Arms isolation once a leader with a lease knows a writer of this ProxySQL (design §7). Where no hostgroup is known
/// to take writes, any known node will do.
pub(crate) fn arm(memory: &mut Memory, lease_state: LeaseState, rows: &ManagedRows<'_>, managed: &Managed) {
    if memory.lease.armed || !matches!(lease_state, LeaseState::Led { .. }) {
        return;
    }
    let mut armed = rows.servers().filter(|(server, _)| memory.nodes.known.contains(*server));
    memory.lease.armed = armed.any(|(_, of_server)| is_armed_for(rows, managed, memory, of_server));
}

/// The cluster in which each served node was last seen with others. A cluster is named by one of its nodes, and keeps
/// the name while it loses and gains nodes. If it splits, one part keeps the name. A node alone keeps its last cluster.
pub(crate) fn clusters_seen(
    known: &BTreeMap<Node, Node>,
    topology: &Topology<'_>,
    rows: &ManagedRows<'_>,
) -> BTreeMap<Node, Node> {
    let mut seen: BTreeMap<Node, Node> =
        known.iter().filter(|(node, _)| rows.serves(node)).map(|(node, of)| (node.clone(), of.clone())).collect();
    let mut taken: BTreeSet<&Node> = BTreeSet::new();
    for members in topology.clusters() {
        let nodes = || members.iter().map(|i| &i.node);
        let running = |i: &&&Instance| i.valid && i.replicating;
        if members.len() < 2 || !members.iter().any(|i| running(&i)) {
            continue;
        }
        let named = nodes().filter_map(|node| known.get(node)).find(|name| !taken.contains(name));
        let Some(name) = named.or(nodes().min()) else { continue };
        taken.insert(name);
        seen.extend(nodes().filter(|node| rows.serves(node)).map(|node| (node.clone(), name.clone())));
    }
    seen
}
