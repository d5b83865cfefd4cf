//! The lab's Orchestrator: a few members, each with its API on a socket of its own, over the shared nodes.
//!
//! Raft is a scripted variable: which member leads, or none. Recoveries are the lab's own (`recovery`).

mod answers;
mod http;
mod recovery;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub use http::Fault;

use crate::nodes::{Nodes, Server};

/// How this Orchestrator is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Raft members.
    pub members: usize,
    /// `InstancePollSeconds`.
    pub poll_interval: Duration,
    /// `URLPrefix`.
    pub prefix: String,
    /// Basic auth.
    pub auth: Option<(String, String)>,
    /// Whether a dead primary is failed over by itself.
    pub auto_failover: bool,
    /// When a recovery's downtime ends at the earliest: 60 s (FACTS §8).
    pub downtime_ends_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            members: 3,
            poll_interval: Duration::from_secs(1),
            prefix: String::new(),
            auth: None,
            auto_failover: false,
            downtime_ends_after: Duration::from_secs(60),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Process {
    Up,
    Down,
    Hung,
}

#[derive(Debug, Clone)]
struct Downtime {
    reason: String,
    owner: String,
    begun: Instant,
}

/// What the polls know of a node.
struct Seen {
    server: Server,
    valid: bool,
    seen_at: i64,
    dead_polls: u32,
}

struct Member {
    process: Process,
    fault: Option<Fault>,
    /// Passes leader-check too: a deposed leader that has not noticed.
    is_stale_leader: bool,
    downtimes: BTreeMap<String, Downtime>,
}

struct Inner {
    settings: Settings,
    nodes: Nodes,
    endpoints: Vec<String>,
    members: Vec<Member>,
    leader: Option<usize>,
    seen: BTreeMap<String, Seen>,
    history: Vec<Value>,
    requests: Vec<String>,
    unknown: Vec<String>,
}

struct Shared {
    inner: Mutex<Inner>,
    /// A new value ends connections that should not be.
    life: watch::Sender<u64>,
}

fn lock(shared: &Shared) -> MutexGuard<'_, Inner> {
    shared.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// An Orchestrator of the lab.
#[derive(Clone)]
pub struct Orchestrator(Arc<Shared>);

impl Orchestrator {
    /// Starts its members on free ports; the first one leads.
    ///
    /// # Errors
    /// No socket.
    pub async fn start(nodes: Nodes, settings: Settings) -> io::Result<Self> {
        let mut listeners = Vec::new();
        for _ in 0..settings.members {
            listeners.push(TcpListener::bind("127.0.0.1:0").await?);
        }
        let mut endpoints = Vec::new();
        for listener in &listeners {
            endpoints.push(format!("http://{}{}", listener.local_addr()?, settings.prefix));
        }
        let member =
            |_| Member { process: Process::Up, fault: None, is_stale_leader: false, downtimes: BTreeMap::new() };
        let mut inner = Inner {
            nodes,
            endpoints,
            members: (0..settings.members).map(member).collect(),
            leader: Some(0),
            seen: BTreeMap::new(),
            history: Vec::new(),
            requests: Vec::new(),
            unknown: Vec::new(),
            settings,
        };
        inner.poll();
        let interval = inner.settings.poll_interval;
        let orchestrator = Self(Arc::new(Shared { inner: Mutex::new(inner), life: watch::channel(0).0 }));
        for (member, listener) in listeners.into_iter().enumerate() {
            tokio::spawn(orchestrator.clone().serve(member, listener));
        }
        tokio::spawn(recovery::poll_nodes(Arc::downgrade(&orchestrator.0), interval));
        Ok(orchestrator)
    }

    /// Each member's address, with the prefix.
    pub fn endpoints(&self) -> Vec<String> {
        self.inner().endpoints.clone()
    }

    /// Who leads.
    pub fn leader(&self) -> Option<usize> {
        self.inner().leader
    }

    /// Lets another member lead, or none. Its downtimes are its own.
    pub fn set_leader(&self, leader: Option<usize>) {
        self.inner().leader = leader;
    }

    /// Kills the leader; another one leads after a while.
    pub async fn kill_leader(&self, election: Duration) {
        let Some(old) = self.leader() else { return };
        self.kill(old);
        tokio::time::sleep(election).await;
        let mut inner = self.inner();
        inner.leader = (0..inner.members.len()).find(|member| inner.members[*member].process == Process::Up);
    }

    /// Kills a member: it refuses connections. Without it, its downtimes are gone.
    pub fn kill(&self, member: usize) {
        let mut inner = self.inner();
        inner.members[member].process = Process::Down;
        inner.members[member].downtimes.clear();
        if inner.leader == Some(member) {
            inner.leader = None;
        }
        drop(inner);
        self.0.life.send_modify(|life| *life += 1);
    }

    /// Starts a member, or lets one that hung go on.
    pub fn resume(&self, member: usize) {
        self.inner().members[member].process = Process::Up;
    }

    /// Lets a member hang: it takes connections and answers nothing.
    pub fn hang(&self, member: usize) {
        self.inner().members[member].process = Process::Hung;
    }

    /// Nobody reaches any member any more; they themselves go on.
    pub fn cut_off(&self) {
        for member in &mut self.inner().members {
            member.process = Process::Hung;
        }
        self.0.life.send_modify(|life| *life += 1);
    }

    /// The end of [`Orchestrator::cut_off`].
    pub fn heal(&self) {
        for member in &mut self.inner().members {
            member.process = Process::Up;
        }
        self.0.life.send_modify(|life| *life += 1);
    }

    /// Lets a member answer wrongly, or rightly again.
    pub fn fault(&self, member: usize, fault: Option<Fault>) {
        self.inner().members[member].fault = fault;
    }

    /// Lets a member pass leader-check beside the leader.
    pub fn set_stale_leader(&self, member: usize, is_stale: bool) {
        self.inner().members[member].is_stale_leader = is_stale;
    }

    /// A recovery, now; without a successor nobody is promoted.
    pub fn fail_over(&self, failed: &str, successor: Option<&str>) {
        self.inner().fail_over(failed, successor);
    }

    /// A planned takeover.
    pub fn take_over(&self, old: &str, new: &str) {
        self.inner().take_over(old, new);
    }

    /// Looks at all nodes at once instead of at the next poll.
    pub fn poll(&self) {
        self.inner().poll();
    }

    /// An operator begins a downtime through the API: on all members.
    pub fn begin_downtime(&self, node: &str, reason: &str) {
        self.inner().answer(0, &format!("begin-downtime/{node}/3306/dba/{reason}"));
    }

    /// An operator ends a downtime through the API.
    pub fn end_downtime(&self, node: &str) {
        self.inner().answer(0, &format!("end-downtime/{node}/3306"));
    }

    /// An operator lets it forget a node.
    pub fn forget(&self, node: &str) {
        self.inner().answer(0, &format!("forget/{node}/3306"));
    }

    /// A failover of long ago.
    pub fn record_old_failover(&self, failed: &str, successor: &str, age: Duration) {
        let at = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        self.inner().record(failed, successor, at);
    }

    /// The history is purged.
    pub fn purge_history(&self) {
        self.inner().history.clear();
    }

    /// Who is downtimed, as the leader knows it.
    pub fn downtimed(&self) -> Vec<String> {
        self.inner().leader_downtimes().map(|downtimes| downtimes.keys().cloned().collect()).unwrap_or_default()
    }

    /// Every request that was answered.
    pub fn requests(&self) -> Vec<String> {
        self.inner().requests.clone()
    }

    /// Requests that it did not know.
    pub fn unknown(&self) -> Vec<String> {
        self.inner().unknown.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0)
    }

    async fn serve(self, member: usize, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            if self.inner().members[member].process == Process::Down {
                continue; // closed at once: as good as refused
            }
            let (orchestrator, mut life) = (self.clone(), self.0.life.subscribe());
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                tokio::select! {
                    _ = orchestrator.talk(member, stream) => {}
                    _ = async {
                        while life.changed().await.is_ok() && orchestrator.inner().members[member].process == Process::Up {}
                    } => {}
                }
            });
        }
    }

    async fn talk(&self, member: usize, mut stream: TcpStream) -> io::Result<()> {
        while let Some(request) = http::read_request(&mut stream).await? {
            let (process, fault) = {
                let inner = self.inner();
                (inner.members[member].process, inner.members[member].fault)
            };
            if process == Process::Hung {
                return std::future::pending().await;
            }
            if let Some(fault) = fault {
                if !http::respond_wrongly(&mut stream, fault).await? {
                    return Ok(());
                }
                continue;
            }
            let (status, body) = self.inner().request(member, &request);
            http::respond(&mut stream, status, &body.to_string()).await?;
        }
        Ok(())
    }
}

impl Inner {
    fn request(&mut self, member: usize, request: &http::Request) -> answers::Response {
        if let Some((user, password)) = &self.settings.auth {
            let wanted = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
            if request.authorization.as_deref() != Some(&wanted) {
                return (401, Value::from("Not authorized"));
            }
        }
        let api = format!("{}/api/", self.settings.prefix);
        let Some(path) = request.path.strip_prefix(&api).map(str::to_owned) else {
            self.unknown.push(request.path.clone());
            return (404, Value::from("not found"));
        };
        self.requests.push(path.clone());
        self.answer(member, &path)
    }

    fn leads(&self, member: usize) -> bool {
        self.leader == Some(member) || self.members[member].is_stale_leader
    }

    fn leader_downtimes(&self) -> Option<&BTreeMap<String, Downtime>> {
        self.leader.map(|leader| &self.members[leader].downtimes)
    }
}
