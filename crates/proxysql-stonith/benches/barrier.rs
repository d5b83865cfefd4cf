//! What the barrier costs a failover: the time of `hook pre-failover` where every ProxySQL is fenced, by agents or by the hook
//! itself. The lab stands for ProxySQL and Orchestrator, in this process.
//!
//! `cargo bench --bench barrier`

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lab::nodes::Nodes;
use lab::orchestrator::Orchestrator;
use lab::proxysql::{self, ProxySql};

/// A process that ends with this one.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Who fences how many ProxySQLs.
#[derive(Debug, Clone, Copy)]
struct Case {
    agents: usize,
    /// So many ProxySQLs each.
    of_each: usize,
    /// ProxySQLs that the hook fences itself.
    of_hook: usize,
    runs: usize,
    goal_ms: u64,
}

const CASES: [Case; 7] = [
    Case { agents: 1, of_each: 1, of_hook: 0, runs: 9, goal_ms: 300 },
    Case { agents: 3, of_each: 1, of_hook: 0, runs: 9, goal_ms: 300 },
    Case { agents: 0, of_each: 0, of_hook: 3, runs: 9, goal_ms: 300 },
    Case { agents: 10, of_each: 1, of_hook: 0, runs: 5, goal_ms: 1_000 },
    Case { agents: 10, of_each: 3, of_hook: 0, runs: 5, goal_ms: 1_000 },
    Case { agents: 10, of_each: 10, of_hook: 0, runs: 5, goal_ms: 1_000 },
    Case { agents: 0, of_each: 0, of_hook: 100, runs: 5, goal_ms: 1_000 },
];

/// What one run took: until the hook ended, and of the processors.
#[derive(Debug, Clone, Copy)]
struct Took {
    wall: Duration,
    program: Duration,
    lab: Duration,
}

/// The time that a process has had of the processors, and its children that have ended. The kernel counts in 10 ms.
fn cpu(pid: &str) -> [Duration; 2] {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("its fields").split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("ticks");
    [11, 13].map(|at| Duration::from_millis((ticks(at) + ticks(at + 1)) * 10))
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let only = std::env::var("PROXYSQLS").ok().map(|text| text.parse::<usize>().expect("a number"));
    for case in CASES {
        let proxies = case.agents * case.of_each + case.of_hook;
        if only.is_some_and(|only| only != proxies) {
            continue;
        }
        let mut took: Vec<Took> = (0..case.runs).map(|_| runtime.block_on(hook(case))).collect();
        took.sort_by_key(|took| took.wall);
        let median = took[case.runs / 2];
        println!(
            "{proxies} ProxySQLs, {} agents: median {} ms, from {} to {} ms (goal {} ms); CPU of the median: agents and hook \
             {} ms, lab {} ms",
            case.agents,
            median.wall.as_millis(),
            took[0].wall.as_millis(),
            took[case.runs - 1].wall.as_millis(),
            case.goal_ms,
            median.program.as_millis(),
            median.lab.as_millis(),
        );
    }
}

/// Sets everything up, lets the primary die, and times the hook.
async fn hook(Case { agents, of_each: proxies_each, of_hook, .. }: Case) -> Took {
    let dir = tempfile::tempdir().expect("a directory");
    let nodes = Nodes::new(&["node01", "node02", "node03"]);
    let orchestrator = Orchestrator::start(nodes.clone(), Default::default()).await.expect("the lab");
    let token = dir.path().join("token");
    write(&token, "sesame-token");
    let mut all = Vec::new();
    let mut running = Vec::new();
    for n in 0..agents {
        let mut proxies = Vec::new();
        for _ in 0..proxies_each {
            proxies.push(proxysql(&nodes).await);
        }
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
        let config = config(dir.path(), &format!("agent{n}"), &orchestrator, &proxies, &token);
        let log = fs::File::create(dir.path().join(format!("agent{n}.log"))).expect("a log");
        let daemon = program(&["run", &format!("--http={address}")], &config).stderr(log).spawn().expect("the program");
        running.push(Running(daemon));
        all.push((address, proxies));
    }
    for (address, proxies) in &all {
        let began = Instant::now();
        while armed(*address) < proxies.len() {
            assert!(began.elapsed() < Duration::from_secs(60), "the agents are not armed");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let mut own = Vec::new();
    for _ in 0..of_hook {
        own.push(proxysql(&nodes).await);
    }
    let urls: Vec<String> = all.iter().map(|(address, _)| format!("http://{address}")).collect();
    let hook = dir.path().join("hook.toml");
    write(
        &hook,
        &format!(
            "orchestrator.endpoints = {:?}\nrun.state_dir = {:?}\n[barrier]\nagents = {urls:?}\ntoken_file = {token:?}\n{}",
            orchestrator.endpoints(),
            dir.path().join("hook"),
            sections(&own),
        ),
    );
    nodes.kill("node01");
    let mut command = program(&["hook", "pre-failover"], &hook);
    for (name, value) in [
        ("ORC_FAILED_HOST", "node01"),
        ("ORC_FAILED_PORT", "3306"),
        ("ORC_FAILURE_TYPE", "DeadMaster"),
        ("ORC_RECOVERY_UID", "1750000000000000000:abc"),
    ] {
        command.env(name, value);
    }
    let used = || {
        let [lab, hook] = cpu("self");
        let agents: Duration = running.iter().map(|agent| cpu(&agent.0.id().to_string())[0]).sum();
        (agents + hook, lab)
    };
    let before = used();
    let began = Instant::now();
    let done = tokio::task::spawn_blocking(move || command.stderr(Stdio::piped()).output()).await;
    let wall = began.elapsed();
    let (program, lab) = used();
    let took = Took { wall, program: program - before.0, lab: lab - before.1 };
    let done = done.expect("a thread").expect("the hook");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.contains("every ProxySQL has the fence"), "{said}");
    for proxysql in all.iter().flat_map(|(_, proxies)| proxies).chain(&own) {
        assert!(proxysql.rows().iter().all(|row| row.host != "node01" || row.status == "OFFLINE_SOFT"));
    }
    took
}

async fn proxysql(nodes: &Nodes) -> ProxySql {
    let settings = proxysql::Settings { monitor_interval: Duration::from_secs(1), ..Default::default() };
    let proxysql = ProxySql::start(nodes.clone(), settings).await.expect("the lab");
    for sql in [
        "INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (10,'node01'),(20,'node02'),(20,'node03')",
        "LOAD MYSQL SERVERS TO RUNTIME",
        "SAVE MYSQL SERVERS TO DISK",
    ] {
        proxysql.query(sql).expect("a row");
    }
    proxysql
}

fn config(dir: &Path, name: &str, orchestrator: &Orchestrator, proxies: &[ProxySql], token: &Path) -> PathBuf {
    let proxies = sections(proxies);
    let path = dir.join(format!("{name}.toml"));
    write(
        &path,
        &format!(
            "orchestrator.endpoints = {:?}\nrun.state_dir = {:?}\nhttp.token_file = {token:?}\n{proxies}",
            orchestrator.endpoints(),
            dir.join(name)
        ),
    );
    path
}

fn sections(proxies: &[ProxySql]) -> String {
    let of = |proxy: &ProxySql| {
        format!("[[proxysql]]\naddress = \"{}\"\nuser = \"radmin\"\npassword = \"radmin\"\n", proxy.address())
    };
    proxies.iter().map(of).collect()
}

fn program(args: &[&str], config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxysql-stonith"));
    command.env_clear().args(args).arg(format!("--config={}", config.display())).stdin(Stdio::null());
    command.stdout(Stdio::null());
    command
}

fn write(file: &Path, text: &str) {
    fs::write(file, text).expect("a file");
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("its mode");
}

/// How many ProxySQLs of an agent it is armed for.
fn armed(agent: SocketAddr) -> usize {
    let Ok(mut stream) = TcpStream::connect(agent) else { return 0 };
    let mut text = String::new();
    let asked = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    if asked.and_then(|()| stream.read_to_string(&mut text)).is_err() {
        return 0;
    }
    text.lines().filter(|line| line.contains("_armed{proxysql=") && !line.ends_with(" 0.0")).count()
}
