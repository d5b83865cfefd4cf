//! A member of a ProxySQL Cluster that is cut off is paused and resumed, and no row of it changes (design §10).

use lab::proxysql::{SessionError, Verdict};
use proxysql_stonith::agent::Agent;
use stonith_core::lease::LeaseState;

use crate::recorded::all_are_recorded;
use crate::stage::{Stage, TICK, make_old, tick};

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:9";

/// A ProxySQL that names these others, and an agent of it that is armed.
async fn member(peers: &str) -> (Stage, Agent) {
    let stage = Stage::set().await;
    stage.sql(&format!("INSERT INTO proxysql_servers (hostname,port) VALUES {peers}"));
    stage.sql("LOAD PROXYSQL SERVERS TO RUNTIME");
    stage.sql("SAVE PROXYSQL SERVERS TO DISK");
    let mut agent = stage.agent();
    tick(&mut agent).await.unwrap();
    assert!(agent.memory().lease.armed);
    (stage, agent)
}

async fn cut_off(stage: &Stage, led: &Agent) -> Agent {
    let mut agent = stage.agent_that_asks(&[NOBODY.to_owned()], led.memory().clone());
    make_old(&mut agent);
    assert_eq!(tick(&mut agent).await.unwrap().decision.lease_state, LeaseState::Isolated);
    agent
}

/// Ticks of an agent that reaches the leader, until clients are served.
async fn heals(stage: &Stage, cut_off: &Agent) {
    let mut agent = stage.agent_with(cut_off.memory().clone());
    for _ in 0..100 {
        tick(&mut agent).await.unwrap();
        if stage.proxysql.connect().write().is_ok() {
            return;
        }
        tokio::time::sleep(TICK * 3).await;
    }
    panic!("never resumed");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_no_client_while_it_is_cut_off_and_its_rows_stay() {
    let (stage, led) = member("('10.0.0.9',6032)").await;
    let (before, client) = (stage.everything(), stage.proxysql.connect());
    client.write().unwrap();
    let mut agent = cut_off(&stage, &led).await;
    assert_eq!(client.write(), Err(SessionError::Lost));
    assert_eq!(stage.proxysql.connect().write(), Err(SessionError::NoProxy));
    let rows = |table: &str| stage.rows(table);
    let tables = ["runtime_mysql_servers", "main.mysql_servers", "disk.mysql_servers"];
    assert!(tables.iter().all(|table| !rows(table).contains("OFFLINE")), "{}", stage.everything());

    let writes = stage.proxysql.writes();
    tick(&mut agent).await.unwrap();
    assert_eq!(stage.proxysql.writes(), writes, "a paused member is quiet");

    stage.proxysql.restart().await.unwrap();
    stage.proxysql.connect().write().unwrap();
    tick(&mut agent).await.unwrap();
    assert_eq!(stage.proxysql.connect().write(), Err(SessionError::NoProxy), "paused again after a restart");

    heals(&stage, &agent).await;
    assert_eq!(stage.everything(), before);
    all_are_recorded(&stage.proxysql.statements());
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_a_pause_by_an_operator_stays() {
    let (stage, led) = member("('10.0.0.9',6032)").await;
    stage.sql("PROXYSQL PAUSE");
    let agent = cut_off(&stage, &led).await;
    let mut back = stage.agent_with(agent.memory().clone());
    for _ in 0..15 {
        tick(&mut back).await.unwrap();
        assert_eq!(stage.proxysql.connect().write(), Err(SessionError::NoProxy));
        tokio::time::sleep(TICK * 3).await;
    }
    assert_eq!(stage.left_behind(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_names_only_the_proxy_itself_is_no_cluster() {
    let stage = Stage::set().await;
    stage.sql(&format!(
        "INSERT INTO proxysql_servers (hostname,port) VALUES ('127.0.0.1',{})",
        stage.proxysql.address().port()
    ));
    stage.sql("LOAD PROXYSQL SERVERS TO RUNTIME");
    let mut led = stage.agent();
    tick(&mut led).await.unwrap();
    cut_off(&stage, &led).await;
    assert!(stage.is_fenced("node01") && stage.is_fenced("node03"), "isolated by its rows");
    assert_ne!(stage.proxysql.connect().write(), Err(SessionError::NoProxy));
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_cut_off_at_every_statement_of_a_pause_the_next_tick_finishes_it() {
    for verdict in [Verdict::CutBefore, Verdict::CutAfter] {
        for nth in 0..5 {
            let (stage, led) = member("('10.0.0.9',6032)").await;
            let client = stage.proxysql.connect();
            client.write().unwrap();
            let mut agent = stage.agent_that_asks(&[NOBODY.to_owned()], led.memory().clone());
            make_old(&mut agent);
            let (mut seen, mut pausing) = (0, false);
            stage.proxysql.before_statement(move |sql| {
                pausing |= sql.contains("stonith_paused");
                seen += usize::from(pausing);
                if pausing && seen == nth + 1 { verdict } else { Verdict::Go }
            });
            let first = tick(&mut agent).await.unwrap();
            assert!(first.error.is_some(), "{verdict:?} {nth}");
            tick(&mut agent).await.unwrap();
            assert_eq!(stage.proxysql.connect().write(), Err(SessionError::NoProxy), "{verdict:?} {nth}");
            assert_eq!(client.write(), Err(SessionError::Lost), "{verdict:?} {nth}");
            heals(&stage, &agent).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_only_a_member_is_asked_whether_it_is_paused() {
    let asks = |stage: &Stage| stage.proxysql.statements().iter().any(|sql| sql.contains("mysql_listener_paused"));
    let (stage, _) = member("('10.0.0.9',6032)").await;
    assert!(asks(&stage));
    let stage = Stage::set().await;
    let mut agent = stage.agent();
    tick(&mut agent).await.unwrap();
    assert!(!asks(&stage));
}
