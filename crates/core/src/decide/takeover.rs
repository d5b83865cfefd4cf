//! The evidence of a planned takeover: the mark that this program's hook sets while it drains the old primary (design §5).
//!
//! ```text
//! mark listed -> rows soft, transactions finish -> read_only -> a record supersedes the node, or it is the primary still
//! ```
//!
//! Nothing is wrong with the node, so a takeover that comes to nothing must end soon: clients wait inside ProxySQL.
//!
//! **Invariant:** a mark never fences a node that a later recovery promoted.

use super::facts::Facts;
use super::{Judge, ProofGap, ReturnBlocker};
use crate::evidence::{Evidence, EvidenceKind};
use crate::node::Node;
use crate::orchestrator::TAKEOVER;
use crate::orders::Order;

impl Facts<'_> {
    /// The mark of a planned takeover that the leader lists, if it counts.
    pub fn takeover(&self, node: &Node) -> Option<Evidence> {
        let mark = self.downtime(node).filter(|downtime| downtime.reason == TAKEOVER)?;
        let fact = Evidence::downtime(EvidenceKind::Takeover, TAKEOVER, mark.begin_s);
        (!self.is_left_over(node, &fact)).then_some(fact)
    }

    /// `Ok` if a takeover of this node is over. A node that is read-only and replicates from nobody was demoted a moment
    /// ago, and the record of its successor may still come.
    pub fn takeover_is_over(&self, judge: &Judge<'_>, node: &Node) -> Result<(), ReturnBlocker> {
        let drains_now = |order: &Order| matches!(order, Order::Drain { node: of, .. } if self.is_named(node, of));
        if self.takeover(node).is_some() || self.observed.orders.now.as_ref().is_some_and(drains_now) {
            return Err(ReturnBlocker::DowntimeEnd);
        }
        let gap = |gap| Err(ReturnBlocker::Proof(vec![gap]));
        let Some(instance) = judge.topology.instance(node) else { return gap(ProofGap::Unlisted) };
        if !instance.valid {
            return gap(ProofGap::NotValid);
        }
        match instance.read_only && !instance.replicating {
            true => Err(ReturnBlocker::Recovery),
            false => Ok(()),
        }
    }
}
