//! Powers fenced nodes off through fence agents, in a thread of its own: it delays no tick, no apply and no other level.
//!
//! ```text
//! a tick's targets -> a task for each node: stonith_core::node_fence::power says the step, `program` runs the agent
//!                  -> the history in the state directory, which ticks and `status` read
//! ```
//!
//! The lock on a node's power, and what was settled under it, is a file in the state directory: whoever guards another
//! ProxySQL on this host shares both. Agents on other hosts may give `off` too, which changes nothing at a node that is off.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use stonith_core::node::Node;
use stonith_core::node_fence::power::{
    Action, AgentSettings, FenceAgentRecord, Machine, Power, PowerSettings, PowerTarget, Ran, Reply, Settled, Step,
};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::clock;
use crate::config::{Config, Enforcement, FenceAgentConfig, FenceAgentsConfig, ProxyConfig, duration};
use crate::handed::{CHECK_AGAIN, CHECK_EACH, Hand, Handed, Readiness, check_nodes, target_max_ms, tasks_of_nodes};
use crate::state::{Book, Lock};
use crate::untrusted_text::one_line;

mod program;
#[cfg(test)]
mod tests;

/// The most nodes whose agents are checked at once.
const CHECKS_AT_ONCE: usize = 16;

/// Starts the thread that powers one ProxySQL's fenced nodes off; `None` if the config names no evidence. A ProxySQL that
/// is only observed gets dry runs.
///
/// # Errors
/// The operating system refuses a thread.
pub fn start(
    config: &Config,
    proxy: &ProxyConfig,
    book: Arc<Book<FenceAgentRecord>>,
) -> Result<Option<Hand<PowerTarget>>, std::io::Error> {
    let chosen = config.fence_agents.clone();
    if chosen.kinds.is_empty() {
        return Ok(None);
    }
    let first = config.node_fence.iter().flat_map(|level| &level.read_only).filter(|_| !chosen.always);
    let settings = PowerSettings {
        agents: Vec::new(),
        read_only_first: first.copied().collect(),
        read_only_wait_ms: duration::millis(chosen.read_only_wait),
        dry_run: chosen.dry_run || proxy.policy.mode == Enforcement::Observe,
        target_max_ms: target_max_ms(config.run.interval),
    };
    let tasks = Tasks { chosen: Arc::new(chosen), settings, book };
    Hand::to_thread("fence-agent", |handed| tasks.run(handed)).map(Some)
}

/// Looks whether the agents of the config could power these nodes off. No `off` is given. Empty if the config names no
/// evidence.
pub async fn readiness(chosen: &FenceAgentsConfig, nodes: impl IntoIterator<Item = Node>) -> BTreeMap<Node, Readiness> {
    let mut all = BTreeMap::new();
    if chosen.kinds.is_empty() {
        return all;
    }
    let nodes: Vec<Node> = nodes.into_iter().collect();
    for some in nodes.chunks(CHECKS_AT_ONCE) {
        let asked = some.iter().map(async |node| match ready_one(chosen, node).await {
            Ok(()) => (node.clone(), Readiness::Ready),
            Err(why) => (node.clone(), Readiness::Unready(why)),
        });
        all.extend(join_all(asked).await);
    }
    all
}

async fn ready_one(chosen: &FenceAgentsConfig, node: &Node) -> Result<(), String> {
    let mut agents = chosen.of(node).peekable();
    if agents.peek().is_none() {
        return Err("no [[fence_agent]] names it".to_owned());
    }
    for agent in agents {
        let failed = |why: String| format!("fence agent {}: {why}", agent.name);
        for action in [Action::Metadata, Action::Monitor, Action::Status] {
            let ran = program::run(agent, node, action).await;
            let is_clear = action == Action::Status && ran.power() != Power::Unclear;
            if !is_clear && let Some((_, why)) = ran.failure(action) {
                return Err(failed(why));
            }
            if action == Action::Metadata && !says_what_it_is(&ran) {
                return Err(failed("its metadata is not that of a fence agent".to_owned()));
            }
        }
    }
    Ok(())
}

fn says_what_it_is(ran: &Ran) -> bool {
    matches!(ran, Ran::Exited { output, .. } if output.contains("</resource-agent>"))
}

/// What all tasks of one ProxySQL have in common.
#[derive(Debug, Clone)]
struct Tasks {
    chosen: Arc<FenceAgentsConfig>,
    settings: PowerSettings,
    book: Arc<Book<FenceAgentRecord>>,
}

impl Tasks {
    /// Starts a task for each node that becomes a target, and one that checks the agents, until nobody hands over.
    async fn run(self, handed: watch::Receiver<Handed<PowerTarget>>) {
        let check = tokio::spawn(self.clone().check(handed.clone()));
        tasks_of_nodes(handed.clone(), &self.book, |node| self.clone().fence(node, handed.clone())).await;
        check.abort();
    }

    /// Powers one node off whenever it is a target.
    async fn fence(self, node: Node, mut handed: watch::Receiver<Handed<PowerTarget>>) {
        let agents: Vec<FenceAgentConfig> = self.chosen.of(&node).cloned().collect();
        let agent = |agent: &FenceAgentConfig| AgentSettings {
            name: agent.name.clone(),
            delay_ms: duration::millis(agent.delay),
            retries: agent.retries,
        };
        let settings = PowerSettings { agents: agents.iter().map(agent).collect(), ..self.settings.clone() };
        let mut machine = Machine::new(settings, self.book.record(&node));
        let mut worker = Worker { node, agents, book: self.book, lock: None };
        handed.mark_changed();
        loop {
            if handed.has_changed().unwrap_or(false) {
                aim(&mut machine, &handed.borrow_and_update(), &worker.node);
            }
            let now_ms = clock::boot_ms();
            let wait = match machine.next(now_ms) {
                Step::Rest => {
                    worker.lock = None;
                    Duration::from_secs(3_600)
                }
                Step::Wait { until_ms } => Duration::from_millis(until_ms.saturating_sub(now_ms)),
                Step::TakeLock => {
                    machine.take(worker.take_lock(), clock::boot_ms(), clock::wall_s());
                    worker.tell(machine.record());
                    continue;
                }
                Step::Run { agent, action } => {
                    let Some(ran) = worker.run(agent, action, handed.clone()).await else {
                        // It is a target no more, or nobody hands over.
                        if handed.has_changed().is_err() {
                            return;
                        }
                        continue;
                    };
                    if handed.has_changed().unwrap_or(false) {
                        aim(&mut machine, &handed.borrow_and_update(), &worker.node);
                    }
                    machine.take(Reply::Ran(ran), clock::boot_ms(), clock::wall_s());
                    worker.tell(machine.record());
                    continue;
                }
            };
            worker.tell(machine.record());
            tokio::select! {
                () = sleep(wait) => {}
                changed = handed.changed() => match changed {
                    Ok(()) => handed.mark_changed(),
                    Err(_) => return,
                },
            }
        }
    }

    /// Looks whether the agents could do what they may have to.
    async fn check(self, handed: watch::Receiver<Handed<PowerTarget>>) {
        let again = |found: &Readiness| if *found == Readiness::Ready { CHECK_EACH } else { CHECK_AGAIN * 2 };
        check_nodes(handed, &self.book, |nodes| readiness(&self.chosen, nodes), again).await;
    }
}

fn aim(machine: &mut Machine, handed: &Handed<PowerTarget>, node: &Node) {
    let (now_ms, now_s) = (clock::boot_ms(), clock::wall_s());
    match handed.targets.get(node) {
        Some(target) => machine.aim(Some(target.clone()), handed.at_ms, now_ms, now_s),
        None if handed.at_ms == 0 => {} // nobody says, so nothing is over
        None => machine.aim(None, handed.at_ms, now_ms, now_s),
    }
}

/// Does the steps of one machine.
struct Worker {
    node: Node,
    agents: Vec<FenceAgentConfig>,
    book: Arc<Book<FenceAgentRecord>>,
    lock: Option<Lock>,
}

impl Worker {
    fn take_lock(&mut self) -> Reply {
        if self.lock.is_none() {
            match self.book.dir().lock_power(&self.node) {
                Ok(Some(lock)) => self.lock = Some(lock),
                Ok(None) => return Reply::NotLocked(None),
                Err(error) => return Reply::NotLocked(Some(error.to_string())),
            }
        }
        match self.book.dir().settled(&self.node) {
            Ok(settled) => Reply::Locked(settled),
            Err(error) => {
                self.lock = None;
                Reply::NotLocked(Some(error.to_string()))
            }
        }
    }

    /// Runs an agent. It is killed, and `None` is returned, once the node is no target any more.
    async fn run(&self, agent: usize, action: Action, mut handed: watch::Receiver<Handed<PowerTarget>>) -> Option<Ran> {
        let agent = self.agents.get(agent)?;
        if action == Action::Off {
            tracing::warn!(node = %self.node, agent = agent.name, "the node is being powered off");
        }
        let is_over = |handed: &Handed<PowerTarget>| handed.at_ms != 0 && !handed.targets.contains_key(&self.node);
        tokio::select! {
            biased;
            _ = handed.wait_for(is_over) => None,
            ran = program::run(agent, &self.node, action) => Some(ran),
        }
    }

    /// Keeps what was done, and writes the log.
    fn tell(&self, record: Option<&FenceAgentRecord>) {
        let Some(record) = record else { return };
        let before = self.book.record(&self.node);
        let is_forgotten = before.is_none() && record.ended_s.is_some();
        if is_forgotten || before.as_ref() == Some(record) {
            return;
        }
        if let Some(settled) = record.settled.as_ref().filter(|settled| !settled.is_dry && self.lock.is_some())
            && let Err(error) = self.book.dir().save_settled(&self.node, settled)
        {
            tracing::error!("that a node was powered off is not kept: {error}");
        }
        let seen = |record: &FenceAgentRecord| (record.state(), record.failure.as_ref().map(|f| f.text.clone()));
        let is_news = before.as_ref().is_none_or(|before| seen(before) != seen(record));
        // A time alone is no news, and not worth a write.
        if !is_news && before.is_some_and(|before| FenceAgentRecord { failure: None, ..before } == without_time(record))
        {
            return;
        }
        self.book.change(|history| drop(history.records.insert(self.node.clone(), record.clone())));
        if is_news {
            self.log(record);
        }
    }

    fn log(&self, record: &FenceAgentRecord) {
        let (node, kind) = (&self.node, record.kind);
        match (&record.failure, &record.settled) {
            (Some(failure), _) => {
                tracing::error!(%node, %kind, "the node itself is not powered off: {}", one_line(&failure.text));
            }
            (None, Some(Settled { agent, is_dry: true, .. })) => {
                tracing::warn!(%node, %kind, agent, "the node itself would be powered off; a dry run leaves it on");
            }
            (None, Some(Settled { agent, .. })) => {
                tracing::info!(%node, %kind, agent, "the node itself: {}", record.state());
            }
            (None, None) => tracing::info!(%node, %kind, "the power of the node itself: {}", record.state()),
        }
    }
}

fn without_time(record: &FenceAgentRecord) -> FenceAgentRecord {
    FenceAgentRecord { failure: None, ..record.clone() }
}
