//! Rings, and replica settings that were left on a primary: a MasterKey says nothing of a node's role.

use stonith_core::decide::{Guard, HoldReason, ProofGap, ReturnBlocker, Verdict, release_by_order};
use stonith_core::evidence::EvidenceKind::Superseded;
use stonith_core::role::Role;

use crate::world::{Decided, Lab, node};

/// node01 takes the writes of a ring whose other half, node02, is down.
fn half_a_ring() -> Lab {
    let mut lab = Lab::new();
    lab.follows("node02", "node01").dies("node02").has_settings_left("node01", "node02").run_s(60);
    assert!(lab.memory.lease.armed && lab.writes == 0);
    lab
}

#[test]
fn the_writer_of_a_ring_whose_other_half_is_down_is_back_as_before_after_an_isolation() {
    let mut lab = half_a_ring();
    let before = lab.layers();
    lab.leader_gone().run_s(30);
    assert_eq!(lab.fenced(), ["node01", "node02", "node03"], "out");
    lab.led_by("orc1").run_s(4);
    assert_eq!(lab.layers(), before);
}

#[test]
fn a_primary_with_replica_settings_of_a_server_that_nobody_knows_is_back_as_before_after_an_isolation() {
    for replicating in [true, false] {
        let mut lab = Lab::new();
        lab.has_settings_left("node01", "elsewhere").server("node01").replicating = replicating;
        lab.run_s(60);
        let before = lab.layers();
        lab.leader_gone().run_s(30);
        lab.led_by("orc1").run_s(4);
        assert_eq!(lab.layers(), before, "its replication runs: {replicating}");
    }
}

#[test]
fn a_node_promoted_without_reset_is_the_primary_and_the_repaired_one_returns_as_its_replica() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").has_settings_left("node03", "node01").run_s(5);
    assert_eq!((lab.fenced(), lab.rows("node03")), (vec!["node01".to_owned()], "10:ONLINE 20:ONLINE".into()));
    let before = lab.layers();
    lab.leader_gone().run_s(30);
    lab.led_by("orc1").run_s(4);
    assert_eq!(lab.layers(), before, "an isolation ends as before, whatever its MasterKey says");
    lab.repaired("node01").run_s(5);
    assert_eq!((lab.fenced().len(), lab.rows("node01")), (0, "20:ONLINE".to_owned()));
}

#[test]
fn an_unfence_order_works_for_the_writer_of_a_ring() {
    let mut lab = half_a_ring();
    let before = lab.layers();
    lab.order_fence("node01");
    assert_eq!(lab.fenced(), ["node01"]);
    assert!(lab.order_unfence("node01", false).unfenced("node01").is_some());
    assert_eq!(lab.layers(), before);
}

#[test]
fn a_downtime_never_takes_the_writer_of_a_ring() {
    let mut lab = half_a_ring();
    let decision = lab.downtime("node01", "maintenance").run_s(5);
    assert_eq!(decision.held("node01"), Some(&HoldReason::Guarded(Guard::HealthyPrimary)));
    assert_eq!(lab.writes, 0);
}

#[test]
fn an_old_primary_from_which_the_writable_successor_replicates_stays_out_and_the_successor_stays_in() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").run_s(5);
    // Promoted without RESET SLAVE ALL: its replication finds the old primary again.
    lab.returns_writable("node01").has_settings_left("node03", "node01").server("node03").replicating = true;
    lab.downtime_ends("node01").purges_history();
    for _ in 0..30 {
        lab.next();
        assert_eq!((lab.fenced(), lab.rows("node03")), (vec!["node01".to_owned()], "10:ONLINE 20:ONLINE".into()));
    }
    // Read-only, it is a replica: the switch back is proven.
    lab.server("node03").read_only = true;
    lab.follows("node02", "node01").run_s(5);
    assert_eq!((lab.fenced().len(), lab.rows("node01").as_str()), (0, "10:ONLINE 20:ONLINE"));
}

#[test]
fn a_read_only_node_is_no_present_primary_and_never_gets_a_writer_row() {
    let mut lab = Lab::healthy();
    let before = lab.layers();
    lab.leader_gone().run_s(30);
    lab.dies("node01").server("node02").primary = None;
    lab.led_by("orc1").run_s(10);
    assert_eq!(lab.layers(), before, "whatever stands alone beside a primary that is down");
    // Control: a writable one in its place is the primary.
    lab.leader_gone().run_s(30);
    lab.server("node02").read_only = false;
    lab.led_by("orc1").run_s(10);
    assert_eq!(lab.rows("node02"), "10:ONLINE 20:ONLINE");
}

#[test]
fn the_read_only_half_of_a_ring_returns_as_a_replica_after_a_recovery() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node02").run_s(5);
    lab.repaired("node01").has_settings_left("node02", "node01").server("node02").replicating = true;
    let decision = lab.run_s(2);
    assert_eq!(decision.blocker("node01"), Some(&ReturnBlocker::SecondProof(Role::Replica)));
    lab.next();
    assert_eq!(lab.rows("node01"), "20:ONLINE");
    lab.server("node01").read_only = false;
    lab.run_s(5);
    assert_eq!(lab.rows("node02"), "10:ONLINE 20:ONLINE", "and if it is made writable, the other one stays");
}

#[test]
fn an_old_record_against_a_node_that_running_replicas_follow_is_held_and_said() {
    let mut lab = Lab::new();
    lab.record(3 * crate::world::DAY_S, "node02", Some("node01"));
    // Since then node02 was made the primary by hand; node01 is up, read-only, alone.
    lab.switched_by_hand("node02").server("node01").primary = None;
    lab.server("node01").read_only = true;
    let decision = lab.run_s(60);
    assert!(matches!(decision.held("node02"), Some(HoldReason::Contradicted(fact)) if fact.kind == Superseded));
    assert_eq!((lab.fenced().len(), lab.rows("node02").contains("10:ONLINE")), (0, true));
    // What was contradicted once is no evidence when the node dies later.
    lab.dies("node02").run_s(30);
    assert_eq!(lab.fenced().len(), 0);
    lab.returns_writable("node02").follows("node03", "node02");
    assert!(
        matches!(lab.run_s(5).held("node02"), Some(HoldReason::Contradicted(_))),
        "said for as long as nobody settles it"
    );
    let release = release_by_order(&lab.memory, &lab.observed().leader, &node("node02"), lab.now_s());
    lab.orders.released.insert(node("node02"), release);
    assert_eq!(lab.next().of("node02"), &Verdict::Keep, "`unfence` settles it");
}

#[test]
fn an_old_record_whose_successor_takes_writes_too_fences_neither_of_the_two() {
    let mut lab = Lab::new();
    lab.record(3 * crate::world::DAY_S, "node02", Some("node01"));
    lab.switched_by_hand("node02").returns_writable("node01");
    let decision = lab.run_s(60);
    assert!(matches!(decision.held("node02"), Some(HoldReason::Contradicted(_))));
    assert_eq!(lab.fenced().len(), 0);
    // Control: once replicas follow the successor as well, the record is no riddle any more.
    let mut lab = Lab::new();
    lab.record(3 * crate::world::DAY_S, "node02", Some("node01"));
    lab.switched_by_hand("node02").returns_writable("node01");
    let like = lab.servers[&node("node03")].clone();
    lab.servers.insert(node("node04"), like);
    lab.follows("node04", "node01").run_s(10);
    assert_eq!(lab.fenced(), ["node02"]);
}

#[test]
fn what_speaks_against_a_return_is_named_whole() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").run_s(5);
    let server = lab.server("node01");
    (server.up, server.primary, server.errant_gtid) = (true, Some(node("node03")), "uuid:7-9".to_owned());
    let gaps =
        vec![ProofGap::NotReplicating(String::new()), ProofGap::Writable, ProofGap::ErrantGtid("uuid:7-9".to_owned())];
    assert_eq!(lab.run_s(5).blocker("node01"), Some(&ReturnBlocker::Proof(gaps)));
}
