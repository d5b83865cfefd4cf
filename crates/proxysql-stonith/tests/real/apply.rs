//! One apply on the real ProxySQL, without an agent.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use proxysql_stonith::clock;
use proxysql_stonith::proxysql::{Admin, DriveError, Settings, drive, observe, probe};
use proxysql_stonith::secret::{Credential, Secret};
use stonith_core::apply::Outcome;
use stonith_core::evidence::EvidenceKind;
use stonith_core::managed::Managed;
use stonith_core::node::Node;
use stonith_core::plan::{Directive, Plan};
use stonith_core::policy::Policy;
use stonith_core::role::Role;

use crate::one_at_a_time;
use crate::world::{Binaries, Client, World, eventually};

const LOAD: &str = "LOAD MYSQL SERVERS TO RUNTIME";

fn apply(world: &World, n: usize, directive: Directive) -> Outcome {
    try_apply(world, n, directive, None).unwrap()
}

/// The same; it may break off. `at_load` runs just before the first LOAD is sent.
fn try_apply(world: &World, n: usize, directive: Directive, at_load: Option<Command>) -> Result<Outcome, DriveError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(apply_async(world, n, directive, at_load))
}

async fn apply_async(
    world: &World,
    n: usize,
    directive: Directive,
    mut at_load: Option<Command>,
) -> Result<Outcome, DriveError> {
    let credential = Credential { user: "radmin".into(), password: Secret::new("radmin") };
    let address = Node::new(&world.proxy.address(), world.proxy.admin_port).unwrap();
    let settings = Settings { address, socket: None, credential, tls: None, timeout: Duration::from_secs(5) };
    let mut admin = Admin::connect(&settings).await.unwrap();
    let probed = probe(&mut admin, false).await.unwrap();
    let view = observe(&mut admin, &probed, &Policy::default(), "test", None, 0).await.unwrap().view;
    let directives = BTreeMap::from([(Node::new(&world.nodes.address(n), world.nodes.port).unwrap(), directive)]);
    let plan = Plan::new(Managed::of(&view, &Policy::default()), directives, &view);
    for change in &plan.changes {
        println!("plan: {change}");
    }
    let mut count = 0;
    let began = Instant::now();
    let mut log = |statement: &str| {
        count += 1;
        println!("  {statement}");
        if let Some(mut command) = at_load.take_if(|_| statement == LOAD) {
            assert!(command.status().unwrap().success(), "{command:?}");
        }
    };
    let outcome = drive(&mut admin, &probed, plan, "test-1".into(), clock::boot_ms, &mut log).await;
    println!("{count} statements in {:?}: {outcome:?}", began.elapsed());
    if outcome.is_ok() {
        admin.close().await;
    }
    outcome
}

#[test]
fn an_apply_on_the_real_proxysql_keeps_staged_edits_and_the_new_primary() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let mut world = World::start(binaries);
    world.proxy.admin("INSERT INTO mysql_servers(hostgroup_id,hostname,comment) VALUES (20,'staged','an operator''s')");
    world.proxy.admin("UPDATE mysql_servers SET weight=7 WHERE hostname='127.0.1.2'");
    world.proxy.admin(
        "INSERT INTO mysql_replication_hostgroups(writer_hostgroup,reader_hostgroup,comment) VALUES (50,60,'staged')",
    );
    let memory = world.proxy.admin("SELECT * FROM main.mysql_servers ORDER BY 1,2");
    assert!(world.proxy.write());
    world.nodes.signal(1, "KILL");
    eventually("a new primary", Duration::from_secs(30), || {
        world.proxy.is_online("10", 2) || world.proxy.is_online("10", 3)
    });
    let mut pinned = Client::open(&world.proxy);
    pinned.send("create temporary table x (a int)");
    let fence = Directive::Fence {
        kind: EvidenceKind::Superseded,
        by: Some("127.0.1.2:3306".parse().unwrap()),
        sessions: true,
    };
    let outcome = apply(&world, 1, fence.clone());
    assert!(matches!(&outcome, Outcome::Applied(done) if done.not_as_planned.is_empty()), "{outcome:?}");
    println!("{}", world.proxy.all_rows());
    // Every row of it, whichever there are: ProxySQL's monitor takes the dead primary out of the writer hostgroup at
    // the third check in a row whose connection was refused, and Orchestrator may be faster or slower than that.
    assert!(world.proxy.has_fenced(1));
    let note = "[stonith:1 superseded by=127.0.1.2:3306 was=ONLINE]";
    let rows = ["10", "20"].map(|hostgroup| world.proxy.row(hostgroup, 1));
    assert!(rows.iter().flatten().all(|row| row.contains(note)), "{rows:?}");
    assert!(world.proxy.admin("SELECT weight FROM main.mysql_servers WHERE hostname='127.0.1.2'").contains('7'));
    assert!(world.proxy.admin("SELECT weight FROM runtime_mysql_servers WHERE hostname='127.0.1.2'").contains('1'));
    assert!(!world.proxy.admin("SELECT hostname FROM runtime_mysql_servers").contains("staged"));
    assert!(world.proxy.admin("SELECT hostname FROM main.mysql_servers").contains("staged"));
    assert!(world.proxy.admin("SELECT writer_hostgroup FROM main.mysql_replication_hostgroups").contains("50"));
    assert!(!world.proxy.admin("SELECT writer_hostgroup FROM runtime_mysql_replication_hostgroups").contains("50"));
    assert_eq!(world.proxy.admin("SELECT name FROM main.sqlite_master WHERE name LIKE 'stonith%'"), "");
    // Carried out again, there is nothing to do.
    let again = apply(&world, 1, fence);
    assert!(matches!(again, Outcome::Applied(_)));
    // And back, as it was: memory is what it was to the byte.
    apply(&world, 1, Directive::Unfence(Role::AsBefore));
    assert_eq!(world.proxy.admin("SELECT * FROM main.mysql_servers ORDER BY 1,2"), memory);
    assert!(world.proxy.write());
}

#[test]
fn a_dead_primary_that_the_monitor_took_out_of_the_writers_is_fenced_where_it_is_now() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let mut world = World::start(binaries);
    world.nodes.signal(1, "KILL");
    let killed = Instant::now();
    eventually("its row moved by ProxySQL's monitor", Duration::from_secs(20), || {
        world.proxy.row("10", 1).is_none() && world.proxy.row("20", 1).is_some()
    });
    println!("--- {:.1?} after its death: {}", killed.elapsed(), world.proxy.all_rows());
    eventually("a new primary", Duration::from_secs(30), || world.proxy.writer().is_some());
    let primary = world.proxy.writer();
    let outcome = apply(&world, 1, Directive::Fence { kind: EvidenceKind::Superseded, by: None, sessions: true });
    assert!(matches!(&outcome, Outcome::Applied(done) if done.not_as_planned.is_empty()), "{outcome:?}");
    // It comes back writable: the monitor, which would make it a writer again, does not look at it any more.
    world.nodes.start(1);
    let log = std::fs::read_to_string(world.proxy.file("proxysql.log")).unwrap().len();
    world.proxy.checks(8); // four rounds of the two others
    println!("--- returned and fenced: {}", world.proxy.all_rows());
    assert!(world.proxy.has_fenced(1) && world.proxy.row("10", 1).is_none());
    assert_eq!(world.proxy.writer(), primary);
    let since = std::fs::read_to_string(world.proxy.file("proxysql.log")).unwrap().split_off(log);
    assert!(!since.contains(&world.nodes.address(1)), "{since}");
}

/// The primary is dead and another one promoted, an operator has a weight staged, and this is the fence that is due.
fn failed_over_beside_a_staged_weight(binaries: Binaries) -> (World, Directive) {
    let mut world = World::start(binaries);
    world.proxy.admin("UPDATE mysql_servers SET weight=7 WHERE hostname='127.0.1.3'");
    world.nodes.signal(1, "KILL");
    eventually("a new primary", Duration::from_secs(30), || {
        world.proxy.is_online("10", 2) || world.proxy.is_online("10", 3)
    });
    (world, Directive::Fence { kind: EvidenceKind::Superseded, by: None, sessions: false })
}

/// The weight that an operator staged, or not.
fn staged(world: &World, layer: &str) -> String {
    world.proxy.admin(&format!("SELECT weight FROM {layer}mysql_servers WHERE hostname='127.0.1.3'"))
}

/// ProxySQL hangs when our LOAD comes, and carries it out when it wakes: long after we gave it up (C11).
#[test]
fn a_load_that_runs_after_it_was_given_up_leaves_the_fence_in_force_and_is_finished() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let (world, fence) = failed_over_beside_a_staged_weight(binaries);
    let loads = world.proxy.loads();
    let given_up = try_apply(&world, 1, fence.clone(), Some(world.proxy.stop()));
    assert!(matches!(given_up, Err(DriveError::Admin(_))), "{given_up:?}");
    assert!(world.proxy.signal("CONT").status().unwrap().success());
    eventually("the LOAD that was given up runs", Duration::from_secs(10), || world.proxy.loads() == loads + 1);
    println!("--- it ran late: {}", world.proxy.all_rows());
    let out = |row: &str| row.starts_with("OFFLINE_SOFT");
    let fenced_rows = || ["10", "20"].map(|hostgroup| world.proxy.row(hostgroup, 1)).into_iter().flatten();
    assert!(fenced_rows().count() > 0 && fenced_rows().all(|row| out(&row)), "{}", world.proxy.all_rows());
    let finished = apply(&world, 1, fence);
    assert!(matches!(&finished, Outcome::Applied(done) if done.finished_earlier), "{finished:?}");
    assert!(world.proxy.has_fenced(1), "{}", world.proxy.all_rows());
    assert!(world.proxy.writer().is_some_and(|n| n != 1), "{}", world.proxy.all_rows());
    assert!(staged(&world, "main.").contains('7') && !staged(&world, "runtime_").contains('7'));
    assert_eq!(world.proxy.admin("SELECT name FROM main.sqlite_master WHERE name LIKE 'stonith%'"), "");
}

/// What the program lends is not what an operator's SAVE is to leave on disk (C2).
#[test]
fn an_operators_save_while_memory_is_lent_saves_what_was_staged() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let (world, fence) = failed_over_beside_a_staged_weight(binaries);
    let save = world.proxy.admin_command("SAVE MYSQL SERVERS TO DISK");
    let outcome = try_apply(&world, 1, fence, Some(save));
    assert!(matches!(&outcome, Ok(Outcome::Applied(done)) if done.save_made_up == Some(true)), "{outcome:?}");
    assert!(staged(&world, "disk.").contains('7') && staged(&world, "main.").contains('7'));
    assert!(!staged(&world, "runtime_").contains('7'), "nobody loaded it");
    assert!(world.proxy.has_fenced(1), "{}", world.proxy.all_rows());
}
