//! The MySQL or MariaDB nodes: started, killed, replicated, repaired, and asked what they took.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use super::network::{Network, Part};
use super::process::{Running, output};
use super::proxy::Proxy;
use super::server::Server;
use super::{NODES, eventually};

/// A server of its own, outside the cluster: Orchestrator's database, or another application's.
pub const OUTSIDER: usize = NODES + 1;

/// All nodes of a world.
pub struct Nodes {
    network: Rc<Network>,
    dir: PathBuf,
    /// What each of them runs.
    pub server: Server,
    /// The port that each of them has.
    pub port: u16,
    running: [Option<Running>; OUTSIDER],
    /// How often each was made anew, empty.
    installed: [usize; OUTSIDER],
}

impl Nodes {
    /// New, empty and up; none replicates yet.
    pub fn start_all(network: &Rc<Network>, dir: &Path, server: Server, port: u16) -> Self {
        let (network, dir) = (network.clone(), dir.to_owned());
        let mut nodes = Self { network, dir, server, port, running: Default::default(), installed: Default::default() };
        for n in 1..=NODES {
            nodes.add(n);
        }
        nodes
    }

    /// Makes a node that was not there, empty and up.
    pub fn add(&mut self, n: usize) {
        self.install(n);
        self.start(n);
    }

    /// A node as Orchestrator and ProxySQL name it.
    pub fn name(&self, n: usize) -> String {
        format!("{}:{}", self.address(n), self.port)
    }

    /// Where a node listens, and its own name for itself.
    pub fn address(&self, n: usize) -> String {
        self.network.address(Part::Node(n))
    }

    /// Which node has this address.
    pub fn number(&self, address: &str) -> Option<usize> {
        (1..=NODES).find(|n| self.address(*n) == address)
    }

    /// What a node says.
    pub fn log(&self, n: usize) -> PathBuf {
        self.dir.join(format!("node{n}.log"))
    }

    fn data(&self, n: usize) -> PathBuf {
        self.dir.join(format!("node{n}"))
    }

    /// Its own: a MariaDB that starts deletes the temporary tables of all that share the directory.
    fn tmp(&self, n: usize) -> PathBuf {
        let tmp = self.dir.join(format!("node{n}.tmp"));
        std::fs::create_dir_all(&tmp).expect("a directory");
        tmp
    }

    fn socket(&self, n: usize) -> String {
        format!("--socket={}", self.dir.join(format!("node{n}.sock")).display())
    }

    fn install(&mut self, n: usize) {
        self.installed[n - 1] += 1;
        let template = self.dir.join("template");
        if !template.exists() {
            let done = self.server.installer(&template).env("TMPDIR", self.tmp(n)).output().expect("the installer");
            assert!(done.status.success(), "{done:?}");
            // MySQL's identity; a server without one makes its own.
            let _ = std::fs::remove_file(template.join("auto.cnf"));
        }
        let done = Command::new("cp").arg("-a").arg(&template).arg(self.data(n)).status().expect("cp");
        assert!(done.success(), "a copy of the empty data directory");
    }

    /// Starts a node as it was; `read_only` as the default is: off. That is what brings an old primary back writable.
    pub fn start(&mut self, n: usize) {
        let mut command = self.network.command(Part::Node(n), self.server.program());
        command.args(self.server.options()).args([
            format!("--datadir={}", self.data(n).display()),
            self.socket(n),
            format!("--port={}", self.port),
            format!("--bind-address={}", self.address(n)),
            // MySQL takes nothing of its own server id from another: a node that was made anew has a new one.
            format!("--server-id={n}{}", self.installed[n - 1]),
            format!("--report-host={}", self.address(n)),
            format!("--report-port={}", self.port),
        ]);
        command.env("TMPDIR", self.tmp(n));
        self.running[n - 1] = Some(Running::start(command, &self.log(n)));
        eventually("a node up", Duration::from_secs(60), || self.try_root(n, "select 1").is_some());
    }

    /// A signal to a node's process.
    pub fn signal(&mut self, n: usize, signal: &str) {
        self.running[n - 1].as_ref().expect("a running node").signal(signal);
        if signal == "KILL" {
            self.running[n - 1] = None;
        }
    }

    /// A statement as root on a node.
    pub fn root(&self, n: usize, statement: &str) -> String {
        self.try_root(n, statement).unwrap_or_else(|| panic!("node {n} refused {statement}"))
    }

    /// A client's program on a node, with the password of the user's name.
    pub fn client(&self, n: usize, user: &str, statements: &str) -> Command {
        let mut command = Command::new("mariadb");
        command.args([
            "--no-defaults",
            &format!("-u{user}"),
            &format!("-p{user}"),
            &self.socket(n),
            "-N",
            "-e",
            statements,
        ]);
        command
    }

    /// The file of the CA that MySQL makes for itself; all nodes have the same.
    pub fn ca(&self) -> PathBuf {
        self.data(1).join("ca.pem")
    }

    fn try_root(&self, n: usize, statement: &str) -> Option<String> {
        output(Command::new("mariadb").args(["--no-defaults", "-uroot", &self.socket(n), "-N", "-e", statement]))
    }

    /// Makes a node a read-only replica of another.
    pub fn replicate(&self, n: usize, of: usize) {
        self.replicate_from(n, of, "slave_pos");
    }

    /// The same, from another position.
    pub fn replicate_from(&self, n: usize, of: usize, position: &str) {
        let change = self.server.replicate(&self.address(of), self.port, position);
        self.root(n, &change);
    }

    /// An operator's repair: the data of another node, and a read-only replica of it. What only this node had is lost.
    /// Read-only from the beginning: a statement that was sent before a cut may arrive long after it.
    pub fn rebuild(&mut self, n: usize, of: usize) {
        if self.server.is_mysql() {
            return self.make_anew(n, of);
        }
        let mut dump = Command::new("mariadb-dump")
            .args(["--no-defaults", "-uroot", &self.socket(of), "--single-transaction", "--master-data=1", "--gtid"])
            .args(["--databases", "t"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("mariadb-dump");
        let data = dump.stdout.take().expect("a pipe");
        self.root(n, "stop slave; reset slave all; set global read_only=1; drop database t; reset master");
        let options = ["--no-defaults", "-uroot", &self.socket(n), "--init-command=set sql_log_bin=0"];
        let done = Command::new("mariadb").args(options).stdin(data).status().expect("mariadb");
        assert!(done.success() && dump.wait().expect("its end").success());
        self.replicate(n, of);
    }

    /// Empties a node, and lets it take all that another one has ever logged.
    fn make_anew(&mut self, n: usize, of: usize) {
        self.running[n - 1] = None;
        std::fs::remove_dir_all(self.data(n)).expect("its data");
        self.add(n);
        self.replicate(n, of);
        // A session keeps the rights that its user had when it was opened. Orchestrator may have come between CREATE USER
        // and GRANT, and would never get in again.
        eventually("Orchestrator's rights", Duration::from_secs(30), || {
            self.try_root(n, "show grants for orc@'%'").is_some_and(|grants| grants.contains("SUPER"))
        });
        let sessions = self.root(n, "select id from performance_schema.processlist where user='orc'");
        sessions.lines().for_each(|id| drop(self.try_root(n, &format!("kill {id}"))));
    }

    /// The rows that a node itself wrote, as the node has them.
    pub fn written_on(&self, n: usize) -> usize {
        self.count(n, "true")
    }

    /// Those that it wrote after a moment, in seconds since 1970.
    pub fn written_after(&self, n: usize, moment: f64) -> usize {
        self.count(n, &format!("at > from_unixtime({moment:.3})"))
    }

    /// Those whose statement was sent after a moment.
    pub fn sent_after(&self, n: usize, moment: f64) -> usize {
        self.count(n, &format!("sent > {moment:.3}"))
    }

    /// Those that it wrote after a moment, though they were sent before.
    pub fn under_way_at(&self, n: usize, moment: f64) -> usize {
        self.count(n, &format!("sent <= {moment:.3} and at > from_unixtime({moment:.3})"))
    }

    /// Those that came through this proxy.
    pub fn written_through(&self, n: usize, proxy: &Proxy) -> usize {
        self.count(n, &through(proxy))
    }

    /// Those that came through this proxy after a moment, in seconds since 1970.
    pub fn written_through_after(&self, n: usize, proxy: &Proxy, moment: f64) -> usize {
        self.count(n, &format!("{} and at > from_unixtime({moment:.3})", through(proxy)))
    }

    fn count(&self, n: usize, which: &str) -> usize {
        let statement = format!("select count(*) from t.a where host='{}' and {which}", self.address(n));
        self.root(n, &statement).trim().parse().expect("a number")
    }

    /// When a node itself wrote first and last, in seconds since 1970, if it ever did.
    pub fn wrote_from_to(&self, n: usize) -> Option<(f64, f64)> {
        let select = "select unix_timestamp(min(at)), unix_timestamp(max(at)) from t.a where host";
        let times = self.root(n, &format!("{select}='{}'", self.address(n)));
        let mut times = times.split_whitespace().map(|time| time.parse().ok());
        Some((times.next()??, times.next()??))
    }
}

/// What a node knows of where a row came from: the proxy's address.
fn through(proxy: &Proxy) -> String {
    format!("via='app@{}'", proxy.address())
}
