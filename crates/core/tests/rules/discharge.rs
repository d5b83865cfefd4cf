//! What lets a fenced node back: proof, in the role that it has now; never absence.

use stonith_core::condition::conditions;
use stonith_core::decide::{HoldReason, ProofGap, ReturnBlocker, Verdict, release_by_order};
use stonith_core::evidence::EvidenceKind::{Barrier, Downtime, LostInRecovery, Manual, SecondWriter, Superseded};
use stonith_core::evidence::{Evidence, Source};
use stonith_core::orchestrator::{Backing, LOST_IN_RECOVERY};
use stonith_core::orders::Release;
use stonith_core::plan::Directive;
use stonith_core::policy::ErrantGtid;
use stonith_core::role::Role;
use stonith_core::table::{CheckType, Layer, Row, Status};

use crate::world::{self, Decided, LAYERS, Lab, Raft, node, row};

/// node01 failed over to node03 a minute ago, and is fenced.
fn failed_over() -> Lab {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").run_s(60);
    assert_eq!(lab.fenced(), ["node01"]);
    lab
}

#[test]
fn a_repaired_node_comes_back_as_a_reader_after_two_proofs_two_seconds_apart() {
    let mut lab = failed_over();
    lab.repaired("node01");
    let first_ms = lab.now_ms + 100;
    for after_ms in [0, 1_000, 1_999] {
        let decision = lab.tick(first_ms + after_ms);
        assert_eq!(decision.blocker("node01"), Some(&ReturnBlocker::SecondProof(Role::Replica)), "{after_ms} ms");
    }
    assert_eq!(lab.tick(first_ms + 2_000).unfenced("node01"), Some(Role::Replica));
    for layer in LAYERS {
        assert_eq!(lab.rows_in(layer, "node01"), "20:ONLINE", "no writer row in {layer}: no errors 1290");
        assert_eq!(lab.row(layer, 20, "node01").unwrap(), &row(20, "node01", Status::Online), "the comment as it was");
    }
    let writes = lab.writes;
    lab.run_s(600);
    assert_eq!(lab.writes, writes, "and it is not fenced again, though the record is still there");
}

#[test]
fn a_missing_reader_row_is_made_from_the_writer_rows_settings() {
    let mut lab = Lab::new();
    for rows in [&mut lab.proxy.runtime, &mut lab.proxy.memory, &mut lab.proxy.disk] {
        rows.retain(|other| other.key != row(20, "node01", Status::Online).key);
    }
    lab.edit(10, "node01", |row| row.comment = "rack 7".to_owned()).run_s(10);
    lab.failover("node01", "node03").run_s(10);
    lab.repaired("node01").run_s(5);
    for layer in LAYERS {
        assert_eq!(lab.rows_in(layer, "node01"), "20:ONLINE");
        let made = lab.row(layer, 20, "node01").unwrap();
        assert_eq!((made.settings["weight"].as_str(), made.comment.as_str()), ("10", "rack 7"));
    }
}

#[test]
fn a_proof_that_breaks_in_between_begins_anew() {
    let mut lab = failed_over();
    lab.repaired("node01").next();
    lab.server("node01").replicating = false;
    assert_eq!(
        lab.next().blocker("node01"),
        Some(&ReturnBlocker::Proof(vec![ProofGap::NotReplicating(String::new())]))
    );
    lab.server("node01").replicating = true;
    lab.run_s(2);
    assert!(lab.is_fenced("node01"));
    lab.next();
    assert!(!lab.is_fenced("node01"));
}

#[test]
fn each_thing_that_is_missing_of_the_proof_keeps_it_out_and_is_named() {
    type Damage = fn(&mut Lab);
    let damages: [(ProofGap, Damage); 6] = [
        (ProofGap::Writable, |lab| lab.server("node01").read_only = false),
        (ProofGap::NotReplicating(String::new()), |lab| lab.server("node01").replicating = false),
        (ProofGap::NotValid, |lab| lab.server("node01").up = false),
        (ProofGap::Unlisted, |lab| lab.server("node01").listed = false),
        (ProofGap::LeadsElsewhere(node("node03")), |lab| lab.server("node01").primary = Some(node("elsewhere"))),
        (ProofGap::CheckTypeUnseen("super_read_only".to_owned()), |lab| {
            lab.proxy.pairs[0].check_type = CheckType::parse("super_read_only");
        }),
    ];
    for (missing, damage) in damages {
        let mut lab = failed_over();
        damage(lab.repaired("node01"));
        let decision = lab.run_s(60);
        assert_eq!(decision.blocker("node01"), Some(&ReturnBlocker::Proof(vec![missing])));
        assert!(lab.is_fenced("node01"));
    }
}

#[test]
fn a_ring_leads_to_no_primary_and_a_chain_does() {
    let mut lab = failed_over();
    lab.repaired("node01").follows("node02", "node01").follows("node01", "node02").run_s(10);
    assert!(lab.is_fenced("node01"), "node01 and node02 replicate from each other");
    lab.follows("node02", "node03").run_s(5);
    assert_eq!(lab.rows("node01"), "20:ONLINE", "node01 from node02 from node03");
}

#[test]
fn read_only_is_required_of_a_replica_without_any_pair_too() {
    let mut lab = Lab::new();
    lab.proxy.pairs.clear();
    lab.run_s(10);
    lab.failover("node01", "node03").run_s(5);
    assert_eq!(lab.fenced(), ["node01"]);
    lab.repaired("node01").server("node01").read_only = false;
    assert_eq!(lab.run_s(5).blocker("node01"), Some(&ReturnBlocker::Proof(vec![ProofGap::Writable])));
    assert_eq!(lab.fenced(), ["node01"]);
    lab.server("node01").read_only = true;
    lab.run_s(5);
    assert_eq!(lab.rows("node01"), "10:ONLINE 20:ONLINE", "there are no roles here");
}

#[test]
fn i8_good_news_waits_for_a_majority_and_two_seconds_of_the_same_leader() {
    let mut lab = failed_over();
    lab.repaired("node01").backed(Backing::Unconfirmed);
    assert_eq!(lab.run_s(60).blocker("node01"), Some(&ReturnBlocker::ConfirmedLeader));
    // Leaders that change each second are never steady.
    for round in 0..10 {
        assert_eq!(
            lab.led_by(["orc2", "orc1"][round % 2]).next().blocker("node01"),
            Some(&ReturnBlocker::ConfirmedLeader)
        );
    }
    let from_ms = lab.now_ms + 1_000;
    while lab.is_fenced("node01") {
        lab.led_by("orc3").next();
        assert!(lab.now_ms < from_ms + 60_000);
    }
    assert_eq!(lab.now_ms - from_ms, 4_000, "2 s for the leader, 2 s for the proofs");
}

#[test]
fn i8_a_single_endpoint_needs_five_seconds() {
    let mut lab = failed_over();
    lab.leader_gone().next();
    lab.repaired("node01").backed(Backing::Single);
    let from_ms = lab.now_ms + 1_000;
    while lab.is_fenced("node01") {
        lab.next();
        assert!(lab.now_ms < from_ms + 60_000);
    }
    assert_eq!(lab.now_ms - from_ms, 7_000, "5 s for the leader, 2 s for the proofs");
}

#[test]
fn a_check_that_began_before_the_recoverys_end_proves_nothing() {
    let mut lab = Lab::healthy();
    lab.takeover("node01", "node02").downtime_ends("node01").rows_go_stale();
    let decision = lab.run_s(20);
    assert_eq!(decision.blocker("node01"), Some(&ReturnBlocker::Proof(vec![ProofGap::NotCheckedSince])));
    lab.stale = None;
    lab.run_s(5);
    assert_eq!(lab.rows("node01"), "20:ONLINE");
}

#[test]
fn a_recovery_that_has_no_end_yet_cannot_be_proven_over() {
    let mut lab = Lab::healthy();
    lab.takeover("node01", "node02").downtime_ends("node01").records[0].end_s = None;
    assert_eq!(lab.run_s(20).blocker("node01"), Some(&ReturnBlocker::Proof(vec![ProofGap::NotCheckedSince])));
}

/// A blip: node01 is back and checked again, but of the others the leader shows what was before the promotion.
fn old_primary_back_beside_stale_rows(with_record: bool) -> Lab {
    let mut lab = Lab::healthy();
    let before = lab.instances();
    lab.failover("node01", "node03").returns_writable("node01");
    if !with_record {
        lab.purges_history();
    }
    lab.next();
    lab.stale = Some(before);
    for _ in 0..20 {
        let now_s = lab.now_s() + 1;
        for instance in lab.stale.iter_mut().flatten().filter(|instance| instance.node == node("node01")) {
            instance.checked_s = now_s;
        }
        lab.next();
    }
    lab
}

#[test]
fn stale_rows_of_its_replicas_do_not_make_the_old_primary_the_present_one() {
    assert!(old_primary_back_beside_stale_rows(true).is_fenced("node01"));
}

#[test]
fn stale_rows_do_not_discharge_a_mark_whose_record_is_not_seen_either() {
    assert!(old_primary_back_beside_stale_rows(false).is_fenced("node01"));
}

#[test]
fn the_history_is_asked_again_before_a_node_is_let_back() {
    let mut lab = Lab::healthy();
    // The mark comes with the promotion, its record is closed later, and nothing else changes then.
    lab.takeover("node01", "node02");
    let record = lab.records.pop().unwrap();
    assert_eq!(lab.next().kinds("node01"), [LostInRecovery]);
    lab.records.push(record);
    let decision = lab.next();
    assert!(decision.kinds("node01").contains(&Superseded), "{:?}", decision.of("node01"));
}

#[test]
fn as_the_primary_it_comes_back_once_its_successor_follows_it() {
    let mut lab = failed_over();
    // Put right by hand, without a new record: node01 is the primary again.
    lab.returns_writable("node01").downtime_ends("node01").follows("node02", "node01").primary = node("node01");
    lab.run_s(10);
    assert!(lab.is_fenced("node01"), "node03 does not follow");
    lab.follows("node03", "node01").run_s(5);
    assert!(lab.fenced().is_empty());
    assert_eq!((lab.rows("node01"), lab.rows("node03")), ("10:ONLINE 20:ONLINE".into(), "20:ONLINE".into()));
}

#[test]
fn a_first_proof_as_a_replica_is_none_as_the_primary() {
    let mut lab = failed_over();
    lab.repaired("node01").downtime_ends("node01").next();
    assert_eq!(lab.next().blocker("node01"), Some(&ReturnBlocker::SecondProof(Role::Replica)));
    // Put right by hand, in between.
    lab.returns_writable("node01").follows("node02", "node01").follows("node03", "node01").primary = node("node01");
    let decision = lab.run_s(2);
    assert_eq!(decision.blocker("node01"), Some(&ReturnBlocker::SecondProof(Role::Primary)));
}

#[test]
fn what_a_marker_says_of_the_successor_counts_when_its_record_is_lost() {
    let mut lab = failed_over();
    lab.purges_history().state_lost().run_s(1);
    lab.downtime_ends("node01").dies("node03");
    lab.returns_writable("node01").follows("node02", "node01").primary = node("node01");
    let decision = lab.run_s(30);
    assert_eq!(decision.blocker("node01"), Some(&ReturnBlocker::Proof(vec![ProofGap::SuccessorNotFollowing])));
    lab.follows("node03", "node01").run_s(5);
    assert!(lab.fenced().is_empty());
}

#[test]
fn a_mark_that_is_younger_than_the_promotion_and_has_no_record_ends_by_the_operators_word() {
    let mut lab = failed_over();
    lab.repaired("node01").downtime_ends("node01").run_s(10);
    lab.failover("node03", "node01").run_s(10);
    assert_eq!(lab.fenced(), ["node03"]);
    lab.dies("node01").downtime("node01", LOST_IN_RECOVERY).run_s(3);
    lab.returns_writable("node01").downtime_ends("node01").follows("node02", "node01").run_s(20);
    assert_eq!(lab.next().blocker("node01"), Some(&ReturnBlocker::Operator), "who took over then nobody can say");
}

#[test]
fn after_a_failure_the_lost_in_recovery_downtime_must_be_over_first() {
    let mut lab = failed_over();
    assert_eq!(lab.follows("node01", "node03").run_s(60).blocker("node01"), Some(&ReturnBlocker::DowntimeEnd));
    lab.downtime_ends("node01").run_s(5);
    assert!(lab.fenced().is_empty());
}

#[test]
fn a_plain_downtime_ends_when_the_leader_shows_the_node_well_and_not_downtimed() {
    let mut lab = Lab::healthy();
    let before = lab.layers();
    let decision = lab.downtime("node02", "maintenance").next();
    assert_eq!((decision.kinds("node02"), lab.fenced()), (vec![Downtime], vec!["node02".to_owned()]));
    let soft = Directive::Fence { kind: Downtime, by: None, sessions: false };
    assert_eq!(decision.plan.directives[&node("node02")], soft);
    assert_eq!(lab.run_s(60).blocker("node02"), Some(&ReturnBlocker::DowntimeEnd));
    assert_eq!(lab.downtime_ends("node02").next().unfenced("node02"), Some(Role::AsBefore));
    assert_eq!(lab.layers(), before);
}

#[test]
fn i2_a_plain_downtime_does_not_end_by_being_absent_from_the_list() {
    let mut lab = Lab::healthy();
    lab.downtime("node02", "maintenance").next();
    let decision = lab.forgets("node02").run_s(60);
    assert_eq!(decision.blocker("node02"), Some(&ReturnBlocker::Proof(vec![ProofGap::Unlisted])));
    lab.dies("node02").server("node02").listed = true;
    assert_eq!(lab.run_s(60).blocker("node02"), Some(&ReturnBlocker::Proof(vec![ProofGap::NotValid])));
    lab.follows("node02", "node01").rows_go_stale();
    lab.stale.iter_mut().flatten().for_each(|instance| instance.downtimed = true);
    assert_eq!(lab.run_s(60).blocker("node02"), Some(&ReturnBlocker::DowntimeEnd), "the instance still says so");
}

#[test]
fn a_barrier_marker_of_another_agent_stays_until_proof() {
    let mut lab = Lab::healthy();
    let marked = |row: &mut stonith_core::table::Row| {
        row.status = Status::OfflineSoft;
        row.comment = " [stonith:1 barrier was=ONLINE]".to_owned();
    };
    lab.edit(10, "node01", marked).edit(20, "node01", marked).dies("node01");
    assert_eq!(lab.run_s(20).kinds("node01"), [Barrier]);
    // It is alive as the primary, with replicas running from it. No record tells how the recovery ended.
    lab.returns_writable("node01").follows("node02", "node01");
    assert_eq!(lab.run_s(30).blocker("node01"), Some(&ReturnBlocker::Recovery));
    lab.run_s(20);
    assert_eq!(lab.rows("node01"), "10:ONLINE 20:ONLINE");
}

#[test]
fn a_fence_that_an_operator_ordered_ends_by_an_order_only() {
    let mut lab = Lab::healthy();
    let before = lab.layers();
    assert_eq!(lab.order_fence("node02").kinds("node02"), [Manual]);
    assert_eq!(lab.run_s(120).blocker("node02"), Some(&ReturnBlocker::Operator));
    assert_eq!(lab.leader_killed("orc2").state_lost().run_s(10).kinds("node02"), [Manual]);
    assert!(lab.order_unfence("node02", false).unfenced("node02").is_some());
    lab.run_s(60);
    assert_eq!(lab.layers(), before);
}

#[test]
fn an_operators_release_is_by_id_so_that_a_newer_recovery_counts_again() {
    let mut lab = failed_over();
    lab.follows("node01", "node03");
    assert_eq!(lab.order_unfence("node01", false).unfenced("node01"), Some(Role::Replica), "though downtimed");
    let writes = lab.writes;
    lab.run_s(60);
    assert_eq!((lab.writes, lab.fenced().len()), (writes, 0), "record and downtime are released by id");
    lab.downtime_ends("node01").failover("node03", "node01").run_s(20);
    lab.repaired("node03").run_s(5);
    lab.failover("node01", "node02").next();
    assert_eq!(lab.fenced(), ["node01"], "a newer one");
}

#[test]
fn a_release_in_the_orders_outlives_the_state_file() {
    let mut lab = failed_over();
    lab.follows("node01", "node03");
    let release = release_by_order(&lab.memory, &lab.observed().leader, &node("node01"), lab.now_s());
    lab.orders.released.insert(node("node01"), release);
    lab.order_unfence("node01", false);
    lab.state_lost().dies("node01").run_s(30);
    assert!(lab.fenced().is_empty(), "the released record and mark do not count for a new state either");
    lab.downtime("node01", LOST_IN_RECOVERY).next();
    assert_eq!(lab.fenced(), ["node01"], "a newer mark does");
}

#[test]
fn an_operators_order_wants_a_confirmed_leader_or_says_that_it_does_without() {
    let mut lab = failed_over();
    lab.leader_gone().next();
    assert_eq!(lab.order_unfence("node01", false).blocker("node01"), Some(&ReturnBlocker::Lease));
    lab.led_by("orc2");
    assert_eq!(
        lab.order_unfence("node01", false).blocker("node01"),
        Some(&ReturnBlocker::ConfirmedLeader),
        "I8: any unfence"
    );
    lab.run_s(3);
    assert_eq!(
        lab.returns_writable("node01").order_unfence("node01", false).blocker("node01"),
        Some(&ReturnBlocker::Proof(vec![ProofGap::StandsAlone(node("node03"))])),
        "not as a second writer"
    );
    lab.asked(Raft::Blind);
    assert_eq!(lab.order_unfence("node01", true).unfenced("node01"), Some(Role::AsBefore));
    assert_eq!(lab.rows("node01"), "10:ONLINE 20:ONLINE");
}

#[test]
fn an_order_for_one_node_judges_no_other_that_is_held() {
    let mut lab = Lab::healthy();
    lab.orders.suspended = Some("maintenance".to_owned());
    lab.failover("node01", "node03");
    let decision = lab.order_fence("node02");
    assert_eq!(lab.fenced(), ["node02"]);
    assert_eq!(decision.held("node01"), Some(&HoldReason::Suspended("maintenance".to_owned())));
    assert_eq!(lab.order_unfence("node02", true).unfenced("node02"), Some(Role::AsBefore));
}

#[test]
fn evidence_that_arose_before_a_hold_is_not_lost_by_it() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").purges_history().next();
    lab.orders.suspended = Some("maintenance".to_owned());
    lab.leader_killed("orc2").run_s(60);
    lab.orders.suspended = None;
    let decision = lab.next();
    let kept: Vec<&Evidence> = decision.memory.nodes.evidence[&node("node01")].values().collect();
    assert!(kept.iter().any(|fact| fact.kind == LostInRecovery && !fact.id.is_empty()), "with its id: {kept:?}");
}

#[test]
fn a_node_of_several_pairs_is_proven_in_all_of_them() {
    let mut lab = Lab::new();
    let other = stonith_core::table::Pair { check_type: CheckType::parse("innodb_read_only"), ..world::pair(11, 21) };
    lab.proxy.pairs.push(other);
    lab.put(row(11, "node01", Status::Online)).run_s(10);
    lab.failover("node01", "node03").run_s(10);
    let decision = lab.repaired("node01").run_s(10);
    let unseen = ProofGap::CheckTypeUnseen("innodb_read_only".to_owned());
    assert_eq!(decision.blocker("node01"), Some(&ReturnBlocker::Proof(vec![unseen])));
}

#[test]
fn a_return_that_was_not_carried_out_still_needs_its_proof() {
    let mut lab = failed_over();
    lab.repaired("node01").observe_only = true;
    lab.run_s(3);
    lab.observe_only = false;
    lab.returns_writable("node01").run_s(10);
    assert!(lab.is_fenced("node01"), "the marker is still there, and it is a second primary now");
    lab.repaired("node01").run_s(5);
    assert_eq!(lab.rows_in(Layer::Disk, "node01"), "20:ONLINE");
}

/// The return was cut off before memory and disk had it, and the journal says so.
#[test]
fn i10_what_a_live_return_left_in_memory_or_on_disk_fences_nothing() {
    let mut lab = failed_over();
    let fenced = lab.proxy.clone();
    lab.repaired("node01").run_s(5);
    assert_eq!(lab.rows("node01"), "20:ONLINE");
    for (memory, disk) in [(true, true), (false, true), (true, false)] {
        let mut lab = lab.clone();
        if memory {
            lab.proxy.memory = fenced.memory.clone();
        }
        if disk {
            lab.proxy.disk = fenced.disk.clone();
        }
        let mut unnoted = lab.clone();
        lab.proxy.returned = [node("node01")].into();
        lab.state_lost().backed(stonith_core::orchestrator::Backing::Unconfirmed).run_s(10);
        assert_eq!(lab.rows("node01"), "20:ONLINE", "memory {memory}, disk {disk}");
        // Without the note it is a fence that was cut off: finished, unless the leader shows that the node is well.
        let mut well = unnoted.clone();
        well.state_lost().run_s(10);
        assert_eq!(well.rows("node01"), "20:ONLINE", "memory {memory}, disk {disk}");
        assert_eq!(well.rows_in(Layer::Disk, "node01"), "20:ONLINE", "and its last markers are gone");
        unnoted.state_lost().returns_writable("node01").run_s(1);
        assert!(unnoted.is_fenced("node01"), "memory {memory}, disk {disk}");
    }
    // A note is no pass: one that runtime shows fenced did not return.
    let mut lab = failed_over();
    lab.proxy.returned = [node("node01")].into();
    let decision = lab.state_lost().leader_gone().run_s(5);
    assert_eq!((decision.kinds("node01"), lab.is_fenced("node01")), (vec![Superseded], true));
}

#[test]
fn what_was_kept_counts_by_its_own_id_and_an_order_by_orders_only() {
    // Superseded: by the nanoseconds of its record, whatever clock an order was given by.
    let mut lab = failed_over();
    let record_ns = lab.memory.history.records.values().next().unwrap().at_ns;
    lab.purges_history().downtime_ends("node01").memory.history.records.clear();
    lab.memory.nodes.evidence.get_mut(&node("node01")).unwrap().remove(&LostInRecovery);
    let source = |lab: &Lab, release: Release| {
        let mut lab = lab.clone();
        lab.orders.released.insert(node("node01"), release);
        match lab.leader_gone().next().of("node01") {
            Verdict::Fence { evidence, .. } => evidence[0].source,
            verdict => panic!("{verdict:?}"),
        }
    };
    let (long_after_s, older) = (i64::MAX, record_ns - 1);
    let of_an_older = Release { recovery_ns: older, downtime_s: 0, ordered_s: long_after_s };
    assert_eq!(source(&lab, of_an_older), Source::RecoveryHistory);
    let of_this = Release { recovery_ns: record_ns, downtime_s: 0, ordered_s: 0 };
    assert_eq!(source(&lab, of_this), Source::Marker, "which only proof ends");

    // A mark: by its begin.
    let mut lab = failed_over();
    let begin_s = lab.downtimes[0].begin_s;
    lab.orders.released.insert(node("node01"), Release { recovery_ns: 0, downtime_s: begin_s, ordered_s: 0 });
    assert_eq!(lab.leader_gone().next().kinds("node01"), [Superseded]);

    // An order: whatever was released by proof since.
    let mut lab = failed_over();
    lab.repaired("node01").downtime_ends("node01").run_s(10);
    lab.order_fence("node01");
    lab.record(0, "node01", Some("node03"));
    lab.downtime("node02", "so that the history is read").run_s(10);
    assert_eq!(lab.next().kinds("node01"), [Manual]);

    // What has no id: by the time of an order after it.
    for (kind, earlier_s, counts) in
        [(SecondWriter, 1, true), (SecondWriter, 0, false), (Manual, 1, true), (Manual, 0, false)]
    {
        let mut lab = Lab::healthy();
        let (at_s, ordered_s) = (lab.now_s(), lab.now_s() - earlier_s);
        let fact = Evidence { kind, by: None, source: Source::RuntimeServers, id: String::new(), at_s };
        lab.memory.nodes.evidence.insert(node("node02"), [(kind, fact)].into());
        lab.orders.released.insert(node("node02"), Release { recovery_ns: 0, downtime_s: 0, ordered_s });
        let expected: &[_] = if counts { &[kind] } else { &[] };
        assert_eq!(lab.leader_gone().next().kinds("node02"), expected, "{kind} {earlier_s}");
    }
}

#[test]
fn a_mark_without_a_record_names_no_successor_so_an_old_primary_that_is_still_followed_stays_out() {
    let mut lab = Lab::healthy();
    // Purged before anybody read it; node02 was not told of the recovery.
    lab.failover("node01", "node03").purges_history().returns_writable("node01").follows("node02", "node01");
    lab.run_s(30);
    assert_eq!(lab.fenced(), ["node01"]);
    // Nor does the mark's end prove anything (I2).
    lab.downtime_ends("node01").run_s(30);
    assert_eq!(lab.fenced(), ["node01"]);
}

// --- what the pair's check_type asks for --------------------------------------------------------------------------

#[test]
fn a_joined_check_type_is_proven_by_read_only() {
    let mut lab = Lab::healthy();
    lab.proxy.pairs[0].check_type = CheckType::parse("read_only|innodb_read_only");
    lab.failover("node01", "node03").run_s(5);
    lab.repaired("node01").run_s(5);
    assert_eq!((lab.fenced().len(), lab.rows("node01")), (0, "20:ONLINE".to_owned()));
}

#[test]
fn an_unfence_order_is_refused_where_the_monitor_would_make_a_writer_of_the_node() {
    for check_type in ["super_read_only", "innodb_read_only", "read_only&innodb_read_only"] {
        let mut lab = Lab::healthy();
        lab.proxy.pairs[0].check_type = CheckType::parse(check_type);
        lab.failover("node01", "node03").run_s(5);
        lab.repaired("node01").run_s(5);
        let unseen = ProofGap::CheckTypeUnseen(check_type.to_owned());
        assert_eq!(lab.order_unfence("node01", false).blocker("node01"), Some(&ReturnBlocker::Proof(vec![unseen])));
        assert_eq!(lab.fenced(), ["node01"]);
        // Control: what `read_only` proves is let back by the same order.
        lab.proxy.pairs[0].check_type = CheckType::ReadOnly;
        assert_eq!(lab.order_unfence("node01", false).unfenced("node01"), Some(Role::Replica), "{check_type}");
    }
}

// --- transactions that the others lack ----------------------------------------------------------------------------

const ERRANT: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562:23";

#[test]
fn a_returned_replica_with_transactions_that_its_primary_lacks_is_held_after_a_recovery() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").run_s(5);
    lab.repaired("node01").server("node01").errant_gtid = ERRANT.to_owned();
    let decision = lab.run_s(60);
    assert_eq!(decision.blocker("node01"), Some(&ReturnBlocker::Proof(vec![ProofGap::ErrantGtid(ERRANT.to_owned())])));
    assert_eq!(lab.fenced(), ["node01"]);
    lab.server("node01").errant_gtid.clear();
    lab.next();
    assert_eq!(lab.fenced(), ["node01"], "seen in two checks");
    lab.run_s(4);
    assert_eq!(lab.rows("node01"), "20:ONLINE");
}

#[test]
fn transactions_that_a_primary_lacks_keep_nobody_out_after_a_downtime_or_an_isolation() {
    let mut lab = Lab::healthy();
    lab.server("node02").errant_gtid = ERRANT.to_owned();
    let before = lab.layers();
    lab.downtime("node02", "maintenance").run_s(5);
    assert_eq!(lab.fenced(), ["node02"], "out");
    lab.downtime_ends("node02").run_s(5);
    assert_eq!(lab.layers(), before);
    lab.leader_gone().run_s(30);
    assert_eq!(lab.fenced().len(), 3, "out");
    lab.led_by("orc1").run_s(5);
    assert_eq!(lab.layers(), before);
}

#[test]
fn a_replica_with_transactions_that_its_primary_lacks_returns_and_is_said_where_the_policy_is_to_warn() {
    let mut lab = Lab::healthy();
    lab.policy.errant_gtid = ErrantGtid::Warn;
    lab.failover("node01", "node03").run_s(5);
    lab.repaired("node01").server("node01").errant_gtid = ERRANT.to_owned();
    let mut said = Vec::new();
    for _ in 0..5 {
        let observed = lab.observed();
        let decision = lab.next();
        let of_tick = conditions(&observed, &decision, &lab.policy);
        said.extend(of_tick.into_iter().filter(|condition| condition.label() == "errant-transactions"));
    }
    assert_eq!(lab.rows("node01"), "20:ONLINE");
    assert_eq!(said.len(), 1, "with the return: {said:?}");
    assert!(said[0].to_string().contains("node01:3306") && said[0].to_string().contains(ERRANT), "{}", said[0]);
    assert_eq!(said[0].nodes(), [node("node01")]);
}

#[test]
fn i7_a_ghost_that_bears_our_note_is_no_reason_for_an_apply() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node02").run_s(3);
    let note = lab.row(Layer::Runtime, 10, "node01").unwrap().comment.clone();
    assert!(note.contains("[stonith:1 "), "{note}");
    lab.repaired("node01").run_s(6);
    assert_eq!(lab.rows("node01"), "20:ONLINE");
    // A session that the fence could not end holds a connection of the row that is gone: runtime keeps that as it was.
    lab.proxy.runtime.push(Row { comment: note, ..row(10, "node01", Status::OfflineHard) });
    for _ in 0..5 {
        let decision = lab.next();
        assert!(decision.plan.is_empty(), "{:?}", decision.plan.changes);
    }
    assert!(lab.rows("node01").contains("10:OFFLINE_HARD"), "{}", lab.rows("node01"));
}

/// The operator's row has no marker, and the monitor removed the writer's row: memory and disk alone have one.
#[test]
fn i7_a_record_from_before_the_watch_and_the_marker_that_disk_has_of_it_end_in_one_tick() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node02").next();
    lab.agent_restarts(3).run_s(2);
    lab.repaired("node01").next();
    lab.put(row(20, "node01", Status::Online)).next();
    assert_eq!(lab.rows("node01"), "20:ONLINE");
    assert!(lab.row(Layer::Disk, 10, "node01").is_some_and(|row| row.comment.contains("[stonith:1 superseded ")));
    assert!(matches!(lab.next().of("node01"), Verdict::Unfence { .. }), "the second proof");
    assert_eq!(LAYERS.map(|layer| lab.rows_in(layer, "node01")), ["20:ONLINE"; 3]);
    let writes = lab.writes;
    lab.run_s(40);
    assert_eq!((lab.writes, lab.fenced().len()), (writes, 0));
}
