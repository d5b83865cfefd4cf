//! The recovery history: replicated, in pages of 20, newest first (facts §8).

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::Inner;
use super::answers::Asked;
use super::http::Reply;
use super::instances::key;
use super::time::now_s;

/// Records on a page.
const PAGE: usize = 20;

/// A recorded record of a recovery. The variable parts are filled in.
const RECORD: &str = include_str!("recovery.json");

impl Inner {
    /// A page of the matching records.
    pub(super) fn history_page(&self, page: &str, query: &str, wanted: impl Fn(&Value) -> bool) -> Reply {
        let page: usize = page.parse().unwrap_or(0);
        let open_only = query.split('&').any(|field| field == "unacknowledged=true");
        let records = self.history.iter().rev();
        let records = records.filter(|record| wanted(record) && !(open_only && record["Acknowledged"] == true));
        let records: Vec<&Value> = records.skip(page.saturating_mul(PAGE)).take(PAGE).collect();
        Reply::json(200, &json!(records))
    }

    /// A page of a cluster's records, by the cluster's hint and the page's number.
    pub(super) fn history_of(&self, asked: &Asked<'_>, field: &str) -> Reply {
        let is_of = |record: &Value| record["AnalysisEntry"]["ClusterDetails"][field] == asked.arg(0);
        self.history_page(asked.arg(1), asked.query, is_of)
    }

    /// Acknowledges all recoveries. This ends no downtime (facts §8).
    pub(super) fn acknowledge_all(&mut self, query: &str) -> Reply {
        let comment = query.split('&').find_map(|field| field.strip_prefix("comment=")).unwrap_or_default();
        let comment = comment.replace('+', " ");
        if comment.is_empty() {
            return Reply::error("No acknowledge comment given");
        }
        let now = self.local(now_s());
        for record in self.history.iter_mut().filter(|record| record["Acknowledged"] != true) {
            record["Acknowledged"] = json!(true);
            record["AcknowledgedAt"] = json!(now);
            record["AcknowledgedBy"] = json!(self.leader.map(super::raft::hostname));
            record["AcknowledgedComment"] = json!(comment);
        }
        Reply::done("Acknowledged all recoveries", &json!(comment))
    }

    /// Writes a record. Without a successor it is a failed recovery.
    pub(super) fn record(&mut self, failed: &str, successor: Option<&str>, replicas: &[String], at: SystemTime) {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = self.local(i64::try_from(since.as_secs()).unwrap_or(0));
        self.recoveries += 1;
        let mut record: Value = serde_json::from_str(RECORD).unwrap_or_default();
        record["Id"] = json!(self.recoveries);
        record["UID"] = json!(format!("{}:{:064x}", since.as_nanos(), self.recoveries));
        record["LastDetectionId"] = json!(self.recoveries);
        record["ProcessingNodeHostname"] = json!(self.leader.map(super::raft::hostname).unwrap_or_default());
        record["SuccessorKey"] = key(successor.unwrap_or_default());
        record["IsSuccessful"] = json!(successor.is_some());
        if successor.is_none() {
            // 19-takeover
            record["AllErrors"] = json!(["chooseCandidateReplica: no candidate replica found"]);
        }
        // One of these times has a zone, the other has none (2-failover/audit-recovery.json).
        record["RecoveryEndTimestamp"] = json!(second.replace('T', " ").trim_end_matches('Z'));
        record["RecoveryStartTimestamp"] = json!(second);
        let keys: Vec<Value> = replicas.iter().map(|replica| key(replica)).collect();
        let (cluster, alias) = (format!("{failed}:{}", crate::nodes::PORT), self.alias_of(failed));
        let analysis = &mut record["AnalysisEntry"];
        let second_name = self.second_names.get(failed).map(|second| second.name.as_str());
        analysis["AnalyzedInstanceKey"] = key(second_name.unwrap_or(failed));
        analysis["ClusterDetails"]["ClusterName"] = json!(cluster);
        analysis["ClusterDetails"]["ClusterAlias"] = json!(alias);
        analysis["CountReplicas"] = json!(keys.len());
        analysis["Replicas"] = json!(keys);
        analysis["SlaveHosts"] = json!(keys);
        // An old record comes before the newer ones.
        let place = self.history_times.partition_point(|other| *other <= since.as_nanos());
        self.history_times.insert(place, since.as_nanos());
        self.history.insert(place, record);
    }

    /// Purges all records.
    pub(super) fn purge(&mut self) {
        self.history.clear();
        self.history_times.clear();
    }
}
