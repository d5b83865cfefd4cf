//! What a tick has to say to people and to programs: the same reasons, as log lines, as text, as JSON.
//!
//! Nothing is decided here. Secrets never get here (I11).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::{Value, json};
use stonith_core::apply::Outcome;
use stonith_core::decide::Decision;
use stonith_core::lease::{Standing, isolation_starts_ms};
use stonith_core::managed::{Managed, ManagedRows};
use stonith_core::node::Node;
use stonith_core::observed::{LeaderView, Observed};
use stonith_core::plan::Change;
use stonith_core::policy::Policy;
use stonith_core::row::{Layer, Row};
use stonith_core::verdict::{Verdict, Why};

/// Why a verdict is what it is, in one line.
pub fn reason(verdict: &Verdict) -> String {
    let list = |evidence: &[_]| evidence.iter().map(ToString::to_string).collect::<Vec<String>>().join("; ");
    match verdict {
        Verdict::Keep => "nothing speaks against it".to_owned(),
        Verdict::Fence { evidence, .. } | Verdict::Unfence { evidence, .. } => list(evidence),
        Verdict::Hold(why) | Verdict::Ignore(why) => why.to_string(),
    }
}

/// The verdict in a word or two.
pub fn word(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Keep => "keep".to_owned(),
        Verdict::Fence { level, .. } => format!("fence({})", format!("{level:?}").to_lowercase()),
        Verdict::Hold(_) => "hold".to_owned(),
        Verdict::Unfence { role, .. } => format!("unfence({role})"),
        Verdict::Ignore(_) => "ignore".to_owned(),
    }
}

/// What would let a fenced node back.
pub fn lacks(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Fence { lacks, .. } => Some(lacks.to_string()),
        _ => None,
    }
}

/// What an apply could not do, by what it is about: like [`attention`], the same text for as long as it is so.
pub fn left_undone(outcome: &Outcome) -> BTreeMap<String, String> {
    let mut said = BTreeMap::new();
    let mut say = |key: &str, text: String| drop(said.insert(key.to_owned(), text));
    match outcome {
        Outcome::Busy { owner } => {
            say(BUSY, format!("another applier ({owner}) is at work on this ProxySQL; left to it"));
        }
        Outcome::LostLock => say("apply", "another applier took over; it finishes the work".to_owned()),
        Outcome::PutOff => {
            say("apply", "somebody keeps changing the server tables; a node's return is put off".to_owned());
        }
        Outcome::Failed { statement, error } => say("apply", format!("it refused {statement}: {error}")),
        Outcome::Applied(done) => {
            for node in &done.sessions_left {
                say(&format!("sessions {node}"), format!("{node} still has connections in use; the next tick goes on"));
            }
            if !done.not_as_planned.is_empty() {
                let rows = done.not_as_planned.join("; ");
                say("rows", format!("runtime does not show what was loaded: {rows}; the next tick looks again"));
            }
            if let Some(error) = &done.disk_error {
                say("disk", format!("ProxySQL's disk layer refused, so that a restart would forget this: {error}"));
            }
        }
    }
    said
}

/// The key of a trouble that is none: another applier does the work.
pub const BUSY: &str = "busy";

/// Logs what an apply changed: one line per node and runtime change.
pub fn log_changes(proxy: &Node, decision: &Decision, outcome: &Outcome) {
    let Outcome::Applied(done) = outcome else { return };
    let runtime = decision.plan.changes.iter().filter(|change| change.layer == Layer::Runtime);
    for change in runtime {
        log_change(proxy, decision, change);
    }
    let other_layers: BTreeSet<Layer> = decision
        .plan
        .changes
        .iter()
        .map(|change| change.layer)
        .filter(|layer| *layer != Layer::Runtime && (*layer != Layer::Disk || done.disk_error.is_none()))
        .collect();
    if !other_layers.is_empty() && decision.plan.changes.iter().all(|change| change.layer != Layer::Runtime) {
        tracing::info!(%proxy, layers = ?other_layers, "configured rows brought in line with runtime");
    }
    if done.finished_earlier {
        tracing::warn!(%proxy, "finished an apply that had been cut off");
    }
    if done.sessions_ended > 0 {
        tracing::info!(%proxy, ended = done.sessions_ended, "sessions ended on fenced nodes");
    }
    if done.edits_kept > 0 {
        tracing::info!(%proxy, edits = done.edits_kept, "edits made meanwhile were kept staged");
    }
}

fn log_change(proxy: &Node, decision: &Decision, change: &Change) {
    let Some(key) = change.key() else { return };
    let verdict = key.node().and_then(|node| decision.verdicts.get(&node));
    let status = |row: &Option<Row>| row.as_ref().map_or_else(|| "none".to_owned(), |row| row.status.to_string());
    let (from, to) = (status(&change.from), status(&change.to));
    let evidence = verdict.map(reason).unwrap_or_default();
    let what = verdict.map(word).unwrap_or_default();
    tracing::info!(%proxy, node = %format!("{}:{}", key.hostname, key.port), hostgroup = %key.hostgroup, from, to, verdict = what, evidence, "row changed");
}

/// So many unusable parts of an answer are named.
const SKIPPED_SAID: usize = 3;

/// What a tick holds or can't see, by what it is about. The texts are the same in each tick as long as nothing changes,
/// so that they are logged once.
pub fn attention(observed: &Observed, decision: &Decision) -> BTreeMap<String, String> {
    let mut said = BTreeMap::new();
    let mut say = |key: &str, text: String| drop(said.insert(key.to_owned(), text));
    match &observed.leader {
        LeaderView::Led(answer) if answer.skipped.is_empty() => {}
        LeaderView::Led(answer) => {
            let more = answer.skipped.len().saturating_sub(SKIPPED_SAID);
            let mut text: Vec<&str> = answer.skipped.iter().take(SKIPPED_SAID).map(|one| one.what.as_str()).collect();
            let more = format!("and {more} more");
            text.extend((answer.skipped.len() > SKIPPED_SAID).then_some(more.as_str()));
            say("skipped", format!("a part of Orchestrator's answer can't be used: {}", text.join("; ")));
        }
        LeaderView::Leaderless => {
            let text = "Orchestrator's nodes report that none of them leads, so none can promote; holding";
            say("orchestrator", text.to_owned());
        }
        LeaderView::Blind(why) => say("orchestrator", format!("Orchestrator answers, but not usably: {why}")),
        LeaderView::Conflict(why) => say("orchestrator", why.clone()),
        LeaderView::Silent(why) => say("orchestrator", format!("Orchestrator's leader was not reached: {why}")),
    }
    if !matches!(observed.leader, LeaderView::Led(_)) && !decision.memory.armed {
        say("unarmed", "isolation is not armed: no leader that knows this ProxySQL's writers was seen yet".to_owned());
    }
    if decision.standing == Standing::Isolated {
        say("isolation", "out of service: no lease from Orchestrator's leader".to_owned());
    }
    if let (Standing::Shared, Some(lease)) = (decision.standing, &observed.proxy.lease) {
        let text =
            format!("in service by the word of another agent ({}), which reaches Orchestrator's leader", lease.owner);
        say("isolation", text);
    }
    if let Some(reason) = &observed.orders.suspended {
        say("suspended", format!("suspended: {reason}"));
    }
    for (node, verdict) in &decision.verdicts {
        match verdict {
            Verdict::Hold(Why::Suspended(_)) => {}
            Verdict::Hold(why) => say(&node.to_string(), format!("{node} is held: {why}")),
            Verdict::Ignore(why) if decision.memory.armed || !decision.memory.known.is_empty() => {
                say(&node.to_string(), format!("{node} can't be fenced: {why}"));
            }
            _ => {}
        }
    }
    if observed.proxy.clustered {
        let text = "ProxySQL Cluster peers are configured: isolation is off here, it would spread to them";
        say("cluster", text.to_owned());
    }
    said
}

/// What the next tick would do, for `plan`.
pub fn plan_text(proxy: &Node, decision: &Decision) -> String {
    let mut text = format!("ProxySQL {proxy}: {}\n", decision.standing);
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
        if !matches!(verdict, Verdict::Keep) {
            let _ = writeln!(text, "  {node}: {}: {}", word(verdict), reason(verdict));
        }
    }
    text
}

/// Everything about one ProxySQL, for `status --json`.
pub fn status_json(proxy: &Node, observed: &Observed, decision: &Decision, policy: &Policy, now_ms: u64) -> Value {
    let managed = Managed::of(&observed.proxy, policy);
    let managed_rows = ManagedRows::new(&observed.proxy, &managed, &decision.memory.identity);
    let hostgroups_of = |node: &Node| -> Vec<u32> {
        let rows = managed_rows.of(decision.memory.identity.server(node));
        rows.map(|rows| rows.hostgroups()).into_iter().flatten().map(|hostgroup| hostgroup.0).collect()
    };
    let node_json = |(node, verdict): (&Node, &Verdict)| {
        let rows = observed.proxy.runtime.iter().filter(|row| row.node().as_ref() == Some(node));
        json!({
            "node": node.to_string(),
            "hostgroups": hostgroups_of(node),
            "rows": rows.map(|row| json!({"hostgroup": row.key.hostgroup.0, "status": row.status.as_str(), "comment": row.comment})).collect::<Vec<_>>(),
            "verdict": word(verdict),
            "reason": reason(verdict),
            "lacks": lacks(verdict),
            "connections_used": observed.proxy.conn_used.get(node),
        })
    };
    let leader = match &observed.leader {
        LeaderView::Led(answer) => {
            json!({"name": answer.leader, "backing": format!("{:?}", answer.backing).to_lowercase()})
        }
        _ => Value::Null,
    };
    let memory = &decision.memory;
    json!({
        "proxysql": proxy.to_string(),
        "standing": decision.standing.to_string(),
        "leader": leader,
        "armed": memory.armed,
        "isolated": memory.isolated,
        "lease_age_ms": memory.lease_asked_ms.map(|asked| now_ms.saturating_sub(asked)),
        "isolates_in_ms": memory.armed.then(|| isolation_starts_ms(memory, policy).saturating_sub(now_ms)),
        "suspended": observed.orders.suspended,
        "attention": attention(observed, decision).into_values().collect::<Vec<_>>(),
        "nodes": decision.verdicts.iter().map(node_json).collect::<Vec<_>>(),
        "plan": decision.plan.changes.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// The same as a table.
pub fn status_text(proxy: &Node, observed: &Observed, decision: &Decision, policy: &Policy, now_ms: u64) -> String {
    let memory = &decision.memory;
    let lease = match memory.lease_asked_ms {
        Some(asked) => {
            let left = (asked + policy.isolation_after_ms).saturating_sub(now_ms);
            format!("lease {:.1}s old, {:.1}s left", now_ms.saturating_sub(asked) as f64 / 1e3, left as f64 / 1e3)
        }
        None => "no lease".to_owned(),
    };
    let armed = if memory.armed { "armed" } else { "not armed (never isolates)" };
    let mut text = format!("ProxySQL {proxy}: {}; {lease}; {armed}\n", decision.standing);
    if let LeaderView::Led(answer) = &observed.leader {
        let _ = writeln!(text, "  leader {}", answer.leader);
    }
    if let Some(reason) = &observed.orders.suspended {
        let _ = writeln!(text, "  SUSPENDED: {reason}");
    }
    for line in attention(observed, decision).values() {
        let _ = writeln!(text, "  ! {line}");
    }
    let width = decision.verdicts.keys().map(|node| node.to_string().len()).max().unwrap_or(4).max(4);
    let _ = writeln!(text, "  {:width$}  {:34}  {:18}  WHY", "NODE", "ROWS", "VERDICT");
    for (node, verdict) in &decision.verdicts {
        let rows = observed.proxy.runtime.iter().filter(|row| row.node().as_ref() == Some(node));
        let rows: Vec<String> = rows.map(|row| format!("{}:{}", row.key.hostgroup, row.status)).collect();
        let _ = writeln!(
            text,
            "  {:width$}  {:34}  {:18}  {}",
            node.to_string(),
            rows.join(" "),
            word(verdict),
            reason(verdict)
        );
        if let Some(lacks) = lacks(verdict) {
            let _ = writeln!(text, "  {:width$}  back when: {lacks}", "");
        }
    }
    text
}
