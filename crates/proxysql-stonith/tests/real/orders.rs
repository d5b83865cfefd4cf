//! Orders of an operator, with sessions of every kind at work.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};

use crate::world::{Binaries, Client, OUTSIDER, World, eventually, login, login_as};
use crate::{one_at_a_time, seconds};

/// How many sessions of another application are in the middle of a transaction.
const UNRELATED: usize = 20;

/// Another application on the same ProxySQL: hostgroup 30, a server and a user of its own.
pub fn add_another_application(world: &mut World) {
    world.nodes.add(OUTSIDER);
    world.nodes.root(
        OUTSIDER,
        "create user monitor@'%' identified by 'monitor'; create user other@'%' identified by 'other'; \
         create database t; create table t.b (id int auto_increment primary key, n int); grant all on t.* to other@'%'",
    );
    let (host, port) = (world.nodes.address(OUTSIDER), world.nodes.port);
    world
        .proxy
        .edit_servers(&[&format!("INSERT INTO mysql_servers(hostgroup_id,hostname,port) VALUES (30,'{host}',{port})")]);
    world.proxy.admin("INSERT INTO mysql_users(username,password,default_hostgroup) VALUES ('other','other',30)");
    world.proxy.admin("LOAD MYSQL USERS TO RUNTIME");
}

/// Sessions of the other application, each in a transaction that has written.
async fn unrelated_sessions(world: &World) -> Result<Vec<Conn>, Error> {
    let mut sessions = Vec::new();
    for n in 0..UNRELATED {
        let mut session = Conn::new(login_as(&world.proxy, "other")).await?;
        session.query_drop("begin").await?;
        session.query_drop(format!("insert into t.b (n) values ({n})")).await?;
        sessions.push(session);
    }
    Ok(sessions)
}

/// A session that holds node 1 by a temporary table, while the server that it used last is another one.
async fn hidden_session(world: &World) -> Result<Conn, Error> {
    let mut session = Conn::new(login(&world.proxy)).await?;
    session.query_drop("create temporary table x (a int)").await?;
    let node_1 = world.nodes.address(1);
    loop {
        let reader: Option<String> = session.query_first("select @@report_host as READER").await?;
        if reader.is_some_and(|host| host != node_1) {
            return Ok(session);
        }
    }
}

/// Each of them writes once more, in the transaction that it is in. How many could.
async fn write_on(sessions: &mut [Conn]) -> usize {
    let mut written = 0;
    for session in sessions {
        written += usize::from(session.query_drop("insert into t.b (n) values (0)").await.is_ok());
    }
    written
}

#[test]
fn a_hidden_session_on_a_fenced_node_is_ended_and_no_transaction_of_another_application() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let mut world = World::start(binaries);
    add_another_application(&mut world);
    world.proxy.start_daemon();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut unrelated = runtime.block_on(unrelated_sessions(&world)).unwrap();
    let name = world.nodes.name(1);
    // With a variable that somebody has staged, ProxySQL can't be told to list what a session holds.
    for staged in ["", "SET mysql-max_connections=1234"] {
        if !staged.is_empty() {
            world.proxy.admin(staged);
        }
        let mut hidden = runtime.block_on(hidden_session(&world)).unwrap();
        assert_eq!(world.proxy.used(1), 1);
        let ordered = Instant::now();
        let (said, code) = world.proxy.command(&["fence", &name, "--level=sessions", "--wait=10s", "--yes"]);
        println!("--- fenced in {:.1?}, staged {staged:?}: {said}", ordered.elapsed());
        assert_eq!((code, world.proxy.used(1)), (0, 0), "{said}");
        assert!(world.proxy.has_fenced(1));
        world.proxy.ticks(3);
        let died = runtime.block_on(hidden.query_drop("insert into t.a (host) select 'hidden'"));
        println!("--- the hidden session: {died:?}");
        assert!(died.is_err());
        assert_eq!(runtime.block_on(write_on(&mut unrelated)), UNRELATED, "all of the other application's live");
        let (said, code) = world.proxy.command(&["unfence", &name, "--wait=10s"]);
        assert_eq!(code, 0, "{said}");
    }
    let live = "SELECT variable_value FROM runtime_global_variables WHERE variable_name='mysql-max_connections'";
    assert_ne!(world.proxy.admin(live).trim(), "1234", "what was staged is staged still");
    assert_eq!(world.proxy.admin(&live.replace("runtime_", "")).trim(), "1234");
    for mut session in unrelated {
        runtime.block_on(session.query_drop("commit")).unwrap();
    }
    assert_eq!(world.nodes.root(OUTSIDER, "select count(*) from t.b").trim(), (3 * UNRELATED).to_string());
    println!("--- the daemon's log\n{}", world.proxy.stonith_log());
}

/// `fence` on all proxies, under way.
fn fence_everywhere(world: &World) -> Child {
    let far = world.far_proxy.as_ref().unwrap();
    let mut command = world.proxy.stonith(&["fence", &world.nodes.name(1), "--wait=10s", "--yes"]);
    command.arg(format!("--proxysql={}:{}", far.address(), far.admin_port));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program")
}

#[test]
fn a_fence_that_waits_has_fenced_on_all_proxies_before_it_waits() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let world = World::with_two_proxies(binaries);
    // Both hold the node, so that each is waited for.
    let mut held: Vec<Client> = world.proxies().map(Client::open).collect();
    held.iter_mut().for_each(|session| session.send("create temporary table x (a int)"));
    eventually("sessions on node 1", seconds(10), || world.proxies().all(|proxy| proxy.used(1) == 1));
    let ordered = Instant::now();
    let mut fence = fence_everywhere(&world);
    let mut after = [Duration::ZERO; 2];
    eventually("fenced on both", seconds(5), || {
        for (after, proxy) in after.iter_mut().zip(world.proxies()) {
            if after.is_zero() && proxy.has_fenced(1) {
                *after = ordered.elapsed();
            }
        }
        after.iter().all(|after| !after.is_zero())
    });
    println!("--- fenced after {after:.1?}");
    assert!(fence.try_wait().unwrap().is_none(), "and it waits still");
    drop(held);
    let done = fence.wait_with_output().unwrap();
    println!("--- done in {:.1?}: {}", ordered.elapsed(), String::from_utf8_lossy(&done.stdout));
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(world.proxies().all(|proxy| proxy.used(1) == 0));
}
