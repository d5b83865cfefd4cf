//! One agent and what it keeps between ticks: lock, state, standing orders, and the errors it has said.
//!
//! ```text
//! orders -> agent.tick (keeps the memory before it changes anything) -> report -> keep what was said
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use stonith_core::apply::Outcome;
use stonith_core::condition::{Condition, Severity, of_outcome};
use stonith_core::memory::Memory;
use stonith_core::node::Node;
use stonith_core::orchestrator::LeaderView;
use stonith_core::plan::Plan;
use stonith_core::table::Layer;

use crate::agent::{Agent, Tick, host_name, owner_of_process};
use crate::clock::Now;
use crate::config::Mode;
use crate::logging::LogOnce;
use crate::report;
use crate::state::{Loaded, Lock, State, StateDir, StateError};

/// Without a tick for so long the holder of the lock is taken for dead, in ms: far longer than a tick with an apply.
pub const HEARTBEAT_MAX_MS: u64 = 30_000;

/// So many gaps between ticks still count as running on.
const GAPS_RUNNING_ON: u64 = 3;

/// What keeps an agent from starting, or what it starts with.
#[derive(Debug)]
pub enum Start {
    /// Go on from here.
    Ready(Box<Kept>),
    /// Another agent is at work on this ProxySQL.
    Another,
}

/// What was found in the state directory.
#[derive(Debug)]
pub struct Kept {
    dir: StateDir,
    state: State,
    keeps: bool,
    /// What is wrong with the state directory, from the start on.
    unkept: Option<String>,
    lock: Option<Lock>,
}

impl Kept {
    /// Takes the lock and reads the state. What is wrong with the directory does not keep evidence from fencing:
    /// it is said, and isolation stays unarmed.
    pub fn start(mut dir: StateDir, mode: Mode, tick_ms: u64) -> Start {
        let now = Now::read();
        let mut unkept = None;
        let mut say = |error: &StateError| {
            unkept = Some(format!("{error}. Evidence fences all the same; isolation is not armed"));
        };
        let lock = match take_lock(&mut dir, &now) {
            Ok(None) => return Start::Another, // and not one file of it is touched
            Ok(Some(lock)) => dir.try_out().map(|()| lock),
            Err(error) => Err(error),
        };
        let mut keeps = lock.is_ok();
        if let Err(error) = &lock {
            say(error);
        }
        let mut state = match dir.load() {
            Loaded::Kept(state) => *state,
            Loaded::Fresh => State::default(),
            Loaded::Unusable { reason, set_aside } => {
                let aside = set_aside.map_or("it can't be moved away".to_owned(), |path| format!("moved to {path:?}"));
                tracing::error!("{reason}; {aside}; starting afresh: isolation is not armed until a leader is seen");
                State::default()
            }
            Loaded::Untouchable(error) => {
                say(&error);
                keeps = false;
                State::default()
            }
        };
        state.memory = if state.memory == Memory::default() {
            Memory::first_start(&now.boot_id, now.boot_ms)
        } else {
            state.memory.resume(&now.boot_id, now.boot_ms, tick_ms.saturating_mul(GAPS_RUNNING_ON))
        };
        state.mode = Some(mode);
        if now.boot_id.is_empty() {
            say(&StateError::NoBootId);
            keeps = false;
        }
        if !keeps {
            // A lease that can't be kept is always old at the next start: one lost poll would isolate (I9).
            state.memory.lease.armed = false;
            state.memory.lease.asked_ms = None;
        }
        Start::Ready(Box::new(Self { dir, state, keeps, unkept, lock: lock.ok() }))
    }

    /// The memory to start an agent with.
    pub fn memory(&self) -> Memory {
        self.state.memory.clone()
    }

    /// The name to hold the lock in ProxySQL under. While this host's lock is ours no other process has it, so what an
    /// earlier one left of its work is taken over at once instead of when its time is over.
    pub fn owner(&self) -> String {
        match self.lock.as_ref().and_then(|lock| lock.name().ok()) {
            Some(name) => format!("{}:{}:{name}", host_name(), self.state.memory.boot_id),
            None => owner_of_process(),
        }
    }
}

/// The memory that commands look with: nothing is locked, set aside or written. `tick_ms` says how far apart the ticks
/// of a mode are; the mode is the one that the agent here runs in.
pub fn peeked_memory(
    dir: &StateDir,
    tick_ms: impl Fn(Option<Mode>) -> u64,
) -> Result<(Memory, Option<Mode>), StateError> {
    let now = Now::read();
    Ok(match dir.peek()? {
        Some(state) => {
            let gap_ms = tick_ms(state.mode).saturating_mul(GAPS_RUNNING_ON);
            (state.memory.resume(&now.boot_id, now.boot_ms, gap_ms), state.mode)
        }
        None => (Memory::first_start(&now.boot_id, now.boot_ms), None),
    })
}

/// The lock, or that of one who does a dead holder's work. `None`: another agent is at work.
fn take_lock(dir: &mut StateDir, now: &Now) -> Result<Option<Lock>, StateError> {
    if let Some(lock) = dir.try_lock(now.boot_ms)? {
        return Ok(Some(lock));
    }
    if !is_dead(dir, now) {
        return Ok(None);
    }
    let lock = dir.try_take_over()?;
    if lock.is_some() {
        tracing::error!("the agent that holds the lock has not ticked for 30 s: doing its work");
    }
    Ok(lock)
}

/// Whether the holder of the lock has shown no sign of life for too long: stopped, or hanging.
fn is_dead(dir: &StateDir, now: &Now) -> bool {
    dir.last_alive_ms(&now.boot_id).is_some_and(|alive_ms| now.boot_ms.saturating_sub(alive_ms) > HEARTBEAT_MAX_MS)
}

/// An agent that watches one ProxySQL.
#[derive(Debug)]
pub struct Watch {
    proxy: Node,
    agent: Agent,
    kept: Kept,
    /// The plan that was carried out last, and until when, ms, the monitor may still undo it.
    applied: Option<(Plan, u64)>,
}

impl Watch {
    /// Puts both together.
    pub fn new(proxy: Node, agent: Agent, kept: Kept) -> Self {
        Self { proxy, agent, kept, applied: None }
    }

    /// One tick, told to the log. Says whether all went well.
    pub async fn tick(&mut self) -> bool {
        let now = Now::read();
        let mut found: Vec<Condition> = Vec::new();
        let standing = self.kept.dir.orders(&now);
        if let Some(problem) = &standing.problem {
            let text = format!("{problem}. Suspensions and releases in it do not count");
            found.push(Condition::OrdersUnread(text));
        }
        let Kept { dir, state, keeps, .. } = &mut self.kept;
        let mut unkept = None;
        let keep = |memory: &Memory| {
            state.memory = memory.clone();
            if *keeps {
                unkept = dir.save(state).err();
            }
            *keeps && unkept.is_none()
        };
        let ticked = self.agent.tick(standing.orders, keep).await;
        let unkept = unkept.map(|error| format!("{error}. What was learned is lost with this process"));
        found.extend(unkept.or_else(|| self.kept.unkept.clone()).map(Condition::StateUnkept));
        let well = match &ticked {
            Ok(tick) => {
                found.extend(self.agent.conditions(&tick.observed, &tick.decision));
                let undone = tick.outcome.as_ref().map(of_outcome).unwrap_or_default();
                let is_done = undone.iter().all(|condition| condition.severity() == Severity::Info);
                found.extend(undone);
                found.extend(tick.error.as_ref().map(|error| Condition::ApplyFailed(error.to_string())));
                if self.agent.settings.observe_only && !tick.decision.plan.is_empty() {
                    found.push(Condition::Observing(first_lines(&report::text::plan(&self.proxy, &tick.decision))));
                }
                let can_act = self.agent.untested_version().is_none();
                is_done && can_act && tick.error.is_none() && matches!(tick.observed.leader, LeaderView::Led(_))
            }
            Err(error) => {
                found.push(Condition::ProxyUnread(error.to_string()));
                false
            }
        };
        if let Ok(tick) = ticked {
            self.report(&tick).await;
            self.agent.give_back(tick.observed.proxy);
        }
        self.settle(&found, now.wall_s);
        well
    }

    /// Whether rows were changed so lately that ProxySQL's monitor may still undo it: how long to wait for a second
    /// look (design §8.8).
    pub fn second_look_in(&self) -> Option<Duration> {
        let (_, until_ms) = self.applied.as_ref()?;
        Some(Duration::from_millis(until_ms.saturating_sub(Now::read().boot_ms)))
    }

    /// Says goodbye to ProxySQL.
    pub async fn close(self) {
        self.agent.close().await;
    }

    async fn report(&mut self, tick: &Tick) {
        let plan = &tick.decision.plan;
        if let Some((applied, until_ms)) = self.applied.take() {
            for node in undone(&applied, plan) {
                tracing::error!(proxy = %self.proxy, %node, "the fence did not hold: somebody else changed its rows; applied again");
            }
            if tick.outcome.is_none() && Now::read().boot_ms < until_ms {
                self.applied = Some((applied, until_ms));
            }
        }
        let Some(outcome) = &tick.outcome else {
            tracing::debug!(proxy = %self.proxy, lease_state = %tick.decision.lease_state, "quiet tick");
            return;
        };
        report::log::changes(&self.proxy, &tick.decision, outcome);
        let was_applied = matches!(outcome, Outcome::Applied(_));
        if was_applied && plan.changes.iter().any(|change| change.layer == Layer::Runtime) {
            let round = self.agent.monitor_round().await.unwrap_or(Duration::from_secs(2));
            let until = Now::read().boot_ms.saturating_add(u64::try_from(round.as_millis()).unwrap_or(0));
            self.applied = Some((plan.clone(), until));
        }
    }

    /// Logs what is new, and what is over; keeps which was said.
    fn settle(&mut self, found: &[Condition], now_s: i64) {
        let said = self.kept.state.errors.clone();
        for (severity, text) in settle(&mut self.kept.state.errors, found, now_s) {
            match severity {
                Severity::Info => tracing::info!(proxy = %self.proxy, "{text}"),
                Severity::Warning => tracing::warn!(proxy = %self.proxy, "{text}"),
                Severity::Failure | Severity::Unprotected => tracing::error!(proxy = %self.proxy, "{text}"),
            }
        }
        if self.kept.keeps && self.kept.state.errors != said {
            // That it can't be written was said in this tick, or will be in the next.
            let _ = self.kept.dir.save(&self.kept.state);
        }
    }
}

/// The nodes that were fenced, and whose runtime rows have to be changed again.
fn undone(applied: &Plan, plan: &Plan) -> Vec<Node> {
    let changed = |plan: &Plan, node: &Node| {
        plan.changes.iter().any(|change| change.layer == Layer::Runtime && change.key().node().as_ref() == Some(node))
    };
    let fenced = applied.directives.iter().filter(|(node, directive)| plan.directives.get(*node) == Some(directive));
    fenced.map(|(node, _)| node.clone()).filter(|node| changed(applied, node) && changed(plan, node)).collect()
}

/// The most lines of a plan that one log line quotes.
const PLAN_LINES_MAX: usize = 20;

fn first_lines(text: &str) -> String {
    let more = text.lines().count().saturating_sub(PLAN_LINES_MAX);
    let mut lines: Vec<&str> = text.lines().take(PLAN_LINES_MAX).collect();
    let rest = format!("  ... and {more} more lines");
    lines.extend((more > 0).then_some(rest.as_str()));
    lines.join("\n")
}

/// The lines for the log: what is over, and what is new or was last logged an hour ago.
fn settle(errors: &mut LogOnce, found: &[Condition], now_s: i64) -> Vec<(Severity, String)> {
    let texts: BTreeMap<String, &Condition> = found.iter().map(|condition| (condition.key(), condition)).collect();
    let over: Vec<String> =
        errors.present().map(|(key, _)| key.to_owned()).filter(|key| !texts.contains_key(key)).collect();
    let over = over.iter().filter_map(|key| errors.recovered(key)).map(|text| (Severity::Info, text));
    let mut lines: Vec<_> = over.collect();
    for (key, condition) in texts {
        let text = errors.error(&key, &condition.to_string(), now_s);
        lines.extend(text.map(|text| (condition.severity(), text)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_logged_once_and_its_end_once() {
        let mut errors = LogOnce::default();
        let unreached = [Condition::LeaderUnreached("refused".to_owned())];
        let text = "Orchestrator's leader was not reached: refused";
        assert_eq!(settle(&mut errors, &unreached, 1), [(Severity::Failure, text.to_owned())]);
        assert_eq!(settle(&mut errors, &unreached, 2), []);
        let lines = settle(&mut errors, &[Condition::OrdersUnread("garbage".to_owned())], 3);
        let over = format!("recovered: leader-unreached (was: {text})");
        assert_eq!(lines, [(Severity::Info, over), (Severity::Failure, "garbage".to_owned())]);
    }

    #[test]
    fn a_long_plan_is_quoted_in_a_few_lines() {
        let long: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let quoted = first_lines(&long);
        assert_eq!(quoted.lines().count(), PLAN_LINES_MAX + 1);
        assert!(quoted.ends_with("... and 80 more lines"), "{quoted}");
        assert_eq!(first_lines("one\ntwo\n"), "one\ntwo");
    }
}
