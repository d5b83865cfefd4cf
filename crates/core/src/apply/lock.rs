//! The lock in ProxySQL, by which at most one applier works there at a time (I12).

use super::{Reply, Statement};

/// The most attempts at a lock that vanishes before it is read.
const LOCK_TRIES_MAX: u32 = 3;

/// What comes of a reply about the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LockStep {
    /// The lock is this applier's.
    Held,
    /// This statement comes next, in this attempt.
    Ask(Statement, u32),
    /// The lock is another applier's.
    Busy(String),
}

/// The next step after a reply to a statement about the lock. The first statement is [`Statement::TakeLock`].
pub(crate) fn next(owner: &str, tries: u32, got: Option<(Statement, Reply)>) -> LockStep {
    let owner = owner.to_owned();
    match got {
        Some((Statement::TakeLock { .. }, Reply::Exists)) => LockStep::Ask(Statement::ReadLock, tries),
        // The takeover changed nothing, since another applier was faster.
        Some((Statement::TakeOverLock { from, .. }, Reply::Changed(0))) => LockStep::Busy(from),
        Some((Statement::TakeLock { .. } | Statement::TakeOverLock { .. }, Reply::Changed(_))) => LockStep::Held,
        Some((_, Reply::Lock(Some(seen)))) if seen.expired || seen.owner == owner => {
            LockStep::Ask(Statement::TakeOverLock { owner, from: seen.owner }, tries)
        }
        Some((_, Reply::Lock(None))) if tries < LOCK_TRIES_MAX => {
            LockStep::Ask(Statement::TakeLock { owner }, tries + 1)
        }
        Some((_, Reply::Lock(Some(seen)))) => LockStep::Busy(seen.owner),
        // No other reply shows that the lock is this applier's.
        _ => LockStep::Busy("unknown".to_owned()),
    }
}
