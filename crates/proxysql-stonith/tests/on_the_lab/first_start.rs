//! The first start, right or wrong: no traffic is taken away (I9).

use std::time::Duration;

use lab::nodes::Nodes;
use lab::{orchestrator, proxysql};

use crate::stage::Stage;

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
    let (text, _) = stage.stonith("status --orchestrator=http://127.0.0.1:9").await;
    assert!(text.contains("not armed") && text.contains("http://127.0.0.1:9"), "{text}");
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
async fn a_version_that_was_never_tried_can_be_looked_at_and_is_not_written_to() {
    let settings = proxysql::Settings { version: "2.9.9-1-gabc".into(), ..proxysql::Settings::default() };
    let stage =
        Stage::with(settings, orchestrator::Settings::default(), Nodes::new(&["node01", "node02", "node03"])).await;
    assert_eq!(stage.stonith("run --once").await.1, 0);
    stage.fail_over().await;
    let (text, code) = stage.stonith("plan").await;
    assert_eq!(code, 10, "{text}");
    let before = stage.everything();
    let (text, code) = stage.stonith("run --once").await;
    assert_eq!(code, 1);
    assert!(text.contains("2.9.9") && text.contains("allow_untested_version = true"), "{text}");
    assert_eq!(stage.everything(), before);
    assert_eq!(stage.stonith("run --once --allow-untested-version").await.1, 0);
    assert!(stage.is_fenced("node01"));
}
