//! The daemon registers itself at Orchestrator, so that a hook knows it without its config ([`crate::registration`]).
//!
//! ```text
//! each minute, at each Orchestrator:  nodes on the board -> which have no tag of ours, or an old one -> tag them
//! ```
//!
//! It runs beside the loops. None waits for it, and none decides by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stonith_core::node::Node;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::agent::orchestrator_settings;
use crate::board::{Board, Entry};
use crate::config::{AgentUrl, Config, OrchestratorConfig, ProxyConfig, read_whole_file};
use crate::loopback::is_here;
use crate::registration::Kept;

/// How often the daemon looks for nodes without its tag.
const LOOK: Duration = Duration::from_secs(60);

/// How often a daemon that is not registered everywhere yet looks.
const LOOK_SOON: Duration = Duration::from_secs(5);

/// How long the registration at one Orchestrator may take.
const LONGEST: Duration = Duration::from_secs(30);

/// The registration of one daemon.
pub struct Registration {
    agent: AgentUrl,
    config: watch::Receiver<Arc<Config>>,
    board: Arc<Board>,
    /// By ProxySQL: its nodes as Orchestrator names them, when they were last seen.
    nodes: BTreeMap<Node, BTreeSet<Node>>,
    /// By the name of its Orchestrator.
    kept: BTreeMap<Option<String>, Kept>,
    /// By the name of an Orchestrator: what was said of it last.
    said: BTreeMap<Option<String>, Result<usize, String>>,
}

impl Registration {
    /// The registration that the config wants, if any.
    pub fn wanted(config: watch::Receiver<Arc<Config>>, board: Arc<Board>) -> Option<Self> {
        let http = config.borrow().http.clone();
        let agent = http.register_as?;
        if http.listen.is_local() && !is_here(agent.0.host.as_str()) {
            tracing::warn!(%agent, "http.listen answers on this host only, so no hook on another host reaches this daemon");
        }
        Some(Self { agent, config, board, nodes: BTreeMap::new(), kept: BTreeMap::new(), said: BTreeMap::new() })
    }

    /// Registers again and again.
    pub async fn run(mut self) {
        let mut looks = interval(LOOK_SOON);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked: Option<Instant> = None;
        loop {
            looks.tick().await;
            let config = self.config.borrow().clone();
            let is_known = |proxy: &ProxyConfig| self.nodes.contains_key(&proxy.address);
            let is_well = self.said.values().all(Result::is_ok) && config.proxies.iter().all(is_known);
            if is_well && looked.is_some_and(|looked| looked.elapsed() < LOOK) {
                continue;
            }
            looked = Some(Instant::now());
            for orchestrator in &config.orchestrators {
                self.register(&config, orchestrator).await;
            }
        }
    }

    /// Registers at one Orchestrator, and logs what is new about that. A ProxySQL that is not reached has its nodes still.
    async fn register(&mut self, config: &Config, orchestrator: &Arc<OrchestratorConfig>) {
        let guarded: Vec<Arc<Entry>> = self.guarded(config, orchestrator);
        for entry in &guarded {
            let seen = instances(entry);
            if !seen.is_empty() {
                self.nodes.insert(entry.proxy().clone(), seen);
            }
        }
        let known: Vec<&Entry> =
            guarded.iter().map(|entry| &**entry).filter(|entry| self.nodes.contains_key(entry.proxy())).collect();
        let nodes: BTreeSet<Node> = known.iter().flat_map(|entry| &self.nodes[entry.proxy()]).cloned().collect();
        if nodes.is_empty() {
            return; // no tick has seen one yet
        }
        let keeping = timeout(LONGEST, self.keep(config, orchestrator, &nodes)).await;
        let done = keeping.unwrap_or_else(|_| Err("Orchestrator did not answer in time".to_owned()));
        known.iter().for_each(|entry| entry.put_registered(done.is_ok()));
        let said = done.map(|()| nodes.len());
        if self.said.get(&orchestrator.name) != Some(&said) {
            let agent = &self.agent;
            match &said {
                Ok(nodes) => tracing::info!(%agent, nodes, "registered at Orchestrator: its hook finds this daemon"),
                Err(why) => {
                    tracing::warn!(%agent, "not registered at Orchestrator, so its hook may not wait for this daemon: {why}");
                }
            }
            self.said.insert(orchestrator.name.clone(), said);
        }
    }

    /// The ProxySQLs of an Orchestrator.
    fn guarded(&self, config: &Config, orchestrator: &Arc<OrchestratorConfig>) -> Vec<Arc<Entry>> {
        let entries = self.board.entries();
        let of_it = config.proxies.iter().filter(|proxy| Arc::ptr_eq(&proxy.orchestrator, orchestrator));
        of_it.filter_map(|proxy| entries.get(&proxy.address).cloned()).collect()
    }

    async fn keep(&mut self, config: &Config, of: &OrchestratorConfig, nodes: &BTreeSet<Node>) -> Result<(), String> {
        let path = config.http.token_file.as_deref().ok_or("http.token_file is not set")?;
        let token = read_whole_file(path, "token").map_err(|error| error.to_string())?;
        let settings = orchestrator_settings(of).map_err(|error| error.to_string())?;
        let kept = self.kept.entry(of.name.clone()).or_default();
        let given = kept.keep(settings, &self.agent, &token, nodes).await?;
        tracing::debug!(agent = %self.agent, given, "registrations that were given");
        Ok(())
    }
}

/// The names at Orchestrator of a ProxySQL's nodes.
fn instances(entry: &Entry) -> BTreeSet<Node> {
    let seen = entry.seen();
    let nodes = seen.last.iter().flat_map(|ticked| ticked.snapshot.nodes.iter());
    nodes
        .filter(|report| report.matched.is_some())
        .map(|report| report.instance.as_ref().unwrap_or(&report.node))
        .cloned()
        .collect()
}
