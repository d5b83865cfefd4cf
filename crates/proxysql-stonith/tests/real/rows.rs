//! Server rows as they are in the field: comments of any bytes, hostgroups beside the pair, and no pair at all.

use std::time::Instant;

use crate::world::{Binaries, Client, World, eventually};
use crate::{
    comes_back, fences_a_failover, goes_out_of_service, guard, is_fenced_soon, new_primary, one_at_a_time, seconds,
};

/// What a Latin-1 terminal makes of "Büro 3".
const LATIN_1: &str = "42FC726F2033";

/// A comment with a NUL in it.
const WITH_NUL: &str = "610062";

/// A node's comments in a layer, as bytes.
fn comments(world: &World, table: &str, n: usize) -> String {
    let host = world.nodes.address(n);
    let select =
        format!("SELECT DISTINCT hex(comment) FROM {table} WHERE hostname='{host}' AND status<>'OFFLINE_HARD'");
    world.proxy.admin(&select).trim().to_owned()
}

/// Sets a node's comment in every layer.
fn set_comment(world: &World, n: usize, bytes: &str) {
    let host = world.nodes.address(n);
    let update = format!("UPDATE mysql_servers SET comment=CAST(x'{bytes}' AS TEXT) WHERE hostname='{host}'");
    world.proxy.edit_servers(&[&update]);
}

#[test]
fn comments_of_any_bytes_are_fenced_and_come_back_byte_for_byte() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let world = World::start(binaries);
    set_comment(&world, 1, LATIN_1);
    set_comment(&world, 3, WITH_NUL);
    let layers = ["runtime_mysql_servers", "main.mysql_servers", "disk.mysql_servers"];
    let of_node_3 = layers.map(|layer| comments(&world, layer, 3));
    println!("--- the comment with a NUL is {of_node_3:?}");
    let (mut world, writers) = guard(world);

    // An isolation takes all rows out, whatever their comments are.
    let before = world.proxy.all_rows();
    let cut = Instant::now();
    world.raft.members().for_each(|n| world.raft.signal(n, "STOP"));
    goes_out_of_service(&world.proxy, cut);
    world.raft.members().for_each(|n| world.raft.signal(n, "CONT"));
    comes_back(&world.proxy, &before);
    assert_eq!(comments(&world, "runtime_mysql_servers", 1), LATIN_1);
    assert_eq!(layers.map(|layer| comments(&world, layer, 3)), of_node_3);

    let primary = fences_a_failover(&mut world);
    world.proxy.ticks(3);
    let loads = world.proxy.loads();
    world.proxy.ticks(5);
    assert_eq!(world.proxy.loads(), loads, "a fence that is done is not done again");
    println!("--- {loads} LOADs so far, none in 5 ticks of a fence; {}", world.proxy.all_rows());
    drop(writers);

    world.nodes.rebuild(1, primary);
    world.downtime("end-downtime", 1, "");
    eventually("it serves reads again, its comment as before", seconds(30), || {
        world.proxy.row("20", 1).is_some_and(|row| row.starts_with("ONLINE"))
            && layers.iter().all(|layer| comments(&world, layer, 1) == LATIN_1)
    });
    assert_eq!(world.proxy.admin("SELECT name FROM main.sqlite_master WHERE name LIKE 'stonith_k%'"), "");
    println!("--- the daemon's log\n{}", world.proxy.stonith_log());
}

/// What is sent to node 1 by a rule of its own, in a session that then stays with it.
const PINNED_BESIDE: [&str; 2] = ["create temporary table fallback (a int)", "insert into fallback values (1)"];

#[test]
fn a_node_with_rows_beside_the_pair_is_fenced_in_all_of_them_and_serves_them_again_once_repaired() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let world = World::start(binaries);
    let (host, port) = (world.nodes.address(1), world.nodes.port);
    let beside =
        format!("INSERT INTO mysql_servers(hostgroup_id,hostname,port,comment) VALUES (50,'{host}',{port},'a')");
    world.proxy.edit_servers(&[&beside]);
    world.proxy.admin(
        "INSERT INTO mysql_query_rules(rule_id,active,match_digest,destination_hostgroup,apply) VALUES (2,1,'fallback',50,1)",
    );
    world.proxy.admin("LOAD MYSQL QUERY RULES TO RUNTIME");
    let (mut world, writers) = guard(world);
    let mut pinned = Client::open(&world.proxy);
    PINNED_BESIDE.iter().for_each(|statement| pinned.send(statement));
    let used = "SELECT ConnUsed FROM stats_mysql_connection_pool WHERE hostgroup=50";
    eventually("a session in hostgroup 50", seconds(10), || world.proxy.admin(used).trim() == "1");

    // Hung, not killed: its sessions live.
    world.nodes.signal(1, "STOP");
    let primary = new_primary(&world);
    is_fenced_soon(&world);
    assert!(world.proxy.row("50", 1).unwrap().starts_with("OFFLINE_SOFT"), "{}", world.proxy.rows("50"));
    world.nodes.signal(1, "CONT");
    world.proxy.ticks(5);
    assert!(world.proxy.has_fenced(1) && world.proxy.used(1) == 0);
    drop(writers);
    world.nodes.rebuild(1, primary);
    world.downtime("end-downtime", 1, "");
    eventually("it serves what it served", seconds(30), || {
        world.proxy.is_online("20", 1) && world.proxy.row("50", 1).as_deref() == Some("ONLINEa")
    });
    assert_eq!(world.proxy.row("10", 1), None, "and is no writer");
    println!("--- {} 50: {}", world.proxy.all_rows(), world.proxy.rows("50"));
    println!("--- the daemon's log\n{}", world.proxy.stonith_log());
}

/// A set-up without pairs: what is in hostgroup 10 is there by weight.
fn without_pairs(world: &World, rows: &[(usize, usize, usize)]) {
    let port = world.nodes.port;
    let rows = rows.iter().map(|(hostgroup, n, weight)| {
        let host = world.nodes.address(*n);
        format!(
            "INSERT INTO mysql_servers(hostgroup_id,hostname,port,weight) VALUES ({hostgroup},'{host}',{port},{weight})"
        )
    });
    let emptied = ["DELETE FROM mysql_replication_hostgroups", "DELETE FROM mysql_servers"].map(str::to_owned);
    let statements: Vec<String> = emptied.into_iter().chain(rows).collect();
    world.proxy.edit_servers(&statements.iter().map(String::as_str).collect::<Vec<_>>());
    world.prefer_node_2();
}

/// Node 1 dies, node 2 is promoted, node 1 is back and fenced; the writes go to node 2.
fn fails_over_without_pairs(world: &mut World) {
    world.nodes.signal(1, "KILL");
    eventually("node 2 promoted", seconds(40), || world.nodes.root(2, "select @@read_only").trim() == "0");
    world.nodes.start(1);
    is_fenced_soon(world);
    eventually("node 2 takes writes", seconds(15), || world.proxy.is_online("10", 2));
    twenty_writes_go_to(world, 2);
}

fn twenty_writes_go_to(world: &World, n: usize) {
    let before = world.nodes.written_on(n);
    assert!((0..20).all(|_| world.proxy.write()));
    assert_eq!(world.nodes.written_on(n), before + 20);
}

#[test]
fn without_any_pair_an_old_primary_is_fenced_and_comes_back_read_only_alone() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let mut world = World::start(binaries);
    without_pairs(&world, &[(10, 1, 9_999_999), (10, 2, 1)]);
    world.proxy.start_daemon();
    let before = world.proxy.all_rows();
    let cut = Instant::now();
    world.raft.members().for_each(|n| world.raft.signal(n, "STOP"));
    eventually("out of service", seconds(15), || world.proxy.is_out_of_service());
    println!("--- out of service {:.1?} after the cut: {}", cut.elapsed(), world.proxy.all_rows());
    world.raft.members().for_each(|n| world.raft.signal(n, "CONT"));
    comes_back(&world.proxy, &before);

    fails_over_without_pairs(&mut world);
    // A replica that takes writes does not come back.
    world.nodes.rebuild(1, 2);
    world.nodes.root(1, "set global read_only=0");
    world.downtime("end-downtime", 1, "");
    world.proxy.ticks(8);
    assert!(world.proxy.has_fenced(1), "{}", world.proxy.all_rows());
    world.nodes.root(1, "set global read_only=1");
    eventually("it is back", seconds(30), || world.proxy.is_online("10", 1));
    println!("--- back: {}", world.proxy.all_rows());
    println!("--- the daemon's log\n{}", world.proxy.stonith_log());
}

#[test]
fn in_a_writer_hostgroup_that_only_the_config_names_a_replica_waits_until_it_is_the_primary() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let mut world = World::start(binaries);
    without_pairs(&world, &[(10, 1, 9_999_999), (10, 2, 1), (20, 2, 1), (20, 3, 1)]);
    world.proxy.set_config("[policy]\nwriter_hostgroups = [10]\n");
    world.proxy.start_daemon();
    let waits = |world: &World, n| {
        world
            .proxy
            .row("10", n)
            .is_some_and(|row| row.starts_with("OFFLINE_SOFT") && row.contains("[stonith:1 replica "))
    };
    // A read-only replica beside the primary, with hardly any of the weight, does no harm there.
    assert!(world.proxy.is_online("10", 2) && world.proxy.is_online("20", 2), "{}", world.proxy.all_rows());
    println!("--- before the failover: {}", world.proxy.all_rows());
    twenty_writes_go_to(&world, 1);
    fails_over_without_pairs(&mut world);
    println!("--- after the failover: {}", world.proxy.all_rows());
    world.nodes.rebuild(1, 2);
    world.downtime("end-downtime", 1, "");
    eventually("node 1 waits", seconds(30), || waits(&world, 1));
    println!("--- after the repair: {}", world.proxy.all_rows());
    twenty_writes_go_to(&world, 2);
    println!("--- the daemon's log\n{}", world.proxy.stonith_log());
}
