//! The decision: what is to become of each node, and why.
//!
//! ```text
//! lease::advance -> learn -> per node: evidence (gather) -> discharge (proof) -> verdict -> plan
//! ```
//!
//! Pure: the same input gives the same decision, and every verdict carries its evidence as data.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::{History, Topology, newest_of_each};
use crate::discharge::{discharge, return_as_primary, settle_old};
use crate::evidence::{Evidence, Kind, Level};
use crate::gather::{ByKind, Facts, is_armed_for, knows_a_server_of};
use crate::guards::{Fenced, is_out_for_good, may_fence_for_downtime};
use crate::history::Progress;
use crate::identity::Identity;
use crate::lease::{AtProxy, Share, Standing, advance, share};
use crate::managed::{Managed, ManagedRows, ServerRows};
use crate::marker::Comment;
use crate::memory::{Memory, RECORDS_MAX};
use crate::node::Node;
use crate::observed::{
    Analysis, Answer, Downtime, Instance, LOST_IN_RECOVERY, LeaderView, Observed, Order, Orders, Part, Recovery,
    Release,
};
use crate::plan::{Directive, Plan};
use crate::policy::Policy;
use crate::row::{Hostgroup, Row, Status};
use crate::superseded::supersedes;
use crate::verdict::{Verdict, Why};

/// What one tick decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Per name of a served node.
    pub verdicts: BTreeMap<Node, Verdict>,
    /// The row changes.
    pub plan: Plan,
    /// To be kept until the next tick.
    pub memory: Memory,
    /// Where we stand towards the leader.
    pub standing: Standing,
    /// Writer hostgroups of which Orchestrator knows no server: isolation is not armed for them and their readers.
    pub unarmed: BTreeMap<Hostgroup, BTreeSet<Node>>,
    /// Nodes that something speaks against, and that are listed in a cluster which this ProxySQL serves, but have no row
    /// here under that name.
    pub unmatched: BTreeMap<Node, Kind>,
}

/// Decides. `now_ms` counts on the clock that `memory`'s `_ms` values are of.
pub fn decide(observed: &Observed, memory: &Memory, policy: &Policy, now_ms: u64) -> Decision {
    let mut next = memory.clone();
    let proxy = &observed.proxy;
    let managed = Managed::of(proxy, policy);
    let said = match &observed.leader {
        LeaderView::Led(answer) => Some(answer),
        _ => None,
    };
    if let Some(instances) = said.and_then(|answer| answer.instances.as_ref()) {
        next.identity = Identity::learned(instances, &crate::managed::served(proxy, &managed));
    }
    let identity = next.identity.clone();
    let rows = ManagedRows::new(proxy, &managed, &identity);
    take_up_isolation_markers(&mut next, proxy, &managed);
    take_up_releases(&mut next, observed, &identity);
    let at_proxy = AtProxy { may_isolate: !proxy.clustered, lease: proxy.lease.as_ref() };
    let standing = advance(&mut next, &observed.leader, at_proxy, policy, now_ms);
    let answer = said.map(|answer| identity.unified(answer));
    let answer = answer.as_deref();
    match answer {
        Some(answer) => {
            learn(&mut next, answer, &rows, now_ms);
            arm(&mut next, standing, &rows, &managed);
        }
        // Whoever failed over meanwhile is asked for at once.
        None => next.history_asked_ms = None,
    }
    let before = next.clone();
    let ordered_releases = by_server(&observed.orders.released, &identity);
    let records: Vec<Recovery> = before.records.values().cloned().map(|record| renamed(record, &identity)).collect();
    let all: Vec<&Recovery> = records.iter().collect();
    let released = |node: &Node| {
        let of = |of: &BTreeMap<Node, Release>| of.get(node).copied().unwrap_or_default();
        of(&before.released).and(of(&ordered_releases))
    };
    let unreleased = all.iter().copied().filter(|record| record.at_ns > released(&record.failed).recovery_ns);
    let history = History {
        records: unreleased.collect(),
        old_before_ns: watching_since_ns(&before),
        companions: companions(&before, &rows),
    };
    let topology = answer.and_then(|answer| answer.instances.as_ref()).map(|shown| Topology::new(shown, &history));
    let clusters = topology.as_ref().map(|topology| clusters_seen(&memory.cluster, topology, &rows));
    let downtimes: BTreeMap<&Node, &Downtime> =
        answer.iter().flat_map(|answer| &answer.downtimes).map(|downtime| (&downtime.node, downtime)).collect();
    let facts = Facts {
        observed,
        policy,
        managed: &managed,
        rows: &rows,
        memory: &before,
        standing,
        answer,
        downtimes: &downtimes,
        newest: &newest_of_each(&all),
        ordered_releases: &ordered_releases,
        topology: topology.as_ref(),
    };
    let (verdicts, directives) = judge_all(&facts, &mut next, now_ms);
    if let Some(clusters) = clusters {
        next.cluster = clusters;
    }
    let mut plan = Plan::new(managed.clone(), directives, proxy);
    plan.end_possible_holders = policy.end_possible_holders;
    plan.releases = releases(&verdicts, &next, &observed.orders, &identity);
    plan.share = share_lease(&mut next, standing, observed, &managed, policy, now_ms);
    let (unarmed, unmatched) = (unarmed(&rows, &managed, &next), unmatched(&facts));
    Decision { verdicts, plan, memory: next, standing, unarmed, unmatched }
}

fn renamed(mut record: Recovery, identity: &Identity) -> Recovery {
    identity.rename_in(&mut record);
    record
}

fn watching_since_ns(memory: &Memory) -> u64 {
    let since_s = memory.watching_since_s.unwrap_or(i64::MAX);
    u64::try_from(since_s).unwrap_or(0).saturating_mul(1_000_000_000)
}

fn by_server(releases: &BTreeMap<Node, Release>, identity: &Identity) -> BTreeMap<Node, Release> {
    let mut of_servers: BTreeMap<Node, Release> = BTreeMap::new();
    for (name, release) in releases {
        let released = of_servers.entry(identity.server(name).clone()).or_default();
        *released = released.and(*release);
    }
    of_servers
}

/// What agents of this ProxySQL released, this one included, by server.
fn take_up_releases(memory: &mut Memory, observed: &Observed, identity: &Identity) {
    let ours = std::mem::take(&mut memory.released);
    for released in [&ours, &observed.proxy.released] {
        for (server, release) in by_server(released, identity) {
            let known = memory.released.entry(server).or_default();
            *known = known.and(release);
        }
    }
}

/// Nodes that were last seen to replicate together and serve one hostgroup: a returned old primary is alone in what
/// Orchestrator calls its cluster, and no record may be left.
fn companions<'a>(memory: &'a Memory, rows: &'a ManagedRows<'_>) -> Vec<(&'a Node, &'a Node)> {
    let mut first: BTreeMap<(&Node, Hostgroup), &Node> = BTreeMap::new();
    let mut joined = Vec::new();
    for (server, of_server) in rows.servers() {
        let Some(cluster) = memory.cluster.get(server) else { continue };
        for hostgroup in of_server.hostgroups() {
            joined.push((*first.entry((cluster, hostgroup)).or_insert(server), server));
        }
    }
    joined.retain(|(a, b)| a != b);
    joined
}

/// The cluster in which each served node was last seen with others. A cluster keeps its name while it loses and gains
/// nodes; of two that were one the first keeps it. A node alone keeps the name of the cluster that it was in.
fn clusters_seen(
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

/// What returning nodes are released of, under each of their names; the end of an isolation releases nothing.
fn releases(
    verdicts: &BTreeMap<Node, Verdict>,
    memory: &Memory,
    orders: &Orders,
    identity: &Identity,
) -> BTreeMap<Node, Release> {
    let returns = verdicts.iter().filter(|(_, verdict)| match verdict {
        Verdict::Unfence { evidence, .. } => evidence.iter().any(|fact| fact.kind != Kind::Isolation),
        _ => false,
    });
    let of = |released: &BTreeMap<Node, Release>, node: &Node| released.get(node).copied().unwrap_or_default();
    let both = |name: &Node| of(&memory.released, identity.server(name)).and(of(&orders.released, name));
    returns.map(|(name, _)| (name.clone(), both(name))).collect()
}

/// See [`crate::lease`]: of two agents of one ProxySQL one isolates it, and the other has a lease.
fn share_lease(
    memory: &mut Memory,
    standing: Standing,
    observed: &Observed,
    managed: &Managed,
    policy: &Policy,
    now_ms: u64,
) -> Option<Share> {
    let Observed { proxy, orders, .. } = observed;
    let layers = [&proxy.runtime, &proxy.memory, &proxy.disk];
    let is_marked = layers.into_iter().flatten().any(|row| is_isolated(row, managed));
    let by_others = is_marked && !memory.marked_isolated;
    if !is_marked && standing != Standing::Isolated {
        memory.marked_isolated = false;
    }
    if orders.suspended.is_some() {
        return None;
    }
    share(memory, standing, proxy.lease.as_ref(), by_others, policy, now_ms)
}

pub(crate) fn is_isolated(row: &Row, managed: &Managed) -> bool {
    managed.contains(row.key.hostgroup)
        && matches!(Comment::parse(&row.comment), Comment::Marked(_, marker) if marker.kind == Kind::Isolation)
}

/// The state file is lost, but the rows say that we were isolated: so we were armed (DESIGN §7).
fn take_up_isolation_markers(memory: &mut Memory, proxy: &crate::observed::ProxyView, managed: &Managed) {
    let isolated = |row: &&Row| is_isolated(row, managed);
    if !memory.armed && proxy.runtime.iter().any(|row| isolated(&row)) {
        memory.armed = true;
        memory.isolated = true;
        memory.marked_isolated = true;
        memory.known.extend(proxy.runtime.iter().filter(isolated).filter_map(Row::node));
    }
}

/// Takes the answer into the memory: which nodes there are, and the records that concern ours.
fn learn(memory: &mut Memory, answer: &Answer, rows: &ManagedRows<'_>, now_ms: u64) {
    memory.watching_since_s.get_or_insert(answer.date_s);
    let named = answer.downtimes.iter().map(|d| &d.node);
    let named = named.chain(answer.instances.iter().flatten().map(|i| &i.node));
    let records = answer.history.iter().flat_map(|history| &history.records);
    let named = named.chain(records.flat_map(|record| std::iter::once(&record.failed).chain(&record.successor)));
    let (before, is_first_read) = (memory.known.len(), memory.history == Progress::default());
    memory.known.extend(named.filter(|node| rows.serves(node)).cloned());
    if answer.instances.is_some() {
        memory.instances_asked_ms = Some(now_ms);
    }
    if let Some(history) = &answer.history {
        memory.history_asked_ms = Some(now_ms);
        memory.history = history.progress.clone();
        let unreadable = answer.skipped.iter().filter(|skipped| skipped.part == Part::History);
        memory.unreadable = unreadable
            .flat_map(|skipped| skipped.nodes.iter().map(|node| (node.clone(), skipped.what.clone())))
            .collect();
        memory.history_downtimes = answer.downtimes.iter().map(|d| (d.node.clone(), d.clone())).collect();
        learn_records(memory, &history.records);
    }
    // What was read before says nothing of a node that nobody asked for then.
    if memory.known.len() > before && !is_first_read {
        memory.history = Progress::default();
    }
    if let Some(instances) = &answer.instances {
        confirm_promotions(memory, instances);
    }
    // What was read before says nothing of a node that nobody asked for then.
    if memory.known.len() > before && !is_first_read {
        memory.history = Progress::default();
    }
}

fn learn_records(memory: &mut Memory, history: &[Recovery]) {
    let promoted = |record: &&Recovery| supersedes(record) || is_said_to_have_failed(record);
    for record in history.iter().filter(promoted) {
        let kept = memory.records.entry(record.uid.clone()).or_insert_with(|| record.clone());
        // Its end is an upper bound, by the time when it was seen to be over.
        let end_s = kept.end_s.into_iter().chain(record.end_s).min();
        // What the topology has confirmed stays so, whatever the record goes on saying.
        let successful = kept.successful || record.successful;
        *kept = Recovery { end_s, successful, ..record.clone() };
    }
    let in_vain = |r: &&Recovery| r.analysis == Analysis::DeadPrimary && !promoted(r) && r.end_s.is_some();
    for record in history.iter().filter(in_vain).filter(|record| memory.known.contains(&record.failed)) {
        let newest = memory.promoted_nobody.entry(record.failed.clone()).or_default();
        *newest = (*newest).max(record.at_ns);
    }
    // The newest of each node that is or was served is all that can ever matter, and what is not confirmed yet.
    let matter: BTreeSet<String> = {
        let all: Vec<&Recovery> = memory.records.values().collect();
        let newest = newest_of_each(&all);
        let of_known = memory.known.iter().filter_map(|node| newest.get(node)).map(|record| record.uid.clone());
        of_known.take(RECORDS_MAX).collect()
    };
    let of_known = |record: &Recovery| memory.known.contains(&record.failed);
    memory.records.retain(|uid, record| matter.contains(uid) || (!record.successful && of_known(record)));
    while memory.records.len() > RECORDS_MAX {
        memory.records.pop_first();
    }
}

/// A recovery that promoted a node and then failed, in a hook of its own say: its record denies a success that the nodes
/// show.
fn is_said_to_have_failed(record: &Recovery) -> bool {
    !record.successful && record.end_s.is_some() && supersedes(&Recovery { successful: true, ..record.clone() })
}

/// A recovery that is said to have failed counts once its successor is seen to take writes and to follow nobody.
fn confirm_promotions(memory: &mut Memory, instances: &[Instance]) {
    if memory.records.values().all(|record| record.successful) {
        return;
    }
    let shown: BTreeMap<&Node, &Instance> = instances.iter().map(|i| (&i.node, i)).collect();
    for record in memory.records.values_mut().filter(|record| !record.successful) {
        let promoted = record.successor.as_ref().and_then(|successor| shown.get(successor));
        let checked_since = |i: &Instance| record.end_s.is_some_and(|end_s| i.checked_s > end_s);
        record.successful =
            promoted.is_some_and(|i| i.valid && !i.read_only && i.primary.is_none() && checked_since(i));
    }
}

/// Armed once a lease was held by a leader that knows a writer of this ProxySQL (DESIGN §7); where no hostgroup is known to
/// take writes, any node of it.
fn arm(memory: &mut Memory, standing: Standing, rows: &ManagedRows<'_>, managed: &Managed) {
    if memory.armed || !matches!(standing, Standing::Led { .. }) {
        return;
    }
    let mut armed = rows.servers().filter(|(server, _)| memory.known.contains(*server));
    memory.armed = armed.any(|(_, of_server)| is_armed_for(rows, managed, memory, of_server));
}

fn unarmed(rows: &ManagedRows<'_>, managed: &Managed, memory: &Memory) -> BTreeMap<Hostgroup, BTreeSet<Node>> {
    let unknown = managed.writers().filter(|hostgroup| !knows_a_server_of(rows, memory, *hostgroup));
    let servers = |hostgroup| rows.in_runtime(hostgroup).map(|(server, _)| server.clone()).collect();
    unknown
        .map(|hostgroup| (hostgroup, servers(hostgroup)))
        .filter(|(_, servers)| !BTreeSet::is_empty(servers))
        .collect()
}

fn unmatched(facts: &Facts<'_>) -> BTreeMap<Node, Kind> {
    let Some(topology) = facts.topology else { return BTreeMap::new() };
    let served: BTreeSet<usize> = facts.rows.servers().filter_map(|(server, _)| topology.cluster_of(server)).collect();
    let marked = facts.downtimes.values().filter(|downtime| downtime.reason == LOST_IN_RECOVERY);
    let marked = marked.map(|downtime| (&downtime.node, Kind::LostInRecovery));
    let superseded = facts.newest.values().map(|record| &record.failed).map(|node| (node, Kind::Superseded));
    let concerns = |node: &Node| topology.cluster_of(node).is_some_and(|cluster| served.contains(&cluster));
    let is_alive = |node: &Node| topology.instance(node).is_some_and(|instance| instance.valid);
    marked
        .chain(superseded)
        .filter(|(node, _)| !facts.rows.serves(node) && is_alive(node) && concerns(node))
        .filter(|(node, kind)| *kind != Kind::Superseded || facts.superseding(node).is_some())
        .map(|(node, kind)| (node.clone(), kind))
        .collect()
}

type Judged = (BTreeMap<Node, Verdict>, BTreeMap<Node, Directive>);

/// What is to become of each server.
fn judge_all(facts: &Facts<'_>, next: &mut Memory, now_ms: u64) -> Judged {
    let (seen, second_writers) = facts.second_writers();
    next.second_writers = seen;
    let mut verdicts = BTreeMap::new();
    let mut fenced = Fenced::default();
    let cluster_of = |node: &Node| facts.topology.and_then(|topology| topology.cluster_of(node));
    let mut for_downtime = Vec::new();
    for (node, rows) in facts.rows.servers() {
        let marked = facts.marked(node);
        if let Some(why) = hands_off(facts, node, rows, marked.is_empty()) {
            verdicts.insert(node.clone(), why);
            continue;
        }
        let found = facts.of_recovery(node, rows, &marked);
        let mut evidence = found.evidence;
        evidence.extend(other_evidence(facts, node, &marked));
        evidence.extend(second_writers.get(node).map(|fact| (fact.kind, fact.clone())));
        if let Some(fact) = facts.of_downtime(node) {
            // An isolation, which ends by itself, must not carry it past the guards.
            if is_out_for_good(&evidence) {
                evidence.insert(fact.kind, fact);
            } else {
                for_downtime.push((node.clone(), fact));
                if evidence.is_empty() {
                    continue;
                }
            }
        }
        if evidence.is_empty() {
            verdicts.insert(node.clone(), not_fenced(facts, next, node, &marked, found.held, now_ms));
            continue;
        }
        fenced.add(cluster_of(node), node, evidence);
    }
    for (node, fact) in for_downtime {
        match may_fence_for_downtime(facts, &node, &fenced) {
            Ok(()) => fenced.add(cluster_of(&node), &node, ByKind::from([(fact.kind, fact)])),
            // One that is out for an isolation is judged by that, below.
            Err(guard) => drop(verdicts.insert(node, Verdict::Hold(Why::Guarded(guard)))),
        }
    }
    // Judged, and nothing counts any more: released. A node that was not judged keeps what speaks against it (I2).
    let settled = |verdict: Option<&Verdict>| match verdict {
        Some(Verdict::Hold(why)) => matches!(why, Why::OldEvidence(_) | Why::Contradicted(_) | Why::Guarded(_)),
        verdict => matches!(verdict, Some(Verdict::Keep)),
    };
    next.evidence.retain(|node, _| !settled(verdicts.get(node)));
    for (node, evidence) in fenced {
        let verdict = discharge(facts, next, &node, evidence, now_ms);
        verdicts.insert(node, verdict);
    }
    under_every_name(facts, verdicts)
}

/// Evidence that is not of a recovery: what was kept, what markers say, a lease that is over, an order.
fn other_evidence(facts: &Facts<'_>, node: &Node, marked: &ByKind) -> ByKind {
    let is_other = |kind: &Kind| !crate::gather::OF_RECOVERY.contains(kind) && *kind != Kind::Replica;
    let mut evidence: ByKind = facts.kept(node).into_iter().filter(|(kind, _)| is_other(kind)).collect();
    for (kind, fact) in marked.iter().filter(|(kind, _)| is_other(kind)) {
        evidence.entry(*kind).or_insert_with(|| fact.clone());
    }
    evidence.extend(facts.of_isolation(node).map(|fact| (fact.kind, fact)));
    evidence.extend(ordered(facts, node));
    evidence
}

/// What becomes of a node that nothing fences.
fn not_fenced(
    facts: &Facts<'_>,
    next: &mut Memory,
    node: &Node,
    marked: &ByKind,
    held: Option<Evidence>,
    now_ms: u64,
) -> Verdict {
    if let Some(what) = facts.unreadable(node) {
        next.proofs.remove(node);
        return Verdict::Hold(Why::Unreadable(what.to_owned()));
    }
    if let Some(old) = held {
        let settled = settle_old(facts, next, node, &old, now_ms);
        if let Some(role) = settled.filter(|_| old.source == "marker") {
            // Memory or disk still show the fence that its runtime rows are without.
            return Verdict::Unfence { role, evidence: vec![old] };
        }
        let is_contradicted = next.contradicted.contains_key(node) || facts.is_contradicted(node, old.by.as_ref());
        return Verdict::Hold(if is_contradicted { Why::Contradicted(old) } else { Why::OldEvidence(old) });
    }
    if let Some(waiting) = marked.get(&Kind::Replica) {
        return return_as_primary(facts, next, node, waiting, now_ms);
    }
    next.proofs.remove(node);
    Verdict::Keep
}

/// What was judged of a server holds for each name that its rows have.
fn under_every_name(facts: &Facts<'_>, by_server: BTreeMap<Node, Verdict>) -> Judged {
    let (mut verdicts, mut directives) = (BTreeMap::new(), BTreeMap::new());
    for (server, verdict) in by_server {
        let directive = directive(&verdict, facts, &server);
        for name in facts.rows.of(&server).map(ServerRows::names).into_iter().flatten() {
            directives.extend(directive.iter().map(|directive| (name.clone(), directive.clone())));
            verdicts.insert(name.clone(), verdict.clone());
        }
    }
    (verdicts, directives)
}

/// What can't or mustn't be judged.
fn hands_off(facts: &Facts<'_>, node: &Node, rows: &ServerRows<'_>, unmarked: bool) -> Option<Verdict> {
    if rows.all().any(|row| matches!(Comment::parse(&row.comment), Comment::Unreadable(_))) {
        return Some(Verdict::Hold(Why::UnreadableMarker));
    }
    if let Some(Status::Unknown(text)) =
        rows.all().map(|row| &row.status).find(|status| matches!(status, Status::Unknown(_)))
    {
        return Some(Verdict::Hold(Why::UnknownStatus(text.clone())));
    }
    let ordered = match &facts.observed.orders.now {
        Some(Order::Fence { node: ordered, .. } | Order::Unfence { node: ordered, .. }) => {
            rows.names().contains(ordered)
        }
        Some(Order::EndIsolation) => !unmarked,
        None => false,
    };
    if let Some(reason) = facts.observed.orders.suspended.as_ref().filter(|_| !ordered) {
        return Some(Verdict::Hold(Why::Suspended(reason.clone())));
    }
    // A marker proves that Orchestrator knew it once, and an operator's order needs no such knowledge.
    (!facts.memory.known.contains(node) && unmarked && !ordered).then_some(Verdict::Ignore(Why::NotKnown))
}

fn ordered(facts: &Facts<'_>, node: &Node) -> Option<(Kind, Evidence)> {
    match &facts.observed.orders.now {
        Some(Order::Fence { node: ordered, .. }) if facts.is_named(node, ordered) => Some((
            Kind::Manual,
            Evidence { kind: Kind::Manual, by: None, source: "operator".to_owned(), id: String::new(), at_s: 0 },
        )),
        _ => None,
    }
}

fn directive(verdict: &Verdict, facts: &Facts<'_>, node: &Node) -> Option<Directive> {
    match verdict {
        Verdict::Fence { level, evidence, .. } => {
            let first = evidence.first()?;
            // The successor is named by whichever evidence of that kind knows it; a marker's own name comes second.
            let by = first.by.clone().or_else(|| facts.marked(node).get(&first.kind).and_then(|e| e.by.clone()));
            Some(Directive::Fence { kind: first.kind, by, sessions: *level >= Level::Sessions })
        }
        Verdict::Unfence { role, .. } => Some(Directive::Unfence(*role)),
        Verdict::Keep | Verdict::Hold(_) | Verdict::Ignore(_) => None,
    }
}
