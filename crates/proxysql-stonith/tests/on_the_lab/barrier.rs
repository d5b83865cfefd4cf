//! The hooks that Orchestrator runs around a failover: the fence comes before the promotion.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::nodes::Nodes;
use lab::orchestrator;
use lab::proxysql::{self, ProxySql, Verdict};

use super::stage::{Daemon, Stage, eventually, eventually_in};

pub(super) const TOKEN: &str = "sesame-token";
const UID: &str = "1750000000000000000:abc";

/// A stage with an agent for its ProxySQL, and a second ProxySQL that only the hook reaches.
pub(super) struct Scene {
    pub(super) stage: Stage,
    pub(super) alone: ProxySql,
    pub(super) agent: SocketAddr,
    _daemon: Daemon,
}

/// How the hook ended.
pub(super) struct Ended {
    pub(super) text: String,
    pub(super) code: i32,
    pub(super) took: Duration,
}

impl Scene {
    pub(super) async fn set() -> Self {
        Self::with(orchestrator::Settings::default(), "").await
    }

    pub(super) async fn with(orchestrator: orchestrator::Settings, agent: &str) -> Self {
        let nodes = Nodes::new(&["node01", "node02", "node03"]);
        let stage = Stage::with(proxysql::Settings::default(), orchestrator, nodes).await;
        let alone = without_agent(&stage.nodes).await;
        let token = stage.dir.path().join("token");
        std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
        std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let agent = agent.replace("ADDRESS", &address.to_string());
        let config = stage.config(&format!("http.token_file = {token:?}\n{agent}"));
        let line = format!("run --http={address} --interval 500ms {config}");
        let log = std::fs::File::create(stage.dir.path().join("agent.log")).unwrap();
        let daemon = Daemon::with_log(stage.command(&line), log);
        eventually("the agent listens", || TcpStream::connect(address).is_ok()).await;
        let scene = Self { stage, alone, agent: address, _daemon: daemon };
        scene.armed().await;
        scene
    }

    /// What the agent has logged.
    pub(super) fn agent_log(&self) -> String {
        std::fs::read_to_string(self.stage.dir.path().join("agent.log")).unwrap()
    }

    async fn armed(&self) {
        let address = self.agent;
        eventually("the agent is armed", || {
            let mut stream = TcpStream::connect(address).unwrap();
            std::io::Write::write_all(&mut stream, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                .unwrap();
            let mut text = String::new();
            std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
            text.lines().any(|line| line.contains("_armed{proxysql=") && !line.ends_with(" 0.0"))
        })
        .await;
    }

    /// The hook's config: the agent, these others, and the ProxySQL without an agent.
    pub(super) fn command(&self, hook: &str, more_agents: &[SocketAddr], barrier: &str) -> Command {
        self.command_with(hook, &[&[self.agent], more_agents].concat(), barrier)
    }

    /// A hook whose config has these agents, and the ProxySQL without an agent.
    pub(super) fn command_with(&self, hook: &str, agents: &[SocketAddr], barrier: &str) -> Command {
        let dir = self.stage.dir.path();
        let agents: Vec<String> = agents.iter().map(|agent| format!("\"http://{agent}\"")).collect();
        let endpoints: Vec<String> = self.stage.orchestrator.endpoints().iter().map(|url| format!("{url:?}")).collect();
        let text = format!(
            "orchestrator.endpoints = [{}]\nrun.state_dir = {:?}\n[[proxysql]]\naddress = \"{}\"\nuser = \"radmin\"\n\
             password = \"radmin\"\n[barrier]\nagents = [{}]\ntoken_file = {:?}\n{barrier}\n",
            endpoints.join(","),
            dir.join("hook-state"),
            self.alone.address(),
            agents.join(","),
            dir.join("token"),
        );
        let path = dir.join("hook.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_proxysql-stonith"));
        command.env_clear().args(["hook", hook]).arg(format!("--config={}", path.display()));
        for (name, value) in [
            ("ORC_FAILED_HOST", "node01"),
            ("ORC_FAILED_PORT", "3306"),
            ("ORC_FAILURE_TYPE", "DeadMaster"),
            ("ORC_FAILURE_CLUSTER", "node01:3306"),
            ("ORC_RECOVERY_UID", UID),
            ("ORC_COMMAND", ""),
        ] {
            command.env(name, value);
        }
        command
    }

    pub(super) async fn run(&self, mut command: Command) -> Ended {
        let began = Instant::now();
        let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = [done.stdout, done.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        for secret in [TOKEN, "radmin"] {
            assert!(!text.contains(secret), "a secret is shown: {text}");
        }
        Ended { text, code: done.status.code().unwrap_or(-1), took: began.elapsed() }
    }

    pub(super) async fn hook(&self, hook: &str, barrier: &str) -> Ended {
        self.run(self.command(hook, &[], barrier)).await
    }

    pub(super) fn alone(&self) -> String {
        let sql = "SELECT hostgroup_id||':'||status||'['||comment||']' FROM runtime_mysql_servers \
                   WHERE hostname='node01' AND status<>'OFFLINE_HARD' ORDER BY 1";
        let rows = self.alone.query(sql).unwrap().records;
        rows.into_iter().map(|row| row[0].clone().unwrap()).collect::<Vec<_>>().join(" ")
    }

    pub(super) fn is_marked(&self) -> bool {
        self.stage.orchestrator.downtimed().contains(&"node01".to_owned())
    }
}

/// A ProxySQL that no agent guards.
async fn without_agent(nodes: &Nodes) -> ProxySql {
    let settings = proxysql::Settings {
        monitor_interval: super::stage::TICK,
        read_only_max_timeouts: u32::MAX,
        ..proxysql::Settings::default()
    };
    let alone = ProxySql::start(nodes.clone(), settings).await.unwrap();
    for sql in [
        "INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (10,'node01'),(20,'node02'),(20,'node03')",
        "LOAD MYSQL SERVERS TO RUNTIME",
        "SAVE MYSQL SERVERS TO DISK",
    ] {
        alone.query(sql).unwrap();
    }
    alone
}

/// Accepts connections, and never answers.
pub(super) fn hung() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_proxy_has_the_fence_before_orchestrator_may_promote_and_keeps_it_afterwards() {
    let scene = Scene::set().await;
    let before = scene.stage.orchestrator.requests().len();
    assert_eq!(scene.alone(), "10:ONLINE[]", "node01 lives: nothing but the hook is against it");
    let ended = scene.hook("pre-failover", "").await;
    assert_eq!(ended.code, 0, "{}", ended.text);
    println!("the hook took {:?}", ended.took);
    assert!(ended.text.contains("every ProxySQL has the fence"), "{}", ended.text);
    assert!(scene.stage.is_fenced("node01") && scene.stage.runtime().contains("[stonith:1 barrier was=ONLINE]"));
    assert_eq!(scene.alone(), "10:OFFLINE_SOFT[ [stonith:1 barrier was=ONLINE]]");
    let asked = scene.stage.orchestrator.requests().split_off(before);
    let begun = format!("begin-downtime/node01/3306/{UID}/proxysql-stonith-barrier/20s");
    assert!(asked.contains(&begun), "{asked:?}");
    scene.stage.fail_over().await;
    let ended = scene.hook("post-failover", "").await;
    assert_eq!(ended.code, 0, "{}", ended.text);
    eventually("the record takes over", || scene.stage.runtime().contains("superseded by=node02:3306")).await;
    assert!(scene.stage.is_fenced("node01"));
    // In a raft only the leader would have the mark (facts §8).
    scene.stage.orchestrator.kill_leader(Duration::ZERO).await;
    assert!(scene.is_marked(), "the next leader has it too");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_look_at_orchestrator_serves_the_hooks_own_fences_and_a_second_try_looks_again() {
    let scene = Scene::set().await;
    let other = without_agent(&scene.stage.nodes).await;
    let mut refuses = true;
    other.before_statement(move |sql| match sql.starts_with("LOAD MYSQL SERVERS") && std::mem::take(&mut refuses) {
        true => Verdict::Refuse("not now"),
        false => Verdict::Go,
    });
    let another = without_agent(&scene.stage.nodes).await;
    let section = |proxy: &ProxySql| {
        format!("[[proxysql]]\naddress = \"{}\"\nuser = \"radmin\"\npassword = \"radmin\"\n", proxy.address())
    };
    // Only who knows nothing yet asks this. The agent has done so.
    let looks = || scene.stage.orchestrator.requests().iter().filter(|path| *path == "v2/proxysql/servers").count();
    let before = looks();
    let ended = scene.hook("pre-failover", &format!("{}{}", section(&other), section(&another))).await;
    assert!(ended.code == 0 && ended.text.contains("every ProxySQL has the fence"), "{}", ended.text);
    for proxy in [&other, &another] {
        assert!(proxy.rows().iter().any(|row| row.text() == "10/node01:OFFLINE_SOFT[ [stonith:1 barrier was=ONLINE]]"));
    }
    assert_eq!(looks() - before, 2, "one for three, and one for the second try");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_by_itself_never_begins_or_ends_a_downtime() {
    let scene = Scene::set().await;
    scene.stage.fail_over().await;
    eventually("it is fenced", || {
        drop(TcpStream::connect(scene.agent));
        true
    })
    .await;
    let changes = |scene: &Scene| {
        let asked = scene.stage.orchestrator.requests();
        asked.into_iter().filter(|path| path.starts_with("begin-") || path.starts_with("end-")).count()
    };
    assert_eq!(changes(&scene), 0);
    assert_eq!(scene.hook("post-failover", "deadline = \"5s\"").await.code, 0);
    assert!(scene.stage.is_fenced("node01") && changes(&scene) == 1, "the control: the hook does");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_hangs_is_waited_for_up_to_the_deadline_and_the_config_decides() {
    let scene = Scene::set().await;
    let (_listener, silent) = hung();
    for (on_unconfirmed, code) in [("proceed", 0), ("abort", 1)] {
        let barrier = format!("deadline = \"3s\"\non_unconfirmed = \"{on_unconfirmed}\"");
        let ended = scene.run(scene.command("pre-failover", &[silent], &barrier)).await;
        assert_eq!(ended.code, code, "{}", ended.text);
        assert!(ended.took < Duration::from_millis(3_500), "{:?}: {}", ended.took, ended.text);
        assert!(ended.text.contains(&format!("agent http://{silent}: no answer")), "{}", ended.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_takes_back_the_mark_and_its_own_fences_and_says_what_it_costs() {
    let scene = Scene::set().await;
    let (_listener, silent) = hung();
    let before = scene.alone();
    let barrier = "deadline = \"4s\"\non_unconfirmed = \"abort\"";
    let command = scene.command("pre-failover", &[silent], barrier);
    let running = scene.run(command);
    tokio::pin!(running);
    let mut was_fenced = false;
    let ended = loop {
        tokio::select! {
            ended = &mut running => break ended,
            () = tokio::time::sleep(Duration::from_millis(20)) => was_fenced |= scene.alone().contains("barrier"),
        }
    };
    assert!(was_fenced && ended.code == 1, "{}", ended.text);
    assert!(ended.text.contains("RecoveryPeriodBlockSeconds"), "{}", ended.text);
    assert!(!scene.is_marked());
    assert_eq!(scene.alone(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_must_have_run_out_counts_as_a_fence() {
    let scene = Scene::set().await;
    let (_listener, silent) = hung();
    // 1 s of lease, 1.2 s between two ticks, 1 s for an apply, 1 s for a stale leader.
    let barrier = "lease = \"1s\"\non_unconfirmed = \"abort\"";
    let ended = scene.run(scene.command("pre-failover", &[silent], barrier)).await;
    assert_eq!(ended.code, 0, "{}", ended.text);
    assert!(ended.took >= Duration::from_millis(4_200), "{:?}", ended.took);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_only_observes_is_named_and_not_waited_for() {
    let scene = Scene::with(orchestrator::Settings::default(), "policy.mode = \"observe\"\n").await;
    let ended = scene.hook("pre-failover", "").await;
    assert!(ended.code == 0 && ended.took < Duration::from_secs(5), "{:?}: {}", ended.took, ended.text);
    assert!(ended.text.contains("its agent only observes"), "{}", ended.text);
    assert!(scene.stage.runtime().contains("10/node01:ONLINE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orchestrator_that_hangs_delays_neither_the_mark_nor_the_leader_check() {
    let scene = Scene::set().await;
    let leader = scene.stage.orchestrator.leader().unwrap();
    let hanging = (0..3).find(|member| *member != leader).unwrap();
    scene.stage.orchestrator.hang(hanging);
    // It is given up after 2 s. Two such waits, one after the other, would be too long.
    let ended = scene.hook("pre-failover", "deadline = \"6s\"\non_unconfirmed = \"abort\"").await;
    assert_eq!(ended.code, 0, "{}", ended.text);
    println!("the hook took {:?}", ended.took);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_agent_is_named_and_not_waited_for() {
    let scene = Scene::set().await;
    let config = scene.stage.dir.path().join("stonith.toml");
    scene.stage.succeeds(&format!("suspend --reason maintenance --config={}", config.display())).await;
    let ended = scene.hook("pre-failover", "on_unconfirmed = \"abort\"").await;
    assert!(ended.code == 1 && ended.took < Duration::from_secs(5), "{:?}: {}", ended.took, ended.text);
    assert!(ended.text.contains("its agent is suspended"), "{}", ended.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_only_read_is_told_and_the_hook_goes_by_its_config() {
    let settings = orchestrator::Settings { is_read_only: true, ..orchestrator::Settings::default() };
    let scene = Scene::with(settings, "").await;
    let ended = scene.hook("pre-failover", "deadline = \"3s\"").await;
    assert_eq!(ended.code, 0, "{}", ended.text);
    assert!(ended.text.contains("its user may only read"), "{}", ended.text);
    assert!(scene.alone().contains("barrier"), "the admin interface needs no mark");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_leader_promotes_though_the_leader_died_during_the_hook() {
    let settings = orchestrator::Settings { auto_failover: true, ..orchestrator::Settings::default() };
    let scene = Scene::with(settings, "").await;
    let (_listener, silent) = hung();
    scene.stage.orchestrator.auto_failover(false);
    scene.stage.nodes.kill("node01");
    let mut command = scene.command("pre-failover", &[silent], "");
    let mut hook = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the mark is published", || scene.is_marked()).await;
    hook.kill().unwrap();
    hook.wait().unwrap();
    scene.stage.orchestrator.kill_leader(Duration::from_millis(200)).await;
    scene.stage.orchestrator.auto_failover(true);
    assert!(scene.is_marked(), "the mark outlives the leader, and a downtimed primary is not recovered");
    let promoted = || ["node02", "node03"].iter().any(|name| !scene.stage.nodes.get(name).read_only);
    eventually_in(25, "the mark runs out, and the next leader promotes", promoted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_failure_of_a_replica_fences_nobody() {
    let scene = Scene::set().await;
    let mut command = scene.command("pre-failover", &[], "");
    command.env("ORC_FAILURE_TYPE", "DeadIntermediateMaster");
    let ended = scene.run(command).await;
    assert!(ended.code == 0 && ended.text.contains("no barrier"), "{}", ended.text);
    assert!(!scene.is_marked());
    assert_eq!(scene.alone(), "10:ONLINE[]");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_without_a_successor_takes_back_what_the_hook_left() {
    let scene = Scene::set().await;
    assert_eq!(scene.hook("pre-failover", "").await.code, 0);
    let ended = scene.hook("post-unsuccessful-failover", "").await;
    assert_eq!(ended.code, 0, "{}", ended.text);
    assert!(!scene.is_marked());
    assert_eq!(scene.alone(), "10:ONLINE[]");
    assert!(scene.stage.is_fenced("node01"), "an agent ends its own fence, once the primary is proven");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxysql_that_has_the_node_under_another_name_is_fenced_and_let_back_by_the_hook_itself() {
    let scene = Scene::set().await;
    for (other, name) in [("10.0.0.1", "node01"), ("10.0.0.2", "node02"), ("10.0.0.3", "node03")] {
        scene.alone.query(&format!("UPDATE mysql_servers SET hostname='{other}' WHERE hostname='{name}'")).unwrap();
    }
    scene.alone.query("LOAD MYSQL SERVERS TO RUNTIME").unwrap();
    scene.alone.query("SAVE MYSQL SERVERS TO DISK").unwrap();
    let status = || {
        let sql = "SELECT group_concat(status) FROM runtime_mysql_servers WHERE hostname='10.0.0.1' \
                   AND status<>'OFFLINE_HARD'";
        scene.alone.query(sql).unwrap().records[0][0].clone().unwrap()
    };
    let aliases = "[aliases]\n\"10.0.0.1\" = \"node01\"\n\"10.0.0.2\" = \"node02\"\n\"10.0.0.3\" = \"node03\"";
    let ended = scene.hook("pre-failover", aliases).await;
    assert!(ended.code == 0 && ended.text.contains("every ProxySQL has the fence"), "{}", ended.text);
    assert!(status().split(',').all(|status| status == "OFFLINE_SOFT"), "{}", status());
    let ended = scene.hook("post-unsuccessful-failover", aliases).await;
    assert!(ended.code == 0 && ended.text.contains("fence is taken back"), "{}", ended.text);
    assert!(status().contains("ONLINE"), "{}", status());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_told_and_the_lines_for_orchestrator_name_each_hook_in_order() {
    let scene = Scene::set().await;
    let mut command = scene.command("pre-failover", &[], "");
    command.env_remove("ORC_FAILED_HOST");
    assert_eq!(scene.run(command).await.code, 2);
    let mut command = scene.command("pre-failover", &[], "");
    command.env_remove("ORC_FAILED_HOST").args(["--failed-host=node01", "--failed-port=3306"]);
    assert_eq!(scene.run(command).await.code, 0, "placeholders work too");
    let text = scene.stage.succeeds("install hooks").await;
    let at = |hook: &str| text.find(hook).unwrap_or_else(|| panic!("{hook}: {text}"));
    assert!(at("hook pre-failover") < at("hook post-failover"));
    assert!(at("hook post-failover") < at("hook post-unsuccessful-failover"));
}
