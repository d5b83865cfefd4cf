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

use super::{Came, OnProxy, OrderError, Target, TargetError, Targets, shown};
use crate::agent::look::LOOK_AGAIN;

/// What is ordered.
#[derive(Debug, Clone)]
pub struct FenceOrder {
    /// The node, as it was typed.
    pub node: String,
    /// How far.
    pub level: Level,
    /// For the log.
    pub reason: Option<String>,
    /// How long to wait for the node's connections to drain, once it is fenced everywhere.
    pub wait: Option<Duration>,
    /// Whether the last ONLINE writer of a hostgroup may be taken.
    pub last_writer_too: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Fenced {
    /// The node that was meant.
    pub node: Node,
    /// On each ProxySQL that was reached.
    pub on: Vec<OnProxy<Came>>,
    /// Whether no connection to the node is in use where it was fenced; `None` if that was not waited for.
    pub is_unused: Option<bool>,
}

impl Targets<'_> {
    /// Takes a node out of traffic.
    ///
    /// # Errors
    /// Nothing was changed: no such node, or it is the last writer somewhere.
    pub async fn fence(&mut self, order: &FenceOrder) -> Result<Fenced, OrderError> {
        let node = self.find(&order.node)?;
        if !order.last_writer_too {
            self.guard_last_writer(&node)?;
        }
        let until = order.wait.map(|wait| Instant::now() + wait);
        let came = join_all(self.reached.iter_mut().map(|target| target.fence(&node, order))).await;
        let is_fenced = |came: &Result<Came, TargetError>| matches!(came, Ok(Came::Done));
        let mut is_unused = None;
        if let Some(until) = until.filter(|_| came.iter().any(is_fenced)) {
            let fenced = self.reached.iter_mut().zip(&came).filter(|(_, came)| is_fenced(came));
            let unused = fenced.map(|(target, _)| target.wait_until_unused(&node, until));
            is_unused = Some(join_all(unused).await.into_iter().all(|unused| unused));
        }
        Ok(Fenced { node, on: self.reports(came), is_unused })
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
    async fn fence(&mut self, node: &Node, order: &FenceOrder) -> Result<Came, TargetError> {
        let decision = self.ordered(Order::Fence { node: node.clone(), level: order.level });
        match decision.verdicts.get(node) {
            None => return Ok(Came::Absent),
            Some(Verdict::Fence { .. }) => {}
            Some(Verdict::Hold(why)) => {
                let rows = self.rows_of(&self.observed.proxy, node).filter(|row| row.status.in_service());
                let (in_service, why) = (rows.map(shown).collect(), Box::new(why.clone()));
                return Err(TargetError::Held { node: node.clone(), why, in_service });
            }
            Some(Verdict::Ignore(why)) => {
                return Err(TargetError::NotFenced { node: node.clone(), why: why.to_string() });
            }
            Some(Verdict::Keep | Verdict::Unfence { .. }) => {
                let why = "the decision does not fence it".to_owned();
                return Err(TargetError::NotFenced { node: node.clone(), why });
            }
        }
        if let Some(Directive::Fence { kind, .. }) = decision.plan.directives.get(node)
            && *kind < EvidenceKind::Manual
        {
            self.remarks.push(format!(
                "{node} is fenced for {kind} already, and comes back when that ends: the order adds nothing"
            ));
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
        let in_service = self.rows_of(&seen, node).filter(|row| row.status.in_service()).map(shown);
        left.extend(in_service.map(|row| format!("{row} is still in service")));
        if !left.is_empty() {
            return Err(TargetError::NotAsOrdered(left));
        }
        let reason = order.reason.as_deref().unwrap_or("none given");
        tracing::info!(proxy = %self.proxy.address, %node, reason, "fenced by order");
        self.log(&decision, &outcome);
        Ok(Came::Done)
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
                    Err(error) => format!("whether connections to {node} are in use is not known: {error}"),
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
