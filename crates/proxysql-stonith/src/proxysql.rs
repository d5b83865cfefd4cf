//! ProxySQL's admin interface: reads the server tables, and drives an apply over one plain connection.
//!
//! **Invariant:** SQL is written in `sql` only, and every statement goes through [`Admin::query`]: bounded in time,
//! rows and bytes. No connect-time queries, no prepared statements, no pool (facts §1).

mod admin;
pub mod answers;
mod drive;
mod observe;
mod sql;
mod tls;
mod version;
mod wire;

pub use admin::{Admin, AdminError, Settings, unverified};
pub use drive::{APPLY_DEADLINE, DriveError, LogStatement, drive};
pub use observe::{ObserveError, ReadStamp, SeenProxy, monitor_round, observe, version};
pub use tls::{ServerCheck, Tls};
pub use version::{TRIED, Version};
pub use wire::Answer;
