//! The agent of one ProxySQL: observe -> decide -> apply -> report, and the only holder of the [`Memory`].
//!
//! ```text
//! build      config -> agent
//! tick       one look, one decision, one apply
//! resolver   addresses of hosts, outside the tick
//! kept       lock and state, from tick to tick
//! watch      an agent with what it keeps: ticks, and writes the log
//! run        one tick of each ProxySQL; what `service` runs as a daemon
//! look       reads for `plan`, `status` and `config check`; writes nothing
//! order      an operator's orders: `fence` and `unfence`
//! snapshot   builds the snapshot of a look or tick, for every report
//! ```

mod build;
pub mod install;
mod kept;
pub mod look;
pub mod order;
mod resolver;
mod run;
mod snapshot;
mod tick;
mod watch;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stonith_core::condition::{Condition, conditions};
use stonith_core::decide::Decision;
use stonith_core::evidence::EvidenceKind;
use stonith_core::memory::Memory;
use stonith_core::observed::Observed;
use stonith_core::orchestrator::LeaderView;
use stonith_core::policy::{IsolationScope, Policy};
use tokio::sync::OnceCell;

use self::resolver::Resolver;
use crate::clock;
use crate::loopback::{self, host_name};
use crate::orchestrator::Client;
use crate::proxysql::{self, Admin, Probed, ReadStamp, SeenProxy, Version};
use crate::secret::Credential;
use crate::untrusted_text::one_line;

pub use build::state_dir;
pub use build::{BuildError, orchestrator_settings};
pub use kept::{Kept, Start};
pub use run::{RunError, check, once, start, to_its_end, watch_of};
pub use tick::{Tick, TickError};
pub use watch::{Ticked, Watch};

/// Reads credentials again after one was refused: a password may change while the agent runs.
pub trait Credentials: std::fmt::Debug {
    /// Reads the credential of ProxySQL's admin interface.
    ///
    /// # Errors
    /// Its source can't be read.
    fn proxysql(&self) -> Result<Credential, String>;

    /// Reads the credential of Orchestrator, if one is configured.
    ///
    /// # Errors
    /// Its source can't be read.
    fn orchestrator(&self) -> Result<Option<Credential>, String>;
}

/// An agent's settings for its ProxySQL.
#[derive(Debug, Clone)]
pub struct AgentSettings {
    /// How to reach the admin interface.
    pub proxy: proxysql::Settings,
    /// Whether to change a ProxySQL whose monitor writes memory, so that it loses what somebody has staged.
    pub accept_lost_edits: bool,
    /// The operator's policy.
    pub policy: Policy,
    /// Whether to decide and report only, and never write.
    pub observe_only: bool,
    /// The kinds of evidence for which a node is made read-only at the node itself. Not by the agent.
    pub read_only_for: BTreeSet<EvidenceKind>,
    /// The kinds of evidence for which a node is powered off.
    pub fence_agent_for: BTreeSet<EvidenceKind>,
}

/// The agent of one ProxySQL.
#[derive(Debug)]
pub struct Agent {
    settings: AgentSettings,
    memory: Memory,
    client: Client,
    credentials: Box<dyn Credentials>,
    admin: Option<Admin>,
    /// What ProxySQL can do, as found at the last connect.
    probed: Option<Arc<Probed>>,
    /// Whether a scratch table is made and dropped after each connect, which shows that an apply can write.
    tries_writing: bool,
    /// How the last look read ProxySQL; `known` is what it read, once [`Agent::give_back`] returned it.
    reading: Option<ReadStamp>,
    known: Option<SeenProxy>,
    owner: String,
    resolver: Resolver,
    one_look: Option<OneLook>,
}

/// One look at Orchestrator for several agents, which the first of them takes. It serves those that know nothing yet, since
/// all of them ask the same.
pub type OneLook = Arc<OnceCell<LeaderView>>;

/// A name for the lock in ProxySQL that no other agent has, now or later.
pub fn owner_of_process() -> String {
    static AGENTS: AtomicU64 = AtomicU64::new(0);
    let nth = AGENTS.fetch_add(1, Ordering::Relaxed);
    let boot_id = clock::boot_id().unwrap_or_default();
    format!("{}:{boot_id}:{}:{}:{nth}", host_name(), std::process::id(), clock::boot_ms())
}

impl Agent {
    /// Makes an agent that continues from `memory` and holds the lock in ProxySQL under the name `owner`.
    pub fn new(
        settings: AgentSettings,
        client: Client,
        credentials: Box<dyn Credentials>,
        memory: Memory,
        owner: String,
    ) -> Self {
        let resolver = Resolver::new(loopback::is_here(settings.proxy.address.host.as_str()));
        Self {
            settings,
            memory,
            client,
            credentials,
            admin: None,
            probed: None,
            tries_writing: false,
            reading: None,
            known: None,
            owner,
            resolver,
            one_look: None,
        }
    }

    /// The same agent, for which one look at Orchestrator may serve that serves others too.
    pub fn sharing(self, look: Option<OneLook>) -> Self {
        Self { one_look: look, ..self }
    }

    /// The same agent, which also makes and drops a scratch table after each connect, unless it only observes.
    pub fn trying_to_write(self) -> Self {
        Self { tries_writing: !self.settings.observe_only, ..self }
    }

    /// The agent's settings.
    pub fn settings(&self) -> &AgentSettings {
        &self.settings
    }

    /// The settings, for tests that change the policy or the password.
    pub fn settings_mut(&mut self) -> &mut AgentSettings {
        &mut self.settings
    }

    /// The agent's memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The memory, for tests that let time pass or age the lease.
    pub fn memory_mut(&mut self) -> &mut Memory {
        &mut self.memory
    }

    /// ProxySQL's version; `None` until it was reached.
    pub fn version(&self) -> Option<&str> {
        self.probed.as_ref().map(|probed| probed.version.as_str())
    }

    /// What ProxySQL can do; `None` until it was reached.
    pub fn probed(&self) -> Option<&Probed> {
        self.probed.as_deref()
    }

    /// Whether the agent changes nothing because ProxySQL lacks something.
    pub fn is_refused(&self) -> bool {
        self.probed.as_ref().is_some_and(|probed| !probed.lacks.is_empty())
    }

    /// What needs attention, given what was observed and decided.
    pub fn conditions(&self, observed: &Observed, decision: &Decision) -> Vec<Condition> {
        let probed = self.probed.iter().flat_map(|probed| probed.conditions());
        let unverified = self.client.unverified().map(Condition::OrchestratorUnverified);
        let open = &self.settings.proxy;
        let open = proxysql::unverified(&open.address, open.tls.is_some(), open.socket.is_some());
        let open = open.map(Condition::ProxyUnverified);
        let mut seen = conditions(observed, decision, &self.settings.policy);
        if self.awaits_names() {
            seen.retain(|condition| {
                !matches!(condition, Condition::NothingProtected { .. } | Condition::UnknownNodes { .. })
            });
        }
        let of_pause = self.of_pause(observed);
        probed.chain(unverified).chain(open).chain(of_pause).chain(seen).collect()
    }

    /// What an isolation by a pause lacks in this version of ProxySQL, if it would be paused.
    fn of_pause(&self, observed: &Observed) -> Vec<Condition> {
        let would_pause = observed.proxy.clustered && self.settings.policy.isolation_scope != IsolationScope::Off;
        let Some(text) = self.version().filter(|_| would_pause) else { return Vec::new() };
        let Ok(version) = text.parse::<Version>() else { return Vec::new() };
        let slow = version.pauses_slowly().then(|| Condition::PauseIsSlow(one_line(text)));
        let hangs = version.resume_may_hang().then(|| Condition::ResumeMayHang(one_line(text)));
        slow.into_iter().chain(hangs).collect()
    }

    /// Closes the connection to ProxySQL.
    pub async fn close(self) {
        if let Some(admin) = self.admin {
            admin.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::orchestrator::{Settings, TlsSettings};
    use crate::secret::Secret;

    #[derive(Debug)]
    struct NoCredentials;

    impl Credentials for NoCredentials {
        fn proxysql(&self) -> Result<Credential, String> {
            Err("there is none".to_owned())
        }

        fn orchestrator(&self) -> Result<Option<Credential>, String> {
            Ok(None)
        }
    }

    /// An agent that was never connected to anything.
    pub fn unconnected(memory: Memory) -> Agent {
        let second = Duration::from_secs(1);
        let client = Client::new(Settings {
            endpoints: vec!["http://127.0.0.1:1".parse().unwrap()],
            auth: None,
            tls: TlsSettings::default(),
            connect_timeout: second,
            read_timeout: second,
            tick_timeout: second,
        });
        let credential = Credential { user: "radmin".to_owned(), password: Secret::new("radmin") };
        let address = "127.0.0.1:6032".parse().unwrap();
        let settings = AgentSettings {
            proxy: proxysql::Settings { address, socket: None, credential, tls: None, timeout: second },
            accept_lost_edits: false,
            policy: Policy::default(),
            observe_only: false,
            read_only_for: BTreeSet::new(),
            fence_agent_for: BTreeSet::new(),
        };
        Agent::new(settings, client.unwrap(), Box::new(NoCredentials), memory, "agent".to_owned())
    }
}
