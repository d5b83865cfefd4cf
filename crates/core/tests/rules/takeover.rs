//! A planned takeover: the old primary is drained before it is demoted, and comes back soon if it is not (design §5, §6).

use stonith_core::decide::ReturnBlocker;
use stonith_core::evidence::EvidenceKind::{Superseded, Takeover};
use stonith_core::evidence::Level;
use stonith_core::orchestrator::TAKEOVER;
use stonith_core::orders::Order;
use stonith_core::plan::Directive;
use stonith_core::policy::{FenceOn, Policy};

use crate::world::{Decided, Lab, node};

/// The hook has marked node01, which is well. An agent has seen that.
fn marked() -> Lab {
    let mut lab = Lab::healthy();
    assert_eq!(lab.downtime("node01", TAKEOVER).next().kinds("node01"), [Takeover]);
    lab
}

#[test]
fn the_mark_takes_the_healthy_primary_out_softly_and_ends_no_session() {
    let mut lab = Lab::healthy();
    lab.policy = Policy { fence_on: FenceOn::LostInRecovery, ..lab.policy };
    let decision = lab.downtime("node01", TAKEOVER).next();
    let fence = Directive::Fence { kind: Takeover, by: None, sessions: false };
    assert_eq!(decision.plan.directives[&node("node01")], fence);
    assert_eq!(lab.fenced(), ["node01"]);
    for _ in 0..10 {
        let decision = lab.next();
        assert_eq!(decision.plan.directives[&node("node01")], fence, "no agent ends a session or lets it back");
    }
}

#[test]
fn the_hooks_order_at_the_deadline_ends_the_sessions_that_are_left() {
    for (level, sessions) in [(Level::Soft, false), (Level::Sessions, true)] {
        let mut lab = marked();
        let decision = lab.order(Order::Drain { node: node("node01"), level });
        let fence = Directive::Fence { kind: Takeover, by: None, sessions };
        assert_eq!(decision.plan.directives[&node("node01")], fence);
        assert_eq!(lab.fenced(), ["node01"]);
    }
}

#[test]
fn a_takeover_that_came_to_nothing_ends_within_3_s_of_its_mark_and_the_rows_are_as_before() {
    let mut lab = Lab::healthy();
    let before = lab.layers();
    lab.downtime("node01", TAKEOVER).next();
    assert_eq!(lab.run_s(4).blocker("node01"), Some(&ReturnBlocker::DowntimeEnd));
    lab.downtime_ends("node01").run_s(3);
    assert_eq!(lab.layers(), before);
}

#[test]
fn a_marker_that_an_agent_finds_without_the_mark_ends_the_same_way() {
    let mut lab = marked();
    lab.downtime_ends("node01").state_lost();
    lab.run_s(5);
    assert!(lab.fenced().is_empty());
}

#[test]
fn a_demoted_node_whose_successor_has_no_record_yet_stays_out_as_long_as_that_takes() {
    let mut lab = marked();
    let demoted = lab.server("node01");
    demoted.read_only = true;
    lab.downtime_ends("node01");
    assert_eq!(lab.run_s(30).blocker("node01"), Some(&ReturnBlocker::Recovery));
    // Orchestrator promoted nobody, and made it writable again.
    lab.server("node01").read_only = false;
    lab.run_s(3);
    assert_eq!(lab.rows("node01"), "10:ONLINE 20:ONLINE");
}

#[test]
fn a_takeover_that_succeeds_is_superseded_without_a_gap_and_the_old_primary_comes_back_as_a_reader() {
    let mut lab = marked();
    lab.server("node01").read_only = true;
    lab.downtime_ends("node01").next();
    assert_eq!(lab.fenced(), ["node01"]);
    lab.takeover("node01", "node02");
    assert_eq!(lab.next().kinds("node01")[0], Superseded);
    lab.run_s(8);
    assert_eq!(lab.rows("node01"), "20:ONLINE");
}

#[test]
fn an_agent_that_sees_the_marker_before_the_mark_lets_the_demoted_node_serve_reads_as_soon() {
    let mut lab = marked();
    // The hook's own fence came between two ticks of the agent; then the record.
    lab.memory.nodes.evidence.clear();
    lab.memory.nodes.up_throughout.clear();
    lab.takeover("node01", "node02").run_s(8);
    assert!(!lab.downtimes.is_empty(), "the recovery's mark stays for a minute");
    assert_eq!(lab.rows("node01"), "20:ONLINE");
}

#[test]
fn a_left_over_mark_never_takes_out_the_node_that_was_promoted_since() {
    let mut lab = Lab::healthy();
    lab.observe_only = true;
    lab.downtime("node01", TAKEOVER).now_ms += 2_000;
    let mark = lab.downtimes[0].clone();
    lab.takeover("node01", "node02").now_ms += 2_000;
    lab.takeover("node02", "node01");
    lab.downtimes = vec![mark];
    assert_eq!(lab.next().kinds("node01"), []);
    // The control: a mark of a takeover after that.
    lab.now_ms += 2_000;
    lab.downtime_ends("node01").downtime("node01", TAKEOVER);
    assert_eq!(lab.next().kinds("node01"), [Takeover]);
}
