//! A node that Orchestrator failed over away from goes out, and stays out whatever happens to anything.

use stonith_core::decide::{ProofGap, ReturnBlocker, Verdict};
use stonith_core::evidence::EvidenceKind::{LostInRecovery, Superseded};
use stonith_core::orchestrator::{Analysis, LOST_IN_RECOVERY};
use stonith_core::table::{Layer, Row};

use crate::world::{self, Decided, LAYERS, Lab, Raft, node};

/// node01 failed over to node03, and the fence is in place.
fn failed_over() -> Lab {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").next();
    lab
}

#[test]
fn a_failover_fences_the_old_primary_in_every_layer_within_the_tick() {
    let mut lab = Lab::healthy();
    let decision = lab.failover("node01", "node03").next();
    assert_eq!(decision.kinds("node01"), [Superseded, LostInRecovery]);
    let Verdict::Fence { evidence, .. } = decision.of("node01") else { unreachable!() };
    let record = &lab.records[0];
    assert_eq!((evidence[0].id.as_str(), evidence[0].at_s as u64), (record.uid.as_str(), record.at_ns / 1_000_000_000));
    for layer in LAYERS {
        assert_eq!(lab.rows_in(layer, "node01"), "10:OFFLINE_SOFT 20:OFFLINE_SOFT", "{layer}");
        let comments = lab.proxy.layer(layer).iter().filter(|row| row.node() == Some(node("node01")));
        for row in comments {
            assert_eq!(row.comment, " [stonith:1 superseded by=node03:3306 was=ONLINE]");
        }
    }
    assert_eq!((lab.rows("node02"), lab.rows("node03")), ("20:ONLINE".into(), "10:ONLINE 20:ONLINE".into()));
}

#[test]
fn a_returned_writable_primary_stays_out_for_as_long_as_it_is_one() {
    let mut lab = failed_over();
    let decision = lab.returns_writable("node01").run_s(3_600);
    assert!(lab.is_fenced("node01"));
    assert_eq!(decision.blocker("node01"), Some(&ReturnBlocker::Proof(vec![ProofGap::StandsAlone(node("node03"))])));
    lab.downtime_ends("node01").run_s(60);
    assert_eq!(lab.fenced(), ["node01"]);
}

/// Each of these takes away what Orchestrator said, and none of them is proof (I2).
#[test]
fn i2_nothing_that_orchestrator_loses_or_says_no_more_lets_a_node_back() {
    type Loss = fn(&mut Lab) -> &mut Lab;
    let losses: [(&str, Loss); 11] = [
        ("leader killed, its downtimes with it", |lab| lab.leader_killed("orc2")),
        ("list empty", |lab| lab.downtime_ends("node01")),
        ("node forgotten", |lab| lab.forgets("node01")),
        ("history purged", |lab| lab.purges_history()),
        ("all of them, and a new leader", |lab| {
            lab.leader_killed("orc2").forgets("node01").forgets("node02").forgets("node03").purges_history()
        }),
        ("blind", |lab| lab.asked(Raft::Blind)),
        ("conflict", |lab| lab.asked(Raft::Conflict)),
        ("silent", |lab| lab.asked(Raft::Silent)),
        ("leaderless", |lab| lab.asked(Raft::Leaderless)),
        ("our state, the history and the list lost", |lab| lab.leader_killed("orc2").purges_history().state_lost()),
        ("ProxySQL restarted, our state lost", |lab| lab.proxy_restarts().state_lost()),
    ];
    for (what, loss) in losses {
        for later in [false, true] {
            let mut lab = failed_over();
            if later {
                lab.run_s(100);
            }
            loss(&mut lab);
            for _ in 0..40 {
                lab.returns_writable("node01").next();
                assert!(lab.is_fenced("node01"), "{what}");
                assert!(lab.fenced().len() == 1 || what == "silent", "{what}: nothing new is fenced");
            }
        }
    }
}

#[test]
fn a_leader_killed_before_the_second_tick_leaves_the_fence_and_its_evidence() {
    let mut lab = failed_over();
    let decision = lab.returns_writable("node01").leader_killed("orc2").purges_history().run_s(30);
    assert_eq!(decision.kinds("node01"), [Superseded, LostInRecovery], "kept, though the new leader knows neither");
}

#[test]
fn an_answer_that_cannot_be_used_fences_nothing_new() {
    for raft in [Raft::Blind, Raft::Conflict, Raft::Silent, Raft::Leaderless] {
        let mut lab = failed_over();
        let before = lab.layers();
        lab.asked(raft.clone()).dies("node02").run_s(7);
        assert_eq!(lab.layers(), before, "{raft:?}");
    }
}

#[test]
fn a_failover_of_a_failover_fences_both_failed_nodes() {
    let mut lab = failed_over();
    lab.failover("node03", "node02").next();
    assert_eq!(lab.fenced(), ["node01", "node03"]);
    lab.repaired("node03").returns_writable("node01").run_s(10);
    assert_eq!(lab.fenced(), ["node01"]);
    assert_eq!(lab.rows("node03"), "20:ONLINE");
    lab.repaired("node01").run_s(10);
    assert!(lab.fenced().is_empty());
    assert_eq!((lab.rows("node01"), lab.rows("node02")), ("20:ONLINE".into(), "10:ONLINE 20:ONLINE".into()));
}

#[test]
fn failovers_a_b_a_b_fence_the_failed_one_each_time_and_let_it_back_in_its_role() {
    let mut lab = Lab::healthy();
    for (from, to) in [("node01", "node02"), ("node02", "node01"), ("node01", "node02")] {
        lab.failover(from, to).next();
        assert_eq!(lab.fenced(), [from]);
        assert_eq!(lab.rows(to), "10:ONLINE 20:ONLINE");
        lab.returns_writable(from).run_s(20);
        assert_eq!(lab.fenced(), [from]);
        lab.repaired(from).run_s(10);
        assert_eq!(lab.rows(from), "20:ONLINE");
        assert!(lab.fenced().is_empty());
    }
}

#[test]
fn a_fenced_node_that_is_promoted_again_comes_back_as_the_primary() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node02").next();
    // Repaired, but its downtime lasts, so it is still fenced when node02 dies and Orchestrator promotes it again.
    lab.follows("node01", "node02").run_s(10);
    assert_eq!(lab.fenced(), ["node01"]);
    lab.failover("node02", "node01").run_s(5);
    assert_eq!(lab.fenced(), ["node02"], "node01 is the present primary by the newest record");
    assert_eq!(lab.rows("node01"), "10:ONLINE 20:ONLINE");
}

#[test]
fn a_graceful_takeover_and_back_lets_the_demoted_node_read_while_its_downtime_lasts() {
    let mut lab = Lab::healthy();
    for (from, to) in [("node01", "node02"), ("node02", "node01")] {
        lab.takeover(from, to).next();
        assert_eq!(lab.fenced(), [from], "a record is a record");
        lab.run_s(5);
        assert!(lab.downtimes.iter().any(|downtime| downtime.node == node(from)), "still downtimed");
        assert_eq!(lab.rows(from), "20:ONLINE", "serves reads, and no writes");
        assert_eq!(lab.rows(to), "10:ONLINE 20:ONLINE");
        let writes = lab.writes;
        lab.run_s(60);
        assert_eq!(lab.writes, writes, "and it is not fenced again");
        lab.downtime_ends(from).run_s(10);
    }
}

#[test]
fn a_primary_again_whose_old_mark_is_all_that_was_seen_of_it_is_not_fenced() {
    let mut lab = Lab::healthy();
    lab.asked(Raft::Leaderless).takeover("node01", "node02").next();
    lab.takeover("node02", "node01").next();
    lab.led_by("orc1");
    assert_eq!(lab.next().kinds("node01"), []);
    assert_eq!(lab.rows("node01"), "10:ONLINE 20:ONLINE");
    // A mark that is younger than its promotion is another matter.
    lab.dies("node01").run_s(5);
    lab.downtime("node01", LOST_IN_RECOVERY);
    assert_eq!(lab.next().kinds("node01"), [LostInRecovery]);
}

#[test]
fn a_demoted_node_that_does_not_replicate_stays_out() {
    let mut lab = Lab::healthy();
    lab.takeover("node01", "node02").server("node01").replicating = false;
    let decision = lab.run_s(60);
    assert_eq!(decision.blocker("node01"), Some(&ReturnBlocker::Proof(vec![ProofGap::NotReplicating(String::new())])));
}

#[test]
fn a_recovery_that_promoted_nobody_is_told_from_a_failover_by_which_came_last() {
    // node01 was failed over, repaired, and made the primary again by hand.
    let mut lab = Lab::healthy();
    lab.failover("node01", "node02").run_s(5);
    lab.repaired("node01").downtime_ends("node01").run_s(10);
    lab.returns_writable("node01").follows("node02", "node01").follows("node03", "node01").primary = node("node01");
    lab.run_s(10);
    assert!(lab.fenced().is_empty());
    // It blips; the recovery promotes nobody, and it goes on. Nothing else happened to the agent's knowledge.
    lab.asked(Raft::Leaderless).downtime("node01", LOST_IN_RECOVERY).record(0, "node01", None).successful = false;
    lab.next();
    assert_eq!(lab.led_by("orc1").run_s(3).kinds("node01"), []);
    // A failover after that is another matter, though the node is followed.
    lab.run_s(10);
    lab.record(0, "node01", Some("node03"));
    lab.downtime("node01", LOST_IN_RECOVERY);
    assert_eq!(lab.next().kinds("node01"), [Superseded, LostInRecovery]);
}

#[test]
fn a_recovery_without_a_successor_fences_the_dead_and_lets_it_back_as_the_primary() {
    let mut lab = Lab::healthy();
    lab.dies("node01").downtime("node01", LOST_IN_RECOVERY);
    let record = lab.record(0, "node01", None);
    record.successful = false;
    assert_eq!(lab.next().kinds("node01"), [LostInRecovery]);
    // It comes back as it was, and the replicas run again; its downtime lasts a year.
    lab.returns_writable("node01").follows("node02", "node01").follows("node03", "node01").run_s(5);
    assert!(lab.fenced().is_empty());
    assert_eq!(lab.rows("node01"), "10:ONLINE 20:ONLINE");
}

#[test]
fn a_mark_of_a_recovery_without_a_successor_does_not_fence_a_followed_primary() {
    let mut lab = Lab::healthy();
    lab.downtime("node01", LOST_IN_RECOVERY).record(0, "node01", None);
    lab.run_s(60);
    assert_eq!((lab.writes, lab.fenced().len()), (0, 0));
    // One that nobody follows is not well.
    let mut lab = Lab::healthy();
    for name in ["node02", "node03"] {
        lab.server(name).replicating = false;
    }
    lab.downtime("node01", LOST_IN_RECOVERY).record(0, "node01", None);
    assert_eq!(lab.next().kinds("node01"), [LostInRecovery]);
}

#[test]
fn the_loss_of_an_intermediate_primary_fences_it_and_nobody_else() {
    let mut lab = Lab::healthy();
    lab.follows("node03", "node02").next();
    lab.dies("node02").follows("node03", "node01").downtime("node02", LOST_IN_RECOVERY);
    lab.record(0, "node02", Some("node01")).analysis = Analysis::Other;
    assert_eq!(lab.next().kinds("node02"), [LostInRecovery]);
    assert_eq!(lab.fenced(), ["node02"]);
    lab.repaired("node02").run_s(5);
    assert_eq!((lab.fenced().len(), lab.rows("node02")), (0, "20:ONLINE".into()));
}

#[test]
fn records_that_moved_no_primary_fence_nobody() {
    let mut lab = Lab::healthy();
    lab.record(0, "node02", Some("node02"));
    lab.record(0, "node03", Some("node01")).analysis = Analysis::Other;
    lab.record(0, "node01", Some("node02")).successful = false;
    lab.record(0, "node01", None);
    lab.led_by("orc2").run_s(60);
    assert_eq!(lab.writes, 0);
}

#[test]
fn every_row_of_a_node_goes_out_in_pairs_and_beside_them_but_for_excluded_hostgroups() {
    let mut lab = Lab::new();
    lab.policy.excluded_hostgroups = [stonith_core::table::Hostgroup(40)].into();
    lab.proxy.pairs.push(world::pair(11, 21));
    for hostgroup in [11, 21, 30, 40] {
        lab.put(world::row(hostgroup, "node01", stonith_core::table::Status::Online));
    }
    lab.put(world::row(21, "node03", stonith_core::table::Status::Online)).run_s(60);
    lab.failover("node01", "node03").next();
    let out = "10:OFFLINE_SOFT 11:OFFLINE_SOFT 20:OFFLINE_SOFT 21:OFFLINE_SOFT 30:OFFLINE_SOFT 40:ONLINE";
    assert_eq!(lab.rows("node01"), out, "40 is excluded");
    lab.repaired("node01").run_s(10);
    assert_eq!(lab.rows("node01"), "20:ONLINE 21:ONLINE 30:ONLINE 40:ONLINE");
    assert_eq!(lab.rows("node03"), "10:ONLINE 11:ONLINE 20:ONLINE 21:ONLINE");
}

#[test]
fn a_port_and_a_case_tell_nodes_apart_as_the_design_says() {
    let mut lab = Lab::healthy();
    let neighbour = world::row(20, "node01", stonith_core::table::Status::Online);
    let key = stonith_core::table::RowKey { port: 3307, ..neighbour.key.clone() };
    lab.put(Row { key, ..neighbour });
    let upper = world::row(20, "NODE01.", stonith_core::table::Status::Online);
    lab.put(upper.clone());
    lab.failover("node01", "node03").next();
    let status = |port| {
        let row = lab.proxy.runtime.iter().find(|row| row.key.port == port && row.key.hostname == "node01");
        row.map(|row| row.status.to_string())
    };
    assert_eq!((status(3306).as_deref(), status(3307).as_deref()), (Some("OFFLINE_SOFT"), Some("ONLINE")));
    let upper = lab.proxy.runtime.iter().find(|row| row.key == upper.key).unwrap();
    assert_eq!(upper.status.as_str(), "OFFLINE_SOFT");
}

#[test]
fn a_row_that_comes_back_by_itself_is_fenced_again() {
    let mut lab = failed_over();
    lab.put(world::row(10, "node01", stonith_core::table::Status::Online));
    assert!(!lab.is_fenced("node01"));
    lab.next();
    assert!(lab.is_fenced("node01"));
    // Even if all rows of it are removed and later added anew, and Orchestrator knows of nothing any more.
    lab.failover("node03", "node02").next();
    for rows in [&mut lab.proxy.runtime, &mut lab.proxy.memory, &mut lab.proxy.disk] {
        rows.retain(|row| row.node() != Some(node("node01")));
    }
    lab.leader_killed("orc2").purges_history().run_s(60);
    lab.put(world::row(20, "node01", stonith_core::table::Status::Online)).next();
    assert_eq!(lab.row(Layer::Runtime, 20, "node01").unwrap().status.as_str(), "OFFLINE_SOFT");
}

/// node01 was failed over to node03, and a hook failed after that: the record says that the recovery did, too.
fn said_to_have_failed(lab: &mut Lab) {
    lab.failover("node01", "node03").downtime_ends("node01");
    lab.records.last_mut().unwrap().successful = false;
}

#[test]
fn a_recovery_that_is_said_to_have_failed_fences_once_its_successor_is_shown_to_take_writes() {
    let mut lab = Lab::healthy();
    said_to_have_failed(&mut lab);
    lab.returns_writable("node01").run_s(5);
    assert_eq!(lab.fenced(), ["node01"]);
    // It stays known as a success, whatever becomes of the successor.
    lab.dies("node03").run_s(60);
    assert_eq!(lab.fenced(), ["node01"]);
}

#[test]
fn i9_a_recovery_that_failed_fences_nobody_unless_its_successor_is_the_writable_primary() {
    let harms: [fn(&mut Lab); 4] = [
        |lab| _ = lab.dies("node03"),
        |lab| lab.server("node03").read_only = true,
        |lab| _ = lab.follows("node03", "node01"),
        |lab| lab.server("node03").listed = false,
    ];
    for (n, harm) in harms.into_iter().enumerate() {
        let mut lab = Lab::healthy();
        said_to_have_failed(&mut lab);
        harm(&mut lab);
        lab.returns_writable("node01").run_s(60);
        assert!(!lab.is_fenced("node01"), "harm {n}");
    }
}

#[test]
fn i9_a_recovery_that_failed_is_not_confirmed_by_rows_of_before_its_end() {
    let mut lab = Lab::healthy();
    lab.server("node03").primary = None;
    lab.server("node03").read_only = false;
    lab.rows_go_stale();
    said_to_have_failed(&mut lab);
    lab.returns_writable("node01").run_s(20);
    assert!(!lab.is_fenced("node01"));
    lab.stale = None;
    lab.run_s(5);
    assert!(lab.is_fenced("node01"), "control: checked since");
}
