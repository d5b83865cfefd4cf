//! The hook's own fences, on ProxySQLs that it reaches through their admin interface.
//!
//! **Invariant:** the marker says `barrier`, so that any agent ends the fence as it ends an agent's own.

use std::collections::BTreeSet;

use stonith_core::barrier::{AtProxy, NeverReason, SelfFence};
use stonith_core::decide::Verdict;
use stonith_core::evidence::EvidenceKind;
use stonith_core::node::Node;
use stonith_core::observed::ProxyView;
use stonith_core::orders::Order;
use stonith_core::table::Row;

use super::{Target, TargetError, not_fenced, row_text};
use crate::agent::build::looking_agent;
use crate::agent::{OneLook, TickError};
use crate::config::{Config, Enforcement, ProxyConfig};

/// Fences a node on one ProxySQL for a recovery that waits. `by_itself` tells when it is out without the hook, and `look`
/// may serve the fences on others too.
pub async fn fence_for_barrier(
    config: &Config,
    proxy: &ProxyConfig,
    node: &Node,
    recovery: &str,
    by_itself: SelfFence,
    look: Option<OneLook>,
) -> AtProxy {
    if proxy.policy.mode == Enforcement::Observe {
        return AtProxy::Refused(NeverReason::Observes);
    }
    let not_yet = |why: String| AtProxy::NotYet(by_itself, why);
    let mut target = match target(config, proxy, look).await {
        Ok(target) => target,
        Err(why) => return not_yet(why),
    };
    let at = if target.observed.orders.suspended.is_some() {
        AtProxy::Refused(NeverReason::Suspended)
    } else {
        match target.fence_for_barrier(node, recovery).await {
            Ok(()) => AtProxy::Fenced,
            Err(error) => not_yet(error.to_string()),
        }
    };
    target.agent.close().await;
    at
}

/// Takes the fence of a barrier or of a takeover back on one ProxySQL, and leaves any other fence. Returns whether there was one.
///
/// # Errors
/// ProxySQL could not be read or changed, in words.
pub async fn lift_barrier(config: &Config, proxy: &ProxyConfig, node: &Node) -> Result<bool, String> {
    let mut target = target(config, proxy, None).await?; // what lets a node back asks anew
    let lifted = target.lift_barrier(node).await.map_err(|error| error.to_string());
    target.agent.close().await;
    lifted
}

pub(super) async fn target<'c>(
    config: &'c Config,
    proxy: &'c ProxyConfig,
    look: Option<OneLook>,
) -> Result<Target<'c>, String> {
    let agent = looking_agent(config, proxy).map_err(|error| error.to_string())?.sharing(look);
    Target::look(config, proxy, agent).await.map_err(|error| error.to_string())
}

impl Target<'_> {
    async fn fence_for_barrier(&mut self, node: &Node, recovery: &str) -> Result<(), TargetError> {
        self.take_out(node, Order::Barrier { node: node.clone(), recovery: recovery.to_owned() }).await
    }

    /// The names of the node's rows here. Orchestrator may have the node under another name.
    pub(super) fn names_of(&self, node: &Node) -> BTreeSet<Node> {
        let names = self.observed.proxy.runtime.iter().filter_map(Row::node);
        names.filter(|name| name == node || self.identity.instance_of(name) == Some(node)).collect()
    }

    /// Carries out an order that fences the node, under each of its names here. `Ok` once runtime shows no row of it in
    /// service.
    pub(super) async fn take_out(&mut self, node: &Node, order: Order) -> Result<(), TargetError> {
        let (names, decision) = (self.names_of(node), self.ordered(order));
        let refused = names.iter().find_map(|name| not_fenced(node, decision.verdicts.get(name)?));
        refused.map_or(Ok(()), Err)?;
        let decision = self.plan_for_nodes(&names, decision);
        let outcome = self.apply(&decision).await?;
        let unseen = |cause| TargetError::Unseen { what: format!("{node} was"), how: "fenced", cause };
        let runtime = self.agent.runtime().await.map_err(unseen)?;
        let seen = ProxyView { runtime, ..self.observed.proxy.clone() };
        let in_service = names.iter().flat_map(|name| self.rows_of(&seen, name)).filter(|row| row.status.in_service());
        let left: Vec<String> = in_service.map(|row| format!("{} is still in service", row_text(row))).collect();
        if !left.is_empty() {
            return Err(TargetError::NotAsOrdered(left));
        }
        self.log(&decision, &outcome);
        Ok(())
    }

    async fn lift_barrier(&mut self, node: &Node) -> Result<bool, TickError> {
        let (mut names, decided) = (self.names_of(node), self.decided());
        names.retain(|name| decided.verdicts.get(name).is_some_and(is_of_the_hook_alone));
        if names.is_empty() {
            return Ok(false); // not fenced, or something else keeps it out
        }
        let decision = self.ordered(Order::Unfence { node: node.clone(), without_lease: true, role: None });
        let decision = self.plan_for_nodes(&names, decision);
        let outcome = self.apply(&decision).await?;
        self.log(&decision, &outcome);
        Ok(true)
    }
}

/// Whether a node is out for a barrier or for a takeover, and for nothing else.
fn is_of_the_hook_alone(verdict: &Verdict) -> bool {
    let (Verdict::Fence { evidence, .. } | Verdict::Unfence { evidence, .. }) = verdict else { return false };
    matches!(&evidence[..], [fact] if matches!(fact.kind, EvidenceKind::Barrier | EvidenceKind::Takeover))
}
