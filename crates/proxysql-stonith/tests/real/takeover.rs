//! A planned takeover under writes: what clients see, with the hooks that drain and without (facts §5).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use serde_json::json;

use crate::world::{Access, Binaries, Proxy, World, eventually, free_port, login};
use crate::{one_at_a_time, seconds};

/// Clients that do alike.
struct Kind {
    name: &'static str,
    clients: usize,
    /// How a session begins.
    opening: &'static str,
    /// The statements of a unit of work.
    work: &'static [&'static str],
    /// The pause between two units of work.
    every: Duration,
}

/// The interval of most clients, of which each makes five units of work a second.
const EVERY: Duration = Duration::from_millis(200);

/// They make 50 writes a second.
const KINDS: [Kind; 5] = [
    Kind { name: "autocommit", clients: 3, opening: "select 1", work: &[INSERT], every: EVERY },
    Kind { name: "seldom", clients: 3, opening: "select 1", work: &[INSERT], every: Duration::from_millis(1_700) },
    Kind { name: "last insert", clients: 1, opening: "select 1", work: &[INSERT, AFTER], every: EVERY },
    Kind {
        name: "short transactions",
        clients: 3,
        opening: "select 1",
        work: &["begin", INSERT, "commit"],
        every: EVERY,
    },
    Kind { name: PINNED, clients: 2, opening: "set autocommit=0, @pinned=1", work: &[INSERT, "commit"], every: EVERY },
];

const PINNED: &str = "pinned autocommit=0";

/// What the longest pause of a client may be on a loaded machine. Most of it is Orchestrator's. The goal is 2 s.
const PAUSE: Duration = Duration::from_secs(4);

/// Without `@`, which would pin the session to its connection.
const INSERT: &str = "insert into t.a (host) values ('client')";

/// Uses the key of the insert before it, outside a transaction.
const AFTER: &str = "insert into t.a (host) values (concat('after ', last_insert_id()))";

/// What the clients of one kind saw.
#[derive(Debug, Default)]
struct Seen {
    done: usize,
    errors: BTreeMap<String, usize>,
    longest_pause: Duration,
}

/// Clients of every kind at work.
struct Clients {
    end: Arc<AtomicBool>,
    seen: Arc<Mutex<BTreeMap<&'static str, Seen>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    fn start(proxy: &Proxy) -> Self {
        let (end, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeMap::new())));
        let mut threads = Vec::new();
        for kind in &KINDS {
            for _ in 0..kind.clients {
                let (end, seen, login) = (end.clone(), seen.clone(), unpinned(proxy));
                threads.push(std::thread::spawn(move || {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                    let mut last = Instant::now();
                    while !end.load(Ordering::Relaxed) {
                        let session = work_until(&end, login.clone(), kind, |()| note(&seen, kind, &mut last));
                        if let Err(error) = runtime.block_on(session) {
                            let mut seen = seen.lock().expect("what was seen");
                            let of_kind: &mut Seen = seen.entry(kind.name).or_default();
                            *of_kind.errors.entry(error_of(&error)).or_default() += 1;
                        }
                    }
                }));
            }
        }
        Self { end, seen, threads }
    }

    fn done(&self) -> usize {
        self.seen.lock().expect("what was seen").values().map(|seen| seen.done).sum()
    }

    /// Forgets the errors and pauses so far.
    fn forget(&self) {
        let mut seen = self.seen.lock().expect("what was seen");
        seen.values_mut().for_each(|seen| (seen.errors, seen.longest_pause) = Default::default());
    }

    fn end(self) -> BTreeMap<&'static str, Seen> {
        self.end.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("a client"));
        Arc::try_unwrap(self.seen).expect("its only owner").into_inner().expect("what was seen")
    }
}

/// A login that asks nothing of the server: `SELECT @@max_allowed_packet` would pin the session to its connection.
fn unpinned(proxy: &Proxy) -> mysql_async::Opts {
    let builder = mysql_async::OptsBuilder::from_opts(login(proxy));
    builder.max_allowed_packet(Some(16 << 20)).wait_timeout(Some(600)).into()
}

fn note(seen: &Mutex<BTreeMap<&'static str, Seen>>, kind: &Kind, last: &mut Instant) {
    let mut seen = seen.lock().expect("what was seen");
    let of_kind: &mut Seen = seen.entry(kind.name).or_default();
    of_kind.done += 1;
    of_kind.longest_pause = of_kind.longest_pause.max(last.elapsed().saturating_sub(kind.every));
    *last = Instant::now();
}

async fn work_until(
    end: &AtomicBool,
    login: mysql_async::Opts,
    kind: &Kind,
    mut done: impl FnMut(()),
) -> Result<(), mysql_async::Error> {
    let mut session = mysql_async::Conn::new(login).await?;
    session.query_drop(kind.opening).await?;
    while !end.load(Ordering::Relaxed) {
        for statement in kind.work {
            session.query_drop(*statement).await?;
        }
        done(());
        tokio::time::sleep(kind.every).await;
    }
    session.disconnect().await
}

const LOST: &str = "session lost";

/// The error in a few words: its code, or that the session was lost.
fn error_of(error: &mysql_async::Error) -> String {
    match error {
        mysql_async::Error::Server(error) => {
            format!("{} {}", error.code, error.message.chars().take(60).collect::<String>())
        }
        _ => LOST.to_owned(),
    }
}

/// How the hooks that Orchestrator runs reach ProxySQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hooks {
    /// There are none.
    Absent,
    /// By its admin port, from their own config.
    Direct,
    /// By its agent's HTTP only.
    ByAgent,
}

const DELAY: &str = "mysql-auto_increment_delay_multiplex_timeout_ms";

/// A world whose Orchestrator runs the hooks.
fn world(binaries: Binaries, hooks: Hooks) -> (World, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("hook.toml");
    let hook = |hook: &str| {
        let (program, log) = (env!("CARGO_BIN_EXE_proxysql-stonith"), dir.path().join("hook.log"));
        json!([format!("{program} hook {hook} --config={} >>{} 2>&1", config.display(), log.display())])
    };
    let lines = match hooks {
        Hooks::Direct | Hooks::ByAgent => json!({
            "PreGracefulTakeoverProcesses": hook("pre-graceful-takeover"),
            "PreFailoverProcesses": hook("pre-failover"),
            "PostFailoverProcesses": hook("post-failover"),
            "PostUnsuccessfulFailoverProcesses": hook("post-unsuccessful-failover"),
        }),
        Hooks::Absent => json!({}),
    };
    let world = World::with_access(binaries, Access { config: lines, ..Access::plain() });
    let proxy = match hooks {
        Hooks::Absent | Hooks::Direct => admin_port_of(&world.proxy),
        Hooks::ByAgent => {
            let (listen, token) = (format!("{}:{}", world.proxy.address(), free_port()), dir.path().join("token"));
            write(&token, "sesame-token");
            world.proxy.set_config(&format!("[http]\nlisten = \"{listen}\"\ntoken_file = {token:?}\n"));
            format!("[barrier]\nagents = [\"http://{listen}\"]\ntoken_file = {token:?}\n")
        }
    };
    write(&config, &(config_of_hook(&world, &dir) + &proxy));
    for set in ["mysql-monitor_read_only_interval=1500", "mysql-connect_timeout_server_max=10000"] {
        world.proxy.admin(&format!("SET {set}"));
    }
    world.proxy.admin("LOAD MYSQL VARIABLES TO RUNTIME");
    (world, dir)
}

fn write(file: &Path, text: &str) {
    fs::write(file, text).expect("a file");
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("its mode");
}

/// A takeover and back under writes. Says what each kind of client saw, and prints it.
fn there_and_back(binaries: Binaries, hooks: Hooks) -> Vec<BTreeMap<&'static str, Seen>> {
    let (mut world, dir) = world(binaries, hooks);
    world.proxy.start_daemon();
    let mut all = Vec::new();
    for (from, to) in [(1, 2), (2, 1)] {
        let clients = Clients::start(&world.proxy);
        eventually("clients that write", seconds(20), || clients.done() > 100);
        clients.forget();
        world.take_over(from, to);
        eventually("the new primary", seconds(20), || world.proxy.writer() == Some(to));
        let done = clients.done();
        eventually("writes", seconds(20), || clients.done() > done + 100);
        let seen = clients.end();
        println!("--- takeover {from} -> {to}, hooks: {hooks:?}");
        seen.iter().for_each(|(kind, seen)| println!("---   {kind}: {seen:?}"));
        all.push(seen);
        let strays = world.nodes.root(to, "select count(*) from t.a where host='after 0'");
        println!("--- inserts that lost the key before them: {}", strays.trim());
        assert_eq!((strays.trim(), in_force(&world, DELAY).as_str()), ("0", "10000"));
        println!("--- the hooks\n{}", fs::read_to_string(dir.path().join("hook.log")).unwrap_or_default());
        eventually("the old one as a reader", seconds(40), || {
            world.proxy.row("10", from).is_none() && world.proxy.is_online("20", from)
        });
        eventually("every replica follows", seconds(40), || {
            (1..=3).filter(|n| *n != to).all(|n| crate::by_hand::follows(&world, n, to))
        });
        std::thread::sleep(seconds(2));
    }
    println!("--- the daemon's log\n{}", world.proxy.stonith_log());
    all
}

#[test]
fn a_planned_takeover_with_the_hooks_costs_autocommit_and_short_transactions_no_error() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    for seen in there_and_back(binaries, Hooks::Direct) {
        costs_nothing(&seen);
    }
}

#[test]
fn a_planned_takeover_costs_no_error_where_the_hooks_reach_the_agents_only() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    for seen in there_and_back(binaries, Hooks::ByAgent) {
        costs_nothing(&seen);
    }
}

/// Only pinned sessions see that they were ended.
fn costs_nothing(seen: &BTreeMap<&str, Seen>) {
    for (kind, seen) in seen {
        let is_ended = |error: &String| *kind == PINNED && error == LOST;
        assert!(seen.errors.keys().all(is_ended), "{kind}: {seen:?}");
        assert!(seen.errors.values().sum::<usize>() <= 2, "{kind}: {seen:?}");
        assert!(seen.longest_pause <= PAUSE, "{kind}: {seen:?}");
    }
}

/// The hook is killed while it waits for a session that stays after its insert.
#[test]
fn what_a_drain_lent_that_was_killed_is_put_back_by_the_agent() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let (mut world, dir) = world(binaries, Hooks::Direct);
    world.proxy.start_daemon();
    let _clients = Clients::start(&world.proxy);
    let _idle = idle_after_insert(&world.proxy);
    let mut hook = hook(&world, &dir, "pre-graceful-takeover");
    eventually("the variable is lowered", seconds(5), || in_force(&world, DELAY) == "70");
    let noted =
        || world.proxy.admin("SELECT count(*) FROM main.sqlite_master WHERE name='stonith_drain'").trim() == "1";
    assert!(noted());
    hook.kill().expect("killed");
    hook.wait().expect("its end");
    eventually("the agent puts it back", seconds(10), || in_force(&world, DELAY) == "10000" && !noted());
    assert_eq!(in_force(&world, "mysql-show_processlist_extended"), "0");
    assert!(world.proxy.is_online("10", 1));
}

/// A session that stays on its server after an insert, with what drives it.
fn idle_after_insert(proxy: &Proxy) -> (tokio::runtime::Runtime, mysql_async::Conn) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let session = runtime.block_on(async {
        let mut session = mysql_async::Conn::new(unpinned(proxy)).await.expect("a session");
        session.query_drop(INSERT).await.expect("an insert");
        session
    });
    (runtime, session)
}

/// Starts a hook as Orchestrator does around a planned takeover of node 1.
fn hook(world: &World, dir: &tempfile::TempDir, name: &str) -> std::process::Child {
    let mut hook = std::process::Command::new(env!("CARGO_BIN_EXE_proxysql-stonith"));
    hook.args(["hook", name]).arg(format!("--config={}", dir.path().join("hook.toml").display()));
    hook.env("ORC_FAILED_HOST", world.nodes.address(1)).env("ORC_FAILED_PORT", world.nodes.port.to_string());
    hook.env("ORC_COMMAND", "graceful-master-takeover");
    hook.spawn().expect("the hook")
}

/// What the config of a hook says, without what it has to reach ProxySQL.
fn config_of_hook(world: &World, dir: &tempfile::TempDir) -> String {
    let endpoints: Vec<String> = world.raft.endpoints().iter().map(|url| format!("{url:?}")).collect();
    format!("orchestrator.endpoints = [{}]\nrun.state_dir = {:?}\n", endpoints.join(","), dir.path().join("state"))
}

/// What it has to reach the first ProxySQL by its admin port.
fn admin_port_of(proxy: &Proxy) -> String {
    format!(
        "[[proxysql]]\naddress = \"{}:{}\"\nuser = \"radmin\"\npassword = \"radmin\"\naccept_lost_edits = true\n",
        proxy.address(),
        proxy.admin_port,
    )
}

/// A peer of a ProxySQL Cluster copies a member's variables after it has seen the same changed values three times in a row.
#[test]
fn what_a_drain_lends_of_a_member_of_a_cluster_spreads_to_no_other_and_to_no_disk() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let world = World::with_a_cluster(binaries);
    let dir = tempfile::tempdir().expect("a directory");
    write(&dir.path().join("hook.toml"), &(config_of_hook(&world, &dir) + &admin_port_of(&world.proxy)));
    let _clients = Clients::start(&world.proxy);
    let _idle = idle_after_insert(&world.proxy);
    let first = delays(&world);
    let mut looks = vec![first.clone()];
    let began = Instant::now();
    let mut drain = hook(&world, &dir, "pre-graceful-takeover");
    while drain.try_wait().expect("its state").is_none() {
        let now = delays(&world);
        if looks.last() != Some(&now) {
            println!("--- after {:.1?} {:?}", began.elapsed(), now);
            looks.push(now);
        }
    }
    println!("--- the drain ended after {:.1?}", began.elapsed());
    assert!(drain.wait().expect("its end").success() && world.proxy.has_fenced(1));
    assert!(hook(&world, &dir, "post-unsuccessful-failover").wait().expect("its end").success());
    eventually("the old primary serves again", seconds(20), || world.proxy.is_online("10", 1));
    world.proxies().for_each(|proxy| proxy.checks(5));
    looks.push(delays(&world));
    assert_eq!(looks.last(), Some(&first));
    let lent: BTreeSet<&str> = looks.iter().map(|look| &*look[0][0]).filter(|delay| delay.len() == 2).collect();
    assert!(lent.len() > 1, "it was lent, and again: {looks:?}");
    for look in &looks {
        assert_eq!((&look[1..], &look[0][2]), (&first[1..], &first[0][2]), "nothing spreads, and nothing is saved");
    }

    // The control: a value that stays.
    world.proxy.admin(&format!("SET {DELAY}=70"));
    world.proxy.admin("LOAD MYSQL VARIABLES TO RUNTIME");
    let loaded = Instant::now();
    let taken = vec![["70"; 3].map(str::to_owned); 2];
    eventually("the peers have it on their disks", seconds(20), || delays(&world).split_off(1) == taken);
    println!("--- the peers have a variable of another member on their disks {:.1?} after its LOAD", loaded.elapsed());
}

/// The delay in runtime, memory and on disk, of each ProxySQL.
fn delays(world: &World) -> Vec<[String; 3]> {
    let of = |proxy: &Proxy, table: &str| {
        let sql = format!("SELECT variable_value FROM {table} WHERE variable_name='{DELAY}'");
        proxy.admin(&sql).trim().to_owned()
    };
    let tables = ["runtime_global_variables", "main.global_variables", "disk.global_variables"];
    world.proxies().map(|proxy| tables.map(|table| of(proxy, table))).collect()
}

/// A variable of ProxySQL's runtime.
fn in_force(world: &World, variable: &str) -> String {
    let sql = format!("SELECT variable_value FROM runtime_global_variables WHERE variable_name='{variable}'");
    world.proxy.admin(&sql).trim().to_owned()
}

#[test]
fn a_planned_takeover_without_the_hooks_costs_errors_the_control() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let errors = |seen: BTreeMap<&str, Seen>| seen.values().flat_map(|seen| seen.errors.values()).sum::<usize>();
    assert!(there_and_back(binaries, Hooks::Absent).into_iter().map(errors).sum::<usize>() > 0);
}
