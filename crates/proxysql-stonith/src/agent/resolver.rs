//! Resolves host names outside the tick. A tick takes what is known, and waits for nothing.
//!
//! **Invariant:** a name server that does not answer blocks at most [`AT_ONCE`] threads, however long it is silent.

use std::collections::BTreeSet;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use stonith_core::node::Host;
use stonith_core::orchestrator::Addresses;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// The most look-ups at a time.
const AT_ONCE: usize = 8;
/// The most hosts that are resolved.
const HOSTS_MAX: usize = 20_000;
/// The longest time of one round of look-ups. Hosts that are not resolved by then are missing.
const ROUND_MAX: Duration = Duration::from_secs(10);
/// The longest wait for a round, where nothing ticks again soon.
const SETTLES_IN: Duration = Duration::from_secs(1);
/// The time from one round to the next.
const ROUND_EVERY: Duration = Duration::from_secs(30);

/// Resolves the hosts of one ProxySQL's rows and of Orchestrator's instances.
#[derive(Debug)]
pub struct Resolver {
    /// Whether a loopback address is the same host for ProxySQL and for this program.
    loopback_counts: bool,
    look_ups: Arc<Semaphore>,
    known: Arc<Mutex<Addresses>>,
    /// The hosts of the last round.
    hosts: BTreeSet<Host>,
    /// The last round, and when it began.
    round: Option<(JoinHandle<()>, Instant)>,
}

impl Resolver {
    /// Makes a resolver for a ProxySQL that is on this host, or is not.
    pub fn new(is_here: bool) -> Self {
        Self {
            loopback_counts: is_here,
            look_ups: Arc::new(Semaphore::new(AT_ONCE)),
            known: Arc::default(),
            hosts: BTreeSet::new(),
            round: None,
        }
    }

    /// The addresses as of the last round.
    pub fn known(&self) -> Addresses {
        locked(&self.known).clone()
    }

    /// Begins a round if these hosts are others than before, or if the last round is old.
    pub fn resolve(&mut self, hosts: BTreeSet<Host>) {
        let is_due = self.round.as_ref().is_none_or(|(round, began)| {
            round.is_finished() && (hosts != self.hosts || began.elapsed() >= ROUND_EVERY)
        });
        if hosts.is_empty() || !is_due {
            return;
        }
        self.hosts = hosts.clone();
        let (look_ups, known, loopback_counts) = (self.look_ups.clone(), self.known.clone(), self.loopback_counts);
        let round = tokio::spawn(async move {
            let until = Instant::now() + ROUND_MAX;
            let of_each = hosts.into_iter().take(HOSTS_MAX).map(|host| {
                let look_ups = look_ups.clone();
                async move { (host.clone(), timeout_at(until, look_up(host, look_ups)).await.unwrap_or_default()) }
            });
            let counts = |address: &IpAddr| loopback_counts || !address.is_loopback();
            let addresses = join_all(of_each).await.into_iter();
            let addresses = addresses.map(|(host, found)| (host, found.into_iter().filter(counts).collect()));
            *locked(&known) = addresses.collect();
        });
        self.round = Some((round, Instant::now()));
    }

    /// Whether the first round has just begun, so that nothing is known yet.
    pub fn begins(&self) -> bool {
        let is_under_way =
            self.round.as_ref().is_some_and(|(round, began)| !round.is_finished() && began.elapsed() < SETTLES_IN);
        is_under_way && *locked(&self.known) == Addresses::default()
    }

    /// Waits for the round that is under way, but not long.
    pub async fn settle(&mut self) {
        if let Some((round, _)) = self.round.as_mut().filter(|(round, _)| !round.is_finished()) {
            let _ = tokio::time::timeout(SETTLES_IN, round).await;
        }
    }
}

fn locked(known: &Mutex<Addresses>) -> MutexGuard<'_, Addresses> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The addresses of a host; none if it cannot be resolved.
async fn look_up(host: Host, look_ups: Arc<Semaphore>) -> BTreeSet<IpAddr> {
    if let Ok(address) = host.as_str().parse::<IpAddr>() {
        return [address.to_canonical()].into();
    }
    let Ok(permit) = look_ups.acquire_owned().await else { return BTreeSet::new() };
    let blocking = move || {
        let _permit = permit; // until the operating system answers, even if nobody waits any more
        let found = (host.as_str(), 0).to_socket_addrs().into_iter().flatten();
        found.map(|socket| socket.ip().to_canonical()).collect()
    };
    tokio::task::spawn_blocking(blocking).await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[&str]) -> BTreeSet<Host> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn addresses(of: &[(&str, &str)]) -> Addresses {
        of.iter().map(|(host, address)| (host.parse().unwrap(), [address.parse().unwrap()].into())).collect()
    }

    #[tokio::test]
    async fn a_round_resolves_names_and_takes_addresses_as_they_are() {
        let mut resolver = Resolver::new(true);
        resolver.resolve(hosts(&["10.0.0.5", "::ffff:10.0.0.6", "2001:db8::5", "127.0.0.1"]));
        assert!(resolver.begins());
        resolver.settle().await;
        assert!(!resolver.begins());
        let of = [
            ("10.0.0.5", "10.0.0.5"),
            ("::ffff:10.0.0.6", "10.0.0.6"),
            ("2001:db8::5", "2001:db8::5"),
            ("127.0.0.1", "127.0.0.1"),
        ];
        assert_eq!(resolver.known(), addresses(&of));
        resolver.resolve(hosts(&["localhost"]));
        resolver.settle().await;
        assert!(resolver.known().tell_more_than(&Addresses::default()));
    }

    #[tokio::test]
    async fn a_loopback_address_tells_nothing_of_a_proxysql_elsewhere() {
        let mut resolver = Resolver::new(false);
        resolver.resolve(hosts(&["127.0.0.1", "localhost", "10.0.0.5"]));
        resolver.settle().await;
        assert_eq!(resolver.known(), addresses(&[("10.0.0.5", "10.0.0.5")]));
    }

    #[tokio::test]
    async fn the_same_hosts_are_not_resolved_again_at_once() {
        let mut resolver = Resolver::new(true);
        resolver.resolve(hosts(&["10.0.0.5"]));
        resolver.settle().await;
        let began = resolver.round.as_ref().unwrap().1;
        resolver.resolve(hosts(&["10.0.0.5"]));
        assert_eq!(resolver.round.as_ref().unwrap().1, began);
        resolver.resolve(hosts(&["10.0.0.5", "10.0.0.6"]));
        assert!(resolver.round.as_ref().unwrap().1 > began);
    }
}
