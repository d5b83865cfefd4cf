//! What a tick asks the leader: nothing in quiet times, and whatever a decision would lack otherwise (facts §9).

use stonith_core::decide::{LeaderQuery, leader_query};
use stonith_core::evidence::{Evidence, EvidenceKind, Source};
use stonith_core::lease::LeaseState;
use stonith_core::memory::FirstProof;
use stonith_core::orchestrator::DOWNTIME_BEGIN_SLACK_S;
use stonith_core::orchestrator::LOST_IN_RECOVERY;
use stonith_core::orders::Release;
use stonith_core::policy::HISTORY_EVERY_MS;
use stonith_core::role::Role;
use stonith_core::table::{Hostgroup, Layer, Status};

use crate::world::{LAYERS, Lab, Raft, node, row};

const NOTHING: LeaderQuery = LeaderQuery { history: false, instances: false, backing: false, hooks: false };
const ALL: LeaderQuery = LeaderQuery { history: true, instances: true, backing: true, hooks: false };
const INSTANCES: LeaderQuery = LeaderQuery { history: false, instances: true, backing: true, hooks: false };
const BACKING: LeaderQuery = LeaderQuery { history: false, instances: false, backing: true, hooks: false };

/// In service, and the history was asked for a few seconds ago.
fn quiet() -> Lab {
    let mut lab = Lab::healthy();
    lab.run_s(5);
    lab
}

fn asks(lab: &Lab) -> LeaderQuery {
    let leader = match &lab.raft {
        Raft::Led { leader, .. } => leader,
        _ => "orc1",
    };
    leader_query(&lab.proxy, &lab.memory, &lab.addresses, leader, &lab.downtimes, &lab.policy, lab.now_ms + 1_000)
}

/// Quiet, but for this.
fn asks_after(change: impl Fn(&mut Lab)) -> LeaderQuery {
    let mut lab = quiet();
    change(&mut lab);
    asks(&lab)
}

#[test]
fn i7_a_quiet_tick_asks_neither_history_nor_instances_nor_backing() {
    assert_eq!(asks(&quiet()), NOTHING);
    let mut lab = quiet();
    let asked = (0..120).filter(|_| lab.next().lease_state == LeaseState::Led { good: true }).count();
    assert_eq!(asked, 4, "two minutes: a history each half a minute");
}

#[test]
fn the_history_is_asked_for_when_it_is_due_when_the_leader_or_the_list_changed_and_before_a_return() {
    type Change = fn(&mut Lab);
    let changes: [(&str, Change); 11] = [
        ("never asked", |lab| lab.memory.history.asked_ms = None),
        ("asked in the future", |lab| lab.memory.history.asked_ms = Some(lab.now_ms + 3_600_000)),
        ("asked long ago", |lab| lab.memory.history.asked_ms = Some(lab.now_ms + 1_000 - HISTORY_EVERY_MS)),
        ("another leader", |lab| _ = lab.led_by("orc2")),
        ("a downtime", |lab| _ = lab.downtime("node01", LOST_IN_RECOVERY)),
        ("a downtime of another's node", |lab| _ = lab.downtime("elsewhere", "maintenance")),
        ("no answer in the last tick", |lab| {
            lab.leader_gone().next();
            lab.led_by("orc1");
        }),
        ("a downtime less", |lab| lab.listed_before("node02", "maintenance", 0)),
        ("a later downtime of the same node", |lab| {
            lab.downtime("node02", "maintenance").listed_before("node02", "maintenance", DOWNTIME_BEGIN_SLACK_S + 1);
        }),
        ("the mark of a recovery over a downtime that had just begun", |lab| {
            lab.downtime("node02", LOST_IN_RECOVERY).listed_before("node02", "maintenance", 0);
        }),
        ("a first proof", |lab| {
            let first = FirstProof { role: Role::Replica, at_ms: lab.now_ms };
            lab.memory.nodes.proofs.insert(node("node02"), first);
        }),
    ];
    for (what, change) in changes {
        let asked = LeaderQuery { hooks: false, ..asks_after(change) };
        assert_eq!(asked, ALL, "{what}: a record that arrives needs the topology at once");
    }
    let not_due = asks_after(|lab| lab.memory.history.asked_ms = Some(lab.now_ms + 1_001 - HISTORY_EVERY_MS));
    assert_eq!(not_due, NOTHING);
    let just_asked = asks_after(|lab| lab.memory.history.asked_ms = Some(lab.now_ms + 1_000));
    assert_eq!(just_asked, NOTHING, "in this very moment");
    let nobody_is_new = asks_after(|lab| lab.memory.nodes.instances_asked_ms = None);
    assert_eq!(nobody_is_new, NOTHING);
}

#[test]
fn a_downtimes_begin_that_is_computed_a_little_differently_is_the_same_downtime() {
    let wanted = asks_after(|lab| {
        lab.downtime("elsewhere", "maintenance").listed_before("elsewhere", "maintenance", DOWNTIME_BEGIN_SLACK_S);
    });
    assert_eq!(wanted, NOTHING);
}

#[test]
fn instances_are_asked_for_while_anything_at_all_is_unsettled_and_backing_with_them() {
    type Change = fn(&mut Lab);
    let changes: [(&str, Change); 8] = [
        ("not armed", |lab| lab.memory.lease.armed = false),
        ("a record that is not released", |lab| {
            let record = lab.record(9, "node01", Some("node02")).clone();
            lab.memory.history.records.insert(record.uid.clone(), record);
        }),
        ("two writers", |lab| _ = lab.put(row(10, "node02", Status::Online))),
        ("a node that is new", |lab| {
            lab.memory.nodes.instances_asked_ms = None;
            lab.put(row(20, "stranger", Status::Online));
        }),
        ("evidence that was kept", |lab| {
            let (kind, source) = (EvidenceKind::SecondWriter, Source::RuntimeServers);
            let fact = Evidence { kind, by: None, source, id: String::new(), at_s: 1 };
            lab.memory.nodes.evidence.insert(node("node02"), [(kind, fact)].into());
        }),
        ("a downtime that lasts", |lab| {
            lab.downtime("node02", "maintenance").listed_before("node02", "maintenance", 0);
        }),
        ("a marker", |lab| {
            lab.edit(20, "node02", |row| row.comment = " [stonith:1 manual was=ONLINE]".to_owned());
        }),
        ("a note of ours that cannot be read", |lab| {
            lab.edit(20, "node02", |row| row.comment = " [stonith:9".to_owned());
        }),
    ];
    for (what, change) in changes {
        assert_eq!(asks_after(change), INSTANCES, "{what}");
    }
}

#[test]
fn a_marker_in_any_layer_is_seen() {
    for layer in LAYERS {
        let wanted = |kind: &str| {
            asks_after(|lab| {
                let rows = match layer {
                    Layer::Runtime => &mut lab.proxy.runtime,
                    Layer::Memory => &mut lab.proxy.memory,
                    Layer::Disk => &mut lab.proxy.disk,
                };
                rows[0].comment = format!(" [stonith:1 {kind} was=ONLINE]");
            })
        };
        assert_eq!(wanted("manual"), INSTANCES, "{layer}");
        assert_eq!(wanted("isolation"), ALL, "{layer}: its end takes a history that is known up to now");
    }
}

#[test]
fn what_is_settled_or_not_ours_is_no_reason_to_ask() {
    type Change = fn(&mut Lab);
    let changes: [(&str, Change); 6] = [
        ("a record that is released", |lab| {
            let record = lab.record(9, "node01", Some("node02")).clone();
            let release = Release { recovery_ns: record.at_ns, ..Release::default() };
            lab.memory.nodes.released.insert(node("node01"), release);
            lab.memory.history.records.insert(record.uid.clone(), record);
        }),
        ("a writer and one that is out", |lab| _ = lab.put(row(10, "node02", Status::OfflineSoft))),
        ("the ghost of a writer", |lab| _ = lab.put(row(10, "node02", Status::OfflineHard))),
        ("two in a hostgroup that is no writer's", |lab| {
            lab.put(row(30, "node01", Status::Online)).put(row(30, "node02", Status::Online));
        }),
        ("a note of ours in an excluded hostgroup", |lab| {
            lab.policy.excluded_hostgroups = [Hostgroup(40)].into();
            lab.put(row(40, "node02", Status::Online));
            lab.edit(40, "node02", |row| row.comment = " [stonith:1 manual was=ONLINE]".to_owned());
        }),
        ("a stranger that was asked about just now", |lab| {
            lab.memory.nodes.instances_asked_ms = Some(lab.now_ms);
            lab.put(row(20, "stranger", Status::Online));
        }),
    ];
    for (what, change) in changes {
        assert_eq!(asks_after(change), NOTHING, "{what}");
    }
}

#[test]
fn i8_backing_is_asked_for_as_soon_as_the_lease_is_lost_and_not_before() {
    let lease_asked = |before_ms: Option<u64>| {
        asks_after(|lab| lab.memory.lease.asked_ms = before_ms.map(|before_ms| lab.now_ms + 1_000 - before_ms))
    };
    assert_eq!(lease_asked(Some(9_999)), NOTHING);
    assert_eq!(lease_asked(Some(10_000)), BACKING);
    assert_eq!(lease_asked(None), BACKING);
    assert_eq!(asks_after(|lab| lab.memory.lease.isolated = true), BACKING);
}

#[test]
fn a_stranger_does_not_cost_a_question_in_every_tick() {
    let mut lab = quiet();
    lab.put(row(20, "stranger", Status::Online));
    let asked = (0..60).filter(|_| {
        let asked = asks(&lab).instances;
        lab.next();
        asked
    });
    assert!((2..=4).contains(&asked.count()));
}
