//! The first start, arming, and starting again: what is old is no reason to take traffic away.

use stonith_core::decide::HoldReason;
use stonith_core::evidence::EvidenceKind::{Isolation, LostInRecovery, Superseded};
use stonith_core::lease::LeaseState;
use stonith_core::memory::{FirstProof, LeaseMemory, Memory, SteadyLeader};
use stonith_core::orchestrator::{Backing, Downtime, LOST_IN_RECOVERY};
use stonith_core::orders::Release;
use stonith_core::role::Role;
use stonith_core::table::CheckType;

use crate::world::{DAY_S, Decided, Lab, Raft, START_MS, node};

/// A new agent where node02 and node01 were failed over and taken over from, days ago; all are well now.
fn with_history() -> Lab {
    let mut lab = Lab::new();
    lab.record(6 * DAY_S, "node01", Some("node02"));
    lab.record(5 * DAY_S, "node02", Some("node01"));
    lab.record(3 * DAY_S, "node03", Some("node01"));
    let (node, begin_s) = (node("node03"), lab.now_s() - 3 * DAY_S);
    lab.downtimes.push(Downtime { node, reason: LOST_IN_RECOVERY.to_owned(), owner: "orc1".to_owned(), begin_s });
    lab
}

#[test]
fn i9_a_first_start_with_an_old_history_of_healthy_nodes_fences_nothing() {
    let mut lab = with_history();
    let decision = lab.next();
    assert!(matches!(decision.held("node03"), Some(HoldReason::OldEvidence(_))), "held, and shown");
    lab.run_s(120);
    assert_eq!(lab.writes, 0);
}

#[test]
fn an_old_record_is_discharged_so_that_a_later_death_does_not_count_it() {
    let mut lab = with_history();
    lab.run_s(10);
    lab.dies("node03").dies("node02").run_s(60);
    assert_eq!(lab.writes, 0, "a dead replica is ProxySQL's own business");
}

#[test]
fn an_old_mark_is_not_discharged_by_rows_of_before_it() {
    let mut lab = Lab::new();
    lab.rows_go_stale();
    let (node, begin_s) = (node("node02"), lab.now_s() - 10);
    lab.downtimes.push(Downtime { node, reason: LOST_IN_RECOVERY.to_owned(), owner: "orc1".to_owned(), begin_s });
    assert!(matches!(lab.run_s(20).held("node02"), Some(HoldReason::OldEvidence(_))));
    lab.stale = None;
    assert_eq!(lab.run_s(20).held("node02"), None, "checked since, and well");
}

#[test]
fn a_new_mark_fences_though_an_old_record_of_the_same_node_is_held() {
    let mut lab = Lab::new();
    lab.record(3 * DAY_S, "node02", Some("node01"));
    lab.backed(Backing::Unconfirmed);
    assert!(matches!(lab.next().held("node02"), Some(HoldReason::OldEvidence(_))));
    lab.downtime("node02", LOST_IN_RECOVERY);
    assert_eq!(lab.next().kinds("node02"), [Superseded, LostInRecovery], "the record rides on it, at once");
}

#[test]
fn an_old_record_against_a_node_proven_bad_fences() {
    let harms: [fn(&mut Lab); 3] = [
        |lab| lab.server("node02").up = false,
        |lab| _ = lab.returns_writable("node02"),
        |lab| lab.server("node02").replicating = false,
    ];
    for harm in harms {
        let mut lab = Lab::new();
        lab.record(3 * DAY_S, "node02", Some("node01"));
        harm(&mut lab);
        assert_eq!(lab.next().kinds("node02"), [Superseded]);
        lab.run_s(30);
        assert_eq!(lab.fenced(), ["node02"]);
    }
}

#[test]
fn i9_an_old_record_against_a_node_of_which_nothing_is_known_is_held() {
    let mut lab = Lab::new();
    lab.record(3 * DAY_S, "node02", Some("node01"));
    lab.server("node02").listed = false;
    let decision = lab.run_s(60);
    assert!(matches!(decision.held("node02"), Some(HoldReason::OldEvidence(_))));
    assert_eq!(lab.writes, 0);
}

#[test]
fn i9_an_old_record_that_cannot_be_proven_over_does_not_ride_on_another_fence() {
    let mut lab = Lab::new();
    lab.proxy.pairs[0].check_type = CheckType::parse("super_read_only");
    lab.record(3 * DAY_S, "node02", Some("node01"));
    lab.run_s(30);
    let before = lab.layers();
    let decision = lab.leader_gone().run_s(30);
    assert_eq!(decision.kinds("node02"), [Isolation]);
    lab.led_by("orc1").run_s(5);
    assert_eq!(lab.layers(), before);
    lab.downtime("node02", "maintenance").run_s(5);
    assert_eq!(lab.fenced(), ["node02"]);
    lab.downtime_ends("node02").run_s(5);
    assert_eq!(lab.layers(), before);
}

#[test]
fn i9_a_wrong_endpoint_or_password_at_first_start_takes_nothing_away() {
    for raft in [Raft::Silent, Raft::Blind, Raft::Conflict, Raft::Leaderless] {
        let mut lab = Lab::new();
        lab.policy.blind_isolates = true;
        let decision = lab.asked(raft.clone()).run_s(600);
        assert_eq!((lab.writes, lab.memory.lease.armed), (0, false), "{raft:?}");
        assert!(matches!(decision.lease_state, LeaseState::Unarmed | LeaseState::Held));
    }
}

#[test]
fn i9_a_leader_of_other_nodes_does_not_arm() {
    let mut lab = Lab::new();
    lab.server("node01").listed = false;
    lab.run_s(30);
    assert!(!lab.memory.lease.armed, "it knows the readers, but not the writer");
    lab.leader_gone().run_s(60);
    assert_eq!(lab.writes, 0, "and unarmed never isolates");
}

#[test]
fn a_lease_that_knows_the_writers_arms_at_once_and_for_good() {
    let mut lab = Lab::new();
    lab.next();
    assert!(lab.memory.lease.armed);
    lab.forgets("node01").run_s(30);
    assert!(lab.memory.lease.armed, "knew it once");
}

#[test]
fn a_lost_state_with_isolation_markers_is_armed_and_isolated() {
    let mut lab = Lab::healthy();
    let before = lab.layers();
    lab.leader_gone().run_s(20);
    let decision = lab.state_lost().next();
    assert!(lab.memory.lease.armed && decision.isolated());
    lab.run_s(60);
    assert_eq!(lab.fenced(), ["node01", "node02", "node03"]);
    lab.led_by("orc1").run_s(4);
    assert_eq!(lab.layers(), before);
}

#[test]
fn a_lost_state_without_markers_is_a_first_start_and_fences_again_what_is_marked_only() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").next();
    lab.now_ms += 3_600_000;
    let decision = lab.returns_writable("node01").state_lost().next();
    assert_eq!(decision.kinds("node01"), [Superseded, LostInRecovery]);
    assert!(decision.plan.is_empty(), "the same bytes as before: {:?}", decision.plan.changes);
}

// --- Memory::resume --------------------------------------------------------------------------------------------

fn kept() -> Memory {
    let mut memory = Memory { boot_id: "boot".to_owned(), ..Memory::default() };
    memory.lease = LeaseMemory {
        armed: true,
        asked_ms: Some(START_MS),
        started_ms: 5,
        last_tick_ms: START_MS,
        leader: Some(SteadyLeader { name: "orc1".to_owned(), since_ms: 5 }),
        ..LeaseMemory::default()
    };
    memory.nodes.proofs = [(node("node01"), FirstProof { role: Role::Replica, at_ms: START_MS })].into();
    memory.nodes.released = [(node("node02"), Release { recovery_ns: 1, downtime_s: 2, ordered_s: 3 })].into();
    memory
}

#[test]
fn resuming_within_the_gap_goes_on_as_if_nothing_had_been() {
    let now_ms = START_MS + 2_000;
    let mut expected = kept();
    expected.lease.last_tick_ms = now_ms;
    assert_eq!(kept().resume("boot", now_ms, 2_000), expected);
}

#[test]
fn resuming_after_a_longer_pause_starts_the_wait_and_every_proof_anew() {
    let now_ms = START_MS + 2_001;
    let resumed = kept().resume("boot", now_ms, 2_000);
    let mut expected = kept();
    expected.lease = LeaseMemory { started_ms: now_ms, last_tick_ms: now_ms, leader: None, ..expected.lease };
    expected.nodes.proofs.clear();
    assert_eq!(resumed, expected, "armed, lease and releases are kept");
}

#[test]
fn resuming_after_a_host_boot_has_no_lease_and_waits_for_nothing() {
    for now_ms in [1, START_MS + 500, START_MS * 2] {
        let resumed = kept().resume("another", now_ms, 2_000);
        let LeaseMemory { armed, asked_ms, started_ms, leader, .. } = resumed.lease;
        assert_eq!((armed, asked_ms, started_ms, leader), (true, None, 0, None));
        assert!(resumed.nodes.proofs.is_empty() && resumed.boot_id == "another");
        assert_eq!(resumed.nodes.released, kept().nodes.released);
    }
}

#[test]
fn resuming_with_times_from_the_future_has_no_lease_and_waits_once() {
    let now_ms = START_MS - 1;
    let (mut tick_only, mut lease_only) = (kept(), kept());
    tick_only.lease.asked_ms = None;
    lease_only.lease.last_tick_ms = 0;
    for memory in [kept(), tick_only, lease_only] {
        let LeaseMemory { asked_ms, started_ms, leader, .. } = memory.resume("boot", now_ms, 2_000).lease;
        assert_eq!((asked_ms, started_ms, leader), (None, now_ms, None));
    }
}
