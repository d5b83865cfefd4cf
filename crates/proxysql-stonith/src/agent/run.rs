//! Runs one tick of each configured ProxySQL, and makes what the daemon runs.

use futures_util::future::join_all;
use stonith_core::memory::Memory;
use stonith_core::node::Node;

use super::build::{BuildError, agent, state_dir};
use super::{Kept, Start, Watch};
use crate::config::{Config, Mode, ProxyConfig, read_whole_file};

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
    /// Nodes cannot be fenced by this config. A sentence with the reason.
    #[error("{0}")]
    NodeFence(String),
    /// The operating system refused a thread or a signal.
    #[error(transparent)]
    System(#[from] std::io::Error),
    /// The loop of a ProxySQL panicked.
    #[error(transparent)]
    Broken(#[from] tokio::task::JoinError),
}

/// Checks that an agent can be built for each ProxySQL of a daemon.
///
/// # Errors
/// The first that cannot.
pub fn check(config: &Config) -> Result<(), BuildError> {
    for proxy in &config.proxies {
        agent(config, proxy, Mode::Daemon, Memory::default(), String::new())?;
    }
    if let Some(path) = &config.http.token_file {
        read_whole_file(path, "token")?;
    }
    Ok(())
}

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
    let mut well = watch.tick().await.well;
    if watch.names_settled().await {
        well = watch.tick().await.well;
    }
    if let Some(round) = watch.second_look_in() {
        tokio::time::sleep(round).await;
        well &= watch.tick().await.well;
    }
    watch.close().await;
    well
}

/// Runs `work` in this thread, then leaves blocked threads behind instead of waiting for them.
///
/// A silent name server blocks a look-up for many seconds, and the starts by ProxySQL's scheduler would pile up.
///
/// # Errors
/// The error of `work`, or the operating system refuses a runtime.
pub fn to_its_end<T, E: From<std::io::Error>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}

/// Takes this host's lock of a ProxySQL, and what is kept of it.
pub fn start(config: &Config, proxy: &ProxyConfig, mode: Mode) -> Start {
    Kept::start(state_dir(config, proxy), mode, config.tick_ms(mode))
}

/// Makes the watch of a ProxySQL; connects to nothing yet.
///
/// # Errors
/// No agent can be built from the config.
pub fn watch_of(config: &Config, proxy: &ProxyConfig, mode: Mode, kept: Kept) -> Result<Watch, BuildError> {
    let agent = agent(config, proxy, mode, kept.memory(), kept.owner())?;
    // `run --once` connects each time, and a quiet one writes nothing (I7).
    let agent = if mode == Mode::Daemon { agent.trying_to_write() } else { agent };
    Ok(Watch::new(proxy.address.clone(), agent, kept))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use super::*;

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
