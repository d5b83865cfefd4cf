//! The lease, arming, and isolation (DESIGN §7).
//!
//! The lease is a promise: *by* ask + `isolation.after` rows are soft and sessions gone. So isolation begins
//! earlier, by the largest gap between ticks and by what an apply takes.
//!
//! A ProxySQL is cut off if none of its agents has a lease. Where one has, and another isolates all the same, the first
//! leaves its lease in ProxySQL and keeps it up for as long as the other says that it counts on it ([`share`]). Without
//! such a quarrel nothing is written.

use std::fmt;

use crate::memory::{Memory, SteadyLeader};
use crate::observed::{Answer, Backing, LeaderView, SharedLease};
use crate::policy::{
    APPLY_MS, IsolationScope, Policy, STEADY_MAJORITY_MS, STEADY_SINGLE_MS, WANTED_EVERY_MS, WANTED_FOR_MS,
};

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
    /// No answer that counts, but another agent of this ProxySQL has a lease, and answers for it.
    Shared,
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
            Self::Shared => "no leader, another agent answers for this ProxySQL",
            Self::Isolated => "isolated",
        })
    }
}

/// What of ProxySQL bears on the lease.
#[derive(Debug, Clone, Copy)]
pub struct AtProxy<'a> {
    /// It may be isolated through its table.
    pub may_isolate: bool,
    /// What an agent left there.
    pub lease: Option<&'a SharedLease>,
}

/// Takes this tick's answer into the memory, and says where that leaves us.
pub fn advance(memory: &mut Memory, leader: &LeaderView, proxy: AtProxy<'_>, policy: &Policy, now_ms: u64) -> Standing {
    let standing = stand(memory, leader, proxy, policy, now_ms);
    let was_heard = matches!(standing, Standing::Led { .. }) || memory.held_ms == Some(now_ms);
    memory.silent_ms = if was_heard { None } else { memory.silent_ms.or(Some(now_ms)) };
    memory.marked_isolated |= standing == Standing::Isolated;
    standing
}

fn stand(memory: &mut Memory, leader: &LeaderView, proxy: AtProxy<'_>, policy: &Policy, now_ms: u64) -> Standing {
    let AtProxy { may_isolate, lease } = proxy;
    let answered_for = lease.is_some_and(|lease| !lease.ours && lease.left_ms > 0);
    memory.last_tick_ms = now_ms;
    // A time from the future can't be trusted: no lease.
    memory.lease_asked_ms = memory.lease_asked_ms.filter(|asked| *asked <= now_ms);
    memory.held_ms = memory.held_ms.filter(|held| *held <= now_ms);
    memory.silent_ms = memory.silent_ms.filter(|silent| *silent <= now_ms);
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
    if memory.isolated && may_isolate && !answered_for {
        return Standing::Isolated;
    }
    // The other lets the nodes back: what takes them away again is what would at any time.
    memory.isolated &= !answered_for;
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
    let starts_ms = isolation_starts_ms(memory, policy);
    // Ticks that come later than they should don't make one lost poll an isolation (I9).
    let is_first = memory.silent_ms.is_none_or(|silent| silent == now_ms);
    if now_ms < starts_ms || (is_first && now_ms < starts_ms.saturating_add(policy.tick_ms + APPLY_MS)) {
        return if answer.is_some() { Standing::Unconfirmed } else { Standing::Waiting };
    }
    if answered_for {
        return Standing::Shared;
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

/// What becomes of the lease that agents share through ProxySQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Share {
    /// Ours is left there, or renewed: good for so long, ms.
    Keep {
        /// How long.
        good_ms: u64,
    },
    /// We count on another's.
    Want,
    /// Nobody counts on ours any more.
    End,
}

/// What to do about the lease in ProxySQL. `isolated_by_others`: rows have isolation markers that can't be ours.
pub fn share(
    memory: &Memory,
    standing: Standing,
    lease: Option<&SharedLease>,
    isolated_by_others: bool,
    policy: &Policy,
    now_ms: u64,
) -> Option<Share> {
    match standing {
        Standing::Led { .. } if memory.armed => {}
        Standing::Shared => {
            return lease.filter(|lease| lease.unwanted_ms >= WANTED_EVERY_MS).map(|_| Share::Want);
        }
        _ => return None,
    }
    let good_ms = isolation_starts_ms(memory, policy).saturating_sub(now_ms);
    let keep = (good_ms >= 1_000).then_some(Share::Keep { good_ms });
    match lease {
        Some(lease) if lease.ours && !isolated_by_others && lease.unwanted_ms >= WANTED_FOR_MS => Some(Share::End),
        Some(lease) if lease.ours => keep.filter(|_| lease.left_ms < policy.tick_ms.saturating_mul(2) + APPLY_MS),
        Some(lease) if lease.left_ms > 0 => None,
        _ => keep.filter(|_| isolated_by_others),
    }
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
