//! A lab, an agent on it, and the program's binary for it.

use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lab::nodes::Nodes;
use lab::orchestrator::{self, Orchestrator};
use lab::proxysql::{self, ProxySql};
use proxysql_stonith::agent::{Agent, AgentSettings, Credentials, Tick, TickError, owner_of_process};
use proxysql_stonith::clock;
use proxysql_stonith::orchestrator::{Client, Settings, TlsSettings};
use proxysql_stonith::proxysql::Settings as AdminSettings;
use proxysql_stonith::secret::{Credential, Secret};
use stonith_core::memory::Memory;
use stonith_core::node::Node;
use stonith_core::orders::Orders;
use stonith_core::policy::Policy;

impl Drop for Stage {
    fn drop(&mut self) {
        // Other versions have other columns than the one that was recorded.
        if !std::thread::panicking() && self.select("SELECT @@version").starts_with("2.7.1") {
            crate::recorded::all_are_recorded(&self.proxysql.statements());
        }
    }
}

/// The lab's monitor and polls.
pub const TICK: Duration = Duration::from_millis(20);

pub struct Stage {
    pub nodes: Nodes,
    pub orchestrator: Orchestrator,
    pub proxysql: ProxySql,
    pub dir: tempfile::TempDir,
}

impl Stage {
    /// node01 the primary, node02 and node03 its replicas.
    pub async fn set() -> Self {
        Self::with(
            proxysql::Settings::default(),
            orchestrator::Settings::default(),
            Nodes::new(&["node01", "node02", "node03"]),
        )
        .await
    }

    /// The monitor never takes a dead node out, however long a test takes: most agents are there before it does.
    pub async fn with(proxysql: proxysql::Settings, orchestrator: orchestrator::Settings, nodes: Nodes) -> Self {
        let patient = proxysql::Settings { read_only_max_timeouts: u32::MAX, ..proxysql };
        Self::with_monitor(patient, orchestrator, nodes).await
    }

    /// The monitor as the settings have it.
    pub async fn with_monitor(
        proxysql: proxysql::Settings,
        orchestrator: orchestrator::Settings,
        nodes: Nodes,
    ) -> Self {
        let settings = orchestrator::Settings { poll_interval: TICK, ..orchestrator };
        let orchestrator = Orchestrator::start(nodes.clone(), settings).await.unwrap();
        let settings = proxysql::Settings { monitor_interval: TICK, shun_recovery: TICK * 5, ..proxysql };
        let proxysql = ProxySql::start(nodes.clone(), settings).await.unwrap();
        let stage = Self { nodes, orchestrator, proxysql, dir: tempfile::tempdir().unwrap() };
        stage.sql("INSERT INTO mysql_servers (hostgroup_id,hostname,comment) VALUES (10,'node01','rack 7'),(20,'node02',''),(20,'node03','')");
        stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
        stage.sql("SAVE MYSQL SERVERS TO DISK");
        stage
    }

    /// Waits until ProxySQL's monitor has been through as many rounds of checks.
    pub async fn checks(&self, count: u64) {
        let until = self.proxysql.checks() + count;
        eventually("the monitor checks", || self.proxysql.checks() >= until).await;
    }

    /// A program. Another process writes it: a file that this one has open for writing cannot be run.
    pub fn script(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.dir.path().join(name);
        let mut writer = Command::new("sh");
        writer.args(["-c", "printf %s \"$2\" > \"$1\" && chmod 700 \"$1\"", "sh"]).arg(&path).arg(text);
        assert!(writer.status().unwrap().success());
        path
    }

    pub fn sql(&self, sql: &str) {
        self.proxysql.query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// A result as text, a line a record.
    pub fn select(&self, sql: &str) -> String {
        let found = self.proxysql.query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let line = |record: Vec<Option<String>>| {
            record.into_iter().map(|value| value.unwrap_or("NULL".into())).collect::<Vec<_>>().join("|")
        };
        found.records.into_iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// The lock and the journals in main: nothing, once an apply is over. What agents share stays.
    pub fn left_behind(&self) -> String {
        self.select(
            "SELECT name FROM main.sqlite_master \
             WHERE name LIKE 'stonith%' AND name NOT IN ('stonith_lease','stonith_released','stonith_ended')",
        )
    }

    /// Everything that LOAD covers, in all layers, and what an apply left in main.
    pub fn everything(&self) -> String {
        let mut text = String::new();
        for table in [
            "mysql_servers",
            "mysql_replication_hostgroups",
            "mysql_group_replication_hostgroups",
            "mysql_galera_hostgroups",
            "mysql_aws_aurora_hostgroups",
            "mysql_hostgroup_attributes",
            "mysql_servers_ssl_params",
        ] {
            if self.select(&format!("SELECT name FROM main.sqlite_master WHERE name='{table}'")).is_empty() {
                continue; // an older version
            }
            for layer in ["runtime_", "main.", "disk."] {
                let ghosts = if table == "mysql_servers" { "WHERE status<>'OFFLINE_HARD'" } else { "" };
                let rows = self.select(&format!("SELECT * FROM {layer}{table} {ghosts} ORDER BY 1,2"));
                text.push_str(&format!("{layer}{table}\n{rows}\n"));
            }
        }
        text + &self.left_behind()
    }

    /// The rows of a layer, `10/node01:ONLINE[comment]`.
    pub fn rows(&self, table: &str) -> String {
        self.select(&format!(
            "SELECT hostgroup_id||'/'||hostname||':'||status||'['||comment||']' FROM {table} \
             WHERE status<>'OFFLINE_HARD' ORDER BY hostgroup_id,hostname"
        ))
    }

    pub fn runtime(&self) -> String {
        self.rows("runtime_mysql_servers")
    }

    /// An operator's half-done edits, in memory only.
    pub fn stage_edits(&self) {
        self.sql("INSERT INTO mysql_servers (hostgroup_id,hostname,comment) VALUES (20,'staged','an operator''s')");
        self.sql("UPDATE mysql_servers SET weight=7 WHERE hostname='node03'");
        self.sql("INSERT INTO mysql_replication_hostgroups VALUES (50,60,'read_only','staged')");
    }

    /// The time of a lock that an apply left is over.
    pub fn expire_lock(&self) {
        if !self.select("SELECT name FROM main.sqlite_master WHERE name='stonith_lock'").is_empty() {
            self.sql("UPDATE main.stonith_lock SET expires=1");
        }
    }

    /// node01 dies, node02 is promoted, and ProxySQL's monitor has seen it.
    pub async fn fail_over(&self) {
        self.nodes.kill("node01");
        self.orchestrator.fail_over("node01", Some("node02"));
        eventually("the monitor has moved node02", || self.runtime().contains("10/node02:ONLINE")).await;
    }

    pub fn is_fenced(&self, node: &str) -> bool {
        ["runtime_mysql_servers", "main.mysql_servers", "disk.mysql_servers"].iter().all(|table| {
            let rows = self.rows(table);
            let mut of_node = rows.lines().filter(|row| row.contains(&format!("/{node}:"))).peekable();
            of_node.peek().is_some() && of_node.all(|row| row.contains(":OFFLINE_SOFT[") && row.contains("[stonith:1 "))
        })
    }

    pub fn is_fenced_in_runtime(&self, node: &str) -> bool {
        let rows = self.runtime();
        let mut of_node = rows.lines().filter(|row| row.contains(&format!("/{node}:"))).peekable();
        of_node.peek().is_some() && of_node.all(|row| row.contains(":OFFLINE_SOFT["))
    }

    /// An agent in process, long since started, that has kept nothing else.
    pub fn agent(&self) -> Agent {
        let mut memory = Memory::first_start("boot", clock::boot_ms());
        memory.watching_since_s = Some(clock::wall_s() - 3_600);
        memory.boot_id = clock::boot_id().unwrap();
        self.agent_with(memory)
    }

    pub fn agent_with(&self, memory: Memory) -> Agent {
        self.agent_that_asks(&self.orchestrator.endpoints(), memory)
    }

    /// What names its ProxySQL.
    pub fn proxy_node(&self) -> Node {
        Node::new("127.0.0.1", self.proxysql.address().port()).unwrap()
    }

    /// An agent that looks for Orchestrator there.
    pub fn agent_that_asks(&self, endpoints: &[String], memory: Memory) -> Agent {
        let client = Client::new(Settings {
            endpoints: endpoints.iter().map(|url| url.parse().unwrap()).collect(),
            auth: None,
            tls: TlsSettings::default(),
            connect_timeout: Duration::from_millis(300),
            // A busy machine must not cost a side question: the marker would name the mark where it is to name the record.
            read_timeout: Duration::from_secs(1),
            tick_timeout: Duration::from_secs(3),
        });
        let settings = AgentSettings {
            proxy: AdminSettings {
                address: self.proxy_node(),
                socket: None,
                credential: radmin("radmin"),
                tls: None,
                timeout: Duration::from_secs(5),
            },
            accept_lost_edits: false,
            policy: Policy::default(),
            observe_only: false,
            read_only_for: Default::default(),
            fence_agent_for: Default::default(),
        };
        Agent::new(settings, client.unwrap(), Box::new(Unchanged), memory, owner_of_process())
    }

    /// A config file, for its owner alone.
    pub fn config(&self, text: &str) -> String {
        let path = self.dir.path().join("stonith.toml");
        let state_dir = format!("run.state_dir = {:?}\n", self.dir.path().join("state"));
        let more = if text.contains("state_dir") { "" } else { &state_dir };
        std::fs::write(&path, format!("{more}{text}")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        format!("--config={}", path.display())
    }

    /// What the program kept, as if Orchestrator had last answered 20 s earlier: longer than a lease lasts.
    pub fn make_kept_lease_old(&self) {
        let port = self.proxysql.address().port();
        let path = self.dir.path().join(format!("state/tick-127.0.0.1_{port}.json"));
        let mut kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let lease = &mut kept["memory"]["lease"];
        let asked_ms = lease["asked_ms"].as_u64().unwrap() - 20_000;
        for time in ["asked_ms", "silent_ms", "started_ms"] {
            lease[time] = asked_ms.into();
        }
        std::fs::write(&path, kept.to_string()).unwrap();
    }

    /// The program, with what it needs to know of this stage; in another thread, so that the lab goes on.
    #[must_use = "it may have failed"]
    pub async fn stonith(&self, line: &str) -> (String, i32) {
        self.program(line, &[]).await
    }

    /// The program, which ends well; what it says.
    pub async fn succeeds(&self, line: &str) -> String {
        let (text, code) = self.stonith(line).await;
        assert_eq!(code, 0, "{line}: {text}");
        text
    }

    /// The same with variables in its environment.
    #[must_use = "it may have failed"]
    pub async fn program(&self, line: &str, env: &[(&str, &str)]) -> (String, i32) {
        let mut command = self.command(line);
        command.envs(env.iter().copied());
        let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = [done.stdout, done.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (text, done.status.code().unwrap_or(-1))
    }

    pub fn command(&self, line: &str) -> Command {
        let secret = self.dir.path().join("admin.cnf");
        if !secret.exists() {
            std::fs::write(&secret, "[client]\nuser=radmin\npassword=radmin\n").unwrap();
            std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_proxysql-stonith"));
        command.env_clear().args(line.split_whitespace());
        if !line.contains("--orchestrator") {
            command.arg(format!("--orchestrator={}", self.orchestrator.endpoints().join(",")));
        }
        if !line.contains("--proxysql") {
            command.arg(format!("--proxysql={}", self.proxysql.address()));
        }
        if !line.contains("--defaults-file") {
            command.arg(format!("--defaults-file={}", secret.display()));
        }
        if !line.contains("--http") {
            command.env("PROXYSQL_STONITH_HTTP", "off"); // daemons of other tests run beside it
        }
        if !line.contains("--state-dir") && !line.contains("--config") {
            command.arg(format!("--state-dir={}", self.dir.path().join("state").display()));
        }
        command
    }
}

/// The program in a process of its own, which ends with the test however that ends: an agent that is left behind would
/// sooner or later find another test's lab at its ports.
pub struct Daemon(Child);

impl Daemon {
    pub fn start(command: Command) -> Self {
        Self::with_log(command, Stdio::null())
    }

    pub fn with_log(mut command: Command, log: impl Into<Stdio>) -> Self {
        Self(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.id().to_string()]).status().unwrap().success());
    }

    /// How often its threads have gone to sleep.
    pub fn sleeps(&self) -> u64 {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap();
        let of_thread = |path: std::path::PathBuf| -> Option<u64> {
            let status = std::fs::read_to_string(path.join("status")).ok()?;
            status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse().ok())
        };
        threads.filter_map(|thread| of_thread(thread.ok()?.path())).sum()
    }

    /// The CPU time that it has used, in s, and its memory, in KiB.
    pub fn used(&self) -> (f64, u64) {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", self.0.id())).unwrap();
        let status = read("status");
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")).unwrap();
        // User and system time are fields 14 and 15, in hundredths of a second.
        let stat = read("stat");
        let ticks = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.map(|field| field.parse::<u64>().unwrap()).sum();
        (ticks as f64 / 100.0, rss.parse().unwrap())
    }

    /// Its exit code, once it has ended.
    #[must_use = "it may have failed"]
    pub async fn ended(mut self) -> Option<i32> {
        eventually("it ends", || self.0.try_wait().unwrap().is_some()).await;
        self.0.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn radmin(password: &str) -> Credential {
    Credential { user: "radmin".into(), password: Secret::new(password) }
}

#[derive(Debug)]
struct Unchanged;

impl Credentials for Unchanged {
    fn proxysql(&self) -> Result<Credential, String> {
        Ok(radmin("radmin"))
    }

    fn orchestrator(&self) -> Result<Option<Credential>, String> {
        Ok(None)
    }
}

/// One tick that keeps its memory.
pub async fn tick(agent: &mut Agent) -> Result<Tick, TickError> {
    agent.tick(Orders::default(), |_| true).await
}

/// Long without a lease.
pub fn make_old(agent: &mut Agent) {
    agent.memory_mut().lease.asked_ms = agent.memory().lease.asked_ms.map(|asked| asked - 20_000);
    agent.memory_mut().lease.started_ms -= 20_000;
    agent.memory_mut().lease.silent_ms = agent.memory().lease.asked_ms;
}

pub async fn eventually(what: &str, holds: impl FnMut() -> bool) {
    eventually_in(5, what, holds).await;
}

pub async fn eventually_in(seconds: u32, what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..seconds * 100 {
        if holds() {
            return;
        }
        tokio::time::sleep(TICK / 2).await;
    }
    panic!("not within {seconds} s: {what}");
}
