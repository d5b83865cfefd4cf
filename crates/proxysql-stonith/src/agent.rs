//! One loop for one ProxySQL: observe -> decide -> apply -> report.
//!
//! A tick changes nothing but through [`stonith_core::decide::decide`] and its plan. What it keeps is
//! [`Memory`]; who saves that is the caller's business.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stonith_core::apply::Outcome;
use stonith_core::condition::{Condition, conditions};
use stonith_core::decide::{Decision, LeaderQuery, decide, leader_query};
use stonith_core::lease::{AtProxy, advance};
use stonith_core::memory::Memory;
use stonith_core::node::Node;
use stonith_core::observed::{Observed, ProxyView};
use stonith_core::orchestrator::LeaderView;
use stonith_core::orders::Orders;
use stonith_core::policy::Policy;

use crate::clock;
use crate::orchestrator::{Basic, Client};
use crate::proxysql::{self, Admin, AdminError, Credential, DriveError, ObserveError, Reading, Seen, Version};
use crate::untrusted_text::one_line;

/// Reads credentials again, after one was refused: passwords are changed under a running agent.
pub trait Credentials: std::fmt::Debug {
    /// That of ProxySQL's admin interface.
    ///
    /// # Errors
    /// Its source can't be read.
    fn proxysql(&self) -> Result<Credential, String>;

    /// That of Orchestrator, if it wants one.
    ///
    /// # Errors
    /// Its source can't be read.
    fn orchestrator(&self) -> Result<Option<Basic>, String>;
}

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
    #[error("ProxySQL refused a step of the apply ({statement}): {cause}{}; the next tick goes on from there", way_out(.cause))]
    Refused {
        /// Which.
        statement: String,
        /// Its words.
        cause: String,
    },
    /// This version is untested with this program.
    #[error("{}; nothing was changed", Condition::UntestedVersion(.0.clone()))]
    Untested(String),
}

/// What helps where the words of ProxySQL's SQLite don't.
fn way_out(cause: &str) -> &'static str {
    match cause.contains("readonly database") {
        true => ". Its admin interface is read-only: PROXYSQL READWRITE, or admin-read_only=false, lets it write",
        false => "",
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
    credentials: Box<dyn Credentials>,
    admin: Option<Admin>,
    /// ProxySQL's version, as it was at the last connect.
    version: Option<String>,
    /// How the ProxySQL of the last look was read, and that ProxySQL itself where it was given back.
    reading: Option<Reading>,
    known: Option<Seen>,
    owner: String,
}

/// This host's name.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A name to hold the lock in ProxySQL under that no other agent has, now or later.
pub fn owner_of_process() -> String {
    static AGENTS: AtomicU64 = AtomicU64::new(0);
    let nth = AGENTS.fetch_add(1, Ordering::Relaxed);
    let boot_id = clock::boot_id().unwrap_or_default();
    format!("{}:{boot_id}:{}:{}:{nth}", host_name(), std::process::id(), clock::boot_ms())
}

fn untested(version: Option<&str>, is_allowed: bool) -> Option<&str> {
    let is_tried = |version: &str| version.parse::<Version>().is_ok_and(Version::is_tried);
    version.filter(|version| !is_allowed && !is_tried(version))
}

impl Agent {
    /// An agent that goes on from this memory, and holds the lock in ProxySQL under this name.
    pub fn new(
        settings: AgentSettings,
        client: Client,
        credentials: Box<dyn Credentials>,
        memory: Memory,
        owner: String,
    ) -> Self {
        Self { settings, memory, client, credentials, admin: None, version: None, reading: None, known: None, owner }
    }

    /// Looks and decides; writes nothing, keeps nothing.
    ///
    /// # Errors
    /// ProxySQL could not be read. The lease is kept up all the same.
    pub async fn look(&mut self, orders: Orders) -> Result<(Observed, Decision), TickError> {
        let proxy = self.observe().await;
        let leader = self.ask_leader(proxy.as_ref().ok().map(|seen| &seen.view)).await;
        let proxy = match (&leader, proxy) {
            // An answer that does not come takes seconds: what another agent or an operator did meanwhile counts.
            (
                LeaderView::Leaderless | LeaderView::Blind(_) | LeaderView::Conflict(_) | LeaderView::Silent(_),
                Ok(seen),
            ) => {
                self.known = Some(seen.reading.of(seen.view));
                self.observe().await
            }
            (_, proxy) => proxy,
        };
        let proxy = match proxy {
            Ok(proxy) => proxy,
            Err(error) => return Err(self.unseen(&leader, error)),
        };
        let mut fresh = proxy.reading.fresh;
        self.reading = Some(proxy.reading);
        let mut observed = Observed { proxy: proxy.view, leader, orders };
        loop {
            let decision = decide(&observed, &self.memory, &self.settings.policy, clock::boot_ms());
            if fresh || !decision.plan.changes_rows() {
                return Ok((observed, decision));
            }
            // Nothing is changed on the strength of what was read before.
            fresh = true;
            self.known = None;
            let anew = match self.observe().await {
                Ok(anew) => anew,
                Err(error) => return Err(self.unseen(&observed.leader, error)),
            };
            self.reading = Some(anew.reading);
            observed.proxy = anew.view;
        }
    }

    /// A ProxySQL that is down must not cost the lease: it would be isolated when it is back (I9).
    fn unseen(&mut self, leader: &LeaderView, error: TickError) -> TickError {
        self.admin = None;
        let unseen = AtProxy { may_isolate: false, lease: None };
        advance(&mut self.memory.lease, leader, unseen, &self.settings.policy, clock::boot_ms());
        error
    }

    /// Gives back what a look saw of ProxySQL: the next one reads it again only if something can have changed.
    pub fn give_back(&mut self, proxy: ProxyView) {
        self.known = self.reading.take().map(|reading| reading.of(proxy));
    }

    /// Asks Orchestrator what this ProxySQL's decision needs; if it refuses the password, once more with one that is
    /// read again (design §7).
    async fn ask_leader(&mut self, proxy: Option<&ProxyView>) -> LeaderView {
        let leader = self.ask_leader_once(proxy).await;
        if !self.client.refused() {
            return leader;
        }
        match self.credentials.orchestrator() {
            Ok(auth) => self.client.set_auth(auth),
            Err(error) => {
                let LeaderView::Blind(why) = leader else { return leader };
                return LeaderView::Blind(format!("{why}; and the password can't be read again: {error}"));
            }
        }
        self.ask_leader_once(proxy).await
    }

    async fn ask_leader_once(&mut self, proxy: Option<&ProxyView>) -> LeaderView {
        let (policy, memory) = (&self.settings.policy, &self.memory);
        let ask = |leader: &str, downtimes: &[_]| match proxy {
            Some(proxy) => leader_query(proxy, memory, leader, downtimes, policy, clock::boot_ms()),
            None => LeaderQuery { history: false, instances: false, backing: true },
        };
        self.client.look(clock::boot_ms, ask, &memory.history.progress).await
    }

    /// One tick. `keep` saves the memory before anything is changed.
    ///
    /// # Errors
    /// ProxySQL could not be read: nothing was decided.
    pub async fn tick(&mut self, orders: Orders, mut keep: impl FnMut(&Memory) -> bool) -> Result<Tick, TickError> {
        let was_armed = self.memory.lease.armed;
        let (observed, decision) = match self.look(orders).await {
            Ok(seen) => seen,
            Err(error) => {
                keep(&self.memory);
                return Err(error);
            }
        };
        self.memory = decision.memory.clone();
        if !keep(&self.memory) {
            // What can't be kept can't be armed: a restart would not know of it (design §7).
            self.memory.lease.armed = was_armed;
        }
        let mut tick = Tick { observed, decision, outcome: None, error: None };
        if tick.decision.plan.is_empty() || self.settings.observe_only || self.untested_version().is_some() {
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

    async fn observe(&mut self) -> Result<Seen, TickError> {
        let kept = self.admin.is_some();
        match self.observe_once().await {
            // A kept connection that ProxySQL closed meanwhile, by a restart say: once more on a new one.
            Err(ObserveError::Admin(AdminError::Lost { .. })) if kept => {
                self.admin = None;
                Ok(self.observe_once().await?)
            }
            Err(ObserveError::Admin(error @ AdminError::AccessDenied { .. })) => {
                // Not readable any more: what ProxySQL said is the error to show. The same password is tried once more
                // too: right after its start ProxySQL 2.7.1 was seen to refuse a good one.
                let Ok(credential) = self.credentials.proxysql() else { return Err(ObserveError::from(error).into()) };
                self.settings.proxy.credential = credential;
                Ok(self.observe_once().await?)
            }
            other => Ok(other?),
        }
    }

    async fn observe_once(&mut self) -> Result<Seen, ObserveError> {
        let mut admin = match self.admin.take() {
            Some(admin) => admin,
            None => {
                let mut admin = Admin::connect(&self.settings.proxy).await?;
                self.version = Some(proxysql::version(&mut admin).await?);
                admin
            }
        };
        let (known, now_ms) = (self.known.take(), clock::boot_ms());
        let seen = proxysql::observe(&mut admin, &self.settings.policy, &self.owner, known, now_ms).await?;
        self.admin = Some(admin);
        Ok(seen)
    }

    /// Carries a decision's plan out on this ProxySQL.
    ///
    /// # Errors
    /// The connection broke, the version was never tried, or it took too long.
    pub async fn apply(&mut self, decision: &Decision) -> Result<Outcome, TickError> {
        let admin = self.admin.as_mut().ok_or(DriveError::Deadline)?;
        if let Some(version) = untested(self.version.as_deref(), self.settings.allow_untested_version) {
            return Err(TickError::Untested(version.to_owned()));
        }
        // One name for all of them: after a lost connection the lock that is left is taken over at once.
        let owner = self.owner.clone();
        let mut log = |statement: &str| tracing::debug!(statement, "apply");
        Ok(proxysql::drive(admin, decision.plan.clone(), owner, clock::boot_ms, &mut log).await?)
    }

    /// ProxySQL's version, once it was reached.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// ProxySQL's version, if this agent changes nothing there because of it.
    pub fn untested_version(&self) -> Option<&str> {
        untested(self.version.as_deref(), self.settings.allow_untested_version)
    }

    /// What needs attention, by what a look saw.
    pub fn conditions(&self, observed: &Observed, decision: &Decision) -> Vec<Condition> {
        let untested = self.untested_version().map(|version| Condition::UntestedVersion(one_line(version)));
        let unverified = self.client.unverified().map(Condition::OrchestratorUnverified);
        let open = proxysql::unverified(&self.settings.proxy.address, self.settings.proxy.tls.is_some());
        let open = open.map(Condition::ProxyUnverified);
        let seen = conditions(observed, decision, &self.settings.policy);
        untested.into_iter().chain(unverified).chain(open).chain(seen).collect()
    }

    /// How long ProxySQL's monitor takes at most to move a row again: its interval and its timeout.
    ///
    /// # Errors
    /// ProxySQL could not be asked.
    pub async fn monitor_round(&mut self) -> Result<Duration, TickError> {
        let admin = self.admin.as_mut().ok_or(DriveError::Deadline)?;
        Ok(proxysql::monitor_round(admin).await?)
    }

    /// The sum of connections in use on a node, in managed hostgroups.
    ///
    /// # Errors
    /// ProxySQL could not be read.
    pub async fn connections_used(&mut self, node: &Node) -> Result<u64, TickError> {
        Ok(self.observe().await?.view.conn_used.get(node).copied().unwrap_or(0))
    }

    /// This ProxySQL as it is now.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn proxy_view(&mut self) -> Result<ProxyView, TickError> {
        Ok(self.observe().await?.view)
    }

    /// Says goodbye to ProxySQL.
    pub async fn close(self) {
        if let Some(admin) = self.admin {
            admin.close().await;
        }
    }
}
