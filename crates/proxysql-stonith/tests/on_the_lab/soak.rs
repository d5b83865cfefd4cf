//! A daemon under work for a long time: memory, file descriptors and connections stay flat.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::stage::{Daemon, Stage, eventually_in};

/// The time between two ticks. The config allows 100 ms at least, so a client wakes the daemon.
const TICK: Duration = Duration::from_millis(10);

/// What a round may add to the highest memory of the rounds before it, in KiB. A page here and there is no leak.
const SLACK_KIB: u64 = 1_024;

/// What the daemon holds at a moment at which nothing happens.
#[derive(Debug, Clone, Copy)]
struct Held {
    rss_kib: u64,
    descriptors: usize,
    sockets: usize,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes half an hour: .ci/nightly runs it alone"]
async fn a_daemon_that_ticks_each_10_ms_for_half_an_hour_holds_no_more_at_its_end() {
    let seconds = std::env::var("SOAK_SECONDS").map_or(1_800, |text| text.parse().expect("a number of seconds"));
    let stage = Stage::set().await;
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let token = stage.dir.path().join("token");
    std::fs::write(&token, "sesame-token\n").unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let config = stage.config(&format!("http.token_file = {token:?}\n"));
    let daemon = Daemon::start(stage.command(&format!("run --interval=100ms --http={address} {config}")));
    eventually_in(20, "it listens", || TcpStream::connect(address).is_ok()).await;
    let until = Instant::now() + Duration::from_secs(seconds);
    let waking = tokio::task::spawn_blocking(move || wake_until(address, until));

    let mut held: Vec<Held> = Vec::new();
    let (mut old, mut new) = ("node01", "node02");
    while Instant::now() < until {
        stage.nodes.kill(old);
        stage.orchestrator.fail_over(old, Some(new));
        eventually_in(20, "the old primary is fenced", || stage.is_fenced(old)).await;
        stage.nodes.start(old);
        stage.nodes.make_replica(old, new);
        stage.orchestrator.end_downtime(old);
        let back = format!("20/{old}:ONLINE");
        eventually_in(20, "the repaired node is back", || stage.runtime().contains(&back)).await;
        let leader = stage.orchestrator.leader().expect("a leader");
        stage.orchestrator.kill_leader(Duration::from_millis(200)).await;
        stage.orchestrator.start_member(leader);
        stage.proxysql.kill();
        stage.proxysql.restart().await.unwrap();
        daemon.signal("-HUP");
        stage.orchestrator.purge_history();
        let before = ticks(address);
        eventually_in(20, "it ticks after all that", || ticks(address) > before + 200).await;
        held.push(daemon.held());
        (old, new) = (new, old);
    }
    let woken = waking.await.unwrap();
    let ticks = ticks(address);
    let third = held.len() / 3;
    let most = |part: &[Held]| {
        let most = |of: fn(&Held) -> u64| part.iter().map(of).max().expect("a round");
        (most(|held| held.rss_kib), most(|held| held.descriptors as u64), most(|held| held.sockets as u64))
    };
    assert!(third > 0, "{} rounds are too few to compare", held.len());
    let (first, last) = (most(&held[third..2 * third]), most(&held[2 * third..]));
    let (cpu_s, _) = daemon.used();
    println!(
        "--- {ticks} ticks in {seconds} s ({woken} wake-ups), {} failovers, repairs, leader changes, restarts of ProxySQL and \
         SIGHUPs; {cpu_s:.1} s of CPU\n--- most of (KiB RSS, descriptors, sockets): {:?} in the first third, {first:?} in the \
         second, {last:?} in the last",
        held.len(),
        most(&held[..third]),
    );
    assert!(last.0 <= first.0 + SLACK_KIB, "memory grows: {first:?} {last:?}");
    assert!(last.1 <= first.1 && last.2 <= first.2, "descriptors or connections grow: {first:?} {last:?}");
    daemon.signal("-TERM");
    assert_eq!(daemon.ended().await, Some(0));
}

impl Daemon {
    fn held(&self) -> Held {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap();
        let targets: Vec<_> = open.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok()).collect();
        let sockets = targets.iter().filter(|target| target.to_string_lossy().starts_with("socket:")).count();
        Held { rss_kib: self.used().1, descriptors: targets.len(), sockets }
    }
}

/// Wakes the daemon every [`TICK`], and reads its metrics once a second. Returns how often it woke it.
fn wake_until(address: SocketAddr, until: Instant) -> u64 {
    let connect = || BufReader::new(TcpStream::connect(address).unwrap());
    let (mut stream, mut woken) = (connect(), 0);
    while Instant::now() < until {
        let wake =
            "POST /v1/wake HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sesame-token\r\nContent-Length: 0\r\n\r\n";
        let metrics = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
        let (request, well) = if woken % 100 == 99 { (metrics, 200) } else { (wake, 202) };
        match ask(&mut stream, request) {
            Ok((status, _)) => assert_eq!(status, well),
            Err(_) => stream = connect(), // the daemon ends a connection after two minutes
        }
        woken += 1;
        std::thread::sleep(TICK);
    }
    woken
}

/// One request over a connection that stays. Returns the status and the body.
fn ask(stream: &mut BufReader<TcpStream>, request: &str) -> std::io::Result<(u16, String)> {
    stream.get_mut().write_all(request.as_bytes())?;
    let (mut status, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        match line.trim_end().split_once(' ') {
            Some((version, rest)) if version.starts_with("HTTP/") => status = Some(rest[..3].parse().unwrap()),
            Some((name, value)) if name.eq_ignore_ascii_case("content-length:") => length = value.parse().unwrap(),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let status = status.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok((status, String::from_utf8(body).unwrap()))
}

/// How many ticks there were.
fn ticks(address: SocketAddr) -> u64 {
    let mut stream = BufReader::new(TcpStream::connect(address).unwrap());
    let (_, text) = ask(&mut stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let of_result = text.lines().filter(|line| line.starts_with("proxysql_stonith_ticks_total{"));
    of_result.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}
