//! One tick: look, decide, apply. Every change comes from [`decide`] and its plan.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stonith_core::apply::Outcome;
use stonith_core::decide::{Decision, LeaderQuery, decide, leader_query};
use stonith_core::lease::{AtProxy, advance};
use stonith_core::lending::{LendingOutcome, OwnRecord};
use stonith_core::memory::{HistoryMemory, Memory};
use stonith_core::node::{Host, Node};
use stonith_core::observed::{Observed, ProxyView};
use stonith_core::orchestrator::{Addresses, BlindCause, LeaderView};
use stonith_core::orders::Orders;
use stonith_core::shared::Shared;
use stonith_core::table::Row;

use super::Agent;
use crate::clock;
use crate::proxysql::{self, Admin, AdminError, DriveError, ObserveError, Probed, SeenProxy, Tls};
use crate::untrusted_text::one_line;

/// Why a tick made no decision, or did not apply its plan.
#[derive(Debug, thiserror::Error)]
pub enum TickError {
    /// ProxySQL could not be read.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The apply broke off.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// ProxySQL refused a statement of the apply.
    #[error("ProxySQL refused a step of the apply ({statement}): {cause}{}; the next tick continues from there", way_out(.cause))]
    Refused {
        /// The statement.
        statement: String,
        /// ProxySQL's error.
        cause: String,
    },
    /// A change was requested before ProxySQL was observed, or after the connection was lost.
    #[error("there is no connection to ProxySQL's admin interface at {0}; nothing was changed")]
    NotConnected(Node),
    /// ProxySQL lacks something that a change needs. A sentence for each thing.
    #[error("{0}. Nothing was changed")]
    Unfit(String),
}

/// What to do, for an error of ProxySQL's SQLite that does not say it.
fn way_out(cause: &str) -> &'static str {
    match cause.contains("readonly database") {
        true => ". Its admin interface is read-only; to allow writes: PROXYSQL READWRITE, or admin-read_only=false",
        false => "",
    }
}

/// What one tick observed, decided and did.
#[derive(Debug)]
pub struct Tick {
    /// What was observed.
    pub observed: Observed,
    /// What was decided.
    pub decision: Decision,
    /// The outcome of the plan; `None` if there was nothing to do or no write is allowed.
    pub outcome: Option<Outcome>,
    /// Why the plan was not applied.
    pub error: Option<TickError>,
    /// How long the apply took, successful or not.
    pub apply_took: Option<Duration>,
}

impl Agent {
    /// Observes and decides; writes nothing and keeps nothing.
    ///
    /// # Errors
    /// ProxySQL could not be read. The leader's answer still renews the lease.
    pub async fn look(&mut self, orders: Orders) -> Result<(Observed, Decision), TickError> {
        let proxy = self.observe().await;
        let addresses = self.resolver.known();
        let leader = self.ask_leader(proxy.as_ref().ok().map(|seen| &seen.view), &addresses).await;
        let proxy = match (&leader, proxy) {
            // Waiting for a missing answer takes seconds. Another agent or an operator may have changed rows meanwhile.
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
        let mut observed = Observed { proxy: proxy.view, leader, orders, addresses };
        loop {
            let decision = decide(&observed, &self.memory, &self.settings.policy, clock::boot_ms());
            if fresh || !decision.plan.changes_rows() {
                self.resolver.resolve(self.hosts_to_resolve(&observed, &decision));
                return Ok((observed, decision));
            }
            // A change must rest on rows that were just read, not on an earlier reading.
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

    /// Renews the lease although ProxySQL is down. Without a lease it would be isolated once it is back (I9).
    fn unseen(&mut self, leader: &LeaderView, error: TickError) -> TickError {
        self.admin = None;
        let unseen = AtProxy { may_isolate: false, clustered: false, lease: None };
        advance(&mut self.memory.lease, leader, unseen, &self.settings.policy, clock::boot_ms());
        error
    }

    /// Returns the view of ProxySQL after a look. The next look reads it again only if something can have changed.
    pub fn give_back(&mut self, proxy: ProxyView) {
        self.known = self.reading.take().map(|reading| reading.of(proxy));
    }

    /// Asks Orchestrator what the decision for this ProxySQL needs, or takes the one look that serves several agents.
    async fn ask_leader(&mut self, proxy: Option<&ProxyView>, addresses: &Addresses) -> LeaderView {
        let Memory { history, hooks, .. } = &self.memory;
        let asks_everything = proxy.is_some() && *history == HistoryMemory::default() && hooks.asked.is_none();
        match self.one_look.clone().filter(|_| asks_everything) {
            Some(look) => look.get_or_init(|| self.ask_leader_itself(proxy, addresses)).await.clone(),
            None => self.ask_leader_itself(proxy, addresses).await,
        }
    }

    /// If Orchestrator refuses the password, it is read again and tried once more (design §7).
    async fn ask_leader_itself(&mut self, proxy: Option<&ProxyView>, addresses: &Addresses) -> LeaderView {
        let leader = self.ask_leader_once(proxy, addresses).await;
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
        self.ask_leader_once(proxy, addresses).await
    }

    async fn ask_leader_once(&mut self, proxy: Option<&ProxyView>, addresses: &Addresses) -> LeaderView {
        let (policy, memory) = (&self.settings.policy, &self.memory);
        let ask = |leader: &str, downtimes: &[_]| match proxy {
            Some(proxy) => leader_query(proxy, memory, addresses, leader, downtimes, policy, clock::boot_ms()),
            None => LeaderQuery { history: false, instances: false, backing: true, hooks: false },
        };
        self.client.look(clock::boot_ms, ask, &memory.history.progress).await
    }

    /// The hosts of all rows and instances, if a row has no instance of its name. Otherwise none.
    fn hosts_to_resolve(&self, observed: &Observed, decision: &Decision) -> BTreeSet<Host> {
        let LeaderView::Led(answer) = &observed.leader else { return BTreeSet::new() };
        let Some(instances) = &answer.instances else { return BTreeSet::new() };
        let (rows, aliases) = (decision.verdicts.keys(), &self.settings.policy.aliases);
        let listed: BTreeSet<&Node> = instances.iter().map(|instance| &instance.node).collect();
        if rows.clone().all(|row| listed.contains(row) || aliases.contains_key(row)) {
            return BTreeSet::new();
        }
        rows.chain(listed).map(|node| node.host.clone()).collect()
    }

    /// The same as [`Self::look`], for who does not look again: names that are being looked up are waited for, but not
    /// long.
    ///
    /// # Errors
    /// As for [`Self::look`].
    pub async fn look_once(&mut self, orders: Orders) -> Result<(Observed, Decision), TickError> {
        let seen = self.look(orders.clone()).await?;
        if self.names_settled().await { self.look(orders).await } else { Ok(seen) }
    }

    /// Whether the first look-up of names has just begun, so that rows may be matched soon.
    pub fn awaits_names(&self) -> bool {
        self.memory.nodes.addresses == Addresses::default() && self.resolver.begins()
    }

    /// Waits for the look-up of names that is under way, but not long. Returns whether a next look can tell more.
    pub async fn names_settled(&mut self) -> bool {
        let awaited = self.awaits_names();
        self.resolver.settle().await;
        awaited || self.resolver.known().tell_more_than(&self.memory.nodes.addresses)
    }

    /// Runs one tick. `keep` saves the memory before anything is changed.
    ///
    /// # Errors
    /// ProxySQL could not be read, so nothing was decided.
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
            // An unsaved memory must not arm isolation: a restart would not know of it (design §7).
            self.memory.lease.armed = was_armed;
        }
        let mut tick = Tick { observed, decision, outcome: None, error: None, apply_took: None };
        if tick.decision.plan.is_empty() || self.settings.observe_only || self.is_refused() {
            return Ok(tick);
        }
        let begun = Instant::now();
        let applied = self.apply(&tick.decision).await;
        tick.apply_took = Some(begun.elapsed());
        match applied {
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
            // ProxySQL closed the kept connection meanwhile, for example by a restart. A new connection is tried once.
            Err(ObserveError::Admin(AdminError::Lost { .. })) if kept => {
                self.admin = None;
                Ok(self.observe_once().await?)
            }
            Err(ObserveError::Admin(error @ AdminError::AccessDenied { .. })) => {
                // If the credential cannot be read again, ProxySQL's refusal is the error to show. An unchanged
                // password is tried once more too: ProxySQL 2.7.1 was seen to refuse a good one right after its start.
                let Ok(credential) = self.credentials.proxysql() else { return Err(ObserveError::from(error).into()) };
                self.settings.proxy.credential = credential;
                Ok(self.observe_once().await?)
            }
            other => Ok(other?),
        }
    }

    async fn observe_once(&mut self) -> Result<SeenProxy, ObserveError> {
        let (mut admin, probed) = match (self.admin.take(), self.probed.clone()) {
            (Some(admin), Some(probed)) => (admin, probed),
            _ => self.connect().await?,
        };
        let (known, now_ms) = (self.known.take(), clock::boot_ms());
        let seen = proxysql::observe(&mut admin, &probed, &self.settings.policy, &self.owner, known, now_ms).await?;
        self.admin = Some(admin);
        Ok(seen)
    }

    /// Connects, and finds out what ProxySQL can do.
    async fn connect(&mut self) -> Result<(Admin, Arc<Probed>), ObserveError> {
        self.settings.proxy.tls.iter_mut().for_each(Tls::read_again);
        let mut admin = Admin::connect(&self.settings.proxy).await?;
        let mut probed = proxysql::probe(&mut admin, self.settings.accept_lost_edits).await?;
        if self.tries_writing {
            proxysql::try_writing(&mut admin, &mut probed, &self.owner).await?;
        }
        let probed = Arc::new(probed);
        self.probed = Some(probed.clone());
        Ok((admin, probed))
    }

    /// Applies a decision's plan to this ProxySQL.
    ///
    /// # Errors
    /// The connection broke, ProxySQL lacks something, or the apply took too long.
    pub async fn apply(&mut self, decision: &Decision) -> Result<Outcome, TickError> {
        let (admin, probed, owner) = self.applier()?;
        if let Some(refusal) = probed.refusal() {
            return Err(TickError::Unfit(refusal));
        }
        let mut log = |statement: &str| tracing::debug!(statement, "apply");
        Ok(proxysql::drive(admin, probed, decision.plan.clone(), owner, clock::boot_ms, &mut log).await?)
    }

    /// Changes this program's record in the scheduler's table of this ProxySQL.
    ///
    /// # Errors
    /// The connection broke, or it took too long.
    pub async fn lend_scheduler(&mut self, change: &OwnRecord) -> Result<LendingOutcome, TickError> {
        let (admin, probed, owner) = self.applier()?;
        let mut log = |statement: &str| tracing::debug!(statement, "install");
        Ok(proxysql::drive_lending(admin, probed, change.clone(), owner, clock::boot_ms, &mut log).await?)
    }

    /// The connection for writing, and the lock's owner. That name is the same for every connection, so a lock left by
    /// a lost connection is taken over at once.
    fn applier(&mut self) -> Result<(&mut Admin, &Probed, String), TickError> {
        let (Some(admin), Some(probed)) = (self.admin.as_mut(), self.probed.as_ref()) else {
            return Err(TickError::NotConnected(self.settings.proxy.address.clone()));
        };
        Ok((admin, probed, self.owner.clone()))
    }

    /// The longest time until ProxySQL's monitor can move a row again: its interval plus its timeout.
    ///
    /// # Errors
    /// ProxySQL could not be read.
    pub async fn monitor_round(&mut self) -> Result<Duration, TickError> {
        Ok(proxysql::monitor_round(self.connected()?).await?)
    }

    /// How long a statement waits inside ProxySQL for a server, if it tells.
    ///
    /// # Errors
    /// ProxySQL could not be read.
    pub async fn longest_wait(&mut self) -> Result<Option<Duration>, TickError> {
        Ok(proxysql::longest_wait_ms(self.connected()?).await?.map(Duration::from_millis))
    }

    /// Makes the monitor check every server now. Returns whether it was done.
    ///
    /// # Errors
    /// ProxySQL could not be read or changed.
    pub async fn wake_monitor(&mut self) -> Result<bool, TickError> {
        if self.admin.is_none() {
            self.admin = Some(Admin::connect(&self.settings.proxy).await.map_err(proxysql::ObserveError::from)?);
        }
        Ok(proxysql::wake_monitor(self.connected()?).await?)
    }

    pub(super) fn connected(&mut self) -> Result<&mut Admin, TickError> {
        self.admin.as_mut().ok_or_else(|| TickError::NotConnected(self.settings.proxy.address.clone()))
    }

    /// The connections in use on a node, summed over the managed hostgroups.
    ///
    /// # Errors
    /// ProxySQL could not be read.
    pub async fn connections_used(&mut self, node: &Node) -> Result<u64, TickError> {
        Ok(self.observe().await?.view.conn_used.get(node).copied().unwrap_or(0))
    }

    /// Reads the rows in force now.
    ///
    /// # Errors
    /// ProxySQL could not be read.
    pub async fn runtime(&mut self) -> Result<Shared<Vec<Row>>, TickError> {
        let (admin, probed, _) = self.applier()?;
        Ok(proxysql::runtime(admin, probed).await?)
    }

    /// Reads this ProxySQL now.
    ///
    /// # Errors
    /// ProxySQL could not be read.
    pub async fn proxy_view(&mut self) -> Result<ProxyView, TickError> {
        Ok(self.observe().await?.view)
    }
}

#[cfg(test)]
mod tests {
    use stonith_core::lease::LeaseState;
    use stonith_core::plan::Plan;
    use stonith_core::shared::Shared;

    use super::*;
    use crate::agent::tests::unconnected;

    #[tokio::test]
    async fn what_is_asked_for_without_a_connection_says_so_and_nothing_of_a_deadline() {
        let mut agent = unconnected(Memory::default());
        let decision = Decision {
            verdicts: Shared::default(),
            plan: Plan { finish: true, ..Plan::default() },
            memory: Memory::default(),
            lease_state: LeaseState::Unarmed,
            unarmed: [].into(),
            unmatched: [].into(),
            hooks_are_on: false,
            without_writer: [].into(),
            primaries: None,
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
