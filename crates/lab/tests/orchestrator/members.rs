//! The members themselves: who leads, who answers, and how wrongly.

use lab::orchestrator::{Fault, Settings};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{TICK, ask, eventually, get, hangs, rounds, start, start_with};

#[tokio::test]
async fn without_a_leader_a_member_answers_stale_data_with_200() {
    let (nodes, orchestrator) = start_with(Settings { poll_interval: TICK, ..Settings::default() }).await;
    orchestrator.set_leader(None);
    nodes.kill("node01");
    rounds(&orchestrator, 3).await;
    orchestrator.poll();
    assert_eq!(get(&orchestrator, 0, "leader-check").await.0, 404);
    assert_eq!(get(&orchestrator, 0, "routed-leader-check").await.0, 404);
    assert_eq!(get(&orchestrator, 0, "raft-state").await.1, "Candidate");
    assert_eq!(get(&orchestrator, 0, "raft-leader").await.1, "");
    let unhealthy = json!({"Code": "ERROR", "Message": "unhealthy", "Details": null});
    assert_eq!(get(&orchestrator, 0, "raft-health").await, (500, unhealthy));
    assert_eq!(get(&orchestrator, 0, "health").await.0, 200);
    let (status, instances) = get(&orchestrator, 0, "all-instances").await;
    assert_eq!((status, &instances[0]["IsLastCheckValid"]), (200, &json!(true)), "from before it died");
    assert_eq!(get(&orchestrator, 0, "begin-downtime/node03/3306/dba/x").await.0, 500, "nothing goes through raft");
    orchestrator.elect_after(TICK);
    eventually("a member leads again and looks", async || {
        get(&orchestrator, 2, "all-instances").await.1[0]["IsLastCheckValid"] == false
    })
    .await;
}

#[tokio::test]
async fn a_hung_member_answers_what_it_was_asked_once_it_goes_on() {
    let (_nodes, orchestrator) = start().await;
    orchestrator.hang(0);
    assert!(hangs(&orchestrator, 0, "leader-check").await);
    assert!(hangs(&orchestrator, 1, "downtimed").await, "a follower waits for it too");
    assert_eq!(get(&orchestrator, 1, "raft-leader").await.0, 200);
    let asked = get(&orchestrator, 0, "leader-check");
    let goes_on = async {
        tokio::time::sleep(TICK).await;
        orchestrator.kill(2);
        orchestrator.resume(0);
    };
    assert_eq!(tokio::join!(asked, goes_on).0, (200, "OK".into()));
}

#[tokio::test]
async fn a_killed_member_refuses_connections_until_it_starts() {
    let (_nodes, orchestrator) = start().await;
    let connects = async || TcpStream::connect(orchestrator.endpoints()[1].trim_start_matches("http://")).await;
    orchestrator.kill(1);
    eventually("it refuses", async || {
        connects().await.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    })
    .await;
    orchestrator.start_member(1);
    eventually("it is back", async || connects().await.is_ok()).await;
    assert_eq!(get(&orchestrator, 1, "leader-check").await.0, 404);
}

#[tokio::test]
async fn cut_off_nobody_answers_and_healed_the_dead_stay_dead() {
    let (_nodes, orchestrator) = start().await;
    orchestrator.kill(2);
    orchestrator.cut_off();
    assert!(hangs(&orchestrator, 0, "leader-check").await && hangs(&orchestrator, 1, "leader-check").await);
    orchestrator.heal();
    assert_eq!(get(&orchestrator, 0, "leader-check").await.0, 200);
    assert!(ask(&orchestrator.endpoints()[2], "leader-check", "").await.is_err());
}

#[tokio::test]
async fn a_deposed_leader_takes_itself_for_the_leader() {
    let (_nodes, orchestrator) = start().await;
    orchestrator.set_stale_leader(2, true);
    for member in [0, 2] {
        assert_eq!(get(&orchestrator, member, "leader-check").await.0, 200);
        assert_eq!(get(&orchestrator, member, "raft-state").await.1, "Leader");
    }
    assert_eq!(get(&orchestrator, 1, "leader-check").await.0, 404);
}

#[tokio::test]
async fn each_fault_is_what_it_says() {
    let (_nodes, orchestrator) = start().await;
    let endpoint = &orchestrator.endpoints()[0];
    orchestrator.fault(0, Some(Fault::InternalError));
    assert_eq!(get(&orchestrator, 0, "downtimed").await.1["Code"], "ERROR");
    assert_eq!(get(&orchestrator, 1, "downtimed").await.0, 500, "proxied");
    assert_eq!(get(&orchestrator, 1, "leader-check").await.0, 404);
    orchestrator.fault(0, Some(Fault::Unauthorized));
    assert_eq!(get(&orchestrator, 0, "leader-check").await.0, 401);
    orchestrator.fault(0, Some(Fault::Garbage));
    assert!(get(&orchestrator, 0, "downtimed").await.1.as_str().unwrap().starts_with("<html>"));
    orchestrator.fault(0, Some(Fault::WrongTypes));
    assert!(get(&orchestrator, 0, "downtimed").await.1[0]["Key"].is_string());
    orchestrator.fault(0, Some(Fault::Truncated));
    let error = ask(endpoint, "downtimed", "").await.err().expect("it closes");
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    orchestrator.fault(0, Some(Fault::Huge));
    let mut stream = TcpStream::connect(endpoint.trim_start_matches("http://")).await.unwrap();
    stream.write_all(b"GET /api/downtimed HTTP/1.1\r\n\r\n").await.unwrap();
    let mut taken = vec![0; 1 << 20];
    stream.read_exact(&mut taken).await.unwrap();
    assert!(String::from_utf8_lossy(&taken).contains("Content-Length: 100000000"));
    orchestrator.fault(0, None);
    assert_eq!(get(&orchestrator, 0, "downtimed").await, (200, json!([])));
}

#[tokio::test]
async fn long_and_proxied_answers_come_chunked() {
    let (_nodes, orchestrator) = start().await;
    let endpoints = orchestrator.endpoints();
    for (member, path, is_chunked) in
        [(0, "downtimed", false), (1, "downtimed", true), (0, "all-instances", true), (1, "raft-status", false)]
    {
        let answer = ask(&endpoints[member], path, "").await.unwrap();
        assert_eq!(answer.head.contains("Transfer-Encoding: chunked"), is_chunked, "{path} of {member}");
        assert_eq!(answer.head.contains("Vary: Accept-Encoding"), member == 1 && path == "downtimed");
        assert!(answer.head.contains("Date: ") && answer.head.contains(" GMT"));
    }
}

#[tokio::test]
async fn auth_is_basic_also_for_leader_check_and_a_prefix_goes_before_api() {
    let auth = Some(("ops".to_owned(), "secret".to_owned()));
    let (_nodes, orchestrator) = start_with(Settings {
        auth,
        prefix: "/orchestrator".to_owned(),
        alias: "main".to_owned(),
        ..Settings::default()
    })
    .await;
    let endpoint = &orchestrator.endpoints()[0];
    assert!(endpoint.ends_with("/orchestrator"));
    assert_eq!(ask(endpoint, "leader-check", "").await.unwrap().status, 401);
    let basic = "Authorization: Basic b3BzOnNlY3JldA==\r\n";
    assert_eq!(ask(endpoint, "leader-check", basic).await.unwrap().status, 200);
    assert!(ask(endpoint, "clusters-info", basic).await.unwrap().body.contains(r#""ClusterAlias":"main""#));
    let bare = endpoint.trim_end_matches("/orchestrator");
    assert_eq!(ask(bare, "leader-check", basic).await.unwrap().status, 404);
    assert_eq!(orchestrator.unknown(), ["/api/leader-check"]);
    assert_eq!(orchestrator.requests(), ["leader-check", "clusters-info"]);
}

#[tokio::test]
async fn a_request_that_it_does_not_know_is_kept() {
    let (_nodes, orchestrator) = start().await;
    assert_eq!(get(&orchestrator, 1, "no-such-thing").await, (404, "404 page not found\n".into()));
    assert_eq!(get(&orchestrator, 1, "raft-yield").await.0, 404);
    assert_eq!(orchestrator.unknown(), ["no-such-thing", "raft-yield"]);
}
