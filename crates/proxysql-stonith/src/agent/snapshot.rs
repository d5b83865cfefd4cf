//! The last look or tick as data: what the log, `plan`, `status`, JSON and, later, metrics and pages render.
//!
//! **Invariant:** it is built here only, it borrows nothing, and no secret gets into it (I11). A ProxySQL that could not be
//! read has a snapshot too: without nodes, with the agent's own lease.

use serde::{Serialize, Serializer};
use stonith_core::condition::{Condition, Severity};
use stonith_core::decide::{Decision, ReturnBlocker, Verdict};
use stonith_core::evidence::{Evidence, Level};
use stonith_core::lease::{LeaseState, isolation_starts_ms};
use stonith_core::managed::{Managed, ManagedRows, ServerRows};
use stonith_core::node::Node;
use stonith_core::observed::Observed;
use stonith_core::orchestrator::{Backing, LeaderView};
use stonith_core::plan::{Plan, RowChange};
use stonith_core::table::{Layer, Row, Status};

use super::Agent;
use crate::clock::Now;
use crate::config::{Enforcement, Word};
use crate::state::StandingOrders;

#[cfg(test)]
mod tests;

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

/// What holds beside a look: the operator's standing orders.
#[derive(Debug, Clone, Default)]
pub struct Suspended {
    reason: Option<String>,
    for_s: Option<u64>,
}

impl Suspended {
    /// By these orders.
    pub fn by(standing: &StandingOrders, now: &Now) -> Self {
        let left = standing.suspension.as_ref().and_then(|suspension| suspension.left(now));
        Self { reason: standing.orders.suspended.clone(), for_s: left.map(|left| left.as_secs()) }
    }
}

impl Snapshot {
    /// What an agent's look saw and decided; `seen` is `None` where ProxySQL could not be read.
    pub fn of(
        agent: &Agent,
        seen: Option<(&Observed, &Decision)>,
        suspended: Suspended,
        conditions: &[Condition],
    ) -> Self {
        Self::at(&Now::read(), agent, seen, suspended, conditions)
    }

    fn at(
        now: &Now,
        agent: &Agent,
        seen: Option<(&Observed, &Decision)>,
        suspended: Suspended,
        conditions: &[Condition],
    ) -> Self {
        let policy = &agent.settings.policy;
        let memory = seen.map_or(&agent.memory, |(_, decision)| &decision.memory);
        let asked_ms = memory.lease.asked_ms;
        let mut snapshot = Self {
            proxysql: agent.settings.proxy.address.clone(),
            at_s: now.wall_s,
            reached: seen.is_some(),
            version: agent.version.clone(),
            mode: if agent.settings.observe_only { Enforcement::Observe } else { Enforcement::Enforce },
            worst: Severity::Info,
            lease_state: seen.map(|(_, decision)| decision.lease_state),
            leader: seen.and_then(|(observed, _)| leader(&observed.leader)),
            armed: memory.lease.armed,
            isolated: memory.lease.isolated,
            lease_age_ms: asked_ms.map(|asked| now.boot_ms.saturating_sub(asked)),
            lease_left_ms: asked_ms
                .map(|asked| asked.saturating_add(policy.isolation_after_ms).saturating_sub(now.boot_ms)),
            isolates_in_ms: memory
                .lease
                .armed
                .then(|| isolation_starts_ms(&memory.lease, policy).saturating_sub(now.boot_ms)),
            suspended: suspended.reason,
            suspended_for_s: suspended.for_s,
            conditions: Vec::new(),
            nodes: Vec::new(),
            plan: PlanReport { empty: true, ..PlanReport::default() },
        };
        if let Some((observed, decision)) = seen {
            let managed = Managed::of(&observed.proxy, policy);
            let rows = ManagedRows::new(&observed.proxy, &managed, &decision.memory.nodes.identity);
            let node = |(name, verdict)| node(observed, decision, &rows, name, verdict);
            snapshot.nodes = decision.verdicts.iter().map(node).collect();
            snapshot.plan = PlanReport::of(&decision.plan);
        }
        conditions.iter().for_each(|condition| snapshot.note(condition));
        snapshot
    }

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

impl PlanReport {
    /// For people and programs.
    pub fn of(plan: &Plan) -> Self {
        Self {
            changes: plan.changes.iter().map(change).collect(),
            finishes_apply: plan.finish,
            ends_sessions: plan.sessions.iter().cloned().collect(),
            empty: plan.is_empty(),
        }
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

fn leader(leader: &LeaderView) -> Option<LeaderReport> {
    let LeaderView::Led(answer) = leader else { return None };
    let backing = match answer.backing {
        Backing::Majority => "majority",
        Backing::Single => "single",
        Backing::Unconfirmed => "unconfirmed",
    };
    Some(LeaderReport { name: answer.leader.clone(), backing })
}

fn node(
    observed: &Observed,
    decision: &Decision,
    managed: &ManagedRows<'_>,
    node: &Node,
    verdict: &Verdict,
) -> NodeReport {
    let rows = observed.proxy.runtime.iter().filter(|row| row.node().as_ref() == Some(node));
    let managed = managed.of(decision.memory.nodes.identity.server(node));
    let hostgroups = managed.map(ServerRows::hostgroups).into_iter().flatten().map(|hostgroup| hostgroup.0);
    let (level, role, reason): (Option<Level>, _, _) = match verdict {
        Verdict::Keep => (None, None, None),
        Verdict::Fence { level, .. } => (Some(*level), None, None),
        Verdict::Unfence { role, .. } => (None, Some(role.label()), None),
        Verdict::Hold(why) | Verdict::Ignore(why) => {
            (None, None, Some(Reason { label: why.label(), text: why.to_string() }))
        }
    };
    let evidence: &[Evidence] = match verdict {
        Verdict::Fence { evidence, .. } | Verdict::Unfence { evidence, .. } => evidence,
        Verdict::Keep | Verdict::Hold(_) | Verdict::Ignore(_) => &[],
    };
    NodeReport {
        node: node.clone(),
        hostgroups: hostgroups.collect(),
        rows: rows.map(row).collect(),
        verdict: verdict.label(),
        level: level.map(Word::word),
        role,
        reason,
        why: why(verdict),
        evidence: evidence.iter().map(fact).collect(),
        blockers: blockers(verdict),
        connections_used: observed.proxy.conn_used.get(node).copied(),
    }
}

fn row(row: &Row) -> RowReport {
    RowReport { hostgroup: row.key.hostgroup.0, status: row.status.as_str().to_owned(), comment: row.comment.clone() }
}

fn fact(fact: &Evidence) -> EvidenceReport {
    EvidenceReport {
        kind: fact.kind.to_string(),
        by: fact.by.clone(),
        source: fact.source.label(),
        id: fact.id.clone(),
        at_s: (fact.at_s != 0).then_some(fact.at_s),
    }
}

/// Everything that keeps a fenced node out.
pub fn blockers(verdict: &Verdict) -> Vec<Reason> {
    match verdict {
        Verdict::Fence { blocker: ReturnBlocker::Proof(gaps), .. } => {
            gaps.iter().map(|gap| Reason { label: gap.label(), text: gap.to_string() }).collect()
        }
        Verdict::Fence { blocker, .. } => vec![Reason { label: blocker.label(), text: blocker.to_string() }],
        Verdict::Keep | Verdict::Hold(_) | Verdict::Unfence { .. } | Verdict::Ignore(_) => Vec::new(),
    }
}

/// Why a verdict is what it is, in one line.
pub fn why(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Keep => "nothing speaks against it".to_owned(),
        Verdict::Hold(why) | Verdict::Ignore(why) => why.to_string(),
        Verdict::Fence { evidence, .. } | Verdict::Unfence { evidence, .. } => {
            evidence.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        }
    }
}

fn change(change: &RowChange) -> ChangeReport {
    let key = change.key();
    let status = |status: Option<&Status>| status.map(|status| status.as_str().to_owned());
    ChangeReport {
        layer: change.layer,
        hostgroup: key.hostgroup.0,
        node: format!("{}:{}", key.hostname, key.port),
        from: status(change.from_status()),
        to: status(change.to_status()),
        of: key.node(),
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
