//! Builds the [`Snapshot`] of a look or a tick. No other module builds one.

use std::collections::BTreeMap;

use stonith_core::condition::{Condition, Severity};
use stonith_core::decide::{Decision, ReturnBlocker, Verdict};
use stonith_core::evidence::{Evidence, Level};
use stonith_core::lease::isolation_starts_ms;
use stonith_core::managed::{Managed, ManagedRows, ServerRows};
use stonith_core::node::Node;
use stonith_core::node_fence::{NodeFenceFailure, NodeFenceRecord};
use stonith_core::observed::Observed;
use stonith_core::orchestrator::{Identity, LeaderView};
use stonith_core::plan::{PauseAction, Plan, RowChange};
use stonith_core::policy::Policy;
use stonith_core::table::{Hostgroup, Row, Status};

use super::Agent;
use crate::clock::Now;
use crate::config::{Enforcement, Word};
use crate::snapshot::{
    ChangeReport, EvidenceReport, FailureReport, LeaderReport, NodeFenceReport, NodeReport, PlanReport, Reason,
    RowReport, Snapshot, WriterReport,
};
use crate::state::StandingOrders;

#[cfg(test)]
mod tests;

/// The suspension in force, if any.
#[derive(Debug, Clone, Default)]
pub struct Suspended {
    reason: Option<String>,
    for_s: Option<u64>,
}

impl Suspended {
    /// Takes the suspension from standing orders.
    pub fn by(standing: &StandingOrders, now: &Now) -> Self {
        let left = standing.suspension.as_ref().and_then(|suspension| suspension.left(now));
        Self { reason: standing.orders.suspended.clone(), for_s: left.map(|left| left.as_secs()) }
    }
}

impl Snapshot {
    /// Builds the snapshot of what was observed and decided. `seen` is `None` if ProxySQL could not be read.
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
        let clustered = seen.is_some_and(|(observed, _)| observed.proxy.clustered);
        let mut snapshot = Self {
            proxysql: agent.settings.proxy.address.clone(),
            at_s: now.wall_s,
            reached: seen.is_some(),
            version: agent.version().map(str::to_owned),
            mode: if agent.settings.observe_only { Enforcement::Observe } else { Enforcement::Enforce },
            worst: Severity::Info,
            lease_state: seen.map(|(_, decision)| decision.lease_state),
            leader: seen.and_then(|(observed, _)| leader(&observed.leader)),
            armed: memory.lease.armed,
            writers: Vec::new(),
            isolated: memory.lease.isolated,
            lease_age_ms: asked_ms.map(|asked| now.boot_ms.saturating_sub(asked)),
            lease_left_ms: asked_ms
                .map(|asked| asked.saturating_add(policy.isolation_after_ms).saturating_sub(now.boot_ms)),
            isolates_in_ms: memory
                .lease
                .armed
                .then(|| isolation_starts_ms(&memory.lease, policy, clustered).saturating_sub(now.boot_ms)),
            suspended: suspended.reason,
            suspended_for_s: suspended.for_s,
            conditions: Vec::new(),
            nodes: Vec::new(),
            node_fences: Vec::new(),
            plan: PlanReport { empty: true, ..PlanReport::default() },
        };
        if let Some((observed, decision)) = seen {
            let managed = Managed::of(&observed.proxy, policy);
            let rows = ManagedRows::new(&observed.proxy, &managed, &decision.memory.nodes.identity);
            let writer = |hostgroup: Hostgroup| WriterReport {
                hostgroup: hostgroup.0,
                armed: memory.lease.armed && !decision.unarmed.contains_key(&hostgroup),
            };
            snapshot.writers = managed.writers().map(writer).collect();
            let node = |(name, verdict)| node(observed, decision, policy, &rows, name, verdict);
            snapshot.nodes = decision.verdicts.iter().map(node).collect();
            snapshot.plan = PlanReport::of(&decision.plan);
        }
        conditions.iter().for_each(|condition| snapshot.note(condition));
        snapshot.name_instances(&memory.nodes.identity);
        snapshot
    }
}

impl Snapshot {
    /// Takes what was done at the nodes themselves.
    pub fn take_node_fences(&mut self, records: &BTreeMap<Node, NodeFenceRecord>) {
        let report = |(node, record): (&Node, &NodeFenceRecord)| NodeFenceReport {
            node: node.clone(),
            state: record.state(),
            kind: record.kind.to_string(),
            since_s: record.since_s,
            answered_s: record.answered_s,
            read_only_s: record.read_only_s,
            verified_s: record.verified_s,
            found_read_only: record.found_read_only,
            sessions_ended: record.sessions_ended,
            sessions_refused: record.sessions_refused,
            undone_s: record.undone_s,
            ended_s: record.ended_s,
            failure: record.failure.clone().map(|NodeFenceFailure { label, text, at_s }| FailureReport {
                label,
                text,
                at_s,
            }),
        };
        self.node_fences = records.iter().map(report).collect();
    }

    /// Shows in every text the instances of rows that have another name.
    fn name_instances(&mut self, identity: &Identity) {
        if !identity.has_instances() {
            return;
        }
        let reasons = self.nodes.iter_mut().flat_map(|node| {
            let blockers = node.blockers.iter_mut().map(|blocker| &mut blocker.text);
            blockers.chain(node.reason.iter_mut().map(|reason| &mut reason.text)).chain([&mut node.why])
        });
        let conditions = self.conditions.iter_mut().map(|condition| &mut condition.text);
        for text in reasons.chain(conditions) {
            *text = identity.with_instances(text);
        }
    }
}

impl PlanReport {
    /// Reports a plan.
    pub fn of(plan: &Plan) -> Self {
        Self {
            changes: plan.changes.iter().map(|one| change(plan, one)).collect(),
            finishes_apply: plan.finish,
            ends_sessions: plan.sessions.iter().cloned().collect(),
            clients: plan.pause.map(PauseAction::label),
            empty: plan.is_empty(),
        }
    }
}

fn leader(leader: &LeaderView) -> Option<LeaderReport> {
    let LeaderView::Led(answer) = leader else { return None };
    Some(LeaderReport { name: answer.leader.clone(), backing: answer.backing.label() })
}

fn node(
    observed: &Observed,
    decision: &Decision,
    policy: &Policy,
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
    let nodes = &decision.memory.nodes;
    let matched = nodes.known.contains(nodes.identity.server(node)).then(|| match nodes.identity.instance_of(node) {
        None => "name",
        Some(_) if policy.aliases.contains_key(node) => "alias",
        Some(_) => "address",
    });
    let evidence: &[Evidence] = match verdict {
        Verdict::Fence { evidence, .. } | Verdict::Unfence { evidence, .. } => evidence,
        Verdict::Keep | Verdict::Hold(_) | Verdict::Ignore(_) => &[],
    };
    NodeReport {
        node: node.clone(),
        instance: nodes.identity.instance_of(node).cloned(),
        matched,
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

/// The blockers that keep a fenced node out.
pub fn blockers(verdict: &Verdict) -> Vec<Reason> {
    match verdict {
        Verdict::Fence { blocker: ReturnBlocker::Proof(gaps), .. } => {
            gaps.iter().map(|gap| Reason { label: gap.label(), text: gap.to_string() }).collect()
        }
        Verdict::Fence { blocker, .. } => vec![Reason { label: blocker.label(), text: blocker.to_string() }],
        Verdict::Keep | Verdict::Hold(_) | Verdict::Unfence { .. } | Verdict::Ignore(_) => Vec::new(),
    }
}

/// The reason for a verdict, in one line.
pub fn why(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Keep => "no evidence against it".to_owned(),
        Verdict::Hold(why) | Verdict::Ignore(why) => why.to_string(),
        Verdict::Fence { evidence, .. } | Verdict::Unfence { evidence, .. } => {
            evidence.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        }
    }
}

fn change(plan: &Plan, change: &RowChange) -> ChangeReport {
    let key = change.key();
    let status = |status: Option<&Status>| status.map(|status| status.as_str().to_owned());
    ChangeReport {
        layer: change.layer,
        hostgroup: key.hostgroup.0,
        node: format!("{}:{}", key.hostname, key.port),
        from: status(change.from_status()),
        to: status(change.to_status()),
        reason: plan.reason(change).map(|why| Reason { label: why.label(), text: why.to_string() }),
        of: key.node(),
    }
}
