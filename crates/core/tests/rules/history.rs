//! The recovery history is read in pieces, and the lease lives without it (design §7).

use stonith_core::decide::ReturnBlocker;
use stonith_core::lease::LeaseState;
use stonith_core::table::Status;

use crate::world::{Decided, HistoryRead, Lab, node, row};

#[test]
fn a_first_start_is_armed_and_led_while_the_history_is_not_answered_or_not_read_to_its_end() {
    for history in [HistoryRead::Nothing, HistoryRead::NewestOf(0)] {
        let mut lab = Lab::new();
        lab.history = history;
        assert_eq!(lab.run_s(5).lease_state, LeaseState::Led { good: true });
        assert!(lab.memory.lease.armed);
        assert_eq!(
            lab.leader_gone().run_s(10).lease_state,
            LeaseState::Isolated,
            "control: the lease was held until then"
        );
    }
}

#[test]
fn a_new_record_fences_at_once_while_the_rest_of_the_history_is_still_to_come() {
    let mut lab = Lab::new();
    lab.record(400, "node03", Some("node02"));
    lab.history = HistoryRead::NewestOf(1);
    lab.run_s(5);
    lab.failover("node01", "node02").downtime_ends("node01").run_s(1);
    assert!(lab.is_fenced("node01"));
}

#[test]
fn a_mark_fences_where_the_history_is_not_answered() {
    let mut lab = Lab::healthy();
    lab.history = HistoryRead::Nothing;
    lab.failover("node01", "node02").run_s(1);
    assert!(lab.is_fenced("node01"));
}

#[test]
fn a_node_is_let_back_only_once_the_history_is_read_up_to_now() {
    for history in [HistoryRead::Nothing, HistoryRead::NewestOf(1)] {
        let mut lab = Lab::healthy();
        lab.failover("node01", "node02").run_s(2);
        lab.repaired("node01").downtime_ends("node01").history = history;
        assert_eq!(lab.run_s(30).blocker("node01"), Some(&ReturnBlocker::History), "{history:?}");
        lab.history = HistoryRead::Whole;
        lab.run_s(2);
        assert!(lab.fenced().is_empty(), "{history:?}");
    }
}

#[test]
fn an_isolation_ends_once_the_history_is_read_up_to_now() {
    let mut lab = Lab::healthy();
    let before = lab.layers();
    lab.leader_gone().run_s(60);
    lab.history = HistoryRead::NewestOf(0);
    assert_eq!(lab.led_by("orc1").run_s(10).blocker("node02"), Some(&ReturnBlocker::History));
    lab.history = HistoryRead::Whole;
    lab.run_s(1);
    assert_eq!(lab.layers(), before);
}

#[test]
fn the_record_that_the_last_piece_brings_keeps_an_isolated_node_out() {
    let mut lab = Lab::healthy();
    lab.leader_gone().run_s(60);
    lab.failover("node01", "node02").downtime_ends("node01").returns_writable("node01");
    lab.history = HistoryRead::NewestOf(0);
    lab.led_by("orc1").run_s(10);
    lab.history = HistoryRead::Whole;
    lab.run_s(10);
    assert_eq!(lab.fenced(), ["node01"]);
}

#[test]
fn old_records_that_arrive_late_are_old_records() {
    let mut lab = Lab::new();
    lab.record(86_400, "node01", Some("node02"));
    lab.record(80_000, "node02", Some("node01"));
    lab.history = HistoryRead::NewestOf(0);
    lab.run_s(10);
    lab.history = HistoryRead::Whole;
    lab.run_s(60);
    assert!(lab.fenced().is_empty());
}

#[test]
fn a_node_that_is_served_from_now_on_has_the_whole_history_read_again() {
    let mut lab = Lab::healthy();
    lab.record(0, "node03", None);
    lab.run_s(31);
    assert!(lab.memory.history.progress.known_ns > 0, "control: there is something to forget");
    let like = lab.server("node03").clone();
    lab.servers.insert(node("node04"), like);
    lab.put(row(20, "node04", Status::Online));
    let is_forgotten = (0..40).any(|_| {
        lab.next();
        lab.memory.history.progress.known_ns == 0
    });
    assert!(is_forgotten && lab.memory.nodes.known.contains(&node("node04")));
    lab.run_s(1);
    assert!(lab.memory.history.progress.known_ns > 0);
}
