//! The watches of all configured ProxySQLs: one tick of each, or a daemon.

use std::time::Duration;

use futures_util::future::join_all;
use stonith_core::memory::Memory;
use stonith_core::node::Node;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::build::{BuildError, agent, state_dir};
use super::{Kept, Start, Watch};
use crate::config::{Config, JITTER_PERCENT, Mode, ProxyConfig};

/// How long a daemon waits for another agent to leave: a `run --once` takes less.
const WAIT_FOR_LOCK: Duration = Duration::from_secs(20);

/// Why `run` did not begin, or came to an end of its own.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The config does not make an agent.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Another agent has the lock.
    #[error("another agent watches ProxySQL {proxy} from this host (it holds the lock in {dir}); end it first")]
    AnotherAgent {
        /// Which ProxySQL.
        proxy: Node,
        /// The state directory.
        dir: String,
    },
    /// The operating system refused a thread or a signal.
    #[error(transparent)]
    System(#[from] std::io::Error),
    /// One of the loops broke.
    #[error(transparent)]
    Broken(#[from] tokio::task::JoinError),
}

/// Whether to end.
type Ending = watch::Receiver<bool>;

/// One tick per ProxySQL, all side by side; and a second look if rows were changed. Says whether all went well.
///
/// # Errors
/// The config does not make an agent.
pub async fn once(config: &Config) -> Result<bool, RunError> {
    let mut ticks = Vec::new();
    for proxy in &config.proxies {
        // Another one at work: it does what we would.
        if let Start::Ready(kept) = start(config, proxy, Mode::Once) {
            ticks.push(tick_once(watch_of(config, proxy, Mode::Once, *kept)?));
        }
    }
    Ok(join_all(ticks).await.into_iter().all(|well| well))
}

async fn tick_once(mut watch: Watch) -> bool {
    let mut well = watch.tick().await;
    if let Some(round) = watch.second_look_in() {
        tokio::time::sleep(round).await;
        well &= watch.tick().await;
    }
    watch.close().await;
    well
}

/// Ticks until SIGTERM or SIGINT; a tick that has begun is finished.
///
/// # Errors
/// The config does not make an agent, or another agent does not leave.
pub async fn daemon(config: &Config) -> Result<(), RunError> {
    let (end, ending) = watch::channel(false);
    // All of the config is proven before anything runs.
    for proxy in &config.proxies {
        agent(config, proxy, Mode::Daemon, Memory::default(), String::new())?;
    }
    let loops = config.proxies.iter().map(|proxy| {
        let (config, proxy, ending, end) = (config.clone(), proxy.clone(), ending.clone(), end.clone());
        // A thread each: none waits until another has read its rows, thought, or written its state.
        let on_its_own = tokio::task::spawn_blocking(move || to_its_end(watch_until(&config, &proxy, ending)));
        async move {
            let ended = on_its_own.await?;
            if ended.is_err() {
                let _ = end.send(true); // better none than some of them unnoticed
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

/// The signals that end a daemon, and one that does not.
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

    /// Tells the loops to end once a signal says so; never returns, since they end by themselves.
    async fn end(mut self, end: &watch::Sender<bool>) {
        let name = loop {
            tokio::select! {
                _ = self.term.recv() => break "SIGTERM",
                _ = self.int.recv() => break "SIGINT",
                // A closed terminal, or a habit: neither is a reason to leave the proxies alone.
                _ = self.hangup.recv() => tracing::warn!("SIGHUP ignored: the config is read at the start, so restart to change it"),
            }
        };
        tracing::info!(signal = name, "ending after this tick");
        let _ = end.send(true);
        std::future::pending::<()>().await;
    }
}

/// Does the work in this thread, and does not wait for what still blocks then: a name server that does not answer holds a
/// look-up for many seconds, and starts by ProxySQL's scheduler would pile up.
///
/// # Errors
/// The work's own, or the operating system refuses a runtime.
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
    Ok(Watch::new(proxy.address.clone(), agent, kept))
}

/// The interval, spread by 20 % so that agents don't ask in step.
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
        // Spread over all of it: none in the outer eighths has a chance of 10^-50.
        assert!(all.iter().any(|next| *next < 850) && all.iter().any(|next| *next > 1_150), "{all:?}");
    }

    #[test]
    fn a_look_up_that_hangs_does_not_hold_up_the_end() {
        let ((begun, has_begun), (_answers, answer)) = (mpsc::channel(), mpsc::channel::<()>());
        let mut ending = Instant::now();
        to_its_end(async {
            // As tokio looks names up: in a thread that nothing can cancel.
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
