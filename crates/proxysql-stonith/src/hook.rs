//! Orchestrator's hooks: the barrier before a promotion, and what follows one (design §5.7).
//!
//! ```text
//! PreFailover           mark -> wake agents, fence the others -> wait -> exit 0, or take back and exit 1
//! PostFailover          mark as lost-in-recovery on all members -> wake agents
//! PostUnsuccessful...   take back mark and fences -> wake agents
//! PreGracefulTakeover   drain: mark -> rows soft, transactions finish -> exit 0
//! ```
//!
//! When to wait and when to go on is [`stonith_core::barrier`]'s. Here is what it takes from the network.
//!
//! **Invariant:** the hook ends by `barrier.deadline`, whatever hangs ([`watchdog`]).

mod agents;
mod failover;
mod pre;
mod takeover;
mod watchdog;

use std::time::Duration;

use futures_util::future::join_all;
use stonith_core::barrier::TAKE_BACK_MS;
use stonith_core::node::Node;
use stonith_core::orchestrator::{BARRIER, LOST_IN_RECOVERY, TAKEOVER};
use tokio::time::timeout;

use crate::agent::{BuildError, orchestrator_settings, order};
use crate::config::Config;
use crate::orchestrator::{LeaderError, Mark, MarkWriter, Tags};
pub use agents::{AgentError, AgentProxy, Agents};
pub use failover::{Failover, FailoverArgs, FailoverError};
pub use pre::{Outcome, pre_failover};
pub use takeover::{Takeover, drain, resume};
pub use watchdog::watchdog;

/// The owner of what the hook marks after a failover.
const OWNER: &str = "proxysql-stonith";

/// The length of the mark after a failover, in s. Orchestrator renews it as its own (facts §8).
const LOST_S: u64 = 3_600;

/// The longest time that taking something back may take.
const TAKE_BACK: Duration = Duration::from_millis(TAKE_BACK_MS);

/// The longest time to learn which agents registered themselves.
const LEARN: Duration = Duration::from_secs(1);

/// Why a hook cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// No client can be made from the config.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The token of the agents can't be read.
    #[error(transparent)]
    Token(#[from] crate::config::SecretError),
    /// Orchestrator did not take a mark.
    #[error(transparent)]
    Mark(#[from] LeaderError),
    /// The config has several Orchestrators.
    #[error("the config has several [[orchestrator]]; a hook needs a config with the one that runs it only")]
    SeveralOrchestrators,
}

/// What every hook works with.
struct Hook<'c> {
    config: &'c Config,
    writer: MarkWriter,
    tags: Tags,
    agents: Agents,
}

impl<'c> Hook<'c> {
    fn new(config: &'c Config) -> Result<Self, HookError> {
        let [orchestrator] = config.orchestrators.as_slice() else { return Err(HookError::SeveralOrchestrators) };
        let settings = orchestrator_settings(orchestrator)?;
        let writer = MarkWriter::new(settings).map_err(BuildError::from)?;
        Ok(Self { config, tags: writer.tags(), writer, agents: Agents::new(&config.barrier)? })
    }

    /// Learns which agents registered themselves at a node. Returns why that is not known.
    async fn learn_registered(&self, node: &Node) -> Option<String> {
        let why = match timeout(LEARN, self.agents.registered(&self.tags, node)).await {
            Ok(Ok(registered)) => match &registered.others {
                None => return None,
                Some(why) => why.clone(),
            },
            Ok(Err(error)) => error.to_string(),
            Err(_) => "Orchestrator did not answer in time".to_owned(),
        };
        tracing::warn!(%node, "agents that may have registered are not asked: {why}");
        Some(format!("agents that may have registered: {why}"))
    }

    /// Takes back the mark and this hook's own fences, and wakes the agents. Agents end their fences by themselves.
    async fn take_back(&self, node: &Node) {
        let mark = async {
            match timeout(TAKE_BACK, self.writer.end(node, &[BARRIER, TAKEOVER])).await {
                Ok(Ok(true)) => tracing::info!(%node, "the hook's mark is taken back"),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!(%node, "the hook's mark ends by itself: {error}"),
                Err(_) => {
                    tracing::warn!(%node, "the hook's mark ends by itself: Orchestrator did not answer in time")
                }
            }
            self.agents.wake_all().await;
        };
        let lifts = self.config.proxies.iter().map(|proxy| async move {
            let lifted = timeout(TAKE_BACK, order::lift_barrier(self.config, proxy, node)).await;
            let proxy = &proxy.address;
            match lifted {
                Ok(Ok(true)) => tracing::info!(%proxy, %node, "the hook's own fence is taken back"),
                Ok(Ok(false)) => {}
                Ok(Err(why)) => tracing::error!(%proxy, %node, "the hook's own fence may be left: {why}"),
                Err(_) => {
                    tracing::error!(%proxy, %node, "the hook's own fence may be left: ProxySQL did not answer in time")
                }
            }
        });
        tokio::join!(join_all(lifts), mark);
    }
}

/// After a failover: the failed node is marked on all members, and every agent fences it.
///
/// # Errors
/// The hook cannot begin, or Orchestrator did not take the mark.
pub async fn post_failover(config: &Config, failover: &Failover) -> Result<(), HookError> {
    if failover.is_planned {
        return resume(config, failover).await;
    }
    let hook = Hook::new(config)?;
    let node = &failover.failed;
    if let Some(successor) = &failover.successor {
        // A mark of an earlier recovery must not outlive the promotion.
        if let Err(error) = hook.writer.end(successor, &[BARRIER]).await {
            tracing::warn!(%successor, "its mark of an earlier recovery may be left: {error}");
        }
    }
    let (marked, _) = tokio::join!(mark_on_all(&hook.writer, node), hook.learn_registered(node));
    let timeout = config.barrier.deadline.saturating_sub(TAKE_BACK);
    hook.agents.fenced_everywhere(node, timeout).await;
    Ok(marked?)
}

/// In a raft only the leader has the mark of a recovery. A downtime that is set through the API is on all (facts §8).
async fn mark_on_all(writer: &MarkWriter, node: &Node) -> Result<(), LeaderError> {
    if !writer.is_raft().await? {
        return Ok(());
    }
    let (node, owner) = (node.clone(), OWNER.to_owned());
    writer.begin(&Mark { node: node.clone(), owner, reason: LOST_IN_RECOVERY, seconds: LOST_S }).await?;
    tracing::info!(%node, "marked as {LOST_IN_RECOVERY} on every Orchestrator node");
    Ok(())
}

/// After a failover that promoted nobody: what the barrier left is taken back.
///
/// # Errors
/// The hook cannot begin.
pub async fn post_unsuccessful_failover(config: &Config, failover: &Failover) -> Result<(), HookError> {
    let hook = Hook::new(config)?;
    hook.learn_registered(&failover.failed).await;
    hook.take_back(&failover.failed).await;
    Ok(())
}

/// The lines for orchestrator.conf.json. The hook before a promotion is the last of its list: what runs after it delays
/// the promotion beyond the mark. The variables `ORC_*` tell it all, so no placeholder is needed.
pub fn orchestrator_lines(program: &str) -> String {
    let hooks = [
        ("PreGracefulTakeoverProcesses", "pre-graceful-takeover"),
        ("PreFailoverProcesses", "pre-failover"),
        ("PostFailoverProcesses", "post-failover"),
        ("PostUnsuccessfulFailoverProcesses", "post-unsuccessful-failover"),
    ];
    let line = |(key, hook): (&str, &str)| format!("\"{key}\": [\"{program} hook {hook}\"],\n");
    hooks.map(line).concat()
}
