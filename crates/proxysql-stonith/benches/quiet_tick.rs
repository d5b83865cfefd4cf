//! What a quiet daemon costs that ticks each 500 ms, in CPU of its own and of ProxySQL, by rows of the server table.
//!
//! `PROXYSQL_BIN=... cargo bench --bench quiet_tick`: a real ProxySQL, the lab's Orchestrator.

#[allow(dead_code)] // the tests use the rest
#[path = "../../lab/tests/real/program.rs"]
mod program;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::nodes::Nodes;
use lab::orchestrator;
use mysql_async::prelude::Queryable;
use program::{Running, eventually, find, free_port, skipped};

/// How long is measured, after as long to settle.
const MEASURED: Duration = Duration::from_secs(20);

fn main() {
    let Some(proxysql) = find("proxysql", "PROXYSQL_BIN") else {
        skipped("needs a real proxysql on PATH (or PROXYSQL_BIN): build it from github:sysown/proxysql");
        return;
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let others: Vec<String> = (0..5_000).map(|n| format!("other{n}")).collect();
    let few = ["node01", "node02", "node03"];
    let all: Vec<&str> = few.into_iter().chain(others.iter().map(String::as_str)).collect();
    let start = |names: &[&str]| orchestrator::Orchestrator::start(Nodes::new(names), Default::default());
    let [few, all] = [&few[..], &all].map(|names| runtime.block_on(start(names)).expect("the lab"));
    let cases = [(3, 20, &few, ""), (5_003, 20, &few, ", unknown to Orchestrator"), (5_003, 20, &all, ", known to it")];
    for (rows, hostgroup, orchestrator, known) in cases {
        let dir = tempfile::tempdir().expect("a directory");
        let (real, admin) = start_proxysql(&proxysql, dir.path());
        runtime.block_on(fill(admin, rows - 3, hostgroup));
        let daemon = daemon(dir.path(), admin, &orchestrator.endpoints());
        std::thread::sleep(MEASURED / 2);
        let (before, began) = ([&daemon, &real].map(cpu), Instant::now());
        std::thread::sleep(MEASURED);
        let took = began.elapsed().as_secs_f64();
        let [ours, theirs] = [&daemon, &real].map(cpu);
        let share = |now: f64, then: f64| (now - then) / took * 100.0;
        println!(
            "{rows} rows{known}: the daemon {:.2} % of a core, ProxySQL {:.2} %",
            share(ours, before[0]),
            share(theirs, before[1]),
        );
    }
}

fn start_proxysql(proxysql: &Path, dir: &Path) -> (Running, u16) {
    let (admin, client) = (free_port(), free_port());
    let text = format!(
        "datadir={dir:?}\nadmin_variables={{ admin_credentials=\"admin:admin;radmin:radmin\" mysql_ifaces=\"127.0.0.1:{admin}\" }}\n\
         mysql_variables={{ threads=1 interfaces=\"127.0.0.1:{client}\" monitor_enabled=false }}\n\
         mysql_replication_hostgroups=( {{ writer_hostgroup=10 reader_hostgroup=20 }} )\n",
    );
    let config = dir.join("proxysql.cnf");
    fs::write(&config, text).expect("a file");
    let process = Command::new(proxysql)
        .args(["-f", "--no-version-check", "-D"])
        .arg(dir)
        .arg("-c")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("ProxySQL");
    let running = Running(process);
    eventually("ProxySQL's admin up", Duration::from_secs(20), || {
        std::net::TcpStream::connect(("127.0.0.1", admin)).is_ok()
    });
    (running, admin)
}

/// node01 the primary, node02 and node03 its replicas, and so many others.
async fn fill(admin: u16, others: usize, hostgroup: u32) {
    let opts = mysql_async::OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(admin)
        .user(Some("radmin"))
        .pass(Some("radmin"))
        .prefer_socket(false)
        .max_allowed_packet(Some(1 << 24))
        .wait_timeout(Some(100))
        .stmt_cache_size(0);
    let mut admin = mysql_async::Conn::new(opts).await.expect("the admin interface");
    let known = ["(10,'node01')", "(20,'node02')", "(20,'node03')"].map(str::to_owned);
    let rows: Vec<String> = known.into_iter().chain((0..others).map(|n| format!("({hostgroup},'other{n}')"))).collect();
    for sql in [
        format!("INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES {}", rows.join(",")),
        "LOAD MYSQL SERVERS TO RUNTIME".to_owned(),
        "SAVE MYSQL SERVERS TO DISK".to_owned(),
    ] {
        admin.query_drop(sql).await.expect("an answer");
    }
    admin.disconnect().await.expect("a goodbye");
}

fn daemon(dir: &Path, admin: u16, endpoints: &[String]) -> Running {
    let secret = dir.join("admin.cnf");
    fs::write(&secret, "[client]\nuser=radmin\npassword=radmin\n").expect("a file");
    fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).expect("its mode");
    let process = Command::new(env!("CARGO_BIN_EXE_proxysql-stonith"))
        .env_clear()
        .args(["run", "--interval=500ms"])
        .arg(format!("--orchestrator={}", endpoints.join(",")))
        .arg(format!("--proxysql=127.0.0.1:{admin}"))
        .arg(format!("--defaults-file={}", secret.display()))
        .arg(format!("--state-dir={}", dir.join("state").display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program");
    Running(process)
}

/// CPU of a process so far, user and system, in s.
fn cpu(process: &Running) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.0.id())).expect("a process");
    let after_name = stat.rsplit_once(") ").expect("a name").1;
    let ticks =
        |at: usize| -> f64 { after_name.split(' ').nth(at).and_then(|text| text.parse().ok()).expect("a number") };
    (ticks(11) + ticks(12)) / 100.0 // USER_HZ is 100 on every Linux
}
