//! The wait of Orchestrator's pre-failover hook: which ProxySQL has the fence, whom to wait for, and when to go on
//! (design §5.7).
//!
//! ```text
//! publish the mark -> ask every ProxySQL -> fenced | silent | will not fence -> [wait for a lease] -> lead check -> go on
//! ```
//!
//! **Invariant:** the deadline is the last moment at which [`Barrier::next`] waits, whatever was answered.

use std::fmt;

use crate::list::first_few;
use crate::policy::APPLY_MS;

/// The time for which the hook publishes its mark, in s. A downtimed primary is not recovered (facts §8), so the mark of
/// a hook whose leader died must end soon.
pub const MARK_S: u64 = 20;

/// The hook publishes its mark again after this time, in ms, for as long as it waits.
pub const MARK_AGAIN_MS: u64 = 8_000;

/// A leader that is cut off may answer for this long, in ms. Measured: up to about 1 s (facts §9).
pub const LEADER_STALE_MS: u64 = 1_000;

/// The time after a confirmed publication by which a ProxySQL has the fence by itself, in ms, if its agent runs and
/// nobody hears of it.
///
/// The agent asks a leader at every tick. Either the answer has the mark, and the rows are out one gap and one apply
/// later. Or no leader answers any more, and the rows are out `isolation.after` past the last answer. That answer was
/// asked for before the publication, or at the latest [`LEADER_STALE_MS`] after it, from an old leader that was cut off.
/// The sum of all is later than either.
pub fn lease_wait_ms(isolation_after_ms: u64, gap_ms: u64) -> u64 {
    isolation_after_ms.saturating_add(gap_ms).saturating_add(APPLY_MS).saturating_add(LEADER_STALE_MS)
}

/// The longest time that an abort takes back what was done, in ms.
pub const TAKE_BACK_MS: u64 = 2_000;

/// What is left of the deadline for the last steps, in ms.
const LAST_STEPS_MS: u64 = 500;

/// The longest wait within a deadline, in ms. An abort needs time to take back what was done.
pub fn longest_wait_ms(deadline_ms: u64, on_unconfirmed: OnUnconfirmed) -> u64 {
    let reserve_ms = match on_unconfirmed {
        OnUnconfirmed::Proceed => LAST_STEPS_MS,
        OnUnconfirmed::Abort => TAKE_BACK_MS + LAST_STEPS_MS,
    };
    deadline_ms.saturating_sub(reserve_ms)
}

/// The most unconfirmed ProxySQLs that a text names.
const UNCONFIRMED_SHOWN: usize = 20;

/// Why a ProxySQL never takes itself out of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NeverReason {
    /// Its agent is suspended.
    Suspended,
    /// Its agent only observes.
    Observes,
    /// Its agent's isolation is off or not armed.
    NotIsolating,
    /// Its agent does not reach it.
    Unreached,
    /// The config says of no agent that it guards it.
    Unguarded,
}

impl fmt::Display for NeverReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Suspended => "its agent is suspended",
            Self::Observes => "its agent only observes",
            Self::NotIsolating => "its agent's isolation is off or not armed",
            Self::Unreached => "its agent does not reach it",
            Self::Unguarded => "no agent isolates it",
        })
    }
}

/// When a ProxySQL without a confirmed fence is out of service by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SelfFence {
    /// This long after the publication of the mark, in ms.
    After(u64),
    /// Never.
    Never(NeverReason),
}

/// What is known of the fence on one ProxySQL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AtProxy {
    /// Nothing came back yet.
    Silent(SelfFence),
    /// The fence was not confirmed, and asking again may change that.
    NotYet(SelfFence, String),
    /// The fence will not come, whoever asks.
    Refused(NeverReason),
    /// Runtime shows the node out of service, or has no row of it.
    Fenced,
}

/// What to do about a ProxySQL that has no confirmed fence at the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnUnconfirmed {
    /// Let Orchestrator promote.
    Proceed,
    /// Abort the recovery.
    Abort,
}

/// What the leader check at this Orchestrator came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lead {
    /// It was not asked.
    NotAsked,
    /// It gave no answer that counts.
    Unknown,
    /// It led at this time, in ms.
    Held(u64),
    /// Another node leads.
    Lost,
}

/// The state of one hook's wait. Times are in ms of one clock.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Barrier {
    proxies: Vec<(String, AtProxy)>,
    published_ms: Option<u64>,
    lead: Lead,
    deadline_ms: u64,
    on_unconfirmed: OnUnconfirmed,
}

/// The next step of the hook.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// Go on asking, until this time at most.
    Wait {
        /// The time, in ms.
        until_ms: u64,
    },
    /// The wait for ProxySQLs is over. Ask whether this Orchestrator leads.
    CheckLead,
    /// Exit 0.
    Proceed(Unconfirmed),
    /// Take back what was done, and exit 1.
    Abort(AbortReason),
}

/// The ProxySQLs without a confirmed fence, and why.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Unconfirmed {
    /// Each with what is known of it.
    pub proxies: Vec<String>,
    /// Whether the leader check gave no answer.
    pub lead_unknown: bool,
}

impl Unconfirmed {
    /// Whether everything is confirmed.
    pub fn is_empty(&self) -> bool {
        self.proxies.is_empty() && !self.lead_unknown
    }
}

impl fmt::Display for Unconfirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lead = self.lead_unknown.then(|| "Orchestrator does not say whether it leads".to_owned());
        let all: Vec<_> = self.proxies.iter().chain(&lead).collect();
        f.write_str(&first_few(&all, all.len(), UNCONFIRMED_SHOWN))
    }
}

/// Why the hook aborts the recovery.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AbortReason {
    /// Another Orchestrator leads. It recovers by itself.
    LostLead,
    /// The config wants an abort if something is not confirmed.
    Unconfirmed(Unconfirmed),
}

impl fmt::Display for AbortReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LostLead => write!(f, "this Orchestrator does not lead any more"),
            Self::Unconfirmed(unconfirmed) => write!(f, "{unconfirmed}"),
        }
    }
}

impl Barrier {
    /// Begins with these ProxySQLs. Each is silent until something comes back.
    pub fn new(
        proxies: impl IntoIterator<Item = (String, SelfFence)>,
        deadline_ms: u64,
        on_unconfirmed: OnUnconfirmed,
    ) -> Self {
        let proxies = proxies.into_iter().map(|(name, by_itself)| (name, AtProxy::Silent(by_itself))).collect();
        Self { proxies, published_ms: None, lead: Lead::NotAsked, deadline_ms, on_unconfirmed }
    }

    /// Takes in that the leader lists the mark. `at_ms` is the time when that was confirmed; the first time counts.
    pub fn published(&mut self, at_ms: u64) {
        self.published_ms.get_or_insert(at_ms);
    }

    /// When a ProxySQL is out by itself whose agent said at `now_ms` that its lease puts it out in `out_in_ms` from then.
    /// `within_ms` is the time after the publication by which a marked node is out anyway.
    ///
    /// An agent that hears the leader and cannot fence, or hears what holds its isolation back, says a later time each
    /// time that it is asked. So nobody takes its lease for over.
    pub fn by_lease(&self, within_ms: u64, out_in_ms: u64, now_ms: u64) -> SelfFence {
        let published_ms = self.published_ms.unwrap_or(now_ms);
        SelfFence::After(within_ms.max(now_ms.saturating_sub(published_ms).saturating_add(out_in_ms)))
    }

    /// Takes in what came back from one ProxySQL. A confirmed fence stays confirmed.
    pub fn answered(&mut self, name: &str, at: AtProxy) {
        match self.proxies.iter_mut().find(|(known, _)| known == name) {
            Some((_, AtProxy::Fenced)) => {}
            Some((_, known)) => *known = at,
            None => self.proxies.push((name.to_owned(), at)),
        }
    }

    /// Replaces one name by the ProxySQLs that its agent answers for.
    pub fn answered_for(&mut self, agent: &str, proxies: Vec<(String, AtProxy)>) {
        let was_fenced = |name: &str| self.proxies.iter().any(|(known, at)| known == name && *at == AtProxy::Fenced);
        let proxies: Vec<_> = proxies.into_iter().filter(|(name, _)| !was_fenced(name)).collect();
        self.proxies.retain(|(known, _)| known != agent && !proxies.iter().any(|(name, _)| name == known));
        self.proxies.extend(proxies);
    }

    /// Takes in a leader check.
    pub fn led(&mut self, lead: Lead) {
        self.lead = lead;
    }

    /// The step to take at this time.
    pub fn next(&self, now_ms: u64) -> Step {
        if self.lead == Lead::Lost {
            return Step::Abort(AbortReason::LostLead);
        }
        let is_over = now_ms >= self.deadline_ms;
        let is_open = |at: &AtProxy| !self.is_out(at, now_ms) && !matches!(at, AtProxy::Refused(_));
        if !is_over && self.proxies.iter().any(|(_, at)| is_open(at)) {
            return Step::Wait { until_ms: self.wait_until_ms(now_ms) };
        }
        let lead_unknown = !matches!(self.lead, Lead::Held(_));
        if lead_unknown && (!is_over || self.lead == Lead::NotAsked) {
            return Step::CheckLead;
        }
        let unconfirmed = Unconfirmed { proxies: self.unconfirmed(now_ms), lead_unknown };
        match self.on_unconfirmed {
            OnUnconfirmed::Abort if !unconfirmed.is_empty() => Step::Abort(AbortReason::Unconfirmed(unconfirmed)),
            OnUnconfirmed::Abort | OnUnconfirmed::Proceed => Step::Proceed(unconfirmed),
        }
    }

    /// The ProxySQLs of which nothing shows yet that they are out of service.
    pub fn unconfirmed(&self, now_ms: u64) -> Vec<String> {
        let open = self.proxies.iter().filter(|(_, at)| !self.is_out(at, now_ms));
        open.map(|(name, at)| format!("{name}: {}", why(at))).collect()
    }

    /// Whether a ProxySQL is out of service: it is seen fenced, or its lease must have run out.
    fn is_out(&self, at: &AtProxy, now_ms: u64) -> bool {
        *at == AtProxy::Fenced || self.out_by_ms(at).is_some_and(|out_by_ms| out_by_ms <= now_ms)
    }

    fn out_by_ms(&self, at: &AtProxy) -> Option<u64> {
        match at {
            AtProxy::Silent(SelfFence::After(ms)) | AtProxy::NotYet(SelfFence::After(ms), _) => {
                Some(self.published_ms?.saturating_add(*ms))
            }
            _ => None,
        }
    }

    /// The next time at which a lease runs out, or the deadline.
    fn wait_until_ms(&self, now_ms: u64) -> u64 {
        let ends = self.proxies.iter().filter_map(|(_, at)| self.out_by_ms(at)).filter(|ms| *ms > now_ms);
        ends.min().unwrap_or(u64::MAX).min(self.deadline_ms)
    }
}

fn why(at: &AtProxy) -> String {
    let lease = |by_itself: &SelfFence| match by_itself {
        SelfFence::After(ms) => {
            format!("out by itself {}.{} s after the mark at the latest", ms / 1_000, ms % 1_000 / 100)
        }
        SelfFence::Never(reason) => format!("never out by itself: {reason}"),
    };
    match at {
        AtProxy::Silent(by_itself) => format!("no answer; {}", lease(by_itself)),
        AtProxy::NotYet(by_itself, why) => format!("{why}; {}", lease(by_itself)),
        AtProxy::Refused(reason) => format!("not fenced: {reason}"),
        AtProxy::Fenced => "fenced".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: SelfFence = SelfFence::After(13_000);
    const NEVER: SelfFence = SelfFence::Never(NeverReason::Unguarded);

    fn barrier(by_itself: SelfFence, on_unconfirmed: OnUnconfirmed) -> Barrier {
        let names = ["a", "b"].map(|name| (name.to_owned(), by_itself));
        Barrier::new(names, 15_000, on_unconfirmed)
    }

    fn aborts(step: &Step) -> bool {
        matches!(step, Step::Abort(AbortReason::Unconfirmed(_)))
    }

    #[test]
    fn it_goes_on_once_every_proxy_is_fenced_and_the_lead_holds() {
        let mut barrier = barrier(AFTER, OnUnconfirmed::Abort);
        barrier.published(100);
        barrier.answered("a", AtProxy::Fenced);
        assert_eq!(barrier.next(200), Step::Wait { until_ms: 13_100 });
        barrier.answered("b", AtProxy::Fenced);
        assert_eq!(barrier.next(200), Step::CheckLead);
        barrier.led(Lead::Held(200));
        assert_eq!(barrier.next(201), Step::Proceed(Unconfirmed::default()));
        barrier.answered("b", AtProxy::NotYet(NEVER, "busy".to_owned()));
        assert_eq!(barrier.next(202), Step::Proceed(Unconfirmed::default()), "a confirmed fence stays confirmed");
    }

    #[test]
    fn a_silent_proxy_is_out_once_its_lease_must_have_run_out_since_the_confirmed_publication() {
        let mut barrier = barrier(AFTER, OnUnconfirmed::Abort);
        barrier.led(Lead::Held(0));
        assert_eq!(barrier.next(14_000), Step::Wait { until_ms: 15_000 }, "no publication, no lease to count from");
        barrier.published(1_000);
        barrier.published(9_000);
        assert_eq!(barrier.next(13_999), Step::Wait { until_ms: 14_000 }, "the first publication counts");
        assert_eq!(barrier.next(14_000), Step::Proceed(Unconfirmed::default()));
    }

    #[test]
    fn an_agent_whose_lease_goes_on_is_waited_for_as_long_as_it_does() {
        let mut barrier = barrier(AFTER, OnUnconfirmed::Abort);
        barrier.led(Lead::Held(0));
        barrier.answered("a", AtProxy::Fenced);
        assert_eq!(barrier.by_lease(13_000, 10_000, 500), AFTER, "not published yet");
        barrier.published(1_000);
        for (now_ms, out_in_ms) in [(1_000, 10_000), (4_000, 10_000), (9_000, 10_000), (14_000, 10_000)] {
            let by_itself = barrier.by_lease(13_000, out_in_ms, now_ms);
            let out_ms = 14_000.max(now_ms + out_in_ms);
            assert_eq!(by_itself, SelfFence::After(out_ms - 1_000));
            barrier.answered("b", AtProxy::NotYet(by_itself, "held".to_owned()));
            assert_eq!(barrier.next(now_ms), Step::Wait { until_ms: out_ms.min(15_000) });
        }
        assert!(aborts(&barrier.next(15_000)), "its isolation is held back");
    }

    #[test]
    fn the_deadline_ends_every_wait_and_the_config_decides() {
        for by_itself in [NEVER, SelfFence::After(60_000)] {
            let mut proceeding = barrier(by_itself, OnUnconfirmed::Proceed);
            proceeding.published(0);
            assert_eq!(proceeding.next(14_999), Step::Wait { until_ms: 15_000 });
            assert_eq!(proceeding.next(15_000), Step::CheckLead, "asked once");
            proceeding.led(Lead::Unknown);
            let Step::Proceed(unconfirmed) = proceeding.next(15_000) else { panic!() };
            assert_eq!((unconfirmed.proxies.len(), unconfirmed.lead_unknown), (2, true), "{unconfirmed}");
            let mut strict = barrier(by_itself, OnUnconfirmed::Abort);
            strict.led(Lead::Held(15_000));
            assert!(aborts(&strict.next(15_000)));
        }
    }

    #[test]
    fn a_proxy_that_will_not_fence_is_not_waited_for_and_is_named() {
        let mut barrier = barrier(AFTER, OnUnconfirmed::Proceed);
        barrier.led(Lead::Held(0));
        barrier.answered("a", AtProxy::Fenced);
        barrier.answered("b", AtProxy::Refused(NeverReason::Suspended));
        let Step::Proceed(unconfirmed) = barrier.next(100) else { panic!() };
        assert_eq!(unconfirmed.to_string(), "b: not fenced: its agent is suspended");
        let mut strict = Barrier { on_unconfirmed: OnUnconfirmed::Abort, ..barrier };
        assert!(aborts(&strict.next(100)));
        strict.answered("b", AtProxy::Fenced);
        assert_eq!(strict.next(100), Step::Proceed(Unconfirmed::default()));
    }

    #[test]
    fn a_lost_lead_aborts_whatever_the_config_says() {
        let mut barrier = barrier(AFTER, OnUnconfirmed::Proceed);
        ["a", "b"].into_iter().for_each(|name| barrier.answered(name, AtProxy::Fenced));
        barrier.led(Lead::Lost);
        assert_eq!(barrier.next(0), Step::Abort(AbortReason::LostLead));
    }

    #[test]
    fn a_lead_that_nobody_tells_is_unconfirmed_at_the_deadline() {
        let mut strict = barrier(AFTER, OnUnconfirmed::Abort);
        ["a", "b"].into_iter().for_each(|name| strict.answered(name, AtProxy::Fenced));
        assert_eq!(strict.next(14_999), Step::CheckLead);
        strict.led(Lead::Unknown);
        assert_eq!(strict.next(14_999), Step::CheckLead, "asked again while there is time");
        assert!(aborts(&strict.next(15_000)));
    }

    #[test]
    fn an_agent_answers_for_each_of_its_proxies() {
        let mut barrier = barrier(AFTER, OnUnconfirmed::Abort);
        barrier.led(Lead::Held(0));
        barrier.answered("b", AtProxy::Fenced);
        let of_a = |second| vec![("a1".to_owned(), AtProxy::Fenced), ("a2".to_owned(), second)];
        barrier.answered_for("a", of_a(AtProxy::NotYet(NEVER, "busy".to_owned())));
        assert_eq!(barrier.unconfirmed(0), ["a2: busy; never out by itself: no agent isolates it"]);
        barrier.answered_for("a", of_a(AtProxy::Fenced));
        assert_eq!(barrier.next(0), Step::Proceed(Unconfirmed::default()));
    }

    #[test]
    fn the_wait_for_a_lease_outlasts_the_lease_and_the_way_of_the_mark() {
        let (after_ms, gap_ms) = (10_000, 1_200);
        let wait_ms = lease_wait_ms(after_ms, gap_ms);
        assert_eq!(wait_ms, 13_200);
        assert!(wait_ms >= after_ms + LEADER_STALE_MS && wait_ms >= gap_ms + APPLY_MS + LEADER_STALE_MS);
        const { assert!(MARK_AGAIN_MS * 2 < MARK_S * 1_000, "a publication that fails once leaves no gap") };
    }
}
