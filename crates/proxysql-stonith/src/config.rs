//! The config: what the operator chose by flags, environment and file. Every value is checked and has its origin.
//!
//! ```text
//! flags ----.
//! environment -> layers -> effective -> Config -> policy(mode)
//! file -----'       |
//!                   `-> ConfigError: place, key, what was expected; exit code 2
//! ```
//!
//! [`keys`] is the only definition of each key: its name, where it can be set, its default and its text.
//!
//! **Invariant:** no error, `Debug` output or [`Config::to_toml`] shows a secret (I11). Nothing here connects.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stonith_core::barrier::OnUnconfirmed;
use stonith_core::evidence::EvidenceKind;
use stonith_core::node::Node;
use stonith_core::policy::{ErrantGtid, FenceOn, IsolationScope, Policy};
use stonith_core::table::Hostgroup;

mod address;
mod agent_url;
mod aliases;
mod credential;
mod definition;
pub mod duration;
mod effective;
mod environment;
mod fence_agents;
mod file;
mod flags;
pub mod keys;
mod layers;
mod listen;
pub mod option_file;
mod origin;
mod reference;
mod secrets;
mod show;
#[cfg(test)]
mod tests;
mod value;
mod words;

pub use address::ADDRESSES_MAX;
pub use agent_url::{AgentUrl, AgentUrlError};
use aliases::Aliases;
pub use definition::{About, Key, Takes};
pub use environment::Environment;
pub use fence_agents::{FenceAgentConfig, FenceAgentsConfig, INPUT_MAX_BYTES};
pub use file::{FILE_MAX_BYTES, RawFile, Table};
pub use flags::{Flags, word};
use layers::Layers;
pub use listen::Listen;
pub use origin::{ConfigError, EXIT_BAD_INPUT, Origin, Sourced};
pub use reference::reference;
pub use secrets::{CredentialSource, PasswordOf, SecretError, SecretSource, read_whole_file};
use show::Shown;
pub use value::{Value, Written, Wrong};
pub use words::{Enforcement, LogFormat, LogLevel, OnBlind, ProxyTls, Word, mode_to_pass};

/// The config file that is read if it exists and no other file is named.
pub const DEFAULT_FILE: &str = "/etc/proxysql-stonith.toml";

/// The default of `isolation.after`, unless the interval needs longer.
pub const DEFAULT_ISOLATION_AFTER: Duration = Duration::from_secs(10);

/// A daemon's interval is spread by up to this many percent, so that agents don't ask in step.
pub const JITTER_PERCENT: u64 = 20;

/// The way to run. It sets the largest gap between two ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// `run --once`, started by ProxySQL's scheduler.
    Once,
    /// `run`.
    Daemon,
}

/// Everything the operator chose, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The config file that was read.
    pub file: Option<PathBuf>,
    /// The Orchestrators, at least one. The only one may have no name; several have different names.
    pub orchestrators: Vec<Arc<OrchestratorConfig>>,
    /// The ProxySQLs, all different. Only the hook's config may have none.
    pub proxies: Vec<ProxyConfig>,
    /// The aliases of all ProxySQLs.
    aliases: Arc<Aliases>,
    /// How far a fence goes beyond ProxySQL; `None` unless it is chosen.
    pub node_fence: Option<NodeFenceConfig>,
    /// How a fenced node is powered off.
    pub fence_agents: FenceAgentsConfig,
    /// How the agent runs.
    pub run: RunConfig,
    /// How the daemon is asked over HTTP.
    pub http: HttpConfig,
    /// How the hook waits for the fence.
    pub barrier: BarrierConfig,
    /// How the program logs.
    pub log: LogConfig,
    /// Every value in force, by its full name.
    shown: BTreeMap<String, Shown>,
}

/// `[orchestrator]`, or one `[[orchestrator]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrchestratorConfig {
    /// The name of an `[[orchestrator]]`.
    pub name: Option<String>,
    /// The URLs as given, with or without `/api`: scheme, host, and optionally port and prefix. All different.
    pub endpoints: Vec<String>,
    /// The credential for basic auth.
    pub credential: Option<CredentialSource>,
    /// The settings for `https`.
    pub tls: TlsConfig,
    /// The longest time to connect.
    pub connect_timeout: Duration,
    /// The longest wait for an answer.
    pub read_timeout: Duration,
    /// The longest time that one tick asks Orchestrator.
    pub tick_timeout: Duration,
}

/// TLS to Orchestrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Whether the server's certificate is verified.
    pub verify: bool,
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The agent's own certificate and its key.
    pub client: Option<ClientCertificate>,
}

/// The agent's own certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// One `[[proxysql]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyConfig {
    /// The address of the admin interface.
    pub address: Node,
    /// The unix socket of the admin interface, if it is used instead of the address.
    pub socket: Option<PathBuf>,
    /// The admin user.
    pub credential: CredentialSource,
    /// Whether TLS is used, and what the certificate has to prove.
    pub tls: ProxyTls,
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether to change a ProxySQL whose monitor writes memory, so that it loses what somebody has staged.
    pub accept_lost_edits: bool,
    /// The Orchestrator that decides for its nodes.
    pub orchestrator: Arc<OrchestratorConfig>,
    /// What fences a node.
    pub policy: PolicyConfig,
    /// What happens without a lease.
    pub isolation: IsolationConfig,
    /// The instance of each row that has another name.
    aliases: Arc<Aliases>,
}

/// `[policy]`, and what `[proxysql.policy]` sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyConfig {
    /// Which downtimes fence.
    pub fence_on: FenceOn,
    /// The largest number of nodes of a cluster that are fenced for plain downtime.
    pub max_downtime_fences: usize,
    /// Hostgroups that the agent never changes.
    pub exclude_hostgroups: Vec<Hostgroup>,
    /// Writer hostgroups that are in no pair.
    pub writer_hostgroups: Vec<Hostgroup>,
    /// Whether transactions that only the old primary has keep it out.
    pub errant_gtid: ErrantGtid,
    /// What happens while answers are unreadable.
    pub on_blind: OnBlind,
    /// Whether to end idle sessions that may hold a fenced node, if ProxySQL cannot tell which sessions do.
    pub end_possible_holders: bool,
    /// Whether the agent writes.
    pub mode: Enforcement,
}

/// `[isolation]`, and what `[proxysql.isolation]` sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsolationConfig {
    /// `None` is the default, which depends on the mode. See [`IsolationConfig::in_force`].
    pub after: Option<Sourced<Duration>>,
    /// Which rows an isolation takes out of service.
    pub scope: IsolationScope,
}

/// `[node_fence]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFenceConfig {
    /// The kinds of evidence for which a node is made read-only; at least one.
    pub read_only: Vec<EvidenceKind>,
    /// The account.
    pub credential: CredentialSource,
    /// Whether TLS is used, and what the certificate has to prove.
    pub tls: ProxyTls,
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Accounts whose sessions are left.
    pub spare: Vec<String>,
    /// The longest wait for an answer.
    pub timeout: Duration,
}

/// `[run]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunConfig {
    /// The daemon's interval between two ticks.
    pub interval: Duration,
    /// How often ProxySQL's scheduler starts `run --once`.
    pub scheduler_interval: Duration,
    /// Where the state is kept.
    pub state_dir: PathBuf,
}

/// `[http]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// The address to listen on, if any.
    pub listen: Listen,
    /// The file with the bearer token of requests that make the daemon do something.
    pub token_file: Option<PathBuf>,
    /// The address under which the daemon registers itself at Orchestrator.
    pub register_as: Option<AgentUrl>,
}

/// `[barrier]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BarrierConfig {
    /// The agents' HTTP addresses.
    pub agents: Vec<AgentUrl>,
    /// The file with their bearer token.
    pub token_file: Option<PathBuf>,
    /// Agents that registered themselves are asked too, unless they were not seen for this long.
    pub forget_after: Option<Duration>,
    /// The hook ends after this time.
    pub deadline: Duration,
    /// What to do about a ProxySQL without a confirmed fence.
    pub on_unconfirmed: OnUnconfirmed,
    /// How long running transactions may take before a planned takeover.
    pub drain_timeout: Duration,
    /// The largest `isolation.after` of the agents.
    pub lease: Duration,
    /// Whether the hook's own ProxySQLs isolate themselves.
    pub guarded: bool,
}

/// `[log]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// The format of log lines.
    pub format: LogFormat,
    /// The lowest level that is logged.
    pub level: LogLevel,
}

impl Config {
    /// Reads flags, environment and config file, and checks what applies to every mode.
    ///
    /// # Errors
    /// The first problem, with its place.
    pub fn load(flags: &Flags, env: &Environment) -> Result<Self, ConfigError> {
        let path = file_in_force(flags, env)?;
        let raw = path.as_deref().map(RawFile::read).transpose()?.unwrap_or_default();
        effective::resolve(flags, env, &raw, path)
    }

    /// The state directory alone, for the break-glass: the rest of the config may be wrong.
    ///
    /// If the config file can't be read, its error is returned too. The directory then comes from flag, environment or
    /// default.
    ///
    /// # Errors
    /// The environment variable that names it is not UTF-8.
    pub fn state_dir(flags: &Flags, env: &Environment) -> Result<(PathBuf, Option<ConfigError>), ConfigError> {
        let raw = file_in_force(flags, env).and_then(|path| path.as_deref().map(RawFile::read).transpose());
        let (raw, problem) = match raw {
            Ok(raw) => (raw.unwrap_or_default(), None),
            Err(problem) => (RawFile::default(), Some(problem)),
        };
        Ok((effective::state_dir_alone(flags, env, &raw)?, problem))
    }

    /// The ProxySQLs that `--proxysql` names.
    ///
    /// # Errors
    /// One of them is not an address.
    pub fn proxies_of(flags: &Flags) -> Result<Vec<Node>, ConfigError> {
        let Some(list) = flags.text(&keys::ADDRESS.about) else { return Ok(Vec::new()) };
        let read = |text| Sourced::new(text, list.origin.clone()).read("", Node::from_text).map(|node| node.value);
        address::split(list.value).map(read).collect()
    }

    /// Checks that a ProxySQL is configured. Every command but the hook needs one.
    ///
    /// # Errors
    /// The config has no ProxySQL.
    pub fn needs_a_proxy(&self) -> Result<(), ConfigError> {
        if self.proxies.is_empty() { Err(effective::no_proxy(self.file.as_deref())) } else { Ok(()) }
    }

    /// The largest gap between two ticks, in ms.
    pub fn tick_ms(&self, mode: Mode) -> u64 {
        self.run.tick_ms(mode)
    }

    /// The policy for [`stonith_core::decide`] at this ProxySQL.
    ///
    /// # Errors
    /// `isolation.after` is too short for this mode: an election would take the proxy out of service (I9).
    pub fn policy(&self, proxy: &ProxyConfig, mode: Mode) -> Result<Policy, ConfigError> {
        let tick_ms = self.tick_ms(mode);
        let ProxyConfig { policy, isolation, aliases, .. } = proxy;
        let after = isolation.in_force(tick_ms);
        let shortest = Policy::shortest_isolation_after_ms(tick_ms);
        if isolation.scope != IsolationScope::Off && duration::millis(after) < shortest {
            let ticks = match mode {
                Mode::Once => "two starts by ProxySQL's scheduler (run.scheduler_interval)",
                Mode::Daemon => "two ticks (run.interval + 20 %)",
            };
            let problem = format!(
                "{} is too short; expected at least {}: an election 5s, {ticks} {}, an apply 1s",
                duration::show(after),
                duration::show(Duration::from_millis(shortest)),
                duration::show(Duration::from_millis(tick_ms * 2)),
            );
            let origin = isolation.after.as_ref().map_or(Origin::Default, |after| after.origin.clone());
            return Err(ConfigError::new(origin, "isolation.after", problem));
        }
        Ok(Policy {
            fence_on: policy.fence_on,
            max_downtime_fences: policy.max_downtime_fences,
            isolation_scope: isolation.scope,
            isolation_after_ms: duration::millis(after),
            tick_ms,
            blind_isolates: policy.on_blind == OnBlind::Isolate,
            end_possible_holders: policy.end_possible_holders,
            excluded_hostgroups: policy.exclude_hostgroups.iter().copied().collect(),
            writer_hostgroups: policy.writer_hostgroups.iter().copied().collect(),
            aliases: aliases.iter().map(|(row, instance)| (row.clone(), instance.value.clone())).collect(),
            errant_gtid: policy.errant_gtid,
            fences_at_node: mode == Mode::Daemon
                && (self.node_fence.as_ref().is_some_and(|chosen| !chosen.read_only.is_empty())
                    || !self.fence_agents.kinds.is_empty()),
        })
    }

    /// The sections of a new config that a running daemon does not take over.
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let changed = [("http", self.http != new.http), ("log", self.log != new.log)];
        changed.into_iter().filter(|(_, changed)| *changed).map(|(section, _)| section).collect()
    }

    /// The origin of a value, by its full name: `isolation.after`, `proxysql[0].address`.
    pub fn origin(&self, key: &str) -> Origin {
        self.shown.get(key).map_or(Origin::Default, |shown| shown.origin.clone())
    }

    /// The environment variables that gave a value.
    pub fn variables(&self) -> BTreeSet<&'static str> {
        let of_shown = |shown: &Shown| match shown.origin {
            Origin::Env(name) => Some(name),
            _ => None,
        };
        self.shown.values().filter_map(of_shown).collect()
    }

    /// The mode that the config file says for a ProxySQL; `None` if it says none.
    pub fn written_mode(&self, index: usize) -> Option<Enforcement> {
        let name = keys::MODE.about.full_name();
        let shown = self.shown.get(&format!("proxysql[{index}].{name}")).or_else(|| self.shown.get(&name))?;
        matches!(shown.origin, Origin::File { .. }).then(|| self.proxies.get(index).map(|proxy| proxy.policy.mode))?
    }

    /// The effective config as a config file, every line with its origin, secrets hidden.
    pub fn to_toml(&self) -> String {
        show::to_toml(self)
    }
}

impl RunConfig {
    /// The largest gap between two ticks, in ms.
    fn tick_ms(&self, mode: Mode) -> u64 {
        match mode {
            Mode::Once => duration::millis(self.scheduler_interval),
            Mode::Daemon => duration::millis(self.interval).saturating_mul(100 + JITTER_PERCENT) / 100,
        }
    }
}

impl IsolationConfig {
    /// A cut-off proxy is out of service this long after the leader's last answer. The default is 10 s, or what the
    /// interval needs.
    pub fn in_force(&self, tick_ms: u64) -> Duration {
        let shortest = Duration::from_millis(Policy::shortest_isolation_after_ms(tick_ms));
        self.after.as_ref().map_or(DEFAULT_ISOLATION_AFTER.max(shortest), |after| after.value)
    }
}

/// The path of the config file to read, if any.
fn file_in_force(flags: &Flags, env: &Environment) -> Result<Option<PathBuf>, ConfigError> {
    let at = Layers::new(flags, env, Vec::new());
    let named = at.flag(&keys::CONFIG_FILE)?.or(at.env(&keys::CONFIG_FILE)?).map(|path| path.value);
    let default = Path::new(DEFAULT_FILE);
    Ok(named.or_else(|| default.exists().then(|| default.to_owned())))
}
