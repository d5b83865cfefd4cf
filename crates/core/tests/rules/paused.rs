//! A member of a ProxySQL Cluster that is cut off is paused: rows would spread to its peers (design §10).

use stonith_core::condition::Condition;
use stonith_core::lease::LeaseState;
use stonith_core::observed::PauseSeen;
use stonith_core::orchestrator::Backing;
use stonith_core::orders::Order;
use stonith_core::plan::PauseAction;
use stonith_core::policy::{APPLY_MS, ELECTION_MS, IsolationScope, PAUSE_MS, Policy};
use stonith_core::table::Status;

use crate::world::{Decided, HistoryRead, Lab, Raft, row};

const OURS: PauseSeen = PauseSeen { paused: true, noted: true, clients: 0 };
const BY_OPERATOR: PauseSeen = PauseSeen { paused: true, noted: false, clients: 0 };

/// A member of a ProxySQL Cluster, armed.
fn member() -> Lab {
    let mut lab = Lab::healthy();
    lab.proxy.clustered = true;
    assert!(lab.run_s(10).plan.is_empty());
    lab
}

/// Cut off for a minute.
fn cut_off() -> Lab {
    let mut lab = member();
    assert!(lab.leader_gone().run_s(60).isolated());
    assert_eq!(lab.proxy.pause, OURS);
    lab
}

fn paused_after_ms(lab: &mut Lab) -> u64 {
    let asked_ms = lab.memory.lease.asked_ms.unwrap();
    while !lab.proxy.pause.paused {
        lab.tick(lab.now_ms + lab.policy.tick_ms);
        assert!(lab.now_ms < asked_ms + 100_000, "never paused");
    }
    lab.now_ms - asked_ms
}

#[test]
fn a_member_that_is_cut_off_is_paused_and_no_row_of_it_changes() {
    let mut lab = member();
    let before = lab.layers();
    assert!(lab.leader_gone().run_s(600).isolated());
    assert_eq!((lab.proxy.pause, lab.writes), (OURS, 0));
    assert_eq!(lab.layers(), before, "nothing that could spread");
    lab.led_by("orc1").run_s(3);
    assert_eq!((lab.proxy.pause, lab.writes), (PauseSeen::default(), 0));
    assert_eq!(lab.layers(), before);
    // Without peers the same cut changes rows and pauses nothing.
    let mut lab = Lab::healthy();
    lab.leader_gone().run_s(60);
    assert_eq!((lab.proxy.pause, lab.fenced().len()), (PauseSeen::default(), 3));
}

#[test]
fn evidence_fences_a_member_as_any_other() {
    let mut lab = member();
    lab.failover("node01", "node03").run_s(2);
    assert_eq!((lab.fenced(), lab.proxy.pause), (vec!["node01".to_owned()], PauseSeen::default()));
}

#[test]
fn a_pause_begins_earlier_than_a_change_of_rows_and_no_election_reaches_it() {
    for (tick_ms, isolation_after_ms) in [(1_000, 10_000), (1_000, 8_000), (5_000, 16_000), (5_000, 60_000)] {
        let mut lab = Lab::new();
        (lab.policy.tick_ms, lab.policy.isolation_after_ms) = (tick_ms, isolation_after_ms);
        lab.proxy.clustered = true;
        lab.run_s(60);
        let after_ms = paused_after_ms(lab.leader_gone());
        assert!(after_ms >= ELECTION_MS, "{after_ms} of {isolation_after_ms}");
        // Where an election leaves room for it, a pause is over in time.
        let has_room = isolation_after_ms >= ELECTION_MS + tick_ms + PAUSE_MS;
        let takes_ms = if has_room { PAUSE_MS } else { APPLY_MS };
        assert!(after_ms + takes_ms <= isolation_after_ms, "{after_ms} of {isolation_after_ms}");
        assert!(isolation_after_ms >= Policy::shortest_isolation_after_ms(tick_ms));
    }
}

#[test]
fn i8_only_a_confirmed_leader_ends_a_pause() {
    let mut lab = cut_off();
    lab.backed(Backing::Unconfirmed).run_s(60);
    assert_eq!(lab.proxy.pause, OURS);
    for raft in [Raft::Leaderless, Raft::Blind, Raft::Conflict] {
        lab.asked(raft).run_s(60);
        assert_eq!(lab.proxy.pause, OURS);
    }
    lab.led_by("orc2").run_s(2);
    assert_eq!(lab.proxy.pause, OURS, "not on the word of a leader of two seconds");
    lab.next();
    assert_eq!(lab.proxy.pause, PauseSeen::default());
}

#[test]
fn i2_a_pause_ends_only_once_the_history_was_read_and_with_the_superseded_node_out() {
    let mut lab = cut_off();
    lab.failover("node01", "node03").returns_writable("node01");
    lab.history = HistoryRead::Nothing;
    lab.led_by("orc1").run_s(60);
    assert_eq!(lab.proxy.pause, OURS);
    lab.history = HistoryRead::Whole;
    let decision = lab.next();
    assert_eq!(decision.plan.pause, Some(PauseAction::Resume));
    assert_eq!(lab.fenced(), ["node01"], "in the same plan, of which the apply carries the rows out first");
}

#[test]
fn it_is_paused_again_after_a_restart_of_proxysql_and_after_an_operator_resumed_it() {
    let mut lab = cut_off();
    for seen in [PauseSeen::default(), PauseSeen { paused: false, ..OURS }] {
        lab.proxy.pause = seen;
        assert_eq!(lab.next().plan.pause, Some(PauseAction::Pause(seen)));
        assert_eq!(lab.proxy.pause, OURS);
    }
}

#[test]
fn i3_a_pause_of_an_operator_never_ends() {
    let mut lab = member();
    lab.proxy.pause = BY_OPERATOR;
    assert!(lab.run_s(60).plan.is_empty());
    assert!(lab.leader_gone().run_s(60).isolated());
    assert_eq!(lab.proxy.pause, BY_OPERATOR);
    // Sessions that an operator lets go on are ended, since a cut-off proxy takes no write.
    let seen = PauseSeen { clients: 3, ..BY_OPERATOR };
    lab.proxy.pause = seen;
    assert_eq!(lab.next().plan.pause, Some(PauseAction::Pause(seen)));
    assert!(lab.led_by("orc1").run_s(60).plan.is_empty());
    assert_eq!(lab.proxy.pause, BY_OPERATOR);
}

#[test]
fn i7_a_paused_member_is_quiet() {
    let mut lab = cut_off();
    for _ in 0..60 {
        assert!(lab.next().plan.is_empty());
    }
    lab.led_by("orc1").run_s(5);
    for _ in 0..60 {
        assert!(lab.next().plan.is_empty());
    }
}

#[test]
fn a_scope_has_no_meaning_for_a_pause_but_off() {
    let mut lab = member();
    lab.policy.isolation_scope = IsolationScope::Off;
    assert_eq!(lab.leader_gone().run_s(600).lease_state, LeaseState::Held);
    assert_eq!(lab.proxy.pause, PauseSeen::default());
    let mut lab = member();
    lab.policy.isolation_scope = IsolationScope::Writers;
    lab.leader_gone().run_s(60);
    assert_eq!(lab.proxy.pause, OURS);
}

#[test]
fn an_agent_that_never_knew_the_writers_pauses_nothing_and_says_that_it_is_not_armed() {
    let mut lab = Lab::new();
    lab.proxy.clustered = true;
    assert_eq!(lab.leader_gone().run_s(600).lease_state, LeaseState::Unarmed);
    assert_eq!(lab.proxy.pause, PauseSeen::default());
    let mut lab = member();
    lab.proxy.pairs.push(crate::world::pair(30, 40));
    lab.put(row(30, "gone", Status::Online));
    assert!(lab.says().iter().any(|condition| condition.label() == "unarmed"));
}

#[test]
fn an_agent_whose_state_was_lost_takes_up_a_pause_from_its_note() {
    let mut lab = cut_off();
    lab.memory = stonith_core::memory::Memory::first_start("boot", lab.now_ms);
    assert!(lab.next().isolated());
    assert_eq!(lab.proxy.pause, OURS);
    lab.led_by("orc1").run_s(10);
    assert_eq!(lab.proxy.pause, PauseSeen::default());
}

#[test]
fn a_suspended_agent_neither_pauses_nor_resumes_and_an_order_resumes() {
    let mut lab = member();
    lab.orders.suspended = Some("moving the switch".to_owned());
    lab.leader_gone().run_s(60);
    assert_eq!(lab.proxy.pause, PauseSeen::default());
    let mut lab = cut_off();
    lab.orders.suspended = Some("moving the switch".to_owned());
    lab.led_by("orc1").run_s(60);
    assert_eq!(lab.proxy.pause, OURS);
    lab.leader_gone().orders.now = Some(Order::EndIsolation);
    lab.next();
    assert_eq!(lab.proxy.pause, PauseSeen::default());
    // An operator's own pause is left alone.
    lab.proxy.pause = BY_OPERATOR;
    lab.orders.now = Some(Order::EndIsolation);
    lab.next();
    assert_eq!(lab.proxy.pause, BY_OPERATOR);
}

#[test]
fn an_agent_with_a_lease_ends_the_pause_of_another_and_the_two_do_not_take_turns() {
    let mut lab = member();
    lab.agent("b").run_s(10);
    lab.agent("a").leader_gone().run_s(60);
    assert_eq!(lab.proxy.pause, OURS);
    lab.agent("b").led_by("orc1").run_s(10);
    assert_eq!(lab.proxy.pause, PauseSeen::default());
    for _ in 0..30 {
        lab.agent("a").leader_gone().next();
        assert_eq!(lab.proxy.pause, PauseSeen::default());
        lab.agent("b").led_by("orc1").next();
    }
}

#[test]
fn rows_that_are_out_when_peers_are_added_stay_so_until_the_lease_is_back() {
    let mut lab = Lab::healthy();
    let before = lab.layers();
    lab.leader_gone().run_s(60);
    lab.proxy.clustered = true;
    lab.run_s(10);
    assert_eq!((lab.fenced().len(), lab.proxy.pause), (3, OURS));
    lab.led_by("orc1").run_s(3);
    assert_eq!((lab.layers(), lab.proxy.pause), (before, PauseSeen::default()));
}

#[test]
fn it_is_said_that_it_is_paused_and_by_whom() {
    let by = |lab: &mut Lab| {
        lab.says().into_iter().find_map(|condition| match condition {
            Condition::Paused { by_agents } => Some(by_agents),
            _ => None,
        })
    };
    assert_eq!(by(&mut member()), None);
    let mut lab = cut_off();
    assert_eq!(by(&mut lab), Some(true));
    lab.proxy.pause = BY_OPERATOR;
    assert_eq!(by(&mut lab), Some(false));
}
