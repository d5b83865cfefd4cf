//! Beside the ProxySQL hooks of the fork's Orchestrator (facts §14), over sockets.

use lab::orchestrator::Fault;
use stonith_core::orchestrator::{LeaderView, ProxyHooks};

use crate::stage::{Stage, TICK, tick};

/// What the fork sends after a failover of node01 to node02.
const AFTER: [&str; 6] = [
    "DELETE FROM mysql_servers WHERE hostgroup_id=10 AND hostname='node01'",
    "REPLACE INTO mysql_servers (hostgroup_id,hostname,port) VALUES (10,'node02',3306)",
    "DELETE FROM mysql_servers WHERE hostgroup_id=20 AND hostname='node02'",
    "REPLACE INTO mysql_servers (hostgroup_id,hostname,port,status) VALUES (20,'node01',3306,'OFFLINE_SOFT')",
    "LOAD MYSQL SERVERS TO RUNTIME",
    "SAVE MYSQL SERVERS TO DISK",
];

fn said(view: &LeaderView) -> Option<ProxyHooks> {
    match view {
        LeaderView::Led(answer) => answer.hooks,
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_asked_for_its_hooks_once_and_what_is_no_clear_answer_is_none() {
    let cases = [(None, ProxyHooks::Absent), (Some(503), ProxyHooks::Off), (Some(200), ProxyHooks::On)];
    let unclear = [401, 403, 500, 502].map(|status| (Some(status), ProxyHooks::Unclear));
    for (status, expected) in cases.into_iter().chain(unclear) {
        let stage = Stage::set().await;
        stage.orchestrator.set_proxysql_hooks(status);
        let mut agent = stage.agent();
        let first = tick(&mut agent).await.unwrap();
        assert_eq!(said(&first.observed.leader), Some(expected), "{status:?}");
        let LeaderView::Led(answer) = &first.observed.leader else { panic!("{:?}", first.observed.leader) };
        assert!(answer.skipped.is_empty(), "nothing is said of it: {:?}", answer.skipped);
        for _ in 0..3 {
            assert_eq!(said(&tick(&mut agent).await.unwrap().observed.leader), None, "{status:?}");
        }
        let asked = stage.orchestrator.requests().iter().filter(|path| path.contains("v2/proxysql")).count();
        assert_eq!(asked, 1, "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_hooks_took_out_comes_back_and_what_they_reset_is_restored() {
    let stage = Stage::set().await;
    stage.orchestrator.set_proxysql_hooks(Some(200));
    stage.sql("UPDATE mysql_servers SET weight=7,max_connections=50 WHERE hostname='node02'");
    stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    stage.sql("SAVE MYSQL SERVERS TO DISK");
    let mut agent = stage.agent();
    tick(&mut agent).await.unwrap();
    stage.sql("UPDATE mysql_servers SET status='OFFLINE_SOFT' WHERE hostgroup_id=10 AND hostname='node01'");
    stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    stage.fail_over().await;
    AFTER.iter().for_each(|statement| stage.sql(statement));
    // An operator's half-done edit stays staged.
    stage.sql("UPDATE mysql_servers SET weight=3 WHERE hostname='node03'");
    for _ in 0..3 {
        tick(&mut agent).await.unwrap();
    }
    assert!(stage.is_fenced("node01"), "{}", stage.everything());
    let of = |table: &str, node: &str| {
        let select = format!("SELECT hostgroup_id,weight,max_connections FROM {table} WHERE hostname='{node}'");
        stage.select(&format!("{select} AND status<>'OFFLINE_HARD'"))
    };
    for table in ["runtime_mysql_servers", "main.mysql_servers", "disk.mysql_servers"] {
        assert_eq!(of(table, "node02"), "10|7|50", "{table}");
        assert_eq!(of(table, "node03"), if table.starts_with("main") { "20|3|1000" } else { "20|1|1000" }, "{table}");
    }
    stage.nodes.start("node01");
    stage.nodes.make_replica("node01", "node02");
    stage.orchestrator.end_downtime("node01");
    for _ in 0..50 {
        if stage.runtime().contains("20/node01:ONLINE[rack 7]") {
            break;
        }
        // Long enough for a leader that is steady, and a second proof.
        let memory = agent.memory_mut();
        let first = |ms: &mut u64| *ms -= 5_000;
        memory.lease.leader.iter_mut().for_each(|leader| first(&mut leader.since_ms));
        memory.nodes.proofs.values_mut().for_each(|proof| first(&mut proof.at_ms));
        tokio::time::sleep(TICK).await;
        tick(&mut agent).await.unwrap();
    }
    assert!(stage.runtime().contains("20/node01:ONLINE[rack 7]"), "{}", stage.runtime());
    assert_eq!(stage.left_behind(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_answers_in_orchestrators_place_neither_turns_the_hooks_off_nor_on() {
    let stage = Stage::set().await;
    stage.orchestrator.set_proxysql_hooks(Some(200));
    let mut agent = stage.agent();
    tick(&mut agent).await.unwrap();
    let is_on = |agent: &proxysql_stonith::agent::Agent| {
        matches!(agent.memory().hooks.said, Some((_, ProxyHooks::On))) && !agent.memory().hooks.views.is_empty()
    };
    assert!(is_on(&agent));
    (0..3).for_each(|member| stage.orchestrator.fault(member, Some(Fault::Gateway(503))));
    agent.memory_mut().hooks.asked = None;
    tick(&mut agent).await.unwrap();
    assert!(is_on(&agent));
    (0..3).for_each(|member| stage.orchestrator.fault(member, None));
    stage.orchestrator.set_proxysql_hooks(Some(503));
    tick(&mut agent).await.unwrap();
    assert!(matches!(agent.memory().hooks.said, Some((_, ProxyHooks::Off))) && agent.memory().hooks.views.is_empty());
}
