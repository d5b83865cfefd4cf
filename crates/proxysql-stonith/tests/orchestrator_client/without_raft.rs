//! Orchestrator without raft: nodes that share a database, of which one is active (FACTS §8).

use crate::client::*;

const NO_RAFT: &str = "raft-state: not running with raft setup";

/// The recorded health; the active node was last seen so many seconds before the node that says it.
fn health(active_behind_s: i64) -> Reply {
    let said = recorded("21-no-raft/health").replace("20:47:14Z", &format!("20:47:{:02}Z", 15 - active_behind_s));
    Reply::ok(said)
}

fn passive(health: fn() -> Reply) -> Server {
    Server::start(move |request| match request.path.as_str() {
        "/api/raft-status" => error_500(NO_RAFT),
        "/api/health" => health(),
        path => well(2, 1, path),
    })
}

fn database_gone() -> Reply {
    error_500("Application node is unhealthy dial tcp 127.0.0.1:3306: connect: connection refused")
}

#[tokio::test]
async fn while_the_database_is_gone_for_all_nodes_nobody_can_promote() {
    let (one, two) = (passive(database_gone), passive(database_gone));
    assert_eq!(once(&[&one, &two], NOTHING_MORE).await, LeaderView::Leaderless);
    assert_eq!(once(&[&one], NOTHING_MORE).await, LeaderView::Leaderless);
}

#[tokio::test]
async fn a_node_without_its_database_proves_nothing_while_another_is_not_heard_or_has_it() {
    let cut_off = passive(database_gone);
    for other in [hung(), Server::start(|_| Reply::Close), passive(|| health(1)), node(2, 0)] {
        let why = silent(once(&[&cut_off, &other], NOTHING_MORE).await);
        assert!(why.contains("its database is gone"), "{why}");
    }
    let refuses = Server::start(|_| Reply::Json(401, String::new()));
    blind(once(&[&cut_off, &refuses], NOTHING_MORE).await);
}

#[tokio::test]
async fn while_the_active_nodes_time_runs_out_in_the_database_nobody_can_promote() {
    let gone = Server::start(|_| Reply::Close);
    for (behind_s, expected) in [(1, false), (2, false), (3, true), (6, true)] {
        let server = match behind_s {
            1 => passive(|| health(1)),
            2 => passive(|| health(2)),
            3 => passive(|| health(3)),
            _ => passive(|| health(6)),
        };
        // The one that was active is killed; the other takes over after 5 s.
        let view = once(&[&gone, &server], NOTHING_MORE).await;
        assert_eq!(view == LeaderView::Leaderless, expected, "{behind_s}: {view:?}");
    }
}

#[tokio::test]
async fn another_node_that_is_active_and_not_heard_is_silence() {
    let why = silent(once(&[&passive(|| health(0))], NOTHING_MORE).await);
    assert!(why.contains("another node is active"), "{why}");
    // What can't be told does not pass for nobody.
    for other in [
        || Reply::ok("{}"),
        not_found,
        || Reply::Json(502, String::new()),
        || Reply::ok("{\"Details\":{\"ActiveNode\":{}}}"),
    ] {
        silent(once(&[&passive(other)], NOTHING_MORE).await);
    }
}
