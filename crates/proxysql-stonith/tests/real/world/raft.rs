//! The three Orchestrator nodes: started, signalled, and asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use super::free_port;
use super::network::{Network, Part};
use super::process::{Running, output};

/// How many: a majority is left when one is gone.
const MEMBERS: usize = 3;

/// All Orchestrator nodes of a world.
pub struct Raft {
    network: Rc<Network>,
    dir: PathBuf,
    binary: PathBuf,
    http_port: u16,
    running: [Option<Running>; MEMBERS],
}

impl Raft {
    /// All started; they elect a leader in a while.
    pub fn start_all(network: &Rc<Network>, dir: &Path, binary: PathBuf, mysql_port: u16) -> Self {
        let network = network.clone();
        let dir = dir.to_owned();
        let mut raft = Self { network, dir, binary, http_port: free_port(), running: Default::default() };
        let raft_port = free_port();
        for n in 1..=MEMBERS {
            raft.configure(n, raft_port, mysql_port);
            raft.run(n);
        }
        raft
    }

    fn of_member(&self, n: usize) -> PathBuf {
        self.dir.join(format!("orc{n}"))
    }

    /// What one says.
    pub fn log(&self, n: usize) -> PathBuf {
        self.dir.join(format!("orc{n}.log"))
    }

    fn url(&self, n: usize) -> String {
        format!("http://{}:{}", self.network.address(Part::Raft(n)), self.http_port)
    }

    /// Where each of them answers.
    pub fn endpoints(&self) -> Vec<String> {
        (1..=MEMBERS).map(|n| self.url(n)).collect()
    }

    fn configure(&self, n: usize, raft_port: u16, mysql_port: u16) {
        let dir = self.of_member(n);
        fs::create_dir_all(dir.join("raft")).expect("a directory");
        let address = |n| self.network.address(Part::Raft(n));
        let members: Vec<String> = (1..=MEMBERS).map(address).collect();
        let config = serde_json::json!({
            "ListenAddress": format!("{}:{}", address(n), self.http_port), "HTTPAdvertise": self.url(n),
            "BackendDB": "sqlite", "SQLite3DataFile": dir.join("orchestrator.sqlite3"),
            "RaftEnabled": true, "RaftDataDir": dir.join("raft"), "RaftBind": address(n),
            "RaftAdvertise": address(n), "DefaultRaftPort": raft_port, "RaftNodes": members,
            "MySQLTopologyUser": "orc", "MySQLTopologyPassword": "orc", "DefaultInstancePort": mysql_port,
            "MySQLConnectTimeoutSeconds": 1, "InstancePollSeconds": 1, "DiscoverByShowSlaveHosts": true,
            "HostnameResolveMethod": "none", "MySQLHostnameResolveMethod": "",
            "RecoverMasterClusterFilters": ["*"], "RecoverIntermediateMasterClusterFilters": ["*"],
            "RecoveryPeriodBlockSeconds": 1, "FailureDetectionPeriodBlockMinutes": 1,
            "ApplyMySQLPromotionAfterMasterFailover": true, "MasterFailoverDetachReplicaMasterHost": false,
            "DetectClusterAliasQuery": "select alias from t.cluster_alias",
        });
        fs::write(dir.join("conf.json"), config.to_string()).expect("a config");
    }

    /// Starts one, again.
    pub fn run(&mut self, n: usize) {
        let dir = self.of_member(n);
        let mut command = self.network.command(Part::Raft(n), &self.binary);
        command.arg(format!("--config={}", dir.join("conf.json").display())).arg("http").current_dir(&dir);
        self.running[n - 1] = Some(Running::start(command, &self.dir.join("orchestrator.log")));
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
        (1..=MEMBERS).filter(leads).collect()
    }

    /// The first that passes leader-check.
    pub fn leader(&self) -> Option<usize> {
        self.leaders().first().copied()
    }

    /// Status and body of a request to one; 0 where it does not answer.
    pub fn get(&self, n: usize, path: &str) -> (u16, String) {
        let url = self.url(n) + path;
        let answer =
            output(Command::new("curl").args(["-s", "-m", "20", "-w", "\n%{http_code}", &url])).unwrap_or_default();
        let (body, code) = answer.rsplit_once('\n').unwrap_or(("", "0"));
        (code.parse().unwrap_or(0), body.to_owned())
    }
}
