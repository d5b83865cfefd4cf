//! Real partitions: each part in a network namespace of its own, and links that are cut without a word.
//!
//! ```text
//! site 1: ProxySQL, agent, node 1 (the primary), Orchestrator 1
//! site 2: ProxySQL, agent, node 2, Orchestrator 2
//! site 3:                  node 3, Orchestrator 3
//! ```

use std::time::{Duration, Instant, SystemTime};

use crate::world::{Binaries, Namespaces, Part, Proxy, SESSIONS, World, Writers, eventually, site};
use crate::{ISOLATION_AFTER, comes_back, goes_out_of_service, one_at_a_time, seconds};

const RAFT: [Part; 3] = [Part::Raft(1), Part::Raft(2), Part::Raft(3)];

/// A moment, by the clock that the nodes stamp their rows with.
#[derive(Clone, Copy)]
struct Moment(Instant, f64);

impl Moment {
    fn now() -> Self {
        Self(Instant::now(), SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64())
    }

    fn plus(self, later: Duration) -> f64 {
        self.1 + later.as_secs_f64()
    }
}

/// Three sites with both agents at work and armed, and clients at each proxy that write.
fn guarded(binaries: Binaries) -> Option<(World, Writers, Writers)> {
    let mut world = World::at_three_sites(binaries)?;
    world.prefer_node_2();
    world.proxy.start_daemon();
    world.far_proxy.as_mut().unwrap().start_daemon();
    let (near, far) = (Writers::start(&world.proxy), Writers::start(far(&world)));
    eventually("sessions that write", seconds(10), || world.nodes.written_on(1) > 40);
    Some((world, near, far))
}

fn far(world: &World) -> &Proxy {
    world.far_proxy.as_ref().unwrap()
}

/// The promise of a cut-off proxy, by what the nodes themselves have: nothing later than the last ask that was
/// answered, which was before the cut, and `isolation.after`.
fn wrote_nothing_since(world: &World, proxy: &Proxy, cut: Moment) {
    for n in 1..=3 {
        assert_eq!(world.nodes.written_through_after(n, proxy, cut.plus(ISOLATION_AFTER)), 0, "on node {n}");
    }
}

/// Looks at both proxies for a while: nothing changes.
fn stays(world: &World, time: Duration, rows: &[String; 2]) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        assert_eq!([world.proxy.all_rows(), far(world).all_rows()], *rows);
    }
}

#[test]
fn a_site_that_is_cut_off_takes_no_write_after_its_lease_and_its_old_primary_stays_out_until_repaired() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let Some((mut world, near_clients, far_clients)) = guarded(binaries) else { return };
    println!("--- Orchestrator {} leads; site 1 is cut off", world.leader());
    let cut = Moment::now();
    world.network.cut(&site(1), &[site(2), site(3)].concat());
    goes_out_of_service(&world.proxy, cut.0);
    eventually("the majority promotes node 2", seconds(60), || far(&world).writer() == Some(2));
    eventually("node 1 fenced at site 2", seconds(20), || far(&world).has_fenced(1) && far(&world).used(1) == 0);
    eventually("writes at site 2", seconds(20), || world.nodes.written_through(2, far(&world)) > 20);
    while cut.0.elapsed() < ISOLATION_AFTER + seconds(5) {
        world.proxy.ticks(1);
    }
    wrote_nothing_since(&world, &world.proxy, cut);
    let ((_, last), (first, _)) = (world.nodes.wrote_from_to(1).unwrap(), world.nodes.wrote_from_to(2).unwrap());
    println!(
        "--- after the cut: last write on node 1 at {:.1} s, first on node 2 at {:.1} s; on node 1 {} writes since the cut, \
         {} of them since the first on node 2",
        last - cut.1,
        first - cut.1,
        world.nodes.written_through_after(1, &world.proxy, cut.1),
        world.nodes.written_through_after(1, &world.proxy, first),
    );

    let (old, healed) = (world.nodes.written_through(1, &world.proxy), Moment::now());
    world.network.heal();
    eventually("site 1 writes to node 2", seconds(40), || {
        world.proxy.writer() == Some(2) && world.nodes.written_through(2, &world.proxy) > 20
    });
    println!("--- site 1 writes to node 2 {:.1?} after the heal: {}", healed.0.elapsed(), world.proxy.all_rows());
    eventually("node 3 back", seconds(10), || world.proxy.is_online("20", 3));
    // By then whatever TCP still had to send is through: it tries again after 0.2 s, 0.4 s, and so on.
    std::thread::sleep((2 * cut.0.elapsed()).saturating_sub(healed.0.elapsed()));
    assert_eq!(world.nodes.written_through(1, &world.proxy), old, "no write of site 1 after the heal");
    // What was on its way from site 2 to node 1 when the link was cut may still arrive (facts §4), its session long
    // ended: one statement a session.
    let late = world.nodes.written_through_after(1, far(&world), healed.1);
    let last = world.nodes.wrote_from_to(1).unwrap().1 - healed.1;
    println!(
        "--- of what site 2 sent before the cut {late} reached node 1 after the heal, the last {last:.1} s after it"
    );
    assert!(late <= SESSIONS.len());
    for proxy in world.proxies() {
        // The record of a recovery that was still going on is asked for again after 30 s.
        eventually("superseded at both sites", seconds(40), || proxy.all_rows().contains("[stonith:1 superseded "));
        assert!(proxy.has_fenced(1) && proxy.used(1) == 0, "{}", proxy.all_rows());
    }

    world.nodes.rebuild(1, 2);
    world.downtime("end-downtime", 1, "");
    let repaired = Instant::now();
    eventually("node 1 serves reads at both sites", seconds(30), || world.proxies().all(|p| p.is_online("20", 1)));
    println!("--- node 1 is back {:.1?} after its repair: {}", repaired.elapsed(), world.proxy.all_rows());
    assert!(world.proxies().all(|proxy| proxy.writer() == Some(2) && !proxy.is_online("10", 1)));
    println!(
        "--- errors that clients saw at site 1: {}, at site 2: {}",
        near_clients.end().len(),
        far_clients.end().len()
    );
    println!("--- site 1's log\n{}--- site 2's log\n{}", world.proxy.stonith_log(), far(&world).stonith_log());
    assert_eq!(world.proxy.end_daemon("TERM"), Some(0));
}

#[test]
fn a_proxy_that_loses_only_orchestrator_goes_out_of_service_and_comes_back_as_it_was() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let Some((world, _near_clients, _far_clients)) = guarded(binaries) else { return };
    let before = [world.proxy.all_rows(), far(&world).all_rows()];
    let cut = Moment::now();
    world.network.cut(&[Part::Proxy(1)], &RAFT);
    goes_out_of_service(&world.proxy, cut.0);
    let last = world.nodes.written_through_after(1, &world.proxy, cut.1);
    let elsewhere = world.nodes.written_through(1, far(&world));
    world.proxy.ticks(2);
    eventually("writes at site 2", seconds(20), || world.nodes.written_through(1, far(&world)) > elsewhere + 20);
    wrote_nothing_since(&world, &world.proxy, cut);
    let writes = world.nodes.written_through(1, far(&world)) - elsewhere;
    println!("--- writes at site 1 since the cut: {last}, all before it went out; at site 2: {writes}");
    assert_eq!(far(&world).all_rows(), before[1]);
    world.network.heal();
    comes_back(&world.proxy, &before[0]);
    stays(&world, seconds(3), &before);
}

#[test]
fn a_proxy_whose_requests_arrive_and_whose_answers_are_lost_is_cut_off_too() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let Some((world, _near_clients, _far_clients)) = guarded(binaries) else { return };
    let before = [world.proxy.all_rows(), far(&world).all_rows()];
    let cut = Moment::now();
    world.network.lose(&RAFT, &[Part::Proxy(1)]);
    // A connection that an Orchestrator has answered and the agent has not heard of: half open.
    eventually("a request that arrives", seconds(10), || RAFT.iter().any(|raft| is_half_open(&world, *raft)));
    println!("--- requests arrive, answers don't, {:.1?} after the loss", cut.0.elapsed());
    goes_out_of_service(&world.proxy, cut.0);
    world.proxy.ticks(2);
    let elsewhere = world.nodes.written_through(1, far(&world));
    eventually("writes at site 2", seconds(20), || world.nodes.written_through(1, far(&world)) > elsewhere + 20);
    wrote_nothing_since(&world, &world.proxy, cut);
    assert_eq!(far(&world).all_rows(), before[1]);
    world.network.heal();
    comes_back(&world.proxy, &before[0]);
    stays(&world, seconds(3), &before);
}

fn is_half_open(world: &World, raft: Part) -> bool {
    let filter = ["-Htn", "state", "syn-recv", "dst", &world.proxy.address()];
    let seen = world.network.command(raft, "ss").args(filter).output().unwrap();
    assert!(seen.status.success(), "{seen:?}");
    !seen.stdout.is_empty()
}

#[test]
fn a_leader_that_alone_is_cut_off_neither_fences_nor_unfences_nor_isolates() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let Some((world, _near_clients, _far_clients)) = guarded(binaries) else { return };
    world.downtime("begin-downtime", 3, "/dba/maintenance/1h");
    eventually("node 3 fenced", seconds(10), || world.proxies().all(|proxy| proxy.has_fenced(3)));
    let rows = [world.proxy.all_rows(), far(&world).all_rows()];
    let old = world.leader();
    let (cut, others) = (Moment::now(), RAFT.into_iter().filter(|raft| *raft != Part::Raft(old)));
    // The agents reach it as before. It sees no node any more, and nobody of its own.
    world.network.cut(&[Part::Raft(old)], &others.chain([1, 2, 3].map(Part::Node)).collect::<Vec<_>>());
    let mut stale = Duration::ZERO;
    let new = loop {
        let leaders = world.raft.leaders();
        if leaders.contains(&old) {
            stale = cut.0.elapsed();
        }
        if let Some(new) = leaders.iter().find(|leader| **leader != old) {
            break *new;
        }
        assert!(cut.0.elapsed() < seconds(30), "nobody else leads");
        assert_eq!([world.proxy.all_rows(), far(&world).all_rows()], rows);
    };
    println!("--- Orchestrator {old} led for {stale:.1?} after the cut, {new} leads after {:.1?}", cut.0.elapsed());
    stays(&world, ISOLATION_AFTER + seconds(5), &rows);
    println!("--- nothing changed in {:.1?}: {}", cut.0.elapsed(), rows[0]);
    // What the majority says counts: it ends the downtime, of which the old leader knows nothing.
    let path = format!("/api/end-downtime/{}/{}", world.nodes.address(3), world.nodes.port);
    assert_eq!(world.raft.get(new, &path).0, 200);
    let ended = Instant::now();
    eventually("node 3 back", seconds(20), || world.proxies().all(|proxy| proxy.is_online("20", 3)));
    println!("--- node 3 is back {:.1?} after the end of its downtime", ended.elapsed());
    let (code, stale_list) = world.raft.get(old, "/api/downtimed");
    println!("--- Orchestrator {old} still says: {code}, downtimed {}", stale_list.matches("\"Hostname\"").count() > 0);
    let rows = [world.proxy.all_rows(), far(&world).all_rows()];
    world.network.heal();
    stays(&world, seconds(10), &rows);
}

#[test]
fn a_test_that_panics_leaves_no_namespace_and_no_link() {
    let _one = one_at_a_time();
    let Some(namespaces) = Namespaces::of(&RAFT) else { return };
    let id = std::process::id().to_string();
    let there = |what: &[&str]| {
        let listed = std::process::Command::new("ip").args(what).output().unwrap();
        String::from_utf8_lossy(&listed.stdout).lines().filter(|line| line.contains(&id)).count()
    };
    let count = || (there(&["netns", "list"]), there(&["-oneline", "link"]));
    assert_eq!(count(), (4, 1));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _namespaces = namespaces;
        panic!("as a test that fails does");
    }));
    assert!(panicked.is_err());
    assert_eq!(count(), (0, 0));
}
