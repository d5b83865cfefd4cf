//! One server under two names, and several clusters under one alias: what a name joins, and what it does not.

use std::time::Instant;

use lab::nodes::Nodes;
use lab::{orchestrator, proxysql};
use stonith_core::lease::LeaseState;
use stonith_core::orchestrator::LeaderView;

use crate::stage::{Stage, TICK, eventually, make_old, tick};

/// Ticks until it is so.
pub async fn ticks_until(agent: &mut proxysql_stonith::agent::Agent, what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        tick(agent).await.unwrap();
        assert!(began.elapsed().as_secs() < 20, "not within 20 s: {what}");
        tokio::time::sleep(TICK).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_fenced_and_comes_back_though_record_and_mark_have_the_servers_other_name() {
    for uuid in ["8f94d3b6-0000-0000-0000-000000000001", ""] {
        let stage = Stage::set().await;
        stage.orchestrator.list_twice("node01", "10.0.0.1", uuid);
        let mut agent = stage.agent();
        tick(&mut agent).await.unwrap();
        stage.fail_over().await;
        let seen = tick(&mut agent).await.unwrap();
        let LeaderView::Led(answer) = &seen.observed.leader else { panic!("{:?}", seen.observed.leader) };
        let marked: Vec<String> = answer.downtimes.iter().map(|mark| mark.node.to_string()).collect();
        assert_eq!(marked, ["10.0.0.1:3306"], "nothing names node01");
        if uuid.is_empty() {
            // Control: nothing shows that the two names are one server.
            assert!(!stage.is_fenced("node01"));
            continue;
        }
        assert!(stage.is_fenced("node01"), "{}", stage.runtime());
        stage.nodes.start("node01");
        stage.nodes.make_replica("node01", "node02");
        stage.orchestrator.end_downtime("node01");
        ticks_until(&mut agent, "it is back", || stage.runtime().contains("20/node01:ONLINE[rack 7]")).await;
    }
}

/// A cluster of three and one of a single node, both under the alias `mysql`.
async fn with_one_alias() -> Stage {
    let nodes = Nodes::new(&["node01", "node02", "node03"]).and(&["solo"]);
    let settings = orchestrator::Settings { alias: "mysql".to_owned(), ..orchestrator::Settings::default() };
    let stage = Stage::with(proxysql::Settings::default(), settings, nodes).await;
    stage.sql("INSERT INTO mysql_replication_hostgroups VALUES (30,40,'read_only','')");
    stage.sql("INSERT INTO mysql_servers (hostgroup_id,hostname,comment) VALUES (30,'solo','alone')");
    stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    stage.sql("SAVE MYSQL SERVERS TO DISK");
    stage
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_one_node_comes_back_after_an_isolation_though_another_has_its_alias() {
    let stage = with_one_alias().await;
    let mut agent = stage.agent();
    tick(&mut agent).await.unwrap();
    let before = stage.runtime();
    stage.orchestrator.cut_off();
    make_old(&mut agent);
    assert_eq!(tick(&mut agent).await.unwrap().decision.lease_state, LeaseState::Isolated);
    assert!(stage.is_fenced("solo") && stage.is_fenced("node01"));
    stage.orchestrator.heal();
    ticks_until(&mut agent, "all rows are as before", || stage.runtime() == before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repaired_node_returns_though_another_cluster_has_the_alias_of_its_own() {
    let stage = with_one_alias().await;
    let mut agent = stage.agent();
    tick(&mut agent).await.unwrap();
    stage.fail_over().await;
    tick(&mut agent).await.unwrap();
    assert!(stage.is_fenced("node01") && stage.runtime().contains("30/solo:ONLINE[alone]"));
    stage.nodes.start("node01");
    stage.orchestrator.poll();
    // Control: as it is, writable and alone, it stays out.
    for _ in 0..3 {
        tick(&mut agent).await.unwrap();
    }
    assert!(stage.is_fenced("node01"));
    stage.nodes.make_replica("node01", "node02");
    stage.orchestrator.end_downtime("node01");
    ticks_until(&mut agent, "it is back", || stage.runtime().contains("20/node01:ONLINE[rack 7]")).await;
    eventually("the other cluster is as it was", || stage.runtime().contains("30/solo:ONLINE[alone]")).await;
}

/// ProxySQL has addresses, and Orchestrator has names that resolve nowhere.
async fn with_rows_by_address() -> Stage {
    let stage = Stage::set().await;
    stage.sql("UPDATE mysql_servers SET hostname='10.0.0.'||substr(hostname,6)");
    stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    stage.sql("SAVE MYSQL SERVERS TO DISK");
    stage
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_gives_a_row_its_instance_and_every_report_shows_both_names() {
    let stage = with_rows_by_address().await;
    let aliases = "[aliases]\n\"10.0.0.1\" = \"node01\"\n\"10.0.0.2\" = \"node02\"\n\"10.0.0.3\" = \"node03\"";
    let config = stage.config(aliases);
    let aliased = |line: &str| format!("{line} {config}");
    stage.succeeds(&aliased("run --once")).await;
    stage.nodes.kill("node01");
    stage.orchestrator.fail_over("node01", Some("node02"));
    let (plan, code) = stage.stonith(&aliased("plan")).await;
    assert_eq!(code, 10, "{plan}");
    assert!(plan.contains("runtime 10/10.0.0.1:3306 (node01) ONLINE -> OFFLINE_SOFT"), "{plan}");
    let log = stage.succeeds(&aliased("run --once")).await;
    assert!(stage.is_fenced("10.0.0.1"), "{}", stage.runtime());
    assert!(log.contains("10.0.0.1:3306 (node01)") && log.contains("by=10.0.0.2:3306 (node02)"), "{log}");
    let (status, _) = stage.stonith(&aliased("status")).await;
    assert!(status.contains("10.0.0.1:3306 (node01)"), "{status}");
    let (json, _) = stage.stonith(&aliased("status --json")).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["proxies"][0]["nodes"][0]["instance"], "node01:3306", "{json}");
    let (text, code) = stage.stonith(&aliased("fence node03")).await;
    assert_eq!(code, 0, "{text}");
    assert!(stage.is_fenced("10.0.0.3"), "{}", stage.runtime());
}

#[tokio::test(flavor = "multi_thread")]
async fn control_without_an_alias_nothing_fences_a_row_of_another_name() {
    let stage = with_rows_by_address().await;
    stage.succeeds("run --once").await;
    stage.nodes.kill("node01");
    stage.orchestrator.fail_over("node01", Some("node02"));
    let (log, _) = stage.stonith("run --once").await;
    assert!(!stage.is_fenced("10.0.0.1"), "{log}");
}
