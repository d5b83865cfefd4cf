//! `doctor` on real ProxySQL, Orchestrator and MariaDB: nothing to mend in a healthy set-up, and what is spoiled is found.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::world::{Binaries, World, eventually};
use crate::{fences_a_failover, guarded, one_at_a_time, seconds};

fn examined(world: &World) -> (Value, i32) {
    let (text, code) = world.proxy.command(&["doctor", "--json"]);
    let start = text.find('{').unwrap_or_else(|| panic!("{text}"));
    (serde_json::from_str(&text[start..]).unwrap_or_else(|error| panic!("{error}: {text}")), code)
}

/// The labels of a level and worse.
fn labels(json: &Value, levels: &[&str]) -> BTreeSet<String> {
    let findings = json["findings"].as_array().unwrap().iter();
    let of_level = findings.filter(|finding| levels.contains(&finding["level"].as_str().unwrap()));
    of_level.map(|finding| finding["label"].as_str().unwrap().to_owned()).collect()
}

fn finds(world: &World, label: &str) {
    eventually(label, seconds(20), || labels(&examined(world).0, &["error", "warning"]).contains(label));
    println!("--- found: {label}");
}

#[test]
fn doctor_has_nothing_to_mend_in_a_healthy_set_up_and_finds_what_is_spoiled() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let mut world = World::start(binaries);
    let before = world.proxy.layers();
    let (json, code) = examined(&world);
    println!("--- {} notes: {:?}", json["notes"], labels(&json, &["note"]));
    assert_eq!((code, labels(&json, &["error", "warning"])), (0, BTreeSet::new()), "{json:#}");
    assert_eq!(world.proxy.layers(), before, "it changes nothing");

    world.proxy.admin("INSERT INTO mysql_servers(hostgroup_id,hostname) VALUES (20,'192.0.2.1')");
    world.proxy.admin("SET mysql-threads='3'");
    let staged = world.proxy.layers();
    for label in ["servers-staged", "servers-unsaved", "variables-staged", "processlist-hidden"] {
        finds(&world, label);
    }
    assert_eq!(world.proxy.layers(), staged, "what is staged stays staged");
    world.proxy.admin("LOAD MYSQL SERVERS FROM DISK");
    world.proxy.admin("SAVE MYSQL VARIABLES FROM RUNTIME");

    let leader = world.leader();
    assert_eq!(world.raft.get(leader, "/api/disable-global-recoveries").0, 200);
    finds(&world, "recoveries-disabled");
    assert_eq!(world.raft.get(leader, "/api/enable-global-recoveries").0, 200);

    world.nodes.root(3, "set global read_only=0");
    finds(&world, "replica-writable");
    world.nodes.root(3, "set global read_only=1");

    let follower = (1..=3).find(|n| *n != leader).unwrap();
    world.raft.signal(follower, "KILL");
    finds(&world, "endpoint-unusable");
    finds(&world, "raft-without-spare");

    world.proxy.admin("SET mysql-monitor_password='wrong'");
    world.proxy.admin("LOAD MYSQL VARIABLES TO RUNTIME");
    // The monitor keeps the connections that it has: a new login is refused.
    finds(&world, "monitor-login");
}

#[test]
fn doctor_has_no_error_while_a_fenced_node_waits_for_its_repair() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let (mut world, writers) = guarded(binaries);
    fences_a_failover(&mut world);
    drop(writers);
    let before = world.proxy.layers();
    let (json, code) = examined(&world);
    println!("--- {:?}", labels(&json, &["error", "warning", "note"]));
    assert_eq!(labels(&json, &["error", "warning"]), BTreeSet::new(), "{code}: {json:#}");
    assert_eq!(world.proxy.layers(), before, "the fence stands");
}
