//! Collects the evidence against each node: what was kept, what the rows' markers say, and what is live (DESIGN §5).
//!
//! Nothing here ends evidence: that takes proof (I2).

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::Topology;
use crate::evidence::{Evidence, Kind};
use crate::lease::Standing;
use crate::marker::Comment;
use crate::memory::Memory;
use crate::node::Node;
use crate::observed::{Answer, Downtime, LOST_IN_RECOVERY, Observed, ProxyView, Recovery, Release};
use crate::plan::Managed;
use crate::policy::{FenceOn, IsolationScope, Policy};
use crate::proof::{Judge, Missing, Role};
use crate::row::{CheckType, Layer, Status};
use crate::superseded::{newest, promoting, superseding};

/// The kinds that a recovery leaves, or that stand for one: they end by proof.
pub const OF_RECOVERY: [Kind; 4] = [Kind::Superseded, Kind::LostInRecovery, Kind::SecondWriter, Kind::Barrier];

/// Evidence per kind.
pub type ByKind = BTreeMap<Kind, Evidence>;

/// What this tick knows, gathered in one place for the rules.
pub struct Facts<'a> {
    /// What was seen.
    pub observed: &'a Observed,
    /// What was chosen.
    pub policy: &'a Policy,
    /// What is ours to touch.
    pub managed: &'a Managed,
    /// What is kept.
    pub memory: &'a Memory,
    /// Where we stand.
    pub standing: Standing,
    /// The leader's answer, if it counts.
    pub answer: Option<&'a Answer>,
    /// The leader's instances, if it was asked for them.
    pub topology: Option<&'a Topology<'a>>,
}

impl<'a> Facts<'a> {
    /// The record that supersedes this node, unless it is released.
    pub fn superseding(&self, node: &Node) -> Option<&'a Recovery> {
        let released = self.released(node);
        superseding(self.memory.records.values(), node).filter(|record| record.at_ns > released.recovery_ns)
    }

    /// Whether the last recovery of this node as a dead primary promoted nobody, as the history says.
    pub fn promoted_nobody(&self, node: &Node) -> bool {
        let in_vain_ns = self.memory.promoted_nobody.get(node).copied();
        in_vain_ns.is_some_and(|at| superseding(self.memory.records.values(), node).is_none_or(|r| r.at_ns < at))
    }

    /// The leader's downtime of this node, unless it is released.
    pub fn downtime(&self, node: &Node) -> Option<&'a Downtime> {
        let released = self.released(node);
        let listed = self.answer?.downtimes.iter().find(|downtime| downtime.node == *node)?;
        (!released.has_downtime(listed.begin_s)).then_some(listed)
    }

    /// What was released of this node, by proof or by order.
    pub fn released(&self, node: &Node) -> Release {
        let by_proof = self.memory.released.get(node).copied().unwrap_or_default();
        by_proof.and(self.released_by_order(node))
    }

    /// What an operator released of this node.
    pub fn released_by_order(&self, node: &Node) -> Release {
        self.observed.orders.released.get(node).copied().unwrap_or_default()
    }

    /// The judge of this node's proof.
    pub fn judge(&self, node: &Node) -> Option<Judge<'_>> {
        let topology = self.topology?;
        let hostgroups = hostgroups_of(&self.observed.proxy, self.managed, node);
        let mut pairs = self
            .managed
            .pairs
            .iter()
            .filter(|pair| hostgroups.contains(&pair.writer) || hostgroups.contains(&pair.reader));
        let in_pair = pairs.clone().next().is_some();
        let unseen_check_type = pairs.find_map(|pair| match &pair.check_type {
            CheckType::ReadOnly => None,
            CheckType::Other(text) => Some(text.as_str()),
        });
        Some(Judge { topology, unseen_check_type, in_pair })
    }

    /// The live proof of a node under the evidence of a recovery.
    pub fn live_proof(&self, node: &Node, by: Option<&Node>) -> Option<Result<Role, Missing>> {
        let successor = self.superseding(node).and_then(|record| record.successor.as_ref()).or(by);
        Some(self.judge(node)?.live(node, self.recovered_s(node), successor))
    }

    /// When the last recovery that this node had a part in was over, as far as that is seen, s: its record's end
    /// (one without an end is not over), or the mark that it left. Rows of older checks may show what was before.
    fn recovered_s(&self, node: &Node) -> Option<i64> {
        let record = newest(self.memory.records.values(), node).map(|record| record.end_s.unwrap_or(i64::MAX));
        let mark = self.downtime(node).filter(|downtime| downtime.reason == LOST_IN_RECOVERY).map(|d| d.begin_s);
        let kept = self.kept(node).into_values().filter(|e| OF_RECOVERY.contains(&e.kind)).map(|e| e.at_s).max();
        record.max(mark).max(kept)
    }

    /// Whether the newest record promoted this node, after all that speaks against it: then it is the primary by
    /// Orchestrator's own word, and its former successor, dead perhaps, need not follow it.
    pub fn was_promoted_since(&self, node: &Node, evidence: &ByKind) -> bool {
        let Some(promoted_s) = self.promoted_s(node) else { return false };
        let mut of_recovery = evidence.values().filter(|e| OF_RECOVERY.contains(&e.kind));
        of_recovery.all(|e| e.kind == Kind::Superseded || (e.at_s != 0 && e.at_s <= promoted_s))
    }

    /// When the newest record that this node has a part in promoted it, s; `None` if it did not.
    pub fn promoted_s(&self, node: &Node) -> Option<i64> {
        promoting(self.memory.records.values(), node).map(Recovery::at_s)
    }

    /// What the markers in this node's rows say. Once its return is live, one that is left in memory or on disk says
    /// nothing: the journal of the apply that was cut off tells it from a fence that was.
    pub fn marked(&self, node: &Node) -> ByKind {
        let mut found = ByKind::new();
        for layer in [Layer::Runtime, Layer::Memory, Layer::Disk] {
            if layer != Layer::Runtime && found.is_empty() && self.observed.proxy.returned.contains(node) {
                break;
            }
            for row in self.observed.proxy.layer(layer) {
                if !self.managed.contains(row.key.hostgroup) || row.node().as_ref() != Some(node) {
                    continue;
                }
                if let Comment::Marked(_, marker) = Comment::parse(&row.comment) {
                    let said = found.entry(marker.kind).or_insert(Evidence {
                        kind: marker.kind,
                        by: None,
                        source: "marker".to_owned(),
                        id: String::new(),
                        at_s: 0,
                    });
                    // Where rows differ, whichever comes first must not decide; one that names a node knows more.
                    said.by = said.by.take().max(marker.by);
                }
            }
        }
        found
    }

    /// What was kept from earlier ticks and is not released.
    pub fn kept(&self, node: &Node) -> ByKind {
        let released = self.released(node);
        let counts = |evidence: &Evidence| match evidence.kind {
            Kind::Superseded => uid_ns(&evidence.id).is_none_or(|ns| ns > released.recovery_ns),
            Kind::LostInRecovery | Kind::Downtime => !released.has_downtime(evidence.at_s),
            // An order ends by an order: both times are of this host's clock.
            Kind::Manual => evidence.at_s > self.released_by_order(node).ordered_s,
            _ => evidence.at_s > released.ordered_s,
        };
        let kept = self.memory.evidence.get(node).into_iter().flatten();
        kept.filter(|(_, evidence)| counts(evidence)).map(|(kind, evidence)| (*kind, evidence.clone())).collect()
    }

    /// What a recovery left: its record, its downtime. Older than the first start it needs a negative live proof.
    ///
    /// # Errors
    /// There is such evidence, but it is older than the first start and the node is not proven bad: held.
    pub fn of_recovery(&self, node: &Node, already_fenced: bool) -> Result<ByKind, Evidence> {
        let mut found = ByKind::new();
        let mut held = None;
        let first_ns = u64::try_from(self.memory.first_start_s).unwrap_or(0).saturating_mul(1_000_000_000);
        if let Some(record) = self.superseding(node) {
            let evidence = Evidence {
                kind: Kind::Superseded,
                by: record.successor.clone(),
                source: "audit-recovery".to_owned(),
                id: record.uid.clone(),
                at_s: record.at_s(),
            };
            if already_fenced || record.at_ns >= first_ns || self.is_proven_bad(node, record.successor.as_ref()) {
                found.insert(evidence.kind, evidence);
            } else {
                held = Some(evidence);
            }
        }
        if let Some(downtime) = self.downtime(node).filter(|downtime| downtime.reason == LOST_IN_RECOVERY) {
            let evidence = downtime_evidence(downtime, Kind::LostInRecovery);
            let recovered_nobody = self.promoted_nobody(node) && self.is_followed_primary(node);
            let is_left_over = self.promoted_s(node).is_some_and(|promoted_s| downtime.begin_s <= promoted_s);
            if recovered_nobody || (is_left_over && !already_fenced) {
                // The last recovery promoted nobody, and the node is well again; or it was promoted since: no fence.
            } else if already_fenced || downtime.begin_s >= self.memory.first_start_s || self.is_proven_bad(node, None)
            {
                found.insert(evidence.kind, evidence);
            } else {
                held = Some(evidence);
            }
        }
        match held {
            Some(evidence) if found.is_empty() => Err(evidence),
            // With the mark that fences it counts too, as it will in the next tick.
            held => Ok(found.into_iter().chain(held.map(|evidence| (evidence.kind, evidence))).collect()),
        }
    }

    /// The plain downtime of a node, if such fence. Guards are another matter.
    pub fn of_downtime(&self, node: &Node) -> Option<Evidence> {
        let downtime = self.downtime(node)?;
        let plain = downtime.reason != LOST_IN_RECOVERY && self.policy.fence_on == FenceOn::AnyDowntime;
        plain.then(|| downtime_evidence(downtime, Kind::Downtime))
    }

    /// Isolation, if we are isolated and its scope takes this node in.
    pub fn of_isolation(&self, node: &Node) -> Option<Evidence> {
        if self.standing != Standing::Isolated {
            return None;
        }
        let in_scope = match self.policy.isolation_scope {
            IsolationScope::All => true,
            IsolationScope::Off => false,
            IsolationScope::Writers => hostgroups_of(&self.observed.proxy, self.managed, node)
                .into_iter()
                .any(|hostgroup| self.managed.is_writer(hostgroup)),
        };
        in_scope.then(|| Evidence {
            kind: Kind::Isolation,
            by: None,
            source: "lease".to_owned(),
            id: String::new(),
            at_s: 0,
        })
    }

    /// Whether the leader sees the node as its cluster's primary, alive, with replicas running from it.
    pub fn is_followed_primary(&self, node: &Node) -> bool {
        self.topology.is_some_and(|topology| {
            topology.present_primary(node).is_some_and(|primary| {
                primary.node == *node && topology.running_replicas(&primary.node).next().is_some()
            })
        })
    }

    /// It answers and is neither a proven replica nor the primary, or it does not answer. Not knowing is no proof.
    fn is_proven_bad(&self, node: &Node, successor: Option<&Node>) -> bool {
        match self.live_proof(node, successor) {
            None | Some(Ok(_)) => false,
            Some(Err(missing)) => match missing {
                Missing::NotValid | Missing::StandsAlone(_) | Missing::LeadsElsewhere(_) => true,
                Missing::Writable | Missing::NotReplicating => true,
                Missing::Unlisted
                | Missing::NotCheckedSince
                | Missing::NoPresentPrimary
                | Missing::CheckTypeUnseen(_)
                | Missing::SuccessorNotFollowing => false,
            },
        }
    }

    /// The second writers: two nodes ONLINE in one writer hostgroup, and the leader names exactly one of them as
    /// their cluster's primary. Right after a promotion instance rows may show the old replication for a poll
    /// (FACTS §8), so both must have been checked since we first saw them together.
    ///
    /// Gives those seen, with the leader's time when they were first, and those that count.
    pub fn second_writers(&self) -> (BTreeMap<Node, i64>, BTreeMap<Node, Evidence>) {
        let (mut seen, mut count) = (BTreeMap::new(), BTreeMap::new());
        let (Some(answer), Some(topology)) = (self.answer, self.topology) else {
            return (self.memory.second_writers.clone(), count);
        };
        for pair in &self.managed.pairs {
            let online: BTreeSet<Node> = self
                .observed
                .proxy
                .runtime
                .iter()
                .filter(|row| row.key.hostgroup == pair.writer && row.status == Status::Online)
                .filter_map(|row| row.node())
                .collect();
            for node in &online {
                let Some(primary) = topology.present_primary(node) else { continue };
                let other = &primary.node;
                if other == node || !online.contains(other) {
                    continue;
                }
                let since_s = *self.memory.second_writers.get(node).unwrap_or(&answer.date_s);
                seen.insert(node.clone(), since_s);
                let checked_since = |n: &Node| topology.instance(n).is_some_and(|i| i.valid && i.checked_s > since_s);
                if checked_since(node) && checked_since(other) {
                    count.insert(
                        node.clone(),
                        Evidence {
                            kind: Kind::SecondWriter,
                            by: Some(other.clone()),
                            source: "runtime_mysql_servers".to_owned(),
                            id: String::new(),
                            at_s: since_s,
                        },
                    );
                }
            }
        }
        (seen, count)
    }
}

/// The managed hostgroups in which a node has a row, in any layer.
pub fn hostgroups_of(proxy: &ProxyView, managed: &Managed, node: &Node) -> BTreeSet<crate::row::Hostgroup> {
    [Layer::Runtime, Layer::Memory, Layer::Disk]
        .into_iter()
        .flat_map(|layer| proxy.layer(layer))
        .filter(|row| managed.contains(row.key.hostgroup) && row.node().as_ref() == Some(node))
        .map(|row| row.key.hostgroup)
        .collect()
}

/// The nodes that have managed rows.
pub fn served(proxy: &ProxyView, managed: &Managed) -> BTreeSet<Node> {
    [Layer::Runtime, Layer::Memory, Layer::Disk]
        .into_iter()
        .flat_map(|layer| proxy.layer(layer))
        .filter(|row| managed.contains(row.key.hostgroup))
        .filter_map(|row| row.node())
        .collect()
}

fn downtime_evidence(downtime: &Downtime, kind: Kind) -> Evidence {
    Evidence {
        kind,
        by: None,
        source: "downtimed".to_owned(),
        id: format!("{}@{}", downtime.reason, downtime.begin_s),
        at_s: downtime.begin_s,
    }
}

/// The nanoseconds at the front of a recovery's UID (FACTS §8).
pub fn uid_ns(uid: &str) -> Option<u64> {
    uid.split(':').next()?.parse().ok()
}
