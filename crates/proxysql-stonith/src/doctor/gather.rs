//! Gathers the facts: one look at each ProxySQL, one at each node of each Orchestrator, and the files that are named.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use stonith_core::barrier::{lease_wait_ms, longest_wait_ms};
use stonith_core::node::Node;

use super::facts::{AgentFault, BarrierFacts, Facts, GuardedProxy, ModeFacts, Program, ProxyFacts};
use super::scheduler::traces;
use crate::agent::look::{self, Examined};
use crate::agent::{BuildError, orchestrator_settings};
use crate::certificate::Certificate;
use crate::clock;
use crate::config::{
    AgentUrl, Config, Enforcement, Mode, OrchestratorConfig, ProxyConfig, Word, duration, read_whole_file,
};
use crate::fence_agent;
use crate::files::{Links, Regular};
use crate::handed::Readiness;
use crate::hook::{AgentError, AgentProxy, Agents};
use crate::loopback::is_this_host;
use crate::node_fence::{SetUpError, readiness};
use crate::orchestrator::Tags;
use crate::registration::Registered;
use crate::snapshot::Snapshot;
use crate::tls;

/// The largest script that is read, in bytes.
const SCRIPT_MAX_BYTES: u64 = 256 * 1_024;

/// Gathers everything that the checks judge: the facts of each Orchestrator, with those of its ProxySQLs. Writes nothing.
///
/// # Errors
/// The config makes no agent of one ProxySQL.
pub async fn gather(config: &Config) -> Result<Vec<Facts>, BuildError> {
    let mut all = try_join_all(config.orchestrators.iter().map(|one| of_orchestrator(config, one))).await?;
    let barrier = of_barrier(config, &all).await;
    if let Some(first) = all.first_mut() {
        first.barrier = Some(barrier);
    }
    Ok(all)
}

/// Asks the agents that the hook counts on.
async fn of_barrier(config: &Config, facts: &[Facts]) -> BarrierFacts {
    let mut barrier = config.barrier.clone();
    let registered = registered(config, facts).await;
    let known = registered.iter().filter_map(|(_, found)| found.as_ref().ok()).flat_map(|found| &found.agents);
    let known: BTreeSet<AgentUrl> = known.filter(|agent| !barrier.agents.contains(agent)).cloned().collect();
    barrier.agents.extend(known);
    let barrier = &barrier;
    let agents = match Agents::new(barrier) {
        Ok(agents) => agents.look_at_all().await,
        Err(error) => {
            let refused = |url: &AgentUrl| (url.to_string(), Err(AgentError::Token(error.to_string())));
            barrier.agents.iter().map(refused).collect()
        }
    };
    let fault = |error: AgentError| match error {
        AgentError::Status(..) | AgentError::Token(_) => AgentFault::Refuses(error.to_string()),
        AgentError::Unreached(_) | AgentError::Unreadable(_) => AgentFault::Unreached(error.to_string()),
    };
    let guarded = |at: AgentProxy| GuardedProxy {
        suspended: at.suspended.is_some(),
        observes: at.mode == Enforcement::Observe.word(),
        armed: at.armed,
        proxysql: at.proxysql,
    };
    let of_agent = |(url, seen): (String, Result<Vec<AgentProxy>, AgentError>)| {
        (url, seen.map(|all| all.into_iter().map(guarded).collect()).map_err(fault))
    };
    let deadline_ms = duration::millis(barrier.deadline);
    BarrierFacts {
        agents: agents.into_iter().map(of_agent).collect(),
        registered,
        longest_wait: Duration::from_millis(longest_wait_ms(deadline_ms, barrier.on_unconfirmed)),
        lease_wait: Duration::from_millis(lease_wait_ms(duration::millis(barrier.lease), config.tick_ms(Mode::Daemon))),
    }
}

/// Who registered at each primary.
async fn registered(config: &Config, facts: &[Facts]) -> Vec<(Node, Result<Registered, String>)> {
    let (Some(forget_after), Some(token_file)) = (config.barrier.forget_after, &config.barrier.token_file) else {
        return Vec::new();
    };
    let token = read_whole_file(token_file, "token").map_err(|error| error.to_string());
    let mut found = Vec::new();
    for (of, facts) in config.orchestrators.iter().zip(facts) {
        let tags = orchestrator_settings(of).map_err(|error| error.to_string());
        let tags = tags.and_then(|settings| Tags::new(settings).map_err(|error| error.to_string()));
        let at = async |node: &Node| {
            let (token, tags) = (token.as_ref().map_err(Clone::clone)?, tags.as_ref().map_err(Clone::clone)?);
            let tags = tags.of_node(node).await.map_err(|error| error.to_string())?;
            Ok(Registered::of(&tags, token, clock::wall_s(), forget_after))
        };
        let instances = facts.orchestrator.recovery.iter().flat_map(|seen| seen.instances.iter().flatten());
        let primaries = instances.filter(|one| one.valid && one.primary.is_none() && !one.read_only);
        found.extend(join_all(primaries.map(async |one| (one.node.clone(), at(&one.node).await))).await);
    }
    found
}

async fn of_orchestrator(config: &Config, of: &OrchestratorConfig) -> Result<Facts, BuildError> {
    let proxies = look::examine_all(config, of).await?;
    let orchestrator = look::examine_orchestrator(of).await?;
    let client = of.tls.client.as_ref();
    let certificates = client.and_then(|client| tls::certificates(&client.cert, "a certificate").ok());
    Ok(Facts {
        now_s: clock::wall_s(),
        name: of.name.clone(),
        verifies: of.tls.verify,
        own_certificate: certificates.and_then(|list| Certificate::read(list.first()?)),
        orchestrator,
        proxies: join_all(proxies.into_iter().map(|(proxy, seen)| of_proxy(config, proxy, seen))).await,
        barrier: None,
    })
}

async fn of_proxy(config: &Config, proxy: &ProxyConfig, seen: Examined) -> ProxyFacts {
    let Examined { snapshot, policy, view, identity, survey } = seen;
    let mut found = BTreeMap::new();
    // Only this host's files are those that ProxySQL starts.
    if proxy.socket.is_some() || is_this_host(proxy.address.host.as_str()) {
        for entry in survey.iter().flat_map(|survey| &survey.scheduled) {
            let texts = entry.files.iter().filter_map(|file| read(Path::new(file)));
            let of_entry: BTreeSet<&'static str> = texts.flat_map(|text| traces(&text)).collect();
            found.insert(entry.id.clone(), of_entry);
        }
    }
    let mode = |command, mode| ModeFacts {
        command,
        tick: Duration::from_millis(config.tick_ms(mode)),
        isolation_after: proxy.isolation.in_force(config.tick_ms(mode)),
        refusal: config.policy(proxy, mode).err().map(|error| error.to_string()),
    };
    let program = Program {
        scope: proxy.isolation.scope,
        observes: proxy.policy.mode == Enforcement::Observe,
        scheduler_interval: config.run.scheduler_interval,
        modes: vec![mode("run", Mode::Daemon), mode("run --once", Mode::Once)],
    };
    let (node_accounts, fence_agents) = tokio::join!(node_accounts(config, &snapshot), fence_agents(config, &snapshot));
    ProxyFacts { snapshot, program, policy, view, identity, survey, traces: found, node_accounts, fence_agents }
}

/// Asks each node whether the account of `[node_fence]` could fence it.
async fn node_accounts(config: &Config, snapshot: &Snapshot) -> BTreeMap<Node, Readiness> {
    let Some(chosen) = &config.node_fence else { return BTreeMap::new() };
    let nodes: Vec<Node> = snapshot.nodes.iter().map(|report| report.node.clone()).collect();
    let of_all =
        |error: SetUpError| nodes.iter().map(|node| (node.clone(), Readiness::Unready(error.to_string()))).collect();
    readiness(chosen, nodes.clone()).await.unwrap_or_else(of_all)
}

/// Asks the fence agents of each node whether they could power it off.
async fn fence_agents(config: &Config, snapshot: &Snapshot) -> BTreeMap<Node, Readiness> {
    let nodes = snapshot.nodes.iter().map(|report| report.node.clone());
    fence_agent::readiness(&config.fence_agents, nodes).await
}

/// The text of a script; `None` if it is none.
fn read(file: &Path) -> Option<String> {
    let bytes = Regular::open(file, Links::Follow).ok()?.read(SCRIPT_MAX_BYTES).ok()?;
    String::from_utf8(bytes.to_vec()).ok()
}
