//! A planned takeover: the old primary is drained, and its sessions' new transactions wait inside ProxySQL for the new one.
//!
//! ```text
//! prepare everywhere -> mark -> everywhere: rows soft, transactions finish -> exit 0 -> read_only, promotion
//! ```
//!
//! The ProxySQLs of the config are drained here ([`order::drain`]), those of an agent by its HTTP, and both do the same. The
//! mark is as short as the drain. An agent ends a takeover that came to nothing as soon as the mark is over.

use std::fmt;
use std::time::Duration;

use futures_util::future::{join, join_all};
use stonith_core::barrier::OnUnconfirmed;
use stonith_core::node::Node;
use stonith_core::orchestrator::TAKEOVER;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::agents::{Agents, DrainStep};
use super::{Failover, Hook, HookError, OWNER};
use crate::agent::order::{self, Course};
use crate::config::{AgentUrl, Config, ProxyConfig, duration};
use crate::http::DrainedProxy;
use crate::orchestrator::Mark;
use crate::untrusted_text::one_line;

/// The time that the mark outlasts the drain, in s. Orchestrator sets read_only meanwhile.
const AFTER_S: u64 = 3;

/// The time to publish the mark.
const PUBLISH: Duration = Duration::from_secs(2);

/// The longest time to prepare. ProxySQL keeps a session for 10 s after an insert by default.
const PREPARE_MAX: Duration = Duration::from_secs(10);

/// The time beyond the drain for connecting and for the applies.
const SLACK: Duration = Duration::from_secs(2);

/// How the drain went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takeover {
    /// Where the old primary is not known to be drained, and why.
    pub open: Vec<String>,
    /// Whether the takeover goes on.
    pub goes_on: bool,
}

impl fmt::Display for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.open.is_empty(), self.goes_on) {
            (true, _) => write!(f, "every ProxySQL is drained; the takeover goes on"),
            (false, true) => write!(f, "the takeover goes on, and clients may see errors: {}", self.open.join("; ")),
            (false, false) => write!(f, "the takeover is aborted: {}", self.open.join("; ")),
        }
    }
}

/// Drains the old primary before a planned takeover. With `waits`, running transactions may finish. Without, Orchestrator
/// has set read_only already.
///
/// # Errors
/// The hook cannot begin.
pub async fn drain(config: &Config, failover: &Failover, waits: bool) -> Result<Takeover, HookError> {
    let (hook, node) = (Hook::new(config)?, &failover.failed);
    if !waits && matches!(timeout(PUBLISH, hook.writer.lists(node, TAKEOVER)).await, Ok(Ok(true))) {
        return Ok(Takeover { open: Vec::new(), goes_on: true }); // pre-graceful-takeover has drained it
    }
    let began = Instant::now();
    let unknown = hook.learn_registered(node).await;
    let most = config.barrier.deadline.saturating_sub(PUBLISH + SLACK + began.elapsed());
    let longest = if waits { config.barrier.drain_timeout.min(most) } else { Duration::ZERO };
    let prepare = if waits { most.saturating_sub(longest + 2 * SLACK).min(PREPARE_MAX) } else { Duration::ZERO };
    let (mut preparing, mut goes) = (Vec::new(), Vec::new());
    let own: Vec<_> = config
        .proxies
        .iter()
        .map(|proxy| {
            let ((prepared, is_prepared), (go, goes_on)) = (oneshot::channel(), oneshot::channel());
            preparing.push(is_prepared);
            goes.push(go);
            at_own(
                config,
                proxy,
                node,
                prepare + longest + 2 * SLACK,
                Course { needs_mark: false, prepare, prepared, go: goes_on },
            )
        })
        .collect();
    let agents = &hook.agents;
    let conduct = async {
        if !prepare.is_zero() {
            // Who is not prepared says so by its result in the end.
            let ask = |url| agents.drain(url, DrainStep::Prepare, node, prepare);
            let all = join(join_all(preparing), join_all(agents.all().map(ask)));
            let _ = timeout(prepare + SLACK, all).await;
        }
        publish(&hook, node, longest).await?;
        for go in goes {
            let _ = go.send(longest); // who failed hears nothing
        }
        Ok(join_all(agents.all().map(|url| at_agent(agents, url, node, longest))).await.concat())
    };
    let (own, agents) = tokio::join!(join_all(own), conduct);
    let open: Vec<String> = match agents {
        Ok(agents) => own.into_iter().flatten().chain(agents).chain(unknown).collect(),
        Err(unpublished) => vec![unpublished],
    };
    let goes_on = open.is_empty() || config.barrier.on_unconfirmed == OnUnconfirmed::Proceed;
    if !goes_on {
        hook.take_back(node).await;
    }
    Ok(Takeover { open, goes_on })
}

/// Publishes the mark by which every agent takes the rows out softly.
async fn publish(hook: &Hook<'_>, node: &Node, longest: Duration) -> Result<(), String> {
    let seconds = longest.as_secs().saturating_add(AFTER_S);
    let mark = Mark { node: node.clone(), owner: OWNER.to_owned(), reason: TAKEOVER, seconds };
    match timeout(PUBLISH, hook.writer.begin(&mark)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("the mark is not published, so nothing is drained: {error}")),
        Err(_) => Err("the mark is not published in time, so nothing is drained".to_owned()),
    }
}

/// Drains the node on a ProxySQL of the config. Returns what is open there.
async fn at_own(config: &Config, proxy: &ProxyConfig, node: &Node, within: Duration, course: Course) -> Option<String> {
    let drained = timeout(within, order::drain(config, proxy, node, course)).await;
    let proxy = &proxy.address;
    match drained.unwrap_or_else(|_| Err("it did not answer in time".to_owned())) {
        Ok(order::Drained { ended_between, ended_late, took }) => {
            tracing::info!(%proxy, %node, ended_between, ended_late, took_ms = duration::millis(took), "drained");
            None
        }
        Err(why) => Some(format!("{proxy}: {why}")),
    }
}

/// Drains the node on an agent's ProxySQLs. Returns what is open there.
async fn at_agent(agents: &Agents, url: &AgentUrl, node: &Node, longest: Duration) -> Vec<String> {
    let proxies = match agents.drain(url, DrainStep::Go, node, longest).await {
        Ok(answer) => answer.proxies,
        Err(error) => return vec![format!("agent {url}: {error}")],
    };
    let mut open = Vec::new();
    for DrainedProxy { proxysql: proxy, why, ended_between, ended_late, took_ms } in proxies {
        match why {
            Some(why) => open.push(format!("{proxy} of agent {url}: {}", one_line(&why))),
            None => tracing::info!(agent = %url, %proxy, %node, ended_between, ended_late, took_ms, "drained"),
        }
    }
    open
}

/// After a planned takeover: every monitor checks at once, so that the new primary's row moves without a wait.
///
/// # Errors
/// The hook cannot begin.
pub async fn resume(config: &Config, failover: &Failover) -> Result<(), HookError> {
    let hook = Hook::new(config)?;
    let monitors = config.proxies.iter().map(|proxy| async move {
        let woken = timeout(SLACK, order::wake_monitor(config, proxy)).await;
        let proxy = &proxy.address;
        match woken.unwrap_or_else(|_| Err("it did not answer in time".to_owned())) {
            Ok(true) => tracing::info!(%proxy, "its monitor checks at once"),
            Ok(false) => tracing::info!(%proxy, "a variable is staged, so its monitor is not made to check at once"),
            Err(why) => tracing::warn!(%proxy, "its monitor is not made to check at once: {why}"),
        }
    });
    let agents = async {
        hook.learn_registered(&failover.failed).await;
        hook.agents.resume_all().await;
    };
    tokio::join!(join_all(monitors), agents);
    Ok(())
}
