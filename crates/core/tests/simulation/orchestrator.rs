//! MySQL nodes in truth, and Orchestrator's three raft nodes with what each of them knows (facts §8).

use std::collections::{BTreeMap, BTreeSet};

use stonith_core::barrier::{Lead, MARK_S};
use stonith_core::decide::LeaderQuery;
use stonith_core::node::Node;
use stonith_core::orchestrator::{
    Analysis, Answer, AnswerPart, BARRIER, Backing, Downtime, Instance, LOST_IN_RECOVERY, LeaderView, Recovery,
    RecoveryHistory, SkippedEntry, TAKEOVER,
};

use super::agent::Agent;
use super::event::{ADDRESSES, NODES, START_MS, Topology, What};
use super::hook::{Confirmed, Ended, Hook, Hooks};
use super::sabotage::Sabotage;

/// The nodes of another cluster: its primary, and a replica.
pub const OTHER_CLUSTER: [&str; 2] = ["my01", "my02"];

pub const WALL_S: i64 = 1_750_000_000;

/// How long the hook of a planned takeover drains, ms.
const DRAIN_MS: u64 = 2_000;
/// How long its mark lasts, ms: longer than the drain.
const TAKEOVER_MARK_MS: u64 = 5_000;

pub fn node(name: &str) -> Node {
    format!("{name}:3306").parse().expect("a node")
}

/// Which node of ours has this name, or this address.
pub fn number(of: &Node) -> Option<usize> {
    let names = NODES.iter().zip(ADDRESSES);
    names.into_iter().position(|(name, address)| [*name, address].contains(&of.host.as_str()))
}

pub fn now_s(now_ms: u64) -> i64 {
    WALL_S + (now_ms / 1_000) as i64
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Up,
    Hung,
    Dead,
}

/// One MySQL server, as it is.
#[derive(Debug, Clone)]
pub struct Server {
    pub life: Life,
    pub read_only: bool,
    pub follows: Option<usize>,
    /// When it last was what a node under no suspicion is: the primary, or a running read-only replica of it.
    pub last_well_ms: u64,
    /// It did, or was said to have done, what may fence it.
    pub blamed: bool,
    /// When it last was the primary.
    pub last_primary_ms: u64,
    /// When it last was not up.
    pub last_down_ms: u64,
}

/// What one raft node knows by itself.
#[derive(Debug, Clone, Default)]
pub struct Orc {
    pub polled: BTreeMap<usize, Instance>,
    pub lost: Vec<Downtime>,
    /// The hooks' marks, and when each ends.
    pub marks: Vec<(Downtime, u64)>,
    pub records: Vec<Recovery>,
}

/// A recovery under way.
#[derive(Debug, Clone)]
struct Running {
    by: usize,
    failed: usize,
    uid: String,
    at_ns: u64,
    ends_ms: u64,
    /// The hook before the promotion, until it ends.
    hook: Option<Hook>,
    /// What it knew then.
    confirmed: Confirmed,
}

/// A planned takeover under way: the hook drains, then the old primary is demoted, then the new one is promoted.
#[derive(Debug, Clone)]
struct Planned {
    by: usize,
    from: usize,
    to: usize,
    demotes_ms: u64,
    promotes_ms: u64,
    /// It stops after the drain.
    in_vain: bool,
}

/// A promotion behind a barrier.
#[derive(Debug, Clone)]
pub struct Promotion {
    pub failed: usize,
    pub confirmed: Confirmed,
}

#[derive(Debug, Clone)]
pub struct Cluster {
    pub servers: Vec<Server>,
    pub primary: usize,
    /// Since when it is, ms.
    pub promoted_at_ms: u64,
    pub orcs: Vec<Orc>,
    pub leader: Option<usize>,
    /// When there is a leader again.
    pub elected_ms: u64,
    next_leader: usize,
    /// A deposed leader that is still heard, until when.
    pub deposed: Option<(usize, u64)>,
    pub downtimes: Vec<Downtime>,
    pub listed: BTreeSet<usize>,
    /// Another cluster is there, in which nothing ever happens.
    has_other: bool,
    other_alias: &'static str,
    promotes_without_reset: bool,
    two_names: Option<usize>,
    /// The history does not come until then, ms.
    pub history_stalls_ms: u64,
    /// What can't be read, of which node, until when, ms.
    pub unreadable: Vec<(AnswerPart, usize, u64)>,
    /// Who was the primary before.
    pub primary_before: usize,
    /// When somebody last made another node the primary, and whether the agents were stopped then.
    pub switched: Option<(u64, bool)>,
    running: Option<Running>,
    planned: Option<Planned>,
    hooks: Option<Hooks>,
    agents: usize,
    pub sabotage: Option<Sabotage>,
    /// Promotions that nobody judged yet.
    pub promotions: Vec<Promotion>,
    /// When a hook began to mark a node last, ms, by node.
    pub marked_ms: BTreeMap<usize, u64>,
    /// What is to happen in the barrier that has just begun, and when, ms.
    pub befalls: Option<(u64, What)>,
    /// What hooks came to.
    pub saw: BTreeSet<&'static str>,
    missed: u32,
    last_recovery_ms: u64,
    recoveries: u64,
    /// The next record does not reach this one.
    pub lacking: Option<usize>,
    /// Per record, by UID: when the new primary took over, ms.
    pub promoted_ms: BTreeMap<String, u64>,
    pub story: Vec<String>,
}

impl Cluster {
    pub fn new(topology: Topology) -> Self {
        let last = topology.nodes - 1;
        let follows = |n| if n == last && topology.is_chained { 1 } else { 0 };
        let server = |n| Server {
            life: Life::Up,
            read_only: n > 0,
            follows: (n > 0).then(|| follows(n)),
            last_well_ms: START_MS,
            blamed: false,
            last_primary_ms: 0,
            last_down_ms: 0,
        };
        let mut cluster = Self {
            servers: (0..topology.nodes).map(server).collect(),
            primary: 0,
            promoted_at_ms: START_MS,
            orcs: vec![Orc::default(); 3],
            leader: Some(0),
            elected_ms: 0,
            next_leader: 0,
            deposed: None,
            downtimes: vec![],
            listed: (0..topology.nodes).collect(),
            has_other: topology.has_other_cluster,
            other_alias: topology.other_alias(),
            promotes_without_reset: topology.promotes_without_reset,
            two_names: topology.two_names,
            history_stalls_ms: 0,
            unreadable: vec![],
            primary_before: 0,
            switched: None,
            running: None,
            planned: None,
            hooks: topology.hooks,
            agents: topology.agents,
            sabotage: None,
            promotions: vec![],
            marked_ms: BTreeMap::new(),
            befalls: None,
            saw: BTreeSet::new(),
            missed: 0,
            last_recovery_ms: 0,
            recoveries: 0,
            lacking: None,
            promoted_ms: BTreeMap::new(),
            story: vec![],
        };
        cluster.poll(START_MS);
        cluster
    }

    /// It runs, and nothing speaks against it: the primary, or a read-only replica of it that runs.
    pub fn is_well(&self, n: usize) -> bool {
        let server = &self.servers[n];
        n == self.primary || (server.life == Life::Up && server.read_only && self.leads_to_the_primary(n))
    }

    /// A node that is not well is seen to be not well: it is listed, and it does not answer, or a primary that answers shows
    /// that the node is neither that primary nor its replica. An unknown role proves nothing (design §5).
    pub fn shows_that_it_is_unwell(&self, n: usize) -> bool {
        let is_up = |n: usize| self.servers[n].life == Life::Up;
        self.listed.contains(&n) && (!is_up(n) || is_up(self.primary))
    }

    /// Through replicas between them, perhaps.
    fn leads_to_the_primary(&self, n: usize) -> bool {
        let chain = std::iter::successors(self.servers[n].follows, |of| self.servers[*of].follows);
        chain.take(self.servers.len()).any(|of| of == self.primary)
    }

    /// Brings the times up to date; after every step.
    pub fn look(&mut self, now_ms: u64) {
        self.orcs.iter_mut().for_each(|orc| orc.marks.retain(|(_, ends_ms)| now_ms < *ends_ms));
        for n in 0..self.servers.len() {
            if self.is_well(n) {
                self.servers[n].last_well_ms = now_ms;
            }
            if self.servers[n].life != Life::Up {
                self.servers[n].last_down_ms = now_ms;
            }
            if n == self.primary {
                self.servers[n].last_primary_ms = now_ms;
            } else if !self.servers[n].read_only {
                self.servers[n].blamed = true;
            }
        }
    }

    fn replicates(&self, n: usize) -> bool {
        self.servers[n].follows.is_some_and(|of| self.servers[of].life == Life::Up)
    }

    /// Once a second: all nodes are polled, and the leader does what it does.
    pub fn poll(&mut self, now_ms: u64) {
        for n in 0..self.servers.len() {
            let server = &self.servers[n];
            let up = server.life == Life::Up;
            let top = server.follows.unwrap_or(n);
            let seen = Instance {
                node: node(NODES[n]),
                cluster: node(NODES[top]).to_string(),
                alias: "main".to_owned(),
                valid: true,
                read_only: server.read_only,
                primary: server.follows.map(|of| node(NODES[of])),
                replicating: self.replicates(n),
                checked_s: now_s(now_ms),
                downtimed: false,
                uuid: self.two_names.map(|_| format!("uuid-{n}")).unwrap_or_default(),
                errant_gtid: String::new(),
                replication_error: String::new(),
            };
            for orc in &mut self.orcs {
                if !self.listed.contains(&n) {
                    orc.polled.remove(&n);
                } else if up {
                    orc.polled.insert(n, seen.clone());
                } else if let Some(last) = orc.polled.get_mut(&n) {
                    // What it shows is what it last knew; replication threads that break are not seen on a dead node.
                    last.valid = false;
                }
            }
        }
        if self.leader.is_none() && now_ms >= self.elected_ms {
            self.leader = Some(self.next_leader);
            self.tell(now_ms, format!("orc{} leads", self.next_leader + 1));
        }
        self.deposed = self.deposed.filter(|(_, until)| now_ms < *until);
        self.recover(now_ms);
        // 60 s, and replicating again: the mark ends by itself.
        let replicates: Vec<bool> = (0..self.servers.len()).map(|n| self.is_well(n) && self.replicates(n)).collect();
        for orc in &mut self.orcs {
            orc.lost.retain(|mark| {
                let n = number(&mark.node).expect("a node of ours");
                !(replicates[n] && now_s(now_ms) - mark.begin_s >= 60)
            });
        }
    }

    fn recover(&mut self, now_ms: u64) {
        if let Some(running) = self.running.clone() {
            if now_ms >= running.ends_ms && running.hook.is_none() {
                self.running = None;
                self.finish(running, now_ms);
            }
            return;
        }
        let Some(leader) = self.leader.filter(|_| self.planned.is_none()) else { return };
        let dead = self.orcs[leader].polled.get(&self.primary).is_some_and(|seen| !seen.valid);
        self.missed = if dead { self.missed + 1 } else { 0 };
        let primary = node(NODES[self.primary]);
        let downtimed = self.listed_by(leader).any(|mark| mark.node == primary);
        if self.missed >= 2 && !downtimed && now_ms - self.last_recovery_ms > 10_000 {
            self.recoveries += 1;
            self.last_recovery_ms = now_ms;
            let at_ns = u64::try_from(now_s(now_ms)).expect("after 1970") * 1_000_000_000 + self.recoveries;
            let uid = format!("{at_ns}:orc{leader}");
            let ends_ms = now_ms + 500 + at_ns % 5_000;
            self.tell(now_ms, format!("orc{} starts to recover {}", leader + 1, NODES[self.primary]));
            let hook = self.hooks.map(|hooks| Hook::new(hooks, self.agents, self.sabotage, now_ms));
            let befalls = self.hooks.and_then(|hooks| hooks.befalls);
            self.befalls = befalls.map(|(after_ms, ms, befalls)| (now_ms + after_ms, befalls.what(ms, self.primary)));
            let confirmed = Confirmed::default();
            let running = Running { by: leader, failed: self.primary, uid, at_ns, ends_ms, hook, confirmed };
            let begun = self.record(&running, None, None);
            self.orcs.iter_mut().for_each(|orc| orc.records.push(begun.clone()));
            self.running = Some(running);
        }
    }

    fn record(&self, running: &Running, successor: Option<usize>, end_s: Option<i64>) -> Recovery {
        Recovery {
            at_ns: running.at_ns,
            uid: running.uid.clone(),
            end_s,
            analysis: Analysis::DeadPrimary,
            successful: successor.is_some(),
            failed: node(NODES[running.failed]),
            successor: successor.map(|n| node(NODES[n])),
            alias: "main".to_owned(),
        }
    }

    /// The end of a recovery: somebody is promoted, or nobody. On a leader deposed meanwhile nobody else hears of it.
    /// Orchestrator promotes only a node that it lists.
    fn finish(&mut self, running: Running, now_ms: u64) {
        let failed = running.failed;
        let is_replica = |server: &Server| server.life == Life::Up && server.follows == Some(failed);
        let candidate = (0..self.servers.len())
            .map(|i| (i + running.at_ns as usize) % self.servers.len())
            .find(|n| *n != failed && is_replica(&self.servers[*n]) && self.listed.contains(n));
        let mut lost = vec![failed];
        if let Some(new) = candidate {
            for n in (0..self.servers.len()).filter(|n| *n != failed && *n != new) {
                if self.servers[n].life != Life::Up {
                    lost.push(n);
                } else if self.servers[n].follows == Some(failed) {
                    self.servers[n].follows = Some(new);
                }
            }
            self.promote(new, now_ms);
            self.promoted_ms.insert(running.uid.clone(), now_ms);
            // Orchestrator ends the successor's downtime on the leader (facts §10).
            self.orcs[running.by].marks.retain(|(mark, _)| mark.node != node(NODES[new]));
            if self.hooks.is_some() {
                self.promotions.push(Promotion { failed, confirmed: running.confirmed.clone() });
            }
        }
        let record = self.record(&running, candidate, Some(now_s(now_ms)));
        let reached: Vec<usize> = match self.leader {
            Some(leader) if leader == running.by => {
                (0..3).filter(|orc| *orc == leader || Some(*orc) != self.lacking.take()).collect()
            }
            _ => vec![running.by],
        };
        for orc in &mut self.orcs {
            orc.records.retain(|old| old.uid != record.uid || old.end_s.is_some());
        }
        for orc in &reached {
            self.orcs[*orc].records.push(record.clone());
        }
        for n in &lost {
            self.mark_lost(running.by, *n, now_ms);
        }
        self.after_hooks(&running, candidate, now_ms);
        self.last_recovery_ms = now_ms;
        let new = candidate.map_or("nobody", |n| NODES[n]);
        self.tell(now_ms, format!("orc{} promoted {new}; the record reached {reached:?}", running.by + 1));
    }

    fn mark_lost(&mut self, orc: usize, n: usize, now_ms: u64) {
        self.servers[n].blamed = true;
        let begin_s = now_s(now_ms);
        let owner = format!("orc{}", orc + 1);
        let mark = Downtime { node: node(NODES[n]), reason: LOST_IN_RECOVERY.to_owned(), owner, begin_s };
        self.orcs[orc].lost.retain(|old| old.node != mark.node);
        self.orcs[orc].marks.retain(|(old, _)| old.node != mark.node); // a node has one downtime
        self.orcs[orc].lost.push(mark);
    }

    // --- the program's hooks ------------------------------------------------------------------------------------------

    /// The node whose recovery waits for its hook.
    pub fn waits_for(&self) -> Option<usize> {
        self.running.as_ref().filter(|running| running.hook.is_some()).map(|running| running.failed)
    }

    /// When something of a hook is due.
    pub fn hook_ms(&self) -> u64 {
        let barrier = self.running.as_ref().and_then(|running| running.hook.as_ref()).map(|hook| hook.wake_ms);
        let takeover = self.planned.as_ref().map(|planned| match self.servers[planned.from].read_only {
            true => planned.promotes_ms,
            false => planned.demotes_ms,
        });
        barrier.into_iter().chain(takeover).min().unwrap_or(u64::MAX)
    }

    /// A hook takes its next step. What it did too late, if anything.
    pub fn hook_steps(&mut self, agents: &mut [Agent], now_ms: u64) -> Option<String> {
        if self.planned.as_ref().is_some_and(|planned| now_ms >= planned.demotes_ms) {
            self.takes_over(now_ms);
        }
        let mut running = self.running.take()?;
        let Some(mut hook) = running.hook.take_if(|hook| now_ms >= hook.wake_ms) else {
            self.running = Some(running);
            return None;
        };
        let late = now_ms > hook.ends_by_ms();
        if hook.publishes(now_ms) {
            let is_listed = self.leader == Some(running.by);
            if is_listed {
                self.publish(running.failed, BARRIER, &running.uid, now_ms, MARK_S * 1_000);
            }
            hook.tried(is_listed, now_ms);
        }
        hook.asks(running.failed, agents, now_ms);
        let lead = || match (self.deposed, self.leader) {
            (Some((orc, until_ms)), _) if orc == running.by && now_ms < until_ms => Lead::Held(now_ms),
            (_, Some(leader)) if leader == running.by => Lead::Held(now_ms),
            (_, Some(_)) => Lead::Lost,
            (_, None) => Lead::Unknown,
        };
        match hook.goes_on(lead, now_ms) {
            None => {
                running.hook = Some(hook);
                self.running = Some(running);
            }
            Some(Ended::Promotes(confirmed)) => {
                self.saw.insert(match (confirmed.all, confirmed.by_lease.is_empty()) {
                    (true, true) => "barriers",
                    (true, false) => "barriers that waited for a lease",
                    (false, _) => "barriers with somebody unconfirmed",
                });
                self.tell(now_ms, format!("orc{}'s hook goes on: {confirmed:?}", running.by + 1));
                running.confirmed = confirmed;
                running.ends_ms = now_ms + 700 * (self.recoveries % 3);
                self.running = Some(running);
                self.recover(now_ms);
            }
            Some(Ended::Aborts(why)) => {
                self.saw.insert("barriers that aborted");
                self.tell(now_ms, format!("orc{}'s hook aborts: {why}", running.by + 1));
                self.take_back(running.failed);
                self.last_recovery_ms = now_ms;
            }
        }
        late.then(|| "B: a hook went on after its deadline".to_owned())
    }

    /// A downtime that is set through the API is on all members, and replaces the one that was there (facts §8).
    fn publish(&mut self, n: usize, reason: &str, owner: &str, now_ms: u64, for_ms: u64) {
        self.servers[n].blamed = true;
        let owner = owner.to_owned();
        let mark = Downtime { node: node(NODES[n]), reason: reason.to_owned(), owner, begin_s: now_s(now_ms) };
        if !self.orcs.iter().any(|orc| orc.marks.iter().any(|(old, _)| old.owner == mark.owner)) {
            self.marked_ms.insert(n, now_ms);
        }
        self.end_downtime(n);
        self.orcs.iter_mut().for_each(|orc| orc.marks.push((mark.clone(), now_ms + for_ms)));
    }

    /// A hook takes its mark back, if there is a leader to do it.
    fn take_back(&mut self, n: usize) {
        if self.leader.is_some() {
            self.orcs.iter_mut().for_each(|orc| orc.marks.retain(|(mark, _)| mark.node != node(NODES[n])));
        }
    }

    /// The hooks after a failover (facts §8): the mark of a recovery on all members, or the barrier's is taken back.
    fn after_hooks(&mut self, running: &Running, successor: Option<usize>, now_ms: u64) {
        if !self.hooks.is_some_and(|hooks| hooks.after) || self.leader != Some(running.by) {
            return;
        }
        match successor {
            None => self.take_back(running.failed),
            Some(successor) => {
                self.take_back(successor);
                (0..3).for_each(|orc| self.mark_lost(orc, running.failed, now_ms));
            }
        }
    }

    /// The next step of a planned takeover, after its drain.
    fn takes_over(&mut self, now_ms: u64) {
        let Some(planned) = self.planned.clone() else { return };
        let Planned { by, from, to, in_vain, promotes_ms, .. } = planned;
        let is_ready = |n: usize| self.servers[n].life == Life::Up && self.listed.contains(&n);
        let may_go_on = self.leader == Some(by) && self.primary == from && is_ready(from) && is_ready(to);
        if in_vain || !may_go_on || self.servers[to].follows != Some(from) {
            self.saw.insert("planned takeovers that came to nothing");
            self.tell(now_ms, format!("the takeover of {} comes to nothing", NODES[from]));
            self.servers[from].read_only &= self.primary != from; // Orchestrator makes it writable again
            self.planned = None;
            return;
        }
        self.servers[from].read_only = true;
        if now_ms >= promotes_ms {
            self.planned = None;
            self.saw.insert("planned takeovers behind a mark");
            self.finish_takeover(by, from, to, now_ms);
        }
    }

    /// What this member lists: a node has one downtime.
    fn listed_by(&self, orc: usize) -> impl Iterator<Item = &Downtime> {
        let known = &self.orcs[orc];
        known.lost.iter().chain(&self.downtimes).chain(known.marks.iter().map(|(mark, _)| mark))
    }

    fn promote(&mut self, n: usize, now_ms: u64) {
        self.primary_before = self.primary;
        (self.primary, self.promoted_at_ms) = (n, now_ms);
        self.servers[n].read_only = false;
        if !self.promotes_without_reset {
            self.servers[n].follows = None;
        }
    }

    /// A graceful takeover; it leaves what a failover leaves.
    pub fn takeover(&mut self, to: usize, now_ms: u64) {
        let from = self.primary;
        let Some(leader) = self.leader else { return };
        let ready = |n: usize| self.servers[n].life == Life::Up && self.listed.contains(&n);
        let is_busy = self.running.is_some() || self.planned.is_some();
        if to == from || !ready(from) || !ready(to) || self.servers[to].follows != Some(from) || is_busy {
            return;
        }
        if self.hooks.is_some() {
            self.publish(from, TAKEOVER, "proxysql-stonith", now_ms, TAKEOVER_MARK_MS);
            let demotes_ms = now_ms + DRAIN_MS / (1 + now_ms % 2);
            let promotes_ms = demotes_ms + now_ms % 1_500;
            let in_vain = now_ms.is_multiple_of(3);
            self.planned = Some(Planned { by: leader, from, to, demotes_ms, promotes_ms, in_vain });
            return;
        }
        self.finish_takeover(leader, from, to, now_ms);
    }

    fn finish_takeover(&mut self, leader: usize, from: usize, to: usize, now_ms: u64) {
        self.promote(to, now_ms);
        for n in 0..self.servers.len() {
            if n != to && self.servers[n].follows == Some(from) || n == from {
                self.servers[n].follows = Some(to);
            }
        }
        self.servers[from].read_only = true;
        self.recoveries += 1;
        let at_ns = u64::try_from(now_s(now_ms)).expect("after 1970") * 1_000_000_000 + self.recoveries;
        let uid = format!("{at_ns}:orc{leader}");
        self.promoted_ms.insert(uid.clone(), now_ms);
        let confirmed = Confirmed::default();
        let running = Running { by: leader, failed: from, uid, at_ns, ends_ms: now_ms, hook: None, confirmed };
        let record = self.record(&running, Some(to), Some(now_s(now_ms)));
        self.orcs.iter_mut().for_each(|orc| orc.records.push(record.clone()));
        self.mark_lost(leader, from, now_ms);
        self.last_recovery_ms = now_ms;
    }

    /// Somebody makes another node the primary, by hand: no record and no mark.
    pub fn switch(&mut self, to: Option<usize>, resets: bool, are_stopped: bool, now_ms: u64) -> Option<usize> {
        let (from, to) = (self.primary, to.unwrap_or(self.primary_before));
        let ready = |n: usize| self.servers[n].life == Life::Up && self.listed.contains(&n);
        let is_busy = self.running.is_some() || self.planned.is_some();
        if to == from || !ready(from) || !ready(to) || is_busy {
            return None;
        }
        self.promote(to, now_ms);
        self.servers[to].follows = (!resets).then_some(from);
        for (_, server) in self.servers.iter_mut().enumerate().filter(|(n, s)| *n != to && s.life == Life::Up) {
            (server.follows, server.read_only) = (Some(to), true);
        }
        self.end_downtime(to);
        self.switched = Some((now_ms, are_stopped));
        Some(to)
    }

    /// Whether somebody made this node the primary while no agent watched, it is that still, also by the leader's last
    /// check, and another node, not the one that was it before, runs from it.
    pub fn was_switched_unwatched(&self, n: usize) -> bool {
        let runs = |(other, server): (usize, &Server)| {
            other != n && server.life == Life::Up && server.follows == Some(n) && server.read_only
        };
        n == self.primary
            && self.switched == Some((self.promoted_at_ms, true))
            && self.servers[n].life == Life::Up
            && self.leader.is_some_and(|orc| self.orcs[orc].polled.get(&n).is_some_and(|instance| instance.valid))
            && self.servers.iter().enumerate().filter(|(other, _)| *other != self.primary_before).any(runs)
            && !self.leads_too(self.primary_before)
    }

    /// Whether a node takes writes and others replicate from it. Nothing tells it from a primary.
    fn leads_too(&self, n: usize) -> bool {
        let follows = |server: &Server| server.life == Life::Up && server.follows == Some(n);
        self.servers[n].life == Life::Up && !self.servers[n].read_only && self.servers.iter().any(follows)
    }

    /// The lead is lost, and comes to another node after so long.
    pub fn elects(&mut self, now_ms: u64, after_ms: u64) {
        self.next_leader = (self.leader.unwrap_or(self.next_leader) + 1) % 3;
        self.leader = None;
        self.elected_ms = now_ms + after_ms;
    }

    /// A dead leader takes its marks and what it was doing along.
    pub fn leader_killed(&mut self, now_ms: u64, after_ms: u64) {
        if let Some(leader) = self.leader {
            self.orcs[leader].lost.clear();
            if let Some(running) = self.running.take_if(|running| running.by == leader)
                && running.hook.is_some()
            {
                self.saw.insert("leaders killed during a barrier");
            }
        }
        self.elects(now_ms, after_ms);
    }

    /// A recovery under way comes to nothing.
    pub fn abandon(&mut self) {
        (self.running, self.planned, self.befalls) = (None, None, None);
    }

    pub fn purge(&mut self) {
        self.orcs.iter_mut().for_each(|orc| orc.records.retain(|record| record.end_s.is_none()));
    }

    pub fn forget(&mut self, n: usize) {
        if n != self.primary {
            self.listed.remove(&n);
            self.end_downtime(n);
        }
    }

    pub fn downtime(&mut self, n: usize, now_ms: u64) {
        self.end_plain(n);
        self.servers[n].blamed = true;
        let (reason, owner) = ("maintenance".to_owned(), "dba".to_owned());
        self.downtimes.push(Downtime { node: node(NODES[n]), reason, owner, begin_s: now_s(now_ms) });
    }

    pub fn end_plain(&mut self, n: usize) {
        self.downtimes.retain(|mark| mark.node != node(NODES[n]));
        self.orcs.iter_mut().for_each(|orc| orc.marks.retain(|(mark, _)| mark.node != node(NODES[n])));
    }

    /// By an operator, every kind of it.
    pub fn end_downtime(&mut self, n: usize) {
        self.end_plain(n);
        self.orcs.iter_mut().for_each(|orc| orc.lost.retain(|mark| mark.node != node(NODES[n])));
    }

    /// An operator makes it what it should be.
    pub fn repair(&mut self, n: usize) {
        self.listed.insert(n);
        let primary = self.primary;
        let server = &mut self.servers[n];
        server.life = Life::Up;
        (server.read_only, server.follows) = (n != primary, (n != primary).then_some(primary));
    }

    pub fn returns(&mut self, n: usize) {
        self.servers[n].life = Life::Up;
    }

    /// What the leader (or the one that still believes it is) says now.
    pub fn answer(
        &self,
        asked_ms: u64,
        now_ms: u64,
        backing: Backing,
        query: impl Fn(&str, &[Downtime]) -> LeaderQuery,
    ) -> LeaderView {
        let (orc, backing) = match (self.deposed, self.leader) {
            (Some((orc, until)), _) if now_ms < until => (orc, Backing::Unconfirmed),
            (_, Some(orc)) => (orc, backing),
            _ => return LeaderView::Leaderless,
        };
        let known = &self.orcs[orc];
        let is_unreadable = |part: AnswerPart, n: usize| {
            self.unreadable.iter().any(|(of, node, until_ms)| (*of, *node) == (part, n) && now_ms < *until_ms)
        };
        let mut skipped = vec![];
        let mut is_read = |part: AnswerPart, of: &[Node]| {
            let is_read = !of.iter().filter_map(number).any(|n| is_unreadable(part, n));
            if !is_read {
                let nodes = of.iter().cloned().collect();
                skipped.push(SkippedEntry { part, nodes, what: format!("{part:?} of {of:?}") });
            }
            is_read
        };
        let marks = self.listed_by(orc);
        let marks =
            marks.map(|mark| Downtime { node: self.told(&mark.node, mark.begin_s.unsigned_abs()), ..mark.clone() });
        let downtimes: Vec<Downtime> =
            marks.filter(|mark| is_read(AnswerPart::Marks, std::slice::from_ref(&mark.node))).collect();
        let leader = format!("orc{}", orc + 1);
        let query = query(&leader, &downtimes);
        let history = (query.history && now_ms >= self.history_stalls_ms).then(|| {
            let records = known.records.iter().map(|record| Recovery {
                failed: self.told(&record.failed, record.at_ns),
                successor: record.successor.as_ref().map(|successor| self.told(successor, record.at_ns)),
                ..record.clone()
            });
            let names = |r: &Recovery| std::iter::once(&r.failed).chain(&r.successor).cloned().collect::<Vec<_>>();
            let read = records.filter(|record| is_read(AnswerPart::History, &names(record)));
            RecoveryHistory::whole(&leader, read.collect())
        });
        let instances = query.instances.then(|| {
            let polled = known.polled.values().flat_map(|seen| self.under_every_name(seen));
            let shown = polled.map(|instance| Instance {
                downtimed: downtimes.iter().any(|mark| mark.node == instance.node),
                ..instance
            });
            let read = shown.filter(|instance| is_read(AnswerPart::Instances, std::slice::from_ref(&instance.node)));
            read.chain(self.other_cluster(now_ms)).collect()
        });
        LeaderView::Led(Answer {
            history,
            leader,
            asked_ms,
            date_s: now_s(now_ms),
            backing: if query.backing || backing == Backing::Single { backing } else { Backing::Unconfirmed },
            instances,
            hooks: None,
            skipped,
            downtimes,
        })
    }

    /// A node as it is told of this time: by its name, or by its address if that is known too.
    fn told(&self, of: &Node, time: u64) -> Node {
        match number(of) {
            Some(n) if self.two_names == Some(n) && !time.is_multiple_of(2) => node(ADDRESSES[n]),
            _ => of.clone(),
        }
    }

    /// An instance as it is listed: a node that has two names, twice. Every other replica has the address as its primary's.
    fn under_every_name(&self, seen: &Instance) -> Vec<Instance> {
        let n = number(&seen.node).expect("a node of ours");
        let primary = seen.primary.as_ref().map(|primary| self.told(primary, n as u64));
        let by_name = Instance { primary, ..seen.clone() };
        let by_address = (self.two_names == Some(n)).then(|| {
            let cluster =
                if by_name.primary.is_none() { node(ADDRESSES[n]).to_string() } else { by_name.cluster.clone() };
            Instance { node: node(ADDRESSES[n]), cluster, ..by_name.clone() }
        });
        std::iter::once(by_name).chain(by_address).collect()
    }

    /// A healthy primary and its replica, always as they were.
    fn other_cluster(&self, now_ms: u64) -> Vec<Instance> {
        let [primary, replica] = OTHER_CLUSTER;
        let instance = |name: &str, of: Option<&str>| Instance {
            node: node(name),
            cluster: node(primary).to_string(),
            alias: self.other_alias.to_owned(),
            valid: true,
            read_only: of.is_some(),
            primary: of.map(node),
            replicating: of.is_some(),
            checked_s: now_s(now_ms),
            downtimed: false,
            uuid: String::new(),
            errant_gtid: String::new(),
            replication_error: String::new(),
        };
        if self.has_other { vec![instance(primary, None), instance(replica, Some(primary))] } else { vec![] }
    }

    pub fn tell(&mut self, now_ms: u64, what: String) {
        self.story.push(at(now_ms, what));
    }
}

/// A line of the story.
pub fn at(now_ms: u64, what: String) -> String {
    format!("{:>7.3} {what}", (now_ms - START_MS) as f64 / 1_000.0)
}
