//! Facts that fence a node, each one citable: kind, node, source, id, time (design §5).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::node::Node;

/// The kinds of evidence, in order of rank, highest first: the derived order is the rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// A recovery record names another node as the successor.
    Superseded,
    /// The leader downtimed the node at the end of a recovery.
    LostInRecovery,
    /// Two nodes are ONLINE in one writer hostgroup, and the other is the primary.
    SecondWriter,
    /// An operator ordered it.
    Manual,
    /// Orchestrator waits for it before it promotes.
    Barrier,
    /// Any other downtime.
    Downtime,
    /// No valid lease.
    Isolation,
    /// Nothing against the node: it is a replica, and this row is in a writer hostgroup that no monitor looks after. The
    /// row returns when the node is the primary.
    Replica,
}

const KINDS: [(EvidenceKind, &str); 8] = [
    (EvidenceKind::Superseded, "superseded"),
    (EvidenceKind::LostInRecovery, "lost-in-recovery"),
    (EvidenceKind::SecondWriter, "second-writer"),
    (EvidenceKind::Manual, "manual"),
    (EvidenceKind::Barrier, "barrier"),
    (EvidenceKind::Downtime, "downtime"),
    (EvidenceKind::Isolation, "isolation"),
    (EvidenceKind::Replica, "replica"),
];

impl EvidenceKind {
    /// Reads the word that [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        KINDS.iter().find(|(_, name)| *name == text).map(|(kind, _)| *kind)
    }

    /// Whether it ends by proof: a recovery left it, or it stands for one.
    pub fn ends_by_proof(self) -> bool {
        matches!(self, Self::Superseded | Self::LostInRecovery | Self::SecondWriter | Self::Barrier)
    }

    /// How far a fence for this reason goes unless told otherwise (design §5).
    pub fn default_level(self) -> Level {
        match self {
            Self::Downtime | Self::Manual | Self::Replica => Level::Soft,
            _ => Level::Sessions,
        }
    }
}

impl fmt::Display for EvidenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(KINDS.iter().find(|(kind, _)| kind == self).map_or("", |(_, name)| name))
    }
}

/// How far a fence goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// All rows OFFLINE_SOFT.
    Soft,
    /// And no client session left on the node.
    Sessions,
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Evidence {
    /// What kind of fact.
    pub kind: EvidenceKind,
    /// The node that took over, where the fact names one.
    pub by: Option<Node>,
    /// Where it was seen: `audit-recovery`, `downtimed`, `runtime_mysql_servers`, `marker`, `lease`, `operator`.
    pub source: String,
    /// What names the fact for good: the recovery's UID, the downtime's begin; empty where nothing does.
    pub id: String,
    /// When, in seconds since 1970 of the source's clock; 0 where the source doesn't say.
    pub at_s: i64,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(by) = &self.by {
            write!(f, " by={by}")?;
        }
        write!(f, " source={}", self.source)?;
        if !self.id.is_empty() {
            write!(f, " id={}", self.id)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rank_is_the_designs_and_every_kind_reads_back() {
        assert!(KINDS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (kind, name) in KINDS {
            assert_eq!(EvidenceKind::parse(name), Some(kind));
            assert_eq!(kind.to_string(), name);
        }
    }

    #[test]
    fn evidence_reads_as_kind_node_source_and_what_identifies_it() {
        let by = Some("node02:3306".parse().unwrap());
        let (source, id) = ("audit-recovery".to_owned(), "17:a".to_owned());
        let mut fact = Evidence { kind: EvidenceKind::Superseded, by, source, id, at_s: 17 };
        assert_eq!(fact.to_string(), "superseded by=node02:3306 source=audit-recovery id=17:a");
        (fact.by, fact.id) = (None, String::new());
        assert_eq!(fact.to_string(), "superseded source=audit-recovery");
    }
}
