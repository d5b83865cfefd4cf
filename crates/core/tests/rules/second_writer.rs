//! Two nodes ONLINE in one writer hostgroup: the one that is not the primary goes out.

use stonith_core::condition::conditions;
use stonith_core::decide::{ProofGap, ReturnBlocker};
use stonith_core::evidence::EvidenceKind::SecondWriter;
use stonith_core::table::Status;

use crate::world::{Decided, HistoryRead, Lab, node, row};

/// node01 died, and somebody promoted node03 by hand: no record, no downtime.
fn promoted_by_hand() -> Lab {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").purges_history().downtime_ends("node01").run_s(5);
    assert!(lab.fenced().is_empty(), "nothing says so yet");
    lab
}

#[test]
fn a_returned_primary_beside_the_present_one_is_fenced_without_any_record() {
    let mut lab = promoted_by_hand();
    // Its alias still tells whose it is, though it is a cluster of its own to Orchestrator (captures, 3a).
    let decision = lab.returns_writable("node01").run_s(3);
    assert_eq!(decision.kinds("node01"), [SecondWriter]);
    assert_eq!((lab.fenced(), lab.rows("node03")), (vec!["node01".to_owned()], "10:ONLINE 20:ONLINE".to_owned()));
    let comment = &lab.row(stonith_core::table::Layer::Disk, 10, "node01").unwrap().comment;
    assert_eq!(comment, " [stonith:1 second-writer by=node03:3306 was=ONLINE]");
}

#[test]
fn a_returned_primary_is_fenced_while_proxysql_still_shuns_it() {
    let mut lab = promoted_by_hand();
    lab.returns_writable("node01").put(row(10, "node01", Status::Shunned));
    assert_eq!(lab.run_s(3).kinds("node01"), [SecondWriter]);
    assert_eq!((lab.fenced(), lab.rows("node03")), (vec!["node01".to_owned()], "10:ONLINE 20:ONLINE".to_owned()));
}

#[test]
fn a_shunned_row_is_left_alone_while_its_node_is_down_or_read_only() {
    let mut lab = promoted_by_hand();
    lab.put(row(10, "node01", Status::Shunned)).run_s(30);
    assert!(lab.fenced().is_empty(), "it is down");
    // The monitor moves it as soon as it reaches it.
    lab.returns_writable("node01").put(row(10, "node01", Status::Shunned)).server("node01").read_only = true;
    lab.run_s(30);
    assert!(lab.fenced().is_empty(), "it is read-only");
}

#[test]
fn a_second_writer_stays_out_until_it_is_a_replica() {
    let mut lab = promoted_by_hand();
    let decision = lab.returns_writable("node01").run_s(60);
    assert_eq!(decision.blocker("node01"), Some(&ReturnBlocker::Proof(vec![ProofGap::StandsAlone(node("node03"))])));
    lab.leader_killed("orc2").agent_restarts(30).run_s(30);
    assert_eq!(lab.fenced(), ["node01"]);
    lab.repaired("node01").run_s(5);
    assert_eq!((lab.fenced().len(), lab.rows("node01")), (0, "20:ONLINE".to_owned()));
}

#[test]
fn i5_right_after_a_promotion_stale_rows_never_fence_the_new_primary() {
    for with_record in [true, false] {
        let mut lab = Lab::healthy();
        lab.rows_go_stale().failover("node01", "node03");
        if !with_record {
            lab.purges_history().downtime_ends("node01");
        }
        // The leader shows the rows of before, as valid, for as long as you like; node01 is back, too.
        lab.returns_writable("node01");
        for _ in 0..30 {
            lab.next();
            assert_eq!(lab.rows("node03"), "10:ONLINE 20:ONLINE");
        }
        lab.stale = None;
        lab.run_s(5);
        assert_eq!(lab.fenced(), ["node01"], "with a record: {with_record}");
    }
}

#[test]
fn i5_a_node_that_was_lost_in_a_recovery_is_no_primary_to_fence_its_successor_for() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node02").repaired("node01").run_s(10);
    // node02 was promoted before, and so will node03 be, which keeps its replica settings; its record does not come.
    lab.history = HistoryRead::Nothing;
    lab.failover("node02", "node03").run_s(1);
    lab.returns_writable("node02").has_settings_left("node03", "node02").server("node03").replicating = true;
    for _ in 0..30 {
        // Its fence does not get through: another applier has the lock, say.
        lab.put(row(10, "node02", Status::Online)).next();
        assert!(!lab.is_fenced("node03"), "{}", lab.rows("node03"));
    }
    assert_eq!(lab.fenced(), ["node02"]);
}

#[test]
fn i5_a_node_promoted_without_reset_is_not_fenced_beside_its_returned_predecessor_while_its_record_is_unread() {
    let mut lab = Lab::healthy();
    lab.history = HistoryRead::Nothing;
    // node03 follows node02. node02 follows node01 again after node01's return. There is no mark.
    lab.failover("node01", "node02").downtime_ends("node01").returns_writable("node01");
    lab.has_settings_left("node02", "node01").server("node02").replicating = true;
    for _ in 0..30 {
        lab.put(row(10, "node01", Status::Online)).next();
        assert!(!lab.is_fenced("node02"), "{}", lab.rows("node02"));
    }
    // Another replica of node01 shows that node02 is one, too.
    lab.follows("node03", "node01").put(row(10, "node01", Status::Online)).run_s(3);
    assert_eq!(lab.fenced(), ["node02"]);
}

#[test]
fn co_primaries_are_left_alone() {
    let mut lab = Lab::new();
    for (name, other) in [("node01", "node02"), ("node02", "node01")] {
        lab.follows(name, other).server(name).read_only = false;
    }
    lab.run_s(120);
    assert_eq!((lab.writes, lab.rows("node02")), (0, "10:ONLINE 20:ONLINE".to_owned()));
    // An isolation, which takes all nodes out, lets both back as they were.
    let before = lab.layers();
    lab.leader_gone().run_s(20);
    assert_eq!(lab.fenced().len(), 3);
    lab.led_by("orc1").run_s(10);
    assert_eq!(lab.layers(), before);
}

#[test]
fn two_writers_of_which_the_leader_names_neither_are_left_alone() {
    let mut lab = Lab::new();
    // Nobody follows either of them.
    for name in ["node01", "node02"] {
        lab.returns_writable(name);
    }
    let decision = lab.dies("node03").run_s(60);
    assert_eq!(lab.writes, 0);
    let said = conditions(&lab.observed(), &decision, &lab.policy);
    let said = said.iter().find(|condition| condition.label() == "two-writers").expect("it is said");
    assert_eq!(
        said.to_string(),
        "node01:3306, node02:3306 take writes through hostgroup 10, and nothing tells which of them is the primary. They \
         stay as they are; `fence` the ones that are not"
    );
}

#[test]
fn a_writable_replica_is_a_second_writer_and_its_primary_is_not() {
    let mut lab = Lab::healthy();
    lab.server("node02").read_only = false;
    assert_eq!(lab.run_s(3).kinds("node02"), [SecondWriter]);
    assert_eq!(lab.fenced(), ["node02"]);
}
