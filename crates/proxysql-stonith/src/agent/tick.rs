//! One tick: look, decide, apply. Nothing is changed but through [`decide`] and its plan.

use std::time::Duration;

use stonith_core::apply::Outcome;
use stonith_core::condition::Condition;
use stonith_core::decide::{Decision, LeaderQuery, decide, leader_query};
use stonith_core::lease::{AtProxy, advance};
use stonith_core::memory::Memory;
use stonith_core::node::Node;
use stonith_core::observed::{Observed, ProxyView};
use stonith_core::orchestrator::{BlindCause, LeaderView};
use stonith_core::orders::Orders;

use super::{Agent, untested};
use crate::clock;
use crate::proxysql::{self, Admin, AdminError, DriveError, ObserveError, SeenProxy};
use crate::untrusted_text::one_line;

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
    /// A change was asked for before ProxySQL was looked at, or after the connection was lost.
    #[error("there is no connection to ProxySQL's admin interface at {0}; nothing was changed")]
    NotConnected(Node),
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

impl Agent {
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
                let LeaderView::Blind(BlindCause::Answers(answers)) = leader else { return leader };
                return LeaderView::Blind(BlindCause::PasswordUnread { answers, why: one_line(&error) });
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

    async fn observe(&mut self) -> Result<SeenProxy, TickError> {
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

    async fn observe_once(&mut self) -> Result<SeenProxy, ObserveError> {
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
        let admin = self.admin.as_mut().ok_or_else(|| TickError::NotConnected(self.settings.proxy.address.clone()))?;
        if let Some(version) = untested(self.version.as_deref(), self.settings.allow_untested_version) {
            return Err(TickError::Untested(version.to_owned()));
        }
        // One name for all of them: after a lost connection the lock that is left is taken over at once.
        let owner = self.owner.clone();
        let mut log = |statement: &str| tracing::debug!(statement, "apply");
        Ok(proxysql::drive(admin, decision.plan.clone(), owner, clock::boot_ms, &mut log).await?)
    }

    /// How long ProxySQL's monitor takes at most to move a row again: its interval and its timeout.
    ///
    /// # Errors
    /// ProxySQL could not be asked.
    pub async fn monitor_round(&mut self) -> Result<Duration, TickError> {
        let admin = self.admin.as_mut().ok_or_else(|| TickError::NotConnected(self.settings.proxy.address.clone()))?;
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
}

#[cfg(test)]
mod tests {
    use stonith_core::lease::LeaseState;
    use stonith_core::plan::Plan;

    use super::*;
    use crate::agent::tests::unconnected;

    #[tokio::test]
    async fn what_is_asked_for_without_a_connection_says_so_and_nothing_of_a_deadline() {
        let mut agent = unconnected(Memory::default());
        let decision = Decision {
            verdicts: [].into(),
            plan: Plan { finish: true, ..Plan::default() },
            memory: Memory::default(),
            lease_state: LeaseState::Unarmed,
            unarmed: [].into(),
            unmatched: [].into(),
        };
        for error in [agent.apply(&decision).await.unwrap_err(), agent.monitor_round().await.unwrap_err()] {
            assert!(matches!(error, TickError::NotConnected(_)), "{error:?}");
            let text = error.to_string();
            assert_eq!(
                text,
                "there is no connection to ProxySQL's admin interface at 127.0.0.1:6032; nothing was changed"
            );
        }
    }
}
