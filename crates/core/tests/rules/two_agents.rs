//! Several agents of one ProxySQL: a lease that one has stands in for the others', and what one lets back stays back.

use stonith_core::decide::Decision;
use stonith_core::lease::{LeaseAction, LeaseState};
use stonith_core::orchestrator::{Backing, LOST_IN_RECOVERY};
use stonith_core::policy::{WANTED_EVERY_MS, WANTED_FOR_MS};
use stonith_core::table::Layer;

use crate::world::{Lab, Raft};

const ALL: [&str; 3] = ["node01", "node02", "node03"];

/// Two agents tick in turn, twice a second together; "b" reaches nobody. What each decided last.
fn b_is_cut_off(lab: &mut Lab, seconds: u64) -> [Decision; 2] {
    let mut last = None;
    for _ in 0..seconds {
        let of_a = lab.agent("a").led_by("orc1").soon();
        let of_b = lab.agent("b").leader_gone().soon();
        last = Some([of_a, of_b]);
    }
    last.expect("a second at least")
}

/// Both have been led for a minute.
fn two_agents() -> Lab {
    let mut lab = Lab::healthy();
    lab.agent("b").next();
    lab
}

#[test]
fn an_agent_that_is_cut_off_yields_to_one_that_is_not_and_nobody_takes_turns() {
    let mut lab = two_agents();
    let before = lab.layers();
    b_is_cut_off(&mut lab, 7);
    assert_eq!((lab.writes, lab.shares), (0, 0), "without a quarrel nothing is written");
    b_is_cut_off(&mut lab, 3);
    assert_eq!(lab.layers(), before);
    let (writes, shares) = (lab.writes, lab.shares);
    assert_eq!(writes, 2, "taken out once by the one, and let back by the other");
    let [of_a, of_b] = b_is_cut_off(&mut lab, 3_600);
    assert_eq!((of_a.lease_state, of_b.lease_state), (LeaseState::Led { good: false }, LeaseState::Shared));
    assert_eq!((lab.writes, lab.layers()), (writes, before));
    assert!(lab.shares - shares < 3_600 / 3, "a word now and then: {}", lab.shares - shares);
}

#[test]
fn one_that_was_cut_off_itself_once_answers_for_another_later() {
    let mut lab = two_agents();
    let before = lab.layers();
    let both = |lab: &mut Lab, happens: fn(&mut Lab) -> &mut Lab| {
        for agent in ["a", "b"].repeat(20) {
            happens(lab.agent(agent)).soon();
        }
    };
    both(&mut lab, Lab::leader_gone);
    assert_eq!(lab.fenced(), ALL);
    both(&mut lab, |lab| lab.led_by("orc1"));
    assert_eq!(lab.layers(), before);
    let [_, of_b] = b_is_cut_off(&mut lab, 60);
    assert_eq!((of_b.lease_state, lab.layers()), (LeaseState::Shared, before));
}

#[test]
fn a_lease_that_is_not_kept_up_any_more_runs_out_and_the_proxy_is_isolated() {
    let mut lab = two_agents();
    b_is_cut_off(&mut lab, 60);
    let (_, until_ms, _) = lab.lease.unwrap();
    // "a" is gone.
    while lab.fenced().is_empty() {
        lab.agent("b").leader_gone().next();
        assert!(lab.now_ms < until_ms + 1_001, "by the tick after it ran out");
    }
    assert_eq!(lab.fenced(), ALL);
    // Cut off as well, "a" does not let anything back when it returns.
    for _ in 0..60 {
        lab.agent("a").leader_gone().soon();
        lab.agent("b").leader_gone().soon();
        assert_eq!(lab.fenced(), ALL);
    }
}

#[test]
fn a_lease_that_nobody_counts_on_any_more_is_ended_and_all_is_quiet_again() {
    let mut lab = two_agents();
    b_is_cut_off(&mut lab, 60);
    let wanted_ms = lab.lease.unwrap().2;
    assert!(lab.now_ms - wanted_ms <= WANTED_EVERY_MS + 1_000, "it says so again and again");
    while lab.lease.is_some() {
        lab.agent("a").led_by("orc1").soon();
        lab.agent("b").led_by("orc1").soon();
        assert!(lab.now_ms <= wanted_ms + WANTED_FOR_MS + 1_000);
    }
    let (writes, shares) = (lab.writes, lab.shares);
    for _ in 0..60 {
        lab.agent("a").next();
        lab.agent("b").next();
    }
    assert_eq!((lab.writes, lab.shares), (writes, shares));
}

/// Its own isolation is no quarrel: an agent alone at its ProxySQL leaves no lease there, whatever befalls it.
#[test]
fn i7_an_agent_alone_shares_nothing() {
    let mut lab = Lab::healthy();
    lab.leader_gone().run_s(30);
    lab.led_by("orc2").observe_only = true;
    lab.run_s(10); // its return can't be carried out
    lab.observe_only = false;
    lab.agent_restarts(2).run_s(10);
    assert_eq!((lab.fenced().len(), lab.shares), (0, 0));
    lab.state_lost().leader_gone().run_s(60);
    lab.led_by("orc1").run_s(10);
    assert_eq!((lab.fenced().len(), lab.shares), (0, 0));
}

#[test]
fn what_holds_an_agent_of_its_own_goes_before_anothers_lease() {
    let mut lab = two_agents();
    b_is_cut_off(&mut lab, 60);
    for (asked, lease_state) in [(Raft::Leaderless, LeaseState::Held), (Raft::Blind, LeaseState::Held)] {
        assert_eq!(lab.agent("b").asked(asked).next().lease_state, lease_state);
    }
    assert!(matches!(lab.backed(Backing::Majority).next().lease_state, LeaseState::Unconfirmed));
    // A suspended one keeps its hands off the lease too.
    lab.orders.suspended = Some("upgrade".to_owned());
    let shares = lab.shares;
    b_is_cut_off(&mut lab, 5);
    assert_eq!(lab.shares, shares);
}

#[test]
fn a_lease_says_for_how_long_it_is_good_so_that_the_promise_holds() {
    let mut lab = two_agents();
    b_is_cut_off(&mut lab, 9);
    let asked_ms = lab.agent("a").memory.lease.asked_ms.unwrap();
    let (owner, until_ms, _) = lab.lease.unwrap();
    // isolation.after, less a tick and an apply.
    assert!(owner == "a" && until_ms <= asked_ms + 10_000 - 1_000 - 1_000, "{until_ms} of {asked_ms}");
    let decision = lab.led_by("orc1").tick(until_ms - 1_500);
    assert!(
        matches!(decision.plan.lease_action, Some(LeaseAction::Keep { .. })),
        "renewed in time: {:?}",
        decision.plan.lease_action
    );
}

/// What was proven to one agent is proven: the other kept the evidence, and its own proof may be long in coming.
#[test]
fn what_one_agent_lets_back_the_other_does_not_fence_again() {
    let mut lab = two_agents();
    lab.failover("node01", "node03");
    lab.agent("a").led_by("orc1").next();
    lab.agent("b").next();
    lab.repaired("node01");
    for _ in 0..6 {
        lab.agent("b").backed(Backing::Unconfirmed).soon();
        lab.agent("a").led_by("orc1").soon();
    }
    assert_eq!(lab.rows("node01"), "20:ONLINE");
    let writes = lab.writes;
    for _ in 0..60 {
        lab.agent("b").backed(Backing::Unconfirmed).next();
    }
    assert_eq!((lab.writes, lab.rows_in(Layer::Disk, "node01")), (writes, "20:ONLINE".to_owned()));
    // Only for what it was released of: what is newer fences, whoever sees it first.
    lab.downtime("node01", LOST_IN_RECOVERY).returns_writable("node01").next();
    assert_eq!(lab.fenced(), ["node01"]);
}
