//! `plan` and `status` as text for people.

use std::fmt::Write;

use crate::snapshot::{ChangeReport, LevelReport, NodeFenceReport, NodeReport, Snapshot};

/// Renders what the next tick would do.
pub fn plan(snapshot: &Snapshot) -> String {
    let mut text = heading(snapshot);
    text.push('\n');
    let plan = &snapshot.plan;
    if plan.empty {
        text.push_str("  nothing to do\n");
    }
    if plan.finishes_apply {
        text.push_str("  finish an interrupted apply\n");
    }
    if plan.clients == Some("pause") {
        text.push_str("  take no clients (PROXYSQL PAUSE), and end their sessions\n");
    }
    for change in &plan.changes {
        let _ = writeln!(text, "  {}", changed(snapshot, change));
    }
    for node in &plan.ends_sessions {
        let node = snapshot.node(node).map_or_else(|| node.to_string(), NodeReport::name);
        let _ = writeln!(text, "  end the sessions that still use {node}");
    }
    if plan.clients == Some("resume") {
        text.push_str("  take clients again (PROXYSQL RESUME)\n");
    }
    // Nodes that Orchestrator does not know are left out here: a condition counts them.
    let is_plain = |verdict, reason| verdict == "keep" || (verdict == "ignore" && reason == Some("not-known"));
    for node in &snapshot.nodes {
        if !is_plain(node.verdict, node.reason.as_ref().map(|reason| reason.label)) {
            let _ = writeln!(text, "  {}: {}: {}", node.name(), node.word(), node.why);
        }
    }
    text
}

/// Renders leader, lease, conditions, and each node with its rows, verdict and what would let it back.
pub fn status(snapshot: &Snapshot) -> String {
    let lease = match (snapshot.lease_age_ms, snapshot.lease_left_ms) {
        (Some(age_ms), Some(left_ms)) => {
            format!("lease {:.1}s old, {:.1}s left", age_ms as f64 / 1e3, left_ms as f64 / 1e3)
        }
        _ => "no lease".to_owned(),
    };
    let armed = if snapshot.armed { "armed" } else { "not armed (never isolates)" };
    let mut text = format!("{}; {lease}; {armed}\n", heading(snapshot));
    if let Some(leader) = &snapshot.leader {
        let _ = writeln!(text, "  leader {}", leader.name);
    }
    for condition in &snapshot.conditions {
        let _ = writeln!(text, "  ! {}", condition.text);
    }
    let width = snapshot.nodes.iter().map(|node| node.name().len()).max().unwrap_or(4).max(4);
    let _ = writeln!(text, "  {:width$}  {:34}  {:18}  WHY", "NODE", "ROWS", "VERDICT");
    for node in &snapshot.nodes {
        let rows: Vec<String> = node.rows.iter().map(|row| format!("{}:{}", row.hostgroup, row.status)).collect();
        let (name, rows, word, why) = (node.name(), rows.join(" "), node.word(), &node.why);
        let _ = writeln!(text, "  {name:width$}  {rows:34}  {word:18}  {why}");
        for blocker in &node.blockers {
            let _ = writeln!(text, "  {:width$}  stays out: {}", "", blocker.text);
        }
    }
    for fence in &snapshot.node_fences {
        let _ = writeln!(text, "  {}", at_the_node(fence));
    }
    text
}

/// What was done at a node itself.
fn at_the_node(fence: &NodeFenceReport) -> String {
    let NodeFenceReport { node, level, state, kind, failure, .. } = fence;
    let why = failure.as_ref().map(|failure| format!("; {}", failure.text)).unwrap_or_default();
    match level {
        LevelReport::ReadOnly { sessions_ended, .. } => {
            format!("at {node} itself: {state} for {kind}; {sessions_ended} sessions ended{why}")
        }
        LevelReport::FenceAgent { agent, tries, .. } => {
            let by = agent.as_ref().map(|agent| format!(" by fence agent {agent}")).unwrap_or_default();
            format!("power of {node}: {state} for {kind}{by}; tries of off: {tries}{why}")
        }
    }
}

/// The first line: the ProxySQL and its lease state.
fn heading(snapshot: &Snapshot) -> String {
    match snapshot.lease_state {
        Some(state) => format!("ProxySQL {}: {state}", snapshot.proxysql),
        None => format!("ProxySQL {}: not read", snapshot.proxysql),
    }
}

fn changed(snapshot: &Snapshot, change: &ChangeReport) -> String {
    let status = |status: &Option<String>| status.clone().unwrap_or_else(|| "(none)".to_owned());
    let ChangeReport { layer, hostgroup, from, to, .. } = change;
    let why = change.reason.as_ref().map(|reason| format!(" ({})", reason.text)).unwrap_or_default();
    format!("{layer} {hostgroup}/{} {} -> {}{why}", snapshot.name_in(change), status(from), status(to))
}
