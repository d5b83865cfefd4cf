//! Guards: the nodes that a plain downtime must not fence (design §5). A downtime is an operator's note, not a
//! failover.

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::facts::{ByKind, Facts};
use crate::evidence::EvidenceKind;
use crate::node::Node;
use crate::table::{Comment, Hostgroup, Row, Status};

/// Why a plain downtime does not fence.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Guard {
    /// The node has the last serving row of this hostgroup.
    LastOnline(Hostgroup),
    /// The node is the healthy present primary, or may be. Where several nodes take writes, each may be.
    HealthyPrimary,
    /// This many nodes of its cluster, the most allowed, are fenced for downtime already.
    TooMany(usize),
    /// The leader does not show the node, or was not asked for instances yet.
    Unseen,
}

impl std::fmt::Display for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::LastOnline(hostgroup) => write!(f, "it has the last ONLINE row of hostgroup {hostgroup}"),
            Self::HealthyPrimary => write!(f, "it is or may be the healthy primary"),
            Self::TooMany(most) => write!(
                f,
                "{most} of its cluster are fenced for downtime already, the most that max_downtime_fences and half of \
                 the cluster allow"
            ),
            Self::Unseen => write!(f, "Orchestrator did not show it in this tick"),
        }
    }
}

/// Whether some of this evidence keeps a node out after an isolation is over.
pub fn is_out_for_good(evidence: &ByKind) -> bool {
    evidence.keys().any(|kind| *kind != EvidenceKind::Isolation)
}

/// Whether a plain downtime may fence this node beside those in `fenced`.
///
/// # Errors
/// The guard that forbids it.
pub fn may_fence_for_downtime(facts: &Facts<'_>, node: &Node, fenced: &Fenced) -> Result<(), Guard> {
    let topology = facts.topology.ok_or(Guard::Unseen)?;
    topology.instance(node).ok_or(Guard::Unseen)?;
    if topology.may_be_primary(node) {
        return Err(Guard::HealthyPrimary);
    }
    let most = facts.policy.max_downtime_fences.min(topology.size(node) / 2);
    if fenced.for_downtime(topology.cluster_of(node), node) >= most {
        return Err(Guard::TooMany(most));
    }
    let Some(rows) = facts.rows.of(node) else { return Ok(()) };
    // Hostgroups are asked in numeric order, so the guard that is named does not depend on the order of rows.
    for hostgroup in rows.hostgroups() {
        let mut serving = facts.rows.in_runtime(hostgroup).filter(|(_, row)| serves(row));
        let mut others = facts.rows.in_runtime(hostgroup).filter(|(other, row)| *other != node && serves(row));
        if serving.any(|(other, _)| other == node) && !others.any(|(other, _)| !fenced.stays_out(other)) {
            return Err(Guard::LastOnline(hostgroup));
        }
    }
    Ok(())
}

/// Whether a row takes traffic, or will when the isolation that took it out ends.
fn serves(row: &Row) -> bool {
    let is_isolated =
        || row.status == Status::OfflineSoft && Comment::kind(&row.comment) == Some(EvidenceKind::Isolation);
    row.status == Status::Online || is_isolated()
}

/// The fenced nodes with their evidence, and how many of each cluster are fenced for a plain downtime alone.
#[derive(Debug, Default)]
pub struct Fenced {
    by_node: BTreeMap<Node, ByKind>,
    for_downtime: BTreeMap<Option<usize>, BTreeSet<Node>>,
}

impl Fenced {
    /// Adds what fences a node of this cluster.
    pub fn add(&mut self, cluster: Option<usize>, node: &Node, evidence: ByKind) {
        let all = self.by_node.entry(node.clone()).or_default();
        all.extend(evidence);
        if all.keys().next() == Some(&EvidenceKind::Downtime) {
            self.for_downtime.entry(cluster).or_default().insert(node.clone());
        }
    }

    fn for_downtime(&self, cluster: Option<usize>, but: &Node) -> usize {
        self.for_downtime.get(&cluster).map_or(0, |nodes| nodes.len() - usize::from(nodes.contains(but)))
    }

    fn stays_out(&self, node: &Node) -> bool {
        self.by_node.get(node).is_some_and(is_out_for_good)
    }
}

impl IntoIterator for Fenced {
    type Item = (Node, ByKind);
    type IntoIter = std::collections::btree_map::IntoIter<Node, ByKind>;

    fn into_iter(self) -> Self::IntoIter {
        self.by_node.into_iter()
    }
}
