//! Hostgroups, and the pairs of hostgroups between which ProxySQL's monitor moves rows.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A hostgroup, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hostgroup(pub u32);

impl fmt::Display for Hostgroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A writer and a reader hostgroup that `mysql_replication_hostgroups` ties together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair {
    /// The writer hostgroup.
    pub writer: Hostgroup,
    /// The reader hostgroup.
    pub reader: Hostgroup,
    /// The variables that ProxySQL's monitor reads, and how it joins them.
    pub check_type: CheckType,
}

/// `mysql_replication_hostgroups.check_type`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CheckType {
    /// `read_only=1` alone makes the node a reader: `read_only`, or `read_only|innodb_read_only`. Orchestrator reports
    /// no other variable.
    ReadOnly,
    /// Any other `check_type` (`super_read_only`, `innodb_read_only`, `read_only&innodb_read_only`). Orchestrator does
    /// not show that the node is a reader.
    Other(String),
}

impl CheckType {
    /// Reads the column's text.
    pub fn parse(text: &str) -> Self {
        let any_of = text.split('|').any(|variable| variable.trim().eq_ignore_ascii_case("read_only"));
        if any_of { Self::ReadOnly } else { Self::Other(text.to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_only_proves_a_reader_where_either_variable_is_enough() {
        for proven in ["read_only", "READ_ONLY", "read_only|innodb_read_only"] {
            assert_eq!(CheckType::parse(proven), CheckType::ReadOnly);
        }
        for unproven in ["super_read_only", "innodb_read_only", "read_only&innodb_read_only", ""] {
            assert_eq!(CheckType::parse(unproven), CheckType::Other(unproven.to_owned()));
        }
    }
}
