//! Collects the evidence against each node: what was kept, what the rows' markers say, and what is live (design §5).
//!
//! Nothing here ends evidence: that takes proof (I2).

use std::collections::BTreeMap;

use crate::decide::{Judge, ProofGaps, prove_bad};
use crate::evidence::{Evidence, EvidenceKind, Source};
use crate::lease::LeaseState;
use crate::managed::{Managed, ManagedRows, ServerRows};
use crate::memory::Memory;
use crate::node::Node;
use crate::observed::Observed;
use crate::orchestrator::{
    Answer, AnswerPart, Downtime, LOST_IN_RECOVERY, NewestRecoveries, Recovery, SkippedEntry, Topology, uid_ns,
};
use crate::orders::Release;
use crate::policy::{ErrantGtid, FenceOn, IsolationScope, Policy};
use crate::role::Role;
use crate::table::{Comment, Hostgroup, Layer};

/// Evidence per kind.
pub type ByKind = BTreeMap<EvidenceKind, Evidence>;

/// What this tick knows, gathered in one place for the rules. Nodes are servers: see [`crate::orchestrator::Identity`].
pub struct Facts<'a> {
    /// What was seen.
    pub observed: &'a Observed,
    /// What was chosen.
    pub policy: &'a Policy,
    /// What is ours to touch.
    pub managed: &'a Managed,
    /// The managed rows, by server.
    pub rows: &'a ManagedRows<'a>,
    /// What is kept.
    pub memory: &'a Memory,
    /// Where we stand.
    pub lease_state: LeaseState,
    /// The leader's answer, if it counts, with one name per server.
    pub answer: Option<&'a Answer>,
    /// Who is downtimed, by that answer.
    pub downtimes: &'a BTreeMap<&'a Node, &'a Downtime>,
    /// The newest superseding record of each node, released or not.
    pub newest: &'a NewestRecoveries<'a>,
    /// What an operator released, by server.
    pub ordered_releases: &'a BTreeMap<Node, Release>,
    /// The leader's instances, if it was asked for them.
    pub topology: Option<&'a Topology<'a>>,
}

/// What was found against a node.
#[derive(Debug, Default)]
pub struct RecoveryEvidence {
    /// What counts.
    pub evidence: ByKind,
    /// What would count if it were not older than this agent's watch.
    pub held: Option<Evidence>,
}

impl<'a> Facts<'a> {
    /// The record that supersedes this node, unless it is released.
    pub fn superseding(&self, node: &Node) -> Option<&'a Recovery> {
        let record = self.newest.superseding(node)?;
        (record.at_ns > self.released(node).recovery_ns).then_some(record)
    }

    /// Whether the last recovery of this node as a dead primary promoted nobody, as the history says.
    pub fn promoted_nobody(&self, node: &Node) -> bool {
        let in_vain_ns = self.memory.history.promoted_nobody.get(node).copied();
        in_vain_ns.is_some_and(|at| self.newest.superseding(node).is_none_or(|record| record.at_ns < at))
    }

    /// Whether a server has this name in ProxySQL, or goes by it here.
    pub fn is_named(&self, server: &Node, name: &Node) -> bool {
        server == name || self.rows.of(server).is_some_and(|rows| rows.names().contains(name))
    }

    /// The leader's downtime of this node, unless it is released.
    pub fn downtime(&self, node: &Node) -> Option<&'a Downtime> {
        let released = self.released(node);
        let listed = self.downtimes.get(node)?;
        (!released.has_downtime(listed.begin_s)).then_some(*listed)
    }

    /// What was released of this node, by proof or by order.
    pub fn released(&self, node: &Node) -> Release {
        let by_proof = self.memory.nodes.released.get(node).copied().unwrap_or_default();
        by_proof.and(self.released_by_order(node))
    }

    /// What an operator released of this node.
    pub fn released_by_order(&self, node: &Node) -> Release {
        self.ordered_releases.get(node).copied().unwrap_or_default()
    }

    /// The judge of this node's return.
    pub fn judge(&self, node: &Node) -> Option<Judge<'_>> {
        let (topology, rows) = (self.topology?, self.rows.of(node));
        Some(Judge {
            topology,
            unproven_check_type: rows.and_then(|rows| rows.unproven_check_type(self.managed)),
            may_become_writer: rows.is_some_and(|rows| rows.may_become_writer(self.managed)),
            errant_gtid_holds: self.policy.errant_gtid == ErrantGtid::Hold,
        })
    }

    /// The live proof of a node under the evidence of a recovery.
    pub fn live_proof(&self, node: &Node, by: Option<&Node>) -> Option<Result<Role, ProofGaps>> {
        let successor = self.superseding(node).and_then(|record| record.successor.as_ref()).or(by);
        Some(self.judge(node)?.live(node, self.recovered_s(node), successor))
    }

    /// When the last recovery that this node had a part in was over, as far as that is seen, s: its record's end
    /// (one without an end is not over), or the mark that it left. Rows of older checks may show what was before.
    fn recovered_s(&self, node: &Node) -> Option<i64> {
        let record = self.newest.of(node).map(|record| record.end_s.unwrap_or(i64::MAX));
        let mark = self.downtime(node).filter(|downtime| downtime.reason == LOST_IN_RECOVERY).map(|d| d.begin_s);
        let kept = self.kept(node).into_values().filter(|e| e.kind.ends_by_proof()).map(|e| e.at_s).max();
        record.max(mark).max(kept)
    }

    /// Whether the newest record promoted this node, after all that speaks against it: then it is the primary by
    /// Orchestrator's own word, and its former successor, dead perhaps, need not follow it.
    pub fn was_promoted_since(&self, node: &Node, evidence: &ByKind) -> bool {
        let Some(promoted_s) = self.promoted_s(node) else { return false };
        let mut of_recovery = evidence.values().filter(|e| e.kind.ends_by_proof());
        of_recovery.all(|e| e.kind == EvidenceKind::Superseded || (e.at_s != 0 && e.at_s <= promoted_s))
    }

    /// When the newest record that this node has a part in promoted it, s; `None` if it did not.
    pub fn promoted_s(&self, node: &Node) -> Option<i64> {
        self.newest.promoting(node).map(Recovery::at_s)
    }

    /// What the markers in this node's rows say. Once its return is live, one that is left in memory or on disk says
    /// nothing: the journal of the apply that was cut off tells it from a fence that was.
    pub fn marked(&self, node: &Node) -> ByKind {
        self.rows.of(node).map(|rows| self.marked_in(rows)).unwrap_or_default()
    }

    /// The same, of a server whose rows are at hand.
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
                    let said = found.entry(marker.kind).or_insert_with(|| Evidence::marker(marker.kind, None));
                    // Where rows differ, whichever comes first must not decide; one that names a node knows more.
                    said.by = said.by.take().max(marker.by);
                }
            }
        }
        found
    }

    /// Whether the rows in force show a fence for a recovery: none in service, or a marker of one in runtime.
    fn is_fenced_for_recovery(&self, rows: &ServerRows<'_>, marked: &ByKind) -> bool {
        let shown = |row: &crate::table::Row| Comment::kind(&row.comment).is_some_and(|kind| kind.ends_by_proof());
        if !rows.has_note() {
            return false;
        }
        let is_marked = marked.keys().any(|kind| kind.ends_by_proof());
        rows.of(Layer::Runtime).filter(|row| !row.is_ghost_in(Layer::Runtime)).any(shown)
            || (is_marked && !rows.in_service())
    }

    /// What was kept from earlier ticks and is not released.
    pub fn kept(&self, node: &Node) -> ByKind {
        let released = self.released(node);
        let counts = |evidence: &Evidence| match evidence.kind {
            EvidenceKind::Superseded => uid_ns(&evidence.id).is_none_or(|ns| ns > released.recovery_ns),
            EvidenceKind::LostInRecovery | EvidenceKind::Downtime => !released.has_downtime(evidence.at_s),
            // An order ends by an order: both times are of this host's clock.
            EvidenceKind::Manual => evidence.at_s > self.released_by_order(node).ordered_s,
            EvidenceKind::SecondWriter | EvidenceKind::Barrier | EvidenceKind::Isolation | EvidenceKind::Replica => {
                evidence.at_s > released.ordered_s
            }
        };
        let kept = self.memory.nodes.evidence.get(node).into_iter().flatten();
        kept.filter(|(_, evidence)| counts(evidence)).map(|(kind, evidence)| (*kind, evidence.clone())).collect()
    }

    /// What a recovery left, or stands for one: markers, what was kept, the record, the mark. What is older than this
    /// agent's watch fences a node only if its rows are fenced already, or if it is proven bad.
    pub fn of_recovery(&self, node: &Node, rows: &ServerRows<'_>, marked: &ByKind) -> RecoveryEvidence {
        let is_fenced = self.is_fenced_for_recovery(rows, marked);
        let mut found = RecoveryEvidence::default();
        let mut old = ByKind::new();
        let known = self.kept(node).into_values().chain(marked.values().cloned());
        let mut facts: Vec<Evidence> = known.filter(|fact| fact.kind.ends_by_proof()).collect();
        facts.extend(self.superseding(node).map(|r| Evidence::superseded(r.successor.clone(), &r.uid, r.at_s())));
        facts.extend(self.lost_in_recovery(node, is_fenced || !facts.is_empty()));
        for fact in facts {
            // Beside a record that can't be read, one that can may not be the newest.
            let is_newest =
                fact.source != Source::RecoveryHistory || !self.memory.history.unreadable.contains_key(node);
            let counts = is_fenced || (is_newest && self.counts(node, &fact));
            let into = if counts { &mut found.evidence } else { &mut old };
            // What is live names its id, and a marker doesn't.
            let known = into.entry(fact.kind).or_insert_with(|| fact.clone());
            if known.id.is_empty() && !fact.id.is_empty() {
                *known = fact;
            }
        }
        if found.evidence.is_empty() {
            found.held = old.into_values().next();
        } else {
            // Once something fences it, what is old counts too.
            for (kind, fact) in old {
                found.evidence.entry(kind).or_insert(fact);
            }
        }
        found
    }

    /// Whether a fact fences a node that is in service. A marker that only memory or disk has is left by a fence that was
    /// cut off, unless the live view says otherwise.
    fn counts(&self, node: &Node, fact: &Evidence) -> bool {
        if fact.source == Source::Marker {
            let is_well = matches!(self.live_proof(node, fact.by.as_ref()), Some(Ok(_)));
            return !is_well && !self.is_contradicted(node, fact.by.as_ref());
        }
        self.memory.watching_since_s.is_some_and(|since_s| fact.at_s >= since_s) || self.is_proven_bad(node, fact)
    }

    /// The mark that a recovery left on a node, unless the node was promoted since, or its last recovery promoted nobody
    /// and it is well again.
    fn lost_in_recovery(&self, node: &Node, is_suspect: bool) -> Option<Evidence> {
        let mark = self.downtime(node).filter(|downtime| downtime.reason == LOST_IN_RECOVERY)?;
        let recovered_nobody = self.promoted_nobody(node) && self.is_followed_primary(node);
        let is_left_over = self.promoted_s(node).is_some_and(|promoted_s| mark.begin_s <= promoted_s);
        (!recovered_nobody && (is_suspect || !is_left_over))
            .then(|| Evidence::downtime(EvidenceKind::LostInRecovery, &mark.reason, mark.begin_s))
    }

    /// What of the leader's answer names this node and can't be read: the return of a node waits for it, and a record
    /// of a recovery is not taken up beside another that may be newer.
    pub fn unreadable(&self, node: &Node) -> Option<&'a str> {
        self.unreadable_in(node, |_| true)
    }

    /// The same, but for what only shows the node itself: without it the rows may go back as they were.
    pub fn unreadable_evidence(&self, node: &Node) -> Option<&'a str> {
        self.unreadable_in(node, |part| part != AnswerPart::Instances)
    }

    fn unreadable_in(&self, node: &Node, is_meant: impl Fn(AnswerPart) -> bool) -> Option<&'a str> {
        let names = |skipped: &&SkippedEntry| is_meant(skipped.part) && skipped.nodes.contains(node);
        let record = self.memory.history.unreadable.get(node).map(String::as_str);
        record.or_else(|| self.answer?.skipped.iter().find(names).map(|skipped| skipped.what.as_str()))
    }

    /// The plain downtime of a node, if such fence. Guards are another matter.
    pub fn of_downtime(&self, node: &Node) -> Option<Evidence> {
        let downtime = self.downtime(node)?;
        let plain = downtime.reason != LOST_IN_RECOVERY && self.policy.fence_on == FenceOn::AnyDowntime;
        plain.then(|| Evidence::downtime(EvidenceKind::Downtime, &downtime.reason, downtime.begin_s))
    }

    /// Isolation, if we are isolated and its scope takes this node in.
    pub fn of_isolation(&self, node: &Node) -> Option<Evidence> {
        if self.lease_state != LeaseState::Isolated {
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

    /// Whether the leader sees the node as its cluster's primary, alive, with replicas running from it.
    pub fn is_followed_primary(&self, node: &Node) -> bool {
        self.topology.is_some_and(|topology| {
            topology.present_primary(node).is_some_and(|primary| {
                primary.node == *node && topology.running_replicas(&primary.node).next().is_some()
            })
        })
    }

    /// Whether the live view shows that the node is not well, and nothing that contradicts the fact.
    fn is_proven_bad(&self, node: &Node, fact: &Evidence) -> bool {
        let by = fact.by.as_ref();
        let is_bad = matches!(self.live_proof(node, by), Some(Err(gaps)) if prove_bad(&gaps));
        let was_contradicted = self.memory.nodes.contradicted.get(node).is_some_and(|at_s| fact.at_s <= *at_s);
        is_bad && !was_contradicted && !self.is_contradicted(node, by)
    }

    /// Whether running replicas follow the node, which takes writes, and not its successor.
    pub fn is_contradicted(&self, node: &Node, by: Option<&Node>) -> bool {
        let successor = self.superseding(node).and_then(|record| record.successor.as_ref()).or(by);
        self.topology.is_some_and(|topology| topology.contradicts(node, successor))
    }

    /// The second writers: two nodes ONLINE in one writer hostgroup, and the leader names exactly one of them as
    /// their cluster's primary. Right after a promotion instance rows may show the old replication for a poll
    /// (facts §8), so both must have been checked since we first saw them together.
    ///
    /// Gives those seen, with the leader's time when they were first, and those that count.
    pub fn second_writers(&self) -> (BTreeMap<Node, i64>, BTreeMap<Node, Evidence>) {
        let (mut seen, mut count) = (BTreeMap::new(), BTreeMap::new());
        let (Some(answer), Some(topology)) = (self.answer, self.topology) else {
            return (self.memory.nodes.second_writers.clone(), count);
        };
        for hostgroup in self.managed.writers() {
            let online = self.rows.online(hostgroup);
            let is_monitored = self.managed.pair_of_writer(hostgroup).is_some();
            for node in online.iter().copied() {
                let Some(primary) = topology.present_primary(node) else { continue };
                let other = &primary.node;
                // Where no monitor moves them, replicas stand beside the primary; read-only ones do no harm.
                let is_harmless = !is_monitored && topology.instance(node).is_some_and(|i| i.read_only);
                // Its record may be still to come: the leader itself says that this one is no primary any more.
                let was_lost = self.lost_in_recovery(other, false).is_some();
                if other == node || !online.contains(other) || topology.co_primaries(node, other) {
                    continue;
                }
                if is_harmless || was_lost {
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

/// Whether isolation is armed for these rows: Orchestrator knows a server of one of their writer hostgroups, or they have
/// none.
pub fn is_armed_for(rows: &ManagedRows<'_>, managed: &Managed, memory: &Memory, of: &ServerRows<'_>) -> bool {
    let mut writers = of.hostgroups().into_iter().filter_map(|hostgroup| managed.writer_beside(hostgroup)).peekable();
    writers.peek().is_none() || writers.any(|hostgroup| knows_a_server_of(rows, memory, hostgroup))
}

/// Whether Orchestrator knows, or knew, a server that has a runtime row in this hostgroup.
pub fn knows_a_server_of(rows: &ManagedRows<'_>, memory: &Memory, hostgroup: Hostgroup) -> bool {
    rows.in_runtime(hostgroup).any(|(server, _)| memory.nodes.known.contains(server))
}
