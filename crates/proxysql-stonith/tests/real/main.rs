//! The program against real ProxySQL, a real three-node Orchestrator and real MariaDB.

mod apply;
mod failover;
mod partitions;
#[cfg(feature = "demo")]
mod stage;
mod world;

use std::time::Duration;

use world::{Binaries, World, Writers, eventually};

/// One world at a time: two cores hold no more.
static ONE_WORLD: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn one_at_a_time() -> std::sync::MutexGuard<'static, ()> {
    ONE_WORLD.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A world with the daemon at work and armed, and sessions of every kind that write.
fn guarded(binaries: Binaries) -> (World, Writers) {
    let mut world = World::start(binaries);
    world.proxy.start_daemon();
    let writers = Writers::start(&world.proxy);
    eventually("sessions that write", seconds(10), || world.nodes.written_on(1) > 20);
    (world, writers)
}

/// Waits until another node than 1 is the one writer, and says which.
fn new_primary(world: &World) -> usize {
    eventually("a new primary", seconds(40), || world.proxy.writer().is_some_and(|n| n != 1));
    world.proxy.writer().unwrap()
}
