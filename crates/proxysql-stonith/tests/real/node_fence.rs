//! The fence of the node itself, on real servers: `MYSQLD` puts MySQL in MariaDB's place.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::{Binaries, Running, Server, World, eventually};
use crate::{new_primary, one_at_a_time, seconds};

fn binaries() -> Option<Binaries> {
    if std::env::var_os("MYSQLD").is_some() { Binaries::with_mysql() } else { Binaries::find() }
}

/// A world whose agent may make nodes read-only, but for what is taken from its account.
fn world(binaries: Binaries, take: fn(&Server) -> &'static str) -> World {
    let world = World::start(binaries);
    let server = &world.nodes.server;
    let lack = take(server);
    world.nodes.root(
        1,
        &format!(
            "{} {lack}; create user backup@'%' identified by 'backup'; grant select on t.* to backup@'%'; \
             create table t.open (a int)",
            server.stonith_user()
        ),
    );
    let has_it = |n| world.nodes.root(n, "show tables in t like 'open'").contains("open");
    eventually("the account on all nodes", seconds(10), || (1..=3).all(has_it));
    let password = world.proxy.file("node.password");
    std::fs::write(&password, "node-secret\n").unwrap();
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
    let tls = match server.is_mysql() {
        true => format!("tls = \"verify-ca\"\nca_file = {:?}\n", world.nodes.ca()),
        false => String::new(),
    };
    world.proxy.set_config(&format!(
        "[node_fence]\nread_only = [\"superseded\", \"lost-in-recovery\"]\nuser = \"stonith\"\npassword_file = {password:?}\n\
         spare = [\"monitor\", \"backup\"]\n{tls}"
    ));
    world
}

fn is_read_only(world: &World, n: usize) -> bool {
    let variable = if world.nodes.server.is_mysql() { "super_read_only" } else { "read_only" };
    world.nodes.root(n, &format!("select @@global.{variable}")).trim() == "1"
}

/// How often a user has a session that does something.
fn sessions(world: &World, n: usize, user: &str) -> usize {
    let list = world.nodes.root(n, "show processlist");
    list.lines().filter(|line| line.split('\t').nth(1) == Some(user)).count()
}

fn client(world: &World, user: &str, statements: &str) -> Running {
    Running::start(world.nodes.client(1, user, statements), &world.proxy.file(&format!("{user}.log")))
}

fn status(world: &World) -> String {
    let (text, _) = world.proxy.command(&["status", "--json"]);
    text
}

fn ends(mut world: World) {
    assert_eq!(world.proxy.end_daemon("TERM"), Some(0));
    let log = world.proxy.stonith_log();
    let kept: String = std::fs::read_dir(world.proxy.file("state"))
        .unwrap()
        .filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok())
        .collect();
    assert!(kept.contains("\"unready\""), "control: {kept}");
    for shown in [&log, &kept, &status(&world)] {
        assert!(!shown.contains("node-secret"), "i11: {shown}");
    }
    println!("--- the daemon's log\n{log}");
}

/// A node that wakes with its sessions: their transactions are ended, replication and the spared account's session stay.
#[test]
fn a_woken_primary_is_made_read_only_and_its_clients_are_ended_but_for_who_is_spared() {
    let Some(binaries) = binaries() else { return };
    let _one = one_at_a_time();
    let mut world = world(binaries, |_| "select 1");
    world.proxy.start_daemon();
    eventually("the account is checked", seconds(10), || world.proxy.file("state").exists());
    assert!(!status(&world).contains("node-fence"), "{}", status(&world));

    let _open = client(&world, "app", "begin; insert into t.open values (1); select sleep(100)");
    let _idle = client(&world, "app", "select sleep(100)");
    let _backup = client(&world, "backup", "select sleep(100)");
    let mut dump = Command::new("mariadb-binlog");
    let (host, port) = (world.nodes.address(1), world.nodes.port.to_string());
    dump.args(["--no-defaults", "--read-from-remote-server", "--stop-never", "--stop-never-slave-server-id=99"]);
    dump.args(["-h", &host, "-P", &port, "-urepl", "-prepl", "binlog.000001"]).stdout(Stdio::null());
    let is_mysql = world.nodes.server.is_mysql();
    let _dump = (!is_mysql).then(|| Running::start(dump, &world.proxy.file("dump.log")));
    let dumps = |world: &World| world.nodes.root(1, "show processlist").matches("Binlog Dump").count();
    eventually("sessions", seconds(10), || sessions(&world, 1, "app") >= 2 && sessions(&world, 1, "backup") == 1);
    eventually("dumps", seconds(10), || dumps(&world) >= if is_mysql { 2 } else { 3 });

    world.nodes.signal(1, "STOP");
    let primary = new_primary(&world);
    eventually("fenced", seconds(15), || world.proxy.has_fenced(1));
    world.nodes.signal(1, "CONT");
    let woken = Instant::now();
    eventually("read-only", seconds(10), || is_read_only(&world, 1));
    println!("--- read-only is seen {:?} after it woke", woken.elapsed());
    eventually("its clients ended", seconds(10), || sessions(&world, 1, "app") == 0);
    eventually("verified", seconds(10), || status(&world).contains("\"state\": \"read-only\""));
    assert_eq!(sessions(&world, 1, "backup"), 1, "spared");
    if !is_mysql {
        assert!(dumps(&world) >= 1, "replication from it stays");
    }
    assert_eq!(world.nodes.root(1, "select count(*) from t.open").trim(), "0", "the open transaction is gone");
    assert!(!is_read_only(&world, primary), "never the new primary");
    println!("--- {}", status(&world));

    // An operator has the last word.
    world.nodes.root(1, "set global read_only=0");
    eventually("undone", seconds(10), || status(&world).contains("\"state\": \"undone\""));
    world.proxy.ticks(3);
    assert!(!is_read_only(&world, 1) && status(&world).contains("node-fence-undone"));
    ends(world);
}

/// A node that is down is met when it answers, before ProxySQL or anybody else could have set it so.
#[test]
fn a_node_that_returns_is_read_only_a_moment_after_its_first_answer() {
    let Some(binaries) = binaries() else { return };
    let _one = one_at_a_time();
    let mut world = world(binaries, |_| "select 1");
    world.proxy.start_daemon();
    world.nodes.signal(1, "KILL");
    let primary = new_primary(&world);
    eventually("waited for", seconds(15), || status(&world).contains("\"state\": \"waiting\""));
    let mut asked = world.nodes.client(1, "app", "select @@global.read_only");
    let asking = std::thread::spawn(move || {
        let (mut first, until) = (None, Instant::now() + Duration::from_secs(60));
        while Instant::now() < until {
            let sent = Instant::now();
            let answer = String::from_utf8(asked.output().unwrap().stdout).unwrap();
            if answer.trim() == "0" {
                first.get_or_insert(sent);
            }
            if answer.trim() == "1" {
                return first.map(|first| first.elapsed());
            }
        }
        panic!("it is never read-only");
    });
    world.nodes.start(1);
    match asking.join().unwrap() {
        Some(after) => println!("--- read-only is seen {after:?} after its first answer"),
        None => println!("--- it is read-only in its first answer"),
    }
    eventually("verified", seconds(10), || status(&world).contains("\"state\": \"read-only\""));
    assert!(is_read_only(&world, 1) && !is_read_only(&world, primary));
    assert!(world.proxy.has_fenced(1));
    ends(world);
}

#[test]
fn an_account_without_the_privilege_is_told_at_the_start_and_not_in_the_incident() {
    let Some(binaries) = binaries() else { return };
    let _one = one_at_a_time();
    let mut world = world(binaries, Server::take_from_stonith_user);
    let (text, code) = world.proxy.command(&["config", "check", "--connect"]);
    assert!(code != 0 && text.contains("the account lacks"), "{text}");
    world.proxy.start_daemon();
    eventually("told", seconds(15), || status(&world).contains("node-fence-unready"));
    println!("--- {}", status(&world));
    world.nodes.signal(1, "KILL");
    new_primary(&world);
    world.nodes.start(1);
    let said = "not read-only at the node itself; it is tried again: the account lacks";
    eventually("said again", seconds(20), || status(&world).contains(said));
    assert!(!is_read_only(&world, 1) && world.proxy.has_fenced(1), "ProxySQL's fence does not depend on it");
    ends(world);
}

/// MySQL protects the sessions of accounts with `SYSTEM_USER`. Orchestrator's account has all privileges there.
#[test]
fn a_session_that_the_account_may_not_end_is_told_and_the_node_is_read_only_all_the_same() {
    let Some(binaries) = Binaries::with_mysql() else { return };
    let _one = one_at_a_time();
    let mut world = world(binaries, |_| "revoke system_user on *.* from stonith@'%'");
    let (text, _) = world.proxy.command(&["config", "check", "--connect"]);
    assert!(text.contains("the account lacks SYSTEM_USER"), "{text}");
    world.proxy.start_daemon();
    eventually("told at the start", seconds(15), || status(&world).contains("lacks SYSTEM_USER"));
    let _open = client(&world, "orc", "begin; insert into t.open values (7); select sleep(40); commit");
    eventually("its session", seconds(10), || world.nodes.root(1, "show processlist").contains("sleep(40)"));
    world.nodes.signal(1, "STOP");
    new_primary(&world);
    eventually("fenced", seconds(15), || world.proxy.has_fenced(1));
    world.nodes.signal(1, "CONT");
    eventually("told", seconds(20), || status(&world).contains("node-fence-sessions-left"));
    let status = status(&world);
    assert!(status.contains("\"state\": \"read-only\"") && !status.contains("\"sessions_refused\": 0"), "{status}");
    assert!(is_read_only(&world, 1));
    eventually("its transaction is over", seconds(60), || {
        !world.nodes.root(1, "show processlist").contains("sleep(40)")
    });
    assert_eq!(world.nodes.root(1, "select count(*) from t.open").trim(), "0", "it cannot commit");
    ends(world);
}

/// A device whose power is a node's process. It knows the process by its address.
const AGENT: &str = r#"#!/bin/sh
while IFS='=' read -r name value; do
    case $name in action) action=$value;; plug) plug=$value;; esac
done
pids=$(pgrep -f -- "--bind-address=$plug ")
case $action in
metadata) echo '<resource-agent name="process"></resource-agent>';;
off) kill -KILL $pids;;
status) if [ -z "$pids" ]; then echo 'Status: OFF'; exit 2; fi; echo 'Status: ON';;
esac
"#;

#[test]
fn a_hung_primary_is_powered_off_after_its_failover_and_once_only() {
    let Some(binaries) = binaries() else { return };
    let _one = one_at_a_time();
    let mut world = World::start(binaries);
    let program = world.proxy.file("process-agent");
    let mut writer = Command::new("sh");
    writer.args(["-c", "printf %s \"$2\" > \"$1\" && chmod 700 \"$1\"", "sh"]).arg(&program).arg(AGENT);
    assert!(writer.status().unwrap().success());
    let plugs: Vec<String> =
        (1..=3).map(|n| format!("{:?} = {{ plug = {:?} }}", world.nodes.name(n), world.nodes.address(n))).collect();
    world.proxy.set_config(&format!(
        "[node_fence]\nfence_agent = [\"superseded\"]\n[[fence_agent]]\nname = \"process\"\nprogram = {program:?}\nnodes = {{ {} }}\n",
        plugs.join(", ")
    ));
    let (text, _) = world.proxy.command(&["config", "check", "--connect"]);
    assert_eq!(text.matches("could be powered off").count(), 3, "{text}");
    world.proxy.start_daemon();

    world.nodes.signal(1, "STOP");
    let primary = new_primary(&world);
    let promoted = Instant::now();
    eventually("off", seconds(20), || status(&world).contains("\"state\": \"off-confirmed\""));
    println!("--- off is confirmed {:?} after ProxySQL has the new primary", promoted.elapsed());
    assert!(world.proxy.has_fenced(1), "{}", world.proxy.all_rows());
    for n in 2..=3 {
        assert_eq!(world.nodes.root(n, "select 1").trim(), "1", "node {n} is left on");
    }
    assert_ne!(primary, 1);

    // An operator powers it on. It stays on, and fenced in ProxySQL.
    world.nodes.signal(1, "KILL"); // takes the ended process away
    world.nodes.start(1);
    world.proxy.ticks(5);
    assert_eq!(world.nodes.root(1, "select 1").trim(), "1");
    assert!(world.proxy.has_fenced(1));
    assert_eq!(world.proxy.end_daemon("TERM"), Some(0));
    println!("--- the daemon's log\n{}", world.proxy.stonith_log());
}
