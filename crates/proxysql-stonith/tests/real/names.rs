//! ProxySQL and Orchestrator name the nodes differently.

use crate::world::{Binaries, NODES, World, Writers, eventually};
use crate::{one_at_a_time, seconds};

/// The name of a node in ProxySQL. It resolves to the address that Orchestrator has, without any name server: the last
/// of three numbers is two bytes of the address.
fn name(world: &World, n: usize) -> String {
    let address: std::net::Ipv4Addr = world.nodes.address(n).parse().unwrap();
    let [a, b, c, d] = address.octets();
    format!("{a}.{b}.{}", u16::from_be_bytes([c, d]))
}

fn rows_of(world: &World, n: usize) -> String {
    let host = name(world, n);
    let rows = "SELECT hostgroup_id||':'||status||comment FROM runtime_mysql_servers";
    let rows = world.proxy.admin(&format!("{rows} WHERE hostname='{host}' AND status<>'OFFLINE_HARD' ORDER BY 1"));
    rows.lines().collect::<Vec<_>>().join(" ")
}

#[test]
fn nodes_that_orchestrator_has_under_other_names_are_matched_by_address_and_fenced_in_a_failover() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let mut world = World::start(binaries);
    let rename = |n| {
        let [from, to] = [world.nodes.address(n), name(&world, n)];
        format!("UPDATE mysql_servers SET hostname='{to}' WHERE hostname='{from}'")
    };
    let renames: Vec<String> = (1..=NODES).map(rename).collect();
    world.proxy.edit_servers(&renames.iter().map(String::as_str).collect::<Vec<_>>());
    eventually("the monitor knows the writer", seconds(20), || rows_of(&world, 1).starts_with("10:ONLINE"));
    world.proxy.start_daemon();
    let writers = Writers::start(&world.proxy);
    eventually("sessions that write", seconds(10), || world.nodes.written_on(1) > 20);

    world.nodes.signal(1, "KILL");
    let promoted = || (2..=3).find(|n| rows_of(&world, *n).starts_with("10:ONLINE"));
    eventually("a new primary", seconds(40), || promoted().is_some());
    let primary = promoted().unwrap();
    world.nodes.start(1);
    let before = world.nodes.written_on(1);
    eventually("node 1 fenced", seconds(15), || {
        let rows = rows_of(&world, 1);
        !rows.contains(":ONLINE") && rows.contains("[stonith:1 superseded")
    });
    let written = world.nodes.written_on(primary);
    eventually("writes on the new primary", seconds(20), || world.nodes.written_on(primary) > written + 100);
    println!(
        "--- node {primary} is the primary; the old one took {} writes after it was back",
        world.nodes.written_on(1) - before
    );
    assert_eq!(world.nodes.written_on(1), before, "no write reaches the old primary");
    let shown = format!("{}:{} ({})", name(&world, 1), world.nodes.port, world.nodes.address(1));
    let log = world.proxy.stonith_log();
    assert!(log.contains(&shown), "{shown} is not in the log:\n{log}");
    drop(writers);

    world.nodes.rebuild(1, primary);
    world.downtime("end-downtime", 1, "");
    eventually("it serves reads again", seconds(30), || rows_of(&world, 1) == "20:ONLINE");
}
