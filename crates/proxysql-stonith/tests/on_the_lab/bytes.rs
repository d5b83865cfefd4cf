//! Comments that are no UTF-8 text: what a Latin-1 terminal sends, a NUL, a BLOB (facts §2).

use stonith_core::apply::Outcome;

use crate::stage::{Stage, TICK, tick};

/// `Büro 3` from a Latin-1 terminal; a NUL; a BLOB; a character that stands for a byte in this program.
const COMMENTS: [&str; 4] = [
    "CAST(x'42FC726F2033' AS TEXT)",
    "CAST(x'7261636B0037' AS TEXT)",
    "x'7261636B2037'",
    "CAST(x'F48FBC80FF' AS TEXT)",
];

/// Every row's comment to the byte; `typeof` apart, which no client can see.
fn comments(stage: &Stage) -> [String; 2] {
    ["main.mysql_servers", "disk.mysql_servers"].map(|table| {
        stage.select(&format!("SELECT hostgroup_id,hostname,status,hex(comment) FROM {table} ORDER BY 1,2"))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_comment_is_no_text_is_fenced_once_and_comes_back_to_the_byte() {
    for comment in COMMENTS {
        for host in ["node01", "node02", "node03"] {
            let stage = Stage::set().await;
            stage.sql(&format!("UPDATE mysql_servers SET comment={comment} WHERE hostname='{host}'"));
            stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
            stage.sql("SAVE MYSQL SERVERS TO DISK");
            stage.stage_edits();
            let before = comments(&stage);
            stage.fail_over().await;
            let mut agent = stage.agent();
            let outcome = tick(&mut agent).await.unwrap().outcome;
            let at = format!("{comment} {host}: {outcome:?}");
            let Some(Outcome::Applied(done)) = &outcome else { panic!("{at}") };
            assert_eq!((done.not_as_planned.len(), done.edits_kept), (0, 0), "{at}");
            assert!(stage.is_fenced("node01"), "{at} {}", stage.everything());
            assert!(!stage.runtime().contains("staged"), "I6: {at}");
            assert_eq!(stage.left_behind(), "", "{at}");
            let (loads, is_load) = (stage.proxysql.statements(), |sql: &&String| sql.starts_with("LOAD MYSQL SERVERS"));
            assert_eq!(loads.iter().filter(is_load).count(), 1, "{at}");
            assert!(tick(&mut agent).await.unwrap().decision.plan.is_empty(), "{at}: nothing is left to do");
            stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
            assert!(stage.is_fenced("node01"), "a LOAD keeps the note: {at} {}", stage.everything());
            stage.orchestrator.heal();
            let release = stage.stonith("unfence node01:3306 --without-lease").await;
            assert_eq!(release.1, 0, "{at}: {}", release.0);
            assert_eq!(comments(&stage), before, "I3: {at}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_isolation_takes_every_row_out_whatever_stands_in_its_comment() {
    let stage = Stage::set().await;
    for (comment, host) in COMMENTS.into_iter().zip(["node01", "node02", "node03"]) {
        stage.sql(&format!("UPDATE mysql_servers SET comment={comment} WHERE hostname='{host}'"));
    }
    stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    stage.sql("SAVE MYSQL SERVERS TO DISK");
    let before = comments(&stage);
    let mut agent = stage.agent();
    tick(&mut agent).await.unwrap();
    stage.orchestrator.cut_off();
    agent.memory_mut().lease.asked_ms = agent.memory().lease.asked_ms.map(|asked| asked - 20_000);
    agent.memory_mut().lease.started_ms -= 20_000;
    tick(&mut agent).await.unwrap();
    assert!(["node01", "node02", "node03"].iter().all(|node| stage.is_fenced(node)), "{}", stage.everything());
    assert_eq!(stage.left_behind(), "");
    stage.orchestrator.heal();
    for _ in 0..60 {
        tick(&mut agent).await.unwrap();
        tokio::time::sleep(TICK * 3).await;
        if comments(&stage) == before {
            break;
        }
    }
    assert_eq!(comments(&stage), before, "rows exactly as before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_an_operator_typed_in_lower_case_stays_so() {
    let stage = Stage::set().await;
    stage.sql("UPDATE mysql_servers SET status='online', weight=5 WHERE hostname='node03'");
    stage.sql("SAVE MYSQL SERVERS TO DISK");
    stage.fail_over().await;
    tick(&mut stage.agent()).await.unwrap();
    assert!(stage.is_fenced("node01"));
    for layer in ["main", "disk"] {
        assert_eq!(
            stage.select(&format!("SELECT status,weight FROM {layer}.mysql_servers WHERE hostname='node03'")),
            "online|5"
        );
    }
}
