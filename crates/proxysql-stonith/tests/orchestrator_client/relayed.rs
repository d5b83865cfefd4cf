//! One address for all, or a follower alone: a follower relays to the leader (facts §8, §9).

use crate::client::*;

/// Node `me` of three, which relays to the leader while there is one.
fn relays(me: u8, leader: u8, path: &str) -> Reply {
    match path {
        "/api/routed-leader-check" if leader == 0 => Reply::Json(404, "\"Not leader\"".to_owned()),
        "/api/routed-leader-check" => Reply::ok("\"OK\""),
        path => well(me, leader, path),
    }
}

fn follower(me: u8, leader: u8) -> Server {
    Server::start(move |request| relays(me, leader, &request.path))
}

#[tokio::test]
async fn a_follower_that_relays_before_and_after_is_a_way_to_the_leader() {
    let server = follower(2, 1);
    let mut client = client(&[&server]);
    let answer = led(look(&mut client, NOTHING_MORE).await);
    assert_eq!((answer.leader.as_str(), answer.downtimes.len()), ("127.0.0.11:10008", 1));
    let paths =
        ["leader-check", "raft-status", "routed-leader-check", "downtimed", "routed-leader-check", "raft-status"];
    assert_eq!(server.asked()[..6], paths.map(|path| format!("0 /api/{path}")));
    let answer = led(look(&mut client, ALL).await);
    assert!(answer.instances.is_some() && answer.history.is_some(), "{:?}", answer.skipped);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn the_leader_has_one_name_over_every_way_and_a_new_one_another_over_the_same() {
    let leads = Arc::new(AtomicUsize::new(1));
    let now = leads.clone();
    let server = Server::start(move |request| relays(2, now.load(Ordering::SeqCst) as u8, &request.path));
    let mut client = client(&[&server]);
    let names = |answer: Answer| answer.leader;
    assert_eq!(names(led(look(&mut client, NOTHING_MORE).await)), "127.0.0.11:10008");
    leads.store(3, Ordering::SeqCst);
    assert_eq!(names(led(look(&mut client, NOTHING_MORE).await)), "127.0.0.13:10008");
    leads.store(2, Ordering::SeqCst);
    assert_eq!(names(led(look(&mut client, NOTHING_MORE).await)), "127.0.0.12:10008", "itself");
    assert_eq!(names(led(once(&[&node(1, 1)], NOTHING_MORE).await)), "127.0.0.11:10008", "asked directly");
}

#[tokio::test]
async fn a_follower_and_the_leader_that_it_relays_to_are_two_of_three() {
    let (alone, gone) = (follower(2, 1), Server::start(|_| Reply::Close));
    assert_eq!(led(once(&[&alone, &gone, &gone], BACKING).await).backing, Backing::Majority);
    assert_eq!(led(once(&[&alone], BACKING).await).backing, Backing::Majority);
    let five = |me: u8| {
        Server::start(move |request| match request.path.as_str() {
            "/api/raft-status" => {
                let Reply::Json(_, body) = raft_status(me, 1) else { unreachable!() };
                Reply::ok(body.replace("\"Peers\":[", "\"Peers\":[\"127.0.0.14:10008\",\"127.0.0.15:10008\","))
            }
            path => relays(me, 1, path),
        })
    };
    let (two, three) = (five(2), five(3));
    assert_eq!(led(once(&[&two], BACKING).await).backing, Backing::Single, "the only address there is");
    assert_eq!(led(once(&[&two, &gone, &gone], BACKING).await).backing, Backing::Unconfirmed);
    assert_eq!(led(once(&[&two, &three, &gone], BACKING).await).backing, Backing::Majority);
}

#[tokio::test]
async fn a_relay_without_a_leader_behind_it_was_not_reached() {
    // Right after a leader is killed its followers still name it (facts §8).
    let names_a_dead_one = |path: &str| match path {
        "/api/routed-leader-check" | "/api/downtimed" => Reply::Json(502, String::new()),
        path => relays(2, 1, path),
    };
    let server = Server::start(move |request| names_a_dead_one(&request.path));
    let why = silent(once(&[&server], NOTHING_MORE).await);
    assert!(why.contains("502"), "{why}");
    // It knows no leader any more: its own lists are stale.
    let cut_off = follower(2, 0);
    silent(once(&[&cut_off], NOTHING_MORE).await);
    assert!(!cut_off.asked().iter().any(|asked| asked.contains("downtimed")), "{:?}", cut_off.asked());
}

#[tokio::test]
async fn i8_an_answer_does_not_count_if_the_relay_or_the_leader_is_another_after_it() {
    for lost in ["routed-leader-check", "raft-status"] {
        let asked = AtomicUsize::new(0);
        let server = Server::start(move |request| {
            let is_lost = request.path.ends_with(lost) && asked.fetch_add(1, Ordering::SeqCst) > 0;
            relays(
                2,
                if !is_lost {
                    1
                } else if lost == "raft-status" {
                    3
                } else {
                    0
                },
                &request.path,
            )
        });
        silent(once(&[&server], NOTHING_MORE).await);
        assert!(server.asked().iter().any(|asked| asked.contains("downtimed")), "{lost}: control");
    }
}

#[tokio::test]
async fn a_leader_that_hangs_behind_its_followers_costs_no_more_than_a_second() {
    let hangs = |me: u8| {
        Server::start(move |request| match request.path.as_str() {
            "/api/routed-leader-check" => Reply::Hang,
            path => relays(me, 1, path),
        })
    };
    let start = Instant::now();
    let why = silent(once(&[&hangs(2), &hangs(3)], NOTHING_MORE).await);
    assert!(why.contains("did not"), "{why}");
    assert!(start.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_balancer_that_sends_each_request_to_another_node_is_a_way_to_the_leader() {
    let nth = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        let me = 1 + (nth.fetch_add(1, Ordering::SeqCst) % 3) as u8;
        relays(me, 1, &request.path)
    });
    let mut client = client(&[&server]);
    for _ in 0..6 {
        let answer = led(look(&mut client, ALL).await);
        assert_eq!(answer.leader, "127.0.0.11:10008");
        assert!(answer.instances.is_some() && answer.history.is_some(), "{:?}", answer.skipped);
    }
}

#[tokio::test]
async fn a_kept_connection_that_ends_at_a_node_that_led_before_is_made_anew() {
    // An old one that can't relay, and an address that leads to the new leader by now.
    let deposed = Arc::new(AtomicBool::new(false));
    let is_deposed = deposed.clone();
    let server = Server::start(move |request| match request.connection {
        0 if is_deposed.load(Ordering::SeqCst) => well(1, 0, &request.path),
        0 => well(1, 1, &request.path),
        _ => well(2, 2, &request.path),
    });
    let mut client = client(&[&server]);
    led(look(&mut client, NOTHING_MORE).await);
    deposed.store(true, Ordering::SeqCst);
    assert_eq!(led(look(&mut client, NOTHING_MORE).await).leader, "127.0.0.12:10008");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn i9_a_leader_whose_answer_can_not_be_used_is_blind_though_a_follower_relays_to_it() {
    let garbled = leader_but("/api/downtimed", || Reply::ok("garbage"));
    blind(once(&[&garbled, &follower(2, 1)], NOTHING_MORE).await);
    led(once(&[&node(1, 1), &follower(2, 1)], NOTHING_MORE).await);
}
