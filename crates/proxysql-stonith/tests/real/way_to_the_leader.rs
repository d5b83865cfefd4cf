//! What stands between the agent and Orchestrator's leader is no outage; what tells of none, is.

use std::time::{Duration, Instant};

use crate::world::{Binaries, OUTSIDER, Relay, World, Writers, eventually};
use crate::{ISOLATION_AFTER, comes_back, fences_a_failover, goes_out_of_service, guard, one_at_a_time, seconds};

/// Longer than an outage would take to show.
const LONG: Duration = Duration::from_secs(13);

/// The agent reaches each member through a relay of its own.
fn relayed(world: &mut World) -> Vec<Relay> {
    let relays: Vec<Relay> = world.raft.members().map(|n| Relay::to(world.raft.address(n))).collect();
    world.proxy.set_orchestrator(relays.iter().map(Relay::url).collect());
    relays
}

/// No client has seen an error so far.
fn saw_nothing(writers: &Writers) {
    assert_eq!(writers.errors(), Vec::<String>::new());
}

/// The control: the agent does isolate once nobody answers any more.
fn is_isolated_without_answers(world: &mut World, members: &[usize]) {
    members.iter().for_each(|n| world.raft.signal(*n, "STOP"));
    goes_out_of_service(&world.proxy, Instant::now());
}

#[test]
fn a_follower_that_relays_to_the_leader_is_a_way_to_it_and_one_that_knows_none_is_not() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let mut world = World::start(binaries);
    let leader = world.leader();
    let followers: Vec<usize> = world.raft.members().filter(|n| *n != leader).collect();
    let [near, far] = followers[..] else { panic!("two followers") };
    let relay = Relay::to(world.raft.address(near));
    world.proxy.set_orchestrator(vec![relay.url()]);
    let (mut world, writers) = guard(world);
    println!("--- armed through a follower");
    let before = world.proxy.all_rows();
    let all = world.raft.members().collect();
    for (members, time) in [(vec![leader], seconds(3)), (vec![far], LONG), (all, LONG), (vec![near], seconds(3))] {
        relay.set(|way| way.to = members.iter().map(|n| world.raft.address(*n)).collect());
        world.proxy.stays(time, &before);
        println!("--- nothing happened in {time:?} of answers by {members:?} in turn, while {leader} led");
    }
    world.raft.signal(leader, "KILL");
    world.proxy.stays(seconds(8), &before);
    println!("--- nothing happened when {leader} died; {} leads", world.leader());
    saw_nothing(&writers);
    fences_a_failover(&mut world);
    drop(writers);
    is_isolated_without_answers(&mut world, &[far]);
}

#[test]
fn orchestrators_dead_database_and_a_handover_of_its_active_node_are_no_outage() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let (mut world, writers) = guard(World::with_shared_backend(binaries));
    let before = world.proxy.all_rows();
    world.nodes.signal(OUTSIDER, "KILL");
    eventually("no active node", seconds(10), || world.raft.leader().is_none());
    println!("--- without its database: health {:?}", world.raft.get(1, "/api/health"));
    world.proxy.stays(2 * ISOLATION_AFTER, &before);
    assert!(world.raft.leader().is_none());
    world.nodes.start(OUTSIDER);
    let active = world.leader();
    // Long enough for a lease: without raft it takes a leader that has been the same for 5 s.
    world.proxy.stays(seconds(8), &before);
    println!("--- nothing happened in {:?} without its database; node {active} is active again", 2 * ISOLATION_AFTER);

    world.raft.signal(active, "KILL");
    let killed = Instant::now();
    while world.raft.leader().is_none() {
        world.proxy.stays(Duration::from_millis(200), &before);
        assert!(killed.elapsed() < seconds(30), "another active node");
    }
    println!("--- the other node is active {:.1?} after the death of the first", killed.elapsed());
    world.proxy.stays(ISOLATION_AFTER, &before);
    saw_nothing(&writers);
    fences_a_failover(&mut world);
    drop(writers);
    is_isolated_without_answers(&mut world, &[3 - active]);
}

#[test]
fn a_year_of_history_on_another_continent_delays_neither_arming_nor_a_fence() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let mut world = World::with_shared_backend(binaries);
    world.add_history(A_YEAR);
    assert!(world.raft.get(world.leader(), "/api/audit-recovery?page=44").1.contains("1.failed.example"));
    for relay in relayed(&mut world) {
        relay.set(|way| way.delay = Duration::from_millis(100));
    }
    let started = Instant::now();
    let (mut world, writers) = guard(world);
    println!("--- armed within {:.1?}, with 900 records and 100 ms for each answer", started.elapsed());
    let before = world.proxy.all_rows();
    world.proxy.stays(LONG, &before);
    saw_nothing(&writers);
    fences_a_failover(&mut world);
}

/// 900 recoveries of other clusters, one every nine hours.
const A_YEAR: &str = "select concat(seq, '.failed.example') as failed, concat(seq, '.promoted.example') as successor, \
     now() - interval (901 - seq) * 9 hour as at, seq from orchestrator.seq_1_to_900";

#[test]
fn a_gateways_error_is_no_answer_of_orchestrator() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let mut world = World::start(binaries);
    let relays = relayed(&mut world);
    let (world, writers) = guard(world);
    let before = world.proxy.all_rows();
    for (relay, code) in relays.iter().zip([502, 503, 504]) {
        relay.set(|way| way.gateway_error = Some(code));
    }
    goes_out_of_service(&world.proxy, Instant::now());
    drop(writers);
    relays.iter().for_each(|relay| relay.set(|way| way.gateway_error = None));
    comes_back(&world.proxy, &before);
}

#[test]
fn an_answer_that_ends_its_connection_is_an_answer() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let mut world = World::start(binaries);
    let relays = relayed(&mut world);
    let (mut world, writers) = guard(world);
    let before = world.proxy.all_rows();
    // What ends between two ticks is nothing. Where no two answers share a connection, that is said once.
    for (answers, may_be_said) in [(20, 0), (1, 2)] {
        let said = world.proxy.stonith_log().lines().count();
        relays.iter().for_each(|relay| relay.set(|way| way.answers_per_connection = answers));
        world.proxy.stays(LONG, &before);
        println!("--- nothing happened in {LONG:?} with {answers} answers for each connection");
        let log = world.proxy.stonith_log();
        assert!(log.lines().count() <= said + may_be_said, "{log}");
    }
    saw_nothing(&writers);
    drop(writers);
    println!("--- the daemon's log\n{}", world.proxy.stonith_log());
    let members: Vec<usize> = world.raft.members().collect();
    is_isolated_without_answers(&mut world, &members);
}
