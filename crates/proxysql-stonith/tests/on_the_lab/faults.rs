//! Orchestrator fails in every way, the program's own files too: what is fenced stays so, nothing else is.

use std::time::Duration;

use lab::orchestrator::Fault;
use lab::proxysql::{SessionError, Verdict};
use proxysql_stonith::agent::TickError;
use proxysql_stonith::secret::{Credential, Secret};
use proxysql_stonith::state::StateDir;
use stonith_core::lease::LeaseState;
use stonith_core::orchestrator::LeaderView;
use stonith_core::orders::Orders;

use crate::stage::{Stage, eventually, make_old, tick};

const FAULTS: [Fault; 7] = [
    Fault::InternalError,
    Fault::Garbage,
    Fault::Truncated,
    Fault::Huge,
    Fault::WrongTypes,
    Fault::Unauthorized,
    Fault::Gateway(502),
];

#[tokio::test(flavor = "multi_thread")]
async fn i2_answers_of_every_wrong_kind_unfence_nothing_and_fence_nothing() {
    let stage = Stage::set().await;
    let mut agent = stage.agent();
    stage.fail_over().await;
    tick(&mut agent).await.unwrap();
    assert!(stage.is_fenced("node01"));
    let before = stage.everything();
    stage.nodes.start("node01");
    for fault in FAULTS {
        for member in 0..3 {
            stage.orchestrator.fault(member, Some(fault));
        }
        let seen = tick(&mut agent).await.unwrap();
        assert!(!matches!(seen.observed.leader, LeaderView::Led(_)), "{fault:?}: {:?}", seen.observed.leader);
        assert_eq!(stage.everything(), before, "{fault:?}");
        // Another agent, which has kept nothing, knows no more.
        tick(&mut stage.agent()).await.unwrap();
        assert_eq!(stage.everything(), before, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_whatever_orchestrator_forgets_the_fenced_node_stays_fenced() {
    let stage = Stage::set().await;
    let mut agent = stage.agent();
    stage.fail_over().await;
    tick(&mut agent).await.unwrap();
    let before = stage.everything();
    stage.nodes.start("node01");
    stage.orchestrator.kill_leader(Duration::from_millis(50)).await;
    assert_eq!(stage.orchestrator.downtimed(), Vec::<String>::new());
    for forgets in
        [|stage: &Stage| stage.orchestrator.purge_history(), |stage: &Stage| stage.orchestrator.forget("node01")]
    {
        forgets(&stage);
        for agent in [&mut agent, &mut stage.agent()] {
            let seen = tick(agent).await.unwrap();
            assert!(matches!(seen.observed.leader, LeaderView::Led(_)), "{:?}", seen.observed.leader);
            assert_eq!(stage.everything(), before);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_two_that_both_pass_leader_check_are_none() {
    let stage = Stage::set().await;
    let mut agent = stage.agent();
    tick(&mut agent).await.unwrap();
    stage.orchestrator.set_stale_leader(2, true);
    stage.fail_over().await;
    let seen = tick(&mut agent).await.unwrap();
    assert!(matches!(seen.observed.leader, LeaderView::Conflict(_)));
    assert_eq!(seen.decision.lease_state, LeaseState::Held);
    assert!(!stage.is_fenced("node01"));
    stage.orchestrator.set_stale_leader(2, false);
    tick(&mut agent).await.unwrap();
    assert!(stage.is_fenced("node01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxysql_that_is_down_does_not_cost_the_lease() {
    let stage = Stage::set().await;
    let mut agent = stage.agent();
    tick(&mut agent).await.unwrap();
    let asked = agent.memory().lease.asked_ms;
    stage.proxysql.kill();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(matches!(tick(&mut agent).await, Err(TickError::Observe(_))));
    assert!(agent.memory().lease.asked_ms > asked, "the lease is kept up (I9)");
    stage.proxysql.restart().await.unwrap();
    stage.fail_over().await;
    tick(&mut agent).await.unwrap();
    assert!(stage.is_fenced("node01"));
}

/// ProxySQL Cluster would copy rows to peers that still reach Orchestrator.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxysql_with_peers_is_isolated_by_a_pause_and_another_one_by_its_rows() {
    for peers in [true, false] {
        let stage = Stage::set().await;
        if peers {
            stage.sql("INSERT INTO proxysql_servers (hostname) VALUES ('peer')");
            stage.sql("LOAD PROXYSQL SERVERS TO RUNTIME");
        }
        let mut agent = stage.agent();
        tick(&mut agent).await.unwrap();
        let mut cut_off = stage.agent_that_asks(&["http://127.0.0.1:9".to_owned()], agent.memory().clone());
        make_old(&mut cut_off);
        assert_eq!(tick(&mut cut_off).await.unwrap().decision.lease_state, LeaseState::Isolated);
        assert_eq!(stage.is_fenced("node01"), !peers, "{}", stage.runtime());
        assert_eq!(stage.proxysql.connect().write() == Err(SessionError::NoProxy), peers);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_admin_user_is_an_error_that_leaves_everything_as_it_was() {
    let stage = Stage::set().await;
    let mut agent = stage.agent();
    stage.fail_over().await;
    let before = stage.everything();
    stage.proxysql.before_statement(|sql| {
        let reads = sql.starts_with("SELECT");
        if reads { Verdict::Go } else { Verdict::Refuse("attempt to write a readonly database") }
    });
    let seen = tick(&mut agent).await.unwrap();
    let error = seen.error.expect("an error").to_string();
    assert!(error.contains("readonly database") && error.contains("PROXYSQL READWRITE"), "{error}");
    assert_eq!(stage.everything(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_sees_statistics_only_is_an_error_with_the_way_out() {
    let stage = Stage::set().await;
    let mut agent = stage.agent();
    agent.settings_mut().proxy.credential = Credential { user: "stats".into(), password: Secret::new("stats") };
    let error = tick(&mut agent).await.expect_err("nothing is read").to_string();
    assert!(error.contains("admin-stats_credentials") && !error.contains("no such table"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_proxysql_still_fences_in_runtime_and_memory_and_says_so() {
    let stage = Stage::set().await;
    let mut agent = stage.agent();
    stage.fail_over().await;
    stage.proxysql.before_statement(|sql| {
        let writes_disk = sql.contains("disk.mysql_servers") && !sql.starts_with("SELECT");
        if writes_disk { Verdict::Refuse("database or disk is full") } else { Verdict::Go }
    });
    let seen = tick(&mut agent).await.unwrap();
    assert!(format!("{:?}", seen.outcome).contains("database or disk is full"), "{:?}", seen.outcome);
    assert!(stage.is_fenced_in_runtime("node01"));
    stage.proxysql.before_statement(|_| Verdict::Go);
    tick(&mut agent).await.unwrap();
    assert!(stage.is_fenced("node01"), "and once there is room the next tick brings the disk in line");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_every_tick_tries_in_vain_is_said_once_and_its_end_once() {
    let stage = Stage::set().await;
    stage.succeeds("run --once").await;
    stage.fail_over().await;
    stage.proxysql.before_statement(|sql| {
        let writes_disk = sql.contains("disk.mysql_servers") && !sql.starts_with("SELECT");
        if writes_disk { Verdict::Refuse("database or disk is full") } else { Verdict::Go }
    });
    let (text, code) = stage.stonith("run --once").await;
    assert_eq!((code, text.matches("database or disk is full").count()), (1, 1), "{text}");
    assert_eq!(stage.stonith("run --once").await, (String::new(), 1));
    stage.proxysql.before_statement(|_| Verdict::Go);
    let (text, code) = stage.stonith("run --once").await;
    assert!(code == 0 && text.contains("recovered: disk"), "{text}");
    assert_eq!(stage.stonith("run --once").await, (String::new(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_that_cannot_be_written_still_fences_on_evidence() {
    let stage = Stage::set().await;
    std::fs::write(stage.dir.path().join("state"), "in the way").unwrap();
    stage.succeeds("run --once").await;
    stage.fail_over().await;
    let (text, code) = stage.stonith("run --once").await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("isolation is not armed"), "{text}");
    assert!(stage.is_fenced("node01"), "{}", stage.everything());
    for member in 0..3 {
        stage.orchestrator.hang(member);
    }
    let before = stage.everything();
    let (text, code) = stage.stonith("run --once").await;
    assert!(code == 1 && text.contains("within 2s"), "{text}");
    assert_eq!(stage.everything(), before, "no isolation");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_lost_or_corrupt_unfences_nothing() {
    let stage = Stage::set().await;
    stage.succeeds("run --once").await;
    stage.fail_over().await;
    stage.succeeds("run --once").await;
    assert!(stage.is_fenced("node01"));
    let before = stage.everything();
    stage.nodes.start("node01");
    stage.orchestrator.kill_leader(Duration::from_millis(50)).await;
    stage.orchestrator.purge_history();
    let folder = stage.dir.path().join("state");
    for content in [None, Some("garbage"), Some(r#"{"version":9}"#)] {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match content {
                None => std::fs::remove_file(path).unwrap(),
                Some(text) => std::fs::write(path, text).unwrap(),
            }
        }
        stage.succeeds("run --once").await;
        assert_eq!(stage.everything(), before, "{content:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_quiet_ticks_send_no_write() {
    let stage = Stage::set().await;
    let mut agent = stage.agent();
    tick(&mut agent).await.unwrap();
    stage.fail_over().await;
    tick(&mut agent).await.unwrap();
    let writes = stage.proxysql.writes();
    assert!(writes > 0, "the fence was counted");
    for _ in 0..5 {
        tick(&mut agent).await.unwrap();
        tick(&mut stage.agent()).await.unwrap();
    }
    assert_eq!(stage.proxysql.writes(), writes, "{:#?}", &stage.proxysql.statements());
    assert_eq!(stage.proxysql.unknown(), Vec::<String>::new());
    assert_eq!(stage.orchestrator.unknown(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_proxysql_closed_is_made_anew_at_once_and_a_new_one_that_breaks_is_an_error() {
    let stage = Stage::set().await;
    let mut agent = stage.agent();
    tick(&mut agent).await.unwrap();
    stage.proxysql.restart().await.unwrap();
    tick(&mut agent).await.unwrap();
    let mut fresh = stage.agent();
    let connects = || stage.proxysql.statements().iter().filter(|sql| *sql == "SELECT @@version").count();
    let before = connects();
    stage.proxysql.before_statement(|_| Verdict::CutAfter);
    assert!(matches!(tick(&mut fresh).await, Err(TickError::Observe(_))));
    assert_eq!(connects(), before + 1, "once each tick");
    stage.proxysql.before_statement(|_| Verdict::Go);
    tick(&mut fresh).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_heard_while_proxysql_was_down_is_kept_for_the_next_start() {
    let stage = Stage::set().await;
    stage.succeeds("run --once").await;
    let state = StateDir::new(&stage.dir.path().join("state"), &stage.proxy_node());
    let asked_ms = || state.peek().unwrap().expect("a state").memory.lease.asked_ms.expect("a lease");
    let before = asked_ms();
    stage.proxysql.kill();
    assert_eq!(stage.stonith("run --once").await.1, 1);
    assert!(asked_ms() > before, "else it is isolated when it is back (I9)");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_loads_while_orchestrator_does_not_answer_is_seen_in_the_same_tick() {
    let stage = Stage::set().await;
    let mut agent = stage.agent();
    tick(&mut agent).await.unwrap();
    (0..3).for_each(|member| stage.orchestrator.hang(member));
    let stamps = || stage.proxysql.statements().iter().filter(|sql| sql.contains("total_changes()")).count();
    let before = stamps();
    let (looked, ()) = tokio::join!(agent.look(Orders::default()), async {
        eventually("ProxySQL is read", || stamps() > before + 2).await;
        stage.sql("UPDATE mysql_servers SET comment='rack 8' WHERE hostname='node01'");
        stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    });
    let (observed, _) = looked.unwrap();
    assert!(matches!(observed.leader, LeaderView::Silent(_)), "{:?}", observed.leader);
    assert!(observed.proxy.runtime.iter().any(|row| row.comment == "rack 8"), "{:?}", observed.proxy.runtime);
}
