//! What can happen, and what becomes of the state.
//!
//! ```text
//!  whole:      [fault]*  Second: poll, monitor and ticks (each apply in one go) in either order
//!  stepwise:   [fault | monitor | tick | statement]*  Second, once all have ticked and no apply is under way
//! ```
//!
//! A fault happens at most as often as the model says, at any point of any path.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stonith_core::apply::{Outcome, Statement, Step};
use stonith_core::decide::Decision;
use stonith_core::lease::LeaseState;
use stonith_core::memory::Memory;
use stonith_core::node::Node;
use stonith_core::node_fence::power;
use stonith_core::node_fence::{ALLOWED, targets};
use stonith_core::orchestrator::{Analysis, BARRIER, Downtime, LOST_IN_RECOVERY, LeaderView, Recovery};
use stonith_core::policy::Policy;

use crate::apply_world::scene::node;
use crate::judge::{Actor, RULES, barred, judge, proven};
use crate::state::{NODES, Names, Reach, STRANGER, State, WALL_S, Waiting};
use crate::without::{Rule, Running, decide_without};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// The primary dies.
    Dies,
    /// A dead node comes back as a primary of its own: writable.
    Returns,
    /// Orchestrator promotes the other node, if its leader sees the primary dead: a record everywhere, a mark on the leader.
    Failover,
    /// The leader's hook marks the primary that it sees dead, on every member. The record is open.
    Barrier,
    /// The recovery that waits for its hook promotes the other node, once the hook has seen the fence or waited for the
    /// lease.
    BarrierPromotes,
    /// Another hook aborts that recovery. Its record stays open for good (facts §10).
    Aborts,
    /// The mark runs out.
    MarkEnds,
    /// A minute passes in which nothing happens.
    Minute,
    /// The same, on a leader that has lost the lead meanwhile: nobody else hears of it, and marks and record go with it.
    FailoverOfADeposed,
    /// A planned takeover: it leaves what a failover leaves, and the old primary follows the new one (facts §8).
    Takeover,
    /// A node that is not the primary is made its read-only replica, and its downtime ended.
    Repaired,
    /// A replica's replication breaks.
    Breaks,
    /// The other member becomes the leader: marks are gone (facts §8).
    LeaderChange,
    /// The same, and it lacks the record too.
    LeaderForgets,
    /// Orchestrator polls no more, or again: rows are as they were.
    Stalls,
    /// Answers are under way for a second from now on.
    Slows,
    /// Nobody answers.
    Silence,
    /// Nobody answers the second agent.
    CutsOneOff,
    /// A majority answers and has no leader.
    Leaderless,
    /// Without raft: all answer, none is active, and their database is gone.
    DatabaseGoes,
    /// Only a follower is reached, which relays to the leader.
    Relays,
    /// The recovery history is answered no more, or again.
    HistoryStalls,
    /// The leader is reached again; a partition is over.
    Heals,
    /// node01, agents and ProxySQL are cut off from node02 and the majority.
    Parts,
    /// The deposed leader on our side answers.
    Deposed,
    /// ProxySQL restarts, from disk.
    Restarts,
    /// The name service swaps Orchestrator's names of the two nodes.
    NamesSwap,
    /// An operator stages a weight of node02.
    Edits,
    /// An operator LOADs.
    Loads,
    /// The first agent is killed and started again at once.
    Crashes,
    /// The same, and its state file is gone.
    CrashesForgetting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    Fault(Fault),
    /// A second passes; in a whole model all that happens in one does.
    Second {
        monitor_first: bool,
    },
    Monitor,
    Tick(usize),
    Statement(usize),
}

/// One model: where it begins, what may happen, and without which rule.
#[derive(Debug, Clone)]
pub struct Model {
    pub name: &'static str,
    pub start: State,
    /// Seconds, from the start.
    pub horizon_s: u32,
    /// Each with how often it may happen.
    pub faults: Vec<(Fault, u8)>,
    /// Statements of applies one by one.
    pub stepwise: bool,
    /// And which rule of the judge's is expected to break then.
    pub without: Option<(Rule, &'static str)>,
    pub policy: Policy,
    /// Must happen on some path, or the model shows nothing.
    pub happens: &'static [&'static str],
}

impl Model {
    pub fn new(name: &'static str, start: State, horizon_s: u32, faults: &[(Fault, u8)]) -> Self {
        let mut start = start;
        start.left = faults.iter().map(|(_, times)| *times).collect();
        Self {
            name,
            horizon_s: start.now_s - 60 * start.seen.minutes + horizon_s,
            start,
            faults: faults.to_vec(),
            stepwise: false,
            without: None,
            policy: policy(),
            happens: &[],
        }
    }

    fn without(&self) -> Option<Rule> {
        self.without.map(|(rule, _)| rule)
    }

    pub fn can(&self, state: &State) -> Vec<Action> {
        let mut actions = Vec::new();
        // Without a rule of the design the walk goes on until the rule in question is broken, whatever else is.
        let is_over = self.without.map_or(!state.seen.broken.is_empty(), |(_, rule)| state.seen.broken.contains(rule));
        if is_over {
            return actions;
        }
        for (i, (fault, _)) in self.faults.iter().enumerate() {
            if state.left[i] > 0 && can(*fault, state) {
                actions.push(Action::Fault(*fault));
            }
        }
        let running = |i: &usize| state.agents[*i].running.is_some();
        let agents = || 0..state.agents.len();
        if !self.stepwise {
            actions.extend([true, false].map(|monitor_first| Action::Second { monitor_first }));
        } else {
            // Between the last look and the LOAD a move of the monitor can't be seen (facts §2): left out.
            let loads = |i: usize| {
                matches!(state.agents[i].running.as_deref(), Some(Running { step: Step::Ask(Statement::Load), .. }))
            };
            if !agents().any(loads) {
                actions.push(Action::Monitor);
            }
            actions.extend(agents().filter(running).map(Action::Statement));
            actions.extend(agents().filter(|i| !running(i) && !state.agents[*i].ticked).map(Action::Tick));
            if agents().all(|i| !running(&i) && state.agents[i].ticked) {
                actions.push(Action::Second { monitor_first: true });
            }
        }
        actions.retain(|action| {
            !matches!(action, Action::Second { .. }) || state.now_s - 60 * state.seen.minutes < self.horizon_s
        });
        actions
    }

    pub fn next(&self, before: &State, action: Action) -> State {
        let mut state = before.clone();
        match action {
            Action::Fault(fault) => {
                let i = self.faults.iter().position(|(listed, _)| *listed == fault).expect("it is listed");
                state.left[i] -= 1;
                state.seen.calm_s = 0;
                happens(&mut state, fault);
                judge(before, &mut state, Actor::Fault(fault));
            }
            Action::Monitor => {
                state.monitor();
                // It carried an edit that the LOAD took live to another row: out of that look's sight, as above.
                state.seen.loaded |= state.seen.late && state.proxy != before.proxy;
            }
            Action::Second { monitor_first } => {
                self.second(&mut state);
                if monitor_first {
                    state.monitor();
                }
                if !self.stepwise {
                    for i in 0..state.agents.len() {
                        self.tick(&mut state, i);
                        while state.agents[i].running.is_some() {
                            self.statement(&mut state, i);
                        }
                    }
                    if !monitor_first {
                        state.monitor();
                    }
                }
                judge(before, &mut state, Actor::Second);
            }
            Action::Tick(i) => self.tick(&mut state, i),
            Action::Statement(i) => self.statement(&mut state, i),
        }
        state
    }

    fn second(&self, state: &mut State) {
        for (name, marked_s) in NODES.into_iter().zip(&mut state.seen.marked_s) {
            let is_mark = |mark: &Downtime| mark.reason == BARRIER && mark.node == node(name);
            if state.orc.members.iter().any(|member| member.downtimes.iter().any(is_mark)) {
                *marked_s = Some(state.now_s);
            }
        }
        state.hook_looks(lease_wait_ms(&self.policy));
        state.now_s += 1;
        state.seen.calm_s = (state.seen.calm_s + 1).min(CALM_S + 1);
        if state.orc.polls {
            state.poll();
        }
        for agent in &mut state.agents {
            agent.ticked = false;
        }
        let now_ms = state.now_ms();
        let dead = {
            let lives = |owner: &String| state.agents.iter().any(|agent| agent.owner() == *owner);
            state.proxy.lock.as_ref().is_some_and(|(owner, _)| !lives(owner))
        };
        let proxy = Arc::make_mut(&mut state.proxy);
        proxy.now_ms = now_ms;
        if dead {
            // A dead process's lock runs out: 30 s, told as one.
            proxy.lock.iter_mut().for_each(|lock| lock.1 = now_ms - 1);
        }
    }

    fn tick(&self, state: &mut State, i: usize) {
        let mut observed = state.observed(i, &self.policy);
        let asked_s = match &observed.leader {
            LeaderView::Led(answer) => Some(WALL_S + i64::from(state.true_s(answer.asked_ms))),
            LeaderView::Leaderless => Some(state.wall_s()),
            _ => None,
        };
        let is_lost = match self.without() {
            Some(Rule::RelayedLeaderLeads) => state.orc.reach == Reach::Relayed,
            Some(Rule::DatabaseGoneHolds) => state.orc.reach == Reach::DatabaseGone,
            Some(Rule::HistoryCostsNoLease) => !state.orc.tells_history,
            _ => false,
        };
        if is_lost {
            observed.leader = LeaderView::Silent(Default::default());
        }
        let memory = (*state.agents[i].memory).clone();
        let leader = observed.leader.clone();
        let decision = decide_without(self.without(), observed, memory, &self.policy, state.now_ms());
        let led = matches!(decision.lease_state, LeaseState::Led { .. }) && state.orc.reach.leads();
        if led && decision.memory.lease.armed {
            state.seen.led = true;
        }
        let reach = state.orc.reach;
        if reach.leads() || reach.is_leaderless() || (led && reach == Reach::Deposed) {
            state.agents[i].reached_s = state.agents[i].reached_s.max(asked_s);
        }
        // Also while one is cut off: two agents do not take turns.
        if decision.plan.changes_rows() && state.seen.calm_s > CALM_S {
            state.seen.broken.insert("I7");
        }
        let knows = |n: usize| {
            let member = &state.orc.members[state.orc.leader];
            let (since_s, asked_s) =
                (decision.memory.watching_since_s.unwrap_or(i64::MAX), asked_s.unwrap_or(0) + member.ahead_s);
            let tells = |r: &Recovery| r.end_s.is_some_and(|end_s| since_s <= end_s && end_s < asked_s);
            let is_marked = member.downtimes.iter().any(|mark| mark.node == node(NODES[n]));
            let is_told = state.orc.tells_history || is_marked;
            // A node whose match has changed is held, and that is said.
            let is_matched = state.names != Names::Swapped;
            is_told && is_matched && member.records.iter().any(|r| r.failed == node(NODES[n]) && tells(r))
        };
        let owes = [0, 1].map(|n| led && state.seen.superseded[n] && !proven(state, n) && knows(n));
        let asked_of = (state.seen.superseded, state.orc.primary);
        // A slow answer is to what the tick before asked.
        let knew = if state.orc.slow { state.agents[i].asked_of } else { asked_of };
        let at_the_node = targets(&leader, &decision, &ALLOWED.into()).unwrap_or_default();
        let powered_off = Self::powered_off(&leader, &decision);
        let primary = node(NODES[knew.1]);
        if (at_the_node.contains_key(&primary) || powered_off.contains(&primary)) && !barred(state, knew.1) {
            state.seen.broken.extend(RULES.into_iter().filter(|rule| rule.starts_with('N')));
        }
        if !at_the_node.is_empty() {
            state.seen.done.insert("fenced at the node");
        }
        if !powered_off.is_empty() {
            state.seen.done.insert("powered off");
        }
        let agent = &mut state.agents[i];
        agent.ticked = true;
        (agent.owes, agent.knew, agent.asked_of) = (owes, knew, asked_of);
        agent.memory = Arc::new(decision.memory);
        agent.running = Some(Arc::new(Running::new(decision.plan, agent.owner(), self.without())));
        self.ended(state, i);
    }

    /// The nodes that fence agents power off, where the read-only level is never enough.
    fn powered_off(leader: &LeaderView, decision: &Decision) -> BTreeSet<Node> {
        let kinds = power::ALLOWED.into();
        let found = power::targets(leader, decision, &kinds, &BTreeMap::new()).unwrap_or_default();
        found.into_iter().filter(|(_, target)| target.refusal.is_none()).map(|(node, _)| node).collect()
    }

    fn statement(&self, state: &mut State, i: usize) {
        let before = state.clone();
        if let Some(running) = &mut state.agents[i].running {
            Arc::make_mut(running).go(Arc::make_mut(&mut state.proxy));
        }
        if state.proxy != before.proxy {
            judge(&before, state, Actor::Agent(i));
        }
        self.ended(state, i);
    }

    fn ended(&self, state: &mut State, i: usize) {
        let Some(running) = state.agents[i].running.clone() else { return };
        if let Step::Done(outcome) = &running.step {
            let applied = matches!(outcome, Outcome::Applied(_));
            if matches!(outcome, Outcome::Busy { .. } | Outcome::LostLock) {
                state.seen.done.insert("busy");
            }
            state.agents[i].running = None;
            let before = state.clone();
            Arc::make_mut(&mut state.proxy).now_ms = state.now_ms();
            judge(&before, state, Actor::Ended { agent: i, applied });
        }
    }
}

/// So long after the last fault everything must be in its place: 2 s for the leader, 2 for the proof, the rest for
/// the order of things.
pub const CALM_S: u32 = 7;

fn can(fault: Fault, state: &State) -> bool {
    let orc = &state.orc;
    // The mark is there for a second at least: an agent sees it.
    let now_s = state.wall_s() + orc.members[orc.leader].ahead_s;
    let is_over = orc.members[orc.leader].records.iter().all(|r| r.end_s.is_some_and(|end_s| end_s < now_s));
    match fault {
        Fault::Dies => state.servers[orc.primary].up,
        Fault::Returns => !state.servers[0].up || !state.servers[1].up,
        Fault::Failover => orc.detected && !orc.reach.is_leaderless() && orc.abandoned.is_none() && promotable(state),
        Fault::Barrier => {
            orc.detected
                && orc.reach != Reach::Leaderless
                && orc.abandoned.is_none()
                && orc.barrier.is_none()
                && promotable(state)
        }
        Fault::BarrierPromotes => orc.barrier.is_some_and(|waiting| waiting.is_over) && promotable(state),
        Fault::Aborts => orc.barrier.is_some(),
        Fault::MarkEnds => orc.members.iter().any(|member| member.downtimes.iter().any(is_of_barrier)),
        Fault::Minute => state.agents.iter().all(|agent| agent.running.is_none()),
        Fault::FailoverOfADeposed => orc.abandoned.is_some() && promotable(state),
        Fault::Takeover => orc.reach.leads() && !orc.parted && (0..2).all(|n| state.well(n)) && is_over,
        Fault::Repaired => is_over && !orc.parted && (0..2).any(|n| !state.well(n)),
        Fault::Breaks => state.servers[1 - orc.primary].replicating,
        Fault::LeaderChange | Fault::LeaderForgets => orc.reach == Reach::Leader && !orc.parted,
        Fault::Slows => !orc.slow,
        Fault::CutsOneOff => state.agents.get(1).is_some_and(|agent| !agent.cut_off),
        Fault::HistoryStalls
        | Fault::Stalls
        | Fault::Restarts
        | Fault::Crashes
        | Fault::CrashesForgetting
        | Fault::Loads => true,
        Fault::NamesSwap => state.names == Names::Others,
        Fault::Silence => orc.reach != Reach::Nobody,
        Fault::Leaderless => orc.reach != Reach::Leaderless && !orc.parted,
        Fault::DatabaseGoes => orc.reach != Reach::DatabaseGone && !orc.parted,
        Fault::Relays => orc.reach != Reach::Relayed && !orc.parted,
        Fault::Heals => orc.reach != Reach::Leader || orc.parted || state.agents.iter().any(|agent| agent.cut_off),
        Fault::Parts => !orc.parted && orc.primary == 0 && state.servers[0].up && !orc.slow,
        Fault::Deposed => orc.parted && orc.reach == Reach::Nobody,
        Fault::Edits => !state.seen.staged,
    }
}

/// The other node is there to take over.
fn promotable(state: &State) -> bool {
    let other = &state.servers[1 - state.orc.primary];
    other.up && other.primary == Some(state.orc.primary)
}

/// The primary's role goes to the other node; these members learn of it, and this one marks the old primary.
fn promote(state: &mut State, told: &[usize], marks: usize) {
    let now_s = state.wall_s() + state.orc.members[marks].ahead_s;
    let at_ns = state.orc.barrier.map(|waiting| waiting.at_ns);
    promote_by(state, told, marks, at_ns.unwrap_or(ns(now_s)));
}

fn ns(wall_s: i64) -> u64 {
    u64::try_from(wall_s).expect("after 1970") * 1_000_000_000
}

fn is_of_barrier(downtime: &Downtime) -> bool {
    downtime.reason == BARRIER
}

/// The time after which the hook counts on the lease, ms.
fn lease_wait_ms(policy: &Policy) -> u64 {
    stonith_core::barrier::lease_wait_ms(policy.isolation_after_ms, policy.tick_ms)
}

fn promote_by(state: &mut State, told: &[usize], marks: usize, at_ns: u64) {
    let (old, new) = (state.orc.primary, 1 - state.orc.primary);
    let promoted = &mut state.servers[new];
    (promoted.read_only, promoted.primary, promoted.replicating) = (false, None, false);
    let now_s = state.wall_s() + state.orc.members[marks].ahead_s;
    let uid = format!("{at_ns}:x");
    told.iter().for_each(|m| state.orc.members[*m].records.retain(|record| record.uid != uid)); // its open one
    let record = Recovery {
        at_ns,
        uid,
        end_s: Some(now_s),
        analysis: Analysis::DeadPrimary,
        successful: true,
        failed: node(NODES[old]),
        successor: Some(node(NODES[new])),
        alias: "main".to_owned(),
    };
    told.iter().for_each(|m| state.orc.members[*m].records.push(record.clone()));
    let reason = LOST_IN_RECOVERY.to_owned();
    let mark = Downtime { node: node(NODES[old]), reason, owner: "orc".to_owned(), begin_s: now_s };
    state.orc.members[marks].downtimes.retain(|downtime| downtime.node != mark.node); // a node has one downtime
    state.orc.members[marks].downtimes.push(mark);
    (state.orc.primary, state.orc.detected, state.orc.abandoned) = (new, false, None);
    state.seen.waited_for = [false; 2];
    state.seen.waited_for[old] = state.orc.barrier.take().is_some();
    (state.seen.superseded[old], state.seen.well_since_s[old]) = (true, None);
    (state.seen.superseded[new], state.seen.fenced[new]) = (false, false);
}

fn happens(state: &mut State, fault: Fault) {
    match fault {
        Fault::Dies => {
            let (dead, other) = (state.orc.primary, 1 - state.orc.primary);
            state.servers[dead].up = false;
            state.servers[other].replicating &= state.servers[other].primary != Some(dead);
            Arc::make_mut(&mut state.proxy).clients.retain(|client| client.id == STRANGER);
        }
        Fault::Returns => {
            let back = usize::from(state.servers[0].up);
            let other = &mut state.servers[1 - back];
            other.replicating |= other.primary == Some(back);
            let node = &mut state.servers[back];
            (node.up, node.read_only, node.primary, node.replicating) = (true, false, None, false);
        }
        Fault::Failover => {
            let leader = state.orc.leader;
            let told: Vec<usize> = (0..2).filter(|m| *m == leader || !state.orc.parted).collect();
            promote(state, &told, leader);
        }
        Fault::Barrier => {
            let (leader, old) = (state.orc.leader, state.orc.primary);
            let begin_s = state.wall_s() + state.orc.members[leader].ahead_s;
            let at_ns = ns(begin_s);
            let uid = format!("{at_ns}:x");
            let (analysis, successor) = (Analysis::DeadPrimary, None);
            let failed = node(NODES[old]);
            let mark = Downtime { node: failed.clone(), reason: BARRIER.to_owned(), owner: uid.clone(), begin_s };
            let alias = "main".to_owned();
            let record = Recovery { at_ns, uid, end_s: None, analysis, successful: false, failed, successor, alias };
            for m in (0..2).filter(|m| *m == leader || !state.orc.parted) {
                state.orc.members[m].records.push(record.clone());
                state.orc.members[m].downtimes.push(mark.clone());
            }
            state.orc.barrier = Some(Waiting { at_ns, since_s: state.now_s, is_over: !state.orc.hook_waits });
        }
        Fault::BarrierPromotes => {
            let leader = state.orc.leader;
            let told: Vec<usize> = (0..2).filter(|m| *m == leader || !state.orc.parted).collect();
            promote(state, &told, leader);
        }
        Fault::Aborts => state.orc.barrier = None,
        Fault::MarkEnds => {
            state.orc.members.iter_mut().for_each(|member| member.downtimes.retain(|mark| !is_of_barrier(mark)));
        }
        Fault::Minute => {
            state.now_s += 60;
            state.seen.minutes += 1;
            state.poll();
            let now_ms = state.now_ms();
            for agent in &mut state.agents {
                // It ticked all the while.
                Arc::make_mut(&mut agent.memory).lease.last_tick_ms = now_ms;
            }
        }
        Fault::FailoverOfADeposed => {
            let deposed = state.orc.abandoned.expect("it can");
            promote(state, &[deposed], deposed);
        }
        Fault::Takeover => {
            let (old, new) = (state.orc.primary, 1 - state.orc.primary);
            promote(state, &[0, 1], state.orc.leader);
            let demoted = &mut state.servers[old];
            (demoted.read_only, demoted.primary, demoted.replicating) = (true, Some(new), true);
        }
        Fault::Repaired => {
            let (primary, other) = (state.orc.primary, 1 - state.orc.primary);
            if !state.servers[primary].up {
                let node = &mut state.servers[primary];
                (node.up, node.read_only, node.primary, node.replicating) = (true, false, None, false);
            }
            let node = &mut state.servers[other];
            (node.up, node.read_only, node.primary, node.replicating) = (true, true, Some(primary), true);
            state.orc.members.iter_mut().for_each(|member| member.downtimes.clear());
        }
        Fault::Breaks => state.servers[1 - state.orc.primary].replicating = false,
        Fault::LeaderChange | Fault::LeaderForgets => {
            let (before, next) = (state.orc.leader, 1 - state.orc.leader);
            state.orc.leader = next;
            state.orc.barrier = None; // the hook and its recovery die with the leader
            if state.orc.detected {
                state.orc.abandoned = Some(before);
            }
            if fault == Fault::LeaderForgets {
                state.orc.members[next].records.clear();
            }
        }
        Fault::Slows => state.orc.slow = true,
        Fault::CutsOneOff => state.agents[1].cut_off = true,
        Fault::NamesSwap => state.names = Names::Swapped,
        Fault::Stalls => state.orc.polls = !state.orc.polls,
        Fault::Silence => state.orc.reach = Reach::Nobody,
        Fault::Leaderless => state.orc.reach = Reach::Leaderless,
        Fault::DatabaseGoes => state.orc.reach = Reach::DatabaseGone,
        Fault::Relays => state.orc.reach = Reach::Relayed,
        Fault::HistoryStalls => state.orc.tells_history = !state.orc.tells_history,
        Fault::Heals => {
            state.orc.reach = Reach::Leader;
            state.orc.parted = false;
            state.agents.iter_mut().for_each(|agent| agent.cut_off = false);
            let replica = &mut state.servers[1];
            replica.replicating = replica.primary == Some(0);
        }
        Fault::Parts => {
            state.orc.reach = Reach::Nobody;
            state.orc.parted = true;
            state.orc.leader = 1;
            state.servers[1].replicating = false;
        }
        Fault::Deposed => state.orc.reach = Reach::Deposed,
        Fault::Restarts => {
            Arc::make_mut(&mut state.proxy).restart();
            state.agents.iter_mut().for_each(|agent| agent.running = None);
            (state.seen.staged, state.seen.loaded, state.seen.late) = (false, false, false);
        }
        Fault::Edits => {
            let proxy = Arc::make_mut(&mut state.proxy);
            for row in proxy.rows_of(stonith_core::apply::Place::Memory, NODES[1]) {
                proxy.edit(stonith_core::apply::Place::Memory, row.key.hostgroup.0, NODES[1], |row| {
                    row.map(|mut row| {
                        row.settings.insert("weight".to_owned(), STAGED.to_owned());
                        row
                    })
                });
            }
            state.seen.staged = true;
            state.seen.late = state.agents.iter().any(|a| a.running.as_ref().is_some_and(|running| running.looked));
        }
        Fault::Loads => {
            Arc::make_mut(&mut state.proxy).load();
            state.seen.loaded = true;
        }
        Fault::Crashes | Fault::CrashesForgetting => {
            let now_ms = state.now_ms();
            // Live by the apply's LOAD; the look that would have taken it out again is cut off: a limit, two faults in
            // one millisecond.
            state.seen.loaded |= state.seen.late;
            let agent = &mut state.agents[0];
            agent.process += 1;
            agent.running = None;
            let kept = (*agent.memory).clone();
            agent.memory = Arc::new(match fault {
                Fault::Crashes => kept.resume("boot", now_ms, 3_000),
                _ => Memory::first_start("boot", now_ms),
            });
            // A forgotten state is an unarmed one (design §7).
            state.seen.led &= fault == Fault::Crashes;
        }
    }
}

/// What an operator stages as node02's weight.
pub const STAGED: &str = "5";

/// Ticks once a second, isolation as short as can be.
pub fn policy() -> Policy {
    let tick_ms = 1_000;
    Policy { tick_ms, isolation_after_ms: Policy::shortest_isolation_after_ms(tick_ms), ..Policy::default() }
}

/// Lets it run undisturbed.
pub fn after_s(mut state: State, seconds: u32) -> State {
    let model = Model::new("prologue", state.clone(), seconds, &[]);
    state.left.clear();
    for _ in 0..seconds {
        state = model.next(&state, Action::Second { monitor_first: true });
    }
    assert!(state.seen.broken.is_empty(), "{:?}", state.seen.broken);
    state
}

/// Lets these faults happen, in this order.
pub fn after(mut state: State, faults: &[Fault]) -> State {
    for fault in faults {
        assert!(can(*fault, &state), "{fault:?}");
        happens(&mut state, *fault);
        state.seen.calm_s = 0;
    }
    state
}
