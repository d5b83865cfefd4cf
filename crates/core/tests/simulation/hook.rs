//! Orchestrator's hook before a promotion, as the program runs it: core's own [`Barrier`] on virtual time (design §5.7).

use stonith_core::barrier::{
    AtProxy, Barrier, Lead, MARK_AGAIN_MS, NeverReason, OnUnconfirmed, SelfFence, Step, lease_wait_ms, longest_wait_ms,
};
use stonith_core::lease::out_in_ms;
use stonith_core::policy::Policy;

use super::agent::Agent;
use super::event::What;
use super::rng::Rng;
use super::sabotage::Sabotage;

/// The pause before the hook tries or asks again, ms.
const AGAIN_MS: u64 = 200;

/// The hooks of a seed's Orchestrator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hooks {
    pub on_unconfirmed: OnUnconfirmed,
    pub deadline_ms: u64,
    /// The leader takes the mark so late.
    pub publishes_after_ms: u64,
    /// The hook never reaches this agent.
    pub unreached: Option<usize>,
    /// The hooks after a failover run too.
    pub after: bool,
    /// What happens in each barrier, so long after the hook's begin, and for how long.
    pub befalls: Option<(u64, u64, Befalls)>,
}

/// What can befall a recovery that waits for its hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Befalls {
    LeaderKilled,
    LeaderDeposed,
    Election,
    Silent(usize),
    Blind(usize),
    Crash(usize),
    PrimaryReturns,
}

impl Befalls {
    pub fn what(self, ms: u64, primary: usize) -> What {
        let short_ms = ms % 4_000;
        match self {
            Self::LeaderKilled => What::LeaderKilled { ms: short_ms },
            Self::LeaderDeposed => What::LeaderDeposed { ms: short_ms.min(1_000) },
            Self::Election => What::Election { ms: short_ms },
            Self::Silent(agent) => What::Silent { agent, ms },
            Self::Blind(agent) => What::Blind { agent, ms },
            Self::Crash(agent) => What::Crash { agent, ms: short_ms },
            Self::PrimaryReturns => What::Returns(primary),
        }
    }
}

impl Hooks {
    /// In half of the seeds.
    pub fn draw(rng: &mut Rng, agents: usize) -> Option<Self> {
        let on_unconfirmed = if rng.one_in(2) { OnUnconfirmed::Abort } else { OnUnconfirmed::Proceed };
        let publishes_after_ms = if rng.one_in(3) { rng.between(300, 8_000) } else { rng.between(20, 300) };
        let agent = rng.below(agents);
        let befalls = [
            Befalls::LeaderKilled,
            Befalls::LeaderDeposed,
            Befalls::Election,
            Befalls::Silent(agent),
            Befalls::Silent(agent),
            Befalls::Blind(agent),
            Befalls::Crash(agent),
            Befalls::PrimaryReturns,
        ][rng.below(8)];
        let befalls = (rng.between(0, publishes_after_ms + 1_500), rng.between(500, 25_000), befalls);
        let hooks = Self {
            on_unconfirmed,
            deadline_ms: [15_000, 18_000, 25_000][rng.below(3)],
            publishes_after_ms,
            befalls: (!rng.one_in(3)).then_some(befalls),
            unreached: rng.one_in(3).then(|| rng.below(agents)),
            after: rng.one_in(2),
        };
        rng.one_in(2).then_some(hooks)
    }

    pub fn odd(self) -> Vec<&'static str> {
        let odd = [
            (true, "the barrier's hook"),
            (self.on_unconfirmed == OnUnconfirmed::Abort, "a hook that aborts"),
            (self.publishes_after_ms > 300, "a mark that is late"),
            (self.unreached.is_some(), "an agent that the hook never reaches"),
            (self.after, "hooks after the failover"),
            (self.befalls.is_some(), "something that befalls each barrier"),
        ];
        odd.into_iter().filter(|(is_there, _)| *is_there).map(|(_, name)| name).collect()
    }
}

/// One run of `hook pre-failover`.
#[derive(Debug, Clone)]
pub struct Hook {
    hooks: Hooks,
    barrier: Barrier,
    began_ms: u64,
    pub wake_ms: u64,
    publish_ms: u64,
    /// When the leader first listed the mark.
    pub published_ms: Option<u64>,
    /// Since when the agents are asked.
    asks_since_ms: Option<u64>,
    /// The agents that said that they have the fence.
    said: Vec<bool>,
    /// The agents that answered at all.
    answered: Vec<bool>,
}

/// How the hook's wait ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    Promotes(Confirmed),
    Aborts(String),
}

/// What the hook knew when it let Orchestrator go on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Confirmed {
    /// Every agent.
    pub all: bool,
    /// The agents that said nothing of a fence: their lease must have run out.
    pub by_lease: Vec<usize>,
    /// Those of them that the hook never heard of.
    pub unheard: Vec<usize>,
    /// When the mark was first listed.
    pub published_ms: u64,
}

fn name(agent: usize) -> String {
    format!("agent{agent}")
}

impl Hook {
    pub fn new(hooks: Hooks, agents: usize, sabotage: Option<Sabotage>, now_ms: u64) -> Self {
        let Policy { isolation_after_ms, tick_ms, .. } = Policy::default();
        let lease_ms = match sabotage {
            Some(Sabotage::NoLeaseWait) => 0,
            _ => lease_wait_ms(isolation_after_ms, tick_ms),
        };
        let longest_ms = longest_wait_ms(hooks.deadline_ms, hooks.on_unconfirmed);
        let known = (0..agents).map(|agent| (name(agent), SelfFence::After(lease_ms)));
        let barrier = Barrier::new(known, longest_ms, hooks.on_unconfirmed);
        Self {
            hooks,
            barrier,
            began_ms: now_ms,
            wake_ms: now_ms + hooks.publishes_after_ms,
            publish_ms: now_ms + hooks.publishes_after_ms,
            published_ms: None,
            asks_since_ms: None,
            said: vec![false; agents],
            answered: vec![false; agents],
        }
    }

    /// Whether the mark is to be published now.
    pub fn publishes(&self, now_ms: u64) -> bool {
        now_ms >= self.publish_ms
    }

    /// The mark was tried: the leader lists it, or not.
    pub fn tried(&mut self, is_listed: bool, now_ms: u64) {
        self.asks_since_ms.get_or_insert(now_ms);
        self.publish_ms = now_ms + if is_listed { MARK_AGAIN_MS } else { AGAIN_MS };
        if is_listed {
            self.published_ms.get_or_insert(now_ms);
            self.barrier.published(now_ms - self.began_ms);
        }
    }

    /// Wakes the agents and takes in what those say that are reached.
    pub fn asks(&mut self, failed: usize, agents: &mut [Agent], now_ms: u64) {
        let Some(since_ms) = self.asks_since_ms else { return };
        for agent in agents.iter_mut().filter(|agent| self.hooks.unreached != Some(agent.id)) {
            if self.said[agent.id] || agent.is_down() || now_ms < agent.silent_ms {
                continue;
            }
            let seen = agent.seen.clone().filter(|seen| seen.began_ms >= since_ms);
            let Some(seen) = seen else {
                agent.woken(now_ms);
                continue;
            };
            self.answered[agent.id] = true;
            self.said[agent.id] = seen.fenced.contains(&failed);
            if seen.writes {
                agent.woken(now_ms); // an apply is seen by the tick after it
            }
            let by_itself = match agent.memory.lease.armed {
                true => self.by_lease(agent, now_ms),
                false => SelfFence::Never(NeverReason::NotIsolating),
            };
            let at = match self.said[agent.id] {
                true => AtProxy::Fenced,
                false => AtProxy::NotYet(by_itself, "not yet".to_owned()),
            };
            self.barrier.answered(&name(agent.id), at);
        }
    }

    fn by_lease(&self, agent: &Agent, now_ms: u64) -> SelfFence {
        let Policy { isolation_after_ms, tick_ms, .. } = agent.policy;
        let within_ms = lease_wait_ms(isolation_after_ms, tick_ms);
        let out_in_ms = out_in_ms(&agent.memory.lease, &agent.policy, false, agent.boot_ms(now_ms));
        self.barrier.by_lease(within_ms, out_in_ms, now_ms - self.began_ms)
    }

    /// What the hook does next. `lead`: what this Orchestrator says of its lead.
    pub fn goes_on(&mut self, lead: impl Fn() -> Lead, now_ms: u64) -> Option<Ended> {
        let clock_ms = now_ms - self.began_ms;
        for _ in 0..2 {
            match self.barrier.next(clock_ms) {
                Step::Wait { until_ms } => {
                    self.wake_ms = (now_ms + AGAIN_MS).min(self.began_ms + until_ms);
                    return None;
                }
                Step::CheckLead => self.barrier.led(match lead() {
                    Lead::Held(_) => Lead::Held(clock_ms),
                    other => other,
                }),
                Step::Proceed(unconfirmed) => {
                    let by_lease: Vec<usize> = (0..self.said.len()).filter(|agent| !self.said[*agent]).collect();
                    return Some(Ended::Promotes(Confirmed {
                        all: unconfirmed.is_empty(),
                        unheard: by_lease.iter().copied().filter(|agent| !self.answered[*agent]).collect(),
                        by_lease,
                        published_ms: self.published_ms.unwrap_or(now_ms),
                    }));
                }
                Step::Abort(reason) => return Some(Ended::Aborts(reason.to_string())),
            }
        }
        self.wake_ms = now_ms + AGAIN_MS;
        None
    }

    /// By then the hook has ended, whatever was answered.
    pub fn ends_by_ms(&self) -> u64 {
        self.began_ms + self.hooks.deadline_ms
    }
}
