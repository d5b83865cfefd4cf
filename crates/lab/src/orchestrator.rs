//! The lab's Orchestrator: a few members, each with its API on a socket of its own, over the shared nodes.
//!
//! ```text
//! nodes -> recovery (polls, failover) -> what the members know -> answers -> serving, http -> a client
//! ```
//!
//! Raft is a scripted variable: which member leads, or none. Without a leader nobody polls, and what is known gets stale
//! (facts §9).

mod answers;
mod downtime;
mod history;
mod http;
mod instances;
mod raft;
mod recovery;
mod serving;
mod time;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;

use downtime::Downtime;
pub use http::Fault;

use crate::nodes::{Nodes, Server};

/// How this Orchestrator is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Raft members.
    pub members: usize,
    /// The alias that all nodes suggest for their cluster; empty: named after the node, `nodecluster` for `node01`.
    pub alias: String,
    /// `InstancePollSeconds`.
    pub poll_interval: Duration,
    /// `URLPrefix`.
    pub prefix: String,
    /// Basic auth.
    pub auth: Option<(String, String)>,
    /// Whether a dead primary is failed over by itself.
    pub auto_failover: bool,
    /// When a recovery's downtime ends at the earliest: 60 s (facts §8).
    pub downtime_ends_after: Duration,
    /// Whether its nodes are a raft; else they share a database, and one of them is active (facts §8, 21-no-raft).
    pub raft: bool,
    /// How far the time of its database is from UTC, s: all text of a time is in it (facts §8).
    pub zone_offset_s: i64,
    /// How long a page of the recovery history takes.
    pub history_page_takes: Duration,
    /// What is in front of it closes a connection after so many answers, and says so with the last one.
    pub closes_after: Option<usize>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            members: 3,
            alias: String::new(),
            poll_interval: Duration::from_secs(1),
            prefix: String::new(),
            auth: None,
            auto_failover: false,
            downtime_ends_after: Duration::from_secs(60),
            raft: true,
            zone_offset_s: 0,
            history_page_takes: Duration::ZERO,
            closes_after: None,
        }
    }
}

const TEN_MINUTES: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Process {
    Up,
    Down,
    Hung,
}

/// What the polls know of a node.
struct Seen {
    server: Server,
    replicas: Vec<String>,
    /// What it replicates from refuses connections: its IO thread tries again and again.
    primary_is_gone: bool,
    valid: bool,
    /// When it answered last, s since 1970.
    seen_at: i64,
    /// When it was asked last.
    checked_at: i64,
    dead_polls: u32,
}

/// A server that is known by its address, too.
struct SecondName {
    name: String,
    uuid: String,
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
    /// Raft's list of peers.
    peers: Vec<usize>,
    is_cut_off: bool,
    /// Without raft: the database is gone, and with it whoever could lead.
    is_without_database: bool,
    seen: BTreeMap<String, Seen>,
    /// Nodes that are not looked at, and for how many polls more.
    forgotten: BTreeMap<String, u32>,
    /// Nodes that are listed under a second name, too.
    second_names: BTreeMap<String, SecondName>,
    /// Which node's cluster has an alias.
    aliases: BTreeMap<String, String>,
    /// Oldest first, and when each was, ns since 1970.
    history: Vec<Value>,
    history_times: Vec<u128>,
    /// How many records were ever written.
    recoveries: usize,
    /// How many times it was time to poll.
    rounds: u64,
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
            peers: (0..settings.members).collect(),
            is_cut_off: false,
            is_without_database: false,
            seen: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            second_names: BTreeMap::new(),
            aliases: BTreeMap::new(),
            history: Vec::new(),
            history_times: Vec::new(),
            recoveries: 0,
            rounds: 0,
            requests: Vec::new(),
            unknown: Vec::new(),
            settings,
        };
        inner.poll();
        let interval = inner.settings.poll_interval;
        let orchestrator = Self(Arc::new(Shared { inner: Mutex::new(inner), life: watch::channel(0).0 }));
        for (member, listener) in listeners.into_iter().enumerate() {
            tokio::spawn(serving::serve(orchestrator.clone(), member, listener));
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
        self.inner().lead(leader);
    }

    /// Kills the leader; another one leads after a while.
    pub async fn kill_leader(&self, election: Duration) {
        let Some(old) = self.leader() else { return };
        self.kill(old);
        tokio::time::sleep(election).await;
        self.elect();
    }

    /// Lets a member that is up lead after a while, if none does by then.
    pub fn elect_after(&self, election: Duration) {
        let orchestrator = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(election).await;
            orchestrator.elect();
        });
    }

    fn elect(&self) {
        let mut inner = self.inner();
        if inner.leader.is_none() {
            let up = (0..inner.members.len()).find(|member| inner.members[*member].process == Process::Up);
            inner.lead(up);
        }
    }

    /// Kills a member: it refuses connections. Without it, its downtimes are gone.
    pub fn kill(&self, member: usize) {
        self.change(|inner| {
            inner.members[member].process = Process::Down;
            inner.members[member].downtimes.clear();
            if inner.leader == Some(member) {
                inner.leader = None;
            }
        });
    }

    /// Kills the leader, and the others do not notice yet: what they relay to it fails (26-relays).
    pub fn kill_unnoticed(&self) {
        self.change(|inner| {
            if let Some(leader) = inner.leader {
                inner.members[leader].process = Process::Down;
            }
        });
    }

    /// Starts a killed member; it takes connections a moment later.
    pub fn start_member(&self, member: usize) {
        self.resume(member);
    }

    /// Lets a member that hung go on, or starts a killed one.
    pub fn resume(&self, member: usize) {
        self.change(|inner| inner.members[member].process = Process::Up);
    }

    /// Lets a member hang: it takes connections and answers nothing until it goes on.
    pub fn hang(&self, member: usize) {
        self.change(|inner| inner.members[member].process = Process::Hung);
    }

    /// Nobody reaches any member any more; they themselves go on.
    pub fn cut_off(&self) {
        self.change(|inner| inner.is_cut_off = true);
    }

    /// The end of [`Orchestrator::cut_off`].
    pub fn heal(&self) {
        self.change(|inner| inner.is_cut_off = false);
    }

    /// Without raft: stops the database that all members share. Nobody is active any more (facts §8).
    pub fn stop_database(&self) {
        let mut inner = self.inner();
        inner.is_without_database = true;
        inner.leader = None;
    }

    /// Starts it again: one of the members is active.
    pub fn start_database(&self) {
        self.inner().is_without_database = false;
        self.elect();
    }

    /// Changes what connections depend on, and tells them.
    fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.inner());
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

    /// Whether a dead primary is failed over by itself from now on.
    pub fn auto_failover(&self, does: bool) {
        self.inner().settings.auto_failover = does;
    }

    /// A planned takeover.
    pub fn take_over(&self, old: &str, new: &str) {
        self.inner().take_over(old, new);
    }

    /// How many times it was time to poll, whether or not anybody led.
    pub fn rounds(&self) -> u64 {
        self.inner().rounds
    }

    /// Looks at all nodes at once instead of at the next poll.
    pub fn poll(&self) {
        self.inner().poll();
    }

    /// An operator begins a downtime of ten minutes through the API: on all members.
    pub fn begin_downtime(&self, node: &str, reason: &str) {
        self.inner().downtime_on_all(node, &Downtime::by_hand("dba", reason, TEN_MINUTES));
    }

    /// An operator ends a downtime through the API.
    pub fn end_downtime(&self, node: &str) {
        self.inner().end_downtime_of(node);
    }

    /// An operator lets it forget a node.
    pub fn forget(&self, node: &str) {
        self.inner().forget(node);
    }

    /// A failover of long ago.
    pub fn record_old_failover(&self, failed: &str, successor: &str, age: Duration) {
        let at = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        self.inner().record(failed, Some(successor), &[], at);
    }

    /// A record of a failover whose UID is empty.
    pub fn record_without_uid(&self, failed: &str, successor: &str) {
        let mut inner = self.inner();
        inner.record(failed, Some(successor), &[], SystemTime::now());
        if let Some(record) = inner.history.last_mut() {
            record["UID"] = Value::from("");
        }
    }

    /// A node is listed under a second name from now on, as a valid instance with the same `ServerUUID`; its recoveries and
    /// their marks have that name (facts §8).
    pub fn list_twice(&self, node: &str, second_name: &str, uuid: &str) {
        let second = SecondName { name: second_name.to_owned(), uuid: uuid.to_owned() };
        self.inner().second_names.insert(node.to_owned(), second);
    }

    /// Its database's zone changes its offset from UTC: a summer time begins or ends.
    pub fn set_zone_offset_s(&self, zone_offset_s: i64) {
        self.inner().settings.zone_offset_s = zone_offset_s;
    }

    /// The history is purged.
    pub fn purge_history(&self) {
        self.inner().purge();
    }

    /// Who is downtimed, as the leader knows it.
    pub fn downtimed(&self) -> Vec<String> {
        let mut inner = self.inner();
        inner.expire_downtimes();
        inner.leader_downtimes().map(|downtimes| downtimes.keys().cloned().collect()).unwrap_or_default()
    }

    /// The patterns of all requests that it knows, as Orchestrator registers them.
    pub fn routes() -> impl Iterator<Item = &'static str> {
        answers::routes()
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
}

impl Inner {
    /// Answers a request, if its credentials are right.
    fn request(&mut self, member: usize, request: &http::Request) -> http::Reply {
        if let Some((user, password)) = &self.settings.auth {
            let wanted = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
            if request.authorization.as_deref() != Some(&wanted) {
                return http::Reply::unauthorized();
            }
        }
        let Some(path) = self.path(request).map(str::to_owned) else {
            self.unknown.push(request.path.clone());
            return http::Reply::not_found();
        };
        self.requests.push(path.clone());
        self.answer(member, &path)
    }

    /// The path without the prefix and `/api/`.
    fn path<'a>(&self, request: &'a http::Request) -> Option<&'a str> {
        request.path.strip_prefix(self.settings.prefix.as_str())?.strip_prefix("/api/")
    }
}
