//! Which nodes must be read-only at the node itself: those that are fenced now, by the kinds that the config names.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use stonith_core::decide::{Decision, Verdict, decide};
use stonith_core::evidence::EvidenceKind;
use stonith_core::memory::{Memory, SteadyLeader};
use stonith_core::node::Node;
use stonith_core::node_fence::power::{self, PowerTarget, Refusal};
use stonith_core::node_fence::{ALLOWED, NodeFenceRecord, Target, targets};
use stonith_core::orchestrator::{Backing, LeaderView};
use stonith_core::table::Status;

use crate::any;
use crate::world::{Decided, HistoryRead, Lab, node, row};

/// A cluster whose agent fences nodes at the node itself.
fn healthy() -> Lab {
    let mut lab = Lab::healthy();
    lab.policy.fences_at_node = true;
    lab
}

/// The targets while Orchestrator answers.
fn led(decision: &Decision, kinds: &BTreeSet<EvidenceKind>) -> BTreeMap<Node, Target> {
    targets(&LeaderView::Leaderless, decision, kinds).unwrap()
}

fn all() -> BTreeSet<EvidenceKind> {
    ALLOWED.into()
}

#[test]
fn after_a_failover_the_old_primary_is_a_target_and_the_new_one_is_whom_it_must_not_be() {
    let mut lab = healthy();
    let decision = lab.failover("node01", "node02").run_s(5);
    let found = led(&decision, &all());
    assert_eq!(found.keys().collect::<Vec<_>>(), [&node("node01")]);
    let target = &found[&node("node01")];
    assert_eq!((target.kind, &target.primaries), (EvidenceKind::Superseded, &[node("node02")].into()));
    assert!(led(&decision, &[EvidenceKind::Manual].into()).is_empty(), "no kind that the config does not name");
}

/// The fence in ProxySQL stays. But the node may have been repaired and promoted meanwhile.
#[test]
fn while_orchestrator_is_silent_nothing_is_done_at_a_node_and_nothing_is_over() {
    let mut lab = healthy();
    lab.failover("node01", "node02").run_s(5);
    let decision = lab.leader_gone().run_s(3);
    assert!(matches!(decision.verdicts[&node("node01")], Verdict::Fence { .. }), "the control");
    assert_eq!(targets(&lab.observed().leader, &decision, &all()), None);
}

/// A deposed leader does not know of a promotion by its successor, and neither does an agent that read no history.
#[test]
fn without_a_confirmed_leader_and_its_whole_history_nothing_is_done_at_a_node() {
    let after_a_failover = || {
        let mut lab = healthy();
        lab.failover("node01", "node02").run_s(5);
        lab
    };
    let at_the_node = |lab: &mut Lab| {
        let decision = lab.next();
        assert!(matches!(decision.verdicts[&node("node01")], Verdict::Fence { .. }), "the control");
        targets(&lab.observed().leader, &decision, &all())
    };
    assert!(at_the_node(&mut after_a_failover()).is_some());
    assert_eq!(at_the_node(after_a_failover().backed(Backing::Unconfirmed)), None);
    let mut lab = after_a_failover();
    lab.history = HistoryRead::Nothing;
    assert_eq!(at_the_node(&mut lab), None);
    let mut lab = after_a_failover();
    lab.policy.fences_at_node = false;
    assert_eq!(at_the_node(&mut lab), None, "a tick that does not ask");
}

#[test]
fn a_node_that_was_promoted_while_it_was_fenced_is_no_target_though_it_died_at_once() {
    let mut lab = healthy();
    lab.failover("node01", "node02").run_s(5);
    let decision = lab.repaired("node01").failover("node02", "node01").dies("node01").next();
    assert!(matches!(decision.verdicts[&node("node01")], Verdict::Fence { .. }), "the control");
    assert!(!led(&decision, &all()).contains_key(&node("node01")));
}

/// Rows that are only observed have no marker by which the next tick knows of the fence.
#[test]
fn a_tick_that_only_observes_knows_the_targets_too() {
    let mut lab = healthy();
    lab.observe_only = true;
    let decision = lab.failover("node01", "node02").run_s(8);
    assert_eq!(led(&decision, &all()).keys().collect::<Vec<_>>(), [&node("node01")]);
}

#[test]
fn after_two_failovers_both_old_primaries_are_targets_and_only_the_last_one_must_answer() {
    let mut lab = healthy();
    lab.failover("node01", "node02").run_s(5);
    let decision = lab.failover("node02", "node03").run_s(5);
    let found = led(&decision, &all());
    assert_eq!(found.keys().collect::<Vec<_>>(), [&node("node01"), &node("node02")]);
    assert!(found.values().all(|target| target.primaries == [node("node03")].into()), "{found:?}");
}

#[test]
fn a_node_that_came_back_a_replica_is_a_target_no_longer() {
    let mut lab = healthy();
    lab.failover("node01", "node02").returns_writable("node01").run_s(5);
    let decision = lab.repaired("node01").run_s(10);
    assert!(lab.fenced().is_empty() && led(&decision, &all()).is_empty());
}

#[test]
fn isolation_and_an_order_against_the_primary_make_no_node_read_only() {
    let mut lab = healthy();
    let decision = lab.leader_gone().run_s(30);
    assert_eq!(lab.fenced().len(), 3, "isolated");
    let named = [EvidenceKind::Isolation, EvidenceKind::Replica, EvidenceKind::Downtime];
    let kinds = all().into_iter().chain(named).collect();
    assert!(targets(&lab.observed().leader, &decision, &kinds).unwrap_or_default().is_empty());
    let mut lab = healthy();
    lab.order_fence("node01");
    let decision = lab.next();
    assert!(matches!(decision.verdicts[&node("node01")], Verdict::Fence { .. }), "the control");
    assert!(led(&decision, &all()).is_empty());
    let decision = lab.order_fence("node02");
    assert_eq!(led(&decision, &all()).keys().collect::<Vec<_>>(), [&node("node02")]);
}

/// Nobody was promoted after a hook that aborted, and the only primary must not come back read-only.
#[test]
fn a_barrier_makes_a_dead_primary_a_target_while_its_mark_is_listed() {
    let mut lab = healthy();
    let decision = lab.dies("node01").barrier("node01").run_s(5);
    let at_the_node = |lab: &Lab, decision| targets(&lab.observed().leader, decision, &[EvidenceKind::Barrier].into());
    assert_eq!(at_the_node(&lab, &decision).unwrap().keys().collect::<Vec<_>>(), [&node("node01")]);
    let decision = lab.downtime_ends("node01").next();
    assert_eq!(decision.kinds("node01"), [EvidenceKind::Barrier], "the fence in ProxySQL stays");
    assert_eq!(at_the_node(&lab, &decision), Some(BTreeMap::new()));
}

/// The nodes that fence agents must power off, by what this decision's tick observes.
fn powered_off(lab: &Lab, decision: &Decision) -> Option<BTreeMap<Node, PowerTarget>> {
    power::targets(&lab.observed().leader, decision, &all(), &BTreeMap::new())
}

#[test]
fn after_a_failover_the_old_primary_is_powered_off_by_the_word_of_a_confirmed_leader() {
    let mut lab = healthy();
    let decision = lab.failover("node01", "node02").run_s(5);
    let found = powered_off(&lab, &decision).unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), [&node("node01")]);
    let target = &found[&node("node01")];
    assert_eq!((target.kind, &target.refusal), (EvidenceKind::Superseded, &None));
    assert!(target.at_s > 0 && target.latest_s >= target.at_s && !target.is_read_only, "{target:?}");
    assert!(led(&decision, &[EvidenceKind::Manual].into()).is_empty());
    let decision = lab.backed(Backing::Unconfirmed).run_s(3);
    assert_eq!(powered_off(&lab, &decision), None);
    let decision = lab.leader_gone().run_s(3);
    assert!(matches!(decision.verdicts[&node("node01")], Verdict::Fence { .. }), "the control");
    assert_eq!(powered_off(&lab, &decision), None);
}

#[test]
fn a_node_counts_as_read_only_by_a_verified_record_of_the_same_failover() {
    let mut lab = healthy();
    let decision = lab.failover("node01", "node02").run_s(5);
    let of = |kind, id: &str, verified_s, ended_s| NodeFenceRecord {
        kind,
        id: id.to_owned(),
        since_s: 1,
        answered_s: Some(1),
        read_only_s: Some(1),
        verified_s,
        found_read_only: false,
        sessions_ended: 0,
        sessions_refused: 0,
        server_started_s: Some(1),
        undone_s: None,
        failure: None,
        ended_s,
    };
    let Verdict::Fence { evidence, .. } = &decision.verdicts[&node("node01")] else { panic!("{decision:?}") };
    let ids: Vec<(EvidenceKind, &str)> = evidence.iter().map(|fact| (fact.kind, fact.id.as_str())).collect();
    assert!(ids.len() > 1, "the record and the mark: {ids:?}");
    let is_read_only = |record| {
        let records = [(node("node01"), record)].into();
        let found = power::targets(&lab.observed().leader, &decision, &all(), &records).unwrap();
        found[&node("node01")].is_read_only
    };
    for (kind, id) in ids {
        assert!(is_read_only(of(kind, id, Some(2), None)));
        assert!(!is_read_only(of(kind, id, None, None)) && !is_read_only(of(kind, id, Some(2), Some(3))));
    }
    assert!(!is_read_only(of(EvidenceKind::Superseded, "an older failover", Some(2), None)));
}

#[test]
fn the_node_that_was_promoted_last_is_never_powered_off_and_a_second_failover_is_a_newer_one() {
    let mut lab = healthy();
    let decision = lab.failover("node01", "node02").run_s(5);
    let first = powered_off(&lab, &decision).unwrap()[&node("node01")].clone();
    lab.repaired("node01").run_s(10);
    let decision = lab.failover("node02", "node01").run_s(5);
    assert_eq!(powered_off(&lab, &decision).unwrap().keys().collect::<Vec<_>>(), [&node("node02")]);
    lab.repaired("node02").run_s(10);
    let decision = lab.failover("node01", "node02").run_s(5);
    let second = &powered_off(&lab, &decision).unwrap()[&node("node01")];
    assert!(second.at_s > first.latest_s && second.id != first.id, "{first:?} {second:?}");
}

#[test]
fn an_order_powers_nothing_off_and_neither_does_a_barrier() {
    let mut lab = healthy();
    lab.order_fence("node02");
    let decision = lab.next();
    assert!(!led(&decision, &all()).is_empty(), "the control");
    assert_eq!(powered_off(&lab, &decision), Some(BTreeMap::new()));
    let mut lab = healthy();
    let decision = lab.barrier("node01").run_s(3);
    assert!(matches!(decision.verdicts[&node("node01")], Verdict::Fence { .. }), "the control");
    assert_eq!(powered_off(&lab, &decision), Some(BTreeMap::new()));
}

#[test]
fn a_host_with_another_node_that_is_not_fenced_is_left_on() {
    let mut lab = healthy();
    let mut beside = row(20, "node01", Status::Online);
    beside.key.port = 3_307;
    let decision = lab.put(beside).failover("node01", "node02").run_s(5);
    let other: Node = "node01:3307".parse().unwrap();
    let refusal = powered_off(&lab, &decision).unwrap()[&node("node01")].refusal.clone();
    assert_eq!(refusal, Some(Refusal::SharesHost(other)));
}

#[test]
fn where_only_a_note_in_proxysql_is_left_or_nobody_knows_a_primary_the_node_is_left_on() {
    let mut lab = healthy();
    let decision = lab.failover("node01", "node02").run_s(5);
    let unknown = Decision { primaries: Some(BTreeMap::new()), ..decision };
    assert_eq!(powered_off(&lab, &unknown).unwrap()[&node("node01")].refusal, Some(Refusal::NoPrimary));
    lab.purges_history().downtime_ends("node01").state_lost();
    let decision = lab.run_s(5);
    assert_eq!(powered_off(&lab, &decision).unwrap()[&node("node01")].refusal, Some(Refusal::NoPrimary));
    let known = Decision { primaries: Some([(node("node01"), [node("node02")].into())].into()), ..decision };
    assert_eq!(powered_off(&lab, &known).unwrap()[&node("node01")].refusal, Some(Refusal::Undated));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// The same for the power: whatever was observed, no primary is powered off, and nothing without a primary in its place.
    #[test]
    fn no_node_is_powered_off_that_is_unfenced_or_a_primary(
        mut observed in any::observed(), policy in any::policy(), answers in any::<bool>()
    ) {
        if let (LeaderView::Led(answer), true) = (&mut observed.leader, answers) {
            answer.backing = Backing::Majority;
        }
        let leader = match &observed.leader {
            LeaderView::Led(answer) => Some(SteadyLeader { name: answer.leader.clone(), since_ms: 0 }),
            _ => None,
        };
        let mut memory = Memory { watching_since_s: Some(0), ..Memory::first_start("boot", 0) };
        memory.lease.leader = leader;
        let decision = decide(&observed, &memory, &policy, 100_000);
        let found = power::targets(&observed.leader, &decision, &all(), &BTreeMap::new()).unwrap_or_default();
        for (node, target) in found {
            let Verdict::Fence { evidence, .. } = &decision.verdicts[&node] else {
                return Err(TestCaseError::fail(format!("{node} is not fenced")));
            };
            prop_assert!(evidence.iter().any(|fact| fact.kind == target.kind && fact.at_s == target.at_s));
            let primaries = decision.primaries.iter().find_map(|of_each| of_each.get(&node)).cloned().unwrap_or_default();
            prop_assert!(!primaries.contains(&node) && (!primaries.is_empty() || target.refusal.is_some()));
            prop_assert!(primaries.iter().all(|p| p.host != node.host) || target.refusal.is_some());
        }
    }

    /// Whatever was observed and remembered, and whatever the config names.
    #[test]
    fn no_target_is_unfenced_or_a_primary_or_fenced_by_another_kind(
        observed in any::observed(), policy in any::policy(), watched in any::<bool>(), mask in 0..32u8
    ) {
        let kinds: BTreeSet<EvidenceKind> =
            (0..).zip(ALLOWED).filter(|(bit, _)| mask & (1 << bit) != 0).map(|(_, kind)| kind).collect();
        let memory = Memory { watching_since_s: watched.then_some(0), ..Memory::first_start("boot", 0) };
        let decision = decide(&observed, &memory, &policy, 100_000);
        for (node, target) in targets(&observed.leader, &decision, &kinds).unwrap_or_default() {
            let Verdict::Fence { evidence, .. } = &decision.verdicts[&node] else {
                return Err(TestCaseError::fail(format!("{node} is not fenced")));
            };
            prop_assert!(evidence.iter().any(|fact| fact.kind == target.kind) && kinds.contains(&target.kind));
            let primaries = decision.primaries.as_ref().and_then(|of_each| of_each.get(&node));
            prop_assert!(!primaries.is_some_and(|primaries| primaries.contains(&node)));
        }
    }
}
