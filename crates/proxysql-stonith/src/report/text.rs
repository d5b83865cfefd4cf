//! `plan` and `status` for people.

use std::fmt::Write;

use stonith_core::decide::{Decision, HoldReason, Verdict};
use stonith_core::node::Node;
use stonith_core::orchestrator::LeaderView;

use super::{Snapshot, obstacles, reason, word};

/// What the next tick would do.
pub fn plan(proxy: &Node, decision: &Decision) -> String {
    let mut text = format!("ProxySQL {proxy}: {}\n", decision.lease_state);
    let plan = &decision.plan;
    if plan.is_empty() {
        text.push_str("  nothing to do\n");
    }
    if plan.finish {
        text.push_str("  finish an apply that was cut off\n");
    }
    for change in &plan.changes {
        let _ = writeln!(text, "  {change}");
    }
    for node in &plan.sessions {
        let _ = writeln!(text, "  end the sessions that still use {node}");
    }
    for (node, verdict) in &decision.verdicts {
        // The conditions count those that Orchestrator does not know.
        if !matches!(verdict, Verdict::Keep | Verdict::Ignore(HoldReason::NotKnown)) {
            let _ = writeln!(text, "  {node}: {}: {}", word(verdict), reason(verdict));
        }
    }
    text
}

/// Leader, lease, what needs attention, and each node with its rows, verdict and what would let it back.
pub fn status(snapshot: &Snapshot<'_>) -> String {
    let Snapshot { proxy, observed, decision, now_ms, .. } = snapshot;
    let memory = &decision.memory;
    let lease = match memory.lease.asked_ms {
        Some(asked) => {
            let left = (asked + snapshot.policy.isolation_after_ms).saturating_sub(*now_ms);
            format!("lease {:.1}s old, {:.1}s left", now_ms.saturating_sub(asked) as f64 / 1e3, left as f64 / 1e3)
        }
        None => "no lease".to_owned(),
    };
    let armed = if memory.lease.armed { "armed" } else { "not armed (never isolates)" };
    let mut text = format!("ProxySQL {proxy}: {}; {lease}; {armed}\n", decision.lease_state);
    if let LeaderView::Led(answer) = &observed.leader {
        let _ = writeln!(text, "  leader {}", answer.leader);
    }
    for condition in snapshot.conditions {
        let _ = writeln!(text, "  ! {condition}");
    }
    let width = decision.verdicts.keys().map(|node| node.to_string().len()).max().unwrap_or(4).max(4);
    let _ = writeln!(text, "  {:width$}  {:34}  {:18}  WHY", "NODE", "ROWS", "VERDICT");
    for (node, verdict) in &decision.verdicts {
        let rows = observed.proxy.runtime.iter().filter(|row| row.node().as_ref() == Some(node));
        let rows: Vec<String> = rows.map(|row| format!("{}:{}", row.key.hostgroup, row.status)).collect();
        let (node_text, rows, word, reason) = (node.to_string(), rows.join(" "), word(verdict), reason(verdict));
        let _ = writeln!(text, "  {node_text:width$}  {rows:34}  {word:18}  {reason}");
        for obstacle in obstacles(verdict) {
            let _ = writeln!(text, "  {:width$}  back when: {}", "", obstacle.text);
        }
    }
    text
}
