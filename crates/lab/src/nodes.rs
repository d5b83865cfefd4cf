//! The lab's MySQL nodes: which ones are up, what they replicate from, and how many writes each one took.
//!
//! They are plain data behind a lock, shared by the lab's Orchestrator (which polls them) and its ProxySQL (whose
//! monitor probes them and whose sessions write to them). No MySQL protocol is spoken to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// The state of a node's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// The process answers.
    Up,
    /// The process keeps its connections and answers nothing (SIGSTOP).
    Hung,
    /// The process is gone, and connections are refused (SIGKILL).
    Down,
}

/// One MySQL server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The state of its process.
    pub process: Process,
    /// The global `read_only`. MySQL forgets it in a restart, so an old primary comes back writable.
    pub read_only: bool,
    /// The name of the node that it replicates from.
    pub replicates_from: Option<String>,
    /// Whether both replication threads run.
    pub replicating: bool,
    /// Transactions that its primary lacks, as a GTID set.
    pub errant: String,
    /// Writes that clients committed on it.
    pub writes: u64,
}

/// All nodes, by name. Each one listens on port 3306, according to the lab.
#[derive(Debug, Clone, Default)]
pub struct Nodes(Arc<Mutex<BTreeMap<String, Server>>>);

/// The port of every node in the lab.
pub const PORT: u16 = 3306;

impl Nodes {
    /// Makes a primary (the first name) and its read-only replicas.
    pub fn new(names: &[&str]) -> Self {
        let server = |name: &&str| Server {
            process: Process::Up,
            read_only: *name != names[0],
            replicates_from: (*name != names[0]).then(|| names[0].to_owned()),
            replicating: *name != names[0],
            errant: String::new(),
            writes: 0,
        };
        let nodes = Self::default();
        nodes.lock().extend(names.iter().map(|name| ((*name).to_owned(), server(name))));
        nodes
    }

    /// Makes several clusters in one lab.
    pub fn and(self, names: &[&str]) -> Self {
        let more = Self::new(names);
        self.lock().append(&mut more.lock());
        self
    }

    /// Locks all servers. The lock must be held briefly.
    pub fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Server>> {
        // A poisoned lock is fine: the test that panicked has failed already.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A copy of a server's current state.
    ///
    /// # Panics
    /// No node has this name: the scenario is wrong.
    pub fn get(&self, name: &str) -> Server {
        self.lock().get(name).cloned().unwrap_or_else(|| panic!("the lab has no node {name}"))
    }

    /// Changes a server.
    ///
    /// # Panics
    /// No node has this name: the scenario is wrong.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut Server)) {
        change(self.lock().get_mut(name).unwrap_or_else(|| panic!("the lab has no node {name}")));
    }

    /// Kills a node (SIGKILL).
    pub fn kill(&self, name: &str) {
        self.change(name, |server| server.process = Process::Down);
    }

    /// Stops a node (SIGSTOP).
    pub fn stop(&self, name: &str) {
        self.change(name, |server| server.process = Process::Hung);
    }

    /// Lets a stopped node continue (SIGCONT).
    pub fn cont(&self, name: &str) {
        self.change(name, |server| server.process = Process::Up);
    }

    /// Starts a killed node. `read_only` is off, as in its configuration. A replica replicates again.
    pub fn start(&self, name: &str) {
        self.change(name, |server| {
            server.process = Process::Up;
            server.read_only = false;
            server.replicating = server.replicates_from.is_some();
        });
    }

    /// Makes a node a read-only replica of another, as an operator's repair does.
    pub fn make_replica(&self, name: &str, of: &str) {
        self.change(name, |server| {
            server.read_only = true;
            server.replicates_from = Some(of.to_owned());
            server.replicating = true;
        });
    }

    /// Makes a node a writable primary that does not replicate.
    pub fn make_primary(&self, name: &str) {
        self.change(name, |server| {
            server.read_only = false;
            server.replicates_from = None;
            server.replicating = false;
        });
    }
}
