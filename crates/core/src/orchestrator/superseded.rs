//! Finds the recovery record that supersedes a node (design §5.1).

use std::collections::BTreeMap;

use crate::node::Node;
use crate::orchestrator::{Analysis, Recovery};

/// Whether a record moved the primary's role from one node to another.
pub fn supersedes(record: &Recovery) -> bool {
    record.analysis == Analysis::DeadPrimary
        && record.successful
        && record.successor.as_ref().is_some_and(|successor| *successor != record.failed)
}

/// The newest superseding record of each node, as the failed one or as the successor. No other record tells its role.
#[derive(Debug, Default)]
pub struct NewestRecoveries<'a> {
    by_node: BTreeMap<&'a Node, &'a Recovery>,
}

impl<'a> NewestRecoveries<'a> {
    /// Finds the newest superseding record of each node in `records`.
    pub fn of_each(records: impl IntoIterator<Item = &'a Recovery>) -> Self {
        let mut by_node: BTreeMap<&Node, &Recovery> = BTreeMap::new();
        for record in records.into_iter().filter(|record| supersedes(record)) {
            for node in std::iter::once(&record.failed).chain(&record.successor) {
                let known = by_node.entry(node).or_insert(record);
                if (known.at_ns, &known.uid) < (record.at_ns, &record.uid) {
                    *known = record;
                }
            }
        }
        Self { by_node }
    }

    /// The newest record that has this node as the failed one or as the successor.
    pub fn of(&self, node: &Node) -> Option<&'a Recovery> {
        self.by_node.get(node).copied()
    }

    /// The record that supersedes this node, if the newest one has it as the failed node.
    pub fn superseding(&self, node: &Node) -> Option<&'a Recovery> {
        self.of(node).filter(|record| record.failed == *node)
    }

    /// The record that promoted this node, if the newest one has it as the successor.
    pub fn promoting(&self, node: &Node) -> Option<&'a Recovery> {
        self.of(node).filter(|record| record.failed != *node)
    }

    /// The newest record of each node. A record that is the newest of both its nodes comes twice.
    pub fn records(&self) -> impl Iterator<Item = &'a Recovery> {
        self.by_node.values().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(at_ns: u64, failed: &str, successor: Option<&str>) -> Recovery {
        Recovery {
            at_ns,
            uid: format!("{at_ns}:x"),
            end_s: Some(1),
            analysis: Analysis::DeadPrimary,
            successful: true,
            failed: format!("{failed}:3306").parse().unwrap(),
            successor: successor.map(|name| format!("{name}:3306").parse().unwrap()),
            alias: String::new(),
        }
    }

    fn is_superseded(records: &[Recovery], name: &str) -> bool {
        NewestRecoveries::of_each(records).superseding(&format!("{name}:3306").parse().unwrap()).is_some()
    }

    #[test]
    fn after_a_b_a_b_only_a_is_superseded_in_any_order_of_records() {
        let mut records = vec![record(1, "a", Some("b")), record(2, "b", Some("a")), record(3, "a", Some("b"))];
        for _ in 0..3 {
            assert!(is_superseded(&records, "a"));
            assert!(!is_superseded(&records, "b"));
            records.rotate_left(1);
        }
    }

    #[test]
    fn after_a_failover_of_a_failover_both_failed_nodes_are_superseded() {
        let records = [record(1, "a", Some("b")), record(2, "b", Some("c"))];
        assert!(is_superseded(&records, "a") && is_superseded(&records, "b") && !is_superseded(&records, "c"));
    }

    #[test]
    fn a_recovery_without_a_successor_of_an_intermediate_or_onto_itself_supersedes_nobody() {
        let intermediate = Recovery { analysis: Analysis::Other, ..record(1, "a", Some("b")) };
        let failed = Recovery { successful: false, ..record(1, "a", Some("b")) };
        for one in [record(1, "a", None), record(1, "a", Some("a")), intermediate, failed] {
            assert!(!is_superseded(&[one], "a"));
        }
    }
}
