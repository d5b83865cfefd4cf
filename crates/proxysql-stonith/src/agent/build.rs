//! Builds an agent for each ProxySQL from the config.

use std::time::Duration;

use stonith_core::memory::Memory;

use super::kept::peeked_memory;
use super::{Agent, AgentSettings, Credentials, owner_of_process};
use crate::clock::Now;
use crate::config::{
    Config, ConfigError, CredentialSource, Enforcement, Mode, OrchestratorConfig, ProxyConfig, ProxyTls, SecretError,
};
use crate::orchestrator::{Client, Endpoint, EndpointError, Settings as OrchestratorSettings, TlsSettings};
use crate::proxysql::{ServerCheck, Settings as ProxySettings, Tls};
use crate::secret::Credential;
use crate::state::StateDir;
use crate::tls::TlsError;

#[cfg(test)]
mod tests;

/// Why no agent can be built from a config.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An Orchestrator endpoint is not a valid URL.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// A password can't be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A certificate or a key can't be read.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The times do not fit the mode.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// The longest wait for an answer of ProxySQL's admin interface. LOAD with 5,000 rows takes 0.15 s (facts §1).
const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Where to read the agent's credentials again.
#[derive(Debug)]
struct Sources {
    proxysql: CredentialSource,
    orchestrator: Option<CredentialSource>,
}

impl Credentials for Sources {
    fn proxysql(&self) -> Result<Credential, String> {
        self.proxysql.read().map_err(|error| error.to_string())
    }

    fn orchestrator(&self) -> Result<Option<Credential>, String> {
        self.orchestrator.as_ref().map(CredentialSource::read).transpose().map_err(|error| error.to_string())
    }
}

/// The TLS settings of an admin interface, if TLS is configured.
fn admin_tls(proxy: &ProxyConfig) -> Result<Option<Tls>, TlsError> {
    let check = match proxy.tls {
        ProxyTls::Off => return Ok(None),
        ProxyTls::VerifyCa => ServerCheck::Ca,
        ProxyTls::VerifyIdentity => ServerCheck::Identity,
    };
    Tls::new(check, proxy.ca_file.as_deref(), "ProxySQL").map(Some)
}

/// The endpoints of an Orchestrator.
pub fn endpoints(orchestrator: &OrchestratorConfig) -> Result<Vec<Endpoint>, EndpointError> {
    orchestrator.endpoints.iter().map(|url| url.parse()).collect()
}

/// The files of one ProxySQL in the state directory.
pub fn state_dir(config: &Config, proxy: &ProxyConfig) -> StateDir {
    StateDir::new(&config.run.state_dir, &proxy.address)
}

fn sources(proxy: &ProxyConfig) -> Sources {
    Sources { proxysql: proxy.credential.clone(), orchestrator: proxy.orchestrator.credential.clone() }
}

/// The settings to reach an Orchestrator.
pub fn orchestrator_settings(orchestrator: &OrchestratorConfig) -> Result<OrchestratorSettings, BuildError> {
    let tls = &orchestrator.tls;
    Ok(OrchestratorSettings {
        endpoints: endpoints(orchestrator)?,
        auth: orchestrator.credential.as_ref().map(CredentialSource::read).transpose()?,
        tls: TlsSettings {
            insecure: !tls.verify,
            ca_file: tls.ca_file.clone(),
            client: tls.client.as_ref().map(|client| (client.cert.clone(), client.key.clone())),
        },
        connect_timeout: orchestrator.connect_timeout,
        read_timeout: orchestrator.read_timeout,
        tick_timeout: orchestrator.tick_timeout,
    })
}

/// Makes an agent for one ProxySQL; connects to nothing yet.
pub fn agent(
    config: &Config,
    proxy: &ProxyConfig,
    mode: Mode,
    memory: Memory,
    owner: String,
) -> Result<Agent, BuildError> {
    let sources = sources(proxy);
    let client = Client::new(orchestrator_settings(&proxy.orchestrator)?)?;
    let settings = AgentSettings {
        proxy: ProxySettings {
            address: proxy.address.clone(),
            socket: proxy.socket.clone(),
            credential: sources.proxysql.read()?,
            tls: admin_tls(proxy)?,
            timeout: ADMIN_TIMEOUT,
        },
        accept_lost_edits: proxy.accept_lost_edits,
        policy: config.policy(proxy, mode)?,
        observe_only: proxy.policy.mode == Enforcement::Observe,
        read_only_for: config.node_fence.iter().flat_map(|chosen| &chosen.read_only).copied().collect(),
        fence_agent_for: config.fence_agents.kinds.iter().copied().collect(),
    };
    Ok(Agent::new(settings, client, Box::new(sources), memory, owner))
}

/// Makes an agent for a command, with the running agent's last memory; changes nothing on disk.
///
/// It decides by the interval of the agent that runs here, either a daemon or `run --once` by ProxySQL's scheduler.
pub fn looking_agent(config: &Config, proxy: &ProxyConfig) -> Result<Agent, BuildError> {
    // The mode to use if no agent has run here yet: one that the config fits.
    let fits = if config.policy(proxy, Mode::Daemon).is_ok() { Mode::Daemon } else { Mode::Once };
    let peeked = peeked_memory(&state_dir(config, proxy), |mode| config.tick_ms(mode.unwrap_or(fits)));
    let (memory, mode) = match peeked {
        Ok(peeked) => peeked,
        Err(error) => {
            tracing::error!("{error}; continuing without the kept state");
            let now = Now::read();
            (Memory::first_start(&now.boot_id, now.boot_ms), None)
        }
    };
    let mode = mode.filter(|mode| config.policy(proxy, *mode).is_ok()).unwrap_or(fits);
    agent(config, proxy, mode, memory, owner_of_process())
}
