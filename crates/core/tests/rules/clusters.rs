//! Several clusters behind one ProxySQL, and nodes that Orchestrator does not know: what happens to one is no
//! evidence against another.

use stonith_core::decide::{Guard, HoldReason, ProofGap, ReturnBlocker};
use stonith_core::evidence::EvidenceKind::{LostInRecovery, SecondWriter, Superseded};
use stonith_core::orchestrator::LOST_IN_RECOVERY;
use stonith_core::table::Status;

use crate::world::{self, Decided, Lab, node, row};

const MAIN: [&str; 3] = ["node01", "node02", "node03"];
const OTHER: [&str; 3] = ["node11", "node12", "node13"];

/// Beside node01..03 in 10 and 20: node11..13 in hostgroups `writer` and `reader`, node11 the primary.
fn beside(writer: u32, reader: u32) -> Lab {
    let mut lab = Lab::new();
    if writer != 10 {
        lab.proxy.pairs.push(world::pair(writer, reader));
    }
    for (name, like) in OTHER.into_iter().zip(MAIN) {
        let mut server = lab.servers[&node(like)].clone();
        server.alias = "other".to_owned();
        server.primary = server.primary.map(|_| node("node11"));
        lab.servers.insert(node(name), server);
        lab.put(row(reader, name, Status::Online));
    }
    lab.put(row(writer, "node11", Status::Online));
    lab.run_s(60);
    assert!(lab.memory.lease.armed && lab.writes == 0);
    lab
}

/// The rows of the other cluster, in every layer.
fn others(lab: &Lab) -> Vec<stonith_core::table::Row> {
    let is_other = |row: &stonith_core::table::Row| OTHER.iter().any(|name| row.node() == Some(node(name)));
    lab.layers().into_iter().flatten().filter(is_other).collect()
}

#[test]
fn a_failover_in_one_cluster_leaves_the_other_alone() {
    let mut lab = beside(11, 21);
    let before = others(&lab);
    lab.failover("node01", "node03").run_s(5);
    lab.returns_writable("node01").run_s(60);
    assert_eq!((lab.fenced(), others(&lab)), (vec!["node01".to_owned()], before.clone()));
    lab.repaired("node01").run_s(5);
    assert_eq!((lab.fenced().len(), others(&lab)), (0, before));
}

#[test]
fn failovers_in_both_clusters_at_once_fence_and_let_back_each_in_its_own() {
    let mut lab = beside(11, 21);
    lab.failover("node01", "node03").failover("node11", "node12").run_s(5);
    assert_eq!(lab.fenced(), ["node01", "node11"]);
    lab.leader_killed("orc2").purges_history().returns_writable("node01").returns_writable("node11");
    let decision = lab.run_s(60);
    assert_eq!(decision.kinds("node11"), [Superseded, LostInRecovery]);
    assert_eq!(decision.blocker("node11"), Some(&ReturnBlocker::Proof(vec![ProofGap::StandsAlone(node("node12"))])));
    assert_eq!(lab.fenced(), ["node01", "node11"]);
    // A replica of the wrong cluster's primary is no replica of its own.
    lab.follows("node11", "node03").run_s(20);
    assert!(lab.is_fenced("node11"));
    lab.follows("node11", "node12").follows("node01", "node03").run_s(5);
    assert_eq!((lab.rows("node01"), lab.rows("node11")), ("20:ONLINE".into(), "21:ONLINE".into()));
    assert_eq!((lab.rows("node03"), lab.rows("node12")), ("10:ONLINE 20:ONLINE".into(), "11:ONLINE 21:ONLINE".into()));
}

#[test]
fn i5_two_clusters_primaries_in_one_writer_hostgroup_are_no_second_writers_of_each_other() {
    let mut lab = beside(10, 20);
    lab.run_s(120);
    assert_eq!(lab.writes, 0);
    lab.server("node12").read_only = false;
    assert_eq!(lab.run_s(3).kinds("node12"), [SecondWriter]);
    assert_eq!(lab.fenced(), ["node12"]);
}

#[test]
fn downtimes_are_counted_per_cluster_and_the_last_row_of_each_hostgroup_is_kept() {
    let mut lab = beside(11, 21);
    for name in ["node02", "node03", "node12", "node13"] {
        lab.downtime(name, "maintenance");
    }
    let decision = lab.next();
    assert_eq!(lab.fenced(), ["node02", "node12"], "half of three, in each of them");
    assert_eq!(decision.held("node13"), Some(&HoldReason::Guarded(Guard::TooMany(1))));
}

#[test]
fn isolation_takes_both_clusters_and_gives_each_back_in_the_roles_it_now_has() {
    let mut lab = beside(11, 21);
    let before = others(&lab);
    lab.leader_gone().run_s(30);
    assert_eq!(lab.fenced().len(), 6);
    lab.failover("node01", "node03").returns_writable("node01").run_s(10);
    lab.led_by("orc2").run_s(4);
    assert_eq!((lab.fenced(), others(&lab)), (vec!["node01".to_owned()], before));
}

#[test]
fn a_cluster_that_orchestrator_does_not_know_is_left_alone_whatever_happens_to_the_other() {
    let mut lab = Lab::healthy();
    lab.proxy.pairs.push(world::pair(11, 21));
    for (hostgroup, name) in [(11, "node11"), (21, "node11"), (21, "node12")] {
        lab.put(row(hostgroup, name, Status::Online));
    }
    let before = others(&lab);
    let decision = lab.failover("node01", "node03").run_s(10);
    assert_eq!(decision.held("node11"), Some(&HoldReason::NotKnown));
    lab.leader_gone().run_s(60);
    assert_eq!((lab.fenced(), others(&lab)), (MAIN.map(str::to_owned).to_vec(), before.clone()));
    lab.led_by("orc1").run_s(5);
    assert_eq!(others(&lab), before);
}

#[test]
fn a_node_that_orchestrator_gets_to_know_later_is_judged_from_then_on() {
    let mut lab = Lab::healthy();
    lab.put(row(20, "node04", Status::Online)).run_s(5);
    assert_eq!(lab.next().held("node04"), Some(&HoldReason::NotKnown));
    let like = lab.servers[&node("node02")].clone();
    lab.servers.insert(node("node04"), like);
    lab.run_s(40);
    assert_eq!(lab.writes, 0);
    lab.downtime("node04", LOST_IN_RECOVERY).dies("node04").next();
    assert_eq!(lab.fenced(), ["node04"]);
    lab.forgets("node04").run_s(60);
    assert_eq!(lab.fenced(), ["node04"], "knew it once");
}

#[test]
fn a_port_that_orchestrator_does_not_list_is_another_node() {
    let mut lab = Lab::healthy();
    let mut other = row(20, "node01", Status::Online);
    other.key.port = 3307;
    lab.put(other.clone());
    lab.failover("node01", "node03").run_s(5);
    lab.leader_gone().run_s(60);
    assert!(lab.proxy.runtime.contains(&other));
}

/// Beside node01..03: node11, a cluster of its own in 11 and 21. Orchestrator gives both clusters one alias.
fn under_one_alias() -> Lab {
    let mut lab = Lab::new();
    lab.proxy.pairs.push(world::pair(11, 21));
    let alone = lab.servers[&node("node01")].clone();
    lab.servers.insert(node("node11"), alone);
    lab.put(row(11, "node11", Status::Online)).put(row(21, "node11", Status::Online)).run_s(60);
    assert!(lab.memory.lease.armed && lab.writes == 0);
    lab
}

#[test]
fn a_one_node_cluster_is_back_as_before_after_an_isolation_though_another_has_its_alias() {
    let mut lab = under_one_alias();
    let before = lab.layers();
    lab.leader_gone().run_s(30);
    assert_eq!(lab.fenced(), ["node01", "node02", "node03", "node11"], "out");
    lab.led_by("orc1").run_s(4);
    assert_eq!(lab.layers(), before);
}

#[test]
fn an_unfence_order_works_for_a_one_node_cluster_though_another_has_its_alias() {
    let mut lab = under_one_alias();
    let before = lab.layers();
    lab.order_fence("node11");
    assert_eq!(lab.fenced(), ["node11"]);
    assert!(lab.order_unfence("node11", false).unfenced("node11").is_some());
    assert_eq!(lab.layers(), before);
}

#[test]
fn a_repaired_node_returns_though_another_cluster_has_its_alias() {
    let mut lab = under_one_alias();
    let before = others(&lab);
    lab.failover("node01", "node03").returns_writable("node01").run_s(60);
    assert_eq!(lab.fenced(), ["node01"], "control: it stays out beside the new primary");
    lab.repaired("node01").run_s(5);
    assert_eq!((lab.fenced().len(), lab.rows("node01")), (0, "20:ONLINE".to_owned()));
    assert_eq!(others(&lab), before);
}

#[test]
fn i5_primaries_of_two_clusters_under_one_alias_are_no_second_writers_until_a_record_joins_them() {
    let mut lab = under_one_alias();
    lab.put(row(10, "node11", Status::Online)).run_s(60);
    assert_eq!(lab.fenced().len(), 0);
    // A record says that node11 was failed over to node01: they are one cluster, with one primary.
    let joins = lab.record(0, "node11", Some("node01")).clone();
    assert_eq!(joins.alias, "main");
    lab.run_s(60);
    assert_eq!(lab.fenced(), ["node11"]);
}
