//! The barrier: the fence that Orchestrator's hook waits for before a promotion (design §5, §6).

use stonith_core::decide::{ProofGap, ReturnBlocker};
use stonith_core::evidence::EvidenceKind::{Barrier, LostInRecovery, Superseded};
use stonith_core::orchestrator::BARRIER;
use stonith_core::orders::Order;
use stonith_core::plan::Directive;
use stonith_core::policy::{FenceOn, Policy};
use stonith_core::role::Role;
use stonith_core::table::Status;

use crate::world::{Decided, HistoryRead, Lab, Raft, node};

/// node01 hangs, and the hook of its recovery has marked it. An agent has seen that.
fn marked() -> Lab {
    let mut lab = Lab::healthy();
    assert_eq!(lab.barrier("node01").next().kinds("node01"), [Barrier]);
    lab
}

#[test]
fn a_mark_fences_the_node_at_once_though_it_is_the_healthy_primary() {
    let mut lab = Lab::healthy();
    let decision = lab.barrier("node01").next();
    let fence = Directive::Fence { kind: Barrier, by: None, sessions: true };
    assert_eq!(decision.plan.directives[&node("node01")], fence);
    assert_eq!(
        (lab.fenced(), decision.blocker("node01")),
        (vec!["node01".to_owned()], Some(&ReturnBlocker::DowntimeEnd))
    );
    assert_eq!(lab.rows("node02"), "20:ONLINE");
}

#[test]
fn a_mark_fences_whatever_downtimes_do_and_however_new_the_watch_is() {
    let mut lab = Lab::healthy();
    lab.policy = Policy { fence_on: FenceOn::LostInRecovery, ..lab.policy };
    assert_eq!(lab.barrier("node01").next().kinds("node01"), [Barrier]);
    let mut lab = Lab::healthy();
    lab.barrier("node01").agent_restarts(15);
    assert_eq!(lab.next().kinds("node01"), [Barrier], "the mark is older than this watch");
    let mut lab = Lab::new();
    lab.barrier("node01").now_ms += 10_000;
    assert_eq!(lab.next().kinds("node01"), [Barrier], "an agent that never ran");
}

#[test]
fn a_mark_of_an_unconfirmed_leader_fences_and_its_absence_lets_nobody_back() {
    let mut lab = marked();
    lab.downtime_ends("node01").backed(stonith_core::orchestrator::Backing::Unconfirmed);
    assert_eq!(lab.run_s(30).blocker("node01"), Some(&ReturnBlocker::ConfirmedLeader));
}

#[test]
fn another_hook_aborts_after_ours_and_the_primary_that_is_seen_alive_comes_back_by_itself() {
    let mut lab = Lab::healthy();
    let before = lab.layers();
    lab.barrier("node01").next();
    lab.run_s(20);
    lab.downtime_ends("node01"); // 20 s have passed; the record stays open for good (facts §10)
    assert_eq!(lab.run_s(38).blocker("node01"), Some(&ReturnBlocker::Recovery));
    lab.run_s(10);
    assert_eq!(lab.layers(), before);
}

#[test]
fn a_recovery_that_promoted_nobody_ends_the_fence_two_proofs_later() {
    let mut lab = marked();
    lab.downtime_ends("node01").barrier_in_vain();
    assert_eq!(lab.next().blocker("node01"), Some(&ReturnBlocker::SecondProof(Role::Primary)));
    assert_eq!(lab.run_s(2).unfenced("node01"), Some(Role::Primary));
    assert!(lab.fenced().is_empty());
}

#[test]
fn a_dead_primary_stays_out_after_an_abort_until_it_is_seen_alive_with_replicas() {
    let mut lab = marked();
    lab.dies("node01").downtime_ends("node01");
    assert_eq!(lab.run_s(90).blocker("node01"), Some(&ReturnBlocker::Proof(vec![ProofGap::NotValid])));
    lab.returns_writable("node01");
    let gaps = vec![ProofGap::SuccessorNotFollowing];
    assert_eq!(lab.run_s(10).blocker("node01"), Some(&ReturnBlocker::Proof(gaps)), "nobody follows it yet");
    lab.follows("node02", "node01").run_s(4);
    assert_eq!(lab.rows("node01"), "10:ONLINE 20:ONLINE");
}

#[test]
fn the_record_takes_over_from_the_mark_without_a_gap() {
    let mut lab = marked();
    lab.barrier_promotes("node01", "node02").downtime("node01", "lost-in-recovery");
    assert_eq!(lab.next().kinds("node01"), [Superseded, LostInRecovery, Barrier]);
    // The old primary rejoins: the proof of the record ends all of it.
    lab.repaired("node01").run_s(5);
    assert_eq!(lab.rows("node01"), "20:ONLINE");
}

#[test]
fn no_gap_opens_when_the_mark_runs_out_before_a_late_record() {
    let mut lab = marked();
    lab.run_s(20);
    lab.downtime_ends("node01"); // alive, writable, and its replicas still run from it
    for _ in 0..30 {
        assert_eq!(lab.next().kinds("node01"), [Barrier]);
    }
    lab.barrier_promotes("node01", "node02");
    assert_eq!(lab.next().kinds("node01")[0], Superseded);
}

#[test]
fn no_gap_opens_when_the_leader_dies_and_the_next_one_has_no_mark_of_its_own() {
    let mut lab = marked();
    lab.barrier_promotes("node01", "node02").downtime("node01", "lost-in-recovery");
    let record = lab.records.pop().unwrap();
    lab.leader_killed("orc2");
    for _ in 0..40 {
        assert!(lab.next().kinds("node01").contains(&Barrier), "its record has not reached the next leader");
    }
    lab.records.push(record);
    for _ in 0..31 {
        assert!(lab.next().kinds("node01").contains(&Barrier));
    }
    assert_eq!(lab.next().kinds("node01")[0], Superseded);
}

/// Seconds after a failover behind a barrier somebody switches node01 back by hand, while the agent is stopped.
fn is_switched_back_unwatched(mut lab: Lab) {
    lab.barrier_promotes("node01", "node02").downtime("node01", "lost-in-recovery").run_s(3);
    assert_eq!(lab.fenced(), ["node01"]);
    for hostgroup in [10, 20] {
        lab.edit(hostgroup, "node01", |row| (row.status, row.comment) = (Status::Online, String::new()));
    }
    lab.server("node01").read_only = false;
    (lab.server("node01").primary, lab.server("node01").replicating) = (None, false);
    lab.follows("node02", "node01").follows("node03", "node01").downtime_ends("node01").primary = node("node01");
    lab.server("node02").read_only = true;
    lab.agent_restarts(20);
    for _ in 0..50 {
        assert_eq!(lab.next().kinds("node01"), []);
    }
    assert_eq!(lab.rows("node01"), "10:ONLINE 20:ONLINE");
}

#[test]
fn a_barrier_whose_recovery_has_ended_fences_no_node_that_was_made_the_primary_again_unwatched() {
    is_switched_back_unwatched(marked());
}

#[test]
fn a_barrier_whose_record_never_came_fences_no_node_that_was_made_the_primary_again_unwatched() {
    let mut lab = marked();
    lab.history = HistoryRead::Nothing;
    is_switched_back_unwatched(lab);
}

/// The agent was cut off while the mark was listed. It knows of the barrier from another agent's marker, which names no
/// recovery, and saw that later than the recovery began.
#[test]
fn a_marker_of_a_barrier_whose_recovery_has_ended_fences_no_node_that_was_made_the_primary_again_unwatched() {
    let mut lab = marked();
    lab.run_s(10);
    lab.downtime_ends("node01").state_lost();
    assert_eq!(lab.run_s(3).kinds("node01"), [Barrier]);
    is_switched_back_unwatched(lab);
}

/// Nobody ever hears how the recovery ended, and a replica that Orchestrator did not move follows the old primary.
#[test]
fn an_old_primary_with_a_replica_stays_out_beside_a_node_that_takes_writes() {
    let mut lab = marked();
    let promoted = lab.server("node02");
    (promoted.primary, promoted.replicating, promoted.read_only) = (None, false, false);
    lab.primary = node("node02");
    lab.downtime_ends("node01");
    let gaps = vec![ProofGap::StandsAlone(node("node02"))];
    assert_eq!(lab.run_s(120).blocker("node01"), Some(&ReturnBlocker::Proof(gaps.clone())));
    lab.dies("node02");
    assert_eq!(lab.run_s(60).blocker("node01"), Some(&ReturnBlocker::Proof(gaps)), "by its last known values");
}

#[test]
fn a_state_that_is_lost_starts_the_wait_anew_from_the_marker() {
    let mut lab = marked();
    lab.run_s(20);
    lab.downtime_ends("node01").run_s(30);
    lab.state_lost();
    assert_eq!(lab.run_s(55).kinds("node01"), [Barrier]);
    assert_eq!(lab.run_s(2).blocker("node01"), Some(&ReturnBlocker::Recovery), "60 s from this agent's first sight");
    lab.run_s(8);
    assert!(lab.fenced().is_empty());
}

#[test]
fn a_left_over_mark_never_fences_the_node_that_a_later_recovery_promoted() {
    for owner_is_uid in [true, false] {
        let mut lab = Lab::healthy();
        lab.observe_only = true; // this agent saw nothing of the first recovery
        lab.barrier("node01");
        if !owner_is_uid {
            lab.downtimes[0].owner = "dba".to_owned();
        }
        lab.barrier_promotes("node01", "node02").now_ms += 2_000;
        lab.failover("node02", "node01").follows("node03", "node01");
        let decision = lab.next();
        assert_eq!(decision.kinds("node01"), [], "its mark is from an earlier recovery");
        assert_eq!(decision.kinds("node02")[0], Superseded);
        // The control: the mark of a later recovery.
        lab.now_ms += 2_000;
        lab.barrier("node01");
        assert_eq!(lab.next().kinds("node01"), [Barrier]);
    }
}

#[test]
fn a_node_that_is_promoted_while_a_barrier_keeps_it_out_comes_back_as_the_primary() {
    let mut lab = marked();
    lab.barrier_promotes("node01", "node02").next();
    lab.follows("node01", "node02").run_s(1);
    assert_eq!(lab.fenced(), ["node01"]);
    lab.failover("node02", "node01").follows("node03", "node01").next();
    lab.repaired("node02").run_s(5);
    assert_eq!(lab.rows("node01"), "10:ONLINE 20:ONLINE", "though the mark is still listed");
}

#[test]
fn an_operator_ends_a_barrier_and_its_mark_counts_no_more_but_the_record_does() {
    let mut lab = marked();
    let unfence = Order::Unfence { node: node("node01"), without_lease: false, role: None };
    assert_eq!(lab.order(unfence).unfenced("node01"), Some(Role::Primary));
    let writes = lab.writes;
    lab.run_s(5);
    assert_eq!(lab.writes, writes, "the mark is released by its begin");
    lab.barrier_promotes("node01", "node02");
    assert_eq!(lab.run_s(31).kinds("node01")[0], Superseded, "releasing the barrier releases no recovery");
}

#[test]
fn a_fence_that_ended_by_time_releases_no_recovery_either() {
    let mut lab = marked();
    lab.downtime_ends("node01").run_s(70);
    assert!(lab.fenced().is_empty());
    lab.barrier_promotes("node01", "node02");
    assert_eq!(lab.run_s(31).kinds("node01")[0], Superseded);
}

#[test]
fn a_mark_is_no_plain_downtime_and_ends_as_a_barrier_does() {
    let mut lab = Lab::healthy();
    lab.barrier("node02").next();
    assert_eq!(lab.fenced(), ["node02"]);
    assert_eq!(lab.run_s(20).kinds("node02"), [Barrier]);
    lab.downtime_ends("node02").run_s(3);
    assert_eq!(lab.rows("node02"), "20:ONLINE", "a replica takes no writes, so its proof is enough");
    assert_eq!(BARRIER, "proxysql-stonith-barrier");
}

/// The promoted node stands beside the marked node, which the rows still show as the primary, since its fence is not done
/// yet. It is no second writer.
#[test]
fn the_promoted_node_is_no_second_writer_beside_the_marked_one() {
    for is_marked in [true, false] {
        let mut lab = Lab::healthy();
        (lab.observe_only, lab.monitor) = (true, false);
        lab.put(crate::world::row(10, "node02", Status::Online)).rows_go_stale();
        if is_marked {
            lab.barrier("node01");
        }
        lab.run_s(3);
        let now_s = lab.now_s();
        lab.stale.iter_mut().flatten().for_each(|instance| instance.checked_s = now_s);
        assert_eq!(lab.next().kinds("node02").is_empty(), is_marked);
    }
}

#[test]
fn an_isolation_that_ends_leaves_a_marked_node_out() {
    let mut lab = Lab::healthy();
    assert!(lab.leader_gone().run_s(15).isolated());
    lab.barrier("node01")
        .asked(Raft::Led { leader: "orc1".to_owned(), backing: stonith_core::orchestrator::Backing::Majority });
    let decision = lab.run_s(5);
    assert_eq!((decision.kinds("node01"), lab.fenced()), (vec![Barrier], vec!["node01".to_owned()]));
}
