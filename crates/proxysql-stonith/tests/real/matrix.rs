//! The basic scenarios on each of the given versions. What was seen is printed as a table, past the harness's capture:
//!
//! ```sh
//! PROXYSQL_BINS=a:b:c ORCHESTRATOR_BINS=d:e MYSQLD=f cargo test -p proxysql-stonith --test real each_version
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::by_hand::follows;
use crate::world::{Binaries, World, eventually, now, say, version};
use crate::{fail_over, goes_out_of_service, guard, is_fenced_soon, new_primary, one_at_a_time, seconds};

/// What was seen so far: a scenario, and in a few words what came of it.
#[derive(Default)]
struct Seen(Vec<(&'static str, String)>);

impl Seen {
    fn note(&mut self, scenario: &'static str, seen: String) {
        say(format_args!("    {scenario}: {seen}"));
        self.0.push((scenario, seen));
    }
}

/// A story: several scenarios in one world. What it notes has held.
type Story = fn(Binaries, &mut Seen);

const STORIES: [(&str, Story); 2] = [("a node is killed", killed), ("a node hangs", hangs)];

#[test]
fn the_basic_scenarios_hold_on_each_version() {
    let _one = one_at_a_time();
    let (mut table, mut failed) = (String::new(), Vec::new());
    for binaries in Binaries::each() {
        let versions = [version(&binaries.proxysql), version(&binaries.orchestrator), binaries.server.version()];
        let versions = versions.join(" | ");
        say(format_args!("--- {versions}"));
        for (story, play) in STORIES {
            let mut seen = Seen::default();
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| play(binaries.clone(), &mut seen))) {
                let why = panic.downcast_ref::<String>().cloned();
                let why = why.or_else(|| panic.downcast_ref::<&str>().map(|why| (*why).to_owned())).unwrap_or_default();
                failed.push(format!("{versions}: {story}: {why}"));
                seen.note(story, format!("FAILED then: {}", why.lines().next().unwrap_or_default()));
            }
            for (scenario, seen) in seen.0 {
                table += &format!("| {versions} | {scenario} | {seen} |\n");
            }
        }
    }
    if !table.is_empty() {
        say(format_args!(
            "\n| ProxySQL | Orchestrator | nodes | scenario | seen |\n| --- | --- | --- | --- | --- |\n{table}"
        ));
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// In the order of `PROXYSQL_BINS`: ProxySQL is stopped, and the next version starts from its disk.
#[test]
fn fences_and_marks_outlive_each_upgrade_of_proxysql_under_a_running_agent() {
    let all = Binaries::each();
    let Some((first, next)) = all.split_first().filter(|(_, next)| !next.is_empty()) else { return };
    let _one = one_at_a_time();
    let (mut world, writers) = guard(World::start(first.clone()));
    let killed = now();
    let primary = fail_over(&mut world);
    is_fenced_soon(&world);
    let before = marks(&world);
    for binaries in next.iter().filter(|next| next.orchestrator == first.orchestrator) {
        world.proxy.upgrade(&binaries.proxysql);
        let version = world.proxy.admin("SELECT @@version");
        assert!(world.proxy.has_fenced(1) && marks(&world) == before, "{version}");
        eventually("the new primary among the writers", seconds(20), || world.proxy.writer() == Some(primary));
        takes_writes(&world, primary);
        world.proxy.ticks(4);
        assert!(world.proxy.has_fenced(1) && marks(&world) == before, "{version}");
        assert_eq!(world.nodes.written_after(1, killed), 0, "{version}");
        say(format_args!("--- upgraded to {}, fenced as before: {}", version.trim(), before.trim()));
    }
    drop(writers);
    comes_back(&mut world, primary, &mut Seen::default());
    println!("--- the daemon's log\n{}", world.proxy.stonith_log());
}

fn marks(world: &World) -> String {
    world.proxy.admin("SELECT DISTINCT comment FROM mysql_servers WHERE comment LIKE '%[stonith:1 %'")
}

/// Waits until something holds, and says how long that took.
fn until(what: &str, holds: impl FnMut() -> bool) -> String {
    let since = Instant::now();
    eventually(what, seconds(40), holds);
    format!("{:.1} s", since.elapsed().as_secs_f64())
}

/// An isolation, a failover by SIGKILL, and a planned takeover, beside what an operator has staged.
fn killed(binaries: Binaries, seen: &mut Seen) {
    let proxysql = version(&binaries.proxysql);
    let (mut world, writers) = guard(World::start(binaries));
    let before = world.proxy.all_rows();
    stage(&world);

    let cut = Instant::now();
    world.raft.members().for_each(|n| world.raft.signal(n, "STOP"));
    let after = goes_out_of_service(&world.proxy, cut).as_secs_f64();
    world.raft.members().for_each(|n| world.raft.signal(n, "CONT"));
    let back = until("rows as before", || world.proxy.all_rows() == before);
    eventually("writes", seconds(10), || world.proxy.write());
    seen.note("isolation and heal", format!("out {after:.1} s after the cut, rows as before {back} after the heal"));

    let killed = now();
    world.nodes.signal(1, "KILL");
    let primary = new_primary(&world);
    world.nodes.start(1);
    let fenced = until("node 1 fenced", || world.proxy.has_fenced(1) && world.proxy.used(1) == 0);
    takes_writes(&world, primary);
    world.proxy.ticks(3);
    let written = world.nodes.written_after(1, killed);
    assert_eq!(written, 0, "writes on the old primary since its death");
    seen.note("failover by KILL", format!("fenced {fenced} after the return, {written} writes on the old primary"));

    comes_back(&mut world, primary, seen);
    let errors = writers.end();
    assert!(!errors.iter().any(|error| error.contains("1290")), "{errors:#?}");
    let kept = is_staged_still(&world);
    assert!(kept || monitor_writes_memory(&proxysql), "an operator's staged rows are lost or live");
    let what = if kept { "staged still" } else { "live or lost: this monitor writes memory, and loads it" };
    seen.note("an operator's staged rows", what.to_owned());

    world.take_over(primary, 1);
    let moved = until("the planned takeover", || world.proxy.writer() == Some(1));
    let reads = until("the demoted primary as a reader", || {
        world.proxy.row("10", primary).is_none() && world.proxy.is_online("20", primary)
    });
    assert!((0..10).all(|_| world.proxy.write()));
    seen.note("planned takeover", format!("writer after {moved}, the demoted one reads {reads} later"));
    assert_eq!(world.proxy.end_daemon("TERM"), Some(0));
}

/// A failover of a primary that hangs, with its sessions, and wakes up.
fn hangs(binaries: Binaries, seen: &mut Seen) {
    let (mut world, writers) = guard(World::start(binaries));
    let used = world.proxy.used(1);
    assert!(used > 0, "sessions hold the primary");
    world.nodes.signal(1, "STOP");
    let stopped = now();
    let primary = new_primary(&world);
    let fenced = until("node 1 fenced", || world.proxy.has_fenced(1) && world.proxy.used(1) == 0);
    seen.note("sessions that hold a hung primary", format!("{used} connections in use, 0 with the fence"));
    let since = now();
    world.nodes.signal(1, "CONT");
    takes_writes(&world, primary);
    world.proxy.ticks(3);
    takes_writes(&world, primary);
    // What was on its way when it was fenced may still commit (facts §4): as much as clients sent until then.
    let (under_way, new) = (world.nodes.written_after(1, stopped), world.nodes.sent_after(1, since));
    assert!(world.nodes.sent_after(primary, since) > 0, "the control");
    assert_eq!(new, 0, "writes on the old primary that were sent after the fence");
    let figures = format!("fenced {fenced} after the promotion, {under_way} writes were under way, {new} new ones");
    seen.note("failover by SIGSTOP", figures);
    comes_back(&mut world, primary, seen);
    drop(writers);
    assert_eq!(world.proxy.end_daemon("TERM"), Some(0));
}

/// What an operator has staged: a row, a weight, and a pair.
fn stage(world: &World) {
    for statement in [
        "INSERT INTO mysql_servers(hostgroup_id,hostname,comment) VALUES (20,'staged','an operator''s')",
        "UPDATE mysql_servers SET weight=7 WHERE hostname='127.0.1.3'",
        "INSERT INTO mysql_replication_hostgroups(writer_hostgroup,reader_hostgroup) VALUES (50,60)",
    ] {
        world.proxy.admin(statement);
    }
    assert!(is_staged_still(world));
}

/// All of it is in memory, and in no other layer.
fn is_staged_still(world: &World) -> bool {
    let is_in = |layer: &str| {
        let servers =
            format!("FROM {layer}mysql_servers WHERE hostname='staged' AND comment='an operator''s' OR weight=7");
        let pairs = format!("FROM {layer}mysql_replication_hostgroups WHERE writer_hostgroup=50");
        let count = world.proxy.admin(&format!("SELECT (SELECT COUNT(*) {servers})+(SELECT COUNT(*) {pairs})"));
        count.trim().parse::<usize>().expect("a number")
    };
    [is_in("main."), is_in("runtime_"), is_in("disk.")] == [3, 0, 0]
}

/// Before 2.5.2 ProxySQL's monitor itself writes what it moves to memory, and loads that.
fn monitor_writes_memory(proxysql: &str) -> bool {
    let numbers: Vec<u32> = proxysql.split(['.', '-']).map_while(|number| number.parse().ok()).collect();
    numbers < vec![2, 5, 2]
}

/// The repaired node serves reads, and is no writer.
fn comes_back(world: &mut World, primary: usize, seen: &mut Seen) {
    // A replica that was ahead of the promoted one is left behind, with the old primary as its source. Without the
    // downtime Orchestrator would promote it as that one's successor.
    let other = 5 - primary;
    let since = Instant::now();
    while !follows(world, other, primary) && since.elapsed() < seconds(10) {
        world.proxy.ticks(1);
    }
    if !follows(world, other, primary) {
        say(format_args!("    (Orchestrator left node {other} behind: it is rebuilt)"));
        world.nodes.rebuild(other, primary);
    }
    world.nodes.rebuild(1, primary);
    world.downtime("end-downtime", 1, "");
    let back = until("node 1 serves reads", || world.proxy.is_online("20", 1));
    world.proxy.ticks(3);
    assert!(world.proxy.row("10", 1).is_none() && world.proxy.writer() == Some(primary), "{}", world.proxy.all_rows());
    seen.note("repair and return", format!("a reader {back} after the repair, no writer row"));
}

fn takes_writes(world: &World, primary: usize) {
    let before = world.nodes.written_on(primary);
    eventually("writes on the new primary", seconds(20), || world.nodes.written_on(primary) > before + 20);
}
