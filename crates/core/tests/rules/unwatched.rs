//! What was kept from before the agent stopped: nodes may have been switched by hand while nobody watched.

use stonith_core::decide::HoldReason;
use stonith_core::evidence::EvidenceKind::Superseded;
use stonith_core::table::{Comment, Status};

use crate::world::{Decided, Lab, Raft};

/// node01 was failed over to node03 and fenced. The agent stopped. Meanwhile somebody made node01 the primary again, by
/// hand, and put its rows back in; node02 and node03 follow it, and no downtime is left.
fn switched_back_unwatched(with_history: bool) -> Lab {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").run_s(5);
    assert_eq!(lab.fenced(), ["node01"]);
    lab.switched_by_hand("node01").downtime_ends("node01");
    for hostgroup in [10, 20] {
        lab.edit(hostgroup, "node01", |row| {
            let Comment::Marked(operators, _) = Comment::parse(&row.comment) else { return };
            (row.comment, row.status) = (operators.to_owned(), Status::Online);
        });
    }
    if !with_history {
        lab.purges_history();
    }
    lab
}

#[test]
fn i9_a_node_that_was_let_back_by_hand_while_nobody_watched_is_never_fenced_on_memory() {
    for with_history in [true, false] {
        let mut lab = switched_back_unwatched(with_history);
        lab.agent_restarts(600);
        for _ in 0..60 {
            lab.next();
            assert!(lab.rows("node01").contains("10:ONLINE"), "with its record: {with_history}");
        }
        assert_eq!(lab.fenced().len(), 0);
        // Control: the same memory without a gap, and the same rows, fence: somebody put a superseded node in.
        let mut lab = switched_back_unwatched(with_history);
        assert_eq!(lab.next().kinds("node01")[0], Superseded, "with its record: {with_history}");
    }
}

#[test]
fn i9_what_was_kept_from_before_a_gap_fences_nothing_while_no_leader_is_heard() {
    let mut lab = switched_back_unwatched(true);
    lab.asked(Raft::Leaderless).agent_restarts(600);
    let decision = lab.run_s(60);
    assert!(matches!(decision.held("node01"), Some(HoldReason::OldEvidence(_))));
    assert_eq!(lab.fenced().len(), 0);
}

#[test]
fn i5_a_downtime_of_before_a_gap_does_not_fence_a_node_that_was_let_back_and_made_the_primary() {
    let mut lab = Lab::healthy();
    lab.downtime("node02", "maintenance").run_s(3);
    assert_eq!(lab.fenced(), ["node02"]);
    lab.switched_by_hand("node02").downtime_ends("node02");
    lab.edit(20, "node02", |row| (row.comment, row.status) = (String::new(), Status::Online));
    lab.agent_restarts(600);
    for _ in 0..30 {
        lab.next();
        assert_eq!(lab.fenced().len(), 0, "{}", lab.rows("node02"));
    }
}

#[test]
fn a_superseded_node_that_was_put_in_while_nobody_watched_is_fenced_if_the_live_view_agrees() {
    let mut lab = switched_back_unwatched(true);
    // node03 is the primary all the same, and node01 stands alone beside it.
    lab.switched_by_hand("node03").returns_writable("node01").agent_restarts(600).next();
    assert_eq!(lab.fenced(), ["node01"]);
}

#[test]
fn a_failover_while_nobody_watched_is_acted_on_at_the_next_start() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").returns_writable("node01");
    lab.now_ms += 600_000;
    lab.leader_killed("orc2").agent_restarts(0);
    lab.run_s(2);
    assert_eq!(lab.fenced(), ["node01"]);
}

#[test]
fn the_watch_begins_with_the_leaders_first_answer_whatever_this_hosts_clock_says() {
    let mut lab = Lab::new();
    lab.asked(Raft::Silent).run_s(5);
    assert_eq!(lab.memory.watching_since_s, None);
    lab.led_by("orc1").next();
    assert_eq!(lab.memory.watching_since_s, Some(lab.now_s()));
    let since_s = lab.memory.watching_since_s;
    lab.leader_gone().run_s(60);
    lab.led_by("orc2").run_s(5);
    assert_eq!(lab.memory.watching_since_s, since_s, "silence is no gap: this agent was there");
    lab.agent_restarts(600).next();
    assert_eq!(lab.memory.watching_since_s, Some(lab.now_s()));
}
