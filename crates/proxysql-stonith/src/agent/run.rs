//! Runs the watches of all configured ProxySQLs: one tick of each, or as a daemon.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use stonith_core::memory::Memory;
use stonith_core::node::Node;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::build::{BuildError, agent, state_dir};
use super::{Kept, Start, Watch};
use crate::config::{Config, JITTER_PERCENT, Mode, ProxyConfig};

/// How long a daemon waits for another agent's lock. A `run --once` takes less.
const WAIT_FOR_LOCK: Duration = Duration::from_secs(20);

/// Why `run` did not start, or ended without a signal.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No agent can be built from the config.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Another agent has the lock.
    #[error("another agent watches ProxySQL {proxy} from this host (it holds the lock in {dir}); stop it first")]
    AnotherAgent {
        /// The ProxySQL.
        proxy: Node,
        /// The state directory.
        dir: String,
    },
    /// The operating system refused a thread or a signal.
    #[error(transparent)]
    System(#[from] std::io::Error),
    /// The loop of a ProxySQL panicked.
    #[error(transparent)]
    Broken(#[from] tokio::task::JoinError),
}

/// Becomes `true` when the loops have to end.
type Ending = watch::Receiver<bool>;

/// Runs one tick per ProxySQL, side by side, and a second look if rows were changed. Returns whether all went well.
///
/// # Errors
/// No agent can be built from the config.
pub async fn once(config: &Config) -> Result<bool, RunError> {
    let mut ticks = Vec::new();
    for proxy in &config.proxies {
        // Otherwise another agent works on this ProxySQL and does the same.
        if let Start::Ready(kept) = start(config, proxy, Mode::Once) {
            ticks.push(tick_once(watch_of(config, proxy, Mode::Once, *kept)?));
        }
    }
    Ok(join_all(ticks).await.into_iter().all(|well| well))
}

async fn tick_once(mut watch: Watch) -> bool {
    let mut well = watch.tick().await;
    if watch.names_settled().await {
        well = watch.tick().await;
    }
    if let Some(round) = watch.second_look_in() {
        tokio::time::sleep(round).await;
        well &= watch.tick().await;
    }
    watch.close().await;
    well
}

/// Runs ticks until SIGTERM or SIGINT. A tick that has begun is finished.
///
/// # Errors
/// No agent can be built from the config, or another agent keeps its lock.
pub async fn daemon(config: &Config) -> Result<(), RunError> {
    let (end, ending) = watch::channel(false);
    // The whole config is checked before anything runs.
    for proxy in &config.proxies {
        agent(config, proxy, Mode::Daemon, Memory::default(), String::new())?;
    }
    let shared = Arc::new(config.clone());
    let loops = config.proxies.iter().map(|proxy| {
        let (config, proxy, ending, end) = (shared.clone(), proxy.clone(), ending.clone(), end.clone());
        // Each ProxySQL has its own thread, so none waits while another reads rows, decides or writes its state.
        let on_its_own = tokio::task::spawn_blocking(move || to_its_end(watch_until(&config, &proxy, ending)));
        async move {
            let ended = on_its_own.await?;
            if ended.is_err() {
                let _ = end.send(true); // if one loop fails, all end: a partly dead daemon would go unnoticed
            }
            ended
        }
    });
    let signals = Signals::listen()?;
    tracing::info!(proxies = config.proxies.len(), interval = ?config.run.interval, "started");
    let all = join_all(loops);
    tokio::select! {
        ended = all => {
            tracing::info!("ended");
            ended.into_iter().collect::<Result<Vec<()>, RunError>>().map(drop)
        }
        () = signals.end(&end) => Ok(()),
    }
}

/// The signals that a daemon handles. SIGHUP does not end it.
struct Signals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> Result<Self, std::io::Error> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Tells the loops to end once a signal arrives. Never returns: the loops end by themselves.
    async fn end(mut self, end: &watch::Sender<bool>) {
        let name = loop {
            tokio::select! {
                _ = self.term.recv() => break "SIGTERM",
                _ = self.int.recv() => break "SIGINT",
                // SIGHUP comes from a closed terminal or an operator's habit. The proxies still need the daemon.
                _ = self.hangup.recv() => tracing::warn!("SIGHUP ignored: the config is only read at the start; restart to change it"),
            }
        };
        tracing::info!(signal = name, "ending after this tick");
        let _ = end.send(true);
        std::future::pending::<()>().await;
    }
}

/// Runs `work` in this thread, then leaves blocked threads behind instead of waiting for them.
///
/// A silent name server blocks a look-up for many seconds, and the starts by ProxySQL's scheduler would pile up.
///
/// # Errors
/// The error of `work`, or the operating system refuses a runtime.
pub fn to_its_end<T, E: From<std::io::Error>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}

async fn watch_until(config: &Config, proxy: &ProxyConfig, mut ending: Ending) -> Result<(), RunError> {
    let kept = wait_for_start(config, proxy, &mut ending).await?;
    let Some(kept) = kept else { return Ok(()) };
    let mut watch = watch_of(config, proxy, Mode::Daemon, kept)?;
    while !*ending.borrow() {
        watch.tick().await;
        tokio::select! {
            () = tokio::time::sleep(jittered(config.run.interval)) => {}
            _ = ending.changed() => {}
        }
    }
    watch.close().await;
    Ok(())
}

async fn wait_for_start(config: &Config, proxy: &ProxyConfig, ending: &mut Ending) -> Result<Option<Kept>, RunError> {
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
            _ = ending.changed() => return Ok(None),
        }
    }
}

fn start(config: &Config, proxy: &ProxyConfig, mode: Mode) -> Start {
    Kept::start(state_dir(config, proxy), mode, config.tick_ms(mode))
}

fn watch_of(config: &Config, proxy: &ProxyConfig, mode: Mode, kept: Kept) -> Result<Watch, BuildError> {
    let agent = agent(config, proxy, mode, kept.memory(), kept.owner())?;
    // `run --once` connects each time, and a quiet one writes nothing (I7).
    let agent = if mode == Mode::Daemon { agent.trying_to_write() } else { agent };
    Ok(Watch::new(proxy.address.clone(), agent, kept))
}

/// The interval, spread by 20 % so that agents do not ask Orchestrator at the same moments.
fn jittered(interval: Duration) -> Duration {
    let spread = u32::try_from(2 * JITTER_PERCENT).unwrap_or(0);
    let percent = 100 - spread / 2 + fastrand::u32(0..=spread);
    interval * percent / 100
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

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
    fn a_look_up_that_hangs_does_not_hold_up_the_end() {
        let ((begun, has_begun), (_answers, answer)) = (mpsc::channel(), mpsc::channel::<()>());
        let mut ending = Instant::now();
        to_its_end(async {
            // tokio looks names up in such a thread, which nothing can cancel.
            tokio::task::spawn_blocking(move || {
                begun.send(()).unwrap();
                let _ = answer.recv_timeout(Duration::from_secs(60));
            });
            has_begun.recv_timeout(Duration::from_secs(10)).unwrap();
            ending = Instant::now();
            Ok::<(), std::io::Error>(())
        })
        .unwrap();
        assert!(ending.elapsed() < Duration::from_secs(10), "{:?}", ending.elapsed());
    }
}
