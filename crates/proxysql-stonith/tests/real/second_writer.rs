//! The hard cases of a second writer: one that no record speaks of, and several writers of which none is one too many. And
//! what the backstop lets through.

use std::thread::sleep;

use serde_json::json;

use crate::by_hand::{follows, instance};
use crate::orders::add_another_application;
use crate::world::{Access, Binaries, OUTSIDER, World, Writers, eventually, login_as, now};
use crate::{fail_over, guard, guarded, is_fenced_soon, one_at_a_time, seconds};

/// An Orchestrator that recovers nothing by itself, so that no record and no downtime tells of a promotion.
fn without_recoveries() -> Access {
    Access { config: json!({ "RecoverMasterClusterFilters": [] }), ..Access::plain() }
}

fn install_backstop(world: &World) -> String {
    let (text, code) = world.proxy.command(&["install", "backstop"]);
    assert_eq!(code, 0, "{text}");
    text
}

/// An old primary comes back as a cluster of its own, and no record or downtime speaks against it.
fn returns_unrecorded(binaries: Binaries, with_backstop: bool) {
    let (mut world, writers) = guard(World::with_access(binaries, without_recoveries()));
    if with_backstop {
        install_backstop(&world);
    }
    world.nodes.signal(1, "KILL");
    world.nodes.root(2, "stop slave; reset slave all; set global read_only=0");
    world.nodes.replicate(3, 2);
    eventually("node 2 seen as the primary", seconds(40), || {
        follows(&world, 3, 2) && instance(&world, 2)["MasterKey"]["Hostname"] == "" && world.proxy.writer() == Some(2)
    });
    assert_eq!(world.raft.get(world.leader(), "/api/downtimed").1.trim(), "[]");
    let returned = now();
    world.nodes.start(1);
    is_fenced_soon(&world);
    println!("--- backstop {with_backstop}: fenced {:.2} s after the start of node 1 began", now() - returned);
    assert_ne!(instance(&world, 1)["ClusterName"], instance(&world, 2)["ClusterName"], "a cluster of its own");
    let slipped = world.nodes.written_after(1, returned);
    world.proxy.ticks(5);
    assert_eq!(world.nodes.written_after(1, returned), slipped, "no write after the fence");
    let rows = world.proxy.all_rows();
    println!("--- backstop {with_backstop}: {slipped} writes on it after its return; {rows}");
    assert!(rows.contains("[stonith:1 second-writer by="), "{rows}");
    assert_eq!(world.proxy.writer(), Some(2));
    world.nodes.rebuild(1, 2);
    eventually("it serves reads again", seconds(30), || world.proxy.is_online("20", 1));
    assert_eq!(world.proxy.row("10", 1), None, "and has no writer row");
    println!("--- errors that clients saw: {:#?}", writers.end());
}

#[test]
fn an_old_primary_that_returns_as_its_own_cluster_without_a_record_is_fenced_as_a_second_writer() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    for with_backstop in [false, true] {
        returns_unrecorded(binaries.clone(), with_backstop);
    }
}

/// The rows of the other application's hostgroups, in every layer.
fn rows_of_the_other(world: &World) -> String {
    let of = |layer: &str| {
        let columns = "hostgroup_id,hostname,port,status,comment";
        world
            .proxy
            .admin(&format!("SELECT {columns} FROM {layer}mysql_servers WHERE hostgroup_id IN (30,40) ORDER BY 1"))
    };
    ["runtime_", "main.", "disk."].map(of).join("--\n")
}

/// The alias that Orchestrator has for a node's cluster.
fn alias(world: &World, n: usize) -> String {
    instance(world, n)["SuggestedClusterAlias"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_failover_fences_in_its_own_cluster_only_also_after_another_cluster_of_the_proxy_took_its_alias() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let mut world = World::start(binaries);
    // A second cluster in the same ProxySQL, with a pair of its own, under the alias of the first.
    add_another_application(&mut world);
    let pair = "INSERT INTO mysql_replication_hostgroups(writer_hostgroup,reader_hostgroup,comment) VALUES (30,40,'b')";
    world.proxy.edit_servers(&[pair]);
    let orchestrator = world.nodes.server.orchestrators_user();
    let alias_of_it =
        "create table t.cluster_alias (alias varchar(40)); insert into t.cluster_alias values ('labcluster')";
    world.nodes.root(OUTSIDER, &format!("{orchestrator}{alias_of_it}"));
    let discover = format!("/api/discover/{}/{}", world.nodes.address(OUTSIDER), world.nodes.port);
    assert_eq!(world.raft.get(world.leader(), &discover).0, 200);
    eventually("two clusters of one alias", seconds(30), || {
        alias(&world, 1) == "labcluster" && alias(&world, OUTSIDER) == alias(&world, 1)
    });
    let (mut world, writers) = guard(world);
    // The alias moves: the first cluster is called otherwise from now on.
    world.nodes.root(1, "update t.cluster_alias set alias='retired'");
    eventually("the alias moved", seconds(90), || {
        alias(&world, 1) == "retired" && alias(&world, OUTSIDER) == "labcluster"
    });
    let other = rows_of_the_other(&world);
    let pairs = world.proxy.admin("SELECT writer_hostgroup FROM runtime_mysql_replication_hostgroups ORDER BY 1");
    assert_eq!(pairs.split_whitespace().collect::<Vec<_>>(), ["10", "30"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut session = runtime.block_on(mysql_async::Conn::new(login_as(&world.proxy, "other"))).expect("a session");
    let mut write = || {
        use mysql_async::prelude::Queryable;
        runtime
            .block_on(session.query_drop("insert into t.b (n) values (1)"))
            .expect("a write of the other application");
    };
    write();
    let primary = fail_over(&mut world);
    write();
    is_fenced_soon(&world);
    for _ in 0..5 {
        world.proxy.ticks(1);
        write();
    }
    assert_eq!(rows_of_the_other(&world), other, "no layer of the other cluster was touched");
    assert_eq!(world.proxy.writer(), Some(primary));
    println!("--- {}; errors of the first cluster's clients: {:#?}", world.proxy.all_rows(), writers.end());
}

#[test]
fn co_primaries_stay_as_they_are_until_one_dies_and_then_it_stays_out_when_it_returns() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let mut world = World::start(binaries);
    // Each writes keys of its own.
    for n in 1..=2 {
        world.nodes.root(n, &format!("set global auto_increment_increment=2, auto_increment_offset={n}"));
    }
    world.nodes.replicate_from(1, 2, "current_pos");
    world.nodes.root(1, "set global read_only=0");
    world.nodes.root(2, "set global read_only=0");
    eventually("two co-primaries that write", seconds(30), || {
        (1..=2).all(|n| instance(&world, n)["IsCoMaster"] == true && world.proxy.is_online("10", n))
    });
    let rows = world.proxy.all_rows();
    println!("--- {rows}");
    world.proxy.start_daemon();
    let writers = Writers::start(&world.proxy);
    world.proxy.stays(seconds(15), &rows);
    let text = install_backstop(&world);
    println!("--- install backstop: {text}");
    assert!(text.contains("it has 2 servers in service"), "{text}");
    world.proxy.stays(seconds(2), &rows);
    assert_eq!(writers.end(), Vec::<String>::new());

    world.nodes.signal(2, "KILL");
    let recovered = || world.raft.get(world.leader(), "/api/audit-recovery").1.contains("DeadCoMaster");
    eventually("the recovery of the dead half", seconds(40), recovered);
    eventually("node 2 fenced", seconds(15), || world.proxy.has_fenced(2));
    let returned = now();
    world.nodes.start(2);
    let writers = Writers::start(&world.proxy);
    let before = world.nodes.written_on(1);
    eventually("writes on the half that is left", seconds(20), || world.nodes.written_on(1) > before + 100);
    world.proxy.ticks(5);
    assert_eq!(world.nodes.written_after(2, returned), 0, "no write reaches the returned half");
    assert!(world.proxy.has_fenced(2) && world.proxy.writer() == Some(1), "{}", world.proxy.all_rows());
    println!("--- {}; errors: {:?}", world.proxy.all_rows(), writers.end());
}

#[test]
fn a_takeover_in_progress_fences_no_second_writer_and_never_the_new_primary() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let (world, writers) = guarded(binaries);
    for with_backstop in [false, true] {
        if with_backstop {
            install_backstop(&world);
        }
        for (from, to) in [(1, 2), (2, 1)] {
            world.take_over(from, to);
            eventually("the new primary", seconds(20), || {
                let new = world.proxy.row("10", to).unwrap_or_default();
                assert!(!new.contains("[stonith"), "the new primary is never fenced: {new}");
                world.proxy.writer() == Some(to)
            });
            eventually("the old one as a reader", seconds(40), || {
                world.proxy.row("10", from).is_none() && world.proxy.is_online("20", from)
            });
            sleep(seconds(2));
        }
    }
    let log = world.proxy.stonith_log();
    println!("--- errors: {:?}\n--- the daemon's log\n{log}", writers.end().len());
    assert!(!log.contains("second-writer"), "{log}");
}

/// How often an old primary comes back in each half of the measurement.
const RETURNS: usize = 6;

/// Node 1 dies and comes back writable beside node 2, again and again. Says how many writes it took after each return.
fn returns(world: &mut World) -> Vec<usize> {
    let mut taken = Vec::new();
    for _ in 0..RETURNS {
        world.nodes.signal(1, "KILL");
        let before = world.nodes.written_on(2);
        eventually("writes on node 2", seconds(30), || world.nodes.written_on(2) > before + 60);
        let returned = now();
        world.nodes.start(1);
        // New sessions: each may be sent to any server of the hostgroup.
        while now() < returned + 6.0 {
            world.proxy.write();
        }
        taken.push(world.nodes.written_after(1, returned));
    }
    taken
}

/// What ProxySQL routes to a returned primary when it takes it back from SHUNNED, by the limit alone and without: no agent runs.
#[test]
fn the_backstop_alone_lets_few_writes_through_when_proxysql_takes_a_shunned_primary_back() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let mut world = World::start(binaries);
    world.prefer_node_2();
    world.proxy.admin("SET mysql-shun_recovery_time_sec=2");
    world.proxy.admin("LOAD MYSQL VARIABLES TO RUNTIME");
    let writers = Writers::start(&world.proxy);
    eventually("sessions that write", seconds(10), || world.nodes.written_on(1) > 20);
    assert_eq!(fail_over(&mut world), 2);
    let without = returns(&mut world);
    world.nodes.signal(1, "KILL");
    eventually("node 1 shunned", seconds(30), || world.proxy.writer() == Some(2));
    let limit = "INSERT INTO mysql_hostgroup_attributes(hostgroup_id,max_num_online_servers) VALUES (10,1)";
    world.proxy.edit_servers(&[limit]);
    let live = world.proxy.admin("SELECT max_num_online_servers FROM runtime_mysql_hostgroup_attributes");
    assert_eq!(live.trim(), "1");
    world.nodes.start(1);
    let with = returns(&mut world);
    println!("--- writes on the returned primary in 5 s: without the limit {without:?}, with it {with:?}");
    println!("--- errors: {}", writers.end().len());
    assert!(without.iter().sum::<usize>() > with.iter().sum(), "the limit keeps writes off: {without:?}, {with:?}");
}
