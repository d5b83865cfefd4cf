//! MySQL itself in place of MariaDB: `MYSQLD` names the server. `matrix.rs` has the basic scenarios on it.

use crate::world::{Binaries, World, eventually, skipped};
use crate::{fences_a_failover, guard, one_at_a_time, seconds};

/// How ProxySQL's monitor tells writers from readers, where Aurora and MySQL are mixed.
const BOTH_KINDS: &str = "UPDATE mysql_replication_hostgroups SET check_type='read_only|innodb_read_only'";

#[test]
fn mysql_with_transactions_of_its_own_stays_out_until_it_is_made_anew_in_a_pair_that_checks_both_kinds() {
    let Some(binaries) = Binaries::with_mysql() else { return };
    let _one = one_at_a_time();
    let world = World::start(binaries);
    world.proxy.edit_servers(&[BOTH_KINDS]);
    eventually("the primary among the writers", seconds(10), || world.proxy.writer() == Some(1));
    let (mut world, writers) = guard(world);
    let primary = fences_a_failover(&mut world);

    // The operator did not see that only this node has a table, and makes it a replica as it is.
    world.nodes.root(1, "create table t.only_here (a int)");
    world.nodes.replicate(1, primary);
    assert_eq!(world.nodes.root(1, "select @@super_read_only").trim(), "1");
    world.downtime("end-downtime", 1, "");
    let name = world.nodes.name(1);
    let status = || world.proxy.command(&["status"]).0;
    eventually("its own transactions said", seconds(30), || {
        let why: Vec<String> =
            status().lines().filter(|line| line.contains("stays out: ")).map(str::to_owned).collect();
        matches!(&why[..], [only] if only.contains("it has transactions that its primary lacks"))
    });
    println!("--- {}", status());
    world.proxy.ticks(5);
    assert!(world.proxy.has_fenced(1), "{}", world.proxy.all_rows());

    world.nodes.rebuild(1, primary);
    eventually("it serves reads again", seconds(40), || world.proxy.is_online("20", 1));
    assert!(world.proxy.row("10", 1).is_none() && world.proxy.writer() == Some(primary));
    world.proxy.ticks(3);
    assert!(world.proxy.is_online("20", 1), "{}", world.proxy.all_rows());
    assert!(!status().contains(&format!("{name} is held")), "{}", status());
    drop(writers);
    assert_eq!(world.proxy.end_daemon("TERM"), Some(0));
    println!("--- the daemon's log\n{}", world.proxy.stonith_log());
}

/// `ORCHESTRATOR_BINS` names it: the classic build, or percona's before 3.2.6-15.
#[test]
fn an_orchestrator_that_does_not_understand_this_mysql_fails_safe() {
    let Some(binaries) = Binaries::each().into_iter().find(|binaries| binaries.server.is_mysql()) else { return };
    let _one = one_at_a_time();
    let (mut world, said) = World::undiscovered(binaries);
    if !said.contains("You have an error in your SQL syntax") {
        return skipped(format!("this Orchestrator understands this MySQL: {said}"));
    }
    world.proxy.run_daemon();
    world.proxy.ticks(3);
    world.nodes.signal(1, "KILL");
    world.proxy.ticks(10);
    assert!(!world.proxy.all_rows().contains("[stonith:1"), "{}", world.proxy.all_rows());
    let log = world.proxy.stonith_log();
    assert!(log.contains("nothing is protected here") && !log.contains("row changed"), "{log}");
    let (status, code) = world.proxy.command(&["status"]);
    println!("--- {code}: {status}");
    assert_ne!(code, 0);
}
