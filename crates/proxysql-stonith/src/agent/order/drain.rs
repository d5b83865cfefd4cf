//! The drain of a node before a planned takeover, on ProxySQLs that the hook reaches through their admin interface.
//!
//! ```text
//! rows soft -> transactions finish, new ones wait in ProxySQL -> [sessions that are left are ended] -> drained
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use stonith_core::evidence::Level;
use stonith_core::node::Node;
use stonith_core::orders::Order;
use tokio::time::{Instant, sleep};

use super::barrier::target;
use super::{Target, TargetError};
use crate::agent::build::looking_agent;
use crate::agent::{Agent, TickError};
use crate::config::{Config, Enforcement, ProxyConfig};
use crate::proxysql;

/// The pause between two looks at the sessions.
const LOOK: Duration = Duration::from_millis(30);

/// How a drain went on one ProxySQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drained {
    /// The sessions that were ended between two of their transactions.
    pub ended_between: usize,
    /// The connections that were in use at the deadline. Their sessions were ended.
    pub ended_late: u64,
    /// How long it took.
    pub took: Duration,
}

/// Drains a node on one ProxySQL, within `longest`. Half of the time that statements wait there is left to the promotion.
///
/// # Errors
/// ProxySQL could not be read or changed, or the node stays in service there, in words.
pub async fn drain(config: &Config, proxy: &ProxyConfig, node: &Node, longest: Duration) -> Result<Drained, String> {
    if proxy.policy.mode == Enforcement::Observe {
        return Err("its config has mode = \"observe\"".to_owned());
    }
    let mut target = target(config, proxy).await?;
    let drained = match target.observed.orders.suspended.is_some() {
        true => Err("its agent is suspended".to_owned()),
        false => target.drain(node, longest).await.map_err(|error| error.to_string()),
    };
    target.agent.close().await;
    drained
}

/// Makes the monitor of one ProxySQL check every server now. Returns whether it was done.
///
/// # Errors
/// ProxySQL could not be read or changed, in words.
pub async fn wake_monitor(config: &Config, proxy: &ProxyConfig) -> Result<bool, String> {
    let mut agent = looking_agent(config, proxy).map_err(|error| error.to_string())?;
    let woken = agent.wake_monitor().await.map_err(|error: TickError| error.to_string());
    agent.close().await;
    woken
}

impl Target<'_> {
    async fn drain(&mut self, node: &Node, longest: Duration) -> Result<Drained, TargetError> {
        let began = Instant::now();
        self.take_out(node, Order::Drain { node: node.clone(), level: Level::Soft }).await?;
        let waits = self.agent.longest_wait().await?.map(|longest| longest / 2);
        let until = began + waits.map_or(longest, |waits| waits.min(longest));
        let (ended, left) = self.agent.drained(&self.names_of(node), until).await?;
        if left > 0 {
            self.observed.proxy = self.look_again(&format!("{node} was"), "fenced").await?;
            self.take_out(node, Order::Drain { node: node.clone(), level: Level::Sessions }).await?;
        }
        Ok(Drained { ended_between: ended.len(), ended_late: left, took: began.elapsed() })
    }
}

impl Agent {
    /// Waits until no session needs a node of these names. One that is pinned to it is ended between two of its
    /// transactions. Returns the ended sessions, and the connections in use that are left.
    async fn drained(&mut self, names: &BTreeSet<Node>, until: Instant) -> Result<(BTreeSet<u64>, u64), TickError> {
        let admin = self.connected()?;
        let mut ended = BTreeSet::new();
        let extended = proxysql::show_transactions(admin).await?;
        let left = loop {
            let held = proxysql::holders(admin, names).await?;
            if held.in_use == 0 || Instant::now() >= until {
                break held.in_use;
            }
            proxysql::end(admin, &held.pinned).await?;
            ended.extend(held.pinned);
            sleep(LOOK).await;
        };
        proxysql::hide_transactions(admin, extended).await?;
        Ok((ended, left))
    }
}
