//! What an agent that had watched all along would have fenced, for whoever installs one.

use std::collections::BTreeSet;

use crate::node::Node;
use crate::orchestrator::{Identity, Recovery, supersedes};

/// A recovery whose failed node would have been fenced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastFence {
    /// The time of the recovery, in s since 1970 by the leader's clock.
    pub at_s: i64,
    /// The node that failed, by its name in the rows if it has one there.
    pub node: Node,
    /// The node that took over.
    pub by: Node,
    /// The node has a managed row in this ProxySQL. Without one, nothing would have been fenced there.
    pub is_served: bool,
}

/// The recoveries that supersede a node (design §5.1), the newest first. `served` are the nodes with managed rows.
pub fn past_fences<'a>(
    records: impl IntoIterator<Item = &'a Recovery>,
    identity: &Identity,
    served: &BTreeSet<Node>,
) -> Vec<PastFence> {
    let mut records: Vec<&Recovery> = records.into_iter().filter(|record| supersedes(record)).collect();
    records.sort_by_key(|record| std::cmp::Reverse((record.at_ns, &record.uid)));
    let fence = |record: &Recovery| {
        let server = identity.server(&record.failed);
        let row = served.iter().find(|node| identity.server(node) == server);
        Some(PastFence {
            at_s: record.at_s(),
            node: row.unwrap_or(&record.failed).clone(),
            by: record.successor.clone()?,
            is_served: row.is_some(),
        })
    };
    records.into_iter().filter_map(fence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrator::Analysis;

    #[test]
    fn every_recovery_that_promoted_somebody_fences_its_failed_node_if_that_has_rows() {
        let node = |name: &str| format!("{name}:3306").parse::<Node>().unwrap();
        let record = |at_s: u64, failed: &str, successor: Option<&str>| Recovery {
            at_ns: at_s * 1_000_000_000,
            uid: format!("{at_s}:x"),
            end_s: None,
            analysis: Analysis::DeadPrimary,
            successful: true,
            failed: node(failed),
            successor: successor.map(node),
            alias: String::new(),
        };
        let records = [
            record(1, "node01", Some("node02")),
            record(3, "elsewhere", Some("node09")),
            record(2, "node02", Some("node01")),
            record(4, "node01", None),
            Recovery { analysis: Analysis::Other, ..record(5, "node01", Some("node02")) },
        ];
        let served = ["node01", "node02"].map(node).into();
        let found = past_fences(&records, &Identity::default(), &served);
        let shown: Vec<_> = found.iter().map(|past| (past.at_s, past.node.to_string(), past.is_served)).collect();
        let of = |at_s, name: &str, is_served| (at_s, format!("{name}:3306"), is_served);
        assert_eq!(shown, [of(3, "elsewhere", false), of(2, "node02", true), of(1, "node01", true)]);
        assert_eq!(found[1].by, node("node01"));
    }
}
