//! The state of the model: everything that exists, in truth, at one moment.
//!
//! ```text
//!  MySQL (truth) --poll--> Orchestrator (per member: records, downtimes) --answer--> agents (Memory, Apply)
//!      ^                                                                                 |
//!      +------- monitor (read_only) ------- ProxySQL (three layers, lock, copies) <------+
//! ```
//!
//! Two nodes, node01 (the first primary) and node02, and one pair, 10 and 20. Nothing is random; times are
//! whole seconds. [`Seen`] is what a bystander who sees the truth remembers: the rules are judged by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stonith_core::apply::Place;
use stonith_core::decide::leader_query;
use stonith_core::memory::Memory;
use stonith_core::node::Node;
use stonith_core::observed::{Observed, ProxyView};
use stonith_core::orchestrator::{
    Addresses, Answer, Backing, Downtime, Instance, LeaderView, Recovery, RecoveryHistory,
};
use stonith_core::orders::Orders;
use stonith_core::policy::{BARRIER_LAST_S, Policy};
use stonith_core::table::{CheckType, Content, Hostgroup, Pair, SERVERS, Status};

use crate::apply_world::scene::{SERVER_COLUMNS, node};
use crate::apply_world::{Client, PAIRS, World};
use crate::without::Running;

pub const WALL_S: i64 = 1_750_000_000;
pub const START_MS: u64 = 1_000_000;
pub const NODES: [&str; 2] = ["node01", "node02"];
/// What Orchestrator calls them where it has other names.
const ELSEWHERE: [&str; 2] = ["db1", "db2"];
pub const WRITER: u32 = 10;
pub const READER: u32 = 20;
/// A recovery without an end counts as over this long after its mark was listed; the rest is two proofs.
const BARRED_S: u32 = BARRIER_LAST_S as u32 + 5;

/// A MySQL server, in truth.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    pub up: bool,
    pub read_only: bool,
    /// Index of what it replicates from.
    pub primary: Option<usize>,
    pub replicating: bool,
}

/// One member of Orchestrator's raft.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Member {
    pub downtimes: Vec<Downtime>,
    pub records: Vec<Recovery>,
    /// Its last poll of the instances.
    pub polled: Vec<Instance>,
    /// Its clock is so far ahead of the true one, s.
    pub ahead_s: i64,
}

/// Whom the agents reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// The raft leader.
    Leader,
    /// A follower only: it relays to the leader.
    Relayed,
    /// A majority that has no leader.
    Leaderless,
    /// All nodes, without raft: none is active, and their database is gone.
    DatabaseGone,
    /// A deposed leader, which still answers leader-check: on node01's side of a partition.
    Deposed,
    Nobody,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Orchestrator {
    pub reach: Reach,
    /// Which member is the raft leader.
    pub leader: usize,
    pub members: [Member; 2],
    /// Since when node01, the agents and member 0 are cut off from the rest.
    pub parted: bool,
    pub polls: bool,
    /// The recovery history is answered.
    pub tells_history: bool,
    /// A third node follows this one, and ProxySQL has no row of it.
    pub followed: Option<usize>,
    /// Answers are a second under way.
    pub slow: bool,
    /// The leader saw the primary dead: a recovery may begin, though the node be back by then.
    pub detected: bool,
    /// A recovery was under way on the leader when it lost the lead: it may yet finish there, and nobody else hears of it.
    pub abandoned: Option<usize>,
    /// The primary by Orchestrator's last word.
    pub primary: usize,
    /// The leader's hook stands between the failure and the promotion.
    pub barrier: Option<Waiting>,
    /// The hook waits for the fence, or for the lease.
    pub hook_waits: bool,
}

/// A recovery that waits for its hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Waiting {
    /// The recovery, by the time at the front of its UID, ns.
    pub at_ns: u64,
    /// When its mark was published, s of the true clock.
    pub since_s: u32,
    /// The hook has seen the fence, or has waited for the lease: it is over, and Orchestrator may promote.
    pub is_over: bool,
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Agent {
    pub name: &'static str,
    /// Counts processes: no two have the same owner's name.
    pub process: u32,
    pub memory: Arc<Memory>,
    pub running: Option<Arc<Running>>,
    /// Whom a led agent must have fenced when its apply is over.
    pub owes: [bool; 2],
    /// Which nodes were superseded, and which one was the primary, when what it last decided on was asked for.
    pub knew: ([bool; 2], usize),
    /// The same when its last tick asked.
    pub asked_of: ([bool; 2], usize),
    pub ticked: bool,
    /// It alone reaches nobody.
    pub cut_off: bool,
    /// When its tick last reached a leader, or a majority that has none, s.
    pub reached_s: Option<i64>,
    /// Answers take a second to reach it: the one that is under way.
    pub under_way: Option<Arc<LeaderView>>,
}

impl Agent {
    pub fn owner(&self) -> String {
        format!("{}{}", self.name, self.process)
    }
}

/// What a bystander who sees the truth remembers, to judge by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Seen {
    /// In truth a recovery replaced this node, and it has not been proven well since.
    pub superseded: [bool; 2],
    /// When Orchestrator's last poll found the node well, and since when all of them did, s.
    pub well_since_s: [Option<i64>; 2],
    /// A led agent's apply fenced it: it must stay out.
    pub fenced: [bool; 2],
    /// It was replaced by a recovery that waited for its fence, and has not been proven well since.
    pub waited_for: [bool; 2],
    /// When a mark of a barrier on it was listed last, s of the true clock.
    pub marked_s: [Option<u32>; 2],
    /// The minutes that were skipped.
    pub minutes: u32,
    /// The leader was reached once: isolation may be armed.
    pub led: bool,
    /// An operator staged this weight of node02.
    pub staged: bool,
    /// And loaded it.
    pub loaded: bool,
    /// It was staged between an apply's last look and its LOAD.
    pub late: bool,
    /// Seconds since the last fault.
    pub calm_s: u32,
    /// Rules that were broken.
    pub broken: BTreeSet<&'static str>,
    /// What happened at least once.
    pub done: BTreeSet<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub now_s: u32,
    /// How fast the agents' clock runs, percent of the true one.
    pub clock_percent: u64,
    pub servers: [Server; 2],
    pub orc: Orchestrator,
    pub proxy: Arc<World>,
    pub agents: Vec<Agent>,
    /// Orchestrator has other names than ProxySQL.
    pub names: Names,
    /// How often each fault of the model may still happen.
    pub left: Vec<u8>,
    pub seen: Seen,
}

/// The names of the nodes in Orchestrator, and what the agents' host resolves them to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Names {
    /// ProxySQL's own.
    Same,
    /// db1 and db2, with the addresses of node01 and node02.
    Others,
    /// The same, and the two names have been swapped in the name service.
    Swapped,
}

impl Names {
    fn of(self, node: &Node) -> Node {
        let n = NODES.iter().position(|name| node.host.as_str() == *name);
        n.filter(|_| self != Self::Same).map_or_else(|| node.clone(), |n| crate::apply_world::scene::node(ELSEWHERE[n]))
    }

    fn in_answer(self, mut answer: Answer) -> Answer {
        let rename = |node: &mut Node| *node = self.of(node);
        answer.downtimes.iter_mut().for_each(|downtime| rename(&mut downtime.node));
        for record in answer.history.iter_mut().flat_map(|history| &mut history.records) {
            rename(&mut record.failed);
            record.successor.iter_mut().for_each(rename);
        }
        for instance in answer.instances.iter_mut().flatten() {
            rename(&mut instance.node);
            instance.primary.iter_mut().for_each(rename);
        }
        answer
    }

    fn addresses(self) -> Addresses {
        let at = |name: &str, last: u8| (node(name).host, [[10, 0, 0, last].into()].into());
        let [first, second] = ELSEWHERE;
        match self {
            Self::Same => Addresses::default(),
            Self::Others => [at("node01", 1), at("node02", 2), at(first, 1), at(second, 2)].into_iter().collect(),
            Self::Swapped => [at("node01", 1), at("node02", 2), at(first, 2), at(second, 1)].into_iter().collect(),
        }
    }
}

impl Reach {
    /// The leader's own answer comes, from itself or through a follower.
    pub fn leads(self) -> bool {
        matches!(self, Self::Leader | Self::Relayed)
    }

    /// All that are asked say that nobody leads.
    pub fn is_leaderless(self) -> bool {
        matches!(self, Self::Leaderless | Self::DatabaseGone)
    }
}

impl State {
    /// node01 the primary, node02 its replica, agents that never ran.
    pub fn new(agents: usize) -> Self {
        let replica = Server { up: true, read_only: true, primary: Some(0), replicating: true };
        let servers = [Server { up: true, read_only: false, primary: None, replicating: false }, replica];
        let first = |name| {
            let memory = Arc::new(Memory::first_start("boot", START_MS));
            Agent {
                name,
                process: 1,
                memory,
                running: None,
                owes: [false; 2],
                knew: ([false; 2], 0),
                asked_of: ([false; 2], 0),
                ticked: false,
                cut_off: false,
                reached_s: None,
                under_way: None,
            }
        };
        let members = [Member::default(), Member::default()];
        let orc = Orchestrator {
            reach: Reach::Leader,
            leader: 0,
            members,
            parted: false,
            polls: true,
            tells_history: true,
            followed: None,
            slow: false,
            detected: false,
            abandoned: None,
            primary: 0,
            barrier: None,
            hook_waits: true,
        };
        let mut state = Self {
            now_s: 0,
            clock_percent: 100,
            servers,
            orc,
            proxy: Arc::new(proxy()),
            agents: ["a", "b"].into_iter().take(agents).map(first).collect(),
            names: Names::Same,
            left: Vec::new(),
            seen: Seen::default(),
        };
        state.poll();
        state
    }

    /// The agents' clock.
    pub fn now_ms(&self) -> u64 {
        START_MS + u64::from(self.now_s) * 10 * self.clock_percent
    }

    /// The second of the true clock at which the agents' clock said so.
    pub fn true_s(&self, agents_ms: u64) -> u32 {
        u32::try_from((agents_ms - START_MS) / (10 * self.clock_percent)).expect("a short time")
    }

    pub fn wall_s(&self) -> i64 {
        WALL_S + i64::from(self.now_s)
    }

    /// The hook looks whether the proxy has the fence, or the lease must have run out.
    pub fn hook_looks(&mut self, lease_wait_ms: u64) {
        let is_out = self.in_service(Place::Runtime, self.orc.primary).is_empty();
        let (now_s, waits) = (self.now_s, self.orc.hook_waits);
        if let Some(waiting) = &mut self.orc.barrier {
            let waited_ms = u64::from(now_s - waiting.since_s) * 1_000;
            waiting.is_over |= is_out || waited_ms >= lease_wait_ms || !waits;
        }
    }

    /// Whether a barrier speaks against this node, or did until a while ago: its mark is listed, or the recovery's end
    /// is not known yet.
    pub fn is_barred(&self, n: usize) -> bool {
        self.seen.marked_s[n].is_some_and(|marked_s| self.now_s - marked_s <= BARRED_S)
    }

    /// Whether a node is, in truth, what may go back: the primary, or a replica that follows it.
    pub fn well(&self, n: usize) -> bool {
        let (server, primary) = (&self.servers[n], self.orc.primary);
        let follows = server.primary == Some(primary) && server.replicating && server.read_only;
        server.up && (n == primary || follows)
    }

    /// Orchestrator polls the nodes: what does not answer keeps its last-known values (facts §8).
    pub fn poll(&mut self) {
        let now_s = self.wall_s();
        let primary = self.orc.primary;
        let third = self.orc.followed.map(|n| follower(n, now_s));
        for (m, member) in self.orc.members.iter_mut().enumerate() {
            let before = std::mem::take(&mut member.polled);
            for (n, server) in self.servers.iter().enumerate() {
                let reached = !self.orc.parted || m == n;
                let old = before.iter().find(|instance| instance.node == node(NODES[n])).cloned();
                let fresh = || Instance {
                    node: node(NODES[n]),
                    // A returned old primary is a cluster of its own.
                    cluster: format!("{}:3306", NODES[server.primary.unwrap_or(n)]),
                    alias: "main".to_owned(),
                    valid: true,
                    read_only: server.read_only,
                    primary: server.primary.map(|p| node(NODES[p])),
                    replicating: server.replicating,
                    checked_s: now_s + member.ahead_s,
                    downtimed: false,
                    uuid: String::new(),
                    errant_gtid: String::new(),
                    replication_error: String::new(),
                };
                member.polled.push(match old {
                    Some(old) if !(server.up && reached) => Instance { valid: false, ..old },
                    _ => fresh(),
                });
            }
            member.polled.extend(third.clone());
        }
        self.orc.detected |= !self.orc.members[self.orc.leader].polled[primary].valid;
        for n in 0..2 {
            self.seen.well_since_s[n] = if self.well(n) { self.seen.well_since_s[n].or(Some(now_s)) } else { None };
        }
    }

    /// What this agent sees at this moment.
    pub fn observed(&mut self, i: usize, policy: &Policy) -> Observed {
        let agent = &self.agents[i];
        let proxy = ProxyView { lease: self.proxy.shared_lease(&agent.owner()), ..self.proxy_view() };
        let mut leader = self.leader_view(agent, &proxy, policy);
        if self.orc.slow {
            let before = self.agents[i].under_way.replace(Arc::new(leader));
            leader = before.map_or_else(|| LeaderView::Silent(Default::default()), Arc::unwrap_or_clone);
        }
        Observed { proxy, leader, orders: Orders::default(), addresses: self.names.addresses() }
    }

    pub fn proxy_view(&self) -> ProxyView {
        let world = &self.proxy;
        ProxyView {
            runtime: world.rows(Place::Runtime).into(),
            memory: world.rows(Place::Memory).into(),
            disk: world.rows(Place::Disk).into(),
            pairs: vec![pair()],
            conn_used: world.used(),
            unfinished: world.unfinished(),
            released: world.released.clone(),
            returned: world.returns.iter().flat_map(BTreeMap::keys).cloned().collect(),
            ..ProxyView::default()
        }
    }

    fn leader_view(&self, agent: &Agent, proxy: &ProxyView, policy: &Policy) -> LeaderView {
        if agent.cut_off {
            return LeaderView::Silent(Default::default());
        }
        let (m, backing) = match self.orc.reach {
            Reach::Leader | Reach::Relayed => (self.orc.leader, Backing::Majority),
            Reach::Deposed => (0, Backing::Unconfirmed),
            Reach::Leaderless | Reach::DatabaseGone => return LeaderView::Leaderless,
            Reach::Nobody => return LeaderView::Silent(Default::default()),
        };
        let (member, leader) = (&self.orc.members[m], format!("orc{m}"));
        let mut listed = member.downtimes.clone();
        listed.iter_mut().for_each(|downtime| downtime.node = self.names.of(&downtime.node));
        let (addresses, now_ms) = (self.names.addresses(), self.now_ms());
        let asked = leader_query(proxy, &agent.memory, &addresses, &leader, &listed, policy, now_ms);
        let downtimed = |n: &Node| member.downtimes.iter().any(|downtime| downtime.node == *n);
        let instances =
            || member.polled.iter().map(|i| Instance { downtimed: downtimed(&i.node), ..i.clone() }).collect();
        LeaderView::Led(
            self.names.in_answer(Answer {
                history: (asked.history && self.orc.tells_history)
                    .then(|| RecoveryHistory::whole(&leader, member.records.clone())),
                leader,
                asked_ms: self.now_ms(),
                date_s: self.wall_s() + member.ahead_s,
                backing: if asked.backing { backing } else { Backing::Unconfirmed },
                downtimes: member.downtimes.clone(),
                instances: asked.instances.then(instances),
                hooks: None,
                skipped: Vec::new(),
            }),
        )
    }

    /// The hostgroups in which a node takes traffic, in one layer.
    pub fn in_service(&self, place: Place, n: usize) -> Vec<u32> {
        let records = self.proxy.content(place, SERVERS).records.values();
        let of_node = records.filter(|record| record[1].as_deref() == Some(NODES[n]));
        let online = of_node.filter(|record| Status::parse(record[3].as_deref().unwrap_or_default()).in_service());
        online.filter_map(|record| record[0].as_ref()?.parse().ok()).collect()
    }

    /// Writes reach it: an ONLINE writer row in runtime, on a node that is up and writable.
    pub fn takes_writes(&self, n: usize) -> bool {
        let server = &self.servers[n];
        server.up && !server.read_only && self.has_writer_row(n)
    }

    pub fn has_writer_row(&self, n: usize) -> bool {
        self.in_service(Place::Runtime, n).contains(&WRITER)
    }

    /// ProxySQL's read_only monitor: rows in service are moved, in runtime only (facts §2).
    pub fn monitor(&mut self) {
        for (n, server) in self.servers.iter().enumerate().filter(|(_, server)| server.up) {
            let rows = self.in_service(Place::Runtime, n);
            let (from, to) = if server.read_only { (WRITER, READER) } else { (READER, WRITER) };
            let at = |hostgroup| rows.contains(&hostgroup);
            let there = self.proxy.row(Place::Runtime, to, NODES[n]).is_some();
            if at(from) && !there {
                Arc::make_mut(&mut self.proxy).monitor_moves(NODES[n], from, to);
            } else if at(from) && from == WRITER {
                Arc::make_mut(&mut self.proxy).edit(Place::Runtime, from, NODES[n], |_| None);
            }
        }
    }
}

/// node03, a replica of this node.
fn follower(of: usize, now_s: i64) -> Instance {
    Instance {
        node: node("node03"),
        cluster: format!("{}:3306", NODES[of]),
        alias: "main".to_owned(),
        valid: true,
        read_only: true,
        primary: Some(node(NODES[of])),
        replicating: true,
        checked_s: now_s,
        downtimed: false,
        uuid: String::new(),
        errant_gtid: String::new(),
        replication_error: String::new(),
    }
}

pub fn pair() -> Pair {
    Pair { writer: Hostgroup(WRITER), reader: Hostgroup(READER), check_type: CheckType::ReadOnly }
}

/// The id of the client of another hostgroup, which holds no node of ours.
pub const STRANGER: u64 = 2;

/// Servers and pairs only; one client on node01, and one of another hostgroup.
fn proxy() -> World {
    let record = |values: &[&str]| values.iter().map(|value| Some((*value).to_owned())).collect();
    let columns = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let server = |hostgroup, name| record(&[hostgroup, name, "3306", Status::Online.as_str(), "1", "0", ""]);
    let servers = Content::new(SERVERS, columns(&SERVER_COLUMNS), [server("10", "node01"), server("20", "node02")]);
    let pairs = Content::new(
        PAIRS,
        columns(&["writer_hostgroup", "reader_hostgroup", "check_type", "comment"]),
        [record(&["10", "20", "read_only", "main"])],
    );
    let mut tables = BTreeMap::new();
    for place in crate::apply_world::LAYERS {
        tables.insert((place, SERVERS), servers.clone());
        tables.insert((place, PAIRS), pairs.clone());
    }
    let client = Client::holding(1, &[(10, node("node01"))]);
    let stranger = Client { home: 50, ..Client::holding(STRANGER, &[(50, node("other"))]) };
    World {
        tables,
        lock: None,
        returns: None,
        lease: None,
        released: BTreeMap::new(),
        now_ms: START_MS,
        clients: vec![client, stranger],
        extended: [false; 2],
        variables: [0; 2],
        extended_note: false,
        drain_note: None,
        delay_lowered: [false; 2],
        ended: None,
        paused: false,
        pause_note: None,
        old_monitor: false,
        moves_count: false,
        scratch: false,
        version: 1,
        checksums: true,
        watched: None,
        odd: BTreeSet::new(),
        broken: Vec::new(),
    }
}
