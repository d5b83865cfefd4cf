//! What plain downtime may not take away (design §5): it is an operator's note, not the end of a primary.

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::facts::{ByKind, Facts};
use crate::evidence::EvidenceKind;
use crate::node::Node;
use crate::table::{Comment, Hostgroup, Row, Status};

/// Why a plain downtime does not fence.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Guard {
    /// It would take the last ONLINE row of a hostgroup.
    LastOnline(Hostgroup),
    /// It is the healthy present primary, or may be: of several that take writes nobody can say which one is.
    HealthyPrimary,
    /// As many nodes of its cluster are fenced for downtime as may be.
    TooMany(usize),
    /// The leader was not asked about it yet, or doesn't show it.
    Unseen,
}

impl std::fmt::Display for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::LastOnline(hostgroup) => write!(f, "it has the last ONLINE row of hostgroup {hostgroup}"),
            Self::HealthyPrimary => write!(f, "it is, or may be, the healthy present primary"),
            Self::TooMany(most) => {
                write!(f, "{most} of its cluster are fenced for downtime already (max_downtime_fences)")
            }
            Self::Unseen => write!(f, "Orchestrator does not show its cluster"),
        }
    }
}

/// Whether this keeps a node out after an isolation is over.
pub fn is_out_for_good(evidence: &ByKind) -> bool {
    evidence.keys().any(|kind| *kind != EvidenceKind::Isolation)
}

/// Whether a plain downtime may fence this node, given all that is fenced already.
///
/// # Errors
/// The guard that holds it.
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
    // Each once, the lowest first: the order of rows decides nothing.
    for hostgroup in rows.hostgroups() {
        let mut serving = facts.rows.in_runtime(hostgroup).filter(|(_, row)| serves(row));
        let mut others = facts.rows.in_runtime(hostgroup).filter(|(other, row)| *other != node && serves(row));
        if serving.any(|(other, _)| other == node) && !others.any(|(other, _)| !fenced.stays_out(other)) {
            return Err(Guard::LastOnline(hostgroup));
        }
    }
    Ok(())
}

/// Whether a row takes traffic. What an isolation took out comes back with the lease.
fn serves(row: &Row) -> bool {
    let is_isolated =
        || row.status == Status::OfflineSoft && Comment::kind(&row.comment) == Some(EvidenceKind::Isolation);
    row.status == Status::Online || is_isolated()
}

/// Who is fenced for what, and how many of each cluster for a plain downtime.
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
