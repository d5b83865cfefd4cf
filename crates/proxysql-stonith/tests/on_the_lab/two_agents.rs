//! Two agents of one ProxySQL, on different hosts say: what they leave there for each other.

use stonith_core::lease::LeaseState;

use crate::stage::{Stage, TICK, make_old, tick};

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:9";

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_cut_off_isolates_once_and_then_counts_on_the_others_lease() {
    let stage = Stage::set().await;
    let mut led = stage.agent();
    tick(&mut led).await.unwrap();
    let before = stage.everything();
    let mut cut_off = stage.agent_that_asks(&[NOBODY.to_owned()], led.memory().clone());
    make_old(&mut cut_off);
    assert_eq!(tick(&mut cut_off).await.unwrap().decision.lease_state, LeaseState::Isolated);
    assert!(stage.is_fenced("node01") && stage.is_fenced("node03"));
    // Good news need the same leader for 2 s; the lease is left at once.
    for _ in 0..60 {
        tick(&mut led).await.unwrap();
        assert_eq!(tick(&mut cut_off).await.unwrap().decision.lease_state, LeaseState::Shared);
        if stage.runtime().contains("10/node01:ONLINE[rack 7]") {
            break;
        }
        tokio::time::sleep(TICK * 3).await;
    }
    let writes = stage.proxysql.writes();
    for _ in 0..5 {
        assert_eq!(tick(&mut cut_off).await.unwrap().decision.lease_state, LeaseState::Shared);
        tick(&mut led).await.unwrap();
    }
    assert_eq!(stage.proxysql.writes(), writes, "they do not take turns");
    assert_eq!(stage.everything(), before);
}

/// One endpoint stands for all only after 5 s: until then that agent has proven nothing by itself.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_lets_back_the_other_does_not_fence_again() {
    let stage = Stage::set().await;
    let mut one = stage.agent();
    let mut other = stage.agent_that_asks(&stage.orchestrator.endpoints()[..1], one.memory().clone());
    stage.fail_over().await;
    tick(&mut one).await.unwrap();
    tick(&mut other).await.unwrap();
    assert!(stage.is_fenced("node01"));
    stage.nodes.start("node01");
    stage.nodes.make_replica("node01", "node02");
    stage.orchestrator.end_downtime("node01");
    let is_back = || stage.runtime().contains("20/node01:ONLINE[rack 7]");
    for _ in 0..100 {
        tick(&mut other).await.unwrap();
        tick(&mut one).await.unwrap();
        if is_back() {
            break;
        }
        tokio::time::sleep(TICK * 3).await;
    }
    let writes = stage.proxysql.writes();
    for _ in 0..5 {
        let seen = tick(&mut other).await.unwrap();
        assert_eq!(seen.decision.lease_state, LeaseState::Led { good: false });
        assert!(is_back(), "{}", stage.runtime());
    }
    assert_eq!(stage.proxysql.writes(), writes);
}

/// Others go by it: they take over what has not been renewed for so long.
#[tokio::test(flavor = "multi_thread")]
async fn i12_the_lock_holds_for_30_s_while_a_load_is_under_way() {
    let stage = Stage::set().await;
    let mut agent = stage.agent();
    tick(&mut agent).await.unwrap();
    stage.fail_over().await;
    let (proxysql, seen) = (stage.proxysql.clone(), std::sync::Arc::new(std::sync::Mutex::new(Vec::new())));
    let left = seen.clone();
    stage.proxysql.before_statement(move |sql| {
        if sql.starts_with("LOAD MYSQL SERVERS") {
            let lock = "SELECT expires-CAST(strftime('%s','now') AS INTEGER) FROM main.stonith_lock";
            let proxysql = proxysql.clone();
            let records = std::thread::spawn(move || proxysql.query(lock).unwrap().records).join().unwrap();
            left.lock().unwrap().extend(records.into_iter().flatten().flatten());
        }
        lab::proxysql::Verdict::Go
    });
    tick(&mut agent).await.unwrap();
    let seen = seen.lock().unwrap().clone();
    assert!(!seen.is_empty() && seen.iter().all(|left| ["29", "30"].contains(&left.as_str())), "{seen:?}");
}
