//! What the raft says about the leader (I8, design §7).

use crate::client::*;

#[tokio::test]
async fn while_a_majority_of_the_raft_names_no_leader_it_is_leaderless() {
    let (one, two, three) = (node(1, 0), node(2, 0), hung());
    for servers in [vec![&one, &two], vec![&one, &two, &three]] {
        assert_eq!(once(&servers, NOTHING_MORE).await, LeaderView::Leaderless);
    }
}

#[tokio::test]
async fn a_minority_without_a_leader_is_silent() {
    // One of three is cut off, two don't answer; or two still name the dead one.
    let (cut_off, follower, other) = (node(1, 0), node(2, 3), node(1, 3));
    for servers in [vec![&cut_off], vec![&cut_off, &follower], vec![&cut_off, &follower, &other]] {
        let why = silent(once(&servers, NOTHING_MORE).await);
        assert!(why.contains(&format!("{} does not lead and knows no leader", cut_off.url())), "{why}");
    }
}

#[tokio::test]
async fn one_node_by_two_names_is_no_majority() {
    // Cut off from the two others, and listed twice.
    let cut_off = node(1, 0);
    let urls = [cut_off.url(), cut_off.url_as("localhost")];
    silent(look(&mut Client::new(settings(&urls)).unwrap(), NOTHING_MORE).await);
    // The same as a follower: two endpoints and one voice besides the leader's, which three of five must be.
    let five = |me: u8, leader: u8| {
        let Reply::Json(_, body) = raft_status(me, leader) else { unreachable!() };
        Reply::ok(body.replace("\"Peers\":[", "\"Peers\":[\"127.0.0.14:10008\",\"127.0.0.15:10008\","))
    };
    let serve = move |me: u8| {
        Server::start(move |request| match request.path.as_str() {
            "/api/raft-status" => five(me, 1),
            path => well(me, 1, path),
        })
    };
    let (leader, follower, third) = (serve(1), serve(2), serve(3));
    let urls = [leader.url(), follower.url(), follower.url_as("localhost")];
    let view = look(&mut Client::new(settings(&urls)).unwrap(), BACKING).await;
    assert_eq!(led(view).backing, Backing::Unconfirmed);
    assert_eq!(led(once(&[&leader, &follower, &third], BACKING).await).backing, Backing::Majority);
}

/// It goes by the name of its endpoint, as without raft.
#[tokio::test]
async fn a_leader_whose_raft_names_nobody_is_not_confirmed() {
    let server = leader_but("/api/raft-status", || raft_status(1, 0));
    let answer = led(once(&[&server], BACKING).await);
    assert_eq!((answer.leader, answer.backing), (server.url(), Backing::Unconfirmed));
}

/// A member whose `RaftNodes` names itself only: it leads, and is a raft of one.
fn loner() -> Server {
    Server::start(|request| match request.path.as_str() {
        "/api/raft-status" => {
            let Reply::Json(_, body) = raft_status(1, 1) else { unreachable!() };
            let (before, rest) = body.split_once("\"Peers\":[").expect("a list of peers");
            let (_, after) = rest.split_once(']').expect("its end");
            Reply::ok(format!("{before}\"Peers\":[\"127.0.0.11:10008\"]{after}"))
        }
        path => well(1, 1, path),
    })
}

#[tokio::test]
async fn i8_a_member_that_is_its_own_only_peer_is_no_majority() {
    let (hung, gone, follower) = (hung(), Server::start(|_| Reply::Close), node(2, 1));
    let answer = led(once(&[&loner(), &hung, &gone], BACKING).await);
    assert_eq!(answer.backing, Backing::Unconfirmed);
    assert_eq!(led(once(&[&loner()], BACKING).await).backing, Backing::Single, "it alone is configured");
    let answer = led(once(&[&loner(), &follower, &hung], BACKING).await);
    assert_eq!(answer.backing, Backing::Majority, "two of three name it");
}

/// Three members, one of them under two addresses and one gone: two of three name the leader.
#[tokio::test]
async fn one_node_by_two_names_makes_the_raft_no_larger() {
    let (leader, follower, gone) = (node(1, 1), node(2, 1), Server::start(|_| Reply::Close));
    let urls = [leader.url(), follower.url(), follower.url_as("localhost"), gone.url()];
    let view = look(&mut Client::new(settings(&urls)).unwrap(), BACKING).await;
    assert_eq!(led(view).backing, Backing::Majority);
}

/// The same without a leader: two of three know none.
#[tokio::test]
async fn one_node_by_two_names_makes_the_majority_without_a_leader_no_larger() {
    let (one, two, gone) = (node(1, 0), node(2, 0), Server::start(|_| Reply::Close));
    let urls = [one.url(), one.url_as("localhost"), two.url(), gone.url()];
    let view = look(&mut Client::new(settings(&urls)).unwrap(), NOTHING_MORE).await;
    assert_eq!(view, LeaderView::Leaderless);
}

#[tokio::test]
async fn a_leader_is_held_while_a_majority_names_another() {
    let (two, three) = (node(2, 3), node(3, 3));
    let late = Server::start(|request| match request.path.as_str() {
        "/api/leader-check" => Reply::Json(404, "\"Not leader\"".to_owned()),
        path => well(3, 3, path),
    });
    let view = once(&[&loner(), &two, &late], BACKING).await;
    let LeaderView::Conflict(cause) = view else { panic!("{view:?}") };
    let why = cause.to_string();
    assert!(why.contains("RaftNodes") && why.contains("127.0.0.13:10008"), "{why}");
    let both = once(&[&loner(), &two, &three], BACKING).await;
    assert!(matches!(both, LeaderView::Conflict(_)), "both pass leader-check: {both:?}");
}

#[tokio::test]
async fn i8_a_leader_that_a_majority_names_is_confirmed_and_one_alone_is_not() {
    let (leader, follower, third) = (node(1, 1), node(2, 1), node(3, 1));
    let (cut_off, hung) = (node(2, 0), hung());
    let gone = Server::start(|_| Reply::Close);
    let disagrees = Server::start(|request| {
        if request.path.ends_with("raft-status") { raft_status(3, 2) } else { well(3, 1, &request.path) }
    });
    for (others, expected) in [
        ([&follower, &third], Backing::Majority),
        ([&follower, &hung], Backing::Majority),
        ([&gone, &third], Backing::Majority),
        ([&cut_off, &gone], Backing::Unconfirmed),
        ([&disagrees, &cut_off], Backing::Unconfirmed),
        ([&hung, &gone], Backing::Unconfirmed),
    ] {
        let answer = led(once(&[&leader, others[0], others[1]], BACKING).await);
        assert_eq!(answer.backing, expected);
    }
    assert_eq!(led(once(&[&leader, &follower], NOTHING_MORE).await).backing, Backing::Unconfirmed, "it was not asked");
}

#[tokio::test]
async fn a_hung_member_does_not_hold_up_a_majority() {
    let (leader, follower, hung) = (node(1, 1), node(2, 1), hung());
    let mut took = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        assert_eq!(led(once(&[&leader, &follower, &hung], BACKING).await).backing, Backing::Majority);
        took.push(start.elapsed());
    }
    // Waited for, it would cost half a second besides the grace, each time.
    assert!(took.iter().min().unwrap() < &Duration::from_millis(450), "{took:?}");
}

#[tokio::test]
async fn with_one_endpoint_or_without_raft_steadiness_stands_in() {
    assert_eq!(led(once(&[&node(1, 1)], BACKING).await).backing, Backing::Single);
    let without_raft = |me: u8| {
        Server::start(move |request| match request.path.as_str() {
            "/api/raft-status" => error_500("raft-state: not running with raft setup"),
            path => well(me, 1, path),
        })
    };
    let (active, passive) = (without_raft(1), without_raft(2));
    assert_eq!(led(once(&[&active, &passive], BACKING).await).backing, Backing::Single);
    // And nobody active: no raft, so nothing says that nobody can promote.
    silent(once(&[&passive], NOTHING_MORE).await);
}

#[tokio::test]
async fn i8_a_raft_status_that_fails_otherwise_does_not_pass_for_no_raft() {
    let replies: [fn() -> Reply; 4] = [
        || error_500("Cannot get raft peers: no such file"),
        || Reply::Json(503, String::new()),
        || Reply::ok("{}"),
        || Reply::ok("{\"Leader\":null}"),
    ];
    for reply in replies {
        let (leader, follower) = (leader_but("/api/raft-status", reply), node(2, 1));
        assert_eq!(led(once(&[&leader, &follower], BACKING).await).backing, Backing::Unconfirmed);
    }
    // The leader itself names nobody.
    let (leader, follower) = (leader_but("/api/raft-status", || raft_status(1, 0)), node(2, 0));
    assert_eq!(led(once(&[&leader, &follower], BACKING).await).backing, Backing::Unconfirmed);
}

#[tokio::test]
async fn an_orchestrator_before_3_2_3_has_no_raft_status_and_is_asked_for_leader_and_peers() {
    let old = |me: u8, leader: &'static str| {
        Server::start(move |request| match request.path.as_str() {
            "/api/raft-status" => not_found(),
            "/api/raft-leader" => Reply::ok(format!("\"{leader}\"")),
            "/api/raft-peers" => Reply::ok("[\"127.0.0.13:10008\",\"127.0.0.11:10008\",\"127.0.0.12:10008\"]"),
            path => well(me, 1, path),
        })
    };
    let (leader, follower) = (old(1, "127.0.0.11:10008"), old(2, "127.0.0.11:10008"));
    assert_eq!(led(once(&[&leader, &follower], BACKING).await).backing, Backing::Majority);
    let cut_off = old(2, "");
    assert_eq!(led(once(&[&leader, &cut_off], BACKING).await).backing, Backing::Unconfirmed);
    assert_eq!(once(&[&cut_off, &old(3, "")], NOTHING_MORE).await, LeaderView::Leaderless);
    // Before 3.0 there was no raft.
    let (one, two) = (
        leader_but("/api/raft-status", not_found),
        leader_but("/api/leader-check", || well(2, 1, "/api/leader-check")),
    );
    assert_eq!(led(once(&[&one, &two], BACKING).await).backing, Backing::Single);
}
