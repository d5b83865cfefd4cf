//! One daemon and a hundred ProxySQLs, of which some hang and some come and go.

use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::time::Instant;

use lab::proxysql::ProxySql;

use crate::side_by_side::{another, count_statements, has_fenced_node01};
use crate::stage::{Daemon, Stage, TICK, eventually_in};

const HEALTHY: usize = 60;
const HANGING: usize = 30;
const FLAPPING: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "it needs both cores for itself: .ci/nightly runs it alone"]
async fn of_a_hundred_proxysqls_the_healthy_are_served_though_thirty_hang_and_ten_flap() {
    let stage = Stage::set().await;
    let (mut healthy, mut flapping) = (Vec::new(), Vec::new());
    for _ in 0..HEALTHY {
        let proxysql = another(&stage, TICK * 50).await;
        let served = count_statements(&proxysql, None);
        healthy.push((proxysql, served));
    }
    for _ in 0..FLAPPING {
        flapping.push(another(&stage, TICK * 50).await);
    }
    // They take the connection, and never say anything.
    let hanging: Vec<TcpListener> = (0..HANGING).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses = hanging.iter().map(|listener| listener.local_addr().unwrap());
    let addresses = addresses.chain(flapping.iter().map(ProxySql::address));
    let all: Vec<String> =
        addresses.chain(healthy.iter().map(|(proxy, _)| proxy.address())).map(|a| a.to_string()).collect();
    let flaps = tokio::spawn(async move {
        loop {
            for proxysql in &flapping {
                proxysql.kill();
                tokio::time::sleep(TICK * 5).await;
                let _ = proxysql.restart().await;
            }
        }
    });

    let began = Instant::now();
    let daemon = Daemon::start(stage.command(&format!("run --interval=1s --proxysql={}", all.join(","))));
    let served = |least: usize| healthy.iter().all(|(_, served)| served.load(Ordering::Relaxed) >= least);
    eventually_in(60, "every healthy one was looked at", || served(1)).await;
    // A quiet tick has two statements. The first tick of one that hangs takes five seconds.
    let at: Vec<usize> = healthy.iter().map(|(_, served)| served.load(Ordering::Relaxed)).collect();
    eventually_in(60, "the first has ticked ten times more", || healthy[0].1.load(Ordering::Relaxed) >= at[0] + 20)
        .await;
    for (n, (_, served)) in healthy.iter().enumerate() {
        let more = served.load(Ordering::Relaxed) - at[n];
        assert!(more >= 10, "the healthy one {n} had {more} statements while the first had 20: it waits for others");
    }
    let (cpu_s, rss_kib) = daemon.used();
    println!("--- {:.1?} after the start: {rss_kib} KiB RSS, {cpu_s:.2} s of CPU", began.elapsed());

    let failed = Instant::now();
    stage.nodes.kill("node01");
    stage.orchestrator.fail_over("node01", Some("node02"));
    eventually_in(60, "every healthy one is fenced", || healthy.iter().all(|(proxy, _)| has_fenced_node01(proxy)))
        .await;
    println!("--- {HEALTHY} ProxySQLs are fenced {:.1?} after the failover", failed.elapsed());
    daemon.signal("-TERM");
    assert_eq!(daemon.ended().await, Some(0));
    flaps.abort();
}
