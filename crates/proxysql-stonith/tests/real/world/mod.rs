//! Real MariaDB or MySQL, ProxySQL and Orchestrator, each test its own, ended by process id.
//!
//! Three nodes, three raft nodes, a ProxySQL: all on loopback, or at three sites with a second ProxySQL, each part in a
//! network namespace of its own.

mod balancer;
mod between;
mod hooks;
mod namespaces;
mod network;
mod nodes;
mod process;
mod proxy;
mod raft;
mod server;
mod sessions;

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

pub use balancer::{Balancer, Front, Haproxy};
pub use between::Relay;
pub use hooks::{Hooks, Ran};
pub use namespaces::Namespaces;
pub use network::{Network, Part, site};
pub use nodes::{Nodes, OUTSIDER};
pub use process::free_port;
pub use process::{Binaries, Running, eventually, say, skipped, version};
pub use proxy::Proxy;
pub use raft::{Access, Backend, Raft};
pub use server::Server;
pub use sessions::{Client, SESSIONS, Writers, login, login_as, now};

/// How many MySQL nodes there are; the first is the primary.
pub const NODES: usize = 3;

/// The whole set-up. What comes first ends first: the processes before the network, that before the files.
pub struct World {
    /// The one at site 1.
    pub proxy: Proxy,
    /// The one at site 2, where there are sites.
    pub far_proxy: Option<Proxy>,
    /// The third of a ProxySQL Cluster.
    pub third_proxy: Option<Proxy>,
    pub raft: Raft,
    pub nodes: Nodes,
    pub network: Rc<Network>,
    _dir: tempfile::TempDir,
}

impl World {
    /// Everything up on loopback, node 1 the primary, Orchestrator knowing all three.
    pub fn start(binaries: Binaries) -> Self {
        Self::set_up(binaries, Network::loopback(), 1, (&Backend::Raft, Access::plain())).discovered()
    }

    /// The same with two ProxySQLs.
    pub fn with_two_proxies(binaries: Binaries) -> Self {
        Self::set_up(binaries, Network::loopback(), 2, (&Backend::Raft, Access::plain())).discovered()
    }

    /// The same with three ProxySQLs, which are a ProxySQL Cluster.
    pub fn with_a_cluster(binaries: Binaries) -> Self {
        let access = (&Backend::Raft, Access::plain());
        let world = Self::set_up(binaries, Network::loopback(), 3, access).discovered();
        let members: Vec<(String, u16)> = world.proxies().map(|proxy| (proxy.address(), proxy.admin_port)).collect();
        world.proxies().for_each(|proxy| proxy.join(&members));
        world
    }

    /// The same with two Orchestrators without raft, whose database is the MariaDB outside the cluster.
    pub fn with_shared_backend(binaries: Binaries) -> Self {
        let network = Network::loopback();
        let backend = Backend::Shared(network.address(Part::Node(OUTSIDER)));
        Self::set_up(binaries, network, 1, (&backend, Access::plain())).discovered()
    }

    /// The same as at `start`, with an Orchestrator that is reached in another way.
    pub fn with_access(binaries: Binaries, access: Access) -> Self {
        Self::set_up(binaries, Network::loopback(), 1, (&Backend::Raft, access)).discovered()
    }

    /// The same at three sites, with a ProxySQL at the first two; says in one line why there is none.
    pub fn at_three_sites(binaries: Binaries) -> Option<Self> {
        Self::at_three_sites_with(binaries, Access::plain())
    }

    /// The same, with this Orchestrator.
    pub fn at_three_sites_with(binaries: Binaries, access: Access) -> Option<Self> {
        let mut parts = [site(1), site(2), site(3)].concat();
        parts.retain(|part| *part != Part::Proxy(3));
        let network = Network::namespaces(Namespaces::of(&parts)?);
        Some(Self::set_up(binaries, network, 2, (&Backend::Raft, access)).discovered())
    }

    /// The same as at `start`, with an Orchestrator that was told of the primary and need not
    /// understand what MySQL answers; and what it said.
    pub fn undiscovered(binaries: Binaries) -> (Self, String) {
        let world = Self::set_up(binaries, Network::loopback(), 1, (&Backend::Raft, Access::plain()));
        let path = format!("/api/discover/{}/{}", world.nodes.address(1), world.nodes.port);
        let (_, said) = world.raft.get(world.leader(), &path);
        (world, said)
    }

    fn set_up(binaries: Binaries, network: Network, proxies: usize, orchestrator: (&Backend, Access)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let network = Rc::new(network);
        let mut nodes = Nodes::start_all(&network, dir.path(), binaries.server.clone(), free_port());
        replicate(&nodes);
        if matches!(orchestrator.0, Backend::Shared(_)) {
            nodes.add(OUTSIDER);
            let user = "create user orc@'%' identified by 'orc'; grant all on orchestrator.* to orc@'%'";
            nodes.root(OUTSIDER, &format!("create database orchestrator; {user}"));
        }
        let proxy = |n| Proxy::start(&network, n, dir.path(), binaries.proxysql.clone(), &nodes);
        let (mut far_proxy, mut third_proxy) = ((proxies > 1).then(|| proxy(2)), (proxies > 2).then(|| proxy(3)));
        let mut proxy = proxy(1);
        let raft = Raft::start_all(&network, dir.path(), binaries.orchestrator, nodes.port, orchestrator);
        for proxy in [Some(&mut proxy), far_proxy.as_mut(), third_proxy.as_mut()].into_iter().flatten() {
            proxy.set_orchestrator(raft.endpoints());
        }
        Self { proxy, far_proxy, third_proxy, raft, nodes, network, _dir: dir }
    }

    /// The same, as soon as Orchestrator knows all nodes.
    fn discovered(self) -> Self {
        let (raft, primary) = (&self.raft, format!("{}/{}", self.nodes.address(1), self.nodes.port));
        eventually("a raft leader", Duration::from_secs(30), || raft.leader().is_some());
        // Once only: while an instance is always fresh, Orchestrator does not go on to its replicas.
        eventually("the primary discovered", Duration::from_secs(10), || {
            raft.leader().is_some_and(|leader| raft.get(leader, &format!("/api/discover/{primary}")).0 == 200)
        });
        eventually("Orchestrator knowing three nodes", Duration::from_secs(40), || {
            let Some(leader) = raft.leader() else { return false };
            raft.get(leader, "/api/all-instances").1.matches("\"InstanceAlias\"").count() == NODES
        });
        // The node's own name for itself must have been seen as a cluster with replicas before a recovery can work.
        std::thread::sleep(Duration::from_secs(3));
        self
    }

    /// Adds recoveries of dead primaries to Orchestrator's shared database: rows of `failed`, `successor`, `at`, `seq`.
    pub fn add_history(&self, rows: &str) {
        let port = self.nodes.port;
        let insert = format!(
            "insert into orchestrator.topology_recovery \
             (uid, hostname, port, in_active_period, start_active_period, end_active_period_unixtime, end_recovery, \
              processing_node_hostname, processcing_node_token, is_successful, successor_hostname, successor_port, \
              analysis, cluster_name, cluster_alias, count_affected_slaves, slave_hosts, participating_instances, \
              lost_slaves, all_errors, acknowledged, acknowledged_by, acknowledge_comment, last_detection_id) \
             select concat(unix_timestamp(at), '000000000:', md5(seq)), failed, {port}, 0, at, \
              unix_timestamp(at) + 60, at + interval 10 second, \
              'orc1', md5(-seq), 1, successor, {port}, \
              'DeadMaster', concat(failed, ':{port}'), concat('alias', seq), 2, '', '', \
              '', '', 1, 'dba', '', seq \
             from ({rows}) history"
        );
        self.nodes.root(OUTSIDER, &insert);
    }

    /// All proxies.
    pub fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        [Some(&self.proxy), self.far_proxy.as_ref(), self.third_proxy.as_ref()].into_iter().flatten()
    }

    /// Node 2 is the one that Orchestrator promotes.
    pub fn prefer_node_2(&self) {
        let path = format!("/api/register-candidate/{}/{}/prefer", self.nodes.address(2), self.nodes.port);
        assert_eq!(self.raft.get(self.leader(), &path).0, 200);
    }

    /// Who leads, as soon as somebody does.
    pub fn leader(&self) -> usize {
        eventually("a leader", Duration::from_secs(30), || self.raft.leader().is_some());
        self.raft.leader().expect("a leader")
    }

    /// A downtime is begun or ended: `begin-downtime`, and `/owner/reason/1h`.
    pub fn downtime(&self, what: &str, n: usize, more: &str) {
        let path = format!("/api/{what}/{}/{}{more}", self.nodes.address(n), self.nodes.port);
        // Again if need be: on a loaded machine the leader may lose its lead before it has carried this out.
        eventually("the downtime as ordered", Duration::from_secs(30), || {
            let (code, answer) = self.raft.get(self.leader(), &path);
            if code != 200 {
                println!("--- {what} of node {n}: {code} {answer}");
            }
            code == 200
        });
    }

    /// A planned takeover through Orchestrator. What it leaves not replicating (facts §8) its operator starts.
    pub fn take_over(&self, from: usize, to: usize) {
        let leader = self.leader();
        let (old, new, port) = (self.nodes.address(from), self.nodes.address(to), self.nodes.port);
        let path = format!("/api/graceful-master-takeover-auto/{old}/{port}/{new}/{port}");
        let (code, answer) = self.raft.get(leader, &path);
        println!("--- takeover {from} -> {to}: {code} {}", answer.chars().take(90).collect::<String>());
        let is_primary = || self.nodes.root(to, "select @@read_only").trim() == "0";
        eventually("the takeover's promotion", Duration::from_secs(20), is_primary);
        // From where its own writes ended.
        self.nodes.replicate_from(from, to, "current_pos");
    }
}

/// The users of everybody (the application's has no rights that read_only does not bind), the table that is written to, and replication from node 1.
fn replicate(nodes: &Nodes) {
    let (monitor, orchestrator) = (nodes.server.monitors_user(), nodes.server.orchestrators_user());
    let rest = "create user app@'%' identified by 'app'; grant all on t.* to app@'%'; \
         create user repl@'%' identified by 'repl'; grant replication slave on *.* to repl@'%'; \
         create database t; create table t.a (id int auto_increment primary key, host varchar(40), \
         at timestamp(3) default now(3), via varchar(80) default (user()), sent double not null default 0); \
         create table t.cluster_alias (alias varchar(40)); insert into t.cluster_alias values ('labcluster')";
    nodes.root(1, &[monitor, orchestrator, rest].concat());
    for n in 2..=NODES {
        nodes.replicate(n, 1);
    }
}

impl Drop for World {
    /// Says what the real programs said, for a test that fails.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for log in (1..=NODES).map(|n| self.nodes.log(n)).chain(self.raft.members().map(|n| self.raft.log(n))) {
            println!("--- {}\n{}", log.display(), end_of(&log));
        }
        for proxy in self.proxies() {
            for log in ["proxysql.log", "client.log", "stonith.log"] {
                println!("--- {}\n{}", proxy.file(log).display(), end_of(&proxy.file(log)));
            }
        }
        if let Some(leader) = self.raft.leader() {
            println!("--- instances\n{}", self.raft.get(leader, "/api/all-instances").1);
        }
    }
}

fn end_of(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
