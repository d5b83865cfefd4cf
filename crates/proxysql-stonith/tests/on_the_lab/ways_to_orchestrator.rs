//! Orchestrator as it is reached in the field: behind gateways and balancers, through a follower, without raft.

use std::time::{Duration, Instant};

use lab::nodes::Nodes;
use lab::orchestrator::{Fault, Settings};
use proxysql_stonith::agent::Agent;
use proxysql_stonith::clock;
use stonith_core::lease::LeaseState;
use stonith_core::memory::Memory;
use stonith_core::orchestrator::{Backing, LeaderView};

use crate::stage::{Stage, TICK, tick};

async fn stage(settings: Settings) -> Stage {
    Stage::with(lab::proxysql::Settings::default(), settings, Nodes::new(&["node01", "node02", "node03"])).await
}

/// An agent that starts for the first time and looks for Orchestrator there.
fn first_start(stage: &Stage, endpoints: &[String]) -> Agent {
    let boot_id = clock::boot_id().unwrap();
    stage.agent_that_asks(endpoints, Memory::first_start(&boot_id, clock::boot_ms()))
}

/// Ticks until it is so; how long that took.
async fn ticks_until(agent: &mut Agent, within: Duration, mut is_so: impl FnMut(&Agent) -> bool) -> Duration {
    let began = Instant::now();
    loop {
        tick(agent).await.unwrap();
        if is_so(agent) {
            return began.elapsed();
        }
        assert!(began.elapsed() < within, "not within {within:?}");
        tokio::time::sleep(TICK).await;
    }
}

fn is_led(view: &LeaderView) -> bool {
    matches!(view, LeaderView::Led(_))
}

/// Long without a lease.
fn make_old(agent: &mut Agent) {
    agent.memory_mut().lease.asked_ms = agent.memory().lease.asked_ms.map(|asked| asked - 20_000);
    agent.memory_mut().lease.started_ms -= 20_000;
    agent.memory_mut().lease.silent_ms = agent.memory().lease.asked_ms;
    agent.memory_mut().lease.held_ms = None;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_cut_off_behind_a_gateway_is_isolated() {
    let stage = Stage::set().await;
    // An error of Orchestrator's own says that it was reached.
    let mut agent = stage.agent();
    tick(&mut agent).await.unwrap();
    (0..3).for_each(|member| stage.orchestrator.fault(member, Some(Fault::InternalError)));
    make_old(&mut agent);
    assert_eq!(tick(&mut agent).await.unwrap().decision.lease_state, LeaseState::Held);
    (0..3).for_each(|member| stage.orchestrator.fault(member, None));
    for status in [502, 503, 504] {
        let mut agent = stage.agent();
        tick(&mut agent).await.unwrap();
        (0..3).for_each(|member| stage.orchestrator.fault(member, Some(Fault::Gateway(status))));
        make_old(&mut agent);
        assert_eq!(tick(&mut agent).await.unwrap().decision.lease_state, LeaseState::Isolated, "{status}");
        assert!(stage.is_fenced("node01"));
        (0..3).for_each(|member| stage.orchestrator.fault(member, None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_that_ends_at_a_follower_is_led_and_fences_and_lets_back() {
    let stage = Stage::set().await;
    let follower = stage.orchestrator.endpoints()[1..2].to_vec();
    let mut agent = stage.agent_that_asks(&follower, stage.agent().memory().clone());
    assert_eq!(tick(&mut agent).await.unwrap().decision.lease_state, LeaseState::Led { good: false });
    stage.fail_over().await;
    tick(&mut agent).await.unwrap();
    assert!(stage.is_fenced("node01"));
    stage.nodes.start("node01");
    stage.nodes.make_replica("node01", "node02");
    stage.orchestrator.end_downtime("node01");
    ticks_until(&mut agent, Duration::from_secs(20), |_| stage.runtime().contains("20/node01:ONLINE[rack 7]")).await;
    // A new leader behind the same address has to be steady first.
    let before = agent.memory().lease.leader.clone().unwrap();
    stage.orchestrator.set_leader(Some(2));
    tick(&mut agent).await.unwrap();
    let after = agent.memory().lease.leader.clone().unwrap();
    assert!(after.name != before.name && after.since_ms > before.since_ms, "{before:?} {after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_leader_is_gone_is_no_way_to_it() {
    let stage = Stage::set().await;
    let follower = stage.orchestrator.endpoints()[1..2].to_vec();
    let mut agent = stage.agent_that_asks(&follower, stage.agent().memory().clone());
    tick(&mut agent).await.unwrap();
    stage.orchestrator.set_leader(None);
    make_old(&mut agent);
    let seen = tick(&mut agent).await.unwrap();
    assert!(matches!(seen.observed.leader, LeaderView::Silent(_)), "{:?}", seen.observed.leader);
    assert_eq!(seen.decision.lease_state, LeaseState::Isolated, "it may be the cut-off minority");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_raft_a_database_that_is_gone_is_held_and_another_active_node_out_of_reach_is_not() {
    let settings = Settings { members: 2, raft: false, ..Settings::default() };
    let stage = stage(settings).await;
    let mut agent = stage.agent();
    let seen = tick(&mut agent).await.unwrap();
    let LeaderView::Led(answer) = seen.observed.leader else { panic!("{:?}", seen.observed.leader) };
    assert_eq!(answer.backing, Backing::Single);
    let before = stage.everything();
    stage.orchestrator.stop_database();
    make_old(&mut agent);
    let seen = tick(&mut agent).await.unwrap();
    assert_eq!(seen.observed.leader, LeaderView::Leaderless);
    assert_eq!((seen.decision.lease_state, stage.everything()), (LeaseState::Held, before.clone()));
    stage.orchestrator.start_database();
    assert!(is_led(&tick(&mut agent).await.unwrap().observed.leader));
    // Handed over: the active node is killed, and the other takes over after 5 s.
    stage.orchestrator.kill(0);
    make_old(&mut agent);
    let seen = tick(&mut agent).await.unwrap();
    assert_eq!((seen.observed.leader, seen.decision.lease_state), (LeaderView::Leaderless, LeaseState::Held));
    stage.orchestrator.set_leader(Some(1));
    assert!(is_led(&tick(&mut agent).await.unwrap().observed.leader));
    // Only the passive one is reached, and says that another one is active.
    stage.orchestrator.resume(0);
    stage.orchestrator.set_leader(Some(0));
    let mut agent = stage.agent_that_asks(&stage.orchestrator.endpoints()[1..], agent.memory().clone());
    stage.orchestrator.poll();
    make_old(&mut agent);
    let seen = tick(&mut agent).await.unwrap();
    assert_eq!(seen.decision.lease_state, LeaseState::Isolated, "{:?}", seen.observed.leader);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_closed_after_some_answers_cost_nothing_and_after_each_one_are_said() {
    for answers in [3, 5, 100] {
        let stage = stage(Settings { closes_after: Some(answers), ..Settings::default() }).await;
        let mut agent = stage.agent();
        for _ in 0..10 {
            assert!(is_led(&tick(&mut agent).await.unwrap().observed.leader), "{answers}");
        }
        stage.fail_over().await;
        tick(&mut agent).await.unwrap();
        assert!(stage.is_fenced("node01"), "{answers}");
    }
    let stage = stage(Settings { closes_after: Some(1), ..Settings::default() }).await;
    let before = stage.everything();
    let mut agent = stage.agent();
    agent.memory_mut().lease.armed = true;
    make_old(&mut agent);
    let seen = tick(&mut agent).await.unwrap();
    let LeaderView::Blind(cause) = seen.observed.leader else { panic!("{:?}", seen.observed.leader) };
    assert_eq!(cause.label(), "closes");
    assert!(cause.to_string().contains("keep-alive"), "{cause}");
    assert_eq!((seen.decision.lease_state, stage.everything()), (LeaseState::Held, before));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_of_history_on_another_continent_holds_the_lease_arms_and_fences_at_once() {
    let stage = stage(Settings { history_page_takes: Duration::from_millis(100), ..Settings::default() }).await;
    for day in 1..=900 {
        stage.orchestrator.record_old_failover("other01", "other02", Duration::from_secs(day * 30_000));
    }
    let mut agent = first_start(&stage, &stage.orchestrator.endpoints());
    let armed_after = ticks_until(&mut agent, Duration::from_secs(3), |agent| agent.memory().lease.armed).await;
    assert!(armed_after < Duration::from_secs(3), "{armed_after:?}");
    assert!(agent.memory().history.progress.under_way.is_some(), "control: most of it is still to come");
    stage.fail_over().await;
    tick(&mut agent).await.unwrap();
    assert!(stage.is_fenced("node01"));
    let known_after =
        ticks_until(&mut agent, Duration::from_secs(30), |agent| agent.memory().history.progress.known_ns > 0).await;
    println!("armed after {armed_after:?}, the whole history known after {known_after:?}");
    let asked = stage.orchestrator.requests().iter().filter(|path| path.starts_with("audit-recovery")).count();
    tick(&mut agent).await.unwrap();
    let asked_now = stage.orchestrator.requests().iter().filter(|path| path.starts_with("audit-recovery")).count();
    assert!(asked_now - asked <= 1, "only what is new: {}", asked_now - asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_unreadable_instance_or_record_holds_whom_it_names_and_nobody_else() {
    let stage = Stage::set().await;
    let mut agent = stage.agent();
    tick(&mut agent).await.unwrap();
    stage.nodes.make_replica("node03", "[2001:db8::5]");
    stage.orchestrator.record_without_uid("other01", "other02");
    stage.orchestrator.poll();
    stage.fail_over().await;
    let seen = tick(&mut agent).await.unwrap();
    assert!(stage.is_fenced("node01"));
    let LeaderView::Led(answer) = &seen.observed.leader else { panic!("{:?}", seen.observed.leader) };
    let said: Vec<&str> = answer.skipped.iter().map(|skipped| skipped.what.as_str()).collect();
    assert!(said.iter().any(|what| what.contains("node03:3306")), "{said:?}");
    assert!(said.iter().any(|what| what.contains("other01:3306")), "{said:?}");
    stage.nodes.start("node01");
    stage.nodes.make_replica("node01", "node02");
    stage.orchestrator.end_downtime("node01");
    ticks_until(&mut agent, Duration::from_secs(10), |_| stage.runtime().contains("20/node01:ONLINE[rack 7]")).await;
}

/// Hours east and west, and one with a half.
const ZONES_S: [i64; 4] = [0, -5 * 3_600, 9 * 3_600, 5 * 3_600 + 1_800];

#[tokio::test(flavor = "multi_thread")]
async fn the_zone_of_orchestrators_database_changes_nothing() {
    for zone_offset_s in ZONES_S {
        let stage = stage(Settings { zone_offset_s, ..Settings::default() }).await;
        let mut agent = stage.agent();
        tick(&mut agent).await.unwrap();
        stage.fail_over().await;
        tick(&mut agent).await.unwrap();
        assert!(stage.is_fenced("node01"), "{zone_offset_s}");
        // While its instance rows are from before the recovery, nothing lets it back and the new primary is not fenced.
        for _ in 0..3 {
            tick(&mut agent).await.unwrap();
            assert!(!stage.is_fenced("node02") && stage.is_fenced("node01"), "{zone_offset_s}");
        }
        stage.nodes.start("node01");
        stage.nodes.make_replica("node01", "node02");
        stage.orchestrator.end_downtime("node01");
        let is_back = |_: &Agent| stage.runtime().contains("20/node01:ONLINE[rack 7]");
        let took = ticks_until(&mut agent, Duration::from_secs(10), is_back).await;
        println!("{zone_offset_s} s from UTC: back after {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_databases_summer_time_between_a_failover_and_the_repair_changes_nothing() {
    const HOUR_S: i64 = 3_600;
    for (before_s, after_s) in [(HOUR_S, 2 * HOUR_S), (2 * HOUR_S, HOUR_S)] {
        let stage = stage(Settings { zone_offset_s: before_s, ..Settings::default() }).await;
        let mut agent = stage.agent();
        tick(&mut agent).await.unwrap();
        stage.fail_over().await;
        stage.orchestrator.set_zone_offset_s(after_s);
        tick(&mut agent).await.unwrap();
        assert!(stage.is_fenced("node01"), "{before_s} to {after_s}");
        // The clocks jump, and an answer of before the recovery is none of after it.
        for _ in 0..3 {
            tick(&mut agent).await.unwrap();
            assert!(!stage.is_fenced("node02") && stage.is_fenced("node01"), "{before_s} to {after_s}");
        }
        stage.nodes.start("node01");
        stage.nodes.make_replica("node01", "node02");
        stage.orchestrator.end_downtime("node01");
        let is_back = |_: &Agent| stage.runtime().contains("20/node01:ONLINE[rack 7]");
        let took = ticks_until(&mut agent, Duration::from_secs(10), is_back).await;
        println!("from {before_s} s to {after_s} s east of UTC: back after {took:?}");
        stage.orchestrator.set_zone_offset_s(before_s);
        for _ in 0..3 {
            tick(&mut agent).await.unwrap();
            assert!(!stage.is_fenced("node01") && !stage.is_fenced("node02"), "and not back again");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_relays_to_a_dead_leader_for_two_seconds_costs_no_isolation() {
    let stage = Stage::set().await;
    let follower = stage.orchestrator.endpoints()[1..2].to_vec();
    let mut agent = stage.agent_that_asks(&follower, stage.agent().memory().clone());
    ticks_until(&mut agent, Duration::from_secs(5), |agent| agent.memory().lease.armed).await;
    let before = stage.everything();
    stage.orchestrator.kill_unnoticed();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        let seen = tick(&mut agent).await.unwrap();
        assert!(matches!(seen.observed.leader, LeaderView::Silent(_)), "{:?}", seen.observed.leader);
        assert_ne!(seen.decision.lease_state, LeaseState::Isolated);
        tokio::time::sleep(TICK).await;
    }
    stage.orchestrator.set_leader(Some(2));
    assert!(is_led(&tick(&mut agent).await.unwrap().observed.leader), "the new leader is relayed to at once");
    assert_eq!(stage.everything(), before);
    // Control: the same for as long as a lease lasts isolates.
    stage.orchestrator.kill_unnoticed();
    make_old(&mut agent);
    assert_eq!(tick(&mut agent).await.unwrap().decision.lease_state, LeaseState::Isolated);
}
