//! The loop of one ProxySQL.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use stonith_core::node::Node;
use stonith_core::node_fence::Target;
use stonith_core::node_fence::power::PowerTarget;
use tokio::sync::watch;

use crate::agent::order::{drain, wake_monitor};
use crate::agent::{Kept, RunError, Start, Watch, start, state_dir, watch_of};
use crate::board::{Asked, Entry};
use crate::config::{Config, JITTER_PERCENT, Mode, ProxyConfig};
use crate::handed::Hand;
use crate::{fence_agent, node_fence};

/// How long a daemon waits for another agent's lock. A `run --once` takes less.
const WAIT_FOR_LOCK: Duration = Duration::from_secs(20);

/// So many ticks in a row may miss ProxySQL before it is tried less often. A restart takes less, and what it brings back
/// into service is seen at once.
const MISSED_MAX: u32 = 30;

/// The longest wait before a ProxySQL that was not reached is tried again, unless the interval is longer.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// The loop of one ProxySQL.
pub struct Guard {
    entry: Arc<Entry>,
    config: watch::Receiver<Arc<Config>>,
    ending: watch::Receiver<bool>,
}

/// Why a watch stopped.
enum Stopped {
    /// The daemon ends.
    Ending,
    /// There is a new config.
    NewConfig,
}

impl Guard {
    /// Makes a loop that puts what it sees into `entry`.
    pub fn new(entry: Arc<Entry>, config: watch::Receiver<Arc<Config>>, ending: watch::Receiver<bool>) -> Self {
        Self { entry, config, ending }
    }

    /// Ticks until the daemon ends or the config has this ProxySQL no longer.
    ///
    /// # Errors
    /// No agent can be built from the config, or another agent keeps its lock.
    pub async fn run(self) -> Result<(), RunError> {
        let serving = serve(self.entry.clone(), self.config.clone());
        // A task that is woken costs no call of the kernel. The runtime's own future costs one each time.
        let watching = tokio::task::spawn_local(self.watch());
        tokio::select! {
            ended = watching => ended?,
            never = serving => match never {},
        }
    }

    async fn watch(mut self) -> Result<(), RunError> {
        let mut kept: Option<Kept> = None;
        loop {
            let config = self.config.borrow_and_update().clone();
            let Some(proxy) = config.proxies.iter().find(|proxy| proxy.address == *self.proxy()) else {
                tracing::info!(proxy = %self.proxy(), "no longer in the config, and no longer watched; its fences stay");
                return Ok(());
            };
            let goes_on = kept.take().filter(|kept| kept.is_in(&state_dir(&config, proxy)));
            let ready = match goes_on {
                Some(kept) => kept,
                None => match self.wait_for_start(&config, proxy).await? {
                    Some(kept) => kept,
                    None => return Ok(()),
                },
            };
            let books = ready.books();
            let mut watch = watch_of(&config, proxy, Mode::Daemon, ready)?;
            // An end of the loop, for whatever reason, ends them too.
            let nodes =
                node_fence::start(&config, books.read_only).map_err(|error| RunError::NodeFence(error.to_string()))?;
            let agents = fence_agent::start(&config, proxy, books.power)
                .map_err(|error| RunError::NodeFence(error.to_string()))?;
            let levels = (nodes.as_ref(), agents.as_ref());
            let stopped = self.tick_until_stopped(&mut watch, config.run.interval, levels).await;
            kept = Some(watch.close().await);
            if matches!(stopped, Stopped::Ending) {
                return Ok(());
            }
        }
    }

    fn proxy(&self) -> &Node {
        self.entry.proxy()
    }

    async fn tick_until_stopped(
        &mut self,
        watch: &mut Watch,
        interval: Duration,
        (nodes, agents): (Option<&Hand<Target>>, Option<&Hand<PowerTarget>>),
    ) -> Stopped {
        let mut unreached = 0;
        loop {
            if *self.ending.borrow() {
                return Stopped::Ending;
            }
            if self.config.has_changed().unwrap_or(false) {
                return Stopped::NewConfig;
            }
            let ticked = watch.tick().await;
            let all = || ticked.snapshot.nodes.iter().map(|report| report.node.clone()).collect();
            if let Some(nodes) = nodes {
                nodes.over(ticked.targets.clone(), all());
            }
            if let Some(agents) = agents {
                agents.over(ticked.power_targets.clone(), all());
            }
            unreached = if ticked.snapshot.reached { 0 } else { unreached + 1 };
            self.entry.put(ticked);
            tokio::select! {
                () = tokio::time::sleep(jittered(pause(interval, unreached))) => {}
                () = self.entry.woken() => {}
                _ = self.ending.changed() => {}
                _ = self.config.changed() => return Stopped::NewConfig,
            }
        }
    }

    async fn wait_for_start(&mut self, config: &Config, proxy: &ProxyConfig) -> Result<Option<Kept>, RunError> {
        let until = tokio::time::Instant::now() + WAIT_FOR_LOCK;
        loop {
            if let Start::Ready(kept) = start(config, proxy, Mode::Daemon) {
                return Ok(Some(*kept));
            }
            if tokio::time::Instant::now() >= until {
                let dir = config.run.state_dir.display().to_string();
                return Err(RunError::AnotherAgent { proxy: proxy.address.clone(), dir });
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
                _ = self.ending.changed() => return Ok(None),
            }
        }
    }
}

/// Carries out what is asked for, beside the ticks: over a connection of its own, under ProxySQL's lock, as an operator's
/// order is.
async fn serve(entry: Arc<Entry>, config: watch::Receiver<Arc<Config>>) -> Infallible {
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            asked = entry.asked() => under_way.push(carry_out(config.borrow().clone(), entry.proxy(), asked)),
            Some(()) = under_way.next() => {}
        }
    }
}

async fn carry_out(config: Arc<Config>, address: &Node, asked: Asked) {
    let Some(proxy) = config.proxies.iter().find(|proxy| proxy.address == *address) else { return };
    // Who asked may have left.
    match asked {
        Asked::Drain { node, course, done } => {
            let drained = drain(&config, proxy, &node, course).await;
            match &drained {
                Ok(drained) => tracing::info!(proxy = %address, %node, ?drained, "drained for a planned takeover"),
                Err(why) => tracing::warn!(proxy = %address, %node, "not drained for a planned takeover: {why}"),
            }
            let _ = done.send(drained);
        }
        Asked::WakeMonitor(done) => drop(done.send(wake_monitor(&config, proxy).await)),
    }
}

/// The time until the next tick. It doubles with each tick that did not reach ProxySQL, from [`MISSED_MAX`] on.
fn pause(interval: Duration, unreached: u32) -> Duration {
    let doubled = interval.saturating_mul(2u32.saturating_pow(unreached.saturating_sub(MISSED_MAX)));
    doubled.min(BACKOFF_MAX.max(interval))
}

/// The interval, spread by 20 % so that agents do not ask Orchestrator at the same moments.
fn jittered(interval: Duration) -> Duration {
    let spread = u32::try_from(2 * JITTER_PERCENT).unwrap_or(0);
    let percent = 100 - spread / 2 + fastrand::u32(0..=spread);
    interval * percent / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tick_comes_later_than_the_gap_that_isolation_reckons_with() {
        let interval = Duration::from_secs(1);
        let all: Vec<u128> = (0..1_000).map(|_| jittered(interval).as_millis()).collect();
        assert!(all.iter().all(|next| (800..=1_200).contains(next)), "{all:?}");
        // The values cover the whole range: the chance that none lies in the outer eighths is 10^-50.
        assert!(all.iter().any(|next| *next < 850) && all.iter().any(|next| *next > 1_150), "{all:?}");
    }

    #[test]
    fn a_proxysql_that_is_not_reached_for_long_is_tried_less_often_but_every_five_seconds_at_least() {
        let pauses = |interval_s| [0, 30, 31, 32, 33, 100].map(|n| pause(Duration::from_secs(interval_s), n).as_secs());
        assert_eq!(pauses(1), [1, 1, 2, 4, 5, 5]);
        assert_eq!(pauses(10), [10; 6], "a longer interval is kept");
    }
}
