//! What Orchestrator does by itself: polls the nodes, and fails a dead primary over (FACTS §8).

use std::sync::Weak;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{Downtime, Inner, Seen, Shared, lock};
use crate::nodes::{PORT, Process};

/// A primary must be seen dead so often before it is failed over.
const DEAD_POLLS: u32 = 2;

/// A record of a recovery, as recorded; what varies is filled in.
const RECORD: &str = include_str!("recovery.json");

/// Polls until the Orchestrator is gone.
pub(super) async fn poll_nodes(shared: Weak<Shared>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(shared) = shared.upgrade() else { return };
        let mut inner = lock(&shared);
        inner.poll();
        if inner.settings.auto_failover && inner.leader.is_some() {
            inner.fail_over_the_dead();
        }
        inner.end_downtimes();
    }
}

impl Inner {
    /// Looks at every node; one that does not answer keeps its last-known values.
    pub(super) fn poll(&mut self) {
        let servers = self.nodes.lock().clone();
        for (name, server) in servers {
            let answers = server.process == Process::Up;
            if answers {
                self.seen.insert(name, Seen { server, valid: true, seen_at: now_s(), dead_polls: 0 });
            } else if let Some(seen) = self.seen.get_mut(&name) {
                seen.valid = false;
                seen.dead_polls += 1;
            }
        }
    }

    fn fail_over_the_dead(&mut self) {
        let dead = |name: &String| self.seen.get(name).is_some_and(|seen| seen.dead_polls >= DEAD_POLLS);
        let is_recovered =
            |name: &String| self.leader_downtimes().is_some_and(|downtimes| downtimes.contains_key(name));
        let failed: Vec<String> = self.seen.keys().filter(|name| dead(name) && !is_recovered(name)).cloned().collect();
        for failed in failed {
            let replica = |(_, seen): &(&String, &Seen)| {
                seen.valid && seen.server.replicates_from.as_deref() == Some(failed.as_str())
            };
            let is_primary = self.seen[&failed].server.replicates_from.is_none();
            let successor = self.seen.iter().find(replica).map(|(name, _)| name.clone());
            if let (true, Some(successor)) = (is_primary, successor) {
                self.fail_over(&failed, Some(&successor));
            }
        }
    }

    /// A recovery: promotes, writes the record, and downtimes the failed node on the leader only (FACTS §8).
    pub(super) fn fail_over(&mut self, failed: &str, successor: Option<&str>) {
        if let Some(successor) = successor {
            self.nodes.make_primary(successor);
            let replicas: Vec<String> = self
                .nodes
                .lock()
                .iter()
                .filter(|(name, server)| {
                    server.process == Process::Up
                        && name.as_str() != successor
                        && server.replicates_from.as_deref() == Some(failed)
                })
                .map(|(name, _)| name.clone())
                .collect();
            for replica in replicas {
                self.nodes.make_replica(&replica, successor);
            }
            self.record(failed, successor, SystemTime::now());
        }
        self.downtime_on_leader(failed);
        self.poll();
    }

    /// A planned takeover leaves the same record and the same mark.
    pub(super) fn take_over(&mut self, old: &str, new: &str) {
        self.nodes.make_primary(new);
        let replicas: Vec<String> = self.nodes.lock().keys().filter(|name| name.as_str() != new).cloned().collect();
        for replica in replicas {
            let follows = self.nodes.get(&replica).replicates_from.as_deref() == Some(old);
            if replica == old || follows {
                self.nodes.make_replica(&replica, new);
            }
        }
        self.record(old, new, SystemTime::now());
        self.downtime_on_leader(old);
        self.poll();
    }

    /// Writes a record of the recovery history.
    pub(super) fn record(&mut self, failed: &str, successor: &str, at: SystemTime) {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let end = timestamp(i64::try_from(since.as_secs()).unwrap_or(0));
        let key = |name: &str| json!({"Hostname": name, "Port": PORT});
        let mut record: Value = serde_json::from_str(RECORD).unwrap_or_default();
        let alias = super::answers::alias_of(failed);
        record["Id"] = json!(self.history.len() + 1);
        record["UID"] = json!(format!("{}:{:064x}", since.as_nanos(), self.history.len() + 1));
        record["AnalysisEntry"]["AnalyzedInstanceKey"] = key(failed);
        record["AnalysisEntry"]["ClusterDetails"]["ClusterName"] = json!(format!("{failed}:{PORT}"));
        record["AnalysisEntry"]["ClusterDetails"]["ClusterAlias"] = json!(alias);
        record["SuccessorKey"] = key(successor);
        record["RecoveryStartTimestamp"] = json!(end);
        record["RecoveryEndTimestamp"] = json!(end.replace('T', " ").trim_end_matches('Z'));
        self.history.push(record);
    }

    fn downtime_on_leader(&mut self, node: &str) {
        let Some(leader) = self.leader else { return };
        let owner = format!("orc{}", leader + 1);
        let downtime = Downtime { reason: "lost-in-recovery".to_owned(), owner, begun: Instant::now() };
        self.members[leader].downtimes.insert(node.to_owned(), downtime);
    }

    /// A recovery's downtime ends by itself a while after it began, once the node replicates again.
    fn end_downtimes(&mut self) {
        let after = self.settings.downtime_ends_after;
        let seen = &self.seen;
        let replicates = |name: &String| seen.get(name).is_some_and(|seen| seen.valid && seen.server.replicating);
        for member in &mut self.members {
            member.downtimes.retain(|name, downtime| {
                downtime.reason != "lost-in-recovery" || downtime.begun.elapsed() < after || !replicates(name)
            });
        }
    }
}

/// Seconds since 1970.
pub(super) fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// `2026-11-23T06:20:35Z`.
pub(super) fn timestamp(second: i64) -> String {
    jiff::Timestamp::from_second(second).map(|time| time.to_string()).unwrap_or_default()
}
