//! Looks for commands: they observe and decide as a tick does, and write nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::try_join_all;
use stonith_core::condition::{Condition, Untold, in_force};
use stonith_core::decide::{Decision, HoldReason, PastFence, Verdict, past_fences};
use stonith_core::managed::served;
use stonith_core::node::Node;
use stonith_core::observed::{Observed, ProxyView};
use stonith_core::orchestrator::{HistoryProgress, Identity, LeaderView, RecoveryHistory};
use stonith_core::orders::Orders;
use stonith_core::policy::Policy;
use stonith_core::shared::Shared;
use tokio::time::Instant;

use super::build::{BuildError, endpoints, looking_agent, orchestrator_settings, state_dir};
use super::kept::HEARTBEAT_MAX_MS;
use super::snapshot::Suspended;
use super::watch::node_fences;
use super::{Agent, TickError};
use crate::clock::Now;
use crate::config::{Config, ConfigError, Mode, OrchestratorConfig, ProxyConfig, ProxyTls};
use crate::snapshot::Snapshot;
use crate::state::Books;
use crate::{orchestrator, proxysql};

/// The pause between two looks.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What the next ticks would do on one ProxySQL.
#[derive(Debug)]
pub struct Planned {
    /// What was observed and decided.
    pub snapshot: Snapshot,
    /// Why the plan may be incomplete.
    pub untold: Option<Untold>,
}

/// What the next ticks would do on every configured ProxySQL. All are looked at side by side, so none waits for another.
///
/// # Errors
/// The config does not make an agent.
pub async fn plan_of_all(config: &Config, until: Instant) -> Result<Vec<Planned>, BuildError> {
    try_join_all(config.proxies.iter().map(|proxy| plan_of(config, proxy, until))).await
}

/// What the next ticks would do. Looks again until `until`, while an answer of Orchestrator can still complete it.
///
/// # Errors
/// The config does not make an agent.
async fn plan_of(config: &Config, proxy: &ProxyConfig, until: Instant) -> Result<Planned, BuildError> {
    let mut agent = looking_agent(config, proxy)?;
    let planned = loop {
        let now = Now::read();
        let standing = state_dir(config, proxy).orders(&now);
        let suspended = Suspended::by(&standing, &now);
        let looked = agent.look(standing.orders).await;
        let untold = looked.as_ref().ok().and_then(|(observed, decision)| decision.untold(observed));
        match looked {
            Ok((_, decision)) if Instant::now() < until && agent.names_settled().await => {
                agent.memory = decision.memory;
            }
            Ok((observed, decision)) if untold.is_some() && may_be_told(&observed.leader, until) => {
                // Kept in this process only: how long the leader has been the same, and which proofs were seen once.
                agent.memory = decision.memory;
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            looked => break Planned { snapshot: seen(&agent, &looked, suspended, Vec::new()), untold },
        }
    };
    agent.close().await;
    Ok(planned)
}

/// The recoveries in Orchestrator's history that an agent which had watched would have fenced a node for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// The newest first.
    pub fences: Vec<PastFence>,
    /// The history was read to its end.
    pub is_whole: bool,
}

/// What an agent would have fenced in the past, for every configured ProxySQL. All are looked at side by side.
///
/// # Errors
/// The config does not make an agent.
pub async fn past_of_all(config: &Config, until: Instant) -> Result<Vec<(Node, Result<Past, TickError>)>, BuildError> {
    let past = config.proxies.iter().map(async |proxy| {
        let mut agent = looking_agent(config, proxy)?;
        let past = past_of(&mut agent, until).await;
        agent.close().await;
        Ok((proxy.address.clone(), past))
    });
    try_join_all(past).await
}

/// Reads the whole history as ticks do, a piece in each look.
async fn past_of(agent: &mut Agent, until: Instant) -> Result<Past, TickError> {
    let mut records = BTreeMap::new();
    agent.memory.history.progress = HistoryProgress::default();
    loop {
        let (observed, decision) = agent.look(Orders::default()).await?;
        let history = if let LeaderView::Led(answer) = &observed.leader { answer.history.as_ref() } else { None };
        let is_whole = history.is_some_and(RecoveryHistory::is_whole);
        records.extend(history.into_iter().flat_map(|h| &h.records).map(|record| (record.uid.clone(), record.clone())));
        if is_whole || Instant::now() >= until {
            // The memory knows of recoveries that were confirmed although their record says that they failed.
            let remembered = decision.memory.history.records.iter();
            records.extend(remembered.map(|(uid, record)| (uid.clone(), record.clone())));
            let served = served(&observed.proxy, &decision.plan.managed);
            let fences = past_fences(records.values(), &decision.memory.nodes.identity, &served);
            return Ok(Past { fences, is_whole });
        }
        agent.memory = decision.memory;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Whether another look can complete the plan.
fn may_be_told(leader: &LeaderView, until: Instant) -> bool {
    let answers = matches!(leader, LeaderView::Led(_) | LeaderView::Leaderless | LeaderView::Conflict(_));
    answers && Instant::now() < until
}

/// Observes every configured ProxySQL, side by side, and reads the state of the agent that runs here.
///
/// # Errors
/// The config does not make an agent.
pub async fn look_at_all(config: &Config) -> Result<Vec<Snapshot>, BuildError> {
    try_join_all(config.proxies.iter().map(|proxy| look_at(config, proxy))).await
}

async fn look_at(config: &Config, proxy: &ProxyConfig) -> Result<Snapshot, BuildError> {
    let mut agent = looking_agent(config, proxy)?;
    let now = Now::read();
    let standing = state_dir(config, proxy).orders(&now);
    let mut found: Vec<Condition> = silent_agent(config, proxy, &now).map(Condition::NoAgent).into_iter().collect();
    found.extend(standing.problem.as_ref().map(|problem| Condition::OrdersUnread(problem.to_string())));
    let suspended = Suspended::by(&standing, &now);
    let looked = agent.look_once(standing.orders).await;
    let history = node_fences(&Books::open(&state_dir(config, proxy)), &agent.settings, &mut found);
    let mut snapshot = seen(&agent, &looked, suspended, found);
    snapshot.take_node_fences(&history.read_only.records, &history.power.records);
    agent.close().await;
    Ok(snapshot)
}

/// What `config check --connect` finds at one ProxySQL.
#[derive(Debug)]
pub struct Checked {
    /// What was observed and decided.
    pub snapshot: Snapshot,
    /// How many nodes have rows in runtime, managed or not.
    pub served: usize,
    /// How many of these nodes Orchestrator knows.
    pub known: usize,
    /// What ProxySQL can do, in a line; `None` if it could not be read.
    pub found: Option<String>,
}

/// Observes every configured ProxySQL, side by side, for `config check --connect`.
///
/// # Errors
/// The config does not make an agent.
pub async fn check_all(config: &Config) -> Result<Vec<Checked>, BuildError> {
    try_join_all(config.proxies.iter().map(|proxy| check(config, proxy))).await
}

/// Observes one ProxySQL as a first tick does, and makes and drops a scratch table unless the config only observes.
///
/// # Errors
/// The config does not make an agent.
async fn check(config: &Config, proxy: &ProxyConfig) -> Result<Checked, BuildError> {
    let mut agent = looking_agent(config, proxy)?.trying_to_write();
    let looked = agent.look_once(Orders::default()).await;
    let (served, known) = looked.as_ref().map_or((0, 0), |(observed, decision)| known(observed, decision));
    let snapshot = seen(&agent, &looked, Suspended::default(), Vec::new());
    let found = agent.probed().map(ToString::to_string);
    agent.close().await;
    Ok(Checked { snapshot, served, known, found })
}

/// What `doctor` sees of one ProxySQL.
#[derive(Debug, Clone)]
pub struct Examined {
    /// What was observed and decided.
    pub snapshot: Snapshot,
    /// The policy that decided.
    pub policy: Policy,
    /// ProxySQL's tables; `None` if it could not be read.
    pub view: Option<ProxyView>,
    /// Which names are one server.
    pub identity: Shared<Identity>,
    /// What was read besides; `None` if it could not be read.
    pub survey: Option<proxysql::Survey>,
}

/// Observes the ProxySQLs of one Orchestrator as a first tick does, side by side, and reads what `doctor` judges. Writes
/// nothing.
///
/// # Errors
/// The config does not make an agent.
pub async fn examine_all<'c>(
    config: &'c Config,
    of: &OrchestratorConfig,
) -> Result<Vec<(&'c ProxyConfig, Examined)>, BuildError> {
    let proxies = config.proxies.iter().filter(|proxy| *proxy.orchestrator == *of);
    try_join_all(proxies.map(async |proxy| Ok((proxy, examine(config, proxy).await?)))).await
}

async fn examine(config: &Config, proxy: &ProxyConfig) -> Result<Examined, BuildError> {
    let mut agent = looking_agent(config, proxy)?;
    let looked = agent.look_once(Orders::default()).await;
    let snapshot = seen(&agent, &looked, Suspended::default(), Vec::new());
    let survey = match (&mut agent.admin, &agent.probed) {
        (Some(admin), Some(probed)) => proxysql::survey(admin, probed).await.ok(),
        _ => None,
    };
    let policy = agent.settings.policy.clone();
    agent.close().await;
    let (view, identity) = match looked {
        Ok((observed, decision)) => (Some(observed.proxy), decision.memory.nodes.identity),
        Err(_) => (None, Shared::default()),
    };
    Ok(Examined { snapshot, policy, view, identity, survey })
}

/// Asks every endpoint of one Orchestrator what `doctor` judges.
///
/// # Errors
/// No client can be built from the config.
pub async fn examine_orchestrator(of: &OrchestratorConfig) -> Result<orchestrator::Survey, BuildError> {
    Ok(orchestrator::survey(&orchestrator_settings(of)?).await?)
}

/// How many nodes have rows in runtime, and how many of these Orchestrator knows.
fn known(observed: &Observed, decision: &Decision) -> (usize, usize) {
    let is_known = |node: &&Node| {
        decision.verdicts.get(*node).is_some_and(|v| !matches!(v, Verdict::Ignore(HoldReason::NotKnown)))
    };
    let nodes: BTreeSet<Node> = in_force(&observed.proxy, |_| true);
    (nodes.len(), nodes.iter().filter(is_known).count())
}

fn seen(
    agent: &Agent,
    looked: &Result<(Observed, Decision), TickError>,
    suspended: Suspended,
    mut found: Vec<Condition>,
) -> Snapshot {
    match looked {
        Ok((observed, decision)) => {
            found.extend(agent.conditions(observed, decision));
            Snapshot::of(agent, Some((observed, decision)), suspended, &found)
        }
        Err(error) => {
            found.push(Condition::ProxyUnread(error.to_string()));
            Snapshot::of(agent, None, suspended, &found)
        }
    }
}

/// Why no agent seems to watch this ProxySQL from this host; `None` if an agent has ticked recently.
fn silent_agent(config: &Config, proxy: &ProxyConfig, now: &Now) -> Option<String> {
    let dir = config.run.state_dir.display();
    let Some(alive_ms) = state_dir(config, proxy).last_alive_ms(&now.boot_id) else {
        return Some(format!("no agent has run here for this ProxySQL: {dir} has no agent state of it"));
    };
    let silent_ms = now.boot_ms.saturating_sub(alive_ms);
    let longest_ms =
        config.tick_ms(Mode::Once).max(config.tick_ms(Mode::Daemon)).saturating_mul(2).max(HEARTBEAT_MAX_MS);
    let text = || {
        format!("the agent on this host has not ticked for {} s, according to its state in {dir}", silent_ms / 1_000)
    };
    (silent_ms > longest_ms).then(text)
}

/// What the endpoints of one Orchestrator answer: whether each leads, or why that is unknown.
pub type Answers = Vec<(String, Result<bool, String>)>;

/// What the endpoints of every Orchestrator answer, each with the Orchestrator's name. All are asked side by side.
///
/// # Errors
/// No client can be built from the config.
pub async fn endpoints_answer(config: &Config) -> Result<Vec<(Option<&str>, Answers)>, BuildError> {
    let all = config.orchestrators.iter().map(async |one| {
        let answers = orchestrator::check(&orchestrator_settings(one)?).await?;
        Ok((one.name.as_deref(), answers))
    });
    try_join_all(all).await
}

/// Which servers are not verified, so that another host could answer in their place. One text for each.
///
/// # Errors
/// An endpoint is not a valid URL.
pub fn unverified(config: &Config) -> Result<Vec<String>, BuildError> {
    let mut found = Vec::new();
    for one in &config.orchestrators {
        let why = orchestrator::unverified(&endpoints(one)?, !one.tls.verify, one.credential.is_some());
        found.extend(why.map(|why| match &one.name {
            Some(name) => format!("Orchestrator {name}: {why}"),
            None => why,
        }));
    }
    let proxies = config.proxies.iter();
    found.extend(proxies.filter_map(|p| proxysql::unverified(&p.address, p.tls != ProxyTls::Off, p.socket.is_some())));
    Ok(found)
}

/// The ways to run that refuse the config, each with the reason.
///
/// # Errors
/// Both ways refuse it.
pub fn refused_modes(config: &Config) -> Result<Vec<(&'static str, ConfigError)>, ConfigError> {
    let refusal = |mode| config.proxies.iter().find_map(|proxy| config.policy(proxy, mode).err());
    match (refusal(Mode::Daemon), refusal(Mode::Once)) {
        (Some(error), Some(_)) => Err(error),
        (daemon, once) => {
            let refused = [("run", daemon), ("run --once", once)];
            Ok(refused.into_iter().filter_map(|(name, error)| Some((name, error?))).collect())
        }
    }
}
