//! The invariants of design §4 that a decision alone can hold or break; I6, I10 and I12 are the apply's.

use stonith_core::decide::{HoldReason, ReturnBlocker};
use stonith_core::evidence::EvidenceKind::{Isolation, Superseded};
use stonith_core::orchestrator::{Backing, LOST_IN_RECOVERY};
use stonith_core::table::{Hostgroup, Layer, Status};

use crate::world::{self, Decided, LAYERS, Lab, Raft, node, row};

type Harm = (&'static str, fn(&mut Lab));

/// Things that fence node01.
fn harms() -> [Harm; 3] {
    [
        ("failover", |lab| _ = lab.failover("node01", "node03").run_s(5)),
        ("isolation", |lab| _ = lab.leader_gone().run_s(60)),
        ("order", |lab| _ = lab.order_fence("node01")),
    ]
}

#[test]
fn i1_a_row_that_cannot_be_understood_holds_its_own_node_and_no_other() {
    let mut lab = Lab::healthy();
    lab.edit(20, "node02", |row| row.status = Status::Unknown("DRAINING".to_owned()));
    lab.failover("node01", "node03").run_s(2);
    assert_eq!(lab.fenced(), ["node01"]);
}

#[test]
fn i1_a_node_with_a_status_that_is_not_known_is_held_in_every_layer() {
    for layer in LAYERS {
        for (what, harm) in harms() {
            let mut lab = Lab::healthy();
            let rows = match layer {
                Layer::Runtime => &mut lab.proxy.runtime,
                Layer::Memory => &mut lab.proxy.memory,
                Layer::Disk => &mut lab.proxy.disk,
            };
            let at =
                rows.iter().position(|row| row.key.hostgroup == Hostgroup(20) && row.node() == Some(node("node01")));
            rows[at.unwrap()].status = Status::Unknown("DRAINING".to_owned());
            harm(&mut lab);
            assert!(!LAYERS.iter().any(|layer| lab.rows_in(*layer, "node01").contains("OFFLINE")), "{what} {layer}");
            assert_eq!(lab.next().held("node01"), Some(&HoldReason::UnknownStatus("DRAINING".to_owned())));
        }
    }
}

#[test]
fn i1_a_fenced_node_whose_row_gets_an_unknown_status_does_not_come_back() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").run_s(5);
    lab.edit(20, "node01", |row| row.status = Status::Unknown("DRAINING".to_owned()));
    lab.repaired("node01").run_s(60);
    assert_eq!(lab.rows("node01"), "10:OFFLINE_SOFT 20:DRAINING");
}

#[test]
fn i1_a_node_with_a_note_of_ours_that_cannot_be_read_is_held() {
    for note in [" [stonith:2 superseded was=ONLINE]", " [stonith:1 superseded was=SIDEWAYS]", " [stonith:1 x"] {
        for (what, harm) in harms() {
            let mut lab = Lab::healthy();
            lab.edit(10, "node01", |row| {
                row.comment = note.to_owned();
                row.status = Status::OfflineSoft;
            });
            let rows = lab.rows("node01");
            harm(&mut lab);
            assert_eq!(lab.next().held("node01"), Some(&HoldReason::UnreadableMarker), "{what}");
            assert_eq!(lab.rows("node01"), rows, "{what}");
        }
    }
}

#[test]
fn i2_losing_everything_at_once_unfences_nothing() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").run_s(5);
    lab.returns_writable("node01").leader_killed("orc2").purges_history().proxy_restarts().state_lost().run_s(60);
    assert_eq!(lab.fenced(), ["node01"]);
}

#[test]
fn i2_a_new_leader_with_an_empty_table_unfences_nothing() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").next();
    lab.downtimes.clear();
    lab.server("node01").up = true;
    for leader in ["orc2", "orc3", "orc1"] {
        lab.led_by(leader).purges_history().run_s(30);
        assert_eq!(lab.fenced(), ["node01"]);
    }
}

#[test]
fn i3_a_row_that_an_operator_took_out_stays_out_through_fence_and_return() {
    for status in [Status::OfflineSoft, Status::OfflineHard] {
        for (what, harm) in harms() {
            let mut lab = Lab::healthy();
            let theirs =
                stonith_core::table::Row { comment: "broken disk".to_owned(), ..row(30, "node01", status.clone()) };
            lab.put(theirs.clone());
            harm(&mut lab);
            assert!(lab.is_fenced("node01"), "{what}");
            lab.led_by("orc1").repaired("node01").run_s(2);
            if what == "order" {
                lab.order_unfence("node01", true);
            }
            lab.run_s(10);
            assert!(lab.fenced().is_empty(), "{what}");
            assert!(LAYERS.iter().all(|layer| lab.row(*layer, 30, "node01") == Some(&theirs)), "{what}");
        }
    }
}

#[test]
fn i3_a_returning_replica_does_not_get_a_reader_row_that_an_operator_took_out() {
    let mut lab = Lab::healthy();
    lab.edit(20, "node01", |row| row.status = Status::OfflineSoft);
    lab.failover("node01", "node03").run_s(5);
    lab.repaired("node01").run_s(5);
    assert_eq!(lab.rows("node01"), "20:OFFLINE_SOFT");
    assert_eq!(lab.row(Layer::Disk, 20, "node01").unwrap().comment, "");
}

#[test]
fn i3_comments_survive_fence_and_return_byte_for_byte() {
    for comment in ["", " ", "it's rack 7 \u{e9} [x] was=ONLINE]", "\" # /* \\ --", "[stonith:1 mine]"] {
        for (what, harm) in harms() {
            let mut lab = Lab::healthy();
            lab.edit(20, "node01", |row| row.comment = comment.to_owned());
            harm(&mut lab);
            assert!(lab.row(Layer::Disk, 20, "node01").unwrap().comment.starts_with(comment));
            lab.led_by("orc1").repaired("node01").run_s(2);
            if what == "order" {
                lab.order_unfence("node01", true);
            }
            lab.run_s(10);
            assert_eq!(lab.row(Layer::Disk, 20, "node01").unwrap().comment, comment, "{what}");
        }
    }
}

#[test]
fn i3_what_an_operator_does_to_a_fenced_row_is_theirs() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").run_s(5);
    lab.edit(20, "node01", |row| row.status = Status::OfflineHard);
    lab.repaired("node01").run_s(5);
    let theirs = lab.row(Layer::Disk, 20, "node01").unwrap();
    assert_eq!((theirs.status.clone(), theirs.comment.as_str()), (Status::OfflineHard, ""));
}

#[test]
fn i3_group_replication_galera_and_aurora_hostgroups_are_never_touched() {
    for (what, harm) in harms() {
        let mut lab = Lab::healthy();
        // One foreign hostgroup is listed by mistake, one half of a pair is foreign too.
        lab.proxy.foreign = [Hostgroup(50), Hostgroup(61)].into();
        lab.proxy.pairs.push(world::pair(60, 61));
        for hostgroup in [50, 60, 61] {
            lab.put(row(hostgroup, "node01", Status::Online));
        }
        let rows =
            |lab: &Lab| [50, 60, 61].map(|hostgroup| LAYERS.map(|layer| lab.row(layer, hostgroup, "node01").cloned()));
        let before = rows(&lab);
        harm(&mut lab);
        assert_eq!(rows(&lab), before, "{what}");
        lab.led_by("orc1").repaired("node01").run_s(10);
        // Runtime of the pair that is half foreign is the monitor's: a repaired node is no writer any more.
        let without_the_monitors = |rows: [[Option<_>; 3]; 3]| rows.map(|[_, memory, disk]| [memory, disk]);
        assert_eq!(without_the_monitors(rows(&lab)), without_the_monitors(before.clone()), "{what}");
        assert_eq!(rows(&lab)[0], before[0], "{what}");
    }
}

#[test]
fn i4_a_fence_names_the_nodes_whose_sessions_are_left_until_none_is() {
    let mut lab = Lab::healthy();
    lab.proxy.conn_used = [(node("node01"), 3), (node("node03"), 9)].into();
    let decision = lab.failover("node01", "node03").next();
    assert_eq!(decision.plan.sessions, [node("node01")].into());
    lab.proxy.conn_used.insert(node("node01"), 1);
    let decision = lab.next();
    assert!(decision.plan.changes.is_empty() && !decision.plan.is_empty(), "one came back: again");
    assert_eq!(lab.proxy.conn_used, [(node("node03"), 9)].into());
}

#[test]
fn i4_a_ghost_row_is_never_revived() {
    let mut lab = Lab::healthy();
    // ProxySQL itself took the hung node out of the writer hostgroup (facts §2).
    lab.proxy.runtime.iter_mut().find(|row| row.key.hostgroup == Hostgroup(10)).unwrap().status = Status::OfflineHard;
    lab.failover("node01", "node03").run_s(5);
    assert_eq!(lab.rows("node01"), "10:OFFLINE_HARD 20:OFFLINE_SOFT");
    lab.repaired("node01").run_s(10);
    assert_eq!(lab.rows("node01"), "10:OFFLINE_HARD 20:ONLINE");
}

#[test]
fn i4_a_node_of_which_only_a_ghost_is_left_is_fenced_wherever_it_could_come_back_from() {
    for ghost_is_purged in [false, true] {
        let mut lab = Lab::new();
        for rows in [&mut lab.proxy.runtime, &mut lab.proxy.memory, &mut lab.proxy.disk] {
            rows.retain(|other| other.key != row(20, "node01", Status::Online).key);
        }
        lab.run_s(10);
        let ghost = lab.proxy.runtime.iter().position(|row| row.node() == Some(node("node01"))).unwrap();
        lab.proxy.runtime[ghost].status = Status::OfflineHard;
        lab.proxy.conn_used.insert(node("node01"), 2);
        let decision = lab.failover("node01", "node03").next();
        assert_eq!(decision.plan.sessions, [node("node01")].into(), "ghosts can hold sessions");
        if ghost_is_purged {
            lab.proxy.runtime.remove(ghost);
        }
        let runtime = if ghost_is_purged { "" } else { "10:OFFLINE_HARD" };
        let writes = lab.writes;
        lab.returns_writable("node01").run_s(60);
        let rows = LAYERS.map(|layer| lab.rows_in(layer, "node01"));
        assert_eq!(rows, [runtime, "10:OFFLINE_SOFT", "10:OFFLINE_SOFT"]);
        assert_eq!(lab.writes, writes, "and that is all of it");
        // What isn't in force stays so (I6): the next LOAD brings it, as a reader.
        lab.repaired("node01").run_s(10);
        assert_eq!(LAYERS.map(|layer| lab.rows_in(layer, "node01")), [runtime, "20:ONLINE", "20:ONLINE"]);
    }
}

#[test]
fn i4_a_shunned_row_is_fenced_and_noted_as_online() {
    let mut lab = Lab::healthy();
    lab.proxy.runtime.iter_mut().find(|row| row.key.hostgroup == Hostgroup(10)).unwrap().status = Status::Shunned;
    lab.failover("node01", "node03").next();
    let row = lab.row(Layer::Runtime, 10, "node01").unwrap();
    assert_eq!((row.status.as_str(), row.comment.ends_with("was=ONLINE]")), ("OFFLINE_SOFT", true));
}

#[test]
fn i5_a_plan_changes_rows_of_the_fenced_node_only() {
    let mut lab = Lab::healthy();
    let decision = lab.failover("node01", "node03").next();
    let nodes = decision.plan.changes.iter().filter_map(|change| change.key().node());
    assert!(nodes.clone().count() == 6 && nodes.into_iter().all(|changed| changed == node("node01")));
    // In memory and on disk node03 is still a reader only: those placements are the operator's (facts §2).
    assert_eq!(
        (lab.rows("node03"), lab.rows_in(Layer::Memory, "node03")),
        ("10:ONLINE 20:ONLINE".into(), "20:ONLINE".into())
    );
}

#[test]
fn i5_the_present_primary_is_never_fenced_by_what_speaks_against_others() {
    let mut lab = Lab::healthy();
    for (from, to) in [("node01", "node02"), ("node02", "node03"), ("node03", "node01")] {
        lab.failover(from, to);
        for _ in 0..30 {
            lab.returns_writable(from).downtime(to, "maintenance").next();
            assert_eq!(lab.rows(to), "10:ONLINE 20:ONLINE");
        }
        lab.downtime_ends(to).repaired(from).run_s(10);
        assert!(lab.fenced().is_empty());
    }
}

#[test]
fn i7_an_hour_in_which_nothing_changes_writes_nothing() {
    let mut lab = Lab::healthy();
    lab.run_s(1_200);
    assert_eq!(lab.writes, 0);
    for (what, harm) in harms() {
        let mut lab = Lab::healthy();
        harm(&mut lab);
        lab.run_s(2);
        let writes = lab.writes;
        lab.run_s(1_200);
        assert_eq!(lab.writes, writes, "{what}");
    }
}

#[test]
fn i7_an_unfinished_apply_is_work_to_do() {
    let mut lab = Lab::healthy();
    lab.proxy.unfinished = true;
    let decision = stonith_core::decide::decide(&lab.observed(), &lab.memory, &lab.policy, lab.now_ms);
    assert!(decision.plan.finish && !decision.plan.is_empty());
}

#[test]
fn i8_bad_news_counts_at_once_and_good_news_does_not() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").led_by("orc7").backed(Backing::Unconfirmed);
    assert_eq!(lab.next().kinds("node01")[0], Superseded);
    let decision = lab.repaired("node01").run_s(60);
    assert_eq!(decision.blocker("node01"), Some(&ReturnBlocker::ConfirmedLeader));
}

#[test]
fn i9_an_election_a_lost_poll_a_slow_answer_or_a_wrong_password_takes_nothing_away() {
    let mut lab = Lab::healthy();
    for raft in [Raft::Silent, Raft::Leaderless, Raft::Blind, Raft::Conflict] {
        for seconds in 1..=7 {
            lab.asked(raft.clone()).run_s(seconds);
            lab.led_by("orc1").next();
        }
    }
    assert_eq!(lab.writes, 0);
}

#[test]
fn i9_a_dead_node_without_evidence_is_proxysqls_own_business() {
    let mut lab = Lab::healthy();
    lab.dies("node01").dies("node02").run_s(60);
    assert_eq!(lab.writes, 0);
}

#[test]
fn evidence_of_an_isolated_proxy_names_the_highest_rank() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").run_s(5);
    lab.downtime("node01", LOST_IN_RECOVERY);
    let decision = lab.leader_gone().run_s(60);
    assert_eq!((decision.kinds("node01")[0], decision.kinds("node02")), (Superseded, vec![Isolation]));
}
