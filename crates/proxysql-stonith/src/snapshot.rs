//! The last look or tick as data: what the log, `plan`, `status`, JSON and, later, metrics and pages render.
//!
//! **Invariant:** it borrows nothing, and no secret gets into it (I11). [`crate::agent`] builds it, and nobody else. A ProxySQL
//! that could not be read has a snapshot too: without nodes, with the agent's own lease.

use serde::{Serialize, Serializer};
use stonith_core::condition::{Condition, Severity};
use stonith_core::lease::LeaseState;
use stonith_core::node::Node;
use stonith_core::table::Layer;

use crate::config::{Enforcement, Word};

/// One ProxySQL at one moment. docs/status-json.md describes each field.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// Which ProxySQL.
    pub proxysql: Node,
    /// When it was looked at, s since 1970 by this host's clock.
    pub at_s: i64,
    /// Whether it could be read. If not, the fields that come from it are empty.
    pub reached: bool,
    /// Its version.
    pub version: Option<String>,
    /// Whether the agent may change it.
    #[serde(serialize_with = "mode_word")]
    pub mode: Enforcement,
    /// Of the worst condition.
    #[serde(serialize_with = "severity_label")]
    pub worst: Severity,
    /// Where the agent stands towards the leader.
    #[serde(serialize_with = "lease_state_label")]
    pub lease_state: Option<LeaseState>,
    /// The leader that answered.
    pub leader: Option<LeaderReport>,
    /// Whether the agent would isolate for want of a lease.
    pub armed: bool,
    /// Whether the agent has isolated this ProxySQL.
    pub isolated: bool,
    /// How old the lease is, ms.
    pub lease_age_ms: Option<u64>,
    /// How long the lease still runs, ms.
    pub lease_left_ms: Option<u64>,
    /// When an armed agent begins to isolate if it hears nothing more, ms from now.
    pub isolates_in_ms: Option<u64>,
    /// Why everything is paused.
    pub suspended: Option<String>,
    /// For how long still, s.
    pub suspended_for_s: Option<u64>,
    /// What needs attention.
    pub conditions: Vec<ConditionReport>,
    /// Each node that has managed rows.
    pub nodes: Vec<NodeReport>,
    /// What is to be changed.
    pub plan: PlanReport,
}

/// The leader that answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeaderReport {
    /// What names it from tick to tick.
    pub name: String,
    /// Who else says that it leads.
    pub backing: &'static str,
}

/// One thing that needs attention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConditionReport {
    /// A stable name for programs.
    pub label: &'static str,
    /// A stable name of its cause, where there are several.
    pub cause: Option<&'static str>,
    /// How much it matters.
    #[serde(serialize_with = "severity_label")]
    pub severity: Severity,
    /// For people.
    pub text: String,
    /// The nodes that it names.
    pub nodes: Vec<Node>,
}

/// One node, what is decided of it, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeReport {
    /// Which.
    pub node: Node,
    /// The managed hostgroups that it has rows in, in any layer.
    pub hostgroups: Vec<u32>,
    /// Its rows in runtime.
    pub rows: Vec<RowReport>,
    /// What is decided.
    pub verdict: &'static str,
    /// How far a fence goes.
    pub level: Option<&'static str>,
    /// In which role it returns.
    pub role: Option<&'static str>,
    /// Why it is held or ignored.
    pub reason: Option<Reason>,
    /// Why the verdict is what it is, in one line for people.
    pub why: String,
    /// What speaks against it, the highest rank first.
    pub evidence: Vec<EvidenceReport>,
    /// What still keeps it out.
    pub blockers: Vec<Reason>,
    /// Connections in use, where they were counted.
    pub connections_used: Option<u64>,
}

/// A row in runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowReport {
    /// Where.
    pub hostgroup: u32,
    /// As ProxySQL spells it.
    pub status: String,
    /// With the program's note.
    pub comment: String,
}

/// A cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// A stable name for programs.
    pub label: &'static str,
    /// For people.
    pub text: String,
}

/// One fact against a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EvidenceReport {
    /// Its kind.
    pub kind: String,
    /// The node that took over.
    pub by: Option<Node>,
    /// Where it was seen.
    pub source: &'static str,
    /// What names the fact for good.
    pub id: String,
    /// When, s since 1970 by the source's clock.
    pub at_s: Option<i64>,
}

/// What is to be changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PlanReport {
    /// The row changes.
    pub changes: Vec<ChangeReport>,
    /// Whether an apply that was cut off has to be finished first.
    pub finishes_apply: bool,
    /// The nodes whose sessions are ended.
    pub ends_sessions: Vec<Node>,
    /// Whether there is nothing to do. The lease that agents share can be all that a plan changes.
    pub empty: bool,
}

/// One row's change in one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChangeReport {
    /// `runtime`, `memory` or `disk`.
    #[serde(serialize_with = "layer_name")]
    pub layer: Layer,
    /// The row's hostgroup.
    pub hostgroup: u32,
    /// The row's host and port, as ProxySQL spells them.
    pub node: String,
    /// The status before; `None`: the row is made.
    pub from: Option<String>,
    /// The status after; `None`: the row is deleted.
    pub to: Option<String>,
    /// What is decided of the node.
    #[serde(skip)]
    pub of: Option<Node>,
}

impl Snapshot {
    /// One more thing that needs attention.
    pub fn note(&mut self, condition: &Condition) {
        self.worst = self.worst.max(condition.severity());
        self.conditions.push(ConditionReport {
            label: condition.label(),
            cause: condition.cause(),
            severity: condition.severity(),
            text: condition.to_string(),
            nodes: condition.nodes().to_vec(),
        });
    }

    /// A node that has managed rows.
    pub fn node(&self, node: &Node) -> Option<&NodeReport> {
        self.nodes.iter().find(|report| report.node == *node)
    }
}

impl NodeReport {
    /// The verdict in a word or two.
    pub fn word(&self) -> String {
        match self.level.or(self.role) {
            Some(detail) => format!("{}({detail})", self.verdict),
            None => self.verdict.to_owned(),
        }
    }
}

fn severity_label<S: Serializer>(severity: &Severity, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(severity.label())
}

fn lease_state_label<S: Serializer>(state: &Option<LeaseState>, to: S) -> Result<S::Ok, S::Error> {
    state.map(LeaseState::label).serialize(to)
}

fn mode_word<S: Serializer>(mode: &Enforcement, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(mode.word())
}

fn layer_name<S: Serializer>(layer: &Layer, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(layer)
}
