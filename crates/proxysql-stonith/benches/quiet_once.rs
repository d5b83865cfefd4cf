//! What a quiet `run --once` costs, as ProxySQL's scheduler starts it: the whole process, beside that of a bare client
//! doing the same round trips.
//!
//! `cargo bench --bench quiet_once`: on the lab, and on the real programs where they are found. `STONITH_BIN` names another
//! build of the program, such as a package's.

#[allow(dead_code, unused_imports)] // the tests use the rest
#[path = "../tests/real/world/mod.rs"]
mod world;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::nodes::Nodes;
use lab::{orchestrator, proxysql};
use mysql_async::prelude::Queryable;

const RUNS: usize = 100;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().position(|arg| arg == "--bare") {
        Some(at) => bare(&args[at + 1], &args[at + 2]),
        None => measure(),
    }
}

/// How to reach one set-up.
struct Place {
    name: &'static str,
    program: Vec<String>,
    proxysql: String,
    endpoints: Vec<String>,
}

fn measure() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let (orchestrator, proxysql) = runtime.block_on(async {
        let nodes = Nodes::new(&["node01", "node02", "node03"]);
        let orchestrator = orchestrator::Orchestrator::start(nodes.clone(), Default::default()).await.expect("the lab");
        let proxysql = proxysql::ProxySql::start(nodes, Default::default()).await.expect("the lab");
        for sql in [
            "INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (10,'node01'),(20,'node02'),(20,'node03')",
            "LOAD MYSQL SERVERS TO RUNTIME",
            "SAVE MYSQL SERVERS TO DISK",
        ] {
            proxysql.query(sql).expect("a row");
        }
        (orchestrator, proxysql)
    });
    let secret = dir.path().join("admin.cnf");
    std::fs::write(&secret, "[client]\nuser=radmin\npassword=radmin\n").expect("a file");
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its mode");
    let place = Place {
        name: "the lab",
        program: vec![
            "run".to_owned(),
            "--once".to_owned(),
            format!("--orchestrator={}", orchestrator.endpoints().join(",")),
            format!("--proxysql={}", proxysql.address()),
            format!("--defaults-file={}", secret.display()),
            format!("--state-dir={}", dir.path().join("state").display()),
        ],
        proxysql: proxysql.address().to_string(),
        endpoints: orchestrator.endpoints(),
    };
    run(&place);
    let (statements, requests) = (proxysql.statements().len(), orchestrator.requests().len());
    run(&place);
    let script = dir.path().join("round-trips");
    let mut text = String::new();
    for sql in &proxysql.statements()[statements..] {
        text.push_str(&format!("sql {sql}\n"));
    }
    for path in &orchestrator.requests()[requests..] {
        text.push_str(&format!("http {path}\n"));
    }
    std::fs::write(&script, &text).expect("a file");
    println!("a quiet tick: {} statements, {} requests", text.matches("sql ").count(), text.matches("http ").count());
    compare(&place, &script);
    drop((orchestrator, proxysql));

    let Some(binaries) = world::Binaries::find() else { return };
    let world = world::World::start(binaries);
    let program = world.proxy.stonith(&["run", "--once"]);
    let place = Place {
        name: "the real programs",
        program: program.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect(),
        proxysql: format!("{}:{}", world.proxy.address(), world.proxy.admin_port),
        endpoints: world.raft.endpoints(),
    };
    compare(&place, &script);
}

fn compare(place: &Place, script: &std::path::Path) {
    for _ in 0..3 {
        run(place);
    }
    let program = median(|| run(place));
    let client = median(|| {
        let me = std::env::current_exe().expect("this program");
        let target = format!("{} {}", place.proxysql, place.endpoints.join(" "));
        let done = Command::new(me).arg("--bare").arg(script).arg(target).stdout(Stdio::null()).status();
        assert!(done.expect("the bare client").success());
    });
    let ratio = program.as_secs_f64() / client.as_secs_f64();
    println!("{}: run --once {program:.1?}, bare client {client:.1?}: {ratio:.1} times", place.name);
}

/// `run --once`; it must be quiet.
fn run(place: &Place) {
    let program = std::env::var("STONITH_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_proxysql-stonith").into());
    let done = Command::new(program).env_clear().args(&place.program).output();
    let done = done.expect("the program");
    assert!(done.status.success() && done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn median(mut once: impl FnMut()) -> Duration {
    let mut took: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let began = Instant::now();
            once();
            began.elapsed()
        })
        .collect();
    took.sort();
    took[RUNS / 2]
}

/// The same round trips without a thought: one connection each, one request after the other.
fn bare(script: &str, target: &str) {
    let script = std::fs::read_to_string(script).expect("the round trips");
    let mut target = target.split(' ');
    let (host, port) = target.next().and_then(|address| address.split_once(':')).expect("an address");
    let endpoints: Vec<&str> = target.map(|endpoint| endpoint.trim_start_matches("http://")).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let opts = mysql_async::OptsBuilder::default()
            .ip_or_hostname(host)
            .tcp_port(port.parse().expect("a port"))
            .user(Some("radmin"))
            .pass(Some("radmin"))
            .prefer_socket(false)
            .max_allowed_packet(Some(1 << 20))
            .wait_timeout(Some(100))
            .stmt_cache_size(0);
        let mut admin = mysql_async::Conn::new(opts).await.expect("the admin interface");
        for sql in script.lines().filter_map(|line| line.strip_prefix("sql ")) {
            let _rows: Vec<mysql_async::Row> = admin.query(sql).await.expect("an answer");
        }
        admin.disconnect().await.expect("a goodbye");
    });
    let mut leader = None;
    for endpoint in &endpoints {
        let mut stream = TcpStream::connect(endpoint).expect("Orchestrator");
        if request(&mut stream, "leader-check").starts_with("HTTP/1.1 200") {
            leader = Some(stream);
        }
    }
    let mut leader = leader.expect("a leader");
    for path in script.lines().filter_map(|line| line.strip_prefix("http ")).skip(endpoints.len()) {
        request(&mut leader, path);
    }
}

fn request(stream: &mut TcpStream, path: &str) -> String {
    stream.write_all(format!("GET /api/{path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).expect("a request");
    let mut answer = Vec::new();
    let mut block = [0; 16384];
    loop {
        let read = stream.read(&mut block).expect("an answer");
        answer.extend(&block[..read]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let complete = match length {
            Some(length) => body.len() >= length.parse().expect("a length"),
            None => body.ends_with("0\r\n\r\n"),
        };
        if complete || read == 0 {
            return text.into_owned();
        }
    }
}
