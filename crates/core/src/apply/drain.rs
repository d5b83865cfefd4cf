//! What a drain lends of ProxySQL's variables, and how that is put back (facts §5).
//!
//! ```text
//! note -> lower in memory -> LOAD -> memory as before -> ... -> LOAD -> drop the note
//! ```
//!
//! A peer of a ProxySQL Cluster copies a member's variables after it has seen the same changed values three times in a row
//! (facts §6). So a drain there lends yet another value each second.
//!
//! After an insert with an auto_increment key ProxySQL keeps a session on its server, for `LAST_INSERT_ID()` in a later
//! statement. During a drain it does so for [`DELAYS_MS`] only. The extended processlist is on meanwhile, since it tells
//! which session has a transaction.
//!
//! **Invariant:** lent values are in memory only between two statements, and never on disk. A note that its drain renews
//! no more is a drain that was cut off, and the next apply puts back what it lent (I10).

use std::ops::RangeInclusive;

use super::{Apply, Statement};

/// The table in `main` that notes the values before a drain.
pub const DRAIN_NAME: &str = "stonith_drain";

/// The times for which a session may stay on its server after an insert while a drain lasts, in ms. The first one is lent
/// first. ProxySQL warns up to 60.
pub const DELAYS_MS: RangeInclusive<u64> = 70..=99;

/// A drain renews its note at least this often, in s. A note that is older than three times that is left over.
pub const DRAIN_RENEWS_S: u64 = 1;

impl Statement {
    /// The statements that lend, in their order. They take every staged variable live, so none may be staged.
    pub const LEND_FOR_DRAIN: [Self; 4] =
        [Self::NoteDrain, Self::LendDrain { delay_ms: *DELAYS_MS.start() }, Self::LoadVariables, Self::PutBackDrain];

    /// The statements that lend again, with another one of [`DELAYS_MS`].
    pub const fn lend_again(delay_ms: u64) -> [Self; 3] {
        [Self::LendDrain { delay_ms }, Self::LoadVariables, Self::PutBackDrain]
    }
}

impl Apply {
    /// Puts back what a drain lent that was cut off. `staged` other variables are staged: if any, they must not go live,
    /// and the lent values end with their LOAD.
    pub(super) fn end_drain(&mut self, staged: u64) {
        self.ask([Statement::PutBackDrain]);
        if staged == 0 {
            self.ask([Statement::LoadVariables]);
        } else {
            self.done.extended_left = true;
        }
        self.ask([Statement::DropDrain]);
        self.done.finished_earlier = true;
    }
}
