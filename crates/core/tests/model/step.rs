//! What can happen, and what becomes of the state.
//!
//! ```text
//!  whole:      [fault]*  Second: poll, monitor and ticks (each apply in one go) in either order
//!  stepwise:   [fault | monitor | tick | statement]*  Second, once all have ticked and no apply is under way
//! ```
//!
//! A fault happens at most as often as the model says, at any point of any path.

use std::sync::Arc;

use stonith_core::apply::{Outcome, Statement, Step};
use stonith_core::lease::Standing;
use stonith_core::memory::Memory;
use stonith_core::observed::{Analysis, Downtime, LOST_IN_RECOVERY, Recovery};
use stonith_core::policy::Policy;

use crate::apply_world::scene::node;
use crate::judge::{Actor, judge, proven};
use crate::state::{NODES, Reach, State};
use crate::without::{Rule, Running, decide_without};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// node01 dies.
    Dies,
    /// It comes back as it was: writable.
    Returns,
    /// Orchestrator promotes node02, if its leader sees node01 dead: a record everywhere, a mark on the leader.
    Failover,
    /// node01 is made a read-only replica of node02, and its downtime ended.
    Repaired,
    /// Replication of node01 breaks.
    Breaks,
    /// The other member becomes the leader: marks are gone (FACTS §8).
    LeaderChange,
    /// The same, and it lacks the record too.
    LeaderForgets,
    /// Orchestrator polls no more, or again: rows are as they were.
    Stalls,
    /// Nobody answers.
    Silence,
    /// A majority answers and has no leader.
    Leaderless,
    /// The leader is reached again; a partition is over.
    Heals,
    /// node01, agents and ProxySQL are cut off from node02 and the majority.
    Parts,
    /// The deposed leader on our side answers.
    Deposed,
    /// ProxySQL restarts, from disk.
    Restarts,
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
            horizon_s: start.now_s + horizon_s,
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
        if !state.seen.broken.is_empty() {
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
            // Between the last look and the LOAD a move of the monitor can't be seen (FACTS §2): left out.
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
        actions.retain(|action| !matches!(action, Action::Second { .. }) || state.now_s < self.horizon_s);
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
        let agent = &state.agents[i];
        let observed = state.observed(agent, &self.policy);
        let memory = (*agent.memory).clone();
        let decision = decide_without(self.without(), observed, memory, &self.policy, state.now_ms());
        let led = matches!(decision.standing, Standing::Led { .. }) && state.orc.reach == Reach::Leader;
        if led && decision.memory.armed {
            state.seen.led = true;
        }
        if matches!(state.orc.reach, Reach::Leader | Reach::Leaderless) || (led && state.orc.reach == Reach::Deposed) {
            state.seen.reached_s = Some(state.wall_s());
        }
        if !decision.plan.is_empty() && state.seen.calm_s > CALM_S {
            state.seen.broken.insert("I7");
        }
        let knows = |n: usize| {
            let member = &state.orc.members[state.orc.leader];
            let since = decision.memory.first_start_s;
            member.records.iter().any(|r| r.failed == node(NODES[n]) && r.end_s.is_some_and(|end| end >= since))
        };
        let owes = [0, 1].map(|n| led && state.seen.superseded[n] && !proven(state, n) && knows(n));
        let agent = &mut state.agents[i];
        agent.ticked = true;
        agent.owes = owes;
        agent.memory = Arc::new(decision.memory);
        agent.running = Some(Arc::new(Running::new(decision.plan, agent.owner(), self.without())));
        self.ended(state, i);
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
    let is_over = orc.members[orc.leader].records.iter().all(|r| r.end_s.is_some_and(|end| end < state.wall_s()));
    match fault {
        Fault::Dies => state.servers[0].up,
        Fault::Returns => !state.servers[0].up,
        Fault::Failover => orc.primary == 0 && orc.detected && orc.reach != Reach::Leaderless,
        Fault::Repaired => orc.primary == 1 && is_over && !state.well(0) && !orc.parted,
        Fault::Breaks => state.servers[0].replicating,
        Fault::LeaderChange | Fault::LeaderForgets => orc.reach == Reach::Leader && !orc.parted,
        Fault::Stalls | Fault::Restarts | Fault::Crashes | Fault::CrashesForgetting | Fault::Loads => true,
        Fault::Silence => orc.reach != Reach::Nobody,
        Fault::Leaderless => orc.reach != Reach::Leaderless && !orc.parted,
        Fault::Heals => orc.reach != Reach::Leader || orc.parted,
        Fault::Parts => !orc.parted && orc.primary == 0 && state.servers[0].up,
        Fault::Deposed => orc.parted && orc.reach == Reach::Nobody,
        Fault::Edits => !state.seen.staged,
    }
}

fn happens(state: &mut State, fault: Fault) {
    let now_s = state.wall_s();
    match fault {
        Fault::Dies => {
            state.servers[0].up = false;
            state.servers[1].replicating = false;
            Arc::make_mut(&mut state.proxy).clients.clear();
        }
        Fault::Returns => {
            let replica = &mut state.servers[1];
            replica.replicating = replica.primary == Some(0);
            let node01 = &mut state.servers[0];
            (node01.up, node01.read_only, node01.primary, node01.replicating) = (true, false, None, false);
        }
        Fault::Failover => {
            state.orc.primary = 1;
            let node02 = &mut state.servers[1];
            (node02.read_only, node02.primary, node02.replicating) = (false, None, false);
            let at_ns = u64::try_from(now_s).expect("after 1970") * 1_000_000_000;
            let record = Recovery {
                at_ns,
                uid: format!("{at_ns}:x"),
                end_s: Some(now_s),
                analysis: Analysis::DeadPrimary,
                successful: true,
                failed: node(NODES[0]),
                successor: Some(node(NODES[1])),
                alias: "main".to_owned(),
            };
            let (leader, parted) = (state.orc.leader, state.orc.parted);
            for (m, member) in state.orc.members.iter_mut().enumerate() {
                if m == leader || !parted {
                    member.records.push(record.clone());
                }
            }
            let reason = LOST_IN_RECOVERY.to_owned();
            let mark = Downtime { node: node(NODES[0]), reason, owner: "orc".to_owned(), begin_s: now_s };
            state.orc.members[leader].downtimes.push(mark);
            state.seen.superseded[0] = true;
            state.seen.well_since_s[0] = None;
        }
        Fault::Repaired => {
            let node01 = &mut state.servers[0];
            (node01.up, node01.read_only, node01.primary, node01.replicating) = (true, true, Some(1), true);
            state.orc.members.iter_mut().for_each(|member| member.downtimes.clear());
        }
        Fault::Breaks => state.servers[0].replicating = false,
        Fault::LeaderChange => state.orc.leader = 1 - state.orc.leader,
        Fault::LeaderForgets => {
            state.orc.leader = 1 - state.orc.leader;
            state.orc.members[state.orc.leader].records.clear();
        }
        Fault::Stalls => state.orc.polls = !state.orc.polls,
        Fault::Silence => state.orc.reach = Reach::Nobody,
        Fault::Leaderless => state.orc.reach = Reach::Leaderless,
        Fault::Heals => {
            state.orc.reach = Reach::Leader;
            state.orc.parted = false;
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
                _ => Memory::first_start("boot", now_s, now_ms),
            });
            // A forgotten state is an unarmed one (DESIGN §7).
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
