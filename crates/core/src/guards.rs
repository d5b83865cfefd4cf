//! What plain downtime may not take away (DESIGN §5): it is an operator's note, not the end of a primary.

use std::collections::{BTreeMap, BTreeSet};

use crate::evidence::Kind;
use crate::gather::{ByKind, Facts, hostgroups_of};
use crate::marker::Comment;
use crate::node::Node;
use crate::row::{Hostgroup, Row, Status};

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
    evidence.keys().any(|kind| *kind != Kind::Isolation)
}

/// Whether a plain downtime may fence this node, given all that is fenced already.
///
/// # Errors
/// The guard that holds it.
pub fn may_fence_for_downtime(facts: &Facts<'_>, node: &Node, fenced: &BTreeMap<Node, ByKind>) -> Result<(), Guard> {
    let topology = facts.topology.ok_or(Guard::Unseen)?;
    topology.instance(node).ok_or(Guard::Unseen)?;
    if topology.may_be_primary(node) {
        return Err(Guard::HealthyPrimary);
    }
    let most = facts.policy.max_downtime_fences.min(topology.size(node) / 2);
    let for_downtime = fenced.iter().filter(|(other, kinds)| {
        *other != node && kinds.keys().next() == Some(&Kind::Downtime) && topology.together(node, other)
    });
    if for_downtime.count() >= most {
        return Err(Guard::TooMany(most));
    }
    // What an isolation took out comes back with the lease.
    let isolated = |row: &Row| {
        row.status == Status::OfflineSoft
            && matches!(Comment::parse(&row.comment), Comment::Marked(_, marker) if marker.kind == Kind::Isolation)
    };
    let online = |hostgroup: Hostgroup| -> BTreeSet<Node> {
        let rows = facts.observed.proxy.runtime.iter().filter(|row| row.key.hostgroup == hostgroup);
        rows.filter(|row| row.status == Status::Online || isolated(row)).filter_map(Row::node).collect()
    };
    let stays_out = |other: &Node| fenced.get(other).is_some_and(is_out_for_good);
    // Each once, the lowest first: the order of rows decides nothing.
    for hostgroup in hostgroups_of(&facts.observed.proxy, facts.managed, node) {
        let online = online(hostgroup);
        if online.contains(node) && online.iter().all(|other| other == node || stays_out(other)) {
            return Err(Guard::LastOnline(hostgroup));
        }
    }
    Ok(())
}
