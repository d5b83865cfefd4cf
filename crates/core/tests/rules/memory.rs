//! What is kept from tick to tick: over a process's end, a host boot, a clock set back, and in the state file.
//! `Memory::resume` itself is in first_start.rs.

use stonith_core::decide::{Decision, ProofGap, ReturnBlocker};
use stonith_core::evidence::EvidenceKind::{Isolation, LostInRecovery, Superseded};
use stonith_core::lease::LeaseState;
use stonith_core::memory::Memory;
use stonith_core::orchestrator::Backing;
use stonith_core::orders::{Order, Orders, Release};
use stonith_core::policy::Policy;
use stonith_core::role::Role;
use stonith_core::table::Layer;

use crate::world::{Decided, Lab, Raft, node};

const ALL: [&str; 3] = ["node01", "node02", "node03"];

fn through_json(memory: &Memory) -> Memory {
    serde_json::from_str(&serde_json::to_string(memory).unwrap()).unwrap()
}

// --- the scheduler: a process for each tick ------------------------------------------------------------------------

/// ProxySQL's scheduler starts us each 5 s; two starts are at most 6 s apart (design §7: 18 s and more then).
fn scheduled() -> Lab {
    let mut lab = Lab::new();
    lab.policy.tick_ms = 6_000;
    lab.policy.isolation_after_ms = Policy::shortest_isolation_after_ms(6_000);
    assert_eq!(lab.policy.isolation_after_ms, 18_000);
    runs(&mut lab, 60);
    assert!(lab.memory.lease.armed && lab.writes == 0);
    lab
}

/// Processes that begin, read the state file, tick once and write it, for so long; the gap varies.
fn runs(lab: &mut Lab, seconds: u64) -> Decision {
    let until_ms = lab.now_ms + seconds * 1_000;
    loop {
        let gap_ms = [5_000, 5_400, 4_600, 6_000][(lab.now_ms / 1_000 % 4) as usize];
        let now_ms = lab.now_ms + gap_ms;
        lab.memory = through_json(&lab.memory).resume("boot", now_ms, 3 * lab.policy.tick_ms);
        let decision = lab.tick(now_ms);
        if lab.now_ms >= until_ms {
            return decision;
        }
    }
}

#[test]
fn i9_a_scheduler_at_five_seconds_sits_out_any_election_and_keeps_the_lease_promise() {
    let mut lab = scheduled();
    for leader in ["orc2", "orc3", "orc1"] {
        runs(lab.asked(Raft::Silent), 5);
        runs(lab.led_by(leader), 20);
    }
    assert_eq!(lab.writes, 0);
    let before = lab.layers();
    let asked_ms = lab.memory.lease.asked_ms.unwrap();
    lab.leader_gone();
    while lab.fenced().is_empty() {
        runs(&mut lab, 1);
        assert!(lab.now_ms < asked_ms + 60_000);
    }
    assert_eq!(lab.fenced(), ALL);
    assert!(lab.now_ms + 1_000 <= asked_ms + 18_000, "by ask + isolation.after: {} ms", lab.now_ms - asked_ms);
    runs(&mut lab, 60);
    assert_eq!(
        runs(lab.led_by("orc2"), 1).blocker("node01"),
        Some(&ReturnBlocker::Lease),
        "one tick of a leader is not steady"
    );
    runs(&mut lab, 1);
    assert_eq!(lab.layers(), before, "back with the second");
}

#[test]
fn a_scheduler_fences_at_the_next_start_and_lets_back_over_two() {
    let mut lab = scheduled();
    lab.failover("node01", "node03");
    assert_eq!(runs(&mut lab, 1).kinds("node01"), [Superseded, LostInRecovery]);
    runs(lab.returns_writable("node01"), 120);
    assert_eq!(lab.fenced(), ["node01"]);
    assert_eq!(runs(lab.repaired("node01"), 1).blocker("node01"), Some(&ReturnBlocker::SecondProof(Role::Replica)));
    assert_eq!(runs(&mut lab, 1).unfenced("node01"), Some(Role::Replica));
    let writes = lab.writes;
    runs(&mut lab, 600);
    assert_eq!((lab.rows("node01"), lab.writes), ("20:ONLINE".to_owned(), writes));
}

#[test]
fn a_scheduler_that_stood_still_begins_each_proof_anew() {
    let mut lab = scheduled();
    lab.failover("node01", "node03");
    runs(&mut lab, 20);
    runs(lab.repaired("node01"), 1);
    lab.now_ms += 60_000;
    assert_eq!(runs(&mut lab, 1).blocker("node01"), Some(&ReturnBlocker::ConfirmedLeader));
    assert!(lab.is_fenced("node01"));
    runs(&mut lab, 10);
    assert_eq!(lab.rows("node01"), "20:ONLINE");
}

// --- starting again ------------------------------------------------------------------------------------------------

#[test]
fn i9_after_a_host_boot_in_an_election_nothing_is_fenced_and_in_silence_all_is_at_once() {
    for raft in [Raft::Leaderless, Raft::Blind, Raft::Conflict] {
        let mut lab = Lab::healthy();
        assert_eq!(lab.host_boots().asked(raft.clone()).next().lease_state, LeaseState::Held, "{raft:?}");
        lab.run_s(60);
        lab.led_by("orc2").run_s(5);
        assert_eq!(lab.writes, 0, "{raft:?}");
    }
    let mut lab = Lab::healthy();
    assert_eq!(lab.host_boots().leader_gone().next().kinds("node03"), [Isolation]);
}

#[test]
fn i9_an_agent_that_was_down_for_an_hour_fences_nothing_where_a_leader_is_there() {
    for backing in [Backing::Majority, Backing::Single] {
        let mut lab = Lab::healthy();
        lab.backed(backing).run_s(30);
        lab.agent_restarts(3_600).run_s(60);
        assert_eq!(lab.writes, 0, "{backing:?}");
    }
}

#[test]
fn a_restart_while_isolated_stays_isolated_until_a_confirmed_leader() {
    for restart in [Lab::host_boots as fn(&mut Lab) -> &mut Lab, |lab| lab.agent_restarts(3_600), Lab::state_lost] {
        let mut lab = Lab::healthy();
        let before = lab.layers();
        lab.leader_gone().run_s(30);
        restart(&mut lab);
        assert!(lab.next().isolated());
        assert_eq!(lab.led_by("orc1").next().blocker("node02"), Some(&ReturnBlocker::Lease));
        lab.run_s(3);
        assert_eq!(lab.layers(), before);
    }
}

#[test]
fn i2_what_fences_a_node_outlives_every_restart() {
    for restart in [
        Lab::host_boots as fn(&mut Lab) -> &mut Lab,
        |lab| lab.agent_restarts(3_600),
        |lab| {
            lab.memory = through_json(&lab.memory.without_times()).resume("third boot", lab.now_ms, 2_000);
            lab
        },
    ] {
        let mut lab = Lab::healthy();
        lab.failover("node01", "node03").run_s(5);
        lab.leader_killed("orc2").purges_history().returns_writable("node01");
        assert_eq!(restart(&mut lab).next().kinds("node01"), [Superseded, LostInRecovery]);
        lab.run_s(60);
        assert_eq!(lab.fenced(), ["node01"]);
    }
}

#[test]
fn what_an_operator_released_outlives_a_host_boot() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").run_s(5);
    lab.follows("node01", "node03").order_unfence("node01", false);
    lab.memory = through_json(&lab.memory.without_times());
    lab.host_boots().run_s(60);
    assert!(lab.fenced().is_empty(), "the record and the mark are still listed");
}

// --- clocks --------------------------------------------------------------------------------------------------------

#[test]
fn i9_a_machine_that_slept_fences_nothing_new_unless_the_lease_is_over_and_no_leader_there() {
    for (slept_s, raft, expected) in [
        (5, Raft::Silent, LeaseState::Waiting),
        (3_600, Raft::Leaderless, LeaseState::Held),
        (3_600, Raft::Blind, LeaseState::Held),
        (3_600, Raft::Conflict, LeaseState::Held),
        (3_600, Lab::new().raft, LeaseState::Led { good: true }),
        (3_600, Raft::Silent, LeaseState::Isolated),
    ] {
        let mut lab = Lab::healthy();
        lab.asked(raft.clone()).now_ms += slept_s * 1_000;
        assert_eq!(lab.next().lease_state, expected, "{slept_s} s, {raft:?}");
        assert_eq!(lab.writes, usize::from(expected == LeaseState::Isolated), "{slept_s} s, {raft:?}");
    }
    // Another leader than before: its majority names it, so it is waited for and not isolated.
    let mut lab = Lab::healthy();
    lab.led_by("orc2").now_ms += 3_600_000;
    assert_eq!(lab.next().lease_state, LeaseState::Unconfirmed);
    lab.run_s(5);
    assert_eq!(lab.writes, 0);
}

#[test]
fn i9_the_agents_clock_set_back_fences_nothing_where_a_leader_is_there_and_delays_no_isolation() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").run_s(5);
    let before = lab.layers();
    lab.now_ms -= 600_000;
    lab.run_s(60);
    assert_eq!(lab.layers(), before, "neither a new fence nor a return");
    lab.leader_gone().run_s(5);
    assert_eq!(lab.layers(), before);
    lab.run_s(10);
    assert_eq!(lab.fenced(), ALL);
}

#[test]
fn orchestrators_clock_set_back_an_hour_fences_and_lets_back_nothing() {
    let mut lab = Lab::healthy();
    lab.wall_s -= 3_600;
    lab.run_s(60);
    assert_eq!(lab.writes, 0);
    lab.wall_s += 3_600;
    lab.failover("node01", "node03").run_s(5);
    lab.wall_s -= 3_600;
    // The begin of a downtime is computed from the leader's clock.
    lab.downtimes.iter_mut().for_each(|downtime| downtime.begin_s -= 3_600);
    let decision = lab.repaired("node01").run_s(60);
    assert_eq!(decision.blocker("node01"), Some(&ReturnBlocker::Proof(vec![ProofGap::NotCheckedSince])));
    assert_eq!(lab.fenced(), ["node01"]);
    assert_eq!(lab.order_unfence("node01", false).unfenced("node01"), Some(Role::Replica), "or by order, meanwhile");
}

// --- the state file --------------------------------------------------------------------------------------------------

/// A memory with something in every field.
fn eventful() -> Lab {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").run_s(5);
    lab.follows("node01", "node03").order_unfence("node01", false);
    lab.failover("node03", "node02").run_s(5);
    lab.server("node01").read_only = false;
    lab.asked(Raft::Leaderless).next();
    lab.led_by("orc1").run_s(3);
    lab.repaired("node03").next();
    lab
}

#[test]
fn a_memory_reads_back_whole_and_decides_the_same() {
    let mut lab = eventful();
    let memory = &lab.memory;
    assert!(
        !memory.nodes.evidence.is_empty() && !memory.history.records.is_empty() && !memory.nodes.released.is_empty()
    );
    assert!(!memory.nodes.proofs.is_empty() && !memory.nodes.known.is_empty() && memory.lease.held_ms.is_some());
    let mut twin = lab.clone();
    for _ in 0..60 {
        twin.memory = through_json(&twin.memory);
        assert_eq!(twin.memory, lab.memory);
        assert_eq!(twin.next(), lab.next());
    }
    assert_eq!(twin.layers(), lab.layers());
}

#[test]
fn without_its_times_a_memory_keeps_all_that_speaks_for_or_against_a_node() {
    let memory = eventful().memory;
    let lasting = memory.without_times();
    assert_eq!((lasting.lease.last_tick_ms, lasting.lease.started_ms, lasting.lease.asked_ms), (0, 0, None));
    assert!(lasting.nodes.proofs.is_empty() && lasting.lease.leader.is_none() && lasting.lease.held_ms.is_none());
    assert!(lasting.history.asked_ms.is_none() && lasting.nodes.instances_asked_ms.is_none());
    assert_eq!((lasting.lease.armed, lasting.watching_since_s), (memory.lease.armed, memory.watching_since_s));
    assert_eq!((&lasting.nodes.evidence, &lasting.history.records), (&memory.nodes.evidence, &memory.history.records));
    assert_eq!((&lasting.nodes.released, &lasting.nodes.known), (&memory.nodes.released, &memory.nodes.known));
    assert_eq!(lasting.nodes.up_throughout, memory.nodes.up_throughout);
    assert_eq!(lasting.without_times(), lasting);
}

#[test]
fn a_memory_that_is_not_understood_is_refused_and_what_is_missing_in_it_is_as_at_a_first_start() {
    let read = |text: &str| serde_json::from_str::<Memory>(text);
    assert_eq!(read("{}").unwrap(), Memory::default());
    let partly = read(r#"{"lease":{"armed":true},"nodes":{"known":["Node01.:3306"]}}"#).unwrap();
    assert!(partly.lease.armed && partly.nodes.known.contains(&node("node01")));
    for damaged in [
        r#"{"armed":true}"#,
        r#"{"lease":{"armed":true,"from_the_future":1}}"#,
        r#"{"lease":{"armed":"yes"}}"#,
        r#"{"nodes":{"known":["node01"]}}"#,
        r#"{"lease":{"asked_ms":-1}}"#,
        r#"{"nodes":{"evidence":{"node01:3306":{"dreamt":{"kind":"dreamt","by":null,"source":"marker","id":"","at_s":0}}}}}"#,
        r#"{"nodes":{"evidence":{"node01:3306":{"manual":{"kind":"manual","by":null,"source":"dreamt","id":"","at_s":0}}}}}"#,
        r#"{"lease":{"armed":true}"#,
    ] {
        assert!(read(damaged).is_err(), "I1: {damaged}");
    }
}

#[test]
fn orders_that_are_not_understood_are_refused_and_an_order_of_the_moment_is_never_kept() {
    let read = |text: &str| serde_json::from_str::<Orders>(text);
    assert_eq!(read("{}").unwrap(), Orders::default());
    assert!(read(r#"{"suspend":"typo"}"#).is_err(), "a suspension that is misspelled must not be none");
    assert!(read(r#"{"now":{"Unfence":{"node":"node01:3306","without_lease":true}}}"#).is_err());
    let orders = Orders {
        suspended: Some("moving the switch".to_owned()),
        released: [(node("node01"), Release { recovery_ns: 1, downtime_s: 2, ordered_s: 3 })].into(),
        now: Some(Order::Unfence { node: node("node01"), without_lease: true, role: None }),
    };
    assert_eq!(read(&serde_json::to_string(&orders).unwrap()).unwrap(), Orders { now: None, ..orders });
}

#[test]
fn a_lost_state_is_a_first_start_that_keeps_what_the_rows_say() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").run_s(5);
    lab.leader_killed("orc2").purges_history().returns_writable("node01").state_lost();
    let decision = lab.run_s(60);
    assert_eq!(decision.kinds("node01"), [Superseded], "from the marker");
    let marker = &lab.row(Layer::Disk, 10, "node01").unwrap().comment;
    assert_eq!(marker, " [stonith:1 superseded by=node03:3306 was=ONLINE]", "and it still names the successor");
}
