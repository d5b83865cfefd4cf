//! What a tick asks, which answers count, and what hung or slow endpoints cost (I8).

use crate::client::*;

#[tokio::test]
async fn i8_a_tick_is_leader_check_answer_leader_check_on_one_connection_and_so_is_the_next() {
    let server = node(1, 1);
    let mut client = client(&[&server]);
    let answer = led(look(&mut client, NOTHING_MORE).await);
    assert_eq!((answer.leader.as_str(), answer.asked_ms, answer.date_s), ("127.0.0.11:10008", 42, DATE_S));
    assert_eq!((answer.downtimes.len(), answer.history, answer.instances), (1, None, None));
    led(look(&mut client, NOTHING_MORE).await);
    let tick = ["0 /api/leader-check", "0 /api/downtimed", "0 /api/leader-check"];
    let its_name = ["0 /api/raft-status", "0 /api/leader-check"];
    assert_eq!(server.asked(), [&tick[..], &its_name, &tick].concat(), "who leads is asked once for a connection");
}

#[tokio::test]
async fn all_that_a_decision_wants_is_asked_between_two_checks_and_nothing_of_the_others() {
    let (one, two) = (node(1, 1), node(2, 1));
    let answer = led(once(&[&one, &two], ALL).await);
    assert_eq!(answer.history.unwrap().records.len(), 1);
    assert_eq!(answer.instances.unwrap().len(), 6);
    let between = ["downtimed", "raft-status", "all-instances", "audit-recovery/0"];
    let paths = between.iter().flat_map(|path| ["leader-check", path]).chain(["leader-check"]);
    assert_eq!(one.asked(), paths.map(|path| format!("0 /api/{path}")).collect::<Vec<_>>());
    assert_eq!(two.asked(), ["0 /api/leader-check", "0 /api/raft-status"]);
}

#[tokio::test]
async fn a_url_prefix_and_api_may_be_there_or_not() {
    for (suffix, prefix) in [("", ""), ("/", ""), ("/api", ""), ("/api/", ""), ("/orc", "/orc"), ("/orc/api/", "/orc")]
    {
        let server = Server::start(move |request| match request.path.strip_prefix(prefix) {
            Some(path) => well(1, 1, path),
            None => not_found(),
        });
        let mut client = Client::new(settings(&[format!("{}{suffix}", server.url())])).unwrap();
        led(look(&mut client, NOTHING_MORE).await);
        assert_eq!(server.asked()[0], format!("0 {prefix}/api/leader-check"), "{suffix}");
    }
}

#[tokio::test]
async fn i9_a_wrong_url_prefix_is_blind_not_a_follower() {
    let server = node(1, 1);
    let mut client = Client::new(settings(&[format!("{}/typo", server.url())])).unwrap();
    let why = blind(look(&mut client, NOTHING_MORE).await);
    assert!(why.contains("/typo/api/leader-check with 404") && why.contains("URL prefix"), "{why}");
}

#[tokio::test]
async fn i8_an_answer_does_not_count_if_the_lead_is_lost_before_the_closing_check() {
    let checks = AtomicUsize::new(0);
    let server = Server::start(move |request| match request.path.as_str() {
        "/api/leader-check" if checks.fetch_add(1, Ordering::SeqCst) == 0 => well(1, 1, &request.path),
        "/api/leader-check" => well(1, 2, &request.path),
        path => well(1, 1, path),
    });
    let why = silent(once(&[&server], NOTHING_MORE).await);
    assert!(why.contains("does not lead"), "{why}");
}

#[tokio::test]
async fn two_endpoints_that_both_pass_leader_check_are_a_conflict() {
    let (one, two, three) = (node(1, 1), node(2, 2), node(3, 1));
    match once(&[&one, &two, &three], NOTHING_MORE).await {
        LeaderView::Conflict(cause) => {
            let why = cause.to_string();
            assert!(why.contains(&one.url()) && why.contains(&two.url()) && !why.contains(&three.url()), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(one.asked(), ["0 /api/leader-check"], "it was believed");
}

#[tokio::test]
async fn a_second_leader_that_is_heard_only_while_the_raft_is_asked_is_a_conflict_too() {
    let one = node(1, 1);
    let late = || Reply::After(Duration::from_millis(250), Box::new(well(2, 2, "/api/leader-check")));
    let two = leader_but("/api/leader-check", late);
    let view = once(&[&one, &two], BACKING).await;
    assert!(matches!(view, LeaderView::Conflict(_)), "{view:?}");
}

#[tokio::test]
async fn a_connection_that_went_stale_between_ticks_is_made_anew_and_nothing_is_lost() {
    let server = node(1, 1);
    let mut client = client(&[&server]);
    led(look(&mut client, NOTHING_MORE).await);
    server.close_connections();
    led(look(&mut client, NOTHING_MORE).await);
    let tick = ["leader-check", "downtimed", "leader-check", "raft-status", "leader-check"];
    assert_eq!(server.asked(), [tick.map(|p| format!("0 /api/{p}")), tick.map(|p| format!("1 /api/{p}"))].concat());
}

#[tokio::test]
async fn a_server_that_closes_every_connection_at_once_is_tried_once_on_each_tick_and_silent() {
    let server = Server::start(|_| Reply::Close);
    let mut client = client(&[&server]);
    for tick in 1..=2 {
        let why = silent(look(&mut client, NOTHING_MORE).await);
        assert!(why.contains("the connection broke"), "{why}");
        assert_eq!(server.connections(), tick);
    }
}

#[tokio::test]
async fn nobody_listening_is_silent_and_says_where() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut client = Client::new(settings(&[format!("http://{free}")])).unwrap();
    let why = silent(look(&mut client, NOTHING_MORE).await);
    assert!(why.contains(&format!("http://{free} was not reached")) && why.contains("refused"), "{why}");
}

#[tokio::test]
async fn a_hung_endpoint_costs_hardly_anything_once_another_leads() {
    let (well, hung) = (node(1, 1), hung());
    let mut client = client(&[&hung, &well]);
    for _ in 0..3 {
        let start = Instant::now();
        led(look(&mut client, NOTHING_MORE).await);
        assert!(start.elapsed() < SLACK, "{:?}", start.elapsed());
    }
    assert_eq!(hung.asked(), ["0 /api/leader-check"], "asked again while it still owed an answer");
}

#[tokio::test]
async fn a_hung_endpoint_costs_its_deadline_once_and_in_the_next_tick_no_more_than_the_grace() {
    let (follower, hung) = (node(2, 1), hung());
    let mut client = client(&[&hung, &follower]);
    let start = Instant::now();
    let why = silent(look(&mut client, NOTHING_MORE).await);
    assert!(why.contains("did not answer /api/leader-check within 1s"), "{why}");
    assert!(start.elapsed() >= Duration::from_secs(1), "it was not waited for: {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_millis(1_500) + SLACK, "{:?}", start.elapsed());
    let start = Instant::now();
    silent(look(&mut client, NOTHING_MORE).await);
    assert!(start.elapsed() < SLACK, "{:?}", start.elapsed());
}

/// Hangs at its first leader-check. Its second answer takes longer than an endpoint that hung is waited for.
fn hung_then_late(late: impl Fn() -> Reply + Send + Sync + 'static) -> Server {
    let asked = AtomicUsize::new(0);
    Server::start(move |request| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Hang,
        1 => Reply::After(Duration::from_millis(200), Box::new(late())),
        _ => well(1, 1, &request.path),
    })
}

/// Two ticks that end before the endpoint's answer is there. Returns once the client has it.
async fn two_ticks_too_early(client: &mut Client, server: &Server) {
    for _ in 0..2 {
        silent(look(client, NOTHING_MORE).await);
    }
    let until = Instant::now() + Duration::from_secs(5);
    while server.written() == 0 {
        assert!(Instant::now() < until, "the late answer is not written");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The request's own task reads what was written.
    tokio::time::sleep(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn an_endpoint_that_was_hung_and_answers_again_is_heard_again() {
    let server = hung_then_late(|| well(1, 1, "/api/leader-check"));
    let mut client = client(&[&server]);
    two_ticks_too_early(&mut client, &server).await;
    led(look(&mut client, NOTHING_MORE).await);
}

#[tokio::test]
async fn an_answer_that_came_after_its_tick_is_too_old_to_count() {
    let server = hung_then_late(|| well(1, 2, "/api/leader-check"));
    let mut client = client(&[&server]);
    two_ticks_too_early(&mut client, &server).await;
    led(look(&mut client, NOTHING_MORE).await);
}

#[tokio::test]
async fn an_endpoint_that_failed_at_once_is_waited_for_in_the_next_tick() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |request| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Close,
        _ => Reply::After(Duration::from_millis(200), Box::new(well(1, 1, &request.path))),
    });
    let mut client = client(&[&server]);
    silent(look(&mut client, NOTHING_MORE).await);
    led(look(&mut client, NOTHING_MORE).await);
}

#[tokio::test]
async fn a_connect_that_never_completes_costs_no_more_than_connect_timeout() {
    // Linux drops the SYN where the backlog is full.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut fillers = Vec::new();
    let mut is_full = false;
    for _ in 0..8 {
        let connecting = tokio::net::TcpStream::connect(address);
        match tokio::time::timeout(Duration::from_millis(100), connecting).await {
            Ok(stream) => fillers.push(stream.unwrap()),
            Err(_) => is_full = true,
        }
    }
    assert!(is_full, "the backlog takes all");
    let mut client = Client::new(settings(&[format!("http://{address}")])).unwrap();
    let start = Instant::now();
    let why = silent(look(&mut client, NOTHING_MORE).await);
    assert!(why.contains("did not take a connection within 500ms"), "{why}");
    assert!(start.elapsed() < Duration::from_millis(500) + SLACK, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_follower_slower_than_the_grace_keeps_its_connection_and_still_counts() {
    let (one, three) = (node(1, 1), hung());
    let two = Server::start(|request| Reply::After(Duration::from_millis(180), Box::new(well(2, 1, &request.path))));
    let mut client = client(&[&one, &two, &three]);
    for _ in 0..3 {
        assert_eq!(led(look(&mut client, BACKING).await).backing, Backing::Majority);
    }
    assert_eq!(two.connections(), 1);
}

/// An answer tells how things were at some moment after it was asked for: a lease that counts from later is too long.
#[tokio::test]
async fn an_answer_is_as_old_as_its_first_question() {
    let clock = Arc::new(AtomicUsize::new(1));
    let passes = clock.clone();
    let server = Server::start(move |request| {
        passes.fetch_add(100, Ordering::SeqCst);
        well(1, 1, &request.path)
    });
    let now_ms = || clock.load(Ordering::SeqCst) as u64;
    let mut client = client(&[&server]);
    let answer = led(client.look(now_ms, |_, _| ALL, &HistoryProgress::default()).await);
    assert_eq!(answer.asked_ms, 1);
    assert!(now_ms() > 300, "control: time passed while it was asked");
}
