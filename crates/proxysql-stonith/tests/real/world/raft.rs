//! The Orchestrator nodes: started, signalled, and asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use super::free_port;
use super::network::{Network, Part};
use super::process::{Running, output};

/// What Orchestrator keeps, and how its nodes agree on who leads.
#[derive(Clone)]
pub enum Backend {
    /// Three nodes, each with a SQLite of its own; raft elects the leader. A majority is left when one is gone.
    Raft,
    /// Two nodes that share the MariaDB at this address: raft is off, and one of them is active.
    Shared(String),
}

/// How the API of each node is reached, where that is not by plain HTTP without a login.
#[derive(Clone)]
pub struct Access {
    /// More of each node's config file.
    pub config: serde_json::Value,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// What every path begins with.
    pub prefix: &'static str,
    /// What lets the tests' own client in.
    pub curl: Vec<String>,
}

impl Access {
    /// By plain HTTP, without a login.
    pub fn plain() -> Self {
        Self { config: serde_json::json!({}), scheme: "http", prefix: "", curl: Vec::new() }
    }
}

/// All Orchestrator nodes of a world.
pub struct Raft {
    network: Rc<Network>,
    dir: PathBuf,
    binary: PathBuf,
    access: Access,
    http_port: u16,
    running: Vec<Option<Running>>,
}

impl Raft {
    /// All started; they elect a leader in a while.
    pub fn start_all(
        network: &Rc<Network>,
        dir: &Path,
        binary: PathBuf,
        mysql_port: u16,
        (backend, access): (&Backend, Access),
    ) -> Self {
        let network = network.clone();
        let dir = dir.to_owned();
        let members = match backend {
            Backend::Raft => 3,
            Backend::Shared(_) => 2,
        };
        let running = std::iter::repeat_with(|| None).take(members).collect();
        let mut raft = Self { network, dir, binary, access, http_port: free_port(), running };
        let raft_port = free_port();
        for n in raft.members() {
            raft.configure(n, raft_port, mysql_port, backend);
            raft.run(n);
        }
        raft
    }

    /// All of them, by number.
    pub fn members(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.running.len()
    }

    fn of_member(&self, n: usize) -> PathBuf {
        self.dir.join(format!("orc{n}"))
    }

    /// What one says.
    pub fn log(&self, n: usize) -> PathBuf {
        self.dir.join(format!("orc{n}.log"))
    }

    fn site(&self, n: usize) -> String {
        format!("{}://{}", self.access.scheme, self.address(n))
    }

    fn url(&self, n: usize) -> String {
        self.site(n) + self.access.prefix
    }

    /// Where one answers, `host:port`.
    pub fn address(&self, n: usize) -> String {
        format!("{}:{}", self.network.address(Part::Raft(n)), self.http_port)
    }

    /// Where each of them answers.
    pub fn endpoints(&self) -> Vec<String> {
        self.members().map(|n| self.url(n)).collect()
    }

    fn configure(&self, n: usize, raft_port: u16, mysql_port: u16, backend: &Backend) {
        let dir = self.of_member(n);
        fs::create_dir_all(dir.join("raft")).expect("a directory");
        let mut config = serde_json::json!({
            "ListenAddress": self.address(n), "HTTPAdvertise": self.site(n), "AuditPurgeDays": 400,
            "MySQLTopologyUser": "orc", "MySQLTopologyPassword": "orc", "DefaultInstancePort": mysql_port,
            "MySQLConnectTimeoutSeconds": 1, "InstancePollSeconds": 1, "DiscoverByShowSlaveHosts": true,
            "HostnameResolveMethod": "none", "MySQLHostnameResolveMethod": "",
            "RecoverMasterClusterFilters": ["*"], "RecoverIntermediateMasterClusterFilters": ["*"],
            "RecoveryPeriodBlockSeconds": 10, "FailureDetectionPeriodBlockMinutes": 1,
            "ApplyMySQLPromotionAfterMasterFailover": true, "MasterFailoverDetachReplicaMasterHost": false,
            "DetectClusterAliasQuery": "select alias from t.cluster_alias",
        });
        let of_backend = self.config_of_backend(n, raft_port, mysql_port, backend);
        for more in [&of_backend, &self.access.config] {
            config.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        }
        fs::write(dir.join("conf.json"), config.to_string()).expect("a config");
    }

    fn config_of_backend(&self, n: usize, raft_port: u16, mysql_port: u16, backend: &Backend) -> serde_json::Value {
        let dir = self.of_member(n);
        let host = |n| self.network.address(Part::Raft(n));
        match backend {
            Backend::Raft => serde_json::json!({
                "BackendDB": "sqlite", "SQLite3DataFile": dir.join("orchestrator.sqlite3"),
                "RaftEnabled": true, "RaftDataDir": dir.join("raft"), "RaftBind": host(n),
                "RaftAdvertise": host(n), "DefaultRaftPort": raft_port,
                "RaftNodes": self.members().map(host).collect::<Vec<_>>(),
            }),
            Backend::Shared(address) => serde_json::json!({
                "BackendDB": "mysql", "RaftEnabled": false,
                "MySQLOrchestratorHost": address, "MySQLOrchestratorPort": mysql_port,
                "MySQLOrchestratorDatabase": "orchestrator",
                "MySQLOrchestratorUser": "orc", "MySQLOrchestratorPassword": "orc",
            }),
        }
    }

    /// Starts one, again.
    pub fn run(&mut self, n: usize) {
        let dir = self.of_member(n);
        let mut command = self.network.command(Part::Raft(n), &self.binary);
        command.arg(format!("--config={}", dir.join("conf.json").display())).arg("http").current_dir(&dir);
        self.running[n - 1] = Some(Running::start(command, &self.log(n)));
    }

    /// A signal to one's process.
    pub fn signal(&mut self, n: usize, signal: &str) {
        self.running[n - 1].as_ref().expect("a running raft node").signal(signal);
        if signal == "KILL" {
            self.running[n - 1] = None;
        }
    }

    /// All that pass leader-check.
    pub fn leaders(&self) -> Vec<usize> {
        let leads = |n: &usize| self.running[*n - 1].is_some() && self.get(*n, "/api/leader-check").0 == 200;
        self.members().filter(leads).collect()
    }

    /// The first that passes leader-check.
    pub fn leader(&self) -> Option<usize> {
        self.leaders().first().copied()
    }

    /// Status and body of a request to one; 0 where it does not answer.
    pub fn get(&self, n: usize, path: &str) -> (u16, String) {
        let url = self.url(n) + path;
        let mut curl = Command::new("curl");
        curl.args(["-s", "-m", "20", "-w", "\n%{http_code}"]).args(&self.access.curl).arg(&url);
        let answer = output(&mut curl).unwrap_or_default();
        let (body, code) = answer.rsplit_once('\n').unwrap_or(("", "0"));
        (code.parse().unwrap_or(0), body.to_owned())
    }
}
