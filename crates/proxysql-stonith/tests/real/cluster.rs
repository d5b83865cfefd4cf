//! Three ProxySQLs that are a ProxySQL Cluster, each with its agent. The way of one agent to Orchestrator is cut.

use std::time::{Duration, Instant};

use crate::world::{Binaries, Proxy, Relay, World, Writers, eventually};
use crate::{ISOLATION_AFTER, one_at_a_time, seconds};

/// `PROXYSQL PAUSE` takes 2 s to 3 s (facts §6).
const PAUSE: Duration = Duration::from_secs(5);

/// Statements that this proxy has sent to its nodes.
fn sent(proxy: &Proxy) -> u64 {
    proxy.admin("SELECT sum(Queries) FROM stats_mysql_connection_pool").trim().parse().expect("a number")
}

fn takes_no_client(proxy: &Proxy) -> bool {
    let paused = "SELECT Variable_Value FROM stats_mysql_global WHERE Variable_Name='mysql_listener_paused'";
    let sessions = "SELECT count(*) FROM stats_mysql_processlist";
    let says = |statement: &str, text: &str| proxy.try_admin(statement).is_some_and(|said| said.trim() == text);
    says(paused, "true") && says(sessions, "0") && !proxy.write()
}

/// Up to 2.7.1, PAUSE may end ProxySQL, and RESUME may hang until its watchdog ends it (facts §6).
fn starts_again(proxy: &mut Proxy, since: Instant) {
    if proxy.start_again_if_it_died() {
        println!("--- it died {:.1?} after that, and was started again", since.elapsed());
    }
}

fn layers(world: &World) -> Vec<String> {
    world.proxies().map(Proxy::layers).collect()
}

fn loads(world: &World) -> Vec<usize> {
    world.proxies().map(Proxy::loads).collect()
}

/// Waits until all members have the same bytes in every layer, and watches that nobody loads any more.
fn settles(world: &World, is_meant: impl Fn(&Proxy) -> bool) -> String {
    eventually("the same bytes everywhere", seconds(30), || {
        let all = layers(world);
        world.proxies().all(&is_meant) && all.iter().all(|one| *one == all[0])
    });
    let (settled, count) = (layers(world), loads(world));
    world.proxies().for_each(|proxy| proxy.checks(5));
    assert_eq!((layers(world), loads(world)), (settled.clone(), count), "no churn");
    settled[0].clone()
}

#[test]
fn one_member_that_is_cut_off_is_paused_and_the_others_go_on_and_nothing_spreads() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let mut world = World::with_a_cluster(binaries);
    let relays: Vec<Relay> = world.raft.members().map(|n| Relay::to(world.raft.address(n))).collect();
    world.proxy.set_orchestrator(relays.iter().map(Relay::url).collect());
    world.proxy.start_daemon();
    world.far_proxy.as_mut().unwrap().start_daemon();
    world.third_proxy.as_mut().unwrap().start_daemon();
    let before = settles(&world, |proxy| proxy.is_online("10", 1) && proxy.is_online("20", 3));

    world.downtime("begin-downtime", 3, "/dba/maintenance/1h");
    let fenced = settles(&world, |proxy| proxy.has_fenced(3));
    println!("--- a fence has spread, LOADs of the members so far: {:?}\n{fenced}", loads(&world));
    world.downtime("end-downtime", 3, "");
    assert_eq!(settles(&world, |proxy| proxy.is_online("20", 3)), before, "the same bytes as before");
    println!("--- LOADs after its return: {:?}", loads(&world));

    let clients: Vec<Writers> = world.proxies().map(Writers::start).collect();
    eventually("sessions that write", seconds(20), || world.proxies().all(|proxy| sent(proxy) > 40));
    let (loaded, cut) = (loads(&world), Instant::now());
    relays.iter().for_each(|relay| relay.set(|way| way.gateway_error = Some(502)));
    eventually("no client at the cut-off member", ISOLATION_AFTER + PAUSE, || {
        starts_again(&mut world.proxy, cut);
        takes_no_client(&world.proxy)
    });
    println!("--- takes no client {:.1?} after the cut", cut.elapsed());
    let (status, _) = world.proxy.command(&["status"]);
    assert!(status.contains("paused by this program"), "{status}");
    let others = |world: &World| world.proxies().skip(1).map(sent).collect::<Vec<_>>();
    let (here, elsewhere) = (sent(&world.proxy), others(&world));
    world.proxy.ticks(3);
    eventually("writes at the others", seconds(20), || others(&world).iter().zip(&elsewhere).all(|(n, m)| *n > m + 20));
    assert!(takes_no_client(&world.proxy));
    assert_eq!(sent(&world.proxy), here, "no statement of a client since");
    assert_eq!((layers(&world), loads(&world)), (vec![before.clone(); 3], loaded.clone()), "nothing is changed");

    let restarted = Instant::now();
    world.proxy.restart();
    eventually("paused again after a restart", seconds(20), || {
        starts_again(&mut world.proxy, restarted);
        takes_no_client(&world.proxy)
    });
    println!("--- paused again {:.1?} after a restart of ProxySQL", restarted.elapsed());

    let healed = Instant::now();
    relays.iter().for_each(|relay| relay.set(|way| way.gateway_error = None));
    eventually("the member serves again", seconds(60), || {
        starts_again(&mut world.proxy, healed);
        world.proxy.write()
    });
    println!("--- serves again {:.1?} after the heal", healed.elapsed());
    let left = "SELECT name FROM main.sqlite_master WHERE name LIKE 'stonith_%'";
    eventually("no note is left", seconds(15), || world.proxy.admin(left).is_empty());
    assert_eq!(settles(&world, |_| true), before, "rows and disk of all members are as before");
    assert_eq!(loads(&world)[1..], loaded[1..], "nobody had anything to load");
    let errors: Vec<usize> = clients.into_iter().map(|writers| writers.end().len()).collect();
    println!("--- errors of the clients of each member: {errors:?}\n{}", world.proxy.stonith_log());
    assert_eq!(errors[1..], [0, 0]);

    // A pause by an operator stays.
    world.proxy.admin("PROXYSQL PAUSE");
    world.proxy.ticks(8);
    let (status, _) = world.proxy.command(&["status"]);
    assert!(takes_no_client(&world.proxy) && status.contains("paused, and not by this program"), "{status}");
}
