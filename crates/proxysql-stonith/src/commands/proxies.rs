//! From the config to an agent for each ProxySQL.

use crate::agent::{Agent, AgentSettings, Credentials, owner_of_process};
use crate::clock::Now;
use crate::commands::Failure;
use crate::config::{Config, CredentialSource, Enforcement, Mode, ProxyConfig, ProxyTls};
use crate::orchestrator::{Basic, Client, Endpoint, Settings as OrchestratorSettings, TlsSettings};
use crate::proxysql::{Credential, ServerCheck, Settings as ProxySettings, Tls};
use crate::state::StateDir;
use crate::tls::TlsError;
use crate::watch::{HEARTBEAT_MAX_MS, peeked_memory};
use stonith_core::memory::Memory;

use std::time::Duration;

#[cfg(test)]
mod tests;

/// The longest wait for ProxySQL's admin interface: LOAD with 5,000 rows takes 0.15 s (facts §1).
const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the agent's credentials come from, to read them again.
#[derive(Debug)]
struct Sources {
    proxysql: CredentialSource,
    orchestrator: Option<CredentialSource>,
}

impl Credentials for Sources {
    fn proxysql(&self) -> Result<Credential, String> {
        admin_credential(&self.proxysql)
    }

    fn orchestrator(&self) -> Result<Option<Basic>, String> {
        self.orchestrator.as_ref().map(basic).transpose()
    }
}

fn admin_credential(source: &CredentialSource) -> Result<Credential, String> {
    let read = source.read().map_err(|error| error.to_string())?;
    Ok(Credential { user: read.user, password: read.password })
}

/// TLS to an admin interface, if it is asked for.
fn admin_tls(proxy: &ProxyConfig) -> Result<Option<Tls>, TlsError> {
    let check = match proxy.tls {
        ProxyTls::Off => return Ok(None),
        ProxyTls::VerifyCa => ServerCheck::Ca,
        ProxyTls::VerifyIdentity => ServerCheck::Identity,
    };
    Tls::new(check, proxy.ca_file.as_deref()).map(Some)
}

fn basic(source: &CredentialSource) -> Result<Basic, String> {
    let read = source.read().map_err(|error| error.to_string())?;
    Ok(Basic { user: read.user, password: read.password })
}

/// Orchestrator's endpoints.
pub fn endpoints(config: &Config) -> Result<Vec<Endpoint>, Failure> {
    let endpoint = |url: &String| url.parse().map_err(|error| Failure::BadInput(format!("{error}")));
    config.orchestrator.endpoints.iter().map(endpoint).collect()
}

/// The state directory's files of one ProxySQL.
pub fn state_dir(config: &Config, proxy: &ProxyConfig) -> StateDir {
    StateDir::new(&config.run.state_dir, &proxy.address)
}

fn sources(config: &Config, proxy: &ProxyConfig) -> Sources {
    Sources { proxysql: proxy.credential.clone(), orchestrator: config.orchestrator.credential.clone() }
}

/// How to reach Orchestrator.
pub fn orchestrator_settings(config: &Config) -> Result<OrchestratorSettings, Failure> {
    let orchestrator = &config.orchestrator;
    let tls = &orchestrator.tls;
    Ok(OrchestratorSettings {
        endpoints: endpoints(config)?,
        auth: orchestrator.credential.as_ref().map(basic).transpose().map_err(Failure::BadInput)?,
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

/// An agent for one ProxySQL; connects to nothing yet.
pub fn agent(
    config: &Config,
    proxy: &ProxyConfig,
    mode: Mode,
    memory: Memory,
    owner: String,
) -> Result<Agent, Failure> {
    let bad = |text: String| Failure::BadInput(text);
    let sources = sources(config, proxy);
    let client = Client::new(orchestrator_settings(config)?).map_err(|error| bad(error.to_string()))?;
    let settings = AgentSettings {
        proxy: ProxySettings {
            address: proxy.address.clone(),
            credential: sources.proxysql().map_err(bad)?,
            tls: admin_tls(proxy).map_err(|error| bad(error.to_string()))?,
            timeout: ADMIN_TIMEOUT,
        },
        allow_untested_version: proxy.allow_untested_version,
        policy: config.policy(mode).map_err(|error| bad(error.to_string()))?,
        observe_only: config.policy.mode == Enforcement::Observe,
    };
    Ok(Agent::new(settings, client, Box::new(sources), memory, owner))
}

/// An agent for a command: with what the running agent last kept, and nothing of it changed. It decides by the interval
/// of the agent that runs here, be that a daemon or ProxySQL's scheduler.
pub fn looking_agent(config: &Config, proxy: &ProxyConfig) -> Result<Agent, Failure> {
    // Where nothing has run yet, whichever of the two modes the config fits.
    let fits = if config.policy(Mode::Daemon).is_ok() { Mode::Daemon } else { Mode::Once };
    let peeked = peeked_memory(&state_dir(config, proxy), |mode| config.tick_ms(mode.unwrap_or(fits)));
    let (memory, mode) = match peeked {
        Ok(peeked) => peeked,
        Err(error) => {
            super::complain(&format!("{error}; going on as if there were no state"));
            let now = crate::clock::Now::read();
            (Memory::first_start(&now.boot_id, now.boot_ms), None)
        }
    };
    let mode = mode.filter(|mode| config.policy(*mode).is_ok()).unwrap_or(fits);
    agent(config, proxy, mode, memory, owner_of_process())
}

/// Why nobody is taken to watch this ProxySQL from this host; `None` where an agent has ticked lately.
pub fn silent_agent(config: &Config, proxy: &ProxyConfig, now: &Now) -> Option<String> {
    let dir = config.run.state_dir.display();
    let Some(alive_ms) = state_dir(config, proxy).last_alive_ms(&now.boot_id) else {
        return Some(format!("no agent has run here for this ProxySQL: {dir} has no state of one"));
    };
    let silent_ms = now.boot_ms.saturating_sub(alive_ms);
    let longest_ms =
        config.tick_ms(Mode::Once).max(config.tick_ms(Mode::Daemon)).saturating_mul(2).max(HEARTBEAT_MAX_MS);
    let text = || format!("the agent here has not ticked for {} s, by its state in {dir}", silent_ms / 1_000);
    (silent_ms > longest_ms).then(text)
}
