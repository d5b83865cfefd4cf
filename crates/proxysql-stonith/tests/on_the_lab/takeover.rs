//! A planned takeover's hooks: the old primary is drained, and comes back if the takeover comes to nothing.

use std::process::Command;
use std::time::Duration;

use stonith_core::orchestrator::TAKEOVER;

use super::barrier::{Ended, Scene, hung};
use super::stage::{eventually, eventually_in};

const DRAINED: &str = "10:OFFLINE_SOFT[ [stonith:1 takeover was=ONLINE]]";

/// The hook as Orchestrator runs it before a planned takeover: there is no recovery yet.
fn planned(scene: &Scene, hook: &str, agents: &[std::net::SocketAddr], barrier: &str) -> Command {
    let mut command = scene.command(hook, agents, barrier);
    command.env("ORC_COMMAND", "graceful-master-takeover").env("ORC_RECOVERY_UID", "");
    command.env("ORC_SUCCESSOR_HOST", "node02").env("ORC_SUCCESSOR_PORT", "3306");
    command
}

async fn drain(scene: &Scene, barrier: &str) -> Ended {
    scene.run(planned(scene, "pre-graceful-takeover", &[], barrier)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_transaction_finishes_before_the_takeover_goes_on() {
    let scene = Scene::set().await;
    let session = scene.alone.connect();
    session.begin();
    assert_eq!(session.write(), Ok("node01".to_owned()));
    let command = planned(&scene, "pre-graceful-takeover", &[], "drain_timeout = \"5s\"");
    let finish = async {
        eventually("the row is soft", || scene.alone() == DRAINED).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        session.commit()
    };
    let (ended, committed) = tokio::join!(scene.run(command), finish);
    assert_eq!((ended.code, committed), (0, Ok(())), "{}", ended.text);
    assert!(ended.text.contains("every ProxySQL is drained"), "{}", ended.text);
    assert!(ended.text.contains("ended_late=0"), "{}", ended.text);
    assert!(ended.took > Duration::from_millis(500), "{:?}", ended.took);
    assert!(scene.stage.runtime().contains("[stonith:1 takeover was=ONLINE]"), "the agent's ProxySQL has it too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_never_leaves_is_ended_at_the_deadline() {
    let scene = Scene::set().await;
    let session = scene.alone.connect();
    session.begin();
    assert_eq!(session.write(), Ok("node01".to_owned()));
    let ended = drain(&scene, "drain_timeout = \"500ms\"").await;
    assert_eq!(ended.code, 0, "{}", ended.text);
    assert!(ended.text.contains("ended_late=1"), "{}", ended.text);
    assert!(session.write().is_err(), "it is ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_pre_failover_alone_nobody_waits_since_read_only_is_set_already() {
    let scene = Scene::set().await;
    let idle = scene.alone.connect();
    assert_eq!(idle.write(), Ok("node01".to_owned()));
    let ended = scene.run(planned(&scene, "pre-failover", &[], "drain_timeout = \"30s\"")).await;
    assert_eq!((ended.code, scene.alone().as_str()), (0, DRAINED), "{}", ended.text);
    assert!(ended.took < Duration::from_secs(5), "{:?}", ended.took);
    // The second hook finds the mark of the first, and does nothing.
    let ended = scene.run(planned(&scene, "pre-failover", &[], "")).await;
    assert!(ended.code == 0 && !ended.text.contains("drained proxy"), "{}", ended.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_that_comes_to_nothing_ends_by_itself_where_an_agent_is() {
    let scene = Scene::set().await;
    let before = scene.stage.runtime();
    assert_eq!(drain(&scene, "").await.code, 0);
    assert!(scene.stage.is_fenced("node01"));
    let asked = scene.stage.orchestrator.requests();
    let begun = format!("begin-downtime/node01/3306/proxysql-stonith/{TAKEOVER}/5s");
    assert!(asked.contains(&begun), "{asked:?}");
    // No other hook runs, and node01 stays the primary.
    eventually_in(15, "node01 is back", || scene.stage.runtime() == before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_that_promoted_nobody_puts_back_at_once() {
    let scene = Scene::set().await;
    assert_eq!(drain(&scene, "").await.code, 0);
    assert_eq!(scene.alone(), DRAINED);
    let ended = scene.run(planned(&scene, "post-unsuccessful-failover", &[], "")).await;
    assert_eq!(ended.code, 0, "{}", ended.text);
    assert!(!scene.is_marked());
    assert_eq!(scene.alone(), "10:ONLINE[]");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_hangs_is_told_in_time_and_an_abort_puts_back_what_was_drained() {
    let scene = Scene::set().await;
    let (_listener, silent) = hung();
    for (on_unconfirmed, code, row) in [("abort", 1, "10:ONLINE[]"), ("proceed", 0, DRAINED)] {
        let barrier = format!("drain_timeout = \"500ms\"\non_unconfirmed = \"{on_unconfirmed}\"");
        let ended = scene.run(planned(&scene, "pre-graceful-takeover", &[silent], &barrier)).await;
        assert_eq!((ended.code, scene.alone().as_str()), (code, row), "{}", ended.text);
        assert!(ended.text.contains(&format!("agent http://{silent}: ")), "{}", ended.text);
        assert!(ended.took < Duration::from_secs(6), "{:?}: {}", ended.took, ended.text);
    }
}

/// The agent's ProxySQL is in no config of the hook.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_lets_transactions_finish_and_ends_what_is_left_as_the_hook_does_itself() {
    let scene = Scene::set().await;
    let (finishes, stays) = (scene.stage.proxysql.connect(), scene.stage.proxysql.connect());
    for session in [&finishes, &stays] {
        session.begin();
        assert_eq!(session.write(), Ok("node01".to_owned()));
    }
    let command = planned(&scene, "pre-graceful-takeover", &[], "drain_timeout = \"2s\"");
    let finish = async {
        eventually("the row is soft", || scene.stage.runtime().contains("[stonith:1 takeover was=ONLINE]")).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        finishes.commit()
    };
    let (ended, committed) = tokio::join!(scene.run(command), finish);
    assert_eq!((ended.code, committed), (0, Ok(())), "{}", ended.text);
    assert!(ended.text.contains("ended_late=1"), "{}", ended.text);
    assert!(ended.took > Duration::from_millis(300), "{:?}", ended.took);
    assert!(stays.write().is_err(), "it is ended at the deadline");
    let ended = scene.run(planned(&scene, "post-failover", &[], "")).await;
    let woken = ended.text.matches("its monitor checks at once").count();
    assert_eq!((ended.code, woken), (0, 2), "the hook's own, and the agent's: {}", ended.text);
}

const DELAY: &str = "mysql-auto_increment_delay_multiplex_timeout_ms";

/// Makes the ProxySQL without an agent a member of a ProxySQL Cluster, and sets a variable there.
fn cluster(scene: &Scene, variable: &str, value: &str, load: &str) {
    let member = "INSERT INTO proxysql_servers (hostname,port) VALUES ('10.9.9.9',6032)";
    for sql in [member, "LOAD PROXYSQL SERVERS TO RUNTIME", &format!("SET {variable}='{value}'"), load] {
        scene.alone.query(sql).unwrap();
    }
}

/// The delays that a drain of 3 s and its end took live, in their order.
async fn delays(scene: &Scene) -> Vec<String> {
    let session = scene.alone.connect();
    session.begin();
    assert_eq!(session.write(), Ok("node01".to_owned()));
    let before = scene.alone.statements().len();
    let ended = drain(scene, "drain_timeout = \"3s\"").await;
    assert_eq!(ended.code, 0, "{}", ended.text);
    let lends = scene.alone.statements().split_off(before);
    let lent = lends.iter().filter(|sql| sql.starts_with("UPDATE main.global_variables SET variable_value=CASE"));
    lent.map(|sql| sql.split("ELSE '").nth(1).unwrap().split('\'').next().unwrap().to_owned()).collect()
}

fn delay_in_force(scene: &Scene) -> String {
    let sql = format!("SELECT variable_value FROM runtime_global_variables WHERE variable_name='{DELAY}'");
    scene.alone.query(&sql).unwrap().records[0][0].clone().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_proxysql_cluster_a_drain_lends_another_value_each_second_so_that_no_peer_takes_it() {
    let scene = Scene::set().await;
    assert_eq!(delays(&scene).await, ["70"], "the control: nobody looks");
    assert_eq!(scene.hook("post-unsuccessful-failover", "").await.code, 0);
    cluster(&scene, "admin-cluster_check_interval_ms", "1000", "LOAD ADMIN VARIABLES TO RUNTIME");
    let lent = delays(&scene).await;
    assert!(lent.len() >= 3 && lent.iter().enumerate().all(|(n, delay)| *delay == (70 + n).to_string()), "{lent:?}");
    assert_eq!(delay_in_force(&scene), "10000");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_peer_would_take_what_is_lent_a_drain_lends_nothing() {
    let scene = Scene::set().await;
    cluster(&scene, "admin-cluster_mysql_variables_diffs_before_sync", "2", "LOAD ADMIN VARIABLES TO RUNTIME");
    assert!(delays(&scene).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_that_a_peers_drain_has_lent_is_not_taken_for_the_operators() {
    let scene = Scene::set().await;
    cluster(&scene, DELAY, "71", "LOAD MYSQL VARIABLES TO RUNTIME");
    let session = scene.alone.connect();
    session.begin();
    assert_eq!(session.write(), Ok("node01".to_owned()));
    let command = planned(&scene, "pre-graceful-takeover", &[], "drain_timeout = \"3s\"");
    let peer = async {
        eventually("the row is soft", || scene.alone() == DRAINED).await;
        // The peer has put its own back, and the cluster brings it here.
        for sql in [&format!("SET {DELAY}='10000'")[..], "LOAD MYSQL VARIABLES TO RUNTIME"] {
            scene.alone.query(sql).unwrap();
        }
    };
    let (ended, ()) = tokio::join!(scene.run(command), peer);
    assert_eq!((ended.code, delay_in_force(&scene).as_str()), (0, "10000"), "{}", ended.text);
}
