//! The program against real ProxySQL, a real three-node Orchestrator and real MariaDB.

#[cfg(feature = "demo")]
#[path = "real/stage.rs"]
mod stage;
#[path = "real/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use proxysql_stonith::proxysql::{Admin, Credential, Settings, drive, observe};
use proxysql_stonith::secret::Secret;
use stonith_core::apply::Outcome;
use stonith_core::evidence::Kind;
use stonith_core::node::Node;
use stonith_core::plan::{Directive, Managed, Plan};
use stonith_core::policy::Policy;
use stonith_core::proof::Role;

use world::{Binaries, SESSIONS, World, Writers, eventually, node};

/// One world at a time: two cores hold no more.
static ONE_WORLD: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn one_at_a_time() -> std::sync::MutexGuard<'static, ()> {
    ONE_WORLD.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn apply(world: &World, n: usize, directive: Directive) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(apply_async(world, n, directive))
}

async fn apply_async(world: &World, n: usize, directive: Directive) -> Outcome {
    let credential = Credential { user: "radmin".into(), password: Secret::new("radmin") };
    let address = Node::new("127.0.0.1", world.admin_port).unwrap();
    let settings = Settings { address, credential, timeout: Duration::from_secs(5) };
    let mut admin = Admin::connect(&settings).await.unwrap();
    let view = observe(&mut admin, &Policy::default(), "test").await.unwrap();
    let directives = BTreeMap::from([(Node::new(&node(n), world.mysql_port).unwrap(), directive)]);
    let plan = Plan::new(Managed::of(&view, &Policy::default()), directives, &view);
    for change in &plan.changes {
        println!("plan: {change}");
    }
    let mut count = 0;
    let began = std::time::Instant::now();
    let mut log = |statement: &str| {
        count += 1;
        println!("  {statement}");
    };
    let outcome = drive(&mut admin, plan, "test-1".into(), &mut log).await.unwrap();
    println!("{count} statements in {:?}: {outcome:?}", began.elapsed());
    admin.close().await;
    outcome
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A world with the daemon at work and armed, and sessions of every kind that write.
fn guarded(binaries: Binaries) -> (World, Writers) {
    let mut world = World::start(binaries);
    world.start_daemon();
    eventually("the daemon armed", seconds(15), || world.command(&["status"]).0.contains("; armed"));
    let writers = Writers::start(&world);
    eventually("sessions that write", seconds(10), || world.written_on(1) > 20);
    (world, writers)
}

/// Waits until another node than 1 is the one writer, and says which.
fn new_primary(world: &World) -> usize {
    eventually("a new primary", seconds(40), || world.writer().is_some_and(|n| n != 1));
    world.writer().unwrap()
}

fn is_fenced_in_all_layers(world: &World, n: usize) -> bool {
    ["runtime_mysql_servers", "main.mysql_servers", "disk.mysql_servers"].iter().all(|table| {
        let host = node(n);
        let count = |more: &str| world.admin(&format!("SELECT count(*) FROM {table} WHERE hostname='{host}' {more}"));
        count("AND status IN ('ONLINE','SHUNNED')").trim() == "0"
            && count("AND comment LIKE '%[stonith:1 %'").trim() != "0"
    })
}

/// What the acceptance asks after every failover: the old primary stays out, and comes back once it is repaired.
fn stays_out_and_comes_back(
    mut world: World,
    writers: Writers,
    primary: usize,
    may_be_in_flight: usize,
    before: usize,
) {
    eventually("the old primary fenced", seconds(15), || is_fenced_in_all_layers(&world, 1) && world.used(1) == "0");
    let old = world.written_on(1);
    assert!(old - before <= may_be_in_flight, "{} writes reached the old primary after its return", old - before);
    std::thread::sleep(seconds(5));
    assert_eq!(world.written_on(1), old, "no write reaches it while it is fenced");
    let new = world.written_on(primary);
    assert!(new > 0);

    // The leader dies, and its downtime with it: the node stays out (I2).
    let leader = world.leader().expect("a leader");
    world.signal_raft(leader, "KILL");
    eventually("another leader", seconds(20), || world.leader().is_some_and(|other| other != leader));
    std::thread::sleep(seconds(4));
    assert!(is_fenced_in_all_layers(&world, 1));
    assert_eq!(world.written_on(1), old);
    let (status, code) = world.command(&["status"]);
    println!("--- status, fenced, after the leader was killed\n{status}");
    assert_eq!(code, 0);
    world.run_raft(leader);

    // ProxySQL restarts: it comes up with the fence.
    world.restart_proxysql();
    assert!(is_fenced_in_all_layers(&world, 1));

    // Repair: a replica again, the downtime ended.
    world.rebuild(1, primary);
    let leader = world.leader().expect("a leader");
    let (code, _) = world.get(leader, &format!("/api/end-downtime/{}/{}", node(1), world.mysql_port));
    assert_eq!(code, 200);
    eventually("it serves reads again", seconds(30), || world.rows("20").contains("127.0.1.1 ONLINE"));
    assert!(!world.rows("10").contains("127.0.1.1"), "and has no writer row: {}", world.rows("10"));
    std::thread::sleep(seconds(3));
    assert_eq!(world.writer(), Some(primary));
    assert!(!world.rows("10").contains("127.0.1.1 ONLINE"));
    let errors = writers.end();
    let written = |n| world.root(n, &format!("select count(*) from t.a where host='{}'", node(1)));
    eventually("the same rows on both", seconds(10), || written(1) == written(primary));
    assert!(!errors.iter().any(|error| error.contains("1290")), "no read-only errors: {errors:#?}");
    println!("--- errors that clients saw, failover included: {errors:#?}");
    println!("--- writes on the old primary after its return: {}; on the new one: {new}", old - before);
    assert_eq!(world.end_daemon("TERM"), Some(0));
    println!("--- the daemon's log\n{}", world.stonith_log());
}

#[test]
fn failover_by_sigkill_the_old_primary_gets_no_write_until_it_is_a_replica_again() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let (mut world, writers) = guarded(binaries);
    world.signal_node(1, "KILL");
    let primary = new_primary(&world);
    world.start_node(1);
    let before = world.written_on(1);
    stays_out_and_comes_back(world, writers, primary, 0, before);
}

#[test]
fn failover_by_sigstop_the_woken_primary_gets_no_new_write() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let (mut world, writers) = guarded(binaries);
    let before = world.written_on(1);
    world.signal_node(1, "STOP");
    let primary = new_primary(&world);
    eventually("the old primary fenced", seconds(15), || is_fenced_in_all_layers(&world, 1) && world.used(1) == "0");
    world.signal_node(1, "CONT");
    // What was on its way when the node hung may still commit (FACTS §4): one statement a session, and the last that
    // the node took before it stopped.
    stays_out_and_comes_back(world, writers, primary, 2 * SESSIONS.len(), before);
}

#[test]
fn a_cut_off_proxy_goes_out_of_service_and_comes_back_with_the_leader() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let (mut world, writers) = guarded(binaries);
    let before = (world.rows("10"), world.rows("20"));
    for n in 1..=3 {
        world.signal_raft(n, "STOP");
    }
    let cut = std::time::Instant::now();
    eventually("out of service", seconds(12), || {
        (1..=3).all(|n| is_fenced_in_all_layers(&world, n) && world.used(n) == "0")
    });
    println!("--- cut off: out of service after {:?}", cut.elapsed());
    assert!(!world.write());
    println!("10:\n{}20:\n{}", world.rows("10"), world.rows("20"));
    for n in 1..=3 {
        world.signal_raft(n, "CONT");
    }
    let healed = std::time::Instant::now();
    eventually("back in service", seconds(40), || (world.rows("10"), world.rows("20")) == before);
    println!("--- healed: back after {:?}, rows as before", healed.elapsed());
    eventually("writes", seconds(10), || world.write());
    drop(writers);
    assert_eq!(world.end_daemon("INT"), Some(0));
    println!("--- the daemon's log\n{}", world.stonith_log());
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
        eventually("the new primary", seconds(20), || world.writer() == Some(to));
        eventually("the old one as a reader", seconds(30), || {
            let host = node(from);
            !world.rows("10").contains(&host) && world.rows("20").contains(&format!("{host} ONLINE"))
        });
        println!("--- {from} -> {to}: 10:\n{}20:\n{}", world.rows("10"), world.rows("20"));
        let before = world.written_on(to);
        assert!((0..10).all(|_| world.write()));
        assert_eq!(world.written_on(to), before + 10);
    }
    assert_eq!(world.end_daemon("TERM"), Some(0));
    println!("--- the daemon's log\n{}", world.stonith_log());
}

#[test]
fn proxysqls_own_scheduler_fences_and_lets_back_without_a_daemon() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let mut world = World::start(binaries);
    world.schedule();
    eventually("armed", seconds(15), || world.command(&["status"]).0.contains("; armed"));
    assert!(world.write());
    world.signal_node(1, "KILL");
    let primary = new_primary(&world);
    world.start_node(1);
    eventually("the old primary fenced", seconds(15), || is_fenced_in_all_layers(&world, 1));
    let before = world.written_on(1);
    for _ in 0..20 {
        assert!(world.write());
    }
    assert_eq!(world.written_on(1), before);
    world.rebuild(1, primary);
    // By hand this time: what fenced it is released, but not while Orchestrator still shows it as a second primary.
    let name = format!("{}:{}", node(1), world.mysql_port);
    let mut text = String::new();
    eventually("let back by order", seconds(20), || {
        let code;
        (text, code) = world.command(&["unfence", &name, "--wait=10s"]);
        assert!(code == 0 || text.contains("make it a replica"), "{text}");
        code == 0
    });
    assert!(text.contains("let back on 1 of 1 configured"), "{text}");
    assert!(world.rows("20").contains("127.0.1.1 ONLINE") && !world.rows("10").contains("127.0.1.1"));
    std::thread::sleep(seconds(4));
    assert!(world.rows("20").contains("127.0.1.1 ONLINE"), "and it stays: {}", world.rows("20"));
    let log = std::fs::read_to_string(world.file("proxysql.log")).unwrap();
    println!("{}", log.lines().filter(|line| line.contains("row changed")).collect::<Vec<_>>().join("\n"));
}

#[test]
fn an_apply_on_the_real_proxysql_keeps_staged_edits_and_the_new_primary() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let mut world = World::start(binaries);
    world.admin("INSERT INTO mysql_servers(hostgroup_id,hostname,comment) VALUES (20,'staged','an operator''s')");
    world.admin("UPDATE mysql_servers SET weight=7 WHERE hostname='127.0.1.2'");
    world.admin(
        "INSERT INTO mysql_replication_hostgroups(writer_hostgroup,reader_hostgroup,comment) VALUES (50,60,'staged')",
    );
    let memory = world.admin("SELECT * FROM main.mysql_servers ORDER BY 1,2");
    assert!(world.write());
    world.signal_node(1, "KILL");
    eventually("a new primary", Duration::from_secs(30), || {
        let rows = world.rows("10");
        rows.contains("127.0.1.2 ONLINE") || rows.contains("127.0.1.3 ONLINE")
    });
    let mut pinned = world.client();
    pinned.send("create temporary table x (a int)");
    let fence =
        Directive::Fence { kind: Kind::Superseded, by: Some("127.0.1.2:3306".parse().unwrap()), sessions: true };
    let outcome = apply(&world, 1, fence.clone());
    assert!(matches!(&outcome, Outcome::Applied(done) if done.not_as_planned.is_empty()), "{outcome:?}");
    println!("10:\n{}20:\n{}", world.rows("10"), world.rows("20"));
    assert!(!world.rows("10").contains("127.0.1.1 ONLINE") && !world.rows("20").contains("127.0.1.1 ONLINE"));
    assert!(world.rows("10").contains("[stonith:1 superseded by=127.0.1.2:3306 was=ONLINE]"));
    assert!(world.admin("SELECT weight FROM main.mysql_servers WHERE hostname='127.0.1.2'").contains('7'));
    assert!(world.admin("SELECT weight FROM runtime_mysql_servers WHERE hostname='127.0.1.2'").contains('1'));
    assert!(!world.admin("SELECT hostname FROM runtime_mysql_servers").contains("staged"));
    assert!(world.admin("SELECT hostname FROM main.mysql_servers").contains("staged"));
    assert!(world.admin("SELECT writer_hostgroup FROM main.mysql_replication_hostgroups").contains("50"));
    assert!(!world.admin("SELECT writer_hostgroup FROM runtime_mysql_replication_hostgroups").contains("50"));
    assert_eq!(world.admin("SELECT name FROM main.sqlite_master WHERE name LIKE 'stonith%'"), "");
    // Carried out again, there is nothing to do.
    let again = apply(&world, 1, fence);
    assert!(matches!(again, Outcome::Applied(_)));
    // And back, as it was: memory is what it was to the byte.
    apply(&world, 1, Directive::Unfence(Role::AsBefore));
    assert_eq!(world.admin("SELECT * FROM main.mysql_servers ORDER BY 1,2"), memory);
    assert!(world.write());
}

/// `STONITH_SCENARIOS=with,repair` plays those only.
#[cfg(feature = "demo")]
#[test]
fn the_scenario_files_hold_on_the_real_programs() {
    use proxysql_stonith::scenario::Scenario;
    let wanted = std::env::var("STONITH_SCENARIOS").unwrap_or_default();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        if !wanted.is_empty() && !wanted.split(',').any(|one| one == name) {
            continue;
        }
        let Some(binaries) = Binaries::find() else { return };
        let _one = one_at_a_time();
        let scenario = Scenario::read(&std::fs::read_to_string(&file).unwrap()).unwrap();
        stage::play(World::start(binaries), &scenario);
    }
}
