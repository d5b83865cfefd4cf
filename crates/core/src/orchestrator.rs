//! The answers of Orchestrator's leader, as data: instances, downtimes and recoveries, and what follows from them.

mod answer;
mod cause;
mod history;
mod identity;
mod instance;
mod joined;
mod recovery;
mod superseded;
mod topology;

pub use answer::{Answer, AnswerPart, Backing, LeaderView, ProxyHooks, SkippedEntry};
pub use cause::{BlindCause, CameBackKind, ConflictCause, Counts, EndpointAnswer, SilentCause};
pub use history::{HistoryProgress, HistoryReading, PAGE_RECORDS, RecoveryHistory, UnderWay};
pub use identity::{Addresses, Identity, UnsureName, in_brackets};
pub use instance::{BARRIER, DOWNTIME_BEGIN_SLACK_S, Downtime, Instance, LOST_IN_RECOVERY, TAKEOVER, downtime_of_each};
pub use recovery::{Analysis, Recovery, uid_ns};
pub use superseded::{NewestRecoveries, supersedes};
pub use topology::{KnownTies, Topology};

#[cfg(test)]
pub(crate) use instance::shown;
