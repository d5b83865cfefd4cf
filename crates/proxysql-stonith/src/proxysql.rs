//! The client of ProxySQL's admin interface: it reads the server tables, and drives an apply over one connection.
//!
//! **Invariant:** only `sql` contains SQL, and every statement goes through [`Admin::query`], which bounds time, rows
//! and bytes. There are no connect-time queries, prepared statements or pools (facts §1).

mod admin;
pub mod answers;
mod drain;
mod drive;
mod error;
mod observe;
mod probe;
mod sql;
mod survey;
mod version;
mod whole_table;

pub use crate::wire::{Answer, ServerCheck, Tls};
pub use admin::{Admin, AdminError, Settings, unverified};
pub use drain::{Holders, Lent, end, holders, lend, longest_wait_ms, put_back, renew, wake_monitor};
pub use drive::{APPLY_DEADLINE, DriveError, LogStatement, drive, drive_lending};
pub use error::ObserveError;
pub use observe::{ReadStamp, SeenProxy, monitor_round, observe, runtime};
pub use probe::{Covered, Lack, LoadCounter, Probed, Writing, probe, try_writing};
pub use sql::{rename_for_people, reschedule_for_people, unschedule_for_people};
pub use survey::{Checked, Differences, SCHEDULER_COMMENT, Scheduled, Survey, survey};
pub use version::{TRIED, Version};
pub use whole_table::{TableError, column_defaults, read_layers};
