//! A small world for the tests of `decide`: MySQL nodes, Orchestrator's leader and one ProxySQL.
//!
//! [`Lab::tick`] asks the leader what `leader_query` says, decides, and carries the plan out on the rows of every layer.
//! After each tick it holds the rules that must hold in all of them (see [`Lab::check_rules`]).

mod events;
mod see;

use std::collections::BTreeMap;

use stonith_core::decide::{Decision, decide, leader_query};
use stonith_core::lease::LeaseAction;
use stonith_core::memory::Memory;
use stonith_core::node::Node;
use stonith_core::observed::{Observed, PauseSeen, ProxyView, SharedLease};
use stonith_core::orchestrator::{
    Addresses, Answer, AnswerPart, Backing, Downtime, HistoryProgress, Instance, LeaderView, ProxyHooks, Recovery,
    RecoveryHistory, SkippedEntry, UnderWay,
};
use stonith_core::orders::Orders;
use stonith_core::plan::{Directive, PauseAction};
use stonith_core::policy::{ErrantGtid, FenceOn, IsolationScope, Policy};
use stonith_core::shared::Shared;
use stonith_core::table::{CheckType, Comment, Hostgroup, Layer, Pair, Row, RowKey, Status, is_at_defaults};

#[allow(unused_imports, reason = "a trait that not every test file uses")]
pub use see::Decided;

/// The wall clock at the world's zero, s since 1970.
pub const WALL_S: i64 = 1_750_000_000;
/// A day, s.
pub const DAY_S: i64 = 86_400;
/// The agent's boot clock when it first starts, ms.
pub const START_MS: u64 = 1_000_000;
/// All three layers.
pub const LAYERS: [Layer; 3] = Layer::ALL;

/// `node01` is node01:3306.
pub fn node(name: &str) -> Node {
    format!("{name}:3306").parse().unwrap()
}

/// A row with settings that tell its hostgroup, so that a copied setting can be seen.
pub fn row(hostgroup: u32, name: &str, status: Status) -> Row {
    Row {
        key: RowKey { hostgroup: Hostgroup(hostgroup), hostname: name.into(), port: 3306 },
        status,
        comment: String::new(),
        settings: BTreeMap::from([("weight".to_owned(), hostgroup.to_string())]).into(),
    }
}

pub fn pair(writer: u32, reader: u32) -> Pair {
    Pair { writer: Hostgroup(writer), reader: Hostgroup(reader), check_type: CheckType::ReadOnly }
}

pub fn policy() -> Policy {
    Policy {
        fence_on: FenceOn::AnyDowntime,
        max_downtime_fences: 2,
        isolation_scope: IsolationScope::All,
        isolation_after_ms: 10_000,
        tick_ms: 1_000,
        blind_isolates: false,
        end_possible_holders: true,
        excluded_hostgroups: [].into(),
        writer_hostgroups: [].into(),
        aliases: BTreeMap::new(),
        errant_gtid: ErrantGtid::Hold,
        fences_at_node: false,
    }
}

/// What MySQL is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub up: bool,
    pub read_only: bool,
    pub primary: Option<Node>,
    pub replicating: bool,
    /// Orchestrator's last good check of it.
    pub checked_s: i64,
    /// Orchestrator lists it.
    pub listed: bool,
    pub alias: String,
    /// The other names under which Orchestrator lists it.
    pub also: Vec<Node>,
    /// Empty with MariaDB, which has none.
    pub uuid: String,
    pub errant_gtid: String,
}

/// What asking Orchestrator comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raft {
    Led { leader: String, backing: Backing },
    Leaderless,
    Blind,
    Conflict,
    Silent,
}

/// What of the recovery history is read in a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryRead {
    /// All of it.
    Whole,
    /// So many of the newest records: the rest is to come.
    NewestOf(usize),
    /// It was not answered.
    Nothing,
}

#[derive(Debug, Clone)]
pub struct Lab {
    pub now_ms: u64,
    /// The wall clock of Orchestrator and MySQL at the world's zero, s since 1970.
    pub wall_s: i64,
    pub servers: BTreeMap<Node, Server>,
    pub records: Vec<Recovery>,
    pub downtimes: Vec<Downtime>,
    pub raft: Raft,
    pub proxy: ProxyView,
    pub orders: Orders,
    /// What the agent's host resolves.
    pub addresses: Addresses,
    pub policy: Policy,
    pub memory: Memory,
    /// The present primary, in truth.
    pub primary: Node,
    /// ProxySQL's read_only monitor runs.
    pub monitor: bool,
    /// Old instance rows that the leader still shows.
    pub stale: Option<Vec<Instance>>,
    /// What the leader says of its own ProxySQL hooks.
    pub hooks: ProxyHooks,
    /// What of the leader's answer can't be read.
    pub skipped: Vec<SkippedEntry>,
    /// What of the history is read in a tick.
    pub history: HistoryRead,
    /// Plans are not carried out.
    pub observe_only: bool,
    /// Rows of any layer changed in so many ticks.
    pub writes: usize,
    /// Who ticks; see [`Lab::agent`].
    pub agent: &'static str,
    /// What the other agents of this ProxySQL keep.
    pub others: BTreeMap<&'static str, Memory>,
    /// The lease that one of them left: whose, until when it is good, when it was last wanted.
    pub lease: Option<(&'static str, u64, u64)>,
    /// The shared lease was written so often.
    pub shares: usize,
}

impl Lab {
    /// Three nodes, node01 the primary; hostgroups 10 and 20; an agent that never ran.
    pub fn new() -> Self {
        let server = |primary: Option<Node>| Server {
            up: true,
            read_only: primary.is_some(),
            replicating: primary.is_some(),
            primary,
            checked_s: 0,
            listed: true,
            alias: "main".to_owned(),
            also: vec![],
            uuid: String::new(),
            errant_gtid: String::new(),
        };
        let rows = Shared::from(vec![
            row(10, "node01", Status::Online),
            row(20, "node01", Status::Online),
            row(20, "node02", Status::Online),
            row(20, "node03", Status::Online),
        ]);
        let proxy = ProxyView {
            runtime: rows.clone(),
            memory: rows.clone(),
            disk: rows,
            pairs: vec![pair(10, 20)],
            ..ProxyView::default()
        };
        let replica = || server(Some(node("node01")));
        Self {
            now_ms: START_MS,
            wall_s: WALL_S,
            servers: [(node("node01"), server(None)), (node("node02"), replica()), (node("node03"), replica())].into(),
            records: vec![],
            downtimes: vec![],
            raft: Raft::Led { leader: "orc1".to_owned(), backing: Backing::Majority },
            proxy,
            orders: Orders::default(),
            addresses: Addresses::default(),
            policy: policy(),
            memory: Memory::first_start("boot", START_MS),
            primary: node("node01"),
            monitor: true,
            stale: None,
            hooks: ProxyHooks::Absent,
            skipped: Vec::new(),
            history: HistoryRead::Whole,
            observe_only: false,
            writes: 0,
            agent: "a",
            others: BTreeMap::new(),
            lease: None,
            shares: 0,
        }
    }

    /// The same, in service for a minute: armed, with a steady leader.
    pub fn healthy() -> Self {
        let mut lab = Self::new();
        lab.run_s(60);
        assert!(lab.memory.lease.armed && lab.writes == 0, "a healthy lab is armed and quiet");
        lab
    }

    // --- time -------------------------------------------------------------------------------------------------

    pub fn now_s(&self) -> i64 {
        self.wall_s + (self.now_ms / 1000) as i64
    }

    /// One tick, at this time.
    pub fn tick(&mut self, now_ms: u64) -> Decision {
        self.now_ms = now_ms;
        for server in self.servers.values_mut().filter(|server| server.up) {
            server.checked_s = self.wall_s + (now_ms / 1000) as i64;
        }
        self.run_monitor();
        let observed = self.observed();
        let decision = decide(&observed, &self.memory, &self.policy, now_ms);
        self.memory = decision.memory.clone();
        self.orders.now = None;
        if !self.observe_only {
            self.carry_out(&decision);
            self.check_rules(&observed, &decision);
        }
        decision
    }

    /// One tick, a second later.
    pub fn next(&mut self) -> Decision {
        self.tick(self.now_ms + 1_000)
    }

    /// One tick, half a second later.
    pub fn soon(&mut self) -> Decision {
        self.tick(self.now_ms + 500)
    }

    /// Ticks once a second (or what `policy.tick_ms` says), for so long.
    pub fn run_s(&mut self, seconds: u64) -> Decision {
        let tick_ms = self.policy.tick_ms;
        let mut last = self.tick(self.now_ms + tick_ms);
        for _ in 1..(seconds * 1_000 / tick_ms) {
            last = self.tick(self.now_ms + tick_ms);
        }
        last
    }

    /// What a tick of this moment would see.
    pub fn observed(&self) -> Observed {
        let lease = self.lease.map(|(owner, until_ms, wanted_ms)| SharedLease {
            owner: owner.to_owned(),
            ours: owner == self.agent,
            left_ms: until_ms.saturating_sub(self.now_ms),
            unwanted_ms: self.now_ms - wanted_ms,
        });
        let proxy = ProxyView { lease, ..self.proxy.clone() };
        Observed { proxy, leader: self.leader_view(), orders: self.orders.clone(), addresses: self.addresses.clone() }
    }

    fn leader_view(&self) -> LeaderView {
        let (leader, backing) = match &self.raft {
            Raft::Led { leader, backing } => (leader, *backing),
            Raft::Leaderless => return LeaderView::Leaderless,
            Raft::Blind => return LeaderView::Blind(Default::default()),
            Raft::Conflict => {
                return LeaderView::Conflict(stonith_core::orchestrator::ConflictCause::TwoLeaders {
                    one: "orc1".to_owned(),
                    other: "orc2".to_owned(),
                });
            }
            Raft::Silent => return LeaderView::Silent(Default::default()),
        };
        // A single endpoint is all there is to ask; whom a majority names is asked only when it is wanted.
        let asked = leader_query(
            &self.proxy,
            &self.memory,
            &self.addresses,
            leader,
            &self.downtimes,
            &self.policy,
            self.now_ms,
        );
        LeaderView::Led(Answer {
            leader: leader.clone(),
            asked_ms: self.now_ms,
            date_s: self.now_s(),
            backing: if asked.backing || backing == Backing::Single { backing } else { Backing::Unconfirmed },
            downtimes: self.downtimes.clone(),
            history: self.history(leader).filter(|_| asked.history),
            instances: asked.instances.then(|| self.stale.clone().unwrap_or_else(|| self.instances())),
            hooks: asked.hooks.then_some(self.hooks),
            skipped: self
                .skipped
                .iter()
                .filter(|one| one.part != AnswerPart::History || asked.history)
                .cloned()
                .collect(),
        })
    }

    fn history(&self, leader: &str) -> Option<RecoveryHistory> {
        let whole = RecoveryHistory::whole(leader, self.records.clone());
        match self.history {
            HistoryRead::Whole => Some(whole),
            HistoryRead::NewestOf(records) => {
                let newest = self.records.iter().rev().take(records).cloned().collect();
                let under_way = Some(UnderWay::default());
                Some(RecoveryHistory { records: newest, progress: HistoryProgress { under_way, ..whole.progress } })
            }
            HistoryRead::Nothing => None,
        }
    }

    /// What the leader would show of the nodes now.
    pub fn instances(&self) -> Vec<Instance> {
        let listed = self.servers.iter().filter(|(_, server)| server.listed);
        let named = listed.flat_map(|(node, server)| {
            std::iter::once(node).chain(&server.also).map(move |name| (name.clone(), node, server))
        });
        named
            .map(|(name, node, server)| {
                // A returned old primary is its own cluster (facts §8).
                let top = server.primary.as_ref().unwrap_or(node);
                Instance {
                    cluster: top.to_string(),
                    alias: server.alias.clone(),
                    valid: server.up,
                    read_only: server.read_only,
                    primary: server.primary.clone(),
                    replicating: server.replicating,
                    checked_s: server.checked_s,
                    downtimed: self.downtimes.iter().any(|downtime| downtime.node == name),
                    uuid: server.uuid.clone(),
                    errant_gtid: server.errant_gtid.clone(),
                    replication_error: String::new(),
                    node: name,
                }
            })
            .collect()
    }

    fn carry_out(&mut self, decision: &Decision) {
        let plan = &decision.plan;
        self.writes += usize::from(plan.changes_rows());
        self.shares += usize::from(plan.lease_action.is_some());
        self.lease = match (plan.lease_action, self.lease) {
            (Some(LeaseAction::Keep { good_ms }), lease) => {
                let wanted_ms = lease.filter(|lease| lease.0 == self.agent).map_or(self.now_ms, |lease| lease.2);
                Some((self.agent, self.now_ms + good_ms, wanted_ms))
            }
            (Some(LeaseAction::Want), lease) => lease.map(|lease| (lease.0, lease.1, self.now_ms)),
            (Some(LeaseAction::End), _) => None,
            (None, lease) => lease,
        };
        match plan.pause {
            Some(PauseAction::Pause(seen)) => {
                self.proxy.pause = PauseSeen { paused: true, noted: seen.noted || !seen.paused, clients: 0 };
            }
            Some(PauseAction::Resume) => self.proxy.pause = PauseSeen::default(),
            None => {}
        }
        for (node, release) in &plan.releases {
            let released = self.proxy.released.entry(node.clone()).or_default();
            *released = released.and(*release);
        }
        self.proxy.runtime = plan.carry_out(&self.proxy.runtime).into();
        self.proxy.memory = plan.carry_out(&self.proxy.memory).into();
        self.proxy.disk = plan.carry_out(&self.proxy.disk).into();
        for node in &plan.sessions {
            self.proxy.conn_used.remove(node);
        }
    }

    /// What must hold after every tick, whatever happened in it.
    fn check_rules(&self, before: &Observed, decision: &Decision) {
        let plan = &decision.plan;
        for layer in LAYERS {
            let (was, is) = (before.proxy.layer(layer), self.proxy.layer(layer));
            assert_eq!(plan.carry_out(is), is, "carried out twice");
            for row in was {
                let directive = row.node().and_then(|node| plan.directives.get(&node).cloned());
                let untouched = directive.is_none() || !plan.managed.contains(row.key.hostgroup);
                let restored = plan.hooks.reset.contains_key(&row.key) && is_at_defaults(row);
                assert!(!untouched || restored || is.contains(row), "I5, I3: a row outside the plan changed: {row:?}");
                let ours = matches!(Comment::parse(&row.comment), Comment::Marked(..));
                let after = is.iter().find(|after| after.key == row.key);
                assert!(
                    ours || row.status.in_service() || plan.hooks.adopted.contains(&row.key) || after == Some(row),
                    "I3: a row that was out and not ours changed: {row:?}"
                );
                if matches!(directive, Some(Directive::Fence { .. })) && !untouched {
                    assert!(after.is_some_and(|row| !row.status.in_service()), "I4: in service, fenced: {row:?}");
                }
            }
        }
        let again = Observed { orders: Orders { now: None, ..before.orders.clone() }, ..self.observed() };
        let again = Observed { leader: before.leader.clone(), ..again };
        let again = decide(&again, &self.memory, &self.policy, self.now_ms);
        // The return of one node may make room for another's downtime.
        assert!(
            again.plan.is_empty() || plan.unfences(),
            "I7: not quiet after its own outcome: {:#?}",
            again.plan.changes
        );
    }

    /// ProxySQL's read_only monitor: moves nodes with a row in service, in runtime only (facts §2).
    fn run_monitor(&mut self) {
        let pairs = if self.monitor { self.proxy.pairs.clone() } else { vec![] };
        for pair in &pairs {
            for (node, server) in self.servers.iter().filter(|(_, server)| server.up) {
                let rows = self.proxy.runtime.iter().filter(|row| row.node().as_ref() == Some(node));
                let rows: Vec<&Row> =
                    rows.filter(|row| [pair.writer, pair.reader].contains(&row.key.hostgroup)).collect();
                let Some(like) = rows.iter().find(|row| row.status.in_service()).map(|row| (*row).clone()) else {
                    continue;
                };
                let to = if server.read_only { pair.reader } else { pair.writer };
                let there = rows.iter().any(|row| row.key.hostgroup == to && row.status != Status::OfflineHard);
                if !there {
                    // A ghost that remains there is set ONLINE (facts §2).
                    let moved = Row { key: RowKey { hostgroup: to, ..like.key.clone() }, ..like };
                    self.proxy.runtime.retain(|row| row.key != moved.key);
                    self.proxy.runtime.push(moved);
                }
                if server.read_only {
                    let of_node = |row: &Row| row.node().as_ref() == Some(node) && row.key.hostgroup == pair.writer;
                    self.proxy.runtime.retain(|row| !of_node(row) || row.status == Status::OfflineHard);
                }
            }
        }
        self.proxy.runtime.sort();
    }
}
