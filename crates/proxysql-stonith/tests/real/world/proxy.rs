//! One ProxySQL and its agent: started, ended, and looked into.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::network::{Network, Part};
use super::nodes::Nodes;
use super::process::{Running, output};
use super::server::Server;
use super::{NODES, eventually, free_port, sessions};

/// What lets the program work on every version that the tests are given.
const ANY_VERSION: &str = "accept_lost_edits = true";

/// A ProxySQL with hostgroups 10 (writer) and 20 (reader), and the program beside it.
pub struct Proxy {
    network: Rc<Network>,
    part: Part,
    dir: PathBuf,
    binary: PathBuf,
    mysql_port: u16,
    orchestrator: Vec<String>,
    pub admin_port: u16,
    pub client_port: u16,
    proxysql: Option<Running>,
    daemon: Option<Running>,
}

impl Proxy {
    /// Up, with all nodes; node 1 is the primary. Its agent is not started yet.
    pub fn start(network: &Rc<Network>, n: usize, dir: &Path, binary: PathBuf, nodes: &Nodes) -> Self {
        let (part, mysql_port) = (Part::Proxy(n), nodes.port);
        let mut proxy = Self {
            network: network.clone(),
            part,
            dir: dir.join(part.to_string()),
            binary,
            mysql_port,
            orchestrator: Vec::new(),
            admin_port: free_port(),
            client_port: free_port(),
            proxysql: None,
            daemon: None,
        };
        proxy.configure(&nodes.server);
        proxy.set_config("");
        proxy.run();
        for replica in 2..=NODES {
            let host = proxy.node(replica);
            proxy.admin(&format!(
                "INSERT INTO mysql_servers(hostgroup_id,hostname,port,max_connections) VALUES (20,'{host}',{mysql_port},100)"
            ));
        }
        proxy.admin("LOAD MYSQL SERVERS TO RUNTIME");
        proxy.admin("SAVE MYSQL SERVERS TO DISK");
        eventually("the primary in the writer hostgroup", Duration::from_secs(10), || proxy.is_online("10", 1));
        proxy
    }

    /// Tells its agent where Orchestrator is.
    pub fn set_orchestrator(&mut self, endpoints: Vec<String>) {
        self.orchestrator = endpoints;
    }

    /// Tells its agent what only a config file can say, passwords included.
    pub fn set_config(&self, text: &str) {
        let of_proxy = format!("[[proxysql]]\naddress = \"{}:{}\"\n{ANY_VERSION}\n", self.address(), self.admin_port);
        fs::write(self.config(), format!("{text}\n{of_proxy}")).expect("a config");
        fs::set_permissions(self.config(), fs::Permissions::from_mode(0o600)).expect("its mode");
    }

    fn config(&self) -> PathBuf {
        self.file("more.toml")
    }

    /// Where clients and admins find it.
    pub fn address(&self) -> String {
        self.network.address(self.part)
    }

    fn node(&self, n: usize) -> String {
        self.network.address(Part::Node(n))
    }

    /// A file or folder of its own.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn configure(&self, server: &Server) {
        fs::create_dir_all(self.file("data")).expect("a directory");
        let address = self.address();
        // Up to 2.5 a password is hashed when it is loaded, and a hash is no good for MySQL's caching_sha2_password.
        let hash_passwords = if server.is_mysql() { "hash_passwords=\"false\"" } else { "" };
        let text = format!(
            "datadir=\"{}\"\nadmin_variables={{ admin_credentials=\"admin:admin;radmin:radmin\" mysql_ifaces=\"{address}:{}\" \
             pgsql_ifaces=\"{address}:{}\" {hash_passwords} }}\n\
             pgsql_variables={{ interfaces=\"{address}:{}\" }}\n\
             mysql_variables={{ threads=2 interfaces=\"{address}:{}\" monitor_username=\"monitor\" monitor_password=\"monitor\" \
             monitor_read_only_interval=1000 monitor_read_only_timeout=500 monitor_ping_interval=2000 monitor_connect_interval=2000 \
             connect_timeout_server=1000 connect_timeout_server_max=3000 }}\n\
             mysql_servers=( {{ address=\"{}\" port={} hostgroup=10 max_connections=100 }} )\n\
             mysql_users=( {{ username=\"app\" password=\"app\" default_hostgroup=10 active=1 }} )\n\
             mysql_query_rules=( {{ rule_id=1 active=1 match_digest=\"^SELECT.*READER\" destination_hostgroup=20 apply=1 }} )\n\
             mysql_replication_hostgroups=( {{ writer_hostgroup=10 reader_hostgroup=20 check_type=\"read_only\" comment=\"real\" }} )\n",
            self.file("data").display(),
            self.admin_port,
            free_port(),
            free_port(),
            self.client_port,
            self.node(1),
            self.mysql_port
        );
        fs::write(self.file("proxysql.cnf"), text).expect("a config");
        let secret = self.file("admin.cnf");
        fs::write(&secret, "[client]\nuser=radmin\npassword=radmin\n").expect("a file");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("its mode");
    }

    fn starter(&self) -> Command {
        let mut command = self.network.command(self.part, &self.binary);
        command.args(["-f", "--no-version-check", "-D"]).arg(self.file("data"));
        command.arg("-c").arg(self.file("proxysql.cnf"));
        command
    }

    fn run(&mut self) {
        // Again if need be, as its own guardian does: 2.6.6 was seen to crash while it started (docs/compatibility.md).
        eventually("ProxySQL's admin up", Duration::from_secs(30), || {
            if self.proxysql.as_mut().is_none_or(|running| running.0.try_wait().is_ok_and(|end| end.is_some())) {
                self.proxysql = Some(Running::start(self.starter(), &self.file("proxysql.log")));
            }
            self.try_admin("SELECT 1").is_some()
        });
    }

    /// Makes it a member of a ProxySQL Cluster with these admin addresses, itself among them.
    pub fn join(&self, members: &[(String, u16)]) {
        let rows: Vec<String> = members.iter().map(|(host, port)| format!("('{host}',{port})")).collect();
        let statements = [
            "SET admin-admin_credentials='admin:admin;radmin:radmin;cluster:cluster'".to_owned(),
            "SET admin-cluster_username='cluster'".to_owned(),
            "SET admin-cluster_password='cluster'".to_owned(),
            "LOAD ADMIN VARIABLES TO RUNTIME".to_owned(),
            "SAVE ADMIN VARIABLES TO DISK".to_owned(),
            format!("INSERT INTO proxysql_servers(hostname,port) VALUES {}", rows.join(",")),
            "LOAD PROXYSQL SERVERS TO RUNTIME".to_owned(),
            "SAVE PROXYSQL SERVERS TO DISK".to_owned(),
        ];
        for statement in statements {
            self.admin(&statement);
        }
    }

    /// Starts it again if it died, as systemd does.
    pub fn start_again_if_it_died(&mut self) -> bool {
        let has_died = self.proxysql.as_mut().is_none_or(|process| process.0.try_wait().expect("its state").is_some());
        if has_died {
            self.run();
        }
        has_died
    }

    /// Its rows, in every layer.
    pub fn layers(&self) -> String {
        let layer = |table: &str| {
            let columns = "hostgroup_id,hostname,port,status,weight,max_connections,comment";
            format!("{table}\n{}", self.admin(&format!("SELECT {columns} FROM {table} ORDER BY 1,2,3")))
        };
        ["runtime_mysql_servers", "main.mysql_servers", "disk.mysql_servers"].map(layer).concat()
    }

    /// What sends ProxySQL a signal.
    pub fn signal(&self, signal: &str) -> Command {
        let mut command = Command::new("kill");
        command.arg(format!("-{signal}")).arg(self.id());
        command
    }

    /// Stops it, and waits until each of its threads has stopped: on a loaded machine one may still carry a statement out.
    pub fn stop(&self) -> Command {
        const STOP: &str =
            "kill -STOP $1; while grep -h ^State: /proc/$1/task/*/status | grep -qv stopped; do sleep 0.01; done";
        let mut command = Command::new("sh");
        command.args(["-c", STOP, "sh"]).arg(self.id());
        command
    }

    fn id(&self) -> String {
        self.proxysql.as_ref().expect("it runs").0.id().to_string()
    }

    /// Kills it and starts it again from its disk.
    pub fn restart(&mut self) {
        self.proxysql = None;
        let admin = (self.address(), self.admin_port);
        let is_free = || TcpStream::connect((admin.0.as_str(), admin.1)).is_err();
        eventually("the port free", Duration::from_secs(10), is_free);
        self.run();
    }

    /// The same, with another version of it.
    pub fn upgrade(&mut self, binary: &Path) {
        self.binary = binary.to_owned();
        self.restart();
    }

    /// A statement on the admin interface, by the stock client.
    pub fn admin(&self, statement: &str) -> String {
        // Twice: right after its start ProxySQL 2.7.1 was seen to refuse a good password once in a while.
        let again = || self.try_admin(statement);
        again().or_else(again).unwrap_or_else(|| panic!("ProxySQL refused {statement}"))
    }

    /// The same; `None` if it was refused, or if nobody answers.
    pub fn try_admin(&self, statement: &str) -> Option<String> {
        output(&mut self.admin_command(statement))
    }

    /// What sends a statement to the admin interface.
    pub fn admin_command(&self, statement: &str) -> Command {
        let (host, port) = (format!("-h{}", self.address()), format!("-P{}", self.admin_port));
        // The user `admin` is for the proxy's own machine only.
        let login = ["--no-defaults", &host, &port, "-uradmin", "-pradmin", "-N", "-e", statement];
        let mut command = Command::new("mariadb");
        command.args(login);
        command
    }

    /// Runtime rows of a hostgroup, `host STATUS comment` a line.
    pub fn rows(&self, hostgroup: &str) -> String {
        let statement = format!(
            "SELECT hostname||' '||status||comment FROM runtime_mysql_servers WHERE hostgroup_id={hostgroup} ORDER BY 1"
        );
        self.try_admin(&statement).unwrap_or_default()
    }

    /// Both hostgroups, in one line.
    pub fn all_rows(&self) -> String {
        format!("10: {} 20: {}", self.rows("10").replace('\n', "; "), self.rows("20").replace('\n', "; "))
    }

    /// A node's row in a hostgroup: `STATUS comment`.
    pub fn row(&self, hostgroup: &str, n: usize) -> Option<String> {
        let host = self.node(n) + " ";
        self.rows(hostgroup).lines().find_map(|row| row.strip_prefix(&host)).map(str::to_owned)
    }

    /// Whether a node's row is in service, and without a note.
    pub fn is_online(&self, hostgroup: &str, n: usize) -> bool {
        self.row(hostgroup, n).as_deref() == Some("ONLINE")
    }

    /// The one node in the writer hostgroup that is ONLINE, if there is one.
    pub fn writer(&self) -> Option<usize> {
        let rows = self.rows("10");
        let mut online = rows.lines().filter(|row| row.contains(" ONLINE"));
        let (Some(only), None) = (online.next(), online.next()) else { return None };
        (1..=NODES).find(|n| only.starts_with(&(self.node(*n) + " ")))
    }

    /// All rows of a node are out, in every layer, and have our note.
    pub fn has_fenced(&self, n: usize) -> bool {
        ["runtime_mysql_servers", "main.mysql_servers", "disk.mysql_servers"].iter().all(|table| {
            let select = format!("SELECT status||comment FROM {table} WHERE hostname='{}'", self.node(n));
            let rows = self.admin(&format!("{select} AND status<>'OFFLINE_HARD'"));
            let is_fence = |row: &str| row.starts_with("OFFLINE_SOFT") && row.contains("[stonith:1 ");
            !rows.is_empty() && rows.lines().all(is_fence)
        })
    }

    /// Connections in use on a node.
    pub fn used(&self, n: usize) -> usize {
        let sum = "SELECT COALESCE(SUM(ConnUsed),0) FROM stats_mysql_connection_pool";
        self.admin(&format!("{sum} WHERE srv_host='{}'", self.node(n))).trim().parse().expect("a number")
    }

    /// Nothing is in service, and no session is left. One statement: it is asked again and again, to time it.
    pub fn is_out_of_service(&self) -> bool {
        let in_service = "SELECT COUNT(*) FROM runtime_mysql_servers WHERE status NOT LIKE 'OFFLINE_%'";
        let used = "SELECT COALESCE(SUM(ConnUsed),0) FROM stats_mysql_connection_pool";
        self.admin(&format!("SELECT ({in_service})+({used})")).trim() == "0"
    }

    /// Watches it for a while: its rows stay as they are.
    pub fn stays(&self, time: Duration, rows: &str) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            assert_eq!(self.all_rows(), rows, "its log:\n{}", self.stonith_log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Changes server rows as an operator does who keeps what the monitor has placed: runtime, memory and disk are equal
    /// afterwards.
    pub fn edit_servers(&self, statements: &[&str]) {
        let around = ["SAVE MYSQL SERVERS FROM RUNTIME", "LOAD MYSQL SERVERS TO RUNTIME", "SAVE MYSQL SERVERS TO DISK"];
        for statement in [&around[..1], statements, &around[1..]].concat() {
            self.admin(statement);
        }
    }

    /// How often its servers were loaded so far, by whomever.
    pub fn loads(&self) -> usize {
        let log = fs::read(self.file("proxysql.log")).expect("its log");
        String::from_utf8_lossy(&log).matches("Received LOAD MYSQL SERVERS TO RUNTIME command").count()
    }

    /// One write in a session of its own; `true` if it was taken.
    pub fn write(&self) -> bool {
        sessions::write(self)
    }

    /// The flag that names all of Orchestrator's nodes.
    pub fn orchestrator_flag(&self) -> String {
        format!("--orchestrator={}", self.orchestrator.join(","))
    }

    /// The program, with what it needs to know of this proxy.
    pub fn stonith(&self, args: &[&str]) -> Command {
        let mut command = self.network.command(self.part, env!("CARGO_BIN_EXE_proxysql-stonith"));
        command.env_clear().args(args).arg(self.orchestrator_flag());
        command.arg(format!("--proxysql={}:{}", self.address(), self.admin_port));
        command.arg(format!("--defaults-file={}", self.file("admin.cnf").display()));
        command.arg(format!("--state-dir={}", self.file("state").display()));
        command.arg(format!("--config={}", self.config().display()));
        command
    }

    /// A config file that has all that the program needs.
    fn write_whole_config(&self) -> PathBuf {
        let config = self.file("stonith.toml");
        let text = format!(
            "[orchestrator]\nendpoints = [\"{}\"]\n[[proxysql]]\naddress = \"{}:{}\"\ndefaults_file = {:?}\n\
             {ANY_VERSION}\n[run]\nscheduler_interval = \"1s\"\nstate_dir = {:?}\n",
            self.orchestrator.join("\", \""),
            self.address(),
            self.admin_port,
            self.file("admin.cnf"),
            self.file("state"),
        );
        fs::write(&config, text).expect("a config");
        config
    }

    /// What a command of the program printed that is told nothing but this file, and its exit code.
    #[must_use = "it may have failed"]
    pub fn command_by_file(&self, args: &[&str]) -> (String, i32) {
        let config = self.write_whole_config();
        let mut command = self.network.command(self.part, env!("CARGO_BIN_EXE_proxysql-stonith"));
        command.env_clear().args(args).arg(format!("--config={}", config.display()));
        let done = command.stdin(Stdio::null()).output().expect("the program");
        let text = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (text, done.status.code().unwrap_or(-1))
    }

    /// Lets ProxySQL's own scheduler start the program every second.
    pub fn schedule(&self) {
        let config = self.write_whole_config();
        self.admin(&format!(
            "INSERT INTO scheduler(id,active,interval_ms,filename,arg1,arg2,arg3) VALUES \
             (1,1,1000,'{}','run','--once','--config={}')",
            env!("CARGO_BIN_EXE_proxysql-stonith"),
            config.display()
        ));
        self.admin("LOAD SCHEDULER TO RUNTIME");
    }

    /// Starts the program as a daemon, and waits until it is armed; its log is in `stonith.log`.
    pub fn start_daemon(&mut self) {
        self.run_daemon();
        self.wait_until_armed();
    }

    /// The same, without waiting.
    pub fn run_daemon(&mut self) {
        self.daemon = Some(Running::start(self.stonith(&["run"]), &self.file("stonith.log")));
    }

    /// Waits until its agent is armed.
    pub fn wait_until_armed(&self) {
        let is_armed = || self.command(&["status"]).0.contains("; armed");
        eventually("the agent armed", Duration::from_secs(15), is_armed);
    }

    /// Waits until its agent has ticked so often more, be that the daemon or what the scheduler starts.
    pub fn ticks(&self, count: usize) {
        let last = || {
            let kept =
                fs::read_to_string(self.file(&format!("state/tick-{}_{}.json", self.address(), self.admin_port)));
            kept.ok().and_then(|kept| kept.split_once("\"last_tick_ms\":").map(|(_, rest)| rest.to_owned()))
        };
        for _ in 0..count {
            let before = last();
            eventually("another tick", Duration::from_secs(15), || last().is_some_and(|now| Some(now) != before));
        }
    }

    /// Waits until ProxySQL's monitor has looked at read_only so often more, of whichever server.
    pub fn checks(&self, count: usize) {
        let log = "FROM monitor.mysql_server_read_only_log";
        let last = self.admin(&format!("SELECT MAX(time_start_us) {log}"));
        let since = format!("SELECT COUNT(*) {log} WHERE time_start_us>{}", last.trim());
        eventually("the monitor's checks", Duration::from_secs(60), || {
            self.admin(&since).trim().parse::<usize>().expect("a number") >= count
        });
    }

    /// Ends it with a signal and says with which code it ended.
    #[must_use = "it may have failed"]
    pub fn end_daemon(&mut self, signal: &str) -> Option<i32> {
        let mut daemon = self.daemon.take().expect("a running daemon");
        daemon.signal(signal);
        daemon.0.wait().expect("its end").code()
    }

    /// What a command of the program printed, and its exit code.
    #[must_use = "it may have failed"]
    pub fn command(&self, args: &[&str]) -> (String, i32) {
        let done = self.stonith(args).stdin(Stdio::null()).output().expect("the program");
        let text = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (text, done.status.code().unwrap_or(-1))
    }

    /// What the daemon logged.
    pub fn stonith_log(&self) -> String {
        fs::read_to_string(self.file("stonith.log")).unwrap_or_default()
    }
}
