//! `status --json`: fields for programs. Labels are stable; texts are for people and may change.

use serde_json::{Value, json};
use stonith_core::condition::Condition;
use stonith_core::decide::Verdict;
use stonith_core::evidence::Evidence;
use stonith_core::lease::isolation_starts_ms;
use stonith_core::managed::{Managed, ManagedRows, ServerRows};
use stonith_core::node::Node;
use stonith_core::orchestrator::{Backing, LeaderView};
use stonith_core::plan::RowChange;
use stonith_core::table::Status;

use super::{Snapshot, obstacles};
use crate::config::Word;

/// The version of the format: it grows when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// Everything about one ProxySQL.
pub fn status(snapshot: &Snapshot<'_>) -> Value {
    let Snapshot { observed, decision, policy, now_ms, .. } = snapshot;
    let memory = &decision.memory;
    let managed = ManagedRows::new(&observed.proxy, &Managed::of(&observed.proxy, policy), &memory.nodes.identity);
    let leader = match &observed.leader {
        LeaderView::Led(answer) => json!({"name": answer.leader, "backing": backing(answer.backing)}),
        _ => Value::Null,
    };
    json!({
        "proxysql": snapshot.proxy.to_string(),
        "version": snapshot.version,
        "standing": decision.lease_state.label(),
        "leader": leader,
        "armed": memory.lease.armed,
        "isolated": memory.lease.isolated,
        "lease_age_ms": memory.lease.asked_ms.map(|asked| now_ms.saturating_sub(asked)),
        "isolates_in_ms": memory.lease.armed.then(|| isolation_starts_ms(&memory.lease, policy).saturating_sub(*now_ms)),
        "suspended": observed.orders.suspended,
        "conditions": conditions(snapshot.conditions),
        "nodes": decision.verdicts.iter().map(|(name, verdict)| node(snapshot, &managed, name, verdict)).collect::<Vec<_>>(),
        "plan": decision.plan.changes.iter().map(change).collect::<Vec<_>>(),
    })
}

/// What needs attention.
pub fn conditions(conditions: &[Condition]) -> Vec<Value> {
    let condition = |condition: &Condition| {
        json!({
            "label": condition.label(),
            "severity": condition.severity().label(),
            "text": condition.to_string(),
            "nodes": condition.nodes().iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    };
    conditions.iter().map(condition).collect()
}

fn node(snapshot: &Snapshot<'_>, managed: &ManagedRows<'_>, node: &Node, verdict: &Verdict) -> Value {
    let observed = snapshot.observed;
    let rows = observed.proxy.runtime.iter().filter(|row| row.node().as_ref() == Some(node));
    let rows = rows
        .map(|row| json!({"hostgroup": row.key.hostgroup.0, "status": row.status.as_str(), "comment": row.comment}));
    let (level, role, reason): (_, _, Option<Value>) = match verdict {
        Verdict::Keep => (None, None, None),
        Verdict::Fence { level, .. } => (Some(level.word()), None, None),
        Verdict::Unfence { role, .. } => (None, Some(role.label()), None),
        Verdict::Hold(why) | Verdict::Ignore(why) => {
            (None, None, Some(json!({"label": why.label(), "text": why.to_string()})))
        }
    };
    let evidence: &[Evidence] = match verdict {
        Verdict::Fence { evidence, .. } | Verdict::Unfence { evidence, .. } => evidence,
        _ => &[],
    };
    let managed = managed.of(snapshot.decision.memory.nodes.identity.server(node));
    let hostgroups: Vec<u32> = managed.map(ServerRows::hostgroups).into_iter().flatten().map(|h| h.0).collect();
    let blockers = obstacles(verdict);
    json!({
        "node": node.to_string(),
        "hostgroups": hostgroups,
        "rows": rows.collect::<Vec<_>>(),
        "verdict": verdict.label(),
        "level": level,
        "role": role,
        "reason": reason,
        "evidence": evidence.iter().map(fact).collect::<Vec<_>>(),
        "blockers": blockers.iter().map(|b| json!({"label": b.label, "text": b.text})).collect::<Vec<_>>(),
        "connections_used": observed.proxy.conn_used.get(node),
    })
}

fn fact(fact: &Evidence) -> Value {
    json!({
        "kind": fact.kind.to_string(),
        "by": fact.by.as_ref().map(ToString::to_string),
        "source": fact.source,
        "id": fact.id,
        "at_s": (fact.at_s != 0).then_some(fact.at_s),
    })
}

fn change(change: &RowChange) -> Value {
    let key = change.key();
    json!({
        "layer": change.layer.to_string(),
        "hostgroup": key.hostgroup.0,
        "node": format!("{}:{}", key.hostname, key.port),
        "from": change.from_status().map(Status::as_str),
        "to": change.to_status().map(Status::as_str),
    })
}

fn backing(backing: Backing) -> &'static str {
    match backing {
        Backing::Majority => "majority",
        Backing::Single => "single",
        Backing::Unconfirmed => "unconfirmed",
    }
}
