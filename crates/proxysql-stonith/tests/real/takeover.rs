//! A planned takeover under writes: what clients see, with the hooks that drain and without (facts §5).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use serde_json::json;

use crate::world::{Access, Binaries, Proxy, World, eventually, login};
use crate::{one_at_a_time, seconds};

/// The interval between two units of work of a client. Ten clients make 50 writes a second.
const EVERY: Duration = Duration::from_millis(200);

/// How many clients there are of each kind, how each session begins, and the statements of a unit of work.
const KINDS: [(&str, usize, &str, &[&str]); 3] = [
    ("autocommit", 4, "select 1", &[INSERT]),
    ("short transactions", 3, "select 1", &["begin", INSERT, "commit"]),
    ("pinned autocommit=0", 3, "set autocommit=0, @pinned=1", &[INSERT, "commit"]),
];

/// Without `@`, which would pin the session to its connection.
const INSERT: &str = "insert into t.a (host) values ('client')";

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
        for (kind, count, opening, work) in KINDS {
            for _ in 0..count {
                let (end, seen, login) = (end.clone(), seen.clone(), unpinned(proxy));
                threads.push(std::thread::spawn(move || {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                    let mut last = Instant::now();
                    while !end.load(Ordering::Relaxed) {
                        let session = work_until(&end, login.clone(), opening, work, |_| note(&seen, kind, &mut last));
                        if let Err(error) = runtime.block_on(session) {
                            let mut seen = seen.lock().expect("what was seen");
                            let of_kind: &mut Seen = seen.entry(kind).or_default();
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

fn note(seen: &Mutex<BTreeMap<&'static str, Seen>>, kind: &'static str, last: &mut Instant) {
    let mut seen = seen.lock().expect("what was seen");
    let of_kind: &mut Seen = seen.entry(kind).or_default();
    of_kind.done += 1;
    of_kind.longest_pause = of_kind.longest_pause.max(last.elapsed().saturating_sub(EVERY));
    *last = Instant::now();
}

async fn work_until(
    end: &AtomicBool,
    login: mysql_async::Opts,
    opening: &str,
    work: &[&str],
    mut done: impl FnMut(()),
) -> Result<(), mysql_async::Error> {
    let mut session = mysql_async::Conn::new(login).await?;
    session.query_drop(opening).await?;
    while !end.load(Ordering::Relaxed) {
        for statement in work {
            session.query_drop(*statement).await?;
        }
        done(());
        tokio::time::sleep(EVERY).await;
    }
    session.disconnect().await
}

/// The error in a few words: its code, or that the session was lost.
fn error_of(error: &mysql_async::Error) -> String {
    match error {
        mysql_async::Error::Server(error) => {
            format!("{} {}", error.code, error.message.chars().take(60).collect::<String>())
        }
        _ => "session lost".to_owned(),
    }
}

/// A world with clients, whose Orchestrator runs the hooks if `hooked`.
fn world(binaries: Binaries, hooked: bool) -> (World, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("hook.toml");
    let hook = |hook: &str| {
        let (program, log) = (env!("CARGO_BIN_EXE_proxysql-stonith"), dir.path().join("hook.log"));
        json!([format!("{program} hook {hook} --config={} >>{} 2>&1", config.display(), log.display())])
    };
    let hooks = match hooked {
        true => json!({
            "PreGracefulTakeoverProcesses": hook("pre-graceful-takeover"),
            "PreFailoverProcesses": hook("pre-failover"),
            "PostFailoverProcesses": hook("post-failover"),
            "PostUnsuccessfulFailoverProcesses": hook("post-unsuccessful-failover"),
        }),
        false => json!({}),
    };
    let world = World::with_access(binaries, Access { config: hooks, ..Access::plain() });
    let endpoints: Vec<String> = world.raft.endpoints().iter().map(|url| format!("{url:?}")).collect();
    let text = format!(
        "orchestrator.endpoints = [{}]\nrun.state_dir = {:?}\n[[proxysql]]\naddress = \"{}:{}\"\n\
         user = \"radmin\"\npassword = \"radmin\"\naccept_lost_edits = true\n",
        endpoints.join(","),
        dir.path().join("state"),
        world.proxy.address(),
        world.proxy.admin_port,
    );
    fs::write(&config, text).expect("a config");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).expect("its mode");
    for set in ["mysql-monitor_read_only_interval=1500", "mysql-connect_timeout_server_max=10000"] {
        world.proxy.admin(&format!("SET {set}"));
    }
    world.proxy.admin("LOAD MYSQL VARIABLES TO RUNTIME");
    (world, dir)
}

/// A takeover and back under writes. Says what each kind of client saw, and prints it.
fn there_and_back(binaries: Binaries, hooked: bool) -> Vec<BTreeMap<&'static str, Seen>> {
    let (mut world, dir) = world(binaries, hooked);
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
        println!("--- takeover {from} -> {to}, {}", if hooked { "with the hooks" } else { "without hooks" });
        seen.iter().for_each(|(kind, seen)| println!("---   {kind}: {seen:?}"));
        all.push(seen);
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
fn a_planned_takeover_with_the_hooks_costs_each_client_one_error_at_most() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    for seen in there_and_back(binaries, true) {
        for kind in ["autocommit", "short transactions"] {
            let clients = KINDS.iter().find(|of| of.0 == kind).map_or(0, |of| of.1);
            assert!(seen[kind].errors.values().sum::<usize>() <= clients, "{kind}: {seen:?}");
            assert!(seen[kind].longest_pause <= seconds(4), "{kind}: {seen:?}");
        }
    }
}

#[test]
fn a_planned_takeover_without_the_hooks_costs_errors_the_control() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let errors = |seen: BTreeMap<&str, Seen>| seen.values().flat_map(|seen| seen.errors.values()).sum::<usize>();
    assert!(there_and_back(binaries, false).into_iter().map(errors).sum::<usize>() > 0);
}
