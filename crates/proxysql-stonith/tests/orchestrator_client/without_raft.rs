//! Orchestrator without raft: nodes that share a database, of which one is active (facts §8).

use crate::client::*;

const NO_RAFT: &str = "raft-state: not running with raft setup";

/// The recorded health of a node that is not active: with the active one, or after that was killed.
fn health(active_is_there: bool) -> Reply {
    let path = format!("{}/../lab/tests/recordings/25-shared-database/log.txt", env!("CARGO_MANIFEST_DIR"));
    let log = std::fs::read_to_string(path).unwrap();
    let (before, after) = log.split_once("== kill orc1").unwrap();
    let of = if active_is_there { before } else { after };
    let line = of.lines().find(|line| line.contains(" orc2 health {\"Code\":\"OK\"")).unwrap();
    Reply::ok(line.split_once(" health ").unwrap().1.strip_suffix(" [http 200]").unwrap())
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
    for other in [hung(), Server::start(|_| Reply::Close), passive(|| health(true)), node(2, 0)] {
        let why = silent(once(&[&cut_off, &other], NOTHING_MORE).await);
        assert!(why.contains("its database is gone"), "{why}");
    }
    let refuses = Server::start(|_| Reply::Json(401, String::new()));
    blind(once(&[&cut_off, &refuses], NOTHING_MORE).await);
}

#[tokio::test]
async fn while_the_active_node_is_gone_from_the_database_nobody_can_promote() {
    let gone = Server::start(|_| Reply::Close);
    // The one that was active is killed; the other takes over after 5 s.
    let view = once(&[&gone, &passive(|| health(true))], NOTHING_MORE).await;
    assert!(matches!(view, LeaderView::Silent(_)), "{view:?}");
    assert_eq!(once(&[&gone, &passive(|| health(false))], NOTHING_MORE).await, LeaderView::Leaderless);
}

#[tokio::test]
async fn another_node_that_is_active_and_not_heard_is_silence() {
    let why = silent(once(&[&passive(|| health(true))], NOTHING_MORE).await);
    assert!(why.contains("another node is active"), "{why}");
    // What can't be told does not pass for nobody.
    for other in [
        || Reply::ok("{}"),
        not_found,
        || Reply::Json(502, String::new()),
        || Reply::Json(500, String::new()),
        || Reply::ok("{\"Details\":{\"Token\":\"a\",\"ActiveNode\":{\"Token\":\"b\"},\"AvailableNodes\":null}}"),
    ] {
        silent(once(&[&passive(other)], NOTHING_MORE).await);
    }
}

/// Before 3.2.3 there is no raft-status: raft-leader says whether there is a raft.
#[tokio::test]
async fn an_old_node_counts_as_one_without_raft_only_if_it_says_so() {
    let old = |says: &'static str| {
        Server::start(move |request| match request.path.as_str() {
            "/api/raft-status" => not_found(),
            "/api/raft-leader" => error_500(says),
            "/api/health" => health(false),
            path => well(2, 1, path),
        })
    };
    silent(once(&[&old("something else")], NOTHING_MORE).await);
    assert_eq!(once(&[&old(NO_RAFT)], NOTHING_MORE).await, LeaderView::Leaderless);
}
