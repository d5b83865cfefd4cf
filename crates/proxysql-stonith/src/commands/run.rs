//! `run`: the loop, as a daemon or one tick of it.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::proxies::{agent, state_dir};
use super::{DONE, Ended, FAILED, Failure, to_its_end};
use crate::config::{Config, JITTER_PERCENT, Mode, ProxyConfig};
use crate::watch::{Kept, Start, Watch};

/// How long a daemon waits for another agent to leave: a `run --once` takes less.
const WAIT_FOR_LOCK: Duration = Duration::from_secs(20);

/// Whether to end.
type Ending = watch::Receiver<bool>;

/// One tick per ProxySQL, all side by side; and a second look if rows were changed.
pub async fn once(config: &Config) -> Ended {
    let mut ticks = Vec::new();
    for proxy in &config.proxies {
        // Another one at work: it does what we would.
        if let Start::Ready(kept) = start(config, proxy, Mode::Once) {
            ticks.push(tick_once(watch_of(config, proxy, Mode::Once, *kept)?));
        }
    }
    let all_well = join_all(ticks).await.into_iter().all(|well| well);
    Ok(if all_well { DONE } else { FAILED })
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
pub async fn daemon(config: &Config) -> Ended {
    let (end, ending) = watch::channel(false);
    // All of the config is proven before anything runs.
    for proxy in &config.proxies {
        agent(config, proxy, Mode::Daemon, stonith_core::memory::Memory::default(), String::new())?;
    }
    let loops = config.proxies.iter().map(|proxy| {
        let (config, proxy, ending, end) = (config.clone(), proxy.clone(), ending.clone(), end.clone());
        // A thread each: none waits until another has read its rows, thought, or written its state.
        let on_its_own = tokio::task::spawn_blocking(move || to_its_end(watch_until(&config, &proxy, ending)));
        let end = end.clone();
        async move {
            let ended = on_its_own.await.map_err(anyhow::Error::from)?;
            if ended.is_err() {
                let _ = end.send(true); // better none than some of them unnoticed
            }
            ended
        }
    });
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = signal(SignalKind::hangup())?;
    tracing::info!(proxies = config.proxies.len(), interval = ?config.run.interval, "started");
    let on_signal = async {
        let name = loop {
            tokio::select! {
                _ = term.recv() => break "SIGTERM",
                _ = int.recv() => break "SIGINT",
                // A closed terminal, or a habit: neither is a reason to leave the proxies alone.
                _ = hangup.recv() => tracing::warn!("SIGHUP ignored: the config is read at the start, so restart to change it"),
            }
        };
        tracing::info!(signal = name, "ending after this tick");
        let _ = end.send(true);
        std::future::pending::<()>().await
    };
    let all = join_all(loops);
    tokio::select! {
        ended = all => {
            tracing::info!("ended");
            ended.into_iter().collect::<Result<Vec<()>, Failure>>().map(|_| DONE)
        }
        () = on_signal => Ok(DONE),
    }
}

async fn watch_until(config: &Config, proxy: &ProxyConfig, mut ending: Ending) -> Result<(), Failure> {
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

async fn wait_for_start(config: &Config, proxy: &ProxyConfig, ending: &mut Ending) -> Result<Option<Kept>, Failure> {
    let until = tokio::time::Instant::now() + WAIT_FOR_LOCK;
    loop {
        if let Start::Ready(kept) = start(config, proxy, Mode::Daemon) {
            return Ok(Some(*kept));
        }
        if tokio::time::Instant::now() >= until {
            let (address, dir) = (&proxy.address, config.run.state_dir.display());
            return Err(Failure::Error(anyhow::anyhow!(
                "another agent watches ProxySQL {address} from this host (it holds the lock in {dir}); end it first"
            )));
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

fn watch_of(config: &Config, proxy: &ProxyConfig, mode: Mode, kept: Kept) -> Result<Watch, Failure> {
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
    use super::*;

    #[test]
    fn no_tick_comes_later_than_the_gap_that_isolation_reckons_with() {
        let interval = Duration::from_secs(1);
        for _ in 0..1_000 {
            let next = jittered(interval);
            assert!(next >= Duration::from_millis(800) && next <= Duration::from_millis(1_200), "{next:?}");
        }
    }
}
