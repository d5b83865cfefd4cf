//! The lab's Orchestrator: a few members over the shared nodes. Each member has its API on its own socket.
//!
//! ```text
//! nodes -> recovery (polls, failover) -> what the members know -> answers -> serving, http -> a client
//! ```
//!
//! Raft is a scripted variable: one member leads, or none. Without a leader no member polls, and the known state gets
//! stale (facts §9).

mod answers;
mod downtime;
mod history;
mod http;
mod instances;
mod raft;
mod recovery;
mod serving;
mod tags;
mod time;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;

use downtime::Downtime;
pub use http::Fault;
use tags::Tags;

use crate::nodes::{Nodes, Server};

/// The settings of this Orchestrator.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The number of raft members.
    pub members: usize,
    /// The alias that all nodes suggest for their cluster; empty: named after the node, `nodecluster` for `node01`.
    pub alias: String,
    /// `InstancePollSeconds`.
    pub poll_interval: Duration,
    /// The address on which the members listen, each on a free port.
    pub listen: IpAddr,
    /// `URLPrefix`.
    pub prefix: String,
    /// User and password for basic auth.
    pub auth: Option<(String, String)>,
    /// Whether the user may only read, so that each change is refused (`isAuthorizedForAction`).
    pub is_read_only: bool,
    /// Whether a dead primary is failed over automatically.
    pub auto_failover: bool,
    /// The shortest downtime after a recovery: 60 s (facts §8).
    pub downtime_ends_after: Duration,
    /// Whether the nodes form a raft. Otherwise they share a database, and one node is active (facts §8, 21-no-raft).
    pub raft: bool,
    /// The offset of its database's time zone from UTC, s. All times as text are in that zone (facts §8).
    pub zone_offset_s: i64,
    /// How long the answer with a page of the recovery history takes.
    pub history_page_takes: Duration,
    /// The fork's hooks for ProxySQL: the status of its answer about them, 200 if they are on and 503 if they are off.
    /// `None`: a build without them (facts §14).
    pub proxysql_hooks: Option<u16>,
    /// The number of answers after which a proxy in front of it closes a connection. The last answer announces it.
    pub closes_after: Option<usize>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            members: 3,
            alias: String::new(),
            poll_interval: Duration::from_secs(1),
            listen: Ipv4Addr::LOCALHOST.into(),
            prefix: String::new(),
            auth: None,
            is_read_only: false,
            auto_failover: false,
            downtime_ends_after: Duration::from_secs(60),
            raft: true,
            zone_offset_s: 0,
            history_page_takes: Duration::ZERO,
            proxysql_hooks: None,
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

/// What the polls know about a node.
struct Seen {
    server: Server,
    replicas: Vec<String>,
    /// Whether its primary refuses connections, so that its IO thread retries.
    primary_is_gone: bool,
    valid: bool,
    /// When it last answered, s since 1970.
    seen_at: i64,
    /// When it was last asked.
    checked_at: i64,
    dead_polls: u32,
}

/// A server that is also known by its address.
struct SecondName {
    name: String,
    uuid: String,
}

struct Member {
    process: Process,
    fault: Option<Fault>,
    /// Whether it passes leader-check too, as a deposed leader that has not noticed.
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
    /// Without raft: whether the database is gone, so that no node can lead.
    is_without_database: bool,
    seen: BTreeMap<String, Seen>,
    /// Nodes that are not polled, each with the number of polls left.
    forgotten: BTreeMap<String, u32>,
    /// The tags of each node.
    tags: BTreeMap<String, Tags>,
    /// Nodes that are also listed under a second name.
    second_names: BTreeMap<String, SecondName>,
    /// Per alias: the node whose cluster has it.
    aliases: BTreeMap<String, String>,
    /// The records, the oldest first, with their times, ns since 1970.
    history: Vec<Value>,
    history_times: Vec<u128>,
    /// The number of records written so far.
    recoveries: usize,
    /// The number of polls that were due so far.
    rounds: u64,
    requests: Vec<String>,
    unknown: Vec<String>,
}

struct Shared {
    inner: Mutex<Inner>,
    /// A new value ends the connections that must not stay open.
    life: watch::Sender<u64>,
}

fn lock(shared: &Shared) -> MutexGuard<'_, Inner> {
    shared.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// An Orchestrator in the lab.
#[derive(Clone)]
pub struct Orchestrator(Arc<Shared>);

impl Orchestrator {
    /// Starts its members on free ports. The first member leads.
    ///
    /// # Errors
    /// No socket is available.
    pub async fn start(nodes: Nodes, settings: Settings) -> io::Result<Self> {
        let mut listeners = Vec::new();
        for _ in 0..settings.members {
            listeners.push(TcpListener::bind((settings.listen, 0)).await?);
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
            tags: BTreeMap::new(),
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

    /// The tags of a node, `NAME=VALUE` each.
    pub fn tags(&self, node: &str) -> Vec<String> {
        self.inner().tags_at(node)
    }

    /// Takes all tags away, as a new database does.
    pub fn clear_tags(&self) {
        self.inner().tags.clear();
    }

    /// Gives a node a tag, as a client of the API does.
    pub fn set_tag(&self, node: &str, name: &str, value: &str) {
        self.inner().set_tag(node, name, value);
    }

    /// The address of each member, with the prefix.
    pub fn endpoints(&self) -> Vec<String> {
        self.inner().endpoints.clone()
    }

    /// The member that leads.
    pub fn leader(&self) -> Option<usize> {
        self.inner().leader
    }

    /// Lets another member lead, or none. Each member has its own downtimes.
    pub fn set_leader(&self, leader: Option<usize>) {
        self.inner().lead(leader);
    }

    /// Kills the leader. Another member leads after a while.
    pub async fn kill_leader(&self, election: Duration) {
        let Some(old) = self.leader() else { return };
        self.kill(old);
        tokio::time::sleep(election).await;
        self.elect();
    }

    /// Lets a member that is up lead after a while, if no other leads by then.
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

    /// Kills a member, so that it refuses connections. Its downtimes are lost.
    pub fn kill(&self, member: usize) {
        self.change(|inner| {
            inner.members[member].process = Process::Down;
            inner.members[member].downtimes.clear();
            if inner.leader == Some(member) {
                inner.leader = None;
            }
        });
    }

    /// Kills the leader. The others do not notice yet, so requests that they relay to it fail (26-relays).
    pub fn kill_unnoticed(&self) {
        self.change(|inner| {
            if let Some(leader) = inner.leader {
                inner.members[leader].process = Process::Down;
            }
        });
    }

    /// Starts a killed member. It accepts connections a moment later.
    pub fn start_member(&self, member: usize) {
        self.resume(member);
    }

    /// Lets a hung member continue, or starts a killed one.
    pub fn resume(&self, member: usize) {
        self.change(|inner| inner.members[member].process = Process::Up);
    }

    /// Lets a member hang: it accepts connections and answers nothing until it continues.
    pub fn hang(&self, member: usize) {
        self.change(|inner| inner.members[member].process = Process::Hung);
    }

    /// Cuts all members off from clients. The members themselves continue.
    pub fn cut_off(&self) {
        self.change(|inner| inner.is_cut_off = true);
    }

    /// Ends [`Orchestrator::cut_off`].
    pub fn heal(&self) {
        self.change(|inner| inner.is_cut_off = false);
    }

    /// Without raft: stops the shared database, so that no member is active any more (facts §8).
    pub fn stop_database(&self) {
        let mut inner = self.inner();
        inner.is_without_database = true;
        inner.leader = None;
    }

    /// Starts the shared database again, so that one member is active.
    pub fn start_database(&self) {
        self.inner().is_without_database = false;
        self.elect();
    }

    /// Changes the state that connections depend on, and notifies them.
    fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.inner());
        self.0.life.send_modify(|life| *life += 1);
    }

    /// Lets a member answer wrongly, or correctly again.
    pub fn fault(&self, member: usize, fault: Option<Fault>) {
        self.inner().members[member].fault = fault;
    }

    /// Lets a member pass leader-check beside the leader.
    pub fn set_stale_leader(&self, member: usize, is_stale: bool) {
        self.inner().members[member].is_stale_leader = is_stale;
    }

    /// Runs a recovery now. Without a successor, no node is promoted.
    pub fn fail_over(&self, failed: &str, successor: Option<&str>) {
        self.inner().fail_over(failed, successor);
    }

    /// Sets whether a dead primary is failed over automatically.
    pub fn auto_failover(&self, does: bool) {
        self.inner().settings.auto_failover = does;
    }

    /// Runs a planned takeover.
    pub fn take_over(&self, old: &str, new: &str) {
        self.inner().take_over(old, new);
    }

    /// The number of polls that were due so far, with or without a leader.
    pub fn rounds(&self) -> u64 {
        self.inner().rounds
    }

    /// Polls all nodes now.
    pub fn poll(&self) {
        self.inner().poll();
    }

    /// Begins a downtime of ten minutes on all members, as an operator does through the API.
    pub fn begin_downtime(&self, node: &str, reason: &str) {
        self.inner().downtime_on_all(node, &Downtime::by_hand("dba", reason, TEN_MINUTES));
    }

    /// Ends a downtime, as an operator does through the API.
    pub fn end_downtime(&self, node: &str) {
        self.inner().end_downtime_of(node);
    }

    /// Forgets a node, as on an operator's request.
    pub fn forget(&self, node: &str) {
        self.inner().forget(node);
    }

    /// Adds the record of an old failover.
    pub fn record_old_failover(&self, failed: &str, successor: &str, age: Duration) {
        let at = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        self.inner().record(failed, Some(successor), &[], at);
    }

    /// Adds the record of a failover with an empty UID.
    pub fn record_without_uid(&self, failed: &str, successor: &str) {
        let mut inner = self.inner();
        inner.record(failed, Some(successor), &[], SystemTime::now());
        if let Some(record) = inner.history.last_mut() {
            record["UID"] = Value::from("");
        }
    }

    /// Lists a node also under a second name, as a valid instance with the same `ServerUUID`.
    ///
    /// Its recoveries and their marks have the second name (facts §8).
    pub fn list_twice(&self, node: &str, second_name: &str, uuid: &str) {
        let second = SecondName { name: second_name.to_owned(), uuid: uuid.to_owned() };
        self.inner().second_names.insert(node.to_owned(), second);
    }

    /// Changes the offset of its database's time zone from UTC, as when summer time begins or ends.
    pub fn set_zone_offset_s(&self, zone_offset_s: i64) {
        self.inner().settings.zone_offset_s = zone_offset_s;
    }

    /// Changes the status of the answer about the fork's hooks.
    pub fn set_proxysql_hooks(&self, status: Option<u16>) {
        self.inner().settings.proxysql_hooks = status;
    }

    /// Purges the history.
    pub fn purge_history(&self) {
        self.inner().purge();
    }

    /// The downtimed nodes, as the leader knows them.
    pub fn downtimed(&self) -> Vec<String> {
        let mut inner = self.inner();
        inner.expire_downtimes();
        inner.leader_downtimes().map(|downtimes| downtimes.keys().cloned().collect()).unwrap_or_default()
    }

    /// The patterns of all known requests, as Orchestrator registers them.
    pub fn routes() -> impl Iterator<Item = &'static str> {
        answers::routes()
    }

    /// All requests that were answered.
    pub fn requests(&self) -> Vec<String> {
        self.inner().requests.clone()
    }

    /// The unknown requests that were received.
    pub fn unknown(&self) -> Vec<String> {
        self.inner().unknown.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0)
    }
}

impl Inner {
    /// Answers a request, if its credentials are correct.
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
