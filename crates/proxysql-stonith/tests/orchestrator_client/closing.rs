//! Connections that are closed by the server: after each answer, after some, between ticks (I8). An answered request is
//! never silence.

use crate::client::*;

/// Node 1 of three leads and closes each connection after so many answers, saying so with the last one or not.
fn closes_after(answers: usize, says: bool) -> Server {
    let given = std::sync::Mutex::new(std::collections::HashMap::new());
    Server::start(move |request| {
        let mut given = given.lock().unwrap();
        let nth: &mut usize = given.entry(request.connection).or_default();
        *nth += 1;
        let reply = well(1, 1, &request.path);
        if *nth == answers { reply.then_close(says) } else { reply }
    })
}

#[tokio::test]
async fn a_server_that_closes_after_some_answers_is_led_and_all_that_is_wanted_is_answered() {
    for answers in [3, 4, 5, 7, 100] {
        for says in [true, false] {
            let server = closes_after(answers, says);
            let mut client = client(&[&server]);
            let mut leaders = std::collections::BTreeSet::new();
            for _ in 0..10 {
                let answer = led(look(&mut client, ALL).await);
                assert_eq!(answer.skipped, [], "{answers} {says}");
                assert!(answer.instances.is_some() && answer.history.is_some(), "{answers} {says}");
                assert_eq!(answer.backing, Backing::Single);
                leaders.insert(answer.leader);
            }
            assert_eq!(leaders.len(), 1, "{answers} {says}: it would never be steady: {leaders:?}");
        }
    }
}

#[tokio::test]
async fn i8_without_two_checks_on_one_connection_it_is_blind_and_says_what_to_switch_on() {
    for answers in [1, 2] {
        for says in [true, false] {
            let server = closes_after(answers, says);
            let why = blind(once(&[&server], NOTHING_MORE).await);
            assert!(why.contains(&server.url()) && why.contains("keep-alive"), "{why}");
            assert!(why.contains(&format!("after {answers} answers")), "{why}");
            assert_eq!(server.connections(), 2, "asked again once");
        }
    }
    let answer = "HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\n\"OK\"";
    let old = leader_but("/api/leader-check", move || Reply::bytes(answer));
    let why = blind(once(&[&old], NOTHING_MORE).await);
    assert!(why.contains("keep-alive"), "{why}");
    let answer = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\n\"OK\"";
    let old = leader_but("/api/leader-check", move || Reply::bytes(answer));
    led(once(&[&old], NOTHING_MORE).await);
    assert_eq!(old.connections(), 1, "it keeps connections, and says so");
}

#[tokio::test]
async fn what_a_new_connection_answers_counts_by_itself() {
    let server = Server::start(|request| match request.path.as_str() {
        "/api/downtimed" if request.connection == 0 => Reply::Close,
        "/api/downtimed" => Reply::Json(502, String::new()),
        path => well(1, 1, path),
    });
    let why = silent(once(&[&server], NOTHING_MORE).await);
    assert!(why.contains("502"), "{why}");
}

#[tokio::test]
async fn a_connection_is_kept_after_an_answer_that_is_of_no_use_and_not_after_one_that_is_not_whole() {
    for (reply, connections) in [
        (&(|| error_500("no")) as &'static (dyn Fn() -> Reply + Send + Sync), 1),
        (&|| Reply::bytes("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n[]"), 2),
    ] {
        let server = leader_but("/api/downtimed", reply);
        let mut client = client(&[&server]);
        for _ in 0..2 {
            blind(look(&mut client, NOTHING_MORE).await);
        }
        assert_eq!(server.connections(), connections);
    }
}

#[tokio::test]
async fn i8_what_came_on_a_closed_connection_is_asked_again_and_not_put_together() {
    let checks = AtomicUsize::new(0);
    let server = Server::start(move |request| match request.path.as_str() {
        "/api/downtimed" if request.connection == 0 => well(1, 1, "/api/downtimed").then_close(false),
        "/api/downtimed" => Reply::ok("[]"),
        "/api/leader-check" => {
            checks.fetch_add(1, Ordering::SeqCst);
            well(1, 1, "/api/leader-check")
        }
        path => well(1, 1, path),
    });
    assert_eq!(led(once(&[&server], NOTHING_MORE).await).downtimes, []);
    let again = ["0 /api/leader-check", "0 /api/downtimed", "1 /api/leader-check", "1 /api/downtimed"];
    assert_eq!(server.asked()[..4], again);
}

#[tokio::test]
async fn one_that_dies_while_it_answers_is_silent() {
    let server = leader_but("/api/downtimed", || Reply::Close);
    let again = Arc::new(AtomicBool::new(false));
    let is_dead = again.clone();
    let dies = Server::start(move |request| match request.path.as_str() {
        _ if is_dead.load(Ordering::SeqCst) => Reply::Close,
        "/api/downtimed" => {
            is_dead.store(true, Ordering::SeqCst);
            Reply::Close
        }
        path => well(1, 1, path),
    });
    silent(once(&[&dies], NOTHING_MORE).await);
    assert!(again.load(Ordering::SeqCst));
    // Control: one that goes on answering leader-check is no silence.
    blind(once(&[&server], NOTHING_MORE).await);
}

#[tokio::test]
async fn i1_an_answer_that_is_cut_off_is_blind_and_not_said_to_be_too_long() {
    let server = Server::start(|request| match request.path.as_str() {
        "/api/downtimed" => Reply::BytesThenClose(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n[".to_vec()),
        path => well(1, 1, path),
    });
    let why = blind(once(&[&server], NOTHING_MORE).await);
    assert!(why.contains("before message length reached") && !why.contains("more than"), "{why}");
}
