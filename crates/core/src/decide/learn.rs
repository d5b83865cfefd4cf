//! What an answer and ProxySQL's own tables teach the memory. Nothing here lets a node back.

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::facts::is_armed_for;
use crate::evidence::EvidenceKind;
use crate::lease::LeaseState;
use crate::managed::{Managed, ManagedRows, ServerRows};
use crate::memory::{Memory, NodeMemory, RECORDS_MAX};
use crate::node::Node;
use crate::observed::Observed;
use crate::orchestrator::{
    Analysis, Answer, AnswerPart, HistoryProgress, Identity, Instance, NewestRecoveries, Recovery, Topology, supersedes,
};
use crate::orders::Release;
use crate::table::Layer;

/// The state file is lost, but the rows say that we were isolated: so we were armed (design §7).
pub(crate) fn take_up_isolation_markers(memory: &mut Memory, rows: &ManagedRows<'_>) {
    if memory.lease.armed {
        return;
    }
    let is_isolated = |rows: &ServerRows<'_>| rows.has_marker(Layer::Runtime, EvidenceKind::Isolation);
    let isolated: Vec<Node> =
        rows.servers().filter(|(_, rows)| is_isolated(rows)).map(|(server, _)| server.clone()).collect();
    if !isolated.is_empty() {
        memory.lease.armed = true;
        memory.lease.isolated = true;
        memory.lease.marked_isolated = true;
        memory.nodes.known.extend(isolated);
    }
}

/// What agents of this ProxySQL released, this one included, by server.
pub(crate) fn take_up_releases(nodes: &mut NodeMemory, observed: &Observed) {
    let ours = std::mem::take(&mut nodes.released);
    for released in [&ours, &observed.proxy.released] {
        for (server, release) in by_server(released, &nodes.identity) {
            let known = nodes.released.entry(server).or_default();
            *known = known.and(release);
        }
    }
}

/// Releases by server: what was released under any of its names.
pub(crate) fn by_server(releases: &BTreeMap<Node, Release>, identity: &Identity) -> BTreeMap<Node, Release> {
    let mut of_servers: BTreeMap<Node, Release> = BTreeMap::new();
    for (name, release) in releases {
        let released = of_servers.entry(identity.server(name).clone()).or_default();
        *released = released.and(*release);
    }
    of_servers
}

/// Takes the answer into the memory: which nodes there are, and the records that concern ours.
pub(crate) fn learn(memory: &mut Memory, answer: &Answer, rows: &ManagedRows<'_>, now_ms: u64) {
    memory.watching_since_s.get_or_insert(answer.date_s);
    let named = answer.downtimes.iter().map(|d| &d.node);
    let named = named.chain(answer.instances.iter().flatten().map(|i| &i.node));
    let records = answer.history.iter().flat_map(|history| &history.records);
    let named = named.chain(records.flat_map(|record| std::iter::once(&record.failed).chain(&record.successor)));
    let (before, is_first_read) = (memory.nodes.known.len(), memory.history.progress == HistoryProgress::default());
    memory.nodes.known.extend(named.filter(|node| rows.serves(node)).cloned());
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
        memory.history.downtimes = answer.downtimes.iter().map(|d| (d.node.clone(), d.clone())).collect();
        learn_records(memory, &history.records);
    }
    // What was read before says nothing of a node that nobody asked for then.
    if memory.nodes.known.len() > before && !is_first_read {
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
        // Its end is an upper bound, by the time when it was seen to be over.
        let end_s = kept.end_s.into_iter().chain(record.end_s).min();
        // What the topology has confirmed stays so, whatever the record goes on saying.
        let successful = kept.successful || record.successful;
        *kept = Recovery { end_s, successful, ..record.clone() };
    }
    let in_vain = |r: &&Recovery| r.analysis == Analysis::DeadPrimary && !promoted(r) && r.end_s.is_some();
    for record in history.iter().filter(in_vain).filter(|record| memory.nodes.known.contains(&record.failed)) {
        let newest = memory.history.promoted_nobody.entry(record.failed.clone()).or_default();
        *newest = (*newest).max(record.at_ns);
    }
    // The newest of each node that is or was served is all that can ever matter, and what is not confirmed yet.
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

/// A recovery that promoted a node and then failed, in a hook of its own say: its record denies a success that the nodes
/// show.
fn is_said_to_have_failed(record: &Recovery) -> bool {
    !record.successful && record.end_s.is_some() && supersedes(&Recovery { successful: true, ..record.clone() })
}

/// A recovery that is said to have failed counts once its successor is seen to take writes and to follow nobody.
fn confirm_promotions(memory: &mut Memory, instances: &[Instance]) {
    if memory.history.records.values().all(|record| record.successful) {
        return;
    }
    let shown: BTreeMap<&Node, &Instance> = instances.iter().map(|i| (&i.node, i)).collect();
    for record in memory.history.records.values_mut().filter(|record| !record.successful) {
        let promoted = record.successor.as_ref().and_then(|successor| shown.get(successor));
        let checked_since = |i: &Instance| record.end_s.is_some_and(|end_s| i.checked_s > end_s);
        // Without RESET SLAVE ALL it still has its settings.
        let follows_nobody =
            |i: &Instance| i.primary.is_none() || (i.primary.as_ref() == Some(&record.failed) && !i.replicating);
        record.successful = promoted.is_some_and(|i| i.valid && !i.read_only && follows_nobody(i) && checked_since(i));
    }
}

/// Armed once a lease was held by a leader that knows a writer of this ProxySQL (design §7); where no hostgroup is known to
/// take writes, any node of it.
pub(crate) fn arm(memory: &mut Memory, lease_state: LeaseState, rows: &ManagedRows<'_>, managed: &Managed) {
    if memory.lease.armed || !matches!(lease_state, LeaseState::Led { .. }) {
        return;
    }
    let mut armed = rows.servers().filter(|(server, _)| memory.nodes.known.contains(*server));
    memory.lease.armed = armed.any(|(_, of_server)| is_armed_for(rows, managed, memory, of_server));
}

/// The cluster in which each served node was last seen with others. A cluster keeps its name while it loses and gains
/// nodes; of two that were one the first keeps it. A node alone keeps the name of the cluster that it was in.
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
