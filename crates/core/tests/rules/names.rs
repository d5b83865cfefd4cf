//! One server under two names is one node, whichever of them a record, a mark or a row has.

use stonith_core::decide::{HoldReason, Verdict};
use stonith_core::evidence::EvidenceKind;
use stonith_core::orchestrator::{Addresses, LOST_IN_RECOVERY};
use stonith_core::table::Status;

use crate::world::{Decided, Lab, node, row};

/// Orchestrator lists node01 by its address, too.
fn with_two_names(uuid: &str) -> Lab {
    let mut lab = Lab::new();
    let server = lab.server("node01");
    (server.also, server.uuid) = (vec![node("10.0.0.1")], uuid.to_owned());
    lab.run_s(60);
    assert!(lab.memory.lease.armed && lab.writes == 0);
    lab
}

/// Orchestrator recovers node01 under its address.
fn fails_over_by_address(lab: &mut Lab) {
    lab.failover("node01", "node03");
    lab.records.last_mut().unwrap().failed = node("10.0.0.1");
    lab.downtimes.last_mut().unwrap().node = node("10.0.0.1");
}

#[test]
fn a_node_is_fenced_though_record_and_mark_have_its_other_name() {
    let mut lab = with_two_names("a-uuid");
    fails_over_by_address(&mut lab);
    lab.returns_writable("node01");
    let decision = lab.run_s(5);
    assert_eq!(decision.kinds("node01"), [EvidenceKind::Superseded, EvidenceKind::LostInRecovery]);
    assert_eq!(lab.fenced(), ["node01"]);
    lab.repaired("node01").downtime_ends("10.0.0.1").run_s(6);
    assert_eq!((lab.fenced().len(), lab.rows("node01")), (0, "20:ONLINE".to_owned()));
    lab.leader_killed("orc2").run_s(60);
    assert_eq!(lab.fenced().len(), 0, "and it is released under either");
}

#[test]
fn rows_under_both_names_of_a_server_go_out_and_come_back_together() {
    let mut lab = with_two_names("a-uuid");
    lab.put(row(30, "10.0.0.1", Status::Online));
    fails_over_by_address(&mut lab);
    lab.run_s(5);
    assert!(lab.is_fenced("node01") && lab.is_fenced("10.0.0.1"));
    lab.repaired("node01").downtime_ends("10.0.0.1").run_s(6);
    assert_eq!((lab.rows("node01").as_str(), lab.rows("10.0.0.1").as_str()), ("20:ONLINE", "30:ONLINE"));
}

#[test]
fn rows_under_both_names_go_out_together_though_orchestrator_lists_neither_any_more() {
    let mut lab = with_two_names("a-uuid");
    lab.put(row(30, "10.0.0.1", Status::Online)).run_s(2);
    fails_over_by_address(&mut lab);
    lab.forgets("node01");
    lab.run_s(5);
    assert!(lab.is_fenced("node01") && lab.is_fenced("10.0.0.1"), "{} {}", lab.rows("node01"), lab.rows("10.0.0.1"));
}

#[test]
fn a_name_that_no_uuid_joins_is_said_to_match_no_row() {
    let mut lab = with_two_names("");
    fails_over_by_address(&mut lab);
    lab.returns_writable("node01");
    let decision = lab.run_s(3);
    assert!(decision.unmatched.contains_key(&node("10.0.0.1")), "{:?}", decision.unmatched);
    let mut lab = with_two_names("a-uuid");
    fails_over_by_address(&mut lab);
    assert!(lab.returns_writable("node01").run_s(3).unmatched.is_empty());
}

// --- names matched by address ------------------------------------------------------------------------------------

const RESOLVED: [(&str, u8); 6] =
    [("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.3", 3), ("node01", 1), ("node02", 2), ("node03", 3)];

/// ProxySQL has the nodes' addresses, and Orchestrator their names.
fn by_address(resolved: &[(&str, u8)]) -> Lab {
    let mut lab = Lab::new();
    for (hostgroup, name, at) in [(10, "node01", 1), (20, "node01", 1), (20, "node02", 2), (20, "node03", 3)] {
        lab.delete(hostgroup, name).put(row(hostgroup, &format!("10.0.0.{at}"), Status::Online));
    }
    lab.monitor = false; // it knows the servers by their names only
    lab.resolves(resolved).run_s(60);
    assert_eq!(lab.writes, 0);
    lab
}

#[test]
fn rows_by_address_are_fenced_and_come_back_though_orchestrator_has_names() {
    let mut lab = by_address(&RESOLVED);
    assert!(lab.memory.lease.armed);
    let decision = lab.failover("node01", "node03").returns_writable("node01").run_s(5);
    assert_eq!(decision.kinds("10.0.0.1"), [EvidenceKind::Superseded, EvidenceKind::LostInRecovery]);
    assert_eq!(lab.fenced(), ["10.0.0.1"]);
    lab.addresses = Addresses::default();
    lab.agent_restarts(1).run_s(5);
    assert_eq!(lab.fenced(), ["10.0.0.1"], "the match is kept");
    lab.repaired("node01").run_s(6);
    assert_eq!((lab.fenced().len(), lab.rows("10.0.0.1")), (0, "20:ONLINE".to_owned()));
}

#[test]
fn an_alias_matches_a_row_without_any_address() {
    let mut lab = by_address(&[]);
    lab.policy.aliases = (1..=3).map(|n| (node(&format!("10.0.0.{n}")), node(&format!("node0{n}")))).collect();
    lab.run_s(60);
    lab.failover("node01", "node03").returns_writable("node01").run_s(5);
    assert_eq!(lab.fenced(), ["10.0.0.1"]);
}

/// The names of two servers are swapped. The healthy primary would be fenced for the dead one if the match followed.
#[test]
fn a_match_that_changes_fences_no_healthy_primary_and_is_said() {
    let mut lab = by_address(&RESOLVED);
    lab.resolves(&[("node01", 3), ("node03", 1)]);
    // node03, which the row 10.0.0.3 was, fails. The row 10.0.0.1 now has its address.
    lab.record(0, "node03", Some("node02"));
    lab.downtime("node03", LOST_IN_RECOVERY);
    let decision = lab.run_s(60);
    assert_eq!(lab.fenced().len(), 0);
    let unsure = |verdict: &Verdict| matches!(verdict, Verdict::Hold(HoldReason::UnsureName(_)));
    assert!(unsure(&decision.verdicts[&node("10.0.0.1")]) && unsure(&decision.verdicts[&node("10.0.0.3")]));
    assert_eq!(decision.verdicts[&node("10.0.0.2")], Verdict::Keep);
}

#[test]
fn a_fenced_node_whose_match_changes_stays_out_until_an_alias_says_what_it_is() {
    let mut lab = by_address(&RESOLVED);
    lab.failover("node01", "node03").run_s(5);
    lab.repaired("node01").resolves(&[("node01", 9)]).run_s(60);
    let decision = lab.next();
    assert_eq!(decision.blocker("10.0.0.1").unwrap().label(), "unsure-name");
    let refused = lab.order_unfence("10.0.0.1", false);
    assert_eq!(refused.blocker("10.0.0.1").unwrap().label(), "unsure-name", "an order asks the same instance");
    lab.policy.aliases = [(node("10.0.0.1"), node("node01"))].into();
    lab.run_s(10);
    assert_eq!((lab.fenced().len(), lab.rows("10.0.0.1")), (0, "20:ONLINE".to_owned()));
}

#[test]
fn an_isolation_takes_a_node_of_an_unsure_name_and_gives_it_back() {
    let mut lab = by_address(&RESOLVED);
    lab.resolves(&[("node02", 9)]).run_s(40);
    let before = lab.layers();
    lab.leader_gone().run_s(60);
    assert_eq!(lab.fenced().len(), 3);
    lab.led_by("orc1").run_s(4);
    assert_eq!(lab.layers(), before);
}

#[test]
fn an_order_may_name_a_node_as_orchestrator_does() {
    let mut lab = by_address(&RESOLVED);
    lab.order_fence("node02");
    assert_eq!(lab.fenced(), ["10.0.0.2"]);
    lab.orders.now = None;
    lab.order_unfence("node02", false);
    assert_eq!(lab.fenced().len(), 0);
}
