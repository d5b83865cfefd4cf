//! One agent and what it keeps between ticks: lock, state, standing orders, and the errors it has said.
//!
//! ```text
//! orders -> agent.tick (keeps the memory before it changes anything) -> report -> keep what was said
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use stonith_core::apply::Outcome;
use stonith_core::memory::Memory;
use stonith_core::node::Node;
use stonith_core::observed::LeaderView;
use stonith_core::plan::Plan;
use stonith_core::row::Layer;

use crate::agent::{Agent, Tick, host_name, owner_of_process};
use crate::clock::Now;
use crate::logging::Quiet;
use crate::report;
use crate::state::{Loaded, Lock, State, StateDir, StateError};

/// Without a tick for so long the holder of the lock is taken for dead, in ms: far longer than a tick with an apply.
const HEARTBEAT_MAX_MS: u64 = 30_000;

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
    troubles: BTreeMap<String, String>,
    lock: Option<Lock>,
}

impl Kept {
    /// Takes the lock and reads the state. What is wrong with the directory does not keep evidence from fencing:
    /// it is said, and isolation stays unarmed.
    pub fn start(mut dir: StateDir, tick_ms: u64) -> Start {
        let now = Now::read();
        let mut troubles = BTreeMap::new();
        let mut say = |error: &StateError| {
            troubles
                .insert("state".to_owned(), format!("{error}. Evidence fences all the same; isolation is not armed"))
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
        if now.boot_id.is_empty() {
            say(&StateError::NoBootId);
            keeps = false;
        }
        if !keeps {
            // A lease that can't be kept is always old at the next start: one lost poll would isolate (I9).
            state.memory.armed = false;
            state.memory.lease_asked_ms = None;
        }
        Start::Ready(Box::new(Self { dir, state, keeps, troubles, lock: lock.ok() }))
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

/// The memory that commands look with: nothing is locked, set aside or written.
pub fn peeked_memory(dir: &StateDir, tick_ms: u64) -> Result<Memory, StateError> {
    let now = Now::read();
    Ok(match dir.peek()? {
        Some(state) => state.memory.resume(&now.boot_id, now.boot_ms, tick_ms.saturating_mul(GAPS_RUNNING_ON)),
        None => Memory::first_start(&now.boot_id, now.boot_ms),
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
        let mut troubles = self.kept.troubles.clone();
        let standing = self.kept.dir.orders(&now);
        if let Some(problem) = &standing.problem {
            let text = format!("{problem}. Suspensions and releases in it do not count");
            troubles.insert("orders".to_owned(), text);
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
        if let Some(error) = unkept {
            troubles.insert("state".to_owned(), format!("{error}. What was learned is lost with this process"));
        }
        let well = match &ticked {
            Ok(tick) => {
                troubles.extend(report::attention(&tick.observed, &tick.decision));
                let undone: BTreeMap<_, _> = tick.outcome.iter().flat_map(report::left_undone).collect();
                let is_done = undone.keys().all(|key| key == report::BUSY);
                troubles.extend(undone);
                if let Some(error) = &tick.error {
                    troubles.insert("apply".to_owned(), error.to_string());
                }
                if self.agent.settings.observe_only && !tick.decision.plan.is_empty() {
                    let text = report::plan_text(&self.proxy, &tick.decision);
                    troubles.insert("observe".to_owned(), format!("mode = \"observe\", nothing is changed:\n{text}"));
                }
                is_done && tick.error.is_none() && matches!(tick.observed.leader, LeaderView::Led(_))
            }
            Err(error) => {
                troubles.insert("proxysql".to_owned(), error.to_string());
                false
            }
        };
        if let Ok(tick) = &ticked {
            self.report(tick).await;
        }
        self.settle(&troubles, now.wall_s);
        well
    }

    /// Whether rows were changed so lately that ProxySQL's monitor may still undo it: how long to wait for a second
    /// look (DESIGN §8.8).
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
            tracing::debug!(proxy = %self.proxy, standing = %tick.decision.standing, "quiet tick");
            return;
        };
        report::log_changes(&self.proxy, &tick.decision, outcome);
        let was_applied = matches!(outcome, Outcome::Applied(_));
        if was_applied && plan.changes.iter().any(|change| change.layer == Layer::Runtime) {
            let round = self.agent.monitor_round().await.unwrap_or(Duration::from_secs(2));
            let until = Now::read().boot_ms.saturating_add(u64::try_from(round.as_millis()).unwrap_or(0));
            self.applied = Some((plan.clone(), until));
        }
    }

    /// Logs what is new, and what is over; keeps which was said.
    fn settle(&mut self, troubles: &BTreeMap<String, String>, now_s: i64) {
        for line in settle(&mut self.kept.state.errors, troubles, now_s) {
            match line {
                Said::Trouble(text) => tracing::error!(proxy = %self.proxy, "{text}"),
                Said::News(text) => tracing::info!(proxy = %self.proxy, "{text}"),
            }
        }
        if self.kept.keeps {
            // That it can't be written was said in this tick, or will be in the next.
            let _ = self.kept.dir.save(&self.kept.state);
        }
    }
}

/// The nodes that were fenced, and whose runtime rows have to be changed again.
fn undone(applied: &Plan, plan: &Plan) -> Vec<Node> {
    let changed = |plan: &Plan, node: &Node| {
        plan.changes.iter().any(|change| {
            change.layer == Layer::Runtime && change.key().and_then(|key| key.node()).as_ref() == Some(node)
        })
    };
    let fenced = applied.directives.iter().filter(|(node, directive)| plan.directives.get(*node) == Some(directive));
    fenced.map(|(node, _)| node.clone()).filter(|node| changed(applied, node) && changed(plan, node)).collect()
}

/// A line for the log.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Trouble(String),
    News(String),
}

fn settle(errors: &mut Quiet, troubles: &BTreeMap<String, String>, now_s: i64) -> Vec<Said> {
    let over: Vec<String> =
        errors.present().map(|(key, _)| key.to_owned()).filter(|key| !troubles.contains_key(key)).collect();
    let mut lines: Vec<Said> = over.iter().filter_map(|key| errors.recovered(key)).map(Said::News).collect();
    for (key, text) in troubles {
        let said = if key == report::BUSY { Said::News } else { Said::Trouble };
        lines.extend(errors.error(key, text, now_s).map(said));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn troubles(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn the_same_trouble_is_said_once_and_its_end_once() {
        let mut errors = Quiet::default();
        let refused = troubles(&[("orchestrator", "refused")]);
        assert_eq!(settle(&mut errors, &refused, 1), [Said::Trouble("refused".to_owned())]);
        assert_eq!(settle(&mut errors, &refused, 2), []);
        let lines = settle(&mut errors, &troubles(&[("orders", "garbage")]), 3);
        assert_eq!(
            lines,
            [Said::News("recovered: orchestrator (was: refused)".to_owned()), Said::Trouble("garbage".to_owned())]
        );
    }
}
