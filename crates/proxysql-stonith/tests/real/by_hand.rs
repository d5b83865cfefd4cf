//! Topologies that an operator made: rings, switches by hand, and what the agent kept of the time before.

use std::time::Instant;

use crate::world::{Binaries, World, Writers, eventually};
use crate::{comes_back, fail_over, goes_out_of_service, guard, guarded, is_fenced_soon, one_at_a_time, seconds};

/// Cuts the proxy off until it is out of service: its rows are as before once a leader is back.
fn is_cut_off_and_comes_back(world: &mut World, before: &str) {
    let cut = Instant::now();
    world.raft.members().for_each(|n| world.raft.signal(n, "STOP"));
    goes_out_of_service(&world.proxy, cut);
    world.raft.members().for_each(|n| world.raft.signal(n, "CONT"));
    comes_back(&world.proxy, before);
    world.proxy.stays(seconds(5), before);
}

/// Orchestrator's word on a node.
pub fn instance(world: &World, n: usize) -> serde_json::Value {
    let path = format!("/api/instance/{}/{}", world.nodes.address(n), world.nodes.port);
    serde_json::from_str(&world.raft.get(world.leader(), &path).1).unwrap_or_default()
}

/// Whether Orchestrator takes a node for a replica of another.
pub fn follows(world: &World, n: usize, of: usize) -> bool {
    instance(world, n)["MasterKey"]["Hostname"] == world.nodes.address(of)
}

#[test]
fn the_writer_of_a_ring_whose_other_half_is_dead_comes_back_from_an_isolation_and_from_an_order() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let world = World::start(binaries);
    world.nodes.replicate_from(1, 2, "current_pos");
    world.nodes.root(1, "set global read_only=0");
    eventually("a ring", seconds(20), || (1..=2).all(|n| instance(&world, n)["IsCoMaster"] == true));
    let (mut world, writers) = guard(world);
    world.nodes.signal(2, "KILL");
    let recovered = || world.raft.get(world.leader(), "/api/audit-recovery").1.contains("DeadCoMaster");
    eventually("the recovery of the dead half", seconds(40), recovered);
    eventually("node 2 fenced", seconds(15), || world.proxy.has_fenced(2));
    eventually("the dead half seen", seconds(20), || instance(&world, 2)["IsLastCheckValid"] == false);
    assert!(follows(&world, 1, 2), "node 1 keeps its replica settings");
    let before = world.proxy.all_rows();
    println!("--- before the cut: {before}");
    assert_eq!(world.proxy.writer(), Some(1));
    is_cut_off_and_comes_back(&mut world, &before);
    drop(writers);

    let name = world.nodes.name(1);
    let (fenced, code) = world.proxy.command(&["fence", &name, "--yes"]);
    assert!(code == 0 && world.proxy.has_fenced(1), "{fenced}");
    let (back, code) = world.proxy.command(&["unfence", &name, "--wait=10s"]);
    println!("--- {back}");
    assert_eq!(code, 0, "{back}");
    comes_back(&world.proxy, &before);
    println!("--- the daemon's log\n{}", world.proxy.stonith_log());
}

/// An operator's switch from node 1 to node 2, without RESET SLAVE ALL on node 2.
fn switch_by_hand(world: &World) {
    world.nodes.root(1, "set global read_only=1");
    has_all_of(world, 1);
    world.nodes.root(2, "stop slave; set global read_only=0");
    world.nodes.replicate(3, 2);
    world.nodes.replicate_from(1, 2, "current_pos");
    eventually("the switch seen", seconds(20), || {
        [(1, 2), (3, 2), (2, 1)].iter().all(|(n, of)| follows(world, *n, *of)) && world.proxy.writer() == Some(2)
    });
}

/// Waits until the others have all that a primary has written.
fn has_all_of(world: &World, primary: usize) {
    let position = world.nodes.root(primary, "select @@gtid_current_pos");
    eventually("all have all", seconds(10), || {
        (1..=3).all(|n| n == primary || world.nodes.root(n, "select @@gtid_slave_pos") == position)
    });
}

#[test]
fn a_primary_that_was_switched_to_by_hand_and_kept_its_replica_settings_comes_back_from_an_isolation() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let (mut world, writers) = guarded(binaries);
    println!("--- errors that clients saw: {:?}", writers.end());
    switch_by_hand(&world);
    let writers = Writers::start(&world.proxy);
    eventually("sessions that write", seconds(10), || world.nodes.written_on(2) > 20);
    let before = world.proxy.all_rows();
    println!("--- after the switch: {before}");
    world.proxy.stays(seconds(3), &before);
    assert_eq!(writers.end(), Vec::<String>::new());
    is_cut_off_and_comes_back(&mut world, &before);

    // The old primary is dismantled, and what its successor keeps of it leads nowhere.
    world.downtime("begin-downtime", 1, "/dba/dismantled/1h");
    eventually("node 1 fenced", seconds(10), || world.proxy.has_fenced(1));
    world.nodes.signal(1, "KILL");
    eventually("its death seen", seconds(20), || instance(&world, 1)["IsLastCheckValid"] == false);
    let before = world.proxy.all_rows();
    println!("--- after the old primary's end: {before}");
    is_cut_off_and_comes_back(&mut world, &before);
    println!("--- the daemon's log\n{}", world.proxy.stonith_log());
}

#[test]
fn an_agent_that_missed_a_switch_back_by_hand_never_fences_the_present_primary() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let (mut world, writers) = guarded(binaries);
    let primary = fail_over(&mut world);
    is_fenced_soon(&world);
    drop(writers);
    assert_eq!(world.proxy.end_daemon("TERM"), Some(0));

    world.nodes.rebuild(1, primary);
    world.downtime("end-downtime", 1, "");
    eventually("node 1 follows", seconds(20), || follows(&world, 1, primary));
    world.nodes.root(primary, "set global read_only=1");
    has_all_of(&world, primary);
    let other = 5 - primary;
    world.nodes.root(1, "stop slave; reset slave all; set global read_only=0");
    world.nodes.replicate(other, 1);
    world.nodes.replicate_from(primary, 1, "current_pos");
    let back =
        format!("UPDATE mysql_servers SET status='ONLINE', comment='' WHERE hostname='{}'", world.nodes.address(1));
    world.proxy.edit_servers(&[&back]);
    eventually("the switch seen", seconds(30), || {
        [other, primary].iter().all(|n| follows(&world, *n, 1))
            && instance(&world, 1)["MasterKey"]["Hostname"] == ""
            && world.proxy.writer() == Some(1)
    });
    assert_eq!(world.raft.get(world.leader(), "/api/downtimed").1.trim(), "[]");

    let writers = Writers::start(&world.proxy);
    let before = world.nodes.written_on(1);
    eventually("sessions that write", seconds(10), || world.nodes.written_on(1) > before + 20);
    let rows = world.proxy.all_rows();
    println!("--- before the agent's start: {rows}");
    world.proxy.start_daemon();
    world.proxy.stays(seconds(15), &rows);
    assert_eq!(writers.end(), Vec::<String>::new());
    println!("--- writes on node 1: {}", world.nodes.written_on(1) - before);
    println!("--- the daemon's log\n{}", world.proxy.stonith_log());
}

#[test]
fn an_old_record_against_a_primary_that_was_switched_to_by_hand_is_held_and_said() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let mut world = World::with_shared_backend(binaries);
    let (old, present) = (world.nodes.address(1), world.nodes.address(2));
    // Three days ago node 2 died and node 1 was promoted.
    world.add_history(&format!(
        "select '{present}' as failed, '{old}' as successor, now() - interval 3 day as at, 1 as seq"
    ));
    // Since then node 2 was made the primary, node 3 follows it, and node 1 is up and alone.
    switch_by_hand(&world);
    world.nodes.root(2, "reset slave all");
    world.nodes.root(1, "stop slave; reset slave all");
    let alone = |n| instance(&world, n)["MasterKey"]["Hostname"] == "";
    eventually("node 1 alone", seconds(20), || alone(1) && alone(2));
    let writers = Writers::start(&world.proxy);
    let before = world.proxy.all_rows();
    world.proxy.start_daemon();
    world.proxy.stays(seconds(15), &before);
    assert_eq!(writers.end(), Vec::<String>::new());
    let status = || world.proxy.command(&["status"]).0;
    let name = world.nodes.name(2);
    let held = format!("{name} is held");
    println!("--- {}", status());
    assert!(status().contains(&held), "{}", status());
    // And it ends as it says.
    let (said, code) = world.proxy.command(&["unfence", &name]);
    assert_eq!(code, 0, "{said}");
    eventually("it is held no more", seconds(10), || !status().contains(&held));
    world.proxy.stays(seconds(3), &before);
    println!("--- the daemon's log\n{}", world.proxy.stonith_log());
}
