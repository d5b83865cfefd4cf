//! The last look or tick as data. The log, `plan`, `status` and JSON render it.
//!
//! **Invariant:** a snapshot borrows nothing and contains no secret (I11). Only [`crate::agent`] builds one.
//!
//! A ProxySQL that could not be read has a snapshot without nodes, with the agent's own lease.

use serde::{Serialize, Serializer};
use stonith_core::condition::{Condition, Severity};
use stonith_core::lease::LeaseState;
use stonith_core::node::Node;
use stonith_core::orchestrator::in_brackets;
use stonith_core::shared::Shared;
use stonith_core::table::Layer;

use crate::config::{Enforcement, Word};

/// One ProxySQL at one moment. docs/status-json.md describes each field.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// The ProxySQL's address.
    pub proxysql: Node,
    /// When it was observed, s since 1970 by this host's clock.
    pub at_s: i64,
    /// Whether ProxySQL could be read. If not, the fields that come from it are empty.
    pub reached: bool,
    /// ProxySQL's version.
    pub version: Option<String>,
    /// Whether the agent may change ProxySQL.
    #[serde(serialize_with = "mode_word")]
    pub mode: Enforcement,
    /// The severity of the worst condition.
    #[serde(serialize_with = "severity_label")]
    pub worst: Severity,
    /// The state of the lease.
    #[serde(serialize_with = "lease_state_label")]
    pub lease_state: Option<LeaseState>,
    /// The leader that answered.
    pub leader: Option<LeaderReport>,
    /// Whether the agent isolates once it has no lease.
    pub armed: bool,
    /// The managed writer hostgroups, and whether the agent isolates each.
    pub writers: Vec<WriterReport>,
    /// Whether the agent has isolated this ProxySQL.
    pub isolated: bool,
    /// The lease's age, ms.
    pub lease_age_ms: Option<u64>,
    /// The time until the lease ends, ms.
    pub lease_left_ms: Option<u64>,
    /// The time until an armed agent isolates if no leader answers, ms.
    pub isolates_in_ms: Option<u64>,
    /// The reason of the suspension.
    pub suspended: Option<String>,
    /// The time until the suspension ends, s.
    pub suspended_for_s: Option<u64>,
    /// The conditions that need attention.
    pub conditions: Vec<ConditionReport>,
    /// The nodes that have managed rows.
    pub nodes: Shared<Vec<NodeReport>>,
    /// What was done at the nodes themselves.
    pub node_fences: Vec<NodeFenceReport>,
    /// The planned changes.
    pub plan: PlanReport,
}

/// The leader that answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeaderReport {
    /// The leader's name, the same from tick to tick.
    pub name: String,
    /// How its leadership is backed by other Orchestrator nodes.
    pub backing: &'static str,
}

/// One writer hostgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WriterReport {
    /// The hostgroup.
    pub hostgroup: u32,
    /// Whether the agent isolates it and its readers once it has no lease.
    pub armed: bool,
}

/// One condition that needs attention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConditionReport {
    /// A stable name for programs.
    pub label: &'static str,
    /// A stable name of its cause, if the condition has several causes.
    pub cause: Option<&'static str>,
    /// How much it matters.
    #[serde(serialize_with = "severity_label")]
    pub severity: Severity,
    /// The text for people.
    pub text: String,
    /// The nodes that it concerns.
    pub nodes: Vec<Node>,
}

/// One node, its verdict, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct NodeReport {
    /// The node.
    pub node: Node,
    /// Its instance in Orchestrator, if that has another name.
    pub instance: Option<Node>,
    /// How it was matched with its instance: `name`, `alias` or `address`; `None` if it has none.
    pub matched: Option<&'static str>,
    /// The managed hostgroups in which it has rows, in any layer.
    pub hostgroups: Vec<u32>,
    /// Its rows in runtime.
    pub rows: Vec<RowReport>,
    /// The verdict.
    pub verdict: &'static str,
    /// The level of a fence.
    pub level: Option<&'static str>,
    /// The role in which the node returns.
    pub role: Option<&'static str>,
    /// Why the node is held or ignored.
    pub reason: Option<Reason>,
    /// The reason for the verdict, in one line for people.
    pub why: String,
    /// The evidence against the node, the highest rank first.
    pub evidence: Vec<EvidenceReport>,
    /// The blockers that keep the node out.
    pub blockers: Vec<Reason>,
    /// Connections in use, if they were counted.
    pub connections_used: Option<u64>,
}

/// What was done at one node itself, and when: s since 1970 by the agent's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeFenceReport {
    /// The node.
    pub node: Node,
    /// The level, and what only that level has.
    #[serde(flatten)]
    pub level: LevelReport,
    /// `waiting`, `working`, `read-only`, `undone`, `failed` or `ended`; of an agent `pending`, `not-needed`,
    /// `off-confirmed`, `would-fence`, `failed` or `ended`.
    pub state: &'static str,
    /// The kind of evidence.
    pub kind: String,
    /// When it was found that the node must be fenced itself.
    pub since_s: i64,
    /// When the node was fenced no longer.
    pub ended_s: Option<i64>,
    /// Why it is not done yet.
    pub failure: Option<FailureReport>,
}

/// What only one level of the node's own fence has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "level", rename_all = "kebab-case")]
pub enum LevelReport {
    /// The node is made read-only.
    ReadOnly {
        /// When it answered first.
        answered_s: Option<i64>,
        /// When it was set read-only.
        read_only_s: Option<i64>,
        /// When it was seen read-only without a client session from before.
        verified_s: Option<i64>,
        /// Whether it was read-only already.
        found_read_only: bool,
        /// The client sessions that were ended.
        sessions_ended: u64,
        /// The client sessions that the account may not end.
        sessions_refused: u64,
        /// When it was found that somebody made it writable again.
        undone_s: Option<i64>,
    },
    /// The node is powered off.
    FenceAgent {
        /// The fence agent that did it, or would.
        agent: Option<String>,
        /// How often an agent was told `off`.
        tries: u32,
        /// When an agent's status confirmed that the node is off.
        off_s: Option<i64>,
    },
}

/// Why a node is not fenced itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailureReport {
    /// A stable name for programs.
    pub label: String,
    /// The text for people.
    pub text: String,
    /// When it was seen, s since 1970.
    pub at_s: i64,
}

/// A row in runtime.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct RowReport {
    /// The row's hostgroup.
    pub hostgroup: u32,
    /// The status, as ProxySQL spells it.
    pub status: String,
    /// The comment, with this program's note.
    pub comment: String,
}

/// A reason for a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Reason {
    /// A stable name for programs.
    pub label: &'static str,
    /// The text for people.
    pub text: String,
}

/// One piece of evidence against a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct EvidenceReport {
    /// The kind of evidence.
    pub kind: String,
    /// The node that took over.
    pub by: Option<Node>,
    /// Where the evidence comes from.
    pub source: &'static str,
    /// A permanent name of the evidence.
    pub id: String,
    /// When it happened, s since 1970 by the source's clock.
    pub at_s: Option<i64>,
}

/// The planned changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PlanReport {
    /// The row changes.
    pub changes: Vec<ChangeReport>,
    /// Whether an interrupted apply must be finished first.
    pub finishes_apply: bool,
    /// The nodes whose sessions are ended.
    pub ends_sessions: Vec<Node>,
    /// `pause` or `resume`, if ProxySQL stops or starts taking clients.
    pub clients: Option<&'static str>,
    /// Whether there is nothing to do. A plan that only changes the lease that agents share is not empty.
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
    /// The status before; `None` if the row is new.
    pub from: Option<String>,
    /// The status after; `None` if the row is deleted.
    pub to: Option<String>,
    /// The reason, if the node's verdict does not have it.
    pub reason: Option<Reason>,
    /// The node of the verdict that this change belongs to.
    #[serde(skip)]
    pub of: Option<Node>,
}

impl Snapshot {
    /// Adds a condition.
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

    /// The name of a row's node, and of its instance in Orchestrator if that is another.
    pub fn name_in(&self, change: &ChangeReport) -> String {
        let report = change.of.as_ref().and_then(|node| self.node(node));
        format!("{}{}", change.node, report.map(NodeReport::instance_in_brackets).unwrap_or_default())
    }

    /// The report of a node.
    pub fn node(&self, node: &Node) -> Option<&NodeReport> {
        self.nodes.iter().find(|report| report.node == *node)
    }
}

impl NodeReport {
    /// The node's name, and its instance's in Orchestrator if that is another: `10.0.0.5:3306 (db1)`.
    pub fn name(&self) -> String {
        format!("{}{}", self.node, self.instance_in_brackets())
    }

    fn instance_in_brackets(&self) -> String {
        self.instance.as_ref().map(|instance| in_brackets(&self.node, instance)).unwrap_or_default()
    }

    /// The verdict with its level or role, such as `fence(soft)`.
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
