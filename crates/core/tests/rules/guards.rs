//! What a plain downtime may not take away, and what switches it off.

use stonith_core::decide::{Guard, HoldReason};
use stonith_core::evidence::EvidenceKind::{Downtime, LostInRecovery};
use stonith_core::orchestrator::LOST_IN_RECOVERY;
use stonith_core::policy::FenceOn;
use stonith_core::table::{Hostgroup, Status};

use crate::world::{Decided, Lab, node, row};

fn guarded(guard: Guard) -> Option<HoldReason> {
    Some(HoldReason::Guarded(guard))
}

#[test]
fn an_isolation_carries_no_downtime_past_its_guards() {
    let mut lab = Lab::healthy();
    let before = lab.layers();
    lab.leader_gone().run_s(30);
    for name in ["node01", "node02", "node03"] {
        lab.downtime(name, "maintenance");
    }
    lab.led_by("orc1").run_s(10);
    assert_eq!((lab.rows("node01").as_str(), lab.fenced().len()), ("10:ONLINE 20:ONLINE", 1));
    for name in ["node01", "node02", "node03"] {
        lab.downtime_ends(name);
    }
    lab.run_s(5);
    assert_eq!(lab.layers(), before);
}

#[test]
fn a_downtime_never_takes_the_healthy_present_primary() {
    let mut lab = Lab::healthy();
    assert_eq!(lab.downtime("node01", "maintenance").next().held("node01").cloned(), guarded(Guard::HealthyPrimary));
    lab.run_s(60);
    assert_eq!(lab.writes, 0);
}

#[test]
fn of_two_that_take_writes_and_that_nobody_follows_a_downtime_takes_neither() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").run_s(5);
    lab.returns_writable("node02").downtime("node03", "maintenance");
    assert_eq!(lab.run_s(10).held("node03").cloned(), guarded(Guard::HealthyPrimary));
    assert_eq!(lab.rows("node03"), "10:ONLINE 20:ONLINE");
}

#[test]
fn a_downtime_does_not_take_a_node_that_was_just_promoted_though_rows_show_it_as_a_replica() {
    let mut lab = Lab::healthy();
    lab.rows_go_stale().failover("node01", "node03").run_s(2);
    lab.downtime("node03", "maintenance");
    assert_eq!(lab.next().held("node03").cloned(), guarded(Guard::HealthyPrimary));
}

#[test]
fn a_replica_that_was_detached_for_repair_and_is_read_only_is_no_primary_to_spare() {
    let mut lab = Lab::healthy();
    lab.returns_writable("node02").returns_writable("node03").server("node02").read_only = true;
    lab.downtime("node02", "maintenance").run_s(5);
    assert_eq!(lab.fenced(), ["node02"]);
}

#[test]
fn a_downtimed_replica_that_is_promoted_takes_writes() {
    let mut lab = Lab::healthy();
    lab.downtime("node02", "maintenance").run_s(5);
    assert_eq!(lab.fenced(), ["node02"]);
    let decision = lab.failover("node01", "node02").run_s(5);
    assert_eq!(lab.fenced(), ["node01"], "{:?}", decision.verdicts);
    assert!(lab.rows("node02").contains("10:ONLINE"), "{}", lab.rows("node02"));
}

#[test]
fn a_downtime_never_takes_the_last_online_row_of_a_hostgroup() {
    let mut lab = Lab::new();
    lab.put(row(30, "node02", Status::Online)).put(row(30, "node03", Status::Shunned)).run_s(60);
    let decision = lab.downtime("node02", "maintenance").next();
    assert_eq!(decision.held("node02").cloned(), guarded(Guard::LastOnline(Hostgroup(30))));
    lab.run_s(60);
    assert_eq!(lab.writes, 0);
}

#[test]
fn a_row_that_goes_out_in_the_same_tick_is_not_the_one_that_is_left() {
    let mut lab = Lab::new();
    lab.put(row(30, "node02", Status::Online)).put(row(30, "node03", Status::Online)).run_s(60);
    let decision = lab.downtime("node03", "maintenance").order_fence("node02");
    assert_eq!(decision.held("node03").cloned(), guarded(Guard::LastOnline(Hostgroup(30))));
}

#[test]
fn what_an_isolation_took_out_is_a_row_that_is_left_and_what_an_operator_took_out_is_none() {
    let mut lab = Lab::new();
    lab.put(row(30, "node02", Status::Online)).put(row(30, "node03", Status::OfflineSoft)).run_s(60);
    assert_eq!(
        lab.downtime("node02", "maintenance").next().held("node02").cloned(),
        guarded(Guard::LastOnline(Hostgroup(30)))
    );
    let mut lab = Lab::new();
    lab.put(row(30, "node02", Status::Online)).run_s(60);
    lab.leader_gone().run_s(20);
    lab.downtime("node02", "maintenance").led_by("orc1").run_s(10);
    assert_eq!(lab.rows("node02"), "20:ONLINE 30:ONLINE");
}

#[test]
fn each_guard_says_what_it_spares() {
    let said = [Guard::LastOnline(Hostgroup(30)), Guard::HealthyPrimary, Guard::TooMany(2), Guard::Unseen];
    let words = ["ONLINE row of hostgroup 30", "healthy primary", "2 of its cluster", "did not show"];
    for (guard, word) in said.iter().zip(words) {
        assert!(guard.to_string().contains(word), "{guard}");
    }
}

#[test]
fn a_dead_primary_that_is_downtimed_keeps_the_last_writer_row() {
    let mut lab = Lab::healthy();
    let decision = lab.dies("node01").downtime("node01", "maintenance").next();
    assert_eq!(decision.held("node01").cloned(), guarded(Guard::LastOnline(Hostgroup(10))));
}

#[test]
fn downtimes_take_at_most_half_a_cluster_and_at_most_so_many() {
    for (replicas, most, expected) in [(2, 2, 1), (3, 2, 2), (7, 2, 2), (7, 3, 3), (7, 0, 0)] {
        let mut lab = Lab::new();
        for number in 4..=replicas + 1 {
            let name = format!("node0{number}");
            let like = lab.servers[&node("node02")].clone();
            lab.servers.insert(node(&name), like);
            lab.put(row(20, &name, Status::Online));
        }
        lab.policy.max_downtime_fences = most;
        lab.run_s(60);
        for number in 2..=replicas + 1 {
            lab.downtime(&format!("node0{number}"), "maintenance").next();
        }
        let decision = lab.run_s(60);
        assert_eq!(lab.fenced().len(), expected, "{replicas} replicas, at most {most}");
        let held = decision.held(&format!("node0{}", replicas + 1)).cloned();
        assert_eq!(held, guarded(Guard::TooMany(expected)));
    }
}

#[test]
fn all_replicas_downtimed_in_one_tick_are_counted_too() {
    let mut lab = Lab::healthy();
    lab.downtime("node02", "maintenance").downtime("node03", "maintenance").next();
    assert_eq!(lab.fenced(), ["node02"]);
}

#[test]
fn the_end_of_one_downtime_makes_room_for_the_next() {
    let mut lab = Lab::healthy();
    lab.downtime("node02", "maintenance").downtime("node03", "maintenance").next();
    lab.downtime_ends("node02").run_s(2);
    assert_eq!((lab.fenced(), lab.rows("node02")), (vec!["node03".to_owned()], "20:ONLINE".to_owned()));
}

#[test]
fn a_downtime_of_a_node_that_the_leader_does_not_show_is_held() {
    let mut lab = Lab::healthy();
    lab.server("node02").listed = false;
    let decision = lab.downtime("node02", "maintenance").run_s(60);
    assert_eq!((decision.held("node02").cloned(), lab.writes), (guarded(Guard::Unseen), 0));
}

#[test]
fn guards_are_for_plain_downtime_only() {
    let mut lab = Lab::healthy();
    lab.policy.max_downtime_fences = 0;
    lab.dies("node01").dies("node02").dies("node03");
    for name in ["node01", "node02", "node03"] {
        lab.downtime(name, LOST_IN_RECOVERY);
    }
    assert_eq!(lab.next().kinds("node01"), [LostInRecovery]);
    assert_eq!(lab.fenced().len(), 3);
}

#[test]
fn fence_on_lost_in_recovery_switches_plain_downtimes_off_and_nothing_else() {
    let mut lab = Lab::healthy();
    lab.policy.fence_on = FenceOn::LostInRecovery;
    lab.downtime("node02", "maintenance").run_s(60);
    assert_eq!(lab.writes, 0);
    lab.failover("node01", "node03").next();
    assert_eq!(lab.fenced(), ["node01"]);
}

#[test]
fn a_downtime_on_a_node_that_is_fenced_already_is_one_more_reason() {
    let mut lab = Lab::healthy();
    lab.failover("node01", "node03").next();
    let decision = lab.downtime("node01", "disk swap").next();
    assert!(decision.kinds("node01").contains(&Downtime));
    lab.follows("node01", "node03").run_s(30);
    assert_eq!(lab.fenced(), ["node01"], "both must end");
    lab.downtime_ends("node01").run_s(5);
    assert!(lab.fenced().is_empty());
}

#[test]
fn a_downtime_of_a_node_that_this_proxy_does_not_serve_changes_nothing() {
    let mut lab = Lab::healthy();
    lab.downtime("elsewhere", LOST_IN_RECOVERY).run_s(60);
    assert_eq!(lab.writes, 0);
}
