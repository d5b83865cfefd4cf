//! What can't be read of Orchestrator's answer concerns the nodes that it names, and nobody else.

use stonith_core::decide::{HoldReason, ReturnBlocker, Verdict};
use stonith_core::evidence::EvidenceKind::LostInRecovery;
use stonith_core::orchestrator::{AnswerPart, SkippedEntry};

use crate::world::{Decided, Lab, node};

const WHAT: &str = "a recovery record of node01:3306 is skipped";

fn skipped(part: AnswerPart) -> Vec<SkippedEntry> {
    vec![SkippedEntry { part, nodes: [node("node01")].into(), what: WHAT.to_owned() }]
}

const PARTS: [AnswerPart; 3] = [AnswerPart::Marks, AnswerPart::Instances, AnswerPart::History];

#[test]
fn a_node_that_something_unreadable_names_is_held_and_the_others_are_judged() {
    for part in PARTS {
        let mut lab = Lab::healthy();
        lab.skipped = skipped(part);
        let decision = lab.downtime("node02", "maintenance").run_s(2);
        assert_eq!(decision.of("node01"), &Verdict::Hold(HoldReason::Unreadable(WHAT.to_owned())), "{part:?}");
        assert_eq!(lab.fenced(), ["node02"], "{part:?}");
        lab.skipped.clear();
        assert_eq!(lab.downtime_ends("node02").run_s(31).of("node01"), &Verdict::Keep, "{part:?}");
    }
}

#[test]
fn a_record_is_not_taken_up_beside_one_that_cannot_be_read_and_may_be_newer() {
    let mut lab = Lab::healthy();
    lab.skipped = skipped(AnswerPart::History);
    lab.failover("node01", "node02").downtime_ends("node01");
    assert_eq!(lab.run_s(60).of("node01"), &Verdict::Hold(HoldReason::Unreadable(WHAT.to_owned())));
    lab.skipped.clear();
    lab.run_s(31);
    assert!(lab.is_fenced("node01"));
}

#[test]
fn a_mark_that_can_be_read_fences_whatever_cannot() {
    for part in [AnswerPart::Instances, AnswerPart::History] {
        let mut lab = Lab::healthy();
        lab.skipped = skipped(part);
        let decision = lab.failover("node01", "node02").run_s(2);
        assert!(decision.kinds("node01").contains(&LostInRecovery), "{part:?}");
        assert!(lab.is_fenced("node01"), "{part:?}");
    }
}

#[test]
fn a_fenced_node_stays_out_until_all_that_names_it_can_be_read() {
    for part in PARTS {
        let mut lab = Lab::healthy();
        lab.failover("node01", "node02").run_s(2);
        lab.repaired("node01").downtime_ends("node01").skipped = skipped(part);
        assert_eq!(lab.run_s(30).blocker("node01"), Some(&ReturnBlocker::Unreadable(WHAT.to_owned())), "{part:?}");
        lab.skipped.clear();
        lab.run_s(40);
        assert!(lab.fenced().is_empty(), "{part:?}");
    }
}

#[test]
fn after_an_isolation_rows_go_back_though_the_instance_cannot_be_read_and_not_where_a_mark_or_a_record_cannot() {
    for part in PARTS {
        let mut lab = Lab::healthy();
        lab.leader_gone().run_s(60);
        lab.led_by("orc1").skipped = skipped(part);
        lab.run_s(10);
        let expected: &[&str] = if part == AnswerPart::Instances { &[] } else { &["node01"] };
        assert_eq!(lab.fenced(), expected, "{part:?}");
    }
}

#[test]
fn what_names_nobody_holds_nobody() {
    let mut lab = Lab::healthy();
    lab.skipped = vec![SkippedEntry { part: AnswerPart::History, nodes: [].into(), what: WHAT.to_owned() }];
    lab.failover("node01", "node02").run_s(2);
    assert!(lab.is_fenced("node01"));
    lab.repaired("node01").downtime_ends("node01").run_s(10);
    assert!(lab.fenced().is_empty());
}
