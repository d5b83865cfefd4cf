//! Failover, takeover and cut-off, with the daemon or ProxySQL's own scheduler at work.

use crate::world::{Binaries, World, Writers, eventually, now};
use crate::{fail_over, guarded, is_fenced_soon, new_primary, one_at_a_time, seconds};

/// What the acceptance asks after every failover: the old primary stays out, and comes back once it is repaired.
fn stays_out_and_comes_back(mut world: World, writers: Writers, primary: usize) {
    let old = world.nodes.written_on(1);
    let went = world.nodes.written_on(primary);
    world.proxy.ticks(5);
    eventually("writes on the new primary", seconds(20), || world.nodes.written_on(primary) > went + 20);
    assert_eq!(world.nodes.written_on(1), old, "no write reaches it while it is fenced");
    let new = world.nodes.written_on(primary);

    // The leader dies, and its downtime with it: the node stays out (I2).
    let leader = world.leader();
    world.raft.signal(leader, "KILL");
    eventually("another leader", seconds(20), || world.raft.leader().is_some_and(|other| other != leader));
    world.proxy.ticks(4);
    assert!(world.proxy.has_fenced(1));
    assert_eq!(world.nodes.written_on(1), old);
    let (status, code) = world.proxy.command(&["status"]);
    println!("--- status, fenced, after the leader was killed\n{status}");
    assert_eq!(code, 0);
    world.raft.run(leader);

    // ProxySQL restarts: it comes up with the fence.
    world.proxy.restart();
    assert!(world.proxy.has_fenced(1));

    // Repair: a replica again, the downtime ended.
    world.nodes.rebuild(1, primary);
    world.downtime("end-downtime", 1, "");
    eventually("it serves reads again", seconds(30), || world.proxy.is_online("20", 1));
    assert_eq!(world.proxy.row("10", 1), None, "and has no writer row");
    world.proxy.ticks(3);
    assert_eq!(world.proxy.writer(), Some(primary));
    assert!(!world.proxy.is_online("10", 1));
    let errors = writers.end();
    let written = |n| world.nodes.root(n, &format!("select count(*) from t.a where host='{}'", world.nodes.address(1)));
    eventually("the same rows on both", seconds(10), || written(1) == written(primary));
    assert!(!errors.iter().any(|error| error.contains("1290")), "no read-only errors: {errors:#?}");
    println!("--- errors that clients saw, failover included: {errors:#?}");
    println!("--- writes on the new primary: {new}");
    assert_eq!(world.proxy.end_daemon("TERM"), Some(0));
    println!("--- the daemon's log\n{}", world.proxy.stonith_log());
}

#[test]
fn failover_by_sigkill_the_old_primary_gets_no_write_until_it_is_a_replica_again() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let (mut world, writers) = guarded(binaries);
    let primary = fail_over(&mut world);
    let before = world.nodes.written_on(1);
    is_fenced_soon(&world);
    assert_eq!(world.nodes.written_on(1), before, "no write reaches it after its return");
    stays_out_and_comes_back(world, writers, primary);
}

#[test]
fn failover_by_sigstop_the_woken_primary_gets_no_new_write() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let (mut world, writers) = guarded(binaries);
    let stopped = now();
    world.nodes.signal(1, "STOP");
    let primary = new_primary(&world);
    is_fenced_soon(&world);
    let fenced = now();
    world.nodes.signal(1, "CONT");
    // What was on its way when it was fenced may still commit (facts §4): as much as clients sent until then.
    eventually("writes on the new primary", seconds(20), || world.nodes.sent_after(primary, fenced) > 20);
    println!("--- writes that were under way: {}", world.nodes.written_after(1, stopped));
    assert_eq!(world.nodes.sent_after(1, fenced), 0, "writes that were sent after the fence");
    stays_out_and_comes_back(world, writers, primary);
}

#[test]
fn a_cut_off_proxy_goes_out_of_service_and_comes_back_with_the_leader() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let (mut world, writers) = guarded(binaries);
    let before = world.proxy.all_rows();
    for n in 1..=3 {
        world.raft.signal(n, "STOP");
    }
    let cut = std::time::Instant::now();
    eventually("out of service", seconds(12), || world.proxy.is_out_of_service());
    println!("--- cut off: out of service after {:?}", cut.elapsed());
    assert!((1..=3).all(|n| world.proxy.has_fenced(n)) && !world.proxy.write());
    println!("{}", world.proxy.all_rows());
    for n in 1..=3 {
        world.raft.signal(n, "CONT");
    }
    let healed = std::time::Instant::now();
    eventually("back in service", seconds(40), || world.proxy.all_rows() == before);
    println!("--- healed: back after {:?}, rows as before", healed.elapsed());
    eventually("writes", seconds(10), || world.proxy.write());
    drop(writers);
    assert_eq!(world.proxy.end_daemon("INT"), Some(0));
    println!("--- the daemon's log\n{}", world.proxy.stonith_log());
}

#[test]
fn a_planned_takeover_and_back_leaves_each_old_primary_as_a_reader() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let (mut world, writers) = guarded(binaries);
    // Nobody writes during a takeover: this Orchestrator does not wait until MariaDB's replica has all.
    println!("--- errors that clients saw: {:?}", writers.end());
    for (from, to) in [(1, 2), (2, 1)] {
        std::thread::sleep(seconds(2));
        world.take_over(from, to);
        eventually("the new primary", seconds(20), || world.proxy.writer() == Some(to));
        eventually("the old one as a reader", seconds(30), || {
            world.proxy.row("10", from).is_none() && world.proxy.is_online("20", from)
        });
        println!("--- {from} -> {to}: {}", world.proxy.all_rows());
        let before = world.nodes.written_on(to);
        assert!((0..10).all(|_| world.proxy.write()));
        assert_eq!(world.nodes.written_on(to), before + 10);
    }
    assert_eq!(world.proxy.end_daemon("TERM"), Some(0));
    println!("--- the daemon's log\n{}", world.proxy.stonith_log());
}

/// With inserts going on. It is Orchestrator's own doing that clients see errors: it sets read_only before ProxySQL's monitor
/// knows of the new primary.
#[test]
fn a_planned_takeover_costs_writing_clients_errors_of_a_read_only_server_and_no_other() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let (mut world, writers) = guarded(binaries);
    let before = writers.errors();
    world.take_over(1, 2);
    eventually("the new primary", seconds(20), || world.proxy.writer() == Some(2));
    eventually("writes", seconds(10), || world.proxy.write());
    let left = world.nodes.written_on(1);
    assert!((0..20).all(|_| world.proxy.write()));
    assert_eq!(world.nodes.written_on(1), left, "the old primary takes none any more");
    let errors = writers.end();
    assert_eq!(errors[..before.len()], before);
    println!("--- errors that the clients of a takeover saw: {:#?}", &errors[before.len()..]);
    let is_read_only = |error: &String| error.contains("1290") || error.contains("1836");
    let others: Vec<_> = errors[before.len()..].iter().filter(|error| !is_read_only(error)).collect();
    assert!(others.is_empty(), "{others:?}");
    assert_eq!(world.proxy.end_daemon("TERM"), Some(0));
}

#[test]
fn proxysqls_own_scheduler_fences_and_lets_back_without_a_daemon() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let mut world = World::start(binaries);
    world.proxy.schedule();
    world.proxy.wait_until_armed();
    assert!(world.proxy.write());
    let primary = fail_over(&mut world);
    eventually("the old primary fenced", seconds(15), || world.proxy.has_fenced(1));
    let before = world.nodes.written_on(1);
    for _ in 0..20 {
        assert!(world.proxy.write());
    }
    assert_eq!(world.nodes.written_on(1), before);
    world.nodes.rebuild(1, primary);
    // By hand this time: what fenced it is released, but not while Orchestrator still shows it as a second primary.
    let name = format!("{}:{}", world.nodes.address(1), world.nodes.port);
    let mut text = String::new();
    eventually("let back by order", seconds(20), || {
        let code;
        (text, code) = world.proxy.command(&["unfence", &name, "--wait=10s"]);
        assert!(code == 0 || text.contains("make it a replica"), "{text}");
        code == 0
    });
    assert!(text.contains("let back on 1 of 1 configured"), "{text}");
    assert!(world.proxy.is_online("20", 1) && world.proxy.row("10", 1).is_none());
    world.proxy.ticks(4);
    assert!(world.proxy.is_online("20", 1), "and it stays: {}", world.proxy.all_rows());
    let log = std::fs::read_to_string(world.proxy.file("proxysql.log")).unwrap();
    println!("{}", log.lines().filter(|line| line.contains("row changed")).collect::<Vec<_>>().join("\n"));
}
