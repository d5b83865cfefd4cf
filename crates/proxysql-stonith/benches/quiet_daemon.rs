//! What a quiet daemon costs that ticks each second and answers HTTP: CPU and memory, for one ProxySQL and for a hundred.
//!
//! `cargo bench --bench quiet_daemon`: on the lab. `STONITH_BIN` names another build of the program, such as a package's.
//! It also says how often the loops ticked: on a busy machine they are late, and then they cost less.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lab::nodes::Nodes;
use lab::{orchestrator, proxysql};

/// How long is measured, after as long to settle.
const MEASURED: Duration = Duration::from_secs(30);

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    for (proxies, nodes) in [(1, 5), (100, 10), (100, 1_000)] {
        runtime.block_on(measure(proxies, nodes));
    }
}

/// Starts as many ProxySQLs that have all nodes, and one daemon for them.
async fn measure(proxies: usize, nodes: usize) {
    let names: Vec<String> = (1..=nodes).map(|n| format!("node{n:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let all = Nodes::new(&names);
    let orchestrator = orchestrator::Orchestrator::start(all.clone(), Default::default()).await.expect("the lab");
    let (primary, replicas) = names.split_first().expect("a node");
    let replicas: Vec<String> = replicas.iter().map(|name| format!("(20,'{name}')")).collect();
    let mut started = Vec::new();
    for _ in 0..proxies {
        // The monitor of the lab would need the CPU that is measured.
        let settings = proxysql::Settings { monitor_interval: Duration::from_secs(3_600), ..Default::default() };
        let proxysql = proxysql::ProxySql::start(all.clone(), settings).await.expect("the lab");
        let rows = format!("(10,'{primary}'),{}", replicas.join(","));
        for sql in [
            &format!("INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES {rows}"),
            "LOAD MYSQL SERVERS TO RUNTIME",
            "SAVE MYSQL SERVERS TO DISK",
        ] {
            proxysql.query(sql).expect("a row");
        }
        started.push(proxysql);
    }
    let dir = tempfile::tempdir().expect("a directory");
    let addresses: Vec<String> = started.iter().map(|proxysql| proxysql.address().to_string()).collect();
    let http = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let mut daemon = daemon(dir.path(), &addresses, &orchestrator.endpoints(), http);
    tokio::time::sleep(MEASURED).await;
    let (ticks, before, began) = (ticks(http), cpu_s(&daemon), Instant::now());
    tokio::time::sleep(MEASURED).await;
    let took_s = began.elapsed().as_secs_f64();
    let share = (cpu_s(&daemon) - before) / took_s * 100.0;
    let mib = rss_kib(&daemon) as f64 / 1024.0;
    let rate = (self::ticks(http) - ticks) / took_s;
    println!(
        "{proxies} ProxySQLs with {nodes} rows each: {share:.2} % of a core, {mib:.1} MB RSS, {rate:.1} ticks each second"
    );
    daemon.kill().expect("its end");
    daemon.wait().expect("its end");
}

/// The ticks of all loops so far.
fn ticks(http: SocketAddr) -> f64 {
    let mut stream = TcpStream::connect(http).expect("the daemon's HTTP");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let of_ticks = text.lines().filter(|line| line.starts_with("proxysql_stonith_ticks_total{"));
    of_ticks.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn daemon(dir: &Path, proxies: &[String], endpoints: &[String], http: SocketAddr) -> Child {
    let secret = dir.join("admin.cnf");
    fs::write(&secret, "[client]\nuser=radmin\npassword=radmin\n").expect("a file");
    fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).expect("its mode");
    let program = std::env::var("STONITH_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_proxysql-stonith").into());
    Command::new(program)
        .env_clear()
        .args(["run", "--interval=1s"])
        .arg(format!("--http={http}"))
        .arg(format!("--orchestrator={}", endpoints.join(",")))
        .arg(format!("--proxysql={}", proxies.join(",")))
        .arg(format!("--defaults-file={}", secret.display()))
        .arg(format!("--state-dir={}", dir.join("state").display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program")
}

/// User and system time, in s: fields 14 and 15, in hundredths of a second.
fn cpu_s(process: &Child) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.id())).expect("it lives");
    let fields = stat.rsplit_once(')').expect("a name").1.split_whitespace().skip(11).take(2);
    fields.map(|field| field.parse::<f64>().expect("a number")).sum::<f64>() / 100.0
}

fn rss_kib(process: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    line.expect("its memory").parse().expect("a number")
}
