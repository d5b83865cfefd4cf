//! Builds the [`Snapshot`] of a look or a tick. No other module builds one.

use std::collections::{BTreeMap, BTreeSet};

use stonith_core::condition::{Condition, Severity};
use stonith_core::decide::{Decision, ReturnBlocker, Verdict};
use stonith_core::evidence::{Evidence, Level};
use stonith_core::lease::isolation_starts_ms;
use stonith_core::managed::{Managed, ManagedRows, ServerRows};
use stonith_core::node::Node;
use stonith_core::node_fence::power::FenceAgentRecord;
use stonith_core::node_fence::{NodeFenceFailure, NodeFenceRecord};
use stonith_core::observed::{Observed, ProxyView};
use stonith_core::orchestrator::{Identity, LeaderView};
use stonith_core::plan::{PauseAction, Plan, RowChange};
use stonith_core::policy::Policy;
use stonith_core::shared::Shared;
use stonith_core::table::{Hostgroup, Row, Status};

use super::Agent;
use crate::clock::Now;
use crate::config::{Enforcement, Word};
use crate::pool::Pool;
use crate::snapshot::{
    ChangeReport, EvidenceReport, FailureReport, LeaderReport, LevelReport, NodeFenceReport, NodeReport, PlanReport,
    Reason, RowReport, Snapshot, WriterReport,
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
        Self::at(&Now::read(), agent, &mut NodeReports::default(), seen, suspended, conditions)
    }

    /// The same at a moment. `reports` are those of the tick before.
    pub fn at(
        now: &Now,
        agent: &Agent,
        reports: &mut NodeReports,
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
            nodes: Shared::default(),
            node_fences: Vec::new(),
            plan: PlanReport { empty: true, ..PlanReport::default() },
        };
        if let Some((observed, decision)) = seen {
            let managed = Managed::of(&observed.proxy, policy);
            let writer = |hostgroup: Hostgroup| WriterReport {
                hostgroup: hostgroup.0,
                armed: memory.lease.armed && !decision.unarmed.contains_key(&hostgroup),
            };
            snapshot.writers = managed.writers().map(writer).collect();
            snapshot.nodes = reports.of(observed, decision, policy);
            snapshot.plan = PlanReport::of(&decision.plan);
        }
        conditions.iter().for_each(|condition| snapshot.note(condition));
        let texts = snapshot.conditions.iter_mut().map(|condition| &mut condition.text);
        name_instances(texts, &memory.nodes.identity);
        snapshot
    }
}

impl Snapshot {
    /// Takes what was done at the nodes themselves, by level.
    pub fn take_node_fences(
        &mut self,
        read_only: &BTreeMap<Node, NodeFenceRecord>,
        power: &BTreeMap<Node, FenceAgentRecord>,
    ) {
        let failed = |NodeFenceFailure { label, text, at_s }| FailureReport { label, text, at_s };
        let of_read_only = |(node, record): (&Node, &NodeFenceRecord)| NodeFenceReport {
            node: node.clone(),
            level: LevelReport::ReadOnly {
                answered_s: record.answered_s,
                read_only_s: record.read_only_s,
                verified_s: record.verified_s,
                found_read_only: record.found_read_only,
                sessions_ended: record.sessions_ended,
                sessions_refused: record.sessions_refused,
                undone_s: record.undone_s,
            },
            state: record.state(),
            kind: record.kind.to_string(),
            since_s: record.since_s,
            ended_s: record.ended_s,
            failure: record.failure.clone().map(failed),
        };
        let of_power = |(node, record): (&Node, &FenceAgentRecord)| {
            let settled = record.settled.as_ref();
            NodeFenceReport {
                node: node.clone(),
                level: LevelReport::FenceAgent {
                    agent: settled.map(|settled| settled.agent.clone()),
                    tries: record.tries,
                    off_s: settled.filter(|settled| !settled.is_dry).map(|settled| settled.done_s),
                },
                state: record.state(),
                kind: record.kind.to_string(),
                since_s: record.since_s,
                ended_s: record.ended_s,
                failure: record.failure.clone().map(failed),
            }
        };
        self.node_fences = read_only.iter().map(of_read_only).chain(power.iter().map(of_power)).collect();
    }
}

/// Shows in texts the instances of rows that have another name.
fn name_instances<'t>(texts: impl Iterator<Item = &'t mut String>, identity: &Identity) {
    if identity.has_instances() {
        texts.for_each(|text| *text = identity.with_instances(text));
    }
}

/// The reports of the nodes. They are made again only if something changed from which they are made.
#[derive(Debug, Default)]
pub struct NodeReports {
    made_from: Option<MadeFrom>,
    nodes: Shared<Vec<NodeReport>>,
}

/// What the reports of one ProxySQL's nodes are made from, beside the policy.
#[derive(Debug, PartialEq)]
struct MadeFrom {
    proxy: ProxyView,
    verdicts: Shared<BTreeMap<Node, Verdict>>,
    known: Shared<BTreeSet<Node>>,
    identity: Shared<Identity>,
}

/// The verdicts and reports of all ProxySQLs that are alike.
static VERDICTS: Pool<BTreeMap<Node, Verdict>> = Pool::empty();
static REPORTS: Pool<Vec<NodeReport>> = Pool::empty();

impl NodeReports {
    fn of(&mut self, observed: &Observed, decision: &Decision, policy: &Policy) -> Shared<Vec<NodeReport>> {
        let memory = &decision.memory.nodes;
        let made_from = MadeFrom {
            proxy: ProxyView { lease: None, ..observed.proxy.clone() }, // it changes with each tick
            verdicts: decision.verdicts.clone(),
            known: memory.known.clone(),
            identity: memory.identity.clone(),
        };
        if self.made_from.as_ref() != Some(&made_from) {
            self.nodes = REPORTS.shared(node_reports(observed, decision, policy).into());
            self.made_from = Some(MadeFrom { verdicts: VERDICTS.shared(made_from.verdicts), ..made_from });
        }
        self.nodes.clone()
    }
}

fn node_reports(observed: &Observed, decision: &Decision, policy: &Policy) -> Vec<NodeReport> {
    let identity = &decision.memory.nodes.identity;
    let managed = Managed::of(&observed.proxy, policy);
    let managed = ManagedRows::new(&observed.proxy, &managed, identity);
    let mut in_runtime: BTreeMap<Node, Vec<&Row>> = BTreeMap::new();
    for (node, row) in observed.proxy.runtime.iter().filter_map(|row| Some((row.node()?, row))) {
        in_runtime.entry(node).or_default().push(row);
    }
    let report = |(name, verdict)| {
        let rows = in_runtime.get(name).map(Vec::as_slice).unwrap_or_default();
        let mut report = node(observed, decision, policy, rows, managed.of(identity.server(name)), name, verdict);
        let blockers = report.blockers.iter_mut().map(|blocker| &mut blocker.text);
        let reasons = report.reason.iter_mut().map(|reason| &mut reason.text);
        name_instances(blockers.chain(reasons).chain([&mut report.why]), identity);
        report
    };
    decision.verdicts.iter().map(report).collect()
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
    rows: &[&Row],
    managed: Option<&ServerRows<'_>>,
    node: &Node,
    verdict: &Verdict,
) -> NodeReport {
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
        rows: rows.iter().map(|seen| row(seen)).collect(),
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
