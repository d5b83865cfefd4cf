//! The first start, right or wrong: no traffic is taken away (I9).

use std::time::{Duration, Instant};

use lab::nodes::Nodes;
use lab::{orchestrator, proxysql};
use proxysql_stonith::agent::{Kept, Start, Watch};
use proxysql_stonith::config::Mode;
use proxysql_stonith::state::StateDir;
use stonith_core::node::Node;

use crate::stage::{Daemon, Stage, TICK, eventually};

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test(flavor = "multi_thread")]
async fn i9_old_failovers_and_takeovers_of_nodes_that_are_well_now_fence_nothing() {
    let stage = Stage::set().await;
    for n in 0..30 {
        stage.orchestrator.record_old_failover("node02", "node01", DAY * (40 - n));
    }
    stage.orchestrator.record_old_failover("node03", "node02", DAY * 60);
    stage.orchestrator.record_old_failover("gone", "node03", DAY * 90);
    let before = stage.everything();
    for _ in 0..3 {
        let (text, code) = stage.stonith("run --once").await;
        assert_eq!(code, 0, "{text}");
        assert_eq!(stage.everything(), before);
    }
    assert_eq!(stage.proxysql.writes(), 0);
    assert_eq!(stage.proxysql.unknown(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_a_wrong_endpoint_fences_nothing_and_says_so() {
    let stage = Stage::set().await;
    let before = stage.everything();
    for _ in 0..3 {
        let (_, code) = stage.stonith("run --once --orchestrator=http://127.0.0.1:9").await;
        assert_eq!(code, 1);
    }
    let (text, code) = stage.stonith("status --orchestrator=http://127.0.0.1:9").await;
    assert!(code == 3 && text.contains("not armed") && text.contains("http://127.0.0.1:9"), "{text}");
    assert_eq!(stage.everything(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_a_wrong_password_for_orchestrator_fences_nothing_and_says_the_way_out() {
    let auth = Some(("stonith".to_owned(), "right".to_owned()));
    let settings = orchestrator::Settings { auth, ..orchestrator::Settings::default() };
    let stage = Stage::with(proxysql::Settings::default(), settings, Nodes::new(&["node01", "node02", "node03"])).await;
    let before = stage.everything();
    let (text, code) = stage.stonith("run --once").await;
    assert_eq!(code, 1);
    assert!(text.contains("401"), "{text}");
    assert_eq!(stage.everything(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_for_proxysql_is_an_error_with_the_way_out() {
    let stage = Stage::set().await;
    let wrong = stage.dir.path().join("wrong.cnf");
    std::fs::write(&wrong, "[client]\nuser=radmin\npassword=hunter2\n").unwrap();
    std::fs::set_permissions(&wrong, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (text, code) = stage.stonith(&format!("plan --defaults-file={}", wrong.display())).await;
    assert_eq!(code, 1);
    assert!(text.contains("Access denied") && text.contains("Check the credential"), "{text}");
    assert!(!text.contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_by_address_where_orchestrator_has_names_are_said_once_at_start_in_status_and_in_plan() {
    let stage = Stage::set().await;
    stage.sql("UPDATE mysql_servers SET hostname='10.0.0.'||substr(hostname,6)");
    stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    stage.sql("SAVE MYSQL SERVERS TO DISK");
    let says = |text: &str| text.contains("nothing is protected here") && text.contains("it lists node01:3306");
    let text = stage.succeeds("run --once").await;
    assert!(says(&text), "{text}");
    let text = stage.succeeds("run --once").await;
    assert_eq!(text, "", "once");
    let (text, code) = stage.stonith("status").await;
    assert!(code == 3 && says(&text), "{text}");
    assert!(says(&stage.succeeds("plan").await));
    let (text, code) = stage.stonith("status --json").await;
    assert_eq!(code, 3, "{text}");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["proxies"][0]["conditions"][0]["label"], "nothing-protected", "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_nodes_are_one_line_in_the_log_however_many_they_are() {
    let stage = Stage::set().await;
    for n in 0..250 {
        stage.sql(&format!("INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (20,'unknown{n:03}')"));
    }
    stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    let text = stage.succeeds("run --once").await;
    assert_eq!(text.matches("unknown").count(), 5, "{text}");
    assert!(text.contains("250 of 253 nodes cannot be fenced") && text.contains("and 245 more"), "{text}");
    for _ in 0..3 {
        assert_eq!(stage.succeeds("run --once").await, "", "once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_ends_with_a_code_that_a_monitoring_check_can_use() {
    let stage = Stage::set().await;
    let (text, code) = stage.stonith("status").await;
    assert!(code == 3 && text.contains("no agent has run here"), "{text}");
    stage.succeeds("run --once").await;
    let (text, code) = stage.stonith("status").await;
    assert_eq!(code, 0, "well and armed: {text}");
    let (text, code) = stage.stonith("status --orchestrator=http://127.0.0.1:9").await;
    assert_eq!(code, 1, "not reached: {text}");
    stage.succeeds("suspend --reason upgrade").await;
    assert_eq!(stage.stonith("status --orchestrator=http://127.0.0.1:9").await.1, 3, "suspended counts more");
    stage.proxysql.kill();
    assert_eq!(stage.stonith("status").await.1, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_makes_no_sense_is_set_aside_and_the_run_goes_on_and_fences() {
    let stage = Stage::set().await;
    stage.succeeds("run --once").await;
    stage.fail_over().await;
    let file = format!("state-127.0.0.1_{}.json", stage.proxysql.address().port());
    let path = stage.dir.path().join("state").join(file);
    std::fs::write(&path, "{\"version\":1,").unwrap();
    let text = stage.succeeds("run --once").await;
    assert!(text.contains("makes no sense") && text.contains("starting with an empty state"), "{text}");
    assert!(stage.is_fenced("node01"), "{text}");
    let aside = path.with_extension("json.bad-1");
    assert_eq!(std::fs::read_to_string(aside).unwrap(), "{\"version\":1,");
    let again = stage.succeeds("run --once").await;
    assert!(!again.contains("makes no sense"), "{again}");
}

/// An agent with what it keeps in the stage's directory, and a lease of half a second.
fn watch(stage: &Stage) -> Watch {
    let proxy = Node::new("127.0.0.1", stage.proxysql.address().port()).unwrap();
    let dir = StateDir::new(&stage.dir.path().join("state"), &proxy);
    let Start::Ready(kept) = Kept::start(dir, Mode::Daemon, 20) else { panic!("another is at work") };
    let mut agent = stage.agent_with(kept.memory());
    agent.settings_mut().policy.isolation_after_ms = 1_600;
    agent.settings_mut().policy.tick_ms = 50;
    Watch::new(proxy, agent, *kept)
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_what_can_not_keep_its_state_isolates_nothing_where_another_isolates_and_still_fences() {
    let (stage, other) = (Stage::set().await, Stage::set().await);
    std::fs::write(stage.dir.path().join("state"), "a file where the directory should be").unwrap();
    let (mut keeps_nothing, mut keeps) = (watch(&stage), watch(&other));
    assert!(keeps_nothing.tick().await.well && keeps.tick().await.well);
    let before = stage.everything();
    let lease_of_both_began = Instant::now();
    for stage in [&stage, &other] {
        stage.orchestrator.cut_off();
    }
    while !other.is_fenced("node02") {
        assert!(lease_of_both_began.elapsed() < Duration::from_secs(20), "the control: {}", other.runtime());
        assert!(!keeps.tick().await.well && !keeps_nothing.tick().await.well);
        tokio::time::sleep(TICK).await;
    }
    for _ in 0..5 {
        assert!(!keeps_nothing.tick().await.well);
    }
    assert_eq!(stage.everything(), before);
    stage.orchestrator.heal();
    stage.fail_over().await;
    assert!(keeps_nothing.tick().await.well);
    assert!(stage.is_fenced("node01"), "{}", stage.runtime());
}

#[tokio::test(flavor = "multi_thread")]
async fn orchestrators_password_that_was_corrected_is_read_again_by_the_running_daemon() {
    let auth = Some(("stonith".to_owned(), "right".to_owned()));
    let settings = orchestrator::Settings { auth, ..orchestrator::Settings::default() };
    let stage = Stage::with(proxysql::Settings::default(), settings, Nodes::new(&["node01", "node02", "node03"])).await;
    let secret = stage.dir.path().join("orchestrator.password");
    std::fs::write(&secret, "wrong\n").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let config = stage.config(&format!("orchestrator.user = 'stonith'\norchestrator.password_file = {secret:?}\n"));
    let log = stage.dir.path().join("log");
    let command = stage.command(&format!("run --interval 200ms {config}"));
    let _daemon = Daemon::with_log(command, std::fs::File::create(&log).unwrap());
    eventually("its password is refused", || std::fs::read_to_string(&log).unwrap().contains("401")).await;
    std::fs::write(&secret, "right\n").unwrap();
    stage.fail_over().await;
    eventually("it fences", || stage.is_fenced("node01")).await;
}
