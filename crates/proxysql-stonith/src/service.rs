//! `run` as a daemon: a loop per ProxySQL, signals, systemd, and HTTP.
//!
//! ```text
//! guard          the loop of one ProxySQL: tick, put it on the [`Board`], wait
//! registration   tells Orchestrator that this daemon is here, for its hook
//! systemd        READY, WATCHDOG, STATUS, RELOADING and STOPPING
//! ```
//!
//! Nothing here decides. Whoever reads the board delays no tick.

mod guard;
mod registration;
mod systemd;

use std::sync::Arc;
use std::time::Duration;

use stonith_core::node::Node;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::agent::{RunError, check, to_its_end};
use crate::board::Board;
use crate::config::{Config, ConfigError};
use crate::http;

use guard::Guard;
use registration::Registration;
use systemd::Systemd;

/// How long an end waits for ticks that have begun. SIGTERM ends the daemon within a second.
const WAIT_FOR_TICKS: Duration = Duration::from_millis(800);

/// How often systemd is told how things are.
const PULSE: Duration = Duration::from_secs(1);

/// Runs ticks until SIGTERM or SIGINT. `load` reads the config again on SIGHUP.
///
/// # Errors
/// No agent can be built from the config, or another agent keeps its lock.
pub async fn daemon(config: Config, load: impl Fn() -> Result<Config, ConfigError>) -> Result<(), RunError> {
    // The whole config is checked before anything runs.
    check(&config)?;
    let mut signals = Signals::listen()?;
    let board = Arc::new(Board::default());
    http::start(&config.http, board.clone());
    let mut systemd = Systemd::new();
    let mut guards = Guards::new(config, board.clone());
    if let Some(registration) = Registration::wanted(guards.config.subscribe(), board.clone()) {
        tokio::task::spawn_local(registration.run());
    }
    let mut pulse = tokio::time::interval(PULSE);
    let signal = loop {
        tokio::select! {
            name = Signals::end(&mut signals.term, &mut signals.int) => break name,
            _ = signals.hangup.recv() => {
                systemd.reloading();
                guards.reload(load());
                systemd.ready_again();
            }
            Some(ended) = guards.running.join_next() => {
                // If one loop fails, all end: a partly dead daemon would go unnoticed.
                if let Err(error) = ended.map_err(RunError::from).and_then(|ended| ended) {
                    guards.end().await;
                    tracing::info!("ended");
                    return Err(error);
                }
            }
            _ = pulse.tick() => {
                guards.start_missing(); // one that was ending when a reload wanted it again
                systemd.tell(&board);
            }
        }
    };
    systemd.stopping();
    tracing::info!(signal, "ending after this tick");
    guards.end().await;
    tracing::info!("ended");
    Ok(())
}

/// The signals that a daemon handles.
struct Signals {
    term: Signal,
    int: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Self, std::io::Error> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal that ends the daemon. Returns its name.
    async fn end(term: &mut Signal, int: &mut Signal) -> &'static str {
        tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = int.recv() => "SIGINT",
        }
    }
}

/// The loops of all ProxySQLs.
struct Guards {
    config: watch::Sender<Arc<Config>>,
    ending: watch::Sender<bool>,
    board: Arc<Board>,
    running: JoinSet<Result<(), RunError>>,
}

impl Guards {
    fn new(config: Config, board: Arc<Board>) -> Self {
        tracing::info!(proxies = config.proxies.len(), interval = ?config.run.interval, "started");
        let (config, _) = watch::channel(Arc::new(config));
        let mut guards = Self { config, ending: watch::channel(false).0, board, running: JoinSet::new() };
        guards.start_missing();
        guards
    }

    /// Starts the loop of each configured ProxySQL that has none.
    fn start_missing(&mut self) {
        let config = self.config.borrow().clone();
        for proxy in config.proxies.iter().map(|proxy| &proxy.address) {
            let Some(entry) = self.board.enter(proxy) else { continue };
            let guard = Guard::new(entry, self.config.subscribe(), self.ending.subscribe());
            let (board, proxy) = (self.board.clone(), proxy.clone());
            // Each ProxySQL has its own thread, so none waits while another reads rows, decides or writes its state.
            self.running.spawn_blocking(move || {
                let ended = to_its_end(guard.run());
                board.leave(&proxy);
                ended
            });
        }
    }

    /// Takes a new config, or says why the old one stays.
    fn reload(&mut self, loaded: Result<Config, ConfigError>) {
        let refused = |error: &dyn std::fmt::Display| {
            tracing::error!("SIGHUP: the new config is refused, and the old one stays: {error}");
        };
        let new = match loaded {
            Ok(new) => new,
            Err(error) => return refused(&error),
        };
        if let Err(error) = check(&new) {
            return refused(&error);
        }
        for section in self.config.borrow().needs_restart(&new) {
            tracing::warn!("SIGHUP: a change of [{section}] takes effect at the next start");
        }
        let proxies = new.proxies.len();
        self.config.send_replace(Arc::new(new));
        self.start_missing();
        tracing::info!(proxies, "SIGHUP: config, credentials and certificates were read again");
    }

    /// Ends all loops. A tick that has begun is finished if it takes no longer than [`WAIT_FOR_TICKS`]. The next run
    /// finishes an apply that is cut off (I10).
    async fn end(&mut self) {
        self.ending.send_replace(true);
        let all = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(WAIT_FOR_TICKS, all).await.is_err() {
            let proxies: Vec<String> = self.board.entries().keys().map(Node::to_string).collect();
            tracing::warn!(proxies = proxies.join(", "), "ended in the middle of a tick; the next start finishes it");
        }
    }
}
