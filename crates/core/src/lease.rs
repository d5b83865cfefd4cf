//! The lease, arming, and isolation (DESIGN §7).
//!
//! The lease is a promise: *by* ask + `isolation.after` rows are soft and sessions gone. So isolation begins
//! earlier, by the largest gap between ticks and by what an apply takes.

use std::fmt;

use crate::memory::{Memory, SteadyLeader};
use crate::observed::{Answer, Backing, LeaderView};
use crate::policy::{APPLY_MS, IsolationScope, Policy, STEADY_MAJORITY_MS, STEADY_SINGLE_MS};

/// Where this agent stands towards the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// A verified leader, and a lease. `good`: backed well enough for good news (I8).
    Led {
        /// Good news counts.
        good: bool,
    },
    /// A verified leader, but no lease yet: it takes a confirmed one.
    Unconfirmed,
    /// No answer that counts; the lease still runs.
    Waiting,
    /// Never had a lease that knows the writers: never isolates.
    Unarmed,
    /// No answer that counts, and isolation is off or held back.
    Held,
    /// Out of service.
    Isolated,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Led { good: true } => "led",
            Self::Led { good: false } => "led, not confirmed yet",
            Self::Unconfirmed => "a leader answers, the lease waits for its confirmation",
            Self::Waiting => "no leader, the lease still runs",
            Self::Unarmed => "no leader, not armed",
            Self::Held => "no leader, held",
            Self::Isolated => "isolated",
        })
    }
}

/// Takes this tick's answer into the memory, and says where that leaves us.
pub fn advance(memory: &mut Memory, leader: &LeaderView, may_isolate: bool, policy: &Policy, now_ms: u64) -> Standing {
    memory.last_tick_ms = now_ms;
    // A time from the future can't be trusted: no lease.
    memory.lease_asked_ms = memory.lease_asked_ms.filter(|asked| *asked <= now_ms);
    memory.held_ms = memory.held_ms.filter(|held| *held <= now_ms);
    memory.started_ms = memory.started_ms.min(now_ms);
    let answer = match leader {
        LeaderView::Led(answer) => Some(answer),
        _ => None,
    };
    remember_leader(memory, answer, now_ms);
    let lease_runs = !memory.isolated
        && memory.lease_asked_ms.is_some_and(|asked| now_ms < asked.saturating_add(policy.isolation_after_ms));
    if let Some(answer) = answer {
        let good = is_confirmed(memory, answer, now_ms);
        let never_had_one = !memory.armed && !memory.isolated;
        if lease_runs || good || never_had_one {
            memory.lease_asked_ms = Some(answer.asked_ms.min(now_ms));
            memory.isolated = false;
            return Standing::Led { good };
        }
        // A majority that names it right now can't be following a deposed leader for long: wait without isolating.
        if answer.backing == Backing::Majority && !memory.isolated {
            // One lost poll after it must not isolate at once (I9).
            memory.held_ms = Some(now_ms);
            return Standing::Unconfirmed;
        }
    }
    if memory.isolated && may_isolate {
        return Standing::Isolated;
    }
    let held = match leader {
        LeaderView::Leaderless | LeaderView::Conflict(_) => true,
        LeaderView::Blind(_) => !policy.blind_isolates,
        LeaderView::Led(_) | LeaderView::Silent(_) => false,
    };
    if held {
        // One lost poll after it must not isolate at once (I9).
        memory.held_ms = Some(now_ms);
        return Standing::Held;
    }
    if !memory.armed {
        return Standing::Unarmed;
    }
    if !may_isolate || policy.isolation_scope == IsolationScope::Off {
        return Standing::Held;
    }
    if now_ms < isolation_starts_ms(memory, policy) {
        return if answer.is_some() { Standing::Unconfirmed } else { Standing::Waiting };
    }
    memory.isolated = true;
    Standing::Isolated
}

/// When isolation starts, ms, if nothing is heard until then.
pub fn isolation_starts_ms(memory: &Memory, policy: &Policy) -> u64 {
    let counted_from = match memory.lease_asked_ms {
        None if memory.started_ms == 0 => return 0,
        None => memory.started_ms,
        Some(asked) => asked.max(memory.started_ms),
    };
    let counted_from = counted_from.max(memory.held_ms.unwrap_or(0));
    counted_from.saturating_add(policy.isolation_after_ms.saturating_sub(policy.tick_ms).saturating_sub(APPLY_MS))
}

fn remember_leader(memory: &mut Memory, answer: Option<&Answer>, now_ms: u64) {
    memory.leader = answer.map(|answer| match memory.leader.take() {
        Some(steady) if steady.name == answer.leader && steady.since_ms <= now_ms => steady,
        _ => SteadyLeader { name: answer.leader.clone(), since_ms: now_ms },
    });
}

fn is_confirmed(memory: &Memory, answer: &Answer, now_ms: u64) -> bool {
    let steady_ms = memory.leader.as_ref().map_or(0, |leader| now_ms - leader.since_ms);
    match answer.backing {
        Backing::Majority => steady_ms >= STEADY_MAJORITY_MS,
        Backing::Single => steady_ms >= STEADY_SINGLE_MS,
        Backing::Unconfirmed => false,
    }
}
