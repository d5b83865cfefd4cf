//! Collects the evidence against each node from the memory, the markers and the leader's answer (design §5).
//!
//! **Invariant:** nothing here ends evidence (I2). [`super::discharge`] does.

use std::collections::BTreeMap;

use crate::decide::{Judge, ProofGaps, prove_bad};
use crate::evidence::{Evidence, EvidenceKind, Source};
use crate::lease::LeaseState;
use crate::managed::{Managed, ManagedRows, ServerRows};
use crate::memory::Memory;
use crate::node::Node;
use crate::observed::Observed;
use crate::orchestrator::{
    Answer, AnswerPart, BARRIER, Downtime, LOST_IN_RECOVERY, NewestRecoveries, Recovery, SkippedEntry, TAKEOVER,
    Topology, UnsureName, uid_ns,
};
use crate::orders::Release;
use crate::policy::{ErrantGtid, FenceOn, IsolationScope, Policy};
use crate::role::Role;
use crate::table::{Comment, Hostgroup, Layer};

/// Evidence per kind.
pub type ByKind = BTreeMap<EvidenceKind, Evidence>;

/// All that one tick knows, for the rules. A [`Node`] here is a server under its one name
/// ([`crate::orchestrator::Identity`]).
pub struct Facts<'a> {
    /// The tick's input as it was read.
    pub observed: &'a Observed,
    /// The operator's policy.
    pub policy: &'a Policy,
    /// The hostgroups that may be touched.
    pub managed: &'a Managed,
    /// The managed rows, by server.
    pub rows: &'a ManagedRows<'a>,
    /// The memory with this tick's answer taken in.
    pub memory: &'a Memory,
    /// The lease after this tick's answer.
    pub lease_state: LeaseState,
    /// The verified leader's answer, with one name per server.
    pub answer: Option<&'a Answer>,
    /// The downtimes of that answer.
    pub downtimes: &'a BTreeMap<&'a Node, &'a Downtime>,
    /// The newest superseding record of each node, released or not.
    pub newest: &'a NewestRecoveries<'a>,
    /// The releases by order, by server.
    pub ordered_releases: &'a BTreeMap<Node, Release>,
    /// The leader's instances, if this tick asked for them.
    pub topology: Option<&'a Topology<'a>>,
}

/// Evidence of a recovery against one node.
#[derive(Debug, Default)]
pub struct RecoveryEvidence {
    /// The evidence that fences the node.
    pub evidence: ByKind,
    /// The highest-ranking evidence from before the watch, if nothing fences the node. The node is held.
    pub held: Option<Evidence>,
}

impl<'a> Facts<'a> {
    /// The record that supersedes this node and is not released.
    pub fn superseding(&self, node: &Node) -> Option<&'a Recovery> {
        let record = self.newest.superseding(node)?;
        (record.at_ns > self.released(node).recovery_ns).then_some(record)
    }

    /// Whether the last recovery of this node as a dead primary promoted nobody.
    pub fn promoted_nobody(&self, node: &Node) -> bool {
        let in_vain_ns = self.memory.history.promoted_nobody.get(node).copied();
        in_vain_ns.is_some_and(|at| self.newest.superseding(node).is_none_or(|record| record.at_ns < at))
    }

    /// Whether a server has this name, in ProxySQL's rows or in Orchestrator.
    pub fn is_named(&self, server: &Node, name: &Node) -> bool {
        self.memory.nodes.identity.server(name) == server
    }

    /// The leader's downtime of this node that is not released.
    pub fn downtime(&self, node: &Node) -> Option<&'a Downtime> {
        let released = self.released(node);
        let listed = self.downtimes.get(node)?;
        (!released.has_downtime(listed.begin_s)).then_some(*listed)
    }

    /// The reason why one of a server's names is not taken for an instance's.
    pub fn unsure_name(&self, server: &Node) -> Option<&'a UnsureName> {
        self.unsure_name_in(self.rows.of(server)?)
    }

    /// The same as [`Self::unsure_name`], from rows that the caller has.
    pub fn unsure_name_in(&self, rows: &ServerRows<'_>) -> Option<&'a UnsureName> {
        rows.names().iter().find_map(|name| self.memory.nodes.identity.unsure(name))
    }

    /// The evidence against this node that proofs and orders released.
    pub fn released(&self, node: &Node) -> Release {
        let by_proof = self.memory.nodes.released.get(node).copied().unwrap_or_default();
        by_proof.and(self.released_by_order(node))
    }

    /// The evidence against this node that an operator released.
    pub fn released_by_order(&self, node: &Node) -> Release {
        self.ordered_releases.get(node).copied().unwrap_or_default()
    }

    /// The judge of this node's return; `None` if this tick did not ask for instances.
    pub fn judge(&self, node: &Node) -> Option<Judge<'_>> {
        let (topology, rows) = (self.topology?, self.rows.of(node));
        Some(Judge {
            topology,
            unproven_check_type: rows.and_then(|rows| rows.unproven_check_type(self.managed)),
            may_become_writer: rows.is_some_and(|rows| rows.may_become_writer(self.managed)),
            has_writer_row: rows.is_some_and(|rows| rows.has_writer(self.managed)),
            errant_gtid_holds: self.policy.errant_gtid == ErrantGtid::Hold,
        })
    }

    /// The live proof of a node with evidence of a recovery against it. `by` is the successor where no record names
    /// one.
    pub fn live_proof(&self, node: &Node, by: Option<&Node>) -> Option<Result<Role, ProofGaps>> {
        let successor = self.superseding(node).and_then(|record| record.successor.as_ref()).or(by);
        Some(self.judge(node)?.live(node, self.recovered_s(node), successor))
    }

    /// The end of the last recovery that this node had a part in, in s: the latest of its record's end, the mark's
    /// begin and the kept evidence. A record without an end counts as not over. Older checks may show the old
    /// replication.
    fn recovered_s(&self, node: &Node) -> Option<i64> {
        let record = self.newest.of(node).map(|record| record.end_s.unwrap_or(i64::MAX));
        let mark = self.downtime(node).filter(|downtime| downtime.reason == LOST_IN_RECOVERY).map(|d| d.begin_s);
        let kept = self.kept(node).into_values().filter(|e| e.kind.ends_by_proof()).map(|e| e.at_s).max();
        record.max(mark).max(kept)
    }

    /// Whether the newest record promoted this node after all evidence against it arose. Orchestrator itself made it
    /// the primary then, so its former successor need not follow it.
    pub fn was_promoted_since(&self, node: &Node, evidence: &ByKind) -> bool {
        let Some(promoted_s) = self.promoted_s(node) else { return false };
        let mut of_recovery = evidence.values().filter(|e| e.kind.ends_by_proof());
        of_recovery.all(|e| e.kind == EvidenceKind::Superseded || (e.at_s != 0 && e.at_s <= promoted_s))
    }

    /// The time of the promotion, in s, if the newest record that names this node promoted it.
    pub fn promoted_s(&self, node: &Node) -> Option<i64> {
        self.newest.promoting(node).map(Recovery::at_s)
    }

    /// The evidence in the markers of this node's rows. Once its return is live, a marker left in memory or on disk is
    /// no evidence. The journal of returns tells it from the marker of a fence that was cut off.
    pub fn marked(&self, node: &Node) -> ByKind {
        self.rows.of(node).map(|rows| self.marked_in(rows)).unwrap_or_default()
    }

    /// The same as [`Self::marked`], from rows that the caller has.
    pub fn marked_in(&self, rows: &ServerRows<'_>) -> ByKind {
        let mut found = ByKind::new();
        if !rows.has_note() {
            return found;
        }
        let is_back = rows.names().iter().any(|name| self.observed.proxy.returned.contains(name));
        for layer in Layer::ALL {
            if layer != Layer::Runtime && found.is_empty() && is_back {
                break;
            }
            for row in rows.of(layer).filter(|row| !row.is_ghost_in(layer)) {
                if let Comment::Marked(_, marker) = Comment::parse(&row.comment) {
                    let fact = found.entry(marker.kind).or_insert_with(|| Evidence::marker(marker.kind, None));
                    // Rows may name different successors. The choice must not depend on their order, and a name beats
                    // none.
                    fact.by = fact.by.take().max(marker.by);
                }
            }
        }
        found
    }

    /// Whether runtime shows a fence for a recovery: a marker of one, or a marker elsewhere and no row in service.
    fn is_fenced_for_recovery(&self, rows: &ServerRows<'_>, marked: &ByKind) -> bool {
        let shown = |row: &crate::table::Row| Comment::kind(&row.comment).is_some_and(|kind| kind.ends_by_proof());
        if !rows.has_note() {
            return false;
        }
        let is_marked = marked.keys().any(|kind| kind.ends_by_proof());
        rows.of(Layer::Runtime).filter(|row| !row.is_ghost_in(Layer::Runtime)).any(shown)
            || (is_marked && !rows.in_service())
    }

    /// The evidence kept from earlier ticks that is not released.
    pub fn kept(&self, node: &Node) -> ByKind {
        let released = self.released(node);
        let counts = |evidence: &Evidence| match evidence.kind {
            EvidenceKind::Superseded => uid_ns(&evidence.id).is_none_or(|ns| ns > released.recovery_ns),
            EvidenceKind::LostInRecovery | EvidenceKind::Downtime => !released.has_downtime(evidence.at_s),
            // An order ends by an order. Both times are from this host's clock.
            EvidenceKind::Manual => evidence.at_s > self.released_by_order(node).ordered_s,
            EvidenceKind::SecondWriter
            | EvidenceKind::Barrier
            | EvidenceKind::Takeover
            | EvidenceKind::Isolation
            | EvidenceKind::Replica => evidence.at_s > released.ordered_s,
        };
        let kept = self.memory.nodes.evidence.get(node).into_iter().flatten();
        kept.filter(|(_, evidence)| counts(evidence)).map(|(kind, evidence)| (*kind, evidence.clone())).collect()
    }

    /// The evidence that ends by proof: markers, kept evidence, the record and the mark. Evidence from before the watch
    /// fences a node only if its rows are fenced already or the node is proven bad (design §5).
    pub fn of_recovery(&self, node: &Node, rows: &ServerRows<'_>, marked: &ByKind) -> RecoveryEvidence {
        // What the hooks took out is fenced, though not by this program.
        let is_fenced = self.is_fenced_for_recovery(rows, marked)
            || (!rows.in_service() && !self.left_by_hooks(node, rows).is_empty());
        let mut found = RecoveryEvidence::default();
        let mut old = ByKind::new();
        let shown = marked.values().map(|fact| self.first_seen(fact));
        let known = self.kept(node).into_values().chain(shown);
        let mut facts: Vec<Evidence> = known.filter(|fact| fact.kind.ends_by_proof()).collect();
        facts.extend(self.barrier(node));
        facts.extend(self.superseding(node).map(|r| Evidence::superseded(r.successor.clone(), &r.uid, r.at_s())));
        facts.extend(self.lost_in_recovery(node, is_fenced || !facts.is_empty()));
        for fact in facts {
            // An unreadable record of this node may be newer than the readable one.
            let is_newest =
                fact.source != Source::RecoveryHistory || !self.memory.history.unreadable.contains_key(node);
            let counts = is_fenced || (is_newest && self.fences_in_service(node, &fact));
            let into = if counts { &mut found.evidence } else { &mut old };
            // Live evidence has an id, and a marker has none. A later mark of a barrier replaces an earlier one.
            let known = into.entry(fact.kind).or_insert_with(|| fact.clone());
            let is_later = fact.kind == EvidenceKind::Barrier && fact.at_s > known.at_s;
            if !fact.id.is_empty() && (known.id.is_empty() || is_later) {
                *known = fact;
            }
        }
        if found.evidence.is_empty() {
            found.held = old.into_values().next();
        } else {
            // Once something fences the node, its old evidence counts too.
            for (kind, fact) in old {
                found.evidence.entry(kind).or_insert(fact);
            }
        }
        found
    }

    /// Whether a fact fences a node that is in service. A marker that only memory or disk has comes from a fence that
    /// was cut off, and counts unless the live view shows the node well or contradicts the fact.
    fn fences_in_service(&self, node: &Node, fact: &Evidence) -> bool {
        if fact.kind == EvidenceKind::Barrier {
            if self.is_left_over(node, fact) {
                return false;
            }
            if self.recovery_goes_on(node, fact) {
                return true; // Orchestrator waits for this fence, however new the watch is
            }
        }
        if fact.source == Source::Marker {
            let is_well = matches!(self.live_proof(node, fact.by.as_ref()), Some(Ok(_)));
            return !is_well && !self.is_contradicted(node, fact.by.as_ref());
        }
        self.memory.watching_since_s.is_some_and(|since_s| fact.at_s >= since_s) || self.is_proven_bad(node, fact)
    }

    /// The recovery's mark on a node, if it counts. It does not if the node was promoted since and nothing else speaks
    /// against it, or if its last recovery promoted nobody and replicas run from it again.
    fn lost_in_recovery(&self, node: &Node, is_suspect: bool) -> Option<Evidence> {
        let mark = self.downtime(node).filter(|downtime| downtime.reason == LOST_IN_RECOVERY)?;
        let recovered_nobody = self.promoted_nobody(node) && self.is_followed_primary(node);
        let is_left_over = self.promoted_s(node).is_some_and(|promoted_s| mark.begin_s <= promoted_s);
        (!recovered_nobody && (is_suspect || !is_left_over))
            .then(|| Evidence::downtime(EvidenceKind::LostInRecovery, &mark.reason, mark.begin_s))
    }

    /// An unreadable entry of the leader's answer that names this node. The node's return waits until it can be read.
    pub fn unreadable(&self, node: &Node) -> Option<&'a str> {
        self.unreadable_in(node, |_| true)
    }

    /// The same, without the list of instances. Rows may go back as they were while the node's instance is unreadable.
    pub fn unreadable_evidence(&self, node: &Node) -> Option<&'a str> {
        self.unreadable_in(node, |part| part != AnswerPart::Instances)
    }

    fn unreadable_in(&self, node: &Node, is_meant: impl Fn(AnswerPart) -> bool) -> Option<&'a str> {
        let names = |skipped: &&SkippedEntry| is_meant(skipped.part) && skipped.nodes.contains(node);
        let record = self.memory.history.unreadable.get(node).map(String::as_str);
        record.or_else(|| self.answer?.skipped.iter().find(names).map(|skipped| skipped.what.as_str()))
    }

    /// The plain downtime of a node, if the policy lets it fence. Guards are asked separately.
    pub fn of_downtime(&self, node: &Node) -> Option<Evidence> {
        let downtime = self.downtime(node)?;
        let is_plain = ![LOST_IN_RECOVERY, BARRIER, TAKEOVER].contains(&downtime.reason.as_str());
        (is_plain && self.policy.fence_on == FenceOn::AnyDowntime)
            .then(|| Evidence::downtime(EvidenceKind::Downtime, &downtime.reason, downtime.begin_s))
    }

    /// Isolation, if this agent isolates, the scope has the node, and its hostgroups are armed. A ProxySQL Cluster
    /// member is paused instead: rows would spread to its peers.
    pub fn of_isolation(&self, node: &Node) -> Option<Evidence> {
        if self.lease_state != LeaseState::Isolated || self.observed.proxy.clustered {
            return None;
        }
        let rows = self.rows.of(node)?;
        let in_scope = match self.policy.isolation_scope {
            IsolationScope::All => true,
            IsolationScope::Off => false,
            IsolationScope::Writers => rows.has_writer(self.managed),
        };
        let in_scope = in_scope && is_armed_for(self.rows, self.managed, self.memory, rows);
        in_scope.then(Evidence::isolation)
    }

    /// Whether the leader shows the node as its cluster's present primary with running replicas.
    pub fn is_followed_primary(&self, node: &Node) -> bool {
        self.topology.is_some_and(|topology| {
            topology.present_primary(node).is_some_and(|primary| {
                primary.node == *node && topology.running_replicas(&primary.node).next().is_some()
            })
        })
    }

    /// Whether the live view shows that the node is not well, and neither it nor an earlier one contradicts the fact.
    fn is_proven_bad(&self, node: &Node, fact: &Evidence) -> bool {
        let by = fact.by.as_ref();
        let is_bad = matches!(self.live_proof(node, by), Some(Err(gaps)) if prove_bad(&gaps));
        let was_contradicted = self.memory.nodes.contradicted.get(node).is_some_and(|at_s| fact.at_s <= *at_s);
        is_bad && !was_contradicted && !self.is_contradicted(node, by)
    }

    /// Whether the node takes writes and running replicas follow it rather than its successor.
    pub fn is_contradicted(&self, node: &Node, by: Option<&Node>) -> bool {
        let successor = self.superseding(node).and_then(|record| record.successor.as_ref()).or(by);
        self.topology.is_some_and(|topology| topology.contradicts(node, successor))
    }

    /// The second writers (design §5.3). Right after a promotion, instances may show the old replication for one poll
    /// (facts §8). A second writer counts once both nodes were checked after they were first seen together.
    ///
    /// Returns those seen, with the leader's time of the first sight in s, and the evidence of those that count.
    pub fn second_writers(&self) -> (BTreeMap<Node, i64>, BTreeMap<Node, Evidence>) {
        let (mut seen, mut count) = (BTreeMap::new(), BTreeMap::new());
        let (Some(answer), Some(topology)) = (self.answer, self.topology) else {
            return (self.memory.nodes.second_writers.clone(), count);
        };
        for hostgroup in self.managed.writers() {
            let is_monitored = self.managed.pair_of_writer(hostgroup).is_some();
            let online = self.rows.online(hostgroup);
            // ProxySQL takes a SHUNNED server back by itself, and may do so before the next tick (facts §5).
            for node in self.rows.in_service(hostgroup) {
                let Some(primary) = topology.present_primary(node) else { continue };
                let other = &primary.node;
                // The monitor moves a read-only node. Until then it does harm only if it is in use. In a named writer
                // hostgroup, read-only replicas stand beside the primary without harm.
                let takes_none = topology.instance(node).is_some_and(|i| i.read_only);
                let is_harmless = takes_none && !(is_monitored && online.contains(node));
                // The mark says that the other node is not the primary any more. Its record may still come.
                let waits = self.barrier(other).is_some() || self.kept(other).contains_key(&EvidenceKind::Barrier);
                let was_lost = self.lost_in_recovery(other, false).is_some() || waits;
                if other == node || !online.contains(other) || topology.co_primaries(node, other) {
                    continue;
                }
                if is_harmless || was_lost || topology.leads_instead_of(node, other) {
                    continue;
                }
                let since_s = *self.memory.nodes.second_writers.get(node).unwrap_or(&answer.date_s);
                seen.insert(node.clone(), since_s);
                let checked_since = |n: &Node| topology.instance(n).is_some_and(|i| i.valid && i.checked_s > since_s);
                if checked_since(node) && checked_since(other) {
                    count.insert(node.clone(), Evidence::second_writer(other, since_s));
                }
            }
        }
        (seen, count)
    }
}

/// Whether isolation is armed for these rows: Orchestrator knows a server of one of their writer hostgroups, or they
/// have no writer hostgroup, or their writer hostgroup is empty, as ProxySQL's monitor leaves it while no node is writable.
pub fn is_armed_for(rows: &ManagedRows<'_>, managed: &Managed, memory: &Memory, of: &ServerRows<'_>) -> bool {
    let mut writers = of.hostgroups().into_iter().filter_map(|hostgroup| managed.writer_beside(hostgroup)).peekable();
    let is_empty = |hostgroup| rows.in_runtime(hostgroup).next().is_none();
    writers.peek().is_none()
        || writers.any(|hostgroup| is_empty(hostgroup) || knows_a_server_of(rows, memory, hostgroup))
}

/// Whether Orchestrator knows or knew a server with a runtime row in this hostgroup.
pub fn knows_a_server_of(rows: &ManagedRows<'_>, memory: &Memory, hostgroup: Hostgroup) -> bool {
    rows.in_runtime(hostgroup).any(|(server, _)| memory.nodes.known.contains(server))
}
