//! The lease, arming, and isolation (design §7).
//!
//! The lease is a promise: `isolation.after` past the request of the leader's last answer, all managed rows are soft
//! and their sessions gone. So isolation begins earlier than that, by the largest gap between ticks and the time of an
//! apply.
//!
//! A ProxySQL is cut off if none of its agents has a lease. If one agent isolates it and another has a lease, the
//! second leaves its lease in ProxySQL, and renews it for as long as the first says that it counts on it
//! ([`shared_lease_action`]). Without this conflict no lease is written to ProxySQL.

use std::fmt;

use crate::memory::{LeaseMemory, SteadyLeader};
use crate::observed::SharedLease;
use crate::orchestrator::{Answer, Backing, LeaderView};
use crate::policy::{
    APPLY_MS, ELECTION_MS, IsolationScope, PAUSE_MS, Policy, STEADY_MAJORITY_MS, STEADY_SINGLE_MS, WANTED_EVERY_MS,
    WANTED_FOR_MS,
};

/// The state of this agent's lease after a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeaseState {
    /// A verified leader answered, and there is a lease.
    Led {
        /// Whether the leader is confirmed, so that its good news counts (I8).
        good: bool,
    },
    /// A verified leader answered and is not confirmed. A lease that ran out waits for that.
    Unconfirmed,
    /// No answer counts, and it is too early to isolate.
    Waiting,
    /// No answer counts. The agent never had a lease of a leader that knows the writers, so it does not isolate.
    Unarmed,
    /// No answer counts. Isolation is off, or the kind of answer holds it back (design §7).
    Held,
    /// No answer counts, and another agent of this ProxySQL has a lease for it.
    Shared,
    /// The lease is over, and the managed rows go out of service.
    Isolated,
}

impl LeaseState {
    /// One state for each label.
    pub const ALL: [Self; 7] = [
        Self::Led { good: true },
        Self::Unconfirmed,
        Self::Waiting,
        Self::Unarmed,
        Self::Held,
        Self::Shared,
        Self::Isolated,
    ];

    /// A stable name for programs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Led { .. } => "led",
            Self::Unconfirmed => "unconfirmed",
            Self::Waiting => "waiting",
            Self::Unarmed => "unarmed",
            Self::Held => "held",
            Self::Shared => "shared",
            Self::Isolated => "isolated",
        }
    }
}

impl fmt::Display for LeaseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Led { good: true } => "led",
            Self::Led { good: false } => "led, the leader is not confirmed yet",
            Self::Unconfirmed => "a leader answers but is not confirmed yet; no lease",
            Self::Waiting => "no leader answers; the lease still runs",
            Self::Unarmed => "no leader answers; isolation is not armed",
            Self::Held => "no leader answers; isolation is held back",
            Self::Shared => "no leader answers; another agent has a lease for this ProxySQL",
            Self::Isolated => "isolated",
        })
    }
}

/// The facts of one ProxySQL that concern the lease.
#[derive(Debug, Clone, Copy)]
pub struct AtProxy<'a> {
    /// Whether it may be isolated: it was read in this tick.
    pub may_isolate: bool,
    /// Whether an isolation pauses it, which takes longer than a change of rows.
    pub clustered: bool,
    /// The lease that an agent left in it.
    pub lease: Option<&'a SharedLease>,
}

/// Takes this tick's answer into the memory. Returns the new state of the lease.
pub fn advance(
    memory: &mut LeaseMemory,
    leader: &LeaderView,
    proxy: AtProxy<'_>,
    policy: &Policy,
    now_ms: u64,
) -> LeaseState {
    let lease_state = next_lease_state(memory, leader, proxy, policy, now_ms);
    let was_heard = matches!(lease_state, LeaseState::Led { .. }) || memory.held_ms == Some(now_ms);
    memory.silent_ms = if was_heard { None } else { memory.silent_ms.or(Some(now_ms)) };
    memory.marked_isolated |= lease_state == LeaseState::Isolated;
    lease_state
}

fn next_lease_state(
    memory: &mut LeaseMemory,
    leader: &LeaderView,
    proxy: AtProxy<'_>,
    policy: &Policy,
    now_ms: u64,
) -> LeaseState {
    let AtProxy { may_isolate, clustered, lease } = proxy;
    let answered_for = lease.is_some_and(|lease| !lease.ours && lease.left_ms > 0);
    memory.last_tick_ms = now_ms;
    forget_future_times(memory, now_ms);
    let answer = match leader {
        LeaderView::Led(answer) => Some(answer),
        _ => None,
    };
    remember_leader(memory, answer, now_ms);
    let lease_runs = !memory.isolated
        && memory.asked_ms.is_some_and(|asked| now_ms < asked.saturating_add(policy.isolation_after_ms));
    if let Some(answer) = answer {
        let good = is_confirmed(memory, answer, now_ms);
        let never_had_one = !memory.armed && !memory.isolated;
        if lease_runs || good || never_had_one {
            memory.asked_ms = Some(answer.asked_ms.min(now_ms));
            memory.isolated = false;
            return LeaseState::Led { good };
        }
        // A majority names this leader right now, so it will soon be confirmed or replaced. The agent waits for that.
        if answer.backing == Backing::Majority && !memory.isolated {
            // Silence counts from now. One lost poll after this tick does not isolate (I9).
            memory.held_ms = Some(now_ms);
            return LeaseState::Unconfirmed;
        }
    }
    if memory.isolated && may_isolate && !answered_for {
        return LeaseState::Isolated;
    }
    // The other agent lets the nodes back. From then on this agent isolates only as it would at any time.
    memory.isolated &= !answered_for;
    // An election of Orchestrator's shows as no leader, as two leaders, or as silence. The first two isolate nobody, and
    // silence only when the lease is over: `isolation.after` is longer than an election (I9).
    let held = match leader {
        LeaderView::Leaderless | LeaderView::Conflict(_) => true,
        LeaderView::Blind(_) => !policy.blind_isolates,
        LeaderView::Led(_) | LeaderView::Silent(_) => false,
    };
    if held {
        // Silence counts from now. One lost poll after this tick does not isolate (I9).
        memory.held_ms = Some(now_ms);
        return LeaseState::Held;
    }
    if !memory.armed {
        return LeaseState::Unarmed;
    }
    if !may_isolate || policy.isolation_scope == IsolationScope::Off {
        return LeaseState::Held;
    }
    let starts_ms = isolation_starts_ms(memory, policy, clustered);
    // Late ticks do not turn one lost poll into an isolation (I9).
    let is_first = memory.silent_ms.is_none_or(|silent| silent == now_ms);
    if now_ms < starts_ms || (is_first && now_ms < starts_ms.saturating_add(policy.tick_ms + APPLY_MS)) {
        return if answer.is_some() { LeaseState::Unconfirmed } else { LeaseState::Waiting };
    }
    if answered_for {
        return LeaseState::Shared;
    }
    memory.isolated = true;
    LeaseState::Isolated
}

/// A time from the future is no lease (design §7).
fn forget_future_times(memory: &mut LeaseMemory, now_ms: u64) {
    memory.asked_ms = memory.asked_ms.filter(|asked| *asked <= now_ms);
    memory.held_ms = memory.held_ms.filter(|held| *held <= now_ms);
    memory.silent_ms = memory.silent_ms.filter(|silent| *silent <= now_ms);
    memory.started_ms = memory.started_ms.min(now_ms);
}

/// The time at which isolation starts, in ms, if no answer counts until then. A pause takes longer than a change of
/// rows, so it starts earlier, but never as early as an election ends (I9).
pub fn isolation_starts_ms(memory: &LeaseMemory, policy: &Policy, clustered: bool) -> u64 {
    let counted_from = match memory.asked_ms {
        None if memory.started_ms == 0 => return 0,
        None => memory.started_ms,
        Some(asked) => asked.max(memory.started_ms),
    };
    let counted_from = counted_from.max(memory.held_ms.unwrap_or(0));
    let before_ms = |takes_ms: u64| policy.isolation_after_ms.saturating_sub(policy.tick_ms).saturating_sub(takes_ms);
    let by_rows_ms = before_ms(APPLY_MS);
    let wait_ms = if clustered { before_ms(PAUSE_MS).max(ELECTION_MS.min(by_rows_ms)) } else { by_rows_ms };
    counted_from.saturating_add(wait_ms)
}

/// The time after which the managed rows are out of service, in ms, if no answer counts from now on. An answer that holds
/// isolation back counts, so this is later for an agent that hears what it cannot use than for one that hears nothing.
pub fn out_in_ms(memory: &LeaseMemory, policy: &Policy, clustered: bool, now_ms: u64) -> u64 {
    let takes_ms = if clustered { PAUSE_MS } else { APPLY_MS };
    let out_ms = isolation_starts_ms(memory, policy, clustered).saturating_add(policy.tick_ms).saturating_add(takes_ms);
    out_ms.saturating_sub(now_ms)
}

/// A change to the lease that agents share through ProxySQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LeaseAction {
    /// Leave or renew this agent's lease.
    Keep {
        /// The time that it is valid for, in ms.
        good_ms: u64,
    },
    /// Say that this agent counts on the other agent's lease.
    Want,
    /// Drop this agent's lease, since no other agent counts on it any more.
    End,
}

/// The change to the lease in ProxySQL that this tick calls for. `isolated_by_others`: rows have isolation markers or
/// there is a note of a pause, and this agent did not isolate.
pub fn shared_lease_action(
    memory: &LeaseMemory,
    lease_state: LeaseState,
    proxy: AtProxy<'_>,
    isolated_by_others: bool,
    policy: &Policy,
    now_ms: u64,
) -> Option<LeaseAction> {
    let lease = proxy.lease;
    match lease_state {
        LeaseState::Led { .. } if memory.armed => {}
        LeaseState::Shared => {
            return lease.filter(|lease| lease.unwanted_ms >= WANTED_EVERY_MS).map(|_| LeaseAction::Want);
        }
        _ => return None,
    }
    let good_ms = isolation_starts_ms(memory, policy, proxy.clustered).saturating_sub(now_ms);
    let keep = (good_ms >= 1_000).then_some(LeaseAction::Keep { good_ms });
    match lease {
        Some(lease) if lease.ours && !isolated_by_others && lease.unwanted_ms >= WANTED_FOR_MS => {
            Some(LeaseAction::End)
        }
        Some(lease) if lease.ours => keep.filter(|_| lease.left_ms < policy.tick_ms.saturating_mul(2) + APPLY_MS),
        Some(lease) if lease.left_ms > 0 => None,
        _ => keep.filter(|_| isolated_by_others),
    }
}

fn remember_leader(memory: &mut LeaseMemory, answer: Option<&Answer>, now_ms: u64) {
    memory.leader = answer.map(|answer| match memory.leader.take() {
        Some(steady) if steady.name == answer.leader && steady.since_ms <= now_ms => steady,
        _ => SteadyLeader { name: answer.leader.clone(), since_ms: now_ms },
    });
}

fn is_confirmed(memory: &LeaseMemory, answer: &Answer, now_ms: u64) -> bool {
    let steady_ms = memory.leader.as_ref().map_or(0, |leader| now_ms - leader.since_ms);
    match answer.backing {
        Backing::Majority => steady_ms >= STEADY_MAJORITY_MS,
        Backing::Single => steady_ms >= STEADY_SINGLE_MS,
        Backing::Unconfirmed => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrator::SilentCause;

    const START_MS: u64 = 100_000;

    fn armed() -> LeaseMemory {
        let asked = Some(START_MS);
        LeaseMemory {
            armed: true,
            asked_ms: asked,
            started_ms: 1,
            silent_ms: Some(START_MS + 1),
            ..LeaseMemory::default()
        }
    }

    fn state_after(leader: &LeaderView, after_ms: u64) -> LeaseState {
        let proxy = AtProxy { may_isolate: true, clustered: false, lease: None };
        advance(&mut armed(), leader, proxy, &Policy::default(), START_MS + after_ms)
    }

    #[test]
    fn a_lease_that_runs_is_renewed_by_any_answer_and_one_that_ran_out_is_not() {
        let answer = Answer {
            leader: "orc1".to_owned(),
            asked_ms: START_MS,
            date_s: 0,
            backing: Backing::Majority,
            downtimes: vec![],
            history: None,
            instances: None,
            hooks: None,
            skipped: Vec::new(),
        };
        let led = LeaderView::Led(answer);
        let after_ms = Policy::default().isolation_after_ms;
        assert_eq!(state_after(&led, after_ms - 1), LeaseState::Led { good: false });
        assert_eq!(state_after(&led, after_ms), LeaseState::Unconfirmed, "a new leader must be the same for a while");
    }

    #[test]
    fn where_it_stands_is_said_in_words() {
        assert_eq!(LeaseState::Isolated.to_string(), "isolated");
        assert_eq!(LeaseState::Led { good: false }.to_string(), "led, the leader is not confirmed yet");
    }

    #[test]
    fn an_isolation_begins_at_its_time_and_after_a_host_boot_at_once() {
        let starts_ms = isolation_starts_ms(&armed(), &Policy::default(), false);
        let silent = LeaderView::Silent(SilentCause::default());
        assert_eq!(state_after(&silent, starts_ms - START_MS - 1), LeaseState::Waiting);
        assert_eq!(state_after(&silent, starts_ms - START_MS), LeaseState::Isolated);
        let booted = LeaseMemory { asked_ms: None, started_ms: 0, ..armed() };
        assert_eq!(isolation_starts_ms(&booted, &Policy::default(), false), 0);
    }

    #[test]
    fn what_holds_an_isolation_back_puts_off_the_time_when_the_rows_are_out() {
        let (policy, now_ms) = (Policy::default(), START_MS + 4_000);
        let out_in = |memory: &LeaseMemory| out_in_ms(memory, &policy, false, now_ms);
        assert_eq!(out_in(&armed()), policy.isolation_after_ms - 4_000);
        let mut held = armed();
        let proxy = AtProxy { may_isolate: true, clustered: false, lease: None };
        assert_eq!(advance(&mut held, &LeaderView::Leaderless, proxy, &policy, now_ms), LeaseState::Held);
        assert_eq!(out_in(&held), policy.isolation_after_ms);
        let restarted = LeaseMemory { started_ms: now_ms - 1_000, ..armed() };
        assert_eq!(out_in(&restarted), policy.isolation_after_ms - 1_000);
    }

    #[test]
    fn the_first_lost_poll_of_late_ticks_isolates_a_tick_and_an_apply_later() {
        let policy = Policy::default();
        let after_ms = isolation_starts_ms(&armed(), &policy, false) - START_MS + policy.tick_ms + APPLY_MS;
        let first_lost = |after_ms| {
            let mut memory = LeaseMemory { silent_ms: None, ..armed() };
            let proxy = AtProxy { may_isolate: true, clustered: false, lease: None };
            advance(&mut memory, &LeaderView::Silent(SilentCause::default()), proxy, &policy, START_MS + after_ms)
        };
        assert_eq!(first_lost(after_ms - 1), LeaseState::Waiting);
        assert_eq!(first_lost(after_ms), LeaseState::Isolated);
    }

    #[test]
    fn an_isolated_agent_that_another_answers_for_is_isolated_no_more() {
        let lease = SharedLease { owner: "a".to_owned(), ours: false, left_ms: 5_000, unwanted_ms: 0 };
        let mut memory = LeaseMemory { isolated: true, ..armed() };
        let proxy = AtProxy { may_isolate: true, clustered: false, lease: Some(&lease) };
        let silent = LeaderView::Silent(SilentCause::default());
        assert_eq!(advance(&mut memory, &silent, proxy, &Policy::default(), START_MS + 60_000), LeaseState::Shared);
        assert!(!memory.isolated);
    }

    #[test]
    fn a_lease_is_left_where_it_is_missed_by_an_agent_that_has_one_and_kept_up_in_time() {
        let policy = Policy::default();
        let renew_ms = policy.tick_ms * 2 + APPLY_MS;
        let action = |memory: &LeaseMemory, ours, left_ms, isolated_by_others| {
            let lease = SharedLease { owner: "a".to_owned(), ours, left_ms, unwanted_ms: 0 };
            shared_lease_action(
                memory,
                LeaseState::Led { good: true },
                AtProxy { may_isolate: true, clustered: false, lease: Some(&lease) },
                isolated_by_others,
                &policy,
                START_MS,
            )
        };
        let keep = Some(LeaseAction::Keep { good_ms: isolation_starts_ms(&armed(), &policy, false) - START_MS });
        assert_eq!(action(&armed(), false, 0, true), keep, "the other agent's lease is over");
        assert_eq!(action(&armed(), false, 1, true), None, "another agent has a lease");
        assert_eq!(action(&armed(), false, 0, false), None, "nobody is isolated");
        assert_eq!(action(&armed(), true, renew_ms - 1, false), keep);
        assert_eq!(action(&armed(), true, renew_ms, false), None, "valid for long enough");
        assert_eq!(action(&LeaseMemory { armed: false, ..armed() }, false, 0, true), None, "never had a lease");
    }
}
