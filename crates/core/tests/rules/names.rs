//! One server under two names is one node, whichever of them a record, a mark or a row has.

use stonith_core::evidence::EvidenceKind;
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
