//! The lab's MySQL nodes: who is up, who replicates from whom, and how many writes each one took.
//!
//! They are plain data behind a lock, shared by the lab's Orchestrator (which polls them) and its ProxySQL (whose
//! monitor probes them and whose sessions write to them). No MySQL protocol is spoken to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// How a node's process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// It answers.
    Up,
    /// It holds its connections and answers nothing (SIGSTOP).
    Hung,
    /// It refuses connections (SIGKILL).
    Down,
}

/// One MySQL server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its process.
    pub process: Process,
    /// The global `read_only`. MySQL forgets it in a restart: that is what brings an old primary back writable.
    pub read_only: bool,
    /// What it replicates from, by name.
    pub replicates_from: Option<String>,
    /// Both replication threads run.
    pub replicating: bool,
    /// Transactions that its primary lacks, as a GTID set.
    pub errant: String,
    /// Writes that clients committed on it.
    pub writes: u64,
}

/// All nodes, by name; each listens on port 3306 as far as the lab tells.
#[derive(Debug, Clone, Default)]
pub struct Nodes(Arc<Mutex<BTreeMap<String, Server>>>);

/// The port that every node of the lab has.
pub const PORT: u16 = 3306;

impl Nodes {
    /// A primary (the first name) and its read-only replicas.
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

    /// Several clusters in one lab.
    pub fn and(self, names: &[&str]) -> Self {
        let more = Self::new(names);
        self.lock().append(&mut more.lock());
        self
    }

    /// All servers. Hold it briefly.
    pub fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Server>> {
        // A test that panicked while it held the lock has failed already.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A server as it is now.
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

    /// SIGKILL.
    pub fn kill(&self, name: &str) {
        self.change(name, |server| server.process = Process::Down);
    }

    /// SIGSTOP.
    pub fn stop(&self, name: &str) {
        self.change(name, |server| server.process = Process::Hung);
    }

    /// SIGCONT: as it was before.
    pub fn cont(&self, name: &str) {
        self.change(name, |server| server.process = Process::Up);
    }

    /// Starts a killed node: `read_only` is off, as its configuration has it. A replica goes on replicating.
    pub fn start(&self, name: &str) {
        self.change(name, |server| {
            server.process = Process::Up;
            server.read_only = false;
            server.replicating = server.replicates_from.is_some();
        });
    }

    /// An operator's repair: a read-only replica of another.
    pub fn make_replica(&self, name: &str, of: &str) {
        self.change(name, |server| {
            server.read_only = true;
            server.replicates_from = Some(of.to_owned());
            server.replicating = true;
        });
    }

    /// A writable primary that replicates from nobody.
    pub fn make_primary(&self, name: &str) {
        self.change(name, |server| {
            server.read_only = false;
            server.replicates_from = None;
            server.replicating = false;
        });
    }
}
