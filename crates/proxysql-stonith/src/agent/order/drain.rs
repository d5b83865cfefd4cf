//! The drain of a node before a planned takeover, on one ProxySQL.
//!
//! ```text
//! lend -> sessions that stay after an insert leave -> prepared -> [the mark is published] -> rows soft
//! -> transactions finish, new ones wait in ProxySQL -> [sessions that are left are ended] -> put back -> drained
//! ```
//!
//! No client waits before the rows are soft.

use std::collections::BTreeSet;
use std::time::Duration;

use stonith_core::evidence::Level;
use stonith_core::node::Node;
use stonith_core::orchestrator::{LeaderView, TAKEOVER};
use stonith_core::orders::Order;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::barrier::target;
use super::{Target, TargetError};
use crate::agent::build::looking_agent;
use crate::agent::{Agent, TickError};
use crate::config::{Config, Enforcement, ProxyConfig};
use crate::proxysql::{self, Lent};

/// The pause between two looks at the sessions while clients wait.
const LOOK: Duration = Duration::from_millis(30);

/// The pause between two looks before.
const LOOK_BEFORE: Duration = Duration::from_millis(100);

/// How a drain went on one ProxySQL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drained {
    /// The sessions that were ended between two of their transactions.
    pub ended_between: usize,
    /// The connections that were in use at the deadline. Their sessions were ended.
    pub ended_late: u64,
    /// How long clients may have waited so far.
    pub took: Duration,
}

/// The longest wait for sessions that stay after an insert while clients wait. One that inserts without a pause never leaves.
const AFTER_INSERT_MAX: Duration = Duration::from_millis(500);

/// The longest wait of a drain that is prepared. Its caller may have died.
const GO_MAX: Duration = Duration::from_secs(20);

/// What a drain and its caller tell each other.
#[derive(Debug)]
pub struct Course {
    /// Nothing is taken out before the leader lists the mark of a planned takeover of the node. Whoever has published it knows.
    pub needs_mark: bool,
    /// The longest time until it is prepared; zero if it prepares nothing.
    pub prepare: Duration,
    /// It is prepared.
    pub prepared: oneshot::Sender<()>,
    /// The rows may go out, for at most this long. The drain is called off if the sender is dropped.
    pub go: oneshot::Receiver<Duration>,
}

/// Drains a node on one ProxySQL. Half of the time that statements wait there is left to the promotion.
///
/// # Errors
/// ProxySQL could not be read or changed, or the node stays in service there, in words.
pub async fn drain(config: &Config, proxy: &ProxyConfig, node: &Node, course: Course) -> Result<Drained, String> {
    if proxy.policy.mode == Enforcement::Observe {
        return Err("its config has mode = \"observe\"".to_owned());
    }
    let mut target = target(config, proxy, None).await?;
    let drained = match target.observed.orders.suspended.is_some() {
        true => Err("its agent is suspended".to_owned()),
        false => target.drain(node, course).await,
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
    async fn drain(&mut self, node: &Node, course: Course) -> Result<Drained, String> {
        let needless = course.prepare.is_zero() || self.names_of(node).is_empty();
        let clustered = self.observed.proxy.clustered;
        let lent = match needless {
            true => Ok(Lent::nothing()),
            false => self.agent.lend(clustered).await,
        };
        let mut lent = lent.map_err(|error| error.to_string())?;
        let drained = self.drain_with(node, course, &mut lent).await;
        match self.agent.put_back(&lent).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(proxy = %self.proxy.address, "what the drain changed of mysql-show_processlist_extended and \
                    mysql-auto_increment_delay_multiplex_timeout_ms stays in runtime, since another variable was staged \
                    meanwhile; the next LOAD MYSQL VARIABLES ends it");
            }
            Err(error) => {
                tracing::warn!(proxy = %self.proxy.address, "the next apply puts the drain's variables back: {error}")
            }
        }
        drained
    }

    async fn drain_with(&mut self, node: &Node, course: Course, lent: &mut Lent) -> Result<Drained, String> {
        let Course { needs_mark, prepare, prepared, mut go } = course;
        let names = self.names_of(node);
        self.agent.prepared(&names, lent, prepare).await.map_err(|error| error.to_string())?;
        let _ = prepared.send(()); // nobody may wait for it
        let until = Instant::now() + GO_MAX;
        let longest = loop {
            if Instant::now() > until {
                return Err("nobody said to go on".to_owned());
            }
            tokio::select! {
                said = &mut go => break said.map_err(|_| "it was called off".to_owned())?,
                () = sleep(LOOK_BEFORE) => {}
            }
            self.agent.holders(&names, lent).await.map_err(|error| error.to_string())?;
        };
        self.agent.renew(lent).await.map_err(|error| error.to_string())?;
        if needs_mark && !self.is_marked(node).await.map_err(|error| error.to_string())? {
            return Err("Orchestrator's leader lists no planned takeover of it".to_owned());
        }
        self.take_out_slowly(node, &names, longest, lent).await.map_err(|error| error.to_string())
    }

    /// Whether the leader lists a planned takeover of the node now.
    async fn is_marked(&mut self, node: &Node) -> Result<bool, TickError> {
        let orders = self.observed.orders.clone();
        self.observed = self.agent.look(orders).await?.0;
        let LeaderView::Led(answer) = &self.observed.leader else { return Ok(false) };
        Ok(answer.downtimes.iter().any(|downtime| downtime.node == *node && downtime.reason == TAKEOVER))
    }

    async fn take_out_slowly(
        &mut self,
        node: &Node,
        names: &BTreeSet<Node>,
        longest: Duration,
        lent: &mut Lent,
    ) -> Result<Drained, TargetError> {
        let began = Instant::now();
        self.agent.renew(lent).await?;
        self.take_out(node, Order::Drain { node: node.clone(), level: Level::Soft }).await?;
        let waits = self.agent.longest_wait().await?.map(|longest| longest / 2);
        let until = began + waits.map_or(longest, |waits| waits.min(longest));
        let (ended, left) = self.agent.drained(names, until, lent).await?;
        if left > 0 {
            self.agent.renew(lent).await?;
            self.observed.proxy = self.look_again(&format!("{node} was"), "fenced").await?;
            self.take_out(node, Order::Drain { node: node.clone(), level: Level::Sessions }).await?;
        }
        Ok(Drained { ended_between: ended.len(), ended_late: left, took: began.elapsed() })
    }
}

impl Agent {
    async fn lend(&mut self, clustered: bool) -> Result<Lent, TickError> {
        Ok(proxysql::lend(self.connected()?, clustered).await?)
    }

    async fn renew(&mut self, lent: &mut Lent) -> Result<(), TickError> {
        Ok(proxysql::renew(self.connected()?, lent).await?)
    }

    async fn put_back(&mut self, lent: &Lent) -> Result<bool, TickError> {
        Ok(proxysql::put_back(self.connected()?, lent).await?)
    }

    async fn holders(&mut self, names: &BTreeSet<Node>, lent: &mut Lent) -> Result<proxysql::Holders, TickError> {
        Ok(proxysql::holders(self.connected()?, names, lent).await?)
    }

    /// Waits until no idle session stays on a node of these names for an insert that came before the lending.
    async fn prepared(&mut self, names: &BTreeSet<Node>, lent: &mut Lent, longest: Duration) -> Result<(), TickError> {
        let until = Instant::now() + longest;
        while Instant::now() < until {
            let holders = self.holders(names, lent).await?;
            if !lent.waits_for_old(&holders) {
                break;
            }
            sleep(LOOK_BEFORE).await;
        }
        Ok(())
    }

    /// Waits until no session needs a node of these names. One that is pinned to it is ended between two of its
    /// transactions. Returns the ended sessions, and the connections in use that are left.
    async fn drained(
        &mut self,
        names: &BTreeSet<Node>,
        until: Instant,
        lent: &mut Lent,
    ) -> Result<(BTreeSet<u64>, u64), TickError> {
        let mut ended = BTreeSet::new();
        let until_after_insert = Instant::now() + AFTER_INSERT_MAX;
        loop {
            let holders = self.holders(names, lent).await?;
            let now = Instant::now();
            let waits = holders.in_use > 0 || (now < until_after_insert && lent.waits_for_new(&holders));
            if !waits || now >= until {
                return Ok((ended, holders.in_use));
            }
            proxysql::end(self.connected()?, &holders.pinned).await?;
            ended.extend(holders.pinned);
            sleep(LOOK).await;
        }
    }
}
