//! `fence`: takes a node out of traffic on every ProxySQL.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use stonith_core::apply::Outcome;
use stonith_core::decide::Verdict;
use stonith_core::evidence::{EvidenceKind, Level};
use stonith_core::node::Node;
use stonith_core::orders::Order;
use stonith_core::plan::Directive;
use stonith_core::table::{Hostgroup, Status};
use tokio::time::Instant;

use super::{OnProxy, OrderError, OrderResult, Target, TargetError, Targets, not_fenced, row_text};
use crate::agent::look::LOOK_AGAIN;

/// An order to fence a node.
#[derive(Debug, Clone)]
pub struct FenceOrder {
    /// The node, as it was typed.
    pub node: String,
    /// How far the fence goes.
    pub level: Level,
    /// The reason for the log.
    pub reason: Option<String>,
    /// How long to wait for the node's connections to drain, once it is fenced everywhere.
    pub wait: Option<Duration>,
    /// Whether the last ONLINE writer of a hostgroup may be fenced.
    pub last_writer_too: bool,
}

/// The result of an order to fence.
#[derive(Debug)]
pub struct Fenced {
    /// The node that the order named.
    pub node: Node,
    /// The result on each ProxySQL that was reached.
    pub on: Vec<OnProxy<OrderResult>>,
    /// Whether no connection to the node is in use where it was fenced; `None` if the order had no `wait`.
    pub is_unused: Option<bool>,
}

impl Targets<'_> {
    /// Takes a node out of traffic.
    ///
    /// # Errors
    /// The name matches no single node, or the node is the last writer on a ProxySQL. Nothing was changed.
    pub async fn fence(&mut self, order: &FenceOrder) -> Result<Fenced, OrderError> {
        let node = self.find(&order.node).await?;
        if !order.last_writer_too {
            self.guard_last_writer(&node)?;
        }
        let until = order.wait.map(|wait| Instant::now() + wait);
        let results = join_all(self.reached.iter_mut().map(|target| target.fence(&node, order))).await;
        let is_fenced = |result: &Result<OrderResult, TargetError>| matches!(result, Ok(OrderResult::Done));
        let mut is_unused = None;
        if let Some(until) = until.filter(|_| results.iter().any(is_fenced)) {
            let fenced = self.reached.iter_mut().zip(&results).filter(|(_, result)| is_fenced(result));
            let unused = fenced.map(|(target, _)| target.wait_until_unused(&node, until));
            is_unused = Some(join_all(unused).await.into_iter().all(|unused| unused));
        }
        Ok(Fenced { node, on: self.reports(results), is_unused })
    }

    fn guard_last_writer(&self, node: &Node) -> Result<(), OrderError> {
        for target in &self.reached {
            if let Some(hostgroup) = target.last_online_writer(node) {
                let proxy = target.proxy.address.clone();
                return Err(OrderError::LastWriter { node: node.clone(), hostgroup, proxy });
            }
        }
        Ok(())
    }
}

impl Target<'_> {
    async fn fence(&mut self, node: &Node, order: &FenceOrder) -> Result<OrderResult, TargetError> {
        let decision = self.ordered(Order::Fence { node: node.clone(), level: order.level });
        match decision.verdicts.get(node) {
            None => return Ok(OrderResult::Absent),
            Some(Verdict::Hold(why)) => {
                let rows = self.rows_of(&self.observed.proxy, node).filter(|row| row.status.in_service());
                let (in_service, why) = (rows.map(row_text).collect(), Box::new(why.clone()));
                return Err(TargetError::Held { node: node.clone(), why, in_service });
            }
            Some(verdict) => not_fenced(node, verdict).map_or(Ok(()), Err)?,
        }
        if let Some(Directive::Fence { kind, .. }) = decision.plan.directives.get(node)
            && *kind < EvidenceKind::Manual
        {
            self.remarks
                .push(format!("{node} is already fenced by {kind} and returns when that ends; the order adds nothing"));
        }
        let decision = self.plan_for_node(node, decision);
        let outcome = self.apply(&decision).await?;
        let mut left = Vec::new();
        if let Outcome::Applied(done) = &outcome
            && order.level == Level::Sessions
            && done.sessions_left.contains(node)
        {
            left.push(format!("{node} still has connections in use"));
        }
        let seen = self.look_again(&format!("{node} was"), "fenced").await?;
        let in_service = self.rows_of(&seen, node).filter(|row| row.status.in_service()).map(row_text);
        left.extend(in_service.map(|row| format!("{row} is still in service")));
        if !left.is_empty() {
            return Err(TargetError::NotAsOrdered(left));
        }
        let reason = order.reason.as_deref().unwrap_or("none given");
        tracing::info!(proxy = %self.proxy.address, %node, reason, "fenced by order");
        self.log(&decision, &outcome);
        Ok(OrderResult::Done)
    }

    async fn wait_until_unused(&mut self, node: &Node, until: Instant) -> bool {
        loop {
            let used = self.agent.connections_used(node).await;
            if used.as_ref().is_ok_and(|used| *used == 0) {
                return true;
            }
            if Instant::now() >= until {
                self.remarks.push(match used {
                    Ok(used) => format!("{used} connections to {node} are still in use"),
                    Err(error) => format!("cannot tell whether connections to {node} are in use: {error}"),
                });
                return false;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The writer hostgroup in which this node is the only ONLINE one.
    fn last_online_writer(&self, node: &Node) -> Option<Hostgroup> {
        let proxy = &self.observed.proxy;
        self.managed(proxy).writers().find(|hostgroup| {
            let rows =
                proxy.runtime.iter().filter(|row| row.key.hostgroup == *hostgroup && row.status == Status::Online);
            let online: BTreeSet<Node> = rows.filter_map(|row| row.node()).collect();
            online.len() == 1 && online.contains(node)
        })
    }
}
