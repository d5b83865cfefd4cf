//! What the lab's Orchestrator does over time, and who of it does it; each test names the fact. Its answers are compared
//! with the recorded ones in `conformance`.

#[path = "orchestrator/client.rs"]
mod client;
#[path = "orchestrator/members.rs"]
mod members;

use std::collections::BTreeMap;
use std::time::Duration;

use client::{TICK, eventually, get, rounds, start, start_failed_over, start_with};
use lab::orchestrator::Settings;
use serde_json::{Value, json};

fn by_name(instances: &Value) -> BTreeMap<&str, &Value> {
    instances.as_array().unwrap().iter().map(|one| (one["Key"]["Hostname"].as_str().unwrap(), one)).collect()
}

fn names(instances: &Value) -> Vec<&str> {
    instances.as_array().unwrap().iter().map(|one| one["Key"]["Hostname"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_downtime_of_a_failover_is_on_the_leader_only_and_an_operators_on_all() {
    let (_nodes, orchestrator) = start().await;
    orchestrator.fail_over("node01", Some("node02"));
    let (_, downtimed) = get(&orchestrator, 2, "downtimed").await;
    assert_eq!(downtimed[0]["DowntimeReason"], "lost-in-recovery", "a follower asks the leader");
    orchestrator.kill_leader(Duration::ZERO).await;
    assert_eq!(get(&orchestrator, 1, "downtimed").await, (200, json!([])));
    let (_, history) = get(&orchestrator, 1, "audit-recovery/0").await;
    assert_eq!(history[0]["SuccessorKey"]["Hostname"], "node02", "the history is replicated");
    assert_eq!(get(&orchestrator, 2, "begin-downtime/node03/3306/dba/maintenance/1h").await.0, 200);
    orchestrator.set_leader(Some(2));
    assert_eq!(get(&orchestrator, 2, "downtimed").await.1[0]["Key"]["Hostname"], "node03");
}

#[tokio::test]
async fn a_returned_old_primary_is_a_cluster_of_its_own() {
    let (nodes, orchestrator) = start_failed_over().await;
    nodes.start("node01");
    orchestrator.poll();
    let (_, instances) = get(&orchestrator, 0, "all-instances").await;
    assert_eq!(by_name(&instances)["node01"]["ClusterName"], "node01:3306");
    assert_eq!(by_name(&instances)["node02"]["ClusterName"], "node03:3306");
    let (_, clusters) = get(&orchestrator, 0, "clusters-info").await;
    let alias =
        |at: usize| (clusters[at]["ClusterName"].as_str().unwrap(), clusters[at]["ClusterAlias"].as_str().unwrap());
    assert_eq!(
        [alias(0), alias(1), alias(2)],
        [("my01:3306", "mycluster"), ("node01:3306", "node01:3306"), ("node03:3306", "nodecluster")],
        "the alias has moved"
    );
    assert_eq!(names(&get(&orchestrator, 0, "masters").await.1), ["my01", "node01", "node03"]);
}

#[tokio::test]
async fn an_aliass_downtimes_lack_the_failed_node() {
    let (_nodes, orchestrator) = start_failed_over().await;
    orchestrator.begin_downtime("node02", "maintenance");
    for (hint, listed) in [
        ("nodecluster", vec!["node02"]),
        ("node03:3306", vec!["node02"]),
        ("node01:3306", vec!["node01"]),
        ("mycluster", vec![]),
    ] {
        assert_eq!(names(&get(&orchestrator, 0, &format!("downtimed/{hint}")).await.1), listed, "{hint}");
    }
    assert_eq!(names(&get(&orchestrator, 0, "downtimed").await.1), ["node01", "node02"]);
}

#[tokio::test]
async fn the_history_comes_in_pages_of_20_newest_first() {
    let (_nodes, orchestrator) = start().await;
    for n in 0..45 {
        orchestrator.record_old_failover("node01", "node02", Duration::from_secs(1_000 - n));
    }
    let mut sizes = Vec::new();
    for page in ["/0", "/1", "/2", "/3", "", "/alias/nodecluster/2", "/cluster/node02:3306"] {
        sizes.push(get(&orchestrator, 0, &format!("audit-recovery{page}")).await.1.as_array().unwrap().len());
    }
    assert_eq!(sizes, [20, 20, 5, 0, 20, 5, 0]);
    assert_eq!(get(&orchestrator, 0, "audit-recovery").await.1[0]["Id"], 45);
    orchestrator.record_old_failover("node02", "node01", Duration::from_secs(5_000));
    let (_, last) = get(&orchestrator, 0, "audit-recovery/2").await;
    assert_eq!(last[5]["Id"], 46, "older than all others");
    orchestrator.purge_history();
    assert_eq!(get(&orchestrator, 0, "audit-recovery").await.1, json!([]));
}

#[tokio::test]
async fn acknowledging_all_recoveries_ends_no_downtime() {
    let (_nodes, orchestrator) = start_failed_over().await;
    assert_eq!(get(&orchestrator, 0, "ack-all-recoveries").await.0, 500, "without a comment");
    assert_eq!(get(&orchestrator, 1, "ack-all-recoveries?comment=seen").await.0, 200);
    assert_eq!(get(&orchestrator, 0, "audit-recovery").await.1[0]["Acknowledged"], true);
    assert_eq!(get(&orchestrator, 0, "audit-recovery?unacknowledged=true").await.1, json!([]));
    assert_eq!(orchestrator.downtimed(), ["node01"]);
}

#[tokio::test]
async fn a_dead_primary_is_failed_over_after_two_polls_unless_it_is_downtimed() {
    let (nodes, orchestrator) = start_with(Settings { poll_interval: TICK, ..Settings::default() }).await;
    orchestrator.begin_downtime("node01", "maintenance");
    orchestrator.auto_failover(true);
    nodes.stop("node01");
    rounds(&orchestrator, 5).await;
    assert_eq!(get(&orchestrator, 0, "audit-recovery").await.1, json!([]), "a downtimed primary is not recovered");
    orchestrator.end_downtime("node01");
    eventually("a failover", async || orchestrator.downtimed() == ["node01"]).await;
    assert!(!nodes.get("node02").read_only && nodes.get("node03").replicates_from.as_deref() == Some("node02"));
}

#[tokio::test]
async fn a_recoverys_downtime_ends_by_itself_only_once_the_node_replicates_again() {
    let settings = Settings { poll_interval: TICK, downtime_ends_after: TICK * 2, ..Settings::default() };
    let (nodes, orchestrator) = start_with(settings).await;
    nodes.kill("node01");
    orchestrator.fail_over("node01", Some("node02"));
    nodes.start("node01");
    rounds(&orchestrator, 6).await;
    assert_eq!(orchestrator.downtimed(), ["node01"], "it is back, writable, and no replica");
    nodes.make_replica("node01", "node02");
    eventually("the downtime ends", async || orchestrator.downtimed().is_empty()).await;
}

#[tokio::test]
async fn an_operators_downtime_lasts_as_told_one_lost_in_recovery_a_year_and_one_of_no_length_not_at_all() {
    let (_nodes, orchestrator) = start().await;
    for (node, rest) in [
        ("node01", "alice/lost-in-recovery/30s"),
        ("node02", "alice/x/10m"),
        ("node02", "alice/y/0s"),
        ("node03", "alice/x/1s"),
        ("unknown", "alice/x/1m"),
    ] {
        assert_eq!(get(&orchestrator, 0, &format!("begin-downtime/{node}/3306/{rest}")).await.0, 200);
    }
    let (_, downtimed) = get(&orchestrator, 0, "downtimed").await;
    assert_eq!(names(&downtimed), ["node01", "node02", "node03"]);
    let end = |at: usize| downtimed[at]["DowntimeEndTimestamp"].as_str().unwrap();
    assert!(end(0)[..4].parse::<u16>().unwrap() > end(1)[..4].parse::<u16>().unwrap(), "renewed to a year ahead");
    assert!(end(1) > end(2) && downtimed[1]["DowntimeReason"] == "x");
    eventually("one ends", async || names(&get(&orchestrator, 0, "downtimed").await.1) == ["node01", "node02"]).await;
}

#[tokio::test]
async fn a_takeovers_record_looks_like_a_failures_and_the_old_one_is_downtimed() {
    let (nodes, orchestrator) = start().await;
    orchestrator.take_over("node01", "node02");
    let (_, history) = get(&orchestrator, 0, "audit-recovery").await;
    assert_eq!(history[0]["AnalysisEntry"]["Analysis"], "DeadMaster");
    assert_eq!(
        (&history[0]["IsSuccessful"], &history[0]["SuccessorKey"]["Hostname"]),
        (&json!(true), &json!("node02"))
    );
    assert_eq!(orchestrator.downtimed(), ["node01"]);
    for replica in ["node01", "node03"] {
        let server = nodes.get(replica);
        assert!(server.read_only && server.replicating && server.replicates_from.as_deref() == Some("node02"));
    }
}

#[tokio::test]
async fn a_recovery_that_promotes_nobody_is_not_successful_and_downtimes_the_failed_node_too() {
    let (nodes, orchestrator) = start().await;
    nodes.kill("node01");
    orchestrator.fail_over("node01", None);
    let (_, history) = get(&orchestrator, 0, "audit-recovery").await;
    assert_eq!((&history[0]["IsSuccessful"], &history[0]["SuccessorKey"]["Hostname"]), (&json!(false), &json!("")));
    assert_eq!(orchestrator.downtimed(), ["node01"]);
}

#[tokio::test]
async fn a_forgotten_node_is_in_no_list_for_some_polls_and_then_back_with_its_downtime() {
    let (_nodes, orchestrator) = start_failed_over().await;
    let downtimed = async || names(&get(&orchestrator, 0, "downtimed").await.1).join(" ");
    orchestrator.begin_downtime("node02", "maintenance");
    assert_eq!(get(&orchestrator, 0, "forget/node02/3306").await.0, 200);
    for _ in 0..3 {
        assert_eq!(downtimed().await, "node01");
        assert_eq!(get(&orchestrator, 0, "discover/node02/3306").await.0, 200, "it answers, and stays forgotten");
        assert!(!by_name(&get(&orchestrator, 0, "all-instances").await.1).contains_key("node02"));
        orchestrator.poll();
    }
    orchestrator.poll();
    assert_eq!(downtimed().await, "node01 node02");
}

#[tokio::test]
async fn discover_looks_at_a_node_at_once() {
    let (nodes, orchestrator) = start_failed_over().await;
    assert_eq!(get(&orchestrator, 0, "discover/node01/3306").await.0, 500, "it is down");
    nodes.start("node01");
    let (status, found) = get(&orchestrator, 0, "discover/node01/3306").await;
    assert_eq!((status, &found["Details"]["ClusterName"]), (200, &json!("node01:3306")));
    assert_eq!(by_name(&get(&orchestrator, 0, "all-instances").await.1)["node01"]["IsLastCheckValid"], true);
}

#[tokio::test]
async fn a_promoted_nodes_downtime_ends_on_the_leader_only() {
    let (nodes, orchestrator) = start().await;
    orchestrator.begin_downtime("node02", "maintenance");
    nodes.kill("node01");
    orchestrator.fail_over("node01", Some("node02"));
    assert_eq!(orchestrator.downtimed(), ["node01"]);
    orchestrator.set_leader(Some(1));
    assert_eq!(orchestrator.downtimed(), ["node02"]);
}

#[tokio::test]
async fn a_replica_of_a_dead_primary_does_not_replicate() {
    let (nodes, orchestrator) = start().await;
    let replicates = async || {
        let (_, instances) = get(&orchestrator, 0, "all-instances").await;
        ["IO", "SQL"].map(|thread| by_name(&instances)["node03"][format!("Replication{thread}ThreadRuning")] == true)
    };
    nodes.kill("node01");
    orchestrator.poll();
    assert_eq!(replicates().await, [false, true]);
    orchestrator.fail_over("node01", None);
    assert_eq!(replicates().await, [false, false], "a recovery that found no candidate has stopped them");
    orchestrator.fail_over("node01", Some("node02"));
    assert_eq!(replicates().await, [true, true]);
}
