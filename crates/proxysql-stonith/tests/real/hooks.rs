//! Beside the ProxySQL hooks of the fork's Orchestrator (facts §14). The fork cannot be had here: Orchestrator's own hooks
//! send the same statements at the same moments, and a relay answers the question for the fork's hooks.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::json;

use crate::world::{Access, Binaries, NODES, Relay, World, Writers, eventually};
use crate::{fail_over, guard, one_at_a_time, seconds};

const LOAD: &str = "LOAD MYSQL SERVERS TO RUNTIME";

/// The statements before a failover. The hosts are of Orchestrator's environment.
const BEFORE: [&str; 2] =
    ["UPDATE mysql_servers SET status='OFFLINE_SOFT' WHERE hostgroup_id=10 AND hostname='$ORC_FAILED_HOST'", LOAD];

/// The statements after it.
const AFTER: [&str; 6] = [
    "DELETE FROM mysql_servers WHERE hostgroup_id=10 AND hostname='$ORC_FAILED_HOST'",
    "REPLACE INTO mysql_servers (hostgroup_id,hostname,port) VALUES (10,'$ORC_SUCCESSOR_HOST',$ORC_SUCCESSOR_PORT)",
    "DELETE FROM mysql_servers WHERE hostgroup_id=20 AND hostname='$ORC_SUCCESSOR_HOST'",
    "REPLACE INTO mysql_servers (hostgroup_id,hostname,port,status) VALUES \
     (20,'$ORC_FAILED_HOST',$ORC_FAILED_PORT,'OFFLINE_SOFT')",
    LOAD,
    "SAVE MYSQL SERVERS TO DISK",
];

/// A hook that sends these statements, one by one, and ends with this code.
fn hook(file: &Path, world: &World, statements: &[&str], code: u8) {
    let mut script = "set -e\n".to_owned();
    for statement in statements {
        let (host, port) = (world.proxy.address(), world.proxy.admin_port);
        script += &format!("mariadb --no-defaults -h{host} -P{port} -uradmin -pradmin -e \"{statement}\"\n");
    }
    fs::write(file, format!("{script}exit {code}\n")).expect("a hook");
}

/// A world whose Orchestrator changes ProxySQL by hooks, and says what `says` has of them. The first one ends with this
/// code.
fn hooked(binaries: Binaries, says: Option<u16>, first: u8) -> (World, Writers, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let [before, after] = ["before", "after"].map(|name| dir.path().join(name));
    let config = json!({
        "PreFailoverProcesses": [format!("bash {}", before.display())],
        "PostMasterFailoverProcesses": [format!("bash {}", after.display())],
    });
    let mut world = World::with_access(binaries, Access { config, ..Access::plain() });
    hook(&before, &world, &BEFORE, first);
    hook(&after, &world, &AFTER, 0);
    let relays: Vec<Relay> = world.raft.members().map(|n| Relay::to(world.raft.address(n))).collect();
    relays.iter().for_each(|relay| relay.set(|way| way.hooks = says));
    world.proxy.set_orchestrator(relays.iter().map(Relay::url).collect());
    world.proxy.edit_servers(&["UPDATE mysql_servers SET weight=7, comment='rack 7'"]);
    let (world, writers) = guard(world);
    (world, writers, dir)
}

/// What the hooks reset, of a node's row.
fn settings(world: &World, hostgroup: usize, n: usize) -> Vec<String> {
    let row = |table: &str| {
        let select = format!("SELECT weight||' '||max_connections||' '||comment FROM {table}");
        let of_node = format!("WHERE hostgroup_id={hostgroup} AND hostname='{}'", world.nodes.address(n));
        world.proxy.admin(&format!("{select} {of_node}")).trim().to_owned()
    };
    ["runtime_mysql_servers", "main.mysql_servers", "disk.mysql_servers"].map(row).into()
}

/// Repairs node 1, and waits until Orchestrator shows it as a replica.
fn repair(world: &mut World, primary: usize) {
    world.nodes.rebuild(1, primary);
    world.downtime("end-downtime", 1, "");
    eventually("node 1 follows", seconds(20), || crate::by_hand::follows(world, 1, primary));
}

#[test]
fn the_old_primary_comes_back_by_itself_and_the_new_writers_row_is_as_it_was() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let (mut world, writers, _hooks) = hooked(binaries, Some(200), 0);
    let says = |world: &World, what: &str| world.proxy.stonith_log().contains(what);
    eventually("the hooks are said", seconds(10), || says(&world, "Orchestrator's own hooks"));
    let primary = fail_over(&mut world);
    let (began, before) = (Instant::now(), world.nodes.written_on(1));
    eventually("node 1 taken over", seconds(30), || world.proxy.has_fenced(1) && world.proxy.row("10", 1).is_none());
    println!("--- taken over {:.1?} after the promotion was seen: {}", began.elapsed(), world.proxy.all_rows());
    eventually("the writer's row restored", seconds(10), || {
        settings(&world, 10, primary).iter().all(|row| row == "7 100 rack 7")
    });
    println!("--- the writer's row restored after {:.1?}\n{}", began.elapsed(), world.proxy.layers());
    let written = world.nodes.written_on(primary);
    eventually("writes on the new primary", seconds(20), || world.nodes.written_on(primary) > written + 100);
    assert_eq!(world.nodes.written_on(1), before, "no write reaches the old primary");
    assert_eq!(world.proxy.used(1), 0);

    repair(&mut world, primary);
    let repaired = Instant::now();
    eventually("it serves reads again", seconds(30), || {
        world.proxy.row("20", 1).is_some_and(|row| row.starts_with("ONLINE") && !row.contains("stonith"))
    });
    println!(
        "--- back {:.1?} after Orchestrator shows it as a replica: {}",
        repaired.elapsed(),
        world.proxy.all_rows()
    );
    assert_eq!(settings(&world, 20, 1)[0], "7 100 rack 7", "with what its row had before");
    world.proxy.ticks(3);
    assert_eq!(world.proxy.writer(), Some(primary));
    assert!(world.proxy.row("10", 1).is_none_or(|row| row.starts_with("OFFLINE_HARD")));
    println!("--- errors that clients saw: {:#?}", writers.end());
    println!("--- the daemon's log\n{}", world.proxy.stonith_log());
}

#[test]
fn where_nothing_says_that_hooks_are_on_what_they_took_out_stays_out() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let (mut world, writers, _hooks) = hooked(binaries, None, 0);
    let primary = fail_over(&mut world);
    let before = world.nodes.written_on(1);
    let is_out = |world: &World| world.proxy.row("20", 1).as_deref() == Some("OFFLINE_SOFT");
    eventually("node 1 taken out by the hooks", seconds(30), || is_out(&world) && world.proxy.row("10", 1).is_none());
    repair(&mut world, primary);
    // The proof ends the evidence against it, and its row stays.
    eventually("nothing speaks against it", seconds(30), || {
        let (status, _) = world.proxy.command(&["status"]);
        status.lines().any(|line| line.contains(&world.nodes.name(1)) && line.contains("no evidence against it"))
    });
    world.proxy.ticks(3);
    assert!(is_out(&world), "{}", world.proxy.all_rows());
    assert!(settings(&world, 10, primary).iter().all(|row| row.trim() == "1 1000"), "{}", world.proxy.layers());
    assert_eq!(world.nodes.written_on(1), before);
    assert!(!world.proxy.stonith_log().contains("Orchestrator's own hooks"));
    drop(writers);
}

#[test]
fn a_failover_that_fails_after_the_first_hook_leaves_no_writer_and_the_way_out_that_is_said_works() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let (mut world, writers, _hooks) = hooked(binaries, Some(200), 1);
    world.nodes.signal(1, "KILL");
    let is_out = |world: &World| world.proxy.row("10", 1).is_some_and(|row| row.starts_with("OFFLINE_SOFT"));
    eventually("the first hook", seconds(40), || is_out(&world));
    world.nodes.start(1);
    for n in 2..=NODES {
        eventually("a replica of node 1", seconds(40), || crate::by_hand::follows(&world, n, 1));
    }
    let said = || {
        let log = world.proxy.stonith_log();
        let line = log.lines().find(|line| line.contains("has no writer"))?.to_owned();
        Some(line)
    };
    eventually("it is said", seconds(90), || said().is_some());
    let line = said().unwrap();
    println!("--- {line}");
    assert!(is_out(&world), "{}", world.proxy.all_rows());
    let from = line.find("UPDATE mysql_servers").unwrap();
    let (way_out, _) = line[from..].split_once(" proxy=").unwrap();
    let (update, load) = way_out.split_once("; ").unwrap();
    world.proxy.admin(update);
    world.proxy.admin(load);
    eventually("a writer again", seconds(20), || world.proxy.writer() == Some(1) && world.proxy.write());
    println!("--- the daemon's log\n{}", world.proxy.stonith_log());
    drop(writers);
}
