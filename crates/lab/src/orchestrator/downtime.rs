//! Downtimes. An operator's downtime ends at its time, a recovery's only once the node replicates again (facts §8).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Inner;
use super::answers::{Asked, key, node, shown};
use super::http::Reply;
use super::time::now_s;

/// The reason of a recovery's downtime.
const LOST_IN_RECOVERY: &str = "lost-in-recovery";

const A_YEAR_S: i64 = 365 * 24 * 3600;

/// A downtime: the node must not be recovered.
#[derive(Debug, Clone)]
pub(super) struct Downtime {
    pub(super) reason: String,
    pub(super) owner: String,
    pub(super) begun: Instant,
    length: Duration,
}

impl Downtime {
    /// Makes a downtime that was begun through the API.
    pub(super) fn by_hand(owner: &str, reason: &str, length: Duration) -> Self {
        Self { reason: reason.to_owned(), owner: owner.to_owned(), begun: Instant::now(), length }
    }

    /// Makes a downtime that was begun at the end of a recovery.
    pub(super) fn of_recovery(owner: &str) -> Self {
        Self::by_hand(owner, LOST_IN_RECOVERY, Duration::from_secs(A_YEAR_S.unsigned_abs()))
    }

    /// Whether its end is moved to a year ahead every second. This holds for whoever began it.
    fn is_renewed(&self) -> bool {
        self.reason == LOST_IN_RECOVERY
    }

    pub(super) fn is_over(&self) -> bool {
        !self.is_renewed() && self.begun.elapsed() >= self.length
    }

    /// When it ends, s since 1970.
    pub(super) fn end_s(&self) -> i64 {
        let left = self.length.saturating_sub(self.begun.elapsed());
        let left_s = if self.is_renewed() { A_YEAR_S } else { left.as_secs().try_into().unwrap_or(0) };
        now_s() + left_s
    }
}

/// `60s`, `10m`, `2h`, `1d` or `1w`.
fn length(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        "w" => 7 * 24 * 3600,
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?))
}

impl Inner {
    /// The downtimes of the leader.
    pub(super) fn leader_downtimes(&self) -> Option<&BTreeMap<String, Downtime>> {
        self.leader.map(|leader| &self.members[leader].downtimes)
    }

    /// Answers `begin-downtime`, on all members. Without a length it is also OK, but changes nothing (18-commands).
    pub(super) fn begin_downtime(&mut self, asked: &Asked<'_>) -> Reply {
        let node = match node(asked) {
            Err(refused) => return refused,
            Ok(node) => node,
        };
        let (owner, reason, wanted) = (asked.arg(2), asked.arg(3), asked.arg(4));
        let length = if wanted.is_empty() { Some(Duration::ZERO) } else { length(wanted) };
        let Some(length) = length else { return Reply::error(&format!("Cannot parse simple time: {wanted}")) };
        if !length.is_zero() {
            self.downtime_on_all(&node, &Downtime::by_hand(owner, reason, length));
        }
        Reply::done(&format!("Downtime begun: {}", shown(asked)), &key(asked))
    }

    /// Answers `end-downtime`, on all members.
    pub(super) fn end_downtime(&mut self, asked: &Asked<'_>) -> Reply {
        match node(asked) {
            Err(refused) => refused,
            Ok(node) => {
                self.end_downtime_of(&node);
                Reply::done(&format!("Downtime ended: {}", shown(asked)), &key(asked))
            }
        }
    }

    /// Adds a downtime on all members.
    pub(super) fn downtime_on_all(&mut self, node: &str, downtime: &Downtime) {
        for member in &mut self.members {
            member.downtimes.insert(node.to_owned(), downtime.clone());
        }
    }

    /// Ends a downtime on all members.
    pub(super) fn end_downtime_of(&mut self, node: &str) {
        for member in &mut self.members {
            member.downtimes.remove(node);
        }
    }

    /// Adds a recovery's downtime, on the leader only [16].
    pub(super) fn downtime_on_leader(&mut self, node: &str) {
        let Some(leader) = self.leader else { return };
        let downtime = Downtime::of_recovery(&super::raft::hostname(leader));
        self.members[leader].downtimes.insert(node.to_owned(), downtime);
    }

    /// Ends the downtimes whose time is over.
    pub(super) fn expire_downtimes(&mut self) {
        for member in &mut self.members {
            member.downtimes.retain(|_, downtime| !downtime.is_over());
        }
    }

    /// Ends the downtimes that are over. A recovery's downtime is over after a while, once the node replicates again.
    pub(super) fn end_downtimes(&mut self) {
        self.expire_downtimes();
        let after = self.settings.downtime_ends_after;
        let seen = &self.seen;
        let replicates = |name: &String| seen.get(name).is_some_and(|seen| seen.valid && seen.replicates());
        for member in &mut self.members {
            member.downtimes.retain(|name, downtime| {
                !downtime.is_renewed() || downtime.begun.elapsed() < after || !replicates(name)
            });
        }
    }
}
