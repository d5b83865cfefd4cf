//! A proxy that is cut off from Orchestrator's leader goes out of service, and comes back as it was.

use stonith_core::decide::{ProofGap, ReturnBlocker};
use stonith_core::evidence::EvidenceKind::{Isolation, Superseded};
use stonith_core::lease::LeaseState;
use stonith_core::orchestrator::Backing;
use stonith_core::policy::{APPLY_MS, ELECTION_MS, IsolationScope, Policy};
use stonith_core::table::{Hostgroup, Status};

use crate::world::{self, Decided, Lab, Raft, node, row};

const ALL: [&str; 3] = ["node01", "node02", "node03"];

/// Nothing heard of the leader for a minute.
fn cut_off() -> Lab {
    let mut lab = Lab::healthy();
    lab.leader_gone().run_s(60);
    assert_eq!(lab.fenced(), ALL);
    lab
}

/// Runs until something is fenced; when that was, in ms after the last answer was asked for.
fn isolated_after_ms(lab: &mut Lab) -> u64 {
    let asked_ms = lab.memory.lease.asked_ms.unwrap();
    while lab.fenced().is_empty() {
        lab.tick(lab.now_ms + lab.policy.tick_ms);
        assert!(lab.now_ms < asked_ms + 100_000, "never isolated");
    }
    lab.now_ms - asked_ms
}

#[test]
fn a_node_whose_role_is_not_known_after_an_isolation_stays_out_though_a_row_is_put_in() {
    let mut lab = Lab::new();
    lab.put(row(30, "node03", Status::Online)).run_s(60);
    lab.leader_gone().run_s(20);
    lab.returns_writable("node03").led_by("orc1").run_s(10);
    assert_eq!(lab.fenced(), ["node03"]);
    lab.put(row(20, "node03", Status::Online));
    assert_eq!(lab.run_s(1).kinds("node03"), [Isolation]);
    assert_eq!(lab.rows("node03"), "10:OFFLINE_SOFT 20:OFFLINE_SOFT 30:OFFLINE_SOFT");
    lab.repaired("node03").run_s(10);
    assert_eq!((lab.fenced().len(), lab.rows("node03").as_str()), (0, "20:ONLINE 30:ONLINE"));
}

#[test]
fn a_proxy_is_out_by_ask_and_isolation_after_less_a_tick_and_an_apply() {
    for (tick_ms, isolation_after_ms) in [(1_000, 10_000), (1_000, 8_000), (5_000, 16_000), (5_000, 60_000)] {
        let mut lab = Lab::new();
        (lab.policy.tick_ms, lab.policy.isolation_after_ms) = (tick_ms, isolation_after_ms);
        lab.run_s(60);
        let after_ms = isolated_after_ms(lab.leader_gone());
        assert!(
            after_ms + APPLY_MS <= isolation_after_ms,
            "the lease is a promise: {after_ms} of {isolation_after_ms}"
        );
        assert!(after_ms > ELECTION_MS, "and no election reaches it");
        assert!(isolation_after_ms >= Policy::shortest_isolation_after_ms(tick_ms));
    }
}

/// A primary that became read-only: the monitor moves its row, and the writer hostgroup is empty.
#[test]
fn the_readers_go_out_while_no_node_is_in_the_writer_hostgroup() {
    let fenced_with = |writer: Option<&str>| {
        let mut lab = Lab::healthy();
        lab.server("node01").read_only = true;
        lab.next();
        assert_eq!((lab.rows("node01"), lab.fenced().len()), ("20:ONLINE".to_owned(), 0));
        if let Some(name) = writer {
            lab.put(row(10, name, Status::Online));
        }
        lab.leader_gone().run_s(20);
        lab.fenced()
    };
    assert_eq!(fenced_with(None), ALL);
    assert!(fenced_with(Some("stranger")).is_empty(), "whose writers Orchestrator does not know");
}

#[test]
fn a_tick_late_by_one_tick_still_keeps_the_promise() {
    let mut lab = Lab::healthy();
    let asked_ms = lab.now_ms;
    lab.leader_gone();
    // The last tick that may still wait, and the next one, a whole gap later.
    assert_eq!(lab.tick(asked_ms + 7_999).lease_state, LeaseState::Waiting);
    assert!(lab.tick(asked_ms + 8_999).isolated(), "and an apply takes 1 s");
}

#[test]
fn everything_goes_out_at_level_sessions_and_back_within_a_tick_of_a_confirmed_leader() {
    let mut lab = Lab::healthy();
    lab.edit(20, "node02", |row| row.comment = "rack 7, it's [x]".to_owned());
    lab.proxy.conn_used = [(node("node01"), 5), (node("node02"), 1)].into();
    let before = lab.layers();
    lab.leader_gone();
    isolated_after_ms(&mut lab);
    assert!(lab.proxy.conn_used.is_empty(), "no session is left");
    let decision = lab.next();
    assert_eq!((decision.kinds("node02"), decision.blocker("node02")), (vec![Isolation], Some(&ReturnBlocker::Lease)));
    lab.run_s(600);
    assert_eq!(lab.fenced(), ALL);
    lab.led_by("orc2").run_s(2);
    assert_eq!(lab.fenced(), ALL, "not on the word of a leader of two seconds");
    lab.next();
    assert_eq!(lab.layers(), before, "exactly as before, comments included, in every layer");
}

#[test]
fn i8_a_lost_lease_is_renewed_by_a_confirmed_leader_only() {
    let mut lab = cut_off();
    assert!(lab.backed(Backing::Unconfirmed).run_s(60).isolated());
    let from_ms = lab.backed(Backing::Single).leader_gone().now_ms;
    lab.next();
    lab.backed(Backing::Single);
    while !lab.fenced().is_empty() {
        lab.next();
        assert!(lab.now_ms < from_ms + 60_000);
    }
    assert_eq!(lab.now_ms - from_ms, 7_000, "a single endpoint: 5 s after its first answer");
}

#[test]
fn i8_a_leader_that_comes_and_goes_ends_no_isolation() {
    let mut lab = cut_off();
    for _ in 0..20 {
        lab.led_by("orc1").run_s(2);
        lab.leader_gone().next();
    }
    assert_eq!(lab.fenced(), ALL);
}

#[test]
fn nodes_whose_role_changed_meanwhile_come_back_in_the_role_they_now_have() {
    let mut lab = cut_off();
    lab.failover("node01", "node03").returns_writable("node01").run_s(60);
    lab.led_by("orc1").run_s(3);
    assert_eq!(lab.fenced(), ["node01"]);
    let marker = &lab.row(stonith_core::table::Layer::Disk, 10, "node01").unwrap().comment;
    assert_eq!(marker, " [stonith:1 superseded by=node03:3306 was=ONLINE]");
    assert_eq!((lab.rows("node02"), lab.rows("node03")), ("20:ONLINE".into(), "10:ONLINE 20:ONLINE".into()));
    lab.repaired("node01").run_s(5);
    assert_eq!(lab.rows("node01"), "20:ONLINE");
}

#[test]
fn a_takeover_meanwhile_lets_both_back_in_their_new_roles() {
    let mut lab = cut_off();
    lab.takeover("node01", "node02").run_s(30);
    lab.led_by("orc1").run_s(3);
    assert_eq!(lab.rows("node02"), "10:ONLINE 20:ONLINE");
    lab.run_s(5);
    assert_eq!((lab.rows("node01"), lab.fenced().len()), ("20:ONLINE".to_owned(), 0));
}

#[test]
fn the_ghost_of_a_moved_row_is_no_role() {
    let mut lab = Lab::healthy();
    lab.proxy.runtime.push(row(10, "node02", Status::OfflineHard));
    let before = lab.layers();
    lab.leader_gone().run_s(60);
    lab.led_by("orc1").run_s(4);
    assert_eq!(lab.layers(), before);
}

#[test]
fn a_node_that_stands_alone_beside_the_primary_does_not_come_back_with_the_lease() {
    let mut lab = cut_off();
    lab.failover("node01", "node03").returns_writable("node01").purges_history().downtime_ends("node01");
    lab.led_by("orc1");
    for _ in 0..20 {
        lab.next();
        assert!(lab.is_fenced("node01"), "not for one tick");
    }
    assert_eq!(lab.fenced(), ["node01"]);
}

#[test]
fn an_old_primary_stays_out_beside_the_new_one_though_they_share_a_pair_and_no_hostgroup() {
    for back in [false, true] {
        let mut lab = Lab::new();
        lab.delete(20, "node01").run_s(60);
        lab.leader_gone().run_s(20);
        lab.failover("node01", "node02").purges_history().leader_killed("orc2");
        if back {
            lab.returns_writable("node01");
        }
        lab.run_s(20);
        assert_eq!(lab.fenced(), ["node01"], "back: {back}");
        assert_eq!(lab.rows("node01"), "10:OFFLINE_SOFT", "back: {back}");
        lab.repaired("node01").run_s(10);
        assert_eq!((lab.rows("node01").as_str(), lab.fenced().len()), ("20:ONLINE", 0), "back: {back}");
    }
}

#[test]
fn a_node_with_a_writer_row_that_orchestrator_forgets_stays_out_beside_the_primary() {
    for is_moved in [false, true] {
        let mut lab = Lab::healthy();
        lab.leader_gone().run_s(if is_moved { 5 } else { 60 });
        lab.server("node03").read_only = false; // the monitor moves only a node in service to the writers
        lab.run_s(60);
        lab.led_by("orc1").run_s(10);
        assert_eq!(lab.fenced(), ["node03"], "it takes writes beside the primary");
        let decision = lab.forgets("node03").run_s(10);
        if is_moved {
            let gaps = [ProofGap::Unlisted].to_vec();
            assert_eq!(decision.blocker("node03"), Some(&ReturnBlocker::Proof(gaps)));
        } else {
            assert_eq!(lab.fenced().len(), 0, "nothing shows that it is a writer");
        }
    }
}

/// Orchestrator has promoted node02, and has not checked it since.
#[test]
fn a_writable_replica_stays_out_once_another_node_is_promoted_in_its_primarys_place() {
    for is_promoted in [false, true] {
        let mut lab = Lab::healthy();
        lab.leader_gone().run_s(5);
        lab.server("node03").read_only = false;
        lab.run_s(60);
        lab.dies("node01").rows_go_stale();
        if is_promoted {
            lab.record(2, "node01", Some("node02"));
        }
        let decision = lab.led_by("orc1").run_s(10);
        let gaps = [ProofGap::Writable].to_vec();
        let blocker = is_promoted.then_some(ReturnBlocker::Proof(gaps));
        assert_eq!(decision.blocker("node03"), blocker.as_ref(), "promoted: {is_promoted}");
        assert!(!lab.is_fenced("node02"));
    }
}

#[test]
fn what_was_fenced_before_stays_fenced_after() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").run_s(5);
    lab.leader_gone().run_s(30);
    assert_eq!(lab.fenced(), ALL);
    let decision = lab.leader_killed("orc2").purges_history().run_s(5);
    assert_eq!((lab.fenced(), decision.kinds("node01")[0]), (vec!["node01".to_owned()], Superseded));
}

#[test]
fn bad_news_of_a_leader_that_is_not_confirmed_counts_at_once_while_isolated() {
    let mut lab = cut_off();
    lab.failover("node01", "node03");
    let decision = lab.led_by("orc9").next();
    assert_eq!((decision.isolated(), decision.kinds("node01")[0]), (true, Superseded));
}

#[test]
fn the_scope_writers_takes_every_row_of_a_node_that_writes_and_off_takes_none() {
    for (scope, expected) in [(IsolationScope::Writers, &["node01"][..]), (IsolationScope::Off, &[])] {
        let mut lab = Lab::healthy();
        lab.policy.isolation_scope = scope;
        let before = lab.layers();
        lab.leader_gone().run_s(60);
        assert_eq!(lab.fenced(), expected, "{scope:?}");
        lab.led_by("orc1").run_s(4);
        assert_eq!(lab.layers(), before);
    }
}

// --- what does not isolate (I9) ----------------------------------------------------------------------------------

#[test]
fn i9_an_election_of_five_seconds_takes_nothing_away() {
    for during in [Raft::Leaderless, Raft::Silent, Raft::Blind, Raft::Conflict] {
        let mut lab = Lab::healthy();
        for leader in ["orc2", "orc3", "orc1"] {
            lab.asked(during.clone()).run_s(5);
            lab.led_by(leader).next();
        }
        // Confirmed or not: a quiet tick doesn't ask who backs the leader, a history's does.
        assert!(matches!(lab.run_s(60).lease_state, LeaseState::Led { .. }), "{during:?}");
        assert_eq!(lab.writes, 0, "{during:?}");
    }
}

#[test]
fn i9_all_orchestrator_nodes_restarted_one_by_one_take_nothing_away() {
    for tick_ms in [1_000, 5_000] {
        let mut lab = Lab::new();
        lab.policy.tick_ms = tick_ms;
        lab.policy.isolation_after_ms = Policy::shortest_isolation_after_ms(tick_ms).max(10_000);
        lab.run_s(30);
        for leader in ["orc2", "orc3", "orc1"] {
            lab.asked(Raft::Silent).next();
            lab.asked(Raft::Leaderless).run_s(5);
            lab.leader_killed(leader).run_s(10);
        }
        assert_eq!(lab.writes, 0);
    }
}

#[test]
fn i9_a_leaderless_majority_takes_nothing_away_however_long() {
    let mut lab = Lab::healthy();
    assert_eq!(lab.asked(Raft::Leaderless).run_s(3_600).lease_state, LeaseState::Held);
    assert_eq!(lab.writes, 0);
    // Afterwards the lease takes a confirmed leader, and until then nothing is lost either.
    lab.led_by("orc2");
    assert_eq!(lab.next().lease_state, LeaseState::Unconfirmed);
    assert_eq!(lab.run_s(2).lease_state, LeaseState::Led { good: true });
    assert_eq!(lab.writes, 0);
}

#[test]
fn i9_one_lost_poll_after_a_long_hold_does_not_isolate() {
    for hold in [Raft::Leaderless, Raft::Blind, Raft::Conflict] {
        let mut lab = Lab::healthy();
        for _ in 0..5 {
            lab.asked(hold.clone()).run_s(60);
            lab.leader_gone().run_s(5);
        }
        assert_eq!(lab.writes, 0, "{hold:?}");
        lab.run_s(5);
        assert_eq!(lab.fenced(), ALL, "silence for as long as a lease does");
    }
}

/// ProxySQL's scheduler starts us each 5 s, and ticks take 6 s: every second start leaves at once.
#[test]
fn i9_one_lost_poll_isolates_nobody_however_late_the_ticks_are() {
    let mut lab = Lab::new();
    lab.policy.tick_ms = 5_000;
    lab.policy.isolation_after_ms = Policy::shortest_isolation_after_ms(5_000);
    for _ in 0..20 {
        lab.tick(lab.now_ms + 10_000);
    }
    for _ in 0..20 {
        lab.leader_gone();
        lab.tick(lab.now_ms + 14_000);
        lab.led_by("orc1");
        lab.tick(lab.now_ms + 10_000);
    }
    assert_eq!(lab.writes, 0);
    lab.leader_gone();
    lab.tick(lab.now_ms + 10_000);
    assert!(lab.tick(lab.now_ms + 10_000).isolated(), "two in a row do");
}

#[test]
fn i9_blind_holds_unless_told_to_isolate() {
    let mut lab = Lab::healthy();
    assert_eq!(lab.asked(Raft::Blind).run_s(600).lease_state, LeaseState::Held);
    assert_eq!(lab.writes, 0);
    let mut lab = Lab::healthy();
    lab.policy.blind_isolates = true;
    isolated_after_ms(lab.asked(Raft::Blind));
}

#[test]
fn two_leaders_at_once_are_held() {
    let mut lab = Lab::healthy();
    assert_eq!(lab.asked(Raft::Conflict).run_s(600).lease_state, LeaseState::Held);
    assert_eq!(lab.writes, 0);
}

#[test]
fn what_was_isolated_stays_so_while_no_leader_is_confirmed() {
    for raft in [Raft::Leaderless, Raft::Blind, Raft::Conflict] {
        let mut lab = cut_off();
        lab.asked(raft.clone()).run_s(60);
        assert_eq!(lab.fenced(), ALL, "{raft:?}");
    }
}

#[test]
fn a_suspended_agent_neither_isolates_nor_lets_back() {
    let mut lab = Lab::healthy();
    lab.orders.suspended = Some("moving the switch".to_owned());
    lab.leader_gone().run_s(60);
    lab.led_by("orc1").run_s(5);
    lab.failover("node01", "node03").run_s(5);
    assert_eq!(lab.writes, 0);
    lab.orders.suspended = None;
    lab.next();
    assert_eq!(lab.fenced(), ["node01"], "what was learned meanwhile counts then");
}

#[test]
fn only_nodes_that_orchestrator_knows_or_knew_are_isolated() {
    let mut lab = Lab::healthy();
    lab.put(row(20, "stranger", Status::Online)).next();
    let writes = lab.writes;
    assert_eq!(lab.leader_gone().run_s(60).held("stranger"), Some(&stonith_core::decide::HoldReason::NotKnown));
    assert_eq!(lab.rows("stranger"), "20:ONLINE");
    assert_eq!((lab.fenced(), lab.writes), (ALL.map(str::to_owned).to_vec(), writes + 1));
}

#[test]
fn rows_of_excluded_hostgroups_are_never_isolated() {
    let mut lab = Lab::new();
    lab.policy.excluded_hostgroups = [Hostgroup(40)].into();
    lab.put(row(30, "node02", Status::Online)).put(row(40, "node02", Status::Online)).run_s(10);
    lab.leader_gone().run_s(60);
    assert_eq!(lab.rows("node02"), "20:OFFLINE_SOFT 30:OFFLINE_SOFT 40:ONLINE");
}

// --- starting again ----------------------------------------------------------------------------------------------

#[test]
fn an_agent_that_starts_after_a_host_boot_without_a_lease_isolates_at_once() {
    let mut lab = Lab::healthy();
    assert!(lab.host_boots().leader_gone().next().isolated());
    assert_eq!(lab.fenced(), ALL);
}

#[test]
fn i9_a_host_boot_with_a_leader_there_takes_nothing_away() {
    let mut lab = Lab::healthy();
    lab.host_boots().run_s(30);
    assert_eq!(lab.writes, 0);
}

#[test]
fn a_restarted_scheduler_waits_one_isolation_after() {
    let mut lab = Lab::healthy();
    let restart_ms = lab.agent_restarts(3_600).now_ms;
    lab.leader_gone();
    while lab.fenced().is_empty() {
        lab.next();
        assert!(lab.now_ms < restart_ms + 60_000);
    }
    assert_eq!(lab.now_ms - restart_ms, 8_000, "10 s, less a tick and an apply");
}

#[test]
fn a_quick_restart_does_not_prolong_the_lease() {
    let mut lab = Lab::healthy();
    let asked_ms = lab.now_ms;
    lab.leader_gone();
    while lab.fenced().is_empty() {
        lab.agent_restarts(0).next();
        assert!(lab.now_ms < asked_ms + 60_000);
    }
    assert_eq!(lab.now_ms - asked_ms, 8_000);
}

#[test]
fn a_lease_from_the_future_is_none() {
    let mut lab = Lab::healthy();
    lab.memory.lease.asked_ms = Some(lab.now_ms + 3_600_000);
    assert!(lab.leader_gone().next().isolated(), "this loop has been running for longer than a lease");
    let mut lab = Lab::healthy();
    lab.now_ms -= 30_000;
    lab.agent_restarts(0).leader_gone().run_s(7);
    assert_eq!(lab.writes, 0, "a clock set back waits once");
    lab.run_s(2);
    assert_eq!(lab.fenced(), ALL);
}

#[test]
fn an_unarmed_agent_never_isolates() {
    let mut lab = Lab::new();
    assert_eq!(lab.leader_gone().run_s(3_600).lease_state, LeaseState::Unarmed);
    assert_eq!(lab.writes, 0);
}

/// Beside the pair of 10 and 20: a pair whose writer Orchestrator doesn't know.
fn beside_an_unknown_writer(status: Status) -> Lab {
    let mut lab = Lab::new();
    lab.proxy.pairs.push(world::pair(30, 40));
    lab.put(row(30, "stranger", status));
    lab
}

#[test]
fn isolation_is_armed_for_each_cluster_that_orchestrator_knows() {
    let mut lab = beside_an_unknown_writer(Status::Online);
    let decision = lab.run_s(60);
    assert!(lab.memory.lease.armed && lab.writes == 0);
    assert_eq!(decision.unarmed, [(Hostgroup(30), [node("stranger")].into())].into());
    lab.leader_gone().run_s(30);
    assert_eq!(lab.fenced(), ["node01", "node02", "node03"]);
    assert_eq!(lab.rows("stranger"), "30:ONLINE");
}

#[test]
fn a_reader_that_orchestrator_knows_is_not_isolated_where_it_knows_no_writer() {
    let mut lab = beside_an_unknown_writer(Status::Online);
    let like = lab.servers[&node("node02")].clone();
    lab.servers.insert(node("reader"), like);
    lab.put(row(40, "reader", Status::Online)).run_s(60);
    lab.leader_gone().run_s(30);
    assert_eq!(lab.fenced(), ["node01", "node02", "node03"]);
    assert_eq!(lab.rows("reader"), "40:ONLINE");
}

#[test]
fn one_writer_that_orchestrator_does_not_know_beside_one_that_it_knows_leaves_isolation_armed() {
    // The ghost of a row that the monitor moved, and a row in service.
    for status in [Status::OfflineHard, Status::Online] {
        let mut lab = Lab::new();
        lab.put(row(10, "stranger", status.clone()));
        let decision = lab.run_s(60);
        assert!(lab.memory.lease.armed && decision.unarmed.is_empty(), "{status}");
        lab.leader_gone().run_s(30);
        assert_eq!(lab.fenced(), ["node01", "node02", "node03"], "{status}");
        assert_eq!(lab.rows("stranger"), format!("10:{status}"));
    }
}

#[test]
fn the_ghost_of_an_unknown_writer_alone_in_its_hostgroup_costs_the_other_clusters_nothing() {
    let mut lab = beside_an_unknown_writer(Status::OfflineHard);
    lab.run_s(60);
    lab.leader_gone().run_s(30);
    assert_eq!(lab.fenced(), ["node01", "node02", "node03"]);
}
