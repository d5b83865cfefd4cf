//! `hook pre-failover`: publishes the mark, asks everybody, and waits as [`stonith_core::barrier`] says.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use futures_util::future::join_all;
use stonith_core::barrier::{
    AbortReason, AtProxy, Barrier, Lead, MARK_AGAIN_MS, MARK_S, NeverReason, SelfFence, Step, Unconfirmed,
    lease_wait_ms, longest_wait_ms,
};
use stonith_core::orchestrator::BARRIER;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::agents::{RegisteredAgents, seen_at};
use super::{Failover, Hook, HookError};
use crate::agent::{OneLook, order};
use crate::config::{AgentUrl, Config, Mode, ProxyConfig, duration};
use crate::http::WokenProxy;
use crate::orchestrator::Mark;

/// The pause before something is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// The longest time for which an agent is asked to wait with its answer. It is longer than slow ticks, and shorter than the
/// shortest lease: an agent that says when it is out is asked again before that.
const ASK: Duration = Duration::from_secs(4);

/// What an abort costs (facts §10).
const COST: &str = "Orchestrator starts no other recovery of this cluster for RecoveryPeriodBlockSeconds (an hour by \
                    default) unless an operator acknowledges this one: orchestrator-client -c ack-cluster-recoveries";

/// How the hook ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The failure does not move the primary's role, or the takeover is planned.
    NotNeeded(&'static str),
    /// Orchestrator may promote.
    Proceed(Unconfirmed),
    /// The recovery is aborted.
    Abort(AbortReason),
}

impl Outcome {
    /// Whether Orchestrator goes on.
    pub fn goes_on(&self) -> bool {
        !matches!(self, Self::Abort(_))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNeeded(why) => write!(f, "no barrier: {why}"),
            Self::Proceed(all) if all.is_empty() => write!(f, "every ProxySQL has the fence; the promotion goes on"),
            Self::Proceed(unconfirmed) => {
                write!(f, "the promotion goes on, though writes may still reach the failed node: {unconfirmed}")
            }
            Self::Abort(reason) => write!(f, "the recovery is aborted: {reason}. {COST}"),
        }
    }
}

/// Stands for agents that registered themselves and are not known: nobody has told yet who they are, or nobody can. Each
/// isolates its ProxySQL as the agents of the config do, so the hook waits for its lease.
const REGISTERED: &str = "agents that may have registered";

/// What came back.
enum Event {
    /// The leader lists the mark.
    Published,
    /// The agents that registered themselves, and why there may be others.
    Registered(Vec<String>, Option<String>),
    /// From an agent: what it says of its ProxySQLs.
    Agent(String, Vec<WokenProxy>),
    /// From a ProxySQL of the config, or of an agent that gave no answer.
    Proxy(String, AtProxy),
}

/// Runs the hook. It ends before the config's deadline, unless something blocks this thread ([`super::watchdog`]).
///
/// # Errors
/// The hook cannot begin.
pub async fn pre_failover(config: &Config, failover: &Failover) -> Result<Outcome, HookError> {
    if failover.is_planned {
        return Ok(Outcome::NotNeeded("the takeover is planned"));
    }
    if !failover.is_of_a_primary {
        return Ok(Outcome::NotNeeded("this failure is no primary's"));
    }
    let hook = Hook::new(config)?;
    let waiting = Waiting { hook: &hook, failover, began: Instant::now(), look: OneLook::default() };
    let (tell, told) = unbounded_channel();
    let outcome = tokio::select! {
        outcome = waiting.wait(told) => outcome,
        never = waiting.ask_all(&tell) => match never {},
    };
    if let Outcome::Abort(_) = &outcome {
        hook.take_back(&failover.failed).await;
    }
    Ok(outcome)
}

/// One run of the hook.
struct Waiting<'h> {
    hook: &'h Hook<'h>,
    failover: &'h Failover,
    began: Instant,
    /// The first fence on each ProxySQL rests on one look at Orchestrator.
    look: OneLook,
}

impl Waiting<'_> {
    fn now_ms(&self) -> u64 {
        duration::millis(self.began.elapsed())
    }

    /// The end of the wait.
    fn longest(&self) -> Duration {
        let barrier = &self.hook.config.barrier;
        Duration::from_millis(longest_wait_ms(duration::millis(barrier.deadline), barrier.on_unconfirmed))
    }

    fn left(&self) -> Duration {
        self.longest().saturating_sub(self.began.elapsed())
    }

    /// When an agent that does not answer is out by itself, by the config.
    fn silent_agent(&self) -> SelfFence {
        let config = self.hook.config;
        SelfFence::After(lease_wait_ms(duration::millis(config.barrier.lease), config.tick_ms(Mode::Daemon)))
    }

    /// When a ProxySQL of the config is out without the hook.
    fn by_itself(&self, proxy: &ProxyConfig) -> SelfFence {
        let config = self.hook.config;
        match config.policy(proxy, Mode::Once).ok().filter(|_| config.barrier.guarded) {
            Some(policy) => SelfFence::After(lease_wait_ms(policy.isolation_after_ms, policy.tick_ms)),
            None => SelfFence::Never(NeverReason::Unguarded),
        }
    }

    async fn wait(&self, mut told: UnboundedReceiver<Event>) -> Outcome {
        let config = self.hook.config;
        let registered = self.hook.agents.may_register().then(|| REGISTERED.to_owned());
        let agents = self.hook.agents.of_config().iter().map(name_of).chain(registered);
        let agents = agents.map(|name| (name, self.silent_agent()));
        let own = config.proxies.iter().map(|proxy| (proxy.address.to_string(), self.by_itself(proxy)));
        let deadline_ms = duration::millis(self.longest());
        let mut barrier = Barrier::new(agents.chain(own), deadline_ms, config.barrier.on_unconfirmed);
        loop {
            match barrier.next(self.now_ms()) {
                Step::Wait { until_ms } => {
                    let until = self.began + Duration::from_millis(until_ms);
                    tokio::select! {
                        Some(event) = told.recv() => self.take(&mut barrier, event),
                        () = sleep_until(until) => {}
                    }
                }
                Step::CheckLead => barrier.led(self.lead().await),
                Step::Proceed(unconfirmed) => return Outcome::Proceed(unconfirmed),
                Step::Abort(reason) => return Outcome::Abort(reason),
            }
        }
    }

    fn take(&self, barrier: &mut Barrier, event: Event) {
        match event {
            Event::Published => barrier.published(self.now_ms()),
            Event::Registered(agents, others) => {
                let agents = agents.into_iter().map(|name| (name, AtProxy::Silent(self.silent_agent())));
                let others = others.map(|why| (REGISTERED.to_owned(), AtProxy::NotYet(self.silent_agent(), why)));
                barrier.answered_for(REGISTERED, agents.chain(others).collect());
            }
            Event::Agent(agent, proxies) => {
                let by_lease = |within_ms, in_ms| barrier.by_lease(within_ms, in_ms, self.now_ms());
                let seen = |at: &WokenProxy| (format!("{} of {agent}", at.proxysql), seen_at(at, by_lease));
                let proxies = proxies.iter().map(seen).collect();
                barrier.answered_for(&agent, proxies);
            }
            Event::Proxy(name, at) => barrier.answered(&name, at),
        }
    }

    /// Asks whether this Orchestrator leads, within what is left.
    async fn lead(&self) -> Lead {
        let asked = self.hook.writer.lead_of(self.failover.orchestrator_host.as_deref(), || self.now_ms());
        let lead = timeout(self.left().max(AGAIN), asked).await.unwrap_or(Lead::Unknown);
        if lead == Lead::Unknown {
            sleep(AGAIN.min(self.left())).await;
        }
        lead
    }

    /// Asks everybody, again and again.
    async fn ask_all(&self, tell: &UnboundedSender<Event>) -> Infallible {
        let (tried, mut once) = watch::channel(false);
        let asking = async {
            // An agent that is woken before the mark is listed sees nothing of it.
            let _ = once.wait_for(|tried| *tried).await;
            let of_config = join_all(self.hook.agents.of_config().iter().map(|url| self.ask_agent(url, tell)));
            tokio::join!(of_config, self.ask_registered(tell));
        };
        let fences = join_all(self.hook.config.proxies.iter().map(|proxy| self.fence(proxy, tell)));
        tokio::join!(self.publish(tell, &tried), asking, fences).0
    }

    /// Publishes the mark, and again for as long as the hook waits, so that it outlasts the wait.
    async fn publish(&self, tell: &UnboundedSender<Event>, tried: &watch::Sender<bool>) -> Infallible {
        let node = self.failover.failed.clone();
        let mark = Mark { node, owner: self.failover.recovery.clone(), reason: BARRIER, seconds: MARK_S };
        let mut said = String::new();
        loop {
            let again = match self.hook.writer.begin(&mark).await {
                Ok(()) => {
                    let _ = tell.send(Event::Published);
                    Duration::from_millis(MARK_AGAIN_MS)
                }
                Err(error) => {
                    let text = error.to_string();
                    if text != said {
                        tracing::warn!(node = %mark.node, "the mark is not published: {text}");
                        said = text;
                    }
                    AGAIN
                }
            };
            tried.send_replace(true);
            sleep(again).await;
        }
    }

    /// Asks Orchestrator who registered, until it says so, and then asks them.
    async fn ask_registered(&self, tell: &UnboundedSender<Event>) {
        loop {
            match self.hook.agents.registered(&self.hook.tags, &self.failover.failed).await {
                Ok(RegisteredAgents { urls, others }) => {
                    let _ = tell.send(Event::Registered(urls.iter().map(name_of).collect(), others.clone()));
                    join_all(urls.iter().map(|url| self.ask_agent(url, tell))).await;
                    return;
                }
                Err(error) => {
                    let at = AtProxy::NotYet(self.silent_agent(), error.to_string());
                    let _ = tell.send(Event::Proxy(REGISTERED.to_owned(), at));
                }
            }
            sleep(AGAIN).await;
        }
    }

    async fn ask_agent(&self, url: &AgentUrl, tell: &UnboundedSender<Event>) {
        loop {
            // An agent that hears Orchestrator and cannot fence says so in time: nobody may take its lease for over.
            match self.hook.agents.fenced_at(url, &self.failover.failed, self.left().min(ASK)).await {
                Ok(answer) => {
                    let is_done = answer.proxies.iter().all(|at| is_final(&seen_at(at, |_, _| SelfFence::After(0))));
                    let _ = tell.send(Event::Agent(name_of(url), answer.proxies));
                    if is_done {
                        return;
                    }
                }
                Err(error) => {
                    let at = AtProxy::NotYet(self.silent_agent(), error.to_string());
                    let _ = tell.send(Event::Proxy(name_of(url), at));
                }
            }
            sleep(AGAIN).await;
        }
    }

    async fn fence(&self, proxy: &ProxyConfig, tell: &UnboundedSender<Event>) {
        let (config, Failover { failed, recovery, .. }) = (self.hook.config, self.failover);
        let mut look = Some(self.look.clone());
        loop {
            let at =
                order::fence_for_barrier(config, proxy, failed, recovery, self.by_itself(proxy), look.take()).await;
            let is_done = is_final(&at);
            let _ = tell.send(Event::Proxy(proxy.address.to_string(), at));
            if is_done {
                return;
            }
            sleep(AGAIN).await;
        }
    }
}

/// Whether asking again changes nothing.
fn is_final(at: &AtProxy) -> bool {
    matches!(at, AtProxy::Fenced | AtProxy::Refused(_))
}

fn name_of(url: &AgentUrl) -> String {
    format!("agent {url}")
}
