//! The break-glass: puts back what is out for an isolation and for nothing else, on every ProxySQL.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use stonith_core::decide::{Decision, Verdict};
use stonith_core::node::Node;
use stonith_core::orders::Order;

use super::{OnProxy, OrderError, Target, TargetError, Targets, is_marked, is_ours, shown};
use crate::agent::snapshot::why;

/// What the end of an isolation would put back on one ProxySQL.
#[derive(Debug)]
pub struct IsolationEnd {
    /// Which.
    pub proxy: Node,
    /// The nodes whose rows go back.
    pub back: BTreeSet<Node>,
    /// The fenced nodes that stay out, each with the reason.
    pub stay: Vec<(Node, String)>,
    decision: Decision,
}

impl Targets<'_> {
    /// What would be put back; changes nothing.
    ///
    /// # Errors
    /// A running agent would isolate again.
    pub fn isolation_ends(&mut self) -> Result<Vec<IsolationEnd>, OrderError> {
        if self.reached.is_empty() {
            return Err(OrderError::NoneReached);
        }
        if let Some(target) = self.reached.iter().find(|target| target.observed.orders.suspended.is_none()) {
            return Err(OrderError::NotSuspended(target.proxy.address.clone()));
        }
        Ok(self.reached.iter_mut().map(Target::isolation_end).collect())
    }

    /// Puts it back.
    pub async fn end_isolation(&mut self, ends: Vec<IsolationEnd>) -> Vec<OnProxy<()>> {
        let work = self.reached.iter_mut().zip(ends);
        let came = join_all(work.map(|(target, end)| target.end_isolation(end))).await;
        self.reports(came)
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
        let decision = self.plan_for_nodes(&back, decision);
        let outcome = self.apply(&decision).await?;
        let seen = self.look_again("the rows were", "back").await?;
        let left = back.iter().flat_map(|node| self.rows_of(&seen, node)).filter(|row| is_ours(row));
        let left: Vec<String> = left.map(|row| format!("{} is still out", shown(row))).collect();
        if !left.is_empty() {
            return Err(TargetError::NotAsOrdered(left));
        }
        self.log(&decision, &outcome);
        Ok(())
    }
}
