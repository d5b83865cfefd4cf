//! Real MariaDB, ProxySQL and Orchestrator on loopback, each test its own, ended by process id.
//!
//! Three nodes on 127.0.1.1-3, three raft nodes on 127.0.2.1-3, one ProxySQL; hostgroups 10 (writer), 20 (reader).

#[path = "../../../lab/tests/real/program.rs"]
mod program;

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

pub use program::eventually;
use program::{Running, find, free_port};

/// Where the real binaries are, or why the test skips.
pub struct Binaries {
    pub proxysql: PathBuf,
    pub orchestrator: PathBuf,
}

impl Binaries {
    /// Looks in `PROXYSQL_BIN`, `ORCHESTRATOR_BIN` and on PATH; says in one line when it skips.
    pub fn find() -> Option<Self> {
        match (
            find("proxysql", "PROXYSQL_BIN"),
            find("orchestrator", "ORCHESTRATOR_BIN"),
            find("mariadbd", "MARIADBD_BIN"),
        ) {
            (Some(proxysql), Some(orchestrator), Some(_)) => Some(Self { proxysql, orchestrator }),
            _ => {
                println!(
                    "SKIPPED: needs real proxysql, orchestrator and mariadbd on PATH (or PROXYSQL_BIN, ORCHESTRATOR_BIN): \
                     build them from github:sysown/proxysql and github:percona/orchestrator"
                );
                None
            }
        }
    }
}

/// The whole set-up.
pub struct World {
    dir: tempfile::TempDir,
    binaries: Binaries,
    nodes: Vec<Option<Running>>,
    raft: Vec<Option<Running>>,
    proxysql: Option<Running>,
    daemon: Option<Running>,
    pub mysql_port: u16,
    pub admin_port: u16,
    pub client_port: u16,
    pub http_port: u16,
    raft_port: u16,
}

const NODES: usize = 3;

/// A write that says where it went.
const INSERT: &str = "insert into t.a (host) select @@report_host";

/// The address of node 1, 2 or 3.
pub fn node(n: usize) -> String {
    format!("127.0.1.{n}")
}

impl World {
    /// Everything up, node 1 the primary, Orchestrator knowing all three.
    pub fn start(binaries: Binaries) -> Self {
        let mut world = Self {
            dir: tempfile::tempdir().expect("a directory"),
            binaries,
            nodes: (0..NODES).map(|_| None).collect(),
            raft: (0..3).map(|_| None).collect(),
            proxysql: None,
            daemon: None,
            mysql_port: free_port(),
            admin_port: free_port(),
            client_port: free_port(),
            http_port: free_port(),
            raft_port: free_port(),
        };
        for n in 1..=NODES {
            world.install_node(n);
            world.start_node(n);
        }
        let users = "create user monitor@'%' identified by 'monitor'; grant replication client, slave monitor on *.* to monitor@'%'; \
             create user app@'%' identified by 'app'; grant all on *.* to app@'%'; \
             create user orc@'%' identified by 'orc'; grant super, process, replication slave, replication client, reload, slave monitor, \
             replication slave admin, read only admin, binlog monitor, binlog admin, replication master admin, select on *.* to orc@'%'; \
             create user repl@'%' identified by 'repl'; grant replication slave on *.* to repl@'%'; \
             create database t; create table t.a (id int auto_increment primary key, host varchar(40), at timestamp(3) default now(3)); \
             create table t.cluster_alias (alias varchar(40)); insert into t.cluster_alias values ('labcluster')";
        world.root(1, users);
        for n in 2..=NODES {
            world.replicate(n, 1);
        }
        world.start_proxysql();
        world.admin(
            "INSERT INTO mysql_servers(hostgroup_id,hostname,port,max_connections) VALUES \
             (20,'127.0.1.2',PORT,100),(20,'127.0.1.3',PORT,100)",
        );
        world.admin("LOAD MYSQL SERVERS TO RUNTIME");
        world.admin("SAVE MYSQL SERVERS TO DISK");
        eventually("the primary in both hostgroups", Duration::from_secs(10), || {
            world.rows("10").contains("127.0.1.1 ONLINE")
        });
        for n in 1..=3 {
            world.start_raft(n);
        }
        eventually("a raft leader", Duration::from_secs(30), || world.leader().is_some());
        let discover = format!("/api/discover/127.0.1.1/{}", world.mysql_port);
        // Once only: while an instance is always fresh, Orchestrator does not go on to its replicas.
        eventually("the primary discovered", Duration::from_secs(10), || {
            world.leader().is_some_and(|leader| world.get(leader, &discover).0 == 200)
        });
        eventually("Orchestrator knowing three nodes", Duration::from_secs(40), || {
            let Some(leader) = world.leader() else { return false };
            world.get(leader, "/api/all-instances").1.matches("\"InstanceAlias\"").count() == NODES
        });
        // The node's own name for itself must have been seen as a cluster with replicas before a recovery can work.
        std::thread::sleep(Duration::from_secs(3));
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self, name: &str) -> Stdio {
        fs::File::options().create(true).append(true).open(self.path(name)).expect("a log").into()
    }

    fn install_node(&self, n: usize) {
        let data = format!("--datadir={}", self.path(&format!("node{n}")).display());
        let done = Command::new("mariadb-install-db")
            .args(["--no-defaults", "--user=root", &data, "--auth-root-authentication-method=normal", "--skip-test-db"])
            .stdout(self.log("install.log"))
            .stderr(self.log("install.log"))
            .status();
        assert!(done.expect("mariadb-install-db").success());
    }

    /// Starts a node as it was; `read_only` as MariaDB's default is: off. That is what brings an old primary back writable.
    pub fn start_node(&mut self, n: usize) {
        let dir = self.path(&format!("node{n}"));
        let args = [
            "--no-defaults".to_owned(),
            "--user=root".to_owned(),
            format!("--datadir={}", dir.display()),
            format!("--port={}", self.mysql_port),
            format!("--bind-address={}", node(n)),
            format!("--socket={}", self.socket(n).display()),
            format!("--server-id={n}"),
            "--log-bin=binlog".to_owned(),
            "--log-slave-updates".to_owned(),
            format!("--report-host={}", node(n)),
            format!("--report-port={}", self.mysql_port),
            "--slave-net-timeout=4".to_owned(),
            "--innodb-flush-log-at-trx-commit=2".to_owned(),
            "--innodb-buffer-pool-size=16M".to_owned(),
        ];
        let child =
            Command::new("mariadbd").args(args).stdout(self.log("node.log")).stderr(self.log("node.log")).spawn();
        self.nodes[n - 1] = Some(Running(child.expect("mariadbd")));
        eventually("a node up", Duration::from_secs(30), || self.try_root(n, "select 1").is_some());
    }

    fn socket(&self, n: usize) -> PathBuf {
        self.path(&format!("node{n}.sock"))
    }

    /// A statement as root on a node.
    pub fn root(&self, n: usize, statement: &str) -> String {
        self.try_root(n, statement).unwrap_or_else(|| panic!("node {n} refused {statement}"))
    }

    fn try_root(&self, n: usize, statement: &str) -> Option<String> {
        let socket = format!("--socket={}", self.socket(n).display());
        output(Command::new("mariadb").args(["--no-defaults", "-uroot", &socket, "-N", "-e", statement]))
    }

    /// Makes a node a read-only replica of another.
    pub fn replicate(&self, n: usize, of: usize) {
        self.replicate_from(n, of, "slave_pos");
    }

    fn replicate_from(&self, n: usize, of: usize, position: &str) {
        let change = format!(
            "stop slave; set global read_only=1; change master to master_host='{}', master_port={}, master_user='repl', \
             master_password='repl', master_use_gtid={position}, master_connect_retry=1; start slave",
            node(of),
            self.mysql_port
        );
        self.root(n, &change);
    }

    /// An operator's repair: the data of another node, and a read-only replica of it. What only this node had is lost.
    pub fn rebuild(&self, n: usize, of: usize) {
        let from = format!("--socket={}", self.socket(of).display());
        let options =
            ["--no-defaults", "-uroot", &from, "--single-transaction", "--master-data=1", "--gtid", "--databases", "t"];
        let mut dump = Command::new("mariadb-dump").args(options).stdout(Stdio::piped()).spawn().expect("mariadb-dump");
        let data = dump.stdout.take().expect("a pipe");
        self.root(n, "stop slave; reset slave all; set global read_only=0; drop database t; reset master");
        let into = format!("--socket={}", self.socket(n).display());
        let options = ["--no-defaults", "-uroot", &into, "--init-command=set sql_log_bin=0"];
        let done = Command::new("mariadb").args(options).stdin(data).status().expect("mariadb");
        assert!(done.success() && dump.wait().expect("its end").success());
        self.replicate(n, of);
    }

    /// The rows that a node itself wrote.
    pub fn written_on(&self, n: usize) -> usize {
        self.root(n, &format!("select count(*) from t.a where host='{}'", node(n))).trim().parse().unwrap_or(0)
    }

    /// A signal to a node's process.
    pub fn signal_node(&mut self, n: usize, signal: &str) {
        let pid = self.nodes[n - 1].as_ref().expect("a running node").0.id();
        signal_process(pid, signal);
        if signal == "KILL" {
            self.nodes[n - 1] = None;
        }
    }

    fn start_proxysql(&mut self) {
        let dir = self.path("proxysql");
        fs::create_dir_all(&dir).expect("a directory");
        let config = self.path("proxysql.cnf");
        let text = format!(
            "datadir=\"{}\"\nadmin_variables={{ admin_credentials=\"admin:admin;radmin:radmin\" mysql_ifaces=\"127.0.0.1:{}\" }}\n\
             mysql_variables={{ threads=2 interfaces=\"127.0.0.1:{}\" monitor_username=\"monitor\" monitor_password=\"monitor\" \
             monitor_read_only_interval=1000 monitor_read_only_timeout=500 monitor_ping_interval=2000 monitor_connect_interval=2000 \
             connect_timeout_server=1000 connect_timeout_server_max=3000 }}\n\
             mysql_servers=( {{ address=\"127.0.1.1\" port={} hostgroup=10 max_connections=100 }} )\n\
             mysql_users=( {{ username=\"app\" password=\"app\" default_hostgroup=10 active=1 }} )\n\
             mysql_query_rules=( {{ rule_id=1 active=1 match_digest=\"^SELECT.*READER\" destination_hostgroup=20 apply=1 }} )\n\
             mysql_replication_hostgroups=( {{ writer_hostgroup=10 reader_hostgroup=20 check_type=\"read_only\" comment=\"real\" }} )\n",
            dir.display(),
            self.admin_port,
            self.client_port,
            self.mysql_port
        );
        fs::write(&config, text).expect("a config");
        self.run_proxysql();
    }

    fn run_proxysql(&mut self) {
        let child = Command::new(&self.binaries.proxysql)
            .args(["-f", "--no-version-check", "-D"])
            .arg(self.path("proxysql"))
            .arg("-c")
            .arg(self.path("proxysql.cnf"))
            .stdin(Stdio::null())
            .stdout(self.log("proxysql.log"))
            .stderr(self.log("proxysql.log"))
            .spawn();
        self.proxysql = Some(Running(child.expect("proxysql")));
        eventually("ProxySQL's admin up", Duration::from_secs(20), || self.try_admin("SELECT 1").is_some());
    }

    /// Kills ProxySQL and starts it again from its disk.
    pub fn restart_proxysql(&mut self) {
        if let Some(proxysql) = &self.proxysql {
            signal_process(proxysql.0.id(), "KILL");
        }
        self.proxysql = None;
        // ProxySQL's -f runs without its angel process, so the port is free once it is gone.
        let port = self.admin_port;
        eventually("the port free", Duration::from_secs(10), || TcpStream::connect(("127.0.0.1", port)).is_err());
        self.run_proxysql();
    }

    /// A statement on the admin interface, by the stock client; `PORT` stands for the nodes' port.
    pub fn admin(&self, statement: &str) -> String {
        // Twice: right after its start ProxySQL 2.7.1 was seen to refuse a good password once in a while.
        let again = || self.try_admin(statement);
        again().or_else(again).unwrap_or_else(|| panic!("ProxySQL refused {statement}"))
    }

    fn try_admin(&self, statement: &str) -> Option<String> {
        let port = format!("-P{}", self.admin_port);
        let statement = statement.replace("PORT", &self.mysql_port.to_string());
        output(Command::new("mariadb").args([
            "--no-defaults",
            "-h127.0.0.1",
            &port,
            "-uadmin",
            "-padmin",
            "-N",
            "-e",
            &statement,
        ]))
    }

    /// Runtime rows of a hostgroup, `host STATUS comment` a line.
    pub fn rows(&self, hostgroup: &str) -> String {
        let statement = format!(
            "SELECT hostname||' '||status||comment FROM runtime_mysql_servers WHERE hostgroup_id={hostgroup} ORDER BY 1"
        );
        self.try_admin(&statement).unwrap_or_default()
    }

    /// Connections in use on a node.
    pub fn used(&self, n: usize) -> String {
        let statement =
            format!("SELECT COALESCE(SUM(ConnUsed),0) FROM stats_mysql_connection_pool WHERE srv_host='{}'", node(n));
        self.admin(&statement).trim().to_owned()
    }

    /// A client of the application: an interactive stock client, one statement a line.
    pub fn client(&self) -> Client {
        let port = format!("-P{}", self.client_port);
        let child = Command::new("mariadb")
            .args([
                "--no-defaults",
                "-h127.0.0.1",
                &port,
                "-uapp",
                "-papp",
                "-N",
                "--unbuffered",
                "--force",
                "--reconnect",
                "t",
            ])
            .stdin(Stdio::piped())
            .stdout(self.log("client.log"))
            .stderr(self.log("client.log"))
            .spawn();
        Client(Running(child.expect("mariadb")))
    }

    /// One write in a session of its own; `true` if it was taken.
    pub fn write(&self) -> bool {
        let port = format!("-P{}", self.client_port);
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "-h127.0.0.1", &port, "-uapp", "-papp", "--connect-timeout=2", "-e", INSERT]);
        output(&mut client).is_some()
    }

    fn start_raft(&mut self, n: usize) {
        let dir = self.path(&format!("orc{n}"));
        fs::create_dir_all(dir.join("raft")).expect("a directory");
        let (http, raft) = (self.http_port, self.raft_port);
        let config = serde_json::json!({
            "ListenAddress": format!("127.0.2.{n}:{http}"), "HTTPAdvertise": format!("http://127.0.2.{n}:{http}"),
            "BackendDB": "sqlite", "SQLite3DataFile": dir.join("orchestrator.sqlite3"),
            "RaftEnabled": true, "RaftDataDir": dir.join("raft"), "RaftBind": format!("127.0.2.{n}"),
            "RaftAdvertise": format!("127.0.2.{n}"), "DefaultRaftPort": raft,
            "RaftNodes": ["127.0.2.1", "127.0.2.2", "127.0.2.3"],
            "MySQLTopologyUser": "orc", "MySQLTopologyPassword": "orc", "DefaultInstancePort": self.mysql_port,
            "MySQLConnectTimeoutSeconds": 1, "InstancePollSeconds": 1, "DiscoverByShowSlaveHosts": true,
            "HostnameResolveMethod": "none", "MySQLHostnameResolveMethod": "",
            "RecoverMasterClusterFilters": ["*"], "RecoverIntermediateMasterClusterFilters": ["*"],
            "RecoveryPeriodBlockSeconds": 1, "FailureDetectionPeriodBlockMinutes": 1,
            "ApplyMySQLPromotionAfterMasterFailover": true, "MasterFailoverDetachReplicaMasterHost": false,
            "DetectClusterAliasQuery": "select alias from t.cluster_alias",
        });
        fs::write(dir.join("conf.json"), config.to_string()).expect("a config");
        self.run_raft(n);
    }

    /// Starts a raft node again.
    pub fn run_raft(&mut self, n: usize) {
        let dir = self.path(&format!("orc{n}"));
        let config = format!("--config={}", dir.join("conf.json").display());
        let child = Command::new(&self.binaries.orchestrator)
            .args([&config, "http"])
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(self.log("orchestrator.log"))
            .stderr(self.log("orchestrator.log"))
            .spawn();
        self.raft[n - 1] = Some(Running(child.expect("orchestrator")));
    }

    /// A signal to a raft node's process.
    pub fn signal_raft(&mut self, n: usize, signal: &str) {
        let pid = self.raft[n - 1].as_ref().expect("a running raft node").0.id();
        signal_process(pid, signal);
        if signal == "KILL" {
            self.raft[n - 1] = None;
        }
    }

    /// Which raft node passes leader-check.
    pub fn leader(&self) -> Option<usize> {
        (1..=3).find(|n| self.raft[*n - 1].is_some() && self.get(*n, "/api/leader-check").0 == 200)
    }

    /// Status and body of a request to a raft node; 0 where it does not answer.
    pub fn get(&self, n: usize, path: &str) -> (u16, String) {
        let url = format!("http://127.0.2.{n}:{}{path}", self.http_port);
        let answer =
            output(Command::new("curl").args(["-s", "-m", "20", "-w", "\n%{http_code}", &url])).unwrap_or_default();
        let (body, code) = answer.rsplit_once('\n').unwrap_or(("", "0"));
        (code.parse().unwrap_or(0), body.to_owned())
    }

    /// A planned takeover through Orchestrator. What it leaves not replicating (FACTS §8) its operator starts.
    pub fn take_over(&self, from: usize, to: usize) {
        let leader = self.leader().expect("a leader");
        let (old, new, port) = (node(from), node(to), self.mysql_port);
        let (code, answer) = self.get(leader, &format!("/api/graceful-master-takeover-auto/{old}/{port}/{new}/{port}"));
        println!("--- takeover {from} -> {to}: {code} {}", answer.chars().take(90).collect::<String>());
        let is_primary = || self.root(to, "select @@read_only").trim() == "0";
        eventually("the takeover's promotion", Duration::from_secs(20), is_primary);
        // From where its own writes ended.
        self.replicate_from(from, to, "current_pos");
    }

    /// The flag that names all raft nodes.
    pub fn orchestrator_flag(&self) -> String {
        let endpoints: Vec<String> = (1..=3).map(|n| format!("http://127.0.2.{n}:{}", self.http_port)).collect();
        format!("--orchestrator={}", endpoints.join(","))
    }

    /// The program, with what it needs to know of this world.
    pub fn stonith(&self, args: &[&str]) -> Command {
        let secret = self.path("admin.cnf");
        if !secret.exists() {
            use std::os::unix::fs::PermissionsExt;
            fs::write(&secret, "[client]\nuser=radmin\npassword=radmin\n").expect("a file");
            fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("its mode");
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_proxysql-stonith"));
        command.env_clear().args(args).arg(self.orchestrator_flag());
        command.arg(format!("--proxysql=127.0.0.1:{}", self.admin_port));
        command.arg(format!("--defaults-file={}", secret.display()));
        command.arg(format!("--state-dir={}", self.path("state").display()));
        command
    }

    /// Lets ProxySQL's own scheduler start the program every second.
    pub fn schedule(&self) {
        self.stonith(&["plan"]); // writes the option file
        let config = self.path("stonith.toml");
        let endpoints = self.orchestrator_flag().replace("--orchestrator=", "").replace(',', "\", \"");
        let text = format!(
            "[orchestrator]\nendpoints = [\"{endpoints}\"]\n[[proxysql]]\naddress = \"127.0.0.1:{}\"\ndefaults_file = {:?}\n\
             [run]\nscheduler_interval = \"1s\"\nstate_dir = {:?}\n",
            self.admin_port,
            self.path("admin.cnf"),
            self.path("state"),
        );
        fs::write(&config, text).expect("a config");
        self.admin(&format!(
            "INSERT INTO scheduler(id,active,interval_ms,filename,arg1,arg2,arg3) VALUES \
             (1,1,1000,'{}','run','--once','--config={}')",
            env!("CARGO_BIN_EXE_proxysql-stonith"),
            config.display()
        ));
        self.admin("LOAD SCHEDULER TO RUNTIME");
    }

    /// Starts the program as a daemon; its log is in `stonith.log`.
    pub fn start_daemon(&mut self) {
        let mut command = self.stonith(&["run"]);
        command.stdin(Stdio::null()).stdout(self.log("stonith.log")).stderr(self.log("stonith.log"));
        self.daemon = Some(Running(command.spawn().expect("the daemon")));
    }

    /// Ends it with a signal and says with which code it ended.
    pub fn end_daemon(&mut self, signal: &str) -> Option<i32> {
        let mut daemon = self.daemon.take().expect("a running daemon");
        signal_process(daemon.0.id(), signal);
        daemon.0.wait().expect("its end").code()
    }

    /// What a command of the program printed, and its exit code.
    pub fn command(&self, args: &[&str]) -> (String, i32) {
        let done = self.stonith(args).stdin(Stdio::null()).output().expect("the program");
        let text = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (text, done.status.code().unwrap_or(-1))
    }

    /// What the daemon logged.
    pub fn stonith_log(&self) -> String {
        fs::read_to_string(self.path("stonith.log")).unwrap_or_default()
    }

    /// The one node in the writer hostgroup that is ONLINE, if there is one.
    pub fn writer(&self) -> Option<usize> {
        let rows = self.rows("10");
        let online: Vec<&str> = rows.lines().filter(|row| row.contains(" ONLINE")).collect();
        match online[..] {
            [only] => only.split_whitespace().next()?.rsplit('.').next()?.parse().ok(),
            _ => None,
        }
    }

    /// A file or folder of this world.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path(name)
    }

    /// The end of a real program's log: for a test that fails.
    fn tail(&self, name: &str) -> String {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in ["node.log", "proxysql.log", "orchestrator.log", "client.log", "stonith.log"] {
                println!("--- {log}\n{}", self.tail(log));
            }
            if let Some(leader) = self.leader() {
                println!("--- instances\n{}", self.get(leader, "/api/all-instances").1);
            }
        }
    }
}

/// An application's session.
pub struct Client(Running);

/// Sessions of every kind that write without end, each by a thread of its own; one that is ended is opened again.
pub struct Writers {
    end: Arc<AtomicBool>,
    errors: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

/// The kinds of sessions, and what opens each (FACTS §4).
pub const SESSIONS: [(&str, &str); 3] =
    [("plain", "select 1"), ("transactional", "begin"), ("pinned", "create temporary table x (a int)")];

impl Writers {
    /// Opens one session of each kind, and writes in each every 50 ms until it is dropped.
    pub fn start(world: &World) -> Self {
        let (end, errors) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let port = world.client_port;
        let threads = SESSIONS.map(|session| {
            let (end, errors) = (end.clone(), errors.clone());
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                while !end.load(Ordering::Relaxed) {
                    if let Err(error) = runtime.block_on(write_until(&end, port, session)) {
                        errors.lock().expect("the errors").push(format!("{}: {error}", session.0));
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            })
        });
        Self { end, errors, threads: threads.into() }
    }

    /// Ends them, and gives the errors that their clients saw.
    pub fn end(self) -> Vec<String> {
        let errors = self.errors.clone();
        drop(self);
        Arc::try_unwrap(errors).map(|errors| errors.into_inner().expect("the errors")).unwrap_or_default()
    }
}

async fn write_until(end: &AtomicBool, port: u16, (kind, opening): (&str, &str)) -> Result<(), mysql_async::Error> {
    use mysql_async::prelude::Queryable;
    let opts = mysql_async::OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .user(Some("app"))
        .pass(Some("app"))
        .db_name(Some("t"))
        .prefer_socket(false)
        .stmt_cache_size(0);
    let mut session = mysql_async::Conn::new(opts).await?;
    session.query_drop(opening).await?;
    for n in 1_u32.. {
        if end.load(Ordering::Relaxed) {
            break;
        }
        session.query_drop(INSERT).await?;
        // What a transaction wrote is counted only once it is committed.
        if kind == "transactional" && n.is_multiple_of(5) {
            session.query_drop("commit").await?;
            session.query_drop(opening).await?;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    session.disconnect().await
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Client {
    /// Sends a statement, without waiting for the answer.
    pub fn send(&mut self, statement: &str) {
        use std::io::Write;
        let stdin = self.0.0.stdin.as_mut().expect("a pipe");
        let _ = writeln!(stdin, "{statement};").and_then(|()| stdin.flush());
    }
}

fn signal_process(pid: u32, signal: &str) {
    let done = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status();
    assert!(done.expect("kill").success());
}

fn output(command: &mut Command) -> Option<String> {
    let done = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned())
}
