//! `doctor` against the lab: what it finds, and that it writes nothing.

use std::collections::BTreeSet;

use lab::nodes::Nodes;
use lab::{orchestrator, proxysql};
use serde_json::Value;

use crate::https::in_front_of;
use crate::pki::{EXPIRED, Pki, VALID};
use crate::stage::Stage;

async fn examined(stage: &Stage) -> (Value, String, i32) {
    let (text, code) = stage.stonith("doctor --json").await;
    (serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")), text, code)
}

fn labels(json: &Value) -> BTreeSet<&str> {
    json["findings"].as_array().unwrap().iter().map(|finding| finding["label"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_has_only_notes_for_a_healthy_stage_and_sends_nothing_that_writes() {
    let stage = Stage::set().await;
    let before = stage.everything();
    let (json, text, code) = examined(&stage).await;
    assert_eq!((code, &json["errors"], &json["warnings"]), (0, &0.into(), &0.into()), "{text}");
    assert_eq!((stage.everything(), stage.proxysql.writes()), (before, 0));
    let sent = stage.proxysql.statements();
    assert!(sent.iter().any(|sql| sql.contains("runtime_scheduler")), "control: it reads more than a look");
    assert!(sent.iter().all(|sql| sql.starts_with("SELECT ")), "{sent:?}");
    assert!(stage.orchestrator.requests().iter().any(|path| path.ends_with("clusters-info")), "and asks more");
    assert!(!stage.dir.path().join("state").exists(), "it keeps nothing");
    let text = stage.succeeds("doctor").await;
    assert!(text.contains("24 checks: 0 errors, 0 warnings, ") && text.contains("\nok: "), "{text}");
    stage.succeeds("fence node03").await;
    assert!(stage.proxysql.writes() > 0, "control");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_what_is_spoiled_and_shows_no_secret() {
    let stage = Stage::set().await;
    let script = stage.dir.path().join("failover.sh");
    std::fs::write(&script, "curl $orc/api/raft-leader; mysql -e \"set status='OFFLINE_SOFT'\"").unwrap();
    stage.sql(&format!(
        "INSERT INTO scheduler (interval_ms,filename,arg1,arg2) VALUES (1000,'/bin/bash','{}','-phunter2')",
        script.display()
    ));
    stage.sql("LOAD SCHEDULER TO RUNTIME");
    stage.stage_edits();
    stage.sql("SET mysql-shun_recovery_time_sec='77'");
    stage.orchestrator.kill(2);
    let before = stage.everything();
    let (json, text, code) = examined(&stage).await;
    assert_eq!((code, json["worst"].as_str()), (3, Some("error")), "{text}");
    let found = labels(&json);
    for label in [
        "another-script",
        "endpoint-unusable",
        "processlist-hidden",
        "raft-without-spare",
        "servers-staged",
        "tables-staged",
        "tables-unsaved",
        "variables-staged",
    ] {
        assert!(found.contains(label), "{label}: {text}");
    }
    assert_eq!((stage.everything(), stage.proxysql.writes()), (before, 0));
    let shown = stage.stonith("doctor").await.0;
    assert!(shown.contains("[another-script] the scheduler starts ") && shown.contains("failover.sh"), "{shown}");
    for text in [&text, &shown] {
        assert!(!text.contains("hunter2") && !text.contains("radmin"), "i11: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_says_so_if_nothing_answers_and_its_exit_code_is_that_of_an_error() {
    let stage = Stage::set().await;
    stage.proxysql.kill();
    let (text, code) = stage.stonith("doctor --orchestrator=http://127.0.0.1:9").await;
    assert_eq!(code, 3, "{text}");
    for label in ["[endpoint-unusable]", "[proxysql-unread]"] {
        assert!(text.contains(label), "{label}: {text}");
    }
    let unseen = text.lines().find(|line| line.starts_with("not seen, so not checked: ")).unwrap();
    assert!(unseen.contains("clock") && unseen.contains("scheduler"), "{text}");
    assert!(text.contains("\nok: certificates, timing, barrier\n"), "it claims nothing that it did not see: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_tells_a_bad_certificate_and_a_bad_password_of_each_endpoint() {
    let auth = Some(("orc".to_owned(), "sesame".to_owned()));
    let settings = orchestrator::Settings { auth, ..orchestrator::Settings::default() };
    let nodes = Nodes::new(&["node01", "node02", "node03"]);
    let stage = Stage::with(proxysql::Settings::default(), settings, nodes).await;
    let pki = Pki::new();
    let served = [("localhost", EXPIRED), ("elsewhere", VALID), ("localhost", VALID)];
    let mut urls = Vec::new();
    for (endpoint, (name, years)) in stage.orchestrator.endpoints().iter().zip(served) {
        urls.push(in_front_of(endpoint, pki.serving(name, years, false)).await);
    }
    let ca = format!("ca_file = {:?}", pki.ca_file());
    let config = stage.config(&format!("[orchestrator]\n{ca}\nuser = \"orc\"\npassword = \"hunter2\"\n"));
    let (text, code) = stage.stonith(&format!("doctor {config} --orchestrator={}", urls.join(","))).await;
    assert_eq!(code, 3, "{text}");
    for (label, url) in [("certificate-over", &urls[0]), ("certificate-name", &urls[1]), ("login-refused", &urls[2])] {
        let is_told = |line: &str| line.contains(&format!("[{label}]")) && line.contains(url.as_str());
        assert_eq!(text.lines().filter(|line| is_told(line)).count(), 1, "{label} {url}: {text}");
    }
    assert_eq!(text.matches("[certificate-").count(), 2, "{text}");
    assert!(!text.contains("hunter2"), "i11: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_describes_every_field_of_the_json() {
    let page = include_str!("../../../../docs/doctor.md");
    let stage = Stage::set().await;
    stage.stage_edits();
    let (json, ..) = examined(&stage).await;
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let finding = &json["findings"][0];
    for key in [keys(&json), keys(finding), keys(&finding["fix"]), keys(&json["checks"][0])].concat() {
        assert!(page.contains(&format!("`{key}`")), "docs/doctor.md does not describe {key}");
    }
}
