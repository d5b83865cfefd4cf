//! `unfence`: lets a node back on every ProxySQL.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use stonith_core::decide::{Decision, ReturnBlocker, Verdict, release_by_order};
use stonith_core::node::Node;
use stonith_core::orders::{Order, Release};
use stonith_core::role::Role;
use stonith_core::table::{Row, Status};
use tokio::time::Instant;

use super::{OnProxy, OrderError, OrderResult, Target, TargetError, Targets, is_marked, is_ours, row_text};
use crate::agent::look::LOOK_AGAIN;
use crate::agent::snapshot::blockers;
use crate::clock::Now;

/// The longest wait until a leader is confirmed. It takes 2 s with a majority, 5 s with one endpoint (I8).
const CONFIRM_MAX: Duration = Duration::from_secs(8);

/// An order to let a node back.
#[derive(Debug, Clone)]
pub struct UnfenceOrder {
    /// The node, as it was typed.
    pub node: String,
    /// The node's role, if the operator vouches for it.
    pub role: Option<Role>,
    /// Whether the operator vouches for the node in the leader's place.
    pub without_lease: bool,
    /// How long to wait until the node is ONLINE.
    pub wait: Option<Duration>,
}

/// The result of an order to let a node back.
#[derive(Debug)]
pub struct Unfenced {
    /// The node that the order named.
    pub node: Node,
    /// The result on each ProxySQL that was reached.
    pub on: Vec<OnProxy<OrderResult>>,
}

impl Targets<'_> {
    /// Lets a node back.
    ///
    /// # Errors
    /// The name matches no single node. Nothing was changed.
    pub async fn unfence(&mut self, order: &UnfenceOrder) -> Result<Unfenced, OrderError> {
        let node = self.find(&order.node).await?;
        let until = order.wait.map(|wait| Instant::now() + wait);
        let results = join_all(self.reached.iter_mut().map(|target| target.unfence(&node, order, until))).await;
        Ok(Unfenced { node, on: self.reports(results) })
    }
}

impl Target<'_> {
    async fn unfence(
        &mut self,
        node: &Node,
        order: &UnfenceOrder,
        until: Option<Instant>,
    ) -> Result<OrderResult, TargetError> {
        let now = Order::Unfence { node: node.clone(), without_lease: order.without_lease, role: order.role };
        let decision = self.decide_confirmed(node, &now).await?;
        let was_fenced = is_marked(&self.observed.proxy, node);
        match decision.verdicts.get(node) {
            None => return Ok(OrderResult::Absent),
            Some(verdict @ Verdict::Fence { .. }) => {
                let blockers = blockers(verdict).into_iter().map(|blocker| blocker.text).collect();
                return Err(TargetError::NotLetBack { node: node.clone(), blockers });
            }
            Some(Verdict::Hold(why)) if !decision.plan.directives.contains_key(node) && was_fenced => {
                return Err(TargetError::HeldOut { node: node.clone(), why: Box::new(why.clone()) });
            }
            _ => {}
        }
        // The release is saved first, or the agent's next tick would fence the node again. Without agent state on
        // this host, no file is made.
        let release = self.release(&decision, node, order.without_lease);
        if self.state.is_kept() {
            self.state.release(node, release).map_err(TargetError::Unrecorded)?;
        }
        let mut decision = self.plan_for_node(node, decision);
        if decision.plan.is_empty() {
            return Ok(if was_fenced { OrderResult::Done } else { OrderResult::NotFenced });
        }
        // The agents on other hosts read the release in ProxySQL.
        decision.plan.releases = BTreeMap::from([(node.clone(), release)]);
        let outcome = self.apply(&decision).await.map_err(|error| TargetError::OnRecord(error.to_string()))?;
        let seen = self.look_again(&format!("{node} was"), "let back").await?;
        if let Some(row) = self.rows_of(&seen, node).find(|row| is_ours(row)) {
            return Err(TargetError::OnRecord(format!("{} is still fenced", row_text(row))));
        }
        self.log(&decision, &outcome);
        if let Some(until) = until {
            self.wait_until_online(node, until).await?;
        }
        Ok(OrderResult::Done)
    }

    /// Decides, and waits while the return lacks only a confirmed leader.
    async fn decide_confirmed(&mut self, node: &Node, order: &Order) -> Result<Decision, TargetError> {
        let until = Instant::now() + CONFIRM_MAX;
        loop {
            let decision = self.ordered(order.clone());
            let unconfirmed = matches!(
                decision.verdicts.get(node),
                Some(Verdict::Fence { blocker: ReturnBlocker::ConfirmedLeader | ReturnBlocker::Lease, .. })
            );
            if !unconfirmed || Instant::now() >= until {
                return Ok(decision);
            }
            // Kept in this process only: how long the leader has been the same.
            self.agent.memory = decision.memory;
            tokio::time::sleep(LOOK_AGAIN).await;
            let orders = self.observed.orders.clone();
            self.observed = self.agent.look(orders).await?.0;
        }
    }

    /// A release of all evidence against the node.
    ///
    /// It also covers evidence until now that this host does not know: the operator vouches for the node.
    fn release(&self, decision: &Decision, node: &Node, without_lease: bool) -> Release {
        let now_s = Now::read().wall_s;
        let known = release_by_order(&decision.memory, &self.observed.leader, node, now_s);
        let known = known.and(release_by_order(&self.agent.memory, &self.observed.leader, node, now_s));
        if !without_lease {
            return known;
        }
        // The end of this second: a recovery that began in it was before the order.
        let now_ns = u64::try_from(now_s).unwrap_or(0).saturating_add(1).saturating_mul(1_000_000_000) - 1;
        Release {
            recovery_ns: if known.recovery_ns == 0 { now_ns } else { known.recovery_ns },
            downtime_s: if known.downtime_s == 0 { now_s } else { known.downtime_s },
            ..known
        }
    }

    /// Waits until a row of the node is ONLINE. A node that ProxySQL itself shuns is let back, but takes no statements.
    async fn wait_until_online(&mut self, node: &Node, until: Instant) -> Result<(), TargetError> {
        loop {
            let seen = self.agent.proxy_view().await;
            let rows: Vec<&Row> = seen.iter().flat_map(|seen| self.rows_of(seen, node)).collect();
            if rows.iter().any(|row| row.status == Status::Online) {
                return Ok(());
            }
            if Instant::now() >= until {
                let rows = rows.into_iter().map(row_text).collect();
                return Err(TargetError::NotOnline { node: node.clone(), rows });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}
