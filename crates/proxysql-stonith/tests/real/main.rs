//! The program against real ProxySQL, a real Orchestrator, and real MariaDB or MySQL.

mod apply;
mod balancers;
mod barrier;
mod by_hand;
mod cluster;
mod doctor;
mod failover;
mod hooks;
mod install;
mod login;
mod matrix;
mod mysql;
mod names;
mod node_fence;
mod orders;
mod partitions;
#[path = "../pki/mod.rs"]
mod pki;
mod rows;
mod second_writer;
#[cfg(feature = "demo")]
mod stage;
mod takeover;
mod way_to_the_leader;
mod world;

use std::time::{Duration, Instant};

use world::{Binaries, Proxy, World, Writers, eventually};

/// `isolation.after`, as it is by default.
const ISOLATION_AFTER: Duration = Duration::from_secs(10);

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
    guard(World::start(binaries))
}

fn guard(mut world: World) -> (World, Writers) {
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

/// Waits until a proxy is out of service, and says how long after the cut that is.
fn goes_out_of_service(proxy: &Proxy, cut: Instant) -> Duration {
    eventually("out of service", ISOLATION_AFTER + seconds(5), || proxy.is_out_of_service());
    let after = cut.elapsed();
    println!("--- out of service {after:.1?} after the cut: {}", proxy.all_rows());
    assert!((1..=3).all(|n| proxy.has_fenced(n)) && !proxy.write());
    after
}

/// Waits until a proxy's rows are as they were.
fn comes_back(proxy: &Proxy, before: &str) {
    let healed = Instant::now();
    eventually("back in service, rows as before", seconds(15), || proxy.all_rows() == before);
    println!("--- back {:.1?} after the heal, rows as before: {before}", healed.elapsed());
    eventually("writes", seconds(10), || proxy.write());
}

/// Node 1 dies, another node is promoted, and node 1 is back as it was: writable. Says who was promoted.
fn fail_over(world: &mut World) -> usize {
    world.nodes.signal(1, "KILL");
    let primary = new_primary(world);
    world.nodes.start(1);
    primary
}

/// A failover with sessions that write: the returned old primary is fenced before it takes a write.
fn fences_a_failover(world: &mut World) -> usize {
    let primary = fail_over(world);
    let before = world.nodes.written_on(1);
    is_fenced_soon(world);
    assert_eq!(world.nodes.written_on(1), before, "no write reaches it");
    primary
}

/// Waits until node 1 is out, with its sessions.
fn is_fenced_soon(world: &World) {
    let since = Instant::now();
    eventually("node 1 fenced", seconds(15), || world.proxy.has_fenced(1) && world.proxy.used(1) == 0);
    println!("--- node 1 is seen fenced, no connection in use, after {:.1?}", since.elapsed());
}
