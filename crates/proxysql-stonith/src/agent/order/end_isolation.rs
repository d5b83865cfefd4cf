//! The break-glass: on every ProxySQL, restores the nodes that only an isolation took out.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use stonith_core::decide::{Decision, Verdict};
use stonith_core::node::Node;
use stonith_core::orders::Order;

use super::{OnProxy, OrderError, Target, TargetError, Targets, is_marked, is_ours, row_text};
use crate::agent::snapshot::why;

/// What the end of an isolation would restore on one ProxySQL.
#[derive(Debug)]
pub struct IsolationEnd {
    /// The ProxySQL.
    pub proxy: Node,
    /// The nodes whose rows are restored.
    pub back: BTreeSet<Node>,
    /// The fenced nodes that stay out, each with the reason.
    pub stay: Vec<(Node, String)>,
    decision: Decision,
}

impl Targets<'_> {
    /// Decides what would be restored; changes nothing.
    ///
    /// # Errors
    /// An agent that is not suspended would isolate again.
    pub fn isolation_ends(&mut self) -> Result<Vec<IsolationEnd>, OrderError> {
        if self.reached.is_empty() {
            return Err(OrderError::NoneReached);
        }
        if let Some(target) = self.reached.iter().find(|target| target.observed.orders.suspended.is_none()) {
            return Err(OrderError::NotSuspended(target.proxy.address.clone()));
        }
        Ok(self.reached.iter_mut().map(Target::isolation_end).collect())
    }

    /// Restores the rows of these nodes.
    pub async fn end_isolation(&mut self, ends: Vec<IsolationEnd>) -> Vec<OnProxy<()>> {
        let work = self.reached.iter_mut().zip(ends);
        let results = join_all(work.map(|(target, end)| target.end_isolation(end))).await;
        self.reports(results)
    }
}

impl Target<'_> {
    fn isolation_end(&mut self) -> IsolationEnd {
        let decision = self.ordered(Order::EndIsolation);
        let (mut back, mut stay) = (BTreeSet::new(), Vec::new());
        for (node, verdict) in &decision.verdicts {
            match verdict {
                _ if !is_marked(&self.observed.proxy, node) => {}
                Verdict::Unfence { .. } => {
                    back.insert(node.clone());
                }
                verdict => stay.push((node.clone(), why(verdict))),
            }
        }
        IsolationEnd { proxy: self.proxy.address.clone(), back, stay, decision }
    }

    async fn end_isolation(&mut self, end: IsolationEnd) -> Result<(), TargetError> {
        let IsolationEnd { back, decision, .. } = end;
        let pause = decision.plan.pause;
        let mut decision = self.plan_for_nodes(&back, decision);
        decision.plan.pause = pause;
        let outcome = self.apply(&decision).await?;
        let seen = self.look_again("the rows were", "restored").await?;
        let left = back.iter().flat_map(|node| self.rows_of(&seen, node)).filter(|row| is_ours(row));
        let left: Vec<String> = left.map(|row| format!("{} is still out of service", row_text(row))).collect();
        if !left.is_empty() {
            return Err(TargetError::NotAsOrdered(left));
        }
        self.log(&decision, &outcome);
        Ok(())
    }
}
