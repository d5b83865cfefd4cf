//! What an operator orders: fence, unfence, suspend. An order is for one node, and is remembered by id.

use stonith_core::decide::{Guard, HoldReason, ProofGap, ReturnBlocker, Verdict, release_by_order};
use stonith_core::evidence::EvidenceKind::{Downtime, LostInRecovery, Manual, Superseded};
use stonith_core::evidence::{Level, Source};
use stonith_core::orchestrator::LOST_IN_RECOVERY;
use stonith_core::orders::Order;
use stonith_core::role::Role;
use stonith_core::table::{CheckType, Layer, Row, Status};

use crate::world::{Decided, LAYERS, Lab, Raft, node, row};

/// node01 failed over to node03, is fenced, and was made a replica while its downtime lasts.
fn failed_over() -> Lab {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").run_s(5);
    lab.follows("node01", "node03").run_s(5);
    assert_eq!(lab.fenced(), ["node01"]);
    lab
}

/// The command `unfence`: it puts the release on record first.
fn unfence_by_command(lab: &mut Lab, name: &str, without_lease: bool) {
    let release = release_by_order(&lab.memory, &lab.observed().leader, &node(name), lab.now_s());
    lab.orders.released.insert(node(name), release);
    lab.order_unfence(name, without_lease);
}

fn rows_of(lab: &Lab, name: &str) -> [Vec<Row>; 3] {
    lab.layers().map(|rows| rows.into_iter().filter(|row| row.node() == Some(node(name))).collect())
}

// --- fence ---------------------------------------------------------------------------------------------------------

#[test]
fn a_fence_order_takes_every_row_out_in_every_layer_at_the_level_it_names() {
    for (level, sessions) in [(Level::Soft, false), (Level::Sessions, true)] {
        let mut lab = Lab::healthy();
        lab.proxy.conn_used = [(node("node02"), 4), (node("node03"), 9)].into();
        let decision = lab.order(Order::Fence { node: node("node02"), level });
        assert!(matches!(decision.of("node02"), Verdict::Fence { level: at, .. } if *at == level));
        for layer in LAYERS {
            let row = lab.row(layer, 20, "node02").unwrap();
            assert_eq!((&row.status, row.comment.as_str()), (&Status::OfflineSoft, " [stonith:1 manual was=ONLINE]"));
        }
        assert_eq!(lab.proxy.conn_used.contains_key(&node("node02")), !sessions, "{level:?}");
        assert_eq!(lab.proxy.conn_used[&node("node03")], 9, "nobody else's sessions");
        assert_eq!(lab.fenced(), ["node02"]);
    }
}

#[test]
fn a_fence_order_is_carried_out_whatever_guards_a_downtime_and_without_any_leader() {
    for raft in [Raft::Silent, Raft::Leaderless, Raft::Blind, Raft::Conflict] {
        let mut lab = Lab::healthy();
        lab.policy.max_downtime_fences = 0;
        assert_eq!(lab.asked(raft.clone()).order_fence("node01").kinds("node01"), [Manual], "the healthy primary");
        assert_eq!(lab.fenced(), ["node01"], "{raft:?}");
    }
}

#[test]
fn a_fence_order_reaches_a_node_that_orchestrator_does_not_know_and_so_does_its_end() {
    let mut lab = Lab::healthy();
    lab.put(row(20, "stranger", Status::Online)).run_s(5);
    let before = lab.layers();
    assert_eq!(lab.next().held("stranger"), Some(&HoldReason::NotKnown));
    lab.order_fence("stranger");
    assert_eq!(lab.run_s(60).blocker("stranger"), Some(&ReturnBlocker::Operator));
    assert!(lab.is_fenced("stranger"));
    assert_eq!(lab.order_unfence("stranger", false).unfenced("stranger"), Some(Role::AsBefore));
    lab.run_s(5);
    assert_eq!(lab.layers(), before);
}

#[test]
fn i1_a_fence_order_does_not_touch_a_row_that_cannot_be_understood() {
    let mut lab = Lab::healthy();
    lab.edit(20, "node02", |row| row.status = Status::Unknown("DRAINING".to_owned()));
    let before = lab.layers();
    assert_eq!(lab.order_fence("node02").held("node02"), Some(&HoldReason::UnknownStatus("DRAINING".to_owned())));
    assert_eq!(lab.layers(), before);
}

#[test]
fn i2_an_ordered_fence_outlives_a_failover_and_the_proof_that_ends_it() {
    let mut lab = Lab::healthy();
    lab.order_fence("node01");
    lab.failover("node01", "node03").run_s(5);
    assert_eq!(
        lab.memory.nodes.evidence[&node("node01")][&Manual].source,
        Source::Operator,
        "a marker told of it, and does no more"
    );
    let marker = &lab.row(Layer::Disk, 10, "node01").unwrap().comment;
    assert_eq!(marker, " [stonith:1 superseded by=node03:3306 was=ONLINE]", "the highest rank is named");
    let decision = lab.repaired("node01").run_s(20);
    assert_eq!(decision.blocker("node01"), Some(&ReturnBlocker::Operator), "the operator's order is not over by that");
    assert_eq!((decision.kinds("node01"), lab.fenced()), (vec![Manual], vec!["node01".to_owned()]));
    unfence_by_command(&mut lab, "node01", false);
    lab.run_s(20);
    assert_eq!((lab.rows("node01"), lab.fenced().len()), ("20:ONLINE".to_owned(), 0));
    lab.order_fence("node01");
    lab.failover("node03", "node02").run_s(5);
    assert_eq!(lab.fenced(), ["node01", "node03"], "a newer order counts, whatever was released before");
}

#[test]
fn i9_a_fence_order_for_one_node_arms_and_fences_nothing_else() {
    let mut lab = Lab::new();
    lab.leader_gone().order_fence("node02");
    lab.run_s(120);
    assert_eq!((lab.fenced(), lab.memory.lease.armed), (vec!["node02".to_owned()], false));
}

// --- unfence -------------------------------------------------------------------------------------------------------

#[test]
fn an_unfence_order_is_refused_for_a_node_that_would_be_a_second_writer() {
    let mut lab = failed_over();
    let before = lab.layers();
    lab.returns_writable("node01").run_s(5);
    let refused = lab.order_unfence("node01", false);
    assert_eq!(refused.blocker("node01"), Some(&ReturnBlocker::Proof(vec![ProofGap::StandsAlone(node("node03"))])));
    lab.follows("node01", "node03").server("node01").read_only = false;
    assert_eq!(
        lab.order_unfence("node01", false).blocker("node01"),
        Some(&ReturnBlocker::Proof(vec![ProofGap::Writable]))
    );
    assert_eq!(lab.layers(), before);
    lab.server("node01").read_only = true;
    assert_eq!(lab.order_unfence("node01", false).unfenced("node01"), Some(Role::Replica));
    assert_eq!((lab.rows("node01"), lab.rows("node03")), ("20:ONLINE".into(), "10:ONLINE 20:ONLINE".into()));
}

#[test]
fn an_unfence_without_a_lease_gives_the_rows_back_as_they_were() {
    for raft in [Raft::Silent, Raft::Leaderless, Raft::Blind, Raft::Conflict] {
        let mut lab = Lab::healthy();
        lab.edit(20, "node01", |row| row.comment = "rack 7".to_owned());
        let before = rows_of(&lab, "node01");
        lab.failover("node01", "node03").run_s(5);
        assert_eq!(
            lab.asked(raft.clone()).order_unfence("node01", false).blocker("node01"),
            Some(&ReturnBlocker::Lease)
        );
        assert_eq!(lab.fenced(), ["node01"]);
        assert_eq!(lab.order_unfence("node01", true).unfenced("node01"), Some(Role::AsBefore));
        assert_eq!(rows_of(&lab, "node01"), before, "{raft:?}");
    }
}

#[test]
fn a_release_by_order_is_remembered_by_id_so_that_only_what_is_newer_fences_again() {
    // In the orders' file, or only in the memory of the agent that carried it out.
    for (raft, on_file) in
        [None, Some(Raft::Silent), Some(Raft::Blind)].into_iter().flat_map(|r| [(r.clone(), true), (r, false)])
    {
        let mut lab = failed_over();
        let without_lease = raft.is_some();
        if let Some(raft) = raft.clone() {
            lab.asked(raft);
        }
        if on_file {
            unfence_by_command(&mut lab, "node01", without_lease);
            lab.memory.nodes.released.clear();
            lab.proxy.released.clear();
        } else {
            lab.order_unfence("node01", without_lease);
        }
        assert!(lab.fenced().is_empty());
        let writes = lab.writes;
        lab.led_by("orc1").run_s(120);
        assert_eq!((lab.fenced().len(), lab.writes), (0, writes), "the record and the mark are still there: {raft:?}");
        lab.downtime("node01", LOST_IN_RECOVERY).server("node01").up = false;
        assert_eq!(lab.next().kinds("node01"), [LostInRecovery], "a newer mark: {raft:?}");
        lab.failover("node03", "node01");
        lab.run_s(5);
        lab.failover("node01", "node02");
        assert!(lab.next().kinds("node01").contains(&Superseded), "a newer record: {raft:?}");
    }
}

#[test]
fn a_node_that_was_released_counts_as_the_primary_that_it_is_again() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node02").run_s(5);
    // node02 is gone, and somebody made node01 the primary by hand.
    lab.dies("node02").returns_writable("node01").follows("node03", "node01");
    unfence_by_command(&mut lab, "node01", true);
    lab.downtime("node01", "maintenance");
    assert_eq!(lab.run_s(5).held("node01").cloned(), Some(HoldReason::Guarded(Guard::HealthyPrimary)));
}

#[test]
fn a_release_names_what_is_known_of_its_node_and_of_no_other() {
    let mut lab = failed_over();
    lab.downtime("node02", "maintenance").run_s(1);
    let mark_s = lab.downtimes.iter().find(|downtime| downtime.node == node("node01")).unwrap().begin_s;
    let leader = lab.observed().leader;
    let release = release_by_order(&lab.memory, &leader, &node("node01"), 7);
    let record_ns = lab.memory.history.records.values().next().unwrap().at_ns;
    assert_eq!((release.recovery_ns, release.downtime_s, release.ordered_s), (record_ns, mark_s, 7));
    let other = release_by_order(&lab.memory, &leader, &node("node02"), 8);
    assert!(other.recovery_ns == 0 && other.downtime_s > mark_s && other.ordered_s == 8, "{other:?}");
}

#[test]
fn the_level_of_an_order_is_that_of_its_node_only_and_a_marker_keeps_the_order() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03");
    let decision = lab.order_fence("node02");
    assert!(matches!(decision.of("node01"), Verdict::Fence { level: Level::Sessions, .. }));
    assert!(matches!(decision.of("node02"), Verdict::Fence { level: Level::Soft, .. }));
    assert!(!lab.memory.nodes.evidence.contains_key(&node("node02")), "its rows say it");
    let decision = lab.order_fence("node01");
    assert_eq!(decision.kinds("node01"), [Superseded, LostInRecovery, Manual]);
    let kept = &lab.run_s(2).memory.nodes.evidence[&node("node01")][&Manual];
    assert_eq!(kept.source, Source::Operator, "the marker names another's rank");
}

#[test]
fn a_release_is_for_one_node() {
    let mut lab = failed_over();
    lab.failover("node03", "node02").run_s(5);
    unfence_by_command(&mut lab, "node01", true);
    lab.repaired("node01").run_s(60);
    assert_eq!(lab.fenced(), ["node03"]);
}

#[test]
fn a_plain_downtime_that_an_operator_released_fences_no_more_and_a_newer_one_does() {
    let mut lab = Lab::healthy();
    let before = lab.layers();
    lab.downtime("node02", "maintenance").run_s(5);
    assert_eq!(lab.fenced(), ["node02"]);
    unfence_by_command(&mut lab, "node02", false);
    lab.run_s(60);
    assert_eq!(lab.layers(), before);
    lab.downtime("node02", "maintenance");
    assert_eq!(lab.next().kinds("node02"), [Downtime]);
}

#[test]
fn i3_an_unfence_order_leaves_what_is_not_ours() {
    for status in [Status::OfflineSoft, Status::OfflineHard] {
        for without_lease in [false, true] {
            let mut lab = Lab::healthy();
            lab.edit(20, "node02", |row| (row.status, row.comment) = (status.clone(), "broken disk".to_owned()));
            let before = lab.layers();
            lab.order_unfence("node02", without_lease);
            lab.run_s(5);
            assert_eq!(lab.layers(), before);
        }
    }
}

#[test]
fn while_isolated_an_unfence_order_needs_the_lease_or_a_suspension_to_last() {
    let mut lab = failed_over();
    lab.leader_gone().run_s(60);
    assert_eq!(lab.order_unfence("node01", false).blocker("node01"), Some(&ReturnBlocker::Lease));
    assert_eq!(lab.fenced(), ["node01", "node02", "node03"]);
    lab.orders.suspended = Some("Orchestrator is gone for good".to_owned());
    for name in ["node02", "node03"] {
        assert_eq!(lab.order_unfence(name, true).unfenced(name), Some(Role::AsBefore));
    }
    lab.run_s(60);
    assert_eq!(lab.fenced(), ["node01"]);
    lab.orders.suspended = None;
    lab.next();
    assert_eq!(lab.fenced(), ["node01", "node02", "node03"], "still no lease");
}

// --- suspend -------------------------------------------------------------------------------------------------------

#[test]
fn suspended_nothing_changes_but_an_ordered_node() {
    let mut lab = failed_over();
    lab.orders.suspended = Some("moving the switch".to_owned());
    let rest = |lab: &Lab| [rows_of(lab, "node01"), rows_of(lab, "node03")];
    let before = rest(&lab);
    lab.order_fence("node02");
    assert_eq!(lab.fenced(), ["node01", "node02"]);
    let held = HoldReason::Suspended("moving the switch".to_owned());
    lab.downtime_ends("node01").run_s(30);
    lab.leader_gone().run_s(60);
    assert_eq!(lab.next().held("node02"), Some(&held), "its order is over");
    lab.led_by("orc1").run_s(5);
    lab.downtime("node03", "maintenance").run_s(5);
    assert_eq!((lab.fenced(), rest(&lab)), (vec!["node01".to_owned(), "node02".to_owned()], before));
    assert_eq!(lab.order_unfence("node02", true).unfenced("node02"), Some(Role::AsBefore));
    assert_eq!(lab.rows("node02"), "20:ONLINE");
}

#[test]
fn after_a_suspension_what_speaks_for_and_against_each_node_counts_again() {
    let mut lab = failed_over();
    lab.orders.suspended = Some("moving the switch".to_owned());
    lab.downtime_ends("node01").failover("node03", "node02").run_s(10);
    lab.follows("node01", "node02").run_s(10);
    assert_eq!(lab.fenced(), ["node01"]);
    lab.orders.suspended = None;
    lab.next();
    assert_eq!(lab.fenced(), ["node01", "node03"]);
    lab.run_s(5);
    assert_eq!((lab.fenced(), lab.rows("node01")), (vec!["node03".to_owned()], "20:ONLINE".to_owned()));
}

#[test]
fn an_unfence_by_order_makes_no_primary_while_nobody_is_known_to_be_it() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").run_s(5);
    lab.returns_writable("node01").dies("node03").run_s(5);
    lab.order_unfence("node01", false);
    assert!(lab.is_fenced("node01"), "{}", lab.rows("node01"));
}

// --- the break-glass, and what an operator vouches for -----------------------------------------------------------------

#[test]
fn the_end_of_an_isolation_by_order_puts_rows_back_as_they_were_but_not_what_was_superseded() {
    let mut lab = failed_over();
    let before = lab.layers();
    lab.leader_gone().run_s(60);
    assert_eq!(lab.fenced(), ["node01", "node02", "node03"]);
    lab.orders.suspended = Some("the way out".to_owned());
    let decision = lab.order(Order::EndIsolation);
    assert_eq!(decision.unfenced("node03"), Some(Role::AsBefore));
    assert_eq!(decision.blocker("node01"), Some(&ReturnBlocker::Operator));
    assert_eq!(lab.layers(), before);
    lab.run_s(60);
    assert_eq!(lab.layers(), before, "suspended, it stays so");
}

#[test]
fn a_role_that_an_operator_vouches_for_is_taken_where_orchestrator_does_not_report_the_check() {
    let mut lab = failed_over();
    lab.proxy.pairs[0].check_type = CheckType::Other("super_read_only".to_owned());
    lab.downtime_ends("node01").run_s(30);
    assert_eq!(lab.fenced(), ["node01"], "never proven");
    let vouch = |role| Order::Unfence { node: node("node01"), without_lease: false, role: Some(role) };
    let second = lab.order(vouch(Role::Primary));
    assert_eq!(second.blocker("node01"), Some(&ReturnBlocker::Proof(vec![ProofGap::StandsAlone(node("node03"))])));
    lab.server("node01").read_only = false;
    assert_eq!(
        lab.order(vouch(Role::Replica)).blocker("node01"),
        Some(&ReturnBlocker::Proof(vec![ProofGap::Writable]))
    );
    lab.server("node01").read_only = true;
    assert_eq!(lab.order(vouch(Role::Replica)).unfenced("node01"), Some(Role::Replica));
    assert_eq!(lab.rows("node01"), "20:ONLINE");
}
