//! The daemon as a service: systemd's notifications, SIGHUP, and the end.

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};

use lab::proxysql::{ProxySql, Settings};

use super::stage::{Daemon, Stage, eventually};

/// What systemd was told, in lines.
struct Systemd {
    told: Arc<Mutex<Vec<String>>>,
    path: std::path::PathBuf,
}

impl Systemd {
    fn listen(stage: &Stage) -> Self {
        let path = stage.dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = told.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count) = socket.recv(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
                heard.lock().unwrap().extend(text.lines().map(str::to_owned));
            }
        });
        Self { told, path }
    }

    fn told(&self, line: &str) -> usize {
        self.told.lock().unwrap().iter().filter(|told| told.starts_with(line)).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_when_it_is_ready_what_it_guards_and_that_it_ends() {
    let stage = Stage::set().await;
    let systemd = Systemd::listen(&stage);
    let mut command = stage.command("run --interval 100ms");
    command.env("NOTIFY_SOCKET", &systemd.path);
    stage.proxysql.kill();
    let daemon = Daemon::start(command);
    eventually("it says that it waits", || systemd.told("STATUS=0 of 1 ProxySQLs reached") == 1).await;
    assert_eq!(systemd.told("READY=1"), 0);
    stage.proxysql.restart().await.unwrap();
    eventually("it is ready", || systemd.told("READY=1") == 1).await;
    stage.fail_over().await;
    let fenced = "STATUS=1 of 1 ProxySQLs reached, 1 armed; fenced: node01:3306";
    eventually("the status names the fence", || systemd.told(fenced) == 1).await;
    eventually("the watchdog is fed", || systemd.told("WATCHDOG=1") > 2).await;
    daemon.signal("-HUP");
    eventually("it reloads", || systemd.told("RELOADING=1") == 1 && systemd.told("READY=1") == 2).await;
    assert_eq!(systemd.told("MONOTONIC_USEC="), 1);
    daemon.signal("-TERM");
    assert_eq!(daemon.ended().await, Some(0));
    assert_eq!(systemd.told("STOPPING=1"), 1);
    let told = systemd.told.lock().unwrap().join("\n");
    assert!(told.contains("STATUS=") && !told.contains("radmin"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_takes_a_new_config_over_and_refuses_a_bad_one() {
    let stage = Stage::set().await;
    let other = ProxySql::start(stage.nodes.clone(), Settings::default()).await.unwrap();
    let log = stage.dir.path().join("log");
    let read = || std::fs::read_to_string(&log).unwrap();
    let section = |address: std::net::SocketAddr| {
        format!("[[proxysql]]\naddress = \"{address}\"\nuser = \"radmin\"\npassword = \"radmin\"\n")
    };
    let config = |mode: &str, proxies: &str| {
        let endpoints = stage.orchestrator.endpoints().join("\", \"");
        stage.config(&format!(
            "policy.mode = \"{mode}\"\nrun.interval = \"100ms\"\norchestrator.endpoints = [\"{endpoints}\"]\n{proxies}"
        ))
    };
    let one = section(stage.proxysql.address());
    let flag = config("observe", &one);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_proxysql-stonith"));
    command.env_clear().env("PROXYSQL_STONITH_HTTP", "off").args(["run", &flag]);
    let daemon = Daemon::with_log(command, std::fs::File::create(&log).unwrap());
    stage.fail_over().await;
    eventually("it observes the failover", || read().contains("superseded by=node02:3306")).await;
    assert!(!stage.is_fenced("node01"));
    config("sometimes", &one);
    daemon.signal("-HUP");
    eventually("a bad config is refused", || {
        read().contains("SIGHUP: the new config is refused, and the old one stays")
    })
    .await;
    config("enforce", &format!("{one}{}", section(other.address())));
    daemon.signal("-HUP");
    eventually("it enforces", || stage.is_fenced("node01")).await;
    eventually("it looks at the new ProxySQL", || !other.statements().is_empty()).await;
    config("enforce", &one);
    daemon.signal("-HUP");
    eventually("one is no longer watched", || read().contains("no longer watched")).await;
    daemon.signal("-TERM");
    assert_eq!(daemon.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_does_not_wait_for_a_proxysql_that_hangs() {
    let stage = Stage::set().await;
    let hangs = TcpListener::bind("127.0.0.1:0").unwrap();
    let log = stage.dir.path().join("log");
    let line = format!("run --interval 100ms --proxysql={}", hangs.local_addr().unwrap());
    let daemon = Daemon::with_log(stage.command(&line), std::fs::File::create(&log).unwrap());
    // It connects, and waits for a greeting that does not come.
    let _connected = tokio::task::spawn_blocking(move || hangs.accept().unwrap()).await.unwrap();
    daemon.signal("-TERM");
    assert_eq!(daemon.ended().await, Some(0));
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(log.contains("ended in the middle of a tick"), "{log}");
}
