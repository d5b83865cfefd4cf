//! The hook's own fences, on ProxySQLs that it reaches through their admin interface.
//!
//! **Invariant:** the marker says `barrier`, so that any agent ends the fence as it ends an agent's own.

use stonith_core::barrier::{AtProxy, NeverReason, SelfFence};
use stonith_core::decide::Verdict;
use stonith_core::evidence::EvidenceKind;
use stonith_core::node::Node;
use stonith_core::orders::Order;

use super::{Target, TargetError, row_text};
use crate::agent::TickError;
use crate::agent::build::{looking_agent, state_dir};
use crate::agent::snapshot::Suspended;
use crate::clock::Now;
use crate::config::{Config, Enforcement, ProxyConfig};

/// Fences a node on one ProxySQL for a recovery that waits. `by_itself` tells when it is out without the hook.
pub async fn fence_for_barrier(
    config: &Config,
    proxy: &ProxyConfig,
    node: &Node,
    recovery: &str,
    by_itself: SelfFence,
) -> AtProxy {
    if proxy.policy.mode == Enforcement::Observe {
        return AtProxy::Refused(NeverReason::Observes);
    }
    let not_yet = |why: String| AtProxy::NotYet(by_itself, why);
    let mut target = match target(config, proxy).await {
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
    let mut target = target(config, proxy).await?;
    let lifted = target.lift_barrier(node).await.map_err(|error| error.to_string());
    target.agent.close().await;
    lifted
}

pub(super) async fn target<'c>(config: &'c Config, proxy: &'c ProxyConfig) -> Result<Target<'c>, String> {
    let mut agent = looking_agent(config, proxy).map_err(|error| error.to_string())?;
    let (state, now) = (state_dir(config, proxy), Now::read());
    let standing = state.orders(&now);
    let suspended = Suspended::by(&standing, &now);
    let (observed, decision) = agent.look_once(standing.orders).await.map_err(|error: TickError| error.to_string())?;
    let identity = decision.memory.nodes.identity;
    Ok(Target { proxy, agent, state, observed, identity, suspended, remarks: Vec::new() })
}

impl Target<'_> {
    async fn fence_for_barrier(&mut self, node: &Node, recovery: &str) -> Result<(), TargetError> {
        let decision = self.ordered(Order::Barrier { node: node.clone(), recovery: recovery.to_owned() });
        match decision.verdicts.get(node) {
            None => return Ok(()),
            Some(Verdict::Fence { .. }) => {}
            Some(Verdict::Hold(why) | Verdict::Ignore(why)) => {
                return Err(TargetError::NotFenced { node: node.clone(), why: why.to_string() });
            }
            Some(Verdict::Keep | Verdict::Unfence { .. }) => {
                let why = "the decision lets it stay in service".to_owned();
                return Err(TargetError::NotFenced { node: node.clone(), why });
            }
        }
        let decision = self.plan_for_node(node, decision);
        let outcome = self.apply(&decision).await?;
        let seen = self.look_again(&format!("{node} was"), "fenced").await?;
        let in_service = self.rows_of(&seen, node).filter(|row| row.status.in_service()).map(row_text);
        let left: Vec<String> = in_service.map(|row| format!("{row} is still in service")).collect();
        if !left.is_empty() {
            return Err(TargetError::NotAsOrdered(left));
        }
        self.log(&decision, &outcome);
        Ok(())
    }

    async fn lift_barrier(&mut self, node: &Node) -> Result<bool, TickError> {
        let kinds = match self.decided().verdicts.get(node) {
            Some(Verdict::Fence { evidence, .. } | Verdict::Unfence { evidence, .. }) => {
                evidence.iter().map(|fact| fact.kind).collect()
            }
            _ => Vec::new(),
        };
        if ![EvidenceKind::Barrier, EvidenceKind::Takeover].iter().any(|kind| kinds == [*kind]) {
            return Ok(false); // not fenced, or something else keeps it out
        }
        let decision = self.ordered(Order::Unfence { node: node.clone(), without_lease: true, role: None });
        let decision = self.plan_for_node(node, decision);
        let outcome = self.apply(&decision).await?;
        self.log(&decision, &outcome);
        Ok(true)
    }
}
