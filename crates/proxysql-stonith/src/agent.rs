//! One loop for one ProxySQL: observe -> decide -> apply -> report.
//!
//! A tick changes nothing but through [`stonith_core::decide::decide`] and its plan. What it keeps is
//! [`Memory`]; who saves that is the caller's business.

use std::collections::BTreeSet;

use stonith_core::apply::Outcome;
use stonith_core::decide::{Decision, decide};
use stonith_core::gather::served;
use stonith_core::lease::advance;
use stonith_core::memory::Memory;
use stonith_core::observed::{Observed, Orders};
use stonith_core::plan::Managed;
use stonith_core::policy::Policy;
use stonith_core::wants::wants;

use crate::clock;
use crate::orchestrator::Client;
use crate::proxysql::{self, Admin, AdminError, DriveError, ObserveError, Version};

/// What an agent needs to know of its ProxySQL.
#[derive(Debug, Clone)]
pub struct AgentSettings {
    /// Its admin interface.
    pub proxy: proxysql::Settings,
    /// Run on a version that was never tried.
    pub allow_untested_version: bool,
    /// What was chosen.
    pub policy: Policy,
    /// Decide and report, never write.
    pub observe_only: bool,
}

/// Why a tick came to no decision, or its plan was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum TickError {
    /// ProxySQL could not be read.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The apply broke off.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// ProxySQL refused a part of it.
    #[error("ProxySQL refused a step of the apply ({statement}): {cause}; nothing is left half done in its memory")]
    Refused {
        /// Which.
        statement: String,
        /// Its words.
        cause: String,
    },
    /// This version was never tried on the real thing.
    #[error(
        "ProxySQL {0} was never tried with this program: `plan` works, and `allow_untested_version = true` in the \
         [[proxysql]] section lets it run"
    )]
    Untested(Version),
}

impl TickError {
    /// Whether the credential was refused: it is read again before the next try.
    pub fn is_access_denied(&self) -> bool {
        matches!(self, Self::Observe(ObserveError::Admin(AdminError::AccessDenied { .. })))
    }
}

/// What one tick saw, decided and did.
#[derive(Debug)]
pub struct Tick {
    /// What was seen.
    pub observed: Observed,
    /// What was decided.
    pub decision: Decision,
    /// What came of the plan; `None` where there was nothing to do, or nothing may be done.
    pub outcome: Option<Outcome>,
    /// Why the plan was not carried out.
    pub error: Option<TickError>,
}

/// One loop.
#[derive(Debug)]
pub struct Agent {
    /// What it needs to know.
    pub settings: AgentSettings,
    /// What it keeps.
    pub memory: Memory,
    client: Client,
    admin: Option<Admin>,
    owner: String,
    applies: u64,
}

impl Agent {
    /// An agent that goes on from this memory.
    pub fn new(settings: AgentSettings, client: Client, memory: Memory) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        // No other process has this name, now or later: the lock in ProxySQL is held under it.
        let owner = format!("{host}:{}:{}:{}", std::process::id(), clock::boot_id(), clock::boot_ms());
        Self { settings, memory, client, admin: None, owner, applies: 0 }
    }

    /// Where its Orchestrator client may be given a new credential.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Looks and decides; writes nothing, keeps nothing.
    ///
    /// # Errors
    /// ProxySQL could not be read. The lease is kept up all the same.
    pub async fn look(&mut self, orders: Orders) -> Result<(Observed, Decision), TickError> {
        let proxy = match self.observe().await {
            Ok(proxy) => proxy,
            Err(error) => {
                // A ProxySQL that is down must not cost the lease: it would be isolated when it is back (I9).
                let no_wants = stonith_core::wants::Wants { history: false, instances: false, backing: true };
                let leader = self.client.look(clock::boot_ms, |_, _| no_wants, &BTreeSet::new()).await;
                self.admin = None;
                advance(&mut self.memory, &leader, false, &self.settings.policy, clock::boot_ms());
                return Err(error);
            }
        };
        let policy = &self.settings.policy;
        let memory = &self.memory;
        let served = served(&proxy, &Managed::of(&proxy, policy));
        let ask = |leader: &str, downtimes: &[_]| wants(&proxy, memory, leader, downtimes, policy, clock::boot_ms());
        let leader = self.client.look(clock::boot_ms, ask, &served).await;
        let observed = Observed { proxy, leader, orders };
        let decision = decide(&observed, memory, policy, clock::boot_ms());
        Ok((observed, decision))
    }

    /// One tick. `keep` saves the memory before anything is changed.
    ///
    /// # Errors
    /// ProxySQL could not be read: nothing was decided.
    pub async fn tick(&mut self, orders: Orders, mut keep: impl FnMut(&Memory) -> bool) -> Result<Tick, TickError> {
        let (observed, decision) = match self.look(orders).await {
            Ok(seen) => seen,
            Err(error) => {
                keep(&self.memory);
                return Err(error);
            }
        };
        self.memory = decision.memory.clone();
        if !keep(&self.memory) {
            // What can't be kept can't be armed: a restart would not know of it (DESIGN §7).
            self.memory.armed = false;
        }
        let mut tick = Tick { observed, decision, outcome: None, error: None };
        if tick.decision.plan.is_empty() || self.settings.observe_only {
            return Ok(tick);
        }
        match self.apply(&tick.decision).await {
            Ok(Outcome::Failed { statement, error }) => {
                tick.error = Some(TickError::Refused { statement, cause: error });
            }
            Ok(outcome) => tick.outcome = Some(outcome),
            Err(error) => {
                self.admin = None;
                tick.error = Some(error);
            }
        }
        Ok(tick)
    }

    async fn observe(&mut self) -> Result<stonith_core::observed::ProxyView, TickError> {
        if self.admin.is_none() {
            self.admin = Some(Admin::connect(&self.settings.proxy).await.map_err(ObserveError::from)?);
        }
        let admin = self.admin.as_mut().ok_or(DriveError::Deadline)?;
        let first = proxysql::observe(admin, &self.settings.policy).await;
        match first {
            // A kept connection that ProxySQL closed meanwhile, by a restart say: once more on a new one.
            Err(ObserveError::Admin(AdminError::Lost { .. })) => {
                self.admin = None;
                let mut admin = Admin::connect(&self.settings.proxy).await.map_err(ObserveError::from)?;
                let view = proxysql::observe(&mut admin, &self.settings.policy).await?;
                self.admin = Some(admin);
                Ok(view)
            }
            other => Ok(other?),
        }
    }

    /// Carries a decision's plan out on this ProxySQL.
    ///
    /// # Errors
    /// The connection broke, the version was never tried, or it took too long.
    pub async fn apply(&mut self, decision: &Decision) -> Result<Outcome, TickError> {
        let admin = self.admin.as_mut().ok_or(DriveError::Deadline)?;
        if !self.settings.allow_untested_version {
            let version = proxysql::version(admin).await?;
            if !version.is_tried() {
                return Err(TickError::Untested(version));
            }
        }
        self.applies += 1;
        let owner = format!("{}:{}", self.owner, self.applies);
        let mut log = |statement: &str| tracing::debug!(statement, "apply");
        Ok(proxysql::drive(admin, decision.plan.clone(), owner, &mut log).await?)
    }

    /// Says goodbye to ProxySQL.
    pub async fn close(self) {
        if let Some(admin) = self.admin {
            admin.close().await;
        }
    }
}
