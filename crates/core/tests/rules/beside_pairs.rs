//! Rows beside the pair, and no pairs at all: managed is every row of a node that Orchestrator knows.

use stonith_core::evidence::EvidenceKind;
use stonith_core::table::{Hostgroup, Layer, Status};

use crate::world::{Decided, LAYERS, Lab, row};

/// All nodes in one hostgroup, the primary with nearly all of the weight; no `mysql_replication_hostgroups`.
fn without_pairs(named: bool) -> Lab {
    let mut lab = Lab::new();
    lab.proxy.pairs.clear();
    for rows in [&mut lab.proxy.runtime, &mut lab.proxy.memory, &mut lab.proxy.disk] {
        rows.clear();
    }
    for (name, weight) in [("node01", "9999999"), ("node02", "1"), ("node03", "1")] {
        let mut row = row(7, name, Status::Online);
        row.settings.insert("weight".to_owned(), weight.to_owned());
        lab.put(row);
    }
    if named {
        lab.policy.writer_hostgroups = [Hostgroup(7)].into();
    }
    lab.run_s(60);
    assert_eq!(lab.writes, 0);
    lab
}

#[test]
fn a_fenced_node_serves_no_hostgroup_beside_its_pair() {
    let mut lab = Lab::new();
    lab.put(row(50, "node01", Status::Online)).put(row(50, "node02", Status::Online)).run_s(60);
    lab.failover("node01", "node03").run_s(5);
    assert_eq!((lab.fenced(), lab.rows("node02")), (vec!["node01".to_owned()], "20:ONLINE 50:ONLINE".to_owned()));
    assert_eq!(lab.rows("node01"), "10:OFFLINE_SOFT 20:OFFLINE_SOFT 50:OFFLINE_SOFT");
    lab.repaired("node01").run_s(6);
    assert_eq!(lab.rows("node01"), "20:ONLINE 50:ONLINE", "a replica serves reports, and no writes");
}

#[test]
fn without_any_pair_a_superseded_node_is_fenced_and_isolation_is_armed() {
    for named in [false, true] {
        let mut lab = without_pairs(named);
        assert!(lab.memory.lease.armed, "named: {named}");
        let before = lab.layers();
        lab.leader_gone().run_s(30);
        assert_eq!(lab.fenced().len(), 3, "named: {named}");
        lab.led_by("orc1").run_s(4);
        assert_eq!(lab.layers(), before, "named: {named}");
        lab.failover("node01", "node03").returns_writable("node01").run_s(60);
        assert_eq!(lab.fenced(), ["node01"], "named: {named}");
    }
}

#[test]
fn without_any_pair_a_repaired_node_returns_only_if_it_is_read_only() {
    let mut lab = without_pairs(false);
    lab.failover("node01", "node03").run_s(5);
    lab.repaired("node01").server("node01").read_only = false;
    lab.run_s(60);
    assert_eq!(lab.fenced(), ["node01"]);
    lab.server("node01").read_only = true;
    lab.run_s(5);
    assert_eq!(lab.rows("node01"), "7:ONLINE");
}

#[test]
fn a_replicas_row_in_a_named_writer_hostgroup_waits_until_its_node_is_the_primary() {
    let mut lab = without_pairs(true);
    lab.failover("node01", "node03").run_s(5);
    lab.repaired("node01").run_s(60);
    assert_eq!(lab.rows("node01"), "7:OFFLINE_SOFT", "a replica takes no writes");
    let note = |lab: &Lab| LAYERS.map(|layer| lab.row(layer, 7, "node01").unwrap().comment.clone());
    assert_eq!(note(&lab), [" [stonith:1 replica was=ONLINE]"; 3]);
    let writes = lab.writes;
    lab.run_s(60);
    assert_eq!(lab.writes, writes, "I7");
    // An isolation and its end leave it waiting.
    lab.leader_gone().run_s(30);
    lab.led_by("orc1").run_s(10);
    assert_eq!(note(&lab), [" [stonith:1 replica was=ONLINE]"; 3]);
    assert_eq!(lab.rows("node02"), "7:ONLINE");
    // Promoted, it takes writes again.
    lab.failover("node03", "node01").run_s(5);
    assert_eq!((lab.rows("node01"), lab.fenced()), ("7:ONLINE".to_owned(), vec!["node03".to_owned()]));
    assert_eq!(lab.row(Layer::Disk, 7, "node01").unwrap().comment, "");
}

#[test]
fn a_second_writer_in_a_named_hostgroup_is_fenced() {
    let mut lab = without_pairs(true);
    assert_eq!(lab.fenced().len(), 0, "replicas beside the primary are no writers");
    lab.server("node02").read_only = false;
    let decision = lab.run_s(5);
    assert_eq!(decision.kinds("node02"), [EvidenceKind::SecondWriter]);
    assert_eq!(lab.fenced(), ["node02"]);
}

#[test]
fn i3_excluded_hostgroups_are_never_touched() {
    let mut lab = Lab::new();
    lab.policy.excluded_hostgroups = [Hostgroup(50)].into();
    lab.put(row(50, "node01", Status::Online)).run_s(60);
    lab.failover("node01", "node03").returns_writable("node01").run_s(5);
    assert_eq!(lab.rows("node01"), "10:OFFLINE_SOFT 20:OFFLINE_SOFT 50:ONLINE");
    assert!(lab.proxy.runtime.iter().all(|row| row.key.hostgroup != Hostgroup(50) || row.comment.is_empty()));
}
