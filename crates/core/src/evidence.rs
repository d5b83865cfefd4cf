//! Evidence: facts that fence a node (design §5). Each can be cited by kind, successor, source, id and time.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::node::Node;

/// The kinds of evidence. The derived order is the rank, highest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// A recovery record names another node as the successor.
    Superseded,
    /// The leader downtimed the node at the end of a recovery (the mark).
    LostInRecovery,
    /// The node is ONLINE in a writer hostgroup beside the present primary.
    SecondWriter,
    /// An operator ordered the fence.
    Manual,
    /// Orchestrator's hook waits for the fence before another node is promoted (the barrier's mark).
    Barrier,
    /// Orchestrator's hook drains the node before a planned takeover (the takeover's mark).
    Takeover,
    /// Orchestrator shows a downtime that is not a mark.
    Downtime,
    /// This agent has no lease.
    Isolation,
    /// Nothing against the node: it is a replica, and this row is in a writer hostgroup that no monitor looks after.
    /// The row returns when the node is the primary.
    Replica,
}

const KINDS: [(EvidenceKind, &str); 9] = [
    (EvidenceKind::Superseded, "superseded"),
    (EvidenceKind::LostInRecovery, "lost-in-recovery"),
    (EvidenceKind::SecondWriter, "second-writer"),
    (EvidenceKind::Manual, "manual"),
    (EvidenceKind::Barrier, "barrier"),
    (EvidenceKind::Takeover, "takeover"),
    (EvidenceKind::Downtime, "downtime"),
    (EvidenceKind::Isolation, "isolation"),
    (EvidenceKind::Replica, "replica"),
];

impl EvidenceKind {
    /// Reads the word that [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        KINDS.iter().find(|(_, name)| *name == text).map(|(kind, _)| *kind)
    }

    /// The way in which this kind ends (design §6). A new kind must choose one here.
    pub fn ends_by(self) -> EndsBy {
        match self {
            Self::Superseded | Self::LostInRecovery | Self::SecondWriter | Self::Barrier => EndsBy::Proof,
            Self::Manual => EndsBy::Order,
            Self::Takeover => EndsBy::TakeoverEnd,
            Self::Downtime => EndsBy::DowntimeEnd,
            Self::Isolation => EndsBy::Lease,
            Self::Replica => EndsBy::Promotion,
        }
    }

    /// Whether this kind ends by proof.
    pub fn ends_by_proof(self) -> bool {
        self.ends_by() == EndsBy::Proof
    }

    /// The level of a fence for this kind, unless an order gives another (design §5).
    pub fn default_level(self) -> Level {
        match self {
            Self::Superseded | Self::LostInRecovery | Self::SecondWriter | Self::Barrier | Self::Isolation => {
                Level::Sessions
            }
            Self::Manual | Self::Takeover | Self::Downtime | Self::Replica => Level::Soft,
        }
    }
}

impl fmt::Display for EvidenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(KINDS.iter().find(|(kind, _)| kind == self).map_or("", |(_, name)| name))
    }
}

/// The ways in which evidence ends. Absence is none (I2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndsBy {
    /// The node is proven twice to be a replica or the primary.
    Proof,
    /// Orchestrator shows the node valid and without its downtime.
    DowntimeEnd,
    /// The takeover's mark is over, and the node is the primary still, or a record or replication says it is not.
    TakeoverEnd,
    /// The leader is confirmed, and the agent has a lease again.
    Lease,
    /// An operator lets the node back.
    Order,
    /// The node is proven twice to be the primary.
    Promotion,
}

/// The source of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Source {
    /// Orchestrator's recovery history.
    #[serde(rename = "audit-recovery")]
    RecoveryHistory,
    /// Orchestrator's list of downtimes.
    #[serde(rename = "downtimed")]
    Downtimed,
    /// ProxySQL's rows in force.
    #[serde(rename = "runtime_mysql_servers")]
    RuntimeServers,
    /// The marker in a row's comment.
    #[serde(rename = "marker")]
    Marker,
    /// This agent's lease.
    #[serde(rename = "lease")]
    Lease,
    /// An operator's order.
    #[serde(rename = "operator")]
    Operator,
}

impl Source {
    /// A stable name for programs.
    pub fn label(self) -> &'static str {
        match self {
            Self::RecoveryHistory => "audit-recovery",
            Self::Downtimed => "downtimed",
            Self::RuntimeServers => "runtime_mysql_servers",
            Self::Marker => "marker",
            Self::Lease => "lease",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// The level of a fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// All managed rows are OFFLINE_SOFT.
    Soft,
    /// The rows are soft, and the node's client sessions are ended.
    Sessions,
}

/// One fact against a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Evidence {
    /// The kind of fact.
    pub kind: EvidenceKind,
    /// The node that took over, if the fact names one.
    pub by: Option<Node>,
    /// The source of the fact.
    pub source: Source,
    /// The lasting id: the recovery's UID, or the downtime's reason and begin; else empty.
    pub id: String,
    /// The time of the fact, in s since 1970 by the source's clock; 0 if the source gives none.
    pub at_s: i64,
}

impl Evidence {
    /// A recovery that made another node the primary. `at_s` is the time when it was registered.
    pub fn superseded(by: Option<Node>, uid: &str, at_s: i64) -> Self {
        let (source, id) = (Source::RecoveryHistory, uid.to_owned());
        Self { by, id, at_s, ..Self::of(EvidenceKind::Superseded, source) }
    }

    /// A downtime in Orchestrator: a recovery's mark or a plain downtime.
    pub fn downtime(kind: EvidenceKind, reason: &str, begin_s: i64) -> Self {
        Self { id: format!("{reason}@{begin_s}"), at_s: begin_s, ..Self::of(kind, Source::Downtimed) }
    }

    /// The mark of a barrier. `recovery` is the UID of the recovery that waits for it.
    pub fn barrier(recovery: &str, begin_s: i64) -> Self {
        Self { id: recovery.to_owned(), at_s: begin_s, ..Self::of(EvidenceKind::Barrier, Source::Downtimed) }
    }

    /// A node in service in a writer hostgroup beside `primary`. `since_s` is the time when both were first seen there.
    pub fn second_writer(primary: &Node, since_s: i64) -> Self {
        let by = Some(primary.clone());
        Self { by, at_s: since_s, ..Self::of(EvidenceKind::SecondWriter, Source::RuntimeServers) }
    }

    /// The evidence in a marker, which has neither an id nor a time.
    pub fn marker(kind: EvidenceKind, by: Option<Node>) -> Self {
        Self { by, ..Self::of(kind, Source::Marker) }
    }

    /// The lack of a lease.
    pub fn isolation() -> Self {
        Self::of(EvidenceKind::Isolation, Source::Lease)
    }

    /// An operator's order of this tick.
    pub fn ordered() -> Self {
        Self::of(EvidenceKind::Manual, Source::Operator)
    }

    fn of(kind: EvidenceKind, source: Source) -> Self {
        Self { kind, by: None, source, id: String::new(), at_s: 0 }
    }
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
    fn a_source_is_kept_under_its_label() {
        use Source::{Downtimed, Lease, Marker, Operator, RecoveryHistory, RuntimeServers};
        for source in [RecoveryHistory, Downtimed, RuntimeServers, Marker, Lease, Operator] {
            assert_eq!(serde_json::to_value(source).unwrap(), source.label());
        }
    }

    #[test]
    fn evidence_reads_as_kind_node_source_and_what_identifies_it() {
        let mut fact = Evidence::superseded(Some("node02:3306".parse().unwrap()), "17:a", 17);
        assert_eq!(fact.to_string(), "superseded by=node02:3306 source=audit-recovery id=17:a");
        (fact.by, fact.id) = (None, String::new());
        assert_eq!(fact.to_string(), "superseded source=audit-recovery");
    }
}
